//! The only place that prints. In: notes, progress, results, errors. Out: a progress bar on a terminal, lines or JSON elsewhere
//! (standard error), and results (standard output). It may not decide anything.

use std::fmt::Write as _;
use std::fs::File;
use std::io::{IsTerminal, Write as _};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};

use comfy_table::presets::UTF8_BORDERS_ONLY;
use comfy_table::{CellAlignment, Table};
use indicatif::ProgressBar;
use tracing::Metadata;
use tracing_chrome::FlushGuard;
use tracing_subscriber::filter::{LevelFilter, filter_fn};
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{Layer as _, fmt};

use crate::error::{Error, Result};

mod amounts;
#[cfg(feature = "telemetry")]
mod exporter;
mod marks;
mod profile;
mod progress;
mod traces;

pub use amounts::{bytes, duration, short_time, thousands};
pub use marks::{Mark, PLAIN, colours, mark, marked};
pub use progress::{Progress, ProgressDisplay};

/// The bar that is on the screen, if one is; log lines go above it.
static BAR: OnceLock<ProgressBar> = OnceLock::new();

/// Where spans go, if somewhere.
static TRACES: OnceLock<traces::Provider> = OnceLock::new();

/// What completes a profile, if one is written.
static PROFILE: Mutex<Option<FlushGuard>> = Mutex::new(None);

/// How things are said, once that is set up.
static STYLE: OnceLock<Style> = OnceLock::new();

/// Set when standard output turned out to be closed.
static NOBODY_READS: AtomicBool = AtomicBool::new(false);

/// Why something that was asked for could not be printed, though somebody may read.
static UNPRINTED: Mutex<Option<std::io::Error>> = Mutex::new(None);

/// How things are said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Style {
    /// A progress bar and short notes.
    Terminal,
    /// Log lines.
    Plain,
    /// Log lines, each a JSON object.
    Json,
}

/// Sets up logging, and a profile where a file for it is named; call it once, first.
///
/// # Errors
/// [`Error::Write`] where the file cannot be made.
pub fn start(level: tracing::Level, json: bool, plain: bool, profile: Option<&Path>) -> Result<Style> {
    let create = |path: &Path| {
        File::create(path).map_err(|source| Error::Write { path: path.to_path_buf(), source: source.into() })
    };
    // Also that it cannot be made is said in the style that was asked for.
    let (profile, unwritable) = match profile.map(create).transpose() {
        Ok(file) => (file, None),
        Err(error) => (None, Some(error)),
    };
    let style = match (json, plain || !std::io::stderr().is_terminal()) {
        (true, _) => Style::Json,
        (false, true) => Style::Plain,
        (false, false) => Style::Terminal,
    };
    // What libraries have to say is for whoever looks for a fault.
    let libraries = if level >= tracing::Level::DEBUG { LevelFilter::WARN } else { LevelFilter::ERROR };
    let lines = fmt::layer().with_writer(|| Screen).with_target(false).with_ansi(style == Style::Terminal);
    let lines = match style {
        Style::Json => lines.json().flatten_event(true).boxed(),
        Style::Plain => lines.boxed(),
        Style::Terminal => lines.without_time().boxed(),
    };
    let (provider, refusal) = match traces::provider() {
        Some(Ok(provider)) => (Some(TRACES.get_or_init(|| provider)), None),
        Some(Err(reason)) => (None, Some(reason)),
        None => (None, None),
    };
    let (profile, guard) = profile.map(profile::layer).unzip();
    if let (Some(guard), Ok(mut kept)) = (guard, PROFILE.lock()) {
        *kept = Some(guard);
    }
    let (spans, details) = (provider.is_some(), profile.is_some());
    // One filter before all layers: beside a filter of its own, a layer may lose the line that follows a library's question whether
    // anybody listens.
    let heard = move |said: &Metadata<'_>| {
        let own = said.target().starts_with(env!("CARGO_CRATE_NAME"));
        if said.is_span() {
            return own && (details || spans && *said.level() <= tracing::Level::INFO);
        }
        *said.level() <= if own { LevelFilter::from_level(level) } else { libraries }
    };
    let registry = tracing_subscriber::registry()
        .with(filter_fn(heard))
        .with(provider.map(traces::layer))
        .with(profile)
        .with(lines);
    // A second start (in tests) keeps the first one's settings.
    let _ = registry.try_init();
    let _ = STYLE.set(style);
    if let Some(reason) = refusal {
        warn(&format!("no traces are sent: {reason}"));
    }
    unwritable.map_or(Ok(style), Err)
}

/// Puts a span under the trace of whoever called the program, where traces are sent.
pub fn continue_caller(span: &tracing::Span) {
    if TRACES.get().is_some() {
        traces::continue_caller(span);
    }
}

