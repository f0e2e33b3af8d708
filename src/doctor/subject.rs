//! What the checks look at. In: arguments, and the job if there is one. Out: the values every check needs. It must not check anything.

use std::path::PathBuf;
use std::time::Duration;

use tokio::runtime::Handle;

use crate::job::Job;
use crate::model::runtime::device::Device;
use crate::model::runtime::device::DeviceChoice;
use crate::model::runtime::distribution::Distribution;
use crate::model::runtime::selection;

/// A child process of a check has this share of the time, so that the check can say what it waited for.
const CHILD_SHARE: f64 = 0.88;

/// What the checks look at.
pub(crate) struct Subject {
    pub(crate) job: Option<Job>,
    pub(crate) model: PathBuf,
    pub(crate) library: Option<PathBuf>,
    pub(crate) device: DeviceChoice,
    pub(crate) store: Option<String>,
    pub(crate) runtime: Handle,
    /// How long all checks together may take.
    pub(crate) limit: Duration,
}

impl Subject {
    pub(crate) fn likely_device(&self) -> Device {
        self.device.likely_in(self.job.as_ref().and_then(|job| job.precision))
    }

    pub(crate) fn likely_distribution(&self) -> Distribution {
        let device = self.likely_device();
        let named = self.job.as_ref().and_then(|job| job.precision);
        selection::distribution(device, named.unwrap_or_else(|| selection::best_precision(device).0))
    }

    /// How long a child process may take.
    pub(crate) fn child_limit(&self) -> Duration {
        self.limit.mul_f64(CHILD_SHARE)
    }
}
