//! Folders of the GLiNER family, as the package `gliner` exports them: `gliner_config.json`, an ONNX file, `tokenizer.json`. In: a folder. Out: its
//! graph, and how it reads words, or an error that names the file and the key. It must not read the vocabulary or open the graph.

use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::error::{Error, Result};
use crate::model::package::external_data::inputs_and_outputs;
use crate::task::gliner::contract::{HINT, check_names};
use crate::task::gliner::layout::{GlinerModel, Layout, Pieces, Scores};

/// The file that marks such a folder.
pub(super) const CONFIG: &str = "gliner_config.json";
pub(super) const TOKENIZER: &str = "tokenizer.json";
pub(super) const TOKENIZER_CONFIG: &str = "tokenizer_config.json";

/// Where the graph can be, in the order in which it is looked for.
pub(super) const GRAPHS: [&str; 4] =
    ["model.onnx", "onnx/model.onnx", "model_quantized.onnx", "onnx/model_quantized.onnx"];

/// A `model_max_length` above this stands for none.
const UNLIMITED: f64 = 1e6;

/// How to export a model.
pub(super) const EXPORT: &str = "export the model with the package gliner: GLiNER.from_pretrained(\"MODEL\").export_to_onnx(\"FOLDER\"), which also \
    writes tokenizer.json and gliner_config.json";

/// The keys of `gliner_config.json` that matter here, with the package's defaults.
#[derive(Debug, Deserialize)]
#[serde(default)]
struct GlinerConfig {
    model_type: Option<String>,
    span_mode: String,
    max_width: usize,
    max_len: usize,
    words_splitter_type: String,
    subtoken_pooling: String,
    ent_token: String,
    sep_token: String,
    class_token_index: i64,
    vocab_size: i64,
    labels_encoder: Value,
    labels_decoder: Value,
    relations_layer: Value,
    precomputed_prompts_mode: Option<bool>,
    encoder_config: Value,
}

impl Default for GlinerConfig {
    fn default() -> Self {
        Self {
            model_type: None,
            span_mode: "markerV0".to_owned(),
            max_width: 12,
            max_len: 384,
            words_splitter_type: "whitespace".to_owned(),
            subtoken_pooling: "first".to_owned(),
            ent_token: "<<ENT>>".to_owned(),
            sep_token: "<<SEP>>".to_owned(),
            class_token_index: -1,
            vocab_size: -1,
            labels_encoder: Value::Null,
            labels_decoder: Value::Null,
            relations_layer: Value::Null,
            precomputed_prompts_mode: None,
            encoder_config: Value::Null,
        }
    }
}

/// The keys of `tokenizer_config.json` that matter here.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct TokenizerConfig {
    model_max_length: Option<f64>,
}

/// The part of `tokenizer.json` that names special tokens.
#[derive(Debug, Deserialize)]
struct AddedTokens {
    #[serde(default)]
    added_tokens: Vec<AddedToken>,
}

#[derive(Debug, Deserialize)]
struct AddedToken {
    id: u32,
    content: String,
}

/// A folder of the GLiNER family.
#[derive(Debug, Clone)]
pub(super) struct GlinerFolder {
    /// How its graph reads words.
    pub(super) model: GlinerModel,
    /// The graph, relative to the folder.
    pub(super) graph: &'static str,
    /// How many word vectors the graph has, if its configuration says it.
    pub(super) vocabulary: Option<usize>,
}

impl GlinerFolder {
    /// Reads the folder `root`; `longest` limits inputs in tokens beside what the model says.
    ///
    /// # Errors
    /// [`Error::Model`] for a file that is missing, or a model that is of another kind or whose files do not fit together.
    pub(super) fn read(root: &Path, longest: usize) -> Result<Self> {
        let refuse = |file: &str, reason: String, hint: &str| {
            Err(Error::Model { path: root.join(file), reason, hint: hint.to_owned() })
        };
        let config: GlinerConfig = parse(root, CONFIG)?;
        if let Some((reason, hint)) = config.refusal() {
            return refuse(CONFIG, reason, hint);
        }
        if !root.join(TOKENIZER).exists() {
            return refuse(
                "",
                "there is gliner_config.json, but no tokenizer.json".to_owned(),
                "write it with the package gliner: GLiNER.from_pretrained(\"MODEL\").data_processor.transformer_tokenizer.save_pretrained(\"FOLDER\"); \
                 that of the encoder alone lacks the tokens of prompts",
            );
        }
        let Some(graph) = GRAPHS.into_iter().find(|name| root.join(name).exists()) else {
            let reason = format!("there is gliner_config.json, but none of {}", GRAPHS.join(", "));
            return refuse("", reason, EXPORT);
        };
        let spans = config.span_mode != "token_level";
        if let Some([inputs, outputs]) = inputs_and_outputs(&root.join(graph))? {
            let names = check_names(&inputs, outputs.iter().map(String::as_str), Some(spans));
            if let Err(reason) = names {
                let mode = format!("gliner_config.json says `span_mode` \"{}\", but {reason}", config.span_mode);
                return refuse(graph, mode, HINT);
            }
        }
        let AddedTokens { added_tokens } = parse(root, TOKENIZER)?;
        let id = |key: &str, token: &str| {
            let found = added_tokens.iter().find(|added| added.content == token).map(|added| added.id);
            found.ok_or_else(|| Error::Model {
                path: root.join(TOKENIZER),
                reason: format!("it has no special token `{token}`, which is `{key}` in gliner_config.json"),
                hint: format!("this is the tokenizer of the encoder alone: {EXPORT}"),
            })
        };
        let entity_token = (config.ent_token.clone(), id("ent_token", &config.ent_token)?);
        let separator = (config.sep_token.clone(), id("sep_token", &config.sep_token)?);
        if config.class_token_index >= 0 && config.class_token_index != i64::from(entity_token.1) {
            let reason = format!(
                "`class_token_index` is {}, but `{}` has the id {} in tokenizer.json",
                config.class_token_index, entity_token.0, entity_token.1
            );
            return refuse(CONFIG, reason, EXPORT);
        }
        let length = if root.join(TOKENIZER_CONFIG).exists() {
            parse::<TokenizerConfig>(root, TOKENIZER_CONFIG)?.model_max_length
        } else {
            None
        };
        let limits = [length.filter(|length| (1.0..UNLIMITED).contains(length)).map(|length| length as usize)];
        let max_tokens =
            limits.into_iter().chain([positions(&config.encoder_config)]).flatten().fold(longest, usize::min);
        let pieces = match config.subtoken_pooling.as_str() {
            "first" => Pieces::First,
            "last" => Pieces::Last,
            _ => Pieces::All,
        };
        let scores = if spans { Scores::Spans(config.max_width) } else { Scores::Words };
        let model = GlinerModel {
            layout: Layout { scores, pieces },
            max_words: config.max_len,
            max_tokens,
            entity_token,
            separator,
        };
        Ok(Self { model, graph, vocabulary: usize::try_from(config.vocab_size).ok().filter(|size| *size > 0) })
    }

