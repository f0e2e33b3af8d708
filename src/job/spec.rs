//! Specifications: all settings that change the rows. In: a specification's parts. Out: its hash, and its differences from another. It must
//! not know the contents of a store.

use serde_json::Value;

use crate::machine::hash::short_hash;

/// The hash of a specification's parts: the `spec_id` column.
pub fn spec_id(parts: &Value) -> String {
    short_hash(parts.to_string().as_bytes(), 8)
}

/// The differences between two specifications, such as `window_tokens 256 → 128`.
pub fn spec_changes(before: &Value, now: &Value) -> Vec<String> {
    let Some(parts) = now.as_object() else { return Vec::new() };
    let shown = |value: &Value| match value {
        Value::String(text) if text.len() > 16 => format!("{}…", &text[..text.floor_char_boundary(12)]),
        Value::String(text) => text.clone(),
        Value::Null => "auto".to_owned(),
        // Thresholds are f32, so the extra digits of their f64 form are not part of the setting.
        Value::Number(number) if number.is_f64() => {
            number.as_f64().map_or_else(|| number.to_string(), |number| (number as f32).to_string())
        }
        other => other.to_string(),
    };
    let differing = parts.iter().filter(|(key, value)| before.get(key) != Some(value));
    let mut changes = Vec::new();
    for (key, value) in differing {
        match (key.as_str(), before.get(key)) {
            ("types", Some(earlier)) => changes.push(type_changes(earlier, value)),
            (_, earlier) => {
                changes.push(format!("{key} {} → {}", shown(earlier.unwrap_or(&Value::Null)), shown(value)));
            }
        }
    }
    changes
}

/// Which types were added, were removed, or have another question.
fn type_changes(before: &Value, now: &Value) -> String {
    let types = |value: &Value| -> Vec<(String, String)> {
        let of = |one: &Value, key: &str| one[key].as_str().unwrap_or_default().to_owned();
        value.as_array().into_iter().flatten().map(|one| (of(one, "name"), of(one, "question"))).collect()
    };
    let (before, now) = (types(before), types(now));
    let names = |from: &[(String, String)], other: &[(String, String)]| -> Vec<String> {
        let alone = from.iter().filter(|(name, _)| !other.iter().any(|(theirs, _)| theirs == name));
        alone.map(|(name, _)| name.clone()).collect()
    };
    let reworded: Vec<String> = now
        .iter()
        .filter(|(name, question)| before.iter().any(|(theirs, asked)| theirs == name && asked != question))
        .map(|(name, _)| name.clone())
        .collect();
    let parts =
        [("added", names(&now, &before)), ("left out", names(&before, &now)), ("asked in other words", reworded)];
    let parts: Vec<String> = parts
        .into_iter()
        .filter(|(_, names)| !names.is_empty())
        .map(|(what, names)| format!("{what}: {}", names.join(", ")))
        .collect();
    if parts.is_empty() { "the order of the types".to_owned() } else { format!("types {}", parts.join("; ")) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_change_is_named() {
        let of = |name: &str, question: &str| json!({"name": name, "question": question});
        let before = json!({
            "window_tokens": 256, "precision": null, "threshold": 0.5_f32,
            "types": [of("PER", "Who?"), of("LOC", "Where?")]
        });
        let now = json!({
            "window_tokens": 64, "precision": "int8", "threshold": 0.6_f32,
            "types": [of("PER", "Which people?"), of("ORG", "What?")]
        });
        assert_eq!(
            spec_changes(&before, &now),
            [
                "precision auto → int8",
                "threshold 0.5 → 0.6",
                "types added: ORG; left out: LOC; asked in other words: PER",
                "window_tokens 256 → 64"
            ]
        );
        assert!(spec_changes(&now, &now).is_empty());
    }
}
