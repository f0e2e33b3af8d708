//! The report of `quarry doctor` on a machine, a model, a store and a job, valid and invalid, and its time limit.

use std::io::Read;
use std::net::TcpListener;
use std::time::{Duration, Instant};

use insta::assert_snapshot;
use quarry::model::runtime::device::{DeviceChoice, nvidia_driver};
use quarry::model::runtime::library;
use quarry::model::runtime::selection;

use crate::support::{Dir, Finished, project};

/// The lines of a report that begin with one of `names`, with the sentences below them.
fn lines(report: &str, names: &[&str]) -> String {
    let mut kept = String::new();
    let mut keep = false;
    for line in report.lines() {
        if !line.trim_start().starts_with('→') {
            let rest = line.split_once("  ").map_or("", |(_, rest)| rest.trim_start());
            keep = names.contains(&rest.split("  ").next().unwrap_or_default());
        }
        if keep {
            kept += line.trim_end();
            kept.push('\n');
        }
    }
    kept
}

fn asked(dir: &Dir, arguments: &[&str]) -> Finished {
    // A machine that is busy with other tests needs more than the usual three seconds.
    dir.quarry(&[&["doctor", "--within", "60"], arguments].concat())
}

/// A local port that accepts connections and never answers.
fn silent() -> (TcpListener, String) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let place = format!("http://{}", listener.local_addr().unwrap());
    let taken = listener.try_clone().unwrap();
    std::thread::spawn(move || {
        let mut held = Vec::new();
        for stream in taken.incoming().flatten() {
            let mut stream = stream;
            let _ = stream.set_read_timeout(Some(Duration::from_millis(100)));
            let _ = stream.read(&mut [0; 1024]);
            held.push(stream);
        }
    });
    (listener, place)
}

