//! The values of a Python pickle. In: an arena of values and the index of the root. Out: texts, numbers, elements and calls, by index. It
//! must not read bytes, nor look up or call what a value describes.

/// The index of a value in its [`Pickle`].
pub type Id = usize;

/// One value. Containers hold indices, so cycles and shared parts cost nothing and dropping never recurses.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// `None`, `True`, `False`, and values without a use here (huge integers, extension codes).
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
    /// The result of calling `callable` with `arguments`, and the pairs set on it afterwards.
    Object {
        /// Usually a [`Value::Global`].
        callable: Id,
        /// Usually a [`Value::Sequence`].
        arguments: Id,
        /// Pairs set on it like on a dictionary (an `OrderedDict`'s content).
        items: Vec<(Id, Id)>,
    },
}

/// A pickle's values and the index of the root.
#[derive(Debug)]
pub struct Pickle {
    values: Vec<Value>,
    root: Id,
}

impl Pickle {
    /// The pickle of these values with this root.
    pub(crate) fn new(values: Vec<Value>, root: Id) -> Self {
        Self { values, root }
    }

    /// The value that was pickled.
    pub fn root(&self) -> Id {
        self.root
    }

    /// The value at an index.
    pub fn get(&self, id: Id) -> &Value {
        &self.values[id]
    }

    /// The text at an index, if it is one.
    pub fn text(&self, id: Id) -> Option<&str> {
        if let Value::Text(text) = self.get(id) { Some(text) } else { None }
    }

    /// The non-negative integer at an index, if it is one.
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

    /// The number of values and of entries in their containers: the memory of the pickle, apart from its texts.
    pub fn extent(&self) -> usize {
        let inside = |value: &Value| match value {
            Value::Sequence(elements) => elements.len(),
            Value::Dict(items) | Value::Object { items, .. } => 2 * items.len(),
            _ => 0,
        };
        self.values.len() + self.values.iter().map(inside).sum::<usize>()
    }

    /// The called name (`module.name`) and the arguments, if the value is a call of a global.
    pub fn call(&self, id: Id) -> Option<(&str, &str, &[Id])> {
        let Value::Object { callable, arguments, .. } = self.get(id) else { return None };
        let Value::Global(module, name) = self.get(*callable) else { return None };
        Some((module, name, self.elements(*arguments)))
    }
}
