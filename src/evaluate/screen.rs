//! The report on the screen. In: a report. Out: text with tables. It must not compute a score.

use super::report::{Changes, Comparison, Confused, Measure, Report, Row, TableReport};
use crate::console::{columns, rows, thousands};
use crate::score::bootstrap::Interval;
use crate::score::counts::Scores;

/// The significance level.
const SIGNIFICANCE: f64 = 0.05;

/// The whole report.
pub(super) fn text(report: &Report) -> String {
    let mut parts = vec![head(report), scores(report)];
    let classes = [
        ("by nesting", &report.nesting),
        ("by length in words", &report.words),
        ("by length in characters", &report.characters),
    ];
    let mut lines = Vec::new();
    for (title, class) in classes.into_iter().filter(|(_, class)| !class.is_empty()) {
        lines.push(vec![title.to_owned()]);
        lines.extend(class.iter().map(|row| line(&format!("  {}", row.name), &row.scores, None, Some(row))));
    }
    // The breakdowns have no intervals.
    let without_interval = |mut cells: Vec<String>| {
        if cells.len() > INTERVAL {
            cells.remove(INTERVAL);
        }
        cells
    };
    let header = [&HEADER[..INTERVAL], &HEADER[INTERVAL + 1..]].concat();
    parts.push(columns(&header, lines.into_iter().map(without_interval)));
    if !report.errors.is_empty() {
        parts.push(errors(report));
    }
    if !report.confusion.is_empty() {
        parts.push(format!(
            "confusion matrix of types (rows: gold, columns: predicted)\n{}",
            confusion(&report.confusion)
        ));
    }
    if !report.worst.is_empty() {
        let header = ["document", "F1", "right", "wrong", "missed"];
        let row = |one: &super::report::Worst| {
            let counts = one.counts;
            let numbers = [counts.true_positives, counts.false_positives, counts.false_negatives];
            let mut row = vec![one.doc_id.clone(), share(one.f1)];
            row.extend(numbers.map(|number| thousands(number as u64)));
            row
        };
        parts.push(format!("documents with the most errors\n{}", columns(&header, report.worst.iter().map(row))));
    }
    if let (Some(comparison), Some(against)) = (&report.comparison, &report.against) {
        parts.push(compared(report, comparison, against));
    }
    parts.join("\n")
}

const HEADER: [&str; 8] = ["", "F1", "95 % interval", "precision", "recall", "right", "wrong", "missed"];
/// The index of the interval in it.
const INTERVAL: usize = 2;

fn head(report: &Report) -> String {
    let table = |name: &str, table: &TableReport| {
        (format!("{name}: {}", table.location), format!("{} mentions", thousands(table.tally.mentions as u64)))
    };
    let mut lines = vec![table("predicted", &report.predicted), table("gold", &report.gold)];
    lines.extend(report.against.as_ref().map(|against| table("against", against)));
    lines.push(("documents".into(), thousands(report.documents as u64)));
    let counted = report.micro.counts;
    if (counted.predicted(), counted.gold()) != (report.predicted.tally.mentions, report.gold.tally.mentions) {
        lines.push((
            format!("counted: {}", report.counting),
            format!("{} predicted, {} gold", thousands(counted.predicted() as u64), thousands(counted.gold() as u64)),
        ));
    }
    if report.resampling.resamples > 0 {
        let number = thousands(report.resampling.resamples as u64);
        lines.push(("intervals".into(), format!("{number} resamples of documents, seed {}", report.resampling.seed)));
    }
    rows(&lines)
}

fn scores(report: &Report) -> String {
    let average = &report.macro_average;
    let measure = |name: &str, measure: &Measure| line(name, &measure.scores, None, None);
    let mut lines = vec![
        line("strict, micro", &report.micro.scores, report.micro.interval, Some(&report.micro)),
        line("strict, macro", &average.scores, average.interval, None),
    ];
    lines.extend(report.types.iter().map(|row| line(&format!("  {}", row.name), &row.scores, row.interval, Some(row))));
    lines.push(line("span, any type", &report.span.scores, None, Some(&report.span)));
    lines.push(measure("partial (credit ½)", &report.partial));
    lines.push(measure("overlap (credit 1)", &report.overlap));
    columns(&HEADER, lines.into_iter())
}

