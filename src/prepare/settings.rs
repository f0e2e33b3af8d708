//! The settings of a conversion. In: resolved arguments. Out: what the readers and writers get. It must not read a file.

use std::path::PathBuf;

use clap::ValueEnum;

use crate::prepare::corpus::OnError;
use crate::prepare::output::granularity::Unit;
use crate::prepare::output::split::Split;
use crate::prepare::tagged::tags::Scheme;
use crate::task::entity_schema::EntitySchema;

/// How to read files; each format uses the options it supports.
#[derive(Debug, Clone)]
pub struct ReadOptions {
    /// The allowed types, if known.
    pub schema: Option<EntitySchema>,
    /// The tagging scheme.
    pub scheme: Scheme,
    /// The column or key of tokens.
    pub tokens: Option<String>,
    /// The columns of tags, one per layer, or the keys of labels.
    pub tags: Vec<String>,
    /// The names of tags that are numbers, from 0.
    pub tag_names: Vec<String>,
    /// Whether to read only texts.
    pub unlabelled: bool,
    /// The key or column of a row's id.
    pub id: Option<String>,
    /// The key of a row's text.
    pub text: Option<String>,
    /// Types, subtypes or both; `None` means the format's default.
    pub labels: Option<Labels>,
}

impl Default for ReadOptions {
    fn default() -> Self {
        Self {
            schema: None,
            scheme: Scheme::Auto,
            tokens: None,
            tags: Vec::new(),
            tag_names: Vec::new(),
            unlabelled: false,
            id: None,
            text: None,
            labels: None,
        }
    }
}

/// The input, the output and how to convert.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The format of the corpus.
    pub format: Format,
    /// A file or folder.
    pub input: PathBuf,
    /// The output folder; created if missing.
    pub out: PathBuf,
    /// The unit of a row; `None` means the format's default.
    pub unit: Option<Unit>,
    /// The parts, each written to its own folder.
    pub split: Option<Split>,
    /// How to handle an invalid line.
    pub on_error: OnError,
    /// Whether to write MRC JSON as well.
    pub mrc: bool,
    /// How to read files.
    pub read: ReadOptions,
}

/// The supported corpus formats.
#[expect(clippy::doc_markdown, reason = "the help shows these docs: names of corpora stay plain")]
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// One token per line in columns, an empty line between sentences: CoNLL-2002 to 2005, GermEval 2014, WNUT, LitBank, HIPE, Few-NERD;
    /// also WikiNER's `word|tag` lines, and CSV with a line of names.
    Conll,
    /// CoNLL-2012 (`_gold_conll`), with bracketed names in the eleventh column.
    Conll2012,
    /// OntoNotes 5 `.name` files.
    Ontonotes,
    /// ACE 2004 and 2005: `.apf.xml` beside `.sgm`.
    Ace,
    /// GENIA's XML (GENIAcorpus3.02.xml).
    Genia,
    /// BBN's inline XML (ENAMEX, NUMEX, TIMEX).
    Bbn,
    /// BERT-MRC's JSON: one item per sentence and type.
    Mrc,
    /// The JSON of BERT-MRC's GENIA: one item per sentence, with "start;end" positions by label.
    Positions,
    /// One sentence per line: tokens, a tab, BMES tags.
    Bmes,
    /// brat standoff: `.ann` beside `.txt`.
    Brat,
    /// JSON Lines or a JSON list, with a text and spans or tokens and tags: Hugging Face, doccano, Prodigy, Label Studio, DataTurks,
    /// CLUENER, GLiNER, SciERC.
    Jsonl,
    /// spaCy's JSON: training documents, or pairs of text and entities.
    Spacy,
    /// Parquet with lists of tokens and tags, as in Hugging Face datasets.
    Parquet,
    /// Plain text, one document per file.
    Text,
}

/// Which labels to use if types have subtypes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Labels {
    /// The types.
    Coarse,
    /// The subtypes.
    Fine,
    /// Both: each mention once under its type and once under its subtype.
    Both,
}
