//! A reader of Python pickles that executes nothing. In: the bytes of a pickle, any protocol. Out: its [`Pickle`], in which calls and
//! unknown classes are only described. It must not import or call anything, nor allocate out of proportion to the bytes.

use std::collections::HashMap;

use crate::model::weights::pickle::{Id, Pickle, Value};

/// The maximum length of a stored module or class name, in characters.
const LONGEST_NAME: usize = 128;

/// Why a pickle could not be read; the offset is in bytes from its start.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the pickle is damaged at byte {offset}: {reason}")]
pub struct PickleError {
    offset: usize,
    reason: String,
}

/// Reads a pickle up to its STOP. Never panics; time and memory are linear in `bytes`.
pub fn unpickle(bytes: &[u8]) -> Result<Pickle, PickleError> {
    let mut machine = Machine::new(bytes);
    match machine.run() {
        Ok(root) => Ok(Pickle::new(machine.values, root)),
        Err(reason) => Err(PickleError { offset: machine.offset, reason }),
    }
}

/// The result of one step; the error is the reason, without the offset.
type Step<T> = Result<T, String>;

/// The stack machine that executes a pickle's opcodes.
struct Machine<'a> {
    bytes: &'a [u8],
    offset: usize,
    values: Vec<Value>,
    stack: Vec<Id>,
    marks: Vec<usize>,
    memo: HashMap<u64, Id>,
}

