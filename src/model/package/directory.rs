//! Model directories: one folder with all files of a model. In: a path, or the parts of a new model. Out: a [`ModelDirectory`]
//! with weights, tokenizer, types and questions, whose files match their SHA-256. It must not know ONNX.

use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use crate::error::{Error, Result};
use crate::machine::files::write_whole;
use crate::machine::hash::{hexadecimal, sha256_of};
use crate::model::config::ModelConfig;
use crate::model::head::HeadConfig;
use crate::model::package::contents::{VOCABULARY, assumptions, configuration, mismatch, stored_weights};
use crate::model::package::external_data::external_files;
use crate::model::package::gliner;
use crate::model::package::gliner::GlinerFolder;
use crate::model::package::manifest::{MANIFEST, Manifest};
use crate::model::package::resolve;
use crate::model::precision::{GraphPart, GraphVariant};
use crate::model::weights::checkpoint::read_weights;
use crate::model::weights::safetensors_file::{WeightForm, write_tensors};
use crate::model::weights::tensors::Weights;
use crate::model::weights::vocabulary::{require_tokenizer, tokenizer_of};
use crate::model::weights::weights_file::{INDEX, shards};
use crate::task::entity_schema::EntityType;
use crate::task::gliner::layout::GlinerModel;
use crate::task::kind::{Kind, Own};
use crate::task::tagger::tag_set::TagSet;
use crate::text::tokens::{Tokenizer, Words};

// The names of a model directory's files.
const CONFIG: &str = "config.json";
const TOKENIZER: &str = "tokenizer.json";
const WEIGHTS: &str = "model.safetensors";
const FOREIGN_GRAPH: &str = "model.onnx";

/// The longest input that a graph of unknown architecture can claim to take. A trial batch has an input of this length.
const LONGEST_INPUT: usize = 1 << 16;

/// A verified model directory.
#[derive(Debug, Clone)]
pub struct ModelDirectory {
    root: PathBuf,
    manifest: Manifest,
    config: Option<ModelConfig>,
    head: Option<HeadConfig>,
    hash: String,
    /// The weights; of shards, their index. `None` if there is only a foreign graph.
    weights: Option<PathBuf>,
    /// Whether `quarry.json` is there.
    described: bool,
    /// Of a model of the GLiNER family.
    gliner: Option<GlinerFolder>,
}

