//! Documents as they come: ids and texts of every type and format, records that cannot be read, conditions that fail, names, folders.

use std::fs;
use std::io::Write as _;
use std::sync::Arc;

use arrow::array::{
    ArrayRef, BinaryArray, DictionaryArray, FixedSizeBinaryArray, Float64Array, Int32Array, Int64Array, NullArray,
    RecordBatch, StringArray, UInt64Array,
};
use arrow::datatypes::Int32Type;

use crate::support::{Dir, Finished, project};

/// Runs a job over `documents` with more lines of `[input]`, with a fast model.
fn run(dir: &Dir, documents: &str, store: &str, input: &str) -> Finished {
    dir.quarry(&["run", &job(dir, documents, store, input)])
}

fn job(dir: &Dir, documents: &str, store: &str, input: &str) -> String {
    if !dir.path("tiny-model").exists() {
        dir.tiny_model();
    }
    let text = format!(
        "[input]\ndocuments = '{}'\nid = 'id'\ntext = 'body'\n{input}\n[entities]\nschema = '{}'\n[model]\npath = '{}'\ndevice = 'cpu'\nprecision = 'fp32'\n[store]\npath = '{}'\n",
        dir.path(documents).display(),
        project().join("schemas/conll03.toml").display(),
        dir.path("tiny-model").display(),
        dir.path(store).display()
    );
    dir.write(&format!("{store}.toml"), &text).display().to_string()
}

fn ids(dir: &Dir, store: &str) -> Vec<String> {
    dir.rows(store, "documents", "doc_id", "ORDER BY doc_id")
}

fn rejects(dir: &Dir, store: &str) -> Vec<String> {
    dir.rows(store, "rejects", "\"row\", reason, detail", "ORDER BY source, \"row\"")
}

#[test]
fn ids_of_csv_are_strings_as_they_are_written_whatever_they_look_like() {
    let dir = Dir::new();
    dir.write("docs/1.csv", "id,body\n00123,one\n00124,2024-01-31\n123,42\n");
    run(&dir, "docs", "store", "").ended(0);
    assert_eq!(ids(&dir, "store"), ["00123", "00124", "123"]);
    dir.write("docs/2.csv", "body,id,more\ntext,a17,\nother,4.50,x\n");
    run(&dir, "docs", "store", "").ended(0);
    assert_eq!(ids(&dir, "store"), ["00123", "00124", "123", "4.50", "a17"]);
}

#[test]
fn a_bad_record_costs_that_record_and_its_line_is_named() {
    let dir = Dir::new();
    let mut lines: Vec<String> =
        (0..1100).map(|row| format!("{{\"id\": \"d{row}\", \"body\": \"n {row}\"}}")).collect();
    lines[1005] = "{\"id\": \"x\", \"body\": \"cut".to_owned();
    lines[3] = "{\"id\": \"y\", \"body\": \"half \\ud83d\"}".to_owned();
    lines[5] = "{\"id\": 7, \"body\": \"other type\"}".to_owned();
    lines[6] = "{\"id\": \"z\", \"body\": [\"list\"]}".to_owned();
    dir.write("docs.jsonl", &lines.join("\n"));
    run(&dir, "docs.jsonl", "jsonl", "").ended(0);
    assert_eq!(ids(&dir, "jsonl").len(), 1096);
    let found = rejects(&dir, "jsonl");
    for (found, expected) in found.iter().zip([
        "3|invalid_row|line 4: ",
        "5|invalid_row|line 6: `id` is an integer",
        "6|invalid_row|line 7: `body` is a list",
        "1005|invalid_row|line 1006: ",
    ]) {
        assert!(found.starts_with(expected), "{found}");
    }
    assert_eq!(found.len(), 4, "{found:?}");

    let mut lines: Vec<String> = (0..1100).map(|row| format!("d{row},\"n\n{row}\"")).collect();
    lines[700] = "d700,a,b".to_owned();
    lines[900] = "d900,\"stray".to_owned();
    dir.write("docs.csv", &format!("id,body\n{}\n", lines.join("\n")));
    run(&dir, "docs.csv", "csv", "").ended(0);
    assert_eq!(ids(&dir, "csv").len(), 1098);
    let found = rejects(&dir, "csv");
    assert!(found[0].starts_with("700|invalid_row|line 1402: it has 3 fields, the header has 2"), "{found:?}");
    assert!(found[1].starts_with("900|invalid_row|line 1801: more text follows the closing quote"), "{found:?}");
    assert_eq!(found.len(), 2);
}

