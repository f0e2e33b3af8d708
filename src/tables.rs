//! The store's tables, defined once. In: rows of the ledger as structs, and record batches as `ExtractExec` makes them.
//! Out: Arrow schemas and record batches that fit them. It may not read or write files, nor know the engine.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Fields, Schema, SchemaRef, TimeUnit};
use serde::{Deserialize, Serialize};

mod rows;
#[cfg(test)]
pub(crate) mod sample;
mod split;

pub use rows::{MetricRow, RunRow, SourceRow, metric_rows, run_rows, source_rows};
pub use split::{SplitBatch, Stamp, refused_files, split};

/// The partition column of `entities` and `documents`: the hash of everything that changes the rows.
pub const SPEC_ID: &str = "spec_id";

/// A Delta table of the store (DESIGN, "The store").
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Table {
    /// One row per mention.
    Entities,
    /// One row per document done: the ledger.
    Documents,
    /// One row per document or file that was refused.
    Rejects,
    /// One row per input file done: the ledger.
    Sources,
    /// One row per figure.
    Metrics,
    /// One row per run.
    Runs,
}

impl Table {
    /// Every table, in the order of the design page.
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
                text("flavour"),
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

/// The type of `doc_id` in the store for an id column of type `source`: the nearest type that Delta has. `None` where
/// there is none (floats, dates, structs, and `UInt64`, whose upper half no Delta integer holds).
#[must_use]
pub fn id_type(source: &DataType) -> Option<DataType> {
    match source {
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => Some(DataType::Utf8),
        DataType::Int8 | DataType::Int16 | DataType::Int32 | DataType::UInt8 | DataType::UInt16 => {
            Some(DataType::Int32)
        }
        DataType::Int64 | DataType::UInt32 => Some(DataType::Int64),
        DataType::Dictionary(_, value) => id_type(value),
        _ => None,
    }
}

/// A moment: microseconds since 1970 in UTC, the only timestamp that every reader of Delta tables has.
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

/// What `ExtractExec` makes and `WriteExec` takes: one row per input document. `row` is the row's number in its source
/// file, from 0; `reason` is null for an extracted document and names why any other was refused; the lengths of a refused
/// document are 0 where they were not counted, and its `entities` are empty.
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

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{Array, AsArray, RecordBatch};
    use arrow::util::pretty::pretty_format_batches;
    use chrono::DateTime;
    use insta::assert_snapshot;

    fn stamp() -> Stamp {
        Stamp {
            run_id: "run-1".to_owned(),
            commit: 7,
            spec_id: "5ec".to_owned(),
            finished_at: DateTime::from_timestamp(1_700_000_000, 0).unwrap(),
        }
    }

    fn shown(batch: &RecordBatch) -> String {
        pretty_format_batches(std::slice::from_ref(batch)).unwrap().to_string()
    }

    #[test]
    fn names_round_trip() {
        for table in Table::ALL {
            assert_eq!(Table::from_name(table.name()), Some(table));
        }
        assert_eq!(Table::from_name("entity"), None);
    }

    #[test]
    fn the_partition_column_is_the_last_and_not_in_the_file() {
        for table in Table::ALL {
            let (schema, file) = (table.schema(&DataType::Int64), table.file_schema(&DataType::Int64));
            let Some(partition) = table.partition_column() else {
                assert_eq!(schema, file);
                continue;
            };
            assert_eq!(schema.fields().last().unwrap().name(), partition);
            assert_eq!(&schema.fields()[..file.fields().len()], &file.fields()[..]);
        }
    }

    #[test]
    fn ids_keep_their_type_where_delta_has_it() {
        assert_eq!(id_type(&DataType::Utf8View), Some(DataType::Utf8));
        assert_eq!(id_type(&DataType::Int32), Some(DataType::Int32));
        assert_eq!(id_type(&DataType::UInt32), Some(DataType::Int64));
        assert_eq!(id_type(&DataType::UInt64), None);
        assert_eq!(id_type(&DataType::Float64), None);
        let dictionary = DataType::Dictionary(Box::new(DataType::Int8), Box::new(DataType::LargeUtf8));
        assert_eq!(id_type(&dictionary), Some(DataType::Utf8));
    }

