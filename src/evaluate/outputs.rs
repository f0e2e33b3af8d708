//! The output files of an evaluation. In: a matched table, the documents' texts, the report. Out: Parquet files of errors, documents and
//! scores, and rows of the store's metrics. It must not compute scores.

use std::path::Path;

use datafusion::prelude::SessionContext;
use futures::TryStreamExt as _;
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_writer::ArrowWriterOptions;
use parquet::basic::{Compression, ZstdLevel};
use parquet::file::properties::WriterProperties;

use super::load::Loaded;
use super::report::Report;
use super::tables::{CHANGES, ERRORS, MATCHED, TEXTS};
use crate::error::{Cause, Error, Result};
use crate::machine::files::unfinished;
use crate::query::error_analysis;
use crate::query::statement::count;
use crate::query::statement::plan;
use crate::store::delta_store::Store;
use crate::tables::{Table, metric_rows};

/// Characters of context on each side of an error.
const CONTEXT: usize = 60;

/// Writes `errors.parquet`, `documents.parquet`, `scores.parquet` and, for two systems, `changes.parquet` into `folder`.
pub(super) async fn write(context: &SessionContext, folder: &Path, loaded: &Loaded, report: &Report) -> Result<()> {
    std::fs::create_dir_all(folder).map_err(|source| Error::Write { path: folder.into(), source: source.into() })?;
    // If the ids of all tables are integers, they are written as integers.
    let id = if loaded.integer_ids() { "CAST(doc_id AS bigint)" } else { "doc_id" };
    let own = if loaded.integer_ids() { "CAST(e.doc_id AS bigint)" } else { "e.doc_id" };
    let (before, after, text, join) = if loaded.documents {
        let start = format!("greatest(e.start_char - {CONTEXT}, 0)");
        (
            format!("substr(d.text, {start} + 1, e.start_char - {start})"),
            format!("substr(d.text, e.end_char + 1, {CONTEXT})"),
            "coalesce(e.text, substr(d.text, e.start_char + 1, e.end_char - e.start_char))",
            format!("LEFT JOIN {TEXTS} d ON e.doc_id = d.doc_id"),
        )
    } else {
        let none = "CAST(NULL AS varchar)".to_owned();
        (none.clone(), none, "e.text", String::new())
    };
    let errors = format!(
        "SELECT e.kind, e.reason, {own} AS doc_id, e.entity_type, e.start_char, e.end_char, {text} AS text, e.score, e.nested,
            e.other_type, e.other_start, e.other_end, {before} AS before, {after} AS after
         FROM {ERRORS} e {join} ORDER BY e.doc_id, e.start_char, e.end_char, e.entity_type"
    );
    write_table(context, folder, "errors", &errors).await?;
    write_table(context, folder, "documents", &error_analysis::by_document(MATCHED, id)).await?;
    if report.comparison.is_some() {
        let sql = format!(
            "SELECT change, {id} AS doc_id, entity_type, start_char, end_char, text, score, against_score
             FROM {CHANGES} ORDER BY {CHANGES}.doc_id, start_char, end_char, entity_type"
        );
        write_table(context, folder, "changes", &sql).await?;
    } else {
        // A file of an earlier evaluation would be mistaken for a result of this one.
        let path = folder.join("changes.parquet");
        match std::fs::remove_file(&path) {
            Err(source) if source.kind() != std::io::ErrorKind::NotFound => {
                return Err(Error::Write { path, source: source.into() });
            }
            _ => {}
        }
    }
    let failed = |source: Cause| Error::Engine { doing: "write the scores".into(), source };
    let rows = metric_rows(&report.metric_rows("")).map_err(|source| failed(source.into()))?;
    context.register_batch("figures", rows).map_err(|source| failed(source.into()))?;
    write_table(context, folder, "scores", "SELECT scope, name, value, unit FROM figures").await?;
    if loaded.documents {
        let moved = format!(
            "SELECT count(*) FROM {ERRORS} e JOIN {TEXTS} d ON e.doc_id = d.doc_id
             WHERE e.text IS NOT NULL AND e.text <> substr(d.text, e.start_char + 1, e.end_char - e.start_char)"
        );
        let moved = count(context, &moved).await?;
        if moved > 0 {
            tracing::warn!(
                "the text of {moved} error(s) differs from the document at their offsets: offsets count code points, not bytes, and are half-open"
            );
        }
    }
    tracing::info!("errors, documents and scores are in `{}`", folder.display());
    Ok(())
}

/// Writes the rows of a query as a Parquet file, which appears once it is complete.
async fn write_table(context: &SessionContext, folder: &Path, name: &str, sql: &str) -> Result<()> {
    let path = folder.join(format!("{name}.parquet"));
    let failed = |source: Cause| Error::Write { path: path.clone(), source };
    let mut rows = plan(context, sql).await?.execute_stream().await.map_err(|error| failed(error.into()))?;
    let properties = WriterProperties::builder().set_compression(Compression::ZSTD(ZstdLevel::default())).build();
    // For readers without support for Arrow's string views, write plain strings.
    let options = ArrowWriterOptions::new().with_properties(properties).with_skip_arrow_metadata(true);
    let file = unfinished(&path).map_err(|error| failed(error.into()))?;
    let writer = ArrowWriter::try_new_with_options(file.as_file(), rows.schema(), options);
    let mut writer = writer.map_err(|error| failed(error.into()))?;
    while let Some(batch) = rows.try_next().await.map_err(|error| failed(error.into()))? {
        writer.write(&batch).map_err(|error| failed(error.into()))?;
    }
    writer.close().map_err(|error| failed(error.into()))?;
    file.persist(&path).map_err(|error| failed(error.error.into()))?;
    Ok(())
}

/// Adds the figures to the store's metrics, under their own run id.
pub(super) async fn record(store: &mut Store, report: &Report) -> Result<()> {
    let id = format!("evaluate-{}", uuid::Uuid::now_v7());
    let failed = |source: Cause| Error::Engine { doing: "write the metrics".into(), source };
    let rows = metric_rows(&report.metric_rows(&id)).map_err(|source| failed(source.into()))?;
    store.append(Table::Metrics, &rows, &id).await?;
    tracing::info!("the figures are in the store's metrics as run_id = '{id}'");
    Ok(())
}
