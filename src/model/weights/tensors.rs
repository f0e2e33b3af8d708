//! The tensors of a model. In: tensors under the names of a file. Out: [`Weights`] with exactly the names and shapes that the
//! descriptions of encoder and head require. It must not read files.

use std::collections::BTreeMap;

use half::{bf16, f16};

use crate::model::blocks::Linear;
use crate::model::config::ModelConfig;
use crate::model::encoder::architecture::{Architecture, CheckpointNames};
use crate::model::head::Head;

/// Modules around a model or its layers: of `torch.compile`, `DeepSpeed`, sharded training and activation checkpointing.
const WRAPPERS: [&str; 4] = ["_orig_mod", "_forward_module", "_fsdp_wrapped_module", "_checkpoint_wrapped_module"];
/// Attributes that hold a model: of data-parallel training and of a Lightning module.
const HOLDERS: [&str; 2] = ["module", "model"];

/// A dense float32 tensor in row-major order.
#[derive(Debug, Clone, PartialEq)]
pub struct Tensor {
    /// Sizes, outermost first.
    pub shape: Vec<usize>,
    /// The values; their number is the product of `shape`.
    pub values: Vec<f32>,
}

impl Tensor {
    /// The number of columns: the innermost size (1 for a scalar).
    pub fn columns(&self) -> usize {
        self.shape.last().copied().unwrap_or(1)
    }

    /// The rows of a matrix; a vector is one row.
    pub fn rows(&self) -> std::slice::Chunks<'_, f32> {
        self.values.chunks(self.columns().max(1))
    }
}

/// The float format in a file, little-endian.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Floats {
    Float32,
    Float64,
    Float16,
    Bfloat16,
}

impl Floats {
    /// Bytes per value.
    pub(crate) const fn size(self) -> usize {
        match self {
            Self::Float32 => 4,
            Self::Float64 => 8,
            Self::Float16 | Self::Bfloat16 => 2,
        }
    }

    /// The values in `bytes`; an incomplete value at the end is ignored.
    pub(crate) fn decode(self, bytes: &[u8]) -> Vec<f32> {
        match self {
            Self::Float32 => bytes.as_chunks().0.iter().map(|chunk| f32::from_le_bytes(*chunk)).collect(),
            Self::Float64 => bytes.as_chunks().0.iter().map(|chunk| f64::from_le_bytes(*chunk) as f32).collect(),
            Self::Float16 => bytes.as_chunks().0.iter().map(|chunk| f16::from_le_bytes(*chunk).to_f32()).collect(),
            Self::Bfloat16 => bytes.as_chunks().0.iter().map(|chunk| bf16::from_le_bytes(*chunk).to_f32()).collect(),
        }
    }
}

/// A mismatch between tensors and configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Misfit {
    /// The tensor and what is wrong with it.
    pub reason: String,
    /// The way out; can be empty.
    pub hint: String,
}

/// The checked tensors of an encoder or a head, by name.
#[derive(Debug, Clone, PartialEq)]
pub struct Tensors(BTreeMap<String, Tensor>);

impl Tensors {
    /// The tensor with a name of the description.
    ///
    /// # Panics
    /// Panics on other names. It never panics on those of the description: [`Weights::new`] ensures that they all exist.
    pub fn get(&self, name: &str) -> &Tensor {
        &self.0[name]
    }

    /// Every tensor, by name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Tensor)> {
        self.0.iter().map(|(name, tensor)| (name.as_str(), tensor))
    }
}

/// An encoder's tensors, those of [`Architecture::shapes`].
#[derive(Debug, Clone, PartialEq)]
pub struct EncoderWeights {
    /// Its description.
    pub architecture: Architecture,
    /// Its tensors.
    pub tensors: Tensors,
}

/// A head's tensors, those of [`Head::shapes`]. Each layer that gives a logit gives one.
#[derive(Debug, Clone, PartialEq)]
pub struct HeadWeights {
    /// Its description.
    pub description: Head,
    /// Its tensors.
    pub tensors: Tensors,
}

/// The checked tensors of a model: all that its descriptions name, of the shapes there, and no others.
#[derive(Debug, Clone, PartialEq)]
pub struct Weights {
    /// The encoder's.
    pub encoder: EncoderWeights,
    /// The head's.
    pub head: HeadWeights,
}

