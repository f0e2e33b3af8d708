//! Reads arbitrary bytes as a checkpoint: `mkdir -p fuzz/corpus/checkpoint`, then
//! `cargo +nightly fuzz run checkpoint fuzz/corpus/checkpoint fuzz/seeds/checkpoint`. The test
//! `damaged_checkpoints_make_no_more_values_than_their_bytes_warrant` does the same briefly in every test run.
#![no_main]

use libfuzzer_sys::fuzz_target;
use quarry::model::weights::checkpoint::{VALUES_PER_BYTE, read_anything};

fuzz_target!(|bytes: &[u8]| assert!(read_anything(bytes) <= VALUES_PER_BYTE * bytes.len()));
