//! Parquet with tokens and tags → documents. In: rows with a list of tokens and one or more lists of tags, as strings or class numbers.
//! Out: one document per file whose sentences are the rows; rows with an id are documents. It must not guess what a number means.
//!
//! Format: data sets as stored by Hugging Face; the class names are in the file's `huggingface` metadata.

use std::fs::File;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Int64Type};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use serde_json::Value;

use crate::error::{Error, Result};
use crate::prepare::corpus::Corpus;
use crate::prepare::files::InputFile;
use crate::prepare::record::{Kind, Place};
use crate::prepare::sentences::{Assembler, TokenSentence};
use crate::prepare::settings::ReadOptions;
use crate::prepare::tagged::tags::{Detector, Scheme, decode};

/// The expected format, quoted in hints.
pub(crate) const EXPECTED: &str = "the Parquet file needs a list of tokens and a list of tags; name them with --tokens and --tags if they are not `tokens` and `ner_tags`";
/// Suffixes of the files to read from a folder.
pub(crate) const ENDINGS: &[&str] = &[".parquet"];

const TOKENS: [&str; 3] = ["tokens", "words", "token"];
const TAGS: [&str; 5] = ["ner_tags", "tags", "ner", "labels", "fine_ner_tags"];
const IDS: [&str; 2] = ["doc_id", "id"];

/// A row: its id, tokens, and tags by layer.
struct Sentence {
    place: Place,
    id: Option<String>,
    tokens: Vec<String>,
    layers: Vec<Vec<String>>,
}

/// Reads one file.
pub(crate) fn read(file: &InputFile, options: &ReadOptions, corpus: &mut Corpus) -> Result<()> {
    let first_row = Place::Row(1);
    let failed = |source: std::io::Error| Error::Read { path: file.path.clone(), source: source.into() };
    let opened = File::open(&file.path).map_err(failed)?;
    let builder = match ParquetRecordBatchReaderBuilder::try_new(opened) {
        Ok(builder) => builder,
        Err(error) => return corpus.unreadable(file, first_row, error.to_string()),
    };
    let columns = match Columns::find(&builder, options) {
        Ok(columns) => columns,
        Err(reason) => return corpus.unreadable(file, first_row, reason),
    };
    let batches = match builder.build() {
        Ok(batches) => batches,
        Err(error) => return corpus.unreadable(file, first_row, error.to_string()),
    };
    let mut sentences = Vec::new();
    let mut row = 0;
    for batch in batches {
        match batch.map_err(|error| error.to_string()).and_then(|batch| columns.open(&batch)) {
            Ok(opened) => {
                for index in 0..opened.rows {
                    row += 1;
                    match opened.sentence(index, row, &columns) {
                        Ok(sentence) => sentences.push(sentence),
                        Err(reason) => corpus.problem(file, Place::Row(row), reason)?,
                    }
                }
            }
            Err(reason) => return corpus.unreadable(file, Place::Row(row + 1), reason),
        }
    }
    let mut detector = Detector::default();
    for tags in sentences.iter().flat_map(|sentence: &Sentence| &sentence.layers) {
        detector.observe(tags.iter().map(String::as_str));
    }
    add(&sentences, detector.resolve(options.scheme), file, corpus)
}

fn add(sentences: &[Sentence], scheme: Scheme, file: &InputFile, corpus: &mut Corpus) -> Result<()> {
    let mut rest = Assembler::new(file.name.clone(), file, Place::Row(1), Kind::File);
    for Sentence { place, id, tokens, layers } in sentences {
        let mut mentions = Vec::new();
        let mut wrong = None;
        for tags in layers {
            let tags: Vec<&str> = tags.iter().map(String::as_str).collect();
            match decode(&tags, scheme) {
                Ok(found) => mentions.extend(found),
                Err((index, reason)) => wrong = Some(format!("token {}: {reason}", index + 1)),
            }
        }
        if let Some(reason) = wrong {
            corpus.problem(file, *place, reason)?;
            continue;
        }
        let sentence = TokenSentence {
            tokens: tokens.iter().map(String::as_str).collect(),
            mentions,
            place: *place,
            lines: Vec::new(),
        };
        match id {
            None => rest.tokens(&sentence, file, corpus)?,
            Some(id) => {
                let mut document = Assembler::new(id.clone(), file, *place, Kind::Sentence);
                document.tokens(&sentence, file, corpus)?;
                document.finish().map_or(Ok(()), |document| corpus.push(file, document))?;
            }
        }
    }
    rest.finish().map_or(Ok(()), |document| corpus.push(file, document))
}

/// The columns to read.
struct Columns {
    id: Option<String>,
    tokens: String,
    tags: Vec<(String, Option<Vec<String>>)>,
}

