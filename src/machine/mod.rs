//! Access to the machine: environment, files, time. In: names of variables, bytes to write. Out: values of variables, the cache
//! folder, files written atomically, hashes, stage times. It must not know models, documents or tables.
//!
//! | file | what |
//! |---|---|
//! | [`environment`] | environment variables, the cache folder |
//! | [`files`] | atomic writes, removal of leftovers of interrupted downloads |
//! | [`hash`] | SHA-256 of files and texts |
//! | [`panics`] | a boundary round libraries that panic on damaged input |
//! | [`stage_timer`] | time spent in a stage |

#[cfg(test)]
pub(crate) mod captured_events;
pub mod environment;
pub mod files;
pub mod hash;
pub mod panics;
pub mod stage_timer;
