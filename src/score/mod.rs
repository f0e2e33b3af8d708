//! Scores of mentions. In: counts of predicted, gold and correct mentions. Out: precision, recall, F1, partial credit for overlaps,
//! and confidence intervals. It must stay pure, as `text` is.
//!
//! | file | what |
//! |---|---|
//! | [`counts`] | counts → precision, recall, F1 |
//! | [`counting`] | which mentions count: all, or those that the reference implementation counts |
//! | [`overlap`] | partial credit for overlapping mentions |
//! | [`bootstrap`] | confidence intervals and significance tests by resampling documents |

pub mod bootstrap;
pub mod counting;
pub mod counts;
pub mod overlap;
