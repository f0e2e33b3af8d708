//! Document rows → mentions. In: plans over document rows and a loaded model. Out: one row per document with its mentions, in order. It
//! must not know where rows come from or go.
//!
//! | file | what |
//! |---|---|
//! | [`known_documents`] | the store's documents as hashes: decides which rows are new, done or duplicates |
//! | [`skip_known`] | `SkipKnownExec`: skips documents that the store already has |
//! | `spare` | `SpareExec`: keeps the old rows of changed documents whose new text is refused |
//! | [`extract_exec`] | `ExtractExec`: document rows → one row per document with its mentions |
//! | `marks` | rolls counters back to the last commit |
//! | [`mod@slice`] | a slice of rows and its results |
//! | [`slices`] | the scan's batches → slices |
//! | [`pipeline`] | the pipeline's threads: tokenize, then send batches to the sessions |
//! | `in_flight` | limits slices in flight, by count and bytes |
//! | `collect` | answers → documents → finished slices |
//! | [`counters`] | a run's counters |

pub(crate) mod collect;
pub mod counters;
pub mod extract_exec;
pub(crate) mod in_flight;
pub mod known_documents;
pub mod marks;
pub mod pipeline;
pub mod skip_known;
pub mod slice;
pub mod slices;
pub(crate) mod spare;
