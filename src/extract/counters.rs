//! A run's counters, which any thread can add to. In: events of the stages. Out: totals for the progress bar, the
//! summary and the metrics table. It must not slow the stages: counters are atomics.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::machine::stage_timer::StageTimer;
use crate::text::document::RejectReason;
use crate::text::mention::Mention;
use crate::text::window::TokenCounts;

/// Totals of one run.
#[derive(Debug, Default)]
pub struct Counters {
    /// Documents whose queries have all been sent, and refused documents.
    pub prepared: AtomicU64,
    /// Queries sent to the sessions.
    pub asked: AtomicU64,
    /// Queries answered.
    pub answered: AtomicU64,
    /// Documents extracted.
    pub documents: AtomicU64,
    /// Documents refused.
    pub rejects: AtomicU64,
    /// Refused documents by reason, in the order of [`RejectReason::ALL`].
    pub rejects_by_reason: [AtomicU64; RejectReason::ALL.len()],
    /// Windows of the extracted documents.
    pub windows: AtomicU64,
    /// Queries of the extracted documents.
    pub queries: AtomicU64,
    /// Wordpieces of the extracted documents.
    pub tokens: AtomicU64,
    /// Unknown wordpieces among them.
    pub unknown: AtomicU64,
    /// Words longer than the tokenizer's limit.
    pub words_cut: AtomicU64,
    /// Candidates dropped because a query had more than `max_candidates`.
    pub capped: AtomicU64,
    /// Decisions within the precision's tolerance of a threshold.
    pub undecided: AtomicU64,
    /// Per entity type of the schema: mentions, and the sum of their scores in millionths.
    pub by_type: Vec<(AtomicU64, AtomicU64)>,
    /// Tokenizing and cutting windows.
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
}

impl Counters {
    /// Counters for a schema of `types` entity types.
    pub fn new(types: usize) -> Self {
        Self { by_type: (0..types).map(|_| Default::default()).collect(), ..Self::default() }
    }

    /// A counter's value.
    pub fn get(counter: &AtomicU64) -> u64 {
        counter.load(Ordering::Relaxed)
    }

    /// An estimate of the documents done. Queries are answered in order of length, so the documents of a slice finish together;
    /// until then, the share of answered queries shows the progress.
    pub fn documents_done(&self) -> u64 {
        let (prepared, asked) = (Self::get(&self.prepared), Self::get(&self.asked));
        (prepared * Self::get(&self.answered)).checked_div(asked).unwrap_or(prepared)
    }

    /// All mentions found.
    pub fn mentions(&self) -> u64 {
        self.by_type.iter().map(|(mentions, _)| Self::get(mentions)).sum()
    }

    pub(crate) fn count_reject(&self, reason: RejectReason) {
        self.rejects.fetch_add(1, Ordering::Relaxed);
        self.rejects_by_reason[reason as usize].fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn count_document(&self, counts: &TokenCounts, windows: usize, queries: usize, mentions: &[Mention]) {
        let add = |counter: &AtomicU64, value: usize| counter.fetch_add(value as u64, Ordering::Relaxed);
        add(&self.documents, 1);
        add(&self.windows, windows);
        add(&self.queries, queries);
        add(&self.tokens, counts.tokens);
        add(&self.unknown, counts.unknown);
        add(&self.words_cut, counts.words_cut);
        for mention in mentions {
            if let Some((count, score)) = self.by_type.get(mention.entity_type) {
                count.fetch_add(1, Ordering::Relaxed);
                score.fetch_add((f64::from(mention.score) * 1e6) as u64, Ordering::Relaxed);
            }
        }
    }
}
