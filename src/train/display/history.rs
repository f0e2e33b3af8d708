//! Training metrics. In: figures of steps and scorings. Out: lines of `metrics.jsonl`, and the series for dashboard and curves. It must
//! not draw.

use std::io::Write;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Deserializer, Serialize};

use crate::error::{Error, Result};
use crate::machine::files::write_whole;

/// The figures of one step.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct StepFigures {
    /// Steps taken, this one included.
    pub step: usize,
    /// Epochs done, including the fraction of the current one.
    pub epoch: f64,
    /// The weighted loss.
    #[serde(deserialize_with = "number")]
    pub loss: f64,
    /// The start loss.
    #[serde(deserialize_with = "number")]
    pub start_loss: f64,
    /// The end loss.
    #[serde(deserialize_with = "number")]
    pub end_loss: f64,
    /// The match loss.
    #[serde(deserialize_with = "number")]
    pub match_loss: f64,
    /// The learning rate.
    pub lr: f64,
    /// The gradient's norm before clipping.
    #[serde(deserialize_with = "number")]
    pub gradient_norm: f64,
    /// Pairs in the match loss.
    pub candidates: i64,
    /// Tokens without padding.
    pub tokens: u64,
    /// Tokens with padding.
    pub padded_tokens: u64,
    /// Its duration.
    pub seconds: f64,
}

/// Reads `null` as NaN, since JSON has no NaN and no infinity.
fn number<'de, D: Deserializer<'de>>(deserializer: D) -> Result<f64, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or(f64::NAN))
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
    /// Its duration.
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
    /// Opens `path` and keeps the figures of the first `step` steps, without the last one's scoring if that is still to come (`unscored`).
    /// Later figures were written by a killed training after its last checkpoint and are dropped.
    pub fn open(path: &Path, step: usize, unscored: bool) -> Result<Self> {
        let read = |source: std::io::Error| Error::Read { path: path.to_owned(), source: source.into() };
        let old = match std::fs::read_to_string(path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => String::new(),
            text => text.map_err(read)?,
        };
        // A line truncated by a kill is ignored.
        let lines = old.lines().filter_map(|line| serde_json::from_str::<Line>(line).ok());
        let kept: Vec<Line> = lines
            .filter(|line| match line {
                Line::Step(figures) => figures.step <= step,
                Line::Scoring(scoring) => scoring.step < step + usize::from(!unscored),
            })
            .collect();
        let text = kept.iter().map(|line| encode(path, line)).collect::<Result<String>>()?;
        write_whole(path, text.as_bytes())?;
        let write = |source: std::io::Error| Error::Write { path: path.to_owned(), source: source.into() };
        let file = std::fs::OpenOptions::new().append(true).open(path).map_err(write)?;
        let mut opened = Self { path: path.to_owned(), file, steps: Vec::new(), scorings: Vec::new() };
        for line in kept {
            opened.push(line);
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
        self.push(line);
        Ok(())
    }

    fn push(&mut self, line: Line) {
        match line {
            Line::Step(figures) => self.steps.push(figures),
            Line::Scoring(scoring) => self.scorings.push(scoring),
        }
    }

    /// The best scoring.
    pub fn best(&self) -> Option<Scoring> {
        self.scorings.iter().copied().rfind(|scoring| scoring.best)
    }

    /// Tokens per second without padding, over the last minute of steps.
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

    /// Seconds per step, including its share of the scorings. It uses the medians of the last steps and of the scorings, so that a time in
    /// which the process or the machine was suspended does not count.
    pub fn seconds_per_step(&self) -> Option<f64> {
        let last = &self.steps[self.steps.len().saturating_sub(100)..];
        let step = median(last.iter().map(|figures| figures.seconds))?;
        let scoring = median(self.scorings.iter().map(|scoring| scoring.seconds)).unwrap_or(0.0);
        Some(step + scoring * self.scorings.len() as f64 / self.steps.len() as f64)
    }

    /// The loss over steps, in at most `points` points that are means of consecutive steps. Losses that are not finite are excluded.
    pub fn loss_curve(&self, points: usize) -> Vec<(f64, f64)> {
        let steps_per_point = self.steps.len().div_ceil(points.max(1)).max(1);
        let mean = |steps: &[StepFigures]| {
            let finite: Vec<f64> = steps.iter().map(|figures| figures.loss).filter(|loss| loss.is_finite()).collect();
            let loss = finite.iter().sum::<f64>() / finite.len() as f64;
            (!finite.is_empty()).then(|| (steps[steps.len() - 1].step as f64, loss))
        };
        self.steps.chunks(steps_per_point).filter_map(mean).collect()
    }

    /// F1 on dev over steps.
    pub fn f1_curve(&self) -> Vec<(f64, f64)> {
        self.scorings.iter().map(|scoring| (scoring.step as f64, scoring.f1)).collect()
    }
}

