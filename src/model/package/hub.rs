//! Models on the Hugging Face hub. In: `hf://owner/name`, with `@revision` if wanted. Out: the folder of one commit in
//! the hub's own cache. It must not ask the network for what the cache has.
//!
//! The cache is where the hub's other clients have it (`$HF_HUB_CACHE`, else `hub` in `$HF_HOME`, in
//! `$XDG_CACHE_HOME/huggingface` or in `~/.cache/huggingface`) and laid out as they lay it out: `models--OWNER--NAME`
//! holds `refs/REVISION`, a file with a commit, and `snapshots/COMMIT`, a folder with the files.
//!
//! The crate hf-hub 1.0.0 is not used: if a GET request for a file returns an error status, it caches the error page as that file, and it
//! has no timeout for a hub that accepts a HEAD request but never answers.

use std::collections::{BTreeMap, VecDeque};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

use reqwest::{Client, Response, StatusCode};
use serde::Deserialize;

use crate::error::{Cause, Error, Result};
use crate::machine::environment::variable;
use crate::machine::files::{sweep, write_whole};
use crate::model::package::gliner;
use crate::model::package::manifest::{MANIFEST, Manifest};
use crate::model::weights::weights_file::{INDEX, shards};

/// The prefix of a model name on the hub.
pub(crate) const SCHEME: &str = "hf://";
/// The branch of a name without a revision.
const USUAL: &str = "main";
/// The URL of the hub, unless `HF_ENDPOINT` is set.
const ENDPOINT: &str = "https://huggingface.co";
/// The timeout for a hub that sends nothing.
const PATIENCE: Duration = Duration::from_mins(1);
/// The suffix of a file that is still being downloaded.
const PARTIAL: &str = ".partial";

/// What is fetched from a repository.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// A model directory.
    Model,
    /// A pretrained encoder.
    Encoder,
}

impl Part {
    /// The files that are fetched if the hub has them.
    const fn files(self) -> &'static [&'static str] {
        match self {
            Self::Model => &[
                MANIFEST,
                gliner::CONFIG,
                "config.json",
                "tokenizer.json",
                "tokenizer_config.json",
                "vocab.txt",
                "added_tokens.json",
            ],
            Self::Encoder => {
                &["config.json", "tokenizer.json", "tokenizer_config.json", "vocab.txt", "added_tokens.json"]
            }
        }
    }

    /// The files of weights, in order of preference: the first that the hub has is fetched, and of an index the shards that it lists. A
    /// graph is only used if there are no weights, except of a model of the GLiNER family, of which `there` has the configuration.
    fn weights(self, there: impl Fn(&str) -> bool) -> &'static [&'static str] {
        match self {
            Self::Model if there(gliner::CONFIG) => &gliner::GRAPHS,
            Self::Model => &[
                "model.safetensors",
                "model.safetensors.index.json",
                "pytorch_model.bin",
                "pytorch_model.bin.index.json",
                "model.onnx",
            ],
            Self::Encoder => &[
                "model.safetensors",
                "model.safetensors.index.json",
                "pytorch_model.bin",
                "pytorch_model.bin.index.json",
            ],
        }
    }

    /// The files that the manifest in `folder` lists: a model directory that lacks one of them, such as a graph, does
    /// not open. And the shards that an index lists.
    fn listed(self, folder: &Path) -> Vec<String> {
        // An invalid manifest or index is reported when the model is opened.
        let there = |name: &str| folder.join(name).is_file();
        let weights = self.weights(there).iter().find(|name| there(name));
        let index = weights.filter(|name| name.ends_with(INDEX)).map(|name| folder.join(name));
        let shards = index.and_then(|index| shards(&index).ok()).unwrap_or_default().into_keys();
        let listed = match self {
            Self::Model => Manifest::of(folder).ok().flatten().unwrap_or_default().files,
            Self::Encoder => BTreeMap::new(),
        };
        listed.into_keys().chain(shards).filter(|name| plain(name)).collect()
    }

    /// Whether the files are enough.
    fn whole(self, there: impl Fn(&str) -> bool) -> bool {
        match self {
            Self::Model if there(gliner::CONFIG) => {
                there("tokenizer.json") && self.weights(&there).iter().any(|name| there(name))
            }
            Self::Model => {
                let weights = self.weights(&there).iter().any(|name| *name != "model.onnx" && there(name));
                (there("tokenizer.json") || there("vocab.txt"))
                    && (there("model.onnx") || weights && there("config.json"))
            }
            Self::Encoder => {
                there("config.json")
                    && (there("tokenizer.json") || there("vocab.txt"))
                    && self.weights(&there).iter().any(|name| there(name))
            }
        }
    }
}

