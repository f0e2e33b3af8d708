//! Several systems on the same gold. In: counts, intervals and differences of each system. Out: a table that is written as JSON and read again,
//! for the screen and for a page. It must not count or test.

use serde::{Deserialize, Serialize};

use crate::score::bootstrap::{Difference, Interval, Resampling};
use crate::score::counts::{Counts, Scores};

/// Systems with their scores. The first is the one that the others are compared with.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SideBySide {
    /// The location of the gold mentions.
    pub gold: String,
    /// The number of gold mentions.
    pub gold_mentions: usize,
    /// The number of scored documents.
    pub documents: usize,
    /// The resampling of intervals and differences.
    #[serde(flatten)]
    pub resampling: Resampling,
    /// The systems, in the order in which they were named.
    pub systems: Vec<System>,
}

/// A system.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct System {
    /// A short name that no other of the systems has.
    pub name: String,
    /// Its location.
    pub location: String,
    /// Strict scores over all mentions.
    pub micro: Part,
    /// The interval of F1; absent without resampling.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interval: Option<Interval>,
    /// The mean over the types of gold and of the system's mentions.
    pub macro_average: Scores,
    /// By type.
    pub types: Vec<Part>,
    /// Flat and nested mentions.
    pub nesting: Vec<Part>,
    /// Its difference from the first system; absent for the first, and without resampling.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub difference: Option<FromFirst>,
    /// How fast it is, if that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub speed: Option<Speed>,
}

/// Strict scores of some mentions.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Part {
    /// A type, `flat`, `nested` or `all`.
    pub name: String,
    /// Precision, recall and F1.
    #[serde(flatten)]
    pub scores: Scores,
    /// Right, wrong and missed mentions.
    #[serde(flatten)]
    pub counts: Counts,
}

/// The difference of a system's F1 from that of the first.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct FromFirst {
    /// Its F1 minus that of the first, with interval and p-value.
    #[serde(flatten)]
    pub difference: Difference,
    /// The p-value adjusted for the number of systems ([`crate::score::bootstrap::holm`]).
    pub adjusted_p_value: f64,
}

/// The speed of a system.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Speed {
    /// Tokens of the model's inputs per second, without padding.
    pub tokens_per_second: f64,
    /// Seconds for one type and a million code points of text.
    pub seconds_per_type: f64,
    /// The number of types that were asked for.
    pub types: usize,
    /// Where the figures come from: a run, or this evaluation.
    pub measured: String,
}

impl Part {
    /// The scores of counts.
    pub fn new(name: impl Into<String>, counts: Counts) -> Self {
        Self { name: name.into(), scores: counts.scores(), counts }
    }
}

impl Speed {
    /// The speed of a system that asked for `types` types in texts of `characters` code points.
    pub fn new(tokens: f64, seconds: f64, characters: f64, types: usize, measured: String) -> Option<Self> {
        let known = seconds > 0.0 && characters > 0.0 && types > 0;
        let seconds_per_type = seconds / types as f64 / (characters / 1e6);
        known.then_some(Self { tokens_per_second: tokens / seconds, seconds_per_type, types, measured })
    }
}

/// Short names for locations: the last part of each, with a number if several have the same.
pub fn names(locations: &[String]) -> Vec<String> {
    let last = |location: &String| {
        let path = location.trim_end_matches(['/', '\\']);
        let last = path.rsplit(['/', '\\']).next().unwrap_or_default();
        last.strip_suffix(".parquet").unwrap_or(last).to_owned()
    };
    let short: Vec<String> = locations.iter().map(last).collect();
    let repeated = |name: &String| short.iter().filter(|other| *other == name).count() > 1;
    let named = |(index, name): (usize, &String)| {
        if repeated(name) { format!("{name} ({})", index + 1) } else { name.clone() }
    };
    short.iter().enumerate().map(named).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_names_are_different() {
        let locations = ["store/a/", "s3://lake/b.parquet", "other/a", "c"].map(str::to_owned);
        assert_eq!(names(&locations), ["a (1)", "b", "a (3)", "c"]);
    }

    #[test]
    fn the_cost_of_a_type_is_of_a_million_characters() {
        let speed = Speed::new(8000.0, 4.0, 2e6, 4, "here".into()).unwrap();
        assert!((speed.tokens_per_second - 2000.0).abs() < 1e-9 && (speed.seconds_per_type - 0.5).abs() < 1e-12);
        assert_eq!(Speed::new(8000.0, 4.0, 0.0, 4, "here".into()), None);
    }
}
