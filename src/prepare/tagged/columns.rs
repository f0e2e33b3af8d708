//! Lines → sentences of rows. In: the text of a column file. Out: its sentences, each a list of rows with their fields, and the lines that
//! do not fit. It must not know which column means what.
//!
//! | file | fields | a sentence ends at |
//! |---|---|---|
//! | first line with a tab | between tabs | an empty line |
//! | first line names columns, with commas | CSV | an empty line, or another value in the column named after sentences |
//! | first line of `word|…|tag` | between bars, one token per field of the line | each line |
//! | any other | between spaces and tabs | an empty line |

use std::borrow::Cow;

use crate::prepare::files::Lines;
use crate::prepare::record::{LineError, short};
use crate::prepare::tagged::tags::is_tag;

/// The beginning of a line that starts a new document.
const START: &str = "-DOCSTART";

/// Names of columns with words, with tags, and of others, as header lines have them.
const WORDS: [&str; 8] = ["token", "tokens", "word", "words", "form", "orth", "text", "surface"];
const TAGS: [&str; 12] =
    ["tag", "tags", "label", "labels", "ner", "ne", "bio", "iob", "iob2", "bilou", "entity", "entities"];
const OTHERS: [&str; 9] = ["sentence", "id", "pos", "lemma", "chunk", "upos", "xpos", "misc", "index"];

/// A line with a token.
#[derive(Debug)]
pub(crate) struct Row<'text> {
    /// Its number in the file, from 1.
    pub(crate) line: usize,
    /// Its fields.
    pub(crate) fields: Vec<Cow<'text, str>>,
    /// Whether it begins with `#` and stands before every other row of its sentence: a comment, or a token.
    pub(crate) doubtful: bool,
}

/// A sentence of the file.
#[derive(Debug)]
pub(crate) struct Block<'text> {
    /// Its rows; at least one.
    pub(crate) rows: Vec<Row<'text>>,
    /// The number of its document in the file.
    pub(crate) document: usize,
}

/// A file in columns.
#[derive(Debug, Default)]
pub(crate) struct Columns<'text> {
    /// Its sentences, in order.
    pub(crate) blocks: Vec<Block<'text>>,
    /// Lines whose number of fields differs from that of the first row; they are in no sentence.
    pub(crate) broken: Vec<LineError>,
    /// Whether `-DOCSTART-` separates documents.
    pub(crate) marked: bool,
    /// The line that names the columns, if there is one; it is in no sentence.
    pub(crate) header: Option<usize>,
    /// The only column that the header calls one of words.
    pub(crate) words: Option<usize>,
}

/// What is between the fields of a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Separator {
    Tabs,
    Blanks,
    Commas,
    Bars,
}

impl<'text> Columns<'text> {
    /// Reads a file.
    pub(crate) fn read(text: &'text str) -> Self {
        let is_row = |line: &str| !line.trim().is_empty() && !line.starts_with('#') && !line.starts_with(START);
        let (first, line) = text.lines().enumerate().find(|(_, line)| is_row(line)).unwrap_or((0, ""));
        let separator = separator(line);
        let mut columns = match separator {
            Separator::Bars => Self::of_bars(text),
            Separator::Commas => Self::of_csv(text),
            Separator::Tabs | Separator::Blanks => Self::of_lines(text, separator, fields(line, separator).len()),
        };
        columns.take_header(first + 1);
        columns
    }

    fn of_lines(text: &'text str, separator: Separator, count: usize) -> Self {
        let (mut columns, mut rows, mut document) = (Self::default(), Vec::new(), 0);
        for (number, line) in text.lines().chain([""]).enumerate().map(|(index, line)| (index + 1, line)) {
            let start = line.starts_with(START);
            if !start && !line.trim().is_empty() {
                let fields = fields(line, separator);
                let comment = line.starts_with('#');
                if fields.len() == count {
                    let doubtful = comment && rows.iter().all(|row: &Row<'_>| row.doubtful);
                    let fields = fields.into_iter().map(Cow::Borrowed).collect();
                    rows.push(Row { line: number, fields, doubtful });
                } else if !comment {
                    columns.broken.push((number, unequal(fields.len(), count, line)));
                }
                continue;
            }
            let rows = std::mem::take(&mut rows);
            if !rows.is_empty() {
                columns.blocks.push(Block { rows, document });
            }
            if start {
                document += usize::from(columns.marked || !columns.blocks.is_empty());
                columns.marked = true;
            }
        }
        columns
    }

    /// A sentence per line, its fields `word|…|tag`.
    fn of_bars(text: &'text str) -> Self {
        let mut columns = Self::default();
        let mut count = None;
        for (number, line) in text.lines().enumerate().map(|(index, line)| (index + 1, line)) {
            let tokens: Vec<Vec<&str>> = line.split_whitespace().map(|token| token.split('|').collect()).collect();
            let Some(first) = tokens.first() else { continue };
            let count = *count.get_or_insert(first.len());
            if let Some(other) = tokens.iter().find(|fields| fields.len() != count) {
                columns.broken.push((number, unequal(other.len(), count, &other.join("|"))));
                continue;
            }
            let row = |fields: Vec<&'text str>| Row {
                line: number,
                fields: fields.into_iter().map(Cow::Borrowed).collect(),
                doubtful: false,
            };
            columns.blocks.push(Block { rows: tokens.into_iter().map(row).collect(), document: 0 });
        }
        columns
    }

