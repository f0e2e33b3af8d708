//! Captures log messages, for tests. In: a closure. Out: its result, and the messages that it logged on its own thread. It must not be
//! part of the program.

use std::cell::RefCell;
use std::fmt::{Debug, Write as _};
use std::sync::Once;

use tracing::field::{Field, Visit};
use tracing::{Event, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::layer::{Context, SubscriberExt as _};

thread_local! {
    static MESSAGES: RefCell<Option<Vec<String>>> = const { RefCell::new(None) };
}

/// Runs `work`, and returns its result and this crate's messages of level INFO and above that this thread logged meanwhile.
pub(crate) fn captured<Out>(work: impl FnOnce() -> Out) -> (Out, Vec<String>) {
    // One subscriber for all tests: with one per thread, an event that another thread is the first to reach can be disabled for all.
    static START: Once = Once::new();
    START.call_once(|| {
        let subscriber = tracing_subscriber::registry().with(Capture).with(LevelFilter::INFO);
        tracing::subscriber::set_global_default(subscriber).unwrap();
    });
    MESSAGES.set(Some(Vec::new()));
    let out = work();
    (out, MESSAGES.take().unwrap_or_default())
}

struct Capture;

impl<S: Subscriber> Layer<S> for Capture {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        if !event.metadata().target().starts_with(env!("CARGO_CRATE_NAME")) {
            return;
        }
        MESSAGES.with_borrow_mut(|messages| {
            if let Some(messages) = messages {
                let mut message = Message(String::new());
                event.record(&mut message);
                messages.push(message.0);
            }
        });
    }
}

/// The text of an event, without its other fields.
struct Message(String);

impl Visit for Message {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        if field.name() == "message" {
            write!(self.0, "{value:?}").unwrap();
        }
    }
}
