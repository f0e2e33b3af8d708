//! OpenTelemetry traces. In: the standard environment variables, spans of this program. Out: the spans over OTLP (HTTP, protobuf) if
//! an endpoint is set. It must not delay or fail the run that it traces.

use std::collections::HashMap;
use std::time::Duration;

use opentelemetry::propagation::TextMapPropagator;
use opentelemetry::trace::TracerProvider as _;
use opentelemetry_otlp::SpanExporter;
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::propagation::TraceContextPropagator;
use opentelemetry_sdk::trace::SdkTracerProvider;
use tracing::{Metadata, Span, Subscriber};
use tracing_opentelemetry::OpenTelemetrySpanExt;
use tracing_subscriber::Layer;
use tracing_subscriber::filter::filter_fn;
use tracing_subscriber::registry::LookupSpan;

/// How long the end of the program waits for spans to be exported.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(3);

/// The provider that exports spans (OpenTelemetry specification, "OpenTelemetry Protocol Exporter", environment variables) to
/// `OTEL_EXPORTER_OTLP_TRACES_ENDPOINT`, or to `/v1/traces` below `OTEL_EXPORTER_OTLP_ENDPOINT`. None if neither is set,
/// `OTEL_SDK_DISABLED` is true or `OTEL_TRACES_EXPORTER` is `none`; the reason if an endpoint is set but spans cannot be exported.
pub(super) fn provider() -> Option<Result<SdkTracerProvider, String>> {
    let value = |name: &str| crate::machine::environment::variable(name)?.into_string().ok();
    let enabled =
        value("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT").is_some() || value("OTEL_EXPORTER_OTLP_ENDPOINT").is_some();
    let disabled = value("OTEL_SDK_DISABLED").is_some_and(|value| value.eq_ignore_ascii_case("true"))
        || value("OTEL_TRACES_EXPORTER").is_some_and(|value| value == "none");
    if !enabled || disabled {
        return None;
    }
    let protocol = value("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL").or_else(|| value("OTEL_EXPORTER_OTLP_PROTOCOL"));
    if let Some(protocol) = protocol.filter(|protocol| protocol != "http/protobuf") {
        return Some(Err(format!("the protocol `{protocol}` is not supported: set http/protobuf (port 4318)")));
    }
    let exporter = match SpanExporter::builder().with_http().build() {
        Ok(exporter) => exporter,
        Err(error) => return Some(Err(error.to_string())),
    };
    let mut resource = Resource::builder();
    if value("OTEL_SERVICE_NAME").is_none() {
        resource = resource.with_service_name("quarry");
    }
    let provider = SdkTracerProvider::builder().with_batch_exporter(exporter).with_resource(resource.build()).build();
    Some(Ok(provider))
}

/// The layer that passes this program's spans, and the log messages within them, to a provider.
pub(super) fn layer<S: Subscriber + for<'a> LookupSpan<'a>>(provider: &SdkTracerProvider) -> impl Layer<S> + use<S> {
    let own = |metadata: &Metadata<'_>| {
        *metadata.level() <= tracing::Level::INFO && metadata.target().starts_with(env!("CARGO_CRATE_NAME"))
    };
    tracing_opentelemetry::layer()
        .with_tracer(provider.tracer(env!("CARGO_PKG_NAME")))
        .with_location(false)
        .with_threads(false)
        .with_tracked_inactivity(false)
        .with_filter(filter_fn(own))
}

/// Makes the caller's trace, if `TRACEPARENT` names one, the parent of a span (W3C Trace Context; OpenTelemetry specification,
/// "Environment Variables as Context Propagation Carriers").
pub(super) fn continue_caller(span: &Span) {
    let carrier: HashMap<String, String> = ["traceparent", "tracestate"]
        .into_iter()
        .filter_map(|name| Some((name.to_owned(), std::env::var(name.to_uppercase()).ok()?)))
        .collect();
    if carrier.contains_key("traceparent") {
        // Without a provider there is no trace to continue.
        let _ = span.set_parent(TraceContextPropagator::new().extract(&carrier));
    }
}

/// Exports the remaining spans; the reason if that fails.
pub(super) fn finish(provider: &SdkTracerProvider) -> Result<(), String> {
    provider.shutdown_with_timeout(SHUTDOWN_TIMEOUT).map_err(|error| error.to_string())
}
