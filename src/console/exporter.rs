//! Exports spans to an OpenTelemetry collector. In: the standard environment variables, spans of this program. Out: the spans over OTLP
//! (HTTP, protobuf), without log-ins and signatures of URLs. It must not delay or fail the run that it traces.

use std::collections::HashMap;
use std::time::Duration;

use opentelemetry::propagation::TextMapPropagator;
use opentelemetry::trace::{Status, TracerProvider as _};
use opentelemetry::{KeyValue, Value};
use opentelemetry_otlp::SpanExporter;
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::propagation::TraceContextPropagator;
use opentelemetry_sdk::trace::{SdkTracerProvider, SpanData};
use tracing::{Metadata, Span, Subscriber};
use tracing_opentelemetry::OpenTelemetrySpanExt;
use tracing_subscriber::Layer;
use tracing_subscriber::filter::filter_fn;
use tracing_subscriber::registry::LookupSpan;

use crate::machine::environment::text_variable;
use crate::sanitize::without_secrets;

/// The provider of traces, which owns the export thread.
pub(super) type Provider = SdkTracerProvider;

/// How long the end of the program waits for spans to be exported.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(3);

/// Exports spans from now on; the reason if it cannot.
pub(super) fn provider() -> Result<Provider, String> {
    let protocol =
        text_variable("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL").or_else(|| text_variable("OTEL_EXPORTER_OTLP_PROTOCOL"));
    if let Some(protocol) = protocol.filter(|protocol| protocol != "http/protobuf") {
        return Err(format!("the protocol `{protocol}` is not supported: set http/protobuf (port 4318)"));
    }
    let exporter = SpanExporter::builder().with_http().build().map_err(|error| error.to_string())?;
    let exporter = WithoutSecrets(exporter);
    let mut resource = Resource::builder();
    if text_variable("OTEL_SERVICE_NAME").is_none() {
        resource = resource.with_service_name("quarry");
    }
    Ok(SdkTracerProvider::builder().with_batch_exporter(exporter).with_resource(resource.build()).build())
}

/// An exporter that removes secrets from the texts of spans: messages of libraries name the URLs that they asked.
#[derive(Debug)]
struct WithoutSecrets(SpanExporter);

impl opentelemetry_sdk::trace::SpanExporter for WithoutSecrets {
    fn export(&self, mut batch: Vec<SpanData>) -> impl Future<Output = OTelSdkResult> + Send {
        for span in &mut batch {
            clean(&mut span.attributes);
            for event in &mut span.events.events {
                event.name = without_secrets(&event.name).into_owned().into();
                clean(&mut event.attributes);
            }
            if let Status::Error { description } = &mut span.status {
                *description = without_secrets(description).into_owned().into();
            }
        }
        self.0.export(batch)
    }

    fn shutdown_with_timeout(&mut self, timeout: Duration) -> OTelSdkResult {
        self.0.shutdown_with_timeout(timeout)
    }

    fn force_flush(&mut self) -> OTelSdkResult {
        self.0.force_flush()
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.0.set_resource(resource);
    }
}

fn clean(attributes: &mut [KeyValue]) {
    for attribute in attributes {
        if let Value::String(text) = &attribute.value {
            attribute.value = Value::String(without_secrets(text.as_str()).into_owned().into());
        }
    }
}

/// The layer that passes this program's spans, and the log messages within them, to a provider.
pub(super) fn layer<S: Subscriber + for<'a> LookupSpan<'a>>(provider: &Provider) -> impl Layer<S> + use<S> {
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
        continue_trace(span, &carrier);
    }
}

/// Makes a span elsewhere the parent of a span here.
pub(super) fn continue_trace(span: &Span, carrier: &HashMap<String, String>) {
    // Without a provider there is no trace to continue.
    let _ = span.set_parent(TraceContextPropagator::new().extract(carrier));
}

/// The current span as the parent of spans elsewhere.
#[cfg(feature = "cluster")]
pub(super) fn current() -> HashMap<String, String> {
    let mut carrier = HashMap::new();
    TraceContextPropagator::new().inject_context(&Span::current().context(), &mut carrier);
    carrier
}

/// Exports the remaining spans; the reason if that fails.
pub(super) fn finish(provider: &Provider) -> Result<(), String> {
    provider.shutdown_with_timeout(SHUTDOWN_TIMEOUT).map_err(|error| error.to_string())
}
