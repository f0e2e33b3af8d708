//! The tensors of a model under the reference's names. In: tensors under the names of a file. Out: [`Weights`] with exactly the
//! names and shapes that the configuration requires. It must not read files.

use std::collections::BTreeMap;

use half::{bf16, f16};

use crate::model::encoder::config::BertConfig;

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

/// The checked tensors of a model: `bert.*`, `start_outputs.*`, `end_outputs.*` and `span_embedding.*` (`classifier1`
/// and `classifier2` of the reference's code, or the paper's single linear layer). Each head has one logit.
#[derive(Debug, Clone, PartialEq)]
pub struct Weights {
    tensors: BTreeMap<String, Tensor>,
}

// The tensors that distinguish the two kinds of match head.
const MATCH_HIDDEN: &str = "span_embedding.classifier1.weight";
const MATCH_LINEAR: &str = "span_embedding.weight";

impl Weights {
    /// Takes tensors under any of the accepted names, renames them, converts heads of two logits (the paper's softmax) to
    /// one logit (the difference), and checks every name and shape. Sets `classifier_intermediate_hidden_size` in `config`
    /// if it was missing.
    pub fn check(tensors: BTreeMap<String, Tensor>, config: &mut BertConfig) -> Result<Self, Misfit> {
        let mut tensors = canonical_names(tensors)?;
        for head in ["start_outputs", "end_outputs", "span_embedding.classifier2", "span_embedding"] {
            one_logit(&mut tensors, head);
        }
        if let Some(hidden) = tensors.get(MATCH_HIDDEN) {
            let width = hidden.shape.first().copied().filter(|width| *width > 0);
            config.classifier_intermediate_hidden_size = config.classifier_intermediate_hidden_size.or(width);
        }
        let single = tensors.contains_key(MATCH_LINEAR) && !tensors.contains_key(MATCH_HIDDEN);
        let expected = expected_shapes(config, single);
        for (name, shape) in &expected {
            match tensors.get(name) {
                Some(tensor) if &tensor.shape == shape => {}
                Some(tensor) => {
                    return Err(Misfit {
                        reason: format!("`{name}` has shape {:?}, expected {shape:?}", tensor.shape),
                        hint: "config.json and the weights must be of the same model".to_owned(),
                    });
                }
                None => return Err(missing(name)),
            }
        }
        if let Some(name) = tensors.keys().find(|name| !expected.contains_key(*name)) {
            return Err(Misfit {
                reason: format!("`{name}` is not a tensor of this model"),
                hint: "check num_hidden_layers in config.json, or remove the tensor from the checkpoint".to_owned(),
            });
        }
        for (name, tensor) in &tensors {
            if let Some(value) = tensor.values.iter().find(|value| !value.is_finite()) {
                return Err(Misfit {
                    reason: format!("`{name}` holds {value}"),
                    hint: "the training diverged or the file is damaged; use an earlier checkpoint".to_owned(),
                });
            }
        }
        Ok(Self { tensors })
    }

    /// The tensor with a name that [`Weights::check`] requires.
    ///
    /// # Panics
    /// Panics on other names. It never panics on the names of [`expected_shapes`]: `check` ensures that they all exist.
    pub fn tensor(&self, name: &str) -> &Tensor {
        &self.tensors[name]
    }

    /// Whether the match head is the paper's single linear layer (`span_embedding.weight` `[1, 2h]`).
    pub fn linear_match(&self) -> bool {
        self.tensors.contains_key(MATCH_LINEAR)
    }

    /// Every tensor, by name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Tensor)> {
        self.tensors.iter().map(|(name, tensor)| (name.as_str(), tensor))
    }
}

/// Names and shapes of all tensors of a model; `linear_match` as in [`Weights::linear_match`]. h = hidden size, m = width
/// of the match head.
pub fn expected_shapes(config: &BertConfig, linear_match: bool) -> BTreeMap<String, Vec<usize>> {
    let (hidden, inner) = (config.hidden_size, config.intermediate_size);
    let mut shapes = BTreeMap::new();
    let mut linear = |name: &str, outputs: usize, inputs: usize| {
        shapes.insert(format!("{name}.weight"), vec![outputs, inputs]);
        shapes.insert(format!("{name}.bias"), vec![outputs]);
    };
    for layer in 0..config.num_hidden_layers {
        let layer = format!("bert.encoder.layer.{layer}");
        for part in ["self.query", "self.key", "self.value", "output.dense"] {
            linear(&format!("{layer}.attention.{part}"), hidden, hidden);
        }
        linear(&format!("{layer}.intermediate.dense"), inner, hidden);
        linear(&format!("{layer}.output.dense"), hidden, inner);
    }
    linear("start_outputs", 1, hidden);
    linear("end_outputs", 1, hidden);
    if linear_match {
        linear("span_embedding", 1, 2 * hidden);
    } else {
        let width = config.classifier_intermediate_hidden_size.unwrap_or(1024);
        linear("span_embedding.classifier1", width, 2 * hidden);
        linear("span_embedding.classifier2", 1, width);
    }
    let mut norms = vec!["bert.embeddings.LayerNorm".to_owned()];
    for layer in 0..config.num_hidden_layers {
        norms.push(format!("bert.encoder.layer.{layer}.attention.output.LayerNorm"));
        norms.push(format!("bert.encoder.layer.{layer}.output.LayerNorm"));
    }
    for norm in norms {
        shapes.insert(format!("{norm}.weight"), vec![hidden]);
        shapes.insert(format!("{norm}.bias"), vec![hidden]);
    }
    let tables = [
        ("word", config.vocab_size),
        ("position", config.max_position_embeddings),
        ("token_type", config.type_vocab_size),
    ];
    for (table, rows) in tables {
        shapes.insert(format!("bert.embeddings.{table}_embeddings.weight"), vec![rows, hidden]);
    }
    shapes
}

