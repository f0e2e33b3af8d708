//! The rules of the source tree: which module may use which, and generated files that must be fresh.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use crate::support::project;

/// The rooms in the order of the import rule: a room may use those in the lines before its own. Verbs share a line and must not use each
/// other. `main` and `lib` may use everything. `console` comes late, because only verbs use it: all other rooms log `tracing` events. `cli`
/// turns what was typed into the settings of a verb, so it uses the verbs, and they do not use it.
const ROOMS: [&[&str]; 18] = [
    &["sanitize"],
    &["error"],
    &["random", "machine", "text"],
    &["task", "score"],
    &["model"],
    &["graph"],
    &["tables"],
    &["source"],
    &["extract"],
    &["store"],
    &["query"],
    &["job"],
    &["console"],
    &["cluster"],
    &["run", "prepare", "train", "export", "evaluate", "sql", "report", "try", "doctor", "completions", "man"],
    &["cli"],
    &["lib"],
    &["main"],
];

/// The rooms inside the largest rooms, in the order of the same rule.
const INNER_ROOMS: [(&str, &[&str]); 5] = [
    ("model", &["precision", "blocks", "config_error", "encoder", "head", "config", "weights", "package", "runtime"]),
    ("store", &["provider", "write", "maintenance"]),
    ("prepare", &["output", "markup", "tagged", "standoff"]),
    ("train", &["data", "optimization", "network", "state", "display", "training_loop"]),
    ("run", &["known", "summary", "preview"]),
];

/// What pure rooms must not name: I/O, threads, Arrow, ONNX Runtime, async code, and every room that is not pure. `score` alone can use
/// rayon's parallel iterators: every resample has a generator of its own, so threads change no figure.
const IMPURE: [&str; 18] = [
    "std::fs",
    "std::io",
    "std::net",
    "std::thread",
    "std::process",
    "std::env",
    "std::time",
    "std::sync::mpsc",
    "arrow",
    "ort",
    "tokio",
    "datafusion",
    "object_store",
    "rayon",
    "crossbeam",
    "tracing",
    "crate::model",
    "crate::machine",
];
const PURE: [&str; 4] = ["text", "task", "score", "random.rs"];

/// No folder of the tree has more entries of code than this.
const FILES_IN_A_FOLDER: usize = 12;
/// How deep folders lie inside `src`.
const FOLDERS_DEEP: usize = 3;

/// A file of the tree as the compiler knows it.
struct Module {
    /// `["store", "write", "commit"]`; empty for `lib.rs`.
    path: Vec<String>,
    file: PathBuf,
    /// Its text without comments, and without the tests at its end.
    code: String,
}

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

/// The code of a file: comments, string contents that look like paths, and the tests at its end are left out.
fn code_of(text: &str) -> String {
    let tests = [
        "#[cfg(test)]\nmod tests {",
        "#[cfg(test)]\npub(crate) mod tests {",
        "#[cfg(test)]\npub(in crate::train) mod tests {",
    ];
    let end = tests.iter().filter_map(|start| text.find(start)).min().unwrap_or(text.len());
    let lines = text[..end].lines().filter(|line| !line.trim_start().starts_with("//"));
    // A visibility is no use of the module that it names.
    lines.collect::<Vec<_>>().join("\n").replace("pub(in crate::", "pub(in ")
}

fn modules() -> Vec<Module> {
    let source = project().join("src");
    let files = rust_files(&source).into_iter();
    // Test modules in their own files are not part of the tree.
    let files = files.filter(|file| !file.iter().any(|part| part == "tests" || part == "tests.rs"));
    files
        .map(|file| {
            let inside = file.strip_prefix(&source).unwrap().with_extension("");
            let mut path: Vec<String> = inside.iter().map(|part| part.to_string_lossy().into_owned()).collect();
            path.pop_if(|last| last == "mod" || last == "lib");
            let code = code_of(&std::fs::read_to_string(&file).unwrap());
            Module { path, file: inside, code }
        })
        .collect()
}

/// Splits `{a, b::{c, d}}` into its paths; a path without braces is one.
fn leaves(tree: &str) -> Vec<String> {
    let tree = tree.trim();
    let Some(open) = tree.find('{') else { return vec![tree.to_owned()] };
    let (start, group) = (&tree[..open], &tree[open + 1..tree.rfind('}').unwrap_or(tree.len())]);
    let (mut depth, mut from, mut found) = (0, 0, Vec::new());
    for (place, letter) in group.char_indices().chain([(group.len(), ',')]) {
        depth += match letter {
            '{' => 1,
            '}' => -1,
            _ => 0,
        };
        if depth == 0 && letter == ',' {
            if !group[from..place].trim().is_empty() {
                found.extend(leaves(&group[from..place]).into_iter().map(|leaf| format!("{start}{leaf}")));
            }
            from = place + 1;
        }
    }
    found
}