/// A model on the hub.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Name {
    owner_and_name: String,
    revision: String,
}

impl Name {
    /// Reads `hf://owner/name[@revision]` (some old names have no owner); none for a path, an error for a name the hub cannot have.
    pub fn parse(named: &Path) -> Result<Option<Self>> {
        let Some(rest) = named.to_str().and_then(|text| text.strip_prefix(SCHEME)) else { return Ok(None) };
        let (name, revision) = rest.split_once('@').unwrap_or((rest, USUAL));
        let parts: Vec<&str> = name.split('/').collect();
        if parts.len() > 2 || !parts.into_iter().all(plain) || !revision.split('/').all(plain) {
            return Err(Error::Model {
                path: named.into(),
                reason: "this is not the name of a model on the hub".into(),
                hint: "write hf://owner/name, or hf://owner/name@revision".into(),
            });
        }
        Ok(Some(Self { owner_and_name: name.to_owned(), revision: revision.to_owned() }))
    }

    /// The model's folder in the cache, if the part is complete.
    pub fn cached(&self, part: Part) -> Result<Option<PathBuf>> {
        let root = self.cache()?;
        let noted = std::fs::read_to_string(root.join("refs").join(&self.revision)).ok();
        // Other clients store no ref for a revision that is a commit already.
        let Some(commit) = noted.or_else(|| is_commit(&self.revision).then(|| self.revision.clone())) else {
            return Ok(None);
        };
        let folder = root.join("snapshots").join(commit.trim());
        let there = |name: &str| folder.join(name).is_file();
        let whole = part.whole(there) && part.listed(&folder).iter().all(|name| there(name));
        Ok(whole.then_some(folder))
    }

