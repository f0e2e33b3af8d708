//! Decides whether spans are exported. In: the standard environment variables. Out: a provider, or why spans cannot be exported, if an
//! endpoint is set. It must not export anything itself: `exporter` does.

#[cfg(not(feature = "telemetry"))]
use absent as exporter;

#[cfg(feature = "telemetry")]
use crate::console::exporter;
use crate::machine::environment::text_variable;

pub(super) use exporter::{Provider, continue_caller, finish, layer};
#[cfg(feature = "cluster")]
pub(super) use exporter::{continue_trace, current};

/// The provider that exports spans (OpenTelemetry specification, "OpenTelemetry Protocol Exporter", environment variables) to
/// `OTEL_EXPORTER_OTLP_TRACES_ENDPOINT`, or to `/v1/traces` below `OTEL_EXPORTER_OTLP_ENDPOINT`. None if neither is set,
/// `OTEL_SDK_DISABLED` is true or `OTEL_TRACES_EXPORTER` is `none`; the reason if an endpoint is set but spans cannot be exported.
pub(super) fn provider() -> Option<Result<Provider, String>> {
    let set = |name: &str| text_variable(name).is_some();
    let enabled = set("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT") || set("OTEL_EXPORTER_OTLP_ENDPOINT");
    let disabled = text_variable("OTEL_SDK_DISABLED").is_some_and(|value| value.eq_ignore_ascii_case("true"))
        || text_variable("OTEL_TRACES_EXPORTER").is_some_and(|value| value == "none");
    (enabled && !disabled).then(exporter::provider)
}

/// Stands in for `exporter` in a program without the feature `telemetry`.
#[cfg(not(feature = "telemetry"))]
#[allow(clippy::trivially_copy_pass_by_ref, reason = "the signatures are those of `exporter`")]
mod absent {
    #[cfg(feature = "cluster")]
    use std::collections::HashMap;

    use tracing::Span;
    use tracing_subscriber::layer::Identity;

    /// Has no value, because nothing can export.
    #[derive(Debug, Clone, Copy)]
    pub(in crate::console) enum Provider {}

    pub(super) fn provider() -> Result<Provider, String> {
        Err("this program was built without the feature `telemetry`".to_owned())
    }

    pub(in crate::console) fn layer(provider: &Provider) -> Identity {
        match *provider {}
    }

    pub(in crate::console) fn continue_caller(_: &Span) {}

    #[cfg(feature = "cluster")]
    pub(in crate::console) fn continue_trace(_: &Span, _: &HashMap<String, String>) {}

    #[cfg(feature = "cluster")]
    pub(in crate::console) fn current() -> HashMap<String, String> {
        HashMap::new()
    }

    pub(in crate::console) fn finish(provider: &Provider) -> Result<(), String> {
        match *provider {}
    }
}
