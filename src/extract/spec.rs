//! Specifications: everything that changes the rows. In: resolved settings. Out: one value that can be sent to another machine, its
//! hash, and its differences from another. It must not open a model or know the contents of a store.

use std::fmt;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::machine::hash::short_hash;
use crate::model::package::directory::ModelDirectory;
use crate::model::precision::Precision;
use crate::task::entity_schema::{EntitySchema, EntityType};
use crate::task::kind::{Task, TaskSettings};
use crate::text::tokens::{Tokenizer, Words};
use crate::text::window::WindowRule;

/// How many characters of a long value are shown.
const SHOWN: usize = 12;

/// What is extracted from a text, and how. Two runs with equal specifications write equal rows.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ExtractionSpec {
    /// The model.
    pub model: ModelReference,
    /// The entity types with their questions, thresholds and temperatures, and whether mentions can overlap.
    pub schema: EntitySchema,
    /// What counts as a word.
    pub words: Words,
    /// How documents are cut into windows.
    pub windows: WindowRule,
    /// The kind of the model, with its own settings.
    pub task: TaskSettings,
    /// The precision, if it is named; else the best of the device that runs the model.
    pub precision: Option<Precision>,
}

/// Where a model lies, and what it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ModelReference {
    /// A model directory, or `hf://owner/name`. It does not change the rows.
    pub path: PathBuf,
    /// The hash of its configuration, tokenizer and weights: lower-case hexadecimal SHA-256.
    pub hash: String,
}

/// How a setting of a specification is shown.
type Shown<'a> = &'a dyn Fn(&ExtractionSpec) -> String;

/// The parts of a specification that its hash is computed from, in this order.
#[derive(Serialize)]
struct Identity<'spec> {
    model: &'spec str,
    schema: &'spec EntitySchema,
    words: Words,
    windows: WindowRule,
    task: TaskSettings,
    precision: Option<Precision>,
}

impl ExtractionSpec {
    /// Its hash: the `spec_id` column. Where the model lies is not part of it.
    pub fn id(&self) -> String {
        let Self { model, schema, words, windows, task, precision } = self;
        let identity = Identity {
            model: &model.hash,
            schema,
            words: *words,
            windows: *windows,
            task: *task,
            precision: *precision,
        };
        // Strings, numbers and enums always serialize.
        short_hash(&serde_json::to_vec(&identity).unwrap_or_default(), 8)
    }

    /// What the model is asked, and how its answer is read. Decisions within `tolerance` of a threshold are counted as undecided.
    ///
    /// # Errors
    /// [`Error::Tokenizer`] if the tokenizer fails on a question.
    pub(crate) fn task(&self, tokenizer: &Tokenizer, model: &ModelDirectory, tolerance: f32) -> Result<Task> {
        Task::new(&self.task, &self.schema, tokenizer, model.own(), tolerance)
            .map_err(|reject| Error::Tokenizer { path: model.tokenizer_path(), source: reject.detail.into() })
    }

    /// This specification for all candidates: spans whose start and end pass, whatever their score, with those that they overlap and scores at
    /// temperature 1.
    #[must_use]
    pub fn of_candidates(&self) -> Self {
        let task = match self.task {
            TaskSettings::Gliner { max_candidates, .. } => TaskSettings::Gliner { max_candidates, all: true },
            other => other,
        };
        Self { schema: self.schema.of_candidates(), task, ..self.clone() }
    }

    /// What differs from an earlier specification.
    pub fn changes(&self, earlier: &Self) -> Vec<SpecChange> {
        let precision = |spec: &Self| spec.precision.map_or("auto", Precision::name).to_owned();
        let words = |spec: &Self| format!("{:?}", spec.words).to_lowercase();
        let kind = |spec: &Self| format!("{:?}", spec.task.kind()).to_lowercase();
        let task = |spec: &Self, name: &str| {
            let own = spec.task.values().into_iter().find(|(own, _)| *own == name);
            own.map_or_else(|| "none".to_owned(), |(_, value)| value)
        };
        let settings: [(&'static str, Shown<'_>); 10] = [
            ("model", &|spec| spec.model.hash.clone()),
            ("kind", &kind),
            ("nested", &|spec| spec.schema.nested.to_string()),
            ("words", &words),
            ("window_tokens", &|spec| spec.windows.tokens.to_string()),
            ("overlap_tokens", &|spec| spec.windows.overlap.to_string()),
            ("boundary_threshold", &|spec| task(spec, "boundary_threshold")),
            ("max_candidates", &|spec| task(spec, "max_candidates")),
            ("null_threshold", &|spec| task(spec, "null_threshold")),
            ("precision", &precision),
        ];
        let differing = settings.into_iter().filter_map(|(name, of)| {
            let (before, now) = (of(earlier), of(self));
            (before != now).then(|| SpecChange::Setting { name, before: shortened(before), now: shortened(now) })
        });
        let (before, now) = (&earlier.schema.types, &self.schema.types);
        let asked = |types: &[EntityType]| -> Vec<[String; 2]> {
            types.iter().map(|one| [one.name.clone(), one.question.clone()]).collect()
        };
        let types = (asked(now) != asked(before)).then(|| TypeChanges::between(before, now));
        let scores = [
            ScoreChange::between("threshold", before, now, EntityType::threshold),
            ScoreChange::between("temperature", before, now, EntityType::temperature),
        ];
        differing
            .chain(scores.into_iter().flatten().map(SpecChange::Score))
            .chain(types.map(SpecChange::Types))
            .collect()
    }
}