/// The reference's name for a tensor; `None` if the graph does not use it.
fn canonical_name(name: &str) -> Option<String> {
    let name = name.strip_prefix("module.").unwrap_or(name);
    let name = name.strip_prefix("model.").unwrap_or(name);
    let pooler = name.starts_with("bert.pooler.") || name.starts_with("pooler.");
    let unused = pooler || name.ends_with(".position_ids");
    // In a checkpoint of an encoder alone, names have no prefix.
    let prefix = if name.starts_with("embeddings.") || name.starts_with("encoder.") { "bert." } else { "" };
    let name = match name.rsplit_once('.') {
        Some((norm, "gamma")) => format!("{prefix}{norm}.weight"),
        Some((norm, "beta")) => format!("{prefix}{norm}.bias"),
        _ => format!("{prefix}{name}"),
    };
    (!unused).then_some(name)
}

/// Renames tensors to the reference's names and drops those that the graph does not use.
pub(crate) fn canonical_names(tensors: BTreeMap<String, Tensor>) -> Result<BTreeMap<String, Tensor>, Misfit> {
    let mut renamed = BTreeMap::new();
    for (original, tensor) in tensors {
        let Some(name) = canonical_name(&original) else { continue };
        if renamed.insert(name.clone(), tensor).is_some() {
            return Err(Misfit {
                reason: format!("`{name}` occurs twice, once as `{original}`"),
                hint: "keep one of the two copies".to_owned(),
            });
        }
    }
    Ok(renamed)
}

/// Converts a head of two logits to one logit: a softmax over two logits is the sigmoid of their difference.
fn one_logit(tensors: &mut BTreeMap<String, Tensor>, head: &str) {
    let (weight, bias) = (format!("{head}.weight"), format!("{head}.bias"));
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

fn missing(name: &str) -> Misfit {
    let hint = if name.starts_with("bert.") {
        "check model_type and num_hidden_layers in config.json"
    } else {
        "an encoder without heads cannot find mentions: fine-tune it first with `quarry train`"
    };
    Misfit { reason: format!("`{name}` is missing"), hint: hint.to_owned() }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::model::encoder::config::tests::tiny;

    /// Pseudo-random tensors for a configuration: the same on every machine, and small enough that nothing saturates.
    pub(crate) fn made_up(config: &BertConfig, linear_match: bool) -> BTreeMap<String, Tensor> {
        let mut state = 1_u64;
        let mut next = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            ((state >> 40) as f32 / (1_u32 << 24) as f32 - 0.5) * 0.4
        };
        let shapes = expected_shapes(config, linear_match);
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
        assert_eq!(Weights::check(named, &mut config).expect("they fit").tensors, wanted);
    }

    #[test]
    fn names_of_an_encoder_become_names_of_a_model() {
        for (name, canonical) in [
            ("embeddings.LayerNorm.gamma", Some("bert.embeddings.LayerNorm.weight")),
            ("module.model.encoder.layer.0.output.dense.bias", Some("bert.encoder.layer.0.output.dense.bias")),
            ("bert.encoder.layer.0.output.dense.bias", Some("bert.encoder.layer.0.output.dense.bias")),
            ("cls.predictions.bias", Some("cls.predictions.bias")),
            ("pooler.dense.weight", None),
            ("embeddings.position_ids", None),
        ] {
            assert_eq!(canonical_name(name).as_deref(), canonical, "{name}");
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
        assert_eq!(weights.tensor("start_outputs.weight"), &Tensor { shape: vec![1, 8], values: vec![8.0; 8] });
        assert_eq!(weights.tensor("start_outputs.bias").values, [1.5]);
        assert!(weights.linear_match());
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
        config.classifier_intermediate_hidden_size = None;
        Weights::check(made_up(&tiny(), false), &mut config).expect("they fit");
        assert_eq!(config.classifier_intermediate_hidden_size, Some(12));
    }
}
