//! Where a training stands, for the dashboard. In: history and position. Out: a [`Glance`]. It must not draw.

use std::time::Duration;

use crate::train::display::history::History;
use crate::train::training_loop::checkpoint::Position;

/// What is worth knowing at a glance.
pub(crate) struct Glance {
    /// Of the steps, in 0..=1.
    pub(crate) share: f64,
    /// Until the last step, scorings counted.
    pub(crate) left: Option<Duration>,
    /// The resident memory of this process in bytes.
    pub(crate) memory: u64,
}

impl Glance {
    /// At a training of `steps` steps.
    pub(crate) fn at(history: &History, position: &Position, steps: usize) -> Self {
        let rest = steps.saturating_sub(position.step) as f64;
        Self {
            share: position.step as f64 / steps.max(1) as f64,
            left: history.seconds_per_step().map(|seconds| Duration::from_secs_f64((seconds * rest).min(1e9))),
            memory: resident_memory(),
        }
    }
}

/// Resident pages of this process in bytes, 0 where the system does not say. `sysinfo` would raise the limit of open files to ask for it.
fn resident_memory() -> u64 {
    let pages = std::fs::read_to_string("/proc/self/statm").ok();
    let pages = pages.and_then(|text| text.split_whitespace().nth(1).and_then(|pages| pages.parse::<u64>().ok()));
    pages.unwrap_or(0) * 4096
}