impl Columns {
    fn find(builder: &ParquetRecordBatchReaderBuilder<File>, options: &ReadOptions) -> Result<Self, String> {
        let schema = builder.schema();
        let names: Vec<&str> = schema.fields().iter().map(|field| field.name().as_str()).collect();
        let is_list = |name: &str| {
            let field = schema.field_with_name(name);
            field.is_ok_and(|field| matches!(field.data_type(), DataType::List(_) | DataType::LargeList(_)))
        };
        let given = |name: &str| {
            let missing = || format!("no list column `{name}`, the columns are {}", names.join(", "));
            is_list(name).then(|| name.to_owned()).ok_or_else(missing)
        };
        let known = |known: &[&str], content: &str| {
            let found = known.iter().find(|name| is_list(name)).map(|name| (*name).to_owned());
            found.ok_or_else(|| {
                format!("no list column with {content} ({}), the columns are {}", known.join(", "), names.join(", "))
            })
        };
        let tokens = options.tokens.as_deref().map_or_else(|| known(&TOKENS, "tokens"), given)?;
        let tags = if options.tags.is_empty() {
            vec![known(&TAGS, "tags")?]
        } else {
            options.tags.iter().map(|name| given(name)).collect::<Result<_, _>>()?
        };
        let id = match &options.id {
            Some(name) if names.contains(&name.as_str()) => Some(name.clone()),
            Some(name) => return Err(format!("no column `{name}`, the columns are {}", names.join(", "))),
            None => IDS.iter().find(|name| names.contains(name)).map(|name| (*name).to_owned()),
        };
        let about = schema.metadata().get("huggingface").and_then(|text| serde_json::from_str::<Value>(text).ok());
        let classes = |name: &str| class_names(about.as_ref()?, name);
        let given = (!options.tag_names.is_empty()).then(|| options.tag_names.clone());
        let tags = tags.into_iter().map(|name| (name.clone(), given.clone().or_else(|| classes(&name)))).collect();
        Ok(Self { id, tokens, tags })
    }

    /// Casts the columns of a batch: numbers to integers, everything else to strings.
    fn open(&self, batch: &RecordBatch) -> Result<Opened, String> {
        let column = |name: &str| batch.column_by_name(name).cloned().ok_or_else(|| format!("no column `{name}`"));
        let list = |name: &str, of: DataType| {
            let target = DataType::List(std::sync::Arc::new(arrow::datatypes::Field::new_list_field(of, true)));
            cast(&column(name)?, &target).map_err(|error| error.to_string())
        };
        let mut tags = Vec::new();
        for (name, _) in &self.tags {
            let element = match column(name)?.data_type() {
                DataType::List(field) | DataType::LargeList(field) => field.data_type().clone(),
                other => other.clone(),
            };
            tags.push(list(name, if element.is_integer() { DataType::Int64 } else { DataType::Utf8 })?);
        }
        let id = match &self.id {
            Some(name) => Some(cast(&column(name)?, &DataType::Utf8).map_err(|error| error.to_string())?),
            None => None,
        };
        Ok(Opened { rows: batch.num_rows(), id, tokens: list(&self.tokens, DataType::Utf8)?, tags })
    }
}

/// The class names of column `name`: under `info.features`, for a list in its `feature`.
fn class_names(about: &Value, name: &str) -> Option<Vec<String>> {
    let feature = about.pointer("/info/features")?.get(name)?;
    let inner = feature.get("feature").unwrap_or(feature);
    let inner = inner.get(0).unwrap_or(inner);
    inner.get("names")?.as_array()?.iter().map(|name| name.as_str().map(str::to_owned)).collect()
}

/// The columns of a batch, cast.
struct Opened {
    rows: usize,
    id: Option<ArrayRef>,
    tokens: ArrayRef,
    tags: Vec<ArrayRef>,
}

impl Opened {
    fn sentence(&self, index: usize, row: usize, columns: &Columns) -> Result<Sentence, String> {
        let cell = |list: &ArrayRef, name: &str| {
            let value = list.is_valid(index).then(|| list.as_list::<i32>().value(index));
            value.ok_or_else(|| format!("`{name}` is null"))
        };
        let tokens = strings(&cell(&self.tokens, &columns.tokens)?, &columns.tokens)?;
        let mut layers = Vec::new();
        for (list, (name, classes)) in self.tags.iter().zip(&columns.tags) {
            let values = cell(list, name)?;
            let tags = match values.data_type() {
                DataType::Utf8 => strings(&values, name)?,
                _ => classes_of(&values, name, classes.as_deref())?,
            };
            if tags.len() != tokens.len() {
                return Err(format!("{} tokens but {} tags in `{name}`", tokens.len(), tags.len()));
            }
            layers.push(tags);
        }
        let id =
            self.id.as_ref().filter(|id| id.is_valid(index)).map(|id| id.as_string::<i32>().value(index).to_owned());
        Ok(Sentence { place: Place::Row(row), id, tokens, layers })
    }
}

fn strings(values: &ArrayRef, name: &str) -> Result<Vec<String>, String> {
    let values = values.as_string::<i32>();
    let one = |value: Option<&str>| value.map(str::to_owned).ok_or_else(|| format!("an element of `{name}` is null"));
    values.iter().map(one).collect()
}

fn classes_of(values: &ArrayRef, name: &str, classes: Option<&[String]>) -> Result<Vec<String>, String> {
    let classes = classes.ok_or_else(|| {
        format!(
            "`{name}` holds numbers, and the file's `huggingface` metadata has no class names for them; `--tag-names O,B-PER,I-PER,…` names them from 0"
        )
    })?;
    let one = |value: Option<i64>| {
        let number = value.ok_or_else(|| format!("an element of `{name}` is null"))?;
        let class = usize::try_from(number).ok().and_then(|number| classes.get(number));
        class.cloned().ok_or_else(|| format!("unknown tag {number} in `{name}`, {} are named", classes.len()))
    };
    values.as_primitive::<Int64Type>().iter().map(one).collect()
}
