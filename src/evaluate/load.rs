//! Inputs → views in the session. In: tables of mentions, stores, documents with their texts. Out: views of the valid mentions in scope,
//! and the number of ignored rows of each table. It must not score.

use datafusion::prelude::SessionContext;

use super::inputs::{Documents, Inputs, Side};
use super::tables::{AGAINST, GOLD, PREDICTED, TEXTS};
use crate::error::{Error, Result};
use crate::query::external_table::{ExternalTable, Kind};
use crate::query::mention_table::{Columns, SCOPE, Tally, check, normalize, tally};
use crate::query::session::register_store_as;
use crate::query::statement::{count, keep, register};
use crate::tables::Table;

/// A table of mentions loaded into the session.
#[derive(Debug, Clone)]
pub(super) struct LoadedSide {
    pub(super) location: String,
    pub(super) tally: Tally,
    pub(super) columns: Columns,
}

/// All inputs loaded into the session.
#[derive(Debug, Clone)]
pub(super) struct Loaded {
    pub(super) predicted: LoadedSide,
    pub(super) gold: LoadedSide,
    pub(super) against: Option<LoadedSide>,
    /// Whether the texts of documents are available.
    pub(super) documents: bool,
    /// The number of scored documents.
    pub(super) scored: usize,
}

impl Loaded {
    /// The tables of mentions: predicted, gold, and the other system's if there is one.
    pub(super) fn sides(&self) -> impl Iterator<Item = &LoadedSide> {
        [Some(&self.predicted), Some(&self.gold), self.against.as_ref()].into_iter().flatten()
    }

    /// Whether every table's ids are integers.
    pub(super) fn integer_ids(&self) -> bool {
        self.sides().all(|side| side.columns.integer_ids)
    }
}

impl Inputs {
    /// Creates the views of valid mentions in scope.
    pub(super) async fn load(&self, context: &SessionContext) -> Result<Loaded> {
        let mut sides = vec![(&self.predicted, PREDICTED), (&self.gold, GOLD)];
        sides.extend(self.against.as_ref().map(|side| (side, AGAINST)));
        let mut scopes = Vec::new();
        let mut documents = false;
        if let Some(named) = &self.documents {
            match named.register(context, &mut scopes).await {
                Ok(()) => documents = true,
                // A job's documents only provide context for errors; they can be missing.
                Err(cause) if !named.only && self.reference_model.is_none() => {
                    tracing::info!("errors are written without context: {cause}");
                }
                Err(cause) => return Err(cause),
            }
        }
        let (loaded, scored) = load_sides(context, &sides, scopes).await?;
        let mut loaded = loaded.into_iter();
        let (Some(predicted), Some(gold)) = (loaded.next(), loaded.next()) else {
            return Err(Error::Engine { doing: "load the mentions".into(), source: "a table is missing".into() });
        };
        Ok(Loaded { predicted, gold, against: loaded.next(), documents, scored })
    }
}

/// Creates the view of each side, of the valid mentions in scope, and counts the scored documents. Only documents of all `scopes` and of every
/// store are in scope.
pub(super) async fn load_sides(
    context: &SessionContext,
    sides: &[(&Side, &str)],
    mut scopes: Vec<String>,
) -> Result<(Vec<LoadedSide>, usize)> {
    let mut registered = Vec::new();
    for &(side, view) in sides {
        registered.push((side, view, side.register(context, view, &mut scopes).await?));
    }
    if !scopes.is_empty() {
        let each: Vec<String> = scopes.iter().map(|scope| format!("SELECT doc_id FROM {scope}")).collect();
        keep(context, SCOPE, &format!("SELECT DISTINCT doc_id AS scored_id FROM ({})", each.join(" INTERSECT ")))
            .await?;
    }
    let limited = !scopes.is_empty();
    let mut loaded = Vec::new();
    for (side, view, columns) in registered {
        normalize(context, &raw(view), view, columns, limited).await?;
        let tally = tally(context, &raw(view), limited).await?;
        loaded.push(LoadedSide { location: side.location.clone(), tally, columns });
    }
    let scored = if limited {
        count(context, &format!("SELECT count(*) FROM {SCOPE}")).await?
    } else {
        let each: Vec<String> = sides.iter().map(|(_, view)| format!("SELECT doc_id FROM {view}")).collect();
        count(context, &format!("SELECT count(DISTINCT doc_id) FROM ({})", each.join(" UNION ALL "))).await?
    };
    Ok((loaded, scored))
}

impl Side {
    /// Registers the raw mentions, and a store's documents as one of the scopes.
    async fn register(&self, context: &SessionContext, view: &str, scopes: &mut Vec<String>) -> Result<Columns> {
        let raw = raw(view);
        let files = ExternalTable { table: &raw, what: self.what, location: &self.location };
        if let Some(rows) = &self.rows {
            let failed = |source: datafusion::error::DataFusionError| Error::Engine {
                doing: "register a model's mentions".into(),
                source: source.into(),
            };
            context.register_batch(&raw, rows.clone()).map_err(failed)?;
            return check(&files, &rows.schema());
        }
        let Some(store) = &self.store else {
            let schema = files.register(context).await?;
            return check(&files, &schema);
        };
        let prefix = format!("{view}_");
        register_store_as(context, store, &prefix).await?;
        register(context, &raw, &format!("SELECT * FROM {prefix}current_entities")).await?;
        let scope = format!("documents_of_{view}");
        let ids = format!("SELECT CAST(doc_id AS varchar) AS doc_id FROM {prefix}current_documents");
        register(context, &scope, &ids).await?;
        scopes.push(scope);
        check(&files, &store.schema(Table::Entities))
    }
}

impl Documents {
    /// Creates the view of texts, and registers the documents as one of the scopes if only they are scored.
    pub(super) async fn register(&self, context: &SessionContext, scopes: &mut Vec<String>) -> Result<()> {
        let files = ExternalTable { table: "raw_documents", what: "documents", location: &self.location };
        let schema = files.register_with_strings(context, &[&self.id, &self.text]).await?;
        let hint = "name the columns with --id and --text";
        files.expect(&schema, &self.id, Kind::Id, hint)?;
        files.expect(&schema, &self.text, Kind::Text, hint)?;
        let quoted = |name: &str| format!("\"{}\"", name.replace('"', "\"\""));
        let rows = format!(
            "SELECT CAST({} AS varchar) AS doc_id, {} AS text FROM raw_documents WHERE {} IS NOT NULL",
            quoted(&self.id),
            quoted(&self.text),
            quoted(&self.id)
        );
        let repeated = count(context, &format!("SELECT count(*) - count(DISTINCT doc_id) FROM ({rows})")).await?;
        if repeated > 0 {
            tracing::warn!(
                "`{}`: {repeated} row(s) have the id of another row; the alphabetically first text is used",
                self.location
            );
            register(context, TEXTS, &format!("SELECT doc_id, min(text) AS text FROM ({rows}) GROUP BY doc_id"))
                .await?;
        } else {
            register(context, TEXTS, &rows).await?;
        }
        if self.only {
            register(context, "documents_named", &format!("SELECT doc_id FROM ({rows})")).await?;
            scopes.push("documents_named".to_owned());
        }
        Ok(())
    }
}

fn raw(view: &str) -> String {
    format!("raw_{view}")
}
