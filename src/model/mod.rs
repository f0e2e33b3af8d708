//! Models and their runtime. In: a model directory or a checkpoint, a device. Out: checked weights, and sessions that compute
//! batches of inputs. It must not know documents, tables or how a graph is written.
//!
//! | module | what |
//! |---|---|
//! | [`precision`] | number formats and graph variants |
//! | [`blocks`] | linear layers, normalizations and tables: the parts of a description |
//! | [`config_error`] | reasons to refuse a `config.json` |
//! | [`encoder`] | `config.json` → the description of an encoder: its layers and the names of its tensors |
//! | [`head`] | the same for the head on it |
//! | [`config`] | `config.json`: encoder and head |
//! | [`weights`] | checkpoints in, checked tensors out |
//! | [`package`] | model directories: local, embedded, on the hub |
//! | [`runtime`] | ONNX Runtime's library, devices, sessions, batch tuning |

pub mod blocks;
pub mod config;
pub mod config_error;
pub mod encoder;
pub mod head;
pub mod package;
pub mod precision;
pub mod runtime;
pub mod weights;
