//! A checkpoint → a model directory. In: [`Settings`]. Out: the directory, written, reopened and verified. It must not print.

use std::path::Path;
use std::time::{Duration, Instant};

use crate::error::{Error, Result};
use crate::export::settings::Settings;
use crate::graph;
use crate::model::package::contents::assumptions;
use crate::model::package::directory::{ModelDirectory, Parts, graph_name};
use crate::model::package::manifest::Manifest;
use crate::model::precision::GraphPart;
use crate::model::weights::checkpoint::{Checkpoint, refused};
use crate::model::weights::safetensors_file::as_stored;
use crate::model::weights::tensors::Misfit;
use crate::model::weights::weights_file::{beside, same};
use crate::task::entity_schema::{EntitySchema, EntityType, Nesting};
use crate::task::gliner::contract;
use crate::task::kind::Own;
use crate::task::tagger::unknown_type;

/// The result of an export.
#[derive(Debug, Clone)]
pub struct ExportReport {
    /// The verified model directory.
    pub model: ModelDirectory,
    /// The name and size in bytes of every file, sorted by name.
    pub files: Vec<(String, u64)>,
    /// The number of parameters.
    pub parameters: usize,
    /// The duration of the export.
    pub elapsed: Duration,
}

/// Reads the checkpoint, writes the model directory and reopens it.
pub fn run(settings: &Settings) -> Result<ExportReport> {
    let started = Instant::now();
    if settings.checkpoint.join("gliner_config.json").exists() {
        return Err(Error::Checkpoint {
            path: settings.checkpoint.clone(),
            reason: "there is a gliner_config.json: models of the GLiNER family run as ready ONNX files".into(),
            hint: contract::HINT.into(),
        });
    }
    let checkpoint = Checkpoint::open(&settings.checkpoint, settings.encoder.as_deref())?;
    refuse_own_folder(&checkpoint, &settings.out)?;
    let manifest = manifest(settings, &checkpoint)?;
    let tokenizer = checkpoint.tokenizer_json()?;
    let mut extra = Vec::new();
    if !settings.graphs.is_empty() {
        // A written graph must have the weights as they are read back after storage.
        let weights = as_stored(&checkpoint.weights, settings.weights).map_err(|reason| {
            refused(&checkpoint.weights_path, Misfit { reason, hint: "use --weights fp32".into() })
        })?;
        for (variant, precision) in &settings.graphs {
            let kind = checkpoint.config.head.kind();
            for part in GraphPart::of(kind, *precision) {
                extra.push((graph_name(part, *variant), graph::write_part(&weights, part, *variant)?));
            }
        }
    }
    let parts = Parts {
        weights: &checkpoint.weights,
        form: settings.weights,
        config: &checkpoint.config,
        tokenizer: &tokenizer,
        manifest: &manifest,
        extra: &extra,
    };
    let model = ModelDirectory::write(&settings.out, &parts)?;
    let files = sizes(model.root())?;
    let parameters = checkpoint.weights.iter().map(|(_, tensor)| tensor.values.len()).sum();
    Ok(ExportReport { model, files, parameters, elapsed: started.elapsed() })
}

fn manifest(settings: &Settings, checkpoint: &Checkpoint) -> Result<Manifest> {
    let head = &checkpoint.config.head;
    let known = Manifest::of(&checkpoint.folder)?;
    if known.is_none()
        && let Some(assumptions) =
            assumptions(&checkpoint.folder, head.kind(), head.tags.as_ref().map_or(Own::Nothing, Own::Tags))
    {
        tracing::info!("{assumptions}");
    }
    let mut manifest = known.unwrap_or(Manifest { max_length: 0, ..Manifest::default() });
    manifest.kind = head.kind();
    if let Some(schema) = &settings.schema {
        manifest.types.clone_from(&schema.types);
        manifest.nested = schema.nested;
    }
    if let Some(tags) = &head.tags {
        let own = |name: &String| EntityType::new(name, name);
        if manifest.types.is_empty() {
            manifest.types = tags.types().iter().map(own).collect();
        }
        let schema = EntitySchema { nested: Nesting::Flat, types: manifest.types.clone() };
        if let Some(name) = unknown_type(tags, &schema) {
            return Err(Error::Setting {
                origin: "export".to_owned(),
                key: "type".to_owned(),
                reason: format!("the model is a tagger, which has no tag for the type `{name}`"),
                hint: format!("it knows {}", tags.types().join(", ")),
            });
        }
    }
    let longest = checkpoint.weights.encoder.architecture.max_tokens;
    if manifest.max_length == 0 {
        manifest.max_length = longest;
    }
    if manifest.max_length > longest {
        return Err(Error::Setting {
            origin: "export".to_owned(),
            key: "max_length".to_owned(),
            reason: format!("{} tokens, but the encoder has {longest} positions", manifest.max_length),
            hint: format!("use {longest} or less"),
        });
    }
    Ok(manifest)
}

/// Refuses to write into the checkpoint's own folder, which would overwrite the files being read.
fn refuse_own_folder(checkpoint: &Checkpoint, out: &Path) -> Result<()> {
    if same(beside(&checkpoint.weights_path), out) || same(&checkpoint.folder, out) {
        return Err(Error::Setting {
            origin: "export".to_owned(),
            key: "OUT".to_owned(),
            reason: format!("`{}` is the checkpoint's own folder", out.display()),
            hint: "name another folder".to_owned(),
        });
    }
    Ok(())
}

