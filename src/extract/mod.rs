//! Document rows → mentions. In: plans over document rows, a loaded model. Out: one row per document with its mentions, in order. It
//! must not know where rows come from or go.
//!
//! | file | what |
//! |---|---|
//! | [`ledger_hashes`] | what the store knows of documents, as hashes |
//! | [`skip_known`] | `SkipKnownExec`: leaves out documents that the store has already |
//! | `spare` | `SpareExec`: passes what `SkipKnownExec` left out around the extraction |
//! | [`extract_exec`] | `ExtractExec`: document rows → one row per document with its mentions |
//! | `marks` | how far the output of `ExtractExec` reaches |
//! | [`slice`] | a slice of rows, and what was found in it |
//! | [`slices`] | the scan's batches → slices |
//! | [`pipeline`] | the pipeline's threads: tokenize, ask |
//! | `in_flight` | limits slices in flight, by count and bytes |
//! | `collect` | answers → documents → finished slices |
//! | [`counters`] | what a run has done, as numbers |

pub(crate) mod collect;
pub mod counters;
pub mod extract_exec;
pub(crate) mod in_flight;
pub mod ledger_hashes;
pub(crate) mod marks;
pub mod pipeline;
pub mod skip_known;
pub mod slice;
pub mod slices;
pub(crate) mod spare;
