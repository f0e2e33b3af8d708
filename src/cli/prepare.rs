//! The arguments of `quarry prepare`. In: arguments. Out: clap structs, whose doc comments are the help texts. It must not read a
//! corpus.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

/// Convert a corpus to Parquet documents and gold entities.
#[derive(Debug, Clone, Args)]
pub struct PrepareArgs {
    /// The format of the corpus.
    pub format: Format,
    /// A file, or a folder to search for files of the format.
    pub input: PathBuf,
    /// The folder to write documents.parquet and gold.parquet to.
    pub out: PathBuf,
    /// What becomes a row. By default the sentence in formats of sentences (conll, mrc, positions, bmes, parquet), else the
    /// document.
    #[arg(long, value_name = "UNIT")]
    pub unit: Option<Unit>,
    /// Split into parts, each in its own folder: by shares such as `train=8,dev=1,test=1`, or by lists such as
    /// `train=train.txt,dev=dev.txt` with one document id per line (one sentence id, if the corpus marks no documents).
    #[arg(long, value_name = "PARTS")]
    pub split: Option<String>,
    /// What to do at a malformed line: `stop` reports it and writes nothing, `skip` counts it and continues.
    #[arg(long, default_value = "stop", value_name = "ACTION")]
    pub on_error: OnError,
    /// The allowed entity types, and their questions for `--mrc` (a schema file).
    #[arg(long, value_name = "SCHEMA")]
    pub schema: Option<PathBuf>,
    /// Also write mrc.json, with one item per row and type, tokenized at whitespace.
    #[arg(long)]
    pub mrc: bool,
    /// The tagging scheme (conll, bmes, parquet).
    #[arg(long, default_value = "auto", value_name = "SCHEME")]
    pub scheme: Scheme,
    /// The column of the tokens: a number from 1 (conll) or a name (parquet).
    #[arg(long, value_name = "COLUMN")]
    pub tokens: Option<String>,
    /// The columns of the tags, one per layer, separated by commas: numbers from 1 (conll) or names (parquet).
    #[arg(long, value_name = "COLUMNS", value_delimiter = ',')]
    pub tags: Vec<String>,
    /// The key of the id (jsonl, parquet).
    #[arg(long, value_name = "KEY")]
    pub id: Option<String>,
    /// The key of the text (jsonl).
    #[arg(long, value_name = "KEY")]
    pub text: Option<String>,
    /// Which labels to use if types have subtypes (ace, bbn, genia): coarse, fine or both. By default fine for bbn, else coarse.
    #[arg(long, value_name = "WHICH")]
    pub labels: Option<Labels>,
}

/// The supported corpus formats.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// One token per line in columns, an empty line between sentences: CoNLL-2002/2003, GermEval 2014, WNUT, LitBank.
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
    /// JSON Lines with a text (or tokens) and spans.
    Jsonl,
    /// spaCy's JSON: training documents, or pairs of text and entities.
    Spacy,
    /// Parquet with lists of tokens and tags, as in Hugging Face datasets.
    Parquet,
    /// Plain text, one document per file.
    Text,
}

/// What becomes a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Unit {
    /// One row per sentence.
    Sentence,
    /// One row per document.
    Document,
}

/// What to do at a malformed line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum OnError {
    /// Stop; nothing is written.
    Stop,
    /// Skip and count it.
    Skip,
}

/// The tagging scheme.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Scheme {
    /// Detected from the tags.
    Auto,
    /// I inside; B only where a mention directly follows another of its type.
    Iob1,
    /// B on every first token.
    Iob2,
    /// B, I, E, and S on a single token (L and U are read as E and S).
    Bioes,
    /// B, M, E, and S on a single token.
    Bmes,
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