    /// The model's folder. Files that are not cached are fetched, all from the same commit.
    pub fn fetch(&self, part: Part) -> Result<PathBuf> {
        if let Some(folder) = self.cached(part)? {
            return Ok(folder);
        }
        tracing::info!("fetching {self} from the hub, once");
        let root = self.cache()?;
        // Its own runtime on its own thread: this call blocks, and its caller can be on a thread of the program's runtime, which must not
        // block on itself, or in a program that has none.
        std::thread::scope(|scope| {
            let fetching = scope.spawn(|| {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
                let runtime = runtime.map_err(|source| self.unreachable(source))?;
                runtime.block_on(self.download(part, &root))
            });
            fetching.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }

    async fn download(&self, part: Part, root: &Path) -> Result<PathBuf> {
        let client = Client::builder().connect_timeout(PATIENCE).read_timeout(PATIENCE).build();
        let client = client.map_err(|source| self.unreachable(source))?;
        let endpoint = word("HF_ENDPOINT").unwrap_or_else(|| ENDPOINT.to_owned());
        let endpoint = endpoint.trim_end_matches('/');
        let revision = self.revision.replace('/', "%2F");
        let url = format!("{endpoint}/api/models/{}/revision/{revision}", self.owner_and_name);
        let answer = self.get(&client, &url).await?.bytes().await.map_err(|source| self.unreachable(source))?;
        let info: Info = serde_json::from_slice(&answer).map_err(|source| self.unreachable(source))?;
        let has = |name: &str| info.siblings.iter().any(|file| file.rfilename == name);
        let hash = !info.sha.is_empty() && info.sha.bytes().all(|digit| digit.is_ascii_hexdigit());
        if !hash || !part.whole(has) {
            let (reason, hint) = match part {
                Part::Model if has(gliner::CONFIG) => (
                    "its repository has a gliner_config.json, but no tokenizer.json with an ONNX file (model.onnx or onnx/model.onnx)",
                    gliner::EXPORT,
                ),
                Part::Model => (
                    "its repository has no tokenizer (tokenizer.json or vocab.txt) with config.json and weights, or with model.onnx",
                    "name a model that `quarry export` wrote, or a *ForTokenClassification or *ForQuestionAnswering that has tokenizer.json (a BERT can have vocab.txt); a tokenizer that has only a slow form (spm.model) must be converted first",
                ),
                Part::Encoder => (
                    "its repository has no config.json with a tokenizer and weights of PyTorch",
                    "name an encoder with tokenizer.json (a BERT can have vocab.txt), and model.safetensors or pytorch_model.bin, or their shards; a tokenizer that has only a slow form (spm.model) must be converted first",
                ),
            };
            return Err(Error::Model { path: self.to_string().into(), reason: reason.into(), hint: hint.into() });
        }
        let folder = root.join("snapshots").join(&info.sha);
        let failed = |path: &Path, source: std::io::Error| Error::Write { path: path.into(), source: source.into() };
        std::fs::create_dir_all(&folder).map_err(|source| failed(&folder, source))?;
        sweep(&folder, |name| name.ends_with(PARTIAL), 2 * PATIENCE);
        let weights = part.weights(has).iter().copied().find(|name| has(name));
        let own = part.files().iter().copied().filter(|name| has(name)).chain(weights);
        let mut names: VecDeque<String> = own.map(str::to_owned).collect();
        // A large graph has its weights beside it, by convention in a file of one of these names.
        let beside = weights.into_iter().flat_map(|name| [format!("{name}_data"), format!("{name}.data")]);
        names.extend(beside.filter(|name| has(name)));
        while let Some(name) = names.pop_front() {
            let path = folder.join(&name);
            if !path.is_file() {
                let inside = path.parent().unwrap_or(&folder);
                std::fs::create_dir_all(inside).map_err(|source| failed(inside, source))?;
                let url = format!("{endpoint}/{}/resolve/{}/{name}", self.owner_and_name, info.sha);
                self.save(self.get(&client, &url).await?, &path).await?;
            }
            if name == MANIFEST || name.ends_with(INDEX) {
                names.extend(part.listed(&folder).into_iter().filter(|name| has(name)));
            }
        }
        if self.revision == info.sha {
            return Ok(folder);
        }
        let noted = root.join("refs").join(&self.revision);
        let refs = noted.parent().unwrap_or(root);
        std::fs::create_dir_all(refs).map_err(|source| failed(refs, source))?;
        write_whole(&noted, info.sha.as_bytes())?;
        Ok(folder)
    }

    async fn get(&self, client: &Client, url: &str) -> Result<Response> {
        let mut request = client.get(url);
        if let Some(token) = word("HF_TOKEN") {
            request = request.bearer_auth(token);
        }
        let response = request.send().await.map_err(|source| self.unreachable(source.without_url()))?;
        let status = response.status();
        // The hub answers 401 both for an unknown name and for one that the caller must not read.
        let missing = [StatusCode::UNAUTHORIZED, StatusCode::FORBIDDEN, StatusCode::NOT_FOUND].contains(&status);
        if status.is_success() {
            return Ok(response);
        }
        Err(Error::Hub { model: self.to_string(), missing, source: format!("it answered {status}").into() })
    }

    /// Downloads into a file beside `path` and renames it when it is complete; a partial download is removed.
    async fn save(&self, response: Response, path: &Path) -> Result<()> {
        let partial = path.with_extension(format!("{}{PARTIAL}", std::process::id()));
        let saved = self.receive(response, &partial).await.and_then(|()| {
            std::fs::rename(&partial, path).map_err(|source| Error::Write { path: path.into(), source: source.into() })
        });
        if saved.is_err() {
            // The file can be missing: the download might not have started.
            let _ = std::fs::remove_file(&partial);
        }
        saved
    }

    async fn receive(&self, mut response: Response, path: &Path) -> Result<()> {
        let failed = |source: std::io::Error| Error::Write { path: path.into(), source: source.into() };
        let mut file = std::fs::File::create(path).map_err(failed)?;
        while let Some(piece) = response.chunk().await.map_err(|source| self.unreachable(source.without_url()))? {
            file.write_all(&piece).map_err(failed)?;
        }
        file.sync_all().map_err(failed)
    }

    /// The model's folder in the cache that the hub's other clients use too.
    fn cache(&self) -> Result<PathBuf> {
        let folder = |name: &str, inside: &str| variable(name).map(|folder| Path::new(&folder).join(inside));
        let cache = folder("HF_HUB_CACHE", "")
            .or_else(|| folder("HF_HOME", "hub"))
            .or_else(|| folder("XDG_CACHE_HOME", "huggingface/hub"))
            .or_else(|| folder("HOME", ".cache/huggingface/hub"));
        let name = format!("models--{}", self.owner_and_name.replace('/', "--"));
        cache.map(|cache| cache.join(name)).ok_or_else(|| Error::Setting {
            origin: "environment".into(),
            key: "HF_HOME".into(),
            reason: "there is no cache for models from the hub: neither HF_HUB_CACHE, HF_HOME nor HOME is set".into(),
            hint: "set HF_HOME to a folder that may be written".into(),
        })
    }

    fn unreachable(&self, source: impl Into<Cause>) -> Error {
        Error::Hub { model: self.to_string(), missing: false, source: source.into() }
    }
}

/// The hub's description of a model at a revision.
#[derive(Debug, Deserialize)]
struct Info {
    /// The commit.
    sha: String,
    siblings: Vec<Sibling>,
}

/// A file of it.
#[derive(Debug, Deserialize)]
struct Sibling {
    rfilename: String,
}

impl std::fmt::Display for Name {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "{SCHEME}{}", self.owner_and_name)?;
        if self.revision == USUAL { Ok(()) } else { write!(formatter, "@{}", self.revision) }
    }
}

