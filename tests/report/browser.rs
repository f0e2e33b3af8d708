//! A page in a real browser: headless Chromium, driven by a Python script without dependencies. If either is absent, the test prints a note
//! and is skipped.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde::Deserialize;
use serde_json::Value;

use crate::support::project;

/// The results of the steps, and the console messages, exceptions and requests of the page.
#[derive(Debug, Deserialize)]
pub(super) struct Visit {
    pub(super) values: Vec<Value>,
    console: Vec<String>,
    exceptions: Vec<String>,
    requests: Vec<String>,
}

impl Visit {
    /// Asserts no exception, no console message except those that contain one of `expected`, and no network request.
    #[track_caller]
    pub(super) fn quiet_but(&self, expected: &[&str]) {
        assert!(self.exceptions.is_empty(), "{:?}", self.exceptions);
        let unexpected = |line: &&String| !expected.iter().any(|part| line.contains(part));
        let said: Vec<&String> = self.console.iter().filter(unexpected).collect();
        assert!(said.is_empty(), "{said:?}");
        let asked: Vec<&String> =
            self.requests.iter().filter(|url| !url.starts_with("file://") && !url.starts_with("data:")).collect();
        assert!(asked.is_empty(), "{asked:?}");
    }
}

fn chromium() -> Option<PathBuf> {
    if let Some(named) = std::env::var_os("QUARRY_CHROMIUM") {
        return Some(named.into());
    }
    let folders: Vec<PathBuf> = std::env::split_paths(&std::env::var_os("PATH")?).collect();
    let names = ["chromium", "chromium-browser", "google-chrome", "google-chrome-stable"];
    names.iter().flat_map(|name| folders.iter().map(move |folder| folder.join(name))).find(|path| path.exists())
}

/// Opens the page and performs steps of tests/report/browse.py; `None` if there is no browser.
pub(super) fn visit(page: &Path, steps: &[Value]) -> Option<Visit> {
    let Some(chromium) = chromium() else {
        eprintln!("skipped: there is no chromium (QUARRY_CHROMIUM names one)");
        return None;
    };
    let mut command = Command::new("python3");
    command.arg(project().join("tests/report/browse.py")).arg(chromium).arg(page);
    let Ok(mut child) = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn() else {
        eprintln!("skipped: there is no python3");
        return None;
    };
    child.stdin.take().unwrap().write_all(&serde_json::to_vec(steps).unwrap()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "the browser's script failed");
    Some(serde_json::from_slice(&output.stdout).unwrap())
}
