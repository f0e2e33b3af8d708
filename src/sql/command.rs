//! The shell's backslash commands. In: a command's text. Out: its output, or a changed setting. It must not run the user's SQL.

use std::path::Path;

use arrow::datatypes::DataType;
use clap::ValueEnum;

use super::error_messages::explain;
use super::execute::{Execution, Flow};
use super::script::Statement;
use super::settings::RowFormat;
use crate::console;
use crate::error::{Error, Result};
use crate::query::statement::count;
use crate::query::views;
use crate::tables::Table;

/// The commands: name, arguments, description, as the help shows them.
pub(super) const COMMANDS: [(&str, &str, &str); 12] = [
    ("d", "[NAME]", "list tables and views, or describe one (or a file: \\d docs.parquet)"),
    ("dt", "", "list tables"),
    ("dv", "", "list views"),
    ("df", "[PART]", "list functions whose names contain PART"),
    ("format", "[FORMAT]", "set the output format: table, csv, json, parquet"),
    ("rows", "[NUMBER]", "set the maximum number of rows of a table; 0 for all"),
    ("x", "[on|off]", "expanded display: one line per column"),
    ("timing", "[on|off]", "show the duration of each query"),
    ("o", "[FILE]", "write the following results to a file; without FILE to the screen"),
    ("i", "FILE", "run the statements of a file"),
    ("?", "", "show this help"),
    ("q", "", "quit (Ctrl-D)"),
];

/// Words that work as commands without a backslash when alone on their line.
const ALIASES: [(&str, &str); 4] = [("help", "?"), ("quit", "q"), ("exit", "q"), ("?", "?")];

/// An example with offsets, for the help.
const EXAMPLE: &str = "A quoted path is a table. Check that every mention's offsets point at its text:

  SELECT count(*) AS mentions,
    count(*) FILTER (WHERE substr(d.body, start_char + 1, end_char - start_char) = e.text) AS in_place
  FROM current_entities e JOIN 'docs/*.parquet' d USING (doc_id);";

/// The command of a line without a backslash, if it is one.
pub(super) fn without_backslash(line: &str) -> Option<&'static str> {
    let word = line.trim().trim_end_matches(';');
    ALIASES.iter().find(|(known, _)| known.eq_ignore_ascii_case(word)).map(|(_, command)| *command)
}

impl Execution {
    /// Runs a command.
    pub(super) async fn command(&mut self, command: &str) -> Result<Flow> {
        // Accept a semicolon after a command.
        let command = command.trim_end_matches(|letter: char| letter == ';' || letter.is_whitespace());
        let (word, argument) = command.split_once(char::is_whitespace).unwrap_or((command, ""));
        let argument = argument.trim().trim_matches(['\'', '"']);
        match word {
            "q" | "quit" | "exit" => return Ok(Flow::Quit),
            "?" | "h" | "help" => console::print(&help()),
            "d" | "d+" if argument.is_empty() => self.list(|_| true).await?,
            "dt" => self.list(|name| Table::from_name(name).is_some()).await?,
            "dv" => self.list(|name| Table::from_name(name).is_none()).await?,
            "d" | "d+" => self.describe(argument).await?,
            "df" => {
                let mut functions = self.session.vocabulary().await.functions;
                functions.retain(|name| name.contains(&argument.to_lowercase()));
                console::print(&functions.join(", "));
            }
            "format" => {
                if !argument.is_empty() {
                    self.output.format = RowFormat::from_str(argument, true)
                        .map_err(|_| refuse(command, "there is no such format", "use table, csv, json or parquet"))?;
                }
                let name = self.output.format.to_possible_value();
                self.confirm(&format!("format is {}", name.map_or(String::new(), |name| name.get_name().to_owned())));
            }
            "rows" => {
                if !argument.is_empty() {
                    self.output.rows =
                        argument.parse().map_err(|_| refuse(command, "expected a number", "0 shows all rows"))?;
                }
                self.confirm(&match self.output.rows {
                    0 => "a table shows all rows".to_owned(),
                    rows => format!("a table shows {rows} rows"),
                });
            }
            "x" => {
                self.output.records = toggled(command, argument, self.output.records)?;
                self.confirm(&format!("expanded display is {}", on_off(self.output.records)));
            }
            "timing" => {
                self.output.timing = toggled(command, argument, self.output.timing)?;
                self.confirm(&format!("timing is {}", on_off(self.output.timing)));
            }
            "o" => self.output.redirect(Some(argument).filter(|path| !path.is_empty()).map(Path::new))?,
            "i" if argument.is_empty() => return Err(refuse(command, "a file is missing", "write \\i FILE")),
            "i" => return self.read(argument).await,
            _ => return Err(refuse(command, "there is no such command", "\\? lists them")),
        }
        Ok(Flow::Continue)
    }

