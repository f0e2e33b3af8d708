//! The state of a store relative to specifications. In: runs under three specifications. Out: the state after each run.

use chrono::DateTime;

use crate::query::run_history::*;
use crate::store::runs::tests::run;
use crate::store::write::commit::tests::{commit_of, context, open};
use crate::store::write::write_exec::tests::stamp;
use crate::tables::{RunOutcome, RunRow, Stamp};

/// A run under `spec_id`, `minutes` after the first.
fn run_under(spec_id: &str, minutes: i64, replaces: bool) -> RunRow {
    let job = serde_json::json!({ "replace": replaces, "spec": { "begun": minutes } });
    let started_at = DateTime::from_timestamp(1_700_000_000 + 60 * minutes, 0).unwrap();
    RunRow {
        spec_id: spec_id.into(),
        job: job.to_string(),
        started_at,
        ..run(&format!("run-{minutes}"), RunOutcome::Done)
    }
}

async fn standing_of(store: &Store, spec_id: &str) -> Standing {
    standing(&context(store).await, store, spec_id).await.unwrap()
}

#[tokio::test]
async fn only_the_replacement_that_was_started_last_continues_without_being_requested() {
    let folder = tempfile::tempdir().unwrap();
    let mut store = open(&folder).await;
    let other =
        |spec_id: &str, begun: i64| Other { spec_id: spec_id.into(), parts: serde_json::json!({ "begun": begun }) };
    for (number, spec_id) in [(1, "z"), (2, "a")] {
        store.end_run(&run_under(spec_id, number, number > 1)).await.unwrap();
        let stamp = Stamp { spec_id: spec_id.into(), ..stamp(number, "run") };
        let next = commit_of(&store, stamp, &format!("{number}.parquet"), number * 10).await;
        if number == 1 {
            assert_eq!(standing_of(&store, "z").await, Standing::Alone);
        }
        store.commit(&next).await.unwrap();
        if number == 1 {
            assert_eq!(standing_of(&store, "z").await, Standing::Alone);
            assert_eq!(standing_of(&store, "a").await, Standing::Foreign(other("z", 1)));
        }
    }
    assert_eq!(standing_of(&store, "a").await, Standing::Replacing(other("z", 1)));
    assert_eq!(standing_of(&store, "z").await, Standing::Foreign(other("a", 2)));
    // Another replacement is started. The first would undo it, so it does not continue until it is requested again.
    store.begin_run(&run_under("b", 3, true)).await.unwrap();
    assert_eq!(standing_of(&store, "b").await, Standing::Replacing(other("z", 1)));
    assert_eq!(standing_of(&store, "a").await, Standing::Foreign(other("z", 1)));
    store.begin_run(&run_under("a", 4, true)).await.unwrap();
    assert_eq!(standing_of(&store, "a").await, Standing::Replacing(other("z", 1)));
    assert_eq!(standing_of(&store, "b").await, Standing::Foreign(other("z", 1)));
}
