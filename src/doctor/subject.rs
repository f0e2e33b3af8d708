//! The subject of the checks. In: arguments, and the job if there is one. Out: the values that the checks need. It must not check anything.

use std::path::PathBuf;
use std::time::Duration;

use tokio::runtime::Handle;

use crate::job::Job;
use crate::model::runtime::device::{DeviceChoice, Devices};
use crate::model::runtime::distribution::Distribution;
use crate::model::runtime::selection;

/// The share of the time limit that a child process gets, so that its check can still report a timeout.
const CHILD_SHARE: f64 = 0.88;

/// What the checks examine.
pub(crate) struct Subject {
    pub(crate) job: Option<Job>,
    pub(crate) model: PathBuf,
    pub(crate) library: Option<PathBuf>,
    pub(crate) device: DeviceChoice,
    pub(crate) store: Option<String>,
    pub(crate) runtime: Handle,
    /// Time limit of all checks together.
    pub(crate) limit: Duration,
}

impl Subject {
    pub(crate) fn likely_devices(&self) -> Devices {
        self.device.likely_in(self.job.as_ref().and_then(|job| job.extraction.precision))
    }

    pub(crate) fn likely_distribution(&self) -> Distribution {
        let device = self.likely_devices().first();
        let named = self.job.as_ref().and_then(|job| job.extraction.precision);
        selection::distribution(device, named.unwrap_or_else(|| selection::best_precision(device).0))
    }

    /// Time limit of a child process.
    pub(crate) fn child_limit(&self) -> Duration {
        self.limit.mul_f64(CHILD_SHARE)
    }
}
