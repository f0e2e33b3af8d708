//! Entity schema files. In: a path. Out: a validated schema; the project's own schemas are embedded in the program. It must not use a
//! model.

use std::path::Path;

use crate::error::{Error, Result};
use crate::job::file::EntitiesSection;
use crate::task::entity_schema::EntitySchema;

/// The project's schemas, embedded for use without their files.
const SCHEMAS: [(&str, &str); 5] = [
    ("schemas/ace.toml", include_str!("../../schemas/ace.toml")),
    ("schemas/conll03.toml", include_str!("../../schemas/conll03.toml")),
    ("schemas/default.toml", include_str!("../../schemas/default.toml")),
    ("schemas/genia.toml", include_str!("../../schemas/genia.toml")),
    ("schemas/ontonotes5.toml", include_str!("../../schemas/ontonotes5.toml")),
];

/// Reads an entity-type schema.
pub fn read_schema(path: &Path) -> Result<EntitySchema> {
    match std::fs::read_to_string(path) {
        Ok(text) => parse_schema(path, &text),
        Err(source) => match SCHEMAS.iter().find(|(name, _)| !path.exists() && path == Path::new(name)) {
            Some((_, text)) => parse_schema(path, text),
            None => Err(Error::Read { path: path.into(), source: source.into() }),
        },
    }
}

/// The types that a section of the job file `job` means: those of its schema file, or its own.
pub fn schema_of(section: &EntitiesSection, job: &Path) -> Result<EntitySchema> {
    let refuse = |key: &str, reason: String, hint: &str| {
        Err(Error::Setting { origin: job.display().to_string(), key: key.into(), reason, hint: hint.into() })
    };
    let types = &section.types;
    match (&section.schema, section.nested) {
        (Some(path), None) if types.is_empty() => read_schema(path),
        (Some(_), _) => {
            let reason = "there are also types in the job file".to_owned();
            refuse("entities.schema", reason, "name a schema file, or write nested and [[entities.type]], not both")
        }
        (None, None) if types.is_empty() => refuse(
            "entities.schema",
            "there is no schema".into(),
            "name a schema file, as schema = \"schemas/conll03.toml\"",
        ),
        (None, nested) => {
            let Some(nested) = nested else {
                return refuse(
                    "entities.nested",
                    "it is missing".into(),
                    "say nested = false if mentions must not overlap",
                );
            };
            let schema = EntitySchema { nested, types: types.clone() };
            match schema.validate() {
                Ok(()) => Ok(schema),
                Err(reason) => refuse("entities.type", reason, "each [[entities.type]] has a name and a question"),
            }
        }
    }
}

fn parse_schema(path: &Path, text: &str) -> Result<EntitySchema> {
    let hint =
        "a schema has nested = false, true or \"types\", then a [[type]] with name and question for each entity type";
    let parsed: EntitySchema = toml::from_str(text).map_err(|source| Error::Parse {
        path: path.into(),
        source: source.into(),
        hint: hint.into(),
    })?;
    parsed.validate().map_err(|reason| Error::Parse { path: path.into(), source: reason.into(), hint: hint.into() })?;
    Ok(parsed)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SCHEMA: &str = "nested = false\n[[type]]\nname = 'PER'\nquestion = 'Who?'\n[[type]]\nname = \"LOC\"\nquestion = \"\"\"Where?\"\"\"\n";

    /// A valid schema, or an error with a hint.
    fn is_schema_or_error(text: &str) -> std::result::Result<(), TestCaseError> {
        match parse_schema(Path::new("types.toml"), text) {
            Ok(schema) => prop_assert!(schema.validate().is_ok() && !schema.types.is_empty()),
            Err(error) => {
                prop_assert!(!error.to_string().is_empty() && error.hint().is_some() && error.exit_code() == 1);
            }
        }
        Ok(())
    }

    proptest! {
        #[test]
        fn any_text_is_a_schema_or_an_error(text in "(?s).{0,80}") {
            is_schema_or_error(&text)?;
        }

        #[test]
        fn a_damaged_schema_is_a_schema_or_an_error(at in 0..SCHEMA.len(), length in 0_usize..12, junk in "[\\[\\]={}\"'\n a-z0-9\u{0}\u{301}]{0,6}") {
            prop_assert!(parse_schema(Path::new("types.toml"), SCHEMA).is_ok());
            let end = SCHEMA.len().min(at + length);
            is_schema_or_error(&format!("{}{junk}{}", &SCHEMA[..at], &SCHEMA[end..]))?;
        }
    }
}
