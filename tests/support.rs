//! A folder to work in and the program to run there.

mod models;

use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use arrow::array::{ArrayRef, RecordBatch, StringArray};
use arrow::util::display::{ArrayFormatter, FormatOptions};
use datafusion::prelude::ParquetReadOptions;
use parquet::arrow::ArrowWriter;
use parquet::file::properties::WriterProperties;
use parquet::file::reader::{FileReader, SerializedFileReader};
use quarry::query::session::{SessionSettings, register_store, session};
use quarry::source::location::StoreLocation;
use quarry::store::delta_store::Store;

/// Rows of a row group in files that tests write: not a multiple of a slice.
const ROW_GROUP: usize = 600;

/// The project's own folder.
pub(crate) fn project() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// A file of the shared data beside the project. `None`, with a note on standard error, if it is absent: the test is skipped.
pub(crate) fn shared(path: &str) -> Option<PathBuf> {
    let found = project().join("../shared").join(path);
    if !found.exists() {
        eprintln!("skipped: `shared/{path}` is not beside the project");
        return None;
    }
    Some(found)
}

/// Polling interval when a test waits for another process.
const PAUSE: Duration = Duration::from_millis(5);

/// Polls until `holds` is true, which another process brings about. Fails after two minutes, which is long even on a busy machine.
#[track_caller]
pub(crate) fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let started = Instant::now();
    while !holds() {
        assert!(started.elapsed() < Duration::from_mins(2), "timed out waiting until {what}");
        std::thread::sleep(PAUSE);
    }
}

/// Sends SIGTERM to a process.
pub(crate) fn terminate(process: u32) {
    assert!(Command::new("kill").args(["-TERM", &process.to_string()]).status().unwrap().success());
}

/// A temporary folder that jobs run in.
pub(crate) struct Dir(tempfile::TempDir);

impl Dir {
    pub(crate) fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    /// A folder that is kept after the tests, for contents that are made once and kept in a static; each test run empties it first.
    pub(crate) fn lasting(name: &str) -> Self {
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
        if path.exists() {
            std::fs::remove_dir_all(&path).unwrap();
        }
        let made = tempfile::Builder::new().prefix(name).rand_bytes(0).tempdir_in(env!("CARGO_TARGET_TMPDIR"));
        Self(made.unwrap())
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    pub(crate) fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.path(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, text).unwrap();
        path
    }

    /// Documents as Parquet with string columns `id` and `body`.
    pub(crate) fn documents(&self, name: &str, rows: &[(Option<&str>, Option<&str>)]) -> PathBuf {
        let ids: ArrayRef = Arc::new(rows.iter().map(|(id, _)| *id).collect::<StringArray>());
        let texts: ArrayRef = Arc::new(rows.iter().map(|(_, text)| *text).collect::<StringArray>());
        self.parquet(
            name,
            &RecordBatch::try_from_iter_with_nullable([("id", ids, true), ("body", texts, true)]).unwrap(),
        )
    }

    pub(crate) fn parquet(&self, name: &str, batch: &RecordBatch) -> PathBuf {
        let path = self.path(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        let properties = WriterProperties::builder().set_max_row_group_row_count(Some(ROW_GROUP)).build();
        let file = std::fs::File::create(&path).unwrap();
        let mut writer = ArrowWriter::try_new(file, batch.schema(), Some(properties)).unwrap();
        writer.write(batch).unwrap();
        writer.close().unwrap();
        path
    }

    /// Makes a column of a Parquet file unreadable from the row group of `row` on; row groups have [`ROW_GROUP`] rows.
    pub(crate) fn tear(&self, name: &str, column: &str, row: usize) {
        let path = self.path(name);
        let mut bytes = std::fs::read(&path).unwrap();
        let file = SerializedFileReader::new(bytes::Bytes::from(bytes.clone())).unwrap();
        let group = file.metadata().row_group(row / ROW_GROUP);
        let chunk = group.columns().iter().find(|chunk| chunk.column_path().string() == column).unwrap();
        let (start, length) = chunk.byte_range();
        bytes[start as usize..(start + length) as usize].fill(0xff);
        std::fs::write(path, bytes).unwrap();
    }

    /// A job file over `documents` with the project's model and schema; `sections` is added as it is.
    pub(crate) fn job(&self, documents: &str, store: &str, sections: &str) -> PathBuf {
        let text = format!(
            "[input]\ndocuments = '{}'\nid = 'id'\ntext = 'body'\n{}\n[store]\npath = '{}'\n",
            self.path(documents).display(),
            complete(sections),
            self.path(store).display(),
        );
        self.write(&format!("{store}.toml"), &text)
    }

    /// A command that runs the program in this folder.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_quarry"));
        command.args(arguments).current_dir(self.0.path()).env_remove("QUARRY_ONNXRUNTIME");
        command
    }

