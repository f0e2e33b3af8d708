//! Evaluations with output that cannot be written, files of an earlier evaluation, and names that are not paths.

use serde_json::Value;

use super::{DOCUMENTS, Mention, counted, example, mention, write};
use crate::support::Dir;

#[test]
fn scores_are_printed_before_anything_is_written() {
    let dir = Dir::new();
    example(&dir);
    dir.write("taken", "a file where the folder should be");
    let arguments = ["evaluate", "--json", "predicted.parquet", "gold.parquet", "--out", "taken"];
    let found: Value = serde_json::from_str(&dir.quarry(&arguments).ended(1).stdout()).unwrap();
    assert_eq!(counted(&found["micro"]), (1, 4, 3));
}

#[test]
fn changes_have_texts_and_are_removed_by_an_evaluation_without_comparison() {
    let dir = Dir::new();
    example(&dir);
    // Wrong in the other system only, and its table has no texts.
    write(&dir, "other.parquet", &[mention("a", "LOC", 0, 3)]);
    let alone = [&["evaluate", "predicted.parquet", "gold.parquet", "--out", "out"][..], &DOCUMENTS].concat();
    dir.quarry(&[&alone[..], &["--against", "other.parquet"]].concat()).ended(0);
    let changes = dir.path("out/changes.parquet");
    let gone = "SELECT text FROM changes WHERE change = 'error_gone'";
    assert_eq!(dir.sql(None, &[("changes", &changes)], gone), ["Ada"]);
    dir.quarry(&alone).ended(0);
    assert!(!changes.exists(), "changes of another evaluation");
}

#[test]
fn the_reference_counts_with_the_model_inside_the_program() {
    let dir = Dir::new();
    dir.documents("docs.parquet", &[(Some("a"), Some("day day day day day day"))]);
    let words: Vec<Mention> = (0..6).map(|word| mention("a", "PER", word * 4, word * 4 + 3)).collect();
    write(&dir, "gold.parquet", &words);
    dir.write("types.toml", "nested = true\n[[type]]\nname = 'PER'\nquestion = 'who is it'\n");
    let model = ["--schema", "types.toml", "--model", "models/default", "--counting", "reference:10"];
    let arguments = [&["evaluate", "--json", "gold.parquet", "gold.parquet"][..], &model, &DOCUMENTS].concat();
    let mut command = dir.command(&arguments);
    command.env("QUARRY_CACHE", dir.path("cache"));
    let found: Value = serde_json::from_str(&dir.finish(command).ended(0).stdout()).unwrap();
    assert_eq!(counted(&found["micro"]), (4, 0, 1));
}
