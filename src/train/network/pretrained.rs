//! Encoder folder → [`Pretrained`]. In: a Hugging Face BERT, a model directory or a Lightning checkpoint. Out: complete weights under the
//! reference's names with heads drawn or kept, the configuration, the tokenizer. It may not train anything.

use std::collections::BTreeMap;

use crate::error::{Error, Result};
use crate::model::encoder::config::BertConfig;
use crate::model::package::resolve;
use crate::model::weights::checkpoint::{Checkpoint, beside, read_tensors, refused, weights_file};
use crate::model::weights::tensors::{Tensor, Weights, canonical_names, expected_shapes};
use crate::random::Random;
use crate::train::file::{EncoderSection, Heads};
use crate::train::recipe::RecipeSection;
use crate::train::training_loop::provenance::lineage;

/// The standard deviation of drawn weights, BERT's `initializer_range`.
const SPREAD: f64 = 0.02;

/// Tensors that are named in a note.
const NAMED: usize = 3;

/// What training begins with.
#[derive(Debug, Clone)]
pub struct Pretrained {
    /// Every tensor of the model, heads included.
    pub weights: Weights,
    /// The encoder's shape and the match head's width.
    pub config: BertConfig,
    /// The content of `tokenizer.json`.
    pub tokenizer: Vec<u8>,
    /// The encoder's name, for quarry.json.
    pub name: String,
    /// How it was trained here before, for quarry.json; none of an encoder that was not.
    pub before: Option<serde_json::Value>,
}

impl Pretrained {
    /// Reads the encoder and draws its heads, or keeps them. A tensor that is missing, or that the model has no place for, is an error;
    /// but where heads are drawn those of other tasks are left out, and `note` is told. It is told what is fetched, too.
    pub fn read(encoder: &EncoderSection, recipe: &RecipeSection, note: &dyn Fn(&str)) -> Result<Self> {
        let path = &resolve::encoder(&encoder.path, note)?;
        let file = weights_file(path)?;
        let folder = beside(&file).to_owned();
        let mut config = BertConfig::read(&folder.join("config.json"))?;
        let mut tensors = canonical_names(read_tensors(&file)?).map_err(|misfit| refused(&file, misfit))?;
        // Pretraining's own heads.
        tensors.retain(|name, _| !name.starts_with("cls."));
        if encoder.heads == Heads::New {
            if let Some(said) = leave_encoder(&mut tensors) {
                note(&format!("`{}`: {said}", file.display()));
            }
            config.classifier_intermediate_hidden_size = Some(recipe.classifier_intermediate_hidden_size);
            config.classifier_act_func = recipe.classifier_act_func;
            draw_heads(&mut tensors, &config, recipe.seed);
        } else if !tensors.contains_key("start_outputs.weight") {
            return Err(Error::Checkpoint {
                path: file,
                reason: "it has no heads to keep: there is no `start_outputs.weight`".into(),
                hint: "say encoder.heads = \"new\" for a pretrained encoder".into(),
            });
        }
        let weights = Weights::check(tensors, &mut config).map_err(|misfit| refused(&file, misfit))?;
        if weights.linear_match() {
            return Err(Error::Checkpoint {
                path: file,
                reason: "its match head is one linear layer (`span_embedding.weight`); training knows the one of two"
                    .into(),
                hint: "say encoder.heads = \"new\" to draw one".into(),
            });
        }
        let (name, before) = lineage(&encoder.path, &folder)?;
        let checkpoint = Checkpoint { weights_path: file, weights, config, folder };
        let tokenizer = checkpoint.tokenizer_json()?;
        let longest = checkpoint.config.max_position_embeddings;
        if recipe.max_length > longest {
            return Err(Error::Setting {
                origin: path.display().to_string(),
                key: "recipe.max_length".into(),
                reason: format!("{} tokens, but the encoder has {longest} positions", recipe.max_length),
                hint: format!("say {longest} or less"),
            });
        }
        Ok(Self { weights: checkpoint.weights, config: checkpoint.config, tokenizer, name, before })
    }
}

/// Takes all but the encoder out of `tensors`. What is not one of the heads that are drawn is told.
fn leave_encoder(tensors: &mut BTreeMap<String, Tensor>) -> Option<String> {
    let known = ["bert.", "start_outputs.", "end_outputs.", "span_embedding."];
    let foreign = tensors.keys().filter(|name| !known.iter().any(|part| name.starts_with(*part)));
    let foreign: Vec<String> = foreign.map(|name| format!("`{name}`")).collect();
    tensors.retain(|name, _| name.starts_with("bert."));
    if foreign.is_empty() {
        return None;
    }
    let (first, rest) = foreign.split_at(foreign.len().min(NAMED));
    let (count, first, more) = (foreign.len(), first.join(", "), if rest.is_empty() { "" } else { ", …" });
    Some(format!("tensors that are no part of the encoder are left out ({count}): {first}{more}"))
}

