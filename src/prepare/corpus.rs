//! What every reader fills. In: documents with mentions as a format says them. Out: the same, each offset checked against its
//! text, and what was wrong, with file and line. It may not read files.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt;
use std::path::PathBuf;

use crate::cli::OnError;
use crate::error::{Error, Result};
use crate::prepare::char_index::CharIndex;
use crate::prepare::check::check;
use crate::prepare::files::InputFile;
use crate::prepare::record::{Document, Mention, Place};
use crate::task::entity_schema::EntitySchema;

/// Something that is wrong with the corpus.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Problem {
    /// The file.
    pub(crate) path: PathBuf,
    /// Where in it.
    pub(crate) place: String,
    /// What is wrong and what was expected.
    pub(crate) reason: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}, {}: {}", self.path.display(), self.place, self.reason)
    }
}

/// Something worth knowing that is not wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Note {
    /// How often.
    pub(crate) count: usize,
    /// The first time, as file and place.
    pub(crate) first: String,
}

/// The corpus as far as it is read.
pub(crate) struct Corpus {
    documents: Vec<Option<Document>>,
    /// Where the last document of each id is.
    places: HashMap<String, usize>,
    /// Files that share ids with others.
    shared: BTreeSet<String>,
    /// Whether ids that files share are told apart by the files' names, as where each file counts its rows; otherwise
    /// they are problems.
    pub(crate) qualify: bool,
    /// What was wrong and left out.
    pub(crate) problems: Vec<Problem>,
    /// Files that could not be read, or not to their end.
    pub(crate) refused_files: usize,
    /// What was not wrong, by what it was.
    pub(crate) notes: BTreeMap<String, Note>,
    types: Option<BTreeSet<String>>,
    on_error: OnError,
    expected: &'static str,
}

impl Corpus {
    /// An empty corpus of a format that looks like `expected`; types outside `schema` are refused.
    pub(crate) fn new(on_error: OnError, expected: &'static str, schema: Option<&EntitySchema>) -> Self {
        Self {
            documents: Vec::new(),
            places: HashMap::new(),
            shared: BTreeSet::new(),
            qualify: false,
            problems: Vec::new(),
            refused_files: 0,
            notes: BTreeMap::new(),
            types: schema.map(|schema| schema.types.iter().map(|one| one.name.clone()).collect()),
            on_error,
            expected,
        }
    }

    /// The documents in the order in which they were read; where files share ids, all of theirs begin with the file's
    /// name.
    pub(crate) fn into_documents(self) -> Vec<Document> {
        let Self { documents, shared, .. } = self;
        let stems: BTreeSet<&str> = shared.iter().map(|source| stem(source)).collect();
        let telling = stems.len() == shared.len();
        let mut documents: Vec<Document> = documents.into_iter().flatten().collect();
        // Ids that a reader makes itself begin with the file's name already.
        let common = |document: &&mut Document| {
            shared.contains(&document.source) && !document.id.starts_with(document.source.as_str())
        };
        for document in documents.iter_mut().filter(common) {
            let file = if telling { stem(&document.source) } else { document.source.as_str() };
            document.id = format!("{file}/{}", document.id);
        }
        documents
    }

    /// Takes down that something is wrong; an error where that ends the work.
    pub(crate) fn problem(&mut self, file: &InputFile, place: Place, reason: impl Into<String>) -> Result<()> {
        let (path, place, reason) = (file.path.clone(), place.to_string(), reason.into());
        if self.on_error == OnError::Skip {
            self.problems.push(Problem { path, place, reason });
            return Ok(());
        }
        let hint = format!("{}; `--on-error skip` leaves out what is broken", self.expected);
        Err(Error::Corpus { path, place, reason, hint })
    }

    /// Takes down that a file cannot be read, or no further than `place`: its documents before that are kept.
    pub(crate) fn unreadable(&mut self, file: &InputFile, place: Place, reason: impl Into<String>) -> Result<()> {
        self.refused_files += 1;
        let mut reason: String = reason.into();
        let kept = self.documents.iter().flatten().filter(|document| document.source == file.name).count();
        if kept > 0 && self.on_error == OnError::Skip {
            reason = format!("{reason}; what follows is not read, the documents before it are kept: {kept}");
        }
        self.problem(file, place, reason)
    }

    /// Takes down something that is worth knowing.
    pub(crate) fn note(&mut self, file: &InputFile, place: Place, what: impl Into<String>) {
        self.notes
            .entry(what.into())
            .and_modify(|note| note.count += 1)
            .or_insert_with(|| Note { count: 1, first: format!("{}, {place}", file.path.display()) });
    }

