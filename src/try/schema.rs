//! The entity types of `quarry try`. In: words, a schema file, or the types the model was trained on. Out: entity types with their
//! questions. It must not load the model.

use std::path::Path;

use crate::error::{Error, Result};
use crate::job::read_schema;
use crate::model::package::manifest::Manifest;
use crate::task::entity_schema::{EntitySchema, EntityType, Nesting};
use crate::task::kind::Kind;

/// The origin of errors about the requested types.
pub(super) const ORIGIN: &str = "quarry try";

/// The types that the settings name, or the model's own.
pub(super) fn choose(schema: Option<&Path>, types: &[String], model: &Manifest) -> Result<EntitySchema> {
    if let Some(path) = schema {
        return read_schema(path);
    }
    let refuse = |reason: &str, hint: &str| Error::Setting {
        origin: ORIGIN.into(),
        key: "--types".into(),
        reason: reason.into(),
        hint: hint.into(),
    };
    if types.is_empty() {
        if model.types.is_empty() {
            return Err(refuse(
                "the model directory does not list the types it was trained on",
                "name the types, such as --types person,ship, or a --schema file",
            ));
        }
        return Ok(EntitySchema { nested: model.nested, types: model.types.clone() });
    }
    let asked = |word: &String| match entity_type(word.trim(), &model.types) {
        // The words themselves are what such a model reads.
        made if model.kind == Kind::Gliner && !model.types.contains(&made) => EntityType::new(made.name, ""),
        other => other,
    };
    let types = types.iter().map(asked).collect();
    // The mentions of such types often nest, so all are kept.
    let schema = EntitySchema { nested: Nesting::Nested, types };
    schema.validate().map_err(|reason| refuse(&reason, "separate the types with single commas"))?;
    Ok(schema)
}

/// The entity type of a word: the model's own type of that name, else a type with a generated question.
fn entity_type(word: &str, known: &[EntityType]) -> EntityType {
    if let Some(own) = known.iter().find(|one| one.name.eq_ignore_ascii_case(word)) {
        return own.clone();
    }
    let question = if word.is_empty() { String::new() } else { format!("Which {} are named?", plural(word)) };
    EntityType::new(word, question)
}

/// The English plural of a word, by the common rules.
fn plural(word: &str) -> String {
    let lower = word.to_lowercase();
    let before_y = || lower.chars().rev().nth(1).is_some_and(|letter| !"aeiou".contains(letter));
    match lower.as_str() {
        "person" => "people".to_owned(),
        "people" => lower,
        _ if ["ss", "x", "ch", "sh"].iter().any(|end| lower.ends_with(end)) => format!("{word}es"),
        _ if lower.ends_with('s') => word.to_owned(),
        _ if lower.ends_with('y') && before_y() => format!("{}ies", &word[..word.len() - 1]),
        _ => format!("{word}s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_generated_question_has_the_plural() {
        let words = ["person", "ship", "city", "Key", "business", "sports team", "languages", "y"];
        let plurals = ["people", "ships", "cities", "Keys", "businesses", "sports teams", "languages", "ys"];
        assert_eq!(words.map(plural), plurals);
    }

    #[test]
    fn a_type_of_the_model_keeps_its_question() {
        let own = EntityType::new("PER", "Which people are named? Family names too.");
        assert_eq!(entity_type("per", std::slice::from_ref(&own)), own);
        let generated = entity_type("ship", &[own]);
        assert_eq!((generated.name.as_str(), generated.question.as_str()), ("ship", "Which ships are named?"));
    }
}
