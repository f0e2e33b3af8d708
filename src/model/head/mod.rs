//! Heads. In: their keys in `config.json`, the width of the encoder's vectors. Out: a [`Head`] with every layer and the name of
//! every tensor, from which the graph writer, the training network and the reader of checkpoints take them. It must not know the encoder.

mod early;
mod late;
mod names;
mod prediction;
mod purpose;
mod token_heads;
mod two_layers;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

pub use crate::model::head::early::{MatchHead, MrcHead};
pub use crate::model::head::late::{Boundary, LateHead};
pub use crate::model::head::prediction::{PredictionConfig, PredictionLayer};
pub use crate::model::head::token_heads::{Classifier, QaHead, TaggerHead};
pub use crate::model::head::two_layers::{Activation, TwoLayers};

use crate::model::config_error::{ConfigError, check_sizes};
use crate::model::head::early::Found;
use crate::model::head::prediction::PredictionKeys;
use crate::model::head::purpose::Purpose;
use crate::task::kind::Kind;
use crate::task::tagger::tag_set::TagSet;

/// The width of the match head where neither configuration nor weights say it.
const DEFAULT_WIDTH: usize = 1024;
/// The same with late interaction.
const DEFAULT_LATE_WIDTH: usize = 768;
/// The width of boundary vectors where neither configuration nor weights say it.
const DEFAULT_BOUNDARY_SIZE: usize = 256;

/// The head's keys in `config.json`, with the names of the reference implementation where it has them.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct HeadConfig {
    /// Width of the match head's hidden layer (m); if absent, it is taken from the weights.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub classifier_intermediate_hidden_size: Option<usize>,
    /// Activation of the match head.
    #[serde(default)]
    pub classifier_act_func: Activation,
    /// Where question and window meet.
    #[serde(default, skip_serializing_if = "Interaction::is_early")]
    pub interaction: Interaction,
    /// Width of the vectors whose product is a start or end logit (d), only of late interaction; if absent, it is taken from the weights.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub boundary_size: Option<usize>,
    /// The class in Hugging Face's library, as far as it says what the head is for: `*ForTokenClassification` or `*ForQuestionAnswering`.
    #[serde(skip_deserializing, skip_serializing_if = "Vec::is_empty")]
    pub architectures: Vec<String>,
    /// The tags of a tagger.
    #[serde(skip_deserializing, rename = "id2label", skip_serializing_if = "Option::is_none")]
    pub tags: Option<TagSet>,
    /// The layer between encoder and classifier, which models of ModernBERT have; `None` of any other.
    #[serde(skip_deserializing, flatten)]
    pub prediction: Option<PredictionConfig>,
}

/// Where question and window meet.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Interaction {
    /// In the encoder, which reads a window once per question.
    #[default]
    Early,
    /// In the head: the encoder reads each question once, and each window once for all questions.
    Late,
}

/// The head on an encoder.
#[derive(Debug, Clone, PartialEq)]
pub enum Head {
    /// Of [`Interaction::Early`].
    Early(MrcHead),
    /// Of [`Interaction::Late`].
    Late(Box<LateHead>),
    /// Of a tagger.
    Tagger(Box<TaggerHead>),
    /// Of question answering.
    Qa(Box<QaHead>),
}

impl Interaction {
    #[allow(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
    fn is_early(&self) -> bool {
        *self == Self::Early
    }
}

impl HeadConfig {
    /// Parses and validates the bytes of a `config.json`.
    pub fn parse(bytes: &[u8]) -> Result<Self, ConfigError> {
        let mut config: Self = serde_json::from_slice(bytes)?;
        check_sizes(&[
            ("classifier_intermediate_hidden_size", config.match_width()),
            ("boundary_size", config.boundary_size.unwrap_or(DEFAULT_BOUNDARY_SIZE)),
        ])?;
        let mut purpose: Purpose = serde_json::from_slice(bytes)?;
        config.architectures = purpose.architectures.take().unwrap_or_default();
        if matches!(config.kind(), Kind::Tagger | Kind::Qa) && config.is_modern() {
            config.prediction = serde_json::from_slice::<PredictionKeys>(bytes)?.config()?;
        }
        match config.kind() {
            Kind::Tagger => config.tags = Some(purpose.tags()?),
            Kind::Qa => {}
            // Another class says nothing of the head of a checkpoint that was fine-tuned for mentions.
            _ => config.architectures.clear(),
        }
        Ok(config)
    }

