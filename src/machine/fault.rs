//! Points where a test can end the process, or slow it down. In: `QUARRY_FAULT`, such as `before:entities:3`, `document:17`, or `slow:2`: chunks of an
//! executor take two seconds more. Out: nothing, or the end of the process as with `kill -9`. It must not do anything in programs built without debug assertions.

/// The variable that names one point.
pub(crate) const VARIABLE: &str = "QUARRY_FAULT";

/// What stands behind `kind:` in [`VARIABLE`], if it is of this kind.
pub(crate) fn of(kind: &str) -> Option<String> {
    let place = cfg!(debug_assertions).then(|| std::env::var(VARIABLE).ok()).flatten()?;
    place.strip_prefix(kind)?.strip_prefix(':').map(str::to_owned)
}

/// Ends the process.
pub(crate) fn end(place: &str) -> ! {
    tracing::error!(place, "the process ends here, as {VARIABLE} asks");
    std::process::abort();
}
