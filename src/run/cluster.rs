//! Extraction on a cluster. In: the documents still to be extracted, a cluster. Out: the commits of a local run. It must not commit a chunk
//! whose plan did not know what was committed while it ran.
//!
//! A chunk is one task and one commit. Several are under way at a time, and they are committed in file order. A chunk that was sent before an
//! earlier one was committed may not know documents of that one: what is known is looked up again before its commit, and the chunk is sent again
//! if it differs.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::path::absolute;
use std::sync::Arc;
use std::time::Duration;

use datafusion::physical_plan::ExecutionPlan;
use tokio::task::JoinHandle;

use crate::cluster::address::ClusterAddress;
use crate::cluster::driver::Cluster;
use crate::cluster::exchange::{ChunkOutcome, Task};
use crate::console::{ProgressDisplay, current_trace};
use crate::error::Result;
use crate::extract::extract_exec::Extract;
use crate::extract::known_documents::KnownDocuments;
use crate::extract::skip_known::SkipKnown;
use crate::job::plan::{encode, reading_plan, writing_plan};
use crate::run::commit::Position;
use crate::run::extract::{Reached, chunks};
use crate::run::failure::{failed, run_error};
use crate::run::known::documents::find_corrupt;
use crate::run::state::Run;
use crate::source::chunk::{Chunk, RowRange};
use crate::store::write::write_exec::WriteSpec;
use crate::tables::result_row::result_rows;

/// How long a chunk should take: a commit costs little beside it, and a lost executor loses no more.
const CHUNK: Duration = Duration::from_secs(20);
/// The rows of the first chunk, by which the pace is measured.
const FIRST_ROWS: u64 = 64;
/// How often a chunk is tried that fails in a way that a retry may help.
const TRIES: usize = 3;
/// Chunks under way for each that runs: one more is queued, so that no executor waits for a commit.
const QUEUED: usize = 2;
/// The most chunks under way. What each knows of the store's documents is held by the driver.
const MOST: usize = 1024;

/// A chunk on its way.
struct Sent {
    chunk: Chunk,
    known: KnownDocuments,
    commit: i64,
    answer: JoinHandle<Result<ChunkOutcome>>,
}

impl Drop for Sent {
    fn drop(&mut self) {
        self.answer.abort();
    }
}

/// How many rows a chunk has.
struct Pace {
    rows: u64,
    most: u64,
}

impl Pace {
    /// Learns from a chunk: the next ones take about [`CHUNK`], and have at most four times its rows.
    fn learn(&mut self, rows: u64, spent: Duration) {
        let factor = (CHUNK.as_secs_f64() / spent.as_secs_f64().max(0.01)).clamp(0.25, 4.0);
        self.rows = ((rows as f64 * factor) as u64).clamp(1, self.most.max(1));
    }
}

/// Rows, by source, that end the process that extracts them.
type Killers = BTreeMap<String, BTreeSet<i64>>;

fn text_of(plan: &Arc<dyn ExecutionPlan>) -> Result<String> {
    String::from_utf8(encode(plan).map_err(run_error)?).map_err(|cause| failed("send a chunk", cause))
}

impl Run {
    /// Connects to the job's cluster.
    ///
    /// # Errors
    /// As for [`Cluster::connect`].
    pub(crate) async fn cluster(address: &ClusterAddress) -> Result<Arc<Cluster>> {
        let cluster = Arc::new(Cluster::connect(address, 1).await?);
        tracing::info!(
            "chunks run on the cluster {address}, which takes {} at a time",
            cluster.slots().await.unwrap_or(0)
        );
        Ok(cluster)
    }