/// Normal weights and zero biases for every tensor that is not the encoder's.
fn draw_heads(tensors: &mut BTreeMap<String, Tensor>, config: &BertConfig, seed: u64) {
    let heads = expected_shapes(config, false).into_iter().filter(|(name, _)| !name.starts_with("bert."));
    for (stream, (name, shape)) in heads.enumerate() {
        let mut random = Random::new(seed, stream as u64);
        let count = shape.iter().product();
        let values = if name.rsplit('.').next() == Some("bias") {
            vec![0.0; count]
        } else {
            (0..count).map(|_| (random.normal() * SPREAD) as f32).collect()
        };
        tensors.insert(name, Tensor { shape, values });
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use super::*;
    use crate::model::encoder::config::tests::tiny;
    use crate::model::weights::pytorch::tests::torch_save;
    use crate::model::weights::tensors::tests::made_up;

    /// What is made of a Lightning checkpoint with these tensors, and what is said of it.
    fn read(tensors: &BTreeMap<String, Tensor>, heads: Heads) -> (Result<Pretrained>, Vec<String>) {
        let folder = tempfile::tempdir().unwrap();
        let file = |name: &str, bytes: &[u8]| std::fs::write(folder.path().join(name), bytes).unwrap();
        file("config.json", &serde_json::to_vec(&tiny()).unwrap());
        file("vocab.txt", b"[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\nwho\n");
        file("last.ckpt", &torch_save(tensors, true));
        let recipe = RecipeSection {
            max_length: 24,
            classifier_intermediate_hidden_size: 12,
            seed: 1,
            ..RecipeSection::default()
        };
        let notes = RefCell::new(Vec::new());
        let note = |text: &str| notes.borrow_mut().push(text.to_owned());
        let read = Pretrained::read(&EncoderSection { path: folder.path().into(), heads }, &recipe, &note);
        (read, notes.into_inner())
    }

    /// A whole model's tensors under other names.
    fn renamed(rename: impl Fn(&str) -> Option<String>) -> BTreeMap<String, Tensor> {
        made_up(&tiny(), false).into_iter().filter_map(|(name, tensor)| Some((rename(&name)?, tensor))).collect()
    }

    fn add(tensors: &mut BTreeMap<String, Tensor>, names: &[&str]) {
        tensors.extend(names.iter().map(|&name| (name.to_owned(), Tensor { shape: vec![1], values: vec![0.0] })));
    }

    #[test]
    fn a_bare_encoder_gets_its_prefix_and_its_heads() {
        let mut bare = renamed(|name| name.strip_prefix("bert.").map(str::to_owned));
        add(&mut bare, &["cls.predictions.bias", "pooler.dense.bias", "embeddings.position_ids"]);
        let (read, notes) = read(&bare, Heads::New);
        assert!(notes.is_empty(), "{notes:?}");
        let weights = read.unwrap().weights;
        let drawn = &weights.tensor("span_embedding.classifier1.weight").values;
        let variance = drawn.iter().map(|value| f64::from(value * value)).sum::<f64>() / drawn.len() as f64;
        assert!((variance.sqrt() - SPREAD).abs() < 0.005, "{}", variance.sqrt());
        assert!(weights.tensor("start_outputs.bias").values.iter().all(|&value| value == 0.0));
    }

    #[test]
    fn a_checkpoint_of_lightning_or_of_several_cards_is_an_encoder_too() {
        let whole = Weights::check(made_up(&tiny(), false), &mut tiny()).unwrap();
        for prefix in ["model.", "module.", "module.model."] {
            let tensors = renamed(|name| Some(format!("{prefix}{name}")));
            let (kept, notes) = read(&tensors, Heads::Keep);
            assert_eq!(kept.unwrap().weights, whole, "{prefix}");
            assert!(notes.is_empty(), "{prefix}: {notes:?}");
            let (drawn, notes) = read(&tensors, Heads::New);
            for (name, tensor) in drawn.unwrap().weights.iter() {
                assert_eq!(tensor == whole.tensor(name), name.starts_with("bert."), "{prefix}: {name}");
            }
            assert!(notes.is_empty(), "{prefix}: {notes:?}");
        }
    }

    #[test]
    fn what_is_missing_or_not_the_encoder_s_is_named() {
        let mut tensors = renamed(|name| Some(format!("model.{name}")));
        add(&mut tensors, &["adapter.down.weight", "model.classifier.bias", "classifier.weight", "qa_outputs.bias"]);
        let (drawn, notes) = read(&tensors, Heads::New);
        drawn.unwrap();
        let said = "last.ckpt`: tensors that are no part of the encoder are left out (4): `adapter.down.weight`, \
                    `classifier.bias`, `classifier.weight`, …";
        assert!(notes.len() == 1 && notes[0].ends_with(said), "{notes:?}");
        // Whose heads are kept is a whole model, and with such a tensor another one.
        let refusal = |tensors: &BTreeMap<String, Tensor>, heads| read(tensors, heads).0.unwrap_err().to_string();
        let error = refusal(&tensors, Heads::Keep);
        assert!(error.ends_with("`adapter.down.weight` is not a tensor of this model"), "{error}");
        add(&mut tensors, &["bert.encoder.layer.0.adapter.bias"]);
        let error = refusal(&tensors, Heads::New);
        assert!(error.ends_with("`bert.encoder.layer.0.adapter.bias` is not a tensor of this model"), "{error}");
        tensors.remove("model.bert.embeddings.LayerNorm.bias");
        let error = refusal(&tensors, Heads::New);
        assert!(error.ends_with("`bert.embeddings.LayerNorm.bias` is missing"), "{error}");
    }
}
