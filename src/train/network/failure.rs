//! Failures of a training → errors. In: work that computes with LibTorch, the panic it ends with; figures that are not numbers. Out: what
//! the work came to, or an error of one line with the way out. It may not compute anything itself.

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Once;

use crate::error::{Error, Result};

/// Runs what LibTorch computes; where it fails it panics, which becomes an error here and is not printed besides.
pub(crate) fn guarded<T>(work: impl FnOnce() -> Result<T>) -> Result<T> {
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
pub(crate) fn broken(message: &str) -> Error {
    let said = message.split_once("Torch(\"").map_or(message, |(_, said)| said);
    let reason = said.split("\\n").next().unwrap_or_default().lines().next().unwrap_or_default();
    let full = message.contains("out of memory") || message.contains("can't allocate memory");
    let hint = if full {
        "the device's memory is full: start the training again, and where it comes to this again begin anew (--restart) with a lower batch_tokens or batch_size and a higher accumulate_grad_batches"
    } else {
        "start the training again: it goes on from the last saved state"
    };
    Error::Training { reason: reason.trim_end_matches("\")").to_owned(), hint: hint.into() }
}

/// Steps that may be left out in a row: after so many the weights are beyond help, for they do not change meanwhile.
pub(crate) const MOST_LEFT_OUT: usize = 100;

/// What is not a number of the step numbered `step`, from 1.
pub(crate) fn no_number(step: usize, loss: f64, norm: f64) -> String {
    let (what, value) = if loss.is_finite() { ("gradient's norm", norm) } else { ("loss", loss) };
    format!("the {what} of step {step} is {value}")
}

/// The end of a training that no longer computes with numbers. `saved` says whether there is a state to go on from, `skip` whether leaving
/// steps out may help.
pub(crate) fn not_a_number(reason: String, saved: bool, skip: bool) -> Error {
    let (kept, option) =
        if saved { ("the last saved state is kept", " (--restart)") } else { ("nothing was saved yet", "") };
    let skip = if skip { "leave such steps out with not_a_number = \"skip\", or " } else { "" };
    Error::Training {
        reason,
        hint: format!(
            "{kept}: {skip}begin anew{option} with a smaller lr, more warmup_steps or gradient_clip_val = 1.0"
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_number_has_a_way_out() {
        assert_eq!(no_number(3, f64::NAN, f64::NAN), "the loss of step 3 is NaN");
        assert_eq!(no_number(3, 1.0, f64::INFINITY), "the gradient's norm of step 3 is inf");
        let hint = |saved, skip| not_a_number(String::new(), saved, skip).hint().unwrap_or_default().to_owned();
        let smaller = "with a smaller lr, more warmup_steps or gradient_clip_val = 1.0";
        assert_eq!(
            hint(true, true),
            format!(
                "the last saved state is kept: leave such steps out with not_a_number = \"skip\", or begin anew (--restart) {smaller}"
            )
        );
        assert_eq!(hint(false, false), format!("nothing was saved yet: begin anew {smaller}"));
    }

    #[test]
    fn what_libtorch_says_is_said_in_a_line() {
        let failed = guarded(|| -> Result<()> {
            panic!(
                r#"called `Result::unwrap()` on an `Err` value: Torch("CUDA out of memory. Tried 2 GiB\nException raised from")"#
            )
        });
        let error = failed.unwrap_err();
        assert_eq!(error.to_string(), "cannot continue training: CUDA out of memory. Tried 2 GiB");
        assert!(error.hint().is_some_and(|hint| hint.contains("batch_tokens")), "{error:?}");
        let failed = guarded(|| -> Result<()> { panic!("no entry found for key") });
        assert_eq!(failed.unwrap_err().to_string(), "cannot continue training: no entry found for key");
    }
}
