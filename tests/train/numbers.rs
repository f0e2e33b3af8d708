//! Figures that are not finite: they end a training, or their steps are skipped and counted; too many of them end it as well.

use super::{job, replace, task, train};

#[test]
fn a_loss_that_is_not_finite_ends_the_training_or_is_skipped() {
    let dir = task();
    let hot = |name: &str, batch_size: &str, more: &str| {
        let path = job(&dir, name, &format!("max_epochs = 3\noptimizer = 'sgd'\n{more}"));
        replace(&dir, &path, "lr = 3e-3", "lr = 1e30");
        replace(&dir, &path, "gradient_clip_val = 1.0", "gradient_clip_val = 0.0");
        replace(&dir, &path, "batch_size = 16", batch_size);
        train(&dir, &path)
    };
    let text = hot("hot", "batch_size = 16", "").ended(1).error();
    assert!(text.contains("cannot continue training: the loss of step"), "{text}");
    assert!(text.contains("hint: nothing was saved yet: skip such steps with not_a_number = \"skip\""), "{text}");
    // Nearly all of 87 steps.
    let skipping = hot("skipping", "batch_size = 64", "not_a_number = 'skip'").ended(0);
    assert!(skipping.stdout().contains("skipped steps"), "{}", skipping.stdout());
    let notes = skipping.stderr();
    assert_eq!(notes.matches("such steps are skipped").count(), 1, "{notes}");
    // Nearly all of 339.
    let text = hot("hopeless", "batch_size = 16", "not_a_number = 'skip'").ended(1).error();
    assert!(text.contains("the last of 100 such steps in a row"), "{text}");
}

#[test]
fn weights_that_are_not_finite_are_not_saved() {
    let dir = task();
    // The decay alone is more than a float32 holds.
    let recipe = "max_epochs = 1\noptimizer = 'sgd'\nweight_decay = 1e30\nval_check_interval = 0.008";
    let path = job(&dir, "model", recipe);
    replace(&dir, &path, "lr = 3e-3", "lr = 1e12");
    let text = train(&dir, &path).ended(1).error();
    assert!(text.contains("cannot continue training: after step 1 some values of `bert."), "{text}");
    assert!(text.contains("hint: nothing was saved yet: start over with a smaller lr"), "{text}");
    assert!(!dir.path("model/training/position.json").exists());
}
