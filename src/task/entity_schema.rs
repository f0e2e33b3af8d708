//! Entity types and their questions. In: a parsed schema file. Out: a validated schema. It must not know how questions are encoded.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize, Serializer};

/// A kind of entity and the question that finds it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct EntityType {
    /// Its name in the `entity_type` column.
    pub name: String,
    /// The question for every window. A model of kind `gliner` reads these words as the name of the type; without them, and for a tagger, the
    /// `name` is enough.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub question: String,
    /// A mention's score must be above this, a probability. By default the model's threshold for this question, else 0.5.
    #[serde(default, skip_serializing_if = "Option::is_none", serialize_with = "decimal")]
    pub threshold: Option<f32>,
    /// A mention's score is σ(logit / temperature). By default the model's temperature for this question, else 1.
    #[serde(default, skip_serializing_if = "Option::is_none", serialize_with = "decimal")]
    pub temperature: Option<f32>,
}

/// Writes 0.62, and not 0.6200000047683716, which is the same number in single precision.
#[expect(clippy::ref_option, clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference to the field")]
fn decimal<S: Serializer>(value: &Option<f32>, serializer: S) -> Result<S::Ok, S::Error> {
    let shortest = |value: f32| value.to_string().parse().unwrap_or_else(|_| f64::from(value));
    value.map(shortest).serialize(serializer)
}

impl EntityType {
    /// A type with the default threshold and temperature.
    pub fn new(name: impl Into<String>, question: impl Into<String>) -> Self {
        Self { name: name.into(), question: question.into(), ..Self::default() }
    }

    /// The words for it in a prompt: the question, or else the name.
    pub fn words(&self) -> &str {
        if self.question.is_empty() { &self.name } else { &self.question }
    }

    /// Its threshold, or the default.
    pub fn threshold(&self) -> f32 {
        self.threshold.unwrap_or(DEFAULT_THRESHOLD)
    }

    /// Its temperature, or the default.
    pub fn temperature(&self) -> f32 {
        self.temperature.unwrap_or(1.0)
    }

    /// Checks threshold and temperature; the error describes the problem.
    ///
    /// # Errors
    /// A threshold outside of 0..1, or a temperature that is not a positive number.
    pub fn check_scores(&self) -> Result<(), String> {
        if let Some(threshold) = self.threshold.filter(|threshold| !(*threshold > 0.0 && *threshold < 1.0)) {
            return Err(format!(
                "type `{}` has the threshold {threshold}, which is not a probability between 0 and 1",
                self.name
            ));
        }
        if let Some(temperature) = self.temperature.filter(|temperature| !TEMPERATURES.contains(temperature)) {
            let [low, high] = [TEMPERATURES.start(), TEMPERATURES.end()];
            return Err(format!(
                "type `{}` has the temperature {temperature}, which is not between {low} and {high}",
                self.name
            ));
        }
        Ok(())
    }
}

/// The threshold of a type for which neither the job nor the schema nor the model has one: accept what is more likely than not.
pub const DEFAULT_THRESHOLD: f32 = 0.5;

/// A threshold that every candidate passes.
const ANY_SCORE: f32 = 1e-6;

/// The temperatures that make sense: outside of these every score is about 0.5, or about 0 or 1.
pub const TEMPERATURES: std::ops::RangeInclusive<f32> = 0.01..=100.0;

/// Which mentions of a document can overlap. In a schema file it is `false`, `"types"` or `true`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(from = "NestingKey", into = "NestingKey")]
#[schemars(with = "NestingKey")]
pub enum Nesting {
    /// None: of overlapping mentions the best is kept, whatever their types.
    #[default]
    Flat,
    /// Mentions of different types; of those of one type the best is kept. A type's mentions then do not depend on the other types.
    Types,
    /// All.
    Nested,
}

/// How a schema file says it.
#[derive(Clone, Copy, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(untagged, expecting = "`nested` is neither true, false nor \"types\"")]
enum NestingKey {
    /// True: all mentions can overlap. False: none can.
    All(bool),
    /// Mentions of different types can overlap.
    Between(NestingWord),
}

#[derive(Clone, Copy, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "lowercase")]
enum NestingWord {
    Types,
}

impl From<NestingKey> for Nesting {
    fn from(key: NestingKey) -> Self {
        match key {
            NestingKey::All(true) => Self::Nested,
            NestingKey::All(false) => Self::Flat,
            NestingKey::Between(NestingWord::Types) => Self::Types,
        }
    }
}

impl From<Nesting> for NestingKey {
    fn from(nesting: Nesting) -> Self {
        match nesting {
            Nesting::Nested => Self::All(true),
            Nesting::Flat => Self::All(false),
            Nesting::Types => Self::Between(NestingWord::Types),
        }
    }
}