/// A value as it is shown: the beginning of a hash, any other value whole.
fn shortened(value: String) -> String {
    if value.len() > 2 * SHOWN { format!("{}…", &value[..value.floor_char_boundary(SHOWN)]) } else { value }
}

/// One difference between two specifications.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SpecChange {
    /// A setting has another value.
    Setting {
        /// The setting.
        name: &'static str,
        /// Its earlier value.
        before: String,
        /// Its value now.
        now: String,
    },
    /// The thresholds or temperatures of types that both have.
    Score(ScoreChange),
    /// The entity types differ.
    Types(TypeChanges),
}

/// Types with another threshold, or with another temperature.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScoreChange {
    /// `threshold` or `temperature`.
    pub name: &'static str,
    /// The name of each type, its earlier value and its value now.
    pub types: Vec<[String; 3]>,
    /// Whether the change is the same for all types.
    pub uniform: bool,
}

impl ScoreChange {
    fn between(
        name: &'static str,
        before: &[EntityType],
        now: &[EntityType],
        value: fn(&EntityType) -> f32,
    ) -> Option<Self> {
        let earlier = |one: &EntityType| before.iter().find(|other| other.name == one.name).map(value);
        let both: Vec<(&EntityType, f32)> = now.iter().filter_map(|one| Some((one, earlier(one)?))).collect();
        let values = |(one, earlier): &(&EntityType, f32)| [earlier.to_string(), value(one).to_string()];
        let uniform = both.windows(2).all(|pair| values(&pair[0]) == values(&pair[1]));
        let types: Vec<[String; 3]> = both
            .iter()
            .map(|pair| (pair.0.name.clone(), values(pair)))
            .filter(|(_, [before, now])| before != now)
            .map(|(name, [before, now])| [name, before, now])
            .collect();
        (!types.is_empty()).then_some(Self { name, types, uniform })
    }
}

/// The names of the entity types that differ. If there are none, only their order differs.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TypeChanges {
    /// Types that are new.
    pub added: Vec<String>,
    /// Types that are no longer asked for.
    pub left_out: Vec<String>,
    /// Types with another question.
    pub reworded: Vec<String>,
}

impl TypeChanges {
    fn between(before: &[EntityType], now: &[EntityType]) -> Self {
        let find = |types: &[EntityType], one: &EntityType| types.iter().find(|other| other.name == one.name).cloned();
        let names = |types: &[EntityType], differs: &dyn Fn(&EntityType) -> bool| -> Vec<String> {
            types.iter().filter(|one| differs(one)).map(|one| one.name.clone()).collect()
        };
        Self {
            added: names(now, &|one| find(before, one).is_none()),
            left_out: names(before, &|one| find(now, one).is_none()),
            reworded: names(now, &|one| find(before, one).is_some_and(|other| other.question != one.question)),
        }
    }
}

impl fmt::Display for SpecChange {
    /// Such as `window_tokens 256 → 128`.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Setting { name, before, now } => write!(formatter, "{name} {before} → {now}"),
            Self::Score(ScoreChange { name, types, uniform: true }) => {
                let [_, before, now] = &types[0];
                write!(formatter, "{name} {before} → {now}")
            }
            Self::Score(ScoreChange { name, types, .. }) => {
                let each: Vec<String> =
                    types.iter().map(|[own, before, now]| format!("of {own} {before} → {now}")).collect();
                write!(formatter, "{name} {}", each.join(", "))
            }
            Self::Types(TypeChanges { added, left_out, reworded }) => {
                let parts = [("added", added), ("left out", left_out), ("asked in other words", reworded)];
                let parts: Vec<String> = parts
                    .into_iter()
                    .filter(|(_, names)| !names.is_empty())
                    .map(|(what, names)| format!("{what}: {}", names.join(", ")))
                    .collect();
                if parts.is_empty() {
                    formatter.write_str("the order of the types")
                } else {
                    write!(formatter, "types {}", parts.join("; "))
                }
            }
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::task::entity_schema::Nesting;

