//! The preflight of a run, of `--dry-run` and of `--explain`. In: the settings. Out: the loaded model, the documents still to be read,
//! the store if there is one, and, for `--dry-run` and `--explain`, why a run would be refused. These two must not lock, create or repair
//! a store.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use datafusion::prelude::SessionContext;
use tracing::{Instrument as _, info_span};

use crate::error::{Error, Result};
use crate::extract::extractor::Extractor;
use crate::query::session::{extraction_session, register_store};
use crate::run::known::documents::{find_corrupt, find_known_damage, repeated};
use crate::run::known::ledger::Ledger;
use crate::run::known::specification;
use crate::run::settings::{Mode, RunSettings};
use crate::run::summary::run_summary::RunSummary;
use crate::source::chunk::Chunk;
use crate::source::input::Documents;
use crate::source::listing::Listing;
use crate::source::location::StoreLocation;
use crate::store::delta_store::Store;
use crate::store::lock::StoreLock;
use crate::store::runs::UNKNOWN;

/// Everything a run knows before it starts.
pub(crate) struct Preflight {
    pub(crate) context: SessionContext,
    pub(crate) location: StoreLocation,
    /// `None` if there is no store yet and the mode writes nothing.
    pub(crate) store: Option<Store>,
    /// The lock of a run that writes.
    pub(crate) lock: Option<StoreLock>,
    pub(crate) extractor: Arc<Extractor>,
    pub(crate) ledger: Ledger,
    /// The documents still to be read.
    pub(crate) documents: Documents,
    /// Number of files that are done.
    pub(crate) files_done: usize,
    /// Whether the run would drop old rows of another specification at its end.
    pub(crate) replaces: bool,
    /// Why a run would be refused; always `None` for a run, which fails instead.
    pub(crate) refusal: Option<Error>,
    /// Whether the ids have another type than the store's, so that they cannot be looked up there.
    pub(crate) other_ids: bool,
    /// Another run that is writing to the store.
    pub(crate) writer: Option<String>,
}

impl Preflight {
    pub(crate) async fn new(settings: &RunSettings, summary: &RunSummary) -> Result<Self> {
        let (job, run_id, writes) = (&settings.job, summary.run_id.as_str(), settings.mode == Mode::Run);
        let context = extraction_session(&summary.monitor)?;
        let listing = Listing::find(&context, &job.input.documents).instrument(info_span!("list the input")).await?;
        let location = StoreLocation::parse(&job.file.store.path)?;
        if listing.covers(&location) {
            return Err(Error::Setting {
                origin: "job".into(),
                key: "store.path".into(),
                reason: format!(
                    "the store `{location}` is inside `{}`, so its own files would be documents",
                    listing.documents
                ),
                hint: "put the store elsewhere, or name the documents with a glob such as *.parquet".into(),
            });
        }
        if let Some(passed_over) = listing.passed_over() {
            tracing::warn!("{passed_over}");
        }
        let known_type = Store::id_type_at(&location).await?;
        // Errors in the input of a new store are reported before the model is loaded and the store is created.
        let inspected = match &known_type {
            Some(_) => Err(listing),
            None => Ok(Documents::inspect(&context, job.input.clone(), listing, 0).await?),
        };
        // An existing store refuses a second run immediately. A new store is created only for a job that can run.
        let holder = if writes { None } else { StoreLock::holder(&location) };
        let mut lock = if writes && known_type.is_some() { Some(StoreLock::acquire(&location, run_id)?) } else { None };
        let mut store =
            if !writes && known_type.is_some() { Some(Store::open_existing(location.clone()).await?) } else { None };
        job.check_gold(&context).await?;
        let extractor = load(settings)?;
        if writes && lock.is_none() {
            lock = Some(StoreLock::acquire(&location, run_id)?);
        }
        let new_type = || inspected.as_ref().ok().map(|documents| documents.id_type.clone());
        if let Some(id_type) = known_type.or_else(new_type).filter(|_| writes) {
            let opening = Store::open(location.clone(), id_type).instrument(info_span!("open the store"));
            store = Some(opening.await?);
        }
        let mut ledger = Ledger::empty(run_id, extractor.spec_id(), &job.input);
        let (mut replaces, mut refusal) = (false, None);
        if let Some(store) = &mut store {
            if let Some(number) = store.incomplete_commit().filter(|_| writes) {
                tracing::warn!("a killed run left commit {number} incomplete; removing it");
                store.roll_back_incomplete_commit(run_id).await?;
            }
            register_store(&context, store).await?;
            ledger = Ledger::read(&context, store, run_id, extractor.spec_id(), &job.input).await?;
            match specification::check(&context, store, extractor.spec(), settings.replace).await {
                Ok(found) => replaces = found,
                Err(error @ Error::Refused { .. }) if !writes => refusal = Some(error),
                Err(error) => return Err(error),
            }
        }
        let (documents, files_done) = match inspected {
            Ok(documents) => {
                ledger.list(documents.files.iter().chain(documents.unreadable.iter().map(|(file, _)| file)));
                (documents, 0)
            }
            Err(listing) => {
                let (listing, files_done) = ledger.skip_done(listing);
                let mut documents = Documents::inspect(&context, job.input.clone(), listing, files_done).await?;
                find_known_damage(&context, &mut documents, &mut ledger).await?;
                (documents, files_done)
            }
        };
        let store_with_files = store.as_ref().filter(|_| !documents.files.is_empty());
        let id_error = store_with_files.and_then(|store| store.expect_ids(&documents.id_type).err());
        let other_ids = id_error.is_some();
        let refusal = match refusal.or(id_error) {
            Some(refusal) if writes => return Err(refusal),
            refusal => refusal,
        };
        Ok(Self {
            context,
            location,
            store,
            lock,
            extractor,
            ledger,
            documents,
            files_done,
            replaces,
            refusal,
            other_ids,
            writer: holder,
        })
    }

