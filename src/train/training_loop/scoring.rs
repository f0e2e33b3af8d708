//! Scorings of a training. In: a trainer after some step. Out: its figures on dev, the best weights so far saved, and at the end the best of
//! all. It must not take a step.

use std::time::Instant;

use tch::Kind;

use crate::error::{Error, Result};
use crate::extract::calibration::{Calibration, calibrate};
use crate::model::weights::safetensors_file::{WeightForm, as_stored};
use crate::model::weights::tensors::Weights;
use crate::score::calibration::Goal;
use crate::train::data::featurize::Data;
use crate::train::display::history::Scoring;
use crate::train::display::screen::Screen;
use crate::train::network::failure::guarded;
use crate::train::network::heads::Network;
use crate::train::training_loop::dev::{Quality, candidates, score};
use crate::train::training_loop::trainer::Trainer;

/// The smallest difference by which an F1 counts as better, larger than the rounding of F1 in `position.json`.
const MINIMUM_GAIN: f64 = 1e-12;

impl Trainer<'_> {
    /// Scores dev, keeps the weights if they are the best so far, and saves a checkpoint. A signal saves immediately; the resumed training
    /// then begins with this scoring.
    pub(super) fn score(&mut self, screen: &mut Screen) -> Result<()> {
        let started = Instant::now();
        self.refuse_overflow()?;
        screen.scoring(&self.history, &self.position);
        let (split, examples) = (&self.dev.split, &self.dev.examples.examples);
        self.swap_average();
        let scored = guarded(|| {
            let quality = score(self.replicas.first(), split, examples, self.schema)?;
            let better = self.position.best.is_none_or(|(best, _)| quality.all.f1() > best + MINIMUM_GAIN);
            let weights = if better { Some(self.replicas.first().weights()?) } else { None };
            Ok((quality, weights))
        });
        self.swap_average();
        if let Err(Error::Stopped { .. }) = scored {
            self.save()?;
        }
        let (quality, weights) = scored?;
        let (f1, best) = (quality.all.f1(), weights.is_some());
        if let Some(weights) = weights {
            self.folder.keep_best(self.position.step, &weights)?;
            self.position.best = Some((f1, self.position.step));
            self.position.without_better = 0;
        } else {
            self.position.without_better += 1;
        }
        let (precision, recall) = (quality.all.precision(), quality.all.recall());
        let seconds = started.elapsed().as_secs_f64();
        self.position.unscored = false;
        self.history.scoring(Scoring { step: self.position.step, precision, recall, f1, best, seconds })?;
        screen.scored(&self.history, &self.position);
        self.save()
    }

    /// Exchanges the weights of the first device with their average, if there is one.
    fn swap_average(&mut self) {
        if let Some(average) = &mut self.average {
            average.swap(&mut self.replicas.first_mut().leaves.tensors);
        }
    }

    /// The best weights, and in the format they will be stored in their calibration on dev, unless the job omits it, and their scores on a split
    /// with its thresholds. Frees the network and the optimizer: the training cannot continue afterwards.
    ///
    /// # Errors
    /// [`Error::Setting`] if the format cannot represent the weights.
    pub fn best(&mut self, data: Option<&Data>) -> Result<(Weights, Option<Calibration>, Option<Quality>)> {
        let step = self.position.best.map_or(0, |(_, step)| step);
        let weights = self.folder.best(step, self.replicas.first())?;
        let form = self.file.weight_form();
        let misfit = |reason: String| Error::Setting {
            origin: self.file.output.path.display().to_string(),
            key: "output.weights".into(),
            reason,
            hint: "set fp32 and run the training again: the checkpoint is kept".into(),
        };
        let stored = if form == WeightForm::Fp32 { None } else { Some(as_stored(&weights, form).map_err(misfit)?) };
        let calibrate_it = self.file.output.calibrate;
        if data.is_none() && !calibrate_it {
            return Ok((weights, None, None));
        }
        let device = self.replicas.first().device();
        self.replicas.free();
        self.optimizer.first.clear();
        self.optimizer.second.clear();
        self.average = None;
        let (calibration, quality) = guarded(|| {
            let network = Network::new(stored.as_ref().unwrap_or(&weights), Kind::Float, device, &self.questions)?;
            let calibration = if calibrate_it { self.calibrate(&network)? } else { None };
            let schema = calibration.as_ref().map_or(self.schema, |calibration| &calibration.schema);
            let quality = data.map(|data| score(&network, &data.split, &data.examples.examples, schema)).transpose()?;
            Ok((calibration, quality))
        })?;
        Ok((weights, calibration, quality))
    }

    /// The calibration of a network on dev; `None` if dev has too few spans. A threshold or temperature of the schema stays.
    fn calibrate(&self, network: &Network) -> Result<Option<Calibration>> {
        let (split, examples) = (&self.dev.split, &self.dev.examples.examples);
        let mut found = calibrate(
            &candidates(network, split, examples, self.schema)?,
            (network.model_kind(), self.schema),
            Goal::F1,
        );
        match &mut found {
            None => {
                tracing::info!("dev has too few spans for a calibration: thresholds and temperatures stay as they are");
            }
            Some(calibration) => {
                for (one, own) in calibration.schema.types.iter_mut().zip(&self.schema.types) {
                    one.threshold = own.threshold.or(one.threshold);
                    one.temperature = own.temperature.or(one.temperature);
                }
            }
        }
        Ok(found)
    }
}
