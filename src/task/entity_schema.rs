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

/// The entity types that a job extracts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct EntitySchema {
    /// Whether mentions can overlap; if not, the better of two overlapping mentions is kept.
    pub nested: bool,
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
        EntitySchema { nested: false, types: names.iter().map(one).collect() }
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
}