    /// Confirms a changed setting in a shell.
    fn confirm(&self, text: &str) {
        if self.output.shell {
            console::print(text);
        }
    }

    /// Lists tables and views: what a row of each is, and the number of rows of the tables.
    async fn list(&self, wanted: impl Fn(&str) -> bool) -> Result<()> {
        let mut lines = vec![["name", "rows", "a row is"].map(str::to_owned)];
        for name in self.session.names().into_iter().filter(|name| wanted(name)) {
            let mut rows = String::new();
            if Table::from_name(&name).is_some() {
                // The Delta log has the count: no file is read.
                rows = count(&self.session.context, &format!("SELECT count(*) FROM {name}")).await?.to_string();
            }
            let what = views::what(&name).unwrap_or_default().to_owned();
            lines.push([name, rows, what]);
        }
        let width = |column: usize| lines.iter().map(|line| line[column].len()).max().unwrap_or(0);
        let (names, rows) = (width(0), width(1));
        let lines = lines.iter().map(|[name, count, what]| format!("{name:names$}  {count:>rows$}  {what}"));
        console::print(&lines.collect::<Vec<_>>().join("\n"));
        Ok(())
    }

    /// Shows the columns of a table, view or file, and a view's SQL.
    async fn describe(&self, name: &str) -> Result<()> {
        let columns = self.session.columns(name).await.map_err(|cause| {
            explain(&cause, &Statement { text: "", lines_before: 0, ended: true }, &self.session.names())
        })?;
        let width = columns.fields().iter().map(|field| field.name().chars().count()).max().unwrap_or(0);
        let mut lines = Vec::new();
        for field in columns.fields() {
            let null = if field.is_nullable() { "" } else { " not null" };
            lines.push(format!("{:width$}  {}{null}", field.name(), type_name(field.data_type())));
        }
        if let Some((_, query)) = views::all().find(|(view, _)| *view == name) {
            lines.push(format!("\n{query}"));
        }
        console::print(&lines.join("\n"));
        Ok(())
    }
}

/// The SQL name of a column's type, if it has a common one.
fn type_name(data_type: &DataType) -> String {
    match data_type {
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => "varchar".to_owned(),
        DataType::Boolean => "boolean".to_owned(),
        DataType::Int32 => "integer".to_owned(),
        DataType::Int64 => "bigint".to_owned(),
        DataType::Float32 => "real".to_owned(),
        DataType::Float64 => "double".to_owned(),
        DataType::Timestamp(_, None) => "timestamp".to_owned(),
        DataType::Timestamp(_, Some(_)) => "timestamp with time zone".to_owned(),
        other => other.to_string(),
    }
}

fn help() -> String {
    let first =
        "A statement ends with a semicolon and can span several lines. Tab completes; Ctrl-C cancels a query.\n";
    let commands =
        COMMANDS.iter().map(|(name, argument, what)| format!("  \\{:18} {what}", format!("{name} {argument}")));
    let commands: Vec<String> = commands.collect();
    format!("{first}\n{}\n\n{EXAMPLE}", commands.join("\n"))
}

fn toggled(command: &str, argument: &str, now: bool) -> Result<bool> {
    match argument {
        "" => Ok(!now),
        "on" => Ok(true),
        "off" => Ok(false),
        _ => Err(refuse(command, "expected on or off", "without an argument it toggles")),
    }
}

const fn on_off(on: bool) -> &'static str {
    if on { "on" } else { "off" }
}

fn refuse(command: &str, reason: &str, hint: &str) -> Error {
    Error::Setting { origin: "sql".into(), key: format!("\\{command}"), reason: reason.into(), hint: hint.into() }
}
