//! The training loop. In: a network, examples, a recipe. Out: better weights, the best of them kept, every step's figures. It may not
//! read settings or print: what is to be seen goes to the [`Screen`].

use std::time::{Duration, Instant};

use tch::{Device, Kind};

use crate::error::{Error, Result};
use crate::model::encoder::config::BertConfig;
use crate::model::weights::safetensors_file::{WeightForm, as_stored};
use crate::model::weights::tensors::Weights;
use crate::random::Random;
use crate::task::entity_schema::EntitySchema;
use crate::train::data::batch_sampler::{BatchSampler, scorings};
use crate::train::data::featurize::Data;
use crate::train::display::history::{History, Scoring, StepFigures};
use crate::train::display::screen::Screen;
use crate::train::file::TrainFile;
use crate::train::network::bert::{Dropout, Network};
use crate::train::network::data_parallel::DataParallel;
use crate::train::network::device_step::DeviceStep;
use crate::train::network::failure::{MOST_LEFT_OUT, guarded, no_number, not_a_number};
use crate::train::network::loss::LossRule;
use crate::train::network::optimizer::Optimizer;
use crate::train::network::schedule::Schedule;
use crate::train::recipe::{OnProblem, Precision};
use crate::train::training_loop::checkpoint::{Position, TrainingFolder};
use crate::train::training_loop::dev::{Quality, score};
use crate::train::training_loop::fingerprint::Fingerprint;
use crate::train::training_loop::signals;

/// A F1 is better than another by more than what writing it down may change.
const BETTER: f64 = 1e-12;

/// A training that can go on.
pub struct Trainer<'a> {
    file: &'a TrainFile,
    schema: &'a EntitySchema,
    train: &'a Data,
    dev: &'a Data,
    replicas: DataParallel,
    optimizer: Optimizer,
    plan: BatchSampler,
    /// Steps of each epoch.
    steps: Vec<usize>,
    schedule: Schedule,
    rule: LossRule,
    folder: TrainingFolder,
    /// Where it stands.
    pub position: Position,
    /// What it has been through.
    pub history: History,
    saved: Instant,
}

impl<'a> Trainer<'a> {
    /// A training from `weights`, or from where an earlier one with the same fingerprint was stopped.
    pub fn new(
        file: &'a TrainFile,
        schema: &'a EntitySchema,
        (train, dev): (&'a Data, &'a Data),
        (weights, config): (&Weights, &BertConfig),
        devices: &[Device],
        (folder, fingerprint): (TrainingFolder, Fingerprint),
    ) -> Result<Self> {
        let recipe = &file.recipe;
        let kind = match recipe.precision {
            Precision::Fp32 => Kind::Float,
            Precision::Bf16 => Kind::BFloat16,
        };
        let mut replicas = DataParallel::new(weights, config, kind, devices);
        let mut optimizer = Optimizer::new(recipe, &replicas.first().leaves);
        let lengths = train.examples.examples.iter().map(|example| example.query.len()).collect();
        let plan = BatchSampler::new(lengths, recipe, devices.len());
        let steps = plan.steps(recipe.max_epochs);
        let schedule = Schedule::new(recipe, steps.iter().sum())?;
        let position = match folder.position()? {
            Some(position) => {
                folder.load(&position, replicas.first_mut(), &mut optimizer)?;
                // Better now than after the last step.
                position.best.map_or(Ok(()), |(_, step)| folder.best(step, &mut config.clone()).map(drop))?;
                position
            }
            None => Position { fingerprint, ..Position::default() },
        };
        let history = History::open(&folder.file("metrics.jsonl"), position.step, position.unscored)?;
        let rule = LossRule::new(recipe);
        replicas.spread();
        Ok(Self {
            file,
            schema,
            train,
            dev,
            replicas,
            optimizer,
            plan,
            steps,
            schedule,
            rule,
            folder,
            position,
            history,
            saved: Instant::now(),
        })
    }

