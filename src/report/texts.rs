//! Reads the texts of documents, which a store does not keep. In: the sampled documents, the locations of their files. Out: every text that
//! is unchanged since extraction, and why the others are missing. It must not return a changed text, since the offsets would not match.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use datafusion::error::DataFusionError;
use datafusion::physical_plan::execute_stream;
use datafusion::prelude::SessionContext;
use futures::StreamExt;

use super::sample::Chosen;
use super::scope::{Scope, literal, without_login};
use crate::error::{Error, Result};
use crate::extract::known_documents::content_hash;
use crate::source::chunk::Chunk;
use crate::source::input::{Documents, InputSpec};
use crate::source::listing::Listing;
use crate::tables::result_row::{IdText, result_rows};

/// The texts that were found.
#[derive(Debug, Default)]
pub(super) struct Texts {
    found: HashMap<String, String>,
    /// Documents whose text has changed.
    changed: HashSet<String>,
    /// Files that could not be read, and why.
    unreadable: BTreeMap<String, String>,
}

impl Texts {
    /// Takes a document's text, or returns why it is missing.
    pub(super) fn take(&mut self, document: &Chosen) -> Result<String, String> {
        if let Some(text) = self.found.remove(&document.id) {
            return Ok(text);
        }
        if let Some(reason) = self.unreadable.get(&document.source) {
            return Err(without_login(reason));
        }
        Err(if self.changed.contains(&document.id) {
            "the document's text has changed".into()
        } else {
            "the document is no longer in its source file".into()
        })
    }

    /// Keeps a text if its hash is the document's.
    fn offer(&mut self, wanted: &HashMap<&str, &Chosen>, id: &str, text: &str) {
        let Some(document) = wanted.get(id) else { return };
        if content_hash(text) == document.content_hash {
            self.found.insert(id.to_owned(), text.to_owned());
        } else {
            self.changed.insert(id.to_owned());
        }
    }
}

/// Reads the texts. An unreadable file is an error if the user named it, otherwise a remark on the page.
pub(super) async fn read(context: &SessionContext, scope: &Scope, chosen: &[Chosen]) -> Result<Texts> {
    let mut texts = Texts::default();
    if chosen.is_empty() {
        return Ok(texts);
    }
    let wanted: HashMap<&str, &Chosen> = chosen.iter().map(|one| (one.id.as_str(), one)).collect();
    if let Some(documents) = &scope.documents {
        let listing = Listing::find(context, documents).await?;
        return match read_listing(context, scope, listing, true, &wanted, &mut texts).await {
            Err(Error::Input { location, reason, .. }) => {
                Err(Error::Input { location, reason, hint: "name the columns with --id and --text".into() })
            }
            other => other.map(|()| texts),
        };
    }
    let sources: BTreeSet<&str> = chosen.iter().map(|one| one.source.as_str()).collect();
    let mut listings: Vec<Listing> = Vec::new();
    for source in sources {
        match Listing::find(context, source).await {
            Ok(found) => {
                match listings.iter_mut().find(|one| (one.format, &one.prefix) == (found.format, &found.prefix)) {
                    Some(listing) => listing.files.extend(found.files),
                    None => listings.push(found),
                }
            }
            Err(error) => {
                texts.unreadable.insert(source.to_owned(), reason(&error));
            }
        }
    }
    for listing in listings {
        let files: Vec<String> = listing.files.iter().map(|file| file.path.clone()).collect();
        if let Err(error) = read_listing(context, scope, listing, false, &wanted, &mut texts).await {
            texts.unreadable.extend(files.into_iter().map(|file| (file, reason(&error))));
        }
    }
    Ok(texts)
}

/// Reads the wanted texts from files of one format.
async fn read_listing(
    context: &SessionContext,
    scope: &Scope,
    listing: Listing,
    by_user: bool,
    wanted: &HashMap<&str, &Chosen>,
    texts: &mut Texts,
) -> Result<()> {
    let (id, text) = scope.columns.clone();
    let mut ids: Vec<String> = wanted.keys().map(|id| literal(id)).collect();
    ids.sort_unstable();
    let filter = format!("CAST(\"{}\" AS varchar) IN ({})", id.replace('"', "\"\""), ids.join(", "));
    let spec = InputSpec { documents: listing.documents.clone(), id, text, filter: Some(filter) };
    // Unless the user named the files, an unreadable one is only a remark.
    let documents = Documents::inspect(context, spec, listing, usize::from(!by_user)).await?;
    for (file, reason) in &documents.unreadable {
        texts.unreadable.insert(file.path.clone(), reason.clone());
    }
    if documents.files.is_empty() {
        return Ok(());
    }
    let all = documents.whole(|_| 0);
    if read_chunk(context, &documents, &all, wanted, texts).await.is_ok() {
        return Ok(());
    }
    // A file that cannot be read to its end costs no more than what it has from there on.
    for range in all.ranges {
        let path = documents.files[range.file].path.clone();
        if let Err(error) = read_chunk(context, &documents, &Chunk { ranges: vec![range] }, wanted, texts).await {
            texts.unreadable.insert(path, reason(&error));
        }
    }
    Ok(())
}

/// Reads the wanted texts from some rows.
async fn read_chunk(
    context: &SessionContext,
    documents: &Documents,
    chunk: &Chunk,
    wanted: &HashMap<&str, &Chosen>,
    texts: &mut Texts,
) -> Result<()> {
    let failed =
        |source: DataFusionError| Error::Engine { doing: "read the documents' texts".into(), source: source.into() };
    let mut rows = execute_stream(documents.plan(chunk), context.task_ctx()).map_err(failed)?;
    while let Some(batch) = rows.next().await {
        let batch = batch.map_err(failed)?;
        for row in result_rows([&batch]) {
            if let (Some(IdText(id)), Some(text)) = (row.get("doc_id")?, row.get("text")?) {
                texts.offer(wanted, &id, text);
            }
        }
    }
    Ok(())
}

/// An error and its cause in one line.
fn reason(error: &Error) -> String {
    let text = match std::error::Error::source(error) {
        Some(source) => format!("{error}: {source}"),
        None => error.to_string(),
    };
    text.lines().next().unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_unchanged_text_is_shown() {
        let document = |id: &str, text: &str| Chosen {
            id: id.to_owned(),
            source: "/docs.parquet".to_owned(),
            content_hash: content_hash(text),
            characters: 0,
        };
        let (same, other) = (document("1", "as it was"), document("2", "as it was"));
        let wanted = HashMap::from([("1", &same), ("2", &other)]);
        let mut texts = Texts::default();
        texts.offer(&wanted, "2", "as it is now");
        // Of several rows with one id, the one with the extracted text is used.
        texts.offer(&wanted, "1", "an earlier version");
        texts.offer(&wanted, "1", "as it was");
        texts.offer(&wanted, "3", "not wanted");
        assert_eq!(texts.take(&same).unwrap(), "as it was");
        assert_eq!(texts.take(&other).unwrap_err(), "the document's text has changed");
        assert_eq!(texts.take(&document("3", "")).unwrap_err(), "the document is no longer in its source file");
    }
}
