//! A calibration on the screen. In: a calibration. Out: text with tables. It must not compute a figure.

use crate::console::{columns, rows, thousands};
use crate::extract::calibration::{Calibration, Reliability, TypeCalibration};
use crate::score::calibration::{BINS, FEWEST_OF_A_KIND, FEWEST_SPANS, Goal};

/// The tables and what they mean.
pub(super) fn text(calibration: &Calibration, goal: Goal) -> String {
    let head = rows(&[
        ("documents".to_owned(), thousands(calibration.documents as u64)),
        ("candidates".to_owned(), thousands(calibration.candidates as u64)),
        (
            "pairs (score, is gold)".to_owned(),
            thousands(calibration.types.iter().map(|one| one.fit.spans as u64).sum()),
        ),
    ]);
    let header = ["", "temperature", "threshold", "pairs", "right", "error before", "after", "F1 before", "after"];
    let line = |one: &TypeCalibration| {
        let mark = if one.fit.shared { "*" } else { "" };
        let unmet = if one.met { "" } else { " (kept)" };
        vec![
            format!("{}{mark}", one.name),
            format!("{:.4}", one.temperature),
            format!("{:.4}{unmet}", one.threshold),
            thousands(one.fit.spans as u64),
            thousands(one.fit.right as u64),
            format!("{:.4}", one.before.calibration_error),
            format!("{:.4}", one.after.calibration_error),
            format!("{:.4}", one.before.f1),
            format!("{:.4}", one.after.f1),
        ]
    };
    let types = columns(&header, calibration.types.iter().map(line));
    let header = ["all types", "error", "error of pairs", "log loss", "F1", "precision", "recall"];
    let line = |name: &str, of: &Reliability| {
        let shares = [
            of.calibration_error,
            of.calibration_error_of_pairs,
            of.log_loss_of_pairs,
            of.f1,
            of.counts.precision(),
            of.counts.recall(),
        ];
        std::iter::once(name.to_owned()).chain(shares.map(|share| format!("{share:.4}"))).collect::<Vec<_>>()
    };
    let mut lines = vec![line("before", &calibration.before), line("after", &calibration.after)];
    lines.extend(calibration.held_out.as_ref().map(|held_out| line("after, held out", held_out)));
    let all = columns(&header, lines.into_iter());
    let thresholds = match goal {
        Goal::F1 => "Thresholds for the best F1".to_owned(),
        Goal::Precision(wanted) => format!("Thresholds for precision {wanted} with the best recall"),
        Goal::Kept => "Thresholds are kept".to_owned(),
    };
    let mut notes = vec![
        format!("{thresholds}. Error: expected calibration error of the mentions that a job writes, in {BINS} bins."),
        "Pairs: candidates whose start and end pass, whatever their score; without nesting the best of those that overlap.".to_owned(),
        "Held out: each fifth of the documents with what was fitted to the others.".to_owned(),
    ];
    let unmet: Vec<&str> = calibration.types.iter().filter(|one| !one.met).map(|one| one.name.as_str()).collect();
    if !unmet.is_empty() {
        notes.push(format!("No threshold meets the goal for {}: theirs is kept.", unmet.join(", ")));
    }
    if calibration.types.iter().any(|one| one.fit.shared) {
        notes.push(format!(
            "* shares temperature and threshold with all types: fewer than {FEWEST_SPANS} pairs, or than {FEWEST_OF_A_KIND} right or wrong ones."
        ));
    }
    format!("{head}\n{types}\n{all}\n{}\n", notes.join("\n"))
}
