//! The training loop. In: a network, examples, a recipe. Out: updated weights, the best of them saved, and the figures of every step. It
//! must not read settings or print: output goes to the [`Screen`].

use std::time::{Duration, Instant};

use tch::{Device, Kind};

use crate::error::{Error, Result};
use crate::model::encoder::architecture::DropoutRates;
use crate::model::weights::tensors::Weights;
use crate::random::Random;
use crate::task::answer::Acceptance;
use crate::task::batch::BatchTensors;
use crate::task::entity_schema::EntitySchema;
use crate::task::tagger::TagReader;
use crate::train::data::batch_sampler::{BatchSampler, scoring_steps};
use crate::train::data::featurize::Data;
use crate::train::data::word_dropout::WordDropout;
use crate::train::display::history::{History, StepFigures};
use crate::train::display::screen::Screen;
use crate::train::file::TrainFile;
use crate::train::network::data_parallel::DataParallel;
use crate::train::network::device_step::DeviceStep;
use crate::train::network::failure::{MAX_SKIPPED_IN_A_ROW, diverged, guarded, not_finite};
use crate::train::network::heads::Dropout;
use crate::train::network::loss::LossRule;
use crate::train::optimization::average::Average;
use crate::train::optimization::optimizer::Optimizer;
use crate::train::optimization::schedule::Schedule;
use crate::train::recipe::{OnProblem, Precision};
use crate::train::state::checkpoint::{Position, TrainingFolder};
use crate::train::state::fingerprint::Fingerprint;
use crate::train::state::signals;

/// A training in progress.
pub struct Trainer<'a> {
    pub(super) file: &'a TrainFile,
    pub(super) schema: &'a EntitySchema,
    train: &'a Data,
    pub(super) dev: &'a Data,
    /// The questions of the job, a row each.
    pub(super) questions: BatchTensors,
    /// The words that are hidden.
    word_dropout: WordDropout,
    pub(super) replicas: DataParallel,
    pub(super) optimizer: Optimizer,
    /// The average of the weights, with `ema_decay`.
    pub(super) average: Option<Average>,
    /// How the tags of a tagger are read.
    reader: Option<TagReader>,
    sampler: BatchSampler,
    /// Steps of each epoch.
    steps: Vec<usize>,
    schedule: Schedule,
    rule: LossRule,
    pub(super) folder: TrainingFolder,
    /// Its position.
    pub position: Position,
    /// Its metrics so far.
    pub history: History,
    saved: Instant,
}

impl<'a> Trainer<'a> {
    /// Starts a training from `weights`, or resumes from the checkpoint of an earlier one with the same fingerprint.
    pub fn new(
        file: &'a TrainFile,
        schema: &'a EntitySchema,
        (train, dev): (&'a Data, &'a Data),
        (weights, questions, word_dropout): (&Weights, BatchTensors, WordDropout),
        devices: &[Device],
        (folder, fingerprint): (TrainingFolder, Fingerprint),
    ) -> Result<Self> {
        let recipe = &file.recipe;
        let kind = match recipe.precision {
            Precision::Fp32 => Kind::Float,
            Precision::Bf16 => Kind::BFloat16,
        };
        let mut replicas = DataParallel::new(weights, kind, devices, &questions)?;
        if recipe.freeze_words {
            replicas.freeze_words();
        }
        let mut optimizer =
            Optimizer::new(recipe, &replicas.first().leaves.tensors, |name| replicas.first().is_new(name));
        let mut average = recipe.ema_decay.map(|decay| Average::new(decay, &replicas.first().leaves.tensors));
        let reader =
            replicas.first().tags().map(|tags| TagReader::new(tags.clone(), schema, Acceptance::new(schema, 0.0)));
        let lengths = train.examples.examples.iter().map(|example| example.query.len()).collect();
        let sampler = BatchSampler::new(lengths, recipe, devices.len());
        let steps = sampler.steps(recipe.max_epochs);
        let schedule = Schedule::new(recipe, steps.iter().sum())?;
        let position = match folder.position()? {
            Some(position) => {
                folder.load(&position, replicas.first_mut(), &mut optimizer, average.as_mut())?;
                // Fail now, not after the last step, if the best weights cannot be read.
                position.best.map_or(Ok(()), |(_, step)| folder.best(step, replicas.first()).map(drop))?;
                position
            }
            None => Position { fingerprint, ..Position::default() },
        };
        let history = History::open(&folder.file("metrics.jsonl"), position.step, position.unscored)?;
        let rule = LossRule::new(recipe);
        replicas.broadcast();
        Ok(Self {
            file,
            schema,
            train,
            dev,
            questions,
            word_dropout,
            replicas,
            optimizer,
            average,
            reader,
            sampler,
            steps,
            schedule,
            rule,
            folder,
            position,
            history,
            saved: Instant::now(),
        })
    }

    /// The number of steps of the whole training.
    pub fn total_steps(&self) -> usize {
        self.steps.iter().sum()
    }

