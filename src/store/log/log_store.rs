//! A table's log as `deltalake-core` reads and writes it. In: an object store and a table's folder. Out: its own log store, but for how much
//! of a log is read at once. It must not interpret a log.
//!
//! By itself it opens up to a thousand log entries at once, each with a decoder of 3 MB: an update of a table with a hundred entries since
//! its last checkpoint takes 300 MB.

use std::num::NonZero;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use delta_kernel::Engine;
use delta_kernel_engine::DefaultEngineBuilder;
use delta_kernel_engine::executor::tokio::{TokioBackgroundExecutor, TokioMultiThreadExecutor};
use deltalake_core::kernel::Version;
use deltalake_core::kernel::transaction::TransactionError;
use deltalake_core::logstore::{CommitOrBytes, LogStore, LogStoreConfig, LogStoreRef, StorageConfig, default_logstore};
use deltalake_core::{DeltaResult, DeltaTableError};
use object_store::ObjectStore;
use object_store::prefix::PrefixStore;
use tokio::runtime::{Handle, RuntimeFlavor};
use uuid::Uuid;

use crate::source::location::StoreLocation;
use crate::tables::Table;

/// How many log entries, or files of a checkpoint, are read concurrently: on an object store, latency dominates.
const FILES: NonZero<usize> = NonZero::new(32).unwrap();
/// How many actions are decoded at once. A decoder of log entries takes 3 kB for each.
const ACTIONS: NonZero<usize> = NonZero::new(128).unwrap();

/// The log of a table at `location`, read and written through `objects`. It is written with conditional puts (`If-None-Match`, on a local
/// disk a hard link): if two writers write the same version, one of them fails.
pub(crate) fn log_store(location: &StoreLocation, table: Table, objects: Arc<dyn ObjectStore>) -> LogStoreRef {
    let folder = Arc::new(PrefixStore::new(Arc::clone(&objects), location.table_path(table)));
    let inner = default_logstore(folder, objects, &location.table_url(table), &StorageConfig::default());
    Arc::new(BoundedLogStore { inner })
}

struct BoundedLogStore {
    inner: LogStoreRef,
}

#[async_trait]
impl LogStore for BoundedLogStore {
    fn name(&self) -> String {
        self.inner.name()
    }

    async fn read_commit_entry(&self, version: Version) -> DeltaResult<Option<Bytes>> {
        self.inner.read_commit_entry(version).await
    }

    async fn write_commit_entry(
        &self,
        version: Version,
        entry: CommitOrBytes,
        operation_id: Uuid,
    ) -> Result<(), TransactionError> {
        self.inner.write_commit_entry(version, entry, operation_id).await
    }

    async fn abort_commit_entry(
        &self,
        version: Version,
        entry: CommitOrBytes,
        operation_id: Uuid,
    ) -> Result<(), TransactionError> {
        self.inner.abort_commit_entry(version, entry, operation_id).await
    }

    async fn get_latest_version(&self, start_version: Version) -> Result<Version, DeltaTableError> {
        self.inner.get_latest_version(start_version).await
    }

    fn object_store(&self, operation_id: Option<Uuid>) -> Arc<dyn ObjectStore> {
        self.inner.object_store(operation_id)
    }

    fn root_object_store(&self, operation_id: Option<Uuid>) -> Arc<dyn ObjectStore> {
        self.inner.root_object_store(operation_id)
    }

    fn engine(&self, operation_id: Option<Uuid>) -> Arc<dyn Engine> {
        let builder = DefaultEngineBuilder::new(self.root_object_store(operation_id))
            .with_buffer_size(FILES)
            .with_batch_size(ACTIONS);
        match Handle::try_current() {
            Ok(runtime) if runtime.runtime_flavor() == RuntimeFlavor::MultiThread => {
                Arc::new(builder.with_task_executor(Arc::new(TokioMultiThreadExecutor::new(runtime))).build())
            }
            _ => Arc::new(builder.with_task_executor(Arc::new(TokioBackgroundExecutor::new())).build()),
        }
    }

    fn config(&self) -> &LogStoreConfig {
        self.inner.config()
    }
}

#[cfg(test)]
mod tests {
    use std::fmt;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::time::Duration;

    use arrow::datatypes::DataType;
    use futures::stream::BoxStream;
    use object_store::memory::InMemory;
    use object_store::path::Path;
    use object_store::{
        CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, PutMultipartOptions, PutOptions,
        PutPayload, PutResult, Result,
    };
    use url::Url;

    use super::*;
    use crate::store::delta_store::Store;
    use crate::store::write::transaction::Change;

    /// Counts how many log entries are being read at once.
    #[derive(Debug, Default)]
    struct Counted {
        inner: InMemory,
        reading: AtomicUsize,
        most: AtomicUsize,
    }

    impl fmt::Display for Counted {
        fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
            self.inner.fmt(formatter)
        }
    }

    #[async_trait]
    impl ObjectStore for Counted {
        async fn put_opts(&self, location: &Path, payload: PutPayload, options: PutOptions) -> Result<PutResult> {
            self.inner.put_opts(location, payload, options).await
        }

        async fn put_multipart_opts(
            &self,
            location: &Path,
            options: PutMultipartOptions,
        ) -> Result<Box<dyn MultipartUpload>> {
            self.inner.put_multipart_opts(location, options).await
        }

        async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
            let reading = self.reading.fetch_add(1, Ordering::SeqCst) + 1;
            self.most.fetch_max(reading, Ordering::SeqCst);
            tokio::time::sleep(Duration::from_millis(5)).await;
            self.reading.fetch_sub(1, Ordering::SeqCst);
            self.inner.get_opts(location, options).await
        }

        fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
            self.inner.delete_stream(locations)
        }

        fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
            self.inner.list(prefix)
        }

        async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
            self.inner.list_with_delimiter(prefix).await
        }

        async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
            self.inner.copy_opts(from, to, options).await
        }
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_long_log_is_not_read_all_at_once() {
        let objects = Arc::new(Counted::default());
        let url = Url::parse("memory:///lake/news").unwrap();
        let location = StoreLocation::within(Arc::clone(&objects) as _, url);
        let mut store = Store::open(location.clone(), DataType::Utf8).await.unwrap();
        for number in 1..=90 {
            let change = Change { actions: vec![], run_id: "run-1", number: Some(number), compaction: false };
            store.write_log(Table::Entities, change).await.unwrap();
        }
        objects.most.store(0, Ordering::SeqCst);
        let mut table =
            deltalake_core::DeltaTable::new(log_store(&location, Table::Entities, Arc::clone(&objects) as _));
        table.load().await.unwrap();
        assert_eq!(table.version(), Some(90));
        let most = objects.most.load(Ordering::SeqCst);
        assert!((2..=FILES.get() + 1).contains(&most), "{most} entries were read at once");
    }
}
