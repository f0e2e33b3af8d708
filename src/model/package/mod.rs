//! Model directories, wherever they are. In: what a job calls a model. Out: a folder with verified parts. It must not load ONNX
//! Runtime.
//!
//! | file | what |
//! |---|---|
//! | [`resolve`] | a model's name → its folder |
//! | [`directory`] | a model directory: its parts, verified |
//! | [`manifest`] | `quarry.json`: what a model is and where it comes from |
//! | [`embedded`] | the model inside the program |
//! | [`hub`] | models on the Hugging Face hub, through its own cache |

pub mod directory;
pub mod embedded;
pub mod hub;
pub mod manifest;
pub mod resolve;
