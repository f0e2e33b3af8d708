//! Ids and texts of Parquet. In: the types of the two columns. Out: expressions for id, text and fault of a row. It must not let a value
//! that cannot be read fail the scan: it is null, and a fault.

use std::sync::Arc;

use arrow::array::{AsArray as _, StringArray};
use arrow::datatypes::{DataType, Schema};
use datafusion::common::{ScalarValue, internal_err};
use datafusion::error::Result;
use datafusion::logical_expr::{
    ColumnarValue, Expr, ScalarUDF, Volatility, cast, create_udf, ident, lit, try_cast, when,
};

use crate::text::document::RejectReason;

/// Id, text and fault of a row.
pub(super) struct Parsed {
    pub(super) id: Expr,
    pub(super) text: Expr,
    pub(super) fault: Expr,
}

/// Id and text of Parquet as strings or integers, and the fault of a value that is neither. `id_type` is the type of the ids, `schema` has
/// the types of the files' columns.
pub(super) fn parsed(schema: &Schema, (id, id_type): (&str, &DataType), text: &str) -> Result<Parsed> {
    let kind = |name: &str| schema.field_with_name(name).map(|field| field.data_type().clone());
    let (read_as, text_type) = (kind(id)?, kind(text)?);
    let (id, text) = (ident(id), ident(text));
    let invalid = |what: &str| lit(format!("{}: {what}", RejectReason::InvalidRow));
    let mut fault = lit(ScalarValue::Utf8(None));
    let id = match &read_as {
        DataType::FixedSizeBinary(_) => uuid_text().call(vec![id]),
        DataType::UInt64 | DataType::Binary | DataType::LargeBinary | DataType::BinaryView => {
            let value = try_cast(id.clone(), id_type.clone());
            let bad = id.is_not_null().and(value.clone().is_null());
            fault = when(bad, invalid("the id does not fit 64 bits with a sign, or is not UTF-8")).otherwise(fault)?;
            value
        }
        _ => cast(id, id_type.clone()),
    };
    let text = match &text_type {
        DataType::Binary | DataType::LargeBinary | DataType::BinaryView => {
            let value = try_cast(text.clone(), DataType::Utf8View);
            let bad = text.is_not_null().and(value.clone().is_null());
            fault = when(bad, invalid("the text is not UTF-8")).otherwise(fault)?;
            value
        }
        _ => cast(text, DataType::Utf8View),
    };
    Ok(Parsed { id, text, fault })
}

/// A function from 16 bytes to the text of a UUID (RFC 9562).
fn uuid_text() -> ScalarUDF {
    let text = |arguments: &[ColumnarValue]| {
        let arrays = ColumnarValue::values_to_arrays(arguments)?;
        let Some(bytes) = arrays.first().and_then(|bytes| bytes.as_fixed_size_binary_opt()) else {
            return internal_err!("a UUID has 16 bytes");
        };
        let text = |bytes: Option<&[u8]>| Some(uuid::Uuid::from_slice(bytes?).ok()?.to_string());
        Ok(ColumnarValue::Array(Arc::new(bytes.iter().map(text).collect::<StringArray>())))
    };
    let bytes = vec![DataType::FixedSizeBinary(16)];
    create_udf("uuid_text", bytes, DataType::Utf8, Volatility::Immutable, Arc::new(text))
}
