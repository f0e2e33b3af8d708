//! Systems side by side on the screen. In: the table. Out: text. It must not compute a score.

use crate::console::{columns, rows, thousands};
use crate::score::bootstrap::Interval;
use crate::score::side_by_side::{Part, SideBySide, System};

/// The significance level.
const SIGNIFICANCE: f64 = 0.05;

/// The head, the systems, their F1 by type and nesting, their differences from the first.
pub(super) fn text(table: &SideBySide) -> String {
    let mut head = vec![
        (format!("gold: {}", table.gold), format!("{} mentions", thousands(table.gold_mentions as u64))),
        ("documents".to_owned(), thousands(table.documents as u64)),
    ];
    let resamples = thousands(table.resampling.resamples as u64);
    if table.resampling.resamples > 0 {
        head.push(("intervals".into(), format!("{resamples} resamples of documents, seed {}", table.resampling.seed)));
    }
    let mut parts = vec![rows(&head), systems(table), by_part(table)];
    if table.systems.iter().any(|system| system.difference.is_some()) {
        parts.push(differences(table));
    }
    let mut notes = vec![parts.join("\n")];
    if table.systems.iter().any(|system| system.difference.is_some()) {
        notes.push(format!(
            "p: approximate randomization of documents against `{}`, {resamples} resamples; adjusted for the number of comparisons ({}) by Holm's method.",
            table.systems[0].name,
            table.systems.len() - 1
        ));
    }
    let speed = |System { name, speed, .. }: &System| {
        let speed = speed.as_ref()?;
        let (measured, types) = (&speed.measured, speed.types);
        Some(format!("Speed of `{name}`: {measured}, {types} types; s/type is per million characters of text."))
    };
    notes.extend(table.systems.iter().filter_map(speed));
    notes.join("\n")
}

fn share(value: f64) -> String {
    format!("{value:.4}")
}

fn systems(table: &SideBySide) -> String {
    let header = [
        "",
        "F1",
        "95 % interval",
        "precision",
        "recall",
        "macro F1",
        "right",
        "wrong",
        "missed",
        "tokens/s",
        "s/type",
    ];
    let line = |system: &System| {
        let (Part { scores, counts, .. }, speed) = (&system.micro, system.speed.as_ref());
        let mut cells = vec![
            system.name.clone(),
            share(scores.f1),
            system.interval.map_or_else(String::new, |Interval { low, high }| format!("{low:.4} to {high:.4}")),
            share(scores.precision),
            share(scores.recall),
            share(system.macro_average.f1),
        ];
        let numbers = [counts.true_positives, counts.false_positives, counts.false_negatives];
        cells.extend(numbers.map(|number| thousands(number as u64)));
        cells.push(speed.map_or_else(|| "–".into(), |speed| thousands(speed.tokens_per_second as u64)));
        cells.push(speed.map_or_else(|| "–".into(), |speed| format!("{:.2}", speed.seconds_per_type)));
        cells
    };
    columns(&header, table.systems.iter().map(line))
}

/// F1 by type and by nesting, a column for each system.
fn by_part(table: &SideBySide) -> String {
    let names = |of: fn(&System) -> &Vec<Part>| {
        let mut names: Vec<String> = table.systems.iter().flat_map(of).map(|part| part.name.clone()).collect();
        names.sort_unstable();
        names.dedup();
        names
    };
    let header: Vec<&str> =
        std::iter::once("F1").chain(table.systems.iter().map(|system| system.name.as_str())).collect();
    let line = |name: String, of: fn(&System) -> &Vec<Part>| {
        let cell = |system: &System| {
            of(system).iter().find(|part| part.name == name).map_or_else(|| "–".into(), |part| share(part.scores.f1))
        };
        let cells: Vec<String> = table.systems.iter().map(cell).collect();
        std::iter::once(name).chain(cells).collect::<Vec<_>>()
    };
    let types = names(|system| &system.types).into_iter().map(|name| line(name, |system| &system.types));
    let nesting = names(|system| &system.nesting).into_iter().map(|name| line(name, |system| &system.nesting));
    columns(&header, types.chain(nesting))
}

fn differences(table: &SideBySide) -> String {
    let against = format!("F1 against {}", table.systems[0].name);
    let header = [against.as_str(), "difference", "95 % interval", "p", "adjusted p", ""];
    let line = |system: &System| {
        let from_first = system.difference?;
        let (found, adjusted) = (from_first.difference, from_first.adjusted_p_value);
        let verdict = if adjusted <= SIGNIFICANCE { "significant" } else { "not significant" };
        Some(vec![
            system.name.clone(),
            format!("{:+.4}", found.f1),
            format!("{:+.4} to {:+.4}", found.interval.low, found.interval.high),
            share(found.p_value),
            share(adjusted),
            format!("{verdict} at {SIGNIFICANCE}"),
        ])
    };
    columns(&header, table.systems.iter().filter_map(line))
}
