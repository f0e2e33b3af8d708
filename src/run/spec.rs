//! What to do about another specification. In: the specifications that the store has rows of. Out: go on, replace, or an error that
//! says what changed. It may not write.

use datafusion::prelude::SessionContext;
use serde_json::Value;

use super::ledger::Ledger;
use crate::engine::query::{query_store, words};
use crate::engine::store::Store;
use crate::error::{Error, Result};
use crate::job::Ready;

/// Whether this run extracts beside rows of another specification, to replace them: because it was asked to, or because an
/// earlier run was and did not come to its end.
pub(super) async fn check(
    context: &SessionContext,
    store: &Store,
    ready: &Ready,
    ledger: &Ledger,
    asked: bool,
) -> Result<bool> {
    let Some(other) = ledger.other_spec() else { return Ok(false) };
    let runs = |spec_id: &str| {
        let sql = format!("SELECT job FROM runs WHERE spec_id = '{spec_id}' ORDER BY started_at DESC");
        async move {
            let mut jobs: Vec<Value> = Vec::new();
            for batch in query_store(context, store.location(), &sql).await? {
                jobs.extend(words(&batch, 0)?.iter().filter_map(|job| serde_json::from_str(job).ok()));
            }
            Ok::<_, Error>(jobs)
        }
    };
    // The rows that views show are the oldest; a run of a newer specification can only be a replacement of them.
    let replacing = ledger.is_newest() && runs(&ready.spec_id).await?.iter().any(|job| job["replace"] == true);
    if asked || replacing {
        return Ok(true);
    }
    let earlier = runs(other).await?.into_iter().next().unwrap_or_default();
    let changes = changes(&earlier["spec"], &ready.spec_parts);
    let changes = if changes.is_empty() { "something that is not on record".to_owned() } else { changes.join(", ") };
    Err(Error::Refused {
        store: store.location().to_string(),
        reason: format!(
            "holds documents extracted under another specification ({other}, now {}): {changes}",
            ready.spec_id
        ),
        hint: "undo the change, name another store, or say --replace to extract everything anew beside the old rows"
            .into(),
    })
}

/// Which parts of a specification differ, as `window_tokens 256 → 128`.
fn changes(before: &Value, now: &Value) -> Vec<String> {
    let Some(parts) = now.as_object() else { return Vec::new() };
    let shown = |value: &Value| match value {
        Value::String(text) if text.len() > 16 => format!("{}…", &text[..text.floor_char_boundary(12)]),
        Value::String(text) => text.clone(),
        Value::Null => "auto".to_owned(),
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

/// Which types came, went or are asked for in other words.
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
        let before = json!({"window_tokens": 256, "flavour": null, "types": [of("PER", "Who?"), of("LOC", "Where?")]});
        let now =
            json!({"window_tokens": 64, "flavour": "int8", "types": [of("PER", "Which people?"), of("ORG", "What?")]});
        assert_eq!(
            changes(&before, &now),
            [
                "flavour auto → int8",
                "types added: ORG; left out: LOC; asked in other words: PER",
                "window_tokens 256 → 64"
            ]
        );
        assert!(changes(&now, &now).is_empty());
    }
}
