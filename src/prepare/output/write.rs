//! Rows → files. In: the rows of a part. Out: `documents.parquet`, `gold.parquet` and, if no schema was given, `schema.toml`. It must
//! not leave a partly written file under its final name.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Schema};
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression, ZstdLevel};
use parquet::file::properties::WriterProperties;

use crate::error::{Cause, Error, Result};
use crate::machine::files::unfinished;
use crate::prepare::char_index::CharIndex;
use crate::prepare::output::granularity::Row;
use crate::prepare::record::Mention;
use crate::tables::mention_fields;
use crate::task::entity_schema::{EntitySchema, EntityType, Nesting};
use crate::text::span::CharSpan;

/// The documents table.
pub(crate) const DOCUMENTS: &str = "documents.parquet";
/// The gold table.
pub(crate) const GOLD: &str = "gold.parquet";
/// The schema that is written if none was given.
pub(crate) const SCHEMA: &str = "schema.toml";
/// The rows in the format of the reference implementation.
pub(crate) const MRC: &str = "mrc.json";

/// Documents per row group.
const ROW_GROUP_ROWS: usize = 8192;

/// Writes the tables of a part; `heads` adds the columns of mention heads.
pub(crate) fn tables(folder: &Path, rows: &[Row], heads: bool) -> Result<()> {
    std::fs::create_dir_all(folder).map_err(|source| failed(folder, source.into()))?;
    parquet(&folder.join(DOCUMENTS), rows, documents)?;
    parquet(&folder.join(GOLD), rows, |rows| gold(rows, heads))
}

/// Writes a temporary file and renames it to `path` once it is complete.
pub(crate) fn write_atomically(path: &Path, write: impl FnOnce(&mut File) -> Result<(), Cause>) -> Result<()> {
    let written = || -> Result<File, Cause> {
        let mut file = unfinished(path)?;
        write(file.as_file_mut())?;
        Ok(file.persist(path)?)
    };
    written().map(drop).map_err(|source| failed(path, source))
}

fn parquet(path: &Path, rows: &[Row], batch: impl Fn(&[Row]) -> Result<RecordBatch, Cause>) -> Result<()> {
    write_atomically(path, |file| {
        let compression = Compression::ZSTD(ZstdLevel::default());
        let properties = WriterProperties::builder().set_compression(compression).build();
        let mut writer = ArrowWriter::try_new(file, batch(&[])?.schema(), Some(properties))?;
        for rows in rows.chunks(ROW_GROUP_ROWS) {
            writer.write(&batch(rows)?)?;
            writer.flush()?;
        }
        writer.close()?;
        Ok(())
    })
}

fn failed(path: &Path, source: Cause) -> Error {
    Error::Write { path: path.into(), source }
}

fn documents(rows: &[Row]) -> Result<RecordBatch, Cause> {
    let strings = |value: fn(&Row) -> &str| -> ArrayRef {
        Arc::new(rows.iter().map(|row| Some(value(row))).collect::<StringArray>())
    };
    let lines: Int64Array = rows.iter().map(|row| Some(row.place.number() as i64)).collect();
    let sentences: Int64Array = rows.iter().map(|row| row.sentence.map(|number| number as i64)).collect();
    let schema = Schema::new(vec![
        Field::new("doc_id", DataType::Utf8, false),
        Field::new("text", DataType::Utf8, false),
        Field::new("source", DataType::Utf8, false),
        Field::new("line", DataType::Int64, false),
        Field::new("document", DataType::Utf8, false),
        Field::new("sentence", DataType::Int64, true),
    ]);
    let columns = vec![
        strings(|row| &row.id),
        strings(|row| &row.text),
        strings(|row| &row.source),
        Arc::new(lines),
        strings(|row| &row.document),
        Arc::new(sentences),
    ];
    Ok(RecordBatch::try_new(Arc::new(schema), columns)?)
}

/// The gold table: those columns of the store's `entities` that a corpus provides.
fn gold(rows: &[Row], heads: bool) -> Result<RecordBatch, Cause> {
    let mut fields = vec![Field::new("doc_id", DataType::Utf8, false)];
    let mentions = mention_fields();
    fields.extend(mentions.iter().take(4).map(|field| field.as_ref().clone()));
    let (mut ids, mut types, mut texts) = (Vec::new(), Vec::new(), Vec::new());
    let (mut starts, mut ends) = (Vec::new(), Vec::new());
    let (mut head_starts, mut head_ends, mut head_texts) = (Vec::new(), Vec::new(), Vec::new());
    for row in rows {
        let index = CharIndex::new(&row.text);
        let covered = |span: CharSpan| index.slice(&row.text, span);
        for Mention { entity_type, span, head, .. } in &row.mentions {
            ids.push(row.id.as_str());
            types.push(entity_type.as_str());
            starts.push(span.start as i64);
            ends.push(span.end as i64);
            texts.push(covered(*span).ok_or_else(|| format!("a mention outside the text of `{}`", row.id))?);
            head_starts.push(head.map(|head| head.start as i64));
            head_ends.push(head.map(|head| head.end as i64));
            head_texts.push(head.and_then(covered));
        }
    }
    let mut columns: Vec<ArrayRef> = vec![
        Arc::new(StringArray::from(ids)),
        Arc::new(StringArray::from(types)),
        Arc::new(Int64Array::from(starts)),
        Arc::new(Int64Array::from(ends)),
        Arc::new(StringArray::from(texts)),
    ];
    if heads {
        let positions = ["head_start_char", "head_end_char"];
        fields.extend(positions.map(|name| Field::new(name, DataType::Int64, true)));
        fields.push(Field::new("head_text", DataType::Utf8, true));
        columns.extend([
            Arc::new(Int64Array::from(head_starts)) as ArrayRef,
            Arc::new(Int64Array::from(head_ends)),
            Arc::new(StringArray::from(head_texts)),
        ]);
    }
    Ok(RecordBatch::try_new(Arc::new(Schema::new(fields)), columns)?)
}

/// A schema of the types in the corpus, sorted by name, with generic questions for the user to improve.
pub(crate) fn found_schema<'row>(rows: impl IntoIterator<Item = &'row Row>, nested: bool) -> Option<EntitySchema> {
    let mentions = rows.into_iter().flat_map(|row| &row.mentions);
    let names: BTreeSet<&str> = mentions.map(|mention| mention.entity_type.as_str()).collect();
    let one = |name: &str| EntityType::new(name, format!("Which mentions of type {name} are there?"));
    let types: Vec<EntityType> = names.into_iter().map(one).collect();
    (!types.is_empty()).then_some(EntitySchema { nested: if nested { Nesting::Nested } else { Nesting::Flat }, types })
}

/// Writes a schema file.
pub(crate) fn schema(path: &Path, schema: &EntitySchema) -> Result<()> {
    let text = toml::to_string(schema).map_err(|source| failed(path, source.into()))?;
    let text =
        format!("# The types of this corpus. Better questions find more: describe what each type covers.\n{text}");
    write_atomically(path, |file| Ok(file.write_all(text.as_bytes())?))
}
