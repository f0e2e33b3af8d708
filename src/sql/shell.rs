//! The interactive shell. In: what is typed, with a history that is kept. Out: answers, one after the other, until the user leaves. It may
//! not end because a query failed.

use std::io::IsTerminal;
use std::path::PathBuf;

use rustyline::config::Behavior;
use rustyline::error::ReadlineError;
use rustyline::history::DefaultHistory;
use rustyline::{CompletionType, Config, Editor};
use tokio::runtime::Runtime;

use super::command::without_backslash;
use super::complete::Typing;
use super::execute::{Execution, Flow};
use crate::console::{self, thousands};
use crate::error::{Error, Result};
use crate::machine::environment::cache_folder;
use crate::query::statement::{i64_row, query};

/// How many lines the history keeps.
const HISTORY: usize = 5000;

/// Reads and answers until the user leaves.
pub(super) fn run(runtime: &Runtime, asking: &mut Execution) -> Result<()> {
    let mut editor = editor()?;
    let history = history_file();
    if let Some(path) = &history {
        // The first time there is none.
        let _ = editor.load_history(path);
    }
    console::print(&runtime.block_on(greeting(asking))?);
    let prompt = prompt(asking);
    loop {
        let known = runtime.block_on(asking.asked.known());
        if let Some(typing) = editor.helper_mut() {
            typing.known = known;
        }
        let line = match editor.readline(&prompt) {
            Ok(line) => line,
            Err(ReadlineError::Interrupted) => {
                console::print("(\\q or Ctrl-D leaves)");
                continue;
            }
            Err(ReadlineError::Eof) => break,
            Err(cause) => return Err(Error::Read { path: "terminal".into(), source: cause.into() }),
        };
        if line.trim().is_empty() {
            continue;
        }
        // A history that cannot be kept is no reason to stop.
        let _ = editor.add_history_entry(line.trim_end());
        if let Some(path) = &history {
            let _ = editor.append_history(path);
        }
        match runtime.block_on(answer(asking, &line)) {
            Ok(Flow::On) => {}
            Ok(Flow::Quit) => break,
            Err(Error::Stopped { exit_code: 130, .. }) => console::print("(cancelled)"),
            Err(stopped @ Error::Stopped { .. }) => return Err(stopped),
            Err(error) => console::error(&error),
        }
    }
    Ok(())
}

async fn answer(asking: &mut Execution, line: &str) -> Result<Flow> {
    if let Some(command) = without_backslash(line) {
        return asking.command(command).await;
    }
    // Runs may have committed meanwhile; where the store cannot be reached, what is known of it may do.
    match asking.refresh().await {
        Ok(()) => {}
        Err(stopped @ Error::Stopped { .. }) => return Err(stopped),
        Err(cause) => console::warn(&format!("the store is shown as it was: {cause}")),
    }
    asking.script(line).await
}

fn editor() -> Result<Editor<Typing, DefaultHistory>> {
    let behavior = if std::io::stdout().is_terminal() { Behavior::Stdio } else { Behavior::PreferTerm };
    let made = || -> rustyline::Result<_> {
        let config = Config::builder()
            .completion_type(CompletionType::List)
            .history_ignore_space(true)
            .history_ignore_dups(true)?
            .max_history_size(HISTORY)?
            .behavior(behavior)
            .build();
        let mut editor = Editor::with_config(config)?;
        editor.set_helper(Some(Typing::new()));
        Ok(editor)
    };
    made().map_err(|cause| Error::Read { path: "terminal".into(), source: cause.into() })
}

/// The file that keeps the history, in the per-user cache.
fn history_file() -> Option<PathBuf> {
    let folder = cache_folder().ok()?;
    std::fs::create_dir_all(&folder).ok()?;
    Some(folder.join("sql_history"))
}

/// The last part of the store's path.
fn prompt(asking: &Execution) -> (String, String) {
    let location = asking.asked.location();
    let name = location.url().path().trim_end_matches('/').rsplit('/').next().unwrap_or_default();
    let name = if name.is_empty() { "quarry" } else { name };
    (format!("{name}> "), format!("\u{1b}[1m{name}>\u{1b}[0m "))
}

async fn greeting(asking: &Execution) -> Result<String> {
    let sql = "SELECT (SELECT count(*) FROM documents) AS documents, (SELECT count(*) FROM entities) AS entities";
    let counts = i64_row(&query(&asking.asked.context, sql).await?)?;
    let counts: Vec<String> = counts.into_iter().map(|count| thousands(count as u64)).collect();
    Ok(format!(
        "{}: {} documents, {} mentions. A statement ends with a semicolon; \\d lists the tables, \\? helps, \\q leaves.",
        asking.asked.location(),
        counts.first().map_or("", String::as_str),
        counts.get(1).map_or("", String::as_str),
    ))
}
