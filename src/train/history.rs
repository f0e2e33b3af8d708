//! What a training has been through. In: figures of steps and scorings. Out: lines of `metrics.jsonl`, the series that dashboard and
//! curves draw. It may not draw.

use std::io::Write;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::model::directory::write_whole;

/// The figures of one step.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct StepFigures {
    /// Steps taken, this one included.
    pub step: usize,
    /// Epochs gone through, with the part of this one.
    pub epoch: f64,
    /// The weighted loss.
    pub loss: f64,
    /// The start loss.
    pub start_loss: f64,
    /// The end loss.
    pub end_loss: f64,
    /// The match loss.
    pub match_loss: f64,
    /// The learning rate.
    pub lr: f64,
    /// The gradient's norm before it was clipped.
    pub gradient_norm: f64,
    /// Pairs the match loss looked at.
    pub candidates: i64,
    /// Tokens, padding not counted.
    pub tokens: u64,
    /// Tokens, padding counted.
    pub padded_tokens: u64,
    /// How long it took.
    pub seconds: f64,
}

/// A scoring of dev.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Scoring {
    /// Steps taken.
    pub step: usize,
    /// On dev.
    pub precision: f64,
    /// On dev.
    pub recall: f64,
    /// On dev.
    pub f1: f64,
    /// Whether it was the best so far.
    pub best: bool,
    /// How long it took.
    pub seconds: f64,
}

/// A line of `metrics.jsonl`.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
enum Line {
    Step(StepFigures),
    Scoring(Scoring),
}

/// All figures so far, and the file they are written to.
#[derive(Debug)]
pub struct History {
    path: PathBuf,
    file: std::fs::File,
    /// In the order of steps.
    pub steps: Vec<StepFigures>,
    /// In the order of steps.
    pub scorings: Vec<Scoring>,
}

impl History {
    /// Takes up the figures of the first `step` steps in `path`; later ones are of a training that was killed and are dropped.
    pub fn open(path: &Path, step: usize) -> Result<Self> {
        let read = |source: std::io::Error| Error::Read { path: path.to_owned(), source: source.into() };
        let old = match std::fs::read_to_string(path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => String::new(),
            text => text.map_err(read)?,
        };
        // A line that was cut short by a kill is not a figure.
        let lines = old.lines().filter_map(|line| serde_json::from_str::<Line>(line).ok());
        let kept: Vec<Line> = lines
            .filter(|line| match line {
                Line::Step(figures) => figures.step <= step,
                Line::Scoring(scoring) => scoring.step <= step,
            })
            .collect();
        let text = kept.iter().map(|line| encode(path, line)).collect::<Result<String>>()?;
        write_whole(path, text.as_bytes())?;
        let write = |source: std::io::Error| Error::Write { path: path.to_owned(), source: source.into() };
        let file = std::fs::OpenOptions::new().append(true).open(path).map_err(write)?;
        let mut opened = Self { path: path.to_owned(), file, steps: Vec::new(), scorings: Vec::new() };
        for line in kept {
            opened.take(line);
        }
        Ok(opened)
    }

    /// Adds a step.
    pub fn step(&mut self, figures: StepFigures) -> Result<()> {
        self.add(Line::Step(figures))
    }

    /// Adds a scoring.
    pub fn scoring(&mut self, scoring: Scoring) -> Result<()> {
        self.add(Line::Scoring(scoring))
    }

    fn add(&mut self, line: Line) -> Result<()> {
        let text = encode(&self.path, &line)?;
        let failed = |source: std::io::Error| Error::Write { path: self.path.clone(), source: source.into() };
        self.file.write_all(text.as_bytes()).map_err(failed)?;
        self.take(line);
        Ok(())
    }

    fn take(&mut self, line: Line) {
        match line {
            Line::Step(figures) => self.steps.push(figures),
            Line::Scoring(scoring) => self.scorings.push(scoring),
        }
    }

    /// The best scoring.
    pub fn best(&self) -> Option<Scoring> {
        self.scorings.iter().copied().rfind(|scoring| scoring.best)
    }

    /// Tokens a second, padding not counted, over the last steps that took about a minute.
    pub fn tokens_per_second(&self) -> f64 {
        let (mut tokens, mut seconds) = (0, 0.0);
        for figures in self.steps.iter().rev() {
            tokens += figures.tokens;
            seconds += figures.seconds;
            if seconds > 60.0 {
                break;
            }
        }
        tokens as f64 / f64::max(seconds, 1e-9)
    }

    /// The loss over steps, each point the mean of as many steps as keep the curve below `points` points.
    pub fn loss_curve(&self, points: usize) -> Vec<(f64, f64)> {
        let together = self.steps.len().div_ceil(points.max(1)).max(1);
        let mean = |steps: &[StepFigures]| {
            let loss = steps.iter().map(|figures| figures.loss).sum::<f64>() / steps.len() as f64;
            (steps[steps.len() - 1].step as f64, loss)
        };
        self.steps.chunks(together).map(mean).collect()
    }

    /// F1 on dev over steps.
    pub fn f1_curve(&self) -> Vec<(f64, f64)> {
        self.scorings.iter().map(|scoring| (scoring.step as f64, scoring.f1)).collect()
    }
}

/// A line of `metrics.jsonl`.
fn encode(path: &Path, line: &Line) -> Result<String> {
    let failed = |source: serde_json::Error| Error::Write { path: path.to_owned(), source: source.into() };
    serde_json::to_string(line).map(|text| text + "\n").map_err(failed)
}
