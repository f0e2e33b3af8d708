//! The output folder of a training: what it must not overwrite, and how a training starts over.

use quarry::machine::hash::sha256_of;

use super::{job, losses, steps, task, train};

#[test]
fn files_of_other_programs_are_not_overwritten() {
    let dir = task();
    let refused = |name: &str, reason: &str| {
        let path = job(&dir, name, "max_epochs = 1");
        for arguments in [&["train", path.as_str()][..], &["train", path.as_str(), "--restart"]] {
            let text = dir.quarry(arguments).ended(1).error();
            assert!(text.contains(&format!("error: {name}: `output.path`: {reason}")), "{text}");
            assert!(text.ends_with("hint: name another folder"), "{text}");
        }
        assert!(!dir.path(name).join("training").exists(), "{name}: work was begun");
    };
    refused("encoder", "it is the encoder's own folder");
    std::os::unix::fs::symlink(dir.path("encoder"), dir.path("link")).unwrap();
    refused("link", "it is the encoder's own folder");
    for name in ["pytorch_model.bin", "config.json"] {
        dir.write(&format!("of-{name}/{name}"), "");
        refused(&format!("of-{name}"), &format!("it holds the `{name}` of a model that this program did not write"));
    }
}

#[test]
fn a_restart_starts_over() {
    let dir = task();
    let long = job(&dir, "model", "max_epochs = 2000");
    dir.stopped_when(&["train", &long], |_| steps(&dir, "model") > 2).ended(143);
    assert!(dir.path("model/training/position.json").exists());
    let short = job(&dir, "model", "max_epochs = 1");
    let restarted = dir.quarry(&["train", &short, "--restart"]).ended(0);
    assert!(!restarted.stderr().contains("resuming after step"), "{}", restarted.stderr());
    train(&dir, &job(&dir, "fresh", "max_epochs = 1")).ended(0);
    let [model, fresh] =
        ["model", "fresh"].map(|name| sha256_of(&dir.path(&format!("{name}/model.safetensors"))).unwrap());
    assert_eq!(model, fresh);
    assert_eq!(losses(&dir, "model"), losses(&dir, "fresh"), "the steps before are forgotten");
}
