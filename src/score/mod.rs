//! Scores of mentions. In: counts of predicted, gold and correct mentions. Out: precision, recall, F1, partial credit for overlaps,
//! and confidence intervals. It must stay pure, as `text` is.
//!
//! | file | what |
//! |---|---|
//! | [`counts`] | counts → precision, recall, F1 |
//! | [`counting`] | which mentions count: all, or those that the reference implementation counts |
//! | [`calibration`] | temperatures, thresholds, and how far scores are from the share of right mentions |
//! | [`overlap`] | partial credit for overlapping mentions |
//! | [`side_by_side`] | several systems on the same gold, as a table |
//! | [`bootstrap`] | confidence intervals and significance tests by resampling documents |

pub mod bootstrap;
pub mod calibration;
pub mod counting;
pub mod counts;
pub mod overlap;
pub mod side_by_side;
