//! The per-user cache of derived graphs. In: a model directory, a graph variant and a precision. Out: the path of a complete
//! ONNX file for exactly these weights. It must not keep anything in memory.

use std::path::{Path, PathBuf};

use crate::error::{Error, Result};
use crate::graph::{WRITER_VERSION, write};
use crate::machine::environment::cache_folder;
use crate::machine::files::write_whole;
use crate::model::package::directory::{ModelDirectory, graph_name};
use crate::model::precision::{GraphVariant, Precision};

/// The graph of a model in this variant and precision: the directory's own graph if it has one, otherwise the graph in the cache.
/// The first call writes it to the cache, which takes a second or two. Fails for a directory without weights, and if the cache
/// cannot be written.
pub fn derive(model: &ModelDirectory, variant: GraphVariant, precision: Precision) -> Result<PathBuf> {
    if let Some(path) = model.written_graph(variant, precision) {
        return Ok(path);
    }
    derive_into(&cache_folder()?, model, variant, precision)
}

/// Loads a graph with `open`, which gets its path. If ONNX Runtime rejects a graph of the cache, the graph is written again and
/// loaded once more: disks damage files.
pub fn load<T>(
    model: &ModelDirectory,
    variant: GraphVariant,
    precision: Precision,
    mut open: impl FnMut(&Path) -> Result<T>,
) -> Result<T> {
    match model.written_graph(variant, precision) {
        Some(path) => open(&path),
        None => load_from(&cache_folder()?, model, variant, precision, open),
    }
}

/// [`load`] with a given cache folder, and never the directory's own graph.
fn load_from<T>(
    folder: &Path,
    model: &ModelDirectory,
    variant: GraphVariant,
    precision: Precision,
    mut open: impl FnMut(&Path) -> Result<T>,
) -> Result<T> {
    let path = graph_path(folder, model, variant, precision);
    let cached = path.exists();
    derive_into(folder, model, variant, precision)?;
    match open(&path) {
        Err(error @ Error::Inference { .. }) if cached => {
            tracing::warn!(%error, graph = %path.display(), "the graph in the cache cannot be loaded: writing it again");
            write_into(&path, model, variant, precision)?;
            open(&path)
        }
        opened => opened,
    }
}

/// [`derive()`] with a given cache folder, and never the directory's own graph. Writing a graph removes those that earlier versions of
/// the writer made of the same model.
pub fn derive_into(
    folder: &Path,
    model: &ModelDirectory,
    variant: GraphVariant,
    precision: Precision,
) -> Result<PathBuf> {
    let path = graph_path(folder, model, variant, precision);
    if !path.exists() {
        std::fs::create_dir_all(folder)
            .map_err(|source| Error::Write { path: folder.to_owned(), source: source.into() })?;
        write_into(&path, model, variant, precision)?;
        for version in 1..WRITER_VERSION {
            // If an old graph cannot be removed, it only takes disk space.
            let _ = std::fs::remove_file(versioned_path(folder, model, variant, precision, version));
        }
    }
    Ok(path)
}

fn graph_path(folder: &Path, model: &ModelDirectory, variant: GraphVariant, precision: Precision) -> PathBuf {
    versioned_path(folder, model, variant, precision, WRITER_VERSION)
}

fn versioned_path(
    folder: &Path,
    model: &ModelDirectory,
    variant: GraphVariant,
    precision: Precision,
    version: u32,
) -> PathBuf {
    let key = model.model_hash().get(..32).unwrap_or(model.model_hash());
    folder.join(format!("{key}-v{version}-{}", graph_name(variant, precision)))
}

fn write_into(path: &Path, model: &ModelDirectory, variant: GraphVariant, precision: Precision) -> Result<()> {
    write_whole(path, &write(&model.weights()?, variant, precision)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::package::directory::tests::write_tiny;
    use crate::model::weights::safetensors_file::WeightForm;

    #[test]
    fn a_graph_is_written_once_and_named_by_its_hash() {
        let (model, cache) = (tempfile::tempdir().expect("a folder"), tempfile::tempdir().expect("a folder"));
        let directory = write_tiny(model.path(), WeightForm::Fp32);
        let earlier = |variant| versioned_path(cache.path(), &directory, variant, Precision::Fp32, WRITER_VERSION - 1);
        for variant in [GraphVariant::Fused, GraphVariant::Portable] {
            std::fs::write(earlier(variant), b"old").expect("written");
        }
        let path = derive_into(cache.path(), &directory, GraphVariant::Fused, Precision::Fp32).expect("a graph");
        assert!(!earlier(GraphVariant::Fused).exists(), "the new graph replaces the earlier one");
        std::fs::remove_file(earlier(GraphVariant::Portable)).expect("another variant stays");
        std::fs::write(&path, b"kept").expect("written");
        assert_eq!(
            derive_into(cache.path(), &directory, GraphVariant::Fused, Precision::Fp32).expect("the same"),
            path
        );
        assert_eq!(std::fs::read(&path).expect("read"), b"kept");
        let other = write_tiny(model.path(), WeightForm::Int8);
        assert_ne!(derive_into(cache.path(), &other, GraphVariant::Fused, Precision::Fp32).expect("another"), path);
        assert_eq!(std::fs::read_dir(cache.path()).expect("a listing").count(), 2);
    }

    #[test]
    fn a_graph_that_does_not_load_is_written_again_once() {
        let (model, cache) = (tempfile::tempdir().expect("a folder"), tempfile::tempdir().expect("a folder"));
        let directory = write_tiny(model.path(), WeightForm::Fp32);
        let load = |open: &dyn Fn(&[u8]) -> bool| {
            let mut tries = 0;
            let loaded = load_from(cache.path(), &directory, GraphVariant::Fused, Precision::Fp32, |path| {
                tries += 1;
                let graph = std::fs::read(path).expect("a graph");
                let refused = || Error::Inference { doing: "load a graph".into(), source: "it is truncated".into() };
                open(&graph).then_some(graph).ok_or_else(refused)
            });
            (loaded.ok(), tries)
        };
        let (complete, tries) = load(&|_| true);
        let complete = complete.expect("loaded");
        assert_eq!(tries, 1);
        let path = derive_into(cache.path(), &directory, GraphVariant::Fused, Precision::Fp32).expect("a graph");
        std::fs::write(&path, &complete[..complete.len() / 2]).expect("truncated");
        let is_complete = |graph: &[u8]| graph.len() == complete.len();
        assert_eq!(load(&is_complete), (Some(complete.clone()), 2));
        // A complete graph that is rejected stays rejected; a graph that was just written is not written again.
        assert_eq!(load(&|_| false), (None, 2));
        std::fs::remove_file(&path).expect("removed");
        assert_eq!(load(&|_| false), (None, 1));
    }
}