impl ModelDirectory {
    /// Opens and verifies a model directory, or a checkpoint of another program. Without `quarry.json`, nothing is verified, and kind and types
    /// are those that `config.json` says. Without weights, there must be a `model.onnx`. Errors name the file that is missing or differs.
    pub fn open(root: &Path) -> Result<Self> {
        let refuse = |reason: String, hint: &str| Error::Model { path: root.to_owned(), reason, hint: hint.to_owned() };
        if !root.is_dir() {
            let mut hint = "name a model directory, as `quarry export` writes it".to_owned();
            if let Some(other) = resolve::on_the_hub(root) {
                hint = format!("{hint}; {other}");
            }
            return Err(refuse("there is no such folder".to_owned(), &hint));
        }
        let written = Manifest::of(root)?;
        let files = written.as_ref().map(|manifest| manifest.files.clone()).unwrap_or_default();
        for (name, expected) in &files {
            if Path::new(name).file_name().is_none_or(|file| file != name.as_str()) {
                return Err(refuse(
                    format!("{MANIFEST} lists `{name}`, which is not a file name"),
                    "write the directory again with `quarry export`",
                ));
            }
            let found = sha256_of(&root.join(name))?;
            if &found != expected {
                return Err(refuse(
                    format!("`{name}` is not the file {MANIFEST} describes (SHA-256 {found}, expected {expected})"),
                    "copy the model directory again; if you changed the file on purpose, write the directory again with `quarry export`",
                ));
            }
        }
        if root.join(gliner::CONFIG).exists() {
            return Self::open_gliner(root, written);
        }
        let weights = stored_weights(root);
        let foreign = weights.is_none();
        if foreign && !root.join(FOREIGN_GRAPH).exists() {
            return Err(refuse(
                format!("there is neither {WEIGHTS} nor {FOREIGN_GRAPH}"),
                "a checkpoint becomes a model directory with `quarry export CHECKPOINT OUT`",
            ));
        }
        let (config, head) = configuration(&root.join(CONFIG), foreign)?;
        require_tokenizer(root, config.as_ref().is_none_or(|config| config.encoder.has_wordpieces()))?;
        let (tags, kind) = (head.as_ref().and_then(|head| head.tags.as_ref()), head.as_ref().map(HeadConfig::kind));
        let own = |name: &String| EntityType::new(name, name);
        let types: Vec<EntityType> = tags.map_or_else(Vec::new, |tags| tags.types().iter().map(own).collect());
        let default = Manifest { types: types.clone(), kind: kind.unwrap_or_default(), ..Manifest::default() };
        let longest = config.as_ref().map_or(default.max_length, |config| config.encoder.architecture().max_tokens);
        let described = written.is_some();
        let mut manifest = written.unwrap_or(Manifest { max_length: longest, ..default });
        if manifest.types.is_empty() {
            manifest.types = types;
        }
        if let Some((reason, hint)) = mismatch(manifest.kind, kind) {
            return Err(refuse(reason, hint));
        }
        let longest = if foreign { LONGEST_INPUT } else { longest };
        if manifest.max_length == 0 || manifest.max_length > longest {
            return Err(refuse(
                format!("`max_length` is {} but the encoder has {longest} positions", manifest.max_length),
                "correct `max_length` in quarry.json",
            ));
        }
        let mut hasher = Sha256::new();
        let tokenizer: &[&str] = if root.join(TOKENIZER).exists() {
            &[TOKENIZER]
        } else {
            &[VOCABULARY, "tokenizer_config.json", "added_tokens.json"]
        };
        let mut names: Vec<String> = [CONFIG].iter().chain(tokenizer).map(|&name| name.to_owned()).collect();
        match &weights {
            None => names.push(FOREIGN_GRAPH.to_owned()),
            Some(path) => {
                names.extend(path.file_name().map(|name| name.to_string_lossy().into_owned()));
                if path.to_string_lossy().ends_with(INDEX) {
                    names.extend(shards(path)?.into_keys());
                }
            }
        }
        for name in names {
            let hash = match files.get(&name) {
                Some(hash) => hash.clone(),
                // What can be left out.
                None if !root.join(&name).exists() && Path::new(&name).extension().is_some_and(|end| end == "json") => {
                    String::new()
                }
                None => sha256_of(&root.join(&name))?,
            };
            hasher.update(format!("{name} {hash}\n"));
        }
        let listed = files.keys().filter(|name| Path::new(name).extension().is_some_and(|end| end == "onnx"));
        for graph in listed.map(String::as_str).chain(foreign.then_some(FOREIGN_GRAPH)) {
            for name in external_files(&root.join(graph))? {
                require_beside(root, graph, &name)?;
                hasher.update(format!("{graph} {name} {}\n", sha256_of(&root.join(&name))?));
            }
        }
        let hash = hexadecimal(&hasher.finalize());
        Ok(Self { root: root.to_owned(), manifest, config, head, hash, weights, described, gliner: None })
    }

    /// Opens a folder of the GLiNER family, whose `quarry.json` is `written`, if there is one.
    fn open_gliner(root: &Path, written: Option<Manifest>) -> Result<Self> {
        if let Some(kind) = written.as_ref().map(|written| written.kind).filter(|kind| *kind != Kind::Gliner) {
            let kind = serde_json::to_string(&kind).unwrap_or_default();
            return Err(Error::Model {
                path: root.to_owned(),
                reason: format!("quarry.json says the kind {kind}, but there is a gliner_config.json"),
                hint: "correct `kind` in quarry.json to \"gliner\", or remove the file that does not belong here"
                    .to_owned(),
            });
        }
        let longest = written.as_ref().map_or(LONGEST_INPUT, |written| written.max_length.clamp(1, LONGEST_INPUT));
        let folder = GlinerFolder::read(root, longest)?;
        let described = written.is_some();
        let default = Manifest { kind: Kind::Gliner, ..Manifest::default() };
        let manifest = Manifest { max_length: folder.model.max_tokens, ..written.unwrap_or(default) };
        let graph = folder.graph(root);
        let mut names = vec![gliner::CONFIG.to_owned(), gliner::TOKENIZER.to_owned(), folder.graph.to_owned()];
        names.extend(root.join(gliner::TOKENIZER_CONFIG).exists().then(|| gliner::TOKENIZER_CONFIG.to_owned()));
        let beside = Path::new(folder.graph).parent().unwrap_or(Path::new(""));
        for name in external_files(&graph)? {
            names.push(beside.join(&name).to_string_lossy().into_owned());
            require_beside(root, folder.graph, &name)?;
        }
        let mut hasher = Sha256::new();
        for name in names {
            hasher.update(format!("{name} {}\n", sha256_of(&root.join(&name))?));
        }
        let hash = hexadecimal(&hasher.finalize());
        let root = root.to_owned();
        Ok(Self { root, manifest, config: None, head: None, hash, weights: None, described, gliner: Some(folder) })
    }

