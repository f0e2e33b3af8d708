//! `quarry prepare`: converts a corpus to documents and gold entities. In: files of one format and the settings. Out:
//! Parquet files that `quarry run` reads, every mention checked, and a list of problems. Below `command` it must not print.
//!
//! ```text
//! files → Document + Mentions → checked → rows → parts → documents.parquet, gold.parquet
//!           └ an invalid line: stop, or skip and count
//! ```
//!
//! Each format has its own file in `standoff`, `tagged` or `markup`. The readers share `files` (the input's files), `corpus` (the documents
//! read so far), `check` (validates a mention against its text), `char_index` and `sentences`. `output` converts the documents to rows and
//! writes them. The whole corpus is held in memory.

mod char_index;
mod check;
mod command;
mod convert;
mod corpus;
mod files;
mod markup;
mod output;
mod record;
mod sentences;
mod settings;
mod standoff;
mod tagged;

pub use crate::prepare::command::command;
pub use crate::prepare::convert::{Prepared, run};
pub use crate::prepare::corpus::OnError;
pub use crate::prepare::output::granularity::Unit;
pub use crate::prepare::output::split::Split;
pub use crate::prepare::output::summary::{Figures, Summary};
pub use crate::prepare::settings::{Format, Labels, ReadOptions, Settings};
pub use crate::prepare::tagged::tags::Scheme;
