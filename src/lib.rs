//! Quarry mines a corpus for named entities by asking questions.
//!
//! A job reads documents from Parquet, expands each into one machine-reading-comprehension (MRC) query per entity type, answers
//! the queries in batches with ONNX Runtime, decodes flat and nested spans, and writes entity, document, metric and run tables
//! that any SQL engine reads. The method is BERT-MRC (Li et al., ACL 2020, arXiv 1910.11476).
//!
//! # The chain
//!
//! ```text
//! Parquet → RecordBatch → Document → Tokens → Window → Query → Encoded → QueryBatch → Logits → Span → Mention → row → tables
//!                             └ bad input → reject row                        └ counters → metric rows
//! prepare   corpus files → Document + Mentions → Parquet documents and gold entities
//! train     labelled Document → … → QueryBatch + Targets → loss → model directory
//! export    checkpoint → weights → ONNX graph → model directory (+ parity report)
//! evaluate  predicted ⋈ gold → scores → metric rows
//! ```
//!
//! # The modules
//!
//! Verbs are commands, nouns are what they use; verbs never import verbs, and a noun imports only the nouns before it:
//!
//! `error ← mrc ← model ← graph ← tables ← engine ← job ← cli, console ← {verbs} ← main`
//!
//! | module | what |
//! |---|---|
//! | [`error`] | every way to fail, with its cause and the way out |
//! | [`console`] | the only place that prints |
//! | [`mrc`] | the pure core: text in, mentions out |
//! | [`model`] | model directories, ONNX Runtime, devices, sessions |
//! | [`graph`] | the ONNX writer: weights → graphs |
//! | [`tables`] | the store's tables as Arrow schemas |
//! | [`engine`] | DataFusion operators and the Delta Lake store |
//! | [`job`] | the job file, as written and as it runs |
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

pub mod cli;
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
