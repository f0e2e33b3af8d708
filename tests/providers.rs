//! The main job with other execution providers than the CPU's; each test is skipped with a note if its provider is absent.

use quarry::model::runtime::distribution::Distribution;
use quarry::model::runtime::library;

use crate::support::{Dir, project};

/// The mentions of the project's model on a device in a precision; also checks the row of the run.
fn found(dir: &Dir, device: &str, precision: &str) -> Vec<String> {
    let texts =
        ["Angela Merkel met Emmanuel Macron in Berlin on Monday .", "Rosa Parks was born in Tuskegee , Alabama ."];
    dir.documents("docs.parquet", &[(Some("a"), Some(texts[0])), (Some("b"), Some(texts[1]))]);
    let model = project().join("models/default").display().to_string();
    let section = format!("[model]\npath = '{model}'\ndevice = '{device}'\nprecision = '{precision}'");
    let job = dir.job("docs.parquet", precision, &section);
    // On CUDA, loading checks that every operator with weights is on the device.
    dir.quarry(&["run", &job.display().to_string()]).ended(0);
    let ran = dir.rows(precision, "runs", "device, precision", "");
    assert!(ran[0].starts_with(device) && ran[0].ends_with(precision), "{ran:?}");
    let found = dir.rows(precision, "entities", "doc_id, entity_type, start_char, end_char", "ORDER BY 1, 3");
    assert!(found.len() >= 4, "{found:?}");
    found
}

#[test]
fn the_same_mentions_on_cuda_in_half_precision() {
    if !std::path::Path::new("/dev/nvidiactl").exists() {
        eprintln!("skipped: this machine has no NVIDIA driver");
        return;
    }
    let dir = Dir::new();
    assert_eq!(found(&dir, "cpu", "fp32"), found(&dir, "cuda", "fp16"));
}

#[test]
fn int8_runs_on_the_cpu_unless_a_gpu_is_named() {
    let dir = Dir::new();
    dir.documents("docs.parquet", &[(Some("a"), Some("Angela Merkel met Emmanuel Macron in Berlin ."))]);
    let model = dir.small_model().display().to_string();
    let job =
        dir.job("docs.parquet", "store", &format!("[model]\npath = '{model}'\ndevice = 'auto'\nprecision = 'int8'"));
    dir.quarry(&["run", &job.display().to_string()]).ended(0);
    assert_eq!(dir.rows("store", "runs", "device, precision", ""), ["cpu|int8"]);
}

#[test]
fn a_missing_gpu_is_an_error_without_retry() {
    if !std::path::Path::new("/dev/nvidiactl").exists() {
        eprintln!("skipped: this machine has no NVIDIA driver");
        return;
    }
    let dir = Dir::new();
    dir.documents("docs.parquet", &[(Some("a"), Some("Angela Merkel met Emmanuel Macron in Berlin ."))]);
    let model = dir.small_model().display().to_string();
    let job = dir.job("docs.parquet", "store", &format!("[model]\npath = '{model}'\ndevice = 'cuda:99'"));
    let said = dir.quarry(&["run", &job.display().to_string()]).ended(1).error();
    assert!(said.starts_with("error: cannot use device `cuda:99`: "), "{said}");
}

#[test]
fn an_empty_library_variable_counts_as_unset() {
    let dir = Dir::new();
    let mut command = dir.command(&["doctor", "--within", "60"]);
    command.env("QUARRY_ONNXRUNTIME", "");
    let said = dir.finish(command).stdout();
    assert!(said.contains("ONNX Runtime") && !said.contains("no library at"), "{said}");
}

#[test]
fn the_same_mentions_with_openvino() {
    if std::env::var_os("QUARRY_OPENVINO_TESTS").is_none() {
        eprintln!("skipped: QUARRY_OPENVINO_TESTS=1 fetches ONNX Runtime with OpenVINO (84 MB) and asks it");
        return;
    }
    let dir = Dir::new();
    assert_eq!(found(&dir, "cpu", "fp32"), found(&dir, "cpu", "bf16"));
    let plain = library::find(None, Distribution::Cpu).unwrap().unwrap().path;
    let model = project().join("models/default").display().to_string();
    let section =
        format!("[model]\npath = '{model}'\ndevice = 'cpu'\nprecision = 'bf16'\nlibrary = '{}'", plain.display());
    let job = dir.job("docs.parquet", "plain", &section);
    let said = dir.quarry(&["run", &job.display().to_string()]).ended(1).stderr();
    assert!(said.contains("without the OpenVINO provider"), "{said}");
}
