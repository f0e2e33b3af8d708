//! Rows of record batches, read by column name and type. In: the answer of a query. Out: its values. It must not turn a missing column, a
//! null or a value of another type into a default.

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use arrow::datatypes::{
    ArrowPrimitiveType, DataType, Float32Type, Float64Type, Int32Type, Int64Type, TimeUnit, TimestampMicrosecondType,
    UInt64Type,
};
use arrow::downcast_dictionary_array;
use chrono::{DateTime, Utc};

use crate::error::Error;
use crate::tables::Table;

/// The rows of `batches`, in order.
pub fn result_rows<'batches>(
    batches: impl IntoIterator<Item = &'batches RecordBatch>,
) -> impl Iterator<Item = ResultRow<'batches>> {
    batches.into_iter().flat_map(|batch| (0..batch.num_rows()).map(move |row| ResultRow { batch, row }))
}

/// The first row of `batches`; `None` if there is none.
pub fn first_row<'batches>(batches: impl IntoIterator<Item = &'batches RecordBatch>) -> Option<ResultRow<'batches>> {
    result_rows(batches).next()
}

/// The only value of an answer with one column, in its first row.
///
/// # Errors
/// [`ColumnError`] if there is no row, if there are several columns, or as for [`ResultRow::get`].
pub fn scalar<'batches, T: FromColumn<'batches>>(
    batches: impl IntoIterator<Item = &'batches RecordBatch>,
) -> Result<T, ColumnError> {
    first_row(batches).ok_or(ColumnError::NoRow)?.scalar()
}

/// A row of a record batch.
#[derive(Debug, Clone, Copy)]
pub struct ResultRow<'batch> {
    batch: &'batch RecordBatch,
    row: usize,
}

impl<'batch> ResultRow<'batch> {
    /// The value in the column `name`. Ask for an `Option` if it can be null.
    ///
    /// # Errors
    /// [`ColumnError`] if there is no such column, if it has another type, or if the value is null and no `Option` is asked for.
    pub fn get<T: FromColumn<'batch>>(&self, name: &str) -> Result<T, ColumnError> {
        match self.batch.column_by_name(name) {
            Some(array) => self.read(name, array),
            None => Err(ColumnError::Missing { name: name.to_owned(), names: self.names() }),
        }
    }

    /// The value in the only column.
    ///
    /// # Errors
    /// [`ColumnError`] if there are several columns, or as for [`ResultRow::get`].
    pub fn scalar<T: FromColumn<'batch>>(&self) -> Result<T, ColumnError> {
        match self.batch.columns() {
            [array] => self.read(self.batch.schema_ref().field(0).name(), array),
            _ => Err(ColumnError::Several { names: self.names() }),
        }
    }

    fn names(&self) -> Vec<String> {
        self.batch.schema_ref().fields().iter().map(|field| field.name().clone()).collect()
    }

    fn read<T: FromColumn<'batch>>(&self, name: &str, array: &'batch ArrayRef) -> Result<T, ColumnError> {
        T::from_column(array, self.row).map_err(|unfit| match unfit {
            Unfit::Null => ColumnError::Null { name: name.to_owned(), row: self.row, expected: T::EXPECTED },
            Unfit::Type => {
                ColumnError::Type { name: name.to_owned(), found: array.data_type().clone(), expected: T::EXPECTED }
            }
            Unfit::Value(found) => {
                ColumnError::Value { name: name.to_owned(), row: self.row, found, expected: T::EXPECTED }
            }
        })
    }
}