impl Weights {
    /// Takes tensors under any of the accepted names, renames them, converts heads of two logits (the paper's softmax) to
    /// one logit (the difference), and checks every name and shape. Sets the widths of the head in `config` if they were
    /// missing.
    pub fn check(tensors: BTreeMap<String, Tensor>, config: &mut ModelConfig) -> Result<Self, Misfit> {
        let architecture = config.encoder.architecture();
        let mut tensors = canonical_names(tensors, &architecture.checkpoint)?;
        let shape = |name: &str| tensors.get(name).map(|tensor| tensor.shape.as_slice());
        if let Some((reason, hint)) = config.head.misfit(shape) {
            return Err(Misfit { reason, hint });
        }
        let head = config.head.of_checkpoint(architecture.hidden_size, shape);
        if let Head::Early(head) = &head {
            for layer in head.logits() {
                one_logit(&mut tensors, layer);
            }
        }
        Self::new(architecture, head, tensors)
    }

    /// Checks every name and shape of tensors that have the names of their descriptions.
    pub fn new(architecture: Architecture, head: Head, mut tensors: BTreeMap<String, Tensor>) -> Result<Self, Misfit> {
        let own = architecture.shapes();
        let mut expected = own.clone();
        expected.extend(head.shapes());
        for (name, shape) in &expected {
            match tensors.get(name) {
                Some(tensor) if &tensor.shape == shape => {}
                Some(tensor) => {
                    return Err(Misfit {
                        reason: format!("`{name}` has shape {:?}, expected {shape:?}", tensor.shape),
                        hint: if *name == architecture.words.name {
                            "`vocab_size` and the widths in config.json must be those of the weights: copy both from one model"
                        } else {
                            "config.json and the weights must be of the same model"
                        }
                        .to_owned(),
                    });
                }
                None => return Err(missing(name, own.contains_key(name))),
            }
        }
        if let Some(name) = tensors.keys().find(|name| !expected.contains_key(*name)) {
            let hint = if name.starts_with(architecture.checkpoint.prefix) {
                "check num_hidden_layers in config.json, or remove the tensor from the checkpoint"
            } else {
                "it belongs to another head, or to a wrapper of training; remove the tensor from the checkpoint"
            };
            return Err(Misfit { reason: format!("`{name}` is not a tensor of this model"), hint: hint.to_owned() });
        }
        for (name, tensor) in &tensors {
            if let Some(value) = tensor.values.iter().find(|value| !value.is_finite()) {
                return Err(Misfit {
                    reason: format!("`{name}` holds {value}"),
                    hint: "the training diverged or the file is damaged; use an earlier checkpoint".to_owned(),
                });
            }
        }
        let of_head = tensors.extract_if(.., |name, _| !own.contains_key(name)).collect();
        Ok(Self {
            encoder: EncoderWeights { architecture, tensors: Tensors(tensors) },
            head: HeadWeights { description: head, tensors: Tensors(of_head) },
        })
    }

    /// Every tensor: the encoder's by name, then the head's.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Tensor)> {
        self.encoder.tensors.iter().chain(self.head.tensors.iter())
    }
}

/// A name without what training puts into it, at any depth: [`WRAPPERS`] anywhere, [`HOLDERS`] at its beginning.
fn unwrapped(name: &str) -> String {
    let mut parts: Vec<&str> = name.split('.').filter(|part| !WRAPPERS.contains(part)).collect();
    let held = parts.iter().take_while(|part| HOLDERS.contains(part)).count();
    parts.drain(..held);
    parts.join(".")
}

/// The description's name for a tensor; `None` if no result depends on it.
fn canonical_name(name: &str, names: &CheckpointNames) -> Option<String> {
    let name = unwrapped(name);
    let name = name.as_str();
    let starts = |name: &str, beginnings: &[&str]| beginnings.iter().any(|beginning| name.starts_with(beginning));
    let unused = starts(name.strip_prefix(names.prefix).unwrap_or(name), names.unused);
    let unused = unused || name.ends_with(".position_ids");
    let prefix = if starts(name, names.bare) { names.prefix } else { "" };
    let name = match name.rsplit_once('.') {
        Some((norm, "gamma")) => format!("{prefix}{norm}.weight"),
        Some((norm, "beta")) => format!("{prefix}{norm}.bias"),
        _ => format!("{prefix}{name}"),
    };
    (!unused).then_some(name)
}

