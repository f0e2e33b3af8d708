//! What a training shows. In: history and position. Out: a dashboard on a terminal, lines elsewhere. It may not compute figures.

use std::time::{Duration, Instant};

use super::dashboard::Dashboard;
use super::history::History;
use super::state::Position;
use super::stop;
use crate::console::{self, Style, duration};

/// Lines come at most this often.
const EVERY: Duration = Duration::from_secs(10);

/// Where a training is shown.
pub struct Screen {
    dashboard: Option<Dashboard>,
    steps: usize,
    said: Option<Instant>,
}

/// What is worth knowing at a glance.
pub(super) struct Glance {
    /// Of the steps, in 0..=1.
    pub(super) share: f64,
    /// Until the last step, scorings counted.
    pub(super) left: Option<Duration>,
    /// The resident memory of this process in bytes.
    pub(super) memory: u64,
}

impl Glance {
    /// At a training of `steps` steps.
    pub(super) fn at(history: &History, position: &Position, steps: usize) -> Self {
        let rest = steps.saturating_sub(position.step) as f64;
        Self {
            share: position.step as f64 / steps.max(1) as f64,
            left: history.seconds_per_step().map(|seconds| Duration::from_secs_f64((seconds * rest).min(1e9))),
            memory: resident_memory(),
        }
    }
}

/// Resident pages of this process in bytes, 0 where the system does not say. `sysinfo` would raise the limit of open files to ask for it.
fn resident_memory() -> u64 {
    let pages = std::fs::read_to_string("/proc/self/statm").ok();
    let pages = pages.and_then(|text| text.split_whitespace().nth(1).and_then(|pages| pages.parse::<u64>().ok()));
    pages.unwrap_or(0) * 4096
}

impl Screen {
    /// A screen in the given style for a training of `steps` steps.
    pub fn new(style: Style, steps: usize, title: &str) -> Self {
        let dashboard = if style == Style::Terminal { Dashboard::start(steps, title) } else { None };
        Self { dashboard, steps, said: None }
    }

    /// After a step.
    pub fn step(&mut self, history: &History, position: &Position) {
        if self.said.is_some_and(|said| said.elapsed() < if self.dashboard.is_some() { EVERY / 40 } else { EVERY }) {
            return;
        }
        self.said = Some(Instant::now());
        let glance = Glance::at(history, position, self.steps);
        if let Some(dashboard) = &mut self.dashboard {
            dashboard.draw(
                history,
                &glance,
                if stop::check().is_ok() { "training" } else { "saving the state, to stop" },
            );
        } else if let Some(figures) = history.steps.last() {
            tracing::info!(
                step = figures.step,
                of = self.steps,
                epoch = format!("{:.2}", figures.epoch),
                loss = format!("{:.5}", figures.loss),
                lr = format!("{:.2e}", figures.lr),
                tokens_per_second = history.tokens_per_second() as u64,
                megabytes = glance.memory >> 20,
                left = glance.left.map(duration),
                "training"
            );
        }
    }

    /// Before dev is scored.
    pub fn scoring(&mut self, history: &History, position: &Position) {
        let glance = Glance::at(history, position, self.steps);
        if let Some(dashboard) = &mut self.dashboard {
            dashboard.draw(history, &glance, "scoring dev");
        }
    }

    /// After dev was scored.
    pub fn scored(&mut self, history: &History, position: &Position) {
        let glance = Glance::at(history, position, self.steps);
        if let Some(dashboard) = &mut self.dashboard {
            dashboard.draw(history, &glance, "training");
        } else if let Some(scoring) = history.scorings.last() {
            tracing::info!(
                step = scoring.step,
                precision = format!("{:.4}", scoring.precision),
                recall = format!("{:.4}", scoring.recall),
                f1 = format!("{:.4}", scoring.f1),
                best = scoring.best,
                "dev"
            );
        }
    }

    /// Says something in passing.
    pub fn note(&mut self, history: &History, position: &Position, text: &str) {
        match &mut self.dashboard {
            Some(dashboard) => {
                dashboard.note(text);
                dashboard.draw(history, &Glance::at(history, position, self.steps), "training");
            }
            None => console::note(text),
        }
    }
}
