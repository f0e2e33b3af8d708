//! What to ask for. In: words, a schema file, or what the model was trained on. Out: entity types with their questions. It may not
//! promise that a model answers a question it was never asked.

use crate::cli::TryArgs;
use crate::error::{Error, Result};
use crate::job::read_schema;
use crate::model::package::manifest::Manifest;
use crate::task::entity_schema::{EntitySchema, EntityType};

/// What errors about the arguments begin with.
pub(super) const ORIGIN: &str = "quarry try";

/// The types that the arguments name, or those of the model.
pub(super) fn choose(arguments: &TryArgs, model: &Manifest) -> Result<EntitySchema> {
    if let Some(path) = &arguments.schema {
        return read_schema(path);
    }
    let refuse = |reason: &str, hint: &str| Error::Setting {
        origin: ORIGIN.into(),
        key: "--types".into(),
        reason: reason.into(),
        hint: hint.into(),
    };
    if arguments.types.is_empty() {
        if model.types.is_empty() {
            return Err(refuse(
                "the model does not say what it was trained on",
                "say what to look for, as --types person,ship, or name a --schema",
            ));
        }
        return Ok(EntitySchema { nested: model.nested, types: model.types.clone() });
    }
    let types = arguments.types.iter().map(|word| asked(word.trim(), &model.types)).collect();
    // Words for types may well name parts of one another, so all mentions are shown.
    let schema = EntitySchema { nested: true, types };
    schema.validate().map_err(|reason| refuse(&reason, "separate words by single commas"))?;
    Ok(schema)
}

/// A type for a word: the model's own of that name, else one with a question made of the word.
fn asked(word: &str, known: &[EntityType]) -> EntityType {
    if let Some(own) = known.iter().find(|one| one.name.eq_ignore_ascii_case(word)) {
        return own.clone();
    }
    let question = if word.is_empty() { String::new() } else { format!("Which {} are named?", plural(word)) };
    EntityType { name: word.to_owned(), question }
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
    fn a_word_is_asked_for_in_the_plural() {
        let words = ["person", "ship", "city", "Key", "business", "sports team", "languages", "y"];
        let plurals = ["people", "ships", "cities", "Keys", "businesses", "sports teams", "languages", "ys"];
        assert_eq!(words.map(plural), plurals);
    }

    #[test]
    fn a_type_of_the_model_keeps_its_question() {
        let own = EntityType { name: "PER".into(), question: "Which people are named? Family names too.".into() };
        assert_eq!(asked("per", std::slice::from_ref(&own)), own);
        let made = asked("ship", &[own]);
        assert_eq!((made.name.as_str(), made.question.as_str()), ("ship", "Which ships are named?"));
    }
}
