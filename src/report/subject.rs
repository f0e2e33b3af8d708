//! What the page is about. In: the arguments, the store's runs. Out: the run whose figures count, views of its mentions and documents,
//! and where gold and texts are to be found. It may not read either.

use std::path::Path;

use datafusion::prelude::SessionContext;
use serde::Serialize;
use serde_json::Value;

use super::{DOCUMENTS, MENTIONS};
use crate::cli::ReportArgs;
use crate::engine::location::StoreLocation;
use crate::engine::query::{query, register, words};
use crate::error::{Error, Result};
use crate::job::Job;
use crate::job::file::InputSection;
use crate::mrc::query::EntityType;

/// A run, as `runs` has it.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub(super) struct Run {
    pub(super) id: String,
    pub(super) started_at: String,
    /// Empty where the run could not write its end.
    pub(super) finished_at: String,
    pub(super) outcome: String,
    pub(super) model: String,
    pub(super) flavour: String,
    pub(super) device: String,
    pub(super) versions: Value,
    pub(super) counts: Value,
    /// The job as it ran; the page shows its settings only.
    #[serde(skip)]
    pub(super) job: Value,
    /// Whether it left figures: a run that found nothing new has none.
    pub(super) measured: bool,
}

/// Where a table is, and who said so.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Named {
    pub(super) location: String,
    /// Whether the user named it just now: then it must be there.
    pub(super) by_user: bool,
}

/// What the page is about.
#[derive(Debug)]
pub(super) struct Subject {
    pub(super) location: StoreLocation,
    job: Option<Job>,
    /// The run whose figures are shown; `None` in a store without runs.
    pub(super) run: Option<Run>,
    /// Whether only that run's documents are shown.
    pub(super) only_run: bool,
    /// Whether only some types are shown.
    pub(super) only_types: bool,
    pub(super) gold: Option<Named>,
    /// Where the texts are, if not where the run found them.
    pub(super) documents: Option<String>,
    /// The documents' id and text columns.
    pub(super) columns: (String, String),
}

impl Subject {
    /// Understands the arguments; a job stands for its store and its gold.
    pub(super) fn resolve(arguments: &ReportArgs) -> Result<Self> {
        let job = match Path::new(&arguments.store) {
            path if path.extension().is_some_and(|end| end == "toml") => Some(Job::read(path, &arguments.set)?),
            _ => None,
        };
        let store = job.as_ref().map_or(&arguments.store, |job| &job.file.store.path);
        Ok(Self {
            location: StoreLocation::parse(store)?,
            job,
            run: None,
            only_run: arguments.run.is_some(),
            only_types: !arguments.types.is_empty(),
            gold: None,
            documents: arguments.documents.clone(),
            columns: (String::new(), String::new()),
        })
    }

    /// Reads the runs, the first first, and decides whose figures are shown and what its job says of gold and texts.
    pub(super) async fn choose_run(&mut self, context: &SessionContext, arguments: &ReportArgs) -> Result<Vec<Run>> {
        let runs = runs(context).await?;
        self.run = match &arguments.run {
            Some(beginning) => Some(self.run_of(&runs, beginning)?),
            None => runs.iter().rev().find(|run| run.measured).or(runs.last()).cloned(),
        };
        let input = self.run.as_ref().and_then(|run| {
            serde_json::from_value::<InputSection>(run.job.get("input").cloned().unwrap_or_default()).ok()
        });
        let of_job = self.job.as_ref().map(|job| &job.file.input);
        let by_user = |location: &String| Named { location: location.clone(), by_user: true };
        let named = arguments.gold.as_ref().or(of_job.and_then(|input| input.gold.as_ref())).map(by_user);
        let of_run = input.as_ref().and_then(|input| input.gold.clone());
        self.gold = named.or(of_run.map(|location| Named { location, by_user: false }));
        let input = of_job.or(input.as_ref());
        let column = |named: &Option<String>, of_job: fn(&InputSection) -> &String, usual: &str| {
            named.as_ref().or(input.map(of_job)).map_or_else(|| usual.to_owned(), Clone::clone)
        };
        self.columns =
            (column(&arguments.id, |input| &input.id, "doc_id"), column(&arguments.text, |input| &input.text, "text"));
        Ok(runs)
    }

    fn run_of(&self, runs: &[Run], beginning: &str) -> Result<Run> {
        let found: Vec<&Run> = runs.iter().filter(|run| run.id.starts_with(beginning)).collect();
        if let [one] = found.as_slice() {
            return Ok((*one).clone());
        }
        let last: Vec<&str> = runs.iter().rev().take(3).map(|run| run.id.as_str()).collect();
        Err(Error::Setting {
            origin: self.location.to_string(),
            key: "run".into(),
            reason: match found.len() {
                0 => format!("no run has the id `{beginning}`"),
                several => format!("{several} runs have ids that begin with `{beginning}`"),
            },
            hint: if last.is_empty() {
                "the store has no runs".into()
            } else {
                format!("the last: {}", last.join(", "))
            },
        })
    }

