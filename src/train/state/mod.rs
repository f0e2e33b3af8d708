//! A training on disk, and what can end it. In: positions, tensors, signals. Out: checkpoints from which a training resumes, or the reason
//! why it cannot. It must not train.
//!
//! | file | content |
//! |---|---|
//! | [`checkpoint`] | position and tensors on disk |
//! | [`fingerprint`] | the identity of a training |
//! | `output` | the output folder, and reasons to refuse it |
//! | [`signals`] | signals that stop the training |

pub mod checkpoint;
pub mod fingerprint;
pub(crate) mod output;
pub mod signals;
