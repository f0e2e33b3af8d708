//! Models of the Hugging Face hub: fetched once, found again without a network, named where they cannot be had.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::http::{Request, Response, serve};
use crate::support::{Dir, Finished};

const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

/// A hub with one model, `some-one/tiny`; it counts what it is asked.
pub(crate) struct Hub {
    pub(crate) endpoint: String,
    asked: Arc<AtomicUsize>,
}

impl Hub {
    pub(crate) fn start(model: &Path) -> Self {
        let files: BTreeMap<String, Vec<u8>> = std::fs::read_dir(model)
            .unwrap()
            .flatten()
            .map(|entry| (entry.file_name().to_string_lossy().into_owned(), std::fs::read(entry.path()).unwrap()))
            .collect();
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
    if request.path == "/api/models/some-one/tiny/revision/main" {
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
    insta::assert_snapshot!(run(&dir, &hub.endpoint, &["run", &of("hf://some-one/tiny/v2")]).ended(1).error(), @r"
    error: cannot load model `hf://some-one/tiny/v2`: this is no name of a model on the hub
    hint: write hf://owner/name, or hf://owner/name@revision
    ");
    assert!(!dir.path("store/entities").exists());
}
