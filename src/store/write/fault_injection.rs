//! Points where a test can end the process. In: `QUARRY_FAULT`, such as `before:entities:3` or `after:documents:1`. Out: nothing, or
//! the end of the process as with `kill -9`. It must not do anything in programs built without debug assertions.

use crate::tables::Table;

/// The variable that names one point: `before` or `after`, a table, the number of a commit.
const VARIABLE: &str = "QUARRY_FAULT";

/// Ends the process if [`VARIABLE`] names this point.
pub(crate) fn point(when: &str, table: Table, commit: i64) {
    if cfg!(debug_assertions)
        && let Ok(place) = std::env::var(VARIABLE)
        && place == format!("{when}:{}:{commit}", table.name())
    {
        tracing::error!(place, "the process ends here, as {VARIABLE} asks");
        std::process::abort();
    }
}

#[cfg(test)]
mod tests;
