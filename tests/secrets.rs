//! Log-ins and signatures of URLs: they are sent to the server, and appear nowhere else.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::http::{Response, serve};
use crate::support::{Dir, Finished};

/// The password of every URL here, and the value of every signature.
const SECRET: &str = "s3cr3t-of-a-test";

/// A server of one file for `me` with the password; it adds what it is sent to the returned list. Paths with `hang-up` get no answer.
fn server(bytes: Vec<u8>) -> (u16, Arc<Mutex<Vec<String>>>) {
    let asked: Arc<Mutex<Vec<String>>> = Arc::default();
    let known = Arc::clone(&asked);
    let expected = format!("Basic {}", STANDARD.encode(format!("me:{SECRET}")));
    let port = serve(move |request| {
        known.lock().unwrap().push(format!("{} {}", request.method, request.path));
        if request.headers.get("authorization") != Some(&expected) {
            return Response::empty("401 Unauthorized");
        }
        if request.path.contains("elsewhere") {
            let to = format!("Location: http://127.0.0.1:1/moved.jsonl?X-Amz-Signature={SECRET}");
            return Response { status: "302 Found", headers: vec![to], body: Vec::new() };
        }
        let modified = "Last-Modified: Mon, 05 Jan 2026 10:00:00 GMT".to_owned();
        match request.path.as_str() {
            "/docs.jsonl" => Response::part(request, &bytes, vec![modified]),
            "/torn.parquet" => Response::part(request, b"PAR1 this is no Parquet file PAR1", vec![modified]),
            _ => Response::empty("404 Not Found"),
        }
    });
    (port, asked)
}

/// Every file below a folder, except the job files, that contains the secret.
fn with_secret(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap().flatten() {
        let path = entry.path();
        if path.is_dir() {
            found.extend(with_secret(&path));
        } else if path.extension().is_none_or(|end| end != "toml") {
            let bytes = std::fs::read(&path).unwrap();
            if bytes.windows(SECRET.len()).any(|part| part == SECRET.as_bytes()) {
                found.push(path);
            }
        }
    }
    found
}

/// A job over this URL, with the tiny model.
fn job(dir: &Dir, name: &str, url: &str, more: &str) -> String {
    let model = format!("[model]\npath = '{}'\ndevice = 'cpu'\nprecision = 'fp32'", dir.small_model().display());
    let text = std::fs::read_to_string(dir.job("docs", name, &model)).unwrap();
    let local = format!("'{}'", dir.path("docs").display());
    let text = text.replace(&local, &format!("'{url}'")).replace("text = 'body'", &format!("text = 'body'\n{more}"));
    dir.write(&format!("{name}.toml"), &text).display().to_string()
}

/// Runs the program with all its logs; checks that it says no secret.
fn say(dir: &Dir, arguments: &[&str]) -> Finished {
    let said = dir.quarry(arguments);
    let all = format!("{}{}", said.stdout(), said.stderr());
    assert!(!all.contains(SECRET), "{arguments:?}: {all}");
    said
}

#[test]
fn a_log_in_reaches_the_server_and_no_output() {
    let dir = Dir::new();
    let documents = b"{\"id\": \"a\", \"body\": \"Ada met Babbage .\"}\n{\"id\": \"b\", \"body\": \"\"}\n".to_vec();
    let (port, asked) = server(documents);
    let url = |login: &str, file: &str| format!("http://{login}127.0.0.1:{port}/{file}");
    let login = format!("me:{SECRET}@");
    let here = job(&dir, "store", &url(&login, "docs.jsonl"), "");
    for format in ["plain", "json"] {
        say(&dir, &["run", &here, "--explain", "--log", "trace", "--log-format", format]).ended(0);
    }
    say(&dir, &["run", &here, "--dry-run", "--log", "trace"]).ended(0);
    say(&dir, &["run", &here, "--json", "--log", "trace", "--metrics-file", "run.prom", "--profile", "run.trace"])
        .ended(0);
    assert!(asked.lock().unwrap().iter().any(|request| request == "GET /docs.jsonl"));
    let source = format!("http://127.0.0.1:{port}/docs.jsonl");
    assert_eq!(dir.rows("store", "documents", "source", ""), [source.as_str()]);
    assert_eq!(dir.rows("store", "sources", "path", ""), [source.as_str()]);
    assert_eq!(dir.rows("store", "rejects", "source", ""), [source.as_str()]);
    assert!(dir.rows("store", "runs", "job", "")[0].contains(&format!("\"documents\":\"{source}\"")));
    // Another log-in in the URL is not another file.
    let renewed = job(&dir, "store", &url(&format!("me:{}@", SECRET.replace('t', "%74")), "docs.jsonl"), "");
    let said = say(&dir, &["run", &renewed]).ended(0).stderr();
    assert!(said.contains("0 file(s)"), "{said}");
    say(&dir, &["report", &here, "page.html"]).ended(0);
    say(&dir, &["doctor", &here]);
    say(&dir, &["doctor", &here, "--json"]);
    let table = format!("'{}'", url(&login, "docs.jsonl"));
    assert!(say(&dir, &["sql", "store", &format!("SELECT id FROM {table}")]).ended(0).stdout().contains("│ a  │"));
    say(&dir, &["sql", "store", &format!("EXPLAIN VERBOSE SELECT id FROM {table} WHERE id > 'a'")]).ended(0);
    say(&dir, &["sql", "store", &format!("SELECT missing FROM {table}")]).ended(1);
    say(&dir, &["sql", &here, "SELECT id FROM input_documents"]).ended(0);
    say(&dir, &["evaluate", "store", &url(&login, "docs.jsonl")]).ended(1);
    assert_eq!(with_secret(&dir.path("")), Vec::<PathBuf>::new());
}

