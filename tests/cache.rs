//! The per-user cache: damaged files in it are made again, and a run works without it.

use std::path::PathBuf;

use quarry::model::runtime::distribution::Distribution;
use quarry::model::runtime::library::find;

use crate::support::{Dir, Finished};

const TEXT: &str = "Ada Lovelace met Charles Babbage in London .";

/// Extracts from a text with a cache at `cache`, which need not have ONNX Runtime.
fn tried(dir: &Dir, cache: &str, model: &str) -> Finished {
    let library = find(None, Distribution::Cpu).unwrap().expect("other tests have fetched ONNX Runtime");
    let types = ["--types", "person,city", "--threshold", "0.000001"];
    let mut command =
        dir.command(&[&["try", TEXT, "--model", model, "--device", "cpu", "--json"][..], &types].concat());
    std::fs::create_dir_all(dir.path("tmp")).unwrap();
    command.env("QUARRY_CACHE", dir.path(cache)).env("TMPDIR", dir.path("tmp")).env("QUARRY_ONNXRUNTIME", library.path);
    dir.finish(command)
}

/// The files of a cache whose names end so.
fn cached(dir: &Dir, end: &str) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(dir.path("cache")).unwrap().map(|entry| entry.unwrap().path());
    entries.filter(|path| path.to_str().unwrap().ends_with(end)).collect()
}

#[test]
fn a_damaged_graph_changes_no_score() {
    let dir = Dir::new();
    let model = dir.small_model().display().to_string();
    let first = tried(&dir, "cache", &model).ended(0);
    assert!(!first.stderr().contains("writing it again"), "{}", first.stderr());
    let graphs = cached(&dir, ".onnx");
    assert_eq!(graphs.len(), 1, "{graphs:?}");
    let sound = std::fs::read(&graphs[0]).unwrap();
    // Blocks that read as zeros, as a disk leaves them that lost power: the graph still loads.
    let mut damaged = sound.clone();
    let middle = damaged.len() / 2;
    damaged[middle..middle + (64 << 10)].fill(0);
    std::fs::write(&graphs[0], damaged).unwrap();
    let second = tried(&dir, "cache", &model).ended(0);
    assert!(
        second.stderr().contains("is damaged") && second.stderr().contains("writing it again"),
        "{}",
        second.stderr()
    );
    assert_eq!(second.stdout(), first.stdout());
    assert_eq!(std::fs::read(&graphs[0]).unwrap(), sound);
    assert!(!tried(&dir, "cache", &model).ended(0).stderr().contains("is damaged"));
}

#[test]
fn without_a_cache_a_run_works_and_says_so() {
    let dir = Dir::new();
    // A cache inside a file can be neither made nor written, whoever runs this.
    dir.write("cache", "a file");
    let model = dir.small_model().display().to_string();
    let without = tried(&dir, "cache/inside", &model).ended(0);
    let warnings =
        without.stderr().matches("cannot be written (Not a directory (os error 20)): what it would keep").count();
    assert_eq!(warnings, 1, "{}", without.stderr());
    let left = std::fs::read_dir(dir.path("tmp")).unwrap().flatten();
    let left = left.filter(|entry| entry.file_name().to_string_lossy().starts_with("quarry-cache-"));
    assert_eq!(left.count(), 0, "the temporary cache is removed");
    let with = tried(&dir, "another", &model).ended(0);
    assert_eq!(without.stdout(), with.stdout());
    // The model inside the program is unpacked into the temporary cache, too.
    tried(&dir, "cache/inside", "models/default").ended(0);
}

#[test]
fn without_any_folder_to_write_the_error_needs_a_person() {
    let dir = Dir::new();
    dir.write("file", "a file");
    let library = find(None, Distribution::Cpu).unwrap().expect("other tests have fetched ONNX Runtime");
    let model = dir.small_model().display().to_string();
    let mut command = dir.command(&["try", TEXT, "--model", &model, "--types", "person", "--device", "cpu"]);
    command.env("QUARRY_ONNXRUNTIME", library.path);
    let nowhere = dir.path("file/inside");
    let said = dir.finish({
        command.env("QUARRY_CACHE", &nowhere).env("TMPDIR", &nowhere);
        command
    });
    assert!(said.ended(1).error().starts_with("error: cannot write `DIR/file/inside`"));
}
