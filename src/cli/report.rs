//! The arguments of `quarry report`. In: arguments. Out: a clap struct, whose doc comments are the help texts, and the settings. It must
//! not open a store.

use std::path::PathBuf;

use clap::Args;

use crate::cli::values::key_value;
use crate::report::Settings;

/// Write an HTML report: a store's metrics, and its documents with their mentions highlighted.
///
/// The report is one self-contained HTML file that loads nothing from elsewhere. A store keeps no texts: they are read from the files
/// that the run read, or from `--documents`, and shown only if they have not changed since extraction.
#[derive(Debug, Args)]
pub struct ReportArgs {
    /// A store (a folder or a URL), or a job file (.toml), which names its store and gold mentions.
    pub store: String,
    /// The HTML file to write.
    pub out: PathBuf,
    /// Where the documents are now (a file, folder, glob or URL). By default where the run read them.
    #[arg(long, value_name = "FILES")]
    pub documents: Option<String>,
    /// The id column of the documents. By default the job's.
    #[arg(long, value_name = "COLUMN")]
    pub id: Option<String>,
    /// The text column of the documents. By default the job's.
    #[arg(long, value_name = "COLUMN")]
    pub text: Option<String>,
    /// Gold mentions (doc_id, entity_type, start_char, end_char). The report then shows correct, wrong and missed mentions. By
    /// default the job's.
    #[arg(long, value_name = "MENTIONS")]
    pub gold: Option<String>,
    /// A comparison of several systems to show: the JSON file that `quarry evaluate --compare A B --json` wrote.
    #[arg(long, value_name = "FILE")]
    pub comparison: Option<PathBuf>,
    /// Maximum number of documents in the report: with gold those with the most errors, else an even sample.
    #[arg(long, default_value_t = 400, value_name = "NUMBER")]
    pub limit: usize,
    /// Show only mentions of this type, and documents that contain one, predicted or gold. Can be repeated.
    #[arg(long = "type", value_name = "TYPE")]
    pub types: Vec<String>,
    /// Show only the documents and metrics of this run (its id, or a prefix of it). By default all documents, and the metrics of
    /// the last run that extracted a document.
    #[arg(long, value_name = "RUN")]
    pub run: Option<String>,
    /// Set `${KEY}` in the job file. Can be repeated.
    #[arg(long, value_name = "KEY=VALUE", value_parser = key_value)]
    pub set: Vec<(String, String)>,
}

impl ReportArgs {
    /// The settings of the command.
    pub fn settings(self) -> Settings {
        Settings {
            store: self.store,
            out: self.out,
            documents: self.documents,
            id: self.id,
            text: self.text,
            gold: self.gold,
            comparison: self.comparison,
            limit: self.limit,
            types: self.types,
            run: self.run,
            set: self.set,
        }
    }
}
