//! Matched tables → scores side by side. In: each system ⋈ gold in the session. Out: its scores, and its difference from the first system. It must
//! not print.

use datafusion::prelude::SessionContext;

use crate::error::Result;
use crate::evaluate::measure::intervals;
use crate::query::scoring::{NESTING, counts_by, paired_counts};
use crate::score::bootstrap::{Difference, Resampling, compare, holm};
use crate::score::counts::{Counts, Scores};
use crate::score::side_by_side::{FromFirst, Part, SideBySide, System};

/// The scores of the system in the table `matched`, still without a name.
pub(super) async fn system(
    context: &SessionContext,
    matched: &str,
    documents: usize,
    rule: Resampling,
) -> Result<System> {
    let types = counts_by(context, matched, "entity_type").await?;
    let all: Counts = types.iter().map(|(_, counts)| *counts).sum();
    let each: Vec<Scores> = types.iter().map(|(_, counts)| counts.scores()).collect();
    let intervals = intervals(context, matched, &types, documents, rule).await?;
    let parts = |rows: Vec<(String, Counts)>| rows.into_iter().map(|(name, counts)| Part::new(name, counts)).collect();
    Ok(System {
        name: String::new(),
        location: String::new(),
        micro: Part::new("all", all),
        interval: intervals.map(|found| found.micro),
        macro_average: Scores::average(&each),
        types: parts(types),
        nesting: parts(counts_by(context, matched, NESTING).await?),
        difference: None,
        speed: None,
    })
}

/// Adds the difference of each system but the first, with p-values adjusted for their number.
pub(super) async fn differences(context: &SessionContext, matched: &[&str], table: &mut SideBySide) -> Result<()> {
    let mut found: Vec<Difference> = Vec::new();
    for own in &matched[1..] {
        let pairs = paired_counts(context, own, matched[0]).await?;
        found.extend(compare(&pairs, table.documents, table.resampling));
    }
    let adjusted = holm(&found.iter().map(|one| one.p_value).collect::<Vec<_>>());
    let differences = found.into_iter().zip(adjusted);
    for (system, (difference, adjusted_p_value)) in table.systems.iter_mut().skip(1).zip(differences) {
        system.difference = Some(FromFirst { difference, adjusted_p_value });
    }
    Ok(())
}
