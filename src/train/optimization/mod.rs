//! From gradients to weights. In: leaves with gradients, the recipe. Out: updated weights, their average, and the rates of every step. It must not
//! know the network.
//!
//! | file | content |
//! |---|---|
//! | [`optimizer`] | gradients → new weights |
//! | [`average`] | the weights of all steps → their average |
//! | [`schedule`] | learning rate and momentum of every step |

pub mod average;
pub mod optimizer;
pub mod schedule;
