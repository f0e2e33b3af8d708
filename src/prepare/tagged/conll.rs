//! CoNLL columns → documents. In: one token per line, an empty line between sentences, one or more columns of tags. Out: documents,
//! separated at `-DOCSTART-` if the file has it. It must not require options for columns, separator or scheme: it detects them.
//!
//! Formats: CoNLL-2002 and 2003 shared tasks (four columns, space), GermEval 2014 (number, token, two layers, tab, `#` lines before
//! a sentence), WNUT 2017 (tab), LitBank (five layers, tab).

use std::collections::BTreeSet;

use crate::error::{Error, Result};
use crate::prepare::corpus::Corpus;
use crate::prepare::files::InputFile;
use crate::prepare::record::{Kind, LineError, Place, short};
use crate::prepare::sentences::{Assembler, TokenSentence};
use crate::prepare::settings::ReadOptions;
use crate::prepare::tagged::tags::{Detector, Scheme, decode, is_tag, label};

/// The expected format, quoted in hints.
pub(crate) const EXPECTED: &str =
    "CoNLL has one token per line with its tags in the last columns and an empty line between sentences";
/// Suffixes of the files to read from a folder.
pub(crate) const ENDINGS: &[&str] = &[
    ".conll",
    ".tsv",
    ".bio",
    ".iob",
    ".iob1",
    ".iob2",
    ".bioes",
    ".bmes",
    ".train",
    ".dev",
    ".test",
    ".testa",
    ".testb",
    ".annotated",
];

/// The beginning of a line that starts a new document.
const START: &str = "-DOCSTART";

/// Types of syntactic chunks (CoNLL-2000, and CoNLL-2003's German). A column with only these holds chunks, not entities.
const CHUNKS: [&str; 15] =
    ["NP", "VP", "PP", "ADVP", "ADJP", "SBAR", "PRT", "CONJP", "INTJ", "LST", "UCP", "PNP", "NC", "VC", "PC"];

/// The lines of a sentence: each with its number and fields.
type Rows<'text> = Vec<(usize, Vec<&'text str>)>;

/// A sentence of the file.
struct Block<'text> {
    rows: Rows<'text>,
    /// The number of its document in the file.
    document: usize,
}

/// The columns of tokens and tags, and the tagging scheme.
#[derive(Debug)]
struct Layout {
    tokens: usize,
    layers: Vec<usize>,
    scheme: Scheme,
}

/// Reads one file.
pub(crate) fn read(file: &InputFile, options: &ReadOptions, corpus: &mut Corpus) -> Result<()> {
    let Some(text) = file.text(corpus)? else { return Ok(()) };
    let (blocks, broken, marked) = blocks(&text);
    if let (true, Some((line, reason))) = (blocks.is_empty(), broken.first()) {
        return corpus.unreadable(file, Place::Line(*line), reason);
    }
    let layout = match layout(&blocks, options)? {
        Ok(layout) => layout,
        Err((line, reason)) => return corpus.unreadable(file, Place::Line(line), reason),
    };
    if options.tags.is_empty() && layout.layers.len() > 1 {
        let columns: Vec<String> = layout.layers.iter().map(|layer| (layer + 1).to_string()).collect();
        let columns = columns.join(", ");
        corpus.note(
            file,
            Place::Line(1),
            format!("files with several tag columns ({columns}), all read; select with `--tags`"),
        );
    }
    for (line, reason) in broken {
        corpus.problem(file, Place::Line(line), reason)?;
    }
    let mut current: Option<(usize, Assembler)> = None;
    for block in &blocks {
        let place = Place::Lines(block.rows[0].0);
        if current.as_ref().is_some_and(|(number, _)| *number != block.document) {
            finish(current.take(), file, corpus)?;
        }
        let (_, assembler) = current.get_or_insert_with(|| {
            let id = if marked { format!("{}/{}", file.name, block.document) } else { file.name.clone() };
            (block.document, Assembler::new(id, file, place, if marked { Kind::Document } else { Kind::File }))
        });
        match sentence(block, &layout, place) {
            Ok(sentence) => assembler.tokens(&sentence, file, corpus)?,
            Err((line, reason)) => corpus.problem(file, Place::Line(line), reason)?,
        }
    }
    finish(current, file, corpus)
}

fn finish(current: Option<(usize, Assembler)>, file: &InputFile, corpus: &mut Corpus) -> Result<()> {
    match current.and_then(|(_, assembler)| assembler.finish()) {
        Some(document) => corpus.push(file, document),
        None => Ok(()),
    }
}

