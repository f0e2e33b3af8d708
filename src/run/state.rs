//! The state of one run. In: what was opened and loaded. Out: a value that extraction, commits and metrics share. It must not act.

use std::sync::Arc;
use std::time::Instant;

use chrono::{DateTime, Utc};
use datafusion::prelude::SessionContext;

use crate::cli::RunArgs;
use crate::extract::marks::Marks;
use crate::job::Ready;
use crate::run::known::ledger::Ledger;
use crate::source::input::Documents;
use crate::store::delta_store::Store;

/// The state of one run.
pub(crate) struct Run {
    pub(crate) id: String,
    pub(crate) started_at: DateTime<Utc>,
    pub(crate) started: Instant,
    pub(crate) context: SessionContext,
    pub(crate) documents: Documents,
    pub(crate) ready: Ready,
    /// The counters as of the last commit.
    pub(crate) marks: Arc<Marks>,
    pub(crate) store: Store,
    pub(crate) ledger: Ledger,
    /// Whether it extracts with a new specification beside the old rows.
    pub(crate) replaces: bool,
    pub(crate) arguments: RunArgs,
}
