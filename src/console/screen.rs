//! Standard error. In: log lines, the progress bar. Out: the lines above the bar, without log-ins and signatures of URLs. It must not
//! decide what is written.

use std::sync::OnceLock;

use indicatif::ProgressBar;

use crate::sanitize::without_secrets;

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
    /// Writes whole lines: a URL in parts would not be recognized.
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let text = String::from_utf8_lossy(bytes);
        let shown = without_secrets(&text);
        let write = || std::io::stderr().write_all(shown.as_bytes());
        match BAR.get() {
            Some(bar) => bar.suspend(write),
            None => write(),
        }?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        std::io::stderr().flush()
    }
}
