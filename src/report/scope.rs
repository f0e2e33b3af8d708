//! The scope of the page. In: the settings, the store's runs. Out: the run whose figures are shown, views of the mentions and documents,
//! and the locations of gold and texts. It must not read gold or texts.

use std::path::Path;

use datafusion::prelude::SessionContext;
use serde::Serialize;
use serde_json::Value;

use super::settings::Settings;
use super::tables::{ALL_DOCUMENTS, DOCUMENTS, MATCHED, MENTIONS};
use crate::error::{Error, Result};
use crate::job::Job;
use crate::job::file::InputSection;
use crate::query::statement::{query, register};
use crate::sanitize::without_secrets;
use crate::source::location::StoreLocation;
use crate::tables::result_row::{ResultRow, first_row, result_rows};
use crate::task::entity_schema::EntityType;

/// A row of the table `runs`.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub(super) struct Run {
    pub(super) id: String,
    pub(super) started_at: String,
    /// As the table has it: the page only shows it, also one that this version does not know.
    pub(super) outcome: String,
    pub(super) model: String,
    pub(super) precision: String,
    pub(super) device: String,
    pub(super) counts: Value,
    /// The id of its specification.
    #[serde(skip)]
    pub(super) spec_id: String,
    /// The job as it ran; the page shows only its settings.
    #[serde(skip)]
    pub(super) job: Value,
    /// Whether it has figures: a run without new documents has none.
    pub(super) measured: bool,
}

/// The location of a table, and who named it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Named {
    pub(super) location: String,
    /// Whether the user named it on the command line; it must exist then.
    pub(super) by_user: bool,
}

/// The scope of the page.
#[derive(Debug)]
pub(super) struct Scope {
    pub(super) location: StoreLocation,
    job: Option<Job>,
    /// The run whose figures are shown; `None` in a store without runs.
    pub(super) run: Option<Run>,
    /// Whether only that run's documents are shown.
    pub(super) only_run: bool,
    /// The types to show; all if empty.
    pub(super) only_types: Vec<String>,
    pub(super) gold: Option<Named>,
    /// The location of the texts, if not the run's input.
    pub(super) documents: Option<String>,
    /// The documents' id and text columns.
    pub(super) columns: (String, String),
}

impl Scope {
    /// Resolves the settings; a job stands for its store and its gold.
    pub(super) fn resolve(settings: &Settings) -> Result<Self> {
        let job = match Path::new(&settings.store) {
            path if path.extension().is_some_and(|end| end == "toml") => Some(Job::read(path, &settings.set)?),
            _ => None,
        };
        let store = job.as_ref().map_or(&settings.store, |job| &job.file.store.path);
        Ok(Self {
            location: StoreLocation::parse(store)?,
            job,
            run: None,
            only_run: settings.run.is_some(),
            only_types: settings.types.clone(),
            gold: None,
            documents: settings.documents.clone(),
            columns: (String::new(), String::new()),
        })
    }

    /// Reads the runs, oldest first, and selects the one whose figures are shown and whose job names gold and texts.
    pub(super) async fn choose_run(&mut self, context: &SessionContext, settings: &Settings) -> Result<Vec<Run>> {
        let runs = runs(context).await?;
        self.run = match &settings.run {
            Some(prefix) => Some(self.run_of(&runs, prefix)?),
            None => last_run(&runs, current_spec(context).await?.as_deref()).cloned(),
        };
        let input = self.run.as_ref().and_then(|run| {
            serde_json::from_value::<InputSection>(run.job.get("input").cloned().unwrap_or_default()).ok()
        });
        let of_job = self.job.as_ref().map(|job| &job.file.input);
        let by_user = |location: &String| Named { location: location.clone(), by_user: true };
        let named = settings.gold.as_ref().or(of_job.and_then(|input| input.gold.as_ref())).map(by_user);
        let of_run = input.as_ref().and_then(|input| input.gold.clone());
        self.gold = named.or(of_run.map(|location| Named { location, by_user: false }));
        let input = of_job.or(input.as_ref());
        let column = |named: &Option<String>, of_job: fn(&InputSection) -> &String, usual: &str| {
            named.as_ref().or(input.map(of_job)).map_or_else(|| usual.to_owned(), Clone::clone)
        };
        self.columns =
            (column(&settings.id, |input| &input.id, "doc_id"), column(&settings.text, |input| &input.text, "text"));
        Ok(runs)
    }

