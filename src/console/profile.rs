//! A profile for a trace viewer. In: spans of this program, down to single batches. Out: a file in Chrome's trace event format, which
//! Perfetto and `chrome://tracing` open. It must not cost time when no profile is written: then none of its spans are created.

use std::fs::File;
use std::io::BufWriter;

use tracing::{Metadata, Subscriber};
use tracing_chrome::{ChromeLayerBuilder, FlushGuard};
use tracing_subscriber::Layer;
use tracing_subscriber::filter::filter_fn;
use tracing_subscriber::registry::LookupSpan;

/// The layer that writes spans as they start and end. Dropping the guard flushes the file.
pub(super) fn layer<S>(file: File) -> (impl Layer<S> + use<S>, FlushGuard)
where
    S: Subscriber + for<'a> LookupSpan<'a> + Send + Sync,
{
    let (layer, guard) = ChromeLayerBuilder::new().writer(BufWriter::new(file)).include_args(true).build();
    let spans = |metadata: &Metadata<'_>| metadata.is_span();
    (layer.with_filter(filter_fn(spans)), guard)
}
