//! Spans of a run, as received by a collector and a trace viewer.

use std::sync::{Arc, Mutex};

use crate::http::{Response, serve};
use crate::support::Dir;

/// Paths and bodies.
type Taken = Arc<Mutex<Vec<(String, Vec<u8>)>>>;

/// A collector: its address, and the requests sent to it.
fn collector() -> (String, Taken) {
    let taken = Taken::default();
    let sent = Arc::clone(&taken);
    let port = serve(move |request| {
        sent.lock().unwrap().push((request.path.clone(), request.body.clone()));
        Response { status: "200 OK", headers: vec!["Content-Type: application/x-protobuf".into()], body: Vec::new() }
    });
    (format!("http://127.0.0.1:{port}"), taken)
}

fn has(body: &[u8], part: &[u8]) -> bool {
    body.windows(part.len()).any(|window| window == part)
}

#[test]
fn a_run_continues_the_trace_of_its_caller() {
    let dir = Dir::new();
    dir.documents("docs.parquet", &[(Some("a"), Some("Ada met Babbage .")), (Some("b"), Some("London"))]);
    let model = format!("[model]\npath = '{}'\ndevice = 'cpu'\nprecision = 'fp32'", dir.small_model().display());
    let job = dir.job("docs.parquet", "store", &model).display().to_string();
    let (endpoint, taken) = collector();
    let mut command = dir.command(&["run", &job]);
    command.env("OTEL_EXPORTER_OTLP_ENDPOINT", &endpoint);
    command.env("TRACEPARENT", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01");
    dir.finish(command).ended(0);
    let taken = taken.lock().unwrap();
    assert!(!taken.is_empty() && taken.iter().all(|(path, _)| path == "/v1/traces"), "{}", taken.len());
    let sent: Vec<u8> = taken.iter().flat_map(|(_, body)| body.clone()).collect();
    for word in ["quarry", "run", "list the input", "load the model", "open the store", "extract", "commit", "done"] {
        assert!(has(&sent, word.as_bytes()), "no `{word}`");
    }
    // The trace and the span that TRACEPARENT names.
    assert!(has(&sent, b"\x0a\xf7\x65\x19\x16\xcd\x43\xdd\x84\x48\xeb\x21\x1c\x80\x31\x9c"), "another trace");
    assert!(has(&sent, b"\xb7\xad\x6b\x71\x69\x20\x33\x31"), "another parent");
}

#[test]
fn a_missing_collector_does_not_stop_a_run() {
    let dir = Dir::new();
    dir.documents("docs.parquet", &[(Some("a"), Some("Ada met Babbage ."))]);
    let model = format!("[model]\npath = '{}'\ndevice = 'cpu'\nprecision = 'fp32'", dir.small_model().display());
    let job = dir.job("docs.parquet", "store", &model).display().to_string();
    let mut command = dir.command(&["run", &job]);
    command.env("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:9");
    dir.finish(command).ended(0);
    assert_eq!(dir.rows("store", "runs", "outcome", ""), ["done"]);
    let mut command = dir.command(&["run", &job]);
    command.env("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:9").env("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc");
    let said = dir.finish(command).ended(0).stderr();
    assert!(said.contains("traces are not exported: the protocol `grpc`"), "{said}");
}

#[test]
fn a_profile_is_a_file_for_a_trace_viewer_and_a_table_of_stages() {
    let dir = Dir::new();
    dir.documents("docs.parquet", &[(Some("a"), Some("Ada met Babbage .")), (Some("b"), Some("London"))]);
    let model = format!("[model]\npath = '{}'\ndevice = 'cpu'\nprecision = 'fp32'", dir.small_model().display());
    let job = dir.job("docs.parquet", "store", &model).display().to_string();
    let said = dir.quarry(&["run", &job, "--profile", "profile.json"]).ended(0).stdout();
    let table = said.rsplit_once("stage (stages overlap)").map(|(_, table)| table.to_owned()).unwrap_or_default();
    let stages = ["start", "read", "tokenize", "tensors", "wait", "inference", "decode", "write", "commit"];
    let places: Vec<Option<usize>> = stages.iter().map(|stage| table.find(&format!(" {stage} "))).collect();
    assert!(places.iter().all(Option::is_some) && places.is_sorted(), "{places:?} in {said}");
    let kept = dir.rows("store", "metrics", "scope", "WHERE name = 'seconds' AND scope LIKE 'stage:%' ORDER BY scope");
    let mut expected = stages.map(|stage| format!("stage:{stage}"));
    expected.sort_unstable();
    assert_eq!(kept, expected);
    let events = std::fs::read_to_string(dir.path("profile.json")).unwrap();
    let events: Vec<serde_json::Value> = serde_json::from_str(&events).unwrap();
    let of_extraction = ["sort", "make tensors", "wait for a session", "infer", "decode", "close a slice"];
    for name in ["run", "load the model", "read", "tokenize", "write", "commit"].into_iter().chain(of_extraction) {
        let count = |phase: &str| events.iter().filter(|one| one["name"] == name && one["ph"] == phase).count();
        assert!(count("B") > 0 && count("B") == count("E"), "{name}: {} begin, {} end", count("B"), count("E"));
    }
    let error = dir.quarry(&["run", &job, "--profile", "none/profile.json"]).ended(2).error();
    assert!(error.contains("cannot write `none/profile.json`"), "{error}");
}
