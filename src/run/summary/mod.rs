//! What a run reports. In: counters, the clock. Out: the closing table, JSON, metrics, Prometheus' text format. It must not measure.
//!
//! | file | what |
//! |---|---|
//! | `figures` | counters → rows of `metrics` and `runs`, the closing table |
//! | `run_summary` | the end of a run for programs: JSON, a trace span |
//! | `prometheus` | Prometheus' text format |

pub(crate) mod figures;
pub(crate) mod prometheus;
pub(crate) mod run_summary;
