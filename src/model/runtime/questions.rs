//! What a model of two graphs is given of the questions. In: a task, the graph of questions. Out: the tensors of every batch. It must not
//! read windows.
//!
//! The vectors of a job's questions are kept in the cache, so the graph is opened only for questions that are new.

use std::borrow::Cow;
use std::path::{Path, PathBuf};

use safetensors::tensor::{Dtype, SafeTensors, TensorView, serialize};
use sha2::{Digest, Sha256};

use crate::error::{Error, Result};
use crate::machine::cache::{cache_folders, verified, writable_cache, write_hashed};
use crate::machine::hash::hexadecimal;
use crate::model::runtime::device::Device;
use crate::model::runtime::distribution::Distribution;
use crate::model::runtime::library::Library;
use crate::model::runtime::session::{Session, SessionOptions};
use crate::task::kind::{Kind, Task};
use crate::task::late::QUESTION_OUTPUTS;
use crate::task::tensor::{Tensor, Tensors, Values};

/// The tensors of every batch of a task. If its kind has a graph of questions, `graph` says where, and it is run here: in fp32 on the CPU,
/// with `threads` threads, which takes some milliseconds a question.
///
/// # Errors
/// What `graph` returns, and [`Error::Inference`] if the graph fails or violates its contract.
pub fn fixed(
    task: &Task,
    graph: impl FnOnce() -> Result<PathBuf>,
    library: &Library,
    threads: usize,
) -> Result<Tensors> {
    let asked = task.asked();
    let mut given = Vec::with_capacity(asked.len());
    if !asked.is_empty() {
        let options = SessionOptions { device: Device::Cpu, distribution: Distribution::Cpu, threads };
        let mut session = Session::open(library, &graph()?, Kind::Questions, options)?;
        for question in &asked {
            given.push(session.run(&[question])?);
        }
    }
    task.fixed(given).map_err(violated)
}

/// As [`fixed`], with what it gives of these questions from the cache; `key` names the graph.
///
/// # Errors
/// As [`fixed`]. A cache that cannot be written is no error.
pub fn cached(
    task: &Task,
    key: &str,
    graph: impl FnOnce() -> Result<PathBuf>,
    library: &Library,
    threads: usize,
) -> Result<Tensors> {
    let asked = task.asked();
    if asked.is_empty() {
        return fixed(task, graph, library, threads);
    }
    let name = format!("{key}-questions-{}.safetensors", hash(&asked, &library.version));
    for path in cache_folders().iter().map(|folder| folder.join(&name)).filter(|path| path.exists()) {
        match verified(&path).and_then(|()| read(&path)).and_then(|kept| task.with_vectors(kept)) {
            Ok(fixed) => return Ok(fixed),
            Err(reason) => tracing::warn!("`{}` in the cache {reason}: making it again", path.display()),
        }
    }
    let made = fixed(task, graph, library, threads)?;
    if let Err(error) = writable_cache().and_then(|folder| write(&folder.join(&name), &made)) {
        tracing::warn!("the vectors of the questions are not kept: {error}");
    }
    Ok(made)
}

fn violated(reason: String) -> Error {
    Error::Inference { doing: "read the questions".into(), source: reason.into() }
}

/// The hash of questions, as they are asked, and of the library that reads them.
fn hash(asked: &[Tensors], library: &str) -> String {
    let mut hasher = Sha256::new();
    hasher.update(library);
    for question in asked {
        let Some(Tensor { values: Values::I64(ids), .. }) = question.get("input_ids") else { continue };
        hasher.update((ids.len() as u64).to_le_bytes());
        for id in ids {
            hasher.update(id.to_le_bytes());
        }
    }
    hexadecimal(&hasher.finalize()[..16])
}

/// Writes the vectors among the tensors of every batch.
fn write(path: &Path, fixed: &Tensors) -> Result<()> {
    let unwritable = |source| Error::Write { path: path.to_owned(), source };
    let mut bytes: Vec<(&str, Vec<usize>, Vec<u8>)> = Vec::new();
    for name in QUESTION_OUTPUTS {
        if let Some(Tensor { shape, values: Values::F32(values) }) = fixed.get(name) {
            bytes.push((name, shape.clone(), values.iter().flat_map(|value| value.to_le_bytes()).collect()));
        }
    }
    let views: std::result::Result<Vec<_>, _> = bytes
        .iter()
        .map(|(name, shape, bytes)| Ok((*name, TensorView::new(Dtype::F32, shape.clone(), bytes)?)))
        .collect();
    let views = views.map_err(|error: safetensors::SafeTensorError| unwritable(error.into()))?;
    let file = serialize(views, None).map_err(|error| unwritable(error.into()))?;
    write_hashed(path, &file)
}

/// Reads what [`write`] wrote.
fn read(path: &Path) -> std::result::Result<Tensors, String> {
    let file = std::fs::read(path).map_err(|error| format!("cannot be read ({error})"))?;
    let stored = SafeTensors::deserialize(&file).map_err(|error| format!("is damaged ({error})"))?;
    let mut kept = Tensors::default();
    for (name, view) in stored.tensors() {
        let values = view.data().as_chunks::<4>().0.iter().map(|&bytes| f32::from_le_bytes(bytes)).collect();
        kept = kept.with(Cow::Owned(name), view.shape(), Values::F32(values));
    }
    Ok(kept)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn question(ids: &[i64]) -> Tensors {
        Tensors::default().with("input_ids", &[1, ids.len()], Values::I64(ids.to_vec()))
    }

    #[test]
    fn other_questions_another_order_and_another_library_have_another_hash() {
        let hash = |questions: &[&[i64]], library| {
            hash(&questions.iter().map(|ids| question(ids)).collect::<Vec<_>>(), library)
        };
        let all = [
            hash(&[&[1, 2], &[3]], "1.31.0"),
            hash(&[&[3], &[1, 2]], "1.31.0"),
            hash(&[&[1, 2, 3]], "1.31.0"),
            hash(&[&[1, 2], &[3]], "1.32.0"),
        ];
        assert_eq!(std::collections::BTreeSet::from(all.clone()).len(), 4);
        assert_eq!(all[0], hash(&[&[1, 2], &[3]], "1.31.0"));
    }

    #[test]
    fn vectors_are_read_as_they_were_written_and_damage_is_seen() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("vectors.safetensors");
        let vectors = QUESTION_OUTPUTS.iter().enumerate().fold(Tensors::default(), |vectors, (number, &name)| {
            let values = (0..2 * (number + 1)).map(|value| value as f32 / 7.0).collect();
            vectors.with(name, &[2, number + 1], Values::F32(values))
        });
        let others = vectors.clone().with("boundary_logit", &[], Values::F32(vec![0.5]));
        write(&path, &others).expect("written");
        verified(&path).expect("sound");
        let kept = read(&path).expect("read");
        for name in QUESTION_OUTPUTS {
            assert_eq!(kept.get(name), vectors.get(name), "{name}");
        }
        assert!(kept.get("boundary_logit").is_none(), "it is the job's, not the questions'");
        let mut bytes = std::fs::read(&path).expect("read");
        let last = bytes.len() - 1;
        bytes[last] ^= 1;
        std::fs::write(&path, bytes).expect("written");
        assert!(verified(&path).expect_err("damaged").contains("is damaged"));
    }
}
