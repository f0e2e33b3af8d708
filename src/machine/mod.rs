//! What this machine provides, below everything else. In: names of variables, bytes to write. Out: settings, the cache folder, files
//! written whole, hashes, stage times. It must not know models, documents or tables.
//!
//! | file | what |
//! |---|---|
//! | [`environment`] | environment variables, the cache folder |
//! | [`files`] | files written whole or not at all; removes what interrupted downloads left |
//! | [`hash`] | SHA-256 of files and texts |
//! | [`stage_timer`] | time spent in a stage of the work |

pub mod environment;
pub mod files;
pub mod hash;
pub mod stage_timer;