    /// Runs the program here.
    pub(crate) fn quarry(&self, arguments: &[&str]) -> Finished {
        self.finish(self.command(arguments))
    }

    /// Runs a command that was prepared with [`Dir::command`].
    pub(crate) fn finish(&self, mut command: Command) -> Finished {
        let output = command.output().unwrap();
        Finished { output, folder: self.0.path().display().to_string() }
    }

    /// Starts a run here and sends it SIGTERM as soon as it logs that it extracts.
    pub(crate) fn stopped_at_work(&self, arguments: &[&str]) -> Finished {
        self.stopped_when(arguments, |said| said.contains(" to read from `"))
    }

    /// Starts the program here and sends it SIGTERM as soon as `ready` holds for its standard error so far. It must end within half a
    /// minute, as documented.
    pub(crate) fn stopped_when(&self, arguments: &[&str], mut ready: impl FnMut(&str) -> bool) -> Finished {
        let mut command = self.command(arguments);
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let (mut stdout, mut stderr) = (child.stdout.take().unwrap(), child.stderr.take().unwrap());
        let printed = std::thread::spawn(move || {
            let mut printed = Vec::new();
            stdout.read_to_end(&mut printed).unwrap();
            printed
        });
        let said = Arc::new(Mutex::new(Vec::new()));
        let listener = std::thread::spawn({
            let said = Arc::clone(&said);
            move || {
                let mut part = [0; 4096];
                while let size @ 1.. = stderr.read(&mut part).unwrap() {
                    said.lock().unwrap().extend_from_slice(&part[..size]);
                }
            }
        });
        let text = || String::from_utf8_lossy(&said.lock().unwrap()).into_owned();
        until("the program is where it is to be stopped", || {
            let ended = child.try_wait().unwrap();
            assert!(ended.is_none(), "it ended before it was stopped: {ended:?}\n{}", text());
            ready(&text())
        });
        terminate(child.id());
        let started = Instant::now();
        let status = loop {
            if let Some(status) = child.try_wait().unwrap() {
                break status;
            }
            if started.elapsed() > Duration::from_secs(30) {
                child.kill().unwrap();
                panic!("it did not stop: {}", text());
            }
            std::thread::sleep(PAUSE);
        };
        let stdout = printed.join().unwrap();
        listener.join().unwrap();
        let stderr = std::mem::take(&mut *said.lock().unwrap());
        Finished { output: Output { status, stdout, stderr }, folder: self.0.path().display().to_string() }
    }

    /// Advances the modification time of a rewritten file by a second, because the clock of a file system can be too coarse to show it.
    pub(crate) fn younger(&self, name: &str) {
        let file = std::fs::File::options().write(true).open(self.path(name)).unwrap();
        let modified = file.metadata().unwrap().modified().unwrap();
        file.set_modified(modified + Duration::from_secs(1)).unwrap();
    }

    /// The rows of a store's table or view, by columns and the rest of the query. Each row is its values joined by `|`; rows are sorted
    /// unless the query orders them. A missing store has no rows.
    pub(crate) fn rows(&self, store: &str, table: &str, columns: &str, rest: &str) -> Vec<String> {
        if !self.path(store).join("runs/_delta_log").exists() {
            return Vec::new();
        }
        let mut rows = self.sql(Some(store), &[], &format!("SELECT {columns} FROM {table} {rest}"));
        if !rest.contains("ORDER BY") {
            rows.sort_unstable();
        }
        rows
    }

