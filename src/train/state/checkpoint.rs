//! Checkpoints of a training. In: its position and tensors. Out: files from which a killed training resumes with the same result as an
//! undisturbed one. It must not leave a partly written file under its final name.
//!
//! Random numbers depend only on the seed and the step, so there is no generator state to save.

use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use tch::Tensor;

use crate::error::{Error, Result};
use crate::machine::files::write_whole;
use crate::model::weights::safetensors_file::{WeightForm, read_tensors, write_tensors};
use crate::model::weights::tensors::Weights;
use crate::train::network::failure::torch;
use crate::train::network::heads::Network;
use crate::train::optimization::average::Average;
use crate::train::optimization::optimizer::Optimizer;
use crate::train::state::fingerprint::Fingerprint;

/// The position of a training.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Position {
    /// Identifies the training: another one cannot resume from this checkpoint.
    pub fingerprint: Fingerprint,
    /// Steps taken.
    pub step: usize,
    /// The optimizer's steps; fewer if steps were skipped.
    pub optimizer_steps: usize,
    /// The best F1 on dev, and its step.
    pub best: Option<(f64, usize)>,
    /// Scorings since then.
    pub without_better: usize,
    /// Whether dev must still be scored after this step.
    #[serde(default)]
    pub unscored: bool,
    /// Steps skipped because their loss or gradient was not finite.
    pub not_a_number: usize,
    /// Skipped steps since the last step that was not skipped.
    #[serde(default)]
    pub left_out_in_a_row: usize,
    /// Training time so far, in seconds.
    pub seconds: f64,
    /// Training tokens so far, without padding.
    pub tokens: u64,
}

/// The folder of a training, locked against a second one.
#[derive(Debug, Clone)]
pub struct TrainingFolder {
    path: PathBuf,
    /// `None` on a file system without locks.
    #[expect(dead_code, reason = "the lock lives as long as the open file")]
    lock: Option<Arc<File>>,
}

impl TrainingFolder {
    /// Opens the folder `training` inside a model directory, and creates it if missing.
    ///
    /// # Errors
    /// [`Error::Setting`] if another training holds its lock, [`Error::Write`] if it cannot be created.
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
                    reason: "another training is running there".into(),
                    hint: "name another folder, or wait until it ends".into(),
                });
            }
            Err(TryLockError::Error(_)) => None,
        };
        Ok(Self { path, lock })
    }

    /// The path of a file in the folder.
    pub fn file(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// The position of an unfinished training, if there is one.
    pub fn position(&self) -> Result<Option<Position>> {
        let path = self.file("position.json");
        match std::fs::read(&path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(Error::Read { path, source: source.into() }),
            Ok(bytes) => serde_json::from_slice(&bytes).map(Some).map_err(|source| Error::Parse {
                path,
                source: source.into(),
                hint: "start over with --restart".into(),
            }),
        }
    }

    /// Saves a checkpoint. `position.json` names the files of the tensors and of the best weights and is written last.
    pub fn save(
        &self,
        position: &Position,
        network: &Network,
        optimizer: &Optimizer,
        average: Option<&Average>,
    ) -> Result<()> {
        let mut tensors: Vec<(String, &Tensor)> = Vec::new();
        tensors.extend(network.leaves.tensors.iter().map(|(name, tensor)| (name.clone(), tensor)));
        tensors.extend(optimizer.first.iter().map(|(name, tensor)| (format!("first.{name}"), tensor)));
        tensors.extend(optimizer.second.iter().map(|(name, tensor)| (format!("second.{name}"), tensor)));
        let averages = average.iter().flat_map(|average| &average.tensors);
        tensors.extend(averages.map(|(name, tensor)| (format!("average.{name}"), tensor)));
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
        self.remove_tensors(&[Some(path), best]);
        Ok(())
    }

    /// Loads the saved tensors into a network, its optimizer and the average of its weights.
    pub fn load(
        &self,
        position: &Position,
        network: &mut Network,
        optimizer: &mut Optimizer,
        mut average: Option<&mut Average>,
    ) -> Result<()> {
        let path = self.tensors(position.step);
        let refuse =
            |reason: String| Error::Checkpoint { path: path.clone(), reason, hint: "start over with --restart".into() };
        let saved = Tensor::read_safetensors(&path).map_err(|source| refuse(source.to_string()))?;
        let averages = average.as_ref().map_or(0, |average| average.tensors.len());
        let mut left = network.leaves.tensors.len() + optimizer.first.len() + optimizer.second.len() + averages;
        for (name, tensor) in saved {
            let target = match name.split_once('.') {
                Some(("first", name)) => optimizer.first.get_mut(name),
                Some(("second", name)) => optimizer.second.get_mut(name),
                Some(("average", name)) => average.as_mut().and_then(|average| average.tensors.get_mut(name)),
                _ => network.leaves.tensors.get_mut(&name),
            };
            let target = target.ok_or_else(|| refuse(format!("`{name}` is not a tensor of this training")))?;
            tch::no_grad(|| target.f_copy_(&tensor)).map_err(torch("load the saved tensors"))?;
            left -= 1;
        }
        optimizer.steps = position.optimizer_steps;
        if left == 0 { Ok(()) } else { Err(refuse(format!("{left} tensors are missing"))) }
    }

    /// Saves the weights after `step`, the best so far, in addition to those that `position.json` still names.
    pub fn keep_best(&self, step: usize, weights: &Weights) -> Result<()> {
        let path = self.best_weights(step);
        let bytes = write_tensors(weights, WeightForm::Fp32)
            .map_err(|reason| Error::Write { path: path.clone(), source: reason.into() })?;
        write_whole(&path, &bytes)
    }

    /// Reads the best weights of `network`, those after `step`.
    pub fn best(&self, step: usize, network: &Network) -> Result<Weights> {
        let path = self.best_weights(step);
        let bytes = std::fs::read(&path).map_err(|source| Error::Read { path: path.clone(), source: source.into() })?;
        let refuse =
            |reason: String| Error::Checkpoint { path: path.clone(), reason, hint: "start over with --restart".into() };
        let tensors = read_tensors(&bytes).map_err(refuse)?;
        network.check(tensors).map_err(|misfit| refuse(misfit.reason))
    }

    /// Removes the checkpoint; the lock is kept.
    pub fn discard(&self) {
        // Files that cannot be removed are harmless: without position.json nothing is resumed.
        let _ = std::fs::remove_file(self.file("position.json"));
        self.remove_tensors(&[]);
    }

    /// Removes everything that only an unfinished training needs, including the lock.
    pub fn finish(&self) {
        self.discard();
        let _ = std::fs::remove_file(self.file("lock"));
    }

    fn best_weights(&self, step: usize) -> PathBuf {
        self.file(&format!("best-{step}.safetensors"))
    }

    fn tensors(&self, step: usize) -> PathBuf {
        self.file(&format!("state-{step}.safetensors"))
    }

    /// Removes tensors of earlier steps, and files that a killed process wrote only partly.
    fn remove_tensors(&self, except: &[Option<PathBuf>]) {
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
