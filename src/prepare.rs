//! `quarry prepare`: a corpus becomes documents and gold entities. In: files of a format, and how to read them. Out: Parquet that
//! `quarry run` reads, checked mention by mention, and what was wrong. It may not print.
//!
//! ```text
//! files → Document + Mentions → checked → rows → parts → documents.parquet, gold.parquet
//!           └ a broken line: stop, or left out and counted
//! ```
//!
//! One file a format; what they share: `files` (what there is to read), `corpus` (what they fill), `check` (a mention against its text),
//! `chars`, `sentences`, `tags`, `spans`, `inline`, `xml`, `json` (pieces of formats), then `units`, `split`, `summary`, `write`. A corpus
//! is held in memory.

mod char_index;
mod check;
mod command;
mod convert;
mod corpus;
mod files;
mod markup;
mod options;
mod output;
mod record;
mod sentences;
mod standoff;
mod tagged;

pub use crate::prepare::command::command;
pub use crate::prepare::convert::{Prepared, run};
pub use crate::prepare::options::{PrepareOptions, ReadOptions};
pub use crate::prepare::output::split::Split;
pub use crate::prepare::output::summary::{Figures, Summary};
