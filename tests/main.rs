//! The one test binary: whole commands over real files, parity with numbers computed elsewhere, and the rules of the source tree.
#![allow(clippy::print_stderr, reason = "a test that skips says so, and why")]
#![allow(clippy::unwrap_used, reason = "a helper of a test fails it as the test itself would")]
#![allow(clippy::format_push_string, reason = "the text is short")]

mod architecture;
mod cache;
mod changed;
mod checkpoints;
#[cfg(feature = "cluster")]
mod cluster;
mod conll;
mod damage;
mod damaged_files;
mod docs;
mod doctor;
mod documents;
mod encoders;
mod engines;
mod errors;
mod evaluate;
mod forecast;
mod foreign;
mod gliner;
mod http;
mod hub;
mod integer_products;
mod jobs;
mod kinds;
mod late_interaction;
mod ledger;
mod moto;
mod objects;
mod parity;
mod plans;
mod preflight;
mod prepare;
mod profile;
mod promises;
mod providers;
mod replacement;
mod report;
mod run;
mod second_architecture;
mod secrets;
mod shell;
mod sql;
mod streams;
mod support;
mod torn;
#[cfg(feature = "telemetry")]
mod traces;
#[cfg(feature = "train")]
mod train;
mod r#try;
mod values;
mod web;
