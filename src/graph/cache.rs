//! The cache of derived graphs. In: a model directory, a part of the model and a graph variant. Out: the path of a complete ONNX file for exactly
//! these weights, hashed in this call. It must not keep anything in memory.
//!
//! A graph with damaged weights still loads, and gives other scores: its hash is checked.

use std::path::{Path, PathBuf};

use crate::error::Result;
use crate::graph::{WRITER_VERSION, write_part};
use crate::machine::cache::{cache_folders, remove_hashed, verified, writable_cache, write_hashed};
use crate::model::package::directory::{ModelDirectory, graph_name};
use crate::model::precision::{GraphPart, GraphVariant, Precision};

/// The whole graph of a model of early interaction: [`derive_part`] of [`GraphPart::Whole`].
pub fn derive(model: &ModelDirectory, variant: GraphVariant, precision: Precision) -> Result<PathBuf> {
    derive_part(model, GraphPart::Whole(precision), variant)
}

/// A graph of a model in this variant: the directory's own graph if it has one, otherwise the graph in the cache.
/// The first call writes it to the cache, which takes a second or two; so does a call that finds it damaged. Fails for a directory
/// without weights, for a part that the model does not have, and if neither the cache nor a temporary folder can be written.
pub fn derive_part(model: &ModelDirectory, part: GraphPart, variant: GraphVariant) -> Result<PathBuf> {
    // It was verified with the directory.
    if let Some(path) = model.written_graph(part, variant) {
        return Ok(path);
    }
    derive_in(&cache_folders(), writable_cache, model, part, variant)
}

/// [`derive_part`] with given folders to look in, and one to write to, and never the directory's own graph.
fn derive_in(
    folders: &[PathBuf],
    writable: impl FnOnce() -> Result<PathBuf>,
    model: &ModelDirectory,
    part: GraphPart,
    variant: GraphVariant,
) -> Result<PathBuf> {
    for folder in folders {
        let path = versioned_path(folder, model, part, variant, WRITER_VERSION);
        if path.exists() {
            match verified(&path) {
                Ok(()) => return Ok(path),
                Err(reason) => tracing::warn!("the graph `{}` in the cache {reason}: writing it again", path.display()),
            }
        }
    }
    let folder = writable()?;
    let path = versioned_path(&folder, model, part, variant, WRITER_VERSION);
    let graph = write_part(&model.weights()?, part, variant)?;
    write_hashed(&path, &graph)?;
    for version in 1..WRITER_VERSION {
        remove_hashed(&versioned_path(&folder, model, part, variant, version));
    }
    Ok(path)
}

fn versioned_path(
    folder: &Path,
    model: &ModelDirectory,
    part: GraphPart,
    variant: GraphVariant,
    version: u32,
) -> PathBuf {
    folder.join(format!("{}-v{version}-{}", model_key(model), graph_name(part, variant)))
}

/// What the names of files derived from a model begin with: the first half of its hash.
fn model_key(model: &ModelDirectory) -> &str {
    model.model_hash().get(..32).unwrap_or(model.model_hash())
}

