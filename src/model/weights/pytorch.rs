//! PyTorch's own file format (zip of a pickle and raw storages, PyTorch 1.6 and later). In: the bytes of a
//! `pytorch_model.bin` or a Lightning `.ckpt`. Out: the float tensors of its state dictionary. It must not execute what the
//! pickle names, nor allocate more than the file's size warrants.
//!
//! The crate pytorch-reader 0.23.0-pre.1 is not used: it refuses a whole checkpoint if anything in it is a default dictionary, a deque,
//! a subclass of list or a dictionary with keys other than strings and integers, finds no tensors in a dictionary that is referred to a
//! second time, and asks for 14 GB to read a file of 93 kB whose pickle is compressed.

use std::collections::BTreeMap;
use std::io::{Cursor, Read};

use zip::{CompressionMethod, ZipArchive};

use crate::model::weights::pickle::{Id, Pickle, Value};
use crate::model::weights::tensors::{Floats, Tensor};
use crate::model::weights::unpickle::unpickle;

/// Reads every float tensor of a state dictionary (or of the `state_dict` inside a training checkpoint). The error is
/// the reason.
pub fn read_tensors(bytes: &[u8]) -> Result<BTreeMap<String, Tensor>, String> {
    let mut archive = Archive::open(bytes)?;
    let pickle = archive.entry("data.pkl", usize::MAX)?;
    let pickle = unpickle(&pickle).map_err(|error| error.to_string())?;
    let mut budget = bytes.len();
    let mut tensors = BTreeMap::new();
    for (name, view) in views(&pickle) {
        let Some(kind) = view.kind else { continue };
        let tensor =
            view.load(kind, &mut archive, &mut budget).map_err(|reason| format!("tensor `{name}`: {reason}"))?;
        tensors.insert(name.to_owned(), tensor);
    }
    if tensors.is_empty() {
        return Err("it holds no state dictionary with float tensors".to_owned());
    }
    Ok(tensors)
}

/// The extent of a pickle and the tensors that it describes, without their values.
pub(crate) fn read_pickle(bytes: &[u8]) -> Result<usize, String> {
    let pickle = unpickle(bytes).map_err(|error| error.to_string())?;
    Ok(pickle.extent() + views(&pickle).count())
}

fn views(pickle: &Pickle) -> impl Iterator<Item = (&str, View<'_>)> {
    let root = pickle.lookup(pickle.root(), "state_dict").unwrap_or(pickle.root());
    pickle.items(root).iter().filter_map(|(key, value)| Some((pickle.text(*key)?, View::describe(pickle, *value)?)))
}

struct Archive<'a> {
    zip: ZipArchive<Cursor<&'a [u8]>>,
    prefix: String,
    length: usize,
}

impl<'a> Archive<'a> {
    fn open(bytes: &'a [u8]) -> Result<Self, String> {
        let zip = ZipArchive::new(Cursor::new(bytes)).map_err(|error| match bytes.first() {
            Some(0x80) => "it is in PyTorch's format from before version 1.6; save it again with torch.save".to_owned(),
            _ => format!("it is not a PyTorch file, or it is cut off ({error})"),
        })?;
        let prefix = zip.file_names().find_map(|name| name.strip_suffix("data.pkl")).map(str::to_owned);
        let prefix = prefix.ok_or_else(|| "there is no data.pkl inside".to_owned())?;
        let mut archive = Self { zip, prefix, length: bytes.len() };
        if archive.entry("byteorder", 16).is_ok_and(|order| order.starts_with(b"big")) {
            return Err("it was written on a big-endian machine".to_owned());
        }
        Ok(archive)
    }

    /// At most `limit` bytes of an entry. `PyTorch` stores without compression; a compressed entry could expand without bound.
    fn entry(&mut self, name: &str, limit: usize) -> Result<Vec<u8>, String> {
        let path = format!("{}{name}", self.prefix);
        let entry = self.zip.by_name(&path).map_err(|error| format!("`{path}`: {error}"))?;
        if entry.compression() != CompressionMethod::Stored {
            return Err(format!("`{path}` is compressed, which PyTorch never does"));
        }
        let mut bytes = Vec::new();
        let (size, limit) = (entry.size(), limit.min(self.length) as u64);
        let mut entry = entry.take(limit);
        let read = || {
            entry.read_to_end(&mut bytes)?;
            // The reader compares an entry's checksum at its end, after the last byte.
            if bytes.len() as u64 == size { entry.into_inner().read(&mut [0]) } else { Ok(0) }
        };
        read().map_err(|error| format!("`{path}`: {error}"))?;
        Ok(bytes)
    }
}

