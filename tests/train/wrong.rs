//! What a user sees whose data or recipe cannot be learned from.

use super::{job, replace, task, train};
use crate::support::Dir;

#[test]
fn bad_input_is_named() {
    let dir = task();
    let error = |dir: &Dir, recipe: &str| {
        let path = job(dir, "model", recipe);
        train(dir, &path).ended(1).error()
    };
    // A loss that is no number ends the training, or is left out and counted.
    let hot = |name: &str, more: &str| {
        let path = job(&dir, name, &format!("max_epochs = 3\noptimizer = 'sgd'\n{more}"));
        replace(&dir, &path, "lr = 3e-3", "lr = 1e30");
        replace(&dir, &path, "gradient_clip_val = 1.0", "gradient_clip_val = 0.0");
        train(&dir, &path)
    };
    let text = hot("hot", "").ended(1).error();
    assert!(text.contains("cannot go on training: the loss of step"), "{text}");
    let summary = hot("skipping", "not_a_number = 'skip'").ended(0).stdout();
    assert!(summary.contains("steps left out"), "{summary}");
    dir.write("dev/gold.jsonl", r#"{"doc_id": "dev0", "entity_type": "SHIP", "start_char": 0, "end_char": 3}"#);
    let text = error(&dir, "max_epochs = 1");
    assert!(text.contains("the schema has no question for SHIP"), "{text}");
    dir.write("dev/gold.jsonl", r#"{"doc_id": "dev0", "entity_type": "PER", "start_char": 0, "end_char": 3000}"#);
    let text = error(&dir, "max_epochs = 1");
    assert!(text.contains("a mention of `dev0` ends at 3000, but its text has"), "{text}");
    dir.write("dev/gold.jsonl", r#"{"doc_id": "nowhere", "entity_type": "PER", "start_char": 0, "end_char": 3}"#);
    let text = error(&dir, "max_epochs = 1");
    assert!(text.contains("1 of its doc_ids are no documents with a text, such as `nowhere`"), "{text}");
    dir.write("dev/gold.jsonl", r#"{"doc_id": "dev0", "entity_type": "PER", "start_char": 0, "end_char": 1}"#);
    let path = job(&dir, "model", "max_epochs = 1");
    replace(&dir, &path, "[entities]", "misaligned = 'stop'\n[entities]");
    let text = train(&dir, &path).ended(1).error();
    assert!(text.contains("1 of 1 gold mentions begin or end inside a word"), "{text}");
    dir.write("dev/documents.jsonl", "{\"doc_id\": \"dev0\", \"text\": null}\n");
    let text = error(&dir, "max_epochs = 1");
    assert!(text.contains("there is no document with a text"), "{text}");
}