fn line(name: &str, scores: &Scores, interval: Option<Interval>, row: Option<&Row>) -> Vec<String> {
    let mut cells = vec![
        name.to_owned(),
        share(scores.f1),
        interval.map_or_else(String::new, |Interval { low, high }| format!("{low:.4} to {high:.4}")),
        share(scores.precision),
        share(scores.recall),
    ];
    if let Some(Row { counts, .. }) = row {
        let numbers = [counts.true_positives, counts.false_positives, counts.false_negatives];
        cells.extend(numbers.map(|number| thousands(number as u64)));
    }
    cells
}

fn share(value: f64) -> String {
    format!("{value:.4}")
}

fn errors(report: &Report) -> String {
    let label = |reason: &str| match reason {
        "type" => "same span, other type",
        "boundary" => "same type, other boundaries",
        "type_and_boundary" => "overlaps another type",
        _ => "no overlapping mention",
    };
    let count = |kind: &str, reason: &str| {
        let found = report.errors.iter().find(|one| one.kind == kind && one.reason == reason);
        thousands(found.map_or(0, |one| one.mentions) as u64)
    };
    let lines = ["type", "boundary", "type_and_boundary", "nothing_there"];
    let lines = lines
        .map(|reason| vec![label(reason).to_owned(), count("false_positive", reason), count("false_negative", reason)]);
    columns(&["error class", "wrong", "missed"], lines.into_iter())
}

fn confusion(cells: &[Confused]) -> String {
    let mut names: Vec<&str> = cells.iter().flat_map(|cell| [cell.gold.as_str(), cell.predicted.as_str()]).collect();
    names.sort_unstable();
    names.dedup();
    names.retain(|name| !name.is_empty());
    names.push("");
    let shown = |name: &str| if name.is_empty() { "none".to_owned() } else { name.to_owned() };
    let header: Vec<String> = std::iter::once(String::new()).chain(names.iter().map(|name| shown(name))).collect();
    let header: Vec<&str> = header.iter().map(String::as_str).collect();
    let line = |gold: &&str| {
        let cell = |predicted: &&str| {
            let found = cells.iter().find(|cell| cell.gold == *gold && cell.predicted == *predicted);
            if gold.is_empty() && predicted.is_empty() {
                String::new()
            } else {
                thousands(found.map_or(0, |cell| cell.mentions) as u64)
            }
        };
        std::iter::once(shown(gold)).chain(names.iter().map(cell)).collect()
    };
    columns(&header, names.iter().map(line))
}

fn compared(report: &Report, comparison: &Comparison, against: &TableReport) -> String {
    let header = ["changed mentions", "now right", "now missed", "now wrong", "no longer wrong"];
    let line = |one: &Changes| -> Vec<String> {
        let numbers = [one.found, one.lost, one.new_errors, one.errors_gone];
        std::iter::once(format!("  {}", one.name)).chain(numbers.map(|number| thousands(number as u64))).collect()
    };
    let mut all = Changes { name: "all".into(), ..Changes::default() };
    for one in &comparison.changes {
        all.found += one.found;
        all.lost += one.lost;
        all.new_errors += one.new_errors;
        all.errors_gone += one.errors_gone;
    }
    let first: Vec<String> = line(&all).into_iter().map(|cell| cell.trim().to_owned()).collect();
    let table = columns(&header, std::iter::once(first).chain(comparison.changes.iter().map(line)));
    let theirs = comparison.against.scores.f1;
    let verdict = match comparison.difference {
        None => format!("F1 {} here, {} for `{}`", share(report.micro.scores.f1), share(theirs), against.location),
        Some(difference) => {
            let significant = if difference.p_value <= SIGNIFICANCE { "significant" } else { "not significant" };
            format!(
                "F1 {} here, {} for `{}`: difference {:+.4} (95 % interval {:+.4} to {:+.4}), {significant} at {SIGNIFICANCE} (approximate randomization, p = {:.4}, {} resamples, seed {})",
                share(report.micro.scores.f1),
                share(theirs),
                against.location,
                difference.f1,
                difference.interval.low,
                difference.interval.high,
                difference.p_value,
                thousands(report.resampling.resamples as u64),
                report.resampling.seed
            )
        }
    };
    format!("{table}\n{verdict}")
}
