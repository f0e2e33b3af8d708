//! Encoder folder → [`Pretrained`]. In: a Hugging Face encoder, a model directory or a Lightning checkpoint. Out: complete weights with
//! new or kept heads, the configuration, the tokenizer. It must not train anything.

use std::collections::BTreeMap;

use crate::error::{Error, Result};
use crate::model::config::ModelConfig;
use crate::model::encoder::architecture::CheckpointNames;
use crate::model::head::{Head, HeadConfig, Interaction, MatchHead, MrcHead};
use crate::model::package::resolve;
use crate::model::weights::checkpoint::{Checkpoint, NamedTensors, refused};
use crate::model::weights::tensors::{Tensor, Weights};
use crate::model::weights::weights_file::{beside, weights_file};
use crate::random::Random;
use crate::task::entity_schema::EntitySchema;
use crate::task::kind::Kind;
use crate::task::tagger::tag_set::TagSet;
use crate::task::tagger::unknown_type;
use crate::train::file::{EncoderSection, Heads};
use crate::train::network::provenance::provenance;
use crate::train::recipe::{RecipeSection, TaggerHead};

/// The standard deviation of new weights, BERT's `initializer_range`.
const STANDARD_DEVIATION: f64 = 0.02;

/// Where the biases of start and end logits begin with late interaction: about the log odds that a token is a boundary of a mention of some type.
/// Zeros cost hundreds of steps in which only the biases are learned.
const BOUNDARY_LOG_ODDS: f32 = -4.0;

/// The number of tensors that a note names.
const NAMED: usize = 3;

/// The starting point of a training.
#[derive(Debug, Clone)]
pub struct Pretrained {
    /// Every tensor of the model, heads included.
    pub weights: Weights,
    /// The configuration of the encoder and its head.
    pub config: ModelConfig,
    /// The content of `tokenizer.json`.
    pub tokenizer: Vec<u8>,
    /// The encoder's name, for quarry.json.
    pub name: String,
    /// The recipe of an earlier training with this program, for quarry.json; `None` if there was none.
    pub before: Option<serde_json::Value>,
}