/// Why a value cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs, reason = "the message of each variant shows what its fields hold")]
pub enum ColumnError {
    /// The answer has no row.
    #[error("there is no row")]
    NoRow,
    /// The answer has not one column.
    #[error("expected one column, found {}", names.join(", "))]
    Several { names: Vec<String> },
    /// The answer has no such column.
    #[error("there is no column `{name}`, only {}", names.join(", "))]
    Missing { name: String, names: Vec<String> },
    /// It has another type.
    #[error("column `{name}` is {found}, expected {expected}")]
    Type { name: String, found: DataType, expected: &'static str },
    /// It is null in this row.
    #[error("column `{name}` is null in row {row}, expected {expected}")]
    Null { name: String, row: usize, expected: &'static str },
    /// The type has more values than are expected.
    #[error("column `{name}` is {found} in row {row}, expected {expected}")]
    Value { name: String, row: usize, found: String, expected: &'static str },
}

impl From<ColumnError> for Error {
    fn from(source: ColumnError) -> Self {
        Self::Engine { doing: "read the answer of a query".into(), source: source.into() }
    }
}

/// Why a value of an array cannot be read.
#[derive(Debug)]
pub enum Unfit {
    /// It is null.
    Null,
    /// The array has another type.
    Type,
    /// It is this value, which the type to be read does not have.
    Value(String),
}

/// A type that can be read from a column.
pub trait FromColumn<'batch>: Sized {
    /// What must be in the column, for errors.
    const EXPECTED: &'static str;

    /// Reads one row.
    ///
    /// # Errors
    /// [`Unfit`] if the value does not have this type.
    fn from_column(array: &'batch ArrayRef, row: usize) -> Result<Self, Unfit>;
}

/// A value that can be null.
impl<'batch, T: FromColumn<'batch>> FromColumn<'batch> for Option<T> {
    const EXPECTED: &'static str = T::EXPECTED;

    fn from_column(array: &'batch ArrayRef, row: usize) -> Result<Self, Unfit> {
        match T::from_column(array, row) {
            Ok(value) => Ok(Some(value)),
            Err(Unfit::Null) => Ok(None),
            Err(other) => Err(other),
        }
    }
}

/// Strings of every Arrow type, also as values of a dictionary.
impl<'batch> FromColumn<'batch> for &'batch str {
    const EXPECTED: &'static str = "a string";

    fn from_column(array: &'batch ArrayRef, row: usize) -> Result<Self, Unfit> {
        let value = match array.data_type() {
            DataType::Utf8 => array.as_string::<i32>().is_valid(row).then(|| array.as_string::<i32>().value(row)),
            DataType::LargeUtf8 => array.as_string::<i64>().is_valid(row).then(|| array.as_string::<i64>().value(row)),
            DataType::Utf8View => array.as_string_view().is_valid(row).then(|| array.as_string_view().value(row)),
            DataType::Null => None,
            DataType::Dictionary(..) => downcast_dictionary_array!(
                array => match array.key(row) {
                    Some(key) => return Self::from_column(array.values(), key),
                    None => None,
                },
                _ => return Err(Unfit::Type)
            ),
            _ => return Err(Unfit::Type),
        };
        value.ok_or(Unfit::Null)
    }
}

impl<'batch> FromColumn<'batch> for String {
    const EXPECTED: &'static str = <&str>::EXPECTED;

    fn from_column(array: &'batch ArrayRef, row: usize) -> Result<Self, Unfit> {
        <&str>::from_column(array, row).map(str::to_owned)
    }
}

/// A document's id as text: a string or an integer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IdText(pub String);

impl<'batch> FromColumn<'batch> for IdText {
    const EXPECTED: &'static str = "a string or an integer";

    fn from_column(array: &'batch ArrayRef, row: usize) -> Result<Self, Unfit> {
        match array.data_type() {
            DataType::Int32 => primitive::<Int32Type>(array, row).map(|id| Self(id.to_string())),
            DataType::Int64 => primitive::<Int64Type>(array, row).map(|id| Self(id.to_string())),
            _ => String::from_column(array, row).map(Self),
        }
    }
}

/// The name of a table of the store.
impl<'batch> FromColumn<'batch> for Table {
    const EXPECTED: &'static str = "the name of a table";

    fn from_column(array: &'batch ArrayRef, row: usize) -> Result<Self, Unfit> {
        let name = <&str>::from_column(array, row)?;
        Self::from_name(name).ok_or_else(|| Unfit::Value(format!("`{name}`")))
    }
}

impl<'batch> FromColumn<'batch> for Vec<String> {
    const EXPECTED: &'static str = "a list of strings";

    fn from_column(array: &'batch ArrayRef, row: usize) -> Result<Self, Unfit> {
        let lists = array.as_list_opt::<i32>().ok_or_else(|| other_type(array))?;
        if lists.is_null(row) {
            return Err(Unfit::Null);
        }
        let values = lists.value(row);
        (0..values.len()).map(|place| String::from_column(&values, place)).collect()
    }
}

impl<'batch> FromColumn<'batch> for bool {
    const EXPECTED: &'static str = "true or false";

