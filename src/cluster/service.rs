//! What the scheduler and the executors have in common. In: options of Ballista's programs, signals. Out: their settings, the end of a service.
//! It must not start one.

use tokio::signal::unix::{SignalKind, signal as listen};

use crate::error::{Error, Result};

/// Ballista's options for one of its programs: ours first, which the user's override.
pub(crate) fn options<'ours, Options>(
    program: &str,
    ours: impl IntoIterator<Item = (&'ours str, &'ours str)>,
    users: &[String],
    command: clap::Command,
    read: impl Fn(&clap::ArgMatches) -> std::result::Result<Options, clap::Error>,
) -> Result<Options> {
    let ours = ours.into_iter().flat_map(|(option, value)| [option.to_owned(), value.to_owned()]);
    let all = std::iter::once(format!("quarry {program} --")).chain(ours).chain(users.iter().cloned());
    let command = command.args_override_self(true).disable_version_flag(true);
    let read = command.try_get_matches_from(all).and_then(|matches| read(&matches));
    read.map_err(|error| Error::Setting {
        origin: format!("quarry {program}"),
        key: "--".into(),
        reason: error.to_string().trim().trim_start_matches("error: ").to_owned(),
        hint: "what stands behind `--` are options of Ballista".into(),
    })
}

/// Waits for a signal that ends a service.
pub(crate) async fn signal() -> &'static str {
    let Ok(mut terminate) = listen(SignalKind::terminate()) else { return std::future::pending().await };
    tokio::select! {
        _ = terminate.recv() => "SIGTERM",
        _ = tokio::signal::ctrl_c() => "Ctrl-C",
    }
}
