//! A training on disk. In: where it stands, its tensors. Out: files from which a killed training goes on as if nothing had happened. It
//! may not leave half a file under its name.
//!
//! Random numbers are drawn from the seed and the number of the step, so there is no generator to save.

use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use tch::Tensor;

use crate::error::{Error, Result};
use crate::machine::files::write_whole;
use crate::model::weights::safetensors_file::{WeightForm, read_tensors, write_tensors};
use crate::model::weights::tensors::Weights;
use crate::train::network::bert::{Network, torch};
use crate::train::network::optimizer::Optimizer;
use crate::train::training_loop::fingerprint::Fingerprint;

/// Where a training stands.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Position {
    /// What it was begun with: another training cannot go on from here.
    pub fingerprint: Fingerprint,
    /// Steps taken.
    pub step: usize,
    /// The optimizer's steps; fewer where steps were left out.
    pub optimizer_steps: usize,
    /// The best F1 on dev, and the step it was reached at.
    pub best: Option<(f64, usize)>,
    /// Scorings since then.
    pub without_better: usize,
    /// Whether dev is still to be scored after this step.
    #[serde(default)]
    pub unscored: bool,
    /// Steps left out because their loss was not a number.
    pub not_a_number: usize,
    /// Those since the last step that was not left out.
    #[serde(default)]
    pub left_out_in_a_row: usize,
    /// Training time so far, in seconds.
    pub seconds: f64,
    /// Tokens learned from so far, padding not counted.
    pub tokens: u64,
}

/// The folder of a training, held against a second one.
#[derive(Debug, Clone)]
pub struct TrainingFolder {
    path: PathBuf,
    /// `None` on a file system without locks.
    #[expect(dead_code, reason = "the lock lives as long as the open file")]
    lock: Option<Arc<File>>,
}

impl TrainingFolder {
    /// The folder `training` inside a model directory, made where it is missing.
    ///
    /// # Errors
    /// [`Error::Setting`] where another training holds it, [`Error::Write`] where it cannot be made.
    pub fn new(model: &Path) -> Result<Self> {
        let path = model.join("training");
        let unwritable = |source: std::io::Error| Error::Write { path: path.clone(), source: source.into() };
        std::fs::create_dir_all(&path).map_err(unwritable)?;
        let file = File::create(path.join("lock")).map_err(unwritable)?;
        let lock = match file.try_lock() {
            Ok(()) => Some(Arc::new(file)),
            Err(TryLockError::WouldBlock) => {
                return Err(Error::Setting {
                    origin: model.display().to_string(),
                    key: "output.path".into(),
                    reason: "another training is under way there".into(),
                    hint: "name another folder, or wait for its end".into(),
                });
            }
            Err(TryLockError::Error(_)) => None,
        };
        Ok(Self { path, lock })
    }

