//! Stores that another tool, or another server, has changed: what the program cannot honour is an error that names it, with exit code 1,
//! from every command that reads a store.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::{Arc, Mutex};

use crate::http::{Response, serve};
use crate::support::Dir;

/// Runs a small job.
fn filled(dir: &Dir, store: &str) -> String {
    dir.documents("docs/a.parquet", &[(Some("a"), Some("Ada met Babbage .")), (Some("b"), Some("London ."))]);
    let job = job(dir, store);
    dir.quarry(&["run", &job]).ended(0);
    job
}

fn job(dir: &Dir, store: &str) -> String {
    let model = format!("[model]\npath = '{}'\ndevice = 'cpu'\nprecision = 'fp32'", dir.small_model().display());
    let job = dir.job("docs", "STORE", &model);
    let text = std::fs::read_to_string(&job).unwrap().replace("STORE", store);
    dir.write("job.toml", &text).display().to_string()
}

/// What every command that reads the store says, with exit code 1.
fn refusals(dir: &Dir, job: &str, store: &str) -> Vec<String> {
    let store = dir.path(store).display().to_string();
    let commands: [&[&str]; 6] = [
        &["run", job],
        &["run", job, "--explain"],
        &["run", job, "--dry-run"],
        &["sql", &store, "SELECT count(*) FROM entities"],
        &["report", &store, "page.html"],
        &["doctor", job],
    ];
    commands
        .iter()
        .map(|command| {
            let ended = dir.quarry(command).ended(1);
            format!("{}{}", ended.stdout(), ended.stderr())
        })
        .collect()
}

/// Appends a log entry to a table.
fn append(dir: &Dir, store: &str, table: &str, entry: &str) {
    let log = dir.path(store).join(table).join("_delta_log");
    let versions = std::fs::read_dir(&log).unwrap().filter(|file| {
        let name = file.as_ref().unwrap().file_name();
        Path::new(&name).extension().is_some_and(|end| end == "json")
    });
    std::fs::write(log.join(format!("{:020}.json", versions.count())), entry).unwrap();
}

