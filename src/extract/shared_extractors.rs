//! The extractors of this process that are in use: partitions of one plan, and a driver beside them, share a model. In: what an extractor
//! is opened with. Out: the one that is open, or a new one. It must not keep a model open that nobody uses.

use std::sync::{Arc, Mutex, PoisonError, Weak};

use crate::error::Result;
use crate::extract::extractor::Extractor;
use crate::extract::settings::RuntimeSettings;
use crate::extract::spec::ExtractionSpec;

/// The extractors in use, by what they were opened with.
static SHARED: Mutex<Vec<(ExtractionSpec, RuntimeSettings, Weak<Extractor>)>> = Mutex::new(Vec::new());

impl Extractor {
    /// The extractor of this process for a specification: the one that is open, or a new one. It is closed when the last one who uses it
    /// drops it.
    ///
    /// # Errors
    /// As for [`Extractor::open`].
    pub fn shared(spec: &ExtractionSpec, runtime: &RuntimeSettings) -> Result<Arc<Self>> {
        Self::shared_or(spec, runtime, || Self::open(spec, runtime))
    }

    /// [`Extractor::shared`], opened by `open` if there is none.
    ///
    /// # Errors
    /// Those of `open`.
    pub fn shared_or(
        spec: &ExtractionSpec,
        runtime: &RuntimeSettings,
        open: impl FnOnce() -> Result<Self>,
    ) -> Result<Arc<Self>> {
        // Held while a model is opened, so that two partitions do not open it twice.
        let mut shared = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
        shared.retain(|(.., extractor)| extractor.strong_count() > 0);
        let same = |(of, on, _): &&(ExtractionSpec, RuntimeSettings, _)| of == spec && on == runtime;
        if let Some(extractor) = shared.iter().find(same).and_then(|(.., extractor)| extractor.upgrade()) {
            return Ok(extractor);
        }
        let extractor = Arc::new(open()?);
        shared.push((spec.clone(), runtime.clone(), Arc::downgrade(&extractor)));
        Ok(extractor)
    }
}