    /// A specification with these types and questions.
    pub(crate) fn spec(types: &[(&str, &str)]) -> ExtractionSpec {
        let types = types.iter().map(|&(name, question)| EntityType {
            threshold: Some(0.5),
            temperature: Some(1.0),
            ..EntityType::new(name, question)
        });
        ExtractionSpec {
            model: ModelReference { path: "models/default".into(), hash: "0123456789abcdef".repeat(4) },
            schema: EntitySchema { nested: Nesting::Flat, types: types.collect() },
            words: Words::Tokenizer,
            windows: WindowRule { tokens: 256, overlap: 32, words: None },
            task: TaskSettings::Mrc { boundary_threshold: 0.5, max_candidates: 4096 },
            precision: None,
        }
    }

    #[test]
    fn a_change_is_named() {
        let before = spec(&[("PER", "Who?"), ("LOC", "Where?")]);
        let mut now = spec(&[("PER", "Which people?"), ("ORG", "What?")]);
        now.windows.tokens = 64;
        now.schema.types[0].threshold = Some(0.6);
        now.precision = Some(Precision::Int8);
        now.model.hash = "fedcba9876543210".repeat(4);
        let changes: Vec<String> = now.changes(&before).iter().map(ToString::to_string).collect();
        assert_eq!(
            changes,
            [
                "model 0123456789ab… → fedcba987654…",
                "window_tokens 256 → 64",
                "precision auto → int8",
                "threshold 0.5 → 0.6",
                "types added: ORG; left out: LOC; asked in other words: PER",
            ]
        );
        assert!(now.changes(&now).is_empty());
        let before = spec(&[("PER", "Who?"), ("LOC", "Where?"), ("ORG", "What?")]);
        let mut now = before.clone();
        (now.schema.types[0].threshold, now.schema.types[2].threshold) = (Some(0.62), Some(0.4));
        now.schema.types[1].temperature = Some(1.25);
        let changes: Vec<String> = now.changes(&before).iter().map(ToString::to_string).collect();
        assert_eq!(changes, ["threshold of PER 0.5 → 0.62, of ORG 0.5 → 0.4", "temperature of LOC 1 → 1.25"]);
        let before = spec(&[("PER", "Who?"), ("LOC", "Where?")]);
        let other_order = spec(&[("LOC", "Where?"), ("PER", "Who?")]);
        assert_eq!(other_order.changes(&before)[0].to_string(), "the order of the types");
    }

    #[test]
    fn the_id_is_of_everything_but_the_place_of_the_model() {
        let one = spec(&[("PER", "Who?")]);
        let mut moved = one.clone();
        moved.model.path = "elsewhere".into();
        assert_eq!(moved.id(), one.id());
        let changes: [fn(&mut ExtractionSpec); 10] = [
            |spec| spec.model.hash.push('0'),
            |spec| spec.schema.nested = Nesting::Nested,
            |spec| spec.schema.types[0].question.push('?'),
            |spec| spec.words = Words::Whitespace,
            |spec| spec.windows.overlap = 16,
            |spec| spec.schema.types[0].threshold = Some(0.4),
            |spec| spec.schema.types[0].temperature = Some(1.5),
            |spec| spec.task = TaskSettings::Mrc { boundary_threshold: 0.4, max_candidates: 4096 },
            |spec| spec.task = TaskSettings::Mrc { boundary_threshold: 0.5, max_candidates: 1 },
            |spec| spec.precision = Some(Precision::Fp32),
        ];
        for (number, change) in changes.into_iter().enumerate() {
            let mut other = one.clone();
            change(&mut other);
            assert_ne!(other.id(), one.id(), "change {number}");
            assert_eq!(other.changes(&one).len(), 1, "change {number}");
        }
    }

    #[test]
    fn a_specification_survives_json() {
        let mut one = spec(&[("PER", "Who?")]);
        one.schema.types[0].threshold = Some(0.3);
        let value = serde_json::to_value(&one).unwrap();
        let read: ExtractionSpec = serde_json::from_value(value).unwrap();
        assert_eq!((read.id(), &read), (one.id(), &one));
    }
}
