//! What a run would find, without writing anything. In: the job and its listing. Out: the loaded model, the documents still to be read,
//! the store if there is one, and why the run would be refused. It may not make, lock or repair a store.

use std::collections::BTreeMap;
use std::sync::Arc;

use datafusion::prelude::SessionContext;

use crate::cli::RunArgs;
use crate::console;
use crate::error::{Error, Result};
use crate::extract::ledger_hashes::Replaced;
use crate::job::{Job, Ready};
use crate::query::session::register_store;
use crate::run::known::documents::{find_broken, replaced};
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

/// Everything a run knows before it begins.
pub(crate) struct Preflight {
    pub(crate) context: SessionContext,
    pub(crate) location: StoreLocation,
    /// None where there is no store yet.
    pub(crate) store: Option<Store>,
    pub(crate) ready: Ready,
    pub(crate) ledger: Ledger,
    /// Those that are still to be read.
    pub(crate) documents: Documents,
    /// Files that are done.
    pub(crate) files_done: usize,
    /// Whether old rows of another specification would go at the end.
    pub(crate) replaces: bool,
    /// Why the run would not begin.
    pub(crate) refusal: Option<Error>,
    /// Whether the ids are of another type than the store's, so that none of them can be looked up there.
    pub(crate) other_ids: bool,
    /// The run that writes to the store at this moment.
    pub(crate) writer: Option<String>,
    /// Rows that later rows with the same id replace.
    pub(crate) replaced: Arc<Replaced>,
    /// The place where `--limit` ends the run.
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
        let there = Store::id_type_at(&location).await?.is_some();
        let writer = StoreLock::holder(&location);
        let store = if there { Some(Store::open_existing(location.clone()).await?) } else { None };
        // As in a run, what is wrong with the input is said before the model is loaded.
        let early =
            if there { None } else { Some(Documents::inspect(&context, job.input.clone(), listing.clone(), 0).await?) };
        job.check_gold(&context).await?;
        let ready = load(job)?;
        let mut ledger = Ledger::empty(run_id, &ready.spec_id, &job.input);
        let (mut beside, mut refusal) = (false, None);
        if let Some(store) = &store {
            register_store(&context, store).await?;
            ledger = Ledger::read(&context, store, run_id, &ready.spec_id, &job.input).await?;
            match specification::check(&context, store, &ready, arguments.replace).await {
                Ok(yes) => beside = yes,
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
        let ids = store_with_files.and_then(|store| store.expect_ids(&documents.id_type).err());
        let other_ids = ids.is_some();
        let begun = ledger.begun();
        let replaced = replaced(&context, &mut documents, begun).await?;
        let whole = documents.whole(|path| begun.get(path).copied().unwrap_or(0));
        let limit = match arguments.limit {
            Some(count) => documents.place_behind(&context, &whole, count).await?,
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
            replaces: beside,
            refusal: refusal.or(ids),
            other_ids,
            writer,
            replaced,
            limit,
        })
    }

    /// From which row on a file is still to be read.
    pub(crate) fn begun(&self) -> &BTreeMap<String, i64> {
        self.ledger.begun()
    }

    /// All rows that a run would look at.
    pub(crate) fn whole(&self) -> Chunk {
        match self.limit {
            Some((file, row)) => self.unlimited().before(file, row).unwrap_or_default(),
            None => self.unlimited(),
        }
    }

    /// The rows that it would look at besides if there were no limit; none where there is none.
    pub(crate) fn behind_limit(&self) -> Chunk {
        let Some((file, row)) = self.limit else { return Chunk::default() };
        let mut behind = self.unlimited();
        behind.ranges.retain(|range| range.file >= file);
        if let Some(first) = behind.ranges.first_mut().filter(|range| range.file == file) {
            first.rows.start = row.min(first.rows.end);
        }
        behind
    }

    fn unlimited(&self) -> Chunk {
        self.documents.whole(|path| self.begun().get(path).copied().unwrap_or(0))
    }

    /// Goes on, as a run does, without what cannot be read of the files of a chunk that an error came from; gives the
    /// error back where all can be read.
    pub(crate) async fn without_broken(&mut self, error: Error, chunk: &Chunk) -> Result<()> {
        find_broken(&self.context, &mut self.documents, error, chunk).await?;
        // Rows that cannot be read replace no others.
        self.replaced = replaced(&self.context, &mut self.documents, self.ledger.begun()).await?;
        Ok(())
    }

    /// What is to be said of a commit that is half done, where no run is known to be at it.
    pub(crate) fn half_done(&self) -> Option<String> {
        let number = self.store.as_ref().and_then(Store::half_done).filter(|_| self.writer.is_none())?;
        Some(match self.location.folder() {
            Some(_) => format!("commit {number} was left half done by a killed run"),
            None => format!("commit {number} is half done, its run is {UNKNOWN}"),
        })
    }
}

/// Loads the model. Its thread is busy with it for a while, so what else the runtime has to do, such as to hear
/// signals, goes to another: on a machine of one core there is none free.
pub(crate) fn load(job: &Job) -> Result<Ready> {
    info_span!("load the model").in_scope(|| tokio::task::block_in_place(|| job.load(&console::note)))
}