    /// All steps there are.
    pub fn total_steps(&self) -> usize {
        self.steps.iter().sum()
    }

    /// Trains to the end, until nothing gets better, or until a signal.
    pub fn run(&mut self, screen: &mut Screen) -> Result<()> {
        let recipe = &self.file.recipe;
        let often = Duration::try_from_secs_f64(self.file.output.save_minutes * 60.0).unwrap_or(Duration::MAX);
        let enough = |position: &Position| recipe.patience.is_some_and(|patience| position.without_better >= patience);
        if self.position.unscored {
            self.score(screen)?;
        }
        if enough(&self.position) {
            return Ok(());
        }
        let mut first = 0;
        for epoch in 0..recipe.max_epochs {
            let count = self.steps[epoch];
            if self.position.step >= first + count {
                first += count;
                continue;
            }
            let scored_after = scorings(count, recipe.val_check_interval);
            for (index, batches) in self.plan.epoch(epoch).into_iter().enumerate().skip(self.position.step - first) {
                let left_out = self.position.not_a_number;
                let figures = self.step(epoch, index, &batches)?;
                self.position.step += 1;
                self.position.seconds += figures.seconds;
                self.position.tokens += figures.tokens;
                self.history.step(figures)?;
                screen.step(&self.history, &self.position);
                if left_out == 0 && self.position.not_a_number > 0 {
                    let what = no_number(figures.step, figures.loss, figures.gradient_norm);
                    let note = format!("{what}: such steps are left out, and counted at the end");
                    screen.note(&self.history, &self.position, &note);
                }
                self.position.unscored = scored_after.contains(&(index + 1));
                if self.position.unscored {
                    self.score(screen)?;
                    if enough(&self.position) {
                        let scorings = self.position.without_better;
                        let note = format!("no better F1 in {scorings} scorings: training ends");
                        screen.note(&self.history, &self.position, &note);
                        return Ok(());
                    }
                } else if self.saved.elapsed() > often {
                    self.save()?;
                }
                if let Err(stopped) = signals::check() {
                    self.save()?;
                    return Err(stopped);
                }
            }
            first += count;
        }
        Ok(())
    }

    /// One step: every device its share of the batches, their gradients averaged, the weights moved.
    fn step(&mut self, epoch: usize, index: usize, batches: &[Vec<usize>]) -> Result<StepFigures> {
        let started = Instant::now();
        let recipe = &self.file.recipe;
        let step = self.position.step;
        // Dropout is drawn anew from the seed and the step, so a training that was killed draws the same.
        let seed = Random::new(recipe.seed, 1 << 40 | step as u64).next();
        let cost = (self.rule, Dropout { encoder: recipe.bert_dropout, head: recipe.mrc_dropout });
        let (examples, devices) = (&self.train.examples.examples, self.replicas.count());
        let shares = guarded(|| {
            tch::manual_seed(seed as i64);
            self.replicas.each(|number, network| {
                network.skip_random(number);
                let own = batches.iter().skip(number).step_by(devices);
                DeviceStep::of(network, examples, (own, batches.len()), cost)
            })
        })?;
        let mut all = DeviceStep::default();
        for share in &shares {
            all.add(share);
        }
        let (lr, momentum) = (self.schedule.rate(step), self.schedule.momentum(step));
        let gradient_norm = guarded(|| {
            self.replicas.gather();
            let norm = self.optimizer.step(&mut self.replicas.first_mut().leaves, lr, momentum);
            if norm.is_finite() {
                self.replicas.spread();
                self.position.left_out_in_a_row = 0;
            } else {
                self.leave_out(step, all.loss, norm)?;
            }
            Ok(norm)
        })?;
        self.position.optimizer_steps = self.optimizer.steps;
        let [start_loss, end_loss, match_loss] = all.parts;
        Ok(StepFigures {
            step: step + 1,
            epoch: epoch as f64 + (index + 1) as f64 / self.steps[epoch] as f64,
            loss: all.loss,
            start_loss,
            end_loss,
            match_loss,
            lr,
            gradient_norm,
            candidates: all.candidates,
            tokens: all.tokens,
            padded_tokens: all.padded,
            seconds: started.elapsed().as_secs_f64(),
        })
    }

