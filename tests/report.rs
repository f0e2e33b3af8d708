//! `quarry report`: the page holds the store's own figures, says what it cannot show, and lets nothing run that a document brings.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray};
use insta::assert_snapshot;
use serde_json::{Value, json};

use crate::promises::corpus;
use crate::support::{Dir, Random, project};

mod browser;

use browser::{Visit, visit};

/// Documents of several scripts, some of them refused, some that would like to run something.
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

/// Runs `texts` with the model in the project, in single precision: the same everywhere.
fn store(dir: &Dir, texts: &[(Option<&str>, Option<&str>)], sections: &str) -> String {
    dir.documents("docs.parquet", texts);
    let model = project().join("models/default");
    let model = format!("[model]\npath = '{}'\ndevice = 'cpu'\nflavour = 'fp32'", model.display());
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

#[test]
fn the_page_has_the_stores_own_rows() {
    let dir = Dir::new();
    store(&dir, &TEXTS, "");
    let page = report(&dir, &["store", "page.html"]);
    // Every mention of the table, at a place where its text stands.
    let mut expected = BTreeSet::new();
    for row in dir.rows("store", "entities", "doc_id, entity_type, text", "") {
        let cells: Vec<&str> = row.split('|').collect();
        expected.insert((cells[0].to_owned(), cells[1].to_owned(), cells[2].to_owned()));
    }
    let found: BTreeSet<_> = page.mentions().into_iter().map(|(id, name, text, _)| (id, name, text)).collect();
    assert!(expected.len() > 5, "{expected:?}");
    assert_eq!(found, expected);
    for row in page.documents["rows"].as_array().unwrap() {
        let id = row["id"].as_str().unwrap();
        let text = TEXTS.iter().find(|(own, _)| *own == Some(id)).and_then(|(_, text)| *text);
        assert_eq!(row["text"].as_str(), text, "{id}");
    }
    // The figures are those of the tables.
    let totals = &page.summary["totals"];
    let count = |table: &str| dir.rows("store", table, "count(*)", "")[0].parse::<u64>().unwrap();
    assert_eq!(totals["documents"].as_u64(), Some(count("documents")));
    assert_eq!(totals["mentions"].as_u64(), Some(count("entities")));
    assert_eq!(totals["rejects"].as_u64(), Some(count("rejects")));
    let figures = page.summary["figures"].as_array().unwrap();
    assert_eq!(figures.len() as u64, count("metrics"));
    for one in page.summary["types"].as_array().unwrap() {
        let sum: u64 = one["scores"].as_array().unwrap().iter().map(|bin| bin.as_u64().unwrap()).sum();
        assert_eq!(Some(sum), one["mentions"].as_u64());
    }
    let types = page.summary["types"].as_array().unwrap().iter();
    let types: Vec<String> = types.map(|one| format!("{} {} {}", one["name"], one["mentions"], one["names"])).collect();
    assert_snapshot!(types.join("\n").replace('\u{308}', "¨"), @r##"
    "ORG" 0 []
    "PER" 6 [["Emmanuel Macron",3,3],["Angela Merkel",1,1],["Barack Obama",1,1],["Zoe¨ Kravitz",1,1]]
    "LOC" 6 [["Berlin",1,1],["Chicago",1,1],["London",1,1],["Paris",1,1],["Switzerland",1,1],["Zürich",1,1]]
    "MISC" 0 []
    "##);
    let rejects = page.summary["rejects"].as_array().unwrap().iter();
    let rejects: Vec<String> =
        rejects.map(|one| format!("{} {} {}", one["reason"], one["count"], one["examples"][0][3])).collect();
    assert_snapshot!(rejects.join("\n"), @r##"
    "empty_text" 1 "the text has 0 bytes, all white space"
    "null_text" 1 "the text is null"
    "##);
}

#[test]
fn the_page_lets_nothing_in() {
    let dir = Dir::new();
    dir.write("types.toml", "nested = true\n[[type]]\nname = \"</script><script>hacked=1</script>\"\nquestion = \"Which people are named? <img src=x onerror=hacked=1>\"\n");
    let schema = dir.path("types.toml").display().to_string();
    store(
        &dir,
        &TEXTS,
        &format!("where = \"'</script><script>hacked=1</script>' <> ''\"\n[entities]\nschema = '{schema}'"),
    );
    let page = report(&dir, &["store", "page.html"]);
    // Three script elements, a style, and no markup from anywhere else.
    assert_eq!(page.html.matches("<script").count(), 3);
    assert_eq!(page.html.matches("</script").count(), 3);
    assert_eq!(page.html.matches("<img").count(), 0);
    for line in page.html.lines().filter(|line| line.contains("{{")) {
        assert!(line.starts_with("<script type=\"application/json\""), "{line}");
    }
    let Some(seen) = visit(
        &dir.path("page.html"),
        &[
            json!({"eval": "[typeof hacked, document.images.length, document.querySelectorAll('script').length, document.querySelectorAll('b').length]"}),
            json!({"eval": "document.querySelector('#types bdi').textContent"}),
            json!({"eval": SAME_TEXTS}),
            json!({"key": "j"}),
            json!({"key": "Tab"}),
            json!({"key": "/"}),
            json!({"type": "</script>"}),
            json!({"wait": 300}),
            json!({"eval": "[typeof hacked, document.querySelectorAll('#feed article').length]"}),
            json!({"eval": "[...document.querySelectorAll('#runs td bdi')].filter((one) => one.textContent.startsWith(\"'</script>\")).length"}),
            json!({"eval": "(() => { try { document.body.innerHTML = '<b>x</b>'; return 'markup was taken'; } catch (error) { return error.name; } })()"}),
        ],
    ) else {
        return;
    };
    assert_eq!(seen.values[0], json!(["undefined", 0, 3, 0]));
    assert_eq!(seen.values[1], json!("</script><script>hacked=1</script>"));
    assert_eq!(seen.values[2], json!(""));
    assert_eq!(seen.values[8], json!(["undefined", 1]));
    assert_eq!(seen.values[9], json!(1), "the setting is not shown");
    assert_eq!(seen.values[10], json!("TypeError"), "a string became markup");
    seen.quiet_but(&["TrustedHTML"]);
}

/// Says how a drawn document's text differs from the data's, or nothing.
const SAME_TEXTS: &str = "(() => {
    const rows = JSON.parse(document.getElementById('documents-data').textContent).rows;
    const texts = new Map(rows.map((row) => [row.id, row]));
    for (const article of document.querySelectorAll('#feed article')) {
        const row = texts.get(article.querySelector('h3').textContent);
        if (row.text === undefined) continue;
        if (article.querySelector('.text').textContent !== row.text) return 'text of ' + row.id;
        const names = new Set(row.mentions.map((one) => row.text.slice(one[1], one[2])));
        const boxes = [...article.querySelectorAll('mark')];
        if (boxes.filter((box) => box.hasAttribute('tabindex')).length !== row.mentions.length) return 'boxes of ' + row.id;
        const whole = boxes.filter((box) => !box.matches('.goes-on, .to-be-continued'));
        if (!whole.every((box) => names.has(box.textContent))) return 'places of ' + row.id;
    }
    return '';
})()";

const GOLD: [(&str, &str, i64, i64, &str); 5] = [
    ("a", "PER", 0, 13, "Angela Merkel"),
    ("a", "PER", 18, 33, "Emmanuel Macron"),
    ("a", "ORG", 37, 43, "Berlin"),
    ("a", "MISC", 47, 53, "Monday"),
    ("🎉 d", "PER", 2, 6, "Zoe\u{308}"),
];

#[test]
fn with_gold_the_page_counts_as_evaluate_does() {
    let dir = Dir::new();
    gold(&dir, "gold.parquet", &GOLD);
    let job = store(&dir, &TEXTS, &format!("gold = '{}'", dir.path("gold.parquet").display()));
    let evaluated: Value =
        serde_json::from_str(&dir.quarry(&["evaluate", "--json", "--no-metrics", &job]).ended(0).stdout()).unwrap();
    // The store alone leads to the gold its run had.
    for operand in [job.as_str(), "store"] {
        let page = report(&dir, &[operand, "page.html"]);
        let quality = &page.summary["quality"];
        for name in ["precision", "recall", "f1", "true_positives", "false_positives", "false_negatives"] {
            assert_eq!(quality["all"][name], evaluated["micro"][name], "{name}");
        }
        let confusion = evaluated["confusion"].as_array().unwrap().iter();
        let confusion: Vec<Value> =
            confusion.map(|one| json!([one["gold"], one["predicted"], one["mentions"]])).collect();
        assert_eq!(quality["confusion"], json!(confusion));
        let errors = evaluated["errors"].as_array().unwrap().iter();
        let errors: Vec<Value> = errors.map(|one| json!([one["kind"], one["reason"], one["mentions"]])).collect();
        assert_eq!(quality["kinds"], json!(errors));
        let states = |state| page.mentions().iter().filter(|one| one.3 == state).count();
        assert_eq!(json!(states(1)), quality["all"]["true_positives"]);
        assert_eq!(json!(states(2)), quality["all"]["false_positives"]);
        assert_eq!(json!(states(3)), quality["all"]["false_negatives"]);
        let right: u64 = page.summary["types"]
            .as_array()
            .unwrap()
            .iter()
            .flat_map(|one| one["right"].as_array().unwrap().iter())
            .map(|bin| bin.as_u64().unwrap())
            .sum();
        assert_eq!(json!(right), quality["all"]["true_positives"]);
        // The document with most errors is the first.
        assert_eq!(page.documents["rows"][0]["id"], "🎉 d");
    }
    // Without gold the run's own scores are left, and the page says why.
    std::fs::remove_file(dir.path("gold.parquet")).unwrap();
    let page = report(&dir, &["store", "page.html"]);
    let quality = &page.summary["quality"];
    assert_eq!((&quality["joined"], &quality["all"]["f1"]), (&json!(false), &evaluated["micro"]["f1"]));
    assert!(page.summary["quality_remark"].as_str().unwrap().contains("no longer to be had"));
    assert_snapshot!(dir.quarry(&["report", &job, "page.html"]).ended(1).error(), @r##"
    error: cannot use the gold mentions at `DIR/gold.parquet`: there is no such file or folder
    hint: name a file, a folder, a glob, or a URL that begins with s3://, gs:// or az://
    "##);
}

#[test]
fn texts_are_shown_only_where_they_are_what_was_extracted() {
    let dir = Dir::new();
    store(&dir, &TEXTS, "");
    let remarks = |page: &Page| {
        page.documents["remarks"]
            .as_array()
            .unwrap()
            .iter()
            .map(|one| one.as_str().unwrap().to_owned())
            .collect::<Vec<_>>()
    };
    let with_text =
        |page: &Page| page.documents["rows"].as_array().unwrap().iter().filter(|row| !row["text"].is_null()).count();
    let page = report(&dir, &["store", "page.html"]);
    assert_eq!((with_text(&page), remarks(&page).len()), (5, 0));
    // Another text under the same id: its offsets would lie.
    let mut changed = TEXTS;
    changed[0].1 = Some("Now another text stands here , about Angela Merkel .");
    dir.documents("docs.parquet", &changed[..3]);
    let page = report(&dir, &["store", "page.html"]);
    assert_eq!(with_text(&page), 1);
    assert_eq!(
        remarks(&page),
        [
            "1 document without text: the document has another text now",
            "3 documents without text: the document is not where it was found"
        ]
    );
    let changed = page.documents["rows"].as_array().unwrap().iter().find(|row| row["id"] == "a").unwrap();
    assert_eq!(changed["names"][0], "Angela Merkel");
    // The file is gone, and found again elsewhere under other columns.
    std::fs::rename(dir.path("docs.parquet"), dir.path("gone.parquet")).unwrap();
    let page = report(&dir, &["store", "page.html"]);
    assert_eq!(with_text(&page), 0);
    assert_eq!(remarks(&page).len(), 1, "{:?}", remarks(&page));
    let lines: Vec<String> = TEXTS
        .iter()
        .filter_map(|(id, text)| Some(json!({"number": (*id)?, "content": (*text)?}).to_string()))
        .collect();
    dir.write("moved.jsonl", &lines.join("\n"));
    let page =
        report(&dir, &["store", "page.html", "--documents", "moved.jsonl", "--id", "number", "--text", "content"]);
    assert_eq!((with_text(&page), remarks(&page).len()), (5, 0));
    assert_snapshot!(dir.quarry(&["report", "store", "page.html", "--documents", "moved.jsonl"]).ended(1).error(), @r##"
    error: cannot use the documents at `moved.jsonl`: it has no column `id` (`[input] id`), only content, number
    hint: name the columns with --id and --text
    "##);
}

#[test]
fn a_part_of_the_store() {
    let dir = Dir::new();
    let texts: Vec<(String, String)> = (0..40)
        .map(|number| (format!("{number:02}"), format!("Angela Merkel met number {number} in Berlin .")))
        .collect();
    let texts: Vec<(Option<&str>, Option<&str>)> =
        texts.iter().map(|(id, text)| (Some(id.as_str()), Some(text.as_str()))).collect();
    let job = store(&dir, &texts[..30], "");
    let first = dir.rows("store", "runs", "run_id", "")[0].clone();
    dir.documents("docs.parquet", &texts);
    dir.quarry(&["run", &job]).ended(0);
    dir.quarry(&["run", &job]).ended(0);
    let ids = |page: &Page| {
        page.documents["rows"]
            .as_array()
            .unwrap()
            .iter()
            .map(|row| row["id"].as_str().unwrap().to_owned())
            .collect::<Vec<_>>()
    };
    // The last run found nothing new: the figures are those of the run before.
    let page = report(&dir, &["store", "page.html", "--limit", "8"]);
    assert_eq!(ids(&page), ["00", "05", "10", "15", "20", "25", "30", "35"]);
    assert_eq!((&page.documents["rule"], page.summary["runs"].as_array().unwrap().len()), (&json!("even"), 3));
    assert_eq!(page.summary["run"], page.summary["runs"][1]["id"]);
    let page = report(&dir, &["store", "page.html", "--limit", "0"]);
    assert_eq!(ids(&page).len(), 0);
    let page = report(&dir, &["store", "page.html", "--run", &first[..36]]);
    assert_eq!((page.summary["totals"]["documents"].as_u64(), &page.documents["rule"]), (Some(30), &json!("all")));
    let page = report(&dir, &["store", "page.html", "--type", "LOC"]);
    assert!(page.mentions().iter().all(|one| one.1 == "LOC"));
    assert_eq!(page.summary["types"].as_array().unwrap().len(), 1);
    let error = |arguments: &[&str]| dir.quarry(&[&["report"], arguments].concat()).ended(1).error();
    let unknown = error(&["store", "page.html", "--run", "none"]);
    assert!(unknown.starts_with("error: DIR/store/: `run`: no run has the id `none`\nhint: the last: "), "{unknown}");
    assert_snapshot!(error(&["nothing", "page.html"]), @r##"
    error: the store `DIR/nothing/` has no table `entities`
    hint: check the path; `quarry run` makes a store where there is none
    "##);
    assert_snapshot!(dir.quarry(&["report", "store", "nowhere/page.html"]).ended(2).error(), @r##"
    error: cannot write `nowhere/page.html`
      caused by: No such file or directory (os error 2)
    hint: check that the folder exists, that you may write there and that the disk is not full
    "##);
}

#[test]
fn a_store_of_rejects_only() {
    let dir = Dir::new();
    store(&dir, &[(Some("a"), None), (Some("b"), Some(" ")), (None, Some("text"))], "");
    let page = report(&dir, &["store", "page.html"]);
    assert_eq!((&page.summary["totals"]["documents"], &page.summary["totals"]["rejects"]), (&json!(0), &json!(3)));
    let steps = [
        json!({"key": "j"}),
        json!({"key": "k"}),
        json!({"eval": "document.getElementById('rejects').querySelectorAll('tbody tr').length"}),
    ];
    let Some(seen) = visit(&dir.path("page.html"), &steps) else { return };
    assert_eq!(seen.values[2], json!(3));
    seen.quiet_but(&[]);
}

/// How many documents are drawn, how many boxes, and which kinds of boxes.
const DRAWN: &str = "(() => {
    const boxes = [...document.querySelectorAll('#feed mark[tabindex]')];
    const kinds = new Set(boxes.flatMap((box) => [...box.classList].filter((one) => /^[ts][0-9]$/.test(one))));
    return [document.querySelectorAll('#feed article').length, boxes.length, [...kinds].sort().join(' ')];
})()";

#[test]
fn filters_search_and_keys_in_a_browser() {
    let dir = Dir::new();
    gold(&dir, "gold.parquet", &GOLD);
    let job = store(&dir, &TEXTS, &format!("gold = '{}'", dir.path("gold.parquet").display()));
    let page = report(&dir, &[&job, "page.html"]);
    let mentions = page.mentions();
    let of_type = |name: &str| mentions.iter().filter(|one| one.1 == name).count();
    let errors = |one: &&Mention| one.3 >= 2;
    let documents_with = |keep: &dyn Fn(&&Mention) -> bool| {
        mentions.iter().filter(keep).map(|one| one.0.as_str()).collect::<BTreeSet<_>>().len()
    };
    let active = "[document.activeElement.localName, document.activeElement.closest('article')?.querySelector('h3').textContent ?? null]";
    let steps = [
        json!({"size": [1280, 900]}),
        json!({"eval": DRAWN}),
        json!({"eval": SAME_TEXTS}),
        json!({"click": "#filters [data-toggle='1']"}), // PER goes
        json!({"eval": DRAWN}),
        json!({"key": "0"}),
        json!({"click": "#only-errors"}),
        json!({"eval": DRAWN}),
        json!({"key": "0"}),
        json!({"key": "/"}),
        json!({"type": "emmanuel"}),
        json!({"wait": 400}),
        json!({"eval": DRAWN}),
        json!({"eval": "CSS.highlights.get('search').size"}),
        json!({"key": "Escape"}),
        json!({"key": "0"}),
        json!({"eval": "document.getElementById('least').focus()"}),
        json!({"key": "End"}),
        json!({"eval": DRAWN}),
        json!({"key": "0"}),
        json!({"key": "j"}),
        json!({"key": "j"}),
        json!({"eval": active}),
        json!({"key": "k"}),
        json!({"eval": active}),
        json!({"key": "Tab"}),
        json!({"eval": active}),
        json!({"eval": "document.getElementById('tip').hidden ? '' : document.getElementById('tip').textContent"}),
        json!({"key": "?"}),
        json!({"eval": "document.getElementById('help').open"}),
        json!({"key": "Escape"}),
        json!({"wait": 100}),
        json!({"eval": "document.getElementById('help').open"}),
        json!({"key": "t"}),
        json!({"key": "t"}),
        json!({"eval": "[document.documentElement.dataset.theme, getComputedStyle(document.documentElement).colorScheme]"}),
        json!({"key": "e"}),
        json!({"eval": "document.activeElement.matches('mark.s2, mark.s3')"}),
        json!({"eval": "[...document.querySelectorAll('#feed article')].map((one) => [one.querySelector('h3').textContent, getComputedStyle(one.querySelector('.text')).direction])"}),
        json!({"eval": "document.getElementById('quality').hidden"}),
        json!({"click": "#types button"}),
        json!({"eval": DRAWN}),
    ];
    let Some(seen) = visit(&dir.path("page.html"), &steps) else { return };
    let at = |step: usize| &seen.values[step];
    let everything = json!([5, mentions.len(), kinds(&mentions, |_| true, &page)]);
    assert_eq!(at(1), &everything);
    assert_eq!(at(2), &json!(""));
    let without = |one: &Mention| one.1 != "PER";
    assert_eq!(
        at(4),
        &json!([
            documents_with(&|one| without(one)),
            mentions.len() - of_type("PER"),
            kinds(&mentions, without, &page)
        ])
    );
    assert_eq!(at(7)[0], json!(documents_with(&errors)));
    let named =
        TEXTS.iter().filter(|(id, text)| id.is_some() && text.is_some_and(|text| text.contains("Emmanuel"))).count();
    assert_eq!((&at(12)[0], at(13)), (&json!(named), &json!(named)));
    // Only what has no score is left where no score is high enough.
    let rows = page.documents["rows"].as_array().unwrap();
    let scores = rows.iter().flat_map(|row| row["mentions"].as_array().unwrap()).map(|one| one[3].as_i64().unwrap());
    assert_eq!(at(18)[1], json!(scores.filter(|score| !(0..1000).contains(score)).count()));
    assert_eq!(at(22), &json!(["article", rows[1]["id"]]));
    assert_eq!(at(24), &json!(["article", rows[0]["id"]]));
    assert_eq!(at(26), &json!(["mark", rows[0]["id"]]));
    assert!(at(27).as_str().unwrap().contains("characters"), "{}", at(27));
    assert_eq!((at(29), at(32)), (&json!(true), &json!(false)));
    assert_eq!(at(35), &json!(["dark", "dark"]));
    assert_eq!(at(37), &json!(true));
    let directions = at(38).as_array().unwrap();
    for pair in directions {
        let expected = if pair[0] == "العربية" { "rtl" } else { "ltr" };
        assert_eq!(pair[1], expected, "{pair}");
    }
    assert_eq!(at(39), &json!(false));
    let first = |one: &Mention| one.1 == "ORG";
    assert_eq!(at(41), &json!([documents_with(&|one| first(one)), of_type("ORG"), kinds(&mentions, first, &page)]));
    seen.quiet_but(&[]);
}

/// The classes of the boxes of some mentions, as [`DRAWN`] gives them.
fn kinds(mentions: &[Mention], keep: impl Fn(&Mention) -> bool, page: &Page) -> String {
    let place =
        |name: &str| page.summary["types"].as_array().unwrap().iter().position(|one| one["name"] == name).unwrap();
    let kept = mentions.iter().filter(|one| keep(one));
    let kinds: BTreeSet<String> = kept.flat_map(|one| [format!("t{}", place(&one.1)), format!("s{}", one.3)]).collect();
    kinds.into_iter().collect::<Vec<_>>().join(" ")
}

/// Checks the boxes of mentions drawn at random: they lie in each other, and together cover each mention once.
const BOXES: &str = "(() => {
    let seed = 7;
    const below = (limit) => { seed = (seed * 1103515245 + 12345) % 2147483648; return Math.floor(seed / 65536) % limit; };
    for (let round = 0; round < 5000; round += 1) {
        const rows = Array.from({ length: below(10) }, () => { const start = below(29); return [below(3), start, start + 1 + below(30 - start), 900, below(4)]; });
        const covered = new Map(rows.map((row) => [row, []]));
        const walk = (around) => {
            let at = around.start;
            for (const piece of around.children) {
                if (piece.start < at || piece.end > around.end || piece.start >= piece.end || piece.height >= around.height) return false;
                at = piece.end;
                covered.get(piece.row).push(piece);
                if (!walk(piece)) return false;
            }
            return true;
        };
        if (!walk(pieces(rows, 30))) return JSON.stringify(rows);
        for (const [row, parts] of covered) {
            parts.sort((a, b) => a.start - b.start);
            const joined = parts.every((part, at) => part.start === (at === 0 ? row[1] : parts[at - 1].end) && part.first === (at === 0) && part.last === (at === parts.length - 1));
            if (!joined || parts.length === 0 || parts[parts.length - 1].end !== row[2]) return JSON.stringify([row, rows]);
        }
    }
    return 'boxes in boxes';
})()";

#[test]
fn boxes_lie_in_boxes_whatever_crosses() {
    let dir = Dir::new();
    let blank = dir.write("blank.html", "<!doctype html><title>blank</title>");
    let marks = std::fs::read_to_string(project().join("src/report/page/marks.js")).unwrap();
    let Some(seen) = visit(&blank, &[json!({"eval": marks + "\n" + BOXES})]) else { return };
    assert_eq!(seen.values, [json!("boxes in boxes")]);
}

#[test]
fn five_thousand_documents_open_at_once() {
    let dir = Dir::new();
    let words = ["Ada", "Lovelace", "met", "Mr.", "Babbage", "in", "London", ",", "Zürich", "🎉", "yesterday", "."];
    let mut random = Random(5);
    let (mut texts, mut mentions) = (Vec::new(), Vec::new());
    for number in 0..5000 {
        let (mut text, mut at) = (String::new(), 0);
        for _ in 0..40 + random.next() % 200 {
            let word = words[random.next() as usize % words.len()];
            let end = at + word.chars().count() as i64;
            match word {
                "Ada" | "Babbage" => mentions.push((number, "PER", at, end, word)),
                "Zürich" => mentions.push((number, "LOC", at, end, word)),
                _ => {}
            }
            text += word;
            text.push(' ');
            at = end + 1;
        }
        texts.push((format!("{number:04}"), text));
    }
    let rows: Vec<_> = texts.iter().map(|(id, text)| (Some(id.as_str()), Some(text.as_str()))).collect();
    dir.documents("docs.parquet", &rows);
    let mentions: Vec<_> = mentions.iter().map(|one| (texts[one.0].0.as_str(), one.1, one.2, one.3, one.4)).collect();
    gold(&dir, "gold.parquet", &mentions);
    dir.write("types.toml", "nested = true\n[[type]]\nname = 'ORG'\nquestion = 'Which organizations are named?'\n");
    let (model, schema) = (dir.small_model(), dir.path("types.toml"));
    let sections = format!(
        "[model]\npath = '{}'\ndevice = 'cpu'\nflavour = 'fp32'\n[entities]\nschema = '{}'",
        model.display(),
        schema.display()
    );
    let job = dir.job("docs.parquet", "store", &sections);
    dir.quarry(&["run", &job.display().to_string()]).ended(0);
    let page = report(&dir, &["store", "page.html", "--limit", "5000", "--gold", "gold.parquet"]);
    let megabytes = page.html.len() as f64 / 1e6;
    assert!(megabytes < 20.0, "{megabytes} MB");
    let search = "(() => {
        const [box, begun] = [document.getElementById('search'), performance.now()];
        box.value = 'zürich';
        box.dispatchEvent(new Event('input'));
        return new Promise((done) => setTimeout(() => done(performance.now() - begun - 120), 121));
    })()";
    let steps = [
        json!({"wait": 300}),
        json!({"eval": "performance.getEntriesByName('first-contentful-paint')[0].startTime"}),
        json!({"eval": "document.querySelectorAll('#feed article').length"}),
        json!({"eval": search}),
        json!({"eval": SAME_TEXTS}),
        json!({"eval": "performance.getEntriesByType('navigation')[0].loadEventEnd"}),
    ];
    let Some(mut seen) = visit(&dir.path("page.html"), &steps) else { return };
    // A browser may paint the page's head before the script has run; at the load event all of it has.
    let times = |seen: &Visit| [1, 5, 3].map(|step: usize| seen.values[step].as_f64().unwrap());
    let in_time = |[paint, loaded, _]: [f64; 3]| paint < 2000.0 && loaded < 8000.0;
    // The machine is busy with other tests; what it can do in one of three tries it can do.
    for _ in 0..2 {
        if in_time(times(&seen)) {
            break;
        }
        seen = visit(&dir.path("page.html"), &steps).unwrap();
    }
    let [paint, loaded, searched] = times(&seen);
    let (documents, marked) = (page.documents["rows"].as_array().unwrap().len(), page.mentions().len());
    eprintln!(
        "{documents} documents, {marked} mentions, {megabytes:.1} MB: first paint after {paint:.0} ms, all drawn after {loaded:.0} ms, a search takes {searched:.0} ms"
    );
    assert!(documents == 5000 && marked >= mentions.len(), "{documents} documents, {marked} mentions");
    assert!(in_time([paint, loaded, searched]), "first paint after {paint} ms, all drawn after {loaded} ms");
    assert!(seen.values[2].as_u64().unwrap() < 100, "documents are drawn before they are read");
    assert_eq!(seen.values[4], json!(""));
    seen.quiet_but(&[]);
}