    /// The head of a new tagger on an encoder of the class `encoder` (`Bert`), with two layers if there is a `width` between them.
    pub fn tagger(encoder: &str, tags: TagSet, width: Option<usize>, activation: Activation) -> Self {
        Self {
            architectures: vec![format!("{encoder}{}", names::TAGGER_CLASS)],
            tags: Some(tags),
            classifier_intermediate_hidden_size: width,
            classifier_act_func: activation,
            ..Self::default()
        }
    }

    /// The head of new question answering on an encoder of the class `encoder` (`Bert`).
    pub fn qa(encoder: &str) -> Self {
        Self { architectures: vec![format!("{encoder}{}", names::QA_CLASS)], ..Self::default() }
    }

    /// The kind of a model with this head.
    pub fn kind(&self) -> Kind {
        let is = |class: &str| self.architectures.iter().any(|name| name.ends_with(class));
        match self.interaction {
            _ if is(names::TAGGER_CLASS) => Kind::Tagger,
            _ if is(names::QA_CLASS) => Kind::Qa,
            Interaction::Early => Kind::Mrc,
            Interaction::Late => Kind::Late,
        }
    }

    /// Whether a tensor is one of this kind of head, by its name.
    pub fn owns(&self, name: &str) -> bool {
        let is_of = |layers: &[&str]| layers.iter().any(|layer| names::is_of(layer, name));
        match self.kind() {
            Kind::Tagger => is_of(&[names::TAGGER]) || self.is_modern() && is_of(&[names::PREDICTION]),
            Kind::Qa => is_of(&[names::QA]) || self.is_modern() && is_of(&[names::PREDICTION, names::TAGGER]),
            _ => Head::owns(name),
        }
    }

    /// Whether the class is one of ModernBERT.
    fn is_modern(&self) -> bool {
        self.architectures.iter().any(|name| name.starts_with(names::MODERN))
    }

