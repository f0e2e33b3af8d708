//! What a run would find, without writing anything. In: the job and its listing. Out: the loaded model, the documents still to be read,
//! the store if there is one, and why the run would be refused. It may not make, lock or repair a store.

use std::collections::BTreeMap;
use std::sync::Arc;

use datafusion::prelude::SessionContext;

use super::known::{find_broken, replaced};
use super::ledger::Ledger;
use super::{load, spec};
use crate::cli::RunArgs;
use crate::engine::admit::Replaced;
use crate::engine::chunk::Chunk;
use crate::engine::input::Documents;
use crate::engine::listing::Listing;
use crate::engine::location::StoreLocation;
use crate::engine::lock::StoreLock;
use crate::engine::runs::UNKNOWN;
use crate::engine::session::register_store;
use crate::engine::store::Store;
use crate::error::{Error, Result};
use crate::job::{Job, Ready};

/// Everything a run knows before it begins.
pub(super) struct Outlook {
    pub(super) context: SessionContext,
    pub(super) location: StoreLocation,
    /// None where there is no store yet.
    pub(super) store: Option<Store>,
    pub(super) ready: Ready,
    pub(super) ledger: Ledger,
    /// Those that are still to be read.
    pub(super) documents: Documents,
    /// Files that are done.
    pub(super) files_done: usize,
    /// Whether old rows of another specification would go at the end.
    pub(super) replaces: bool,
    /// Why the run would not begin.
    pub(super) refusal: Option<Error>,
    /// Whether the ids are of another type than the store's, so that none of them can be looked up there.
    pub(super) other_ids: bool,
    /// The run that writes to the store at this moment.
    pub(super) writer: Option<String>,
    /// Rows that later rows with the same id replace.
    pub(super) replaced: Arc<Replaced>,
    /// The place where `--limit` ends the run.
    pub(super) limit: Option<(usize, i64)>,
}

impl Outlook {
    pub(super) async fn new(
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
            match spec::check(&context, store, &ready, arguments.replace).await {
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
    pub(super) fn begun(&self) -> &BTreeMap<String, i64> {
        self.ledger.begun()
    }

    /// All rows that a run would look at.
    pub(super) fn whole(&self) -> Chunk {
        match self.limit {
            Some((file, row)) => self.unlimited().before(file, row).unwrap_or_default(),
            None => self.unlimited(),
        }
    }

    /// The rows that it would look at besides if there were no limit; none where there is none.
    pub(super) fn behind_limit(&self) -> Chunk {
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
    pub(super) async fn without_broken(&mut self, error: Error, chunk: &Chunk) -> Result<()> {
        find_broken(&self.context, &mut self.documents, error, chunk).await?;
        // Rows that cannot be read replace no others.
        self.replaced = replaced(&self.context, &mut self.documents, self.ledger.begun()).await?;
        Ok(())
    }

    /// What is to be said of a commit that is half done, where no run is known to be at it.
    pub(super) fn half_done(&self) -> Option<String> {
        let number = self.store.as_ref().and_then(Store::half_done).filter(|_| self.writer.is_none())?;
        Some(match self.location.folder() {
            Some(_) => format!("commit {number} was left half done by a killed run"),
            None => format!("commit {number} is half done, its run is {UNKNOWN}"),
        })
    }
}
