//! `quarry report`: the page has the store's own figures, says what it cannot show, and runs no script from documents.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray};
use serde_json::Value;

use crate::support::{Dir, project};

mod browser;
mod figures;
mod large;
mod page;
mod texts;

/// Documents in several writing systems; some are rejected, some contain scripts.
const TEXTS: [(Option<&str>, Option<&str>); 7] = [
    (Some("a"), Some("Angela Merkel met Emmanuel Macron in Berlin on Monday .")),
    (Some("b"), None),
    (Some("🎉 d"), Some("🎉 Zoe\u{308} Kravitz lives in Zürich 👩\u{200d}👩\u{200d}👧 , Switzerland , not in Paris .")),
    (Some("</script><img src=x onerror='hacked=1'>"), Some(HOSTILE)),
    (Some("العربية"), Some("التقت ميركل في برلين مع Emmanuel Macron من فرنسا .\nثم عادت إلى London .")),
    (Some("中文"), Some("安格拉·默克尔在柏林会见了 Emmanuel Macron 。")),
    (Some("e"), Some("")),
];

const HOSTILE: &str = "</script><script>hacked = 1</script><!-- <img src=x onerror=hacked=1> \u{2028}\u{2029} {{script}} \
    & &lt; \"quoted\" 'too' Barack Obama visited <b onmouseover=\"hacked=1\">Chicago</b> javascript:hacked=1 </style> ]]> \u{202e}evil\u{202c} .";

/// A document's id, a mention's type, text and state.
type Mention = (String, String, String, u64);

/// A page's data, as its script reads it.
struct Page {
    html: String,
    summary: Value,
    documents: Value,
}

impl Page {
    fn read(path: &Path) -> Self {
        let html = std::fs::read_to_string(path).unwrap();
        let data = |id: &str| {
            let (_, rest) = html.split_once(&format!("<script type=\"application/json\" id=\"{id}\">")).unwrap();
            serde_json::from_str(rest.split_once("</script>").unwrap().0).unwrap()
        };
        Self { summary: data("summary-data"), documents: data("documents-data"), html }
    }

    /// Every mention of the documents with a text: id, type, text, state; its places counted as the page's script does.
    fn mentions(&self) -> Vec<Mention> {
        let mut found = Vec::new();
        for row in self.documents["rows"].as_array().unwrap() {
            let units: Vec<u16> = row["text"].as_str().unwrap_or_default().encode_utf16().collect();
            for mention in row["mentions"].as_array().unwrap() {
                let place = |at: usize| mention[at].as_u64().unwrap() as usize;
                let name = self.summary["types"][place(0)]["name"].as_str().unwrap();
                let text = String::from_utf16(&units[place(1)..place(2)]).unwrap();
                found.push((
                    row["id"].as_str().unwrap().to_owned(),
                    name.to_owned(),
                    text,
                    mention[4].as_u64().unwrap(),
                ));
            }
        }
        found.sort();
        found
    }
}

/// Runs `texts` with the default model in fp32, which gives the same result on every machine.
fn store(dir: &Dir, texts: &[(Option<&str>, Option<&str>)], sections: &str) -> String {
    dir.documents("docs.parquet", texts);
    let model = project().join("models/default");
    let model = format!("[model]\npath = '{}'\ndevice = 'cpu'\nprecision = 'fp32'", model.display());
    let job = dir.job("docs.parquet", "store", &format!("{sections}\n{model}"));
    dir.quarry(&["run", &job.display().to_string()]).ended(0);
    job.display().to_string()
}

fn report(dir: &Dir, arguments: &[&str]) -> Page {
    dir.quarry(&[&["report"], arguments].concat()).ended(0);
    Page::read(&dir.path(arguments[1]))
}

/// Gold mentions with their texts.
fn gold(dir: &Dir, name: &str, mentions: &[(&str, &str, i64, i64, &str)]) -> PathBuf {
    let strings = |values: Vec<&str>| Arc::new(StringArray::from(values)) as ArrayRef;
    let integers = |values: Vec<i64>| Arc::new(Int64Array::from(values)) as ArrayRef;
    let columns = [
        ("doc_id", strings(mentions.iter().map(|one| one.0).collect())),
        ("entity_type", strings(mentions.iter().map(|one| one.1).collect())),
        ("start_char", integers(mentions.iter().map(|one| one.2).collect())),
        ("end_char", integers(mentions.iter().map(|one| one.3).collect())),
        ("text", strings(mentions.iter().map(|one| one.4).collect())),
    ];
    dir.parquet(name, &RecordBatch::try_from_iter(columns).unwrap())
}

/// Gold mentions of [`TEXTS`]: some are found, some overlap found ones, and some are missed.
const GOLD: [(&str, &str, i64, i64, &str); 6] = [
    ("a", "PER", 0, 13, "Angela Merkel"),
    ("a", "MISC", 0, 6, "Angela"),
    ("a", "PER", 18, 33, "Emmanuel Macron"),
    ("a", "ORG", 37, 43, "Berlin"),
    ("a", "MISC", 47, 53, "Monday"),
    ("🎉 d", "PER", 2, 6, "Zoe\u{308}"),
];
