//! Sets of document ids, for lookups by id and by range. In: columns of ids. Out: whether an id is in the set, and whether a file or a
//! row group can hold one of them. It must not know the purpose of the lookup.

use std::hash::{DefaultHasher, Hash, Hasher};

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Int32Type, Int64Type};
use arrow::error::ArrowError;
use serde_json::Value;

/// Bits per id of the Bloom filter; it passes about one in this many other ids.
const FILTER_BITS: usize = 16;

/// A set of ids of a store's id type. Memory holds each id once.
pub(crate) enum Ids {
    Text(Texts),
    Integer(Integers),
}

impl Ids {
    /// An empty set for ids of the type `id_type`.
    pub(crate) fn none(id_type: &DataType) -> Self {
        if id_type == &DataType::Utf8 { Self::Text(Texts::default()) } else { Self::Integer(Integers::default()) }
    }

    /// The ids in `columns`, which all have the type `id_type`. Nulls are skipped.
    pub(crate) fn try_new<'column>(
        columns: impl IntoIterator<Item = &'column dyn Array>,
        id_type: &DataType,
    ) -> Result<Self, ArrowError> {
        let mut ids = Self::none(id_type);
        for column in columns {
            ids.add(column, id_type)?;
        }
        ids.sort();
        Ok(ids)
    }

    /// Adds the ids in a column, which has the type `id_type`. Nulls are skipped. Call [`Ids::sort`] before the first lookup.
    pub(crate) fn add(&mut self, column: &dyn Array, id_type: &DataType) -> Result<(), ArrowError> {
        if column.data_type() != id_type {
            let found = column.data_type();
            return Err(ArrowError::SchemaError(format!("documents have ids of the type {id_type}, not {found}")));
        }
        match self {
            Self::Text(ids) => {
                for id in column.as_string::<i32>().iter().flatten() {
                    ids.push(id);
                }
            }
            Self::Integer(ids) => {
                let integers = cast(column, &DataType::Int64)?;
                ids.ids.extend(integers.as_primitive::<Int64Type>().iter().flatten());
            }
        }
        Ok(())
    }

    /// Sorts the ids and removes duplicates.
    pub(crate) fn sort(&mut self) {
        match self {
            Self::Text(ids) => ids.sort(),
            Self::Integer(ids) => ids.sort(),
        }
    }

    /// How many ids there are.
    pub(crate) fn len(&self) -> usize {
        match self {
            Self::Text(ids) => ids.starts.len(),
            Self::Integer(ids) => ids.ids.len(),
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether one of the ids can lie between these bounds, as a table's log has them. Without bounds any id can.
    pub(crate) fn may_be_between(&self, bounds: Option<(&Value, &Value)>) -> bool {
        let within = match self {
            Self::Text(ids) => {
                bounds.and_then(|(least, greatest)| Some(ids.any_between(least.as_str()?, greatest.as_str()?)))
            }
            Self::Integer(ids) => {
                bounds.and_then(|(least, greatest)| Some(ids.any_between(least.as_i64()?, greatest.as_i64()?)))
            }
        };
        within.unwrap_or(!self.is_empty())
    }

    /// For each pair of bounds, as a Parquet file has them for its row groups: whether one of the ids can lie between them. A null
    /// bound means no bound.
    pub(crate) fn may_be_within(&self, least: &ArrayRef, greatest: &ArrayRef) -> Result<Vec<bool>, ArrowError> {
        let bounds = |column: &ArrayRef, data_type| cast(column, &data_type);
        Ok(match self {
            Self::Text(ids) => {
                let (least, greatest) = (bounds(least, DataType::Utf8)?, bounds(greatest, DataType::Utf8)?);
                let pairs = least.as_string::<i32>().iter().zip(greatest.as_string::<i32>());
                pairs.map(|(least, greatest)| least.zip(greatest).is_none_or(|(a, b)| ids.any_between(a, b))).collect()
            }
            Self::Integer(ids) => {
                let (least, greatest) = (bounds(least, DataType::Int64)?, bounds(greatest, DataType::Int64)?);
                let pairs = least.as_primitive::<Int64Type>().iter().zip(greatest.as_primitive::<Int64Type>());
                pairs.map(|(least, greatest)| least.zip(greatest).is_none_or(|(a, b)| ids.any_between(a, b))).collect()
            }
        })
    }

    /// Which values of a column of ids are in the set.
    pub(crate) fn among(&self, column: &dyn Array) -> BooleanArray {
        match (self, column.data_type()) {
            (Self::Text(ids), _) => {
                let values = column.as_string::<i32>();
                values.iter().map(|id| Some(id.is_some_and(|id| ids.contains(id)))).collect()
            }
            (Self::Integer(ids), DataType::Int32) => {
                let values = column.as_primitive::<Int32Type>();
                values.iter().map(|id| Some(id.is_some_and(|id| ids.contains(i64::from(id))))).collect()
            }
            (Self::Integer(ids), _) => {
                let values = column.as_primitive::<Int64Type>();
                values.iter().map(|id| Some(id.is_some_and(|id| ids.contains(id)))).collect()
            }
        }
    }
}

/// Texts, packed one after another in memory, with twelve extra bytes each.
#[derive(Default)]
pub(crate) struct Texts {
    /// Each text, preceded by its length.
    bytes: Vec<u8>,
    /// The offset of each text in `bytes`, in the order of the texts.
    starts: Vec<usize>,
    filter: IdFilter,
}

impl Texts {
    fn push(&mut self, text: &str) {
        self.starts.push(self.bytes.len());
        // A column of strings holds less than 2 GiB, so the length fits in 32 bits.
        self.bytes.extend_from_slice(&(text.len() as u32).to_le_bytes());
        self.bytes.extend_from_slice(text.as_bytes());
    }

    fn sort(&mut self) {
        let Self { bytes, starts, filter } = self;
        let bytes: &[u8] = bytes;
        starts.sort_unstable_by(|one, other| text_at(bytes, *one).cmp(text_at(bytes, *other)));
        starts.dedup_by(|one, other| text_at(bytes, *one) == text_at(bytes, *other));
        *filter = IdFilter::new(starts.iter().map(|start| text_at(bytes, *start)));
    }

    fn contains(&self, text: &str) -> bool {
        let text = text.as_bytes();
        let find = || self.starts.binary_search_by(|start| text_at(&self.bytes, *start).cmp(text));
        self.filter.may_have(text) && find().is_ok()
    }

    fn any_between(&self, least: &str, greatest: &str) -> bool {
        let first = self.starts.partition_point(|start| text_at(&self.bytes, *start) < least.as_bytes());
        self.starts.get(first).is_some_and(|start| text_at(&self.bytes, *start) <= greatest.as_bytes())
    }
}

/// The text that begins at `start`. Texts are compared by their bytes.
fn text_at(bytes: &[u8], start: usize) -> &[u8] {
    let Some((length, rest)) = bytes[start..].split_first_chunk::<4>() else { return &[] };
    &rest[..u32::from_le_bytes(*length) as usize]
}

/// Sorted integers.
#[derive(Default)]
pub(crate) struct Integers {
    ids: Vec<i64>,
    filter: IdFilter,
}

impl Integers {
    fn sort(&mut self) {
        self.ids.sort_unstable();
        self.ids.dedup();
        self.filter = IdFilter::new(self.ids.iter());
    }

    fn contains(&self, id: i64) -> bool {
        self.filter.may_have(&id) && self.ids.binary_search(&id).is_ok()
    }

    fn any_between(&self, least: i64, greatest: i64) -> bool {
        let first = self.ids.partition_point(|id| *id < least);
        self.ids.get(first).is_some_and(|id| *id <= greatest)
    }
}

/// A Bloom filter with one hash, checked before the set: it rejects most ids of a large table with one memory access.
#[derive(Default)]
struct IdFilter(Vec<u64>);

impl IdFilter {
    fn new(ids: impl ExactSizeIterator<Item = impl Hash>) -> Self {
        let mut bits = vec![0; (ids.len() * FILTER_BITS).div_ceil(64).next_power_of_two()];
        for id in ids {
            let (word, bit) = place(&id, &bits);
            bits[word] |= bit;
        }
        Self(bits)
    }

    fn may_have(&self, id: &(impl Hash + ?Sized)) -> bool {
        let (word, bit) = place(id, &self.0);
        self.0[word] & bit != 0
    }
}

/// The word and the bit of an id in the filter.
fn place(id: &(impl Hash + ?Sized), bits: &[u64]) -> (usize, u64) {
    let mut hasher = DefaultHasher::new();
    id.hash(&mut hasher);
    let hash = hasher.finish() as usize;
    ((hash / 64) & (bits.len() - 1), 1 << (hash % 64))
}

#[cfg(test)]
mod tests {
    use arrow::array::{Int32Array, StringArray};
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn ids_are_found_among_others(ids in prop::collection::vec("[a-d]{0,3}", 0..40), others in prop::collection::vec("[a-e]{0,3}", 0..40)) {
            let set = Ids::try_new([&StringArray::from_iter_values(&ids) as &dyn Array], &DataType::Utf8).unwrap();
            let found = set.among(&StringArray::from_iter_values(&others));
            for (other, found) in others.iter().zip(&found) {
                prop_assert_eq!(found, Some(ids.contains(other)), "{}", other);
            }
            for pair in others.windows(2) {
                let (least, greatest) = (Value::from(pair[0].as_str()), Value::from(pair[1].as_str()));
                let expected = ids.iter().any(|id| (&pair[0]..=&pair[1]).contains(&id));
                prop_assert_eq!(set.may_be_between(Some((&least, &greatest))), expected);
            }
        }

        #[test]
        fn integers_are_found_in_both_widths(ids in prop::collection::vec(-50..50_i32, 0..30), others in prop::collection::vec(-50..50_i32, 0..30)) {
            let set = Ids::try_new([&Int32Array::from(ids.clone()) as &dyn Array], &DataType::Int32).unwrap();
            let expected: Vec<Option<bool>> = others.iter().map(|other| Some(ids.contains(other))).collect();
            let narrow = Int32Array::from(others.clone());
            prop_assert_eq!(set.among(&narrow).iter().collect::<Vec<_>>(), expected.clone());
            prop_assert_eq!(set.among(&cast(&narrow, &DataType::Int64).unwrap()).iter().collect::<Vec<_>>(), expected);
        }
    }

    #[test]
    fn without_bounds_any_id_is_possible() {
        let ids =
            |ids: &[&str]| Ids::try_new([&StringArray::from_iter_values(ids) as &dyn Array], &DataType::Utf8).unwrap();
        assert!(ids(&["a"]).may_be_between(None) && !ids(&[]).may_be_between(None));
        let (least, greatest): (ArrayRef, ArrayRef) = (
            std::sync::Arc::new(StringArray::from(vec![Some("a"), Some("c"), None])),
            std::sync::Arc::new(StringArray::from(vec![Some("b"), Some("d"), Some("z")])),
        );
        assert_eq!(ids(&["bb"]).may_be_within(&least, &greatest).unwrap(), [false, false, true]);
        assert_eq!(ids(&["a"]).may_be_within(&least, &greatest).unwrap(), [true, false, true]);
        let error = Ids::try_new([&Int32Array::from(vec![1]) as &dyn Array], &DataType::Utf8).err().unwrap();
        assert_eq!(error.to_string(), "Schema error: documents have ids of the type Utf8, not Int32");
    }
}
