//! Types of columns across files. In: the types that one column has in two files. Out: the type that a table over both files gives it.
//! It must not read values: whether each value can be cast shows when it is read.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, FieldRef, Schema, TimeUnit};

/// A type that values of both types can be read as: strings and binary of any encoding, the wider integer, a float of integers and
/// floats, the finer unit of time; lists and structs by their parts. `None` if the two are of different kinds.
pub(crate) fn common_type(one: &DataType, other: &DataType) -> Option<DataType> {
    use DataType::{
        Binary, BinaryView, Date32, Date64, Dictionary, Float16, Float32, Float64, LargeBinary, LargeList, LargeUtf8,
        List, Null, Struct, Timestamp, Utf8, Utf8View,
    };
    if one == other {
        return Some(one.clone());
    }
    Some(match (one, other) {
        (Null, known) | (known, Null) => known.clone(),
        (Dictionary(_, value), plain) | (plain, Dictionary(_, value)) => common_type(value, plain)?,
        (Utf8 | LargeUtf8 | Utf8View, Utf8 | LargeUtf8 | Utf8View) => Utf8View,
        (Binary | LargeBinary | BinaryView, Binary | LargeBinary | BinaryView) => BinaryView,
        (one, other) if one.is_integer() && other.is_integer() => wider(one, other),
        (one, other) if one.is_integer() && other.is_floating() || one.is_floating() && other.is_integer() => Float64,
        (Float16 | Float32 | Float64, Float16 | Float32 | Float64) => Float64,
        (Date32 | Date64, Date32 | Date64) => Date64,
        (Timestamp(unit, zone), Timestamp(other_unit, other_zone)) if zone == other_zone => {
            Timestamp(finer(*unit, *other_unit), zone.clone())
        }
        (List(one), List(other)) => List(common_field(one, other)?),
        (List(one) | LargeList(one), List(other) | LargeList(other)) => LargeList(common_field(one, other)?),
        (Struct(one), Struct(other)) => {
            let schema = common_schema(&Schema::new(one.clone()), &Schema::new(other.clone())).ok()?;
            Struct(schema.fields)
        }
        _ => return None,
    })
}

/// The integer type for both; the largest unsigned integers do not fit beside negative ones.
fn wider(one: &DataType, other: &DataType) -> DataType {
    use DataType::{Int8, Int16, Int32, Int64, UInt8, UInt16, UInt32, UInt64};
    let width = |data_type: &DataType| data_type.primitive_width().unwrap_or(8);
    let (wide, narrow) = if width(one) >= width(other) { (one, other) } else { (other, one) };
    if wide.is_signed_integer() == narrow.is_signed_integer() || wide.is_signed_integer() && width(wide) > width(narrow)
    {
        return wide.clone();
    }
    match wide {
        Int8 | UInt8 => Int16,
        Int16 | UInt16 => Int32,
        Int32 | UInt32 | Int64 | UInt64 => Int64,
        _ => wide.clone(),
    }
}

fn finer(one: TimeUnit, other: TimeUnit) -> TimeUnit {
    [TimeUnit::Nanosecond, TimeUnit::Microsecond, TimeUnit::Millisecond]
        .into_iter()
        .find(|unit| one == *unit || other == *unit)
        .unwrap_or(TimeUnit::Second)
}

fn common_field(one: &FieldRef, other: &FieldRef) -> Option<FieldRef> {
    let data_type = common_type(one.data_type(), other.data_type())?;
    Some(Arc::new(Field::new(one.name(), data_type, one.is_nullable() || other.is_nullable())))
}

/// The columns of both schemas, those of the first one first, each with a type for both.
///
/// # Errors
/// The first column whose types have nothing in common.
pub(crate) fn common_schema(one: &Schema, other: &Schema) -> Result<Schema, String> {
    let mut fields: Vec<FieldRef> = Vec::with_capacity(one.fields().len());
    for field in one.fields() {
        let Ok(same) = other.field_with_name(field.name()) else {
            // A column that a file lacks is null there.
            fields.push(Arc::new(field.as_ref().clone().with_nullable(true)));
            continue;
        };
        fields.push(common_field(field, &Arc::new(same.clone())).ok_or_else(|| field.name().clone())?);
    }
    for field in other.fields() {
        if one.field_with_name(field.name()).is_err() {
            fields.push(Arc::new(field.as_ref().clone().with_nullable(true)));
        }
    }
    Ok(Schema::new(fields))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_of_one_kind_have_a_common_type() {
        use DataType::{Binary, Boolean, Float32, Float64, Int8, Int32, Int64, UInt8, UInt32, UInt64, Utf8, Utf8View};
        let dictionary = DataType::Dictionary(Box::new(Int32), Box::new(Utf8));
        for (one, other, common) in [
            (Int32, Int64, Some(Int64)),
            (UInt32, Int32, Some(Int64)),
            (UInt8, Int64, Some(Int64)),
            (UInt8, Int8, Some(DataType::Int16)),
            (UInt64, Int8, Some(Int64)),
            (UInt64, UInt8, Some(UInt64)),
            (Int64, Float32, Some(Float64)),
            (Utf8, Utf8View, Some(Utf8View)),
            (dictionary.clone(), Utf8View, Some(Utf8View)),
            (dictionary, Int8, None),
            (DataType::Null, Boolean, Some(Boolean)),
            (Utf8, Int64, None),
            (Utf8, Binary, None),
        ] {
            assert_eq!(common_type(&one, &other), common, "{one} {other}");
            assert_eq!(common_type(&other, &one), common, "{other} {one}");
        }
    }

    #[test]
    fn a_schema_has_the_columns_of_both() {
        let schema = |fields: &[(&str, DataType)]| {
            Schema::new(fields.iter().map(|(name, kind)| Field::new(*name, kind.clone(), false)).collect::<Vec<_>>())
        };
        let one = schema(&[("id", DataType::Int32), ("text", DataType::Utf8)]);
        let other = schema(&[("lang", DataType::Utf8), ("id", DataType::Int64)]);
        let both = common_schema(&one, &other).unwrap();
        let names: Vec<String> =
            both.fields().iter().map(|one| format!("{} {}", one.name(), one.data_type())).collect();
        assert_eq!(names, ["id Int64", "text Utf8", "lang Utf8"]);
        assert!(both.field(2).is_nullable() && !both.field(0).is_nullable());
        assert_eq!(common_schema(&one, &schema(&[("text", DataType::Date32)])), Err("text".to_owned()));
    }
}
