//! The training dashboard. In: history and progress. Out: curves and metrics in the last lines of a terminal, which remain there when
//! the training ends. It must not influence the training.

use std::io::{Stderr, Write};

use ratatui::backend::CrosstermBackend;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style};
use ratatui::symbols::Marker;
use ratatui::text::{Line, Span};
use ratatui::widgets::{Axis, Block, Chart, Dataset, Gauge, GraphType, Paragraph};
use ratatui::{Frame, Terminal, TerminalOptions, Viewport};

use crate::console::duration;
use crate::train::display::glance::Glance;
use crate::train::display::history::History;

const HEIGHT: u16 = 18;
const LOSS: Color = Color::Cyan;
const F1: Color = Color::Yellow;

/// A dashboard on standard error.
pub(crate) struct Dashboard {
    terminal: Terminal<CrosstermBackend<Stderr>>,
    steps: usize,
    title: String,
    note: String,
}

impl Dashboard {
    /// Opens the dashboard in the terminal's last lines; `None` if the terminal does not support it.
    pub(crate) fn start(steps: usize, title: &str) -> Option<Self> {
        let options = TerminalOptions { viewport: Viewport::Inline(HEIGHT) };
        let terminal = Terminal::with_options(CrosstermBackend::new(std::io::stderr()), options).ok()?;
        Some(Self { terminal, steps, title: title.to_owned(), note: String::new() })
    }

    /// Shows a note until the next one.
    pub(crate) fn note(&mut self, text: &str) {
        text.clone_into(&mut self.note);
    }

    /// Redraws everything.
    pub(crate) fn draw(&mut self, history: &History, glance: &Glance, activity: &str) {
        let Self { terminal, steps, title, note } = self;
        // A terminal that fails to draw must not stop the training.
        let _ = terminal.draw(|frame| paint(frame, history, glance, *steps, heading(title, activity, note)));
    }
}

impl Drop for Dashboard {
    /// Keeps the last frame, and moves the cursor below it for further output.
    fn drop(&mut self) {
        let last = self.terminal.get_frame().area().bottom().saturating_sub(1);
        let _ = self.terminal.set_cursor_position((0, last));
        let _ = writeln!(self.terminal.backend_mut());
    }
}

fn paint(frame: &mut Frame<'_>, history: &History, glance: &Glance, steps: usize, heading: Line<'_>) {
    let rows =
        Layout::vertical([Constraint::Length(1), Constraint::Min(8), Constraint::Length(3), Constraint::Length(1)]);
    let [head, curves, figures, bar] = rows.areas(frame.area());
    frame.render_widget(heading, head);
    let [left, right] = Layout::horizontal([Constraint::Percentage(50), Constraint::Percentage(50)]).areas(curves);
    let width = usize::from(left.width.max(20)) * 2;
    let loss = history.loss_curve(width);
    let highest = loss.iter().map(|point| point.1).fold(1e-3, f64::max);
    curve(frame, left, " loss ", &loss, (steps as f64, highest), LOSS);
    curve(frame, right, " F1 on dev ", &history.f1_curve(), (steps as f64, 1.0), F1);
    frame.render_widget(Paragraph::new(lines(history, glance)), figures);
    let label = glance.left.map_or_else(String::new, |left| format!("{} left", duration(left)));
    let gauge = Gauge::default().ratio(glance.share.clamp(0.0, 1.0)).label(label).gauge_style(Style::new().fg(LOSS));
    frame.render_widget(gauge, bar);
}

fn heading<'a>(title: &'a str, activity: &'a str, note: &'a str) -> Line<'a> {
    Line::from(vec![
        Span::styled(title, Style::new().add_modifier(Modifier::BOLD)),
        Span::raw("  "),
        Span::styled(activity, Style::new().fg(Color::Green)),
        Span::raw("  "),
        Span::styled(note, Style::new().fg(Color::DarkGray)),
    ])
}

