//! Ids of documents, to be looked up one by one and by range. In: columns of ids. Out: whether an id, a file or a row group of
//! another table may be about one of them. It may not know what the ids are looked up for.

use std::borrow::Borrow;
use std::hash::{DefaultHasher, Hash, Hasher};

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Int32Type, Int64Type};
use arrow::error::ArrowError;
use serde_json::Value;

/// Bits of the sieve for each id: of other ids it lets one in so many through.
const SIEVE_BITS: usize = 16;

/// A set of ids of the type that a store's documents have. In memory: the ids, once.
pub(super) enum Ids {
    Text(Sorted<String>),
    Integer(Sorted<i64>),
}

impl Ids {
    /// The ids in `columns`, which are all of the type `id_type`; nulls are passed over.
    pub(super) fn try_new<'column>(
        columns: impl IntoIterator<Item = &'column dyn Array>,
        id_type: &DataType,
    ) -> Result<Self, ArrowError> {
        let (mut texts, mut integers) = (Vec::new(), Vec::new());
        for ids in columns {
            if ids.data_type() != id_type {
                let found = ids.data_type();
                return Err(ArrowError::SchemaError(format!("documents have ids of the type {id_type}, not {found}")));
            }
            if let Some(ids) = ids.as_string_opt::<i32>() {
                texts.extend(ids.iter().flatten().map(str::to_owned));
            } else {
                integers.extend(cast(ids, &DataType::Int64)?.as_primitive::<Int64Type>().iter().flatten());
            }
        }
        Ok(if id_type == &DataType::Utf8 {
            Self::Text(Sorted::new(texts))
        } else {
            Self::Integer(Sorted::new(integers))
        })
    }

    pub(super) fn is_empty(&self) -> bool {
        match self {
            Self::Text(ids) => ids.0.is_empty(),
            Self::Integer(ids) => ids.0.is_empty(),
        }
    }

    /// Whether one of them may lie between these bounds, as a log has them; without bounds anything may.
    pub(super) fn may_be_between(&self, bounds: Option<(&Value, &Value)>) -> bool {
        let within = match self {
            Self::Text(ids) => {
                bounds.and_then(|(least, greatest)| Some(ids.any_between(least.as_str()?, greatest.as_str()?)))
            }
            Self::Integer(ids) => {
                bounds.and_then(|(least, greatest)| Some(ids.any_between(&least.as_i64()?, &greatest.as_i64()?)))
            }
        };
        within.unwrap_or(!self.is_empty())
    }

    /// For each pair of bounds, as a Parquet file has them for its row groups: whether one of them may lie between. A null bound
    /// is none.
    pub(super) fn may_be_within(&self, least: &ArrayRef, greatest: &ArrayRef) -> Result<Vec<bool>, ArrowError> {
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
                pairs
                    .map(|(least, greatest)| least.zip(greatest).is_none_or(|(a, b)| ids.any_between(&a, &b)))
                    .collect()
            }
        })
    }

    /// Which values of a column of ids are among these.
    pub(super) fn among(&self, column: &dyn Array) -> BooleanArray {
        match (self, column.data_type()) {
            (Self::Text(ids), _) => {
                let values = column.as_string::<i32>();
                values.iter().map(|id| Some(id.is_some_and(|id| ids.contains(id)))).collect()
            }
            (Self::Integer(ids), DataType::Int32) => {
                let values = column.as_primitive::<Int32Type>();
                values.iter().map(|id| Some(id.is_some_and(|id| ids.contains(&i64::from(id))))).collect()
            }
            (Self::Integer(ids), _) => {
                let values = column.as_primitive::<Int64Type>();
                values.iter().map(|id| Some(id.is_some_and(|id| ids.contains(&id)))).collect()
            }
        }
    }
}

/// Ids in order, and a sieve before them: nearly every id of a large table is none of these, and one bit says so.
pub(super) struct Sorted<Id>(Vec<Id>, Vec<u64>);

impl<Id: Ord + Hash> Sorted<Id> {
    fn new(mut ids: Vec<Id>) -> Self {
        ids.sort_unstable();
        ids.dedup();
        let mut sieve = vec![0; (ids.len() * SIEVE_BITS).div_ceil(64).next_power_of_two()];
        for id in &ids {
            let (word, bit) = place(id, &sieve);
            sieve[word] |= bit;
        }
        Self(ids, sieve)
    }

    fn contains<Key: Ord + Hash + ?Sized>(&self, key: &Key) -> bool
    where
        Id: Borrow<Key>,
    {
        let (word, bit) = place(key, &self.1);
        self.1[word] & bit != 0 && self.0.binary_search_by(|id| id.borrow().cmp(key)).is_ok()
    }

    fn any_between<Key: Ord + ?Sized>(&self, least: &Key, greatest: &Key) -> bool
    where
        Id: Borrow<Key>,
    {
        let first = self.0.partition_point(|id| id.borrow() < least);
        self.0.get(first).is_some_and(|id| id.borrow() <= greatest)
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
        assert!(Ids::try_new([&Int32Array::from(vec![1]) as &dyn Array], &DataType::Utf8).is_err());
    }
}
