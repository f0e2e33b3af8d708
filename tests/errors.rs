//! User errors: every one is reported before any work, in one form, with a hint.

use std::path::Path;

use insta::assert_snapshot;

use crate::http::{Response, serve};
use crate::support::{Dir, project};

fn error(change: impl Fn(&Dir) -> std::path::PathBuf) -> String {
    let dir = Dir::new();
    dir.documents("docs.parquet", &[(Some("1"), Some("Ada Lovelace met Charles Babbage in London."))]);
    let job = change(&dir);
    let finished = dir.quarry(&["run", &job.display().to_string()]).ended(1);
    assert!(!dir.path("store/entities").exists(), "work was begun");
    finished.error()
}

#[test]
fn a_missing_job_file() {
    assert_snapshot!(error(|dir| dir.path("none.toml")), @r##"
    error: cannot read `DIR/none.toml`
      caused by: No such file or directory (os error 2)
    hint: check that the path is right and that you may read it
    "##);
}

#[test]
fn an_unknown_key() {
    assert_snapshot!(error(|dir| dir.job("docs.parquet", "store", "[extract]\nwindow_token = 128")), @r##"
    error: cannot parse `DIR/store.toml`
      caused by: TOML parse error at line 6, column 1
                   |
                 6 | window_token = 128
                   | ^^^^^^^^^^^^
                 unknown field `window_token`, expected one of `window_tokens`, `overlap_tokens`, `words`, `threshold`, `boundary_threshold`, `max_candidates`, `null_threshold`, `batch_tokens`
    hint: did you mean `window_tokens`?
    "##);
}

#[test]
fn a_missing_column() {
    let missing = |dir: &Dir| {
        let job = dir.job("docs.parquet", "store", "");
        let text = std::fs::read_to_string(&job).unwrap().replace("text = 'body'", "text = 'content'");
        dir.write("job.toml", &text)
    };
    assert_snapshot!(error(missing), @r##"
    error: cannot use the documents at `DIR/docs.parquet`: it has no column `content` (`[input] text`), only id, body
    hint: correct `[input] id` and `text`, or repair the file
    "##);
}

#[test]
fn a_column_of_the_wrong_type() {
    let wrong = |dir: &Dir| {
        let numbers: arrow::array::ArrayRef = std::sync::Arc::new(arrow::array::Float64Array::from(vec![1.5]));
        let texts: arrow::array::ArrayRef = std::sync::Arc::new(arrow::array::StringArray::from(vec!["text"]));
        let batch = arrow::array::RecordBatch::try_from_iter([("id", numbers), ("body", texts)]).unwrap();
        dir.parquet("docs.parquet", &batch);
        dir.job("docs.parquet", "store", "")
    };
    assert_snapshot!(error(wrong), @r##"
    error: cannot use the documents at `DIR/docs.parquet`: column `id` (`[input] id`) is Float64, expected a string or an integer: write the file with `quarry sql` and `SELECT CAST("id" AS bigint) AS "id", …`
    hint: correct `[input] id` and `text`, or repair the file
    "##);
}

#[test]
fn an_empty_folder() {
    let empty = |dir: &Dir| {
        std::fs::create_dir(dir.path("nothing")).unwrap();
        dir.job("nothing", "store", "")
    };
    assert_snapshot!(error(empty), @r##"
    error: cannot use the documents at `DIR/nothing`: there is no Parquet, JSON Lines or CSV file
    hint: the format is known by the file extension: .parquet, .jsonl, .ndjson, .json, .csv or .tsv; all but .parquet also with .gz or .zst
    "##);
}

#[test]
fn a_missing_file() {
    assert_snapshot!(error(|dir| dir.job("none.parquet", "store", "")), @r##"
    error: cannot use the documents at `DIR/none.parquet`: there is no such file or folder
    hint: name a file, a folder, a glob, or a URL that begins with s3://, gs:// or az://
    "##);
}

#[test]
fn a_file_that_is_no_parquet() {
    let broken = |dir: &Dir| {
        dir.write("docs.parquet", "this is text");
        dir.job("docs.parquet", "store", "")
    };
    assert_snapshot!(error(broken), @r##"
    error: cannot use the documents at `DIR/docs.parquet`: Parquet error: the file does not end as Parquet does: it is cut off, or of another format
    hint: correct `[input] id` and `text`, or repair the file
    "##);
}

#[test]
fn a_condition_that_is_no_sql() {
    let filter = |dir: &Dir| {
        let job = dir.job("docs.parquet", "store", "");
        let text = std::fs::read_to_string(&job).unwrap().replace("text = 'body'", "text = 'body'\nwhere = 'lang = '");
        dir.write("job.toml", &text)
    };
    assert_snapshot!(error(filter), @r##"
    error: job: `input.where`: SQL error: ParserError("Expected: an expression, found: EOF")
    hint: it is a SQL condition on the files' columns, such as where = "lang = 'en'"
    "##);
}

/// A job whose gold entities are in `gold`.
fn with_gold(dir: &Dir, gold: &str) -> std::path::PathBuf {
    let text = std::fs::read_to_string(dir.job("docs.parquet", "store", "")).unwrap();
    let gold = format!("text = 'body'\ngold = '{}'", dir.path(gold).display());
    dir.write("job.toml", &text.replace("text = 'body'", &gold))
}

#[test]
fn gold_that_is_no_table_of_mentions() {
    assert_snapshot!(error(|dir| with_gold(dir, "docs.parquet")), @r##"
    error: cannot use the gold mentions at `DIR/docs.parquet`: there is no column `doc_id`, only id, body
    hint: a table of mentions has doc_id, entity_type, start_char and end_char (code points, half-open), and may have text and score
    "##);
    // A preview of a run that would fail is refused, too.
    let dir = Dir::new();
    dir.documents("docs.parquet", &[(Some("1"), Some("Ada ."))]);
    let job = with_gold(&dir, "none.parquet").display().to_string();
    for option in ["--explain", "--dry-run"] {
        let error = dir.quarry(&["run", &job, option]).ended(1).error();
        assert!(error.starts_with("error: cannot use the gold mentions at `DIR/none.parquet`: "), "{error}");
    }
}

#[test]
fn gold_that_cannot_be_read_costs_the_scores_and_no_other_figure() {
    let dir = Dir::new();
    dir.documents("docs.parquet", &[(Some("1"), Some("Ada Lovelace met Charles Babbage in London."))]);
    let (ids, types): (arrow::array::ArrayRef, arrow::array::ArrayRef) = (
        // With a single value, the column would be answered from the statistics.
        std::sync::Arc::new(arrow::array::StringArray::from(vec!["1", "2"])),
        std::sync::Arc::new(arrow::array::StringArray::from(vec!["PER", "PER"])),
    );
    let place =
        |at: i64| -> arrow::array::ArrayRef { std::sync::Arc::new(arrow::array::Int64Array::from(vec![at; 2])) };
    let columns = [("doc_id", ids), ("entity_type", types), ("start_char", place(0)), ("end_char", place(12))];
    dir.parquet("gold.parquet", &arrow::array::RecordBatch::try_from_iter(columns).unwrap());
    dir.tear("gold.parquet", "doc_id", 0);
    let said = dir.quarry(&["run", &with_gold(&dir, "gold.parquet").display().to_string()]).ended(2);
    assert!(said.stdout().contains("│ documents "), "{}", said.stdout());
    assert!(said.error().starts_with("error: cannot answer a query\n  caused by: "), "{}", said.error());
    assert_eq!(dir.rows("store", "runs", "outcome", ""), ["failed: cannot answer a query"]);
    let documents = "WHERE scope = 'all' AND name = 'documents'";
    assert_eq!(dir.rows("store", "metrics", "CAST(value AS bigint)", documents), ["1"]);
}

#[test]
fn a_server_that_does_not_answer_is_no_broken_file() {
    // The server lists the file, but requires credentials to read it.
    let port = serve(|request| match request.method.as_str() {
        "HEAD" => Response { status: "200 OK", headers: Vec::new(), body: vec![0; 100] },
        _ => Response::empty("401 Unauthorized"),
    });
    let dir = Dir::new();
    let text = std::fs::read_to_string(dir.job("docs", "store", "")).unwrap();
    let remote = format!("'http://127.0.0.1:{port}/docs.jsonl'");
    let job = dir.write("job.toml", &text.replace(&format!("'{}'", dir.path("docs").display()), &remote));
    let error = dir.quarry(&["run", &job.display().to_string()]).ended(2).error();
    assert!(error.starts_with(&format!("error: cannot read `http://127.0.0.1:{port}/docs.jsonl`\n")), "{error}");
    assert!(!dir.path("store").exists(), "work was begun");
}

#[test]
fn an_option_is_named_as_on_the_command_line() {
    let model = project().join("models/default").display().to_string();
    let said = Dir::new().quarry(&["try", "Berlin", "--model", &model, "--threshold", "1"]).ended(1);
    assert_snapshot!(said.error(), @r"
    error: quarry try: `--threshold`: 1 is not a probability between 0 and 1
    hint: 0.5 accepts what is more likely than not
    ");
}

#[test]
fn a_window_that_does_not_fit_the_model() {
    let wide = |dir: &Dir| dir.job("docs.parquet", "store", "[extract]\nwindow_tokens = 600");
    assert_snapshot!(error(wide), @r##"
    error: PROJECT/models/default: `extract.window_tokens`: 600 and the special tokens need 602 tokens, and the model takes 512
    hint: the maximum is 510
    "##);
    let early = |dir: &Dir| {
        let model = dir.early_model();
        dir.job(
            "docs.parquet",
            "store",
            &format!("[extract]\nwindow_tokens = 600\n[model]\npath = '{}'", model.display()),
        )
    };
    assert_snapshot!(error(early), @r##"
    error: DIR/early-model: `extract.window_tokens`: 600 and the longest question need 621 tokens, and the model takes 512
    hint: the maximum is 491
    "##);
}

#[test]
fn a_question_as_long_as_the_model() {
    let wordy = |dir: &Dir, words: usize, model: &Path| {
        let question = "who ".repeat(words);
        let types = format!("nested = true\n[[type]]\nname = 'PER'\nquestion = '{question}'\n");
        let schema = dir.write("wordy.toml", &types);
        let more = format!("[entities]\nschema = '{}'\n[model]\npath = '{}'", schema.display(), model.display());
        dir.job("docs.parquet", "store", &more)
    };
    assert_snapshot!(error(|dir| wordy(dir, 505, &dir.early_model())), @r##"
    error: DIR/early-model: `question`: that of type `PER` leaves 4 of the model's 512 tokens for the text
    hint: shorten the question
    "##);
    assert_snapshot!(error(|dir| wordy(dir, 515, &project().join("models/default"))), @r##"
    error: PROJECT/models/default: `question`: that of type `PER` has 517 tokens, and the model takes 512
    hint: shorten the question
    "##);
}

#[test]
fn a_model_that_is_not_there() {
    let none = |dir: &Dir| dir.job("docs.parquet", "store", "[model]\npath = 'models/none'");
    assert_snapshot!(error(none), @r##"
    error: cannot load model `models/none`: there is no such folder
    hint: name a model directory, as `quarry export` writes it; a model on the Hugging Face hub is written hf://models/none
    "##);
    let bare = |dir: &Dir| dir.job("docs.parquet", "store", "[model]\npath = 'bert-base-uncased'");
    assert_snapshot!(error(bare), @r##"
    error: cannot load model `bert-base-uncased`: there is no such folder
    hint: name a model directory, as `quarry export` writes it; a model on the Hugging Face hub is written hf://google-bert/bert-base-uncased
    "##);
    let path = |dir: &Dir| dir.job("docs.parquet", "store", "[model]\npath = './bert-base-uncased'");
    assert_snapshot!(error(path), @r##"
    error: cannot load model `./bert-base-uncased`: there is no such folder
    hint: name a model directory, as `quarry export` writes it
    "##);
}

#[test]
fn a_model_whose_weights_were_damaged() {
    let damaged = |dir: &Dir| {
        for name in ["config.json", "tokenizer.json", "quarry.json", "model.safetensors"] {
            let bytes = std::fs::read(project().join("models/default").join(name)).unwrap();
            std::fs::create_dir_all(dir.path("model")).unwrap();
            std::fs::write(dir.path("model").join(name), bytes).unwrap();
        }
        let path = dir.path("model/model.safetensors");
        let mut bytes = std::fs::read(&path).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        std::fs::write(&path, bytes).unwrap();
        dir.job("docs.parquet", "store", "[model]\npath = 'model'")
    };
    let said = error(damaged);
    let hashes = said.split(|part: char| !part.is_ascii_alphanumeric()).filter(|word| word.len() == 64);
    let hidden = hashes.fold(said.clone(), |text, hash| text.replace(hash, "HASH"));
    assert_snapshot!(hidden, @r##"
    error: cannot load model `model`: `model.safetensors` is not the file quarry.json describes (SHA-256 HASH, expected HASH)
    hint: copy the model directory again; if you changed the file on purpose, write the directory again with `quarry export`
    "##);
}

#[test]
fn a_named_device_that_is_not_there() {
    if std::path::Path::new("/dev/nvidiactl").exists() {
        eprintln!("skipped: this machine has an NVIDIA driver");
        return;
    }
    let model = project().join("models/default").display().to_string();
    let cuda = |dir: &Dir| dir.job("docs.parquet", "store", &format!("[model]\npath = '{model}'\ndevice = 'cuda:1'"));
    assert_snapshot!(error(cuda), @r##"
    error: cannot use device `cuda:1`: no NVIDIA driver answers on this machine
    hint: install the driver, or say device = "cpu"
    "##);
}

#[test]
fn a_library_that_is_no_library() {
    let model = project().join("models/default").display().to_string();
    let library = |dir: &Dir| {
        let path = dir.write("libonnxruntime.so", "this is text");
        dir.job(
            "docs.parquet",
            "store",
            &format!("[model]\npath = '{model}'\ndevice = 'cpu'\nlibrary = '{}'", path.display()),
        )
    };
    let said = error(library);
    assert!(said.starts_with("error: cannot use ONNX Runtime: "), "{said}");
    assert_eq!(said.matches("cannot use").count(), 1, "{said}");
    assert!(said.contains("DIR/libonnxruntime.so"), "{said}");
    assert!(said.contains("hint: "), "{said}");
}

/// Runs the program as somebody whom permissions bind: as root they do not, unless two capabilities are given up. None if that cannot be
/// done here.
fn bound_by_permissions(dir: &Dir, arguments: &[&str]) -> Option<crate::support::Finished> {
    let readable = std::fs::read_dir(dir.path("closed")).is_ok();
    if !readable {
        return Some(dir.quarry(arguments));
    }
    let given_up = ["--bounding-set=-dac_override,-dac_read_search", "--inh-caps=-dac_override,-dac_read_search"];
    let mut command = std::process::Command::new("setpriv");
    command.args(given_up).arg(env!("CARGO_BIN_EXE_quarry")).args(arguments).current_dir(dir.path(""));
    if let Err(error) = std::process::Command::new("setpriv").args(given_up).arg("true").output() {
        eprintln!("skipped: this test needs setpriv, or a user other than root: {error}");
        return None;
    }
    Some(dir.finish(command))
}

#[test]
fn a_folder_that_may_not_be_read_needs_a_person() {
    use std::os::unix::fs::PermissionsExt as _;
    let dir = Dir::new();
    dir.documents("closed/docs.parquet", &[(Some("a"), Some("Ada ."))]);
    let allow = |mode: u32| {
        std::fs::set_permissions(dir.path("closed"), std::fs::Permissions::from_mode(mode)).unwrap();
    };
    let job = dir.job("closed", "store", "").display().to_string();
    let one = dir.job("closed/docs.parquet", "other", "").display().to_string();
    allow(0o000);
    let said: Vec<_> = [&job, &one].into_iter().filter_map(|job| bound_by_permissions(&dir, &["run", job])).collect();
    allow(0o755);
    for said in said {
        let said = said.ended(1);
        let (error, report) = (said.error(), said.stderr());
        assert!(error.starts_with("error: cannot use the documents at `DIR/closed"), "{report}");
        assert!(error.contains("Permission denied"), "{report}");
    }
}

#[test]
fn names_in_data_do_not_act_on_the_terminal() {
    let dir = Dir::new();
    dir.documents("docs/a.parquet", &[(Some("1"), Some("Ada Lovelace met Charles Babbage ."))]);
    let column: arrow::array::ArrayRef = std::sync::Arc::new(arrow::array::StringArray::from(vec!["x"]));
    let name = "\u{1b}]0;title\u{7}\u{9b}31m\u{202e}\n2026-01-01T00:00:00Z  INFO all is well";
    dir.parquet("docs/b.parquet", &arrow::array::RecordBatch::try_from_iter([(name, column)]).unwrap());
    let model = format!("[model]\npath = '{}'\ndevice = 'cpu'\nprecision = 'fp32'", dir.small_model().display());
    let job = dir.job("docs", "store", &model).display().to_string();
    let said = dir.quarry(&["run", &job]).ended(3).stderr();
    let acts = |letter: char| letter.is_control() && letter != '\n' || letter == '\u{202e}';
    assert!(!said.contains(acts), "{said:?}");
    assert!(said.contains(r"only \u{1b}]0;title\u{7}\u{9b}31m\u{202e}"), "{said}");
    assert!(!said.lines().any(|line| line.starts_with("2026-01-01T")), "{said}");
    // The table has the name as it is.
    assert!(dir.rows("store", "rejects", "detail", "")[0].contains(name));
    let alone = dir.job("docs/b.parquet", "other", &model).display().to_string();
    let error = dir.quarry(&["run", &alone]).ended(1).stderr();
    assert!(!error.contains(acts) && error.contains(r"\u{1b}]0;title"), "{error:?}");
    let named = dir.quarry(&["run", "no\u{1b}[31mjob.toml"]).ended(1).stderr();
    assert!(!named.contains(acts) && named.contains(r"no\u{1b}[31mjob.toml"), "{named:?}");
}