    fn from_column(array: &'batch ArrayRef, row: usize) -> Result<Self, Unfit> {
        let values = array.as_boolean_opt().ok_or_else(|| other_type(array))?;
        if values.is_valid(row) { Ok(values.value(row)) } else { Err(Unfit::Null) }
    }
}

impl<'batch> FromColumn<'batch> for i64 {
    const EXPECTED: &'static str = "an int64";

    fn from_column(array: &'batch ArrayRef, row: usize) -> Result<Self, Unfit> {
        primitive::<Int64Type>(array, row)
    }
}

impl<'batch> FromColumn<'batch> for u64 {
    const EXPECTED: &'static str = "an uint64";

    fn from_column(array: &'batch ArrayRef, row: usize) -> Result<Self, Unfit> {
        primitive::<UInt64Type>(array, row)
    }
}

/// A count: SQL counts in int64.
impl<'batch> FromColumn<'batch> for usize {
    const EXPECTED: &'static str = "an int64 of 0 or more";

    fn from_column(array: &'batch ArrayRef, row: usize) -> Result<Self, Unfit> {
        let value = primitive::<Int64Type>(array, row)?;
        usize::try_from(value).map_err(|_| Unfit::Value(value.to_string()))
    }
}

impl<'batch> FromColumn<'batch> for f64 {
    const EXPECTED: &'static str = "a floating point number";

    fn from_column(array: &'batch ArrayRef, row: usize) -> Result<Self, Unfit> {
        match array.data_type() {
            DataType::Float32 => primitive::<Float32Type>(array, row).map(Self::from),
            _ => primitive::<Float64Type>(array, row),
        }
    }
}

/// A time in microseconds, as the tables have it.
impl<'batch> FromColumn<'batch> for DateTime<Utc> {
    const EXPECTED: &'static str = "a time in microseconds";