#[test]
fn errors_have_no_log_in_and_no_signature() {
    let dir = Dir::new();
    let (port, _) = server(Vec::new());
    let url = |login: &str, file: &str| format!("http://{login}127.0.0.1:{port}/{file}");
    let login = format!("me:{SECRET}@");
    let secret = format!("me:{SECRET}");
    for (name, documents, gold) in [
        ("missing", url(&login, "absent.jsonl"), String::new()),
        ("torn", url(&login, "torn.parquet"), String::new()),
        ("moved", url(&login, "elsewhere.jsonl"), String::new()),
        ("refused", url(&format!("other:{SECRET}@"), "docs.jsonl"), String::new()),
        ("unreachable", format!("http://{secret}@127.0.0.1:1/docs.jsonl"), String::new()),
        ("unknown", format!("https://{secret}@no-such-host.invalid/docs.jsonl"), String::new()),
        ("malformed", format!("http://me:{SECRET}/x@127.0.0.1:{port}/docs.jsonl"), String::new()),
        ("folder", url(&login, "docs/"), String::new()),
        ("signed", url("", &format!("docs.jsonl?X-Amz-Signature={SECRET}")), String::new()),
        ("azure", format!("az://lake/docs.jsonl?sv=1&sig={SECRET}"), String::new()),
        ("bucket", format!("s3://{secret}@lake/docs.jsonl"), String::new()),
        ("scheme", format!("ftp://{secret}@lake/docs.jsonl"), String::new()),
        ("gold", url(&login, "torn.parquet"), format!("gold = '{}'", url(&login, "torn.parquet"))),
        ("toml", url(&login, "docs.jsonl"), "surprise = true".to_owned()),
        ("line", url(&login, "docs.jsonl' x = '"), String::new()),
    ] {
        let job = job(&dir, name, &documents, &gold);
        for arguments in [vec!["run", &job, "--log", "trace"], vec!["run", &job, "--json", "--log-format", "json"]] {
            let said = say(&dir, &arguments);
            assert!([1, 2].contains(&said.code()), "{name}: {}", said.stderr());
        }
        say(&dir, &["doctor", &job, "--within", "5"]);
        let table = format!("SELECT * FROM '{documents}'");
        say(&dir, &["evaluate", &documents, &documents]);
        say(&dir, &["sql", &documents, &table]);
        say(&dir, &["try", "a text", "--model", &documents]);
    }
    for (name, path) in [("key", format!("s3://{secret}@lake/store")), ("sas", format!("az://lake/s?sig={SECRET}"))] {
        dir.documents("docs.parquet", &[(Some("a"), Some("Ada ."))]);
        let text = std::fs::read_to_string(dir.job("docs.parquet", name, "")).unwrap();
        let text = text.replace(&format!("'{}'", dir.path(name).display()), &format!("'{path}'"));
        let job = dir.write(&format!("{name}.toml"), &text).display().to_string();
        let said = say(&dir, &["run", &job, "--json", "--metrics-file", "run.prom"]).ended(1);
        assert!(said.error().contains("has a log-in or parameters"), "{}", said.error());
        say(&dir, &["sql", &job, "SELECT 1"]).ended(1);
        say(&dir, &["report", &job, "page.html"]).ended(1);
    }
    assert_eq!(with_secret(&dir.path("")), Vec::<PathBuf>::new());
}