#[test]
fn a_feature_that_is_not_honoured_is_refused_before_a_row_is_read() {
    let protocols = [
        (
            r#"{"protocol":{"minReaderVersion":3,"minWriterVersion":7,"readerFeatures":["deletionVectors"],"writerFeatures":["deletionVectors"]}}"#,
            "has the feature `deletionVectors`, which",
        ),
        (
            r#"{"protocol":{"minReaderVersion":3,"minWriterVersion":7,"readerFeatures":["fromTheFuture"],"writerFeatures":["fromTheFuture"]}}"#,
            "has the feature `fromTheFuture`, which",
        ),
        (r#"{"protocol":{"minReaderVersion":2,"minWriterVersion":5}}"#, "has the reader version 2, which"),
        (
            r#"{"protocol":{"minReaderVersion":1,"minWriterVersion":7,"writerFeatures":["rowTracking","domainMetadata"]}}"#,
            "has the feature `rowTracking`, which",
        ),
        (
            r#"{"add":{"path":"spec_id=5ec/part-1.parquet","partitionValues":{"spec_id":"5ec"},"size":900,"modificationTime":1,"dataChange":true,"stats":"{\"numRecords\":2}","deletionVector":{"storageType":"u","pathOrInlineDv":"vBn[lx{q8@P<9BNH/isA","offset":1,"sizeInBytes":36,"cardinality":1}}}"#,
            "has a deletion vector, which deletes rows of `spec_id=5ec/part-1.parquet`, which",
        ),
    ];
    let dir = Dir::new();
    let job = filled(&dir, "store");
    let sound: BTreeSet<String> = dir.rows("store", "documents", "doc_id", "").into_iter().collect();
    assert_eq!(sound.len(), 2);
    for (place, (entry, expected)) in protocols.into_iter().enumerate() {
        let table = ["entities", "documents", "sources", "rejects", "entities"][place];
        append(&dir, "store", table, entry);
        for said in refusals(&dir, &job, "store") {
            assert!(said.contains(&format!("the table `{table}` of the store")) && said.contains(expected), "{said}");
            assert!(said.contains("Drop the feature with that tool"), "{said}");
        }
        let log = dir.path("store").join(table).join("_delta_log");
        let newest = std::fs::read_dir(&log).unwrap().map(|file| file.unwrap().path()).max().unwrap();
        std::fs::remove_file(newest).unwrap();
    }
    dir.quarry(&["run", &job]).ended(0);
}

#[test]
fn a_damaged_store_is_an_error_of_every_command() {
    let dir = Dir::new();
    let job = filled(&dir, "store");
    let entry = dir.path("store/entities/_delta_log/00000000000000000001.json");
    let whole = std::fs::read(&entry).unwrap();
    std::fs::write(&entry, "").unwrap();
    for said in refusals(&dir, &job, "store") {
        let reason = "is damaged: its log entry `_delta_log/00000000000000000001.json` is empty";
        assert!(said.contains("the table `entities` of") && said.contains(reason), "{said}");
        assert!(said.contains("restore it from a backup"), "{said}");
    }
    std::fs::write(&entry, whole).unwrap();
    std::fs::remove_dir_all(dir.path("store/documents")).unwrap();
    for said in refusals(&dir, &job, "store") {
        assert!(said.contains("the table `documents` of") && said.contains("is damaged: its log is gone"), "{said}");
    }
    assert!(!dir.path("store/documents").exists());
}

#[test]
fn a_store_that_cannot_be_written_is_no_matter_of_trying_again() {
    use std::os::unix::fs::PermissionsExt as _;

    let dir = Dir::new();
    dir.documents("docs/a.parquet", &[(Some("a"), Some("Ada met Babbage ."))]);
    dir.write("file", "no folder");
    for store in ["file", "file/store"] {
        let said = dir.quarry(&["run", &job(&dir, store)]).ended(1).stderr();
        assert!(said.contains("file") && said.contains("that every part of the path is a folder"), "{said}");
    }
    std::fs::create_dir(dir.path("closed")).unwrap();
    let mode = |mode| std::fs::set_permissions(dir.path("closed"), std::fs::Permissions::from_mode(mode)).unwrap();
    mode(0o555);
    if std::fs::write(dir.path("closed/probe"), "").is_ok() {
        eprintln!("skipped: folders without permission, because this user (root) may write there all the same");
        return;
    }
    let said = dir.quarry(&["run", &job(&dir, "closed/store")]).ended(1).stderr();
    mode(0o755);
    assert!(said.contains("that you may read and write there"), "{said}");
}

#[test]
fn a_server_that_ignores_conditional_puts_is_refused_and_nothing_stays_there() {
    let there: Arc<Mutex<BTreeSet<String>>> = Arc::default();
    let seen: Arc<Mutex<Vec<String>>> = Arc::default();
    let (objects, requests) = (Arc::clone(&there), Arc::clone(&seen));
    let port = serve(move |request| {
        let path = request.path.split('?').next().unwrap_or_default().to_owned();
        let mut objects = objects.lock().unwrap();
        match request.method.as_str() {
            "PUT" => {
                assert_eq!(request.headers.get("if-none-match").map(String::as_str), Some("*"));
                requests.lock().unwrap().push(path.clone());
                objects.insert(path);
                Response { status: "200 OK", headers: vec!["ETag: \"1\"".to_owned()], body: Vec::new() }
            }
            "POST" => {
                let body = String::from_utf8_lossy(&request.body).into_owned();
                let key = body.split("<Key>").nth(1).and_then(|rest| rest.split("</Key>").next()).unwrap_or_default();
                objects.remove(&format!("/lake/{key}"));
                let body = format!("<DeleteResult><Deleted><Key>{key}</Key></Deleted></DeleteResult>");
                Response { status: "200 OK", headers: vec![], body: body.into_bytes() }
            }
            _ if request.path.contains("list-type=2") => {
                let body = "<ListBucketResult><Name>lake</Name><KeyCount>0</KeyCount><MaxKeys>1000</MaxKeys>\
                            <IsTruncated>false</IsTruncated></ListBucketResult>";
                Response { status: "200 OK", headers: vec![], body: body.as_bytes().to_vec() }
            }
            _ => Response::empty("404 Not Found"),
        }
    });
    let dir = Dir::new();
    dir.documents("docs/a.parquet", &[(Some("a"), Some("Ada met Babbage ."))]);
    let job = job(&dir, "news");
    let text = std::fs::read_to_string(&job).unwrap();
    let local = format!("'{}'", dir.path("news").display());
    assert!(text.contains(&local), "{text}");
    let remote = dir.write("remote.toml", &text.replace(&local, "'s3://lake/news'")).display().to_string();
    let mut run = dir.command(&["run", &remote]);
    run.env("AWS_ENDPOINT", format!("http://127.0.0.1:{port}")).env("AWS_ALLOW_HTTP", "true");
    run.env("AWS_ACCESS_KEY_ID", "key").env("AWS_SECRET_ACCESS_KEY", "secret").env("AWS_REGION", "us-east-1");
    let said = dir.finish(run).ended(1).stderr();
    assert!(said.contains("the object store of `s3://lake/news/` ignores conditional puts"), "{said}");
    let seen = seen.lock().unwrap();
    assert!(seen.len() == 2 && seen[0] == seen[1] && seen[0].starts_with("/lake/news/.quarry.probe-"), "{seen:?}");
    assert!(there.lock().unwrap().is_empty(), "{there:?}");
}
