//! Collects what the readers produce. In: documents with mentions as the format gives them. Out: the same documents, every offset
//! checked against its text, and the problems with file and line. Only `InputFile::text` reads a file.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt;
use std::path::PathBuf;

use clap::ValueEnum;

use crate::error::{Error, Result};
use crate::prepare::char_index::CharIndex;
use crate::prepare::check::check;
use crate::prepare::files::InputFile;
use crate::prepare::record::{Document, Mention, Place};
use crate::task::entity_schema::EntitySchema;

/// What to do at a malformed line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum OnError {
    /// Stop; nothing is written.
    Stop,
    /// Skip and count it.
    Skip,
}

/// An error in the corpus.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Problem {
    /// The file.
    pub(crate) path: PathBuf,
    /// The line or row.
    pub(crate) place: String,
    /// The error and what was expected.
    pub(crate) reason: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}, {}: {}", self.path.display(), self.place, self.reason)
    }
}

/// Counts an observation that is not an error.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Note {
    /// The number of occurrences.
    pub(crate) count: usize,
    /// File and place of the first occurrence.
    pub(crate) first: String,
}

/// The corpus as read so far.
pub(crate) struct Corpus {
    documents: Vec<Option<Document>>,
    /// The index of the last document of each id.
    places: HashMap<String, usize>,
    /// Files that share ids with other files.
    shared: BTreeSet<String>,
    /// Whether ids shared by several files are prefixed with the file name (each file numbers its own rows). Otherwise shared ids
    /// are problems.
    pub(crate) qualify: bool,
    /// Errors that were skipped.
    pub(crate) problems: Vec<Problem>,
    /// Files that could not be read, or only partly.
    pub(crate) refused_files: usize,
    /// Documents and mentions that were left out on purpose, such as those that an annotator rejected.
    pub(crate) left_out: usize,
    /// Why the corpus has no mention, if one of its files has labels that are all empty.
    pub(crate) without_mentions: Option<Problem>,
    /// Notes by their text.
    pub(crate) notes: BTreeMap<String, Note>,
    types: Option<BTreeSet<String>>,
    on_error: OnError,
    expected: &'static str,
}

impl Corpus {
    /// An empty corpus. `expected` describes the format in hints; types outside `schema` are refused.
    pub(crate) fn new(on_error: OnError, expected: &'static str, schema: Option<&EntitySchema>) -> Self {
        Self {
            documents: Vec::new(),
            places: HashMap::new(),
            shared: BTreeSet::new(),
            qualify: false,
            problems: Vec::new(),
            refused_files: 0,
            left_out: 0,
            without_mentions: None,
            notes: BTreeMap::new(),
            types: schema.map(|schema| schema.types.iter().map(|one| one.name.clone()).collect()),
            on_error,
            expected,
        }
    }

    /// The documents in the order they were read. If files share ids, all ids of these files are prefixed with the file's name.
    pub(crate) fn into_documents(self) -> Vec<Document> {
        let Self { documents, shared, .. } = self;
        let stems: BTreeSet<&str> = shared.iter().map(|source| stem(source)).collect();
        let stems_differ = stems.len() == shared.len();
        let mut documents: Vec<Document> = documents.into_iter().flatten().collect();
        // Ids that a reader generates already begin with the file's name.
        let ambiguous = |document: &&mut Document| {
            shared.contains(&document.source) && !document.id.starts_with(document.source.as_str())
        };
        for document in documents.iter_mut().filter(ambiguous) {
            let file = if stems_differ { stem(&document.source) } else { document.source.as_str() };
            document.id = format!("{file}/{}", document.id);
        }
        documents
    }

    /// Records a problem; returns an error unless problems are skipped.
    pub(crate) fn problem(&mut self, file: &InputFile, place: Place, reason: impl Into<String>) -> Result<()> {
        let (path, place, reason) = (file.path.clone(), place.to_string(), reason.into());
        if self.on_error == OnError::Skip {
            self.problems.push(Problem { path, place, reason });
            return Ok(());
        }
        let hint = format!("{}; `--on-error skip` skips invalid items", self.expected);
        Err(Error::Corpus { path, place, reason, hint })
    }

    /// Records that a file cannot be read at all or past `place`; its documents before that are kept.
    pub(crate) fn unreadable(&mut self, file: &InputFile, place: Place, reason: impl Into<String>) -> Result<()> {
        self.refused_files += 1;
        let mut reason: String = reason.into();
        let kept = self.documents.iter().flatten().filter(|document| document.source == file.name).count();
        if kept > 0 && self.on_error == OnError::Skip {
            reason = format!("{reason}; the rest of the file is not read, documents kept: {kept}");
        }
        self.problem(file, place, reason)
    }

