//! Quarry extracts named entities from a document corpus by asking a question for each entity type.
//!
//! A job reads documents from Parquet, cuts each into windows, makes the inputs of a model from each window, computes them in batches
//! with ONNX Runtime, decodes flat and nested spans, and writes entity, document, metric and run tables that any SQL engine reads. The
//! method is machine reading comprehension (MRC): one input per window and entity type, as in BERT-MRC (Li et al., ACL 2020, arXiv
//! 1910.11476).
//!
//! # The chain
//!
//! ```text
//! Parquet → RecordBatch → Document → Tokens → Window → ModelInput → Batch → Tensors → Span → Mention → row → tables
//!                             └ bad input → reject row            └ counters → metric rows
//! prepare   corpus files → Document + Mentions → Parquet documents and gold entities
//! train     labelled Document → … → Batch + Targets → loss → model directory
//! export    checkpoint → weights → ONNX graph → model directory (+ parity report)
//! evaluate  predicted ⋈ gold → scores → metric rows
//! ```
//!
//! # The modules
//!
//! One subject per module, in the order of the dataflow. Imports go one way:
//!
//! `sanitize ← error ← random, machine, text ← task, score ← model ← graph ← tables ← source ← extract ← store ← query ← job ←
//! console ← cluster ← {commands} ← cli ← main`
//!
//! A module imports only modules before it, and no module of its own group. Commands never import each other.
//!
//! | module | contents |
//! |---|---|
//! | [`sanitize`] | texts without log-ins and signatures of URLs, and with control characters escaped; pure |
//! | [`error`] | every error, with its causes and a hint |
//! | [`random`] | seeded random numbers, the same on every machine; pure |
//! | [`machine`] | environment variables, the cache, atomic file writes, hashes, stage timers |
//! | [`text`] | documents, tokens, windows, spans and mentions, with offsets in bytes and code points; pure |
//! | [`task`] | what a model is asked and how its output is read, kind by kind: inputs, batches, decoding; pure |
//! | [`score`] | predicted and gold mentions → precision, recall, F1 and intervals; pure |
//! | [`model`] | descriptions of encoders and heads, weights, model directories, ONNX Runtime sessions |
//! | [`graph`] | the ONNX writer: weights → graphs |
//! | [`tables`] | Arrow schemas and rows of the store's tables |
//! | [`source`] | a path, glob or URL → files → chunks of rows → a scan; what all operators share |
//! | [`extract`] | specifications; the [`Extractor`](extract::extractor::Extractor): texts or document rows → mentions; the operators |
//! | [`store`] | the Delta Lake store: write, commit, ledger, optimize, vacuum |
//! | [`query`] | DataFusion sessions, views, files as tables, scoring in SQL |
//! | [`job`] | the job file, as written and validated; the plan of an extraction |
//! | `cluster` | several machines: chunks of a job on Ballista; `quarry scheduler`, `quarry executor` (feature `cluster`) |
//! | [`console`] | the only place that prints: logs, progress, results, traces. Only commands use it; all others log `tracing` events |
//! | [`run`] | `quarry run` |
//! | [`prepare`] | `quarry prepare` |
//! | `train` | `quarry train` (feature `train`) |
//! | [`export`] | `quarry export` |
//! | [`evaluate`] | `quarry evaluate` |
//! | [`sql`] | `quarry sql` |
//! | [`report`] | `quarry report` |
//! | `try` | `quarry try` |
//! | [`doctor`] | `quarry doctor` |
//! | [`completions`], [`man`] | `quarry completions`, `quarry man` |
//! | [`cli`] | the command line's arguments and help texts, and the settings of each command |

pub mod cli;
#[cfg(feature = "cluster")]
pub mod cluster;
pub mod completions;
pub mod console;
pub mod doctor;
pub mod error;
pub mod evaluate;
pub mod export;
pub mod extract;
pub mod graph;
pub mod job;
pub mod machine;
pub mod man;
pub mod model;
pub mod prepare;
pub mod query;
pub mod random;
pub mod report;
pub mod run;
pub mod sanitize;
pub mod score;
pub mod source;
pub mod sql;
pub mod store;
pub mod tables;
pub mod task;
pub mod text;
#[cfg(feature = "train")]
pub mod train;
pub mod r#try;
