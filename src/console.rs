//! The only place that prints. In: log messages, progress, results, errors. Out: a progress bar on a terminal, log lines or JSON
//! elsewhere (standard error), and results (standard output). It must not decide what the program does.

#[cfg(feature = "cluster")]
use std::collections::HashMap;
use std::fs::File;
use std::io::{IsTerminal, Write as _};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};

use comfy_table::presets::UTF8_BORDERS_ONLY;
use comfy_table::{CellAlignment, Table};
use tracing::Metadata;
use tracing_chrome::FlushGuard;
use tracing_subscriber::filter::{LevelFilter, filter_fn};
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{Layer as _, fmt};

use crate::console::marks::visible;
use crate::console::screen::{STYLE, Screen};
use crate::error::{Error, Result};
use crate::sanitize::{escaped_json, escaped_lines};

mod amounts;
#[cfg(feature = "telemetry")]
mod exporter;
mod lines;
mod marks;
mod profile;
mod progress;
mod screen;
mod traces;

pub use crate::console::amounts::{bytes, duration, short_time, thousands};
pub use crate::console::marks::{Mark, PLAIN, colours, mark, marked};
pub use crate::console::progress::{Progress, ProgressDisplay};
pub use crate::console::screen::Style;

/// The provider that exports spans, if an endpoint is set.
static TRACES: OnceLock<traces::Provider> = OnceLock::new();

/// Completes the profile when dropped, if one is written.
static PROFILE: Mutex<Option<FlushGuard>> = Mutex::new(None);

/// Set once a write finds standard output closed.
static OUTPUT_CLOSED: AtomicBool = AtomicBool::new(false);

/// The first failure to write a result, except that standard output is closed.
static PRINT_ERROR: Mutex<Option<std::io::Error>> = Mutex::new(None);

/// Sets up logging, and a profile if a file is given. Call it once, before anything else.
///
/// # Errors
/// [`Error::Write`] if the file cannot be created.
pub fn start(level: tracing::Level, json: bool, plain: bool, profile: Option<&Path>) -> Result<Style> {
    let create = |path: &Path| {
        File::create(path).map_err(|source| Error::Write { path: path.to_path_buf(), source: source.into() })
    };
    // Set up logging even if the file cannot be created, so that the error is reported in the requested format.
    let (profile, create_error) = match profile.map(create).transpose() {
        Ok(file) => (file, None),
        Err(error) => (None, Some(error)),
    };
    let style = match (json, plain || !std::io::stderr().is_terminal()) {
        (true, _) => Style::Json,
        (false, true) => Style::Plain,
        (false, false) => Style::Terminal,
    };
    // Messages of libraries help only in debugging.
    let libraries = if level >= tracing::Level::DEBUG { LevelFilter::WARN } else { LevelFilter::ERROR };
    let lines = fmt::layer().with_writer(|| Screen).with_target(false).with_ansi(style == Style::Terminal);
    let lines = match style {
        Style::Json => lines.json().flatten_event(true).boxed(),
        Style::Plain => lines.fmt_fields(lines::Fields).boxed(),
        Style::Terminal => lines.without_time().fmt_fields(lines::Fields).boxed(),
    };
    let (provider, trace_error) = match traces::provider() {
        Some(Ok(provider)) => (Some(TRACES.get_or_init(|| provider)), None),
        Some(Err(reason)) => (None, Some(reason)),
        None => (None, None),
    };
    let (profile, guard) = profile.map(profile::layer).unzip();
    if let (Some(guard), Ok(mut kept)) = (guard, PROFILE.lock()) {
        *kept = Some(guard);
    }
    let (spans, details) = (provider.is_some(), profile.is_some());
    // One filter before all layers: with a filter per layer, a layer can lose the line that follows a library's `enabled!` check.
    let enabled = move |metadata: &Metadata<'_>| {
        let own = metadata.target().starts_with(env!("CARGO_CRATE_NAME"));
        if metadata.is_span() {
            return own && (details || spans && *metadata.level() <= tracing::Level::INFO);
        }
        *metadata.level() <= if own { LevelFilter::from_level(level) } else { libraries }
    };
    let registry = tracing_subscriber::registry()
        .with(filter_fn(enabled))
        .with(provider.map(traces::layer))
        .with(profile)
        .with(lines);
    // A second start (in tests) keeps the first one's settings.
    let _ = registry.try_init();
    let _ = STYLE.set(style);
    if let Some(reason) = trace_error {
        tracing::warn!("traces are not exported: {reason}");
    }
    create_error.map_or(Ok(style), Err)
}

/// Makes the caller's trace the parent of a span, if traces are exported.
pub fn continue_caller(span: &tracing::Span) {
    if TRACES.get().is_some() {
        traces::continue_caller(span);
    }
}

/// The current span as the parent of spans elsewhere (W3C Trace Context); nothing if no traces are exported.
#[cfg(feature = "cluster")]
pub(crate) fn current_trace() -> HashMap<String, String> {
    TRACES.get().map_or_else(HashMap::new, |_| traces::current())
}

/// Makes a span elsewhere the parent of a span here, if traces are exported.
#[cfg(feature = "cluster")]
pub(crate) fn continue_trace(span: &tracing::Span, trace: &HashMap<String, String>) {
    if TRACES.get().is_some() && !trace.is_empty() {
        traces::continue_trace(span, trace);
    }
}

