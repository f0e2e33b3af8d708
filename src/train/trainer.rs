//! The training loop. In: a network, examples, a recipe. Out: better weights, the best of them kept, every step's figures. It may not
//! read settings or print: what is to be seen goes to the [`Screen`].

use std::time::{Duration, Instant};

use tch::{Device, Kind, Tensor};

use super::cut::Data;
use super::dev::{Quality, score};
use super::examples::batch;
use super::failure::guarded;
use super::file::TrainFile;
use super::history::{History, Scoring, StepFigures};
use super::loss::LossRule;
use super::network::{Dropout, Inputs, Network, torch};
use super::optimizer::Optimizer;
use super::plan::{Plan, scorings};
use super::recipe::{OnProblem, Precision};
use super::replicas::Replicas;
use super::schedule::Schedule;
use super::screen::Screen;
use super::state::{Position, TrainingFolder};
use super::stop;
use crate::error::{Error, Result};
use crate::model::config::BertConfig;
use crate::model::weights::Weights;
use crate::mrc::query::EntitySchema;
use crate::mrc::random::Random;

/// A F1 is better than another by more than what writing it down may change.
const BETTER: f64 = 1e-12;

/// A training that can go on.
pub struct Trainer<'a> {
    file: &'a TrainFile,
    schema: &'a EntitySchema,
    train: &'a Data,
    dev: &'a Data,
    replicas: Replicas,
    optimizer: Optimizer,
    plan: Plan,
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

/// What one device made of its batches: gradients are in its leaves.
#[derive(Debug, Clone, Copy, Default)]
struct Share {
    loss: f64,
    parts: [f64; 3],
    candidates: i64,
    tokens: u64,
    padded: u64,
}

impl<'a> Trainer<'a> {
    /// A training from `weights`, or from where an earlier one with the same fingerprint was stopped.
    pub fn new(
        file: &'a TrainFile,
        schema: &'a EntitySchema,
        (train, dev): (&'a Data, &'a Data),
        (weights, config): (&Weights, &BertConfig),
        devices: &[Device],
        (folder, fingerprint): (TrainingFolder, String),
    ) -> Result<Self> {
        let recipe = &file.recipe;
        let kind = match recipe.precision {
            Precision::Fp32 => Kind::Float,
            Precision::Bf16 => Kind::BFloat16,
        };
        let mut replicas = Replicas::new(weights, config, kind, devices);
        let mut optimizer = Optimizer::new(recipe, &replicas.first().leaves);
        let lengths = train.examples.examples.iter().map(|example| example.query.len()).collect();
        let plan = Plan::new(lengths, recipe, devices.len());
        let steps = plan.steps(recipe.max_epochs);
        let schedule = Schedule::new(recipe, steps.iter().sum());
        let position = match folder.position()? {
            Some(position) => {
                folder.load(&position, replicas.first_mut(), &mut optimizer)?;
                position
            }
            None => Position { fingerprint, ..Position::default() },
        };
        let history = History::open(&folder.file("metrics.jsonl"), position.step)?;
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
                let figures = self.step(epoch, index, &batches)?;
                self.position.step += 1;
                self.position.seconds += figures.seconds;
                self.position.tokens += figures.tokens;
                self.history.step(figures)?;
                screen.step(&self.history, &self.position);
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
                if let Err(stopped) = stop::check() {
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
        let rule = self.rule;
        let dropout = Dropout { encoder: recipe.bert_dropout, head: recipe.mrc_dropout };
        let (examples, devices) = (&self.train.examples.examples, self.replicas.count());
        let work = |number: usize, network: &Network| -> Result<Share> {
            let mut share = Share::default();
            let mut sums: Option<Tensor> = None;
            for numbers in batches.iter().skip(number).step_by(devices) {
                let (queries, targets) = batch(examples, numbers);
                let inputs = Inputs::new(&queries.inputs(), network.device());
                let loss = rule.loss(network, &inputs, &targets, dropout);
                (&loss.total / batches.len() as f64).backward();
                let [start, end, span] = &loss.parts;
                let values = Tensor::stack(&[&loss.total.detach(), start, end, span], 0);
                sums = Some(sums.map_or_else(|| values.shallow_clone(), |sums| sums + &values));
                share.candidates += loss.candidates;
                share.tokens += queries.real_tokens() as u64;
                share.padded += queries.padded_tokens() as u64;
            }
            // Read once a step: a card would be waited for each time.
            if let Some(sums) = sums {
                let means = Vec::<f64>::try_from(&(sums.to_kind(Kind::Double) / batches.len() as f64));
                if let [loss, start, end, span] = *means.map_err(torch("read the loss"))? {
                    (share.loss, share.parts) = (loss, [start, end, span]);
                }
            }
            Ok(share)
        };
        let shares = guarded(|| {
            tch::manual_seed(seed as i64);
            self.replicas.each(work)
        })?;
        let mut all = Share::default();
        for share in shares {
            all.loss += share.loss;
            all.candidates += share.candidates;
            all.tokens += share.tokens;
            all.padded += share.padded;
            for (sum, part) in all.parts.iter_mut().zip(share.parts) {
                *sum += part;
            }
        }
        let (lr, momentum) = (self.schedule.rate(step), self.schedule.momentum(step));
        let gradient_norm = guarded(|| {
            self.replicas.gather();
            let norm = self.optimizer.step(&mut self.replicas.first_mut().leaves, lr, momentum);
            if norm.is_finite() {
                self.replicas.spread();
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
        if self.file.recipe.not_a_number == OnProblem::Skip {
            return Ok(());
        }
        let (what, value) = if loss.is_finite() { ("gradient's norm", norm) } else { ("loss", loss) };
        let kept = if self.folder.position()?.is_some() { "the last saved state is kept; " } else { "" };
        Err(Error::Training {
            reason: format!("the {what} of step {} is {value}", step + 1),
            hint: format!(
                "{kept}leave such steps out with not_a_number = \"skip\", or begin anew (--restart) with a smaller lr, warmup_steps or gradient_clip_val = 1.0"
            ),
        })
    }

    /// Scores dev, keeps the weights where they are the best so far, and saves. A signal meanwhile saves at once; the training that goes
    /// on begins with this scoring.
    fn score(&mut self, screen: &mut Screen) -> Result<()> {
        let started = Instant::now();
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
            self.folder.keep_best(self.position.step, &self.replicas.first().weights()?)?;
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
        self.folder.save(&self.position, self.replicas.first(), &self.optimizer)?;
        self.saved = Instant::now();
        Ok(())
    }

    /// The best weights, scored on a split. What was trained is let go first: nothing goes on after this.
    pub fn best(&mut self, data: Option<&Data>, config: &BertConfig) -> Result<(Weights, Option<Quality>)> {
        let step = self.position.best.map_or(0, |(_, step)| step);
        let weights = self.folder.best(step, &mut config.clone())?;
        let Some(data) = data else { return Ok((weights, None)) };
        let device = self.replicas.first().device();
        self.replicas.let_go();
        self.optimizer.first.clear();
        self.optimizer.second.clear();
        let network = Network::new(&weights, config, Kind::Float, device);
        let quality = guarded(|| score(&network, &data.split, &data.examples.examples, self.schema))?;
        Ok((weights, Some(quality)))
    }
}
