//! brat standoff → documents. In: `.txt` files, each with an `.ann` file of lines `T1⇥TYPE start end⇥words`. Out: one document per
//! text. It must not bridge words: pieces with only white space between them are one mention, others are left out and counted.
//!
//! Format: brat's standoff; offsets count code points, half-open, a byte order mark at the beginning of the text included. Relations, events,
//! attributes and notes are ignored.

use crate::error::Result;
use crate::prepare::char_index::CharIndex;
use crate::prepare::corpus::Corpus;
use crate::prepare::files::InputFile;
use crate::prepare::record::{Document, Kind, Mention, Place, short};
use crate::prepare::settings::ReadOptions;
use crate::text::span::{CharSpan, same_words};

/// The expected format, quoted in hints.
pub(crate) const EXPECTED: &str = "brat is X.txt beside X.ann with lines such as `T1⇥PER 0 12⇥Ada Lovelace`";
/// Suffixes of the files to read from a folder.
pub(crate) const ENDINGS: &[&str] = &[TEXT];

const TEXT: &str = ".txt";
const ANNOTATIONS: &str = ".ann";

/// First characters of lines that are not text-bound annotations: relations, events, attributes, modifications, normalizations,
/// notes, equivalences.
const NOT_TEXT_BOUND: [char; 7] = ['R', 'E', 'A', 'M', 'N', '#', '*'];

/// Reads one text and its annotation file.
pub(crate) fn read(file: &InputFile, _options: &ReadOptions, corpus: &mut Corpus) -> Result<()> {
    let (text_file, annotation_file) = if file.name.ends_with(ANNOTATIONS) {
        (file.beside(ANNOTATIONS, TEXT), file.clone())
    } else {
        (file.clone(), file.beside(TEXT, ANNOTATIONS))
    };
    let Some((text, marked)) = text_file.text_and_mark(corpus)? else { return Ok(()) };
    let mut mentions = Vec::new();
    if annotation_file.path.exists() {
        let Some(annotations) = annotation_file.text(corpus)? else { return Ok(()) };
        let index = CharIndex::new(&text);
        let mut read = Vec::new();
        for (number, line) in annotations.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
            let place = Place::Line(number + 1);
            match annotation(line) {
                Ok(found) => read.extend(found.map(|found| (place, found))),
                Err(reason) => corpus.problem(&annotation_file, place, reason)?,
            }
        }
        let shift = if marked { shift(&read, &text, &index) } else { 0 };
        for (place, annotation) in read {
            match annotation.mention(&text, &index, shift, place) {
                Ok(Some(mention)) => mentions.push(mention),
                Ok(None) => corpus.leave_out(&annotation_file, place, "mentions in pieces with words between them"),
                Err(reason) => corpus.problem(&annotation_file, place, reason)?,
            }
        }
    } else {
        corpus.note(&text_file, Place::Line(1), "texts without an annotation file");
    }
    let id = text_file.stem(TEXT).to_owned();
    let document = Document {
        id,
        source: text_file.name.clone(),
        place: Place::Line(1),
        text,
        sentences: Vec::new(),
        kind: Kind::Document,
        mentions,
    };
    corpus.push(&annotation_file, document)
}

/// A text-bound annotation.
#[derive(Debug, PartialEq, Eq)]
struct Annotation {
    entity_type: String,
    /// The first position of each piece and the first after it; at least one piece.
    pieces: Vec<(usize, usize)>,
    words: Option<String>,
}

impl Annotation {
    /// The mention, with `shift` characters less; `None` if there are words between its pieces.
    fn mention(self, text: &str, index: &CharIndex, shift: usize, place: Place) -> Result<Option<Mention>, String> {
        let Self { entity_type, mut pieces, words } = self;
        pieces.sort_unstable();
        if let Some((start, _)) = pieces.iter().find(|(start, _)| *start < shift) {
            return Err(format!("a mention of type {entity_type} starts at {start}, in the byte order mark"));
        }
        let mut mention: Option<CharSpan> = None;
        for (start, end) in pieces {
            let piece = CharSpan::new(start - shift, end - shift);
            let gap = mention.map(|before| (before.end, piece.start));
            if let Some((end, start)) = gap.filter(|(end, start)| start < end) {
                return Err(format!("pieces of a mention of type {entity_type} overlap ({start} is before {end})"));
            }
            let blank = |(end, start)| {
                let gap = index.slice(text, CharSpan::new(end, start));
                // A piece outside the text is reported by the check of the mention.
                gap.is_none_or(|gap| gap.trim().is_empty())
            };
            if !gap.is_none_or(blank) {
                return Ok(None);
            }
            mention = Some(CharSpan::new(mention.map_or(piece.start, |before| before.start), piece.end));
        }
        Ok(mention.map(|span| Mention { surface: words, ..Mention::new(entity_type, span, place) }))
    }
}