impl Pretrained {
    /// Reads the encoder and initializes its heads, or keeps them, and the vectors of word shapes if it is to have some. A missing or unknown tensor is an error; but with new heads, the heads
    /// of other tasks are ignored. Ignored tensors and downloads are logged.
    pub fn read(encoder: &EncoderSection, recipe: &RecipeSection, schema: &EntitySchema) -> Result<Self> {
        let path = &resolve::encoder(&encoder.path)?;
        let file = weights_file(path)?;
        let folder = beside(&file).to_owned();
        let description = folder.join("config.json");
        let mut config = match encoder.heads {
            Heads::New => ModelConfig::read_encoder(&description)?,
            Heads::Keep => ModelConfig::read(&description)?,
        };
        let shapes_are_new = encoder.word_shape && config.encoder.add_word_shapes();
        let architecture = config.encoder.architecture();
        let names = &architecture.checkpoint;
        let NamedTensors { mut tensors, .. } = NamedTensors::read(&file, &config)?;
        let hidden_size = architecture.hidden_size;
        // Any tensor of the heads.
        let kept = config.head.head(hidden_size).shapes().into_keys().next_back().unwrap_or_default();
        if encoder.heads == Heads::New {
            config.head = new_head(config.encoder.class(), recipe, schema);
            if let Some(ignored) = keep_encoder_only(&mut tensors, names, &config.head) {
                tracing::info!("`{}`: {ignored}", file.display());
            }
            let head = config.head.head(hidden_size);
            let deviation = match &head {
                Head::Early(_) | Head::Tagger(_) | Head::Qa(_) => STANDARD_DEVIATION,
                // That of PyTorch's linear layers: products of four matrices of BERT's would begin so small that nothing is learned for an epoch.
                Head::Late(_) => (3.0 * hidden_size as f64).sqrt().recip(),
            };
            initialize(&mut tensors, head.shapes(), deviation, recipe.seed);
            if let Head::Late(head) = head {
                let biases = Tensor { shape: vec![2], values: vec![BOUNDARY_LOG_ODDS; 2] };
                tensors.insert(head.boundary_bias().to_owned(), biases);
            }
        } else if !tensors.contains_key(&kept) {
            return Err(Error::Checkpoint {
                path: file,
                reason: format!("it has no heads to keep: `{kept}` is missing"),
                hint: "set encoder.heads = \"new\" for a pretrained encoder".into(),
            });
        }
        if config.head.kind() != recipe.model_kind() {
            let name = |kind: Kind| format!("{kind:?}").to_lowercase();
            return Err(Error::Setting {
                origin: path.display().to_string(),
                key: "recipe.kind".into(),
                reason: format!(
                    "the kept head is of kind {}, not {}",
                    name(config.head.kind()),
                    name(recipe.model_kind())
                ),
                hint: "name its kind (and interaction), or set encoder.heads = \"new\"".into(),
            });
        }
        if let Some(tags) = &config.head.tags
            && let Some(unknown) = unknown_type(tags, schema)
        {
            return Err(Error::Setting {
                origin: path.display().to_string(),
                key: "encoder.heads".into(),
                reason: format!("the kept head has no tag for the type `{unknown}`"),
                hint: format!("it knows {}; set encoder.heads = \"new\" for other types", tags.types().join(", ")),
            });
        }
        if let Some(table) = architecture.word_shapes.as_ref().filter(|_| shapes_are_new) {
            // The heads have the first streams of the seed.
            initialize(&mut tensors, [table.shape()].into(), STANDARD_DEVIATION, recipe.seed.rotate_left(32));
        }
        let weights = Weights::check(tensors, &mut config).map_err(|misfit| refused(&file, misfit))?;
        if let Head::Early(MrcHead { matching: MatchHead::OneLayer(layer), .. }) = &weights.head.description {
            return Err(Error::Checkpoint {
                path: file,
                reason: format!(
                    "its match head is one linear layer (`{}`); training supports only heads of two layers",
                    layer.weight()
                ),
                hint: "set encoder.heads = \"new\" to initialize a new one".into(),
            });
        }
        let (name, before) = provenance(&encoder.path, &folder)?;
        let checkpoint = Checkpoint { weights_path: file, weights, config, folder };
        let tokenizer = checkpoint.tokenizer_json()?;
        let longest = architecture.max_tokens;
        if recipe.max_length > longest {
            return Err(Error::Setting {
                origin: path.display().to_string(),
                key: "recipe.max_length".into(),
                reason: format!("{} tokens, but the encoder has {longest} positions", recipe.max_length),
                hint: format!("use {longest} or less"),
            });
        }
        Ok(Self { weights: checkpoint.weights, config: checkpoint.config, tokenizer, name, before })
    }
}

/// The configuration of a new head on an encoder of the class `encoder`.
fn new_head(encoder: &str, recipe: &RecipeSection, schema: &EntitySchema) -> HeadConfig {
    let width = recipe.classifier_intermediate_hidden_size;
    match recipe.model_kind() {
        Kind::Tagger => {
            let names: Vec<&str> = schema.types.iter().map(|one| one.name.as_str()).collect();
            let width = (recipe.tagger_head == TaggerHead::TwoLayers).then_some(width);
            HeadConfig::tagger(encoder, TagSet::new(recipe.scheme, &names), width, recipe.classifier_act_func)
        }
        Kind::Qa => HeadConfig::qa(encoder),
        _ => HeadConfig {
            classifier_intermediate_hidden_size: Some(width),
            classifier_act_func: recipe.classifier_act_func,
            interaction: recipe.interaction,
            boundary_size: (recipe.interaction == Interaction::Late).then_some(recipe.boundary_size),
            ..HeadConfig::default()
        },
    }
}

/// Removes all tensors except the encoder's. Returns a note if there were tensors other than the heads of this task.
fn keep_encoder_only(
    tensors: &mut BTreeMap<String, Tensor>,
    names: &CheckpointNames,
    head: &HeadConfig,
) -> Option<String> {
    let foreign = tensors.keys().filter(|name| !name.starts_with(names.prefix) && !head.owns(name));
    let foreign: Vec<String> = foreign.map(|name| format!("`{name}`")).collect();
    tensors.retain(|name, _| name.starts_with(names.prefix));
    if foreign.is_empty() {
        return None;
    }
    let (first, rest) = foreign.split_at(foreign.len().min(NAMED));
    let (count, first, more) = (foreign.len(), first.join(", "), if rest.is_empty() { "" } else { ", …" });
    Some(format!("tensors outside the encoder are ignored ({count}): {first}{more}"))
}