    /// CSV with a line of names.
    fn of_csv(text: &str) -> Self {
        let (mut columns, mut rows) = (Self::default(), Vec::<Row<'_>>::new());
        let mut reader = csv::ReaderBuilder::new().has_headers(false).flexible(true).from_reader(text.as_bytes());
        let lines = Lines::new(text);
        let (mut count, mut sentence, mut current) = (None, None, String::new());
        for record in reader.records() {
            let record = match record {
                Ok(record) => record,
                Err(error) => {
                    let line = error.position().map_or(1, |place| place.line() as usize);
                    columns.broken.push((line, error.to_string()));
                    continue;
                }
            };
            let before = record.position().map_or(0, |place| place.byte() as usize);
            let start = text.len() - text[before..].trim_start_matches(['\r', '\n']).len();
            let line = lines.of(start);
            let count = *count.get_or_insert_with(|| {
                sentence = record.iter().position(|name| pieces(name).any(|piece| piece == "sentence"));
                record.len()
            });
            // The reader passes over empty lines.
            let mut ended = start > before;
            if record.len() != count {
                columns.broken.push((line, unequal(record.len(), count, record.get(0).unwrap_or_default())));
                continue;
            }
            let name = sentence.and_then(|column| record.get(column)).unwrap_or_default();
            if !name.is_empty() && name != current {
                ended = true;
                name.clone_into(&mut current);
            }
            if ended && !rows.is_empty() {
                columns.blocks.push(Block { rows: std::mem::take(&mut rows), document: 0 });
            }
            let fields = record.iter().map(|field| Cow::Owned(field.to_owned())).collect();
            rows.push(Row { line, fields, doubtful: false });
        }
        if !rows.is_empty() {
            columns.blocks.push(Block { rows, document: 0 });
        }
        columns
    }

    /// Takes the first row out if it names the columns.
    fn take_header(&mut self, line: usize) {
        let rows = self.blocks.first_mut().map(|block| &mut block.rows);
        let Some(rows) = rows else { return };
        let found = rows.iter().position(|row| row.line == line);
        if let Some(found) = found.filter(|&found| is_header(&rows[found].fields)) {
            let row = rows.remove(found);
            self.header = Some(line);
            let is_words = |name: &str| pieces(name).any(|piece| WORDS.contains(&piece.as_str()));
            let mut words = row.fields.iter().enumerate().filter(|(_, name)| is_words(name)).map(|(column, _)| column);
            self.words = words.next().filter(|_| words.next().is_none());
        }
        self.blocks.retain(|block| !block.rows.is_empty());
    }
}

fn separator(line: &str) -> Separator {
    let by_commas: Vec<&str> = line.split(',').map(|name| name.trim().trim_matches('"')).collect();
    let names = |known: &[&str]| by_commas.iter().any(|name| pieces(name).any(|piece| known.contains(&piece.as_str())));
    let barred = |token: &str| token.rsplit_once('|').is_some_and(|(_, tag)| is_tag(tag));
    if line.contains('\t') {
        Separator::Tabs
    } else if by_commas.len() > 1 && names(&WORDS) && names(&TAGS) {
        Separator::Commas
    } else if line.split_whitespace().all(barred) && !line.trim().is_empty() {
        Separator::Bars
    } else {
        Separator::Blanks
    }
}

/// The fields of a line, without empty ones at the end.
fn fields(line: &str, separator: Separator) -> Vec<&str> {
    if separator == Separator::Tabs {
        line.trim_end_matches(['\t', ' ']).split('\t').collect()
    } else {
        line.split([' ', '\t']).filter(|field| !field.is_empty()).collect()
    }
}

fn unequal(found: usize, expected: usize, line: &str) -> String {
    format!("{found} columns, expected {expected} as above: `{}`", short(line))
}

/// Whether a row names columns: no field is a tag, no two are equal, and at least two have words that such names are made of.
fn is_header(fields: &[Cow<'_, str>]) -> bool {
    let is_name = |field: &str| {
        pieces(field).any(|piece| [&WORDS[..], &TAGS, &OTHERS].iter().any(|known| known.contains(&piece.as_str())))
    };
    let equal = |one: &str, other: &str| one.to_lowercase() == other.to_lowercase();
    let differ = fields.iter().enumerate().all(|(index, one)| !fields[..index].iter().any(|other| equal(one, other)));
    differ && !fields.iter().any(|field| is_tag(field)) && fields.iter().filter(|field| is_name(field)).count() > 1
}

/// The words of a column's name, in lower case: `NE-COARSE-LIT` has three.
fn pieces(name: &str) -> impl Iterator<Item = String> + '_ {
    name.split(|letter: char| !letter.is_alphanumeric()).map(str::to_lowercase)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The sentences: the second field of each row, and its line.
    fn sentences(text: &str) -> Vec<String> {
        let row = |row: &Row<'_>| format!("{}:{}{}", row.line, row.fields[0], if row.doubtful { "?" } else { "" });
        let columns = Columns::read(text);
        columns.blocks.iter().map(|block| block.rows.iter().map(row).collect::<Vec<_>>().join(" ")).collect()
    }

    #[test]
    fn a_line_with_a_number_sign_is_doubtful_only_before_its_sentence() {
        let text = "# id 7\tx=y\n# a long comment with words\nAda _ _ O\n# _ _ O\n\n#tag _ _ O\n# _ _ O\nleft _ _ O\n";
        assert_eq!(sentences(text), ["1:#? 3:Ada 4:#", "6:#tag? 7:#? 8:left"]);
    }

    #[test]
    fn a_line_of_other_length_is_left_out_of_its_sentence() {
        let columns = Columns::read("Ada B-PER\nleft\nnow O\n");
        assert_eq!(columns.broken, [(2, "1 columns, expected 2 as above: `left`".to_owned())]);
        assert_eq!(columns.blocks[0].rows.len(), 2);
    }

    #[test]
    fn a_header_is_known_by_its_names() {
        assert_eq!(Columns::read("token\tlabel\nAda\tB-PER\n").header, Some(1));
        assert_eq!(Columns::read("# about\nTOKEN NE-FINE MISC\nAda B-PER _\n").header, Some(2));
        assert_eq!(Columns::read("TOKEN NE\n\nAda B-PER\n").blocks.len(), 1);
        for row in ["word O", "label NN PER", "Text text", "Ada B-PER"] {
            assert_eq!(Columns::read(&format!("{row}\n")).header, None, "{row}");
        }
    }

    #[test]
    fn csv_has_sentences_by_column_or_by_empty_lines() {
        let named = "Sentence #,Word,Tag\nSentence: 1,\"Lind, Ada\",B-PER\n,\"\"\"\",O\nSentence: 2,Rome,B-LOC\n1,2\n";
        let columns = Columns::read(named);
        assert_eq!(columns.broken, [(5, "2 columns, expected 3 as above: `1`".to_owned())]);
        let words: Vec<Vec<&str>> =
            columns.blocks.iter().map(|block| block.rows.iter().map(|row| &*row.fields[1]).collect()).collect();
        assert_eq!(words, [vec!["Lind, Ada", "\""], vec!["Rome"]]);
        assert_eq!(sentences("word,tag\nAda,B-PER\n\nRome,B-LOC\n"), ["2:Ada", "4:Rome"]);
    }

    #[test]
    fn a_line_of_bars_is_a_sentence() {
        assert_eq!(sentences("Ada|NNP|I-PER left|VBD|O\n\nRome|NNP|I-LOC\n"), ["1:Ada 1:left", "3:Rome"]);
        assert_eq!(
            Columns::read("Ada|O left|O\nRome\n").broken,
            [(2, "1 columns, expected 2 as above: `Rome`".into())]
        );
    }
}
