//! A store on an S3 server. In: moto's server on this machine. Out: the same guarantees as on a local disk.

#![allow(clippy::print_stderr, reason = "a test that skips says so, and why")]

use std::process::{Command, ExitStatus};
use std::time::Duration;

use crate::store::delta_store::*;
use crate::store::maintenance::vacuum::tests::AGE;
use crate::store::runs::tests::run;
use crate::store::write::commit::tests::{commit, counts, query};
use crate::store::write::write_exec::WriteSpec;
use crate::store::write::write_exec::tests::{stamp, written};
use crate::tables::{RunOutcome, sample};
use moto::{BUCKET, Moto};

/// Names the step for the child process. The store's settings are in the environment too, as they are for users.
const STEP: &str = "QUARRY_S3_STEP";

#[path = "../../../../tests/moto.rs"]
mod moto;

/// Runs one step of [`inside`] in a process of its own.
fn step(server: &Moto, step: &str, fault: &str) -> ExitStatus {
    let name = format!("{}::inside", module_path!().split_once("::").unwrap().1);
    Command::new(std::env::current_exe().unwrap())
        .args([&name, "--exact", "--ignored", "--nocapture"])
        .env(STEP, step)
        .env("QUARRY_FAULT", fault)
        .envs(server.environment())
        .status()
        .unwrap()
}

#[test]
#[cfg_attr(not(debug_assertions), ignore = "there are no fault points without debug assertions")]
fn a_store_on_s3_keeps_its_promises() {
    let Some(server) = Moto::start("QUARRY_S3_TESTS") else { return };
    assert!(step(&server, "create", "").success());
    assert!(!step(&server, "half", "after:rejects:2").success(), "the fault ends the process");
    assert!(step(&server, "undo", "").success());
    assert!(step(&server, "two writers", "").success());
    assert!(step(&server, "many at once", "").success());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a_store_on_s3_keeps_its_promises runs it, with the settings it needs"]
async fn inside() {
    let location = StoreLocation::parse(&format!("s3://{BUCKET}/stores/news")).unwrap();
    let open = async || Store::open(location.clone(), DataType::Utf8).await.unwrap();
    match std::env::var(STEP).unwrap().as_str() {
        "create" => {
            Store::open_existing(location.clone()).await.unwrap_err();
            let mut store = open().await;
            store.begin_run(&run("run-1", RunOutcome::Running)).await.unwrap();
            let mut first = commit(&store, 1, "run-1", "a.parquet").await;
            let spec = WriteSpec::new(store.location(), stamp(1, "run-1"));
            first.files = written(spec, vec![vec![sample::three(&DataType::Utf8, "a.parquet", 10)]]).await;
            store.commit(&first).await.unwrap();
            assert_eq!(counts(&store).await, [3, 2, 1, 1]);
        }
        "half" => {
            let mut store = open().await;
            let second = commit(&store, 2, "run-1", "b.parquet").await;
            store.commit(&second).await.unwrap();
        }
        "undo" => {
            let mut store = open().await;
            assert_eq!(store.incomplete_commit(), Some(2));
            assert_eq!(store.mark_interrupted("run-2").await.unwrap(), 1);
            store.roll_back_incomplete_commit("run-2").await.unwrap();
            let mut store = open().await;
            assert_eq!((store.incomplete_commit(), store.last_commit()), (None, Some(1)));
            assert_eq!(counts(&store).await, [3, 2, 1, 1]);
            let second = commit(&store, 2, "run-2", "b.parquet").await;
            store.commit(&second).await.unwrap();
            assert_eq!(counts(&store).await, [6, 4, 2, 2]);
            let shown = query(&store, "SELECT doc_id, text FROM current_entities WHERE doc_id = 'doc-21'").await;
            assert!(shown.contains("| doc-21 | É²   |"), "{shown}");
            assert!(query(&store, "SELECT outcome FROM runs").await.contains("interrupted"));
            assert_eq!(store.vacuum(AGE).await.unwrap().files, 0, "nothing is old");
            tokio::time::sleep(Duration::from_millis(2100)).await; // S3 knows whole seconds
            // Of the killed commit, the files of `entities` and `rejects` are removed but within the retention, and the file of
            // `documents` is in no log. The first step wrote its three files twice and committed one set.
            assert_eq!(store.vacuum(Duration::from_secs(1)).await.unwrap().files, 1 + 3);
            assert_eq!(counts(&open().await).await, [6, 4, 2, 2]);
        }
        "two writers" => {
            let (mut one, mut other) = (open().await, open().await);
            let ours = commit(&one, 3, "run-3", "c.parquet").await;
            let theirs = commit(&other, 3, "run-4", "d.parquet").await;
            one.commit(&ours).await.unwrap();
            let error = other.commit(&theirs).await.unwrap_err();
            assert!(matches!(&error, Error::Conflict { other, .. } if other == "the run run-3"), "{error:?}");
            assert_eq!(error.exit_code(), 2);
            assert_eq!(counts(&open().await).await, [9, 6, 3, 3]);
        }
        "many at once" => {
            let mut writers = Vec::new();
            for writer in 0..4 {
                let mut store = open().await;
                let next = commit(&store, 4, &format!("run-4{writer}"), "e.parquet").await;
                writers.push(tokio::spawn(async move { store.commit(&next).await }));
            }
            let mut won = 0;
            for writer in writers {
                match writer.await.unwrap() {
                    Ok(()) => won += 1,
                    Err(error) => assert!(matches!(error, Error::Conflict { .. }), "{error:?}"),
                }
            }
            assert_eq!(won, 1);
            let store = open().await;
            assert_eq!((store.incomplete_commit(), store.last_commit()), (None, Some(4)));
            assert_eq!(counts(&store).await, [12, 8, 4, 4]);
        }
        other => panic!("there is no step `{other}`"),
    }
}
