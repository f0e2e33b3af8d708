//! Points of a commit where a test can end the process. In: `QUARRY_FAULT`, such as `before:entities:3` or `after:documents:1`. Out: nothing,
//! or the end of the process. It must not be reached without a commit.

use crate::machine::fault;
use crate::tables::Table;

/// Ends the process if `QUARRY_FAULT` names this point: `before` or `after`, a table, the number of a commit.
pub(crate) fn point(when: &str, table: Table, commit: i64) {
    let place = format!("{}:{commit}", table.name());
    if fault::of(when).as_ref() == Some(&place) {
        fault::end(&place);
    }
}

#[cfg(test)]
mod tests;
