//! Encoder folder → [`Pretrained`]. In: a Hugging Face BERT or a model directory. Out: complete weights under the reference's names with
//! heads drawn or kept, the configuration, the tokenizer. It may not train anything.

use std::collections::BTreeMap;
use std::path::Path;

use super::file::{EncoderSection, Heads};
use super::recipe::RecipeSection;
use crate::error::{Error, Result};
use crate::model::checkpoint::{Checkpoint, read_tensors, refused, weights_file};
use crate::model::config::BertConfig;
use crate::model::find;
use crate::model::weights::{Tensor, Weights, expected_shapes};
use crate::mrc::random::Random;

/// The standard deviation of drawn weights, BERT's `initializer_range`.
const SPREAD: f64 = 0.02;

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
}

impl Pretrained {
    /// Reads the encoder and draws its heads. Missing and unknown tensors are named; `note` is told what is fetched.
    pub fn read(encoder: &EncoderSection, recipe: &RecipeSection, note: &dyn Fn(&str)) -> Result<Self> {
        let path = &find::encoder(&encoder.path, note)?;
        let file = weights_file(path)?;
        let folder = if path.is_dir() { path.clone() } else { file.parent().unwrap_or(Path::new(".")).to_owned() };
        let mut config = BertConfig::read(&folder.join("config.json"))?;
        let mut tensors = encoder_names(read_tensors(&file)?);
        if encoder.heads == Heads::New {
            tensors.retain(|name, _| name.starts_with("bert."));
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
        let named = &encoder.path;
        let name =
            named.file_name().map_or_else(|| named.display().to_string(), |name| name.to_string_lossy().into_owned());
        Ok(Self { weights: checkpoint.weights, config: checkpoint.config, tokenizer, name })
    }
}

/// A bare encoder's tensors get the prefix they have in a model; pretraining's own heads (`cls.*`) and the pooler are not used.
fn encoder_names(tensors: BTreeMap<String, Tensor>) -> BTreeMap<String, Tensor> {
    let kept =
        |name: &str| !name.starts_with("cls.") && !name.starts_with("pooler.") && name != "embeddings.position_ids";
    let renamed = |name: String| {
        let bare = name.starts_with("embeddings.") || name.starts_with("encoder.");
        if bare { format!("bert.{name}") } else { name }
    };
    tensors.into_iter().filter(|(name, _)| kept(name)).map(|(name, tensor)| (renamed(name), tensor)).collect()
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
    use super::*;
    use crate::model::config::tests::tiny;
    use crate::model::weights::tests::made_up;

    #[test]
    fn a_bare_encoder_gets_its_prefix_and_its_heads() {
        let whole = made_up(&tiny(), false);
        let bare: BTreeMap<String, Tensor> = whole
            .iter()
            .filter_map(|(name, tensor)| Some((name.strip_prefix("bert.")?.to_owned(), tensor.clone())))
            .chain([("cls.predictions.bias".to_owned(), Tensor { shape: vec![1], values: vec![0.0] })])
            .collect();
        let mut tensors = encoder_names(bare);
        let mut config = tiny();
        assert!(Weights::check(tensors.clone(), &mut config).unwrap_err().reason.contains("end_outputs.bias"));
        draw_heads(&mut tensors, &config, 1);
        let weights = Weights::check(tensors, &mut config).unwrap();
        let drawn = &weights.tensor("span_embedding.classifier1.weight").values;
        let variance = drawn.iter().map(|value| f64::from(value * value)).sum::<f64>() / drawn.len() as f64;
        assert!((variance.sqrt() - SPREAD).abs() < 0.005, "{}", variance.sqrt());
        assert!(weights.tensor("start_outputs.bias").values.iter().all(|&value| value == 0.0));
    }
}