    fn run_of(&self, runs: &[Run], prefix: &str) -> Result<Run> {
        let found: Vec<&Run> = runs.iter().filter(|run| run.id.starts_with(prefix)).collect();
        if let [one] = found.as_slice() {
            return Ok((*one).clone());
        }
        let last: Vec<&str> = runs.iter().rev().take(3).map(|run| run.id.as_str()).collect();
        Err(Error::Setting {
            origin: self.location.to_string(),
            key: "run".into(),
            reason: match found.len() {
                0 => format!("no run has the id `{prefix}`"),
                several => format!("{several} runs have ids that begin with `{prefix}`"),
            },
            hint: if last.is_empty() {
                "the store has no runs".into()
            } else {
                format!("the latest: {}", last.join(", "))
            },
        })
    }

    /// The types with their questions: from the run, else from the job.
    pub(super) fn types(&self) -> Vec<EntityType> {
        let of_run = self.run.as_ref().map(|run| run.job["spec"]["schema"]["type"].clone());
        let of_run: Option<Vec<EntityType>> = of_run.and_then(|types| serde_json::from_value(types).ok());
        of_run.or_else(|| self.job.as_ref().map(|job| job.extraction.schema.types.clone())).unwrap_or_default()
    }

    /// The settings of the run's job as `section.key` and value, without user names and passwords in URLs.
    pub(super) fn settings(&self) -> Vec<(String, String)> {
        let job = self.run.as_ref().map(|run| &run.job);
        let sections = ["input", "entities", "model", "extract", "store"];
        let sections = sections.iter().filter_map(|name| Some((name, job?.get(name)?.as_object()?)));
        let text = |value: &Value| without_login(&value.as_str().map_or_else(|| value.to_string(), str::to_owned));
        sections
            .flat_map(|(name, keys)| keys.iter().map(move |(key, value)| (format!("{name}.{key}"), text(value))))
            .collect()
    }

    /// SQL condition: whether a row belongs to the shown run.
    pub(super) fn of_run(&self) -> String {
        match (&self.run, self.only_run) {
            (Some(run), true) => format!("run_id = {}", literal(&run.id)),
            _ => "true".to_owned(),
        }
    }

    /// SQL condition: whether a mention has one of the shown types.
    pub(super) fn of_types(&self) -> String {
        if self.only_types.is_empty() {
            return "true".to_owned();
        }
        let names: Vec<String> = self.only_types.iter().map(|name| literal(name)).collect();
        format!("entity_type IN ({})", names.join(", "))
    }

    /// Creates the views of the page's mentions, and of all documents, with such mentions or without.
    pub(super) async fn make_views(&self, context: &SessionContext) -> Result<()> {
        let sql = format!(
            "SELECT CAST(doc_id AS varchar) AS doc_id, entity_type, start_char, end_char, text, CAST(score AS double) AS score
             FROM current_entities WHERE {} AND {}",
            self.of_run(),
            self.of_types()
        );
        register(context, MENTIONS, &sql).await?;
        let sql = format!(
            "SELECT CAST(doc_id AS varchar) AS doc_id, source, content_hash, n_chars FROM current_documents WHERE {}",
            self.of_run()
        );
        register(context, ALL_DOCUMENTS, &sql).await
    }

