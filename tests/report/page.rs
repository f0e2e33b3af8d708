//! The page in a browser: it runs no script from documents, and its filters, search and keys work.

use std::collections::BTreeSet;

use serde_json::json;

use super::browser::visit;
use super::{GOLD, Mention, Page, TEXTS, gold, report, store};
use crate::support::{Dir, project};

#[test]
fn no_document_can_run_script_on_the_page() {
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
            json!({"until": "document.querySelectorAll('#feed article').length === 1"}),
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

/// JavaScript that returns how a drawn document's text differs from the data, or an empty string.
pub(super) const SAME_TEXTS: &str = "(() => {
    const rows = JSON.parse(document.getElementById('documents-data').textContent).rows;
    const texts = new Map(rows.map((row) => [row.id, row]));
    const drawn = document.querySelectorAll('#feed article');
    if (drawn.length === 0) return 'no document';
    for (const article of drawn) {
        const row = texts.get(article.querySelector('h3').textContent);
        if (row.text === undefined) continue;
        if (article.querySelector('.text').textContent !== row.text) return 'text of ' + row.id;
        const names = new Set(row.mentions.map((one) => row.text.slice(one[1], one[2])));
        const boxes = [...article.querySelectorAll('mark')];
        if (boxes.filter((box) => box.hasAttribute('tabindex')).length !== row.mentions.length) return 'boxes of ' + row.id;
        const whole = boxes.filter((box) => !box.matches('.continues-before, .continues-after'));
        if (!whole.every((box) => names.has(box.textContent))) return 'places of ' + row.id;
    }
    return '';
})()";

/// JavaScript that counts drawn documents and boxes, and lists the kinds of boxes.
const DRAWN: &str = "(() => {
    const boxes = [...document.querySelectorAll('#feed mark[tabindex]')];
    const kinds = new Set(boxes.flatMap((box) => [...box.classList].filter((one) => /^[ts][0-9]$/.test(one))));
    return [document.querySelectorAll('#feed article').length, boxes.length, [...kinds].sort().join(' ')];
})()";

#[test]
fn filters_search_and_keys_in_a_browser() {
    let dir = Dir::new();
    gold(&dir, "gold.parquet", &GOLD);
    let mut texts = TEXTS.to_vec();
    texts.push((Some("f"), Some("it rained all day .")));
    let job = store(&dir, &texts, &format!("gold = '{}'", dir.path("gold.parquet").display()));
    let page = report(&dir, &[&job, "page.html"]);
    let mentions = page.mentions();
    let of_type = |name: &str| mentions.iter().filter(|one| one.1 == name).count();
    let errors = |one: &&Mention| one.3 >= 2;
    let documents_with = |keep: &dyn Fn(&&Mention) -> bool| {
        mentions.iter().filter(keep).map(|one| one.0.as_str()).collect::<BTreeSet<_>>().len()
    };
    let named =
        TEXTS.iter().filter(|(id, text)| id.is_some() && text.is_some_and(|text| text.contains("Emmanuel"))).count();
    let active = "[document.activeElement.localName, document.activeElement.closest('article')?.querySelector('h3').textContent ?? null]";
    let steps = [
        json!({"size": [1280, 900]}),
        json!({"eval": DRAWN}),
        json!({"eval": SAME_TEXTS}),
        json!({"click": "#filters [data-toggle='1']"}), // hides PER
        json!({"eval": DRAWN}),
        json!({"key": "0"}),
        json!({"click": "#only-errors"}),
        json!({"eval": DRAWN}),
        json!({"key": "0"}),
        json!({"key": "/"}),
        json!({"type": "emmanuel"}),
        json!({"until": format!("CSS.highlights.get('search')?.size === {named}")}),
        json!({"eval": DRAWN}),
        json!({"eval": "CSS.highlights.get('search').size"}),
        json!({"key": "Escape"}),
        json!({"key": "0"}),
        json!({"eval": "document.getElementById('minimum').focus()"}),
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
        json!({"until": "!document.getElementById('help').open"}),
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
        json!({"key": "0"}),
        json!({"eval": "document.getElementById('minimum').focus()"}),
        json!({"key": "End"}),
        json!({"key": "Home"}),
        json!({"eval": DRAWN}),
        json!({"eval": "document.querySelector('#passage figcaption a').textContent"}),
        json!({"click": "#passage figcaption a"}),
        json!({"eval": active}),
        json!({"eval": DRAWN}),
        json!({"eval": TIP_OF_ANGELA}),
    ];
    let Some(seen) = visit(&dir.path("page.html"), &steps) else { return };
    let at = |step: usize| &seen.values[step];
    let rows = page.documents["rows"].as_array().unwrap();
    assert!(rows.iter().any(|row| row["mentions"] == json!([])), "every document has a mention");
    let everything = json!([rows.len(), mentions.len(), kinds(&mentions, |_| true, &page)]);
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
    assert_eq!((&at(12)[0], at(13)), (&json!(named), &json!(named)));
    // Only mentions without a score remain if no score is high enough.
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
    assert_eq!(directions.len(), rows.len());
    for pair in directions {
        let expected = if pair[0] == "العربية" { "rtl" } else { "ltr" };
        assert_eq!(pair[1], expected, "{pair}");
    }
    assert_eq!(at(39), &json!(false));
    let first = |one: &Mention| one.1 == "ORG";
    assert_eq!(at(41), &json!([documents_with(&|one| first(one)), of_type("ORG"), kinds(&mentions, first, &page)]));
    // The minimum score is reset, so documents without mentions are shown again.
    assert_eq!(at(46), &everything);
    // The passage links to its document and hides no other.
    assert_eq!((at(49), at(50)), (&json!(["article", at(47)]), &everything));
    // The missed mention lies inside a right one.
    assert!(at(51).as_str().unwrap().contains("predicted: PER (overlapping)"), "{}", at(51));
    seen.quiet_but(&[]);
}