/// What the names of files with question vectors begin with: model, graph writer and variant.
pub fn questions_key(model: &ModelDirectory, variant: GraphVariant) -> String {
    format!("{}-v{WRITER_VERSION}-{variant}", model_key(model))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine::cache::hash_path;
    use crate::machine::captured_events::captured;
    use crate::model::package::directory::tests::write_tiny;
    use crate::model::weights::safetensors_file::WeightForm;

    fn derived(folders: &[&Path], model: &ModelDirectory) -> PathBuf {
        let folders: Vec<PathBuf> = folders.iter().map(|folder| folder.to_path_buf()).collect();
        let writable = || Ok(folders.last().expect("a folder").clone());
        derive_in(&folders, writable, model, GraphPart::Whole(Precision::Fp32), GraphVariant::Fused).expect("a graph")
    }

    #[test]
    fn a_graph_is_written_once_and_named_by_its_hash() {
        let (model, cache) = (tempfile::tempdir().expect("a folder"), tempfile::tempdir().expect("a folder"));
        let directory = write_tiny(model.path(), WeightForm::Fp32);
        let whole = GraphPart::Whole(Precision::Fp32);
        let earlier = |variant| versioned_path(cache.path(), &directory, whole, variant, WRITER_VERSION - 1);
        for variant in [GraphVariant::Fused, GraphVariant::Portable] {
            std::fs::write(earlier(variant), b"old").expect("written");
        }
        let path = derived(&[cache.path()], &directory);
        assert!(!earlier(GraphVariant::Fused).exists(), "the new graph replaces the earlier one");
        std::fs::remove_file(earlier(GraphVariant::Portable)).expect("another variant stays");
        let written = || path.metadata().expect("a file").modified().expect("a time");
        let before = written();
        let (again, said) = captured(|| derived(&[cache.path()], &directory));
        assert_eq!((again, written(), said), (path.clone(), before, Vec::<String>::new()));
        let other = write_tiny(model.path(), WeightForm::Int8);
        assert_ne!(derived(&[cache.path()], &other), path);
        assert_eq!(std::fs::read_dir(cache.path()).expect("a listing").count(), 4);
    }

    #[test]
    fn each_part_has_a_file_of_its_own() {
        let model = tempfile::tempdir().expect("a folder");
        let directory = write_tiny(model.path(), WeightForm::Fp32);
        let parts = [GraphPart::Whole(Precision::Int8), GraphPart::Questions, GraphPart::Windows(Precision::Int8)];
        let name = |part| {
            let path = versioned_path(Path::new(""), &directory, part, GraphVariant::Fused, 5).display().to_string();
            path.split_once("-v5-").expect("a version").1.to_owned()
        };
        let names = ["model-int8-fused.onnx", "model-questions-fused.onnx", "model-windows-int8-fused.onnx"];
        assert_eq!(parts.map(name), names);
    }

    #[test]
    fn a_damaged_graph_is_written_again_with_a_word() {
        let (model, cache) = (tempfile::tempdir().expect("a folder"), tempfile::tempdir().expect("a folder"));
        let directory = write_tiny(model.path(), WeightForm::Fp32);
        let path = derived(&[cache.path()], &directory);
        let complete = std::fs::read(&path).expect("a graph");
        let mut zeroed = complete.clone();
        let middle = zeroed.len() / 2;
        zeroed[middle..middle + 64].fill(0);
        assert_ne!(zeroed, complete);
        let damages: [(&dyn Fn(), &str); 4] = [
            (&|| std::fs::write(&path, &zeroed).expect("written"), "is damaged"),
            (&|| std::fs::write(&path, &complete[..middle]).expect("written"), "is damaged"),
            (&|| std::fs::write(hash_path(&path), "").expect("written"), "is damaged"),
            (&|| std::fs::remove_file(hash_path(&path)).expect("removed"), "has no hash"),
        ];
        for (damage, word) in damages {
            damage();
            let (again, said) = captured(|| derived(&[cache.path()], &directory));
            assert_eq!(std::fs::read(again).expect("a graph"), complete);
            assert!(said.len() == 1 && said[0].contains(word) && said[0].contains("writing it again"), "{said:?}");
        }
    }

    #[test]
    fn a_graph_of_a_cache_that_cannot_be_written_is_used_if_it_is_sound() {
        let (model, cache) = (tempfile::tempdir().expect("a folder"), tempfile::tempdir().expect("a folder"));
        let directory = write_tiny(model.path(), WeightForm::Fp32);
        let path = derived(&[cache.path()], &directory);
        let own = tempfile::tempdir().expect("a folder");
        assert_eq!(derived(&[cache.path(), own.path()], &directory), path);
        std::fs::write(&path, b"damaged").expect("written");
        assert!(derived(&[cache.path(), own.path()], &directory).starts_with(own.path()));
    }
}
