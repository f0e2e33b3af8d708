//! A measurement: runs over a store whose ledger has ten million documents. `QUARRY_LEDGER_IDS` chooses the
//! ids: `rising` (they increase with time) or `scattered` (hashes); `QUARRY_LEDGER_ROWS` their number:
//!
//! `cargo test --test all ledger -- --ignored --nocapture`

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arrow::array::{ArrayRef, Float32Array, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray};
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression, ZstdLevel};
use parquet::file::properties::WriterProperties;
use quarry::extract::known_documents::content_hash;
use quarry::query::session::{SessionSettings, session};
use quarry::source::listing::Listing;
use quarry::source::location::StoreLocation;
use quarry::store::delta_store::Store;
use quarry::store::table_files::TableFiles;
use quarry::store::write::commit::Commit;
use quarry::tables::{SourceOutcome, SourceRow, Table};

use crate::support::{Dir, Random};

/// Documents of one input file, and of one commit.
const EACH: usize = 100_000;

fn id(number: usize, scattered: bool) -> String {
    if scattered { format!("{:016x}", Random(number as u64).next()) } else { format!("doc-{number:012}") }
}

fn text(number: usize) -> String {
    format!("Document {number} : Ada met Mr. Babbage in London .")
}

fn write(path: &Path, rows: impl Iterator<Item = (String, String)>) {
    let (ids, texts): (Vec<_>, Vec<_>) = rows.unzip();
    let (ids, texts): (ArrayRef, ArrayRef) = (Arc::new(StringArray::from(ids)), Arc::new(StringArray::from(texts)));
    let batch = RecordBatch::try_from_iter([("id", ids), ("body", texts)]).unwrap();
    let compression = Compression::ZSTD(ZstdLevel::default());
    let properties = WriterProperties::builder().set_compression(compression).build();
    let mut writer =
        ArrowWriter::try_new(std::fs::File::create(path).unwrap(), batch.schema(), Some(properties)).unwrap();
    writer.write(&batch).unwrap();
    writer.close().unwrap();
}

/// Rows of `documents` and `entities` for the documents from `first` on, with one mention each.
fn rows(first: usize, scattered: bool, source: &str, commit: i64) -> [(Table, RecordBatch); 2] {
    let numbers = first..first + EACH;
    let strings = |values: Vec<String>| -> ArrayRef { Arc::new(StringArray::from(values)) };
    let integers = |value: i64| -> ArrayRef { Arc::new(Int64Array::from_value(value, EACH)) };
    let ids = strings(numbers.clone().map(|number| id(number, scattered)).collect());
    let same = |text: &str| strings(vec![text.to_owned(); EACH]);
    let times = TimestampMicrosecondArray::from_value(1_750_000_000_000_000, EACH).with_timezone("UTC");
    let documents = vec![
        Arc::clone(&ids),
        same(source),
        Arc::new((0..EACH as i64).collect::<Int64Array>()),
        strings(numbers.map(|number| content_hash(&text(number))).collect()),
        integers(52),
        integers(12),
        integers(1),
        integers(1),
        same("earlier"),
        integers(commit),
        Arc::new(times) as ArrayRef,
    ];
    let scores: ArrayRef = Arc::new(Float32Array::from(vec![0.75; EACH]));
    let entities = vec![
        ids,
        same("PER"),
        integers(20),
        integers(23),
        same("Ada"),
        scores,
        integers(0),
        same("earlier"),
        integers(commit),
    ];
    [(Table::Entities, entities), (Table::Documents, documents)].map(|(table, columns)| {
        (table, RecordBatch::try_new(table.file_schema(&arrow::datatypes::DataType::Utf8), columns).unwrap())
    })
}

/// Fills a store as runs over `files` files would have done.
async fn fill(dir: &Dir, files: usize, scattered: bool, input_hash: &str) {
    let location = StoreLocation::parse(dir.path("store").to_str().unwrap()).unwrap();
    let mut store = Store::open_existing(location.clone()).await.unwrap();
    let spec_id = store.specs().unwrap().remove(0);
    let listing = session(&SessionSettings::default()).unwrap();
    let listing = Listing::find(&listing, dir.path("docs").to_str().unwrap()).await.unwrap();
    let mut entries = listing.files.into_iter().filter(|file| file.path.contains("part-"));
    for file in 0..files {
        let entry = entries.next().unwrap();
        let number = store.last_commit().unwrap() + 1;
        let mut written = Vec::new();
        for (table, rows) in rows(file * EACH, scattered, &entry.path, number) {
            let mut writer = TableFiles::new(table, &location, &spec_id);
            written.extend(writer.write(&rows).await.unwrap());
            written.extend(writer.finish().await.unwrap());
        }
        let source = SourceRow {
            path: entry.path,
            size: entry.meta.size as i64,
            etag: entry.meta.e_tag,
            modified_at: Some(entry.meta.last_modified),
            input_hash: input_hash.to_owned(),
            rows: EACH as i64,
            outcome: SourceOutcome::Done,
            changed_in: None,
            repeated: false,
            run_id: "earlier".to_owned(),
            spec_id: spec_id.clone(),
        };
        let commit =
            Commit { number, run_id: "earlier".to_owned(), files: written, sources: vec![source], ..Commit::default() };
        store.commit(&commit).await.unwrap();
    }
}

