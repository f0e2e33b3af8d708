//! `quarry prepare` as it is typed. In: arguments. Out: clap structs, whose doc comments are the help texts. It may not look at
//! a corpus.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

/// Turn a corpus into documents and gold entities.
#[derive(Debug, Clone, Args)]
pub struct PrepareArgs {
    /// What the corpus is written in.
    pub format: Format,
    /// A file, or a folder that is searched for files of the format.
    pub input: PathBuf,
    /// The folder to write documents.parquet and gold.parquet to.
    pub out: PathBuf,
    /// What becomes a row: by default the sentence in formats made of sentences (conll, mrc, positions, bmes, parquet), else
    /// the document.
    #[arg(long, value_name = "UNIT")]
    pub unit: Option<Unit>,
    /// Parts, each in a folder of its own: shares such as `train=8,dev=1,test=1`, or lists such as `train=train.txt,dev=dev.txt`
    /// with a document's id a line; a sentence's, where the corpus marks no documents.
    #[arg(long, value_name = "PARTS")]
    pub split: Option<String>,
    /// What a broken line does: `stop` names it and writes nothing, `skip` counts it and goes on.
    #[arg(long, default_value = "stop", value_name = "WHAT")]
    pub on_error: OnError,
    /// The entity types there may be, and their questions for `--mrc` (a schema file).
    #[arg(long, value_name = "SCHEMA")]
    pub schema: Option<PathBuf>,
    /// Also write mrc.json, an item per row and type with whitespace tokens.
    #[arg(long)]
    pub mrc: bool,
    /// How mentions are tagged (conll, bmes, parquet).
    #[arg(long, default_value = "auto", value_name = "SCHEME")]
    pub scheme: Scheme,
    /// The column with the tokens: a number from 1 (conll), a name (parquet).
    #[arg(long, value_name = "COLUMN")]
    pub tokens: Option<String>,
    /// The columns with the tags, one a layer: numbers from 1 (conll), names (parquet).
    #[arg(long, value_name = "COLUMNS", value_delimiter = ',')]
    pub tags: Vec<String>,
    /// The key of a row's id (jsonl, parquet).
    #[arg(long, value_name = "KEY")]
    pub id: Option<String>,
    /// The key of a row's text (jsonl).
    #[arg(long, value_name = "KEY")]
    pub text: Option<String>,
    /// Which labels to take where types have subtypes (ace, bbn, genia): coarse, fine or both; by default coarse, for bbn fine.
    #[arg(long, value_name = "WHICH")]
    pub labels: Option<Labels>,
}

/// The formats that can be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// Columns, a token a line, an empty line between sentences: CoNLL-2002/2003, GermEval 2014, WNUT, LitBank.
    Conll,
    /// CoNLL-2012 (`_gold_conll`), names in brackets in the eleventh column.
    Conll2012,
    /// OntoNotes 5 `.name` files.
    Ontonotes,
    /// ACE 2004 and 2005: `.apf.xml` beside `.sgm`.
    Ace,
    /// GENIA's XML (GENIAcorpus3.02.xml).
    Genia,
    /// BBN's inline XML (ENAMEX, NUMEX, TIMEX).
    Bbn,
    /// JSON of BERT-MRC: an item per sentence and type.
    Mrc,
    /// JSON of BERT-MRC's GENIA: a sentence with "start;end" positions by label.
    Positions,
    /// A sentence a line: tokens, a tab, BMES tags.
    Bmes,
    /// brat standoff: `.ann` beside `.txt`.
    Brat,
    /// JSON Lines with a text (or tokens) and spans.
    Jsonl,
    /// spaCy's JSON: training documents, or pairs of text and entities.
    Spacy,
    /// Parquet with lists of tokens and tags, as Hugging Face keeps them.
    Parquet,
    /// Plain text, a document a file.
    Text,
}

/// What becomes a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Unit {
    /// Sentences.
    Sentence,
    /// Documents.
    Document,
}

/// What a broken line does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum OnError {
    /// It is the end; nothing is written.
    Stop,
    /// It is left out and counted.
    Skip,
}

/// How tags mark mentions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Scheme {
    /// As the tags look.
    Auto,
    /// I inside, B only where a mention follows another of its type.
    Iob1,
    /// B on every first token.
    Iob2,
    /// B, I, E, and S on a single token (L and U are read as E and S).
    Bioes,
    /// B, M, E, and S on a single token.
    Bmes,
}

/// Which labels to take where types have subtypes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Labels {
    /// The types.
    Coarse,
    /// The subtypes.
    Fine,
    /// Each mention under both.
    Both,
}
