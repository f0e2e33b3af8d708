//! Models and their runtime. In: a model directory or a checkpoint, a device. Out: checked weights, and sessions that compute
//! batches of queries. It must not know documents, tables or how a graph is written.
//!
//! | folder | what |
//! |---|---|
//! | [`precision`] | number formats and graph variants |
//! | [`encoder`] | the encoder's configuration |
//! | [`weights`] | checkpoints in, checked tensors out |
//! | [`package`] | model directories: local, embedded, on the hub |
//! | [`runtime`] | ONNX Runtime's library, devices, sessions, batch tuning |

pub mod encoder;
pub mod package;
pub mod precision;
pub mod runtime;
pub mod weights;
