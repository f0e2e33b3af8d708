//! Upkeep of the tables. In: a store. Out: fewer, larger files; no orphaned ones. It must not change a row.
//!
//! | file | what |
//! |---|---|
//! | [`optimize`] | many small files → few large ones |
//! | [`vacuum`] | removes files that no log names |

pub mod optimize;
pub mod vacuum;
