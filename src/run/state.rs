//! The state of one run. In: what the preflight opened and loaded. Out: a value that extraction, commits and metrics share. It must not
//! start work.

use std::sync::Arc;

use datafusion::prelude::SessionContext;

use crate::extract::extractor::Extractor;
use crate::run::known::ledger::Ledger;
use crate::run::settings::RunSettings;
use crate::run::summary::run_summary::RunSummary;
use crate::source::input::Documents;
use crate::store::delta_store::Store;

/// The state of one run.
pub(crate) struct Run {
    pub(crate) context: SessionContext,
    pub(crate) documents: Documents,
    pub(crate) extractor: Arc<Extractor>,
    pub(crate) store: Store,
    pub(crate) ledger: Ledger,
    /// Whether it extracts with a new specification beside the old rows.
    pub(crate) replaces: bool,
    pub(crate) settings: RunSettings,
    /// What its observers see, and the totals of what is committed.
    pub(crate) summary: Arc<RunSummary>,
}

impl Run {
    pub(crate) fn id(&self) -> &str {
        &self.summary.run_id
    }
}