impl std::fmt::Display for Nesting {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(match self {
            Self::Flat => "false",
            Self::Types => "types",
            Self::Nested => "true",
        })
    }
}

/// The entity types that a job extracts.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct EntitySchema {
    /// Which mentions can overlap: none (false), those of different types ("types"), or all (true).
    pub nested: Nesting,
    /// The types in the order of their questions.
    #[serde(rename = "type")]
    pub types: Vec<EntityType>,
}

impl EntitySchema {
    /// The index of the type with this name.
    pub fn index_of(&self, name: &str) -> Option<usize> {
        self.types.iter().position(|one| one.name == name)
    }

    /// Checks the schema; the error describes the problem: no types, an empty name or question, a duplicate name,
    /// a threshold or temperature out of range.
    pub fn validate(&self) -> Result<(), String> {
        if self.types.is_empty() {
            return Err("it has no entity type; add a [[type]] with name and question".into());
        }
        let mut names = BTreeSet::new();
        for (number, one) in self.types.iter().enumerate() {
            if one.name.trim().is_empty() {
                return Err(format!("type {} has no name", number + 1));
            }
            // It can be left out, for models that are asked no questions.
            if !one.question.is_empty() && one.question.trim().is_empty() {
                return Err(format!("type `{}` has no question", one.name));
            }
            if !names.insert(&one.name) {
                return Err(format!("type `{}` is defined twice", one.name));
            }
            one.check_scores()?;
        }
        Ok(())
    }

    /// The name of the first type without a question.
    pub fn without_question(&self) -> Option<&str> {
        self.types.iter().find(|one| one.question.is_empty()).map(|one| one.name.as_str())
    }

    /// The schema that makes a kind find all candidates: every span that it scores, whatever the score, with those that it overlaps.
    #[must_use]
    pub fn of_candidates(&self) -> Self {
        let any = |one: &EntityType| EntityType { threshold: Some(ANY_SCORE), temperature: Some(1.0), ..one.clone() };
        Self { nested: Nesting::Nested, types: self.types.iter().map(any).collect() }
    }

    /// Removes the thresholds of types, and returns the names of the types that had one.
    pub fn take_thresholds(&mut self) -> Vec<String> {
        let had = |one: &mut EntityType| one.threshold.take().map(|_| one.name.clone());
        self.types.iter_mut().filter_map(had).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn schema(names: &[&str]) -> EntitySchema {
        let one = |name: &&str| EntityType::new(*name, "new york");
        EntitySchema { nested: Nesting::Flat, types: names.iter().map(one).collect() }
    }

    #[test]
    fn thresholds_are_written_as_they_were_typed() {
        let mut one = EntityType::new("PER", "who");
        one.threshold = Some(0.62);
        let value = serde_json::to_value(&one).unwrap();
        assert_eq!(value.to_string(), r#"{"name":"PER","question":"who","threshold":0.62}"#);
        assert_eq!(serde_json::from_value::<EntityType>(value).unwrap(), one);
    }

    #[test]
    fn an_invalid_schema_is_an_error_that_names_the_problem() {
        assert_eq!(schema(&["PER", "ORG"]).validate(), Ok(()));
        assert_eq!(schema(&["PER", "PER"]).validate(), Err("type `PER` is defined twice".into()));
        assert_eq!(schema(&[" "]).validate(), Err("type 1 has no name".into()));
        assert_eq!(schema(&[]).validate(), Err("it has no entity type; add a [[type]] with name and question".into()));
        let mut without_question = schema(&["PER", "ORG"]);
        without_question.types[1].question = " ".into();
        assert_eq!(without_question.validate(), Err("type `ORG` has no question".into()));
        for (threshold, temperature, problem) in [
            (Some(1.0), None, "type `ORG` has the threshold 1, which is not a probability between 0 and 1"),
            (Some(f32::NAN), None, "type `ORG` has the threshold NaN, which is not a probability between 0 and 1"),
            (None, Some(0.0), "type `ORG` has the temperature 0, which is not between 0.01 and 100"),
        ] {
            let mut wrong = schema(&["PER", "ORG"]);
            (wrong.types[1].threshold, wrong.types[1].temperature) = (threshold, temperature);
            assert_eq!(wrong.validate(), Err(problem.into()));
        }
    }

    #[test]
    fn nesting_is_false_true_or_types() {
        let read = |value: &str| serde_json::from_str::<Nesting>(value);
        for (value, nesting) in [("false", Nesting::Flat), ("\"types\"", Nesting::Types), ("true", Nesting::Nested)] {
            assert_eq!(read(value).unwrap(), nesting);
            assert_eq!(serde_json::to_string(&nesting).unwrap(), value);
        }
        for value in ["\"all\"", "1", "null"] {
            assert_eq!(read(value).unwrap_err().to_string(), "`nested` is neither true, false nor \"types\"");
        }
    }
}
