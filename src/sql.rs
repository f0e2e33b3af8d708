//! `quarry sql`: SQL over a store's tables. In: a store and statements, or a terminal. Out: rows as a table, CSV, JSON Lines or Parquet.
//! It must not write to the store.

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

/// Runs the statements of the arguments or of standard input, or an interactive shell.
pub fn command(arguments: &SqlArgs) -> Result<u8> {
    let failed = |source: std::io::Error| Error::Engine { doing: "start the runtime".into(), source: source.into() };
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().map_err(failed)?;
    let shell = arguments.query.is_none() && arguments.file.is_none() && std::io::stdin().is_terminal();
    // Before signals are caught, so that a signal ends the wait for standard input.
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
        Some(path) => output.write_atomically(path),
        None => {}
    }
    let session = runtime.block_on(SqlSession::open(arguments))?;
    let mut execution = Execution::new(session, output)?;
    let result = match text {
        None => shell::run(&runtime, &mut execution),
        Some(text) => runtime.block_on(execution.script(&text)).and_then(|_| execution.output.finish()),
    };
    match result {
        // A reader that closes standard output, such as `head`, has the rows it wants.
        Err(_) if console::output_closed() => Ok(0),
        result => result.map(|()| 0),
    }
}

fn standard_input() -> Result<String> {
    let mut text = String::new();
    let read = std::io::stdin().read_to_string(&mut text);
    read.map_err(|source| Error::Read { path: "standard input".into(), source: source.into() })?;
    Ok(text)
}
