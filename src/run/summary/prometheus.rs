//! Gauges in Prometheus' text format, version 0.0.4. In: names, help texts and values, and the file of an earlier run. Out: a text file,
//! written atomically. It must not depend on how a run ended.

use std::fmt::{Display, Write as _};
use std::path::Path;

use crate::error::{Error, Result};
use crate::machine::files::write_whole;

/// The metrics of a run; every line has the run's store as a label.
pub(crate) struct PrometheusText {
    text: String,
    label: String,
    /// Whether the store is known.
    named: bool,
}

impl PrometheusText {
    pub(crate) fn of(store: Option<&str>) -> Self {
        let label = format!("store=\"{}\"", escaped(store.unwrap_or_default()));
        Self { text: String::new(), label, named: store.is_some() }
    }

    fn head(&mut self, name: &str, help: &str) {
        // Writing to a String cannot fail.
        let _ = writeln!(self.text, "# HELP quarry_run_{name} {help}\n# TYPE quarry_run_{name} gauge");
    }

    pub(crate) fn one(&mut self, name: &str, help: &str, value: impl Display) {
        self.head(name, help);
        let _ = writeln!(self.text, "quarry_run_{name}{{{}}} {value}", self.label);
    }

    /// One value for each value of `label`.
    pub(crate) fn many(&mut self, name: &str, help: &str, label: &str, values: &[(&str, impl Display)]) {
        if values.is_empty() {
            return;
        }
        self.head(name, help);
        for (label_value, value) in values {
            let _ =
                writeln!(self.text, "quarry_run_{name}{{{},{label}=\"{}\"}} {value}", self.label, escaped(label_value));
        }
    }

    /// Copies the lines of a metric from the file of an earlier run: those of the same store, or of every store if this run's is
    /// unknown.
    pub(crate) fn copy_earlier(&mut self, name: &str, help: &str, path: &Path) {
        // Without a file there is nothing to copy.
        let earlier = std::fs::read_to_string(path).unwrap_or_default();
        let store = if self.named { format!("{}}} ", self.label) } else { String::new() };
        let begin = format!("quarry_run_{name}{{{store}");
        let mut lines = earlier.lines().filter(|line| line.starts_with(&begin)).peekable();
        if lines.peek().is_none() {
            return;
        }
        self.head(name, help);
        for line in lines {
            let _ = writeln!(self.text, "{line}");
        }
    }

    /// Writes the file atomically: no reader sees a part of it.
    pub(crate) fn write(&self, path: &Path) -> Result<()> {
        write_whole(path, self.text.as_bytes())
    }
}

/// Checks that the folder of the metrics file exists, before the run starts.
pub(crate) fn check_folder(path: &Path) -> Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    if folder.is_dir() {
        return Ok(());
    }
    Err(Error::Setting {
        origin: "quarry run".into(),
        key: "--metrics-file".into(),
        reason: format!("there is no folder `{}`", folder.display()),
        hint: "create the folder, or name the one that node exporter's textfile collector reads".into(),
    })
}

fn escaped(value: &str) -> String {
    value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}
