//! `quarry report` as it is typed. In: arguments. Out: clap structs, whose doc comments are the help texts. It may not look at a
//! store.

use std::path::PathBuf;

use clap::Args;

use crate::cli::values::key_value;

/// Write a page to look at: a store's figures, and its documents with their mentions marked.
///
/// The page is one HTML file that loads nothing: it can be sent by mail and opened years later. A store keeps no texts: they are read
/// from the files that the run read them from, or from `--documents`, and shown only where they are still what was extracted.
#[derive(Debug, Args)]
pub struct ReportArgs {
    /// A store (a folder or a URL), or a job file (.toml) whose store and gold are meant.
    pub store: String,
    /// The page to write.
    pub out: PathBuf,
    /// Where the documents' texts are now (a file, folder, glob or URL); by default where the run found them.
    #[arg(long, value_name = "FILES")]
    pub documents: Option<String>,
    /// The documents' id column; by default the job's.
    #[arg(long, value_name = "COLUMN")]
    pub id: Option<String>,
    /// The documents' text column; by default the job's.
    #[arg(long, value_name = "COLUMN")]
    pub text: Option<String>,
    /// Gold mentions (doc_id, entity_type, start_char, end_char): the page then shows what is right, wrong and missed. By default the
    /// job's.
    #[arg(long, value_name = "MENTIONS")]
    pub gold: Option<String>,
    /// The most documents on the page: with gold those with most errors, else evenly chosen ones.
    #[arg(long, default_value_t = 400, value_name = "NUMBER")]
    pub limit: usize,
    /// Only mentions of this type, and documents that have some, found or gold; may be given several times.
    #[arg(long = "type", value_name = "TYPE")]
    pub types: Vec<String>,
    /// Only the documents and figures of this run (its id, or how the id begins); by default all documents, and the figures of the
    /// last run that extracted something.
    #[arg(long, value_name = "RUN")]
    pub run: Option<String>,
    /// Fills `${KEY}` in the job file; may be given several times.
    #[arg(long, value_name = "KEY=VALUE", value_parser = key_value)]
    pub set: Vec<(String, String)>,
}
