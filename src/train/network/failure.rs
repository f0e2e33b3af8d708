//! Failures of a training → errors. In: work that computes with LibTorch and can panic; figures that are not finite. Out: the result of
//! the work, or a one-line error with a hint. It must not compute anything itself.

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Once;

use crate::error::{Error, Result};

/// Runs work that uses LibTorch. LibTorch failures are panics; they become errors here and are not printed.
pub(crate) fn guarded<T>(work: impl FnOnce() -> Result<T>) -> Result<T> {
    thread_local! {
        static QUIET: Cell<bool> = const { Cell::new(false) };
    }
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let default_hook = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            if !QUIET.get() {
                default_hook(panic);
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
        Err(libtorch_error(message))
    })
}

/// The error for a LibTorch message, without the panic's prefix and the C++ stack.
pub(crate) fn libtorch_error(message: &str) -> Error {
    let torch_message = message.split_once("Torch(\"").map_or(message, |(_, torch_message)| torch_message);
    let reason = torch_message.split("\\n").next().unwrap_or_default().lines().next().unwrap_or_default();
    let out_of_memory = message.contains("out of memory") || message.contains("can't allocate memory");
    let hint = if out_of_memory {
        "the device's memory is full: run the training again; if it fails again, start over (--restart) with a lower batch_tokens or batch_size and a higher accumulate_grad_batches"
    } else {
        "run the training again: it resumes from the last checkpoint"
    };
    Error::Training { reason: reason.trim_end_matches("\")").to_owned(), hint: hint.into() }
}

/// Converts a LibTorch error.
pub(crate) fn torch(doing: &str) -> impl Fn(tch::TchError) -> Error + '_ {
    move |source| Error::Engine { doing: doing.to_owned(), source: source.into() }
}

/// The limit of skipped steps in a row. Skipped steps do not change the weights, so further steps would fail as well.
pub(crate) const MAX_SKIPPED_IN_A_ROW: usize = 100;

/// Names the figure of step `step` (from 1) that is not finite.
pub(crate) fn not_finite(step: usize, loss: f64, norm: f64) -> String {
    let (figure, value) = if loss.is_finite() { ("gradient norm", norm) } else { ("loss", loss) };
    format!("the {figure} of step {step} is {value}")
}

/// The error of a training that diverged. `saved`: a checkpoint exists. `skip`: skipping steps can help.
pub(crate) fn diverged(reason: String, saved: bool, skip: bool) -> Error {
    let (kept, option) =
        if saved { ("the last checkpoint is kept", " (--restart)") } else { ("nothing was saved yet", "") };
    let skip = if skip { "skip such steps with not_a_number = \"skip\", or " } else { "" };
    Error::Training {
        reason,
        hint: format!(
            "{kept}: {skip}start over{option} with a smaller lr, more warmup_steps or gradient_clip_val = 1.0"
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_diverged_training_names_the_figure_and_a_remedy() {
        assert_eq!(not_finite(3, f64::NAN, f64::NAN), "the loss of step 3 is NaN");
        assert_eq!(not_finite(3, 1.0, f64::INFINITY), "the gradient norm of step 3 is inf");
        let hint = |saved, skip| diverged(String::new(), saved, skip).hint().unwrap_or_default().to_owned();
        let smaller = "with a smaller lr, more warmup_steps or gradient_clip_val = 1.0";
        assert_eq!(
            hint(true, true),
            format!(
                "the last checkpoint is kept: skip such steps with not_a_number = \"skip\", or start over (--restart) {smaller}"
            )
        );
        assert_eq!(hint(false, false), format!("nothing was saved yet: start over {smaller}"));
    }

    #[test]
    fn a_libtorch_message_is_shortened_to_one_line() {
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