    /// The graph's path.
    pub(super) fn graph(&self, root: &Path) -> PathBuf {
        root.join(self.graph)
    }
}

impl GlinerConfig {
    /// Why such a model cannot run here, and the way out.
    fn refusal(&self) -> Option<(String, &'static str)> {
        const OTHER: &str = "only models with one encoder for types and text can run here (span mode and token mode), such as \
            urchade/gliner_small-v2.1: export one with the package gliner";
        let set = |value: &Value| !value.is_null();
        let kind = [
            (set(&self.relations_layer), "relations_layer", "also finds relations"),
            (set(&self.labels_decoder), "labels_decoder", "writes its types with a decoder"),
            (set(&self.labels_encoder), "labels_encoder", "has a second encoder for types (bi-encoder)"),
        ];
        if let Some((_, key, what)) = kind.into_iter().find(|(is, ..)| *is) {
            return Some((format!("`{key}` is set: the model {what}"), OTHER));
        }
        if let Some(kind) = self
            .model_type
            .as_deref()
            .filter(|kind| !["gliner", "gliner_uni_encoder_span", "gliner_uni_encoder_token", ""].contains(kind))
        {
            return Some((format!("`model_type` is `{kind}`"), OTHER));
        }
        if self.precomputed_prompts_mode == Some(true) {
            let hint = "export the model without compressed prompts: they fix the types";
            return Some(("`precomputed_prompts_mode` is true: the model has its types in itself".to_owned(), hint));
        }
        // They see the padding of shorter texts.
        if ["markerV1", "markerV2"].contains(&self.span_mode.as_str()) {
            let reason =
                format!("`span_mode` is `{}`, whose scores depend on the other texts of a batch", self.span_mode);
            return Some((reason, "the others, such as `markerV0`, do not: train the model with one of them"));
        }
        if self.words_splitter_type != "whitespace" {
            let reason = format!("`words_splitter_type` is `{}`, which is not supported", self.words_splitter_type);
            return Some((reason, "only `whitespace` is, the default of the package gliner"));
        }
        if !["first", "last", "mean", "max"].contains(&self.subtoken_pooling.as_str()) {
            let reason = format!("`subtoken_pooling` is `{}`", self.subtoken_pooling);
            return Some((reason, "it is first, last, mean or max"));
        }
        let sizes = [("max_len", self.max_len, 1 << 16), ("max_width", self.max_width, 1 << 10)];
        let wrong = sizes.into_iter().find(|&(_, size, most)| size == 0 || size > most)?;
        Some((format!("`{}` is {}, which is not from 1 to {}", wrong.0, wrong.1, wrong.2), EXPORT))
    }
}

/// How many tokens an encoder with absolute positions can read; `None` for one with relative positions, and an unknown one.
fn positions(encoder: &Value) -> Option<usize> {
    let positions = usize::try_from(encoder["max_position_embeddings"].as_u64()?).ok()?;
    let pad = usize::try_from(encoder["pad_token_id"].as_u64().unwrap_or(1)).unwrap_or(1);
    match encoder["model_type"].as_str()? {
        "bert" | "distilbert" | "albert" | "electra" => Some(positions),
        // Positions begin after that of padding.
        "roberta" | "xlm-roberta" | "camembert" | "mpnet" => positions.checked_sub(pad + 1),
        "deberta" | "deberta-v2" => encoder["position_biased_input"].as_bool().unwrap_or(true).then_some(positions),
        _ => None,
    }
}

fn parse<T: DeserializeOwned>(root: &Path, file: &str) -> Result<T> {
    let path = root.join(file);
    let bytes = std::fs::read(&path).map_err(|source| Error::Read { path: path.clone(), source: source.into() })?;
    serde_json::from_slice(&bytes).map_err(|source| Error::Parse {
        path,
        source: source.into(),
        hint: EXPORT.to_owned(),
    })
}