#[test]
fn columns_that_are_not_asked_for_decide_nothing() {
    let dir = Dir::new();
    dir.write(
        "docs.jsonl",
        "{\"id\": \"a\", \"body\": \"x\", \"meta\": {\"y\": 1}, \"score\": 3}\n{\"id\": \"b\", \"body\": \"y\", \"meta\": \"none\", \"score\": \"n/a\"}\n{\"id\": \"c\", \"body\": \"z\", \"meta\": [1], \"more\": true}\n",
    );
    run(&dir, "docs.jsonl", "store", "").ended(0);
    assert_eq!(ids(&dir, "store"), ["a", "b", "c"]);
    // One that the condition uses costs the record that has another type.
    run(&dir, "docs.jsonl", "where", "where = 'score < 5'").ended(0);
    assert_eq!(ids(&dir, "where"), ["a"]);
    assert_eq!(rejects(&dir, "where").len(), 1);
    let texts = |texts: [&str; 2]| -> ArrayRef { Arc::new(StringArray::from(texts.to_vec())) };
    let years: ArrayRef = Arc::new(Int32Array::from(vec![1, 2]));
    let one = RecordBatch::try_from_iter([("id", texts(["a", "b"])), ("body", texts(["x", "y"])), ("n", years)]);
    dir.parquet("two/a.parquet", &one.unwrap());
    let other =
        RecordBatch::try_from_iter([("n", texts(["x", "y"])), ("body", texts(["x", "y"])), ("id", texts(["c", "d"]))]);
    dir.parquet("two/b.parquet", &other.unwrap());
    run(&dir, "two", "two-store", "").ended(0);
    assert_eq!(ids(&dir, "two-store"), ["a", "b", "c", "d"]);
}

#[test]
fn ids_and_texts_of_parquet_are_read_in_every_type_that_is_a_string_or_an_integer() {
    let dir = Dir::new();
    let body = || -> ArrayRef { Arc::new(StringArray::from(vec!["one", "two"])) };
    let file = |name: &str, id: ArrayRef, body: ArrayRef| {
        dir.parquet(name, &RecordBatch::try_from_iter_with_nullable([("id", id, true), ("body", body, true)]).unwrap());
    };
    let bytes = |texts: [&[u8]; 2]| -> ArrayRef { Arc::new(BinaryArray::from(texts.to_vec())) };
    let dictionary =
        |texts: [&str; 2]| -> ArrayRef { Arc::new(texts.into_iter().collect::<DictionaryArray<Int32Type>>()) };
    file("u64.parquet", Arc::new(UInt64Array::from(vec![7, u64::MAX])), body());
    file("binary.parquet", bytes([b"a1", b"\xff"]), bytes([b"\xff\xfe", b"text"]));
    file("dictionary.parquet", dictionary(["a", "b"]), dictionary(["one", "two"]));
    let uuids = FixedSizeBinaryArray::try_from_iter([[0x11_u8; 16], [0xab; 16]].into_iter()).unwrap();
    file("uuid.parquet", Arc::new(uuids), body());
    for (name, expected, refused) in [
        ("u64", vec!["7"], vec!["1|invalid_row|the id does not fit 64 bits with a sign, or is not UTF-8"]),
        (
            "binary",
            vec![],
            vec![
                "0|invalid_row|the text is not UTF-8",
                "1|invalid_row|the id does not fit 64 bits with a sign, or is not UTF-8",
            ],
        ),
        ("dictionary", vec!["a", "b"], vec![]),
        ("uuid", vec!["11111111-1111-1111-1111-111111111111", "abababab-abab-abab-abab-abababababab"], vec![]),
    ] {
        run(&dir, &format!("{name}.parquet"), name, "").ended(0);
        assert_eq!(ids(&dir, name), expected, "{name}");
        assert_eq!(rejects(&dir, name), refused, "{name}");
    }
    file("widths/a.parquet", Arc::new(Int32Array::from(vec![1, 2])), body());
    file("widths/b.parquet", Arc::new(Int64Array::from(vec![3, 1 << 40])), Arc::new(NullArray::new(2)));
    run(&dir, "widths", "widths-store", "").ended(0);
    assert_eq!(ids(&dir, "widths-store"), ["1", "2"]);
    assert_eq!(rejects(&dir, "widths-store"), ["0|null_text|the text is null", "1|null_text|the text is null"]);
    file("float.parquet", Arc::new(Float64Array::from(vec![1.0, 2.0])), body());
    let said = run(&dir, "float.parquet", "float", "").ended(1).error();
    assert!(
        said.contains("is Float64, expected a string or an integer") && said.contains("CAST(\"id\" AS bigint)"),
        "{said}"
    );
}

