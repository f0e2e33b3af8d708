//! Signals, output formats by file extension, and commands among statements.

use std::io::{Read as _, Write as _};
use std::os::unix::process::ExitStatusExt as _;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use super::{ask, made, unfinished};
use crate::support::{terminate, until};

#[test]
fn the_file_extension_selects_the_format() {
    let written = |name: &str| {
        let out = made().path(name).display().to_string();
        ask(&["SELECT value FROM range(0, 50) ORDER BY 1", "--out", &out]).ended(0);
        std::fs::read(&out).unwrap()
    };
    let text = |name: &str| String::from_utf8(written(name)).unwrap();
    assert!(text("ends.csv").starts_with("value\n0\n1\n"));
    assert_eq!(text("ends.jsonl").lines().nth(1), Some("{\"value\":1}"));
    assert!(written("ends.parquet").starts_with(b"PAR1"));
    // A table that is written to a file has all its rows.
    let table = text("ends.txt");
    assert!(table.ends_with("(50 rows)\n") && table.contains("│    49 │"), "{table}");
}

#[test]
fn a_new_output_file_closes_the_previous_one() {
    let dir = made();
    let (first, second) = (dir.path("first.csv"), dir.path("second.csv"));
    let script = format!("SELECT 1 AS one;\n\\o {}\nSELECT 2 AS two", second.display());
    ask(&[&script, "--out", first.to_str().unwrap()]).ended(0);
    assert_eq!(std::fs::read_to_string(first).unwrap(), "one\n1\n");
    assert_eq!(std::fs::read_to_string(second).unwrap(), "two\n2\n");
    assert_eq!(unfinished("first.csv"), None);
}

#[test]
fn a_command_can_end_with_a_semicolon() {
    assert_eq!(ask(&["\\dt;"]).ended(0).stdout(), ask(&["\\dt"]).ended(0).stdout());
    assert_eq!(ask(&["\\q;\nSELECT 1"]).ended(0).stdout(), "");
}

/// Waits for a program; kills it after a minute.
fn end(mut child: Child) -> ExitStatus {
    let started = Instant::now();
    while started.elapsed() < Duration::from_mins(1) {
        if let Some(status) = child.try_wait().unwrap() {
            return status;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    panic!("it did not stop");
}

/// Whether SIGTERM is pending for a process. Linux only.
fn signal_is_pending(child: &Child) -> bool {
    let status = std::fs::read_to_string(format!("/proc/{}/status", child.id())).unwrap_or_default();
    let pending = |name: &str| {
        let mask = status.lines().find_map(|line| line.strip_prefix(name)).map_or("0", str::trim);
        u64::from_str_radix(mask, 16).unwrap() & (1 << (15 - 1)) != 0
    };
    pending("SigPnd:") || pending("ShdPnd:")
}

#[test]
fn a_signal_ends_the_wait_for_standard_input() {
    let store = made().path("store").display().to_string();
    let mut child = made().command(&["sql", &store]).stdin(Stdio::piped()).spawn().unwrap();
    // The shell reads its input to the end. The pipe stays open, so it waits once it has read everything.
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(b"SELECT 1;").unwrap();
    until("the statement is read", || rustix::io::ioctl_fionread(&stdin).unwrap() == 0);
    terminate(child.id());
    assert_eq!(end(child).signal(), Some(15));
}

#[test]
fn a_signal_before_a_statement_is_not_forgotten() {
    let dir = made();
    let (store, file) = (dir.path("store").display().to_string(), dir.path("later.sql"));
    assert!(Command::new("mkfifo").arg(&file).status().unwrap().success());
    let script = format!("SELECT 1;\n\\i {}", file.display());
    let mut child =
        dir.command(&["sql", &store, &script]).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    // The shell has answered once, so it handles signals; now it waits for the next statement.
    child.stdout.as_mut().unwrap().read_exact(&mut [0; 16]).unwrap();
    terminate(child.id());
    until("the signal has reached it", || !signal_is_pending(&child));
    // The statement after the signal does not end by itself. It is written in a thread, because writing waits for a reader.
    let endless = "SELECT count(*) FROM range(0, 10000000) a, range(0, 10000000) b";
    std::thread::spawn(move || std::fs::write(file, endless));
    assert_eq!(end(child).code(), Some(143));
}
