//! The training job file. In: TOML and `--set` values. Out: a validated job, or an error that names the key. It must not start
//! anything.
#![allow(clippy::doc_markdown, reason = "doc comments of the sections are texts of the JSON Schema")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::job::file::{EntitiesSection, parse_toml};
use crate::model::head::Interaction;
use crate::model::weights::safetensors_file::WeightForm;
use crate::text::window::SHORTEST_WINDOW;
use crate::train::recipe::{ModelKind, OnProblem, RecipeSection};

/// A training job: it reads labelled documents and writes a model directory.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TrainFile {
    /// The labelled documents.
    pub data: DataSection,
    /// The types and their questions.
    pub entities: EntitiesSection,
    /// The pretrained encoder.
    pub encoder: EncoderSection,
    /// The hyperparameters, with the names of the BERT-MRC reference implementation.
    #[serde(default)]
    pub recipe: RecipeSection,
    /// The output.
    pub output: OutputSection,
}

/// The labelled documents: folders with `documents.parquet` and `gold.parquet`, as `quarry prepare` writes them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DataSection {
    /// The training split.
    pub train: String,
    /// The development split, which selects the best weights.
    pub dev: String,
    /// The test split, on which the best weights are scored at the end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub test: Option<String>,
    /// A share of the documents of `train` and of each extra corpus, such as 0.05, for learning curves. The recipe's seed draws them, and a
    /// smaller share is a part of a larger one. By default all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub share: Option<f64>,
    /// The schema's types that are labelled in these splits; all if omitted. Their documents are asked only about these types, dev and test
    /// are scored on them, and other labels are ignored.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub types: Option<Vec<String>>,
    /// The id column of the documents.
    #[serde(default = "doc_id")]
    pub id: String,
    /// The text column of the documents.
    #[serde(default = "text")]
    pub text: String,
    /// Gold mentions that begin or end inside a word, or that fit into no window: `skip` ignores and counts them, `stop` ends
    /// the training before it begins.
    #[serde(default)]
    pub misaligned: OnProblem,
    /// Gold mentions of a type that is not in the schema.
    #[serde(default = "stop")]
    pub unknown_types: OnProblem,
    /// Additional training corpora, which can have other labels.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub extra: Vec<ExtraSection>,
}

/// An additional training corpus: a folder like `train`, with the same columns.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ExtraSection {
    /// The folder.
    pub path: String,
    /// The schema's types that are labelled there, each at least once; all if omitted. Its documents are asked only about these types, and
    /// its other labels are ignored.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub types: Option<Vec<String>>,
    /// Its label and the schema's type for it: rename = { person = "PER" }. A label that no mention there has is refused.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub rename: BTreeMap<String, String>,
}

/// The pretrained encoder.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct EncoderSection {
    /// A folder with config.json, weights (safetensors or PyTorch) and a tokenizer: a Hugging Face BERT or a model directory. Or a model
    /// on the Hugging Face hub, such as hf://google-bert/bert-base-uncased, fetched once.
    pub path: PathBuf,
    /// `new` initializes the heads at random; `keep` continues with those of a model directory, or of a checkpoint of
    /// the BERT-MRC code.
    #[serde(default)]
    pub heads: Heads,
    /// Whether the encoder is told how each word is written (lower case, Title, UPPER, …), by vectors that are added to its input and
    /// trained with it. It gives an encoder that folds capitals what it lost; one that has such vectors keeps them.
    #[serde(default)]
    pub word_shape: bool,
}

/// The origin of the heads.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Heads {
    /// Drawn from a normal distribution (standard deviation 0.02) with zero biases, like BERT's own initialization.
    #[default]
    New,
    /// Those of the checkpoint.
    Keep,
}

/// The model directory and its metadata.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct OutputSection {
    /// The model directory. Its folder `training` holds metrics, curves and, until the end, the checkpoint from which a killed training resumes.
    pub path: PathBuf,
    /// The weight format: fp32, fp16 or int8 per row.
    #[serde(default = "fp32")]
    pub weights: String,
    /// The best number of context wordpieces in a window for quarry.json, if it was measured; if omitted, the 99th percentile of the
    /// training contexts.
    pub window_tokens: Option<usize>,
    /// The origin of the weights, for quarry.json.
    #[serde(default)]
    pub origin: String,
    /// Their licence, for quarry.json.
    #[serde(default)]
    pub licence: String,
    /// Whether the scores are calibrated on dev at the end: a temperature and the threshold with the best F1 for each type, kept in
    /// quarry.json, where jobs find them. Without, scores are σ(logit) and the thresholds 0.5, as in the reference implementation.
    #[serde(default = "yes")]
    pub calibrate: bool,
    /// A checkpoint is saved at every scoring of dev, and at least every this many minutes.
    #[serde(default = "ten")]
    pub save_minutes: f64,
}

