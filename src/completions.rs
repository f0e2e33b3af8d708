//! `quarry completions`: a script that completes commands and options. In: a shell. Out: its script, on standard output. It may not
//! install it.

use clap::CommandFactory;
use clap_complete::{Shell, generate};

use crate::cli::Cli;
use crate::console;
use crate::error::{Error, Result};

/// Prints the script for a shell.
pub fn command(shell: Shell) -> Result<u8> {
    let mut script = Vec::new();
    generate(shell, &mut Cli::command(), "quarry", &mut script);
    let text = String::from_utf8(script)
        .map_err(|source| Error::Engine { doing: "write the completions".into(), source: source.into() })?;
    console::print(&text);
    Ok(0)
}
