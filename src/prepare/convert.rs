//! A corpus → files. In: [`Settings`]. Out: documents and gold entities as Parquet, a summary of them and the problems. It must
//! not print.

use std::path::Path;

use clap::ValueEnum;

use crate::error::{Error, Result};
use crate::prepare::corpus::{Corpus, Note, Problem};
use crate::prepare::files::InputFile;
use crate::prepare::output::granularity::Row;
use crate::prepare::output::granularity::Unit;
use crate::prepare::output::summary::Summary;
use crate::prepare::output::{granularity, split, write};
use crate::prepare::settings::{Format, ReadOptions, Settings};
use crate::prepare::tagged::tags::Scheme;
use crate::prepare::{files, markup, standoff, tagged};
use crate::task::entity_schema::{EntitySchema, Nesting};

/// The result of a conversion.
#[derive(Debug, Clone)]
pub struct Prepared {
    /// The figures of each part; one entry if the corpus was not split.
    pub summaries: Vec<Summary>,
    /// Skipped items, each with its file, its place and what was expected.
    pub problems: Vec<String>,
    /// Notes for the user that are not problems.
    pub notes: Vec<String>,
    /// Documents and mentions that were left out on purpose: rejected by an annotator, or in pieces. The notes say which.
    pub left_out: usize,
    /// Files that could not be read, or only partly.
    pub refused_files: usize,
}

type Reader = fn(&InputFile, &ReadOptions, &mut Corpus) -> Result<()>;