    /// The types that were asked for, with their questions: as the run says, else as the job does.
    pub(super) fn types(&self) -> Vec<EntityType> {
        let of_run = self.run.as_ref().map(|run| run.job["spec"]["types"].clone());
        let of_run: Option<Vec<EntityType>> = of_run.and_then(|types| serde_json::from_value(types).ok());
        of_run.or_else(|| self.job.as_ref().map(|job| job.schema.types.clone())).unwrap_or_default()
    }

    /// What the run's job says, as `section.key` and value; names and passwords in URLs are left out.
    pub(super) fn settings(&self) -> Vec<(String, String)> {
        let job = self.run.as_ref().map(|run| &run.job);
        let sections = ["input", "entities", "model", "extract", "store"];
        let sections = sections.iter().filter_map(|name| Some((name, job?.get(name)?.as_object()?)));
        let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), without_login);
        sections
            .flat_map(|(name, keys)| keys.iter().map(move |(key, value)| (format!("{name}.{key}"), text(value))))
            .collect()
    }

    /// Makes the views of mentions and documents that the page shows.
    pub(super) async fn make_views(&self, context: &SessionContext, arguments: &ReportArgs) -> Result<()> {
        let of_run = match (&self.run, self.only_run) {
            (Some(run), true) => format!("run_id = {}", literal(&run.id)),
            _ => "true".to_owned(),
        };
        let names: Vec<String> = arguments.types.iter().map(|name| literal(name)).collect();
        let of_types = if names.is_empty() { "true".into() } else { format!("entity_type IN ({})", names.join(", ")) };
        let sql = format!(
            "SELECT CAST(doc_id AS varchar) AS doc_id, entity_type, start_char, end_char, text, CAST(score AS double) AS score
             FROM current_entities WHERE {of_run} AND {of_types}"
        );
        register(context, MENTIONS, &sql).await?;
        let with_mentions = if names.is_empty() {
            String::new()
        } else {
            format!("AND CAST(doc_id AS varchar) IN (SELECT doc_id FROM {MENTIONS})")
        };
        let sql = format!(
            "SELECT CAST(doc_id AS varchar) AS doc_id, source, content_hash, n_chars, n_tokens
             FROM current_documents WHERE {of_run} {with_mentions}"
        );
        register(context, DOCUMENTS, &sql).await
    }
}

/// The runs in the order of their beginnings.
async fn runs(context: &SessionContext) -> Result<Vec<Run>> {
    let moment = |column: &str| format!("CAST(date_trunc('second', r.{column}) AS varchar)");
    let sql = format!(
        "SELECT r.run_id, {}, {}, r.outcome, r.model, r.flavour, r.device, r.versions, r.counts, r.job, CAST(m.id IS NOT NULL AS varchar)
         FROM runs r LEFT JOIN (SELECT DISTINCT run_id AS id FROM metrics WHERE scope = 'all' AND name = 'documents') m ON r.run_id = m.id
         ORDER BY r.started_at, r.run_id",
        moment("started_at"),
        moment("finished_at")
    );
    let mut runs = Vec::new();
    for batch in &query(context, &sql).await? {
        let columns: Vec<Vec<String>> =
            (0..batch.num_columns()).map(|column| words(batch, column)).collect::<Result<_>>()?;
        let json = |column: usize, row: usize| serde_json::from_str(&columns[column][row]).unwrap_or_default();
        let text = |column: usize, row: usize| columns[column][row].clone();
        runs.extend((0..batch.num_rows()).map(|row| Run {
            id: text(0, row),
            started_at: text(1, row),
            finished_at: text(2, row),
            outcome: text(3, row),
            model: text(4, row),
            flavour: text(5, row),
            device: text(6, row),
            versions: json(7, row),
            counts: json(8, row),
            job: json(9, row),
            measured: columns[10][row] == "true",
        }));
    }
    Ok(runs)
}

/// A URL without the name and the password that may stand before its host; any other text as it is.
fn without_login(text: &str) -> String {
    let Some((scheme, rest)) = text.split_once("://") else { return text.to_owned() };
    let host = rest.split('/').next().unwrap_or_default();
    host.rfind('@').map_or_else(|| text.to_owned(), |at| format!("{scheme}://{}", &rest[at + 1..]))
}

/// A text as SQL writes it.
pub(super) fn literal(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_keeps_no_password() {
        assert_eq!(without_login("s3://me:secret@lake/news/*.parquet"), "s3://lake/news/*.parquet");
        assert_eq!(without_login("https://host/a@b.csv"), "https://host/a@b.csv");
        assert_eq!(without_login("lang = 'en@x'"), "lang = 'en@x'");
    }

    #[test]
    fn a_quote_ends_no_literal() {
        assert_eq!(literal("O'Neil"), "'O''Neil'");
    }
}