const fn yes() -> bool {
    true
}

fn doc_id() -> String {
    "doc_id".into()
}

fn text() -> String {
    "text".into()
}

const fn stop() -> OnProblem {
    OnProblem::Stop
}

fn fp32() -> String {
    "fp32".into()
}

const fn ten() -> f64 {
    10.0
}

impl TrainFile {
    /// Reads a training job, fills in `${key}` from `set`, and checks every value.
    pub fn read(path: &Path, set: &[(String, String)]) -> Result<Self> {
        let text =
            std::fs::read_to_string(path).map_err(|source| Error::Read { path: path.into(), source: source.into() })?;
        Self::parse(path, &text, set)
    }

    /// Parses a training job from `text`; `path` is for messages.
    pub fn parse(path: &Path, text: &str, set: &[(String, String)]) -> Result<Self> {
        let hint = "schemas/train.schema.json describes every key; a job with [input] and [store] is for `quarry run`";
        let file: Self = parse_toml(path, text, set, hint)?;
        file.validate().map_err(|(key, reason, hint)| Error::Setting {
            origin: path.display().to_string(),
            key: key.into(),
            reason,
            hint: hint.into(),
        })?;
        Ok(file)
    }

    /// The format in which the matrices are stored.
    pub fn weight_form(&self) -> WeightForm {
        self.output.weights.parse().unwrap_or(WeightForm::Fp32)
    }

    fn validate(&self) -> Result<(), (&'static str, String, &'static str)> {
        let recipe = &self.recipe;
        let counts = [
            ("recipe.batch_size", recipe.batch_size),
            ("recipe.batch_tokens", recipe.batch_tokens.unwrap_or(1)),
            ("recipe.accumulate_grad_batches", recipe.accumulate_grad_batches),
            ("recipe.classifier_intermediate_hidden_size", recipe.classifier_intermediate_hidden_size),
            ("recipe.max_epochs", recipe.max_epochs),
            ("recipe.patience", recipe.patience.unwrap_or(1)),
            ("recipe.threads", recipe.threads.unwrap_or(1)),
        ];
        for (key, value) in counts {
            if value == 0 {
                return Err((key, "0 is too small".into(), "use 1 or more, or omit the key"));
            }
        }
        let positive = [
            ("recipe.lr", recipe.lr),
            ("recipe.head_lr", recipe.head_lr.unwrap_or(recipe.lr)),
            ("recipe.adam_epsilon", recipe.adam_epsilon),
            ("recipe.final_div_factor", recipe.final_div_factor),
            ("recipe.val_check_interval", recipe.val_check_interval),
            ("output.save_minutes", self.output.save_minutes),
            (
                "recipe.weight_start + weight_end + weight_span",
                recipe.weight_start + recipe.weight_end + recipe.weight_span,
            ),
        ];
        for (key, value) in positive {
            if !(value > 0.0 && value.is_finite()) {
                return Err((key, format!("{value} is not above 0"), "use a number above 0"));
            }
        }
        let not_negative = [
            ("recipe.weight_decay", recipe.weight_decay),
            ("recipe.gradient_clip_val", recipe.gradient_clip_val),
            ("recipe.lr_mini", recipe.lr_mini.unwrap_or(0.0)),
            ("recipe.weight_start", recipe.weight_start),
            ("recipe.weight_end", recipe.weight_end),
            ("recipe.weight_span", recipe.weight_span),
        ];
        for (key, value) in not_negative {
            if !(value >= 0.0 && value.is_finite()) {
                return Err((key, format!("{value} is negative or not a number"), "use 0 or more"));
            }
        }
        let shares = [
            (
                "recipe.bert_dropout",
                recipe.bert_dropout.unwrap_or(0.0),
                "0.1 is usual; omit the key for the encoder's own",
            ),
            ("recipe.mrc_dropout", recipe.mrc_dropout, "0.1 is usual"),
            ("recipe.word_dropout", recipe.word_dropout, "0.05 to 0.1 is usual; omit the key to hide none"),
            ("recipe.ema_decay", recipe.ema_decay.unwrap_or(0.0), "0.999 is usual; omit the key for no average"),
        ];
        for (key, value, usual) in shares {
            if !(0.0..1.0).contains(&value) {
                return Err((key, format!("{value} is not at least 0 and below 1"), usual));
            }
        }
        if recipe.kind != ModelKind::Mrc && recipe.interaction == Interaction::Late {
            let reason = "only kind = \"mrc\" has late interaction".to_owned();
            return Err(("recipe.interaction", reason, "omit the key"));
        }
        if recipe.kind == ModelKind::Qa && recipe.weight_start + recipe.weight_end <= 0.0 {
            let reason = "both are 0, and kind = \"qa\" learns nothing else".to_owned();
            return Err(("recipe.weight_start + weight_end", reason, "use a number above 0"));
        }
        if let Some(share) = self.data.share.filter(|share| !(*share > 0.0 && *share <= 1.0)) {
            return Err((
                "data.share",
                format!("{share} is not above 0 and at most 1"),
                "use 0.05 for a twentieth; omit the key for all",
            ));
        }
        if let Some(tokens) = self.output.window_tokens.filter(|&tokens| tokens < SHORTEST_WINDOW) {
            return Err((
                "output.window_tokens",
                format!("{tokens} is too short a context"),
                "omit the key, or use a larger number",
            ));
        }
        if self.output.weights.parse::<WeightForm>().is_err() {
            let reason = format!("`{}` is not a weight format", self.output.weights);
            return Err(("output.weights", reason, "use fp32, fp16 or int8"));
        }
        Ok(())
    }
}

