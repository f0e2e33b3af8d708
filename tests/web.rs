//! Single input files over HTTP, from a small server in the test.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use crate::http::{Response, serve};
use crate::support::Dir;

/// A file of the server: its bytes, and whether the server supports ranges and sends a modification time.
struct Page {
    bytes: Vec<u8>,
    ranges: bool,
    modified: Option<&'static str>,
}

/// A server on this machine; it answers until the test ends.
struct Web {
    port: u16,
    pages: Arc<Mutex<BTreeMap<String, Page>>>,
}

impl Web {
    fn start() -> Self {
        let pages: Arc<Mutex<BTreeMap<String, Page>>> = Arc::default();
        let known = Arc::clone(&pages);
        let port = serve(move |request| match known.lock().unwrap().get(&request.path) {
            None => Response::empty("404 Not Found"),
            Some(page) => {
                let headers = page.modified.iter().map(|time| format!("Last-Modified: {time}")).collect();
                if page.ranges {
                    Response::part(request, &page.bytes, headers)
                } else {
                    Response { status: "200 OK", headers, body: page.bytes.clone() }
                }
            }
        });
        Self { port, pages }
    }

    fn put(&self, path: &str, bytes: Vec<u8>, ranges: bool, modified: Option<&'static str>) {
        self.pages.lock().unwrap().insert(path.to_owned(), Page { bytes, ranges, modified });
    }

    /// A job over one of its files.
    fn job(&self, dir: &Dir, path: &str, store: &str) -> String {
        let model = format!("[model]\npath = '{}'\ndevice = 'cpu'\nprecision = 'fp32'", dir.small_model().display());
        let job = dir.job("docs", store, &model);
        let local = format!("'{}'", dir.path("docs").display());
        let text = std::fs::read_to_string(&job).unwrap();
        let text = text.replace(&local, &format!("'http://127.0.0.1:{}{path}'", self.port));
        dir.write(&format!("{store}.toml"), &text).display().to_string()
    }
}

const MONDAY: Option<&str> = Some("Mon, 05 Jan 2026 10:00:00 GMT");
const TUESDAY: Option<&str> = Some("Tue, 06 Jan 2026 10:00:00 GMT");

fn jsonl(rows: &[(&str, &str)]) -> Vec<u8> {
    let rows = rows.iter().map(|(id, body)| format!("{{\"id\": \"{id}\", \"body\": \"{body}\"}}\n").into_bytes());
    rows.flatten().collect()
}

#[test]
fn a_single_file_is_read_over_http() {
    let dir = Dir::new();
    let web = Web::start();
    let rows = [("a", "Ada met Babbage ."), ("b", "London , yesterday .")];
    let optional: Vec<(Option<&str>, Option<&str>)> = rows.iter().map(|(id, body)| (Some(*id), Some(*body))).collect();
    let parquet = std::fs::read(dir.documents("local.parquet", &optional)).unwrap();
    web.put("/news/of%20the%20day.parquet", parquet, true, MONDAY);
    web.put("/news.jsonl", jsonl(&rows), true, MONDAY);
    web.put("/plain.jsonl", jsonl(&rows), false, MONDAY);
    web.put("/news.csv", b"id,body\na,Ada met Babbage .\nb,\"London , yesterday .\"\n".to_vec(), true, MONDAY);
    let mut found = Vec::new();
    for (store, path) in [
        ("parquet", "/news/of%20the%20day.parquet"),
        ("jsonl", "/news.jsonl"),
        ("plain", "/plain.jsonl"),
        ("csv", "/news.csv"),
    ] {
        let job = web.job(&dir, path, store);
        dir.quarry(&["run", &job]).ended(0);
        assert_eq!(dir.rows(store, "documents", "doc_id, n_chars", ""), ["a|17", "b|20"], "{store}");
        found.push(dir.rows(store, "entities", "doc_id, start_char, end_char, text", ""));
        let said = dir.quarry(&["run", &job]).ended(0).stderr();
        assert!(said.contains("0 file(s)"), "{said}");
    }
    assert!(!found[0].is_empty() && found.iter().all(|one| one == &found[0]), "{found:?}");
    let source = dir.rows("parquet", "documents", "DISTINCT source", "").concat();
    assert_eq!(source, format!("http://127.0.0.1:{}/news/of the day.parquet", web.port));
}

#[test]
fn a_file_that_changed_on_its_server_is_read_again() {
    let dir = Dir::new();
    let web = Web::start();
    let (before, after) = ([("a", "Ada ."), ("b", "")], [("a", "Bob ."), ("b", "")]);
    for (name, times) in [("/told.jsonl", [MONDAY, TUESDAY]), ("/untold.jsonl", [None, None])] {
        web.put(name, jsonl(&before), true, times[0]);
        let store = name.trim_matches('/');
        let job = web.job(&dir, name, store);
        let hash = || dir.rows(store, "documents", "content_hash", "");
        dir.quarry(&["run", &job]).ended(0);
        let old = hash();
        dir.quarry(&["run", &job]).ended(0);
        assert_eq!(hash(), old);
        // The length is the same, so only the time shows the change; without a time the file is read every time.
        web.put(name, jsonl(&after), true, times[1]);
        dir.quarry(&["run", &job]).ended(0);
        assert_ne!(hash(), old, "{name}");
        assert_eq!(dir.rows(store, "rejects", "\"row\", reason", ""), ["1|empty_text"], "{name}");
    }
}

#[test]
fn unsupported_http_inputs_are_errors() {
    let dir = Dir::new();
    let web = Web::start();
    let parquet = std::fs::read(dir.documents("local.parquet", &[(Some("a"), Some("x"))])).unwrap();
    web.put("/whole.parquet", parquet, false, MONDAY);
    let said = |path: &str| {
        let error = dir.quarry(&["run", &web.job(&dir, path, "store")]).ended(1).error();
        error.replace(&format!("127.0.0.1:{}", web.port), "SERVER")
    };
    insta::assert_snapshot!(said("/whole.parquet"), @"
    error: cannot use the documents at `http://SERVER/whole.parquet`: its server does not send parts of a file, which Parquet needs: download it first
    hint: correct `[input] id` and `text`, or repair the file
    ");
    insta::assert_snapshot!(said("/news.jsonl?part=1"), @"
    error: cannot use the documents at `http://SERVER/news.jsonl?…`: what follows the `?` cannot be sent to the server
    hint: download the file, and name the folder it is in
    ");
    insta::assert_snapshot!(said("/news/"), @"
    error: cannot use the documents at `http://SERVER/news/`: over http(s) only a single file can be read
    hint: its URL ends in .parquet, .jsonl, .ndjson, .json or .csv; a folder can be read from an object store
    ");
    insta::assert_snapshot!(said("/absent.parquet"), @"
    error: cannot use the documents at `http://SERVER/absent.parquet`: there is no such file
    hint: check that the path is right
    ");
    assert!(!dir.path("store").exists(), "a job that cannot run makes no store");
}
