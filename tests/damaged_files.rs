//! Input files with random damage: whole jobs over them end with rejects, never with a panic or an error, and sound files are all read.

use std::path::Path;
use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray};
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression, ZstdLevel};
use parquet::file::properties::WriterProperties;

use crate::support::{Dir, Random};

/// Damaged files in one job.
const FILES: u64 = 16;
/// Rows of a file.
const ROWS: usize = 40;

/// How many damaged files of each format are tried, and the first seed.
fn amount() -> (u64, u64) {
    let number =
        |name: &str, default: u64| std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default);
    (number("QUARRY_DAMAGED_FILES", 3 * FILES).div_ceil(3), number("QUARRY_DAMAGED_SEED", 1))
}

fn rows(prefix: &str) -> (Vec<String>, Vec<String>) {
    let ids = (0..ROWS).map(|row| format!("{prefix}-{row}")).collect();
    let texts = (0..ROWS).map(|row| format!("Ada \"{row}\" met Babbage ,\nin Zürich 🎉 {}", "x".repeat(row % 7)));
    (ids, texts.collect())
}

/// A Parquet file; `kind` chooses its compression, its row groups and whether columns are dictionaries.
fn parquet(prefix: &str, kind: u64) -> Vec<u8> {
    let (ids, texts) = rows(prefix);
    let columns: [(&str, ArrayRef); 3] = [
        ("id", Arc::new(StringArray::from(ids))),
        ("body", Arc::new(StringArray::from(texts))),
        ("n", Arc::new(Int64Array::from_iter_values(0..ROWS as i64))),
    ];
    let batch = RecordBatch::try_from_iter(columns).unwrap();
    let compression = match kind % 3 {
        0 => Compression::UNCOMPRESSED,
        1 => Compression::SNAPPY,
        _ => Compression::ZSTD(ZstdLevel::default()),
    };
    let properties = WriterProperties::builder()
        .set_compression(compression)
        .set_max_row_group_row_count(Some(if kind.is_multiple_of(2) { 16 } else { ROWS }))
        .set_dictionary_enabled(kind % 5 < 3)
        .build();
    let mut bytes = Vec::new();
    let mut writer = ArrowWriter::try_new(&mut bytes, batch.schema(), Some(properties)).unwrap();
    writer.write(&batch).unwrap();
    writer.close().unwrap();
    bytes
}

fn json_lines(prefix: &str, _: u64) -> Vec<u8> {
    let (ids, texts) = rows(prefix);
    let line = |(row, (id, text)): (usize, (String, String))| {
        format!("{}\n", serde_json::json!({"id": id, "body": text, "n": row, "more": {"of": [row, null]}}))
    };
    ids.into_iter().zip(texts).enumerate().map(line).collect::<String>().into_bytes()
}

fn csv(prefix: &str, _: u64) -> Vec<u8> {
    let (ids, texts) = rows(prefix);
    let line = |(row, (id, text)): (usize, (String, String))| format!("{id},\"{}\",{row}\n", text.replace('"', "\"\""));
    format!("id,body,n\n{}", ids.into_iter().zip(texts).enumerate().map(line).collect::<String>()).into_bytes()
}

/// The bytes of a file, changed at a few places; every other time near its end, where Parquet has its footer.
fn damage(mut bytes: Vec<u8>, random: &mut Random) -> Vec<u8> {
    for _ in 0..=random.next() % 3 {
        let size = bytes.len().max(1);
        let from = if random.next().is_multiple_of(2) { size.saturating_sub(600) } else { 0 };
        let at = (from + random.next() as usize % (size - from).max(1)).min(bytes.len());
        let end = (at + 1 + random.next() as usize % 12).min(bytes.len());
        match random.next() % 6 {
            0 => bytes.truncate(at),
            1 => bytes[at..end].fill(0),
            2 => bytes.splice(at..at, std::iter::repeat_with(|| random.next() as u8).take(1 + end - at)).for_each(drop),
            3 => drop(bytes.drain(at..end)),
            4 if at < bytes.len() => bytes[at] ^= 1 << (random.next() % 8),
            _ => bytes[at..end].iter_mut().for_each(|byte| *byte = random.next() as u8),
        }
    }
    bytes
}

