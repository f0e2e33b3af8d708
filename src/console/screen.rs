//! Standard error. In: lines, the progress bar. Out: lines above the bar. It must not decide what is written.

use std::sync::OnceLock;

use indicatif::ProgressBar;

/// The bar that is on the screen, if one is; log lines go above it.
pub(crate) static BAR: OnceLock<ProgressBar> = OnceLock::new();

/// How things are said, once that is set up.
pub(crate) static STYLE: OnceLock<Style> = OnceLock::new();

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

/// Standard error, without cutting through the progress bar.
pub(crate) struct Screen;

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
