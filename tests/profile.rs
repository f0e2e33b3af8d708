//! Where the time of a run goes, as a file for a trace viewer; what a program without telemetry says.

use crate::support::Dir;

#[test]
fn a_profile_is_a_file_for_a_trace_viewer_and_a_table_of_stages() {
    let dir = Dir::new();
    dir.documents("docs.parquet", &[(Some("a"), Some("Ada met Babbage .")), (Some("b"), Some("London"))]);
    let model = format!("[model]\npath = '{}'\ndevice = 'cpu'\nprecision = 'fp32'", dir.small_model().display());
    let job = dir.job("docs.parquet", "store", &model).display().to_string();
    let said = dir.quarry(&["run", &job, "--profile", "profile.json"]).ended(0).stdout();
    let table = said.rsplit_once("stage (stages overlap)").map(|(_, table)| table.to_owned()).unwrap_or_default();
    let stages = ["start", "read", "tokenize", "tensors", "wait", "inference", "decode", "write", "commit"];
    let places: Vec<Option<usize>> = stages.iter().map(|stage| table.find(&format!(" {stage} "))).collect();
    assert!(places.iter().all(Option::is_some) && places.is_sorted(), "{places:?} in {said}");
    let kept = dir.rows("store", "metrics", "scope", "WHERE name = 'seconds' AND scope LIKE 'stage:%' ORDER BY scope");
    let mut expected = stages.map(|stage| format!("stage:{stage}"));
    expected.sort_unstable();
    assert_eq!(kept, expected);
    let events = std::fs::read_to_string(dir.path("profile.json")).unwrap();
    let events: Vec<serde_json::Value> = serde_json::from_str(&events).unwrap();
    let of_extraction = ["sort", "make tensors", "wait for a session", "infer", "decode", "close a slice"];
    for name in ["run", "load the model", "read", "tokenize", "write", "commit"].into_iter().chain(of_extraction) {
        let count = |phase: &str| events.iter().filter(|one| one["name"] == name && one["ph"] == phase).count();
        assert!(count("B") > 0 && count("B") == count("E"), "{name}: {} begin, {} end", count("B"), count("E"));
    }
    let error = dir.quarry(&["run", &job, "--profile", "none/profile.json"]).ended(1).error();
    assert!(error.contains("cannot write `none/profile.json`"), "{error}");
}
