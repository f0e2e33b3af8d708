//! A run's metrics. In: counters, the clock, gold entities if the job has any. Out: rows of `metrics` and `runs` with scores and peak
//! memory, and the summary table. It must not write them.

use std::time::Duration;

use chrono::Utc;

use crate::console::{duration, rows, short_time, thousands};
use crate::error::{Error, Result};
use crate::extract::extractor::Extractor;
use crate::extract::monitor::Monitor;
use crate::query::external_table::ExternalTable;
use crate::query::mention_table;
use crate::query::scoring::{counts_by, match_once};
use crate::query::session::register_store;
use crate::query::statement::register;
use crate::run::state::Run;
use crate::run::summary::run_summary::RunSummary;
use crate::score::counts::Counts;
use crate::tables::{MetricRow, RunOutcome, RunRow, Table, TypeTotals};

/// One metric: scope, name, value, unit.
type Figure = (String, &'static str, f64, &'static str);

/// All metrics of a run.
pub(crate) struct Figures {
    all: Vec<Figure>,
    by_type: Vec<(String, u64, f64)>,
    quality: Vec<(String, Counts)>,
    elapsed: Duration,
    /// The devices and their precision.
    device: String,
}

impl Run {
    /// Gathers the metrics after the last commit. The second value is the error if the scores could not be computed.
    pub(crate) async fn figures(&mut self) -> (Figures, Result<()>) {
        let mut figures = Figures::gather(&self.extractor, &self.summary, self.documents.unreadable.len());
        let Some(gold) = self.settings.job.file.input.gold.clone() else { return (figures, Ok(())) };
        let scored = self.quality(&gold).await.map(|quality| figures.score(quality));
        (figures, scored)
    }

    /// Strict scores against gold entities, over the store's documents of the run's specification: all types together, then each
    /// type.
    async fn quality(&mut self, gold: &str) -> Result<Vec<(String, Counts)>> {
        register_store(&self.context, &self.store).await?;
        let (context, spec_id) = (&self.context, self.extractor.spec_id());
        let files = ExternalTable { table: "gold_entities", what: "gold mentions", location: gold };
        let columns = mention_table::check(&files, &files.register(context).await?)?;
        // Not the views: during a replacement they show the rows of the old specification.
        let store = ExternalTable { table: "own_entities", what: "mentions", location: "store" };
        let own = mention_table::check(&store, &self.store.schema(Table::Entities))?;
        register(context, store.table, &format!("SELECT * FROM entities WHERE spec_id = '{spec_id}'")).await?;
        let scope = format!("SELECT CAST(doc_id AS varchar) AS scored_id FROM documents WHERE spec_id = '{spec_id}'");
        register(context, mention_table::SCOPE, &scope).await?;
        mention_table::normalize(context, store.table, "predicted_mentions", own, true).await?;
        mention_table::normalize(context, files.table, "gold_mentions", columns, true).await?;
        match_once(context, "matched", "predicted_mentions", "gold_mentions").await?;
        let mut scores = counts_by(context, "matched", "entity_type").await?;
        let all = scores.iter().map(|(_, counts)| *counts).sum();
        scores.insert(0, ("all".into(), all));
        Ok(scores)
    }

    /// The run's row of `runs`, as it is now.
    pub(crate) fn row(&self, outcome: RunOutcome) -> Result<RunRow> {
        let failed = |source: crate::error::Cause| Error::Engine { doing: "write the run's row".into(), source };
        let (totals, spec) = (self.summary.totals(), self.extractor.spec());
        let (device, precision) = self.summary.device(&self.extractor);
        let counts = serde_json::json!({
            "documents": totals.documents,
            "rejects": totals.rejected(),
            "unreadable_files": self.documents.unreadable.len(),
            "mentions": totals.mentions(),
        });
        let versions = serde_json::json!({
            "quarry": env!("CARGO_PKG_VERSION"),
            "onnxruntime": self.extractor.selection().library.version,
            "datafusion": datafusion::DATAFUSION_VERSION,
            "kernels": self.extractor.kernels(),
        });
        let mut job_file = serde_json::to_value(&self.settings.job.file).map_err(|source| failed(source.into()))?;
        job_file["spec"] = serde_json::to_value(spec).map_err(|source| failed(source.into()))?;
        job_file["replace"] = self.replaces.into();
        Ok(RunRow {
            run_id: self.id().to_owned(),
            spec_id: self.extractor.spec_id().to_owned(),
            job: job_file.to_string(),
            model: spec.model.path.display().to_string(),
            model_hash: spec.model.hash.clone(),
            precision,
            device,
            versions: versions.to_string(),
            started_at: self.summary.started_at,
            finished_at: Some(Utc::now()),
            outcome,
            counts: counts.to_string(),
        })
    }
}

