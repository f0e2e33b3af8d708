//! The model in training, on LibTorch. In: weights, batches. Out: losses, gradients, better weights. It must not read documents.
//!
//! | file | what |
//! |---|---|
//! | [`pretrained`] | encoder folder → weights with heads |
//! | [`device`] | CPU or CUDA devices |
//! | [`bert`] | BERT and the MRC heads |
//! | [`loss`] | logits and targets → loss |
//! | [`optimizer`] | gradients → new weights |
//! | [`schedule`] | the learning rate of every step |
//! | `data_parallel`, `device_step` | the network on every device, and a device's part of a step |
//! | `failure` | failures of LibTorch, and of numbers → errors |

pub mod bert;
pub(crate) mod data_parallel;
pub mod device;
pub(crate) mod device_step;
pub(crate) mod failure;
pub mod loss;
pub mod optimizer;
pub mod pretrained;
pub mod schedule;