    /// Counts a note.
    pub(crate) fn note(&mut self, file: &InputFile, place: Place, text: impl Into<String>) {
        self.notes
            .entry(text.into())
            .and_modify(|note| note.count += 1)
            .or_insert_with(|| Note { count: 1, first: format!("{}, {place}", file.path.display()) });
    }

    /// Counts a document or mention that is left out, and notes why.
    pub(crate) fn leave_out(&mut self, file: &InputFile, place: Place, what: impl fmt::Display) {
        self.left_out += 1;
        self.note(file, place, format!("{what}, left out"));
    }

    /// Records that a file has labels and no mention. It is an error if no other file has one.
    pub(crate) fn without_mentions(&mut self, file: &InputFile, place: Place, reason: String) {
        let problem = Problem { path: file.path.clone(), place: place.to_string(), reason };
        self.without_mentions.get_or_insert(problem);
    }

    /// Adds a document. A mention that does not match the text is a problem. Within a file, a later document replaces an earlier one
    /// with the same id; across files, `qualify` decides.
    pub(crate) fn push(&mut self, file: &InputFile, mut document: Document) -> Result<()> {
        let earlier = self.places.get(&document.id).copied();
        let other = earlier.and_then(|earlier| self.documents[earlier].as_ref()).map(|other| other.source.clone());
        let other = other.filter(|other| *other != document.source);
        match (other, earlier) {
            (Some(other), _) if self.qualify => {
                self.note(
                    file,
                    document.place,
                    "documents whose id also occurs in another file, prefixed with the file name",
                );
                self.shared.extend([other, document.source.clone()]);
            }
            (Some(other), Some(earlier)) => {
                let id = &document.id;
                let skipped = if self.on_error == OnError::Skip { "; that document is skipped" } else { "" };
                let reason =
                    format!("the id `{id}` also occurs in `{other}`, expected a unique id in each file{skipped}");
                self.problem(file, document.place, reason)?;
                self.documents[earlier] = None;
            }
            (None, Some(earlier)) => {
                self.note(file, document.place, "documents with a repeated id, the last one kept");
                self.documents[earlier] = None;
            }
            (_, None) => {}
        }
        let mentions = std::mem::take(&mut document.mentions);
        let index = CharIndex::new(&document.text);
        let mut seen = BTreeSet::new();
        for mention in mentions {
            let checked = check(&document.text, &index, &mention, self.types.as_ref());
            if let Err(reason) = checked {
                self.problem(file, mention.place, reason)?;
                continue;
            }
            if !seen.insert((mention.span, mention.entity_type.clone())) {
                self.note(file, mention.place, "duplicate mentions, counted once");
                continue;
            }
            let covered = index.slice(&document.text, mention.span).unwrap_or_default();
            if covered.starts_with(char::is_whitespace) || covered.ends_with(char::is_whitespace) {
                self.note(file, mention.place, "mentions that begin or end with white space, kept unchanged");
            }
            document.mentions.push(mention);
        }
        let by_place = |mention: &Mention| (mention.span.start, usize::MAX - mention.span.end);
        document
            .mentions
            .sort_by(|one, other| (by_place(one), &one.entity_type).cmp(&(by_place(other), &other.entity_type)));
        self.places.insert(document.id.clone(), self.documents.len());
        self.documents.push(Some(document));
        Ok(())
    }
}

impl InputFile {
    /// The file's text without a byte order mark; `None`, and a problem, if it is not UTF-8.
    pub(crate) fn text(&self, corpus: &mut Corpus) -> Result<Option<String>> {
        Ok(self.text_and_mark(corpus)?.map(|(text, _)| text))
    }

    /// Like [`InputFile::text`], and whether the file has a byte order mark.
    pub(crate) fn text_and_mark(&self, corpus: &mut Corpus) -> Result<Option<(String, bool)>> {
        let bytes = std::fs::read(&self.path)
            .map_err(|source| Error::Read { path: self.path.clone(), source: source.into() })?;
        match String::from_utf8(bytes) {
            Ok(mut text) => {
                let marked = text.starts_with('\u{feff}');
                if marked {
                    text.drain(..'\u{feff}'.len_utf8());
                }
                Ok(Some((text, marked)))
            }
            Err(error) => {
                let valid = error.utf8_error().valid_up_to();
                let line = error.as_bytes()[..valid].split(|&byte| byte == b'\n').count();
                corpus.unreadable(self, Place::Line(line), "the bytes are not UTF-8 text")?;
                Ok(None)
            }
        }
    }
}

