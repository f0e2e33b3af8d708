//! Access to the machine: environment, files, time. In: names of variables, bytes to write. Out: values of variables, the cache,
//! files written atomically, hashes, stage times. It must not know models, documents or tables.
//!
//! | file | what |
//! |---|---|
//! | [`cache`] | folders of cached files; a temporary one where the cache cannot be written |
//! | [`environment`] | environment variables, the cache folder |
//! | [`files`] | atomic writes, removal of leftovers of interrupted downloads |
//! | [`hash`] | SHA-256 of files and texts |
//! | [`panics`] | a boundary round libraries that panic on damaged input |
//! | [`stage_timer`] | time spent in a stage |
//! | [`synced_files`] | the local disk as an object store that survives a power failure |

pub mod cache;
#[cfg(test)]
pub(crate) mod captured_events;
pub mod environment;
pub(crate) mod fault;
pub mod files;
pub mod hash;
pub mod panics;
pub mod stage_timer;
pub mod synced_files;
