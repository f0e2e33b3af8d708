//! Rows that nothing is learned from. In: the tables of a split, as they are in the session. Out: warnings that say how many rows do not
//! count, why, and name one. It may not stop anything.

use datafusion::prelude::SessionContext;

use crate::console;
use crate::console::thousands;
use crate::error::Result;
use crate::query::external_table::ExternalTable;
use crate::query::mention_table::{no_mention, tally};
use crate::query::statement::{i64_row, query, string_column};

/// Characters of a text that stand for a document without an id.
const SHOWN: usize = 40;

/// Warns of documents without an id or a text; `id` and `text` are their columns, as SQL names them.
pub(crate) async fn documents(
    context: &SessionContext,
    documents: &ExternalTable<'_>,
    id: &str,
    text: &str,
) -> Result<()> {
    let named = format!("coalesce(CAST({id} AS varchar), substr(CAST({text} AS varchar), 1, {SHOWN}))");
    let rest = format!("FROM {} WHERE {id} IS NULL OR {text} IS NULL", documents.table);
    let rows = i64_row(&query(context, &format!("SELECT count(*) {rest}")).await?)?.first().copied().unwrap_or(0);
    if rows == 0 {
        return Ok(());
    }
    let mut such = String::new();
    for batch in query(context, &format!("SELECT min({named}) {rest}")).await? {
        // Neither an id nor a text: there is nothing to name it by.
        for name in string_column(&batch, 0)?.iter().filter(|name| !name.is_empty()) {
            such = format!(", such as `{name}`");
        }
    }
    let (location, rows) = (documents.location, thousands(rows as u64));
    console::warn(&format!("`{location}`: {rows} row(s) without an id or a text are left out{such}"));
    Ok(())
}

/// Warns of rows of gold that are no mentions, or that repeat another.
pub(crate) async fn gold(context: &SessionContext, gold: &ExternalTable<'_>) -> Result<()> {
    let kinds: Vec<String> = tally(context, gold.table, false)
        .await?
        .left_out()
        .map(|(rows, why)| format!("{} row(s) {why}", thousands(rows as u64)))
        .collect();
    if kinds.is_empty() {
        return Ok(());
    }
    let such = no_mention(context, gold.table).await?.map_or_else(String::new, |row| format!(", such as {row}"));
    console::warn(&format!("`{}`: {} do not count{such}", gold.location, kinds.join(", ")));
    Ok(())
}