    /// The folder.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The manifest; default values if there is no `quarry.json`.
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// The configuration of encoder and head; `None` if there is only a foreign graph without `config.json`.
    pub fn config(&self) -> Option<&ModelConfig> {
        self.config.as_ref()
    }

    /// The tags of a tagger.
    pub fn tags(&self) -> Option<&TagSet> {
        self.head.as_ref()?.tags.as_ref()
    }

    /// What only the model of its kind knows.
    pub fn own(&self) -> Own<'_> {
        match (&self.gliner, self.tags()) {
            (Some(folder), _) => Own::Gliner(&folder.model),
            (None, Some(tags)) => Own::Tags(tags),
            (None, None) => Own::Nothing,
        }
    }

    /// How a model of the GLiNER family reads words.
    pub fn gliner(&self) -> Option<&GlinerModel> {
        self.gliner.as_ref().map(|folder| &folder.model)
    }

    /// What is assumed of a checkpoint of another program, which has no `quarry.json`; `None` of any other model.
    pub fn assumptions(&self) -> Option<String> {
        if self.described {
            return None;
        }
        assumptions(&self.root, self.manifest.kind, self.own())
    }

    /// The `tokenizer.json`; if there is none, the vocabulary that stands for it.
    pub fn tokenizer_path(&self) -> PathBuf {
        let path = self.root.join(TOKENIZER);
        if path.exists() { path } else { self.root.join(VOCABULARY) }
    }

    /// What counts as a word: the `requested` setting, else the one of training, else the default.
    pub fn words(&self, requested: Option<Words>) -> Words {
        requested.or(self.manifest.words).unwrap_or_default()
    }

    /// The tokenizer for a run, with [`ModelDirectory::words`] of `requested`. The weights have a vector for every id that it produces.
    pub fn tokenizer(&self, requested: Option<Words>) -> Result<Tokenizer> {
        let path = self.tokenizer_path();
        let json = if path.ends_with(TOKENIZER) {
            std::fs::read(&path).map_err(|source| Error::Read { path: path.clone(), source: source.into() })?
        } else {
            let wordpieces = self.config.as_ref().is_none_or(|config| config.encoder.has_wordpieces());
            let built = tokenizer_of(&self.root, wordpieces)?.to_string(false);
            built.map_err(|source| Error::Tokenizer { path: path.clone(), source })?.into_bytes()
        };
        let tokenizer = match &self.gliner {
            Some(_) => Tokenizer::of_split_words(&json, &path)?,
            None => Tokenizer::from_bytes(&json, &path, self.words(requested))?,
        };
        let config = self.config.as_ref().filter(|_| self.weights.is_some());
        let known = config.map(|config| config.encoder.architecture().words.rows);
        let known = known.or(self.gliner.as_ref().and_then(|folder| folder.vocabulary)).unwrap_or(usize::MAX);
        let largest = tokenizer.largest_id();
        if largest as usize >= known {
            return Err(Error::Model {
                path: self.root.clone(),
                reason: format!("its tokenizer has id {largest}, but its weights have only {known} word vectors"),
                hint: "tokenizer and weights must belong together: copy both from one model".to_owned(),
            });
        }
        Ok(tokenizer)
    }

    /// Hash of everything that determines the logits: configuration, tokenizer and weights. Lower-case hexadecimal SHA-256.
    pub fn model_hash(&self) -> &str {
        &self.hash
    }

    /// The graph of a directory without weights.
    pub fn foreign_graph(&self) -> Option<PathBuf> {
        let graph = self.gliner.as_ref().map_or(FOREIGN_GRAPH, |folder| folder.graph);
        self.weights.is_none().then(|| self.root.join(graph))
    }

    /// A graph that `quarry export` wrote beside the weights. Only a graph that `quarry.json` lists is used, so a stale one is ignored.
    pub fn written_graph(&self, part: GraphPart, variant: GraphVariant) -> Option<PathBuf> {
        let name = graph_name(part, variant);
        self.manifest.files.contains_key(&name).then(|| self.root.join(name))
    }

    /// Reads the weights, dequantized to float32.
    pub fn weights(&self) -> Result<Weights> {
        let (Some(path), Some(mut config)) = (&self.weights, self.config.clone()) else {
            return Err(Error::Model {
                path: self.root.clone(),
                reason: "it has an ONNX graph but no weights".to_owned(),
                hint: "only a directory with weights can be exported to other graphs".to_owned(),
            });
        };
        read_weights(path, &mut config)
    }

    /// Writes a model directory and opens it. It fills in `manifest.files`. It writes `quarry.json` last, so an incomplete
    /// directory is rejected.
    pub fn write(root: &Path, parts: &Parts<'_>) -> Result<Self> {
        let failed = |path: &Path, source| Error::Write { path: path.to_owned(), source };
        std::fs::create_dir_all(root).map_err(|source| failed(root, source.into()))?;
        let weights_path = root.join(WEIGHTS);
        let weights =
            write_tensors(parts.weights, parts.form).map_err(|reason| failed(&weights_path, reason.into()))?;
        let config =
            serde_json::to_vec_pretty(parts.config).map_err(|source| failed(&root.join(CONFIG), source.into()))?;
        let mut manifest = parts.manifest.clone();
        manifest.files.clear();
        let own: [(&str, &[u8]); 3] = [(CONFIG, &config), (TOKENIZER, parts.tokenizer), (WEIGHTS, &weights)];
        let extra = parts.extra.iter().map(|(name, bytes)| (name.as_str(), bytes.as_slice()));
        for (name, bytes) in own.into_iter().chain(extra) {
            write_whole(&root.join(name), bytes)?;
            manifest.files.insert(name.to_owned(), hexadecimal(&Sha256::digest(bytes)));
        }
        let path = root.join(MANIFEST);
        let bytes = serde_json::to_vec_pretty(&manifest).map_err(|source| failed(&path, source.into()))?;
        write_whole(&path, &bytes)?;
        Self::open(root)
    }
}

