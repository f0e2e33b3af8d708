//! The large test: thousands of Reuters' articles on an S3 server, the project's model, three executors, and processes killed at random moments.
//! It wants a quarter of an hour, and runs with `QUARRY_CLUSTER_TESTS=1`.

use std::time::{Duration, Instant};

use super::{Cluster, Special, assert_rows};
use crate::moto::Moto;
use crate::objects::{Bucket, to_bucket};
use crate::promises::rows;
use crate::support::{Dir, Random, shared};

/// Articles, of Reuters' 21,578.
const ARTICLES: usize = 6000;
/// Processes that are killed.
const KILLS: usize = 8;

#[test]
fn thousands_of_articles_on_s3_survive_whoever_is_killed() {
    let Some(articles) = shared("data/raw/reuters21578.jsonl") else { return };
    let Some(server) = Moto::start("QUARRY_CLUSTER_TESTS") else { return };
    let dir = Dir::new();
    let text = std::fs::read_to_string(articles).unwrap();
    let articles = text.lines().take(ARTICLES).map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
    let articles: Vec<_> = articles.collect();
    let rows_of = |article: &'static str| articles.iter().map(move |one| one[article].as_str());
    let documents: Vec<_> = rows_of("id").zip(rows_of("text")).collect();
    for (number, part) in documents.chunks(ARTICLES / 4).enumerate() {
        dir.documents(&format!("docs/{number}.parquet"), part);
    }
    let bucket = Bucket::of(&server);
    bucket.upload(&dir, "docs");
    let job = |store: &str| {
        let path = dir.job("docs", store, "").display().to_string();
        to_bucket(&dir, &path, "docs", store);
        path
    };
    let found = |store: &str| {
        bucket.download(&format!("stores/{store}"), &dir, store);
        rows(&dir, store)
    };
    let (alone, together) = (job("alone"), job("together"));
    let mut command = dir.command(&["run", &alone]);
    command.envs(server.environment());
    let started = Instant::now();
    dir.finish(command).ended(0);
    let (whole, expected) = (started.elapsed(), found("alone"));
    assert!(expected[1].len() > ARTICLES * 9 / 10, "{} documents", expected[1].len());

    let mut cluster = Cluster::new(&dir, 0);
    cluster.environment = server.environment();
    for _ in 0..3 {
        cluster.add(&Special::default());
    }
    cluster.wait_for(3);
    let (mut random, started) = (Random(2021), Instant::now());
    let mut driver = cluster.run(&together);
    let mut killed = [0; 3];
    loop {
        let pause =
            if killed.iter().sum::<usize>() < KILLS { whole.mul_f64(0.25 * random.unit()) } else { Duration::MAX };
        let since = Instant::now();
        let ended = loop {
            match driver.try_wait().unwrap() {
                None if since.elapsed() < pause => std::thread::sleep(Duration::from_millis(50)),
                ended => break ended,
            }
        };
        match (ended, random.next() % 3) {
            (Some(status), _) if status.success() => break,
            // The scheduler was away for too long.
            (Some(status), _) => {
                assert_eq!(status.code(), Some(2));
                driver = cluster.run(&together);
            }
            (None, 0) => {
                cluster.lose(0);
                cluster.add(&Special::default());
                killed[0] += 1;
            }
            (None, 1) => {
                cluster.restart();
                killed[1] += 1;
            }
            (None, _) => {
                driver.kill().unwrap();
                driver.wait().unwrap();
                driver = cluster.run(&together);
                killed[2] += 1;
            }
        }
    }
    assert_rows(&expected, &found("together"), "together");
    let [executors, schedulers, drivers] = killed;
    eprintln!(
        "{} mentions in {whole:.1?} alone, and in {:.1?} with {executors} executors, {schedulers} schedulers and {drivers} drivers killed",
        expected[0].len(),
        started.elapsed()
    );
}