    /// Why a checkpoint with these tensors has a head of another kind than this configuration says, and the way out; `shape` says the shape of
    /// a tensor by its name.
    pub(crate) fn misfit<'s>(&self, shape: impl Fn(&str) -> Option<&'s [usize]>) -> Option<(String, String)> {
        let has = |layer: &str| shape(&format!("{layer}.weight")).is_some();
        let rows = shape(&format!("{}.weight", names::TAGGER)).and_then(|shape| shape.first().copied());
        let says = self.architectures.first().map_or("", String::as_str);
        let dense = format!("{}.dense", names::PREDICTION);
        if self.is_modern() && self.prediction.is_none() && has(&dense) {
            return Some((
                format!("it has `{dense}.weight`, but config.json does not say the activation behind it"),
                "add `classifier_activation` to config.json: \"gelu\", unless it was trained with another".to_owned(),
            ));
        }
        // Both kinds of heads on ModernBERT have this name.
        let answers = self.prediction.is_some() && rows == Some(2);
        let other = match self.kind() {
            Kind::Tagger if has(names::QA) && !has(names::TAGGER) => Some((names::QA, names::QA_CLASS)),
            Kind::Tagger if answers && self.tags.as_ref().is_some_and(|tags| tags.count() != 2) => {
                Some((names::TAGGER, names::QA_CLASS))
            }
            Kind::Qa if has(names::TAGGER) && !has(names::QA) && !answers => Some((names::TAGGER, names::TAGGER_CLASS)),
            _ => None,
        };
        if let Some((layer, class)) = other {
            let name = says.find("For").map_or("", |end| &says[..end]);
            let rows = rows.map_or_else(String::new, |rows| format!(" with {rows} rows"));
            return Some((
                format!("config.json says `{says}` as `architectures`, but its head is `{layer}`{rows}"),
                format!(
                    "if it is of that kind, say `architectures`: [\"{name}{class}\"] in config.json; else use the weights that belong to it"
                ),
            ));
        }
        match (&self.tags, rows) {
            (Some(tags), Some(rows)) if tags.count() != rows => Some((
                format!(
                    "`id2label` in config.json names {} tags, but `{}.weight` has {rows} rows",
                    tags.count(),
                    names::TAGGER
                ),
                "config.json and the weights must be of the same model: name the tags in the order of the rows"
                    .to_owned(),
            )),
            _ => None,
        }
    }

    /// The head on an encoder of width `hidden_size`; the match head of early interaction has two layers.
    pub fn head(&self, hidden_size: usize) -> Head {
        let prediction = self.prediction.map(|prediction| prediction.layer(hidden_size));
        if let Some(tags) = &self.tags {
            let (width, activation) = (self.classifier_intermediate_hidden_size, self.classifier_act_func);
            let head = TaggerHead::new(hidden_size, tags.clone(), width, activation);
            return Head::Tagger(Box::new(TaggerHead { prediction, ..head }));
        }
        if self.kind() == Kind::Qa {
            return Head::Qa(Box::new(QaHead::new(hidden_size, prediction)));
        }
        match self.interaction {
            Interaction::Early => Head::Early(self.two_layers(hidden_size)),
            Interaction::Late => {
                let boundary_size = self.boundary_size.unwrap_or(DEFAULT_BOUNDARY_SIZE);
                let (width, activation) = (self.match_width(), self.classifier_act_func);
                Head::Late(Box::new(LateHead::new(hidden_size, boundary_size, width, activation)))
            }
        }
    }

    /// The head of early interaction whose match head is two layers, on an encoder of width `hidden_size`.
    pub fn two_layers(&self, hidden_size: usize) -> MrcHead {
        MrcHead::two_layers(hidden_size, self.match_width(), self.classifier_act_func)
    }

    /// The head of a checkpoint on an encoder of width `hidden_size`; `shape` says the shape of a tensor by its name. Sets
    /// `classifier_intermediate_hidden_size` and `boundary_size` if they are missing and the head has them.
    pub fn of_checkpoint<'s>(&mut self, hidden_size: usize, shape: impl Fn(&str) -> Option<&'s [usize]>) -> Head {
        let positive = |width: Option<usize>| width.filter(|width| *width > 0);
        match self.kind() {
            Kind::Tagger => {
                // A key that is there for another head must not add a layer.
                self.classifier_intermediate_hidden_size = positive(TaggerHead::found(shape));
                return self.head(hidden_size);
            }
            Kind::Qa => return self.head(hidden_size),
            _ => {}
        }
        let width = match self.interaction {
            Interaction::Early => match MrcHead::found(shape) {
                Found::OneLayer => return Head::Early(MrcHead::one_layer(hidden_size)),
                Found::TwoLayers(width) => width,
            },
            Interaction::Late => {
                let found = LateHead::found(shape);
                self.boundary_size = self.boundary_size.or(positive(found.boundary_size));
                found.match_width
            }
        };
        self.classifier_intermediate_hidden_size = self.classifier_intermediate_hidden_size.or(positive(width));
        self.head(hidden_size)
    }

    fn match_width(&self) -> usize {
        let default = match self.interaction {
            Interaction::Early => DEFAULT_WIDTH,
            Interaction::Late => DEFAULT_LATE_WIDTH,
        };
        self.classifier_intermediate_hidden_size.unwrap_or(default)
    }
}

impl Head {
    /// Whether a tensor is one of a head of MRC, by its name.
    pub fn owns(name: &str) -> bool {
        MrcHead::owns(name) || LateHead::owns(name)
    }

