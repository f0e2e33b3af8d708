//! Labelled documents → batches. In: prepared folders. Out: examples with their targets, batch by batch. It must not compute with
//! LibTorch.
//!
//! | file | content |
//! |---|---|
//! | [`dataset`] | prepared folders → documents with gold |
//! | `labels` | the labels of a corpus → types of the schema |
//! | `remarks` | ignored rows → warnings |
//! | [`examples`] | documents → inputs with the positions of their answers |
//! | `outermost` | nested mentions → those that a tagger can mark |
//! | `tag_targets` | answers → the tags that each token may have |
//! | [`targets`] | examples → a batch and its targets |
//! | [`featurize`] | splits → their examples |
//! | `word_dropout` | the tensors of a batch → the same with words hidden |
//! | [`batch_sampler`] | examples → batches, epoch by epoch |

pub mod batch_sampler;
pub mod dataset;
pub mod examples;
pub mod featurize;
pub(crate) mod labels;
pub(crate) mod outermost;
pub(crate) mod remarks;
pub(crate) mod tag_targets;
pub mod targets;
pub mod word_dropout;
