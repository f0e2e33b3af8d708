//! Columns → what each holds. In: the rows of a column file and the options. Out: the column of words, the columns of labels and their
//! notation, or what the file lacks. It must not guess: where two readings are possible, it says which option decides.

use std::collections::BTreeSet;

use crate::error::{Error, Result};
use crate::prepare::record::{LineError, short};
use crate::prepare::settings::ReadOptions;
use crate::prepare::tagged::brackets::is_bracketed;
use crate::prepare::tagged::columns::{Block, Columns, Row};
use crate::prepare::tagged::tags::{Detector, Scheme, is_bare, is_tag, label};

/// Types of syntactic chunks (CoNLL-2000, and CoNLL-2003's German). A column with only these holds chunks, not entities.
const CHUNKS: [&str; 15] =
    ["NP", "VP", "PP", "ADVP", "ADJP", "SBAR", "PRT", "CONJP", "INTJ", "LST", "UCP", "PNP", "NC", "VC", "PC"];

/// The columns of words and labels, and their notation.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Layout {
    /// The column of words.
    pub(crate) tokens: usize,
    /// The columns of labels.
    pub(crate) layers: Vec<usize>,
    /// How they write labels.
    pub(crate) notation: Notation,
}

/// How a column writes labels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Notation {
    /// One tag per token.
    Tags(Scheme),
    /// `(TYPE*` and `*)`.
    Brackets,
}

/// Detects the layout, and takes rows that are no tokens out of the columns: comments, and the lines of ranges (`1-2`) in a column of
/// counts. Returns their number. The outer error is an invalid setting, the inner one a file of another format.
pub(crate) fn detect(columns: &mut Columns<'_>, options: &ReadOptions) -> Result<Result<(Layout, usize), LineError>> {
    let Some(first) = columns.blocks.iter().flat_map(|block| &block.rows).find(|row| !row.doubtful) else {
        return Ok(Err((1, "no sentence found".into())));
    };
    let (line, count) = (first.line, first.fields.len());
    let blocks = &columns.blocks;
    let counted = count > 1 && is_counted(blocks, 0);
    let tokens = match &options.tokens {
        Some(column) => column_index(column, "--tokens", count)?,
        None => columns.words.unwrap_or_else(|| {
            let is_words = |&column: &usize| !is_counted(blocks, column) && !is_constant(blocks, column);
            (0..count.saturating_sub(1)).find(is_words).unwrap_or_default()
        }),
    };
    let given: Vec<usize> =
        options.tags.iter().map(|column| column_index(column, "--tags", count)).collect::<Result<_>>()?;
    let known = options.tokens.is_some() || columns.words.is_some();
    let found = if given.is_empty() { find(blocks, tokens, count, known) } else { Ok((tokens, given)) };
    let (tokens, layers) = match found {
        Ok(found) => found,
        Err(reason) => return Ok(Err((line, reason))),
    };
    if options.tokens.is_none() && is_counted(blocks, tokens) {
        let reason = format!("column {} holds counts, and no other column is left for words", tokens + 1);
        return Ok(Err((line, reason)));
    }
    let bracketed = |column: &usize| share(blocks, *column, is_bracketed) && has_bracket(blocks, *column);
    let notation = if layers.iter().all(bracketed) {
        Notation::Brackets
    } else {
        Notation::Tags(scheme(blocks, &layers, options.scheme))
    };
    let mut ranges = 0;
    for block in &mut columns.blocks {
        block.rows.retain(|row| {
            let range = counted && tokens != 0 && is_range(&row.fields[0]);
            ranges += usize::from(range);
            !(range || row.doubtful && is_comment(row, &layers, notation))
        });
    }
    columns.blocks.retain(|block| !block.rows.is_empty());
    Ok(Ok((Layout { tokens, layers, notation }, ranges)))
}