    /// Adds a document; mentions that are not in its text are problems. In a file a later document of the same id
    /// replaces the earlier; `qualify` says what one of another file does.
    pub(crate) fn push(&mut self, file: &InputFile, mut document: Document) -> Result<()> {
        let earlier = self.places.get(&document.id).copied();
        let other = earlier.and_then(|earlier| self.documents[earlier].as_ref()).map(|other| other.source.clone());
        let other = other.filter(|other| *other != document.source);
        match (other, earlier) {
            (Some(other), _) if self.qualify => {
                self.note(
                    file,
                    document.place,
                    "documents whose id another file has too, told apart by the file's name",
                );
                self.shared.extend([other, document.source.clone()]);
            }
            (Some(other), Some(earlier)) => {
                let id = &document.id;
                let left = if self.on_error == OnError::Skip { "; that one is left out" } else { "" };
                let reason = format!(
                    "the id `{id}` is that of a document in `{other}` too, expected another in each file{left}"
                );
                self.problem(file, document.place, reason)?;
                self.documents[earlier] = None;
            }
            (None, Some(earlier)) => {
                self.note(file, document.place, "documents whose id was there before, the later kept");
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
                self.note(file, mention.place, "mentions that are there twice, counted once");
                continue;
            }
            let covered = index.slice(&document.text, mention.span).unwrap_or_default();
            if covered.starts_with(char::is_whitespace) || covered.ends_with(char::is_whitespace) {
                self.note(file, mention.place, "mentions that begin or end with white space, kept as they are");
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
    /// Its text without a byte order mark; none, and a problem, where it is not UTF-8.
    pub(crate) fn text(&self, corpus: &mut Corpus) -> Result<Option<String>> {
        let bytes = std::fs::read(&self.path)
            .map_err(|source| Error::Read { path: self.path.clone(), source: source.into() })?;
        match String::from_utf8(bytes) {
            Ok(mut text) => {
                if text.starts_with('\u{feff}') {
                    text.drain(..'\u{feff}'.len_utf8());
                }
                Ok(Some(text))
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

/// A file's name without its ending.
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
    fn a_mention_that_is_wrong_is_left_out_and_told() {
        let file = InputFile { path: "a.txt".into(), name: "a.txt".into() };
        let mention = |start, end| Mention::new("PER", CharSpan::new(start, end), Place::Line(7));
        let mut corpus = Corpus::new(OnError::Skip, "", None);
        corpus.push(&file, document("met Ada", vec![mention(5, 8), mention(4, 7)])).unwrap();
        let told = "a.txt, line 7: a mention of type PER covers characters 5..8, but the text has 7";
        assert_eq!(corpus.problems[0].to_string(), told);
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

    /// Files whose documents are counted from 0 each; the last has no id of its own.
    fn counted(corpus: &mut Corpus) -> Result<()> {
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
        counted(&mut corpus).unwrap();
        assert_eq!(corpus.notes.values().map(|note| note.count).sum::<usize>(), 1);
        let ids: Vec<String> = corpus.into_documents().into_iter().map(|document| document.id).collect();
        assert_eq!(ids, ["a/test/0", "a/test/1", "a/train/0", "a/train.json/1", "2"]);
    }

    #[test]
    fn one_id_in_different_files_is_a_problem_where_ids_mean_something() {
        let error = counted(&mut Corpus::new(OnError::Stop, "", None)).unwrap_err().to_string();
        assert!(
            error.ends_with("the id `0` is that of a document in `a/test.json` too, expected another in each file"),
            "{error}"
        );
        let mut corpus = Corpus::new(OnError::Skip, "", None);
        counted(&mut corpus).unwrap();
        assert!(corpus.problems[0].reason.ends_with("; that one is left out"), "{:?}", corpus.problems);
        let texts: Vec<String> = corpus.into_documents().into_iter().map(|document| document.text).collect();
        assert_eq!(texts[..2], ["1 of a/test.json", "0 of a/train.json"]);
        assert_eq!(texts.len(), 4);
    }

    #[test]
    fn a_file_that_breaks_off_says_what_is_kept_of_it() {
        let file = InputFile { path: "a.txt".into(), name: "a.txt".into() };
        let mut corpus = Corpus::new(OnError::Skip, "", None);
        corpus.push(&file, document("whole", vec![])).unwrap();
        corpus.unreadable(&file, Place::Line(9), "`<b>` is never closed").unwrap();
        let said = "`<b>` is never closed; what follows is not read, the documents before it are kept: 1";
        assert_eq!((corpus.problems[0].reason.as_str(), corpus.refused_files), (said, 1));
    }
}
