//! `quarry man`: manual pages. In: a folder, the command line. Out: `quarry.1` and a page for each command, in that folder. It must not write elsewhere.

use std::path::Path;

use clap::Command;
use clap_mangen::Man;

use crate::console;
use crate::error::{Error, Result};
use crate::machine::files::write_whole;

/// Writes one page for `program` and one for each of its commands.
pub fn command(out: &Path, program: Command) -> Result<u8> {
    std::fs::create_dir_all(out).map_err(|source| Error::Write { path: out.into(), source: source.into() })?;
    let mut program = program.disable_help_subcommand(true);
    program.build();
    let written = pages(out, &program)?;
    console::print(&format!("{written} pages in {}", out.display()));
    Ok(0)
}

/// Writes the pages of a command and its subcommands, and returns their number.
fn pages(out: &Path, command: &Command) -> Result<usize> {
    let name = command.get_display_name().unwrap_or_else(|| command.get_name()).to_owned();
    let manual = Man::new(command.clone()).title(name.to_uppercase());
    let path = out.join(manual.get_filename());
    let mut page = Vec::new();
    manual.render(&mut page).map_err(|source| Error::Write { path: path.clone(), source: source.into() })?;
    write_whole(&path, &page)?;
    let subcommands = command.get_subcommands().filter(|subcommand| !subcommand.is_hide_set());
    subcommands.map(|subcommand| pages(out, subcommand)).try_fold(1, |sum, more| more.map(|more| sum + more))
}
