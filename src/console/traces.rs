//! Decides whether spans are sent. In: the standard environment variables. Out: what sends them, or why they cannot be sent, where an
//! endpoint is set; nothing elsewhere. It must not send anything itself: [`super::exporter`] does.

#[cfg(not(feature = "telemetry"))]
use absent as exporter;

#[cfg(feature = "telemetry")]
use super::exporter;

pub(super) use exporter::{Provider, continue_caller, finish, layer};

/// Sends spans from now on (OpenTelemetry specification, "OpenTelemetry Protocol Exporter", environment variables): to
/// `OTEL_EXPORTER_OTLP_TRACES_ENDPOINT`, or to `OTEL_EXPORTER_OTLP_ENDPOINT` and `/v1/traces`. None where neither is set or
/// `OTEL_SDK_DISABLED` is true; the reason where spans are wanted and cannot be sent.
pub(super) fn provider() -> Option<Result<Provider, String>> {
    let wanted =
        value("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT").is_some() || value("OTEL_EXPORTER_OTLP_ENDPOINT").is_some();
    let refused = value("OTEL_SDK_DISABLED").is_some_and(|value| value.eq_ignore_ascii_case("true"))
        || value("OTEL_TRACES_EXPORTER").is_some_and(|value| value == "none");
    (wanted && !refused).then(exporter::provider)
}

/// An environment variable, where it is set and is text.
pub(super) fn value(name: &str) -> Option<String> {
    crate::model::variable(name)?.into_string().ok()
}

/// What stands for [`super::exporter`] in a program without it.
#[cfg(not(feature = "telemetry"))]
mod absent {
    use tracing::Span;
    use tracing_subscriber::layer::Identity;

    /// No value: there is nothing that could send.
    #[derive(Debug, Clone, Copy)]
    pub(in crate::console) enum Provider {}

    pub(super) fn provider() -> Result<Provider, String> {
        Err("this program was built without the feature `telemetry`".to_owned())
    }

    pub(in crate::console) fn layer(provider: &Provider) -> Identity {
        match *provider {}
    }

    pub(in crate::console) fn continue_caller(_: &Span) {}

    pub(in crate::console) fn finish(provider: &Provider) -> Result<(), String> {
        match *provider {}
    }
}
