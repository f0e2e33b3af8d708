//! Warnings about ignored rows. In: the tables of a split, registered in the session. Out: warnings with the number of ignored rows, the
//! reasons and an example. It must not stop the training.

use datafusion::prelude::SessionContext;

use crate::console::thousands;
use crate::error::Result;
use crate::query::external_table::ExternalTable;
use crate::query::mention_table::{no_mention, tally};
use crate::query::statement::{count, query};
use crate::tables::result_row::scalar;

/// The number of characters of the text that identify a document without an id.
const EXCERPT: usize = 40;

/// Warns about documents without an id or a text; `id` and `text` are the quoted names of their columns.
pub(crate) async fn documents(
    context: &SessionContext,
    documents: &ExternalTable<'_>,
    id: &str,
    text: &str,
) -> Result<()> {
    let name = format!("coalesce(CAST({id} AS varchar), substr(CAST({text} AS varchar), 1, {EXCERPT}))");
    let rest = format!("FROM {} WHERE {id} IS NULL OR {text} IS NULL", documents.table);
    let rows = count(context, &format!("SELECT count(*) {rest}")).await?;
    if rows == 0 {
        return Ok(());
    }
    // A row with neither an id nor a text cannot be identified.
    let example: Option<String> = scalar(&query(context, &format!("SELECT min({name}) {rest}")).await?)?;
    let example = example.filter(|name| !name.is_empty());
    let example = example.map_or_else(String::new, |name| format!(", such as `{name}`"));
    let (location, rows) = (documents.location, thousands(rows as u64));
    tracing::warn!("`{location}`: {rows} row(s) without an id or a text are skipped{example}");
    Ok(())
}

/// Warns about rows of gold that are invalid or duplicates.
pub(crate) async fn gold(context: &SessionContext, gold: &ExternalTable<'_>) -> Result<()> {
    let reasons: Vec<String> = tally(context, gold.table, false)
        .await?
        .left_out()
        .map(|(rows, why)| format!("{} row(s) {why}", thousands(rows as u64)))
        .collect();
    if reasons.is_empty() {
        return Ok(());
    }
    let example = no_mention(context, gold.table).await?.map_or_else(String::new, |row| format!(", such as {row}"));
    tracing::warn!("`{}`: {} are ignored{example}", gold.location, reasons.join(", "));
    Ok(())
}
