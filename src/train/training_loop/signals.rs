//! Signals that ask a training to stop. In: SIGTERM and Ctrl-C. Out: an error at the next place where stopping loses nothing. It may not
//! end the program, but for a second signal.

use std::sync::atomic::{AtomicU8, Ordering};

use tokio::signal::unix::{SignalKind, signal};

use crate::console;
use crate::console::Style;
use crate::error::{Error, Result};

/// The exit code of the first signal: 0 none, 130 Ctrl-C, 143 SIGTERM.
static ASKED: AtomicU8 = AtomicU8::new(0);

/// Whether a signal came: [`Error::Stopped`] if so.
pub fn check() -> Result<()> {
    match ASKED.load(Ordering::Relaxed) {
        0 => Ok(()),
        exit_code => Err(Error::Stopped { signal: if exit_code == 130 { "Ctrl-C" } else { "SIGTERM" }, exit_code }),
    }
}

/// Notes the first signal; a second one ends the program at once. A terminal is the dashboard's alone.
pub(crate) async fn listen(style: Style) {
    let Ok(mut terminate) = signal(SignalKind::terminate()) else { return };
    loop {
        let code = tokio::select! {
            _ = terminate.recv() => 143,
            _ = tokio::signal::ctrl_c() => 130,
        };
        if ASKED.swap(code, Ordering::Relaxed) != 0 {
            std::process::exit(i32::from(code));
        }
        if style != Style::Terminal {
            console::note("stopping as soon as the state is saved; a second signal ends it at once");
        }
    }
}