    /// A file in it.
    pub fn file(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// Where an unfinished training stands, if there is one.
    pub fn position(&self) -> Result<Option<Position>> {
        let path = self.file("position.json");
        match std::fs::read(&path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(Error::Read { path, source: source.into() }),
            Ok(bytes) => serde_json::from_slice(&bytes).map(Some).map_err(|source| Error::Parse {
                path,
                source: source.into(),
                hint: "begin anew with --restart".into(),
            }),
        }
    }

    /// Saves everything; `position.json` names the files of the tensors and of the best weights and comes last.
    pub fn save(&self, position: &Position, network: &Network, optimizer: &Optimizer) -> Result<()> {
        let mut tensors: Vec<(String, &Tensor)> = Vec::new();
        tensors.extend(network.leaves.iter().map(|(name, tensor)| (name.clone(), tensor)));
        tensors.extend(optimizer.first.iter().map(|(name, tensor)| (format!("first.{name}"), tensor)));
        tensors.extend(optimizer.second.iter().map(|(name, tensor)| (format!("second.{name}"), tensor)));
        let tensors: Vec<(String, Tensor)> =
            tensors.into_iter().map(|(name, tensor)| (name, tensor.detach().to_device(tch::Device::Cpu))).collect();
        let path = self.tensors(position.step);
        let partial = path.with_extension("partial");
        Tensor::write_safetensors(&tensors, &partial)
            .map_err(|source| Error::Write { path: partial.clone(), source: source.into() })?;
        File::open(&partial)
            .and_then(|file| file.sync_all())
            .and_then(|()| std::fs::rename(&partial, &path))
            .map_err(|source| Error::Write { path: path.clone(), source: source.into() })?;
        let json = serde_json::to_vec_pretty(position)
            .map_err(|source| Error::Write { path: self.file("position.json"), source: source.into() })?;
        write_whole(&self.file("position.json"), &json)?;
        let best = position.best.map(|(_, step)| self.best_weights(step));
        self.forget_tensors(&[Some(path), best]);
        Ok(())
    }

    /// Puts the saved tensors into a network and its optimizer.
    pub fn load(&self, position: &Position, network: &mut Network, optimizer: &mut Optimizer) -> Result<()> {
        let path = self.tensors(position.step);
        let refuse =
            |reason: String| Error::Checkpoint { path: path.clone(), reason, hint: "begin anew with --restart".into() };
        let saved = Tensor::read_safetensors(&path).map_err(|source| refuse(source.to_string()))?;
        let mut left = network.leaves.len() + optimizer.first.len() + optimizer.second.len();
        for (name, tensor) in saved {
            let place = match name.split_once('.') {
                Some(("first", name)) => optimizer.first.get_mut(name),
                Some(("second", name)) => optimizer.second.get_mut(name),
                _ => network.leaves.get_mut(&name),
            };
            let place = place.ok_or_else(|| refuse(format!("`{name}` is not a tensor of this training")))?;
            tch::no_grad(|| place.f_copy_(&tensor)).map_err(torch("take up the saved tensors"))?;
            left -= 1;
        }
        optimizer.steps = position.optimizer_steps;
        if left == 0 { Ok(()) } else { Err(refuse(format!("{left} tensors are missing"))) }
    }

    /// Keeps the weights after `step`, the best so far, beside those that `position.json` still names.
    pub fn keep_best(&self, step: usize, weights: &Weights) -> Result<()> {
        let path = self.best_weights(step);
        let bytes = write_tensors(weights, WeightForm::Fp32)
            .map_err(|reason| Error::Write { path: path.clone(), source: reason.into() })?;
        write_whole(&path, &bytes)
    }

    /// The best weights, those after `step`.
    pub fn best(&self, step: usize, config: &mut crate::model::encoder::config::BertConfig) -> Result<Weights> {
        let path = self.best_weights(step);
        let bytes = std::fs::read(&path).map_err(|source| Error::Read { path: path.clone(), source: source.into() })?;
        let refuse =
            |reason: String| Error::Checkpoint { path: path.clone(), reason, hint: "begin anew with --restart".into() };
        let tensors = read_tensors(&bytes).map_err(refuse)?;
        Weights::check(tensors, config).map_err(|misfit| refuse(misfit.reason))
    }

    /// Removes the state, so that nothing is taken up from it; the folder is still held.
    pub fn forget(&self) {
        // What cannot be removed is only clutter: without position.json nothing is taken up.
        let _ = std::fs::remove_file(self.file("position.json"));
        self.forget_tensors(&[]);
    }

    /// Removes all that only an unfinished training needs, the lock with it.
    pub fn finish(&self) {
        self.forget();
        let _ = std::fs::remove_file(self.file("lock"));
    }

    fn best_weights(&self, step: usize) -> PathBuf {
        self.file(&format!("best-{step}.safetensors"))
    }

    fn tensors(&self, step: usize) -> PathBuf {
        self.file(&format!("state-{step}.safetensors"))
    }

    /// Removes tensors of earlier steps, and what a kill left half written.
    fn forget_tensors(&self, except: &[Option<PathBuf>]) {
        let Ok(entries) = std::fs::read_dir(&self.path) else { return };
        for path in entries.flatten().map(|entry| entry.path()) {
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            let tensors = name.starts_with("state-") || name.starts_with("best-");
            if (tensors || name.ends_with(".partial")) && !except.iter().flatten().any(|kept| *kept == path) {
                let _ = std::fs::remove_file(&path);
            }
        }
    }
}