/// Ends what runs in the background; call it once, last.
pub fn finish() {
    // What is left of a profile is written as its guard goes.
    drop(PROFILE.lock().map(|mut guard| guard.take()));
    if let Some(Err(reason)) = TRACES.get().map(traces::finish) {
        warn(&format!("traces could not be sent: {reason}"));
    }
}

/// Standard error, without cutting through the progress bar.
struct Screen;

impl std::io::Write for Screen {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let write = || std::io::stderr().write(bytes);
        match BAR.get() {
            Some(bar) => bar.suspend(write),
            None => write(),
        }
    }

    fn flush(&mut self) -> std::io::Result<()> {
        std::io::stderr().flush()
    }
}

/// Says something in passing.
pub fn note(text: &str) {
    tracing::info!("{text}");
}

/// Says something that somebody should look into.
pub fn warn(text: &str) {
    tracing::warn!("{text}");
}

/// Prints a text that was asked for, to whoever still reads; [`printed`] says whether that went well.
pub fn print(text: &str) {
    let written = Results.write_fmt(format_args!("{}\n", text.trim_end())).and_then(|()| Results.flush());
    // Behind `| head` nobody may be left, and that is no failure.
    if let Some(error) = written.err().filter(|error| error.kind() != std::io::ErrorKind::BrokenPipe) {
        *UNPRINTED.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
    }
}

/// Whether all that was to be printed could be.
///
/// # Errors
/// [`Error::Write`] where standard output takes no more, as on a full disk.
pub fn printed() -> Result<()> {
    let failed = UNPRINTED.lock().unwrap_or_else(PoisonError::into_inner).take();
    failed.map_or(Ok(()), |source| Err(Error::Write { path: "standard output".into(), source: source.into() }))
}

/// Standard output, for results that are written as they come.
pub fn results() -> impl std::io::Write + Send {
    std::io::BufWriter::new(Results)
}

/// Whether nobody reads standard output any more, as behind `| head`.
pub fn nobody_reads() -> bool {
    NOBODY_READS.load(Ordering::Relaxed)
}

/// How many characters wide the screen is; `None` where standard output is no terminal.
pub fn width() -> Option<usize> {
    let size = terminal_size::terminal_size_of(std::io::stdout());
    size.map(|(terminal_size::Width(width), _)| usize::from(width)).filter(|width| *width > 0)
}

struct Results;

impl std::io::Write for Results {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        std::io::stdout().write(bytes).inspect_err(note_reader)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        std::io::stdout().flush().inspect_err(note_reader)
    }
}

fn note_reader(error: &std::io::Error) {
    if error.kind() == std::io::ErrorKind::BrokenPipe {
        NOBODY_READS.store(true, Ordering::Relaxed);
    }
}

/// A small table of results: names on the left, figures on the right.
pub fn rows(rows: &[(String, String)]) -> String {
    let mut table = Table::new();
    table.load_preset(UTF8_BORDERS_ONLY);
    for (name, value) in rows {
        table.add_row([name, value]);
    }
    if let Some(column) = table.column_mut(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table.to_string()
}

/// A table of results with a header; all columns but the first are figures.
pub fn columns(header: &[&str], rows: impl Iterator<Item = Vec<String>>) -> String {
    let mut table = Table::new();
    table.load_preset(UTF8_BORDERS_ONLY).set_header(header).add_rows(rows);
    for index in 1..header.len() {
        if let Some(column) = table.column_mut(index) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    table.to_string()
}

/// Prints an error with its causes and its hint: as one object where lines are JSON.
pub fn error(error: &Error) {
    if STYLE.get() == Some(&Style::Json) {
        tracing::error!(causes = error.causes().join("\n"), hint = error.hint(), "{error}");
        return;
    }
    // Where nobody listens there is nobody to tell.
    let _ = Screen.write_all(render(error).as_bytes());
}

/// An error as it is printed: what failed, why, and the way out.
pub fn render(error: &Error) -> String {
    let mut text = format!("error: {error}\n");
    for cause in error.causes() {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "  caused by: {}", cause.replace('\n', "\n             "));
    }
    if let Some(hint) = error.hint() {
        let _ = writeln!(text, "hint: {hint}");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_is_what_why_and_the_way_out() {
        let error = Error::Model {
            path: "models/genia".into(),
            reason: "span_logits has shape [8, 128], expected [k]".into(),
            hint: "write the graph with `quarry export`".into(),
        };
        assert_eq!(
            render(&error),
            "error: cannot load model `models/genia`: span_logits has shape [8, 128], expected [k]\nhint: write the graph with `quarry export`\n"
        );
        let error =
            Error::Read { path: "job.toml".into(), source: std::io::Error::from(std::io::ErrorKind::NotFound).into() };
        assert_eq!(
            render(&error),
            "error: cannot read `job.toml`\n  caused by: entity not found\nhint: check that the path is right and that you may read it\n"
        );
    }
}
