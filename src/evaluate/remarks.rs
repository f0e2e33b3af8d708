//! Warnings about the inputs of an evaluation. In: the loaded tables. Out: warnings about ignored rows, ids of different types and
//! documents without gold. It must not stop the evaluation.

use datafusion::prelude::SessionContext;

use super::inputs::Inputs;
use super::load::Loaded;
use super::tables::{GOLD, PREDICTED};
use crate::console::thousands;
use crate::error::Result;
use crate::query::statement::count;

/// Prints the warnings.
pub(super) async fn print(context: &SessionContext, inputs: &Inputs, loaded: &Loaded) -> Result<()> {
    for side in loaded.sides() {
        for (rows, reason) in side.tally.left_out() {
            tracing::warn!("`{}`: {} row(s) {reason} are ignored", side.location, thousands(rows as u64));
        }
    }
    for side in std::iter::once(&loaded.predicted).chain(&loaded.against) {
        if side.columns.integer_ids != loaded.gold.columns.integer_ids {
            let kind = |integers| if integers { "integers" } else { "strings" };
            tracing::warn!(
                "ids are {} in `{}` and {} in `{}`: they are compared as text",
                kind(side.columns.integer_ids),
                side.location,
                kind(loaded.gold.columns.integer_ids),
                loaded.gold.location
            );
        }
    }
    let shared = format!("SELECT count(DISTINCT doc_id) FROM {PREDICTED} WHERE doc_id IN (SELECT doc_id FROM {GOLD})");
    let without =
        format!("SELECT count(DISTINCT doc_id) FROM {PREDICTED} WHERE doc_id NOT IN (SELECT doc_id FROM {GOLD})");
    let (predicted, gold) = (loaded.predicted.tally.mentions, loaded.gold.tally.mentions);
    if predicted > 0 && gold > 0 && count(context, &shared).await? == 0 {
        tracing::warn!("no document has both predicted and gold mentions: are the ids the same in both tables?");
    } else if gold > 0 && !inputs.names_documents() {
        let without = count(context, &without).await?;
        if without > 0 {
            tracing::info!(
                "{} document(s) have predicted but no gold mentions; to score only the annotated documents, name them with --documents",
                thousands(without as u64)
            );
        }
    }
    Ok(())
}
