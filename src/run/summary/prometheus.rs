//! A run's figures as gauges in Prometheus' text format, version 0.0.4. In: names, what they mean, values, and the file of an earlier
//! run. Out: a text, written in one step. It may not know how a run went.

use std::fmt::{Display, Write as _};
use std::path::Path;

use crate::error::{Error, Result};
use crate::machine::files::write_whole;

/// The figures of a run into one store, whose name every line has as a label.
pub(crate) struct PrometheusText {
    text: String,
    label: String,
    /// Whether it is known which store that is.
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

    /// A figure for each word that `label` may be.
    pub(crate) fn many(&mut self, name: &str, help: &str, label: &str, values: &[(&str, impl Display)]) {
        if values.is_empty() {
            return;
        }
        self.head(name, help);
        for (word, value) in values {
            let _ = writeln!(self.text, "quarry_run_{name}{{{},{label}=\"{}\"}} {value}", self.label, escaped(word));
        }
    }

    /// What earlier runs into the same store wrote down of a figure, or into any where it is not known which: their lines
    /// as they are.
    pub(crate) fn again(&mut self, name: &str, help: &str, path: &Path) {
        // Without a file there were none.
        let earlier = std::fs::read_to_string(path).unwrap_or_default();
        let same = if self.named { format!("{}}} ", self.label) } else { String::new() };
        let begin = format!("quarry_run_{name}{{{same}");
        let mut lines = earlier.lines().filter(|line| line.starts_with(&begin)).peekable();
        if lines.peek().is_none() {
            return;
        }
        self.head(name, help);
        for line in lines {
            let _ = writeln!(self.text, "{line}");
        }
    }

    /// Writes the file in one step: nobody reads half of it.
    pub(crate) fn write(&self, path: &Path) -> Result<()> {
        write_whole(path, self.text.as_bytes())
    }
}

/// Where the figures go must be there before there are figures.
pub(crate) fn check_folder(path: &Path) -> Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    if folder.is_dir() {
        return Ok(());
    }
    Err(Error::Setting {
        origin: "quarry run".into(),
        key: "--metrics-file".into(),
        reason: format!("there is no folder `{}`", folder.display()),
        hint: "make the folder, or name the one that node exporter's textfile collector reads".into(),
    })
}

fn escaped(value: &str) -> String {
    value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}