fn sizes(root: &Path) -> Result<Vec<(String, u64)>> {
    let unreadable = |source: std::io::Error| Error::Read { path: root.to_owned(), source: source.into() };
    let mut files = Vec::new();
    for entry in std::fs::read_dir(root).map_err(unreadable)? {
        let entry = entry.map_err(unreadable)?;
        files.push((entry.file_name().to_string_lossy().into_owned(), entry.metadata().map_err(unreadable)?.len()));
    }
    files.sort();
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::config::tests::tiny;
    use crate::model::precision::{GraphVariant, Precision};
    use crate::model::weights::safetensors_file::{WeightForm, write_tensors};
    use crate::model::weights::tensors::Weights;
    use crate::model::weights::tensors::tests::made_up;
    use crate::task::entity_schema::{EntitySchema, EntityType, Nesting};

    const VOCABULARY: &str = "[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\nwho\nwhere\n##s\n";

    fn checkpoint(vocabulary: &str) -> tempfile::TempDir {
        let folder = tempfile::tempdir().expect("a folder");
        let mut config = tiny();
        let weights = Weights::check(made_up(&config, false), &mut config).expect("they fit");
        let file = |name: &str, bytes: &[u8]| std::fs::write(folder.path().join(name), bytes).expect("written");
        file("config.json", &serde_json::to_vec(&config).expect("json"));
        file("model.safetensors", &write_tensors(&weights, WeightForm::Fp32).expect("it serializes"));
        file("vocab.txt", vocabulary.as_bytes());
        folder
    }

    fn options(checkpoint: &Path, out: &Path) -> Settings {
        Settings {
            checkpoint: checkpoint.to_owned(),
            out: out.to_owned(),
            encoder: None,
            schema: None,
            weights: WeightForm::Int8,
            graphs: vec![(GraphVariant::Portable, Precision::Fp32)],
            parity: None,
        }
    }

    #[test]
    fn a_checkpoint_becomes_a_verified_directory() {
        let (from, to) = (checkpoint(VOCABULARY), tempfile::tempdir().expect("a folder"));
        let report = run(&options(from.path(), to.path())).expect("exported");
        let names: Vec<_> = report.files.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(
            names,
            ["config.json", "model-fp32-portable.onnx", "model.safetensors", "quarry.json", "tokenizer.json"]
        );
        assert_eq!(report.model.manifest().max_length, 24);
        assert!(report.model.written_graph(GraphPart::Whole(Precision::Fp32), GraphVariant::Portable).is_some());
        assert!(report.model.written_graph(GraphPart::Whole(Precision::Fp32), GraphVariant::Fused).is_none());
        let again = tempfile::tempdir().expect("a folder");
        let twice = run(&options(to.path(), again.path())).expect("a model directory is a valid checkpoint");
        assert_eq!(twice.model.weights().expect("weights"), report.model.weights().expect("weights"));
    }

    #[test]
    fn a_written_graph_has_the_stored_weights() {
        let (from, to) = (checkpoint(VOCABULARY), tempfile::tempdir().expect("a folder"));
        let model = run(&options(from.path(), to.path())).expect("exported").model;
        let weights = model.weights().expect("weights");
        let derived = graph::write(&weights, GraphVariant::Portable, Precision::Fp32).expect("a graph");
        let written = model.written_graph(GraphPart::Whole(Precision::Fp32), GraphVariant::Portable).expect("listed");
        assert!(std::fs::read(written).expect("read") == derived, "the graph has other weights than model.safetensors");
    }

    #[test]
    fn a_schema_changes_only_the_types() {
        let (from, to) = (checkpoint(VOCABULARY), tempfile::tempdir().expect("a folder"));
        let known = Manifest {
            encoder: "made up".into(),
            max_length: 20,
            licence: "Apache-2.0".into(),
            scores: serde_json::json!({"f1": 0.9}),
            ..Manifest::default()
        };
        let json = serde_json::to_vec(&known).expect("json");
        std::fs::write(from.path().join("quarry.json"), json).expect("written");
        let types = vec![EntityType::new("PER", "who")];
        let schema = Some(EntitySchema { nested: Nesting::Nested, types: types.clone() });
        let report = run(&Settings { schema, ..options(from.path(), to.path()) }).expect("exported");
        let found = Manifest { files: known.files.clone(), ..report.model.manifest().clone() };
        assert_eq!(found, Manifest { types, nested: Nesting::Nested, ..known });
    }

    #[test]
    fn a_tokenizer_larger_than_the_vocabulary_is_refused() {
        let more: Vec<String> = (0..40).map(|number| format!("word{number}")).collect();
        let words = VOCABULARY.to_owned() + &more.join("\n");
        let (from, to) = (checkpoint(&words), tempfile::tempdir().expect("a folder"));
        let error = run(&options(from.path(), to.path())).expect_err("too large");
        assert!(
            error.to_string().contains("its tokenizer has id 47, but its weights have only 32 word vectors"),
            "{error}"
        );
    }

    #[test]
    fn the_checkpoint_is_not_overwritten() {
        let from = checkpoint(VOCABULARY);
        let error = run(&options(from.path(), from.path())).expect_err("its own folder");
        assert!(error.to_string().contains("own folder"), "{error}");
    }
}
