//! Schemas of the store's tables. In: a table and the type of the ids. Out: its Arrow schema. It must not read or write files,
//! or know the query engine.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Fields, Schema, SchemaRef, TimeUnit};
use serde::{Deserialize, Serialize};

/// The partition column of `entities` and `documents`: the hash of everything that changes the rows.
pub const SPEC_ID: &str = "spec_id";

/// A Delta table of the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Table {
    /// One row per mention.
    Entities,
    /// One row per processed document: part of the ledger.
    Documents,
    /// One row per rejected document or file.
    Rejects,
    /// One row per processed input file: part of the ledger.
    Sources,
    /// One row per metric.
    Metrics,
    /// One row per run.
    Runs,
}

impl Table {
    /// Every table, in the order of the enum.
    pub const ALL: [Self; 6] =
        [Self::Entities, Self::Documents, Self::Rejects, Self::Sources, Self::Metrics, Self::Runs];

    /// The table's name in SQL and the name of its folder in the store.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Entities => "entities",
            Self::Documents => "documents",
            Self::Rejects => "rejects",
            Self::Sources => "sources",
            Self::Metrics => "metrics",
            Self::Runs => "runs",
        }
    }

    /// The table with this [`Table::name`].
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|table| table.name() == name)
    }

    /// The column whose value is in the path of a data file and not in the file itself.
    #[must_use]
    pub fn partition_column(self) -> Option<&'static str> {
        matches!(self, Self::Entities | Self::Documents).then_some(SPEC_ID)
    }

    /// The table's columns; `id_type` is the type of `doc_id`, as [`id_type`] gives it. The partition column is the last.
    #[must_use]
    pub fn schema(self, id_type: &DataType) -> SchemaRef {
        let fields = match self {
            Self::Entities => {
                let mut fields = vec![required("doc_id", id_type.clone())];
                fields.extend(mention_fields().iter().map(|field| field.as_ref().clone()));
                fields.extend([text("run_id"), integer("commit"), text(SPEC_ID)]);
                fields
            }
            Self::Documents => vec![
                required("doc_id", id_type.clone()),
                text("source"),
                integer("row"),
                text("content_hash"),
                integer("n_chars"),
                integer("n_tokens"),
                integer("n_windows"),
                integer("n_entities"),
                text("run_id"),
                integer("commit"),
                required("finished_at", timestamp_type()),
                text(SPEC_ID),
            ],
            Self::Rejects => vec![
                text("source"),
                optional("row", DataType::Int64),
                optional("doc_id", id_type.clone()),
                text("reason"),
                optional("detail", DataType::Utf8),
                text("run_id"),
                integer("commit"),
                text(SPEC_ID),
            ],
            Self::Sources => vec![
                text("path"),
                integer("size"),
                optional("etag", DataType::Utf8),
                optional("modified_at", timestamp_type()),
                text("input_hash"),
                integer("rows"),
                text("outcome"),
                optional("changed_in", DataType::Int64),
                required("repeated", DataType::Boolean),
                text("run_id"),
                text(SPEC_ID),
            ],
            Self::Metrics => {
                vec![text("run_id"), text("scope"), text("name"), required("value", DataType::Float64), text("unit")]
            }
            Self::Runs => vec![
                text("run_id"),
                text(SPEC_ID),
                text("job"),
                text("model"),
                text("model_hash"),
                text("precision"),
                text("device"),
                text("versions"),
                required("started_at", timestamp_type()),
                optional("finished_at", timestamp_type()),
                text("outcome"),
                text("counts"),
            ],
        };
        Arc::new(Schema::new(fields))
    }

    /// The columns of the table's data files: [`Table::schema`] without the partition column.
    #[must_use]
    pub fn file_schema(self, id_type: &DataType) -> SchemaRef {
        let schema = self.schema(id_type);
        let Some(partition) = self.partition_column() else { return schema };
        let fields: Fields = schema.fields().iter().filter(|field| field.name() != partition).cloned().collect();
        Arc::new(Schema::new(fields))
    }
}

/// The type of `doc_id` in the store for an id column of type `source`: a string, or an integer of 64 bits whatever its width in the
/// file, so that files and days of different widths fit one store. `None` if there is none (floats, dates, structs).
#[must_use]
pub fn id_type(source: &DataType) -> Option<DataType> {
    match source {
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => Some(DataType::Utf8),
        DataType::Dictionary(_, value) => id_type(value),
        integer if integer.is_integer() => Some(DataType::Int64),
        _ => None,
    }
}

/// The timestamp type: microseconds since 1970 in UTC, the only one that every reader of Delta tables supports.
#[must_use]
pub fn timestamp_type() -> DataType {
    DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()))
}

/// The fields of one mention in [`extracted_schema`]'s `entities`; the same columns, in this order, are in [`Table::Entities`].
/// `start_char` and `end_char` count Unicode code points of the document's text, half-open; `window` is the index of the
/// window in its document.
#[must_use]
pub fn mention_fields() -> Fields {
    Fields::from(vec![
        text("entity_type"),
        integer("start_char"),
        integer("end_char"),
        text("text"),
        required("score", DataType::Float32),
        integer("window"),
    ])
}

/// The output schema of `ExtractExec` and input schema of `WriteExec`: one row per input document. `row` is the row number in
/// the source file, from 0; `reason` is null for an extracted document and gives the reason of a reject. The lengths of a reject
/// are 0 if they were not counted, and its `entities` are empty. `in_force` is the content hash that the store had for the document
/// when the row was read, null if it had none. The last columns are counts for a run's metrics.
#[must_use]
pub fn extracted_schema(id_type: &DataType) -> SchemaRef {
    Arc::new(Schema::new(vec![
        text("source"),
        integer("row"),
        optional("doc_id", id_type.clone()),
        optional("content_hash", DataType::Utf8),
        integer("n_chars"),
        integer("n_tokens"),
        integer("n_windows"),
        optional("reason", DataType::Utf8),
        optional("detail", DataType::Utf8),
        required(
            "entities",
            DataType::List(Arc::new(Field::new_list_field(DataType::Struct(mention_fields()), false))),
        ),
        optional("in_force", DataType::Utf8),
        integer("n_queries"),
        integer("n_unknown"),
        integer("n_words_cut"),
        integer("n_split"),
        integer("n_capped"),
        integer("n_undecided"),
    ]))
}

fn required(name: &str, data_type: DataType) -> Field {
    Field::new(name, data_type, false)
}

fn optional(name: &str, data_type: DataType) -> Field {
    Field::new(name, data_type, true)
}

fn text(name: &str) -> Field {
    required(name, DataType::Utf8)
}

fn integer(name: &str) -> Field {
    required(name, DataType::Int64)
}
