//! Models on the Hugging Face hub: fetched once, found again without a network, named in errors if they cannot be fetched.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::http::{Request, Response, serve};
use crate::support::{Dir, Finished};

const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

/// A hub with one model, `some-one/tiny`; it counts requests.
pub(crate) struct Hub {
    pub(crate) endpoint: String,
    asked: Arc<AtomicUsize>,
}

impl Hub {
    pub(crate) fn start(model: &Path) -> Self {
        let mut files = BTreeMap::new();
        let mut folders = vec![model.to_owned()];
        while let Some(folder) = folders.pop() {
            for path in std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
                if path.is_dir() {
                    folders.push(path);
                } else {
                    let name = path.strip_prefix(model).unwrap().to_string_lossy().into_owned();
                    files.insert(name, std::fs::read(&path).unwrap());
                }
            }
        }
        let asked = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&asked);
        let port = serve(move |request| {
            counted.fetch_add(1, Ordering::Relaxed);
            answer(request, &files)
        });
        Self { endpoint: format!("http://127.0.0.1:{port}"), asked }
    }

    pub(crate) fn asked(&self) -> usize {
        self.asked.swap(0, Ordering::Relaxed)
    }
}

fn answer(request: &Request, files: &BTreeMap<String, Vec<u8>>) -> Response {
    let revisions = ["main", COMMIT].map(|revision| format!("/api/models/some-one/tiny/revision/{revision}"));
    if revisions.contains(&request.path) {
        let siblings: Vec<_> = files.keys().map(|name| serde_json::json!({ "rfilename": name })).collect();
        let info = serde_json::json!({ "sha": COMMIT, "siblings": siblings });
        let headers = vec!["Content-Type: application/json".to_owned()];
        return Response { status: "200 OK", headers, body: info.to_string().into_bytes() };
    }
    let name = request.path.strip_prefix(&format!("/some-one/tiny/resolve/{COMMIT}/")).unwrap_or_default();
    let Some(body) = files.get(name) else { return Response::empty("404 Not Found") };
    Response::part(request, body, vec![format!("x-repo-commit: {COMMIT}"), format!("etag: \"{name}\"")])
}

pub(crate) fn run(dir: &Dir, endpoint: &str, arguments: &[&str]) -> Finished {
    let mut command = dir.command(arguments);
    command.env("HF_HOME", dir.path("hub")).env("HF_ENDPOINT", endpoint);
    command.env_remove("HF_HUB_CACHE").env_remove("HF_TOKEN");
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
    let said = run(&dir, &hub.endpoint, &["doctor", "--within", "60", &job]).stdout();
    assert!(said.contains("`hf://some-one/tiny` is not in the hub's cache: the first run downloads it"), "{said}");
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
    // Again, without a hub.
    run(&dir, "http://127.0.0.1:9", &["run", &of("hf://some-one/tiny", "offline")]).ended(0);
    let said = run(&dir, "http://127.0.0.1:9", &["doctor", "--within", "60", &job]).ended(0).stdout();
    assert!(said.contains(", from the hub's cache: trained on unknown types"), "{said}");
    assert_eq!(hub.asked(), 0);
}

#[test]
fn a_model_with_graphs_comes_with_them() {
    let dir = Dir::new();
    let (from, out) = (dir.small_model().display().to_string(), dir.path("exported").display().to_string());
    dir.quarry(&["export", &from, &out, "--graph", "fused-fp32", "--no-parity"]).ended(0);
    let hub = Hub::start(&dir.path("exported"));
    dir.documents("docs.parquet", &[(Some("a"), Some("Rosa Parks was born in Tuskegee ."))]);
    let into = |store: &str| {
        let model = "[model]\npath = 'hf://some-one/tiny'\ndevice = 'cpu'\nprecision = 'fp32'";
        dir.job("docs.parquet", store, model).display().to_string()
    };
    run(&dir, &hub.endpoint, &["run", &into("first")]).ended(0);
    let snapshot = dir.path("hub/hub/models--some-one--tiny/snapshots").join(COMMIT);
    let graph = snapshot.join("model-fp32-fused.onnx");
    assert!(graph.is_file());
    // A folder without this file is incomplete, and only the file is fetched again.
    std::fs::remove_file(&graph).unwrap();
    hub.asked();
    run(&dir, &hub.endpoint, &["run", &into("second")]).ended(0);
    assert!(graph.is_file());
    assert_eq!(hub.asked(), 2, "what it has and the graph");
    run(&dir, "http://127.0.0.1:9", &["run", &into("third")]).ended(0);
}

