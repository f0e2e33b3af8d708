//! DataFusion's errors. In: an error as DataFusion passes it through a plan. Out: our own error if it wraps one, or its first line
//! without plan dumps. It must not lose a cause.

use datafusion::error::DataFusionError;

use crate::error::Error;
use crate::machine::panics::Panic;
use crate::sanitize::without_secrets;

impl From<Panic> for DataFusionError {
    fn from(panic: Panic) -> Self {
        Self::External(Box::new(panic))
    }
}

impl From<Error> for DataFusionError {
    fn from(error: Error) -> Self {
        Self::External(Box::new(error))
    }
}

/// Our own error if DataFusion wraps one, at any depth of context; any other becomes an [`Error::Engine`] that names `doing`.
pub fn own_error(error: DataFusionError, doing: impl Into<String>) -> Error {
    match error {
        DataFusionError::External(source) => match source.downcast::<Error>() {
            Ok(error) => *error,
            Err(source) => Error::Engine { doing: doing.into(), source },
        },
        DataFusionError::Context(_, error) => own_error(*error, doing),
        source => Error::Engine { doing: doing.into(), source: source.into() },
    }
}

/// The message without the plan dump that some errors carry, without a repeated kind, and without log-ins and signatures: tables keep it.
pub(crate) fn first_line(error: &DataFusionError) -> String {
    let text = without_secrets(&error.strip_backtrace()).into_owned();
    let line = text.lines().next().unwrap_or_default();
    match line.split_once(": ") {
        // Our own words, and those of the operating system.
        Some(("External error" | "IO error", rest)) => rest.to_owned(),
        Some((kind, rest)) if rest.starts_with(kind) => rest.to_owned(),
        _ => line.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn our_own_error_is_found_under_any_context() {
        let ours = || DataFusionError::from(Error::Stopped { signal: "SIGTERM", exit_code: 143 });
        assert_eq!(own_error(ours(), "read").exit_code(), 143);
        assert_eq!(own_error(ours().context("first").context("second"), "read").exit_code(), 143);
        let foreign = own_error(DataFusionError::Plan("no plan".into()).context("first"), "read `a`");
        assert_eq!((foreign.to_string().as_str(), foreign.exit_code()), ("cannot read `a`", 2));
        assert_eq!(foreign.causes().len(), 1);
    }
}