    /// Creates the view of the page's documents. If only some types are shown, these are the documents with mentions of them: predicted or,
    /// if there is a matched table, gold.
    pub(super) async fn choose_documents(&self, context: &SessionContext, matched: bool) -> Result<()> {
        let mentions = if matched { MATCHED } else { MENTIONS };
        let with_mentions = if self.only_types.is_empty() {
            "true".to_owned()
        } else {
            format!("doc_id IN (SELECT doc_id FROM {mentions})")
        };
        register(context, DOCUMENTS, &format!("SELECT * FROM {ALL_DOCUMENTS} WHERE {with_mentions}")).await
    }
}

/// The specification that the views show; `None` in a store without documents.
async fn current_spec(context: &SessionContext) -> Result<Option<String>> {
    let read = query(context, "SELECT spec_id FROM documents ORDER BY commit LIMIT 1").await?;
    Ok(first_row(&read).map(|document| document.get("spec_id")).transpose()?)
}

/// The last run with the current specification, preferably one with figures. While a replacement is unfinished, the views do not show the
/// last run's documents.
fn last_run<'a>(runs: &'a [Run], spec: Option<&str>) -> Option<&'a Run> {
    let own = || runs.iter().rev().filter(move |run| spec.is_none_or(|spec| run.spec_id == spec));
    own().find(|run| run.measured).or(own().next())
}

/// The runs, sorted by start time.
async fn runs(context: &SessionContext) -> Result<Vec<Run>> {
    let sql = "SELECT r.run_id, CAST(date_trunc('second', r.started_at) AS varchar) AS started, r.outcome, r.model, r.precision, r.device,
            r.spec_id, r.counts, r.job, m.id IS NOT NULL AS measured
         FROM runs r LEFT JOIN (SELECT DISTINCT run_id AS id FROM metrics WHERE scope = 'all' AND name = 'documents') m ON r.run_id = m.id
         ORDER BY r.started_at, r.run_id";
    let json = |text: &str| serde_json::from_str(text).unwrap_or_default();
    let run = |row: ResultRow<'_>| {
        Ok(Run {
            id: row.get("run_id")?,
            started_at: row.get("started")?,
            outcome: row.get("outcome")?,
            model: row.get("model")?,
            precision: row.get("precision")?,
            device: row.get("device")?,
            spec_id: row.get("spec_id")?,
            counts: json(row.get("counts")?),
            job: json(row.get("job")?),
            measured: row.get("measured")?,
        })
    };
    result_rows(&query(context, sql).await?).map(run).collect()
}

/// Removes log-ins and signatures from the URLs in a text.
pub(super) fn without_login(text: &str) -> String {
    without_secrets(text).into_owned()
}

/// A text as an SQL literal.
pub(super) fn literal(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passwords_are_removed() {
        assert_eq!(without_login("s3://me:secret@lake/news/*.parquet"), "s3://lake/news/*.parquet");
        assert_eq!(without_login("https://host/a@b.csv"), "https://host/a@b.csv");
        assert_eq!(without_login("lang = 'en@x'"), "lang = 'en@x'");
        let error = "cannot read `https://me:se@cret@host`: at https://host?to=a@b, then s3://you@lake/x";
        assert_eq!(without_login(error), "cannot read `https://host`: at https://host?…, then s3://lake/x");
    }

    #[test]
    fn an_unfinished_replacement_is_not_the_shown_run() {
        let run = |id: &str, spec_id: &str, measured| Run {
            id: id.into(),
            spec_id: spec_id.into(),
            measured,
            ..Run::default()
        };
        let runs = [run("1", "old", true), run("2", "old", false), run("3", "new", true), run("4", "newer", false)];
        let last = |spec| last_run(&runs, spec).map(|run| run.id.as_str());
        assert_eq!([last(Some("old")), last(Some("new")), last(Some("newer"))], [Some("1"), Some("3"), Some("4")]);
        assert_eq!((last(None), last(Some("gone"))), (Some("3"), None));
    }

    #[test]
    fn quotes_in_literals_are_escaped() {
        assert_eq!(literal("O'Neil"), "'O''Neil'");
    }
}