fn curve(
    frame: &mut Frame<'_>,
    area: Rect,
    title: &str,
    points: &[(f64, f64)],
    (steps, highest): (f64, f64),
    color: Color,
) {
    let data = Dataset::default()
        .marker(Marker::Braille)
        .graph_type(GraphType::Line)
        .style(Style::new().fg(color))
        .data(points);
    let label = |value: f64| if highest >= 0.1 { format!("{value:.2}") } else { format!("{value:.4}") };
    let dim = Style::new().fg(Color::DarkGray);
    let chart = Chart::new(vec![data])
        .block(Block::bordered().title(title.to_owned()).border_style(dim))
        .x_axis(
            Axis::default().bounds([0.0, steps.max(1.0)]).labels(["0".to_owned(), format!("{steps:.0}")]).style(dim),
        )
        .y_axis(Axis::default().bounds([0.0, highest]).labels([label(0.0), label(highest)]).style(dim));
    frame.render_widget(chart, area);
}

fn lines<'a>(history: &History, glance: &Glance) -> Vec<Line<'a>> {
    let Some(last) = history.steps.last() else { return Vec::new() };
    let figure = |name: &str, value: String| {
        [Span::styled(format!("{name} "), Style::new().fg(Color::DarkGray)), Span::raw(format!("{value}   "))]
    };
    let best =
        history.best().map_or_else(|| "none yet".to_owned(), |best| format!("{:.4} at step {}", best.f1, best.step));
    let padding = 1.0 - last.tokens as f64 / last.padded_tokens.max(1) as f64;
    [
        vec![
            figure("step", last.step.to_string()),
            figure("epoch", format!("{:.2}", last.epoch)),
            figure("learning rate", format!("{:.2e}", last.lr)),
            figure("gradient", format!("{:.2}", last.gradient_norm)),
        ],
        vec![
            figure("loss", format!("{:.4}", last.loss)),
            figure("start", format!("{:.4}", last.start_loss)),
            figure("end", format!("{:.4}", last.end_loss)),
            figure("match", format!("{:.4}", last.match_loss)),
            figure("candidates", last.candidates.to_string()),
        ],
        vec![
            figure("best F1", best),
            figure("tokens/s", format!("{:.0}", history.tokens_per_second())),
            figure("padding", format!("{:.1} %", padding * 100.0)),
            figure("memory", format!("{:.2} GB", glance.memory as f64 / 1e9)),
        ],
    ]
    .into_iter()
    .map(|line| Line::from(line.into_iter().flatten().collect::<Vec<_>>()))
    .collect()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use ratatui::backend::TestBackend;

    use super::*;
    use crate::train::display::history::tests::trained;

    #[test]
    fn the_dashboard_shows_metrics_and_curves() {
        let (_folder, history) = trained();
        let glance = Glance { share: 0.5, left: Some(Duration::from_secs(65)), memory: 1_500_000_000 };
        let mut terminal = Terminal::new(TestBackend::new(100, HEIGHT)).unwrap();
        terminal
            .draw(|frame| paint(frame, &history, &glance, 8, heading("models/mine", "training", "a note")))
            .unwrap();
        let cells = terminal.backend().buffer().content().iter().map(ratatui::buffer::Cell::symbol);
        let screen: Vec<String> = cells.collect::<Vec<_>>().chunks(100).map(<[&str]>::concat).collect();
        assert!(screen[0].starts_with("models/mine  training  a note"), "{screen:#?}");
        let all = screen.join("\n");
        for word in [
            " loss ",
            " F1 on dev ",
            "step 4",
            "loss 0.2500",
            "best F1 0.7500 at step 4",
            "memory 1.50 GB",
            "1 min 5 s left",
        ] {
            assert!(all.contains(word), "{word}: {screen:#?}");
        }
        let drawn = |columns: std::ops::Range<usize>| {
            screen[2..13].iter().any(|line| {
                line.chars()
                    .skip(columns.start)
                    .take(columns.len())
                    .any(|sign| ('\u{2801}'..='\u{28ff}').contains(&sign))
            })
        };
        assert!(drawn(0..50) && drawn(50..100), "a curve is missing: {screen:#?}");
    }
}
