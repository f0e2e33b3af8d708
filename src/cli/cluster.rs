//! The arguments of `quarry scheduler` and `quarry executor`. In: arguments. Out: clap structs, whose doc comments are the help texts, and the
//! settings. It must not connect.
#![allow(clippy::doc_markdown, reason = "doc comments here are help texts, read without markup")]

use std::path::PathBuf;

use clap::Args;

#[cfg(feature = "cluster")]
use crate::cluster::{executor, scheduler};
use crate::model::runtime::device::DeviceChoice;

/// Start the scheduler of a cluster, which gives chunks of jobs to executors.
///
/// It listens on port 50050, for drivers (`quarry run --cluster`) and executors of the same version. On the same port HTTP answers `/healthz`,
/// `/readyz` (an executor is registered), `/executors` and `/metrics`.
#[derive(Debug, Clone, Args)]
pub struct SchedulerArgs {
    /// Options of Ballista's scheduler, such as `-- --bind-port 50060`; `-- --help` lists them.
    #[arg(last = true, value_name = "BALLISTA OPTIONS")]
    pub options: Vec<String>,
}

/// Start an executor of a cluster, which extracts chunks of jobs.
///
/// It reads the documents and writes the data files of the store itself, with credentials from its environment, and keeps models open between
/// jobs. Models and libraries that it fetches are kept in QUARRY_CACHE.
#[derive(Debug, Clone, Args)]
pub struct ExecutorArgs {
    /// The scheduler: `df://HOST:PORT`.
    pub scheduler: String,
    /// The device of the models, such as `auto`, `cpu` or `cuda:0`. By default that of each job.
    #[arg(long)]
    pub device: Option<DeviceChoice>,
    /// How many chunks run at a time. They share the model: more than two help only where reading waits for a network.
    #[arg(long, default_value_t = 2, value_parser = positive)]
    pub slots: usize,
    /// Keep fetched models and libraries, and what is derived from them, in this folder instead of QUARRY_CACHE.
    #[arg(long, value_name = "FOLDER")]
    pub cache: Option<PathBuf>,
    /// Serve what the executor has done as `/metrics` for Prometheus, such as on 0.0.0.0:50054.
    #[arg(long, value_name = "HOST:PORT")]
    pub metrics: Option<String>,
    /// Options of Ballista's executor, such as `-- --bind-port 50061`; `-- --help` lists them.
    #[arg(last = true, value_name = "BALLISTA OPTIONS")]
    pub options: Vec<String>,
}

fn positive(text: &str) -> Result<usize, String> {
    text.parse().ok().filter(|count| *count > 0).ok_or_else(|| "it is a whole number from 1".to_owned())
}

#[cfg(feature = "cluster")]
impl SchedulerArgs {
    /// The settings of the command.
    pub fn settings(self) -> scheduler::Settings {
        scheduler::Settings { options: self.options }
    }
}

#[cfg(feature = "cluster")]
impl ExecutorArgs {
    /// The settings of the command.
    pub fn settings(self) -> executor::Settings {
        let Self { scheduler, device, slots, cache, metrics, options } = self;
        executor::Settings { scheduler, device, slots, cache, metrics, options }
    }
}