#[test]
fn a_commit_in_the_cache_of_other_clients_is_found() {
    let dir = Dir::new();
    let snapshot = dir.path("shared/models--some-one--tiny/snapshots").join(COMMIT);
    std::fs::create_dir_all(&snapshot).unwrap();
    for entry in std::fs::read_dir(dir.small_model()).unwrap().flatten() {
        std::fs::copy(entry.path(), snapshot.join(entry.file_name())).unwrap();
    }
    dir.documents("docs.parquet", &[(Some("a"), Some("Rosa Parks was born in Tuskegee ."))]);
    let model = format!("[model]\npath = 'hf://some-one/tiny@{COMMIT}'\ndevice = 'cpu'");
    let job = dir.job("docs.parquet", "store", &model).display().to_string();
    let mut command = dir.command(&["run", &job]);
    // Other clients keep no reference under the commit's own name.
    command.env("HF_HUB_CACHE", dir.path("shared")).env("HF_HOME", dir.path("hub"));
    command.env("HF_ENDPOINT", "http://127.0.0.1:9");
    dir.finish(command).ended(0);
}

#[test]
fn an_interrupted_download_leaves_nothing_behind() {
    let dir = Dir::new();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        let names = ["config.json", "tokenizer.json", "model.safetensors"];
        let siblings = names.map(|name| serde_json::json!({ "rfilename": name }));
        let info = serde_json::json!({ "sha": COMMIT, "siblings": siblings }).to_string();
        for mut stream in listener.incoming().flatten() {
            let lines: Vec<String> =
                BufReader::new(&stream).lines().map_while(Result::ok).take_while(|line| !line.is_empty()).collect();
            let asked = lines.first().is_some_and(|line| line.contains("/api/"));
            let (length, body) = if asked { (info.len(), info.as_str()) } else { (1000, "cut") };
            let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n");
            let _ = stream.write_all((head + body).as_bytes());
        }
    });
    dir.documents("docs.parquet", &[(Some("a"), Some("Rosa Parks was born in Tuskegee ."))]);
    let job = dir.job("docs.parquet", "store", "[model]\npath = 'hf://some-one/tiny'\ndevice = 'cpu'");
    let said = run(&dir, &endpoint, &["run", &job.display().to_string()]).ended(2).error();
    assert!(said.starts_with("error: cannot fetch model `hf://some-one/tiny` from the hub"), "{said}");
    let snapshot = dir.path("hub/hub/models--some-one--tiny/snapshots").join(COMMIT);
    assert_eq!(std::fs::read_dir(snapshot).unwrap().count(), 0, "a part was left");
}

#[test]
fn a_model_that_cannot_be_fetched_is_named() {
    let dir = Dir::new();
    let hub = Hub::start(&dir.small_model());
    dir.documents("docs.parquet", &[(Some("a"), Some("Rosa Parks was born in Tuskegee ."))]);
    let of = |name: &str| {
        let job = dir.job("docs.parquet", "store", &format!("[model]\npath = '{name}'\ndevice = 'cpu'"));
        job.display().to_string()
    };
    insta::assert_snapshot!(run(&dir, &hub.endpoint, &["run", &of("hf://some-one/other")]).ended(1).error(), @r"
    error: cannot fetch model `hf://some-one/other` from the hub
      caused by: it answered 404 Not Found
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
    insta::assert_snapshot!(run(&dir, &hub.endpoint, &["run", &of("hf://some-one/tiny/v2")]).ended(1).error(), @r"
    error: cannot load model `hf://some-one/tiny/v2`: this is not the name of a model on the hub
    hint: write hf://owner/name, or hf://owner/name@revision
    ");
    assert!(!dir.path("store/entities").exists());
}