/// Renames tensors to the names of the description, divides stacked ones and drops those that no result depends on.
pub(crate) fn canonical_names(
    tensors: BTreeMap<String, Tensor>,
    names: &CheckpointNames,
) -> Result<BTreeMap<String, Tensor>, Misfit> {
    let mut renamed = BTreeMap::new();
    for (original, tensor) in tensors {
        let Some(name) = canonical_name(&original, names) else { continue };
        for (name, tensor) in divided(name, tensor, names)? {
            if renamed.insert(name.clone(), tensor).is_some() {
                return Err(Misfit {
                    reason: format!("`{name}` occurs twice, once as `{original}`"),
                    hint: "keep one of the two copies".to_owned(),
                });
            }
        }
    }
    Ok(renamed)
}

/// The tensors of the layers that a tensor holds one below the other; itself if it is of one layer.
fn divided(name: String, tensor: Tensor, names: &CheckpointNames) -> Result<Vec<(String, Tensor)>, Misfit> {
    let stacked = names.stacked.iter().find_map(|(module, layers)| {
        let (layer, part) = name.rsplit_once('.')?;
        let before = layer.strip_suffix(module).filter(|before| before.ends_with('.'))?;
        Some((before, part, *layers))
    });
    let Some((before, part, layers)) = stacked else { return Ok(vec![(name, tensor)]) };
    let rows = tensor.shape.first().copied().unwrap_or(0);
    if !rows.is_multiple_of(layers.len()) {
        return Err(Misfit {
            reason: format!("`{name}` has {rows} rows, which are not those of {} layers", layers.len()),
            hint: "config.json and the weights must be of the same model".to_owned(),
        });
    }
    let (mut shape, count) = (tensor.shape, tensor.values.len() / layers.len());
    shape[0] = rows / layers.len();
    let own = |number: usize| tensor.values[number * count..(number + 1) * count].to_vec();
    let layers = layers.iter().enumerate();
    Ok(layers
        .map(|(number, layer)| {
            (format!("{before}{layer}.{part}"), Tensor { shape: shape.clone(), values: own(number) })
        })
        .collect())
}

/// Converts a layer of two logits to one logit: a softmax over two logits is the sigmoid of their difference.
fn one_logit(tensors: &mut BTreeMap<String, Tensor>, layer: &Linear) {
    let (weight, bias) = (layer.weight(), layer.bias());
    let is_pair = |name: &str| tensors.get(name).is_some_and(|tensor| tensor.shape.first() == Some(&2));
    if !is_pair(&weight) || !is_pair(&bias) {
        return;
    }
    for name in [weight, bias] {
        if let Some(tensor) = tensors.get_mut(&name) {
            let (no, yes) = tensor.values.split_at(tensor.values.len() / 2);
            tensor.values = yes.iter().zip(no).map(|(yes, no)| yes - no).collect();
            tensor.shape[0] = 1;
        }
    }
}

