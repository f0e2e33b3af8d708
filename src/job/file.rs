//! The job file as a user writes it. In: TOML and `--set` values. Out: a [`JobFile`], or an error that names the unknown key and the
//! nearest valid one. It must not check values; [`crate::job::Job`] does.
#![allow(clippy::doc_markdown, reason = "the sections' doc comments are the descriptions in the JSON Schema")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use schemars::JsonSchema;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize, Serializer};
use strsim::levenshtein;

use crate::error::{Error, Result};
use crate::extract::settings::DEFAULT_MAX_CANDIDATES;
use crate::sanitize::without_secrets;
use crate::task::entity_schema::{DEFAULT_THRESHOLD, EntityType, Nesting};
use crate::text::tokens::Words;

/// A job file: the documents, the entity types, the model and the store.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct JobFile {
    /// The documents.
    pub input: InputSection,
    /// The entity types.
    pub entities: EntitiesSection,
    /// The model and its device.
    #[serde(default)]
    pub model: ModelSection,
    /// Windows, thresholds and batches.
    #[serde(default)]
    pub extract: ExtractSection,
    /// The store of the tables.
    pub store: StoreSection,
}

/// The documents.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct InputSection {
    /// A file, folder, glob or URL of Parquet, JSON Lines or CSV files.
    #[serde(serialize_with = "address")]
    pub documents: String,
    /// The id column, string or integer.
    pub id: String,
    /// The text column.
    pub text: String,
    /// A SQL condition on the files' columns, pushed into the scan.
    #[serde(default, rename = "where", skip_serializing_if = "Option::is_none")]
    pub filter: Option<String>,
    /// Gold entities (doc_id, entity_type, start_char, end_char), in the same formats. The run then writes scores to the metrics.
    #[serde(default, skip_serializing_if = "Option::is_none", serialize_with = "optional_address")]
    pub gold: Option<String>,
    /// The maximum of refused documents, a count or a share such as "1%". More of them set the exit code.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_rejects: Option<MaxRejects>,
}

/// A number of documents, or a share of them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged, expecting = "expected a count, such as 100, or a share, such as \"1%\"")]
pub enum MaxRejects {
    /// A number of documents.
    Count(u64),
    /// A percentage, such as "1%".
    Share(String),
}

/// The entity types: a schema file, or `nested` and `[[entities.type]]` in this file.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct EntitiesSection {
    /// A TOML file with the entity types and their questions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub schema: Option<PathBuf>,
    /// Without a schema file: which mentions can overlap: none (false), those of different types ("types"), or all (true).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nested: Option<Nesting>,
    /// Without a schema file: the types in the order of their questions.
    #[serde(default, rename = "type", skip_serializing_if = "Vec::is_empty")]
    pub types: Vec<EntityType>,
}

/// The model and its device.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ModelSection {
    /// A model directory, or hf://owner/name.
    pub path: PathBuf,
    /// auto, cpu, cuda, cuda:N, several GPUs (cuda:0,cuda:1) or all (cuda:*). If a named device is not available, the run fails.
    pub device: String,
    /// auto, fp32, bf16, fp16 or int8.
    pub precision: String,
    /// A shared library of ONNX Runtime to use instead of the pinned one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub library: Option<PathBuf>,
}

/// Windows, thresholds and batches.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ExtractSection {
    /// Context wordpieces in one window, without question and special tokens. By default as in the model's training,
    /// or 256 if the model does not say.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub window_tokens: Option<usize>,
    /// About how many of them overlap with the next window. By default an eighth.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub overlap_tokens: Option<usize>,
    /// The unit of words: runs of letters and digits and single other characters, or text between white space. By default as in the model's
    /// training, or the former if the model does not say.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub words: Option<Words>,
    /// A mention's score must be above this, whatever its type: σ(match logit), or its probability if the model is a tagger or answers
    /// questions. It replaces the thresholds in a schema file and in the model. By default the
    /// threshold of the type in the schema, else the model's, else 0.5.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub threshold: Option<f32>,
    /// σ(start logit) and σ(end logit) must be above this.
    pub boundary_threshold: f32,
    /// The maximum of candidates per query. If there are more, the best by start + end logit are kept.
    pub max_candidates: usize,
    /// Only of models that answer questions (kind qa): by how much the logit of a span must exceed that of the answer that there is none.
    pub null_threshold: f32,
    /// Padded tokens in one batch. By default the fastest value on this machine, measured once and cached.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub batch_tokens: Option<usize>,
}

