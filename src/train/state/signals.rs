//! Signals that stop a training. In: SIGTERM and Ctrl-C. Out: an error at the next point where a checkpoint can be saved. It must not end
//! the program, except on a second signal.

use std::sync::atomic::{AtomicU8, Ordering};

use tokio::signal::unix::{SignalKind, signal};

use crate::console::Style;
use crate::error::{Error, Result};

/// The exit code of the first signal: 130 for Ctrl-C, 143 for SIGTERM, 0 for none.
static EXIT_CODE: AtomicU8 = AtomicU8::new(0);

/// Returns [`Error::Stopped`] if a signal was received.
pub fn check() -> Result<()> {
    match EXIT_CODE.load(Ordering::Relaxed) {
        0 => Ok(()),
        exit_code => Err(Error::Stopped { signal: if exit_code == 130 { "Ctrl-C" } else { "SIGTERM" }, exit_code }),
    }
}

/// Records the first signal; a second one ends the program immediately. On a terminal nothing is printed, since the dashboard owns it.
pub(crate) async fn listen(style: Style) {
    let Ok(mut terminate) = signal(SignalKind::terminate()) else { return };
    loop {
        let code = tokio::select! {
            _ = terminate.recv() => 143,
            _ = tokio::signal::ctrl_c() => 130,
        };
        if EXIT_CODE.swap(code, Ordering::Relaxed) != 0 {
            std::process::exit(i32::from(code));
        }
        if style != Style::Terminal {
            tracing::info!("stopping as soon as a checkpoint is saved; a second signal stops immediately");
        }
    }
}
