//! The scheduler files, run as their schedulers run them, if these are on the machine.

use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

use crate::support::{Dir, project};

/// Runs a program; `None`, with a note that the test is skipped, if there is none.
fn run(program: &str, arguments: &[&str]) -> Option<Output> {
    let output = Command::new(program).args(arguments).stdin(Stdio::null()).output();
    if output.is_err() {
        eprintln!("skipped: there is no `{program}` on this machine");
    }
    output.ok()
}

fn said(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// A corpus of one day and the job of `jobs/nightly.toml` with the small model.
fn nightly(dir: &Dir) -> PathBuf {
    dir.documents("corpus/dt=2026-01-31/a.parquet", &[(Some("a"), Some("Rosa Parks was born in Tuskegee ."))]);
    let text = std::fs::read_to_string(project().join("jobs/nightly.toml")).unwrap();
    let model = dir.small_model().display().to_string();
    let schema = project().join("schemas/conll03.toml").display().to_string();
    let text = text
        .replace("\"models/default\"", &format!("\"{model}\"\ndevice = \"cpu\""))
        .replace("\"schemas/conll03.toml\"", &format!("\"{schema}\""))
        .replace("id = \"doc_id\"", "id = \"id\"");
    dir.write("home/jobs/nightly.toml", &text)
}

/// Runs the cron script with the job: two attempts, no pause between them.
fn cron(dir: &Dir, day: &str, quarry: &str) -> Output {
    let job = dir.path("home/jobs/nightly.toml");
    let mut command = Command::new("sh");
    command.arg(project().join("jobs/cron/quarry-nightly.sh")).arg(job).args(["--set", "corpus=../corpus"]);
    command.args(["--set", "store=../store"]).env("QUARRY", quarry).env("QUARRY_DATE", day);
    command.env("QUARRY_LOGS", dir.path("logs")).env("QUARRY_TRIES", "2").env("QUARRY_WAIT", "0");
    command.output().unwrap()
}

#[test]
fn the_cron_script_runs_a_day_and_keeps_its_exit_code() {
    let dir = Dir::new();
    nightly(&dir);
    let quarry = env!("CARGO_BIN_EXE_quarry");
    let done = cron(&dir, "2026-01-31", quarry);
    assert_eq!((done.status.code(), said(&done)), (Some(0), String::new()));
    assert_eq!(dir.rows("store", "documents", "doc_id", ""), ["a"]);
    let log = std::fs::read_to_string(dir.path("logs/nightly-2026-01-31.log")).unwrap();
    assert!(log.contains("│ documents "), "{log}");

    // A day without documents is not retried.
    let missing = cron(&dir, "2026-02-01", quarry);
    assert_eq!(missing.status.code(), Some(1));
    assert!(
        said(&missing).contains("nightly of 2026-02-01 ended with exit code 1 after 1 tries"),
        "{}",
        said(&missing)
    );
    assert!(said(&missing).contains("hint: the format is known by the file extension"), "{}", said(&missing));

    dir.write("corpus/dt=2026-02-02/a.parquet", "no Parquet");
    dir.documents("corpus/dt=2026-02-02/b.parquet", &[(Some("b"), Some("Berlin"))]);
    let rejects = cron(&dir, "2026-02-02", quarry);
    assert_eq!(rejects.status.code(), Some(3), "{}", said(&rejects));
    assert!(said(&rejects).contains("is done, with unreadable files or too many rejects"), "{}", said(&rejects));

    // If another run writes to the store, there is a retry.
    let lock = std::fs::OpenOptions::new().write(true).open(dir.path("store/.quarry.lock")).unwrap();
    lock.lock().unwrap();
    let refused = cron(&dir, "2026-01-31", quarry);
    assert_eq!(refused.status.code(), Some(2), "{}", said(&refused));
    assert!(
        said(&refused).contains("after 2 tries") && said(&refused).contains("is being written to"),
        "{}",
        said(&refused)
    );
}

#[test]
fn the_cron_script_runs_once_at_a_time() {
    let dir = Dir::new();
    nightly(&dir);
    std::fs::create_dir_all(dir.path("logs")).unwrap();
    let lock = std::fs::File::create(dir.path("logs/nightly.lock")).unwrap();
    lock.lock().unwrap();
    let second = cron(&dir, "2026-01-31", env!("CARGO_BIN_EXE_quarry"));
    assert_eq!(second.status.code(), Some(75), "{}", said(&second));
    assert!(said(&second).contains("still under way"), "{}", said(&second));
    assert!(!dir.path("store").exists());
}

#[test]
fn systemd_accepts_the_units() {
    let units = [
        "systemd/quarry-nightly.service",
        "systemd/quarry-nightly.timer",
        "cluster/quarry-scheduler.service",
        "cluster/quarry-executor.service",
    ];
    let units = units.map(|unit| project().join("jobs").join(unit).display().to_string());
    let verify = ["verify", &units[0], &units[1], &units[2], &units[3]];
    let Some(output) = run("systemd-analyze", &verify) else { return };
    assert!(output.status.success() && said(&output).trim().is_empty(), "{}", said(&output));
    let Some(output) = run("systemd-analyze", &["calendar", "*-*-* 02:15:00"]) else { return };
    assert!(output.status.success(), "{}", said(&output));
}

/// Against the schemas of the Python package `kubernetes-validate` (1.37 was used).
#[test]
fn kubernetes_accepts_the_manifests() {
    let manifests = ["kubernetes/cronjob.yaml", "cluster/kubernetes.yaml"];
    let manifests = manifests.map(|file| project().join("jobs").join(file).display().to_string());
    let Some(output) = run("kubernetes-validate", &["--strict", &manifests[0], &manifests[1]]) else { return };
    assert!(output.status.success(), "{}", said(&output));
}

#[test]
fn the_airflow_dag_is_python() {
    let dag = project().join("jobs/airflow/quarry_dag.py").display().to_string();
    let parse = "import ast, sys; ast.parse(open(sys.argv[1], encoding='utf-8').read())";
    let Some(output) = run("python3", &["-c", parse, &dag]) else { return };
    assert!(output.status.success(), "{}", said(&output));
    // Skipped only without any Airflow: the DAG must work with every release.
    let Some(output) = run("python3", &["-c", "import airflow.sdk"]) else { return };
    if !output.status.success() {
        eprintln!("skipped: Airflow 3 is not on this machine");
        return;
    }
    let Some(output) = run("python3", &["-c", "import sys, runpy; runpy.run_path(sys.argv[1])", &dag]) else { return };
    assert!(output.status.success(), "{}", said(&output));
}

/// Replaces Airflow by a stand-in for its first releases, and prints the result of the DAG's task for each exit code.
const EXIT_CODES: &str = r#"
import json, runpy, sys, types

class Task:
    def __init__(self, function):
        self.function = function
    def __call__(self, *_):
        return self
    def __rshift__(self, other):
        return other

class Given:
    def __init__(self, *_, **named):
        pass
    def __enter__(self):
        return self
    def __exit__(self, *_):
        pass

class Retried(Exception):
    pass

class Failed(Exception):
    pass

def task(function=None, **named):
    return Task(function) if function else Task

task.sensor = task
for name, names in {
    "airflow": {},
    "airflow.sdk": {"DAG": Given, "Asset": Given, "Metadata": Given, "task": task},
    "airflow.exceptions": {"AirflowException": Retried, "AirflowFailException": Failed, "AirflowSkipException": Failed},
    "airflow.timetables": {},
    "airflow.timetables.interval": {"CronDataIntervalTimetable": Given},
}.items():
    sys.modules[name] = types.ModuleType(name)
    vars(sys.modules[name]).update(names)
extract = runpy.run_path(sys.argv[1])["extract"].function
keys = "run_id", "exit_code", "documents", "mentions", "rejects", "seconds", "rejects_by_reason"
for code in 0, 1, 2, 3, 130, 143:
    extract.__globals__["quarry"] = lambda *_: (code, json.dumps(dict.fromkeys(keys, code)))
    try:
        list(extract("2026-01-31"))
        print(code, "done")
    except (Retried, Failed) as error:
        print(code, type(error).__name__)
"#;

#[test]
fn the_airflow_dag_retries_only_if_a_retry_can_help() {
    let dag = project().join("jobs/airflow/quarry_dag.py").display().to_string();
    let Some(output) = run("python3", &["-c", EXIT_CODES, &dag]) else { return };
    assert!(output.status.success(), "{}", said(&output));
    let came = String::from_utf8_lossy(&output.stdout);
    assert_eq!(came.trim(), "0 done\n1 Failed\n2 Retried\n3 done\n130 Retried\n143 Retried");
}

#[test]
fn the_job_in_the_kubernetes_cron_job_is_valid() {
    let dir = Dir::new();
    let text = std::fs::read_to_string(project().join("jobs/kubernetes/cronjob.yaml")).unwrap();
    let job: Vec<&str> = text
        .lines()
        .skip_while(|line| *line != "  nightly.toml: |")
        .skip(1)
        .take_while(|line| line.starts_with("    "))
        .map(|line| &line[4..])
        .collect();
    let job = job.join("\n") + "\n";
    let path = dir.write("nightly.toml", &job);
    let set = [("date".to_owned(), "2026-01-31".to_owned())];
    // Paths are relative to the folder of the image; here to the project.
    let home = project().display().to_string();
    let here = job.replace("\"schemas/", &format!("\"{home}/schemas/"));
    let path = if here == job { path } else { dir.write("here.toml", &here) };
    let read = quarry::job::Job::read(&path, &set).unwrap();
    assert_eq!(read.input.documents, "s3://corpus/news/dt=2026-01-31/*.parquet");
}
