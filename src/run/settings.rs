//! The settings of one run. In: the path of a job file and the flags of the command. Out: [`Settings`]; with the job read, `RunSettings`.
//! It must not open a store or a model.

use std::path::PathBuf;

#[cfg(feature = "cluster")]
use crate::cluster::address::ClusterAddress;
use crate::error::{Error, Result};
use crate::extract::settings::RuntimeSettings;
use crate::job::Job;
use crate::model::runtime::device::{Device, DeviceChoice};

/// What a run does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Extracts and commits.
    Run,
    /// Extracts, and writes nothing.
    DryRun,
    /// Prints what a run would do.
    Explain,
}

/// The settings of `quarry run`.
#[derive(Debug, Clone)]
#[allow(clippy::struct_excessive_bools, reason = "each is a flag of the command line")]
pub struct Settings {
    /// The job file.
    pub job: PathBuf,
    /// Values for its `${key}`.
    pub set: Vec<(String, String)>,
    /// What the run does.
    pub mode: Mode,
    /// Whether rows of another specification are replaced.
    pub replace: bool,
    /// Whether a replacement drops the old rows of files that were not read again.
    pub drop_missing: bool,
    /// The most documents to read.
    pub limit: Option<u64>,
    /// Whether the run summary is one JSON object.
    pub json: bool,
    /// A file for the run's metrics.
    pub metrics_file: Option<PathBuf>,
    /// Whether the time spent in each stage is printed.
    pub profile: bool,
    /// The cluster that extracts, if not this process.
    pub cluster: Option<String>,
}

/// The settings of one run with its job.
#[derive(Debug, Clone)]
#[allow(clippy::struct_excessive_bools, reason = "each is a flag of the command line")]
pub(crate) struct RunSettings {
    pub(crate) job: Job,
    pub(crate) mode: Mode,
    pub(crate) replace: bool,
    pub(crate) drop_missing: bool,
    pub(crate) limit: Option<u64>,
    pub(crate) json: bool,
    pub(crate) profile: bool,
    #[cfg(feature = "cluster")]
    pub(crate) cluster: Option<ClusterAddress>,
}

impl RunSettings {
    /// Where this process runs the model. A driver of a cluster only reads its settings: it needs no GPU, and measures nothing.
    pub(crate) fn runtime_here(&self) -> RuntimeSettings {
        let of_job = self.job.runtime.clone();
        if !self.extracts_elsewhere() {
            return of_job;
        }
        RuntimeSettings {
            device: DeviceChoice::Named(Device::Cpu.into()),
            library: of_job.library.filter(|library| library.exists()),
            batch_tokens: Some(of_job.batch_tokens.unwrap_or(1024)),
        }
    }

    /// Whether other processes extract.
    #[cfg(feature = "cluster")]
    pub(crate) fn extracts_elsewhere(&self) -> bool {
        matches!(self.cluster, Some(ClusterAddress::Scheduler { .. }))
    }

    /// Whether other processes extract.
    #[cfg(not(feature = "cluster"))]
    #[allow(clippy::unused_self, reason = "with clusters it depends on the settings")]
    pub(crate) const fn extracts_elsewhere(&self) -> bool {
        false
    }
}

impl Settings {
    /// Reads the job.
    ///
    /// # Errors
    /// As for [`Job::read`], and [`Error::Setting`] for a cluster that is none, or in a program that was built without them.
    pub(crate) fn read_job(&self) -> Result<RunSettings> {
        let Self { job, set, mode, replace, drop_missing, limit, json, profile, cluster, .. } = self;
        if cfg!(not(feature = "cluster")) && cluster.is_some() {
            return Err(Error::Setting {
                origin: "quarry run".into(),
                key: "--cluster".into(),
                reason: "this program was built without clusters".into(),
                hint: "build it with `--features cluster`".into(),
            });
        }
        Ok(RunSettings {
            job: Job::read(job, set)?,
            mode: *mode,
            replace: *replace,
            drop_missing: *drop_missing,
            limit: *limit,
            json: *json,
            profile: *profile,
            #[cfg(feature = "cluster")]
            cluster: cluster.as_deref().map(address).transpose()?,
        })
    }
}

#[cfg(feature = "cluster")]
fn address(text: &str) -> Result<ClusterAddress> {
    text.parse().map_err(|reason| Error::Setting {
        origin: "quarry run".into(),
        key: "--cluster".into(),
        reason,
        hint: "name the scheduler, such as df://127.0.0.1:50050".into(),
    })
}
