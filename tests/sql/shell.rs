//! Statements from standard input, a file and a terminal.

use std::process::{Command, Stdio};

use insta::assert_snapshot;

use super::{ask, made, unfinished};
use crate::support::project;

#[test]
fn statements_come_from_standard_input_or_a_file() {
    let dir = made();
    let script = "-- two results and a command\nCREATE VIEW people AS SELECT DISTINCT text FROM current_entities WHERE entity_type = 'PER';
SELECT count(*) AS people FROM people; \\x on
SELECT 'a;b' AS text, 1 AS one";
    let store = dir.path("store").display().to_string();
    let mut child = dir.command(&["sql", &store]);
    let mut child = child.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    std::io::Write::write_all(&mut child.stdin.take().unwrap(), script.as_bytes()).unwrap();
    let piped = String::from_utf8(child.wait_with_output().unwrap().stdout).unwrap();
    assert_snapshot!(piped, @r##"
    ┌────────┐
    │ people │
    ├────────┤
    │      4 │
    └────────┘
    (1 row)
    ─[ 1 ]─
    text │ a;b
    one  │ 1
    (1 row)
    "##);
    let file = dir.write("people.sql", script).display().to_string();
    assert_eq!(ask(&["--file", &file]).ended(0).stdout(), piped);
    assert_eq!(ask(&[&format!("\\i {file}")]).ended(0).stdout(), piped);
    let looped = dir.write("loop.sql", &format!("\\i {}", dir.path("loop.sql").display())).display().to_string();
    assert!(ask(&["--file", &looped]).ended(1).error().contains("the files include each other"));
}

#[test]
fn ctrl_c_ends_a_query() {
    let dir = made();
    let out = dir.path("endless.csv");
    let store = dir.path("store").display().to_string();
    let sql = "SELECT a.value FROM range(0, 10000000) a, range(0, 10000000) b";
    let mut child = dir
        .command(&["sql", &store, sql, "--format", "csv", "--out", out.to_str().unwrap()])
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    while unfinished("endless.csv").is_none() {
        std::thread::sleep(std::time::Duration::from_millis(20));
        assert!(child.try_wait().unwrap().is_none(), "it ended by itself");
    }
    Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap();
    let ended = child.wait_with_output().unwrap();
    assert_eq!(ended.status.code(), Some(130), "{}", String::from_utf8_lossy(&ended.stderr));
    assert!(!out.exists());
    assert_eq!(unfinished("endless.csv"), None);
}

/// Types into the shell on a pseudo-terminal. Returns the screen without cursor movements; `None` if there is no Python.
fn typed(lines: &[&str]) -> Option<String> {
    let dir = made();
    let store = dir.path("store").display().to_string();
    let script = project().join("tests/terminal.py");
    let mut command = Command::new("python3");
    command.arg(script).arg(env!("CARGO_BIN_EXE_quarry")).args(["sql", &store]).current_dir(dir.path(""));
    command.env("QUARRY_CACHE", dir.path("cache")).env("TERM", "xterm").env("NO_COLOR", "1");
    let Ok(mut child) = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn() else {
        eprintln!("skipped: there is no python3, which types into a terminal");
        return None;
    };
    std::io::Write::write_all(&mut child.stdin.take().unwrap(), (lines.join("\n") + "\n").as_bytes()).unwrap();
    let ended = child.wait_with_output().unwrap();
    let screen = String::from_utf8_lossy(&ended.stdout).replace("\r\n", "\n");
    assert!(ended.status.success(), "{screen}");
    Some(screen)
}

#[test]
fn the_shell_completes_keeps_history_and_continues_after_a_cancel() {
    if std::env::var_os("QUARRY_TERMINAL_TESTS").is_none() {
        eprintln!(
            "skipped: QUARRY_TERMINAL_TESTS=1 types into the shell, which wants a machine that does nothing else"
        );
        return;
    }
    // Keys are written as the script reads them: ⇥ Tab, ^C, ^D, ^P, ↵ Enter.
    let Some(screen) = typed(&[
        "SELECT count(*) AS n FROM current_ent⇥;↵",
        "(1 row",
        "SELECT 40 +↵2 AS answer;↵",
        "42",
        "SELECT * FROM entitis;↵",
        "did you mean `entities`?",
        "SELECT count(*) FROM range(0, 10000000) a, range(0, 10000000) b;↵",
        "@1",
        "^C",
        "(cancelled)",
        "\\d runs↵",
        "started_at",
        "\\timing off↵",
        "timing is off",
        "SELECT 41 AS before;↵",
        "(1 row)",
        "^P↵",
        "(1 row)",
        "\\q↵",
    ]) else {
        return;
    };
    assert!(screen.contains("FROM current_entities"), "{screen}");
    assert_eq!(screen.matches("│     41 │").count(), 2, "{screen}");
    let history = std::fs::read_to_string(made().path("cache/sql_history")).unwrap();
    assert!(history.contains("SELECT 40 +\\n2 AS answer;") && history.contains("timing off"), "{history}");
}
