//! Checkpoints in, tensors out. In: files as PyTorch, Lightning and Hugging Face write them. Out: named tensors, complete and of the
//! right shapes. It must not run anything that a file contains, nor allocate what a file merely claims.
//!
//! | file | what |
//! |---|---|
//! | [`checkpoint`] | checkpoint folder or file → named tensors |
//! | [`pytorch`], [`pickle`], `unpickle` | PyTorch's file format |
//! | [`safetensors_file`] | safetensors in fp32, fp16 or int8 per row |
//! | [`tensors`] | the tensors of an MRC model |

pub mod checkpoint;
pub mod pickle;
pub mod pytorch;
pub mod safetensors_file;
pub mod tensors;
pub(crate) mod unpickle;
