//! The doctor's report. In: findings, one by one. Out: lines of text, or one JSON object. It must not judge a finding.

use std::fmt::Write as _;
use std::sync::mpsc::Sender;

use serde::Serialize;

use crate::console;
use crate::console::Mark;
use crate::error::{Error, Result};
use crate::sanitize::without_secrets;

/// How much a finding matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Status {
    /// No problem.
    Ok,
    /// A run works, but not as well as it could.
    Warning,
    /// A run fails.
    Fix,
}

impl Status {
    fn word(self) -> String {
        let (word, mark) = match self {
            Self::Ok => ("ok", Mark::Good),
            Self::Warning => ("warning", Mark::Doubtful),
            Self::Fix => ("fix", Mark::Bad),
        };
        console::marked(word, 7, mark)
    }
}

/// One line of the report.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Finding {
    pub(super) status: Status,
    /// What was checked.
    pub(super) name: &'static str,
    /// What was found.
    pub(super) text: String,
    /// How to fix it.
    pub(super) fix: Option<String>,
}

impl Finding {
    pub(super) fn ok(name: &'static str, text: impl Into<String>) -> Self {
        Self { status: Status::Ok, name, text: text.into(), fix: None }
    }

    /// An error that a run would end with.
    pub(super) fn error(name: &'static str, error: &Error) -> Self {
        let mut text = error.to_string();
        for cause in error.causes() {
            let line = cause.lines().rfind(|line| !line.trim().is_empty()).unwrap_or_default().trim();
            if !text.contains(line) {
                // Writing to a String cannot fail.
                let _ = write!(text, ": {line}");
            }
        }
        let fix = error.hint().unwrap_or("a run would fail with this error: fix its cause");
        Self { status: Status::Fix, name, text, fix: Some(fix.into()) }
    }
}

/// A message from a check that runs.
pub(super) enum Message {
    Finding(Finding),
    End,
}

/// Where a check reports its findings.
pub(super) struct Report {
    check: usize,
    sender: Sender<(usize, Message)>,
}

impl Report {
    pub(super) fn new(check: usize, sender: Sender<(usize, Message)>) -> Self {
        Self { check, sender }
    }

    pub(super) fn ok(&mut self, name: &'static str, text: impl Into<String>) {
        self.send(Finding::ok(name, text));
    }

    pub(super) fn warning(&mut self, name: &'static str, text: impl Into<String>, fix: impl Into<String>) {
        self.send(Finding { status: Status::Warning, name, text: text.into(), fix: Some(fix.into()) });
    }

    pub(super) fn fix(&mut self, name: &'static str, text: impl Into<String>, fix: impl Into<String>) {
        self.send(Finding { status: Status::Fix, name, text: text.into(), fix: Some(fix.into()) });
    }

    pub(super) fn error(&mut self, name: &'static str, error: &Error) {
        self.send(Finding::error(name, error));
    }

    pub(super) fn send(&mut self, mut finding: Finding) {
        finding.text = without_secrets(&finding.text).into_owned();
        // The receiver is gone once the time limit is reached.
        let _ = self.sender.send((self.check, Message::Finding(finding)));
    }

    pub(super) fn end(self) {
        let _ = self.sender.send((self.check, Message::End));
    }
}

/// The program itself.
pub(super) fn program() -> Finding {
    let (os, architecture) = (std::env::consts::OS, std::env::consts::ARCH);
    Finding::ok("quarry", format!("{} for {os} on {architecture}", env!("CARGO_PKG_VERSION")))
}

/// Lines of text: status, name and finding; below it how to fix it.
pub(super) fn text(findings: &[Finding]) -> String {
    let width = findings.iter().map(|finding| finding.name.chars().count()).max().unwrap_or(0);
    let mut text = String::new();
    for Finding { status, name, text: finding, fix } in findings {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "{}  {name:width$}  {finding}", status.word());
        if let Some(fix) = fix {
            let _ = writeln!(text, "{:9}{:width$}  → {fix}", "", "");
        }
    }
    let count = |status: Status| findings.iter().filter(|finding| finding.status == status).count();
    let _ = match (count(Status::Fix), count(Status::Warning)) {
        (0, 0) => writeln!(text, "no problems found"),
        (0, warnings) => writeln!(text, "a run would work; warnings: {warnings}"),
        (fixes, warnings) => writeln!(text, "to fix: {fixes}; warnings: {warnings}"),
    };
    text
}

/// One object: `exit_code`, and `findings` with `status`, `name`, `text` and `fix`.
pub(super) fn json(findings: &[Finding], code: u8) -> Result<String> {
    let object = serde_json::json!({ "exit_code": code, "findings": findings });
    serde_json::to_string_pretty(&object)
        .map_err(|source| Error::Engine { doing: "write the findings as JSON".into(), source: source.into() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_line_counts_warnings_and_fixes() {
        let finding = |status| Finding { status, ..Finding::ok("disk", "something") };
        for (statuses, last) in [
            (&[Status::Ok][..], "no problems found"),
            (&[Status::Ok, Status::Warning, Status::Warning][..], "a run would work; warnings: 2"),
            (&[Status::Fix, Status::Ok][..], "to fix: 1; warnings: 0"),
            (&[Status::Warning, Status::Fix, Status::Fix][..], "to fix: 2; warnings: 1"),
        ] {
            let findings: Vec<_> = statuses.iter().map(|status| finding(*status)).collect();
            assert_eq!(text(&findings).lines().last(), Some(last));
        }
    }

    #[test]
    fn a_cause_that_repeats_its_wrapper_is_printed_once() {
        let error = Error::Read { path: "a.toml".into(), source: "first line\nno such file".into() };
        let finding = Finding::error("job", &error);
        assert_eq!(finding.text, "cannot read `a.toml`: no such file");
        assert_eq!(finding.fix.as_deref(), Some("check that the path is right and that you may read it"));
    }
}
