//! Interrupted training: after a kill it resumes with the same result; on a signal it saves a checkpoint first.

use std::process::Stdio;

use quarry::machine::hash::sha256_of;
use safetensors::SafeTensors;

use super::{job, replace, steps, task, train};
use crate::support::{Dir, until};

/// The bytes of an embedding table.
fn table(dir: &Dir, model: &str, prefix: &str, name: &str) -> Vec<u8> {
    let file = std::fs::read(dir.path(model).join("model.safetensors")).unwrap();
    let tensors = SafeTensors::deserialize(&file).unwrap();
    tensors.tensor(&format!("{prefix}embeddings.{name}_embeddings.weight")).unwrap().data().to_vec()
}

#[test]
fn a_killed_training_ends_in_the_same_weights() {
    let dir = task();
    // Dropout is on: its random numbers must be reproduced. So must the hidden words and the average.
    let recipe = "max_epochs = 6\nval_check_interval = 0.34\naccumulate_grad_batches = 2\nspan_loss_candidates = 'pred_gold_random'\n\
                  ema_decay = 0.9\nword_dropout = 0.1\nfreeze_words = true";
    train(&dir, &job(&dir, "whole", recipe)).ended(0);
    assert_eq!(table(&dir, "whole", "bert.", "word"), table(&dir, "encoder", "", "word"), "frozen");
    assert_ne!(table(&dir, "whole", "bert.", "position"), table(&dir, "encoder", "", "position"), "learned");
    let wanted = sha256_of(&dir.path("whole/model.safetensors")).unwrap();
    let killed_job = job(&dir, "killed", recipe);
    // Killed after more steps each time: first before anything is saved, then after one evaluation, or two …
    let (mut kills, mut allowed) = (0, 13);
    loop {
        let mut child =
            dir.command(&["train", &killed_job]).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        // Steps after the last checkpoint are truncated first.
        let (mut ended, mut fewest) = (None, usize::MAX);
        until("a training continues", || {
            ended = child.try_wait().unwrap();
            let now = steps(&dir, "killed");
            fewest = fewest.min(now);
            ended.is_some() || now >= fewest + allowed
        });
        if let Some(status) = ended {
            assert!(status.success());
            break;
        }
        child.kill().unwrap();
        child.wait().unwrap();
        kills += 1;
        allowed += 9;
    }
    eprintln!("killed {kills} times");
    assert!(kills > 4, "killed {kills} times only");
    assert_eq!(sha256_of(&dir.path("killed/model.safetensors")).unwrap(), wanted);
    let lines = |name: &str| {
        let text = std::fs::read_to_string(dir.path(&format!("{name}/training/metrics.jsonl"))).unwrap();
        text.lines().filter(|line| line.contains("\"step\"")).count()
    };
    assert_eq!(lines("killed"), lines("whole"), "no step is there twice or missing");
}

#[test]
fn a_signal_saves_and_stops() {
    let dir = task();
    let path = job(&dir, "model", "max_epochs = 2000");
    let stopped = dir.stopped_when(&["train", &path], |_| steps(&dir, "model") > 2).ended(143);
    assert!(stopped.error().contains("stopped by SIGTERM"), "{}", stopped.error());
    assert!(dir.path("model/training/position.json").exists());
    let other = job(&dir, "model", "max_epochs = 2000\nweight_decay = 0.5");
    let refused = train(&dir, &other).ended(1);
    assert!(refused.error().contains("unfinished training with other settings"), "{}", refused.error());
    let threads = job(&dir, "model", "max_epochs = 2000");
    replace(&dir, &threads, "threads = 1", "threads = 2");
    let refused = train(&dir, &threads).ended(1).error();
    assert!(refused.contains("unfinished training with threads = 1, now 2"), "{refused}");
    assert!(refused.contains("hint: set threads = 1, name another folder"), "{refused}");
    // `not_a_number` and the test split do not change the weights, so they can change on resume.
    let same = job(&dir, "model", "max_epochs = 2000\nnot_a_number = 'skip'");
    replace(&dir, &same, "test = 'test'\n", "");
    dir.stopped_when(&["train", &same], |output| output.contains("resuming after step")).ended(143);
    // One training at a time.
    let mut first = dir.command(&["train", &same]).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let held = || {
        let lock = std::fs::File::open(dir.path("model/training/lock")).unwrap();
        matches!(lock.try_lock_shared(), Err(std::fs::TryLockError::WouldBlock))
    };
    until("the first training holds the lock", || {
        assert!(first.try_wait().unwrap().is_none(), "it ended before it began");
        held()
    });
    let second = train(&dir, &same).ended(1).error();
    first.kill().unwrap();
    first.wait().unwrap();
    assert!(second.contains("another training is running there"), "{second}");
}
