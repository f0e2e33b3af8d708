//! The interactive shell. In: typed lines, kept in a history. Out: results, one after the other, until the user quits. It must not end
//! because a query failed.

use std::io::IsTerminal;
use std::path::PathBuf;

use rustyline::config::Behavior;
use rustyline::error::ReadlineError;
use rustyline::history::DefaultHistory;
use rustyline::{CompletionType, Config, Editor};
use tokio::runtime::Runtime;

use super::command::without_backslash;
use super::complete::SqlHelper;
use super::execute::{Execution, Flow};
use crate::console::{self, thousands};
use crate::error::{Error, Result};
use crate::machine::environment::cache_folder;
use crate::query::statement::count;
use crate::sanitize::without_secrets;
use crate::tables::Table;

/// Maximum number of lines in the history.
const HISTORY: usize = 5000;

/// Reads and runs lines until the user quits.
pub(super) fn run(runtime: &Runtime, execution: &mut Execution) -> Result<()> {
    let mut editor = editor()?;
    let history = history_file();
    if let Some(path) = &history {
        // The first session has no history file.
        let _ = editor.load_history(path);
    }
    console::print(&runtime.block_on(greeting(execution))?);
    let prompt = prompt(execution);
    loop {
        let vocabulary = runtime.block_on(execution.session.vocabulary());
        if let Some(helper) = editor.helper_mut() {
            helper.vocabulary = vocabulary;
        }
        let line = match editor.readline(&prompt) {
            Ok(line) => line,
            Err(ReadlineError::Interrupted) => {
                console::print("(\\q or Ctrl-D quits)");
                continue;
            }
            Err(ReadlineError::Eof) => break,
            Err(cause) => return Err(Error::Read { path: "terminal".into(), source: cause.into() }),
        };
        if line.trim().is_empty() {
            continue;
        }
        // A history that cannot be saved must not end the shell.
        let _ = editor.add_history_entry(without_secrets(line.trim_end()).as_ref());
        if let Some(path) = &history {
            let _ = editor.append_history(path);
        }
        match runtime.block_on(run_line(execution, &line)) {
            Ok(Flow::Continue) => {}
            Ok(Flow::Quit) => break,
            Err(Error::Stopped { exit_code: 130, .. }) => console::print("(cancelled)"),
            Err(stopped @ Error::Stopped { .. }) => return Err(stopped),
            Err(error) => console::error(&error),
        }
    }
    Ok(())
}

async fn run_line(execution: &mut Execution, line: &str) -> Result<Flow> {
    if let Some(command) = without_backslash(line) {
        return execution.command(command).await;
    }
    // Runs can have committed in the meantime. If the store cannot be reached, its last known state is used.
    match execution.refresh().await {
        Ok(()) => {}
        Err(stopped @ Error::Stopped { .. }) => return Err(stopped),
        Err(cause) => {
            tracing::warn!("the store cannot be refreshed, so its last known state is used: {cause}");
        }
    }
    execution.script(line).await
}

fn editor() -> Result<Editor<SqlHelper, DefaultHistory>> {
    let behavior = if std::io::stdout().is_terminal() { Behavior::Stdio } else { Behavior::PreferTerm };
    let build = || -> rustyline::Result<_> {
        let config = Config::builder()
            .completion_type(CompletionType::List)
            .history_ignore_space(true)
            .history_ignore_dups(true)?
            .max_history_size(HISTORY)?
            .behavior(behavior)
            .build();
        let mut editor = Editor::with_config(config)?;
        editor.set_helper(Some(SqlHelper::new()));
        Ok(editor)
    };
    build().map_err(|cause| Error::Read { path: "terminal".into(), source: cause.into() })
}

/// The history file, in the per-user cache.
fn history_file() -> Option<PathBuf> {
    let folder = cache_folder().ok()?;
    std::fs::create_dir_all(&folder).ok()?;
    Some(folder.join("sql_history"))
}

/// The prompt: the last part of the store's path.
fn prompt(execution: &Execution) -> (String, String) {
    let location = execution.session.location();
    let name = location.url().path().trim_end_matches('/').rsplit('/').next().unwrap_or_default();
    let name = if name.is_empty() { "quarry" } else { name };
    (format!("{name}> "), format!("\u{1b}[1m{name}>\u{1b}[0m "))
}

async fn greeting(execution: &Execution) -> Result<String> {
    let counted = async |table: Table| {
        let rows = count(&execution.session.context, &format!("SELECT count(*) FROM {}", table.name())).await?;
        Ok::<_, Error>(thousands(rows as u64))
    };
    Ok(format!(
        "{}: {} documents, {} mentions. End statements with a semicolon. \\d lists the tables, \\? shows help, \\q quits.",
        execution.session.location(),
        counted(Table::Documents).await?,
        counted(Table::Entities).await?,
    ))
}