/// Whether positions count a byte order mark that the text no longer has: 1 if the words of most mentions are one character earlier.
fn shift(annotations: &[(Place, Annotation)], text: &str, index: &CharIndex) -> usize {
    let fits = |shift: usize| {
        let one = |(_, one): &&(Place, Annotation)| {
            let [(start, end)] = one.pieces[..] else { return false };
            let span = start.checked_sub(shift).zip(end.checked_sub(shift)).filter(|(start, end)| start <= end);
            let covered = span.and_then(|(start, end)| index.slice(text, CharSpan::new(start, end)));
            covered.zip(one.words.as_deref()).is_some_and(|(covered, words)| same_words(covered, words))
        };
        annotations.iter().filter(one).count()
    };
    usize::from(fits(1) >= fits(0))
}

/// Reads an annotation line; `None` if it does not annotate a span.
fn annotation(line: &str) -> Result<Option<Annotation>, String> {
    if line.starts_with(NOT_TEXT_BOUND) {
        return Ok(None);
    }
    let wrong = || format!("expected `T1⇥TYPE start end⇥words`, found `{}`", short(line));
    let mut parts = line.splitn(3, '\t');
    let (id, about, words) = (parts.next().unwrap_or_default(), parts.next().ok_or_else(wrong)?, parts.next());
    if !id.starts_with('T') {
        return Err(wrong());
    }
    let (entity_type, places) = about.trim().split_once(' ').ok_or_else(wrong)?;
    let mut pieces = Vec::new();
    for piece in places.split(';') {
        let numbers: Option<Vec<usize>> = piece.split_ascii_whitespace().map(|number| number.parse().ok()).collect();
        let Some([start, end]) = numbers.as_deref() else { return Err(wrong()) };
        if end < start {
            return Err(format!("a mention of type {entity_type} ends at {end}, before it starts at {start}"));
        }
        pieces.push((*start, *end));
    }
    Ok(Some(Annotation { entity_type: entity_type.to_owned(), pieces, words: words.map(str::to_owned) }))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The place of a mention, `-` if its line is none, `left out` if it has words between its pieces.
    fn place_in(text: &str, line: &str, shift: usize) -> String {
        let index = CharIndex::new(text);
        let found = annotation(line).and_then(|found| match found {
            None => Ok("-".to_owned()),
            Some(one) => {
                let mention = one.mention(text, &index, shift, Place::Line(1))?;
                let place = |one: Mention| format!("{} {}..{}", one.entity_type, one.span.start, one.span.end);
                Ok(mention.map_or_else(|| "left out".to_owned(), place))
            }
        });
        found.unwrap_or_else(|reason| reason)
    }

    #[test]
    fn a_line_is_a_mention_or_an_error() {
        let read = |line: &str| place_in("Ada Lovelace", line, 0);
        assert_eq!(read("T1\tPER 0 12\tAda Lovelace"), "PER 0..12");
        assert_eq!(read("R1\tKnows Arg1:T1 Arg2:T2"), "-");
        assert_eq!(read("#1\tAnnotatorNotes T1\tsure?"), "-");
        for wrong in
            ["T1 PER 0 12 Ada", "T1\tPER zero 12\tAda", "T1\tPER 0 3;\tAda", "PER\tT1 0 3\tAda", "T1\tPER\tAda"]
        {
            assert!(read(wrong).starts_with("expected `T1⇥TYPE"), "{wrong}");
        }
        assert!(read("T1\tPER 12 0\tAda").contains("before it starts"));
        assert_eq!(read("T1\tPER 0 3;2 5\tAda"), "pieces of a mention of type PER overlap (2 is before 3)");
    }

    #[test]
    fn pieces_are_joined_over_white_space_only() {
        let read = |line: &str| place_in("the Zoë\n  Lind left", line, 0);
        assert_eq!(read("T1\tPER 4 7;10 14\tZoë Lind"), "PER 4..14");
        assert_eq!(read("T1\tPER 10 14;4 7\tZoë Lind"), "PER 4..14");
        assert_eq!(read("T1\tPER 4 7;7 8;8 14\tZoë Lind"), "PER 4..14");
        assert_eq!(read("T1\tPER 0 3;10 14\tthe Lind"), "left out");
        assert_eq!(read("T1\tPER 4 7;40 44\tZoë Lind"), "PER 4..44", "the check of the mention reports it");
    }

    #[test]
    fn a_byte_order_mark_counts_if_the_words_say_so() {
        let text = "Ada Lind";
        let index = CharIndex::new(text);
        let of = |line: &str| vec![(Place::Line(1), annotation(line).unwrap().unwrap())];
        assert_eq!(shift(&of("T1\tPER 1 4\tAda"), text, &index), 1);
        assert_eq!(shift(&of("T1\tPER 0 3\tAda"), text, &index), 0);
        assert_eq!(place_in(text, "T1\tPER 5 9\tLind", 1), "PER 4..8");
        assert!(place_in(text, "T1\tPER 0 4\tAda", 1).ends_with("starts at 0, in the byte order mark"));
    }
}
