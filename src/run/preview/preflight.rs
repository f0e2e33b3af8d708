//! The preflight of a run. In: the job and its listing. Out: the loaded model, the documents still to be read, the store if there is one,
//! and why the run would be refused. It must not create, lock or repair a store.

use std::collections::BTreeMap;
use std::sync::Arc;

use datafusion::prelude::SessionContext;

use crate::cli::RunArgs;
use crate::console;
use crate::error::{Error, Result};
use crate::extract::known_documents::Replaced;
use crate::job::{Job, Ready};
use crate::query::session::register_store;
use crate::run::known::documents::{find_corrupt, replaced};
use crate::run::known::ledger::Ledger;
use crate::run::known::specification;
use crate::source::chunk::Chunk;
use crate::source::input::Documents;
use crate::source::listing::Listing;
use crate::source::location::StoreLocation;
use crate::store::delta_store::Store;
use crate::store::lock::StoreLock;
use crate::store::runs::UNKNOWN;
use tracing::info_span;

/// Everything a run knows before it starts.
pub(crate) struct Preflight {
    pub(crate) context: SessionContext,
    pub(crate) location: StoreLocation,
    /// None if there is no store yet.
    pub(crate) store: Option<Store>,
    pub(crate) ready: Ready,
    pub(crate) ledger: Ledger,
    /// The documents still to be read.
    pub(crate) documents: Documents,
    /// Number of files that are done.
    pub(crate) files_done: usize,
    /// Whether the run would drop old rows of another specification at its end.
    pub(crate) replaces: bool,
    /// Why the run would be refused.
    pub(crate) refusal: Option<Error>,
    /// Whether the ids have another type than the store's, so that they cannot be looked up there.
    pub(crate) other_ids: bool,
    /// The run that is writing to the store.
    pub(crate) writer: Option<String>,
    /// Rows that later rows with the same id replace.
    pub(crate) replaced: Arc<Replaced>,
    /// The input offset (file, row) at which `--limit` ends the run.
    pub(crate) limit: Option<(usize, i64)>,
}

impl Preflight {
    pub(crate) async fn new(
        context: SessionContext,
        job: &Job,
        listing: Listing,
        location: StoreLocation,
        run_id: &str,
        arguments: &RunArgs,
    ) -> Result<Self> {
        let exists = Store::id_type_at(&location).await?.is_some();
        let writer = StoreLock::holder(&location);
        let store = if exists { Some(Store::open_existing(location.clone()).await?) } else { None };
        // As in a run, errors in the input are reported before the model is loaded.
        let early = if exists {
            None
        } else {
            Some(Documents::inspect(&context, job.input.clone(), listing.clone(), 0).await?)
        };
        job.check_gold(&context).await?;
        let ready = load(job)?;
        let mut ledger = Ledger::empty(run_id, &ready.spec_id, &job.input);
        let (mut replacement, mut refusal) = (false, None);
        if let Some(store) = &store {
            register_store(&context, store).await?;
            ledger = Ledger::read(&context, store, run_id, &ready.spec_id, &job.input).await?;
            match specification::check(&context, store, &ready, arguments.replace).await {
                Ok(found) => replacement = found,
                Err(error @ Error::Refused { .. }) => refusal = Some(error),
                Err(error) => return Err(error),
            }
        }
        let (listing, files_done) = ledger.skip_done(listing);
        let mut documents = match early {
            Some(documents) => documents,
            None => Documents::inspect(&context, job.input.clone(), listing, files_done).await?,
        };
        let store_with_files = store.as_ref().filter(|_| !documents.files.is_empty());
        let id_error = store_with_files.and_then(|store| store.expect_ids(&documents.id_type).err());
        let other_ids = id_error.is_some();
        let finished_rows = ledger.finished_rows();
        let replaced = replaced(&context, &mut documents, finished_rows).await?;
        let all_rows = documents.whole(|path| finished_rows.get(path).copied().unwrap_or(0));
        let limit = match arguments.limit {
            Some(count) => documents.place_behind(&context, &all_rows, count).await?,
            None => None,
        };
        Ok(Self {
            context,
            location,
            store,
            ready,
            ledger,
            documents,
            files_done,
            replaces: replacement,
            refusal: refusal.or(id_error),
            other_ids,
            writer,
            replaced,
            limit,
        })
    }

    /// The row at which each file that is done in part resumes.
    pub(crate) fn finished_rows(&self) -> &BTreeMap<String, i64> {
        self.ledger.finished_rows()
    }

    /// All rows that a run would read.
    pub(crate) fn all_rows(&self) -> Chunk {
        match self.limit {
            Some((file, row)) => self.unlimited().before(file, row).unwrap_or_default(),
            None => self.unlimited(),
        }
    }

    /// The rows after the limit; none without a limit.
    pub(crate) fn after_limit(&self) -> Chunk {
        let Some((file, row)) = self.limit else { return Chunk::default() };
        let mut after = self.unlimited();
        after.ranges.retain(|range| range.file >= file);
        if let Some(first) = after.ranges.first_mut().filter(|range| range.file == file) {
            first.rows.start = row.min(first.rows.end);
        }
        after
    }

    fn unlimited(&self) -> Chunk {
        self.documents.whole(|path| self.finished_rows().get(path).copied().unwrap_or(0))
    }

    /// Excludes, as a run does, the unreadable rows of the corrupt files that caused an error in a chunk. Returns the error if all
    /// files can be read.
    pub(crate) async fn exclude_corrupt(&mut self, error: Error, chunk: &Chunk) -> Result<()> {
        find_corrupt(&self.context, &mut self.documents, error, chunk).await?;
        // Unreadable rows replace no others.
        self.replaced = replaced(&self.context, &mut self.documents, self.ledger.finished_rows()).await?;
        Ok(())
    }

    /// A description of an incomplete commit, if there is one and no active run is known to be writing it.
    pub(crate) fn incomplete_commit(&self) -> Option<String> {
        let number = self.store.as_ref().and_then(Store::incomplete_commit).filter(|_| self.writer.is_none())?;
        Some(match self.location.folder() {
            Some(_) => format!("a killed run left commit {number} incomplete"),
            None => format!("commit {number} is incomplete, its run is {UNKNOWN}"),
        })
    }
}

/// Loads the model. This blocks its thread for a while, so the runtime moves its other tasks, such as signal handling, to another
/// thread: on a machine with one core no other thread is free.
pub(crate) fn load(job: &Job) -> Result<Ready> {
    info_span!("load the model").in_scope(|| tokio::task::block_in_place(|| job.load(&console::note)))
}
