//! `quarry try`: a text in, its mentions out.

use std::io::Write;
use std::process::Stdio;

use insta::assert_snapshot;

use crate::support::{Dir, project};

const TEXT: &str = "Angela Merkel met Emmanuel Macron in Berlin on Monday .";

fn model() -> String {
    project().join("models/default").display().to_string()
}

/// Hides the scores, because those of int8 depend on the machine.
fn places(shown: &str) -> String {
    let line = |line: &str| match line.rfind("0.").or_else(|| line.rfind("1.00")) {
        Some(at) => format!("{}SCORE{}", &line[..at], &line[at + 4..]),
        None => line.to_owned(),
    };
    shown.lines().map(line).collect::<Vec<_>>().join("\n")
}

#[test]
fn a_text_and_its_mentions() {
    let dir = Dir::new();
    let said = dir.quarry(&["try", TEXT, "--model", &model(), "--device", "cpu"]).ended(0);
    assert_snapshot!(places(&said.stdout()), @r"
    [PER Angela Merkel] met [PER Emmanuel Macron] in [LOC Berlin] on [DATE Monday] .

    ┌─────────────────────────────────────────────┐
    │ mention           type   characters   score │
    ╞═════════════════════════════════════════════╡
    │ Angela Merkel      PER         0–13    SCORE │
    │ Emmanuel Macron    PER        18–33    SCORE │
    │ Berlin             LOC        37–43    SCORE │
    │ Monday            DATE        47–53    SCORE │
    └─────────────────────────────────────────────┘
    ");
    assert!(!dir.path("store").exists());
}

#[test]
fn a_text_comes_from_a_file_or_from_standard_input() {
    let dir = Dir::new();
    dir.write("note.txt", TEXT);
    let arguments =
        |text: &'static str| ["try", text, "--model", Box::leak(model().into_boxed_str()), "--device", "cpu", "--json"];
    let file = dir.quarry(&arguments("@note.txt")).ended(0).stdout();
    let mut child = dir
        .command(&arguments("-"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(TEXT.as_bytes()).unwrap();
    let piped = String::from_utf8(child.wait_with_output().unwrap().stdout).unwrap();
    let (file, piped): (serde_json::Value, serde_json::Value) =
        (serde_json::from_str(&file).unwrap(), serde_json::from_str(&piped).unwrap());
    assert_eq!(file["mentions"], piped["mentions"]);
    let found: Vec<String> = file["mentions"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| format!("{} {} {}..{}", one["entity_type"], one["text"], one["start_char"], one["end_char"]))
        .collect();
    assert!(found.contains(&"\"LOC\" \"Berlin\" 37..43".to_owned()), "{found:?}");
    assert_eq!(file["text"], TEXT);
    let missing = dir.quarry(&arguments("@none.txt")).ended(1).error();
    assert_snapshot!(missing, @r"
    error: cannot read `none.txt`
      caused by: No such file or directory (os error 2)
    hint: check that the path is right and that you may read it
    ");
}

#[test]
fn types_can_be_plain_words() {
    let dir = Dir::new();
    let said =
        dir.quarry(&["try", TEXT, "--types", "loc,city", "--model", &model(), "--device", "cpu", "--json"]).ended(0);
    let object: serde_json::Value = serde_json::from_str(&said.stdout()).unwrap();
    assert_snapshot!(object["types"].to_string(), @r#"[{"name":"LOC","question":"Which places are named? Countries, cities, regions, rivers, mountains and other locations.","temperature":1.6724,"threshold":0.5},{"name":"city","question":"Which cities are named?","temperature":1.0,"threshold":0.5}]"#);
    assert_eq!(
        dir.quarry(&["try", TEXT, "--types", "a,,b", "--model", &model()]).ended(1).error(),
        "error: quarry try: `--types`: type 2 has no name\nhint: separate the types with single commas"
    );
}

#[test]
fn a_model_without_listed_types_needs_the_types_option() {
    let dir = Dir::new();
    let model = dir.small_model().display().to_string();
    assert_snapshot!(dir.quarry(&["try", TEXT, "--model", &model]).ended(1).error(), @r"
    error: quarry try: `--types`: the model directory does not list the types it was trained on
    hint: name the types, such as --types person,ship, or a --schema file
    ");
    let schema = project().join("schemas/genia.toml").display().to_string();
    dir.quarry(&["try", TEXT, "--model", &model, "--schema", &schema, "--device", "cpu"]).ended(0);
    assert_snapshot!(dir.quarry(&["try", "  ", "--model", &model, "--types", "ship", "--device", "cpu"]).ended(1).error(), @r"
    error: cannot use the documents at `the text`: the text has 2 bytes, all white space
    hint: enter a text with at least one word
    ");
}

#[test]
fn a_model_is_found_in_the_data_folder() {
    let dir = Dir::new();
    let small = dir.small_model();
    let data = dir.path("data/quarry/models/default");
    std::fs::create_dir_all(data.parent().unwrap()).unwrap();
    std::fs::rename(small, &data).unwrap();
    let output = dir
        .command(&["try", TEXT, "--types", "ship", "--device", "cpu", "--log-format", "plain"])
        .env("XDG_DATA_HOME", dir.path("data"))
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{said}");
    assert!(said.contains("model `models/default` is loaded from the per-user data folder"), "{said}");
}

#[test]
fn control_characters_of_a_text_are_escaped_and_exact_in_json() {
    let dir = Dir::new();
    let model = dir.small_model().display().to_string();
    let text = "\u{1b}[2JBerlin \u{9b}31m and\u{202e} Paris\u{7f}\n.";
    let arguments = ["try", text, "--model", &model, "--types", "ship", "--device", "cpu"];
    let shown = dir.quarry(&arguments).ended(0).stdout();
    assert!(!shown.contains(|letter: char| letter.is_control() && letter != '\n' || letter == '\u{202e}'), "{shown:?}");
    assert!(shown.contains(r"\u{1b}[2J") && shown.contains(r"\u{9b}31m"), "{shown}");
    let json = dir.quarry(&[&arguments[..], &["--json"]].concat()).ended(0).stdout();
    assert!(!json.contains(|letter: char| letter.is_control() && letter != '\n' || letter == '\u{202e}'), "{json:?}");
    assert_eq!(serde_json::from_str::<serde_json::Value>(&json).unwrap()["text"], text);
}
