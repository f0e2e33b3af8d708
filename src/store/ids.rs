//! Ids of documents, to be looked up one by one and by range. In: columns of ids. Out: whether an id, a file or a row group of
//! another table may be about one of them. It may not know what the ids are looked up for.

use std::hash::{DefaultHasher, Hash, Hasher};

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Int32Type, Int64Type};
use arrow::error::ArrowError;
use serde_json::Value;

/// Bits of the sieve for each id: of other ids it lets one in so many through.
const SIEVE_BITS: usize = 16;

/// A set of ids of the type that a store's documents have. In memory: the ids, once.
pub(crate) enum Ids {
    Text(Texts),
    Integer(Integers),
}

impl Ids {
    /// No ids yet, to be of the type `id_type`.
    pub(crate) fn none(id_type: &DataType) -> Self {
        if id_type == &DataType::Utf8 { Self::Text(Texts::default()) } else { Self::Integer(Integers::default()) }
    }

    /// The ids in `columns`, which are all of the type `id_type`; nulls are passed over.
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

    /// Adds the ids in a column, which are of the type `id_type` as all the others; nulls are passed over. Before any is asked for,
    /// they must be sorted.
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

    /// Brings the ids in order, each once.
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

    /// Whether one of them may lie between these bounds, as a log has them; without bounds anything may.
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

    /// For each pair of bounds, as a Parquet file has them for its row groups: whether one of them may lie between. A null bound
    /// is none.
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

    /// Which values of a column of ids are among these.
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

/// Texts, one behind the other in memory: twelve bytes each beside their own.
#[derive(Default)]
pub(crate) struct Texts {
    /// Each text behind its length.
    bytes: Vec<u8>,
    /// Where among the bytes each begins, in the order of the texts.
    starts: Vec<usize>,
    sieve: Sieve,
}

impl Texts {
    fn push(&mut self, text: &str) {
        self.starts.push(self.bytes.len());
        // A column of texts has less than two gigabytes of them.
        self.bytes.extend_from_slice(&(text.len() as u32).to_le_bytes());
        self.bytes.extend_from_slice(text.as_bytes());
    }

    fn sort(&mut self) {
        let Self { bytes, starts, sieve } = self;
        let bytes: &[u8] = bytes;
        starts.sort_unstable_by(|one, other| text_at(bytes, *one).cmp(text_at(bytes, *other)));
        starts.dedup_by(|one, other| text_at(bytes, *one) == text_at(bytes, *other));
        *sieve = Sieve::new(starts.iter().map(|start| text_at(bytes, *start)));
    }

    fn contains(&self, text: &str) -> bool {
        let text = text.as_bytes();
        let find = || self.starts.binary_search_by(|start| text_at(&self.bytes, *start).cmp(text));
        self.sieve.may_have(text) && find().is_ok()
    }

    fn any_between(&self, least: &str, greatest: &str) -> bool {
        let first = self.starts.partition_point(|start| text_at(&self.bytes, *start) < least.as_bytes());
        self.starts.get(first).is_some_and(|start| text_at(&self.bytes, *start) <= greatest.as_bytes())
    }
}

/// The text that begins at `start`; texts are ordered as their bytes are.
fn text_at(bytes: &[u8], start: usize) -> &[u8] {
    let Some((length, rest)) = bytes[start..].split_first_chunk::<4>() else { return &[] };
    &rest[..u32::from_le_bytes(*length) as usize]
}

/// Integers in order.
#[derive(Default)]
pub(crate) struct Integers {
    ids: Vec<i64>,
    sieve: Sieve,
}

impl Integers {
    fn sort(&mut self) {
        self.ids.sort_unstable();
        self.ids.dedup();
        self.sieve = Sieve::new(self.ids.iter());
    }

    fn contains(&self, id: i64) -> bool {
        self.sieve.may_have(&id) && self.ids.binary_search(&id).is_ok()
    }

    fn any_between(&self, least: i64, greatest: i64) -> bool {
        let first = self.ids.partition_point(|id| *id < least);
        self.ids.get(first).is_some_and(|id| *id <= greatest)
    }
}

/// What stands before a set of ids: nearly every id of a large table is none of these, and one bit says so.
#[derive(Default)]
struct Sieve(Vec<u64>);

impl Sieve {
    fn new(ids: impl ExactSizeIterator<Item = impl Hash>) -> Self {
        let mut sieve = vec![0; (ids.len() * SIEVE_BITS).div_ceil(64).next_power_of_two()];
        for id in ids {
            let (word, bit) = place(&id, &sieve);
            sieve[word] |= bit;
        }
        Self(sieve)
    }

    fn may_have(&self, id: &(impl Hash + ?Sized)) -> bool {
        let (word, bit) = place(id, &self.0);
        self.0[word] & bit != 0
    }
}

/// Where the sieve has an id.
fn place(id: &(impl Hash + ?Sized), sieve: &[u64]) -> (usize, u64) {
    let mut hasher = DefaultHasher::new();
    id.hash(&mut hasher);
    let hash = hasher.finish() as usize;
    ((hash / 64) & (sieve.len() - 1), 1 << (hash % 64))
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
    fn without_bounds_any_id_may_be_there() {
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
