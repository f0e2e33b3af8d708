//! Model directories: local, embedded or on the hub. In: a model's name in a job. Out: a folder with verified files. It must not
//! load ONNX Runtime.
//!
//! | file | what |
//! |---|---|
//! | [`resolve`] | a model's name → its folder |
//! | [`directory`] | a model directory with verified files |
//! | [`contents`] | a folder that another program wrote → its weights, configuration, and what is assumed of it |
//! | [`manifest`] | `quarry.json`: a model's properties and origin |
//! | `external_data` | an ONNX file → the files that hold its weights, and the names of its inputs and outputs |
//! | `gliner` | a folder of the GLiNER family → its graph, and how it reads words |
//! | [`embedded`] | the model inside the program |
//! | [`hub`] | models on the Hugging Face hub, through its own cache |

pub mod contents;
pub mod directory;
pub mod embedded;
mod external_data;
mod gliner;
pub mod hub;
pub mod manifest;
pub mod resolve;