/// The columns of words and of labels: tags behind the words, names in brackets, tags in front of the words, or labels without a prefix.
/// `known`: the column of words is given or named.
fn find(blocks: &[Block<'_>], tokens: usize, count: usize, known: bool) -> Result<(usize, Vec<usize>), String> {
    let behind = || tokens + 1..count;
    let tags = tag_columns(blocks, behind());
    if !tags.is_empty() {
        return Ok((tokens, tags));
    }
    let is_bracket_column = |column: &usize| share(blocks, *column, is_bracketed) && has_bracket(blocks, *column);
    match behind().filter(is_bracket_column).collect::<Vec<_>>().as_slice() {
        [] => {}
        [one] => return Ok((tokens, vec![*one])),
        several => {
            let names: Vec<String> = several.iter().map(|column| (column + 1).to_string()).collect();
            let names = names.join(", ");
            return Err(format!("columns {names} hold brackets; `--tags` says which of them has the names"));
        }
    }
    if known && tokens > 0 {
        let tags = tag_columns(blocks, 0..tokens);
        if !tags.is_empty() {
            return Ok((tokens, tags));
        }
    }
    if !known && share(blocks, 0, is_tag) && blocks.iter().any(|block| block.rows.len() > 1) {
        if count == 2 {
            return Ok((1, vec![0]));
        }
        return Err("column 1 holds tags; `--tokens` says which column has the words, `--tags 1` reads the tags".into());
    }
    let bare: Vec<usize> = behind().filter(|&column| is_bare_column(blocks, column)).collect();
    if let Some(&column) = bare.last() {
        return Ok((tokens, vec![column]));
    }
    let last = blocks.iter().flat_map(|block| &block.rows).find(|row| !row.doubtful);
    let last = last.and_then(|row| row.fields.last()).map(|field| short(field)).unwrap_or_default();
    Err(no_tags(&last))
}

/// The reason why a file has no labels.
pub(crate) fn no_tags(found: &str) -> String {
    format!(
        "no column holds tags, expected O, or B-, I- … and a label, found `{found}`; `--tokens` and `--tags` name the columns"
    )
}

/// The cells of a column, without those of doubtful rows.
fn cells<'a>(blocks: &'a [Block<'_>], column: usize) -> impl Iterator<Item = &'a str> {
    let rows = blocks.iter().flat_map(|block| &block.rows).filter(|row| !row.doubtful);
    rows.map(move |row| &*row.fields[column])
}

/// Whether more than 90 % of the cells are what `is` says.
fn share(blocks: &[Block<'_>], column: usize, is: fn(&str) -> bool) -> bool {
    let (mut wrong, mut all) = (0, 0);
    for cell in cells(blocks, column) {
        wrong += usize::from(!is(cell));
        all += 1;
    }
    wrong * 10 < all
}

fn has_bracket(blocks: &[Block<'_>], column: usize) -> bool {
    cells(blocks, column).any(|cell| cell.starts_with('('))
}

/// Whether a column counts the tokens of its sentence or of the file: whole numbers that rise within each sentence, and ranges of them.
fn is_counted(blocks: &[Block<'_>], column: usize) -> bool {
    let rises = |block: &Block<'_>| {
        let mut last = None;
        block.rows.iter().filter(|row| !row.doubtful).all(|row| {
            let cell = &row.fields[column];
            let number = cell.parse::<usize>().ok();
            let risen = number.is_some_and(|number| last.is_none_or(|last| number > last));
            last = number.or(last);
            risen || is_range(cell)
        })
    };
    blocks.iter().any(|block| block.rows.len() > 1) && blocks.iter().all(rises)
}

/// `1-2`, a word of several tokens, or `1.1`, a token that the text does not have, as CoNLL-U counts.
fn is_range(cell: &str) -> bool {
    cell.split_once(['-', '.']).is_some_and(|(from, to)| from.parse::<usize>().is_ok() && to.parse::<usize>().is_ok())
}

/// Whether a column repeats one value through each sentence, as the name of a document does.
fn is_constant(blocks: &[Block<'_>], column: usize) -> bool {
    let rows = |block: &Block<'_>| block.rows.iter().filter(|row| !row.doubtful).count();
    let one_value = |block: &Block<'_>| {
        let mut rows = block.rows.iter().filter(|row| !row.doubtful);
        // A file that names the sentence only where it begins leaves the other cells empty.
        let first = rows.next().map(|row| &row.fields[column]);
        rows.all(|row| row.fields[column].is_empty() || Some(&row.fields[column]) == first)
    };
    blocks.iter().map(rows).max().unwrap_or_default() > 2 && blocks.iter().all(one_value)
}

/// Columns in which more than 90 % of the values are tags, except chunk columns unless there is nothing else.
fn tag_columns(blocks: &[Block<'_>], candidates: std::ops::Range<usize>) -> Vec<usize> {
    let chunks = |column: &usize| {
        let labels: BTreeSet<&str> = cells(blocks, *column).filter_map(label).collect();
        !labels.is_empty() && labels.iter().all(|label| CHUNKS.contains(label))
    };
    let found: Vec<usize> = candidates.filter(|&column| share(blocks, column, is_tag)).collect();
    let entities: Vec<usize> = found.iter().copied().filter(|column| !chunks(column)).collect();
    if entities.is_empty() { found } else { entities }
}

/// Whether a column has labels without a prefix: at least a tenth of the cells are `O`, the others can be labels, and there are at most half
/// as many different ones as rows.
fn is_bare_column(blocks: &[Block<'_>], column: usize) -> bool {
    let (mut outside, mut all, mut labels) = (0, 0, BTreeSet::new());
    for cell in cells(blocks, column) {
        all += 1;
        if cell == "O" {
            outside += 1;
        } else if is_bare(cell) {
            labels.insert(cell);
        } else {
            return false;
        }
    }
    outside > 0 && outside * 10 >= all && !labels.is_empty() && labels.len() * 2 <= all
}

fn scheme(blocks: &[Block<'_>], layers: &[usize], given: Scheme) -> Scheme {
    let mut detector = Detector::default();
    if given == Scheme::Auto {
        for block in blocks {
            for &layer in layers {
                detector.observe(block.rows.iter().filter(|row| !row.doubtful).map(|row| &*row.fields[layer]));
            }
        }
    }
    detector.resolve(given)
}

/// Whether a row that begins with `#` is a comment: a token has a label in each column of labels.
fn is_comment(row: &Row<'_>, layers: &[usize], notation: Notation) -> bool {
    let is_label = |cell: &str| match notation {
        Notation::Tags(Scheme::Bare) => cell == "O" || is_bare(cell),
        Notation::Tags(_) => is_tag(cell),
        Notation::Brackets => is_bracketed(cell),
    };
    !layers.iter().all(|&layer| is_label(&row.fields[layer]))
}

fn column_index(column: &str, flag: &str, columns: usize) -> Result<usize> {
    match column.parse::<usize>() {
        Ok(number) if (1..=columns).contains(&number) => Ok(number - 1),
        _ => Err(Error::Setting {
            origin: "prepare".into(),
            key: flag.into(),
            reason: format!("`{column}` is not a column: the file has {columns}"),
            hint: format!("use numbers from 1 to {columns}"),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn detected(text: &str) -> Result<(usize, Vec<usize>, Notation), LineError> {
        let found = detect(&mut Columns::read(text), &ReadOptions::default()).unwrap();
        found.map(|(Layout { tokens, layers, notation }, _)| (tokens, layers, notation))
    }

    #[test]
    fn counts_and_names_of_documents_are_no_words() {
        let words_at = |text: &str| detected(text).unwrap().0;
        assert_eq!(words_at("0\tAda\tB-PER\n1\tleft\tO\n\n0\tBo\tB-PER\n"), 1);
        assert_eq!(words_at("1\tAda\tB-PER\n2\tleft\tO\n\n3\tBo\tB-PER\n5\tfell\tO\n"), 1);
        assert_eq!(words_at("a/1 0 0 Ada B-PER\na/1 0 1 left O\na/1 0 2 . O\n"), 3);
        // Numbers that do not rise are words.
        assert_eq!(words_at("3 CD O\n2 CD O\n1 CD O\n"), 0);
        assert_eq!(words_at("no UH O\nno UH O\nno UH O\n"), 0);
        let nothing = detected("1\tB-PER\n2\tI-PER\n").unwrap_err();
        assert_eq!(nothing, (1, "column 1 holds counts, and no other column is left for words".into()));
    }

    #[test]
    fn lines_of_ranges_are_no_tokens() {
        let mut columns = Columns::read("1-2\tdu\t_\n1\tde\tO\n2\tle\tO\n3\tBois\tB-LOC\n");
        let (layout, ranges) =
            detect(&mut columns, &ReadOptions { tags: vec!["3".into()], ..ReadOptions::default() }).unwrap().unwrap();
        assert_eq!((layout.tokens, ranges, columns.blocks[0].rows.len()), (1, 1, 3));
    }

    #[test]
    fn labels_come_in_several_notations() {
        let iob2 = Notation::Tags(Scheme::Iob2);
        assert_eq!(detected("B-PER\tAda\nO\tleft\n"), Ok((1, vec![0], iob2)));
        assert_eq!(detected("Ada B_PER\nLind I_PER\nleft O\n"), Ok((0, vec![1], iob2)));
        assert_eq!(detected("Ada NNP (PER*\nLind NNP *)\nleft VBD *\n"), Ok((0, vec![2], Notation::Brackets)));
        let bare = "Ada PER\nLind PER\nleft O\nRome city/old\n. O\n";
        assert_eq!(detected(bare), Ok((0, vec![1], Notation::Tags(Scheme::Bare))));
    }

    #[test]
    fn what_is_ambiguous_names_the_option() {
        let two = detected("Ada (S* (PER*)\nleft *) *\n").unwrap_err().1;
        assert_eq!(two, "columns 2, 3 hold brackets; `--tags` says which of them has the names");
        let reversed = detected("B-PER\tAda\tNNP\nO\tleft\tVBD\n").unwrap_err().1;
        assert!(reversed.starts_with("column 1 holds tags; `--tokens` says"), "{reversed}");
        assert!(detected("Ada NNP\nleft VBD\n").unwrap_err().1.ends_with("`--tokens` and `--tags` name the columns"));
    }
}