    /// Extracts on a cluster, commits chunk after chunk, and returns why it ended: at the end of the input, or at a signal.
    pub(crate) async fn extract_on(
        &mut self,
        cluster: &Arc<Cluster>,
        finished_rows: &BTreeMap<String, i64>,
        limit: Option<(usize, i64)>,
        display: &mut ProgressDisplay,
        total: Option<u64>,
    ) -> Result<Reached> {
        let monitor = Arc::clone(&self.summary.monitor);
        let mut pace = Pace { rows: FIRST_ROWS, most: self.settings.job.file.store.commit_documents };
        let (mut reached, mut next) = (Position::default(), Position::default());
        let (mut under_way, mut tries) = (VecDeque::<Sent>::new(), 0);
        let mut killers = Killers::new();
        let mut tick = tokio::time::interval(Duration::from_millis(200));
        let mut most = QUEUED * cluster.slots().await.unwrap_or(1).clamp(1, MOST / QUEUED);
        loop {
            // Only a read file of unknown length shows whether it has rows after a chunk.
            while under_way.len() < most
                && !under_way.back().is_some_and(|last| last.chunk.is_part_of_unknown(&self.documents.files))
                && !monitor.is_stopped()
            {
                let mut chunks = chunks(&self.documents, &self.extractor, finished_rows, pace.rows, limit, next);
                let Some(chunk) = chunks.next() else { break };
                next = self.end(&chunk);
                let commit = self.next_commit() + under_way.len() as i64;
                under_way.push_back(self.send(cluster, chunk, commit, &killers).await?);
            }
            let Some(first) = under_way.front_mut() else { break };
            let answer = tokio::select! {
                biased;
                answer = &mut first.answer => answer,
                () = monitor.stopped() => return Ok(Reached::Stop),
                _ = tick.tick() => {
                    display.show(&self.progress(total));
                    continue;
                }
            };
            let outcome = answer.map_err(|panic| failed("wait for a chunk", panic))??;
            let Some(sent) = under_way.pop_front() else { break };
            if let Some(failure) = outcome.failure {
                // The others do not know of damage, or of a document, that is found now.
                under_way.clear();
                self.summary.roll_back();
                next = reached;
                if failure.killed
                    && let Some((source, row)) = self.find_killer(cluster, &sent.chunk, &killers).await?
                {
                    tracing::warn!("row {row} of `{source}` ends every process that extracts it: it is rejected");
                    killers.entry(source).or_default().insert(row);
                    continue;
                }
                let error = failure.into_error(&outcome.executor);
                match find_corrupt(&self.context, &mut self.documents, error, &sent.chunk).await {
                    Ok(()) => self.summary.unreadable(&self.documents),
                    Err(error) if error.exit_code() == 2 && tries < TRIES => {
                        tries += 1;
                        tracing::warn!("a chunk is sent again: {error}");
                    }
                    Err(error) => return Err(error),
                }
                continue;
            }
            let known = self.known_of(&sent.chunk).await?;
            if sent.commit != self.next_commit() || sent.known != known {
                tracing::debug!(
                    commit = sent.commit,
                    "earlier chunks have changed what is known: the chunk is sent again"
                );
                let again = self.send(cluster, sent.chunk.clone(), self.next_commit(), &killers).await?;
                under_way.push_front(again);
                continue;
            }
            self.take(&sent.chunk, outcome, &mut reached, &mut pace).await?;
            tries = 0;
            if sent.chunk.is_part_of_unknown(&self.documents.files) {
                next = reached;
            }
            if let Some(slots) = cluster.slots().await {
                most = QUEUED * slots.clamp(1, MOST / QUEUED);
            }
        }
        Ok(if monitor.is_stopped() { Reached::Stop } else { Reached::End })
    }

    /// Sends a chunk.
    async fn send(&mut self, cluster: &Arc<Cluster>, chunk: Chunk, commit: i64, killers: &Killers) -> Result<Sent> {
        let known = self.known_of(&chunk).await?;
        let write = WriteSpec::new(self.store.location(), self.stamp(commit));
        let plan = self.chunk_plan(&chunk, known.clone(), killers);
        let plan = plan.and_then(|plan| writing_plan(plan, write)).map_err(run_error)?;
        let name = format!("commit {commit} of run {}", self.id());
        let task = Task { plan: text_of(&plan)?, name, careful: false, trace: current_trace() };
        let cluster = Arc::clone(cluster);
        let answer = tokio::spawn(async move { cluster.run(task).await });
        Ok(Sent { chunk, known, commit, answer })
    }