impl<'a> Machine<'a> {
    /// A machine at the first byte.
    fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, offset: 0, values: Vec::new(), stack: Vec::new(), marks: Vec::new(), memo: HashMap::new() }
    }

    /// Runs up to STOP and returns the value on the stack.
    fn run(&mut self) -> Step<Id> {
        loop {
            let code = self.take(1)?[0];
            match code {
                b'.' => return self.pop(),
                0x80 => drop(self.take(1)?),
                0x95 => drop(self.take(8)?),
                b'(' => self.marks.push(self.stack.len()),
                b'0' => drop(self.pop()?),
                b'1' => drop(self.pop_mark()?),
                b'2' => {
                    let top = self.top()?;
                    self.stack.push(top);
                }
                _ => self.value_or_container(code)?,
            }
        }
    }

    fn value_or_container(&mut self, code: u8) -> Step<()> {
        match code {
            b'N' | 0x88 | 0x89 => self.push(Value::Opaque),
            b'I' | b'L' => {
                let line = self.line()?;
                let value = line.trim_end_matches('L').parse().map_or(Value::Opaque, Value::Int);
                self.push(value);
            }
            b'J' => {
                let number = self.unsigned(4)? as u32;
                self.push(Value::Int(i64::from(number.cast_signed())));
            }
            b'K' | b'M' => {
                let number = self.unsigned(if code == b'K' { 1 } else { 2 })?;
                self.push(Value::Int(number as i64));
            }
            0x8a | 0x8b => {
                let length = self.unsigned(if code == 0x8a { 1 } else { 4 })?;
                let number = signed(self.take_long(length)?);
                self.push(number.map_or(Value::Opaque, Value::Int));
            }
            b'F' => {
                let line = self.line()?;
                self.push(line.parse().map_or(Value::Opaque, Value::Float));
            }
            b'G' => {
                let number = self.unsigned(8)?.swap_bytes();
                self.push(Value::Float(f64::from_bits(number)));
            }
            b'S' | b'V' => {
                let line = self.line()?;
                self.push(Value::Text(line.trim_matches(['\'', '"']).to_owned()));
            }
            b'U' | 0x8c | b'C' => self.text(1)?,
            b'T' | b'X' | b'B' => self.text(4)?,
            0x8d | 0x8e | 0x96 => self.text(8)?,
            b'Q' => {
                let id = self.pop()?;
                self.push(Value::Persistent(id));
            }
            b'P' => {
                let line = self.line()?;
                self.push(Value::Text(line));
                let id = self.pop()?;
                self.push(Value::Persistent(id));
            }
            b'c' => {
                let (module, name) = (self.line()?, self.line()?);
                self.push(Value::Global(module, name));
            }
            0x93 => {
                let (name, module) = (self.pop()?, self.pop()?);
                // Truncated, so that repeated references to a long text cannot multiply the input's size.
                let part = |id: Id| match &self.values[id] {
                    Value::Text(text) => text.chars().take(LONGEST_NAME).collect(),
                    _ => String::new(),
                };
                let global = Value::Global(part(module), part(name));
                self.push(global);
            }
            0x82..=0x84 => {
                self.unsigned(1 << (code - 0x82))?;
                self.push(Value::Opaque);
            }
            b'p' | b'g' => {
                let line = self.line()?;
                let key = line.parse().map_err(|_| format!("`{line}` is not a memo key"))?;
                self.memo(key, code == b'p')?;
            }
            b'q' | b'h' | b'r' | b'j' => {
                let key = self.unsigned(if matches!(code, b'q' | b'h') { 1 } else { 4 })?;
                self.memo(key, matches!(code, b'q' | b'r'))?;
            }
            0x94 => self.memo(self.memo.len() as u64, true)?,
            _ => self.container(code)?,
        }
        Ok(())
    }

    fn container(&mut self, code: u8) -> Step<()> {
        match code {
            b']' | b')' | 0x8f => self.push(Value::Sequence(Vec::new())),
            b'}' => self.push(Value::Dict(Vec::new())),
            b't' | b'l' | 0x91 => {
                let elements = self.pop_mark()?;
                self.push(Value::Sequence(elements));
            }
            0x85..=0x87 => {
                let elements = self.pop_many(usize::from(code - 0x84))?;
                self.push(Value::Sequence(elements));
            }
            b'd' => {
                let elements = self.pop_mark()?;
                self.push(Value::Dict(pairs(&elements)));
            }
            b'a' => {
                let element = self.pop()?;
                self.append(&[element])?;
            }
            b'e' | 0x90 => {
                let elements = self.pop_mark()?;
                self.append(&elements)?;
            }
            b's' => {
                let pair = self.pop_many(2)?;
                self.set_items(&pair)?;
            }
            b'u' => {
                let elements = self.pop_mark()?;
                self.set_items(&elements)?;
            }
            b'R' | 0x81 => {
                let (arguments, callable) = (self.pop()?, self.pop()?);
                self.push(Value::Object { callable, arguments, items: Vec::new() });
            }
            0x92 => {
                let (_keywords, arguments, callable) = (self.pop()?, self.pop()?, self.pop()?);
                self.push(Value::Object { callable, arguments, items: Vec::new() });
            }
            b'o' | b'i' => {
                if code == b'i' {
                    let (module, name) = (self.line()?, self.line()?);
                    self.values.push(Value::Global(module, name));
                }
                let class = self.values.len().wrapping_sub(1);
                let mut elements = self.pop_mark()?;
                let callable = match code {
                    b'i' => class,
                    _ if elements.is_empty() => return Err("an object without a class".to_owned()),
                    _ => elements.remove(0),
                };
                self.values.push(Value::Sequence(elements));
                let arguments = self.values.len() - 1;
                self.push(Value::Object { callable, arguments, items: Vec::new() });
            }
            // BUILD: the state of an object, which only its class can interpret, so it is dropped.
            b'b' => drop(self.pop()?),
            _ => return Err(format!("unknown code 0x{code:02x}")),
        }
        Ok(())
    }

    fn push(&mut self, value: Value) {
        self.values.push(value);
        self.stack.push(self.values.len() - 1);
    }

    /// Only values above the innermost mark can be popped.
    fn pop_many(&mut self, count: usize) -> Step<Vec<Id>> {
        let floor = self.marks.last().copied().unwrap_or(0);
        let start = self.stack.len().checked_sub(count).filter(|start| *start >= floor);
        start.map(|start| self.stack.split_off(start)).ok_or_else(|| "the stack is empty".to_owned())
    }

    fn pop(&mut self) -> Step<Id> {
        let top = self.top()?;
        self.stack.pop();
        Ok(top)
    }

    fn top(&self) -> Step<Id> {
        let floor = self.marks.last().copied().unwrap_or(0);
        self.stack.get(floor..).and_then(<[Id]>::last).copied().ok_or_else(|| "the stack is empty".to_owned())
    }

    fn pop_mark(&mut self) -> Step<Vec<Id>> {
        let mark = self.marks.pop().ok_or_else(|| "a mark is missing".to_owned())?;
        Ok(self.stack.split_off(mark))
    }

    fn append(&mut self, elements: &[Id]) -> Step<()> {
        let top = self.top()?;
        if let Value::Sequence(sequence) = &mut self.values[top] {
            sequence.extend_from_slice(elements);
        }
        Ok(())
    }

    fn set_items(&mut self, elements: &[Id]) -> Step<()> {
        let top = self.top()?;
        if let Value::Dict(items) | Value::Object { items, .. } = &mut self.values[top] {
            items.extend(pairs(elements));
        }
        Ok(())
    }

    fn memo(&mut self, key: u64, put: bool) -> Step<()> {
        if put {
            let top = self.top()?;
            self.memo.insert(key, top);
        } else {
            let value = self.memo.get(&key).ok_or_else(|| format!("nothing is remembered under {key}"))?;
            self.stack.push(*value);
        }
        Ok(())
    }

    fn text(&mut self, length_bytes: usize) -> Step<()> {
        let length = self.unsigned(length_bytes)?;
        let text = String::from_utf8_lossy(self.take_long(length)?).into_owned();
        self.push(Value::Text(text));
        Ok(())
    }

    fn line(&mut self) -> Step<String> {
        let rest = &self.bytes[self.offset..];
        let end = rest.iter().position(|byte| *byte == b'\n').ok_or_else(|| "a line does not end".to_owned())?;
        self.offset += end + 1;
        Ok(String::from_utf8_lossy(&rest[..end]).trim_end_matches('\r').to_owned())
    }

    fn unsigned(&mut self, length: usize) -> Step<u64> {
        Ok(self.take(length)?.iter().rev().fold(0, |number, byte| number << 8 | u64::from(*byte)))
    }

    fn take_long(&mut self, length: u64) -> Step<&[u8]> {
        self.take(usize::try_from(length).unwrap_or(usize::MAX))
    }

    fn take(&mut self, length: usize) -> Step<&[u8]> {
        let end = self.offset.checked_add(length).filter(|end| *end <= self.bytes.len());
        let end = end.ok_or_else(|| format!("{length} more bytes are expected, the file ends"))?;
        let taken = &self.bytes[self.offset..end];
        self.offset = end;
        Ok(taken)
    }
}

