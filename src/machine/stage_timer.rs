//! Time spent in a stage of the work. In: pieces of work, on any thread. Out: their time, all threads together. It may not slow the
//! work: a stage is one atomic.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tracing::Span;

/// Time spent in a stage, all threads together.
#[derive(Debug, Default)]
pub struct StageTimer(AtomicU64);

impl StageTimer {
    /// Adds a stretch of time.
    pub fn add(&self, spent: Duration) {
        self.0.fetch_add(u64::try_from(spent.as_nanos()).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    /// Does a piece of the stage's work: its time is added, and `span` shows it in a profile.
    pub fn work<T>(&self, span: &Span, work: impl FnOnce() -> T) -> T {
        let started = Instant::now();
        let result = span.in_scope(work);
        self.add(started.elapsed());
        result
    }

    /// The time so far, in seconds.
    pub fn seconds(&self) -> f64 {
        self.0.load(Ordering::Relaxed) as f64 / 1e9
    }

    /// Forgets the time so far.
    pub fn clear(&self) {
        self.0.store(0, Ordering::Relaxed);
    }
}
