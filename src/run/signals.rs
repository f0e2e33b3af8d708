//! Signals that ask a run to stop. In: a run under way, SIGTERM and Ctrl-C. Out: how the run ended, by itself or with what was done
//! committed; the signal where there was nothing to commit or no time for it. It may not end the process.

use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::task::{JoinError, JoinHandle};

use crate::console;
use crate::error::{Error, Result};
use crate::run::outcome::Ended;
use crate::run::summary::run_summary::RunSummary;

/// How long a stopped run may take to commit what is done.
const GRACE: Duration = Duration::from_secs(30);

/// Waits for the end of a run, also of one that a signal brings about.
pub(crate) async fn end(mut work: JoinHandle<Result<Ended>>, summary: &RunSummary) -> Result<Ended> {
    let stopped = tokio::select! {
        joined = &mut work => return unjoined(joined),
        stopped = signal() => stopped,
    };
    let Some(extractor) = summary.extractor() else { return Err(stopped) };
    extractor.stop.store(true, Ordering::Relaxed);
    console::note("stopping: what is done is committed; a second signal ends it at once");
    tokio::select! {
        joined = &mut work => match unjoined(joined) {
            Ok(Ended::Stopped) => Err(stopped),
            other => other,
        },
        _ = signal() => Err(stopped),
        () = tokio::time::sleep(GRACE) => Err(stopped),
    }
}

fn unjoined(joined: Result<Result<Ended>, JoinError>) -> Result<Ended> {
    joined.unwrap_or_else(|panic| Err(Error::Engine { doing: "run the job".into(), source: panic.into() }))
}

/// Waits for a signal that asks the run to stop.
async fn signal() -> Error {
    use tokio::signal::unix::{SignalKind, signal};
    let stopped = |signal, exit_code| Error::Stopped { signal, exit_code };
    let Ok(mut terminate) = signal(SignalKind::terminate()) else {
        std::future::pending::<()>().await;
        return stopped("SIGTERM", 143);
    };
    tokio::select! {
        _ = terminate.recv() => stopped("SIGTERM", 143),
        _ = tokio::signal::ctrl_c() => stopped("Ctrl-C", 130),
    }
}