/// The tooltip of a missed mention inside a right one.
const TIP_OF_ANGELA: &str = "(() => {
    [...document.querySelectorAll('#feed mark.s3')].find((box) => box.textContent === 'Angela').focus();
    return document.getElementById('tip').textContent;
})()";

/// The classes of the boxes of some mentions, as [`DRAWN`] gives them.
fn kinds(mentions: &[Mention], keep: impl Fn(&Mention) -> bool, page: &Page) -> String {
    let place =
        |name: &str| page.summary["types"].as_array().unwrap().iter().position(|one| one["name"] == name).unwrap();
    let kept = mentions.iter().filter(|one| keep(one));
    let kinds: BTreeSet<String> = kept.flat_map(|one| [format!("t{}", place(&one.1)), format!("s{}", one.3)]).collect();
    kinds.into_iter().collect::<Vec<_>>().join(" ")
}

/// Checks the boxes of random mentions: they are nested, and together cover each mention once.
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
fn boxes_nest_even_if_mentions_cross() {
    let dir = Dir::new();
    let blank = dir.write("blank.html", "<!doctype html><title>blank</title>");
    let marks = std::fs::read_to_string(project().join("src/report/page/marks.js")).unwrap();
    let Some(seen) = visit(&blank, &[json!({"eval": marks + "\n" + BOXES})]) else { return };
    assert_eq!(seen.values, [json!("boxes in boxes")]);
}

#[test]
fn numbers_are_rounded_before_their_unit_is_chosen() {
    let dir = Dir::new();
    let blank = dir.write("blank.html", "<!doctype html><title>blank</title>");
    let elements = std::fs::read_to_string(project().join("src/report/page/elements.js")).unwrap();
    let asked =
        "[seconds(9.996), seconds(59.97), seconds(119.7), seconds(3599.7), bytes(999), bytes(999700000), bytes(1e15)]";
    let step = json!({"eval": format!("(() => {{ {elements} return {asked}; }})()")});
    let Some(seen) = visit(&blank, &[step]) else { return };
    let expected = ["10.0 s", "1 min 0 s", "2 min 0 s", "1 h 0 min", "999 B", "1.00 GB", "1\u{202f}000 TB"];
    assert_eq!(seen.values, [json!(expected)]);
}
