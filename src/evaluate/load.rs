//! Inputs → views in the session. In: tables of mentions, stores, documents with their texts. Out: views of the mentions that count, and
//! how many rows of each table do not. It may not score.

use datafusion::prelude::SessionContext;

use super::inputs::{Documents, Inputs, Side};
use super::tables::{AGAINST, GOLD, PREDICTED, TEXTS};
use crate::console;
use crate::error::{Error, Result};
use crate::query::external_table::{ExternalTable, Kind};
use crate::query::mention_table::{Columns, SCOPE, Tally, check, normalize, tally};
use crate::query::scoring::count;
use crate::query::session::register_store_as;
use crate::query::statement::{keep, register};
use crate::tables::Table;

/// A side as it is in the session.
#[derive(Debug, Clone)]
pub(super) struct LoadedSide {
    pub(super) location: String,
    pub(super) tally: Tally,
    pub(super) columns: Columns,
}

/// Everything as it is in the session.
#[derive(Debug, Clone)]
pub(super) struct Loaded {
    pub(super) predicted: LoadedSide,
    pub(super) gold: LoadedSide,
    pub(super) against: Option<LoadedSide>,
    /// Whether there are texts.
    pub(super) documents: bool,
    /// How many documents are scored.
    pub(super) scored: usize,
}

impl Loaded {
    /// The tables of mentions: predicted, gold, and perhaps the other system's.
    pub(super) fn sides(&self) -> impl Iterator<Item = &LoadedSide> {
        [Some(&self.predicted), Some(&self.gold), self.against.as_ref()].into_iter().flatten()
    }

    /// Whether every table's ids are integers.
    pub(super) fn integer_ids(&self) -> bool {
        self.sides().all(|side| side.columns.integer_ids)
    }
}

impl Inputs {
    /// Makes the views of mentions that count.
    pub(super) async fn load(&self, context: &SessionContext) -> Result<Loaded> {
        let mut lists = Vec::new();
        let mut sides = Vec::new();
        let all = [(Some(&self.predicted), PREDICTED), (Some(&self.gold), GOLD), (self.against.as_ref(), AGAINST)];
        for (side, view) in all {
            if let Some(side) = side {
                sides.push((side, view, side.attach(context, view, &mut lists).await?));
            }
        }
        let mut documents = false;
        if let Some(named) = &self.documents {
            match named.attach(context, &mut lists).await {
                Ok(()) => documents = true,
                // A job's documents only give context; they may be gone.
                Err(cause) if !named.only && self.asked.is_none() => {
                    console::note(&format!("errors are shown without their context: {cause}"));
                }
                Err(cause) => return Err(cause),
            }
        }
        if !lists.is_empty() {
            let each: Vec<String> = lists.iter().map(|scope| format!("SELECT doc_id FROM {scope}")).collect();
            keep(context, SCOPE, &format!("SELECT DISTINCT doc_id AS scored_id FROM ({})", each.join(" INTERSECT ")))
                .await?;
        }
        let limited = !lists.is_empty();
        let mut loaded = Vec::new();
        for (side, view, columns) in sides {
            normalize(context, &raw(view), view, columns, limited).await?;
            let tally = tally(context, &raw(view), limited).await?;
            loaded.push(LoadedSide { location: side.location.clone(), tally, columns });
        }
        let scored = if limited {
            count(context, &format!("SELECT count(*) FROM {SCOPE}")).await?
        } else {
            let views = [PREDICTED, GOLD, AGAINST].into_iter().take(loaded.len());
            let each: Vec<String> = views.map(|view| format!("SELECT doc_id FROM {view}")).collect();
            count(context, &format!("SELECT count(DISTINCT doc_id) FROM ({})", each.join(" UNION ALL "))).await?
        };
        let mut loaded = loaded.into_iter();
        let (Some(predicted), Some(gold)) = (loaded.next(), loaded.next()) else {
            return Err(Error::Engine { doing: "load the mentions".into(), source: "a table is missing".into() });
        };
        Ok(Loaded { predicted, gold, against: loaded.next(), documents, scored })
    }
}

impl Side {
    /// Registers the mentions as they are, and a store's documents as a part of the scope.
    async fn attach(&self, context: &SessionContext, view: &str, lists: &mut Vec<String>) -> Result<Columns> {
        let raw = raw(view);
        let files = ExternalTable { table: &raw, what: self.what, location: &self.location };
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
        lists.push(scope);
        check(&files, &store.schema(Table::Entities))
    }
}

impl Documents {
    /// Makes the view of texts, and of the documents as a part of the scope where only they are scored.
    async fn attach(&self, context: &SessionContext, lists: &mut Vec<String>) -> Result<()> {
        let files = ExternalTable { table: "raw_documents", what: "documents", location: &self.location };
        let schema = files.register(context).await?;
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
            console::warn(&format!(
                "`{}`: {repeated} row(s) repeat the id of another; the first text by its letters is shown",
                self.location
            ));
            register(context, TEXTS, &format!("SELECT doc_id, min(text) AS text FROM ({rows}) GROUP BY doc_id"))
                .await?;
        } else {
            register(context, TEXTS, &rows).await?;
        }
        if self.only {
            register(context, "documents_named", &format!("SELECT doc_id FROM ({rows})")).await?;
            lists.push("documents_named".to_owned());
        }
        Ok(())
    }
}

fn raw(view: &str) -> String {
    format!("raw_{view}")
}
