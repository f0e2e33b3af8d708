//! The job as it runs. In: a [`JobFile`]. Out: a validated [`Job`], or an error that names the key and the value. It must not load a model
//! or open a store.

use std::path::Path;

use datafusion::prelude::SessionContext;

use crate::error::{Error, Result};
use crate::extract::settings::{ExtractionSettings, RuntimeSettings};
use crate::job::file::{JobFile, MaxRejects, parse};
use crate::job::schemas::schema_of;
use crate::model::precision::UnknownName;
use crate::query::external_table::{ExternalTable, MENTION_STRINGS};
use crate::query::mention_table;
use crate::source::input::InputSpec;
use crate::task::entity_schema::{EntitySchema, Nesting};

/// A validated job: all settings are parsed, and its entity schema is read.
#[derive(Debug, Clone)]
pub struct Job {
    /// The job file, with its `${…}` filled in.
    pub file: JobFile,
    /// The documents.
    pub input: InputSpec,
    /// What is extracted.
    pub extraction: ExtractionSettings,
    /// Where and how the model runs.
    pub runtime: RuntimeSettings,
    /// The maximum of rejects; more set the exit code.
    pub max_rejects: Limit,
}

/// A limit on a part of a total.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Limit {
    /// No limit.
    None,
    /// At most this many.
    Count(u64),
    /// At most this share, in 0..=1.
    Share(f64),
}

impl Limit {
    /// Whether `part` of `total` exceeds the limit.
    pub fn exceeded(self, part: u64, total: u64) -> bool {
        match self {
            Self::None => false,
            Self::Count(most) => part > most,
            Self::Share(most) => part as f64 > most * total as f64,
        }
    }
}

impl Job {
    /// Reads a job file, fills in `${key}` from `set`, and checks everything that can be checked without a model or a store.
    pub fn read(path: &Path, set: &[(String, String)]) -> Result<Self> {
        let text =
            std::fs::read_to_string(path).map_err(|source| Error::Read { path: path.into(), source: source.into() })?;
        let file = parse(path, &text, set)?;
        Self::resolve(path, file)
    }

    /// Checks that the gold entities, if the job names some, are a table of mentions.
    ///
    /// # Errors
    /// [`Error::Table`] if they are not.
    pub async fn check_gold(&self, context: &SessionContext) -> Result<()> {
        let Some(location) = &self.file.input.gold else { return Ok(()) };
        let files = ExternalTable { table: "gold_entities", what: "gold mentions", location };
        let (columns, _) = files.table(context, &MENTION_STRINGS).await?;
        mention_table::check(&files, &columns).map(|_| ())
    }

    fn resolve(path: &Path, file: JobFile) -> Result<Self> {
        // Report errors of the job file itself before errors of files it names.
        let mut job = Self::checked(path, file)?;
        let mut schema = schema_of(&job.file.entities, path)?;
        // The job comes before the schema file; types in the job itself are more specific.
        if let (Some(threshold), Some(file)) = (job.extraction.threshold, &job.file.entities.schema) {
            let replaced = schema.take_thresholds();
            if !replaced.is_empty() {
                let (names, file) = (replaced.join(", "), file.display());
                tracing::info!("extract.threshold = {threshold} replaces the thresholds in `{file}` of {names}");
            }
        }
        job.extraction.schema = schema;
        Ok(job)
    }

    /// Checks the job file's values. The schema is still empty.
    fn checked(path: &Path, file: JobFile) -> Result<Self> {
        let origin = path.display().to_string();
        let refuse = |key: &str, reason: String, hint: &str| Error::Setting {
            origin: origin.clone(),
            key: key.into(),
            reason,
            hint: hint.into(),
        };
        let device = file.model.device.parse().map_err(|reason| {
            refuse("model.device", reason, "say auto, cpu, cuda, cuda:1, several such as cuda:0,cuda:1, or cuda:*")
        })?;
        let precision = match file.model.precision.as_str() {
            "auto" => None,
            name => Some(name.parse().map_err(|unknown: UnknownName| {
                refuse("model.precision", unknown.to_string(), "say auto, fp32, bf16, fp16 or int8")
            })?),
        };
        let extract = &file.extract;
        let extraction = ExtractionSettings {
            model: file.model.path.clone(),
            schema: EntitySchema { nested: Nesting::Flat, types: Vec::new() },
            window_tokens: extract.window_tokens,
            overlap_tokens: extract.overlap_tokens,
            words: extract.words,
            threshold: extract.threshold,
            boundary_threshold: extract.boundary_threshold,
            max_candidates: extract.max_candidates,
            null_threshold: extract.null_threshold,
            precision,
        };
        extraction.validate(&origin)?;
        if extract.batch_tokens == Some(0) {
            let reason = "it must be at least 1, not 0".to_owned();
            return Err(refuse("extract.batch_tokens", reason, "leave it out for the default"));
        }
        let runtime =
            RuntimeSettings { device, library: file.model.library.clone(), batch_tokens: extract.batch_tokens };
        let max_rejects = match &file.input.max_rejects {
            None => Limit::None,
            Some(MaxRejects::Count(count)) => Limit::Count(*count),
            Some(MaxRejects::Share(text)) => {
                let percent = text
                    .strip_suffix('%')
                    .and_then(|digits| digits.trim().parse::<f64>().ok())
                    .filter(|share| (0.0..=100.0).contains(share));
                Limit::Share(
                    percent.ok_or_else(|| {
                        refuse(
                            "input.max_rejects",
                            format!("`{text}` is not a share"),
                            "say a count, such as 100, or a share, such as \"1%\"",
                        )
                    })? / 100.0,
                )
            }
        };
        Ok(Self {
            input: InputSpec {
                documents: file.input.documents.clone(),
                id: file.input.id.clone(),
                text: file.input.text.clone(),
                filter: file.input.filter.clone(),
            },
            extraction,
            runtime,
            max_rejects,
            file,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::job::file::tests::{JOB, job};

    #[test]
    fn values_out_of_range_name_their_key() {
        let folder = tempfile::tempdir().unwrap();
        let schema = folder.path().join("types.toml");
        std::fs::write(&schema, "nested = false\n[[type]]\nname = 'PER'\nquestion = 'Who?'\n").unwrap();
        let resolve = |section: &str| {
            let text = JOB
                .replace("schemas/conll03.toml", &schema.display().to_string())
                .replace("[store]", &format!("{section}\n[store]"));
            Job::resolve(Path::new("job.toml"), job(&text, &[("date", "x")]).unwrap())
        };
        assert!(resolve("").is_ok());
        for (section, key) in [
            ("[extract]\nwindow_tokens = 256\noverlap_tokens = 200", "extract.overlap_tokens"),
            ("[extract]\nthreshold = 1.5", "extract.threshold"),
            ("[extract]\nbatch_tokens = 0", "extract.batch_tokens"),
            ("[extract]\nwindow_tokens = 1", "extract.window_tokens"),
            ("[model]\ndevice = 'gpu'", "model.device"),
            ("[model]\nprecision = 'fp8'", "model.precision"),
        ] {
            let error = resolve(section).unwrap_err();
            assert!(error.to_string().contains(&format!("`{key}`")), "{error}");
            assert!(error.hint().is_some());
        }
    }

    #[test]
    fn limits_count_or_share() {
        assert!(!Limit::None.exceeded(9, 10));
        assert!(Limit::Count(1).exceeded(2, 10) && !Limit::Count(2).exceeded(2, 10));
        assert!(Limit::Share(0.1).exceeded(2, 10) && !Limit::Share(0.2).exceeded(2, 10));
    }
}
