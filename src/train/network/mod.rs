//! The model in training, on LibTorch. In: weights, batches. Out: losses, gradients, updated weights. It must not read documents.
//!
//! | file | content |
//! |---|---|
//! | [`pretrained`] | encoder folder → weights with heads |
//! | `provenance` | encoder folder → its name and how it was trained |
//! | [`device`] | CPU or CUDA devices |
//! | `dropout` | a tensor and a rate → the tensor with values dropped |
//! | [`encoder`] | leaf tensors; the encoder, computed from its description, with its attention |
//! | [`heads`] | the network: the encoder with its heads |
//! | [`loss`] | logits and targets → loss |
//! | `token_loss` | the losses of taggers and of question answering |
//! | `data_parallel`, `device_step` | the network on every device, and a device's part of a step |
//! | `failure` | failures of LibTorch and diverged trainings → errors |

pub(crate) mod data_parallel;
pub mod device;
pub(crate) mod device_step;
pub(crate) mod dropout;
pub mod encoder;
pub(crate) mod failure;
pub mod heads;
pub mod loss;
pub mod pretrained;
pub(crate) mod provenance;
pub(crate) mod token_loss;
