//! Tests of the tables: rows match their schemas.

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::DataType;
use arrow::util::pretty::pretty_format_batches;
use chrono::DateTime;
use insta::assert_snapshot;

use crate::tables::*;

fn stamp() -> Stamp {
    Stamp {
        run_id: "run-1".to_owned(),
        commit: 7,
        spec_id: "5ec".to_owned(),
        finished_at: DateTime::from_timestamp(1_700_000_000, 0).unwrap(),
    }
}

fn formatted(batch: &RecordBatch) -> String {
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
    assert_eq!(id_type(&DataType::Int32), Some(DataType::Int64));
    assert_eq!(id_type(&DataType::UInt32), Some(DataType::Int64));
    assert_eq!(id_type(&DataType::UInt64), Some(DataType::Int64));
    assert_eq!(id_type(&DataType::Float64), None);
    let dictionary = DataType::Dictionary(Box::new(DataType::Int8), Box::new(DataType::LargeUtf8));
    assert_eq!(id_type(&dictionary), Some(DataType::Utf8));
}

#[test]
fn a_batch_splits_into_the_rows_of_three_tables() {
    let split = split(&sample::three(&DataType::Utf8, "a.parquet", 1), &stamp()).unwrap();
    assert_snapshot!(formatted(&split.entities), @"
    +--------+-------------+------------+----------+--------+-------+--------+--------+--------+
    | doc_id | entity_type | start_char | end_char | text   | score | window | run_id | commit |
    +--------+-------------+------------+----------+--------+-------+--------+--------+--------+
    | doc-1  | PER         | 0          | 3        | Ada    | 0.75  | 0      | run-1  | 7      |
    | doc-1  | LOC         | 10         | 16       | London | 0.75  | 0      | run-1  | 7      |
    | doc-2  | ORG         | 4          | 6        | É²     | 0.75  | 0      | run-1  | 7      |
    +--------+-------------+------------+----------+--------+-------+--------+--------+--------+
    ");
    assert_snapshot!(formatted(&split.documents), @"
    +--------+-----------+-----+--------------+---------+----------+-----------+------------+--------+--------+----------------------+
    | doc_id | source    | row | content_hash | n_chars | n_tokens | n_windows | n_entities | run_id | commit | finished_at          |
    +--------+-----------+-----+--------------+---------+----------+-----------+------------+--------+--------+----------------------+
    | doc-1  | a.parquet | 0   | 00000001     | 40      | 9        | 1         | 2          | run-1  | 7      | 2023-11-14T22:13:20Z |
    | doc-2  | a.parquet | 2   | 00000002     | 40      | 9        | 1         | 1          | run-1  | 7      | 2023-11-14T22:13:20Z |
    +--------+-----------+-----+--------------+---------+----------+-----------+------------+--------+--------+----------------------+
    ");
    assert_snapshot!(formatted(&split.rejects), @"
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
                let counted: i64 =
                    split.documents["n_entities"].as_primitive::<arrow::datatypes::Int64Type>().iter().flatten().sum();
                assert_eq!(split.entities.num_rows() as i64, counted);
                assert_eq!(split.entities.schema(), Table::Entities.file_schema(&id_type));
            }
        }
    }
}

#[test]
fn a_file_that_cannot_be_read_is_a_reject_without_a_document() {
    let batch = refused_files(&[("a.parquet", "truncated"), ("b.parquet", "not Parquet")], &DataType::Int32).unwrap();
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
        outcome: SourceOutcome::Done,
        changed_in: None,
        repeated: false,
        run_id: "run-1".to_owned(),
        spec_id: "5ec".to_owned(),
    };
    assert_snapshot!(formatted(&source_rows(&[source]).unwrap()), @"
    +-----------+------+------+----------------------+------------+------+---------+------------+----------+--------+---------+
    | path      | size | etag | modified_at          | input_hash | rows | outcome | changed_in | repeated | run_id | spec_id |
    +-----------+------+------+----------------------+------------+------+---------+------------+----------+--------+---------+
    | a.parquet | 10   |      | 2023-11-14T22:13:20Z | 77         | 3    | done    |            | false    | run-1  | 5ec     |
    +-----------+------+------+----------------------+------------+------+---------+------------+----------+--------+---------+
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
        precision: "fp32".to_owned(),
        device: "cpu".to_owned(),
        versions: "{}".to_owned(),
        started_at: stamp().finished_at,
        finished_at: None,
        outcome: RunOutcome::Interrupted,
        counts: "{}".to_owned(),
    };
    assert_eq!(run_rows(&[run]).unwrap()["finished_at"].null_count(), 1);
}