    /// Finds the ids that occur more than once, and where `limit` ends the run.
    pub(crate) async fn look_ahead(mut self, limit: Option<u64>) -> Result<Preview> {
        let finished_rows = self.ledger.finished_rows();
        let whole = |documents: &Documents| documents.whole(|path| finished_rows.get(path).copied().unwrap_or(0));
        let repeated = repeated(&self.context, &mut self.documents, whole).await?;
        let all_rows = whole(&self.documents);
        let limit = match limit {
            Some(count) => self.documents.place_behind(&self.context, &all_rows, count).await?,
            None => None,
        };
        Ok(Preview { preflight: self, repeated, limit })
    }
}

/// A preflight that knows which rows a run would read.
pub(crate) struct Preview {
    pub(crate) preflight: Preflight,
    /// The digests of ids that occur more than once.
    pub(crate) repeated: Arc<HashSet<u128>>,
    /// The input offset (file, row) at which `--limit` ends the run.
    pub(crate) limit: Option<(usize, i64)>,
}

impl Preview {
    /// The row at which each file that is done in part resumes.
    pub(crate) fn finished_rows(&self) -> &BTreeMap<String, i64> {
        self.preflight.ledger.finished_rows()
    }

    /// All rows that a run would read.
    pub(crate) fn all_rows(&self) -> Chunk {
        match self.limit {
            Some((file, row)) => self.unlimited().before(file, row).unwrap_or_default(),
            None => self.unlimited(),
        }
    }

    fn unlimited(&self) -> Chunk {
        self.preflight.documents.whole(|path| self.finished_rows().get(path).copied().unwrap_or(0))
    }

    /// Excludes, as a run does, the unreadable rows of the corrupt files that caused an error in a chunk. Returns the error if all
    /// files can be read.
    pub(crate) async fn exclude_corrupt(&mut self, error: Error, chunk: &Chunk) -> Result<()> {
        let Preflight { context, documents, .. } = &mut self.preflight;
        find_corrupt(context, documents, error, chunk).await
    }

    /// A description of an incomplete commit, if there is one and no active run is known to be writing it.
    pub(crate) fn incomplete_commit(&self) -> Option<String> {
        let Preflight { store, writer, location, .. } = &self.preflight;
        let number = store.as_ref().and_then(Store::incomplete_commit).filter(|_| writer.is_none())?;
        Some(match location.folder() {
            Some(_) => format!("a killed run left commit {number} incomplete"),
            None => format!("commit {number} is incomplete, its run is {UNKNOWN}"),
        })
    }
}

/// Loads the model. This blocks its thread for a while, so the runtime moves its other tasks, such as signal handling, to another
/// thread: on a machine with one core no other thread is free.
fn load(settings: &RunSettings) -> Result<Arc<Extractor>> {
    let load = || {
        let (spec, model) = settings.job.extraction.resolve()?;
        let runtime = settings.runtime_here();
        Extractor::shared_or(&spec, &runtime, || Extractor::with_model(&spec, &model, &runtime))
    };
    info_span!("load the model").in_scope(|| tokio::task::block_in_place(load))
}