/// The JSON Schema of the training job.
pub fn json_schema() -> Result<String> {
    let schema = schemars::schema_for!(TrainFile);
    let text = serde_json::to_string_pretty(&schema);
    text.map(|text| text + "\n")
        .map_err(|source| Error::Engine { doing: "write a schema".into(), source: source.into() })
}

#[cfg(test)]
mod tests {
    use super::*;

    const JOB: &str = "[data]\ntrain = 'a'\ndev = 'b'\n[entities]\nschema = 'types.toml'\n[encoder]\npath = 'bert'\n[output]\npath = 'out'\n";

    fn refusal(section: &str) -> String {
        TrainFile::parse(Path::new("train.toml"), &format!("{JOB}{section}"), &[]).unwrap_err().to_string()
    }

    #[test]
    fn omitted_keys_have_the_defaults_of_the_reference() {
        let file = TrainFile::parse(Path::new("train.toml"), JOB, &[]).unwrap();
        // Keys without a default are missing here: overlap_tokens, batch_tokens, lr_mini, patience, threads.
        let expected = serde_json::json!({
            "max_length": 128,
            "word_dropout": 0.0,
            "words": "tokenizer",
            "batch_size": 32,
            "accumulate_grad_batches": 1,
            "lr": 2e-5,
            "optimizer": "adamw",
            "weight_decay": 0.01,
            "adam_epsilon": 1e-8,
            "lr_scheduler": "onecycle",
            "warmup_steps": 0,
            "final_div_factor": 1e4,
            "kind": "mrc",
            "scheme": "bio",
            "tagger_head": "linear",
            "interaction": "early",
            "boundary_size": 256,
            "mrc_dropout": 0.1,
            "classifier_act_func": "gelu",
            "classifier_intermediate_hidden_size": 1024,
            "weight_start": 1.0,
            "weight_end": 1.0,
            "weight_span": 1.0,
            "span_loss_candidates": "pred_and_gold",
            "freeze_words": false,
            "gradient_clip_val": 0.0,
            "precision": "fp32",
            "max_epochs": 20,
            "val_check_interval": 1.0,
            "seed": 0,
            "device": "auto",
            "not_a_number": "stop",
        });
        assert_eq!(serde_json::to_value(&file.recipe).unwrap(), expected);
    }

    #[test]
    fn a_wrong_value_names_its_key() {
        for (section, key) in [
            ("[recipe]\nlr = 0.0", "recipe.lr"),
            ("[recipe]\nhead_lr = 0.0", "recipe.head_lr"),
            ("[recipe]\nema_decay = 1.0", "recipe.ema_decay"),
            ("[recipe]\nword_dropout = -0.1", "recipe.word_dropout"),
            ("[recipe]\nbatch_size = 0", "recipe.batch_size"),
            ("[recipe]\nbert_dropout = 1.0", "recipe.bert_dropout"),
            ("[recipe]\nweight_span = -1.0", "recipe.weight_span"),
            ("[recipe]\nkind = 'tagger'\ninteraction = 'late'", "recipe.interaction"),
            ("[recipe]\nkind = 'qa'\nweight_start = 0.0\nweight_end = 0.0", "recipe.weight_start + weight_end"),
            ("window_tokens = 7", "output.window_tokens"),
        ] {
            assert!(refusal(section).contains(&format!("`{key}`")), "{section}");
        }
        let error =
            TrainFile::parse(Path::new("t.toml"), &format!("{JOB}[recipe]\nlearning_rate = 1\n"), &[]).unwrap_err();
        assert!(error.to_string().contains("t.toml"), "{error}");
    }
}