/// Whether a name is safe in a path and in a URL without escaping.
fn plain(name: &str) -> bool {
    !name.is_empty()
        && !name.starts_with('.')
        && name.chars().all(|letter| letter.is_ascii_alphanumeric() || "-_.".contains(letter))
}

/// Whether a revision is a commit's whole hash.
fn is_commit(revision: &str) -> bool {
    revision.len() == 40 && revision.bytes().all(|digit| digit.is_ascii_hexdigit())
}

fn word(name: &str) -> Option<String> {
    variable(name)?.into_string().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_index_brings_its_shards() {
        let folder = tempfile::tempdir().unwrap();
        let index = r#"{"weight_map": {"a": "1.safetensors", "b": "2.safetensors", "c": "2.safetensors"}}"#;
        std::fs::write(folder.path().join("model.safetensors.index.json"), index).unwrap();
        assert_eq!(Part::Encoder.listed(folder.path()), ["1.safetensors", "2.safetensors"]);
        assert!(
            Part::Encoder.whole(|name| ["config.json", "vocab.txt", "model.safetensors.index.json"].contains(&name))
        );
        // Whole weights are preferred, and then nothing else is fetched.
        std::fs::write(folder.path().join("model.safetensors"), "").unwrap();
        assert_eq!(Part::Encoder.listed(folder.path()), [""; 0]);
    }

    #[test]
    fn names_of_the_hub_are_told_from_paths() {
        let parse = |text: &str| Name::parse(Path::new(text));
        assert_eq!(parse("models/default").unwrap(), None);
        let name = parse("hf://some-one/a_model.v2").unwrap().unwrap();
        assert_eq!((name.to_string().as_str(), name.revision.as_str()), ("hf://some-one/a_model.v2", "main"));
        assert_eq!(parse("hf://bert-base-uncased").unwrap().unwrap().owner_and_name, "bert-base-uncased");
        assert_eq!(parse("hf://a/b@refs/pr/1").unwrap().unwrap().to_string(), "hf://a/b@refs/pr/1");
        for wrong in ["hf://", "hf://a/b/c", "hf://a/../b", "hf://../b", "hf://a/b@", "hf://a/b@../x", "hf://a b/c"] {
            assert!(parse(wrong).unwrap_err().hint().unwrap().contains("hf://owner/name"), "{wrong}");
        }
    }
}
