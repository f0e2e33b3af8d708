//! Counters of a scorer's sessions. In: batches as they are computed, on any thread. Out: live counters, and their values as something
//! that can be sent. It must not slow the sessions: a counter is an atomic.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::machine::stage_timer::StageTimer;

/// Counters of all sessions; they can be read at any time.
#[derive(Debug, Default)]
pub struct ScorerCounters {
    /// Computed batches; each part of a split batch counts.
    pub batches: AtomicU64,
    /// Computed tokens without padding.
    pub real_tokens: AtomicU64,
    /// Computed tokens with padding.
    pub padded_tokens: AtomicU64,
    /// How often a batch was split in half because the device ran out of memory.
    pub halved: AtomicU64,
    /// How often a batch was split in half in advance, because it exceeds the limit learned from an earlier failure.
    pub cut: AtomicU64,
    /// Inputs whose answers were not finite.
    pub not_finite: AtomicU64,
    /// Time to make tensors.
    pub tensors: StageTimer,
    /// Time to wait for a free session.
    pub wait: StageTimer,
    /// Time of inference, summed over all sessions.
    pub inference: StageTimer,
}

/// [`ScorerCounters`] as a value that can be sent.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "the names of the counters")]
pub struct ScorerCounts {
    pub batches: u64,
    pub real_tokens: u64,
    pub padded_tokens: u64,
    pub halved: u64,
    pub cut: u64,
    pub not_finite: u64,
    pub tensors: Duration,
    pub wait: Duration,
    pub inference: Duration,
}

impl ScorerCounters {
    /// Resets all counters to zero.
    pub fn clear(&self) {
        let Self { batches, real_tokens, padded_tokens, halved, cut, not_finite, tensors, wait, inference } = self;
        for counter in [batches, real_tokens, padded_tokens, halved, cut, not_finite] {
            counter.store(0, Ordering::Relaxed);
        }
        for stage in [tensors, wait, inference] {
            stage.clear();
        }
    }

    /// The counters, which begin again at zero. What is counted meanwhile is in the next value.
    pub fn take(&self) -> ScorerCounts {
        let taken = |counter: &AtomicU64| counter.swap(0, Ordering::Relaxed);
        ScorerCounts {
            batches: taken(&self.batches),
            real_tokens: taken(&self.real_tokens),
            padded_tokens: taken(&self.padded_tokens),
            halved: taken(&self.halved),
            cut: taken(&self.cut),
            not_finite: taken(&self.not_finite),
            tensors: self.tensors.take(),
            wait: self.wait.take(),
            inference: self.inference.take(),
        }
    }

    /// Adds the counters of sessions elsewhere.
    pub fn add(&self, counts: &ScorerCounts) {
        let ScorerCounts { batches, real_tokens, padded_tokens, halved, cut, not_finite, tensors, wait, inference } =
            counts;
        let counters = [
            (&self.batches, batches),
            (&self.real_tokens, real_tokens),
            (&self.padded_tokens, padded_tokens),
            (&self.halved, halved),
            (&self.cut, cut),
            (&self.not_finite, not_finite),
        ];
        for (counter, count) in counters {
            counter.fetch_add(*count, Ordering::Relaxed);
        }
        for (stage, spent) in [(&self.tensors, tensors), (&self.wait, wait), (&self.inference, inference)] {
            stage.add(*spent);
        }
    }
}