    /// Trains to the last step, until early stopping, or until a signal.
    pub fn run(&mut self, screen: &mut Screen) -> Result<()> {
        let recipe = &self.file.recipe;
        let save_interval = Duration::try_from_secs_f64(self.file.output.save_minutes * 60.0).unwrap_or(Duration::MAX);
        let out_of_patience =
            |position: &Position| recipe.patience.is_some_and(|patience| position.without_better >= patience);
        if self.position.unscored {
            self.score(screen)?;
        }
        if out_of_patience(&self.position) {
            return Ok(());
        }
        let mut first = 0;
        for epoch in 0..recipe.max_epochs {
            let count = self.steps[epoch];
            if self.position.step >= first + count {
                first += count;
                continue;
            }
            let scored_after = scoring_steps(count, recipe.val_check_interval);
            for (index, batches) in self.sampler.epoch(epoch).into_iter().enumerate().skip(self.position.step - first) {
                let skipped_before = self.position.not_a_number;
                let figures = self.step(epoch, index, &batches)?;
                self.position.step += 1;
                self.position.seconds += figures.seconds;
                self.position.tokens += figures.tokens;
                self.history.step(figures)?;
                screen.step(&self.history, &self.position);
                if skipped_before == 0 && self.position.not_a_number > 0 {
                    let reason = not_finite(figures.step, figures.loss, figures.gradient_norm);
                    let note = format!("{reason}: such steps are skipped, and counted in the summary");
                    screen.note(&self.history, &self.position, &note);
                }
                self.position.unscored = scored_after.contains(&(index + 1));
                if self.position.unscored {
                    self.score(screen)?;
                    if out_of_patience(&self.position) {
                        let scorings = self.position.without_better;
                        let note = format!("no better F1 in {scorings} scorings: early stopping");
                        screen.note(&self.history, &self.position, &note);
                        return Ok(());
                    }
                } else if self.saved.elapsed() > save_interval {
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

    /// One step: every device processes its share of the batches, the gradients are averaged and the weights updated.
    fn step(&mut self, epoch: usize, index: usize, batches: &[Vec<usize>]) -> Result<StepFigures> {
        let started = Instant::now();
        let recipe = &self.file.recipe;
        let step = self.position.step;
        // Dropout depends only on the seed and the step, so a resumed training draws the same.
        let seed = Random::new(recipe.seed, 1 << 40 | step as u64).next();
        let own = self.replicas.first().dropout();
        let encoder = recipe.bert_dropout.map_or(own, |rate| DropoutRates { hidden: rate, attention: rate });
        let loss = (self.rule, Dropout { encoder, head: recipe.mrc_dropout });
        let (examples, devices) = (&self.train.examples.examples, self.replicas.count());
        let (asked, word_dropout) = ((self.schema.types.len(), self.reader.as_ref()), self.word_dropout);
        let shares = guarded(|| {
            tch::manual_seed(seed as i64);
            self.replicas.each(|number, network| {
                network.leaves.masks.reseed(seed, number);
                let own = batches.iter().skip(number).step_by(devices);
                // Another stream than that of dropout.
                let mut random = Random::new(seed, 1 << 40 | number as u64);
                let hide = |tensors: &mut BatchTensors| word_dropout.apply(tensors, &mut random);
                DeviceStep::of(network, examples, (own, batches.len()), asked, loss, hide)
            })
        })?;
        let mut all = DeviceStep::default();
        for share in &shares {
            all.add(share);
        }
        let (lr, momentum) = (self.schedule.rate(step), self.schedule.momentum(step));
        let gradient_norm = guarded(|| {
            self.replicas.reduce_gradients();
            let norm = self.optimizer.step(&mut self.replicas.first_mut().leaves.tensors, lr, momentum);
            if norm.is_finite() {
                if let Some(average) = &mut self.average {
                    average.add(&self.replicas.first().leaves.tensors, self.optimizer.steps);
                }
                self.replicas.broadcast();
                self.position.left_out_in_a_row = 0;
            } else {
                self.skip(step, all.loss, norm)?;
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

    /// Skips a step whose loss or gradient is not finite, or ends the training.
    fn skip(&mut self, step: usize, loss: f64, norm: f64) -> Result<()> {
        self.position.not_a_number += 1;
        self.position.left_out_in_a_row += 1;
        let (skip, in_a_row) = (self.file.recipe.not_a_number == OnProblem::Skip, self.position.left_out_in_a_row);
        if skip && in_a_row < MAX_SKIPPED_IN_A_ROW {
            return Ok(());
        }
        let figure = not_finite(step + 1, loss, norm);
        let reason = if skip { format!("{figure}, the last of {in_a_row} such steps in a row") } else { figure };
        Err(self.diverged(reason, !skip))
    }

    /// Fails if a weight is not finite, so that such weights are neither scored nor saved.
    pub(super) fn refuse_overflow(&self) -> Result<()> {
        guarded(|| self.replicas.first().overflowed())?.map_or(Ok(()), |name| {
            Err(self
                .diverged(format!("after step {} some values of `{name}` are not finite", self.position.step), false))
        })
    }

    /// The error of a training that diverged; `skip`: skipping steps can help.
    fn diverged(&self, reason: String, skip: bool) -> Error {
        // An unreadable checkpoint does not count.
        let saved = self.folder.position().is_ok_and(|position| position.is_some());
        diverged(reason, saved, skip)
    }

    /// Saves a checkpoint.
    pub(super) fn save(&mut self) -> Result<()> {
        self.refuse_overflow()?;
        guarded(|| self.folder.save(&self.position, self.replicas.first(), &self.optimizer, self.average.as_ref()))?;
        self.saved = Instant::now();
        Ok(())
    }
}