/// The median, the upper one of two; `None` if there are no values.
fn median(values: impl Iterator<Item = f64>) -> Option<f64> {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied()
}

/// A line of `metrics.jsonl`.
fn encode(path: &Path, line: &Line) -> Result<String> {
    let failed = |source: serde_json::Error| Error::Write { path: path.to_owned(), source: source.into() };
    serde_json::to_string(line).map(|text| text + "\n").map_err(failed)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A history of four steps whose loss halves each time and two scorings, with its temporary folder.
    pub(in crate::train) fn trained() -> (tempfile::TempDir, History) {
        let folder = tempfile::tempdir().unwrap();
        let mut history = History::open(&folder.path().join("metrics.jsonl"), 0, false).unwrap();
        for step in 1..=4 {
            history
                .step(StepFigures { loss: 2.0 / f64::from(1 << (step - 1)), ..figures(step as usize, 1.0) })
                .unwrap();
        }
        for (step, f1) in [(2, 0.5), (4, 0.75)] {
            history.scoring(Scoring { step, precision: f1, recall: f1, f1, best: true, seconds: 1.0 }).unwrap();
        }
        (folder, history)
    }

    #[test]
    fn an_hour_of_suspension_does_not_count() {
        let folder = tempfile::tempdir().unwrap();
        let mut history = History::open(&folder.path().join("metrics.jsonl"), 0, false).unwrap();
        assert_eq!(history.seconds_per_step(), None);
        for step in 1..=20 {
            let seconds = if step == 7 { 3600.0 } else { 2.0 };
            history.step(figures(step, seconds)).unwrap();
        }
        assert_eq!(history.seconds_per_step(), Some(2.0));
        let (precision, recall, f1) = (0.5, 0.5, 0.5);
        history.scoring(Scoring { step: 20, precision, recall, f1, best: true, seconds: 10.0 }).unwrap();
        assert_eq!(history.seconds_per_step(), Some(2.5));
    }

    #[test]
    fn a_nan_loss_is_read_back_and_not_drawn() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("metrics.jsonl");
        let mut history = History::open(&path, 0, false).unwrap();
        history.step(StepFigures { loss: f64::NAN, gradient_norm: f64::INFINITY, ..figures(1, 1.0) }).unwrap();
        history.step(figures(2, 1.0)).unwrap();
        let again = History::open(&path, 2, false).unwrap();
        assert_eq!(again.steps.len(), 2);
        assert!(again.steps[0].loss.is_nan());
        assert_eq!(again.loss_curve(10), [(2.0, 1.0)]);
    }

    fn figures(step: usize, seconds: f64) -> StepFigures {
        StepFigures {
            step,
            epoch: 0.0,
            loss: 1.0,
            start_loss: 1.0,
            end_loss: 1.0,
            match_loss: 1.0,
            lr: 1e-3,
            gradient_norm: 1.0,
            candidates: 1,
            tokens: 1,
            padded_tokens: 1,
            seconds,
        }
    }
}
