//! Memory and time of many commits by one process.

use std::collections::BTreeSet;
use std::time::Instant;

use crate::store::write::commit::tests::*;

/// Resident memory of this process in kB.
fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.and_then(|line| line.trim().trim_end_matches(" kB").parse().ok()).unwrap_or_default()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "measures; `QUARRY_COMMITS` says how many commits"]
async fn many_commits() {
    let count = std::env::var("QUARRY_COMMITS").ok().and_then(|count| count.parse().ok()).unwrap_or(400);
    let folder = tempfile::tempdir().unwrap();
    let mut store = open(&folder).await;
    let mut began = Instant::now();
    let (mut prep, mut catch, mut ahead) = (0.0, 0.0, 0.0);
    for number in 1..=count {
        let t = Instant::now();
        let mut next = commit(&store, number, "run-1", "a.parquet").await;
        prep += t.elapsed().as_secs_f64();
        let t = Instant::now();
        if number > 1 {
            store.catch_up(&[Table::Sources]).await.unwrap();
            let paths = BTreeSet::from(["a.parquet".to_owned()]);
            next.replace(store.forget_sources("5ec", "77", &paths).await.unwrap());
        }
        catch += t.elapsed().as_secs_f64();
        let t = Instant::now();
        store.commit_ahead(&next).await.unwrap();
        ahead += t.elapsed().as_secs_f64();
        if number % 100 == 0 {
            println!("{number}: {:.2} s for 100 commits (files {prep:.2}, sources {catch:.2}, commit {ahead:.2}), {} kB", began.elapsed().as_secs_f64(), resident());
            began = Instant::now();
            (prep, catch, ahead) = (0.0, 0.0, 0.0);
        }
    }
}