/// The store of the tables.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct StoreSection {
    /// A folder, or a URL of an object store.
    #[serde(serialize_with = "address")]
    pub path: String,
    /// Documents in one commit.
    #[serde(default = "default_commit_documents")]
    pub commit_documents: u64,
}

/// Writes an address without its log-in and signature: the `runs` table keeps the job, for anybody who reads the store.
fn address<S: Serializer>(address: &str, serializer: S) -> std::result::Result<S::Ok, S::Error> {
    serializer.serialize_str(&without_secrets(address))
}

#[expect(clippy::ref_option, reason = "serde passes a reference to the field")]
fn optional_address<S: Serializer>(address: &Option<String>, serializer: S) -> std::result::Result<S::Ok, S::Error> {
    address.as_deref().map(without_secrets).serialize(serializer)
}

const fn default_commit_documents() -> u64 {
    100_000
}

impl Default for ModelSection {
    fn default() -> Self {
        Self { path: "models/default".into(), device: "auto".into(), precision: "auto".into(), library: None }
    }
}

impl Default for ExtractSection {
    fn default() -> Self {
        Self {
            window_tokens: None,
            overlap_tokens: None,
            words: None,
            threshold: None,
            boundary_threshold: DEFAULT_THRESHOLD,
            max_candidates: DEFAULT_MAX_CANDIDATES,
            null_threshold: 0.0,
            batch_tokens: None,
        }
    }
}

/// Fills in a job file's `${key}` from `set` and parses it. `path` is for error messages.
pub(super) fn parse(path: &Path, text: &str, set: &[(String, String)]) -> Result<JobFile> {
    let hint = "schemas/job.schema.json describes every key; a job with [data] and [recipe] is for `quarry train`";
    parse_toml(path, text, set, hint)
}

/// Fills in the `${key}` of a TOML file from `set` and parses it. On failure, the hint is the valid key nearest to an unknown one, or
/// else `otherwise`. `path` is for error messages.
pub fn parse_toml<T: DeserializeOwned>(
    path: &Path,
    text: &str,
    set: &[(String, String)],
    otherwise: &str,
) -> Result<T> {
    let filled = fill(path, text, set)?;
    toml::from_str(&filled).map_err(|source| {
        let hint = nearest_key(source.message()).unwrap_or_else(|| otherwise.into());
        Error::Parse { path: path.into(), source: source.into(), hint }
    })
}

/// Replaces every `${key}`. A key without a value and a value without a key are errors.
fn fill(path: &Path, text: &str, set: &[(String, String)]) -> Result<String> {
    let values: BTreeMap<&str, &str> = set.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
    let refuse = |key: &str, reason: &str, hint: String| Error::Setting {
        origin: path.display().to_string(),
        key: key.into(),
        reason: reason.into(),
        hint,
    };
    let mut filled = String::with_capacity(text.len());
    let mut used = Vec::new();
    let mut rest = text;
    while let Some(at) = rest.find("${") {
        let (before, after) = rest.split_at(at);
        let Some(end) = after.find('}') else { break };
        filled.push_str(before);
        let key = &after[2..end];
        let Some(value) = values.get(key) else {
            return Err(refuse(&format!("${{{key}}}"), "has no value", format!("say --set {key}=VALUE")));
        };
        filled.push_str(value);
        used.push(key);
        rest = &after[end + 1..];
    }
    filled.push_str(rest);
    if let Some(unused) = values.keys().find(|key| !used.contains(key)) {
        return Err(refuse(
            &format!("--set {unused}"),
            "is not used: the job file has no such placeholder",
            format!("write ${{{unused}}} where the value belongs"),
        ));
    }
    Ok(filled)
}

/// For "unknown field `x`, expected one of `a`, `b`": the expected key nearest to `x`, if the edit distance is at most half of its length.
fn nearest_key(message: &str) -> Option<String> {
    let mut quoted = message.split('`').skip(1).step_by(2);
    let unknown = quoted.next().filter(|_| message.starts_with("unknown field"))?;
    let (distance, nearest) = quoted.map(|key| (levenshtein(unknown, key), key)).min()?;
    (2 * distance <= unknown.chars().count()).then(|| format!("did you mean `{nearest}`?"))
}

