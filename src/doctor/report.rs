//! What the checks say. In: findings, one by one. Out: lines for people, an object for programs. It may not judge.

use std::fmt::Write as _;
use std::sync::mpsc::Sender;

use serde::Serialize;

use crate::console;
use crate::console::Mark;
use crate::error::{Error, Result};

/// How much a finding matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Status {
    /// As it should be.
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
    /// What was looked at.
    pub(super) name: &'static str,
    /// What was found.
    pub(super) text: String,
    /// What to do about it.
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
        let fix = error.hint().unwrap_or("a run would end with this error: mend its cause");
        Self { status: Status::Fix, name, text, fix: Some(fix.into()) }
    }
}

/// What a check says while it looks.
pub(super) enum Said {
    Finding(Finding),
    End,
}

/// Where a check says it.
pub(super) struct Report {
    check: usize,
    say: Sender<(usize, Said)>,
}

impl Report {
    pub(super) fn new(check: usize, say: Sender<(usize, Said)>) -> Self {
        Self { check, say }
    }

    pub(super) fn ok(&mut self, name: &'static str, text: impl Into<String>) {
        self.say(Finding::ok(name, text));
    }

    pub(super) fn warning(&mut self, name: &'static str, text: impl Into<String>, fix: impl Into<String>) {
        self.say(Finding { status: Status::Warning, name, text: text.into(), fix: Some(fix.into()) });
    }

    pub(super) fn fix(&mut self, name: &'static str, text: impl Into<String>, fix: impl Into<String>) {
        self.say(Finding { status: Status::Fix, name, text: text.into(), fix: Some(fix.into()) });
    }

    pub(super) fn error(&mut self, name: &'static str, error: &Error) {
        self.say(Finding::error(name, error));
    }

    pub(super) fn say(&mut self, finding: Finding) {
        // Nobody listens any more: time is up.
        let _ = self.say.send((self.check, Said::Finding(finding)));
    }

    pub(super) fn end(self) {
        let _ = self.say.send((self.check, Said::End));
    }
}

/// The program itself.
pub(super) fn program() -> Finding {
    let (os, architecture) = (std::env::consts::OS, std::env::consts::ARCH);
    Finding::ok("quarry", format!("{} for {os} on {architecture}", env!("CARGO_PKG_VERSION")))
}

/// Lines for people: status, name, what was found; below it what to do.
pub(super) fn text(findings: &[Finding]) -> String {
    let width = findings.iter().map(|finding| finding.name.chars().count()).max().unwrap_or(0);
    let mut text = String::new();
    for Finding { status, name, text: found, fix } in findings {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "{}  {name:width$}  {found}", status.word());
        if let Some(fix) = fix {
            let _ = writeln!(text, "{:9}{:width$}  → {fix}", "", "");
        }
    }
    let count = |status: Status| findings.iter().filter(|finding| finding.status == status).count();
    let _ = match (count(Status::Fix), count(Status::Warning)) {
        (0, 0) => writeln!(text, "everything is as it should be"),
        (0, warnings) => writeln!(text, "it runs; warnings: {warnings}"),
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
    fn the_last_line_counts_what_is_not_as_it_should_be() {
        let finding = |status| Finding { status, ..Finding::ok("disk", "something") };
        for (statuses, last) in [
            (&[Status::Ok][..], "everything is as it should be"),
            (&[Status::Ok, Status::Warning, Status::Warning][..], "it runs; warnings: 2"),
            (&[Status::Fix, Status::Ok][..], "to fix: 1; warnings: 0"),
            (&[Status::Warning, Status::Fix, Status::Fix][..], "to fix: 2; warnings: 1"),
        ] {
            let findings: Vec<_> = statuses.iter().map(|status| finding(*status)).collect();
            assert_eq!(text(&findings).lines().last(), Some(last));
        }
    }

    #[test]
    fn causes_that_repeat_their_wrapper_are_said_once() {
        let error = Error::Read { path: "a.toml".into(), source: "first line\nno such file".into() };
        let finding = Finding::error("job", &error);
        assert_eq!(finding.text, "cannot read `a.toml`: no such file");
        assert_eq!(finding.fix.as_deref(), Some("check that the path is right and that you may read it"));
    }
}
