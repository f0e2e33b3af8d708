//! Standard error. In: log lines, the progress bar. Out: the lines above the bar. It must not decide what is written.

use std::sync::OnceLock;

use indicatif::ProgressBar;

/// The progress bar on the screen, if there is one; log lines go above it.
pub(crate) static BAR: OnceLock<ProgressBar> = OnceLock::new();

/// The format of messages, once logging is set up.
pub(crate) static STYLE: OnceLock<Style> = OnceLock::new();

/// The format of messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Style {
    /// A progress bar, and log lines without a time.
    Terminal,
    /// Log lines.
    Plain,
    /// One JSON object per line.
    Json,
}

/// Standard error; hides the progress bar while it writes.
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