#[test]
fn compressed_text_is_read_and_what_is_not_read_is_named() {
    let dir = Dir::new();
    let gzip = |text: &str| {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(text.as_bytes()).unwrap();
        encoder.finish().unwrap()
    };
    fs::create_dir(dir.path("docs")).unwrap();
    fs::write(dir.path("docs/a.jsonl.gz"), gzip("{\"id\": \"a\", \"body\": \"x\"}\n")).unwrap();
    let zstandard = zstd::encode_all(&b"{\"id\": \"b\", \"body\": \"y\"}\n"[..], 1).unwrap();
    fs::write(dir.path("docs/b.jsonl.zst"), zstandard).unwrap();
    dir.write("docs/c.jsonl", "{\"id\": \"c\", \"body\": \"z\"}\n");
    let line = |row: u32| format!("{{\"id\": \"r{row}\", \"body\": \"{row} {}\"}}\n", row * row);
    let whole = gzip(&(0..3000).map(line).collect::<Vec<_>>().concat());
    dir.write("docs/notes.txt", "x");
    dir.write("docs/d.xml", "x");
    let said = run(&dir, "docs", "store", "").ended(0).stderr();
    assert!(said.contains("2 file(s) are not read: `DIR/docs/d.xml`, `DIR/docs/notes.txt`; only"), "{said}");
    assert_eq!(ids(&dir, "store"), ["a", "b", "c"]);
    // A file that is cut off is read as far as it goes.
    fs::write(dir.path("docs/e.jsonl.gz"), &whole[..whole.len() / 2]).unwrap();
    let said = run(&dir, "docs", "store", "").ended(3).stderr();
    assert!(said.contains("e.jsonl.gz` cannot be read: from row "), "{said}");
    assert!(ids(&dir, "store").len() > 1000);
}

#[test]
fn a_path_that_exists_is_that_path_and_only_else_a_glob() {
    let dir = Dir::new();
    dir.write("[Avalon] news.csv", "id,body\na,x\n");
    dir.write("corpus [final]/b.csv", "id,body\nb,x\n");
    run(&dir, "[Avalon] news.csv", "file", "").ended(0);
    run(&dir, "corpus [final]", "folder", "").ended(0);
    run(&dir, "[A-Z]*.csv", "none", "").ended(1);
    assert_eq!((ids(&dir, "file"), ids(&dir, "folder")), (vec!["a".to_owned()], vec!["b".to_owned()]));
    let said =
        dir.quarry(&["sql", "file", "SELECT id FROM 'corpus [final]/b.csv'", "--format", "csv"]).ended(0).stdout();
    assert!(said.ends_with("b\n"), "{said}");
}

