//! Training progress. In: history and position. Out: a dashboard on a terminal, log lines elsewhere. It must not compute metrics.

use std::time::{Duration, Instant};

use crate::console::{Style, duration};
use crate::train::display::dashboard::Dashboard;
use crate::train::display::glance::Glance;
use crate::train::display::history::History;
use crate::train::state::checkpoint::Position;
use crate::train::state::signals;

/// The shortest interval between log lines.
const LOG_INTERVAL: Duration = Duration::from_secs(10);

/// The shortest interval between frames of the dashboard.
const FRAME_INTERVAL: Duration = Duration::from_millis(250);

/// The display of a training.
pub struct Screen {
    dashboard: Option<Dashboard>,
    steps: usize,
    updated: Option<Instant>,
}

impl Screen {
    /// A screen in the given style for a training of `steps` steps.
    pub fn new(style: Style, steps: usize, title: &str) -> Self {
        let dashboard = if style == Style::Terminal { Dashboard::start(steps, title) } else { None };
        Self { dashboard, steps, updated: None }
    }

    /// Updates the display after a step.
    pub fn step(&mut self, history: &History, position: &Position) {
        let interval = if self.dashboard.is_some() { FRAME_INTERVAL } else { LOG_INTERVAL };
        if self.updated.is_some_and(|updated| updated.elapsed() < interval) {
            return;
        }
        self.updated = Some(Instant::now());
        let glance = Glance::at(history, position, self.steps);
        if let Some(dashboard) = &mut self.dashboard {
            dashboard.draw(
                history,
                &glance,
                if signals::check().is_ok() { "training" } else { "stopping: saving a checkpoint" },
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

    /// Updates the display before dev is scored.
    pub fn scoring(&mut self, history: &History, position: &Position) {
        let glance = Glance::at(history, position, self.steps);
        if let Some(dashboard) = &mut self.dashboard {
            dashboard.draw(history, &glance, "scoring dev");
        }
    }

    /// Updates the display after dev was scored.
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

    /// Shows a note.
    pub fn note(&mut self, history: &History, position: &Position, text: &str) {
        if let Some(dashboard) = &mut self.dashboard {
            dashboard.note(text);
            dashboard.draw(history, &Glance::at(history, position, self.steps), "training");
        } else {
            tracing::info!("{text}");
        }
    }
}