/// Every path of `code` that begins with `crate`, `super` or `self`, or with one of `children`.
fn paths(code: &str, children: &[&str]) -> Vec<Vec<String>> {
    let begins =
        |word: &str| ["crate", "super", "self"].contains(&word) || children.contains(&word.trim_start_matches("r#"));
    let letter = |one: char| one.is_alphanumeric() || one == '_' || one == '#';
    let mut found = Vec::new();
    let mut from = 0;
    while let Some(place) = code[from..].find("::").map(|place| from + place) {
        let start = code[..place].rfind(|one| !letter(one)).map_or(0, |before| before + 1);
        from = place + 2;
        if code[..start].ends_with("::") || !begins(&code[start..place]) {
            continue;
        }
        // A `use` can have braces and runs to its semicolon; elsewhere a path ends with its last letter.
        let in_use = code[..start].trim_end().ends_with("use");
        let end = if in_use { code[start..].find(';') } else { code[start..].find(|one| !letter(one) && one != ':') };
        let text = &code[start..end.map_or(code.len(), |end| start + end)];
        for leaf in leaves(&text.split_whitespace().collect::<Vec<_>>().join(" ")) {
            let leaf = leaf.split(" as ").next().unwrap_or_default().to_owned();
            found.push(leaf.split("::").map(|part| part.trim().trim_start_matches("r#").to_owned()).collect());
        }
    }
    found
}

/// Which modules each module names, by their places in `modules`. A parent that only declares and re-exports its children does not use
/// them.
fn arrows(modules: &[Module]) -> Vec<BTreeSet<usize>> {
    let places: BTreeMap<&[String], usize> =
        modules.iter().enumerate().map(|(place, module)| (module.path.as_slice(), place)).collect();
    let arrow = |(from, module): (usize, &Module)| {
        let children: Vec<&str> = modules
            .iter()
            .filter(|other| other.path.len() == module.path.len() + 1 && other.path.starts_with(&module.path))
            .map(|other| other.path[other.path.len() - 1].as_str())
            .collect();
        let code: String =
            module.code.split_inclusive(';').filter(|part| !part.trim_start().starts_with("pub use")).collect();
        let used = paths(&code, if module.path.is_empty() { &[] } else { &children }).into_iter().filter_map(|path| {
            let mut absolute = module.path.clone();
            let mut rest = path.as_slice();
            match rest[0].as_str() {
                "crate" => {
                    absolute.clear();
                    rest = &rest[1..];
                }
                "self" => rest = &rest[1..],
                _ => {}
            }
            while rest.first().is_some_and(|part| part == "super") {
                absolute.pop();
                rest = &rest[1..];
            }
            absolute.extend_from_slice(rest);
            (1..=absolute.len()).rev().find_map(|length| places.get(&absolute[..length]).copied())
        });
        used.filter(|to| *to != from).collect()
    };
    modules.iter().enumerate().map(arrow).collect()
}

#[test]
fn every_way_to_name_a_module_is_seen() {
    let code = "use crate::{job::Job, r#try::{text,\n schema as plan}, run};\nlet x = crate::r#try::text(super::colours());\nledger::read(self::y);";
    let found: Vec<String> = paths(code, &["ledger"]).into_iter().map(|path| path.join("::")).collect();
    let expected = [
        "crate::job::Job",
        "crate::try::text",
        "crate::try::schema",
        "crate::run",
        "crate::try::text",
        "super::colours",
        "ledger::read",
        "self::y",
    ];
    assert_eq!(found, expected);
}

#[test]
fn rooms_use_only_rooms_before_them() {
    let rank = |room: &str| {
        let rank = ROOMS.iter().position(|names| names.contains(&room));
        rank.unwrap_or_else(|| panic!("`{room}` has no rank: add it to ROOMS"))
    };
    let modules = modules();
    let arrows = arrows(&modules);
    let room = |module: &Module| module.path.first().cloned().unwrap_or_else(|| "lib".to_owned());
    let (mut wrong, mut count) = (Vec::new(), 0);
    for (module, used) in modules.iter().zip(&arrows) {
        for other in used.iter().map(|&place| &modules[place]) {
            let (from, to) = (room(module), room(other));
            count += 1;
            if from != to && rank(&to) >= rank(&from) {
                wrong.push(format!("{} uses {}", module.file.display(), other.file.display()));
            }
        }
    }
    assert!(count > 500, "the rule looked at only {count} imports");
    assert!(wrong.is_empty(), "forbidden imports:\n{}", wrong.join("\n"));
}

#[test]
fn messages_are_logged_as_events_and_not_through_console() {
    let console = modules().into_iter().filter(|module| module.path.first().is_some_and(|room| room == "console"));
    let mut seen = 0;
    for module in console {
        seen += 1;
        for name in ["note", "info", "warn", "debug"] {
            let function = format!("pub fn {name}(");
            assert!(!module.code.contains(&function), "{} has `{function}`: use `tracing`", module.file.display());
        }
    }
    assert!(seen > 5, "only {seen} files were looked at");
}

#[test]
fn only_main_starts_a_runtime() {
    // These two say why they need one of their own.
    let exceptions = ["model/package/hub", "sql/execute"];
    let starts = |module: &Module| {
        ["new_multi_thread(", "new_current_thread(", "Runtime::new("].iter().any(|start| module.code.contains(start))
    };
    let found: Vec<String> =
        modules().into_iter().filter(starts).map(|module| module.file.display().to_string()).collect();
    assert_eq!(found, ["main", exceptions[0], exceptions[1]]);
}

