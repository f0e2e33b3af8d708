//! Memory and time of many commits by one process.

#![allow(clippy::print_stderr, reason = "a measurement prints its figures")]

use std::collections::BTreeSet;
use std::time::Instant;

use crate::store::write::commit::tests::*;

/// Resident memory of this process in kB.
fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.and_then(|line| line.trim().trim_end_matches(" kB").parse().ok()).unwrap_or_default()
}

/// Each commit has three documents of the same file, whose row in `sources` it replaces, as in a run over one long file.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "measures: QUARRY_COMMITS says how many commits"]
async fn many_commits() {
    let count = std::env::var("QUARRY_COMMITS").ok().and_then(|count| count.parse().ok()).unwrap_or(500);
    let folder = tempfile::tempdir().unwrap();
    let mut store = open(&folder).await;
    let paths = BTreeSet::from(["a.parquet".to_owned()]);
    let mut began = Instant::now();
    for number in 1..=count {
        let mut next = commit(&store, number, "run-1", "a.parquet").await;
        if number > 1 {
            store.catch_up(&[Table::Sources]).await.unwrap();
            next.replace(store.forget_sources("5ec", "77", &paths).await.unwrap());
        }
        store.commit_ahead(&next).await.unwrap();
        if number % 100 == 0 {
            let seconds = began.elapsed().as_secs_f64();
            eprintln!("to commit {number}: {seconds:.2} s for 100 commits, {} kB resident", resident());
            began = Instant::now();
        }
    }
}