    fn from_column(array: &'batch ArrayRef, row: usize) -> Result<Self, Unfit> {
        let DataType::Timestamp(TimeUnit::Microsecond, _) = array.data_type() else { return Err(other_type(array)) };
        let micros = primitive::<TimestampMicrosecondType>(array, row)?;
        Self::from_timestamp_micros(micros).ok_or_else(|| Unfit::Value(micros.to_string()))
    }
}

fn primitive<T: ArrowPrimitiveType>(array: &ArrayRef, row: usize) -> Result<T::Native, Unfit> {
    let values = array.as_primitive_opt::<T>().ok_or_else(|| other_type(array))?;
    if values.is_valid(row) { Ok(values.value(row)) } else { Err(Unfit::Null) }
}

/// A column of the type null, as `SELECT NULL` has it, is null and not of another type.
fn other_type(array: &ArrayRef) -> Unfit {
    if array.data_type().is_null() { Unfit::Null } else { Unfit::Type }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{
        BooleanArray, DictionaryArray, Float32Array, Float64Array, Int32Array, Int64Array, LargeStringArray, NullArray,
        StringArray, StringViewArray, TimestampMicrosecondArray, UInt64Array,
    };

    use super::*;

    fn batch(columns: Vec<(&str, ArrayRef)>) -> RecordBatch {
        RecordBatch::try_from_iter_with_nullable(columns.into_iter().map(|(name, values)| (name, values, true)))
            .unwrap()
    }

    #[test]
    fn every_type_is_read_by_name() {
        let batch = batch(vec![
            ("count", Arc::new(Int64Array::from(vec![7, 8]))),
            ("bytes", Arc::new(UInt64Array::from(vec![9, 10]))),
            ("score", Arc::new(Float32Array::from(vec![0.5, 0.25]))),
            ("mean", Arc::new(Float64Array::from(vec![1.5, 2.5]))),
            ("last", Arc::new(BooleanArray::from(vec![false, true]))),
            ("time", Arc::new(TimestampMicrosecondArray::from(vec![1, 2_000_000]).with_timezone("UTC"))),
        ]);
        let row = result_rows([&batch]).nth(1).unwrap();
        assert_eq!((row.get::<i64>("count"), row.get::<usize>("count")), (Ok(8), Ok(8)));
        assert_eq!((row.get::<u64>("bytes"), row.get::<bool>("last")), (Ok(10), Ok(true)));
        assert_eq!((row.get::<f64>("score"), row.get::<f64>("mean")), (Ok(0.25), Ok(2.5)));
        assert_eq!(row.get("time"), Ok(DateTime::from_timestamp(2, 0).unwrap()));
        assert_eq!(first_row([&batch]).unwrap().get::<Option<i64>>("count"), Ok(Some(7)));
        let counts = batch.project(&[0]).unwrap();
        let empty = counts.slice(0, 0);
        assert_eq!(scalar([&empty, &counts]), Ok(7_usize));
        assert_eq!(row.get("count"), Ok(IdText("8".to_owned())));
        assert!(first_row([&empty]).is_none() && first_row([]).is_none());
    }

    #[test]
    fn strings_of_every_type_are_read() {
        let values = [Some("a"), None, Some("a"), Some("é")];
        let columns: [ArrayRef; 4] = [
            Arc::new(StringArray::from_iter(values)),
            Arc::new(LargeStringArray::from_iter(values)),
            Arc::new(StringViewArray::from_iter(values)),
            Arc::new(values.into_iter().collect::<DictionaryArray<Int32Type>>()),
        ];
        for column in columns {
            let batch = batch(vec![("text", column)]);
            let read: Result<Vec<Option<String>>, _> = result_rows([&batch]).map(|row| row.get("text")).collect();
            assert_eq!(read.unwrap(), values.map(|value| value.map(str::to_owned)));
            let refused = result_rows([&batch]).nth(1).unwrap().get::<&str>("text").unwrap_err().to_string();
            assert_eq!(refused, "column `text` is null in row 1, expected a string");
        }
        // A dictionary's value can be null, too.
        let dictionary = DictionaryArray::new(Int32Array::from(vec![0]), Arc::new(StringArray::new_null(1)));
        let batch = batch(vec![("text", Arc::new(dictionary))]);
        assert_eq!(first_row([&batch]).unwrap().get::<Option<&str>>("text"), Ok(None));
    }

    fn said<T: std::fmt::Debug>(read: Result<T, ColumnError>) -> String {
        read.unwrap_err().to_string()
    }

    #[test]
    fn what_does_not_fit_is_an_error_that_names_the_column() {
        let batch = batch(vec![
            ("count", Arc::new(Int64Array::from(vec![Some(-1), None]))),
            ("text", Arc::new(StringArray::from(vec!["7", "8"]))),
            ("nothing", Arc::new(NullArray::new(2))),
        ]);
        let rows: Vec<ResultRow<'_>> = result_rows([&batch]).collect();
        assert_eq!(said(rows[0].get::<i64>("counts")), "there is no column `counts`, only count, text, nothing");
        assert_eq!(
            said(rows[0].get::<usize>("count")),
            "column `count` is -1 in row 0, expected an int64 of 0 or more"
        );
        assert_eq!(
            said(rows[1].get::<usize>("count")),
            "column `count` is null in row 1, expected an int64 of 0 or more"
        );
        assert_eq!(said(rows[0].get::<Option<i64>>("text")), "column `text` is Utf8, expected an int64");
        assert_eq!(said(rows[0].get::<f64>("count")), "column `count` is Int64, expected a floating point number");
        assert_eq!(said(rows[0].get::<Option<&str>>("count")), "column `count` is Int64, expected a string");
        assert_eq!(
            said(rows[0].get::<DateTime<Utc>>("count")),
            "column `count` is Int64, expected a time in microseconds"
        );
        assert_eq!(said(rows[0].get::<bool>("nothing")), "column `nothing` is null in row 0, expected true or false");
        assert_eq!(rows[1].get::<Option<usize>>("count"), Ok(None));
        assert_eq!(rows[0].get::<Option<f64>>("nothing"), Ok(None));
        assert_eq!(said(rows[0].get::<Table>("text")), "column `text` is `7` in row 0, expected the name of a table");
        assert_eq!(said(rows[0].scalar::<i64>()), "expected one column, found count, text, nothing");
        assert_eq!(said(scalar::<i64>([&batch.slice(0, 0)])), "there is no row");
        let error = Error::from(rows[0].get::<i64>("counts").unwrap_err());
        assert_eq!(error.to_string(), "cannot read the answer of a query");
        assert_eq!(error.causes(), ["there is no column `counts`, only count, text, nothing"]);
    }
}
