//! The settings of a report. In: resolved arguments. Out: what the report gets. It must not open a store.

use std::path::PathBuf;

/// What the page shows, and where it is written.
#[derive(Debug, Clone)]
pub struct Settings {
    /// A store (a folder or a URL), or a job file (.toml), which names its store and gold mentions.
    pub store: String,
    /// The HTML file to write.
    pub out: PathBuf,
    /// Where the documents are now; `None` means where the run read them.
    pub documents: Option<String>,
    /// The id column of the documents; `None` means the job's.
    pub id: Option<String>,
    /// The text column of the documents; `None` means the job's.
    pub text: Option<String>,
    /// Gold mentions; `None` means the job's.
    pub gold: Option<String>,
    /// A comparison that `quarry evaluate --compare --json` wrote.
    pub comparison: Option<PathBuf>,
    /// The maximum number of documents on the page.
    pub limit: usize,
    /// The types to show; all if empty.
    pub types: Vec<String>,
    /// The id of the run to show, or a prefix of it; `None` shows all documents.
    pub run: Option<String>,
    /// The values of `${KEY}` in the job file.
    pub set: Vec<(String, String)>,
}