/// Runs the job; its duration and peak memory.
fn measured(dir: &Dir, job: &str) -> (Duration, f64) {
    let started = Instant::now();
    let mut child = dir.command(&["run", job]).spawn().unwrap();
    let status = format!("/proc/{}/status", child.id());
    let mut peak = 0.0_f64;
    let code = loop {
        if let Some(code) = child.try_wait().unwrap() {
            break code.code();
        }
        let text = std::fs::read_to_string(&status).unwrap_or_default();
        let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap_or_default();
        peak = peak.max(line.trim().trim_end_matches(" kB").parse().unwrap_or_default());
        std::thread::sleep(Duration::from_millis(10));
    };
    assert_eq!(code, Some(0));
    (started.elapsed(), peak / 1024.0)
}

#[test]
#[ignore = "a measurement: runs over a ledger of ten million documents"]
fn a_ledger_of_ten_million_documents() {
    let total: usize = std::env::var("QUARRY_LEDGER_ROWS").map_or(10_000_000, |rows| rows.parse().unwrap());
    let chosen = std::env::var("QUARRY_LEDGER_IDS").unwrap_or_default();
    for (name, scattered) in [("rising", false), ("scattered", true)] {
        if !chosen.is_empty() && chosen != name {
            continue;
        }
        let dir = Dir::new();
        std::fs::create_dir_all(dir.path("docs")).unwrap();
        let model = format!("[model]\npath = '{}'\ndevice = 'cpu'\nprecision = 'fp32'", dir.small_model().display());
        let job = dir.job("docs", "store", &model).display().to_string();
        write(&dir.path("docs/first.parquet"), [("first".to_owned(), text(0))].into_iter());
        dir.quarry(&["run", &job]).ended(0);
        let files = total / EACH;
        let started = Instant::now();
        for file in 0..files {
            let numbers = file * EACH..(file + 1) * EACH;
            let path = dir.path(&format!("docs/part-{file:05}.parquet"));
            write(&path, numbers.map(|number| (id(number, scattered), text(number))));
        }
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
        let input_hash = dir.rows("store", "sources", "input_hash", "").concat();
        runtime.block_on(fill(&dir, files, scattered, &input_hash));
        eprintln!("{name} ids: {} documents in {files} files, made in {:.0?}", files * EACH, started.elapsed());
        let documents = || dir.rows("store", "documents", "count(*)", "").concat().parse::<usize>().unwrap();
        assert_eq!(documents(), total + 1);
        let say =
            |what: &str, (time, peak): (Duration, f64)| eprintln!("{name} ids, {what}: {time:.1?}, {peak:.0} MiB");

        say("nothing new", measured(&dir, &job));
        // Half of the thousand documents are known.
        let middle = total / 2;
        write(
            &dir.path("docs/new.parquet"),
            (0..1000).map(|row| {
                let number = if row % 2 == 0 { middle + row * 7 } else { total + row };
                (id(number, scattered), text(number))
            }),
        );
        say("a new file of 1,000 documents, half of them known", measured(&dir, &job));
        assert_eq!(documents(), total + 1 + 500);
        let changed = dir.path(&format!("docs/part-{:05}.parquet", files / 2));
        let numbers = files / 2 * EACH..(files / 2 + 1) * EACH;
        write(&changed, numbers.clone().map(|number| (id(number, scattered), text(number))));
        say("a changed file of 100,000 documents, their texts as they were", measured(&dir, &job));
        assert_eq!(documents(), total + 1 + 500);
        write(
            &changed,
            numbers.map(|number| {
                let other = if number % 100 == 0 { " Changed ." } else { "" };
                (id(number, scattered), text(number) + other)
            }),
        );
        say("a changed file of 100,000 documents, 1,000 texts changed", measured(&dir, &job));
        assert_eq!(documents(), total + 1 + 500);
        let new = dir.rows("store", "documents", "count(*)", "WHERE run_id <> 'earlier'").concat();
        assert_eq!(new, "1501");
    }
}