    /// Names and shapes of all tensors.
    pub fn shapes(&self) -> BTreeMap<String, Vec<usize>> {
        match self {
            Self::Early(head) => head.shapes(),
            Self::Late(head) => head.shapes(),
            Self::Tagger(head) => head.shapes(),
            Self::Qa(head) => head.shapes(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::task::tagger::scheme;

    #[test]
    fn a_checkpoint_tells_the_layers_of_its_match_head() {
        let of = |width: Option<usize>, tensors: &'static [(&str, &[usize])]| {
            let mut config = HeadConfig { classifier_intermediate_hidden_size: width, ..HeadConfig::default() };
            let head = config
                .of_checkpoint(8, |name| tensors.iter().find(|(tensor, _)| *tensor == name).map(|(_, shape)| *shape));
            (head.shapes(), config.classifier_intermediate_hidden_size)
        };
        let (two, width) = of(None, &[("span_embedding.classifier1.weight", &[12, 16])]);
        assert_eq!((two["span_embedding.classifier1.weight"].as_slice(), width), ([12, 16].as_slice(), Some(12)));
        let (two, width) = of(Some(5), &[("span_embedding.classifier1.weight", &[12, 16])]);
        assert_eq!((two["span_embedding.classifier2.weight"].as_slice(), width), ([1, 5].as_slice(), Some(5)));
        let (one, width) = of(None, &[("span_embedding.weight", &[1, 16])]);
        assert_eq!((one["span_embedding.weight"].as_slice(), one.len(), width), ([1, 16].as_slice(), 6, None));
    }

    #[test]
    fn a_checkpoint_tells_the_widths_of_a_late_head() {
        let mut config = HeadConfig { interaction: Interaction::Late, ..HeadConfig::default() };
        assert_eq!(config.head(8), Head::Late(Box::new(LateHead::new(8, 256, 768, Activation::Gelu))));
        let wanted = LateHead::new(8, 6, 12, Activation::Gelu);
        let shapes = wanted.shapes();
        assert_eq!(shapes["boundary.end.question.outer.weight"], [6, 8]);
        assert_eq!(
            (shapes["boundary.bias"].as_slice(), shapes["match.hidden.weight"].as_slice()),
            (&[2][..], &[12, 24][..])
        );
        assert_eq!(shapes.len(), 2 * 4 * 2 + 1 + 4);
        assert_eq!(config.of_checkpoint(8, |name| shapes.get(name).map(Vec::as_slice)), Head::Late(Box::new(wanted)));
        assert_eq!((config.boundary_size, config.classifier_intermediate_hidden_size), (Some(6), Some(12)));
    }

    #[test]
    fn only_late_interaction_writes_its_keys() {
        let written = |config: &str| {
            let config = HeadConfig::parse(config.as_bytes()).map_err(|_| "refused")?;
            serde_json::to_string(&config).map_err(|_| "it serializes")
        };
        let early = r#"{"classifier_intermediate_hidden_size":12,"classifier_act_func":"gelu"}"#;
        assert_eq!(written(early).as_deref(), Ok(early));
        let late = r#"{"classifier_act_func":"gelu","interaction":"late","boundary_size":64}"#;
        assert_eq!(written(late).as_deref(), Ok(late));
        assert_eq!(written(r#"{"interaction":"late","boundary_size":0}"#), Err("refused"));
        assert_eq!(written(r#"{"interaction":"later"}"#), Err("refused"));
    }

    #[test]
    fn a_tagger_and_a_model_of_question_answering_are_written_as_they_are_read() {
        let tags = TagSet::new(scheme::Scheme::Bioes, &["PER"]);
        for (config, kind) in [
            (HeadConfig::tagger("Bert", tags.clone(), None, Activation::Gelu), Kind::Tagger),
            (HeadConfig::tagger("Bert", tags.clone(), Some(12), Activation::Relu), Kind::Tagger),
            (HeadConfig::qa("Bert"), Kind::Qa),
        ] {
            let read = HeadConfig::parse(&serde_json::to_vec(&config).expect("json")).ok();
            assert_eq!((read.as_ref(), config.kind()), (Some(&config), kind));
            let shapes = config.head(8).shapes();
            assert!(shapes.keys().all(|name| config.owns(name) && !Head::owns(name)));
            let found = config.clone().of_checkpoint(8, |name| shapes.get(name).map(Vec::as_slice));
            assert_eq!(found, config.head(8));
        }
        let two_layers = HeadConfig::tagger("Bert", tags, Some(12), Activation::Gelu).head(8).shapes();
        assert_eq!(two_layers["classifier.classifier2.weight"], [5, 12]);
    }

    #[test]
    fn a_head_owns_its_names_and_no_others() {
        let late = HeadConfig { interaction: Interaction::Late, ..HeadConfig::default() };
        for head in [Head::Early(MrcHead::one_layer(4)), HeadConfig::default().head(4), late.head(4)] {
            assert!(head.shapes().keys().all(|name| Head::owns(name)));
        }
        for name in ["classifier.weight", "start_outputs_2.weight", "start_outputs", "matching.bias", "boundary"] {
            assert!(!Head::owns(name), "{name}");
        }
    }
}