#[test]
fn a_valid_job_passes_every_check() {
    let dir = Dir::new();
    dir.documents("docs.parquet", &[(Some("a"), Some("Angela Merkel met Emmanuel Macron in Berlin ."))]);
    let job = dir.job("docs.parquet", "store", "").display().to_string();
    let before = asked(&dir, &[&job]).ended(0).stdout();
    assert!(!dir.path("store").exists(), "it made a store");
    let size = std::fs::metadata(dir.path("docs.parquet")).unwrap().len();
    let shown = lines(&before, &["job", "input", "store", "specification"]).replace(&format!("{size} B"), "SIZE");
    assert_snapshot!(shown, @r"
    ok       job           DIR/store.toml, 4 entity types
    ok       input         `DIR/docs.parquet`: 1 files, SIZE, 1 rows; column `id` is Utf8, `body` is text
    ok       store         `DIR/store/` does not exist yet: `quarry run` creates it
    ");
    dir.quarry(&["run", &job]).ended(0);
    let after = asked(&dir, &[&job]).ended(0).stdout();
    let store = lines(&after, &["store"]);
    assert!(store.contains("commit 1; rows: entities 3, documents 1, rejects 0, sources 1, metrics "), "{after}");
    assert!(lines(&after, &["last run"]).contains(": done, started "), "{after}");
    assert!(lines(&after, &["specification"]).contains("the store's documents were extracted with it"), "{after}");
    for name in ["quarry", "processor", "precision", "ONNX Runtime", "providers", "model", "model files", "tokenizer"] {
        assert!(lines(&after, &[name]).starts_with("ok  "), "{name}:\n{after}");
    }
    let gpu = lines(&after, &["GPU"]).split_whitespace().collect::<Vec<_>>().join(" ");
    if nvidia_driver() {
        // Whether `nvidia-smi` is installed depends on the machine.
        assert!(gpu.starts_with("ok GPU cuda:0 ") || gpu.starts_with("warning GPU "), "{after}");
    } else {
        assert_eq!(gpu, "ok GPU none: no NVIDIA driver is installed");
    }
    let likely = DeviceChoice::Auto.likely().first();
    let release = library::release(selection::distribution(likely, selection::best_precision(likely).0));
    assert!(lines(&after, &["ONNX Runtime"]).contains(&format!("{release} at `/")), "{after}");
    // This machine can have warnings (a full disk, a busy processor), but nothing that stops a run; the last line counts them.
    let warnings = after.lines().filter(|line| line.starts_with("warning  ")).count();
    let last =
        if warnings == 0 { "no problems found".to_owned() } else { format!("a run would work; warnings: {warnings}") };
    assert_eq!(after.lines().last(), Some(last.as_str()), "{after}");
    assert!(!after.lines().any(|line| line.starts_with("fix  ")), "{after}");

    // Another threshold is another specification, which the doctor refuses as a run would.
    dir.job("docs.parquet", "store", "[extract]\nthreshold = 0.6");
    let changed = asked(&dir, &[&job]).ended(1).stdout();
    assert!(lines(&changed, &["specification"]).starts_with("fix  "), "{changed}");
    assert!(lines(&changed, &["specification"]).contains(": threshold 0.5 → 0.6"), "{changed}");
    let object: serde_json::Value = serde_json::from_str(&asked(&dir, &[&job, "--json"]).ended(1).stdout()).unwrap();
    assert_eq!(object["exit_code"], 1);
    let fixes = object["findings"].as_array().unwrap().iter().filter(|finding| finding["status"] == "fix");
    assert_eq!(fixes.map(|finding| finding["name"].as_str().unwrap()).collect::<Vec<_>>(), ["specification"]);
}

#[test]
fn problems_are_named_with_their_fixes() {
    let dir = Dir::new();
    dir.documents("docs/a.parquet", &[(Some("a"), Some("Berlin"))]);
    dir.write("docs/b.parquet", "no Parquet");
    let model = dir.small_model();
    std::fs::write(model.join("tokenizer.json"), "{}").unwrap();
    let model = model.display().to_string();
    let job = dir.job("docs", "store", &format!("[model]\npath = '{model}'\ndevice = 'cuda:7'"));
    let said = asked(&dir, &[&job.display().to_string()]).ended(1).stdout();
    assert!(lines(&said, &["model"]).contains("`tokenizer.json` is not the file quarry.json describes"), "{said}");
    assert!(said.contains("b.parquet` cannot be read"), "{said}");
    assert!(said.contains("→ copy the model directory again"), "{said}");
    if !nvidia_driver() {
        assert_snapshot!(lines(&said, &["CUDA"]), @r#"
        fix      CUDA        the job names device `cuda:7`, but this machine has no NVIDIA driver
                             → install the driver, or set device = "cpu"
        "#);
    }
    let said = asked(&dir, &["none.toml", "--model", "nowhere", "--store", "nothing"]).ended(1).stdout();
    assert_snapshot!(lines(&said, &["job", "model", "store"]), @r"
    fix      job           cannot read `none.toml`: No such file or directory (os error 2)
                           → check that the path is right and that you may read it
    fix      model         cannot load model `nowhere`: there is no such folder
                           → name a model directory, as `quarry export` writes it; a model on the Hugging Face hub is written hf://OWNER/nowhere
    fix      store         there is no store at `DIR/nothing/`
                           → check the path; `quarry run` creates a store
    ");
    assert!(!dir.path("nothing").exists(), "it made a store");
}

#[test]
fn a_store_says_who_writes_to_it_and_what_a_killed_run_left() {
    let dir = Dir::new();
    dir.documents("docs.parquet", &[(Some("a"), Some("Rosa Parks was born in Tuskegee , Alabama ."))]);
    let model = dir.small_model().display().to_string();
    let job =
        dir.job("docs.parquet", "store", &format!("[model]\npath = '{model}'\ndevice = 'cpu'\nprecision = 'fp32'"));
    let job = job.display().to_string();
    let killed = dir.command(&["run", &job]).env("QUARRY_FAULT", "after:entities:1").output().unwrap();
    assert!(!killed.status.success());
    let said = asked(&dir, &[&job]).ended(0).stdout();
    assert!(lines(&said, &["commit"]).contains("a killed run left commit 1 incomplete"), "{said}");
    assert!(lines(&said, &["last run"]).contains("it did not finish"), "{said}");
    let lock = std::fs::OpenOptions::new().write(true).open(dir.path("store/.quarry.lock")).unwrap();
    lock.lock().unwrap();
    let said = asked(&dir, &["--store", dir.path("store").to_str().unwrap()]).stdout();
    assert!(lines(&said, &["writer"]).contains("holds the store's lock"), "{said}");
    assert!(lines(&said, &["commit"]).contains("commit 1 is in progress"), "{said}");
}

#[test]
fn the_time_limit_holds_even_if_nothing_answers() {
    let dir = Dir::new();
    let (_listener, place) = silent();
    dir.documents("docs.parquet", &[(Some("a"), Some("Berlin"))]);
    let job = dir.job("docs.parquet", "store", "");
    let text = std::fs::read_to_string(&job).unwrap();
    let documents = text.lines().find(|line| line.starts_with("documents")).unwrap();
    let text = text.replace(documents, &format!("documents = '{place}/docs.parquet'"));
    let job = dir.write("remote.toml", &text).display().to_string();
    let mut command = dir.command(&["doctor", &job, "--store", "s3://lake/entities", "--within", "10"]);
    command.envs([("AWS_ENDPOINT", place.as_str()), ("AWS_ALLOW_HTTP", "true"), ("AWS_REGION", "here")]);
    command.envs([("AWS_ACCESS_KEY_ID", "name"), ("AWS_SECRET_ACCESS_KEY", "secret")]);
    let started = Instant::now();
    let output = command.output().unwrap();
    let took = started.elapsed();
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(took < Duration::from_secs(20), "{took:?}\n{said}");
    assert_eq!(output.status.code(), Some(1), "{said}");
    for name in ["input", "store"] {
        let line = lines(&said, &[name]);
        assert!(line.starts_with("fix  ") && line.contains("no answer within 10.0 s"), "{said}");
    }
    // The other checks report all the same.
    assert!(lines(&said, &["model files"]).starts_with("ok  "), "{said}");
}

#[test]
fn a_library_that_is_none_and_one_that_is_absent() {
    let dir = Dir::new();
    let library = dir.write("libonnxruntime.so", "this is text");
    let model = project().join("models/default").display().to_string();
    let run = |name: &str, value: &str| {
        let output = dir.command(&["doctor", "--within", "60", "--model", &model]).env(name, value).output().unwrap();
        String::from_utf8(output.stdout).unwrap()
    };
    let said = run("QUARRY_ONNXRUNTIME", library.to_str().unwrap());
    let line = lines(&said, &["ONNX Runtime"]);
    assert!(line.starts_with("fix  ") && line.contains("libonnxruntime.so") && line.contains('→'), "{said}");
    let said = run("QUARRY_CACHE", dir.path("empty").to_str().unwrap());
    let line = lines(&said, &["ONNX Runtime"]);
    assert!(line.starts_with("warning  ") && line.contains("the first run downloads it"), "{said}");
    assert!(!dir.path("empty").exists(), "it fetched or made a folder");
}
