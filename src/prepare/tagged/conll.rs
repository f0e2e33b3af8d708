//! CoNLL columns → documents. In: a token a line, an empty line between sentences, one or more columns of tags. Out: documents,
//! parted by `-DOCSTART-` where there is one. It may not need to be told the columns, the separator or the scheme.
//!
//! Formats: CoNLL-2002 and 2003 shared tasks (four columns, space), GermEval 2014 (number, token, two layers, tab, `#` lines before
//! a sentence), WNUT 2017 (tab), LitBank (five layers, tab).

use std::collections::BTreeSet;

use crate::cli::Scheme;
use crate::error::{Error, Result};
use crate::prepare::corpus::Corpus;
use crate::prepare::files::InputFile;
use crate::prepare::options::ReadOptions;
use crate::prepare::record::{Broken, Kind, Place, short};
use crate::prepare::sentences::{Assembler, TokenSentence};
use crate::prepare::tagged::tags::{Detector, decode, is_tag, label};

/// What a broken file is told.
pub(crate) const EXPECTED: &str =
    "CoNLL has a token a line with its tags in the last columns and an empty line between sentences";
/// How files are known in a folder.
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

/// What begins the line that parts documents.
const START: &str = "-DOCSTART";

/// Types of syntactic chunks (CoNLL-2000, and CoNLL-2003's German); a column with no others holds chunks, not entities.
const CHUNKS: [&str; 15] =
    ["NP", "VP", "PP", "ADVP", "ADJP", "SBAR", "PRT", "CONJP", "INTJ", "LST", "UCP", "PNP", "NC", "VC", "PC"];

/// The lines of a sentence: each with its number and fields.
type Rows<'text> = Vec<(usize, Vec<&'text str>)>;

/// Where a sentence stands.
struct Block<'text> {
    rows: Rows<'text>,
    /// Which document of the file it belongs to.
    document: usize,
}

/// Which columns hold what.
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
        corpus.note(file, Place::Line(1), format!("files whose tag columns {columns} are all read (`--tags` chooses)"));
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

/// The sentences of a file, its broken lines, and whether `-DOCSTART-` parts it into documents. A line with another number of
/// columns than the first breaks its sentence.
fn blocks(text: &str) -> (Vec<Block<'_>>, Vec<Broken>, bool) {
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

/// The columns of a line; empty ones at the end are passed over.
fn fields(line: &str, tabs: bool) -> Vec<&str> {
    if tabs {
        line.trim_end_matches(['\t', ' ']).split('\t').collect()
    } else {
        line.split([' ', '\t']).filter(|field| !field.is_empty()).collect()
    }
}

/// The outer error is a setting that does not fit, the inner one a file that is not of this format.
fn layout(blocks: &[Block<'_>], options: &ReadOptions) -> Result<Result<Layout, Broken>> {
    let Some((line, row)) = blocks.first().and_then(|block| block.rows.first()) else {
        return Ok(Err((1, "there is no sentence".into())));
    };
    let columns = row.len();
    let tokens = match &options.tokens {
        Some(column) => numbered(column, "--tokens", columns)?,
        None => usize::from(columns > 2 && blocks.iter().take(20).all(counted)),
    };
    let layers: Vec<usize> = if options.tags.is_empty() {
        tag_columns(blocks, tokens + 1..columns)
    } else {
        options.tags.iter().map(|column| numbered(column, "--tags", columns)).collect::<Result<_>>()?
    };
    if layers.is_empty() {
        let last = row.last().copied().unwrap_or_default();
        return Ok(Err((*line, no_tags(last))));
    }
    let mut detector = Detector::default();
    if options.scheme == Scheme::Auto {
        for block in blocks {
            for &layer in &layers {
                detector.see(block.rows.iter().map(|(_, fields)| fields[layer]));
            }
        }
    }
    Ok(Ok(Layout { tokens, layers, scheme: detector.or(options.scheme) }))
}

fn no_tags(found: &str) -> String {
    format!("no column holds tags, expected O, or B-, I- … and a label, found `{}`", short(found))
}

/// Whether the first column counts the tokens of the sentence.
fn counted(block: &Block<'_>) -> bool {
    block.rows.iter().enumerate().all(|(index, (_, fields))| fields[0].parse() == Ok(index + 1))
}

/// Columns nearly all of whose values are tags, but for chunks.
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

fn numbered(column: &str, flag: &str, columns: usize) -> Result<usize> {
    match column.parse::<usize>() {
        Ok(number) if (1..=columns).contains(&number) => Ok(number - 1),
        _ => Err(Error::Setting {
            origin: "prepare".into(),
            key: flag.into(),
            reason: format!("`{column}` is no column of a file with {columns}"),
            hint: format!("use numbers from 1 to {columns}"),
        }),
    }
}

/// A sentence with the mentions of all its layers.
fn sentence<'text>(block: &Block<'text>, layout: &Layout, place: Place) -> Result<TokenSentence<'text>, Broken> {
    let tokens = block.rows.iter().map(|(_, fields)| fields[layout.tokens]).collect();
    let mut mentions = Vec::new();
    for &layer in &layout.layers {
        let tags: Vec<&str> = block.rows.iter().map(|(_, fields)| fields[layer]).collect();
        let found = decode(&tags, layout.scheme).map_err(|(index, reason)| (block.rows[index].0, reason))?;
        mentions.extend(found);
    }
    Ok(TokenSentence { tokens, mentions, place })
}