#[test]
fn other_layouts_of_text_are_read_or_say_what_to_do() {
    let dir = Dir::new();
    dir.write("semicolon.csv", "id;body\na;x, y\n");
    dir.write("tabs.tsv", "id\tbody\na\tx, y\n");
    fs::write(dir.path("latin1.csv"), b"id,body\na,x\nb,Z\xfcrich\n").unwrap();
    for (name, refused) in [("semicolon.csv", 0), ("tabs.tsv", 0), ("latin1.csv", 1)] {
        let store = name.replace('.', "-");
        run(&dir, name, &store, "").ended(0);
        assert_eq!(ids(&dir, &store), ["a"], "{name}");
        let found = rejects(&dir, &store);
        assert_eq!(found.len(), refused, "{found:?}");
        assert!(found.iter().all(|one| one.contains("line 3: ") && one.contains("iconv")), "{found:?}");
    }
    for (name, text, expected) in [
        ("array.json", "[{\"id\": \"a\", \"body\": \"x\"}]", "jq -c '.[]' FILE"),
        ("pretty.json", "{\n  \"id\": \"a\",\n  \"body\": \"x\"\n}\n", "jq -c . FILE"),
        ("none.csv", "name;text\na;b\n", "it has no column `id` (`[input] id`), only name;text"),
    ] {
        dir.write(name, text);
        let said = run(&dir, name, "no-store", "").ended(1).error();
        assert!(said.contains(expected), "{said}");
    }
}

#[test]
fn a_delta_table_is_read_at_its_latest_version() {
    let dir = Dir::new();
    for name in ["old", "new", "loose"] {
        dir.documents(&format!("table/{name}.parquet"), &[(Some(name), Some("x"))]);
    }
    let size = |name: &str| fs::metadata(dir.path(&format!("table/{name}.parquet"))).unwrap().len();
    let add = |name: &str| {
        format!(
            "{{\"add\":{{\"path\":\"{name}.parquet\",\"partitionValues\":{{}},\"size\":{},\"modificationTime\":1,\"dataChange\":true}}}}\n",
            size(name)
        )
    };
    let fields = "{\\\"type\\\":\\\"struct\\\",\\\"fields\\\":[{\\\"name\\\":\\\"id\\\",\\\"type\\\":\\\"string\\\",\\\"nullable\\\":true,\\\"metadata\\\":{}},{\\\"name\\\":\\\"body\\\",\\\"type\\\":\\\"string\\\",\\\"nullable\\\":true,\\\"metadata\\\":{}}]}";
    let first = format!(
        "{{\"protocol\":{{\"minReaderVersion\":1,\"minWriterVersion\":2}}}}\n{{\"metaData\":{{\"id\":\"7d8a5f1e-0000-4000-8000-000000000000\",\"format\":{{\"provider\":\"parquet\",\"options\":{{}}}},\"schemaString\":\"{fields}\",\"partitionColumns\":[],\"configuration\":{{}},\"createdTime\":1}}}}\n{}",
        add("old")
    );
    dir.write("table/_delta_log/00000000000000000000.json", &first);
    let remove = "{\"remove\":{\"path\":\"old.parquet\",\"deletionTimestamp\":2,\"dataChange\":true}}\n";
    dir.write("table/_delta_log/00000000000000000001.json", &format!("{remove}{}", add("new")));
    run(&dir, "table", "store", "").ended(0);
    assert_eq!(ids(&dir, "store"), ["new"]);
    let said = dir.quarry(&["sql", "store", "SELECT count(*) FROM 'table/'", "--format", "csv"]).ended(0).stdout();
    assert!(said.ends_with("\n1\n"), "{said}");
    // A file of the latest version that is gone is one reject.
    dir.write("table/_delta_log/00000000000000000002.json", &add("loose"));
    fs::remove_file(dir.path("table/new.parquet")).unwrap();
    let said = run(&dir, "table", "store", "").ended(3).stderr();
    assert!(
        said.contains("new.parquet` cannot be read: it belongs to the latest version of the Delta table"),
        "{said}"
    );
    assert_eq!(ids(&dir, "store"), ["loose", "new"]);
}

