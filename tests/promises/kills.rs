//! Runs that are killed at random moments and restarted.

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use super::{ROWS, corpus, job, rows};
use crate::support::{Dir, Random};

/// The stores of a test that kills runs.
pub(crate) struct Stores<'test> {
    pub(crate) dir: &'test Dir,
    /// Environment variables of the program.
    pub(crate) environment: Vec<(&'static str, String)>,
    /// Writes the job that fills a store.
    pub(crate) job: &'test dyn Fn(&str) -> String,
    /// Copies a remote store into the folder.
    pub(crate) fetch: &'test dyn Fn(&str),
}

impl Stores<'_> {
    fn rows(&self, store: &str) -> Vec<Vec<String>> {
        (self.fetch)(store);
        rows(self.dir, store)
    }

    fn command(&self, job: &str) -> Command {
        let mut command = self.dir.command(&["run", job]);
        command.envs(self.environment.clone()).stdout(Stdio::null()).stderr(Stdio::null());
        command
    }

    /// Fills one store without interruption, and others with runs that are killed and restarted a number of times: their tables must
    /// be the same.
    pub(crate) fn survive(&self, kills: usize, random: &mut Random) {
        let undisturbed = (self.job)("undisturbed");
        let started = Instant::now();
        assert_eq!(self.command(&undisturbed).status().unwrap().code(), Some(3));
        let whole = started.elapsed();
        let expected = self.rows("undisturbed");
        assert!(
            expected[0].len() > 300 && expected[2].len() > 50,
            "{} mentions, {} rejects",
            expected[0].len(),
            expected[2].len()
        );
        let started = Instant::now();
        let (mut killed, mut interrupted, mut round) = (0, 0, 0);
        while killed < kills {
            round += 1;
            assert!(round < 20, "only {killed} kills");
            let store = format!("disturbed-{round}");
            let disturbed = (self.job)(&store);
            loop {
                match self.run_or_kill(&store, &disturbed, whole.mul_f64(0.7 * random.unit()), random) {
                    None => killed += 1,
                    Some(3) => break,
                    Some(code) => panic!("it ended with {code}"),
                }
            }
            let found = self.rows(&store);
            let outcomes = self.dir.rows(&store, "runs", "outcome", "");
            interrupted += outcomes.iter().filter(|outcome| *outcome == "interrupted").count();
            assert!(outcomes.iter().all(|outcome| ["done", "interrupted"].contains(&outcome.as_str())), "{outcomes:?}");
            for ((table, _), (expected, found)) in ROWS.iter().zip(expected.iter().zip(found)) {
                let without = |rows: &[String], others: &[String]| -> Vec<String> {
                    rows.iter().filter(|row| !others.contains(row)).take(5).cloned().collect()
                };
                let (missing, surplus) = (without(expected, &found), without(&found, expected));
                assert!(expected == &found, "`{table}` lacks {missing:#?} and has {surplus:#?}");
            }
        }
        eprintln!(
            "{killed} kills in {round} stores, {interrupted} of them after the run had begun, in {:.0?}; an undisturbed run takes {whole:.1?}",
            started.elapsed()
        );
        assert!(interrupted > 0, "no run was killed after it had begun");
    }

    /// Starts the job and kills it after `time`, or makes it abort between the transactions of a commit. Returns its exit code if it
    /// ended before.
    fn run_or_kill(&self, store: &str, job: &str, time: Duration, random: &mut Random) -> Option<i32> {
        let mut command = self.command(job);
        if random.next().is_multiple_of(3) {
            (self.fetch)(store);
            let done = self.dir.rows(store, "documents", "coalesce(max(commit), 0)", "").concat();
            let next = done.parse::<u64>().unwrap_or(0) + 1 + random.next() % 3;
            let table = ["entities", "rejects", "sources", "documents"][random.next() as usize % 4];
            let when = ["after", "before"][random.next() as usize % 2];
            command.env("QUARRY_FAULT", format!("{when}:{table}:{next}"));
        }
        let mut child = command.spawn().unwrap();
        let started = Instant::now();
        loop {
            if let Some(status) = child.try_wait().unwrap() {
                return status.code();
            }
            if started.elapsed() >= time {
                child.kill().unwrap();
                return child.wait().unwrap().code();
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

/// The documents of a test that kills runs: two valid files, one that is not Parquet, and one that is damaged in the middle.
pub(crate) fn documents_to_lose(dir: &Dir, random: &mut Random) {
    corpus(dir, "docs/a.parquet", 0, 2500, random);
    corpus(dir, "docs/b.parquet", 2000, 1500, random);
    dir.write("docs/c.parquet", "no Parquet");
    corpus(dir, "docs/d.parquet", 4000, 1500, random);
    dir.tear("docs/d.parquet", "body", 700);
}

#[test]
fn a_run_killed_at_any_moment_loses_nothing() {
    let dir = Dir::new();
    let mut random = Random(41);
    documents_to_lose(&dir, &mut random);
    let model = dir.small_model().display().to_string();
    let kills = if std::env::var_os("QUARRY_FULL_TESTS").is_some() { 30 } else { 8 };
    Stores { dir: &dir, environment: vec![], job: &|store| job(&dir, "docs", store, &model, ""), fetch: &|_| {} }
        .survive(kills, &mut random);
}
