//! Entity types and their questions. In: a parsed schema file. Out: a validated schema. It must not know how questions are encoded.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

/// A kind of entity and the question that finds it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct EntityType {
    /// Its name in the `entity_type` column.
    pub name: String,
    /// The question for every window.
    pub question: String,
}

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
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct EntitySchema {
    /// Which mentions can overlap: none (false), those of different types ("types"), or all (true).
    pub nested: Nesting,
    /// The types in the order of their questions.
    #[serde(rename = "type")]
    pub types: Vec<EntityType>,
}

impl EntitySchema {
    /// Checks the schema; the error describes the problem: no types, an empty name or question, a duplicate name.
    pub fn validate(&self) -> Result<(), String> {
        if self.types.is_empty() {
            return Err("it has no entity type; add a [[type]] with name and question".into());
        }
        let mut names = BTreeSet::new();
        for (number, one) in self.types.iter().enumerate() {
            if one.name.trim().is_empty() {
                return Err(format!("type {} has no name", number + 1));
            }
            if one.question.trim().is_empty() {
                return Err(format!("type `{}` has no question", one.name));
            }
            if !names.insert(&one.name) {
                return Err(format!("type `{}` is defined twice", one.name));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn schema(names: &[&str]) -> EntitySchema {
        let one = |name: &&str| EntityType { name: (*name).into(), question: "new york".into() };
        EntitySchema { nested: Nesting::Flat, types: names.iter().map(one).collect() }
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
