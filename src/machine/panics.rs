//! A boundary round code of libraries that can panic on damaged input. In: work over one file. Out: its result, or the panic as an error.
//! It must not be put round our own logic: a panic there is a bug, which must be seen.
//!
//! Parsers of file formats panic on some damaged files, where an error was meant. One such file must cost that file, not the job, and its
//! panic must not be printed as a crash.

use std::any::Any;
use std::cell::Cell;
use std::future::poll_fn;
use std::panic::{AssertUnwindSafe, catch_unwind};

use futures::future::BoxFuture;
use futures::stream::{BoxStream, Stream};
use futures::{FutureExt, StreamExt};

thread_local! {
    /// How many boundaries are round what this thread does now.
    static BOUNDARIES: Cell<usize> = const { Cell::new(0) };
}

/// A panic that a boundary has stopped.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("its reader failed: {message}")]
pub struct Panic {
    message: String,
}

impl Panic {
    fn new(payload: &(dyn Any + Send)) -> Self {
        let text = payload.downcast_ref::<String>().map(String::as_str).or_else(|| payload.downcast_ref().copied());
        let line = text.and_then(|text| text.lines().next()).unwrap_or("it panicked");
        Self { message: line.to_owned() }
    }
}

/// Counts a boundary while it lives.
struct Entered;

impl Entered {
    fn new() -> Self {
        BOUNDARIES.set(BOUNDARIES.get() + 1);
        Self
    }
}

impl Drop for Entered {
    fn drop(&mut self) {
        BOUNDARIES.set(BOUNDARIES.get() - 1);
    }
}

/// Does work that can panic.
///
/// # Errors
/// The panic.
pub fn contain<T>(work: impl FnOnce() -> T) -> Result<T, Panic> {
    let entered = Entered::new();
    let done = catch_unwind(AssertUnwindSafe(work));
    drop(entered);
    done.map_err(|payload| Panic::new(payload.as_ref()))
}

/// A future that can panic.
///
/// # Errors
/// The panic.
pub async fn contain_future<T>(mut work: BoxFuture<'_, T>) -> Result<T, Panic> {
    poll_fn(|context| match contain(|| work.poll_unpin(context)) {
        Ok(poll) => poll.map(Ok),
        Err(panic) => std::task::Poll::Ready(Err(panic)),
    })
    .await
}

/// A stream that can panic. The panic is its last item.
pub fn contain_stream<'a, T: Send + 'a>(
    items: impl Stream<Item = T> + Send + 'a,
    failed: impl Fn(Panic) -> T + Send + 'a,
) -> BoxStream<'a, T> {
    let mut items = Some(items.boxed());
    futures::stream::poll_fn(move |context| {
        let Some(running) = &mut items else { return std::task::Poll::Ready(None) };
        match contain(|| running.poll_next_unpin(context)) {
            Ok(poll) => poll,
            Err(panic) => {
                // Its state is undefined: never poll it again. Dropping it can panic too.
                let _ = contain(|| drop(items.take()));
                std::task::Poll::Ready(Some(failed(panic)))
            }
        }
    })
    .boxed()
}

/// Lets panics inside boundaries be logged and not printed. Call it once, at the start of the program.
pub fn log_contained() {
    let print = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        if BOUNDARIES.get() > 0 {
            tracing::debug!("stopped at its file: {panic}");
        } else {
            print(panic);
        }
    }));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_panic_becomes_an_error_and_ends_a_stream() {
        assert_eq!(contain(|| 7), Ok(7));
        let panic = contain(|| panic!("first line\nsecond")).unwrap_err();
        assert_eq!(panic.to_string(), "its reader failed: first line");
        assert_eq!(contain_future(async { 7 }.boxed()).await, Ok(7));
        let late = async {
            tokio::task::yield_now().await;
            let none: Vec<i32> = Vec::new();
            none[std::hint::black_box(3)]
        };
        assert!(contain_future(late.boxed()).await.unwrap_err().to_string().contains("index out of bounds"));
        let numbers = futures::stream::iter(0..5).map(|number| {
            assert!(number < 2, "no more");
            Ok(number)
        });
        let all: Vec<_> = contain_stream(numbers, Err).collect().await;
        assert_eq!(all[..2], [Ok(0), Ok(1)]);
        assert_eq!(all.len(), 3);
        assert!(all[2].is_err());
        assert_eq!(BOUNDARIES.get(), 0);
    }
}