fn pairs(elements: &[Id]) -> Vec<(Id, Id)> {
    elements.as_chunks::<2>().0.iter().map(|[key, value]| (*key, *value)).collect()
}

/// A little-endian two's complement integer of at most eight bytes.
fn signed(bytes: &[u8]) -> Option<i64> {
    let fill = if bytes.last().is_some_and(|byte| byte & 0x80 != 0) { 0xff } else { 0 };
    let mut number = [fill; 8];
    number.get_mut(..bytes.len())?.copy_from_slice(bytes);
    Some(i64::from_le_bytes(number))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// `pickle.dumps({"a": (1, -2), "b": [3.5]}, 2)`.
    const DICTIONARY: &[u8] =
        b"\x80\x02}q\x00(X\x01\x00\x00\x00aq\x01K\x01J\xfe\xff\xff\xff\x86q\x02X\x01\x00\x00\x00bq\x03]q\x04G@\x0c\x00\x00\x00\x00\x00\x00au.";

    #[test]
    fn long_integers() {
        assert_eq!(signed(&[]), Some(0));
        assert_eq!(signed(&[0xff]), Some(-1));
        assert_eq!(signed(&[0xff, 0]), Some(255));
        assert_eq!(signed(&[1; 9]), None);
    }

    #[test]
    fn a_dictionary_of_protocol_two() {
        let pickle = unpickle(DICTIONARY).expect("a sound pickle");
        let tuple = pickle.lookup(pickle.root(), "a").expect("key a");
        let numbers: Vec<_> = pickle.elements(tuple).iter().map(|id| pickle.get(*id).clone()).collect();
        assert_eq!(numbers, [Value::Int(1), Value::Int(-2)]);
        let list = pickle.lookup(pickle.root(), "b").expect("key b");
        assert_eq!(pickle.get(pickle.elements(list)[0]), &Value::Float(3.5));
    }

    #[test]
    fn a_call_is_only_described() {
        let pickle = unpickle(b"cos\nsystem\n(S'echo harm'\ntR.").expect("a sound pickle");
        let (module, name, arguments) = pickle.call(pickle.root()).expect("a call");
        assert_eq!((module, name, pickle.text(arguments[0])), ("os", "system", Some("echo harm")));
    }

    #[test]
    fn a_list_that_holds_itself_is_read_and_dropped() {
        let pickle = unpickle(b"]q\x00h\x00a.").expect("a sound pickle");
        assert_eq!(pickle.elements(pickle.root()), [pickle.root()]);
    }

    #[test]
    fn the_offset_of_damage_is_named() {
        let error = unpickle(b"\x80\x02X\xff\xff\xff\xffabc").expect_err("damaged");
        assert_eq!(
            error.to_string(),
            "the pickle is damaged at byte 7: 4294967295 more bytes are expected, the file ends"
        );
    }

    #[test]
    fn every_kind_of_damage_is_named_with_its_place() {
        for (bytes, offset, reason) in [
            (&b""[..], 0, "1 more bytes are expected, the file ends"),
            (b"\x80", 1, "1 more bytes are expected, the file ends"),
            (b"J\x01\x02\x03", 1, "4 more bytes are expected, the file ends"),
            (b".", 1, "the stack is empty"),
            (b"K\x01(.", 4, "the stack is empty"),
            (b"K\x01\x86.", 3, "the stack is empty"),
            (b"Nt.", 2, "a mark is missing"),
            (b"(o.", 2, "an object without a class"),
            (b"cos\nsystem", 4, "a line does not end"),
            (b"Ng1x\n.", 5, "`1x` is not a memo key"),
            (b"Nq\x00h\x07.", 5, "nothing is remembered under 7"),
            (b"N\xff.", 2, "unknown code 0xff"),
        ] {
            let error = unpickle(bytes).expect_err(reason);
            assert_eq!(error, PickleError { offset, reason: reason.to_owned() }, "{bytes:?}");
        }
    }

    #[test]
    fn a_pickle_that_is_cut_off_anywhere_says_so() {
        for length in 0..DICTIONARY.len() {
            let error = unpickle(&DICTIONARY[..length]).expect_err("cut off");
            assert!(error.reason.ends_with("more bytes are expected, the file ends"), "{length}: {error}");
            assert!(error.offset <= length, "{length}: {error}");
        }
    }

    /// Either the pickle is in proportion to the bytes, or what the error says of them is true.
    fn is_read_or_rightly_refused(bytes: &[u8]) {
        let error = match unpickle(bytes) {
            Ok(pickle) => return assert!(pickle.extent() <= 3 * bytes.len(), "{}", pickle.extent()),
            Err(error) => error,
        };
        let (read, rest) = bytes.split_at(error.offset);
        let number = |word: Option<&str>| word.and_then(|word| word.parse::<u128>().ok());
        let right = match error.reason.as_str() {
            "the stack is empty" | "a mark is missing" => !read.is_empty(),
            "an object without a class" => read.ends_with(b"o"),
            "a line does not end" => !rest.contains(&b'\n'),
            reason if reason.starts_with("unknown code 0x") => {
                read.last().is_some_and(|code| reason.ends_with(&format!("0x{code:02x}")))
            }
            reason if reason.ends_with(" more bytes are expected, the file ends") => {
                number(reason.split(' ').next()).is_some_and(|expected| expected > rest.len() as u128)
            }
            reason if reason.ends_with("` is not a memo key") => read.ends_with(b"\n"),
            reason => number(reason.strip_prefix("nothing is remembered under ")).is_some(),
        };
        assert!(right, "{error}: {bytes:?}");
    }

    proptest! {
        #[test]
        fn random_bytes_are_read_or_rightly_refused(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            is_read_or_rightly_refused(&bytes);
        }

        #[test]
        fn random_codes_are_read_or_rightly_refused(codes in proptest::collection::vec(prop::sample::select(&b".(012NIJKGX}])tdaesuRbopqhrj\x80\x81\x85\x86\x87\x88\x8a\x8c\x91\x93\x94\n\x00\x01"[..]), 0..300)) {
            is_read_or_rightly_refused(&codes);
        }
    }
}
