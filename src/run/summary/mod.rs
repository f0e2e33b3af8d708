//! The results of a run. In: counters, the clock. Out: the run summary as a table and as JSON, metrics, Prometheus' text format. It must
//! not change how the run ends.
//!
//! | file | contents |
//! |---|---|
//! | `figures` | counters → rows of `metrics` and `runs`, the summary table |
//! | `run_summary` | the run summary for programs: JSON, a trace span |
//! | `prometheus` | Prometheus' text format |

pub(crate) mod figures;
pub(crate) mod prometheus;
pub(crate) mod run_summary;
