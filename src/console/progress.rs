//! Progress of a run. In: current counts. Out: a progress bar on a terminal, a log line every ten seconds elsewhere. It must not count
//! anything itself.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

use crate::console::amounts::{duration, thousands};
use crate::console::screen::{BAR, Style};

/// The progress of a run.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Progress {
    /// Documents extracted or rejected.
    pub documents: u64,
    /// Total number of documents, if known.
    pub total: Option<u64>,
    /// Mentions found.
    pub mentions: u64,
    /// Tokens the model processed, without padding.
    pub tokens: u64,
    /// Time since the run started.
    pub elapsed: Duration,
}

impl Progress {
    fn rate(&self, count: u64) -> f64 {
        count as f64 / self.elapsed.as_secs_f64().max(1e-3)
    }

    fn remaining(&self) -> Option<Duration> {
        let (total, rate) = (self.total?, self.rate(self.documents));
        let remaining = total.saturating_sub(self.documents) as f64;
        (rate > 0.0).then(|| Duration::from_secs_f64((remaining / rate).min(1e9)))
    }
}

/// Shows the progress of a run; one per run.
pub struct ProgressDisplay {
    style: Style,
    last_line: Duration,
}

impl ProgressDisplay {
    /// A display in the given style.
    pub fn new(style: Style, total: Option<u64>) -> Self {
        if style == Style::Terminal {
            let bar = BAR.get_or_init(|| ProgressBar::new(total.unwrap_or(0)));
            let template = if total.is_some() { "{bar:30.cyan/dim} {percent:>3}% {msg}" } else { "{spinner} {msg}" };
            if let Ok(style) = ProgressStyle::with_template(template) {
                bar.set_style(style);
            }
        }
        Self { style, last_line: Duration::ZERO }
    }

    /// Redraws the bar, or logs a line every ten seconds.
    pub fn show(&mut self, progress: &Progress) {
        let Progress { documents, mentions, tokens, elapsed, .. } = *progress;
        if self.style == Style::Terminal {
            if let Some(bar) = BAR.get() {
                let left = progress.remaining().map_or_else(String::new, |left| format!(", {} left", duration(left)));
                bar.set_position(documents);
                bar.set_message(format!(
                    "{} documents, {} mentions, {:.0} documents/s, {:.0} tokens/s{left}",
                    thousands(documents),
                    thousands(mentions),
                    progress.rate(documents),
                    progress.rate(tokens)
                ));
                bar.tick();
            }
        } else if elapsed >= self.last_line + Duration::from_secs(10) {
            self.last_line = elapsed;
            let seconds_left = progress.remaining().map(|remaining| remaining.as_secs());
            tracing::info!(
                documents,
                total = progress.total,
                mentions,
                tokens_per_second = progress.rate(tokens) as u64,
                seconds_left,
                "extracting"
            );
        }
    }

    /// Removes the bar from the screen.
    pub fn finish(&self) {
        if let (Style::Terminal, Some(bar)) = (self.style, BAR.get()) {
            bar.finish_and_clear();
        }
    }
}