#[test]
fn names_of_folders_are_columns_of_the_condition() {
    let dir = Dir::new();
    for (name, id) in [("year=2023/lang=en", "a"), ("year=2024/lang=en", "b"), ("year=2024/lang=d%20e", "c")] {
        dir.write(&format!("csv/{name}/x.csv"), &format!("id,body\n{id},text\n"));
        dir.documents(&format!("parquet/{name}/x.parquet"), &[(Some(id), Some("text"))]);
    }
    for format in ["csv", "parquet"] {
        for (condition, expected) in [
            ("year = 2024", vec!["b", "c"]),
            ("year > 2023 AND lang = ''d e''", vec!["c"]),
            ("lang <> ''en'' OR id = ''a''", vec!["a", "c"]),
        ] {
            let store = format!("{format}-{}", expected.join(""));
            let condition = condition.replace("''", "'");
            run(&dir, format, &store, &format!("where = \"{condition}\"")).ended(0);
            assert_eq!(ids(&dir, &store), expected, "{format}: {condition}");
        }
    }
}

#[test]
fn a_condition_that_fails_on_a_row_is_a_reject_and_on_all_rows_an_error() {
    let dir = Dir::new();
    let years = ["1999", "2001", "n/a", "2002"];
    let lines =
        |line: fn((usize, &str)) -> String| years.into_iter().enumerate().map(line).collect::<Vec<_>>().concat();
    let csv = lines(|(row, year)| format!("d{row},x,\"{year}\"\n"));
    dir.write("docs.csv", &format!("id,body,year\n{csv}"));
    let json = lines(|(row, year)| format!("{{\"id\": \"d{row}\", \"body\": \"x\", \"year\": \"{year}\"}}\n"));
    dir.write("docs.jsonl", &json);
    let texts = |texts: Vec<String>| -> ArrayRef { Arc::new(StringArray::from(texts)) };
    let parquet = RecordBatch::try_from_iter([
        ("id", texts((0..4).map(|row| format!("d{row}")).collect())),
        ("body", texts(vec!["x".to_owned(); 4])),
        ("year", texts(years.map(str::to_owned).to_vec())),
    ]);
    dir.parquet("docs.parquet", &parquet.unwrap());
    for format in ["csv", "jsonl", "parquet"] {
        for _ in 0..2 {
            run(&dir, &format!("docs.{format}"), format, "where = 'CAST(year AS bigint) > 2000'").ended(0);
            assert_eq!(ids(&dir, format), ["d1", "d3"], "{format}");
            let found = rejects(&dir, format);
            assert_eq!(found.len(), 1, "{found:?}");
            assert!(found[0].starts_with("2|filter_failed|`where`: ") && found[0].contains("n/a"), "{found:?}");
        }
        let said = run(&dir, &format!("docs.{format}"), "all", "where = 'CAST(id AS bigint) > 2000'").ended(1).error();
        assert!(said.contains("`input.where`") && said.contains("fails on all 4 rows"), "{said}");
        assert!(ids(&dir, "all").is_empty());
    }
}

#[test]
fn a_name_that_cannot_be_used_is_one_reject() {
    use std::os::unix::ffi::OsStrExt as _;
    let dir = Dir::new();
    dir.write("docs/a.csv", "id,body\na,x\n");
    for name in [b"b\nc.csv".as_slice(), b"\x1b[31m.csv", b"\xff.csv"] {
        fs::write(dir.path("docs").join(std::ffi::OsStr::from_bytes(name)), "id,body\nb,x\n").unwrap();
    }
    for _ in 0..2 {
        let said = run(&dir, "docs", "store", "").ended(3).stderr();
        assert!(said.contains("b\\x0Ac.csv` cannot be read: its name has control characters"), "{said}");
        assert_eq!(ids(&dir, "store"), ["a"]);
        let sources = dir.rows("store", "rejects", "reason, replace(source, rtrim(source, '.csv'), '')", "");
        assert_eq!(sources.len(), 3, "{sources:?}");
    }
}

#[test]
fn a_store_inside_its_input_is_refused_before_work() {
    let dir = Dir::new();
    dir.write("docs/a.csv", "id,body\na,x\n");
    let said = run(&dir, "docs", "docs/store", "").ended(1).error();
    assert!(said.contains("so its own files would be documents"), "{said}");
    assert!(!dir.path("docs/store").exists());
    // A glob that leaves it out is no reason to refuse.
    run(&dir, "docs/*.csv", "docs/store", "").ended(0);
}

