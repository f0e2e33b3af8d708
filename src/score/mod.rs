//! How right mentions are. In: counts of predicted, gold and correct mentions. Out: precision, recall, F1, credit for overlaps,
//! intervals. It is pure, as `text` is.
//!
//! | file | what |
//! |---|---|
//! | [`counts`] | counts → precision, recall, F1 |
//! | [`counting`] | which mentions count: all, or as the reference implementation counts |
//! | [`overlap`] | partial credit for overlapping mentions |
//! | [`bootstrap`] | intervals and tests by resampling documents |

pub mod bootstrap;
pub mod counting;
pub mod counts;
pub mod overlap;
