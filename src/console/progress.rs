//! How far a run is. In: counts as they grow. Out: a bar on a terminal, a line every ten seconds elsewhere. It may not count anything
//! itself.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

use crate::console::amounts::{duration, thousands};
use crate::console::screen::{BAR, Style};

/// Where a run stands.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Progress {
    /// Documents done or refused.
    pub documents: u64,
    /// Documents there are, where that is known.
    pub total: Option<u64>,
    /// Mentions found.
    pub mentions: u64,
    /// Tokens answered, padding not counted.
    pub tokens: u64,
    /// Since the run began.
    pub elapsed: Duration,
}

impl Progress {
    fn rate(&self, count: u64) -> f64 {
        count as f64 / self.elapsed.as_secs_f64().max(1e-3)
    }

    fn left(&self) -> Option<Duration> {
        let (total, rate) = (self.total?, self.rate(self.documents));
        let rest = total.saturating_sub(self.documents) as f64;
        (rate > 0.0).then(|| Duration::from_secs_f64((rest / rate).min(1e9)))
    }
}

/// Shows how far a run is; one per run.
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

    /// Redraws the bar, or says a line every ten seconds.
    pub fn show(&mut self, progress: &Progress) {
        let Progress { documents, mentions, tokens, elapsed, .. } = *progress;
        if self.style == Style::Terminal {
            if let Some(bar) = BAR.get() {
                let left = progress.left().map_or_else(String::new, |left| format!(", {} left", duration(left)));
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
            let left = progress.left().map(|left| left.as_secs());
            tracing::info!(
                documents,
                total = progress.total,
                mentions,
                tokens_per_second = progress.rate(tokens) as u64,
                seconds_left = left,
                "extracting"
            );
        }
    }

    /// Takes the bar off the screen.
    pub fn finish(&self) {
        if let (Style::Terminal, Some(bar)) = (self.style, BAR.get()) {
            bar.finish_and_clear();
        }
    }
}