fn missing(name: &str, of_encoder: bool) -> Misfit {
    let hint = if of_encoder {
        "check model_type and num_hidden_layers in config.json"
    } else {
        "an encoder without heads cannot find mentions: fine-tune it first with `quarry train`"
    };
    Misfit { reason: format!("`{name}` is missing"), hint: hint.to_owned() }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::model::config::tests::tiny;
    use crate::model::head::MrcHead;

    /// Pseudo-random tensors for a configuration: the same on every machine, and small enough that nothing saturates.
    pub(crate) fn made_up(config: &ModelConfig, one_layer: bool) -> BTreeMap<String, Tensor> {
        let mut state = 1_u64;
        let mut next = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            ((state >> 40) as f32 / (1_u32 << 24) as f32 - 0.5) * 0.4
        };
        let architecture = config.encoder.architecture();
        let width = architecture.hidden_size;
        let head = if one_layer { Head::Early(MrcHead::one_layer(width)) } else { config.head.head(width) };
        let mut shapes = architecture.shapes();
        shapes.extend(head.shapes());
        let tensor = |(name, shape): (String, Vec<usize>)| {
            let shift = if name.ends_with("LayerNorm.weight") { 1.0 } else { 0.0 };
            let values = (0..shape.iter().product()).map(|_| next() + shift).collect();
            (name, Tensor { shape, values })
        };
        shapes.into_iter().map(tensor).collect()
    }

    #[test]
    fn lightning_and_old_names_are_renamed() {
        let (mut config, wanted) = (tiny(), made_up(&tiny(), false));
        let mut named: BTreeMap<_, _> = wanted
            .iter()
            .map(|(name, tensor)| {
                let name =
                    name.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta");
                (format!("model.{name}"), tensor.clone())
            })
            .collect();
        named.insert("model.bert.pooler.dense.bias".into(), Tensor { shape: vec![1], values: vec![0.0] });
        named.insert("model.bert.embeddings.position_ids".into(), Tensor { shape: vec![1], values: vec![0.0] });
        let weights = Weights::check(named, &mut config).expect("they fit");
        let found = weights.iter().map(|(name, tensor)| (name.to_owned(), tensor.clone()));
        assert_eq!(found.collect::<BTreeMap<_, _>>(), wanted);
        assert!(weights.encoder.tensors.iter().all(|(name, _)| name.starts_with("bert.")));
        assert!(weights.head.tensors.iter().all(|(name, _)| Head::owns(name)));
    }

    #[test]
    fn names_of_an_encoder_become_names_of_a_model() {
        for (name, canonical) in [
            ("embeddings.LayerNorm.gamma", Some("bert.embeddings.LayerNorm.weight")),
            ("module.model.encoder.layer.0.output.dense.bias", Some("bert.encoder.layer.0.output.dense.bias")),
            ("bert.encoder.layer.0.output.dense.bias", Some("bert.encoder.layer.0.output.dense.bias")),
            ("_orig_mod.module.bert.encoder.layer.0.output.dense.bias", Some("bert.encoder.layer.0.output.dense.bias")),
            ("model._forward_module.model.start_outputs.bias", Some("start_outputs.bias")),
            (
                "bert._orig_mod.encoder.layer.0._fsdp_wrapped_module.output.dense.bias",
                Some("bert.encoder.layer.0.output.dense.bias"),
            ),
            ("cls.predictions.bias", Some("cls.predictions.bias")),
            ("pooler.dense.weight", None),
            ("embeddings.position_ids", None),
        ] {
            let names = tiny().encoder.architecture().checkpoint;
            assert_eq!(canonical_name(name, &names).as_deref(), canonical, "{name}");
        }
    }

    #[test]
    fn a_softmax_head_becomes_its_difference() {
        let mut tensors = made_up(&tiny(), true);
        tensors.insert(
            "start_outputs.weight".into(),
            Tensor { shape: vec![2, 8], values: (0..16).map(|i| i as f32).collect() },
        );
        tensors.insert("start_outputs.bias".into(), Tensor { shape: vec![2], values: vec![0.5, 2.0] });
        let weights = Weights::check(tensors, &mut tiny()).expect("they fit");
        let head = &weights.head.tensors;
        assert_eq!(head.get("start_outputs.weight"), &Tensor { shape: vec![1, 8], values: vec![8.0; 8] });
        assert_eq!(head.get("start_outputs.bias").values, [1.5]);
        assert_eq!(weights.head.description, Head::Early(MrcHead::one_layer(8)));
    }

    #[test]
    fn a_mismatch_names_the_tensor() {
        let check = |change: fn(&mut BTreeMap<String, Tensor>)| {
            let mut tensors = made_up(&tiny(), false);
            change(&mut tensors);
            Weights::check(tensors, &mut tiny()).expect_err("a misfit").reason
        };
        let dummy = || Tensor { shape: vec![3], values: vec![0.0; 3] };
        assert_eq!(check(|tensors| drop(tensors.remove("end_outputs.bias"))), "`end_outputs.bias` is missing");
        assert!(
            check(|tensors| drop(tensors.insert("extra".into(), Tensor { shape: vec![], values: vec![0.0] })))
                .contains("`extra`")
        );
        let mut tensors = made_up(&tiny(), false);
        tensors.insert("end_outputs.bias".into(), dummy());
        let misfit = Weights::check(tensors, &mut tiny()).expect_err("a wrong shape");
        assert_eq!(misfit.reason, "`end_outputs.bias` has shape [3], expected [1]");
        let nan = check(|tensors| tensors.get_mut("start_outputs.bias").expect("there").values[0] = f32::NAN);
        assert_eq!(nan, "`start_outputs.bias` holds NaN");
        let twice = check(|tensors| {
            tensors.insert("model.start_outputs.bias".into(), Tensor { shape: vec![1], values: vec![0.0] });
        });
        assert!(twice.contains("occurs twice"), "{twice}");
    }

    #[test]
    fn the_match_width_comes_from_the_weights_if_config_lacks_it() {
        let mut config = tiny();
        config.head.classifier_intermediate_hidden_size = None;
        Weights::check(made_up(&tiny(), false), &mut config).expect("they fit");
        assert_eq!(config.head.classifier_intermediate_hidden_size, Some(12));
    }
}