impl Figures {
    /// Reads the totals, the counters and the clock.
    pub(crate) fn gather(extractor: &Extractor, summary: &RunSummary, unreadable_files: usize) -> Self {
        let (totals, scorer, elapsed) = (summary.totals(), extractor.scorer().counters(), summary.started.elapsed());
        let get = |counter| Monitor::get(counter) as f64;
        let mut figures: Vec<Figure> = Vec::new();
        let mut add =
            |name: &'static str, value: f64, unit: &'static str| figures.push(("all".into(), name, value, unit));
        let seconds = elapsed.as_secs_f64();
        let (real, padded) = (get(&scorer.real_tokens), get(&scorer.padded_tokens));
        add("documents", totals.documents as f64, "documents");
        add("rejects", totals.rejected() as f64, "documents");
        add("unreadable_files", unreadable_files as f64, "files");
        add("mentions", totals.mentions() as f64, "mentions");
        add("windows", totals.windows as f64, "windows");
        add("queries", totals.queries as f64, "queries");
        add("batches", get(&scorer.batches), "batches");
        add("batches_halved", get(&scorer.halved), "batches");
        add("document_tokens", totals.tokens as f64, "tokens");
        add("real_tokens", real, "tokens");
        add("padded_tokens", padded, "tokens");
        add("padding", if padded > 0.0 { 1.0 - real / padded } else { 0.0 }, "share");
        add("unknown_tokens", totals.unknown as f64, "tokens");
        add("words_cut", totals.words_cut as f64, "words");
        add("prompts_split", totals.split as f64, "windows");
        add("candidates_capped", totals.capped as f64, "candidates");
        add("undecided", totals.undecided as f64, "decisions");
        for (name, spent) in extractor.stages(&summary.monitor) {
            figures.push((format!("stage:{name}"), "seconds", spent, "seconds"));
            figures.push((format!("stage:{name}"), "share", spent / seconds, "share"));
        }
        let mut add =
            |name: &'static str, value: f64, unit: &'static str| figures.push(("all".into(), name, value, unit));
        add("seconds", seconds, "seconds");
        add("documents_per_second", totals.documents as f64 / seconds, "documents/s");
        add("tokens_per_second", real / seconds, "tokens/s");
        if let Some(bytes) = peak_memory() {
            add("peak_memory", bytes, "bytes");
        }
        let mut by_type = Vec::new();
        for one in &extractor.spec().schema.types {
            let TypeTotals { mentions, score } = totals.by_type.get(&one.name).copied().unwrap_or_default();
            let mean = score / (mentions as f64).max(1.0);
            figures.push((one.name.clone(), "mentions", mentions as f64, "mentions"));
            figures.push((one.name.clone(), "mean_score", mean, "probability"));
            by_type.push((one.name.clone(), mentions, mean));
        }
        let (devices, precision) = summary.device(extractor);
        Self { all: figures, by_type, quality: Vec::new(), elapsed, device: format!("{devices}, {precision}") }
    }

    /// Adds the scores against gold entities, by scope.
    fn score(&mut self, quality: Vec<(String, Counts)>) {
        for (scope, counts) in &quality {
            let scores = [("precision", counts.precision()), ("recall", counts.recall()), ("f1", counts.f1())];
            self.all.extend(scores.map(|(name, value)| (scope.clone(), name, value, "share")));
            let numbers = [
                ("true_positives", counts.true_positives),
                ("false_positives", counts.false_positives),
                ("false_negatives", counts.false_negatives),
            ];
            self.all.extend(numbers.map(|(name, value)| (scope.clone(), name, value as f64, "mentions")));
        }
        self.quality = quality;
    }

    /// The rows of `metrics`.
    pub(crate) fn rows(&self, run_id: &str) -> Vec<MetricRow> {
        let row = |(scope, name, value, unit): &Figure| MetricRow {
            run_id: run_id.to_owned(),
            scope: scope.clone(),
            name: (*name).to_owned(),
            value: *value,
            unit: (*unit).to_owned(),
        };
        self.all.iter().map(row).collect()
    }

    fn value(&self, name: &str) -> f64 {
        self.all
            .iter()
            .find(|(scope, figure, ..)| scope == "all" && *figure == name)
            .map_or(0.0, |(_, _, value, _)| *value)
    }

    /// A table of the time spent in each stage.
    pub(crate) fn profile(&self, extractor: &Extractor, monitor: &Monitor) -> String {
        let seconds = self.elapsed.as_secs_f64();
        let stage = |(name, spent): (&str, f64)| {
            let share = format!("{:.1} %", spent / seconds * 100.0);
            (name.to_owned(), format!("{:>9}   {share:>7}", short_time(Duration::from_secs_f64(spent))))
        };
        let stages = extractor.stages(monitor).map(stage).into_iter();
        let head = ("stage (stages overlap)".to_owned(), "     time   of run".to_owned());
        rows(&std::iter::once(head).chain(stages).collect::<Vec<_>>())
    }

    /// The run summary as a table.
    pub(crate) fn summary(&self, tables: &str) -> String {
        let count = |name| thousands(self.value(name) as u64);
        let mut table = vec![("documents".to_owned(), count("documents")), ("mentions".to_owned(), count("mentions"))];
        for (name, mentions, mean) in &self.by_type {
            let score = if *mentions > 0 { format!(" (mean score {mean:.2})") } else { String::new() };
            table.push((format!("  {name}"), thousands(*mentions) + &score));
        }
        table.push(("rejects".into(), count("rejects")));
        if self.value("unreadable_files") > 0.0 {
            table.push(("unreadable files".into(), count("unreadable_files")));
        }
        if self.value("prompts_split") > 0.0 {
            table.push(("windows with split prompts".into(), count("prompts_split")));
        }
        table.push(("time".into(), duration(self.elapsed)));
        table.push((
            "rate".into(),
            format!("{:.1} documents/s, {} tokens/s", self.value("documents_per_second"), count("tokens_per_second")),
        ));
        table.push(("padding".into(), format!("{:.1} %", self.value("padding") * 100.0)));
        for (scope, counts) in &self.quality {
            let scores =
                format!("{:.4} (precision {:.4}, recall {:.4})", counts.f1(), counts.precision(), counts.recall());
            table.push((format!("F1 {scope}"), scores));
        }
        table.push(("device".into(), self.device.clone()));
        table.push(("tables".into(), tables.to_owned()));
        rows(&table)
    }
}

/// Peak memory of this process in bytes, if the kernel reports it; `sysinfo` reports only current memory.
fn peak_memory() -> Option<f64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kilobytes: f64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kilobytes * 1024.0)
}