/// The element type of a storage class, if it is a float.
fn kind(class: &str) -> Option<Floats> {
    match class {
        "FloatStorage" => Some(Floats::Float32),
        "DoubleStorage" => Some(Floats::Float64),
        "HalfStorage" => Some(Floats::Float16),
        "BFloat16Storage" => Some(Floats::Bfloat16),
        _ => None,
    }
}

/// A tensor as the pickle describes it: a strided view of a storage. `kind` is none for integers and booleans.
struct View<'a> {
    key: &'a str,
    kind: Option<Floats>,
    offset: usize,
    shape: Vec<usize>,
    strides: Vec<usize>,
}

impl<'a> View<'a> {
    /// `_rebuild_tensor(_v2)(storage, offset, size, stride, …)`, possibly inside `_rebuild_parameter(tensor, …)`.
    fn describe(pickle: &'a Pickle, id: Id) -> Option<Self> {
        let (_, mut name, mut arguments) = pickle.call(id)?;
        if name.starts_with("_rebuild_parameter") {
            (_, name, arguments) = pickle.call(*arguments.first()?)?;
        }
        if !matches!(name, "_rebuild_tensor" | "_rebuild_tensor_v2") {
            return None;
        }
        let [storage, offset, shape, strides, ..] = arguments else { return None };
        let Value::Persistent(storage) = pickle.get(*storage) else { return None };
        let [_, class, key, ..] = pickle.elements(*storage) else { return None };
        let Value::Global(_, class) = pickle.get(*class) else { return None };
        let sizes = |id: Id| pickle.elements(id).iter().map(|size| pickle.size(*size)).collect::<Option<Vec<_>>>();
        Some(Self {
            key: pickle.text(*key)?,
            kind: kind(class),
            offset: pickle.size(*offset)?,
            shape: sizes(*shape)?,
            strides: sizes(*strides)?,
        })
    }

    fn load(&self, kind: Floats, archive: &mut Archive<'_>, budget: &mut usize) -> Result<Tensor, String> {
        let too_large = || format!("shape {:?} is larger than the file", self.shape);
        let count =
            self.shape.iter().try_fold(1_usize, |count, size| count.checked_mul(*size)).ok_or_else(too_large)?;
        *budget = budget.checked_sub(count).ok_or_else(too_large)?;
        if self.strides.len() != self.shape.len() || self.shape.len() > 8 {
            return Err(format!("shape {:?} and strides {:?} do not fit", self.shape, self.strides));
        }
        let last = self.last_element().ok_or_else(too_large)?;
        let needed = if count == 0 {
            0
        } else {
            last.checked_add(1).and_then(|n| n.checked_mul(kind.size())).ok_or_else(too_large)?
        };
        if needed > archive.length {
            return Err(too_large());
        }
        let storage = archive.entry(&format!("data/{}", self.key), needed)?;
        if storage.len() < needed {
            return Err(format!("its storage has {} bytes, expected {needed}", storage.len()));
        }
        if count == 0 {
            return Ok(Tensor { shape: self.shape.clone(), values: Vec::new() });
        }
        let start = self.offset * kind.size();
        if self.is_contiguous() {
            return Ok(Tensor {
                shape: self.shape.clone(),
                values: kind.decode(&storage[start..start + count * kind.size()]),
            });
        }
        let storage = kind.decode(&storage);
        let mut places = vec![self.offset];
        for (size, stride) in self.shape.iter().zip(&self.strides) {
            places = places.iter().flat_map(|place| (0..*size).map(move |index| place + index * stride)).collect();
        }
        Ok(Tensor { shape: self.shape.clone(), values: places.into_iter().map(|place| storage[place]).collect() })
    }

    fn last_element(&self) -> Option<usize> {
        self.shape.iter().zip(&self.strides).try_fold(self.offset, |place, (size, stride)| {
            size.saturating_sub(1).checked_mul(*stride).and_then(|step| place.checked_add(step))
        })
    }

