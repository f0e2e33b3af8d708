//! Checkpoints and their tensors. In: files of PyTorch, Lightning and Hugging Face. Out: named tensors, complete and of the right
//! shapes. It must not execute code in a file, or allocate memory that only a file's header claims.
//!
//! | file | what |
//! |---|---|
//! | [`checkpoint`] | checkpoint folder or file → the weights of a model, and its tokenizer |
//! | [`weights_file`] | a weights file, or shards with an index → named tensors |
//! | [`vocabulary`] | `vocab.txt` and the settings beside it → a tokenizer |
//! | [`pytorch`] | PyTorch's file format → named tensors |
//! | [`unpickle`] | bytes of a Python pickle → [`pickle`], its values, without running anything |
//! | [`safetensors_file`] | safetensors in fp32, fp16 or int8 per row |
//! | [`tensors`] | named tensors → those of an encoder and of its head, checked against their descriptions |

pub mod checkpoint;
pub mod pickle;
pub mod pytorch;
pub mod safetensors_file;
pub mod tensors;
pub mod unpickle;
pub mod vocabulary;
pub mod weights_file;
