//! `quarry completions`: shell completion scripts. In: a shell, the command line. Out: its completion script, on standard output. It must not install
//! the script.

use clap::Command;
use clap_complete::{Shell, generate};

use crate::console;
use crate::error::{Error, Result};

/// Prints the completion script of a shell for the command line of `program`.
pub fn command(shell: Shell, mut program: Command) -> Result<u8> {
    let mut script = Vec::new();
    generate(shell, &mut program, "quarry", &mut script);
    let text = String::from_utf8(script)
        .map_err(|source| Error::Engine { doing: "write the completions".into(), source: source.into() })?;
    console::print(&text);
    Ok(0)
}
