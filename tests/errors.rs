//! What a user sees who got something wrong: an error of one form, before any work, with the way out.

use insta::assert_snapshot;

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
    error: cannot understand `DIR/store.toml`
      caused by: TOML parse error at line 6, column 1
                   |
                 6 | window_token = 128
                   | ^^^^^^^^^^^^
                 unknown field `window_token`, expected one of `window_tokens`, `overlap_tokens`, `words`, `threshold`, `boundary_threshold`, `max_candidates`, `batch_tokens`
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
    hint: correct `[input] id` and `text`, or mend the file
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
    error: cannot use the documents at `DIR/docs.parquet`: column `id` (`[input] id`) is Float64, expected a string or an integer
    hint: correct `[input] id` and `text`, or mend the file
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
    hint: files are known by their ending: .parquet, .jsonl, .ndjson, .json or .csv
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
    error: cannot use the documents at `DIR/docs.parquet`: Parquet error: Invalid Parquet file. Corrupt footer
    hint: correct `[input] id` and `text`, or mend the file
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

#[test]
fn a_window_that_does_not_fit_the_model() {
    let wide = |dir: &Dir| dir.job("docs.parquet", "store", "[extract]\nwindow_tokens = 600");
    assert_snapshot!(error(wide), @r##"
    error: PROJECT/models/default: `extract.window_tokens`: 600 with the longest question makes 621 tokens, the model takes 512
    hint: the most is 491
    "##);
}

#[test]
fn a_model_that_is_not_there() {
    let none = |dir: &Dir| dir.job("docs.parquet", "store", "[model]\npath = 'models/none'");
    assert_snapshot!(error(none), @r##"
    error: cannot load model `models/none`: there is no such folder
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
    hint: copy the model directory again; after a change on purpose, write it anew with `quarry export`
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