/// Adds normally distributed weights and zero biases: tensors of these names and shapes.
fn initialize(tensors: &mut BTreeMap<String, Tensor>, shapes: BTreeMap<String, Vec<usize>>, deviation: f64, seed: u64) {
    for (stream, (name, shape)) in shapes.into_iter().enumerate() {
        let mut random = Random::new(seed, stream as u64);
        let count = shape.iter().product();
        let values = if name.rsplit('.').next() == Some("bias") {
            vec![0.0; count]
        } else {
            (0..count).map(|_| (random.normal() * deviation) as f32).collect()
        };
        tensors.insert(name, Tensor { shape, values });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine::captured_events::captured;
    use crate::model::config::tests::tiny;
    use crate::model::weights::pytorch::tests::torch_save;
    use crate::model::weights::tensors::tests::made_up;
    use crate::task::entity_schema::Nesting;

    /// Reads a Lightning checkpoint with these tensors; returns the result and the notes.
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
        let schema = EntitySchema { nested: Nesting::Flat, types: Vec::new() };
        let encoder = EncoderSection { path: folder.path().into(), heads, word_shape: false };
        captured(|| Pretrained::read(&encoder, &recipe, &schema))
    }

    /// A whole model's tensors under other names.
    fn renamed(rename: impl Fn(&str) -> Option<String>) -> BTreeMap<String, Tensor> {
        made_up(&tiny(), false).into_iter().filter_map(|(name, tensor)| Some((rename(&name)?, tensor))).collect()
    }

    fn add(tensors: &mut BTreeMap<String, Tensor>, names: &[&str]) {
        tensors.extend(names.iter().map(|&name| (name.to_owned(), Tensor { shape: vec![1], values: vec![0.0] })));
    }

    #[test]
    fn a_bare_encoder_gets_a_prefix_and_heads() {
        let mut bare = renamed(|name| name.strip_prefix("bert.").map(str::to_owned));
        add(&mut bare, &["cls.predictions.bias", "pooler.dense.bias", "embeddings.position_ids"]);
        let (read, notes) = read(&bare, Heads::New);
        assert!(notes.is_empty(), "{notes:?}");
        let head = read.unwrap().weights.head.tensors;
        let drawn = &head.get("span_embedding.classifier1.weight").values;
        let variance = drawn.iter().map(|value| f64::from(value * value)).sum::<f64>() / drawn.len() as f64;
        assert!((variance.sqrt() - STANDARD_DEVIATION).abs() < 0.005, "{}", variance.sqrt());
        assert!(head.get("start_outputs.bias").values.iter().all(|&value| value == 0.0));
    }

    #[test]
    fn checkpoints_of_lightning_and_of_several_gpus_are_encoders() {
        let whole = Weights::check(made_up(&tiny(), false), &mut tiny()).unwrap();
        for prefix in ["model.", "module.", "module.model.", "module._orig_mod.", "_forward_module.model."] {
            let tensors = renamed(|name| Some(format!("{prefix}{name}")));
            let (kept, notes) = read(&tensors, Heads::Keep);
            assert_eq!(kept.unwrap().weights, whole, "{prefix}");
            assert!(notes.is_empty(), "{prefix}: {notes:?}");
            let (drawn, notes) = read(&tensors, Heads::New);
            let drawn = drawn.unwrap().weights;
            assert_eq!(drawn.encoder, whole.encoder, "{prefix}");
            for ((name, drawn), (_, whole)) in drawn.head.tensors.iter().zip(whole.head.tensors.iter()) {
                assert_ne!(drawn, whole, "{prefix}: {name}");
            }
            assert!(notes.is_empty(), "{prefix}: {notes:?}");
        }
    }

    #[test]
    fn missing_and_foreign_tensors_are_named() {
        let mut tensors = renamed(|name| Some(format!("model.{name}")));
        add(&mut tensors, &["adapter.down.weight", "model.classifier.bias", "classifier.weight", "qa_outputs.bias"]);
        let (drawn, notes) = read(&tensors, Heads::New);
        drawn.unwrap();
        let expected = "last.ckpt`: tensors outside the encoder are ignored (4): `adapter.down.weight`, \
                        `classifier.bias`, `classifier.weight`, …";
        assert!(notes.len() == 1 && notes[0].ends_with(expected), "{notes:?}");
        // With kept heads the checkpoint must be a complete model, so an unknown tensor is an error.
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
