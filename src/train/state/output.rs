//! The output folder. In: the job's output path. Out: the training's folder in it, without another training's checkpoint, or the reason
//! to refuse it. It must not touch a model.

use std::path::Path;

use crate::error::{Error, Result};
use crate::model::weights::weights_file::{beside, same};
use crate::train::file::TrainFile;
use crate::train::state::checkpoint::TrainingFolder;
use crate::train::state::fingerprint::Fingerprint;

/// Files by which a folder with a model of any program is recognized.
const MODEL_FILES: [&str; 3] = ["model.safetensors", "pytorch_model.bin", "config.json"];

/// Refuses a folder whose files would be overwritten: the encoder's own, and that of a model written by another program.
pub(crate) fn refuse_foreign(file: &TrainFile) -> Result<()> {
    let (model, encoder) = (&file.output.path, &file.encoder.path);
    let refuse = |reason: &str| Err(refused(model, reason, "name another folder"));
    if same(if encoder.is_file() { beside(encoder) } else { encoder.as_path() }, model) {
        return refuse("it is the encoder's own folder");
    }
    let exists = |name: &str| model.join(name).exists();
    match MODEL_FILES.into_iter().find(|name| exists(name)) {
        Some(name) if !exists("quarry.json") && !exists("training/metrics.jsonl") => {
            refuse(&format!("it holds the `{name}` of a model that this program did not write"))
        }
        _ => Ok(()),
    }
}

/// Refuses a folder with a finished model, before any data is read.
pub(crate) fn refuse_finished(model: &Path) -> Result<()> {
    let unfinished = model.join("training/position.json").exists();
    if model.join("quarry.json").exists() && !unfinished {
        return Err(refused(model, "it holds a finished model", "name another folder, or start over with --restart"));
    }
    Ok(())
}

/// The training's folder, locked by this training and without another training's checkpoint.
pub(crate) fn prepare(model: &Path, fingerprint: &Fingerprint, restart: bool) -> Result<TrainingFolder> {
    let folder = TrainingFolder::new(model)?;
    if restart {
        folder.discard();
        let _ = std::fs::remove_file(folder.file("metrics.jsonl"));
        return Ok(folder);
    }
    if let Some(position) = folder.position()? {
        if let Some((reason, hint)) = fingerprint.differs(&position.fingerprint) {
            return Err(refused(model, &format!("it holds an unfinished training {reason}"), &hint));
        }
        tracing::info!("resuming after step {}", position.step);
    }
    Ok(folder)
}

fn refused(model: &Path, reason: &str, hint: &str) -> Error {
    Error::Setting {
        origin: model.display().to_string(),
        key: "output.path".into(),
        reason: reason.into(),
        hint: hint.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_restart_keeps_the_lock() {
        let model = tempfile::tempdir().unwrap();
        let restart = || prepare(model.path(), &Fingerprint::default(), true);
        let held = restart().unwrap();
        let error = restart().unwrap_err();
        assert!(error.to_string().contains("another training is running there"), "{error}");
        drop(held);
        restart().unwrap();
    }
}
