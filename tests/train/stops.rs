//! A training that ends before its time: killed, it goes on as if nothing had happened; asked to stop, it saves first.

use std::process::Stdio;
use std::time::{Duration, Instant};

use quarry::machine::hash::sha256_of;

use super::{job, replace, task, train};

#[test]
fn a_killed_training_ends_in_the_same_weights() {
    let dir = task();
    // Dropout is on: its random numbers must be drawn again as they were.
    let recipe = "max_epochs = 6\nval_check_interval = 0.34\naccumulate_grad_batches = 2\nspan_loss_candidates = 'pred_gold_random'";
    train(&dir, &job(&dir, "whole", recipe)).ended(0);
    let wanted = sha256_of(&dir.path("whole/model.safetensors")).unwrap();
    let killed_job = job(&dir, "killed", recipe);
    let (mut kills, mut wait) = (0, 400);
    loop {
        let mut child =
            dir.command(&["train", &killed_job]).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let started = Instant::now();
        let ended = loop {
            match child.try_wait().unwrap() {
                Some(status) => break Some(status),
                None if started.elapsed() > Duration::from_millis(wait) => break None,
                None => std::thread::sleep(Duration::from_millis(5)),
            }
        };
        if let Some(status) = ended {
            assert!(status.success());
            break;
        }
        child.kill().unwrap();
        child.wait().unwrap();
        kills += 1;
        // Longer each time, so that it ends however slow the machine is.
        wait += 150;
        assert!(kills < 200, "it never ends");
    }
    eprintln!("killed {kills} times");
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
    let stopped = dir.stopped_after(Duration::from_secs(3), &["train", &path]).ended(143);
    assert!(stopped.error().contains("stopped by SIGTERM"), "{}", stopped.error());
    assert!(dir.path("model/training/position.json").exists());
    let other = job(&dir, "model", "max_epochs = 2000\nweight_decay = 0.5");
    let refused = train(&dir, &other).ended(1);
    assert!(refused.error().contains("unfinished training with other settings"), "{}", refused.error());
    let threads = job(&dir, "model", "max_epochs = 2000");
    replace(&dir, &threads, "threads = 1", "threads = 2");
    let refused = train(&dir, &threads).ended(1).error();
    assert!(refused.contains("unfinished training with threads = 1, now 2"), "{refused}");
    assert!(refused.contains("hint: say threads = 1, name another folder"), "{refused}");
    // What is done about a loss that is no number changes nothing that was learned, nor does a test split more or less.
    let same = job(&dir, "model", "max_epochs = 2000\nnot_a_number = 'skip'");
    replace(&dir, &same, "test = 'test'\n", "");
    let again = dir.stopped_after(Duration::from_secs(3), &["train", &same]).ended(143);
    assert!(again.stderr().contains("going on after step"), "{}", again.stderr());
    // One training at a time.
    let mut first = dir.command(&["train", &same]).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let held = || {
        let lock = std::fs::File::open(dir.path("model/training/lock")).unwrap();
        matches!(lock.try_lock_shared(), Err(std::fs::TryLockError::WouldBlock))
    };
    while !held() {
        assert!(first.try_wait().unwrap().is_none(), "it ended before it began");
        std::thread::sleep(Duration::from_millis(20));
    }
    let second = train(&dir, &same).ended(1).error();
    first.kill().unwrap();
    first.wait().unwrap();
    assert!(second.contains("another training is under way there"), "{second}");
}
