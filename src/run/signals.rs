//! Signals that stop a run. In: an active run, SIGTERM and Ctrl-C. Out: the run's outcome, or the signal that stopped it; finished
//! documents are committed first, as far as time allows. It must not end the process.

use std::time::Duration;

use tokio::task::{JoinError, JoinHandle};

use crate::error::{Error, Result};
use crate::run::exit_code::Ended;
use crate::run::summary::run_summary::RunSummary;

/// Maximum time for a stopped run to commit finished documents.
const GRACE: Duration = Duration::from_secs(30);

/// Waits for the end of a run; a signal stops it.
pub(crate) async fn end(mut work: JoinHandle<Result<Ended>>, summary: &RunSummary) -> Result<Ended> {
    let stopped = tokio::select! {
        joined = &mut work => return unjoined(joined),
        stopped = signal() => stopped,
    };
    if summary.extractor().is_none() {
        return Err(stopped);
    }
    summary.monitor.stop();
    tracing::info!("stopping: committing finished documents; a second signal stops immediately");
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
