//! A model and what runs it. In: a model directory or a checkpoint, a device. Out: checked weights, and sessions that answer batches
//! of queries. It may not know documents, tables or how a graph is written.
//!
//! | file | what |
//! |---|---|
//! | [`directory`] | a model directory: its parts, verified |
//! | [`manifest`] | `quarry.json`: what a model is and where it comes from |
//! | [`find`] | what a job calls a model → its folder |
//! | [`embedded`] | the model inside the program |
//! | [`hub`] | models on the Hugging Face hub, through its own cache |
//! | [`config`] | the encoder's shape, from config.json |
//! | [`flavour`] | number formats and forms of a graph |
//! | [`checkpoint`] | checkpoint folder or file → named tensors |
//! | [`pytorch`] | PyTorch's file format → named tensors |
//! | [`unpickle`] | bytes of a Python pickle → [`pickle`], its values, without running anything |
//! | [`stored`] | safetensors in fp32, fp16 or int8 per row |
//! | [`weights`] | the tensors of an MRC model, complete and of the right shapes |
//! | [`files`] | files written whole or not at all; what broken downloads left, removed |
//! | [`hash`] | SHA-256 of files and texts |
//! | [`distribution`] | the distributions of ONNX Runtime, and the pinned release |
//! | [`library`] | ONNX Runtime's shared library: found, fetched, checked, loaded |
//! | `wheel` | its PyPI wheels: pinned, fetched, unpacked |
//! | [`device`] | CPU or CUDA, and how a session gets there |
//! | [`hardware`] | what the machine is and how busy |
//! | [`choice`] | device, number format and library: what `auto` takes, and why |
//! | [`session`] | one loaded graph: `QueryBatch` → `Logits` |
//! | [`stage`] | time spent in a stage of the work |
//! | [`pool`] | sessions on their threads, behind one bounded channel |
//! | [`budget`] | how many tokens a batch should have: found once, remembered |

pub mod budget;
pub mod checkpoint;
pub mod choice;
pub mod config;
pub mod device;
pub mod directory;
pub mod distribution;
pub mod embedded;
pub mod files;
pub mod find;
pub mod flavour;
pub mod hardware;
pub mod hash;
pub mod hub;
pub mod library;
pub mod manifest;
pub mod pickle;
pub mod pool;
pub mod pytorch;
pub mod session;
pub mod stage;
pub mod stored;
pub mod unpickle;
pub mod weights;
mod wheel;

use std::ffi::OsString;
use std::path::PathBuf;

use crate::error::{Error, Result};

/// An environment variable; one that is empty is as good as unset.
pub fn variable(name: &str) -> Option<OsString> {
    std::env::var_os(name).filter(|value| !value.is_empty())
}

/// The per-user cache of fetched libraries and derived graphs: `$QUARRY_CACHE`, or `quarry` in `$XDG_CACHE_HOME` or `~/.cache`.
pub fn cache_folder() -> Result<PathBuf> {
    let from = |name: &str| variable(name).map(PathBuf::from);
    from("QUARRY_CACHE")
        .or_else(|| from("XDG_CACHE_HOME").map(|cache| cache.join("quarry")))
        .or_else(|| from("HOME").map(|home| home.join(".cache/quarry")))
        .ok_or_else(|| Error::Setting {
            origin: "environment".into(),
            key: "QUARRY_CACHE".into(),
            reason: "there is no cache folder: neither QUARRY_CACHE, XDG_CACHE_HOME nor HOME is set".into(),
            hint: "set QUARRY_CACHE to a folder that may be written".into(),
        })
}
