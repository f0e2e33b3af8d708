//! `quarry sql`: a store's tables, asked with SQL. In: a store and statements, or a terminal. Out: rows as a table, CSV, JSON Lines or
//! Parquet. It may not write to the store.

mod columns;
mod command;
mod complete;
mod error_messages;
mod execute;
mod output;
mod result_table;
mod script;
mod session;
mod shell;
mod text_table;

use std::io::{IsTerminal, Read};
use std::path::Path;

use crate::cli::{RowFormat, SqlArgs};
use crate::console;
use crate::error::{Error, Result};

use execute::Execution;
use output::Output;
use session::SqlSession;

/// Answers what the arguments ask, or what is typed.
pub fn command(arguments: &SqlArgs) -> Result<u8> {
    let failed = |source: std::io::Error| Error::Engine { doing: "start the runtime".into(), source: source.into() };
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().map_err(failed)?;
    let shell = arguments.query.is_none() && arguments.file.is_none() && std::io::stdin().is_terminal();
    // Before signals are caught: whoever waits for standard input shall be stopped by one.
    let text = match (&arguments.query, &arguments.file) {
        _ if shell => None,
        (Some(query), _) => Some(query.clone()),
        (None, Some(path)) if path != Path::new("-") => Some(
            std::fs::read_to_string(path)
                .map_err(|source| Error::Read { path: path.clone(), source: source.into() })?,
        ),
        (None, _) => Some(standard_input()?),
    };
    let format = arguments.format.or_else(|| arguments.out.as_deref().map(RowFormat::of));
    let mut output = Output::new(format.unwrap_or(RowFormat::Table), arguments.rows, shell);
    match &arguments.out {
        Some(path) if shell => output.redirect(Some(path))?,
        Some(path) => output.write_whole_file(path),
        None => {}
    }
    let asked = runtime.block_on(SqlSession::open(arguments))?;
    let mut asking = Execution::new(asked, output)?;
    let answered = match text {
        None => shell::run(&runtime, &mut asking),
        Some(text) => runtime.block_on(asking.script(&text)).and_then(|_| asking.output.finish()),
    };
    match answered {
        // Whoever reads the first rows only has what they want.
        Err(_) if console::nobody_reads() => Ok(0),
        answered => answered.map(|()| 0),
    }
}

fn standard_input() -> Result<String> {
    let mut text = String::new();
    let read = std::io::stdin().read_to_string(&mut text);
    read.map_err(|source| Error::Read { path: "standard input".into(), source: source.into() })?;
    Ok(text)
}
