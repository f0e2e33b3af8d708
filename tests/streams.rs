//! Output streams, signals and exit codes of the program.

use std::io::{BufRead, BufReader};
use std::process::Stdio;
use std::sync::{Arc, Mutex, mpsc};
use std::time::{Duration, Instant};

use insta::assert_snapshot;
use serde_json::Value;

use crate::http::{Response, serve};
use crate::support::{Dir, terminate};

#[test]
fn usage_errors_exit_with_code_1() {
    let dir = Dir::new();
    for wrong in [&["run"][..], &["run", "job.toml", "--limit", "0"], &["nothing"], &[]] {
        dir.quarry(wrong).ended(1);
    }
    for asked in [&["--help"][..], &["--version"], &["run", "--help"]] {
        assert!(!dir.quarry(asked).ended(0).stdout().is_empty());
    }
}

#[test]
fn a_closed_output_stream_does_not_change_the_exit_code() {
    let dir = Dir::new();
    let nobody = || {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        writer
    };
    let mut command = dir.command(&["run", "none.toml"]);
    command.stderr(nobody());
    dir.finish(command).ended(1);
    let mut command = dir.command(&["completions", "bash"]);
    command.stdout(nobody());
    dir.finish(command).ended(0);
}

#[test]
fn a_result_that_cannot_be_written_is_an_error() {
    let dir = Dir::new();
    let Ok(full) = std::fs::OpenOptions::new().write(true).open("/dev/full") else {
        eprintln!("skipped: this machine has no /dev/full");
        return;
    };
    let mut command = dir.command(&["completions", "bash"]);
    command.stdout(full);
    assert_snapshot!(dir.finish(command).ended(2).error(), @r"
    error: cannot write `standard output`
      caused by: No space left on device (os error 28)
    hint: check that the folder exists, that you may write there and that the disk is not full
    ");
}

#[test]
fn errors_are_json_objects_with_the_json_log_format() {
    let dir = Dir::new();
    for (options, message) in [
        (&[][..], "cannot read `none.toml`"),
        (&["--profile", "none/profile.json"][..], "cannot write `none/profile.json`"),
    ] {
        let arguments = [&["run", "none.toml", "--log-format", "json"], options].concat();
        let said = dir.quarry(&arguments).stderr();
        let lines: Vec<Value> = said.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let last = lines.last().unwrap();
        assert_eq!((&last["level"], &last["message"]), (&"ERROR".into(), &message.into()), "{said}");
        assert_eq!(last["causes"], "No such file or directory (os error 2)");
        assert!(last["hint"].as_str().unwrap().starts_with("check that "), "{said}");
    }
}

#[test]
fn a_signal_inside_a_long_document_commits_the_documents_before_it() {
    let dir = Dir::new();
    let model = dir.small_model().display().to_string();
    // The first 256 rows are a commit, then come 20 documents of some length, and one that takes minutes.
    let text = "Ada Lovelace met Mr. Babbage in London , yesterday . ";
    let mut texts = vec![text.to_owned(); 256];
    texts.extend((1..=20).map(|times| text.repeat(10 * times)));
    texts.push(text.repeat(2_000_000));
    let ids: Vec<String> = (0..texts.len()).map(|id| format!("{id:03}")).collect();
    let rows: Vec<_> = ids.iter().zip(&texts).map(|(id, text)| (Some(id.as_str()), Some(text.as_str()))).collect();
    dir.documents("docs.parquet", &rows);
    let job = crate::promises::job(&dir, "docs.parquet", "store", &model, "[extract]\nbatch_tokens = 1024");
    let mut begun = None;
    let said = dir.stopped_when(&["run", &job], |_| {
        let first = dir.path("store/documents/_delta_log/00000000000000000001.json").exists();
        begun = begun.or_else(|| first.then(Instant::now));
        // The model answers the twenty in less than a second.
        begun.is_some_and(|begun| begun.elapsed() > Duration::from_secs(8))
    });
    assert_eq!(said.ended(143).error(), "error: stopped by SIGTERM");
    assert_eq!(dir.rows("store", "documents", "count(*), max(doc_id)", ""), ["276|275"]);
    assert_eq!(dir.rows("store", "sources", "rows, outcome", ""), ["276|partial"]);
    assert_eq!(dir.rows("store", "runs", "outcome", ""), ["stopped"]);
}

#[test]
fn a_signal_stops_a_run_while_a_model_loads() {
    let dir = Dir::new();
    dir.documents("docs.parquet", &[(Some("a"), Some("Ada met Babbage ."))]);
    let job = dir.job("docs.parquet", "store", "[model]\npath = 'hf://some-one/tiny'\ndevice = 'cpu'");
    // A hub that does not answer during the test.
    let (_end, ended) = mpsc::channel::<()>();
    let ended = Arc::new(Mutex::new(ended));
    let port = serve(move |_| {
        // It ends when the test drops the other half.
        let _ = ended.lock().unwrap().recv();
        Response::empty("404 Not Found")
    });
    let mut command = dir.command(&["run", &job.display().to_string()]);
    command.env("HF_HOME", dir.path("hub")).env("HF_ENDPOINT", format!("http://127.0.0.1:{port}"));
    for unset in ["HF_HUB_CACHE", "HTTP_PROXY", "ALL_PROXY", "http_proxy", "all_proxy"] {
        command.env_remove(unset);
    }
    // As on a machine of one core.
    let mut child = command.env("TOKIO_WORKER_THREADS", "1").stderr(Stdio::piped()).spawn().unwrap();
    let mut said = BufReader::new(child.stderr.take().unwrap()).lines();
    assert!(said.any(|line| line.unwrap().contains("from the hub, once")));
    terminate(child.id());
    let started = Instant::now();
    let ended = loop {
        let status = child.try_wait().unwrap();
        if status.is_some() || started.elapsed() > Duration::from_secs(20) {
            break status;
        }
        std::thread::sleep(Duration::from_millis(20));
    };
    let _ = child.kill(); // if the signal did not stop it
    assert_eq!(ended.and_then(|status| status.code()), Some(143));
}
