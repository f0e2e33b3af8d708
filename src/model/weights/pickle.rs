//! A reader for Python pickles that executes nothing. In: the bytes of a pickle, any protocol. Out: a tree of plain values
//! in one arena, where calls and unknown classes stay descriptions. It may not import, call or allocate beyond the input's size.

use crate::model::weights::unpickle::Machine;

/// Why a pickle could not be read; the offset is in bytes from its start.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the pickle is damaged at byte {offset}: {reason}")]
pub struct PickleError {
    offset: usize,
    reason: String,
}

/// A value's place in its [`Pickle`].
pub type Id = usize;

/// One value. Containers hold places, not values, so cycles and shared parts cost nothing and dropping never recurses.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// `None`, `True`, `False` and whatever has no meaning here (huge integers, extension codes).
    Opaque,
    /// An integer that fits 64 bits.
    Int(i64),
    /// A float.
    Float(f64),
    /// A string; bytes that are not UTF-8 are replaced.
    Text(String),
    /// A tuple, a list or a set.
    Sequence(Vec<Id>),
    /// A dictionary, in the order of its insertion.
    Dict(Vec<(Id, Id)>),
    /// A class or function by module and name; never looked up.
    Global(String, String),
    /// A reference to something outside the pickle (PyTorch: a storage).
    Persistent(Id),
    /// What calling `callable` with `arguments` would give, and what was put into it afterwards.
    Object {
        /// Usually a [`Value::Global`].
        callable: Id,
        /// Usually a [`Value::Sequence`].
        arguments: Id,
        /// Pairs set on it like on a dictionary (an `OrderedDict`'s content).
        items: Vec<(Id, Id)>,
    },
}

/// A pickle's values and which of them is the whole.
#[derive(Debug)]
pub struct Pickle {
    values: Vec<Value>,
    root: Id,
}

impl Pickle {
    /// The value that was pickled.
    pub fn root(&self) -> Id {
        self.root
    }

    /// The value at a place.
    pub fn get(&self, id: Id) -> &Value {
        &self.values[id]
    }

    /// The text at a place, if there is one.
    pub fn text(&self, id: Id) -> Option<&str> {
        if let Value::Text(text) = self.get(id) { Some(text) } else { None }
    }

    /// The non-negative integer at a place, if there is one.
    pub fn size(&self, id: Id) -> Option<usize> {
        if let Value::Int(number) = self.get(id) { usize::try_from(*number).ok() } else { None }
    }

    /// The elements of a tuple or list, or none.
    pub fn elements(&self, id: Id) -> &[Id] {
        if let Value::Sequence(elements) = self.get(id) { elements } else { &[] }
    }

    /// The pairs of a dictionary or of an object that was filled like one, or none.
    pub fn items(&self, id: Id) -> &[(Id, Id)] {
        match self.get(id) {
            Value::Dict(items) | Value::Object { items, .. } => items,
            _ => &[],
        }
    }

    /// The value under a string key of a dictionary.
    pub fn lookup(&self, id: Id, key: &str) -> Option<Id> {
        self.items(id).iter().find(|(name, _)| self.text(*name) == Some(key)).map(|(_, value)| *value)
    }

    /// The called name (`module.name`) and the arguments, where the value is a call of a global.
    pub fn call(&self, id: Id) -> Option<(&str, &str, &[Id])> {
        let Value::Object { callable, arguments, .. } = self.get(id) else { return None };
        let Value::Global(module, name) = self.get(*callable) else { return None };
        Some((module, name, self.elements(*arguments)))
    }

    /// Reads a pickle up to its STOP. Never panics; time and memory are linear in `bytes`.
    pub fn parse(bytes: &[u8]) -> Result<Self, PickleError> {
        let mut machine = Machine::new(bytes);
        match machine.run() {
            Ok(root) => Ok(Self { values: machine.into_values(), root }),
            Err(reason) => Err(PickleError { offset: machine.offset(), reason }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_dictionary_of_protocol_two() {
        // pickle.dumps({"a": (1, -2), "b": [3.5]}, 2)
        let bytes = b"\x80\x02}q\x00(X\x01\x00\x00\x00aq\x01K\x01J\xfe\xff\xff\xff\x86q\x02X\x01\x00\x00\x00bq\x03]q\x04G@\x0c\x00\x00\x00\x00\x00\x00au.";
        let pickle = Pickle::parse(bytes).expect("a sound pickle");
        let tuple = pickle.lookup(pickle.root(), "a").expect("key a");
        let numbers: Vec<_> = pickle.elements(tuple).iter().map(|id| pickle.get(*id).clone()).collect();
        assert_eq!(numbers, [Value::Int(1), Value::Int(-2)]);
        let list = pickle.lookup(pickle.root(), "b").expect("key b");
        assert_eq!(pickle.get(pickle.elements(list)[0]), &Value::Float(3.5));
    }

    #[test]
    fn a_call_is_only_described() {
        let pickle = Pickle::parse(b"cos\nsystem\n(S'echo harm'\ntR.").expect("a sound pickle");
        let (module, name, arguments) = pickle.call(pickle.root()).expect("a call");
        assert_eq!((module, name, pickle.text(arguments[0])), ("os", "system", Some("echo harm")));
    }

    #[test]
    fn a_list_that_holds_itself_is_read_and_dropped() {
        let pickle = Pickle::parse(b"]q\x00h\x00a.").expect("a sound pickle");
        assert_eq!(pickle.elements(pickle.root()), [pickle.root()]);
    }

    #[test]
    fn the_offset_of_damage_is_named() {
        let error = Pickle::parse(b"\x80\x02X\xff\xff\xff\xffabc").expect_err("damaged");
        assert_eq!(
            error.to_string(),
            "the pickle is damaged at byte 7: 4294967295 more bytes are expected, the file ends"
        );
    }

    proptest! {
        #[test]
        fn random_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = Pickle::parse(&bytes);
        }

        #[test]
        fn random_codes_never_panic(codes in proptest::collection::vec(prop::sample::select(&b".(012NIJKGX}])tdaesuRbopqhrj\x80\x81\x85\x86\x87\x88\x8a\x8c\x91\x93\x94\n\x00\x01"[..]), 0..300)) {
            if let Ok(pickle) = Pickle::parse(&codes) {
                let _ = (pickle.call(pickle.root()), pickle.items(pickle.root()), pickle.lookup(pickle.root(), "a"));
            }
        }
    }
}
