//! Training progress for the dashboard. In: history and position. Out: a [`Glance`]. It must not draw.

use std::time::Duration;

use crate::train::display::history::History;
use crate::train::state::checkpoint::Position;

/// Progress and resource use.
pub(crate) struct Glance {
    /// The fraction of steps done, in 0..=1.
    pub(crate) share: f64,
    /// The estimated time to the last step, scorings included.
    pub(crate) left: Option<Duration>,
    /// The resident memory of this process in bytes.
    pub(crate) memory: u64,
}

impl Glance {
    /// The progress of a training of `steps` steps.
    pub(crate) fn at(history: &History, position: &Position, steps: usize) -> Self {
        let rest = steps.saturating_sub(position.step) as f64;
        Self {
            share: position.step as f64 / steps.max(1) as f64,
            left: history.seconds_per_step().map(|seconds| Duration::from_secs_f64((seconds * rest).min(1e9))),
            memory: resident_memory(),
        }
    }
}

/// The resident memory of this process in bytes; 0 if the system does not report it. (`sysinfo` would raise the limit of open files for
/// this.)
fn resident_memory() -> u64 {
    let pages = std::fs::read_to_string("/proc/self/statm").ok();
    let pages = pages.and_then(|text| text.split_whitespace().nth(1).and_then(|pages| pages.parse::<u64>().ok()));
    pages.unwrap_or(0) * 4096
}
