//! The rules of the source tree: which module may use which, and generated files that must be fresh.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::support::project;

/// Modules in the order of the import rule; a module may use those before it. Verbs share the last rank but one and may not
/// use each other.
const RANKS: [&[&str]; 10] = [
    &["error"],
    &["mrc"],
    &["model"],
    &["graph"],
    &["tables"],
    &["engine"],
    &["job"],
    &["cli", "console"],
    &["run", "prepare", "train", "export", "evaluate", "sql", "report", "try", "doctor", "completions", "man"],
    &["main", "lib"],
];

fn rust_files(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap().flatten() {
        let path = entry.path();
        if path.is_dir() {
            files.extend(rust_files(&path));
        } else if path.extension().is_some_and(|end| end == "rs") {
            files.push(path);
        }
    }
    files.sort();
    files
}

/// The modules that a text names behind `crate::`, alone or in braces.
fn used(text: &str) -> Vec<String> {
    let first = |path: &str| -> String {
        let path = path.trim_start();
        let path = path.strip_prefix("r#").unwrap_or(path);
        path.chars().take_while(|letter| letter.is_alphanumeric() || *letter == '_').collect()
    };
    let mut found = Vec::new();
    for (at, name) in text.match_indices("crate::") {
        let rest = &text[at + name.len()..];
        let Some(group) = rest.strip_prefix('{') else {
            found.push(first(rest));
            continue;
        };
        let (mut depth, mut start) = (1, 0);
        for (place, letter) in group.char_indices() {
            depth += match letter {
                '{' => 1,
                '}' => -1,
                _ => 0,
            };
            if depth == 0 || (depth == 1 && letter == ',') {
                found.push(first(&group[start..place]));
                start = place + 1;
            }
            if depth == 0 {
                break;
            }
        }
    }
    found
}

#[test]
fn every_way_to_name_a_module_is_seen() {
    let text = "use crate::{job::Job, r#try::{text,\n schema}, run};\nlet found = crate::r#try::text(crate::console::colours());";
    assert_eq!(used(text), ["job", "try", "run", "try", "console"]);
}

#[test]
fn imports_follow_the_chain() {
    let ranks: BTreeMap<&str, usize> =
        RANKS.iter().enumerate().flat_map(|(rank, names)| names.iter().map(move |name| (*name, rank))).collect();
    let source = project().join("src");
    let mut wrong = Vec::new();
    let mut arrows = 0;
    for file in rust_files(&source) {
        let inside = file.strip_prefix(&source).unwrap();
        let module = inside.components().next().unwrap().as_os_str().to_string_lossy().replace(".rs", "");
        let rank = *ranks.get(module.as_str()).unwrap_or_else(|| panic!("`{module}` has no rank: add it to RANKS"));
        for used in used(&std::fs::read_to_string(&file).unwrap()) {
            let Some(&other) = ranks.get(used.as_str()) else { continue };
            arrows += 1;
            let allowed = other < rank || used == module;
            if !allowed && module != "lib" {
                wrong.push(format!("{} uses {used}", inside.display()));
            }
        }
    }
    assert!(arrows > 50, "the rule looked at only {arrows} imports");
    assert!(wrong.is_empty(), "forbidden imports:\n{}", wrong.join("\n"));
}

#[test]
fn the_pure_core_is_pure() {
    for file in rust_files(&project().join("src/mrc")) {
        let text = std::fs::read_to_string(&file).unwrap();
        for banned in ["use arrow", "use ort", "use tokio", "std::fs", "std::io", "datafusion"] {
            assert!(!text.contains(banned), "{} uses {banned}", file.display());
        }
    }
}

#[test]
fn every_file_of_tests_is_in_the_one_test_binary() {
    let main = std::fs::read_to_string(project().join("tests/main.rs")).unwrap();
    for entry in std::fs::read_dir(project().join("tests")).unwrap().flatten() {
        let path = entry.path();
        let name = path.file_stem().unwrap().to_string_lossy().into_owned();
        if path.extension().is_some_and(|end| end == "rs") && name != "main" {
            let lines = [format!("mod {name};"), format!("mod r#{name};")];
            let named = main.lines().any(|line| lines.iter().any(|one| one == line));
            assert!(named, "tests/main.rs does not name tests/{name}.rs, so its tests are not compiled");
        }
    }
}

/// Compares a generated file with its text; `QUARRY_BLESS=1` writes it.
fn fresh(path: &str, expected: &str) {
    let path = project().join(path);
    if std::env::var_os("QUARRY_BLESS").is_some() {
        std::fs::write(&path, expected).unwrap();
    }
    let found = std::fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(found, expected, "{} is stale: run the tests once with QUARRY_BLESS=1", path.display());
}

#[test]
fn the_json_schema_of_the_job_file_is_fresh() {
    fresh("schemas/job.schema.json", &quarry::job::json_schema().unwrap());
}

#[cfg(feature = "train")]
#[test]
fn the_json_schema_of_the_training_job_is_fresh() {
    fresh("schemas/train.schema.json", &quarry::train::file::json_schema().unwrap());
}

/// The training jobs of the project are right, and each says only what differs from the defaults or is worth seeing.
#[cfg(feature = "train")]
#[test]
fn every_training_job_is_valid() {
    let jobs = std::fs::read_dir(project().join("jobs")).unwrap().flatten().map(|entry| entry.path());
    let mut found = 0;
    for path in jobs.filter(|path| path.file_name().unwrap().to_string_lossy().starts_with("train-")) {
        let file = quarry::train::file::TrainFile::read(&path, &[]).unwrap();
        quarry::job::read_schema(&project().join(&file.entities.schema)).unwrap();
        found += 1;
    }
    assert!(found >= 4, "{found} jobs");
}

#[test]
fn the_schemas_of_the_tables_are_fresh() {
    let mut text =
        String::from("# The store's tables as Arrow sees them; doc_id keeps the type of the source column.\n");
    for table in quarry::tables::Table::ALL {
        text += &format!("\n[{}]\n", table.name());
        for field in table.schema(&arrow::datatypes::DataType::Utf8).fields() {
            let null = if field.is_nullable() { " null" } else { "" };
            text += &format!("{} = \"{}{null}\"\n", field.name(), field.data_type());
        }
    }
    fresh("schemas/tables.toml", &text);
}

#[test]
fn every_entity_schema_is_valid() {
    let mut names = Vec::new();
    for entry in std::fs::read_dir(project().join("schemas")).unwrap().flatten() {
        let path = entry.path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if path.extension().is_some_and(|end| end == "toml") && name != "tables.toml" {
            let schema = quarry::job::read_schema(&path).unwrap();
            names.push(format!("{name} {}", schema.types.len()));
        }
    }
    names.sort();
    assert_eq!(names, ["ace.toml 7", "conll03.toml 4", "genia.toml 5", "ontonotes5.toml 18"]);
}