    fn is_contiguous(&self) -> bool {
        let mut expected = 1;
        self.shape.iter().zip(&self.strides).rev().all(|(size, stride)| {
            let fits = *size == 1 || *stride == expected;
            expected *= size;
            fits
        })
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::io::Write;

    use proptest::prelude::*;
    use zip::write::{SimpleFileOptions, ZipWriter};

    use super::*;

    fn text(pickle: &mut Vec<u8>, text: &str) {
        pickle.push(b'X');
        pickle.extend((text.len() as u32).to_le_bytes());
        pickle.extend(text.as_bytes());
    }

    fn integer(pickle: &mut Vec<u8>, number: usize) {
        pickle.push(b'J');
        pickle.extend((number as u32).to_le_bytes());
    }

    /// Writes a checkpoint as `torch.save` does: `lightning` puts it under `state_dict` beside hyperparameters of an
    /// unknown class. Equal tensors share a storage, as tied weights do.
    pub(crate) fn torch_save(tensors: &BTreeMap<String, Tensor>, lightning: bool) -> Vec<u8> {
        let mut pickle = b"\x80\x02".to_vec();
        if lightning {
            pickle.extend(b"}(");
            text(&mut pickle, "hyper_parameters");
            pickle.extend(b"cargparse\nNamespace\n)\x81}");
            text(&mut pickle, "lr");
            pickle.extend(b"G\x3f\x00\x00\x00\x00\x00\x00\x00sb");
            text(&mut pickle, "state_dict");
        }
        pickle.extend(b"ccollections\nOrderedDict\n)R(");
        let first = |tensor: &Tensor| tensors.values().position(|other| other == tensor).expect("itself");
        for (name, tensor) in tensors {
            let index = first(tensor);
            text(&mut pickle, name);
            pickle.extend(b"ctorch._utils\n_rebuild_tensor_v2\n((");
            text(&mut pickle, "storage");
            pickle.extend(b"ctorch\nFloatStorage\n");
            text(&mut pickle, &index.to_string());
            text(&mut pickle, "cpu");
            integer(&mut pickle, tensor.values.len());
            pickle.extend(b"tQK\x00(");
            tensor.shape.iter().for_each(|size| integer(&mut pickle, *size));
            pickle.extend(b"t(");
            for axis in 0..tensor.shape.len() {
                integer(&mut pickle, tensor.shape[axis + 1..].iter().product());
            }
            pickle.extend(b"t\x89ccollections\nOrderedDict\n)RtR");
        }
        pickle.extend(if lightning { &b"uu."[..] } else { &b"u."[..] });
        let mut zip = ZipWriter::new(Cursor::new(Vec::new()));
        let options = SimpleFileOptions::default().compression_method(CompressionMethod::Stored);
        let mut entry = |name: String, bytes: &[u8]| {
            zip.start_file(name, options).expect("an entry");
            zip.write_all(bytes).expect("a write to memory");
        };
        entry("archive/data.pkl".into(), &pickle);
        for (index, tensor) in tensors.values().enumerate().filter(|(index, tensor)| first(tensor) == *index) {
            let bytes: Vec<u8> = tensor.values.iter().flat_map(|value| value.to_le_bytes()).collect();
            entry(format!("archive/data/{index}"), &bytes);
        }
        zip.finish().expect("a finished archive").into_inner()
    }

    fn sample() -> BTreeMap<String, Tensor> {
        BTreeMap::from([
            ("a".to_owned(), Tensor { shape: vec![2, 3], values: vec![1.0, 2.0, 3.0, 4.0, 5.0, 6.0] }),
            ("b".to_owned(), Tensor { shape: vec![4], values: vec![-1.0, 0.5, 0.25, 8.0] }),
        ])
    }

    #[test]
    fn plain_and_lightning_files_give_the_same_tensors() {
        assert_eq!(read_tensors(&torch_save(&sample(), false)), Ok(sample()));
        assert_eq!(read_tensors(&torch_save(&sample(), true)), Ok(sample()));
    }

    #[test]
    fn tied_tensors_share_a_storage() {
        let mut tied = sample();
        tied.insert("c".to_owned(), tied["a"].clone());
        let bytes = torch_save(&tied, false);
        let mut archive = Archive::open(&bytes).expect("an archive");
        assert!(archive.entry("data/0", 24).is_ok() && archive.entry("data/2", 24).is_err());
        assert_eq!(read_tensors(&bytes), Ok(tied));
    }

    #[test]
    fn a_transposed_view_is_read_in_its_own_order() {
        let bytes = torch_save(&sample(), false);
        let mut archive = Archive::open(&bytes).expect("an archive");
        let view = View { key: "0", kind: Some(Floats::Float32), offset: 0, shape: vec![3, 2], strides: vec![1, 3] };
        let tensor = view.load(Floats::Float32, &mut archive, &mut 100).expect("a tensor");
        assert_eq!(tensor.values, [1.0, 4.0, 2.0, 5.0, 3.0, 6.0]);
    }

    #[test]
    fn a_view_beyond_its_storage_or_the_file_is_refused() {
        let bytes = torch_save(&sample(), false);
        let mut archive = Archive::open(&bytes).expect("an archive");
        let mut refuse = |shape: &[usize], strides: &[usize], offset| {
            let kind = Some(Floats::Float32);
            let view = View { key: "0", kind, offset, shape: shape.into(), strides: strides.into() };
            view.load(Floats::Float32, &mut archive, &mut 1000).expect_err("a refusal")
        };
        assert_eq!(refuse(&[2, 3], &[3, 1], 1), "its storage has 24 bytes, expected 28");
        assert!(refuse(&[usize::MAX, 3], &[3, 1], 0).contains("larger than the file"));
        assert!(refuse(&[1 << 40], &[0], 0).contains("larger than the file"));
        assert!(refuse(&[2], &[usize::MAX], 2).contains("larger than the file"));
    }

    #[test]
    fn what_it_is_not_is_said() {
        assert!(read_tensors(b"\x80\x02\x8a\x0a").expect_err("old").contains("before version 1.6"));
        assert!(read_tensors(b"").expect_err("empty").contains("not a PyTorch file"));
    }

    /// Where a part of a file lies in it.
    fn place(file: &[u8], part: &[u8]) -> std::ops::Range<usize> {
        let start = file.windows(part.len()).position(|window| window == part).expect("the part is there");
        start..start + part.len()
    }

    #[test]
    fn a_changed_byte_is_an_error_or_changes_nothing() {
        let values =
            |name: &str| -> Vec<u8> { sample()[name].values.iter().flat_map(|value| value.to_le_bytes()).collect() };
        for lightning in [false, true] {
            let sound = torch_save(&sample(), lightning);
            let parts = [
                (
                    place(&sound, b"\x80\x02").start..place(&sound, b"u.PK").end - 2,
                    "`archive/data.pkl`: Invalid checksum",
                ),
                (place(&sound, &values("a")), "tensor `a`: `archive/data/0`: Invalid checksum"),
                (place(&sound, &values("b")), "tensor `b`: `archive/data/1`: Invalid checksum"),
            ];
            for (at, change) in (0..sound.len()).flat_map(|at| [0x01, 0x80, 0xff].map(|change| (at, change))) {
                let mut bytes = sound.clone();
                bytes[at] ^= change;
                let read = read_tensors(&bytes);
                if let Some((_, expected)) = parts.iter().find(|(part, _)| part.contains(&at)) {
                    assert_eq!(read, Err((*expected).to_owned()), "{at}");
                    continue;
                }
                // What is left is the archive's own.
                match read {
                    Ok(tensors) => assert_eq!(tensors, sample(), "{at}"),
                    Err(error) => assert!(
                        error.starts_with("it is not a PyTorch file, or it is cut off (")
                            || error == "there is no data.pkl inside"
                            || error.contains("data.pkl`: ")
                            || error.starts_with("tensor `a`: ")
                            || error.starts_with("tensor `b`: "),
                        "{at}: {error}"
                    ),
                }
            }
        }
    }

    #[test]
    fn a_file_that_is_cut_off_anywhere_says_so() {
        for bytes in [torch_save(&sample(), false), torch_save(&sample(), true)] {
            for length in 0..bytes.len() {
                let error = read_tensors(&bytes[..length]).expect_err("cut off");
                assert!(error.starts_with("it is not a PyTorch file, or it is cut off ("), "{length}: {error}");
            }
        }
    }

    proptest! {
        #[test]
        fn random_bytes_are_not_a_pytorch_file(bytes in proptest::collection::vec(any::<u8>(), 0..500)) {
            let error = read_tensors(&bytes).expect_err("no archive");
            let start = match bytes.first() {
                Some(0x80) => "it is in PyTorch's format from before version 1.6; ",
                _ => "it is not a PyTorch file, or it is cut off (",
            };
            prop_assert!(error.starts_with(start), "{}", error);
        }
    }
}