/// The sentences of a file, its invalid lines, and whether `-DOCSTART-` separates documents. A line whose number of columns differs
/// from the first invalidates its sentence.
fn blocks(text: &str) -> (Vec<Block<'_>>, Vec<LineError>, bool) {
    let is_row = |line: &str| !line.trim().is_empty() && !line.starts_with('#') && !line.starts_with(START);
    let (first, line) = text.lines().enumerate().find(|(_, line)| is_row(line)).unwrap_or((0, ""));
    let tabs = line.contains('\t');
    let columns = fields(line, tabs).len();
    if columns < 2 && !line.is_empty() {
        return (Vec::new(), vec![(first + 1, no_tags(line))], false);
    }
    let (mut blocks, mut wrong, mut rows, mut broken) = (Vec::new(), Vec::new(), Rows::new(), false);
    let (mut document, mut marked) = (0, false);
    for (number, line) in text.lines().chain([""]).enumerate().map(|(index, line)| (index + 1, line)) {
        let start = line.starts_with(START);
        if !start && !line.trim().is_empty() {
            let fields = fields(line, tabs);
            if fields.len() == columns {
                rows.push((number, fields));
            } else if !line.starts_with('#') && !broken {
                broken = true;
                let reason = format!("{} columns, expected {columns} as above: `{}`", fields.len(), short(line));
                wrong.push((number, reason));
            }
            continue;
        }
        let rows = std::mem::take(&mut rows);
        if !std::mem::take(&mut broken) && !rows.is_empty() {
            blocks.push(Block { rows, document });
        }
        if start {
            document += usize::from(marked || !blocks.is_empty());
            marked = true;
        }
    }
    (blocks, wrong, marked)
}

/// The columns of a line, without empty ones at the end.
fn fields(line: &str, tabs: bool) -> Vec<&str> {
    if tabs {
        line.trim_end_matches(['\t', ' ']).split('\t').collect()
    } else {
        line.split([' ', '\t']).filter(|field| !field.is_empty()).collect()
    }
}

/// Detects the layout. The outer error is an invalid setting, the inner one a file of another format.
fn layout(blocks: &[Block<'_>], options: &ReadOptions) -> Result<Result<Layout, LineError>> {
    let Some((line, row)) = blocks.first().and_then(|block| block.rows.first()) else {
        return Ok(Err((1, "no sentence found".into())));
    };
    let columns = row.len();
    let tokens = match &options.tokens {
        Some(column) => column_index(column, "--tokens", columns)?,
        None => usize::from(columns > 2 && blocks.iter().take(20).all(has_token_numbers)),
    };
    let layers: Vec<usize> = if options.tags.is_empty() {
        tag_columns(blocks, tokens + 1..columns)
    } else {
        options.tags.iter().map(|column| column_index(column, "--tags", columns)).collect::<Result<_>>()?
    };
    if layers.is_empty() {
        let last = row.last().copied().unwrap_or_default();
        return Ok(Err((*line, no_tags(last))));
    }
    let mut detector = Detector::default();
    if options.scheme == Scheme::Auto {
        for block in blocks {
            for &layer in &layers {
                detector.observe(block.rows.iter().map(|(_, fields)| fields[layer]));
            }
        }
    }
    Ok(Ok(Layout { tokens, layers, scheme: detector.resolve(options.scheme) }))
}

fn no_tags(found: &str) -> String {
    format!("no column holds tags, expected O, or B-, I- … and a label, found `{}`", short(found))
}

/// Whether the first column numbers the tokens of the sentence.
fn has_token_numbers(block: &Block<'_>) -> bool {
    block.rows.iter().enumerate().all(|(index, (_, fields))| fields[0].parse() == Ok(index + 1))
}

/// Columns in which more than 90 % of the values are tags, except chunk columns unless there is nothing else.
fn tag_columns(blocks: &[Block<'_>], candidates: std::ops::Range<usize>) -> Vec<usize> {
    let values = |column: usize| blocks.iter().flat_map(|block| &block.rows).map(move |(_, fields)| fields[column]);
    let tagged = |column: &usize| {
        let wrong = values(*column).filter(|value| !is_tag(value)).count();
        wrong * 10 < values(*column).count()
    };
    let chunks = |column: &usize| {
        let labels: BTreeSet<&str> = values(*column).filter_map(label).collect();
        !labels.is_empty() && labels.iter().all(|label| CHUNKS.contains(label))
    };
    let found: Vec<usize> = candidates.filter(tagged).collect();
    let entities: Vec<usize> = found.iter().copied().filter(|column| !chunks(column)).collect();
    if entities.is_empty() { found } else { entities }
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

/// A sentence with the mentions of all its layers.
fn sentence<'text>(block: &Block<'text>, layout: &Layout, place: Place) -> Result<TokenSentence<'text>, LineError> {
    let tokens = block.rows.iter().map(|(_, fields)| fields[layout.tokens]).collect();
    let mut mentions = Vec::new();
    for &layer in &layout.layers {
        let tags: Vec<&str> = block.rows.iter().map(|(_, fields)| fields[layer]).collect();
        let found = decode(&tags, layout.scheme).map_err(|(index, reason)| (block.rows[index].0, reason))?;
        mentions.extend(found);
    }
    Ok(TokenSentence { tokens, mentions, place })
}
