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
mod settings;
mod shell;
mod text_table;

use std::io::Read;

use tokio::runtime::Runtime;

use crate::console;
use crate::error::{Error, Result};

use execute::Execution;
use output::Output;
use session::SqlSession;

pub use settings::{RowFormat, Settings, Statements};

/// Runs the statements, or an interactive shell.
pub fn command(settings: &Settings, runtime: &Runtime) -> Result<u8> {
    let shell = settings.statements == Statements::Shell;
    // Before signals are caught, so that a signal ends the wait for standard input.
    let text = match &settings.statements {
        Statements::Text(text) => Some(text.clone()),
        Statements::File(path) => Some(
            std::fs::read_to_string(path)
                .map_err(|source| Error::Read { path: path.clone(), source: source.into() })?,
        ),
        Statements::Input => Some(standard_input()?),
        Statements::Shell => None,
    };
    let session = runtime.block_on(SqlSession::open(settings))?;
    let mut output = Output::new(settings.format, settings.rows, shell, session.location().folder());
    match &settings.out {
        Some(path) if shell => output.redirect(Some(path))?,
        Some(path) => output.write_atomically(path)?,
        None => {}
    }
    let mut execution = Execution::new(session, output)?;
    let result = match text {
        None => shell::run(runtime, &mut execution),
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
