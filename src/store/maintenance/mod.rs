//! Maintenance of the tables. In: a store. Out: fewer, larger files and no orphaned files. It must not change a row.
//!
//! | file | what |
//! |---|---|
//! | [`optimize`] | many small files → few large ones |
//! | [`vacuum`] | removes files that are in no log |

pub mod optimize;
pub mod vacuum;