    #[test]
    fn a_batch_splits_into_the_rows_of_three_tables() {
        let split = split(&sample::three(&DataType::Utf8, "a.parquet", 1), &stamp()).unwrap();
        assert_snapshot!(shown(&split.entities), @"
        +--------+-------------+------------+----------+--------+-------+--------+--------+--------+
        | doc_id | entity_type | start_char | end_char | text   | score | window | run_id | commit |
        +--------+-------------+------------+----------+--------+-------+--------+--------+--------+
        | doc-1  | PER         | 0          | 3        | Ada    | 0.75  | 0      | run-1  | 7      |
        | doc-1  | LOC         | 10         | 16       | London | 0.75  | 0      | run-1  | 7      |
        | doc-2  | ORG         | 4          | 6        | É²     | 0.75  | 0      | run-1  | 7      |
        +--------+-------------+------------+----------+--------+-------+--------+--------+--------+
        ");
        assert_snapshot!(shown(&split.documents), @"
        +--------+-----------+--------------+---------+----------+-----------+------------+--------+--------+----------------------+
        | doc_id | source    | content_hash | n_chars | n_tokens | n_windows | n_entities | run_id | commit | finished_at          |
        +--------+-----------+--------------+---------+----------+-----------+------------+--------+--------+----------------------+
        | doc-1  | a.parquet | 00000001     | 40      | 9        | 1         | 2          | run-1  | 7      | 2023-11-14T22:13:20Z |
        | doc-2  | a.parquet | 00000002     | 40      | 9        | 1         | 1          | run-1  | 7      | 2023-11-14T22:13:20Z |
        +--------+-----------+--------------+---------+----------+-----------+------------+--------+--------+----------------------+
        ");
        assert_snapshot!(shown(&split.rejects), @"
        +-----------+-----+--------+---------+--------+--------+--------+---------+
        | source    | row | doc_id | reason  | detail | run_id | commit | spec_id |
        +-----------+-----+--------+---------+--------+--------+--------+---------+
        | a.parquet | 1   |        | null_id | seen   | run-1  | 7      | 5ec     |
        +-----------+-----+--------+---------+--------+--------+--------+---------+
        ");
    }

    #[test]
    fn a_slice_of_a_batch_splits_like_a_batch_of_its_own() {
        for id_type in [DataType::Utf8, DataType::Int32, DataType::Int64] {
            let batch = sample::three(&id_type, "a.parquet", 1);
            for offset in 0..=batch.num_rows() {
                for length in 0..=batch.num_rows() - offset {
                    let slice = batch.slice(offset, length);
                    let split = split(&slice, &stamp()).unwrap();
                    let refused = slice["reason"].len() - slice["reason"].null_count();
                    assert_eq!(split.rejects.num_rows(), refused);
                    assert_eq!(split.documents.num_rows(), length - refused);
                    let counted: i64 = split.documents["n_entities"]
                        .as_primitive::<arrow::datatypes::Int64Type>()
                        .iter()
                        .flatten()
                        .sum();
                    assert_eq!(split.entities.num_rows() as i64, counted);
                    assert_eq!(split.entities.schema(), Table::Entities.file_schema(&id_type));
                }
            }
        }
    }

    #[test]
    fn a_file_that_cannot_be_read_is_a_reject_without_a_document() {
        let batch =
            refused_files(&[("a.parquet", "truncated"), ("b.parquet", "not Parquet")], &DataType::Int32).unwrap();
        let split = split(&batch, &stamp()).unwrap();
        assert_eq!([split.entities.num_rows(), split.documents.num_rows(), split.rejects.num_rows()], [0, 0, 2]);
    }

    #[test]
    fn an_extracted_document_without_an_id_is_an_error() {
        let batch = sample::extracted(&DataType::Int64, "a.parquet", &[(None, None, vec![])]);
        let error = split(&batch, &stamp()).unwrap_err().to_string();
        assert!(error.contains("doc_id"), "{error}");
    }

    #[test]
    fn ledger_rows_fit_their_tables() {
        let source = SourceRow {
            path: "a.parquet".to_owned(),
            size: 10,
            etag: None,
            modified_at: Some(stamp().finished_at),
            input_hash: "77".to_owned(),
            rows: 3,
            outcome: "done".to_owned(),
            run_id: "run-1".to_owned(),
            spec_id: "5ec".to_owned(),
        };
        assert_snapshot!(shown(&source_rows(&[source]).unwrap()), @"
        +-----------+------+------+----------------------+------------+------+---------+--------+---------+
        | path      | size | etag | modified_at          | input_hash | rows | outcome | run_id | spec_id |
        +-----------+------+------+----------------------+------------+------+---------+--------+---------+
        | a.parquet | 10   |      | 2023-11-14T22:13:20Z | 77         | 3    | done    | run-1  | 5ec     |
        +-----------+------+------+----------------------+------------+------+---------+--------+---------+
        ");
        let metric = MetricRow {
            run_id: "run-1".to_owned(),
            scope: "all".to_owned(),
            name: "documents".to_owned(),
            value: 3.0,
            unit: "documents".to_owned(),
        };
        assert_eq!(metric_rows(&[metric.clone(), metric]).unwrap().num_rows(), 2);
        let run = RunRow {
            run_id: "run-1".to_owned(),
            spec_id: "5ec".to_owned(),
            job: "{}".to_owned(),
            model: "models/default".to_owned(),
            model_hash: "00".to_owned(),
            flavour: "fp32".to_owned(),
            device: "cpu".to_owned(),
            versions: "{}".to_owned(),
            started_at: stamp().finished_at,
            finished_at: None,
            outcome: "interrupted".to_owned(),
            counts: "{}".to_owned(),
        };
        assert_eq!(run_rows(&[run]).unwrap()["finished_at"].null_count(), 1);
    }
}
