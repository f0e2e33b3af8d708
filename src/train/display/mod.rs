//! What a training shows. In: its history. Out: a dashboard or lines, and curves as a picture. It must not compute figures.
//!
//! | file | what |
//! |---|---|
//! | [`history`] | figures of steps and scores |
//! | [`curves`] | the figures as `curves.svg` |
//! | `glance` | where a training stands |
//! | `dashboard` | the figures in a terminal |
//! | [`screen`] | dashboard or lines |

pub mod curves;
pub(crate) mod dashboard;
pub(crate) mod glance;
pub mod history;
pub mod screen;