/// Refuses weights that lie elsewhere than beside their graph: another path would read a file that belongs to somebody else, and is not copied
/// with the directory.
fn require_beside(root: &Path, graph: &str, name: &str) -> Result<()> {
    if Path::new(name).file_name().is_some_and(|file| file == name) {
        return Ok(());
    }
    Err(Error::Model {
        path: root.to_owned(),
        reason: format!("the weights of {graph} are in `{name}`, which is not a file of the folder"),
        hint: "copy the file into the folder, and write the graph again with its name".to_owned(),
    })
}

/// The parts of a new model directory.
#[derive(Debug)]
pub struct Parts<'a> {
    /// All tensors.
    pub weights: &'a Weights,
    /// The storage format of the matrices.
    pub form: WeightForm,
    /// The configuration of encoder and head.
    pub config: &'a ModelConfig,
    /// The content of `tokenizer.json`.
    pub tokenizer: &'a [u8],
    /// The manifest; its `files` are ignored.
    pub manifest: &'a Manifest,
    /// Additional files (graphs): names and contents.
    pub extra: &'a [(String, Vec<u8>)],
}

/// The name of a graph file, such as `model-fp16-fused.onnx`, `model-questions-fused.onnx` or `model-windows-fp16-fused.onnx`.
pub fn graph_name(part: GraphPart, variant: GraphVariant) -> String {
    match part {
        GraphPart::Whole(precision) => format!("model-{precision}-{variant}.onnx"),
        GraphPart::Questions => format!("model-questions-{variant}.onnx"),
        GraphPart::Windows(precision) => format!("model-windows-{precision}-{variant}.onnx"),
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::model::config::tests::tiny;
    use crate::model::package::external_data::tests::graph_with_weights_in;
    use crate::model::weights::tensors::tests::made_up;
    use crate::model::weights::vocabulary::{TokenizerConfig, tokenizer_from_vocabulary};

    /// Writes a tiny model into a folder.
    pub(crate) fn write_tiny(root: &Path, form: WeightForm) -> ModelDirectory {
        let weights = Weights::check(made_up(&tiny(), false), &mut tiny()).expect("they fit");
        let manifest = Manifest { max_length: 24, encoder: "tiny".into(), ..Manifest::default() };
        let parts =
            Parts { weights: &weights, form, config: &tiny(), tokenizer: b"{}", manifest: &manifest, extra: &[] };
        ModelDirectory::write(root, &parts).expect("it is written")
    }

    #[test]
    fn written_directories_open_with_the_same_content() {
        let folder = tempfile::tempdir().expect("a folder");
        let written = write_tiny(folder.path(), WeightForm::Fp32);
        let opened = ModelDirectory::open(folder.path()).expect("it opens");
        assert_eq!((opened.model_hash(), opened.manifest()), (written.model_hash(), written.manifest()));
        assert_eq!(opened.config(), Some(&tiny()));
        assert_eq!(
            opened.weights().expect("weights"),
            Weights::check(made_up(&tiny(), false), &mut tiny()).expect("they fit")
        );
        assert_eq!(opened.manifest().files.len(), 3);
    }

    #[test]
    fn a_changed_file_is_named_and_changes_the_hash() {
        let folder = tempfile::tempdir().expect("a folder");
        let before = write_tiny(folder.path(), WeightForm::Int8);
        std::fs::write(folder.path().join(TOKENIZER), b"{ }").expect("written");
        let error = ModelDirectory::open(folder.path()).expect_err("it differs");
        assert!(error.to_string().contains("`tokenizer.json` is not the file quarry.json describes"), "{error}");
        std::fs::remove_file(folder.path().join(MANIFEST)).expect("removed");
        let after = ModelDirectory::open(folder.path()).expect("nothing to verify against");
        assert_ne!(before.model_hash(), after.model_hash());
        assert_eq!(after.manifest().max_length, 24);
    }

    #[test]
    fn words_are_as_requested_or_as_in_training() {
        let folder = tempfile::tempdir().expect("a folder");
        let mut model = write_tiny(folder.path(), WeightForm::Fp32);
        assert_eq!(model.words(None), Words::Tokenizer);
        model.manifest.words = Some(Words::Whitespace);
        assert_eq!(model.words(None), Words::Whitespace);
        assert_eq!(model.words(Some(Words::Tokenizer)), Words::Tokenizer);
    }

    #[test]
    fn a_tokenizer_with_more_words_than_the_weights_is_refused() {
        let folder = tempfile::tempdir().expect("a folder");
        let weights = Weights::check(made_up(&tiny(), false), &mut tiny()).expect("they fit");
        let manifest = Manifest { max_length: 24, ..Manifest::default() };
        let opened = |words: usize| {
            let more: Vec<String> = (5..words).map(|number| format!("word{number}")).collect();
            let path = folder.path().join("vocab.txt");
            let text = "[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\n".to_owned() + &more.join("\n");
            std::fs::write(&path, text).expect("written");
            let tokenizer = tokenizer_from_vocabulary(&path, &TokenizerConfig::default()).expect("a tokenizer");
            let json = tokenizer.to_string(false).expect("json").into_bytes();
            let parts = Parts {
                weights: &weights,
                form: WeightForm::Fp32,
                config: &tiny(),
                tokenizer: &json,
                manifest: &manifest,
                extra: &[],
            };
            ModelDirectory::write(&folder.path().join("model"), &parts).expect("written").tokenizer(None)
        };
        assert_eq!(opened(32).expect("as many").vocabulary_size(), 32);
        let error = opened(33).expect_err("one more");
        assert!(
            error.to_string().ends_with("its tokenizer has id 32, but its weights have only 32 word vectors"),
            "{error}"
        );
    }

    #[test]
    fn a_foreign_graph_needs_only_a_tokenizer() {
        let folder = tempfile::tempdir().expect("a folder");
        let open = || ModelDirectory::open(folder.path());
        assert!(open().expect_err("empty").to_string().contains("neither model.safetensors nor model.onnx"));
        std::fs::write(folder.path().join(FOREIGN_GRAPH), b"graph").expect("written");
        assert!(
            open().expect_err("no tokenizer").to_string().contains("there is neither tokenizer.json nor vocab.txt")
        );
        std::fs::write(folder.path().join(TOKENIZER), b"{}").expect("written");
        let opened = open().expect("it opens");
        assert!(opened.config().is_none() && opened.foreign_graph().is_some() && opened.weights().is_err());
    }

    #[test]
    fn a_graph_cannot_claim_any_length() {
        let folder = tempfile::tempdir().expect("a folder");
        let write = |name: &str, bytes: &[u8]| std::fs::write(folder.path().join(name), bytes).expect("written");
        write(TOKENIZER, b"{}");
        write(FOREIGN_GRAPH, b"graph");
        for (length, opens) in
            [(512, true), (LONGEST_INPUT, true), (LONGEST_INPUT + 1, false), (usize::MAX, false), (0, false)]
        {
            let manifest = Manifest { max_length: length, ..Manifest::default() };
            write(MANIFEST, &serde_json::to_vec(&manifest).expect("json"));
            let opened = ModelDirectory::open(folder.path());
            assert_eq!(opened.is_ok(), opens, "{length}");
            assert!(opened.err().is_none_or(|error| error.to_string().contains("`max_length` is")), "{length}");
        }
    }

    #[test]
    fn weights_beside_a_graph_are_hashed_and_lie_in_the_folder() {
        let folder = tempfile::tempdir().expect("a folder");
        let write = |name: &str, bytes: &[u8]| std::fs::write(folder.path().join(name), bytes).expect("written");
        let open = || ModelDirectory::open(folder.path());
        write(TOKENIZER, b"{}");
        write(FOREIGN_GRAPH, &graph_with_weights_in("model.onnx_data"));
        assert!(open().expect_err("it is missing").to_string().contains("model.onnx_data"));
        write("model.onnx_data", b"one");
        let one = open().expect("it opens").model_hash().to_owned();
        write("model.onnx_data", b"two");
        assert_ne!(open().expect("it opens").model_hash(), one);
        for outside in ["../model.onnx_data", "/etc/passwd", "a/b", ".."] {
            write(FOREIGN_GRAPH, &graph_with_weights_in(outside));
            let error = open().expect_err("it points outside").to_string();
            assert!(error.contains(&format!("`{outside}`, which is not a file of the folder")), "{error}");
        }
    }

    #[test]
    fn a_manifest_cannot_point_outside() {
        let folder = tempfile::tempdir().expect("a folder");
        write_tiny(folder.path(), WeightForm::Fp32);
        let path = folder.path().join(MANIFEST);
        let text = std::fs::read_to_string(&path).expect("read").replace("\"config.json\"", "\"../config.json\"");
        std::fs::write(&path, text).expect("written");
        assert!(ModelDirectory::open(folder.path()).expect_err("outside").to_string().contains("not a file name"));
    }

    #[test]
    #[expect(clippy::print_stderr, reason = "a skipped test prints why")]
    fn the_default_model_is_complete() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("models/default");
        if !root.exists() {
            eprintln!("skipped: there is no models/default beside Cargo.toml");
            return;
        }
        let model = ModelDirectory::open(&root).expect("it opens");
        assert_eq!(model.manifest().files.len(), 3);
        let names: Vec<_> = model.manifest().types.iter().map(|entity_type| entity_type.name.as_str()).collect();
        assert_eq!((&names[..4], names.len()), (["ORG", "PER", "LOC", "MISC"].as_slice(), 18));
        model.weights().expect("its weights fit its configuration");
    }
}