/// Flushes the profile and the traces. Call it once, after everything else.
pub fn finish() {
    // Dropping the guard writes the rest of the profile.
    drop(PROFILE.lock().map(|mut guard| guard.take()));
    if let Some(Err(reason)) = TRACES.get().map(traces::finish) {
        tracing::warn!("traces could not be exported: {reason}");
    }
}

/// Prints a text for people to standard output: control characters in it are escaped. [`printed`] reports whether all results were
/// written.
pub fn print(text: &str) {
    print_line(&visible(text));
}

/// Prints JSON for programs to standard output. Its values are exact: control characters in it are JSON's escapes.
pub fn print_json(json: &str) {
    print_line(&escaped_json(json));
}

fn print_line(text: &str) {
    let written = Results.write_fmt(format_args!("{}\n", text.trim_end())).and_then(|()| Results.flush());
    // A closed pipe, as behind `| head`, is not a failure.
    if let Some(error) = written.err().filter(|error| error.kind() != std::io::ErrorKind::BrokenPipe) {
        *PRINT_ERROR.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
    }
}

/// Whether every result was written.
///
/// # Errors
/// [`Error::Write`] if writing to standard output failed, as on a full disk.
pub fn printed() -> Result<()> {
    let failed = PRINT_ERROR.lock().unwrap_or_else(PoisonError::into_inner).take();
    failed.map_or(Ok(()), |source| Err(Error::Write { path: "standard output".into(), source: source.into() }))
}

/// Standard output, for streamed results. They are exact, but on a terminal control characters are escaped.
pub fn results() -> Box<dyn std::io::Write + Send> {
    if std::io::stdout().is_terminal() {
        return Box::new(std::io::BufWriter::new(EscapedResults { out: Results, incomplete: Vec::new() }));
    }
    Box::new(std::io::BufWriter::new(Results))
}

/// Whether standard output is closed, as behind `| head`.
pub fn output_closed() -> bool {
    OUTPUT_CLOSED.load(Ordering::Relaxed)
}

/// The terminal's width in characters; `None` if standard output is not a terminal.
pub fn width() -> Option<usize> {
    let size = terminal_size::terminal_size_of(std::io::stdout());
    size.map(|(terminal_size::Width(width), _)| usize::from(width)).filter(|width| *width > 0)
}

struct Results;

impl std::io::Write for Results {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        std::io::stdout().write(bytes).inspect_err(note_closed)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        std::io::stdout().flush().inspect_err(note_closed)
    }
}

/// Escapes control characters. UTF-8 can come in parts.
struct EscapedResults<Out: std::io::Write> {
    out: Out,
    /// The bytes of a character that has not come whole yet.
    incomplete: Vec<u8>,
}

impl<Out: std::io::Write> std::io::Write for EscapedResults<Out> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.incomplete.extend_from_slice(bytes);
        let whole = match std::str::from_utf8(&self.incomplete) {
            Err(error) if error.error_len().is_none() => error.valid_up_to(),
            _ => self.incomplete.len(),
        };
        let rest = self.incomplete.split_off(whole);
        let text = std::mem::replace(&mut self.incomplete, rest);
        self.out.write_all(escaped_lines(&String::from_utf8_lossy(&text)).as_bytes())?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.out.flush()
    }
}

fn note_closed(error: &std::io::Error) {
    if error.kind() == std::io::ErrorKind::BrokenPipe {
        OUTPUT_CLOSED.store(true, Ordering::Relaxed);
    }
}

/// A two-column table: names on the left, right-aligned values on the right.
pub fn rows(rows: &[(String, String)]) -> String {
    let mut table = Table::new();
    table.load_preset(UTF8_BORDERS_ONLY);
    for (name, value) in rows {
        table.add_row([visible(name), visible(value)]);
    }
    if let Some(column) = table.column_mut(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table.to_string()
}

/// A table with a header; all columns except the first are right-aligned.
pub fn columns(header: &[&str], rows: impl Iterator<Item = Vec<String>>) -> String {
    let mut table = Table::new();
    let rows = rows.map(|row| row.iter().map(|cell| visible(cell).into_owned()).collect::<Vec<_>>());
    table.load_preset(UTF8_BORDERS_ONLY).set_header(header).add_rows(rows);
    for index in 1..header.len() {
        if let Some(column) = table.column_mut(index) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    table.to_string()
}

/// Prints an error with its causes and its hint: one object if the log format is JSON.
pub fn error(error: &Error) {
    if STYLE.get() == Some(&Style::Json) {
        tracing::error!(causes = error.causes().join("\n"), hint = error.hint(), "{error}");
        return;
    }
    // A closed standard error cannot receive the message.
    let _ = Screen.write_all(error.report().as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_on_a_terminal_are_escaped_also_in_parts() {
        let mut results = EscapedResults { out: Vec::new(), incomplete: Vec::new() };
        for byte in "é\u{1b}[31m🎉\u{9b}\n".as_bytes() {
            results.write_all(&[*byte]).unwrap();
        }
        assert_eq!(String::from_utf8(results.out).unwrap(), "é\\u{1b}[31m🎉\\u{9b}\n");
    }
}