/// The JSON Schema of the job file, which is also in `schemas/job.schema.json`.
pub fn json_schema() -> Result<String> {
    let failed = |source: serde_json::Error| Error::Engine {
        doing: "write the JSON Schema of the job file".into(),
        source: source.into(),
    };
    serde_json::to_string_pretty(&schemars::schema_for!(JobFile)).map(|text| text + "\n").map_err(failed)
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use proptest::prelude::*;

    pub(crate) const JOB: &str = r#"
        [input]
        documents = "docs/${date}.parquet"
        id = "doc_id"
        text = "body"
        [entities]
        schema = "schemas/conll03.toml"
        [store]
        path = "store"
    "#;

    pub(crate) fn job(text: &str, set: &[(&str, &str)]) -> Result<JobFile> {
        let set: Vec<(String, String)> = set.iter().map(|&(key, value)| (key.into(), value.into())).collect();
        parse(Path::new("job.toml"), text, &set)
    }

    fn message(error: &Error) -> String {
        let source = std::error::Error::source(error).map(ToString::to_string).unwrap_or_default();
        format!("{error} / {} / {}", source.lines().last().unwrap_or_default(), error.hint().unwrap_or_default())
    }

    #[test]
    fn set_fills_placeholders_and_nothing_else() {
        assert_eq!(job(JOB, &[("date", "2026-01-02")]).unwrap().input.documents, "docs/2026-01-02.parquet");
        let missing = job(JOB, &[]).unwrap_err();
        assert_eq!(message(&missing), "job.toml: `${date}`: has no value /  / say --set date=VALUE");
        let unused = job(JOB, &[("date", "x"), ("day", "y")]).unwrap_err();
        assert!(message(&unused).contains("`--set day`: is not used"), "{}", message(&unused));
    }

    #[test]
    fn an_unknown_key_is_named_with_the_nearest_right_one() {
        let text = JOB.replace("[store]", "[extract]\nwindow_token = 8\n[store]");
        let error = job(&text, &[("date", "x")]).unwrap_err();
        assert!(message(&error).ends_with("/ did you mean `window_tokens`?"), "{}", message(&error));
    }

    #[test]
    fn a_training_job_gets_a_hint_to_train() {
        let error = job("[data]\ntrain = 'train'\n[recipe]\nlr = 1e-5", &[]).unwrap_err();
        assert!(message(&error).ends_with("is for `quarry train`"), "{}", message(&error));
    }

    #[test]
    fn a_share_that_is_not_a_string_is_an_error_with_the_expected_form() {
        let text = JOB.replace("[entities]", "max_rejects = 0.01\n[entities]");
        let error = job(&text, &[("date", "x")]).unwrap_err();
        let causes = error.causes().concat();
        assert!(causes.contains(r#"expected a count, such as 100, or a share, such as "1%""#), "{causes}");
    }

    #[test]
    fn a_recorded_job_has_no_log_in() {
        let text = JOB
            .replace("docs/${date}.parquet", "https://me:secret@host/${date}.parquet")
            .replace("[entities]", "gold = 'https://host/gold.parquet?sig=secret'\n[entities]");
        let file = job(&text, &[("date", "today")]).unwrap();
        assert_eq!(file.input.documents, "https://me:secret@host/today.parquet");
        let recorded = serde_json::to_value(&file).unwrap();
        assert_eq!(recorded["input"]["documents"], "https://host/today.parquet");
        assert_eq!(recorded["input"]["gold"], "https://host/gold.parquet?…");
    }

    /// A job that survives a round trip through TOML, or an error that names the file and has a hint.
    fn is_job_or_error(text: &str) -> std::result::Result<(), TestCaseError> {
        match job(text, &[("date", "x")]) {
            Ok(file) => {
                let written = toml::to_string(&file).unwrap();
                prop_assert_eq!(parse(Path::new("job.toml"), &written, &[]).unwrap(), file);
            }
            Err(error) => prop_assert!(error.to_string().contains("job.toml") && error.hint().is_some(), "{:?}", error),
        }
        Ok(())
    }

    proptest! {
        #[test]
        fn any_text_is_a_job_or_an_error(text in "(?s).{0,80}") {
            is_job_or_error(&text)?;
        }

        #[test]
        fn a_damaged_job_is_a_job_or_an_error(at in 0..JOB.len(), length in 0_usize..12, junk in "[\\[\\]={}$\"'\n a-z0-9]{0,6}") {
            let (start, end) = (JOB.floor_char_boundary(at), JOB.floor_char_boundary(JOB.len().min(at + length)));
            let text = format!("{}{junk}{}", &JOB[..start], &JOB[end..]);
            is_job_or_error(&text)?;
        }
    }
}