/// Runs a job over a folder of damaged files between two sound ones.
fn job(dir: &Dir, model: &Path, name: &str, extension: &str, make: fn(&str, u64) -> Vec<u8>, seed: u64) {
    let folder = format!("{name}-{seed}");
    std::fs::create_dir_all(dir.path(&folder)).unwrap();
    let write = |file: &str, bytes: &[u8]| std::fs::write(dir.path(&folder).join(file), bytes).unwrap();
    write(&format!("a.{extension}"), &make("sound-a", seed));
    write(&format!("z.{extension}"), &make("sound-z", seed + 1));
    let mut random = Random(seed);
    for file in 0..FILES {
        let bytes = make(&format!("f{file}"), random.next());
        write(&format!("f{file:02}.{extension}"), &damage(bytes, &mut random));
    }
    let condition = if seed.is_multiple_of(2) { "where = 'n >= 0'" } else { "" };
    let text = format!(
        "[input]\ndocuments = '{}'\nid = 'id'\ntext = 'body'\n{condition}\n[entities]\nschema = '{}'\n[model]\npath = '{}'\ndevice = 'cpu'\nprecision = 'fp32'\n[store]\npath = '{}'\n",
        dir.path(&folder).display(),
        crate::support::project().join("schemas/conll03.toml").display(),
        model.display(),
        dir.path(&format!("{folder}-store")).display()
    );
    let job = dir.write(&format!("{folder}.toml"), &text).display().to_string();
    let ended = dir.quarry(&["run", &job]);
    let said = format!("{folder}: exit {}\n{}", ended.code(), ended.stderr());
    assert!(matches!(ended.code(), 0 | 3), "{said}");
    assert!(!said.contains("panicked"), "{said}");
    let sound = "count(DISTINCT doc_id)";
    let found = dir.rows(&format!("{folder}-store"), "documents", sound, "WHERE doc_id LIKE 'sound-_-%'");
    assert_eq!(found, [(2 * ROWS).to_string()], "{said}");
    // Again: what was refused is refused, and nothing is new.
    if seed.is_multiple_of(8) {
        let again = dir.quarry(&["run", &job]);
        assert_eq!(again.code(), ended.code(), "{}", again.stderr());
    }
    std::fs::remove_dir_all(dir.path(&folder)).unwrap();
    std::fs::remove_dir_all(dir.path(&format!("{folder}-store"))).unwrap();
}

fn jobs(name: &str, extension: &str, make: fn(&str, u64) -> Vec<u8>) {
    let (files, first) = amount();
    let dir = Dir::new();
    let model = dir.tiny_model();
    for number in 0..files.div_ceil(FILES) {
        job(&dir, &model, name, extension, make, first + number);
    }
    if files > FILES {
        eprintln!("{name}: {} damaged files from seed {first} on: only rejects", files.div_ceil(FILES) * FILES);
    }
}

#[test]
fn damaged_parquet_files_are_rejects() {
    jobs("parquet", "parquet", parquet);
}

#[test]
fn damaged_json_lines_are_rejects() {
    jobs("jsonl", "jsonl", json_lines);
}

#[test]
fn damaged_csv_files_are_rejects() {
    jobs("csv", "csv", csv);
}

#[test]
fn a_footer_longer_than_its_file_is_one_reject_everywhere() {
    let dir = Dir::new();
    let model = dir.tiny_model();
    let sound = parquet("sound", 1);
    std::fs::create_dir(dir.path("docs")).unwrap();
    std::fs::write(dir.path("docs/a.parquet"), &sound).unwrap();
    let mut long = sound.clone();
    let end = long.len();
    long[end - 8..end - 4].copy_from_slice(&(end as u32 + 100).to_le_bytes());
    std::fs::write(dir.path("docs/b.parquet"), &long).unwrap();
    let section = format!("[model]\npath = '{}'\ndevice = 'cpu'\nprecision = 'fp32'", model.display());
    let job = dir.job("docs", "store", &section).display().to_string();
    for _ in 0..2 {
        let said = dir.quarry(&["run", &job]).ended(3).stderr();
        assert!(said.contains("b.parquet` cannot be read: ") && said.contains("its footer says"), "{said}");
        assert!(!said.contains("panicked"), "{said}");
        assert_eq!(dir.rows("store", "rejects", "\"row\", reason", ""), ["-1|unreadable_file"]);
        assert_eq!(dir.rows("store", "documents", "count(*)", ""), [ROWS.to_string()]);
    }
    let said = dir.quarry(&["doctor", "--within", "60", &job]).stdout();
    assert!(said.contains("b.parquet` cannot be read: ") && !said.contains("check the network"), "{said}");
    let said = dir.quarry(&["sql", "store", "SELECT count(*) FROM 'docs/*.parquet'"]).ended(1).error();
    assert!(said.contains("b.parquet`: ") && said.contains("its footer says"), "{said}");
    let said = dir.quarry(&["evaluate", "docs", "docs/a.parquet"]).ended(1).error();
    assert!(said.contains("b.parquet`: ") && said.contains("its footer says"), "{said}");
    dir.quarry(&["report", "store", "page.html"]).ended(0);
}
