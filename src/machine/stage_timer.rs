//! Time spent in a stage. In: closures, on any thread. Out: their total time over all threads. It must not slow the work down:
//! a stage is one atomic counter.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tracing::Span;

/// The time spent in a stage, summed over all threads.
#[derive(Debug, Default)]
pub struct StageTimer(AtomicU64);

impl StageTimer {
    /// Adds a duration.
    pub fn add(&self, spent: Duration) {
        self.0.fetch_add(u64::try_from(spent.as_nanos()).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    /// Runs `work` inside `span` and adds its duration.
    pub fn work<T>(&self, span: &Span, work: impl FnOnce() -> T) -> T {
        let started = Instant::now();
        let result = span.in_scope(work);
        self.add(started.elapsed());
        result
    }

    /// The time so far.
    pub fn spent(&self) -> Duration {
        Duration::from_nanos(self.0.load(Ordering::Relaxed))
    }

    /// The time so far, in seconds.
    pub fn seconds(&self) -> f64 {
        self.spent().as_secs_f64()
    }

    /// The time so far; the timer begins again at zero.
    pub fn take(&self) -> Duration {
        Duration::from_nanos(self.0.swap(0, Ordering::Relaxed))
    }

    /// Resets the time to zero.
    pub fn clear(&self) {
        self.0.store(0, Ordering::Relaxed);
    }
}