/// A file's name without its extension.
fn stem(name: &str) -> &str {
    match name.rsplit_once('.') {
        Some((stem, ending)) if !ending.contains('/') && !stem.is_empty() => stem,
        _ => name,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::prepare::record::Kind;
    use crate::text::span::CharSpan;

    fn document(text: &str, mentions: Vec<Mention>) -> Document {
        Document {
            id: "1".into(),
            source: "a.txt".into(),
            place: Place::Line(1),
            text: text.into(),
            sentences: Vec::new(),
            kind: Kind::Document,
            mentions,
        }
    }

    #[test]
    fn an_invalid_mention_is_skipped_and_reported() {
        let file = InputFile { path: "a.txt".into(), name: "a.txt".into() };
        let mention = |start, end| Mention::new("PER", CharSpan::new(start, end), Place::Line(7));
        let mut corpus = Corpus::new(OnError::Skip, "", None);
        corpus.push(&file, document("met Ada", vec![mention(5, 8), mention(4, 7)])).unwrap();
        let expected = "a.txt, line 7: a mention of type PER covers characters 5..8, but the text has 7";
        assert_eq!(corpus.problems[0].to_string(), expected);
        assert_eq!(corpus.into_documents()[0].mentions, [mention(4, 7)]);
    }

    #[test]
    fn the_later_of_two_documents_with_one_id_is_kept() {
        let file = InputFile { path: "a.txt".into(), name: "a.txt".into() };
        let mut corpus = Corpus::new(OnError::Stop, "", None);
        corpus.push(&file, document("first", vec![])).unwrap();
        corpus.push(&file, document("second", vec![])).unwrap();
        assert_eq!(corpus.notes.len(), 1);
        let texts: Vec<String> = corpus.into_documents().into_iter().map(|document| document.text).collect();
        assert_eq!(texts, ["second"]);
    }

    /// Pushes documents of three files that each number theirs from 0; one id is already generated from the file name.
    fn push_numbered(corpus: &mut Corpus) -> Result<()> {
        for (name, ids) in
            [("a/test.json", &["0", "1"][..]), ("a/train.json", &["0", "a/train.json/1"][..]), ("b.json", &["2"][..])]
        {
            let file = InputFile { path: name.into(), name: name.into() };
            for id in ids {
                let text = format!("{id} of {name}");
                corpus.push(&file, Document { id: (*id).into(), source: name.into(), ..document(&text, vec![]) })?;
            }
        }
        Ok(())
    }

    #[test]
    fn documents_of_different_files_with_one_id_are_all_kept() {
        let mut corpus = Corpus::new(OnError::Stop, "", None);
        corpus.qualify = true;
        push_numbered(&mut corpus).unwrap();
        assert_eq!(corpus.notes.values().map(|note| note.count).sum::<usize>(), 1);
        let ids: Vec<String> = corpus.into_documents().into_iter().map(|document| document.id).collect();
        assert_eq!(ids, ["a/test/0", "a/test/1", "a/train/0", "a/train.json/1", "2"]);
    }

    #[test]
    fn an_id_shared_by_files_is_a_problem_without_qualify() {
        let error = push_numbered(&mut Corpus::new(OnError::Stop, "", None)).unwrap_err().to_string();
        assert!(
            error.ends_with("the id `0` also occurs in `a/test.json`, expected a unique id in each file"),
            "{error}"
        );
        let mut corpus = Corpus::new(OnError::Skip, "", None);
        push_numbered(&mut corpus).unwrap();
        assert!(corpus.problems[0].reason.ends_with("; that document is skipped"), "{:?}", corpus.problems);
        let texts: Vec<String> = corpus.into_documents().into_iter().map(|document| document.text).collect();
        assert_eq!(texts[..2], ["1 of a/test.json", "0 of a/train.json"]);
        assert_eq!(texts.len(), 4);
    }

    #[test]
    fn an_unreadable_rest_reports_how_many_documents_are_kept() {
        let file = InputFile { path: "a.txt".into(), name: "a.txt".into() };
        let mut corpus = Corpus::new(OnError::Skip, "", None);
        corpus.push(&file, document("whole", vec![])).unwrap();
        corpus.unreadable(&file, Place::Line(9), "`<b>` is never closed").unwrap();
        let expected = "`<b>` is never closed; the rest of the file is not read, documents kept: 1";
        assert_eq!((corpus.problems[0].reason.as_str(), corpus.refused_files), (expected, 1));
    }
}