/// Returns a format's description for hints, the suffixes of its files, and its reader.
fn reader(format: Format) -> (&'static str, &'static [&'static str], Reader) {
    match format {
        Format::Conll => (tagged::conll::EXPECTED, tagged::conll::ENDINGS, tagged::conll::read),
        Format::Conll2012 => (tagged::conll2012::EXPECTED, tagged::conll2012::ENDINGS, tagged::conll2012::read),
        Format::Ontonotes => (markup::ontonotes::EXPECTED, markup::ontonotes::ENDINGS, markup::ontonotes::read),
        Format::Ace => (markup::ace::EXPECTED, markup::ace::ENDINGS, markup::ace::read),
        Format::Genia => (markup::genia::EXPECTED, markup::genia::ENDINGS, markup::genia::read),
        Format::Bbn => (markup::bbn::EXPECTED, markup::bbn::ENDINGS, markup::bbn::read),
        Format::Mrc => (standoff::mrc::EXPECTED, standoff::mrc::ENDINGS, standoff::mrc::read),
        Format::Positions => (standoff::positions::EXPECTED, standoff::positions::ENDINGS, standoff::positions::read),
        Format::Bmes => (tagged::bmes::EXPECTED, tagged::bmes::ENDINGS, tagged::bmes::read),
        Format::Brat => (standoff::brat::EXPECTED, standoff::brat::ENDINGS, standoff::brat::read),
        Format::Jsonl => (standoff::jsonl::EXPECTED, standoff::jsonl::ENDINGS, standoff::jsonl::read),
        Format::Spacy => (standoff::spacy::EXPECTED, standoff::spacy::ENDINGS, standoff::spacy::read),
        Format::Parquet => {
            (tagged::token_parquet::EXPECTED, tagged::token_parquet::ENDINGS, tagged::token_parquet::read)
        }
        Format::Text => (standoff::plain::EXPECTED, standoff::plain::ENDINGS, standoff::plain::read),
    }
}

/// The unit of a row if `--unit` is not given.
fn default_unit(format: Format) -> Unit {
    match format {
        Format::Conll | Format::Mrc | Format::Positions | Format::Bmes | Format::Parquet => Unit::Sentence,
        _ => Unit::Document,
    }
}

/// Fails if an option is given that the format does not support.
fn refuse_unsupported_option(format: Format, read: &ReadOptions) -> Result<()> {
    let tagged = [Format::Conll, Format::Jsonl, Format::Parquet];
    let options: [(&str, bool, &[Format]); 8] = [
        ("--scheme", read.scheme != Scheme::Auto, &[Format::Conll, Format::Bmes, Format::Jsonl, Format::Parquet]),
        ("--tokens", read.tokens.is_some(), &tagged),
        ("--tags", !read.tags.is_empty(), &tagged),
        ("--tag-names", !read.tag_names.is_empty(), &tagged[1..]),
        ("--unlabelled", read.unlabelled, &[Format::Jsonl]),
        ("--id", read.id.is_some(), &tagged[1..]),
        ("--text", read.text.is_some(), &[Format::Jsonl]),
        ("--labels", read.labels.is_some(), &[Format::Ace, Format::Bbn, Format::Genia]),
    ];
    let name =
        |format: &Format| format.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default();
    match options.into_iter().find(|(_, given, formats)| *given && !formats.contains(&format)) {
        None => Ok(()),
        Some((option, _, formats)) => Err(Error::Setting {
            origin: "prepare".into(),
            key: option.into(),
            reason: format!("the format `{}` does not support it", name(&format)),
            hint: format!("remove it; it applies to {}", formats.iter().map(name).collect::<Vec<_>>().join(", ")),
        }),
    }
}

/// Reads and checks the corpus, then writes the tables.
pub fn run(settings: &Settings) -> Result<Prepared> {
    refuse_unsupported_option(settings.format, &settings.read)?;
    let (expected, endings, read) = reader(settings.format);
    let files = files::list(&settings.input, endings)?;
    let mut corpus = Corpus::new(settings.on_error, expected, settings.read.schema.as_ref());
    // In the other formats ids are the corpus's own: an id in two files means a document annotated twice, and the user must choose.
    corpus.qualify = settings.read.id.is_none()
        && matches!(settings.format, Format::Mrc | Format::Jsonl | Format::Spacy | Format::Parquet);
    for file in &files {
        read(file, &settings.read, &mut corpus)?;
    }
    let mut notes: Vec<String> = corpus.notes.iter().map(|(text, note)| note_line(text, note)).collect();
    let problems: Vec<String> = corpus.problems.iter().map(ToString::to_string).collect();
    let (refused_files, left_out) = (corpus.refused_files, corpus.left_out);
    let without_mentions = corpus.without_mentions.take();
    let documents = corpus.into_documents();
    if documents.is_empty() {
        return Err(Error::Input {
            location: settings.input.display().to_string(),
            reason: match problems.first() {
                Some(first) => format!("no document remains; problems: {}, the first: {first}", problems.len()),
                None => "it contains no document".into(),
            },
            hint: expected.into(),
        });
    }
    if let Some(problem) = without_mentions.filter(|_| documents.iter().all(|one| one.mentions.is_empty())) {
        let Problem { path, place, reason } = problem;
        return Err(Error::Corpus { path, place, reason, hint: expected.into() });
    }
    if settings.format != Format::Text
        && !settings.read.unlabelled
        && documents.iter().all(|one| one.mentions.is_empty())
    {
        notes.push("the corpus has no mention".into());
    }
    let unit = settings.unit.unwrap_or(default_unit(settings.format));
    let rows: Vec<Row> = documents.into_iter().flat_map(|document| granularity::rows(document, unit)).collect();
    let heads = rows.iter().flat_map(|row| &row.mentions).any(|mention| mention.head.is_some());
    let split::Parts { parts, unlisted } = split::split(rows, settings.split.as_ref())?;
    if unlisted > 0 {
        notes.push(format!("documents in no list, skipped: {unlisted}"));
    }
    let summaries: Vec<Summary> = parts.iter().map(|(name, rows)| Summary::of(name, rows)).collect();
    let nested = summaries.iter().any(Summary::needs_nesting);
    let schema = match &settings.read.schema {
        Some(schema) => {
            if nested && schema.nested != Nesting::Nested {
                notes.push(format!(
                    "some mentions are nested or overlap, and the schema's nested = {} loses such mentions",
                    schema.nested
                ));
            }
            Some(schema.clone())
        }
        None => write::found_schema(parts.iter().flat_map(|(_, rows)| rows), nested),
    };
    if settings.mrc && schema.is_none() {
        return Err(Error::Setting {
            origin: "prepare".into(),
            key: "--mrc".into(),
            reason: "the corpus has no mentions, so there are no types to ask for".into(),
            hint: "name the types and questions with --schema".into(),
        });
    }
    for (name, rows) in &parts {
        let folder = if name.is_empty() { settings.out.clone() } else { settings.out.join(name) };
        write::tables(&folder, rows, heads)?;
        if let (true, Some(schema)) = (settings.mrc, &schema) {
            mrc_json(&folder, rows, schema, &mut notes)?;
        }
    }
    if let (None, Some(schema)) = (&settings.read.schema, &schema) {
        write::schema(&settings.out.join(write::SCHEMA), schema)?;
    }
    Ok(Prepared { summaries, problems, notes, left_out, refused_files })
}

fn note_line(text: &str, note: &Note) -> String {
    format!("{text}: {} (the first in {})", note.count, note.first)
}

fn mrc_json(folder: &Path, rows: &[Row], schema: &EntitySchema, notes: &mut Vec<String>) -> Result<()> {
    let path = folder.join(write::MRC);
    let mut changed = (0, 0);
    write::write_atomically(&path, |file| {
        changed = standoff::mrc::write(file, rows, schema)?;
        Ok(())
    })?;
    let (spaced, split) = changed;
    if spaced > 0 {
        notes.push(format!("texts whose white space mrc.json reduces to single spaces: {spaced}"));
    }
    if split > 0 {
        notes.push(format!("words split in mrc.json because a mention begins or ends inside them: {split}"));
    }
    Ok(())
}
