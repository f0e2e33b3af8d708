//! Any bytes as a checkpoint: `mkdir -p fuzz/corpus/checkpoint`, then
//! `cargo +nightly fuzz run checkpoint fuzz/corpus/checkpoint fuzz/seeds/checkpoint`. The test `damaged_checkpoints_never_panic` does the
//! same for a moment with every run of the tests.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| quarry::model::weights::checkpoint::read_anything(bytes));
