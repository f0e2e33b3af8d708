//! The command `quarry prepare`. In: its settings. Out: the files, and on the screen a summary and the problems. It must not read a
//! corpus itself.

use crate::console;
use crate::console::thousands;
use crate::error::Result;
use crate::prepare::convert::{Prepared, run};
use crate::prepare::output::summary::{Figures, Summary};
use crate::prepare::settings::Settings;

/// The number of problems printed one by one; the rest is only counted.
const PRINTED_PROBLEMS: usize = 20;

/// Prepares a corpus and prints the summary.
pub fn command(settings: &Settings) -> Result<u8> {
    let prepared = run(settings)?;
    for note in &prepared.notes {
        tracing::info!("{note}");
    }
    for problem in prepared.problems.iter().take(PRINTED_PROBLEMS) {
        tracing::warn!("{problem}");
    }
    if prepared.problems.len() > PRINTED_PROBLEMS {
        tracing::warn!("{} more problems", thousands((prepared.problems.len() - PRINTED_PROBLEMS) as u64));
    }
    console::print(&totals(&prepared));
    let types = types(&prepared.summaries);
    if !types.is_empty() {
        console::print(&types);
    }
    Ok(if prepared.refused_files > 0 { 3 } else { 0 })
}

fn totals(prepared: &Prepared) -> String {
    let name = |summary: &Summary| if summary.part.is_empty() { "all".to_owned() } else { summary.part.clone() };
    let mut header = vec!["corpus".to_owned()];
    header.extend(prepared.summaries.iter().map(name));
    let row = |name: &str, figure: &dyn Fn(&Summary) -> String| {
        let mut cells = vec![name.to_owned()];
        cells.extend(prepared.summaries.iter().map(figure));
        cells
    };
    let number = |count: usize| thousands(count as u64);
    let mut rows = vec![
        row("documents", &|summary| number(summary.documents)),
        row("sentences", &|summary| number(summary.sentences)),
        row("rows", &|summary| number(summary.rows)),
        row("mentions", &|summary| number(summary.all.mentions)),
        row("nested", &|summary| share(summary.all)),
        row("partly overlapping", &|summary| number(summary.crossing)),
        row("several types", &|summary| number(summary.shared)),
        row("longest (words)", &|summary| number(summary.all.longest)),
        row("decoding", &|summary| if summary.needs_nesting() { "nested" } else { "flat" }.to_owned()),
    ];
    for (name, count) in [("left out", prepared.left_out), ("skipped problems", prepared.problems.len())] {
        let mut cells = vec![name.to_owned(), number(count)];
        cells.resize(prepared.summaries.len() + 1, String::new());
        rows.push(cells);
    }
    let header: Vec<&str> = header.iter().map(String::as_str).collect();
    console::columns(&header, rows.into_iter())
}

/// The mentions of each type by part, then the nested share and the longest mention over all parts.
fn types(summaries: &[Summary]) -> String {
    let mut names: Vec<&String> = summaries.iter().flat_map(|summary| summary.types.keys()).collect();
    names.sort();
    names.dedup();
    if names.is_empty() {
        return String::new();
    }
    let mut header = vec!["type"];
    header.extend(
        summaries.iter().map(|summary| if summary.part.is_empty() { "mentions" } else { summary.part.as_str() }),
    );
    header.extend(["nested", "longest (words)"]);
    let row = |name: &String| {
        let by_part: Vec<Figures> =
            summaries.iter().map(|summary| summary.types.get(name).copied().unwrap_or_default()).collect();
        let sum = by_part.iter().fold(Figures::default(), |sum, one| Figures {
            mentions: sum.mentions + one.mentions,
            nested: sum.nested + one.nested,
            longest: sum.longest.max(one.longest),
        });
        let mut cells = vec![name.clone()];
        cells.extend(by_part.iter().map(|figures| thousands(figures.mentions as u64)));
        cells.extend([share(sum), thousands(sum.longest as u64)]);
        cells
    };
    console::columns(&header, names.into_iter().map(row))
}

fn share(figures: Figures) -> String {
    if figures.mentions == 0 {
        return "–".to_owned();
    }
    format!("{:.1} %", 100.0 * figures.nested as f64 / figures.mentions as f64)
}