#[test]
fn ids_that_are_numbers_and_ids_that_come_twice() {
    let dir = Dir::new();
    corpus(&dir, "docs.parquet", 0, 600, &mut Random(3));
    let model = dir.small_model().display().to_string();
    let job = dir.job("docs.parquet", "store", &format!("[model]\npath = '{model}'\ndevice = 'cpu'\nflavour = 'fp32'"));
    dir.quarry(&["run", &job.display().to_string()]).ended(0);
    let page = report(&dir, &["store", "page.html", "--limit", "1000"]);
    // Of the rows with one id the text is shown that was extracted, and every mention stands in it.
    let rows = page.documents["rows"].as_array().unwrap();
    assert!(rows.len() > 500 && rows.iter().all(|row| row["text"].is_string()), "{:?}", page.documents["remarks"]);
    let found: Vec<String> =
        page.mentions().into_iter().map(|(id, name, text, _)| [id, name, text].join("|")).collect();
    let mut expected = dir.rows("store", "entities", "doc_id, entity_type, text", "");
    expected.sort();
    let mut found = found;
    found.sort();
    assert_eq!(found, expected);
    let rejects: u64 =
        page.summary["rejects"].as_array().unwrap().iter().map(|one| one["count"].as_u64().unwrap()).sum();
    assert_eq!(json!(rejects), page.summary["totals"]["rejects"]);
    assert!(page.summary["rejects"].as_array().unwrap().iter().any(|one| one["reason"] == "duplicate_id"));
}
