//! Models of the Hugging Face hub: fetched once, found again without a network, named where they cannot be had.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::support::{Dir, Finished};

const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

/// A hub with one model, `some-one/tiny`; it counts what it is asked.
struct Hub {
    endpoint: String,
    asked: Arc<AtomicUsize>,
}

impl Hub {
    fn start(model: &Path) -> Self {
        let files: BTreeMap<String, Vec<u8>> = std::fs::read_dir(model)
            .unwrap()
            .flatten()
            .map(|entry| (entry.file_name().to_string_lossy().into_owned(), std::fs::read(entry.path()).unwrap()))
            .collect();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let asked = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&asked);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                counted.fetch_add(1, Ordering::Relaxed);
                answer(stream, &files);
            }
        });
        Self { endpoint, asked }
    }

    fn asked(&self) -> usize {
        self.asked.swap(0, Ordering::Relaxed)
    }
}

fn answer(mut stream: TcpStream, files: &BTreeMap<String, Vec<u8>>) {
    let mut lines = BufReader::new(stream.try_clone().unwrap()).lines().map_while(Result::ok);
    let request = lines.next().unwrap_or_default();
    let head: Vec<String> = lines.take_while(|line| !line.is_empty()).map(|line| line.to_lowercase()).collect();
    let path = request.split(' ').nth(1).unwrap_or_default().to_owned();
    let mut send = |status: &str, more: &str, body: &[u8]| {
        let length = body.len();
        let head = format!("HTTP/1.1 {status}\r\nContent-Length: {length}\r\nConnection: close\r\n{more}\r\n");
        let _ = stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(body));
    };
    if path == "/api/models/some-one/tiny/revision/main" {
        let siblings: Vec<_> = files.keys().map(|name| serde_json::json!({ "rfilename": name })).collect();
        let info = serde_json::json!({ "sha": COMMIT, "siblings": siblings });
        return send("200 OK", "Content-Type: application/json\r\n", info.to_string().as_bytes());
    }
    let name = path.strip_prefix(&format!("/some-one/tiny/resolve/{COMMIT}/")).unwrap_or_default();
    let Some(body) = files.get(name) else { return send("404 Not Found", "", b"") };
    let range = head.iter().find_map(|line| line.strip_prefix("range: bytes=")).unwrap_or("0-");
    let (first, last) = range.split_once('-').unwrap();
    let first: usize = first.parse().unwrap();
    let end = last.parse().map_or(body.len(), |last: usize| (last + 1).min(body.len()));
    let more = format!(
        "Content-Range: bytes {first}-{}/{}\r\nx-repo-commit: {COMMIT}\r\netag: \"{name}\"\r\n",
        end - 1,
        body.len()
    );
    send("206 Partial Content", &more, &body[first..end]);
}

fn run(dir: &Dir, endpoint: &str, arguments: &[&str]) -> Finished {
    let mut command = dir.command(arguments);
    command.env("HF_HOME", dir.path("hub")).env("HF_ENDPOINT", endpoint).env_remove("HF_TOKEN");
    for proxy in ["HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy"] {
        command.env_remove(proxy);
    }
    dir.finish(command)
}

#[test]
fn a_model_is_fetched_once_and_then_taken_from_the_cache() {
    let dir = Dir::new();
    let hub = Hub::start(&dir.small_model());
    dir.documents("docs.parquet", &[(Some("a"), Some("Rosa Parks was born in Tuskegee ."))]);
    let of = |name: &str, store: &str| {
        let job = dir.job("docs.parquet", store, &format!("[model]\npath = '{name}'\ndevice = 'cpu'"));
        job.display().to_string()
    };
    let job = of("hf://some-one/tiny", "store");
    let said = run(&dir, &hub.endpoint, &["doctor", &job]).stdout();
    assert!(said.contains("`hf://some-one/tiny` is not in the hub's cache: the first run fetches it"), "{said}");
    assert_eq!(hub.asked(), 0, "doctor used the network");
    let said = run(&dir, &hub.endpoint, &["run", &job]).ended(0);
    assert!(said.stderr().contains("fetching hf://some-one/tiny from the hub, once"), "{}", said.stderr());
    assert!(hub.asked() > 4);
    // The hub's own layout, in which its other clients find the model too.
    let snapshot = dir.path("hub/hub/models--some-one--tiny/snapshots").join(COMMIT);
    assert!(snapshot.join("model.safetensors").is_file());
    let noted = std::fs::read_to_string(dir.path("hub/hub/models--some-one--tiny/refs/main")).unwrap();
    assert_eq!(noted, COMMIT);
    // The run names the model as the job does, with the hash of what it computed with.
    let local = of(dir.path("small-model").to_str().unwrap(), "local");
    run(&dir, "http://127.0.0.1:9", &["run", &local]).ended(0);
    let (fetched, local) =
        (dir.rows("store", "runs", "model, model_hash", ""), dir.rows("local", "runs", "model_hash", ""));
    assert_eq!(fetched, [format!("hf://some-one/tiny|{}", local[0])]);
    // Again, and nobody is there to ask.
    run(&dir, "http://127.0.0.1:9", &["run", &of("hf://some-one/tiny", "offline")]).ended(0);
    let said = run(&dir, "http://127.0.0.1:9", &["doctor", &job]).ended(0).stdout();
    assert!(said.contains(", from the hub's cache: trained on unknown types"), "{said}");
    assert_eq!(hub.asked(), 0);
}

#[test]
fn a_model_that_cannot_be_had_is_named() {
    let dir = Dir::new();
    let hub = Hub::start(&dir.small_model());
    dir.documents("docs.parquet", &[(Some("a"), Some("Rosa Parks was born in Tuskegee ."))]);
    let of = |name: &str| {
        let job = dir.job("docs.parquet", "store", &format!("[model]\npath = '{name}'\ndevice = 'cpu'"));
        job.display().to_string()
    };
    insta::assert_snapshot!(run(&dir, &hub.endpoint, &["run", &of("hf://some-one/other")]).ended(1).error(), @r"
    error: cannot fetch model `hf://some-one/other` from the hub
      caused by: it answers 404 Not Found
    hint: check the name; where the model is private, set HF_TOKEN to a token that may read it
    ");
    insta::assert_snapshot!(run(&dir, "http://127.0.0.1:9", &["run", &of("hf://some-one/tiny")]).ended(2).error(), @r"
    error: cannot fetch model `hf://some-one/tiny` from the hub
      caused by: error sending request
      caused by: client error (Connect)
      caused by: tcp connect error
      caused by: Connection refused (os error 111)
    hint: check the network, HTTPS_PROXY and HF_ENDPOINT; without a network, copy the model's folder to this machine and name its path
    ");
    insta::assert_snapshot!(run(&dir, &hub.endpoint, &["run", &of("hf://tiny")]).ended(1).error(), @r"
    error: cannot load model `hf://tiny`: this is no name of a model on the hub
    hint: write hf://owner/name, or hf://owner/name@revision
    ");
    assert!(!dir.path("store/entities").exists());
}
