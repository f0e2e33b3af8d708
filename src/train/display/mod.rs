//! Training progress on screen and on disk. In: the figures of steps and scorings. Out: metrics, a dashboard or log lines, and curves as
//! a picture. It must not influence the training.
//!
//! | file | content |
//! |---|---|
//! | [`history`] | metrics of steps and scorings |
//! | [`curves`] | the metrics as `curves.svg` |
//! | `glance` | progress and resource use |
//! | `dashboard` | the metrics in a terminal |
//! | [`screen`] | dashboard or log lines |

pub mod curves;
pub(crate) mod dashboard;
pub(crate) mod glance;
pub mod history;
pub mod screen;
