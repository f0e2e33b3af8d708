//! Outcomes of input files and of runs. In: the text of a column `outcome`, or an outcome. Out: the outcome, or its text. It must not
//! decide how a file or a run ended.

use std::fmt;
use std::str::FromStr;

use crate::tables::Table;

/// The outcome of an input file: `outcome` in [`Table::Sources`]. The column `rows` says how many rows it covers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SourceOutcome {
    /// The file was read to its end. Text: `done`.
    Done,
    /// A commit covers only the file's first rows. Text: `partial`.
    Partial,
    /// The same, and some of these rows could not be read. Text: `partial: ` and the reason.
    DamagedPartial(String),
    /// The file could not be read, or not from some row on. Text: the reason, a sentence.
    Refused(String),
}

/// What [`SourceOutcome::DamagedPartial`] begins with.
const DAMAGED_PARTIAL: &str = "partial: ";

impl SourceOutcome {
    /// Why some rows could not be read, if so.
    #[must_use]
    pub fn reason(&self) -> Option<&str> {
        match self {
            Self::Done | Self::Partial => None,
            Self::DamagedPartial(reason) | Self::Refused(reason) => Some(reason),
        }
    }
}

impl fmt::Display for SourceOutcome {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Done => formatter.write_str("done"),
            Self::Partial => formatter.write_str("partial"),
            Self::DamagedPartial(reason) => write!(formatter, "{DAMAGED_PARTIAL}{reason}"),
            Self::Refused(reason) => formatter.write_str(reason),
        }
    }
}

impl From<&str> for SourceOutcome {
    /// Every text is an outcome: a text other than `done`, `partial` and `partial: …` is a reason.
    fn from(text: &str) -> Self {
        match text {
            "done" => Self::Done,
            "partial" => Self::Partial,
            text => match text.strip_prefix(DAMAGED_PARTIAL) {
                Some(reason) => Self::DamagedPartial(reason.to_owned()),
                None => Self::Refused(text.to_owned()),
            },
        }
    }
}

/// The outcome of a run: `outcome` in [`Table::Runs`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RunOutcome {
    /// It has not recorded its end: it is running, or was killed.
    Running,
    /// It was killed before it could record its end, as a later run found; `finished_at` stays null.
    Interrupted,
    /// It reached the end of its input.
    Done,
    /// It reached its `--limit`.
    Limited,
    /// A signal stopped it.
    Stopped,
    /// It failed: the first line of the error. Text: `failed: ` and that line.
    Failed(String),
}

impl RunOutcome {
    /// The outcome as one word.
    #[must_use]
    pub fn word(&self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Interrupted => "interrupted",
            Self::Done => "done",
            Self::Limited => "limited",
            Self::Stopped => "stopped",
            Self::Failed(_) => "failed",
        }
    }
}

impl fmt::Display for RunOutcome {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Failed(reason) => write!(formatter, "{}: {reason}", self.word()),
            other => formatter.write_str(other.word()),
        }
    }
}

/// A text that is no outcome of a run, perhaps from another version of this program.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("column `outcome` of table `{}` has `{text}`, which is no outcome of a run in this version", Table::Runs.name())]
pub struct UnknownOutcome {
    /// The text.
    pub text: String,
}

impl FromStr for RunOutcome {
    type Err = UnknownOutcome;

    fn from_str(text: &str) -> Result<Self, UnknownOutcome> {
        if let Some(reason) = text.strip_prefix("failed: ") {
            return Ok(Self::Failed(reason.to_owned()));
        }
        let plain = [Self::Running, Self::Interrupted, Self::Done, Self::Limited, Self::Stopped];
        plain.into_iter().find(|outcome| outcome.word() == text).ok_or_else(|| UnknownOutcome { text: text.to_owned() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_outcomes_of_files_are_read_as_they_are_written() {
        let refused = SourceOutcome::Refused("from row 3 on: done".to_owned());
        for (outcome, text) in
            [(SourceOutcome::Done, "done"), (SourceOutcome::Partial, "partial"), (refused, "from row 3 on: done")]
        {
            assert_eq!(outcome.to_string(), text);
            assert_eq!(SourceOutcome::from(text), outcome);
        }
    }

    #[test]
    fn the_outcomes_of_runs_are_read_as_they_are_written() {
        let failed = |reason: &str| RunOutcome::Failed(reason.to_owned());
        for (outcome, text) in [
            (RunOutcome::Running, "running"),
            (RunOutcome::Interrupted, "interrupted"),
            (RunOutcome::Done, "done"),
            (RunOutcome::Limited, "limited"),
            (RunOutcome::Stopped, "stopped"),
            (failed("cannot read `a`: failed: gone"), "failed: cannot read `a`: failed: gone"),
            (failed(""), "failed: "),
        ] {
            assert_eq!(outcome.to_string(), text);
            assert_eq!(text.parse(), Ok(outcome));
        }
    }

    #[test]
    fn an_unknown_outcome_names_table_column_and_value() {
        for text in ["paused", "", "failed", "Done"] {
            let error = text.parse::<RunOutcome>().unwrap_err().to_string();
            let expected =
                format!("column `outcome` of table `runs` has `{text}`, which is no outcome of a run in this version");
            assert_eq!(error, expected);
        }
    }
}