#[test]
fn inner_rooms_use_only_inner_rooms_before_them() {
    let modules = modules();
    let arrows = arrows(&modules);
    let mut wrong = Vec::new();
    for (outer, inner) in INNER_ROOMS {
        let rank = |module: &Module| {
            let inside = module.path.first().is_some_and(|room| room == outer).then(|| module.path.get(1)).flatten()?;
            inner.iter().position(|name| name == inside)
        };
        let mut seen = BTreeSet::new();
        for (module, used) in modules.iter().zip(&arrows) {
            let Some(from) = rank(module) else { continue };
            seen.insert(from);
            for other in used.iter().map(|&place| &modules[place]) {
                if rank(other).is_some_and(|to| to > from) {
                    wrong.push(format!("{} uses {}", module.file.display(), other.file.display()));
                }
            }
        }
        assert_eq!(seen.len(), inner.len(), "`{outer}` has other rooms than INNER_ROOMS says");
    }
    assert!(wrong.is_empty(), "forbidden imports:\n{}", wrong.join("\n"));
}

#[test]
fn no_files_use_each_other_in_a_circle() {
    let modules = modules();
    let mut arrows = arrows(&modules);
    // A module that uses no remaining module is in no circle.
    let mut left: BTreeSet<usize> = (0..modules.len()).collect();
    loop {
        let free: Vec<usize> = left.iter().copied().filter(|&place| arrows[place].is_disjoint(&left)).collect();
        if free.is_empty() {
            break;
        }
        left.retain(|place| !free.contains(place));
    }
    for used in &mut arrows {
        used.retain(|place| left.contains(place));
    }
    let name = |place: usize| modules[place].file.display().to_string();
    let circles: Vec<String> = left
        .iter()
        .map(|&place| {
            format!(
                "{} uses {}",
                name(place),
                arrows[place].iter().map(|&one| name(one)).collect::<Vec<_>>().join(", ")
            )
        })
        .collect();
    assert!(circles.is_empty(), "circles, and what leads into them:\n{}", circles.join("\n"));
}

#[test]
fn folders_are_small_and_not_deep() {
    let source = project().join("src");
    let (mut folders, mut wrong) = (vec![source.clone()], Vec::new());
    while let Some(folder) = folders.pop() {
        let entries: Vec<PathBuf> = std::fs::read_dir(&folder).unwrap().flatten().map(|entry| entry.path()).collect();
        let files = entries.iter().filter(|path| path.is_file()).count();
        let deep = folder.strip_prefix(&source).unwrap().iter().filter(|part| *part != "tests").count();
        // The root has a file for each verb, and lib, main and the like.
        if files > FILES_IN_A_FOLDER && folder != source {
            wrong.push(format!("{} has {files} files", folder.display()));
        }
        if deep > FOLDERS_DEEP {
            wrong.push(format!("{} lies {deep} folders deep", folder.display()));
        }
        folders.extend(entries.into_iter().filter(|path| path.is_dir()));
    }
    assert!(wrong.is_empty(), "split them by subject:\n{}", wrong.join("\n"));
}

#[test]
fn pure_rooms_are_pure() {
    let pure = modules()
        .into_iter()
        .filter(|module| PURE.iter().any(|room| module.file.with_extension("rs").starts_with(room)));
    let mut seen = 0;
    for module in pure {
        seen += 1;
        let resampling = module.file.starts_with("score");
        for banned in IMPURE.iter().filter(|banned| !(resampling && **banned == "rayon")) {
            let named = module.code.match_indices(banned).any(|(place, _)| {
                let before = module.code[..place].chars().next_back();
                let after = module.code[place + banned.len()..].chars().next();
                let whole = |one: Option<char>| !one.is_some_and(|one| one.is_alphanumeric() || one == '_');
                whole(before) && (after == Some(':') || (banned.contains("::") && whole(after)))
            });
            assert!(!named, "{} uses {banned}", module.file.display());
        }
    }
    assert!(seen > 10, "only {seen} files were looked at");
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

/// The training jobs of the project can be read, with their schemas.
#[cfg(feature = "train")]
#[test]
fn every_training_job_is_valid() {
    let jobs = std::fs::read_dir(project().join("jobs")).unwrap().flatten().map(|entry| entry.path());
    let mut found = 0;
    for path in jobs {
        let settings = match path.file_name().unwrap().to_string_lossy() {
            name if name.starts_with("train-") => vec![],
            name if name.starts_with("curve-") => vec![("share".into(), "0.5".into()), ("epochs".into(), "5".into())],
            _ => continue,
        };
        let file = quarry::train::file::TrainFile::read(&path, &settings).unwrap();
        quarry::job::read_schema(&project().join(file.entities.schema.unwrap())).unwrap();
        found += 1;
    }
    assert!(found >= 6, "{found} jobs");
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
    assert_eq!(names, ["ace.toml 7", "conll03.toml 4", "default.toml 18", "genia.toml 5", "ontonotes5.toml 18"]);
}