#[test]
fn a_file_that_is_still_being_written_loses_no_document() {
    let dir = Dir::new();
    let begun = "{\"id\": \"a\", \"body\": \"x\"}\n{\"id\": \"b\", \"bo";
    dir.write("docs.jsonl", begun);
    run(&dir, "docs.jsonl", "store", "").ended(0);
    let found = rejects(&dir, "store");
    assert!(
        found.len() == 1
            && found[0].starts_with("1|invalid_row|line 2: ")
            && found[0].ends_with("or still being written"),
        "{found:?}"
    );
    dir.write("docs.jsonl", &format!("{begun}dy\": \"y\"}}\n"));
    dir.younger("docs.jsonl");
    run(&dir, "docs.jsonl", "store", "").ended(0);
    assert_eq!(ids(&dir, "store"), ["a", "b"]);
    assert!(rejects(&dir, "store").is_empty());
}

#[test]
fn a_damaged_row_group_costs_that_row_group() {
    let dir = Dir::new();
    let rows: Vec<(String, String)> = (0..1800).map(|row| (format!("{row:04}"), format!("text {row}"))).collect();
    let rows: Vec<(Option<&str>, Option<&str>)> =
        rows.iter().map(|(id, text)| (Some(id.as_str()), Some(text.as_str()))).collect();
    dir.documents("docs.parquet", &rows);
    dir.tear("docs.parquet", "body", 700);
    for _ in 0..2 {
        let said = run(&dir, "docs.parquet", "store", "").ended(3).stderr();
        assert!(said.contains("docs.parquet` cannot be read: rows 600 to 1199: "), "{said}");
        assert_eq!(dir.rows("store", "documents", "count(*), min(doc_id), max(doc_id)", ""), ["1200|0000|1799"]);
        assert_eq!(dir.rows("store", "sources", "rows", ""), ["600"]);
        assert_eq!(dir.rows("store", "rejects", "\"row\", reason", ""), ["-1|unreadable_file"]);
    }
}

#[test]
fn sql_and_evaluate_give_a_column_one_type_for_all_files() {
    let dir = Dir::new();
    let gold = |name: &str, id: ArrayRef, start: ArrayRef, end: ArrayRef| {
        let kind: ArrayRef = Arc::new(StringArray::from(vec!["PER"]));
        let columns = [("doc_id", id), ("entity_type", kind), ("start_char", start), ("end_char", end)];
        dir.parquet(name, &RecordBatch::try_from_iter(columns).unwrap());
    };
    let (narrow, wide) = (
        |value| -> ArrayRef { Arc::new(Int32Array::from(vec![value])) },
        |value| -> ArrayRef { Arc::new(Int64Array::from(vec![value])) },
    );
    gold("gold/1.parquet", narrow(1), narrow(0), wide(3));
    gold("gold/2.parquet", wide(1 << 40), wide(0), narrow(3));
    dir.write("predicted.csv", "doc_id,entity_type,start_char,end_char\n1,PER,0,3\n1099511627776,PER,0,3\n");
    let said = dir.quarry(&["evaluate", "predicted.csv", "gold", "--json"]).ended(0).stdout();
    assert!(said.contains("\"f1\": 1.0"), "{said}");
    dir.write("docs.csv", "id,body\na,x\n");
    run(&dir, "docs.csv", "store", "").ended(0);
    let said = dir
        .quarry(&["sql", "store", "SELECT max(doc_id), count(*) FROM 'gold/*.parquet'", "--format", "csv"])
        .ended(0)
        .stdout();
    assert!(said.ends_with("1099511627776,2\n"), "{said}");
    dir.write("ids/1.csv", "doc_id\n007\n");
    dir.write("ids/2.csv", "doc_id\n7\n");
    let said = dir
        .quarry(&["sql", "store", "SELECT count(DISTINCT doc_id) AS n FROM 'ids/'", "--format", "csv"])
        .ended(0)
        .stdout();
    assert!(said.ends_with("n\n2\n"), "{said}");
}
