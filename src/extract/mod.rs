//! Document rows → mentions. In: a specification; document rows or single texts. Out: one row per document with its mentions, in order,
//! or the mentions themselves. It must not know where rows come from or go.
//!
//! | file | what |
//! |---|---|
//! | [`settings`] | the settings of a job or a command → a specification for a model; where and how the model runs |
//! | [`spec`] | everything that changes the rows: one value, its hash, its differences from another |
//! | [`calibration`] | labelled documents with a model's candidates → temperatures and thresholds |
//! | [`extractor`] | the front door: a specification → an open model → mentions |
//! | `shared_extractors` | the extractors of this process that are in use |
//! | [`mod@pipeline`] | its threads: tokenize, send batches to the scorer, decode; the folder has slices, in-flight limit, collector |
//! | [`monitor`] | live counters and the stop flag of this process |
//! | [`known_documents`] | the store's documents as hashes: decides which rows are new, changed, done or duplicates |
//! | [`skip_known`] | `SkipKnownExec`: skips documents that the store already has |
//! | [`extract_exec`] | `ExtractExec`: document rows → one row per document with its mentions |
//! | `extracted_rows` | a finished slice → rows |

pub mod calibration;
pub mod extract_exec;
pub(crate) mod extracted_rows;
pub mod extractor;
pub mod known_documents;
pub mod monitor;
pub mod pipeline;
pub mod settings;
pub(crate) mod shared_extractors;
pub mod skip_known;
pub mod spec;