    /// The first half of a chunk's plan, for a machine with another working directory.
    fn chunk_plan(
        &self,
        chunk: &Chunk,
        known: KnownDocuments,
        killers: &Killers,
    ) -> datafusion::error::Result<Arc<dyn ExecutionPlan>> {
        let mut extract = Extract { spec: self.extractor.spec().clone(), runtime: self.settings.job.runtime.clone() };
        if extract.spec.model.path.exists() {
            extract.spec.model.path = absolute(&extract.spec.model.path).unwrap_or(extract.spec.model.path);
        }
        let known = SkipKnown { killers: killers.clone(), ..SkipKnown::from(known) };
        reading_plan(&self.documents, chunk, known, extract)
    }

    /// Finds a row of a chunk that ends the process that extracts it, by extracting half of the rows, half of these, and so on, each time in a
    /// process of its own. `None` if the last one does not.
    async fn find_killer(
        &mut self,
        cluster: &Arc<Cluster>,
        chunk: &Chunk,
        killers: &Killers,
    ) -> Result<Option<(String, i64)>> {
        let ids = self.documents.ids(&self.context, chunk)?;
        let batches = ids.select_columns(&["source", "row"]).map_err(run_error)?.collect().await.map_err(run_error)?;
        let mut rows: Vec<(String, i64)> = Vec::new();
        for row in result_rows(&batches) {
            rows.push((row.get::<&str>("source")?.to_owned(), row.get("row")?));
        }
        let mut rows = rows.as_slice();
        while rows.len() > 1 {
            let (first, second) = rows.split_at(rows.len() / 2);
            rows = if self.kills(cluster, first, killers).await? { first } else { second };
        }
        match rows {
            [row] if self.kills(cluster, rows, killers).await? => Ok(Some(row.clone())),
            _ => Ok(None),
        }
    }

    /// Whether some rows end the process that extracts them.
    async fn kills(&self, cluster: &Cluster, rows: &[(String, i64)], killers: &Killers) -> Result<bool> {
        let mut chunk = Chunk::default();
        for of_file in rows.chunk_by(|one, next| one.0 == next.0) {
            let (Some(first), Some(last)) = (of_file.first(), of_file.last()) else { continue };
            let file = self.documents.files.iter().position(|file| file.path == first.0);
            chunk.ranges.extend(file.map(|file| RowRange { file, rows: first.1..last.1 + 1 }));
        }
        let plan = self.chunk_plan(&chunk, KnownDocuments::default(), killers).map_err(run_error)?;
        let name = format!("a search among {} rows of run {}", rows.len(), self.id());
        let task = Task { plan: text_of(&plan)?, name, careful: true, trace: current_trace() };
        let outcome = cluster.run(task).await?;
        Ok(outcome.failure.is_some_and(|failure| failure.killed))
    }

    /// Commits what an executor has done.
    async fn take(
        &mut self,
        chunk: &Chunk,
        outcome: ChunkOutcome,
        reached: &mut Position,
        pace: &mut Pace,
    ) -> Result<()> {
        let ChunkOutcome { executor, batch, read, repeated, counts, spent, device, precision, .. } = outcome;
        self.summary.ran_on(device, precision);
        self.summary.monitor.add_counts(&counts);
        self.extractor.scorer().counters().add(&counts.scorer);
        // Nothing is committed yet: the condition is at fault, and not these rows.
        if *reached == Position::default() {
            self.documents.check_filter(&read)?;
        }
        self.documents.count_rows(read);
        self.ledger.repeated(repeated.into_iter());
        if let Some(totals) = batch.as_ref().map(|batch| &batch.totals) {
            tracing::debug!(executor, documents = totals.documents, seconds = spent.as_secs_f64(), "a chunk is done");
            pace.learn(totals.documents + totals.rejected(), spent);
        }
        let position = self.read_end(chunk);
        self.commit(batch, reached, position).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunks_become_as_long_as_they_should_be() {
        let mut pace = Pace { rows: FIRST_ROWS, most: 1000 };
        pace.learn(64, Duration::from_secs(10));
        assert_eq!(pace.rows, 128);
        pace.learn(128, Duration::from_millis(1));
        assert_eq!(pace.rows, 512, "at most four times as long");
        pace.learn(512, Duration::from_millis(1));
        assert_eq!(pace.rows, 1000, "at most a commit");
        pace.learn(1000, Duration::from_hours(1));
        assert_eq!(pace.rows, 250);
        pace.learn(0, Duration::ZERO);
        assert_eq!(pace.rows, 1);
    }
}
