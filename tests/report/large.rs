//! A large page in a browser: how fast it opens and how fast a search answers.

use serde_json::json;

use super::browser::{Visit, visit};
use super::page::SAME_TEXTS;
use super::{gold, report};
use crate::support::{Dir, Random};

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
        "[model]\npath = '{}'\ndevice = 'cpu'\nprecision = 'fp32'\n[entities]\nschema = '{}'",
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
        json!({"until": "performance.getEntriesByName('first-contentful-paint').length > 0 && performance.getEntriesByType('navigation')[0].loadEventEnd > 0"}),
        json!({"eval": "performance.getEntriesByName('first-contentful-paint')[0].startTime"}),
        json!({"eval": "document.querySelectorAll('#feed article').length"}),
        json!({"eval": search}),
        json!({"eval": SAME_TEXTS}),
        json!({"eval": "performance.getEntriesByType('navigation')[0].loadEventEnd"}),
    ];
    let Some(mut seen) = visit(&dir.path("page.html"), &steps) else { return };
    // A browser can paint the page's head before the script has run; at the load event all of it has run.
    let times = |seen: &Visit| [1, 5, 3].map(|step: usize| seen.values[step].as_f64().unwrap());
    let in_time = |[paint, loaded, _]: [f64; 3]| paint < 2000.0 && loaded < 8000.0;
    // The machine is busy with other tests, so the best of three attempts counts.
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
