//! Derived graphs, kept per user. In: a model directory, a form and a precision. Out: the path of an ONNX file that is whole
//! and belongs to exactly these weights. It may not keep anything in memory.

use std::path::{Path, PathBuf};

use crate::error::{Error, Result};
use crate::graph::{WRITER_VERSION, write};
use crate::machine::environment::cache_folder;
use crate::machine::files::write_whole;
use crate::model::package::directory::{ModelDirectory, graph_name};
use crate::model::precision::{GraphVariant, Precision};

/// The graph of a model in this form and precision: the directory's own where it has one, otherwise from the cache, where it
/// is written the first time (a second or two). Fails for a directory without weights and where the cache cannot be written.
pub fn derive(model: &ModelDirectory, form: GraphVariant, precision: Precision) -> Result<PathBuf> {
    if let Some(path) = model.written_graph(form, precision) {
        return Ok(path);
    }
    derive_into(&cache_folder()?, model, form, precision)
}

/// Has a graph loaded by `open`, which is given its path. One of the cache that ONNX Runtime refuses is written anew
/// and tried once more: disks damage files.
pub fn load<T>(
    model: &ModelDirectory,
    form: GraphVariant,
    precision: Precision,
    mut open: impl FnMut(&Path) -> Result<T>,
) -> Result<T> {
    match model.written_graph(form, precision) {
        Some(path) => open(&path),
        None => load_from(&cache_folder()?, model, form, precision, open),
    }
}

/// The same by way of a cache folder of one's own, and never the directory's own graph.
fn load_from<T>(
    folder: &Path,
    model: &ModelDirectory,
    form: GraphVariant,
    precision: Precision,
    mut open: impl FnMut(&Path) -> Result<T>,
) -> Result<T> {
    let path = place(folder, model, form, precision);
    let kept = path.exists();
    derive_into(folder, model, form, precision)?;
    match open(&path) {
        Err(error @ Error::Inference { .. }) if kept => {
            tracing::warn!(%error, graph = %path.display(), "the graph in the cache is written anew");
            write_into(&path, model, form, precision)?;
            open(&path)
        }
        opened => opened,
    }
}

/// A graph's path in a cache folder of one's own, where it is written unless it is there, in place of what earlier versions of the writer
/// made of the same model; never the directory's own graph.
pub fn derive_into(folder: &Path, model: &ModelDirectory, form: GraphVariant, precision: Precision) -> Result<PathBuf> {
    let path = place(folder, model, form, precision);
    if !path.exists() {
        std::fs::create_dir_all(folder)
            .map_err(|source| Error::Write { path: folder.to_owned(), source: source.into() })?;
        write_into(&path, model, form, precision)?;
        for version in 1..WRITER_VERSION {
            // It is there no more, or takes room for a while longer.
            let _ = std::fs::remove_file(of_version(folder, model, form, precision, version));
        }
    }
    Ok(path)
}

fn place(folder: &Path, model: &ModelDirectory, form: GraphVariant, precision: Precision) -> PathBuf {
    of_version(folder, model, form, precision, WRITER_VERSION)
}

fn of_version(
    folder: &Path,
    model: &ModelDirectory,
    form: GraphVariant,
    precision: Precision,
    version: u32,
) -> PathBuf {
    let key = model.model_hash().get(..32).unwrap_or(model.model_hash());
    folder.join(format!("{key}-v{version}-{}", graph_name(form, precision)))
}

fn write_into(path: &Path, model: &ModelDirectory, form: GraphVariant, precision: Precision) -> Result<()> {
    let (weights, config) = model.weights()?;
    write_whole(path, &write(&weights, &config, form, precision)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::package::directory::tests::write_tiny;
    use crate::model::weights::safetensors_file::WeightForm;

    #[test]
    fn a_graph_is_written_once_and_by_its_hash() {
        let (model, cache) = (tempfile::tempdir().expect("a folder"), tempfile::tempdir().expect("a folder"));
        let directory = write_tiny(model.path(), WeightForm::Fp32);
        let earlier = |form| of_version(cache.path(), &directory, form, Precision::Fp32, WRITER_VERSION - 1);
        for form in [GraphVariant::Fused, GraphVariant::Portable] {
            std::fs::write(earlier(form), b"old").expect("written");
        }
        let path = derive_into(cache.path(), &directory, GraphVariant::Fused, Precision::Fp32).expect("a graph");
        assert!(!earlier(GraphVariant::Fused).exists(), "the earlier one is in its place");
        std::fs::remove_file(earlier(GraphVariant::Portable)).expect("another form stays");
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
    fn a_graph_that_does_not_load_is_written_anew_once() {
        let (model, cache) = (tempfile::tempdir().expect("a folder"), tempfile::tempdir().expect("a folder"));
        let directory = write_tiny(model.path(), WeightForm::Fp32);
        let load = |open: &dyn Fn(&[u8]) -> bool| {
            let mut tries = 0;
            let loaded = load_from(cache.path(), &directory, GraphVariant::Fused, Precision::Fp32, |path| {
                tries += 1;
                let graph = std::fs::read(path).expect("a graph");
                let refused = || Error::Inference { doing: "load a graph".into(), source: "it is torn".into() };
                open(&graph).then_some(graph).ok_or_else(refused)
            });
            (loaded.ok(), tries)
        };
        let (whole, tries) = load(&|_| true);
        let whole = whole.expect("loaded");
        assert_eq!(tries, 1);
        let path = derive_into(cache.path(), &directory, GraphVariant::Fused, Precision::Fp32).expect("a graph");
        std::fs::write(&path, &whole[..whole.len() / 2]).expect("torn");
        let sound = |graph: &[u8]| graph.len() == whole.len();
        assert_eq!(load(&sound), (Some(whole.clone()), 2));
        // What is whole and refused all the same stays refused; what was just written is not written again.
        assert_eq!(load(&|_| false), (None, 2));
        std::fs::remove_file(&path).expect("removed");
        assert_eq!(load(&|_| false), (None, 1));
    }
}