    /// Drops a step whose loss or gradient is not a number, or ends the training before it can do harm.
    fn leave_out(&mut self, step: usize, loss: f64, norm: f64) -> Result<()> {
        self.position.not_a_number += 1;
        self.position.left_out_in_a_row += 1;
        let (skip, in_a_row) = (self.file.recipe.not_a_number == OnProblem::Skip, self.position.left_out_in_a_row);
        if skip && in_a_row < MOST_LEFT_OUT {
            return Ok(());
        }
        let what = no_number(step + 1, loss, norm);
        let reason = if skip { format!("{what}, the last of {in_a_row} such steps in a row") } else { what };
        Err(self.diverged(reason, !skip))
    }

    /// Weights that a step has moved beyond all numbers are neither scored nor saved.
    fn refuse_overflow(&self) -> Result<()> {
        guarded(|| self.replicas.first().overflowed())?.map_or(Ok(()), |name| {
            Err(self.diverged(format!("after step {} not all of `{name}` are numbers", self.position.step), false))
        })
    }

    /// The end of a training that no longer computes with numbers; `skip` says whether leaving steps out may help.
    fn diverged(&self, reason: String, skip: bool) -> Error {
        // One that cannot be read is none.
        let saved = self.folder.position().is_ok_and(|position| position.is_some());
        not_a_number(reason, saved, skip)
    }

    /// Scores dev, keeps the weights where they are the best so far, and saves. A signal meanwhile saves at once; the training that goes
    /// on begins with this scoring.
    fn score(&mut self, screen: &mut Screen) -> Result<()> {
        let started = Instant::now();
        self.refuse_overflow()?;
        screen.scoring(&self.history, &self.position);
        let (split, examples) = (&self.dev.split, &self.dev.examples.examples);
        let scored = guarded(|| score(self.replicas.first(), split, examples, self.schema));
        if let Err(Error::Stopped { .. }) = scored {
            self.save()?;
        }
        let quality = scored?;
        let f1 = quality.all.f1();
        let best = self.position.best.is_none_or(|(best, _)| f1 > best + BETTER);
        if best {
            let weights = guarded(|| self.replicas.first().weights())?;
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

    fn save(&mut self) -> Result<()> {
        self.refuse_overflow()?;
        guarded(|| self.folder.save(&self.position, self.replicas.first(), &self.optimizer))?;
        self.saved = Instant::now();
        Ok(())
    }

    /// The best weights, and the scores on a split that they have in the form they are to be written in. What was trained is let go first:
    /// nothing goes on after this.
    ///
    /// # Errors
    /// [`Error::Setting`] where the form cannot hold them.
    pub fn best(&mut self, data: Option<&Data>, config: &BertConfig) -> Result<(Weights, Option<Quality>)> {
        let step = self.position.best.map_or(0, |(_, step)| step);
        let weights = self.folder.best(step, &mut config.clone())?;
        let form = self.file.weight_form();
        let misfit = |reason: String| Error::Setting {
            origin: self.file.output.path.display().to_string(),
            key: "output.weights".into(),
            reason,
            hint: "say fp32 and start again: what was trained is kept".into(),
        };
        let written =
            if form == WeightForm::Fp32 { None } else { Some(as_stored(&weights, form, config).map_err(misfit)?) };
        let Some(data) = data else { return Ok((weights, None)) };
        let device = self.replicas.first().device();
        self.replicas.let_go();
        self.optimizer.first.clear();
        self.optimizer.second.clear();
        let quality = guarded(|| {
            let network = Network::new(written.as_ref().unwrap_or(&weights), config, Kind::Float, device);
            score(&network, &data.split, &data.examples.examples, self.schema)
        })?;
        Ok((weights, Some(quality)))
    }
}