    /// Runs SQL over a store's tables and named Parquet files.
    pub(crate) fn sql(&self, store: Option<&str>, files: &[(&str, &Path)], sql: &str) -> Vec<String> {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let batches = runtime.block_on(async {
            let context = session(&SessionSettings::default()).unwrap();
            if let Some(store) = store {
                let location = StoreLocation::parse(self.path(store).to_str().unwrap()).unwrap();
                let store = Store::open_existing(location).await.unwrap();
                register_store(&context, &store).await.unwrap();
            }
            for (name, path) in files {
                context.register_parquet(*name, path.to_str().unwrap(), ParquetReadOptions::default()).await.unwrap();
            }
            context.sql(sql).await.unwrap().collect().await.unwrap()
        });
        let options = FormatOptions::default();
        let mut lines = Vec::new();
        for batch in &batches {
            let columns: Vec<ArrayFormatter<'_>> =
                batch.columns().iter().map(|column| ArrayFormatter::try_new(column, &options).unwrap()).collect();
            for row in 0..batch.num_rows() {
                let values: Vec<String> = columns.iter().map(|column| column.value(row).to_string()).collect();
                lines.push(values.join("|"));
            }
        }
        lines
    }
}

/// `sections` with defaults for missing ones: the four types, the model of the project on the CPU.
fn complete(sections: &str) -> String {
    let (schema, model) = (project().join("schemas/conll03.toml"), project().join("models/default"));
    let mut text = sections.to_owned();
    if !sections.contains("[entities]") {
        text += &format!("\n[entities]\nschema = '{}'", schema.display());
    }
    if !sections.contains("[model]") {
        text += &format!("\n[model]\npath = '{}'\ndevice = 'cpu'", model.display());
    }
    text
}

/// Compares rows whose last value is a score: scores can differ by at most `most`, all other values must be equal.
#[track_caller]
pub(crate) fn same_but_for_scores(left: &[String], right: &[String], most: f64) {
    let split = |rows: &[String]| -> (Vec<String>, Vec<f64>) {
        let parts = rows.iter().map(|row| row.rsplit_once('|').unwrap());
        parts.map(|(rest, score)| (rest.to_owned(), score.parse::<f64>().unwrap())).unzip()
    };
    let ((left, left_scores), (right, right_scores)) = (split(left), split(right));
    assert!(left == right, "{left:?}\n{right:?}");
    let differences = left_scores.iter().zip(&right_scores).map(|(left, right)| (left - right).abs());
    let largest = differences.fold(0.0, f64::max);
    assert!(largest <= most, "scores differ by {largest}");
}

/// Reproducible pseudo-random numbers (`SplitMix64`).
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    /// Between 0 and 1.
    pub(crate) fn unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1_u64 << 53) as f64
    }
}

/// A program run that has ended.
pub(crate) struct Finished {
    output: Output,
    folder: String,
}

impl Finished {
    pub(crate) fn code(&self) -> i32 {
        self.output.status.code().unwrap_or(-1)
    }

    pub(crate) fn stdout(&self) -> String {
        self.clean(&self.output.stdout)
    }

    pub(crate) fn stderr(&self) -> String {
        self.clean(&self.output.stderr)
    }

    /// Panics with its whole output unless it ended with `code`.
    #[track_caller]
    pub(crate) fn ended(self, code: i32) -> Self {
        assert_eq!(self.code(), code, "stdout:\n{}\nstderr:\n{}", self.stdout(), self.stderr());
        self
    }

    /// The error it ended with, with paths of this machine replaced.
    pub(crate) fn error(&self) -> String {
        let text = self.stderr();
        let start = text.find("error: ").unwrap_or(text.len());
        text[start..].trim_end().to_owned()
    }

    fn clean(&self, bytes: &[u8]) -> String {
        let text = String::from_utf8_lossy(bytes).replace(&self.folder, "DIR");
        text.replace(&project().display().to_string(), "PROJECT")
    }
}
