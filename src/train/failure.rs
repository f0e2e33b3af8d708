//! LibTorch's failures → errors. In: work that computes with it, the panic it ends with. Out: what the work came to, or an error of one
//! line with the way out. It may not compute anything itself.

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Once;

use crate::error::{Error, Result};

/// Runs what LibTorch computes; where it fails it panics, which becomes an error here and is not printed besides.
pub(super) fn guarded<T>(work: impl FnOnce() -> Result<T>) -> Result<T> {
    thread_local! {
        static QUIET: Cell<bool> = const { Cell::new(false) };
    }
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let usual = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            if !QUIET.get() {
                usual(panic);
            }
        }));
    });
    let before = QUIET.replace(true);
    let done = catch_unwind(AssertUnwindSafe(work));
    QUIET.set(before);
    done.unwrap_or_else(|panic| {
        let message = panic
            .downcast_ref::<String>()
            .map(String::as_str)
            .or_else(|| panic.downcast_ref::<&str>().copied())
            .unwrap_or("LibTorch failed");
        Err(broken(message))
    })
}

/// What LibTorch said, without the wrapping of the panic and its C++ stack.
pub(super) fn broken(message: &str) -> Error {
    let said = message.split_once("Torch(\"").map_or(message, |(_, said)| said);
    let reason = said.split("\\n").next().unwrap_or_default().lines().next().unwrap_or_default();
    let full = message.contains("out of memory") || message.contains("can't allocate memory");
    let hint = if full {
        "the device's memory is full: begin anew (--restart) with a lower batch_tokens or batch_size and a higher accumulate_grad_batches"
    } else {
        "start the training again: it goes on from the last saved state"
    };
    Error::Training { reason: reason.trim_end_matches("\")").to_owned(), hint: hint.into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_libtorch_says_is_said_in_a_line() {
        let failed = guarded(|| -> Result<()> {
            panic!(
                r#"called `Result::unwrap()` on an `Err` value: Torch("CUDA out of memory. Tried 2 GiB\nException raised from")"#
            )
        });
        let error = failed.unwrap_err();
        assert_eq!(error.to_string(), "cannot go on training: CUDA out of memory. Tried 2 GiB");
        assert!(error.hint().is_some_and(|hint| hint.contains("batch_tokens")), "{error:?}");
        let failed = guarded(|| -> Result<()> { panic!("no entry found for key") });
        assert_eq!(failed.unwrap_err().to_string(), "cannot go on training: no entry found for key");
    }
}
