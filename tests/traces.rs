//! Spans of a run, as received by a collector.

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
fn a_trace_has_no_log_in() {
    let dir = Dir::new();
    let text = std::fs::read_to_string(dir.job("docs", "store", "")).unwrap();
    // The server takes the log-in and sends the client elsewhere, where nobody answers.
    let port = serve(|_| Response {
        status: "302 Found",
        headers: vec!["Location: http://127.0.0.1:1/docs.jsonl?X-Amz-Signature=s3cr3t-of-a-test".into()],
        body: Vec::new(),
    });
    let remote = format!("'http://me:s3cr3t-of-a-test@127.0.0.1:{port}/docs.jsonl'");
    let job = dir.write("job.toml", &text.replace(&format!("'{}'", dir.path("docs").display()), &remote));
    let (endpoint, taken) = collector();
    let mut command = dir.command(&["run", &job.display().to_string()]);
    command.env("OTEL_EXPORTER_OTLP_ENDPOINT", &endpoint);
    dir.finish(command).ended(2);
    let taken = taken.lock().unwrap();
    let sent: Vec<u8> = taken.iter().flat_map(|(_, body)| body.clone()).collect();
    assert!(has(&sent, format!("http://127.0.0.1:{port}/docs.jsonl").as_bytes()), "the error is not in the trace");
    assert!(!has(&sent, b"s3cr3t-of-a-test"), "{}", String::from_utf8_lossy(&sent));
}

#[cfg(feature = "cluster")]
#[test]
fn an_executor_continues_the_trace_of_its_driver() {
    let dir = Dir::new();
    dir.documents("docs.parquet", &[(Some("a"), Some("Ada met Babbage .")), (Some("b"), Some("London"))]);
    let model = format!("[model]\npath = '{}'\ndevice = 'cpu'\nprecision = 'fp32'", dir.small_model().display());
    let job = dir.job("docs.parquet", "store", &model).display().to_string();
    let (endpoint, taken) = collector();
    let mut command = dir.command(&["run", &job, "--cluster", "standalone"]);
    command.env("OTEL_EXPORTER_OTLP_ENDPOINT", &endpoint);
    command.env("TRACEPARENT", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01");
    dir.finish(command).ended(0);
    let sent: Vec<u8> = taken.lock().unwrap().iter().flat_map(|(_, body)| body.clone()).collect();
    assert!(has(&sent, b"quarry.executor"), "no span of the executor");
    // A span begins with the ids of its trace (field 1, 16 bytes) and its own (field 2, 8 bytes).
    let spans = sent.windows(20).filter(|bytes| bytes[..2] == [0x0a, 16] && bytes[18..] == [0x12, 8]);
    let traces: std::collections::BTreeSet<&[u8]> = spans.map(|span| &span[2..18]).collect();
    assert_eq!(traces, [&b"\x0a\xf7\x65\x19\x16\xcd\x43\xdd\x84\x48\xeb\x21\x1c\x80\x31\x9c"[..]].into());
}
