//! Watches and stops the extractions of this process. In: events of the stages. Out: live counters, and a stop flag. It is an extension
//! of a session's configuration and must not be part of a plan: what a commit needs is in the rows.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use datafusion::execution::TaskContext;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use crate::machine::stage_timer::StageTimer;
use crate::model::runtime::scorer_counters::ScorerCounts;

/// Live counters of extractions, which any thread can add to and read: they are atomics, so they do not slow the stages.
#[derive(Debug, Default)]
pub struct Monitor {
    /// Documents whose inputs have all been sent, and refused documents.
    pub prepared: AtomicU64,
    /// Inputs sent to the scorer.
    pub asked: AtomicU64,
    /// Inputs answered.
    pub answered: AtomicU64,
    /// Mentions found.
    pub mentions: AtomicU64,
    /// Tokenizing and making windows.
    pub tokenize: StageTimer,
    /// Decoding and merging.
    pub decode: StageTimer,
    /// Opening the store and loading the model.
    pub start: StageTimer,
    /// Waiting for rows from the scan.
    pub read: StageTimer,
    /// Encoding, compressing and sending rows.
    pub write: StageTimer,
    /// Committing.
    pub commit: StageTimer,
    stop: watch::Sender<bool>,
}

/// The counters of an extraction, and of the sessions that answered it, as a value that can be sent.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "the names of the counters of a monitor and a scorer")]
pub struct Counts {
    pub prepared: u64,
    pub asked: u64,
    pub answered: u64,
    pub mentions: u64,
    pub tokenize: Duration,
    pub decode: Duration,
    pub read: Duration,
    pub write: Duration,
    pub scorer: ScorerCounts,
}

impl Monitor {
    /// The counters so far, without those of a scorer.
    pub fn counts(&self) -> Counts {
        Counts {
            prepared: Self::get(&self.prepared),
            asked: Self::get(&self.asked),
            answered: Self::get(&self.answered),
            mentions: Self::get(&self.mentions),
            tokenize: self.tokenize.spent(),
            decode: self.decode.spent(),
            read: self.read.spent(),
            write: self.write.spent(),
            scorer: ScorerCounts::default(),
        }
    }

    /// The monitor of the session that a plan runs in, or a new one that nobody watches.
    pub fn of(context: &TaskContext) -> Arc<Self> {
        context.session_config().get_extension().unwrap_or_default()
    }

    /// A counter's value.
    pub fn get(counter: &AtomicU64) -> u64 {
        counter.load(Ordering::Relaxed)
    }

    /// Adds to a counter.
    pub(crate) fn add(counter: &AtomicU64, count: usize) {
        counter.fetch_add(count as u64, Ordering::Relaxed);
    }

    /// An estimate of the documents done. Inputs are answered in order of length, so the documents of a slice finish together;
    /// until then, the share of answered inputs shows the progress.
    pub fn documents_done(&self) -> u64 {
        let (prepared, asked) = (Self::get(&self.prepared), Self::get(&self.asked));
        (prepared * Self::get(&self.answered)).checked_div(asked).unwrap_or(prepared)
    }

    /// Sets the counters to what is committed: rows after it are read again. No extraction must be running.
    pub fn reset(&self, documents: u64, inputs: u64, mentions: u64) {
        self.prepared.store(documents, Ordering::Relaxed);
        self.asked.store(inputs, Ordering::Relaxed);
        self.answered.store(inputs, Ordering::Relaxed);
        self.mentions.store(mentions, Ordering::Relaxed);
    }

    /// Adds the counters of an extraction elsewhere.
    pub fn add_counts(&self, counts: &Counts) {
        let Counts { prepared, asked, answered, mentions, tokenize, decode, read, write, .. } = counts;
        let counters = [(&self.prepared, prepared), (&self.asked, asked), (&self.answered, answered)];
        for (counter, count) in counters.into_iter().chain([(&self.mentions, mentions)]) {
            counter.fetch_add(*count, Ordering::Relaxed);
        }
        let stages = [(&self.tokenize, tokenize), (&self.decode, decode), (&self.read, read), (&self.write, write)];
        for (stage, spent) in stages {
            stage.add(*spent);
        }
    }

    /// Ends extractions early: slices that are already answered completely are still emitted, the others are dropped.
    pub fn stop(&self) {
        self.stop.send_replace(true);
    }

    /// Whether [`Monitor::stop`] was called.
    pub fn is_stopped(&self) -> bool {
        *self.stop.borrow()
    }

    /// Waits for [`Monitor::stop`].
    pub async fn stopped(&self) {
        // It fails only if the sender is gone, which is a part of this monitor.
        let _ = self.stop.subscribe().wait_for(|stop| *stop).await;
    }
}
