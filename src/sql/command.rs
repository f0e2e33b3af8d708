//! The commands that begin with a backslash. In: a command's text. Out: what it shows or changes. It may not answer SQL of the user's.

use std::path::Path;

use arrow::datatypes::DataType;
use clap::ValueEnum;

use super::error_messages::explain;
use super::execute::{Execution, Flow};
use super::script::Statement;
use crate::cli::RowFormat;
use crate::console;
use crate::error::{Error, Result};
use crate::query::statement::{i64_row, query};
use crate::query::views;
use crate::tables::Table;

/// The commands with what they take and do, as the help shows them.
pub(super) const COMMANDS: [(&str, &str, &str); 12] = [
    ("d", "[NAME]", "tables and views, or the columns of one (or of a file: \\d docs.parquet)"),
    ("dt", "", "the tables"),
    ("dv", "", "the views"),
    ("df", "[PART]", "the functions whose names have PART"),
    ("format", "[FORMAT]", "how rows are written: table, csv, json, parquet"),
    ("rows", "[NUMBER]", "how many rows a table shows; 0 for all"),
    ("x", "[on|off]", "a line for every column of a row"),
    ("timing", "[on|off]", "how long a query took"),
    ("o", "[FILE]", "write what follows to a file; without one to the screen again"),
    ("i", "FILE", "do what a file says"),
    ("?", "", "this help"),
    ("q", "", "leave (Ctrl-D)"),
];

/// Words that people type without a backslash, alone on their line, and the commands they stand for.
const WORDS: [(&str, &str); 4] = [("help", "?"), ("quit", "q"), ("exit", "q"), ("?", "?")];

/// An example that every reader of offsets needs once.
const EXAMPLE: &str = "A quoted path is a table. Whether every mention stands where its offsets say:

  SELECT count(*) AS mentions,
    count(*) FILTER (WHERE substr(d.body, start_char + 1, end_char - start_char) = e.text) AS in_place
  FROM current_entities e JOIN 'docs/*.parquet' d USING (doc_id);";

/// The command that a line stands for, though it has no backslash.
pub(super) fn without_backslash(line: &str) -> Option<&'static str> {
    let word = line.trim().trim_end_matches(';');
    WORDS.iter().find(|(known, _)| known.eq_ignore_ascii_case(word)).map(|(_, command)| *command)
}

impl Execution {
    /// Does what a command says.
    pub(super) async fn command(&mut self, command: &str) -> Result<Flow> {
        // Whoever ends statements with a semicolon ends commands with one.
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
                let mut functions = self.asked.known().await.functions;
                functions.retain(|name| name.contains(&argument.to_lowercase()));
                console::print(&functions.join(", "));
            }
            "format" => {
                if !argument.is_empty() {
                    self.output.format = RowFormat::from_str(argument, true).map_err(|_| {
                        refuse(command, "there is no such format", "there are table, csv, json and parquet")
                    })?;
                }
                let name = self.output.format.to_possible_value();
                self.say(&format!("format is {}", name.map_or(String::new(), |name| name.get_name().to_owned())));
            }
            "rows" => {
                if !argument.is_empty() {
                    self.output.rows =
                        argument.parse().map_err(|_| refuse(command, "that is no number", "0 shows all rows"))?;
                }
                self.say(&match self.output.rows {
                    0 => "a table shows all rows".to_owned(),
                    rows => format!("a table shows {rows} rows"),
                });
            }
            "x" => {
                self.output.records = switched(command, argument, self.output.records)?;
                self.say(&format!("a line for every column: {}", on_off(self.output.records)));
            }
            "timing" => {
                self.output.timing = switched(command, argument, self.output.timing)?;
                self.say(&format!("timing is {}", on_off(self.output.timing)));
            }
            "o" => self.output.redirect(Some(argument).filter(|path| !path.is_empty()).map(Path::new))?,
            "i" if argument.is_empty() => return Err(refuse(command, "it needs a file", "write \\i FILE")),
            "i" => return self.read(argument).await,
            _ => return Err(refuse(command, "there is no such command", "\\? lists them")),
        }
        Ok(Flow::On)
    }

    /// Confirms a change to who sees it.
    fn say(&self, text: &str) {
        if self.output.shell {
            console::print(text);
        }
    }

    /// Lists tables and views: what a row of each is, and how many rows the tables have.
    async fn list(&self, wanted: impl Fn(&str) -> bool) -> Result<()> {
        let mut lines = vec![["name", "rows", "a row is"].map(str::to_owned)];
        for name in self.asked.names().into_iter().filter(|name| wanted(name)) {
            let mut rows = String::new();
            if Table::from_name(&name).is_some() {
                // The log knows it: no file is read.
                let counted = query(&self.asked.context, &format!("SELECT count(*) FROM {name}")).await?;
                rows = i64_row(&counted)?.first().map_or(String::new(), ToString::to_string);
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
        let columns = self.asked.columns(name).await.map_err(|cause| {
            explain(&cause, &Statement { text: "", lines_before: 0, ended: true }, &self.asked.names())
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

/// A column's type as SQL calls it, where it has a common name.
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
        "A statement ends with a semicolon and may take several lines; Tab completes, Ctrl-C cancels a query.\n";
    let commands =
        COMMANDS.iter().map(|(name, argument, what)| format!("  \\{:18} {what}", format!("{name} {argument}")));
    let commands: Vec<String> = commands.collect();
    format!("{first}\n{}\n\n{EXAMPLE}", commands.join("\n"))
}

fn switched(command: &str, argument: &str, now: bool) -> Result<bool> {
    match argument {
        "" => Ok(!now),
        "on" => Ok(true),
        "off" => Ok(false),
        _ => Err(refuse(command, "it takes on or off", "without either it changes from one to the other")),
    }
}

const fn on_off(on: bool) -> &'static str {
    if on { "on" } else { "off" }
}

fn refuse(command: &str, reason: &str, hint: &str) -> Error {
    Error::Setting { origin: "sql".into(), key: format!("\\{command}"), reason: reason.into(), hint: hint.into() }
}
