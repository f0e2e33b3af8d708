//! An object store that fails at random. In: another store and a seed. Out: the same store, some of whose operations fail: half of
//! them before they have done anything, half after they are complete. Only tests use it.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;
use futures::{FutureExt, StreamExt};
use object_store::path::Path;
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore,
    PutMultipartOptions, PutOptions, PutPayload, PutResult, Result, UploadPart,
};

/// Reads fail this many times less often than writes, because there are many more of them: opening a store reads every log.
const READ_FACTOR: u64 = 40;

/// A store whose operations fail at random.
#[derive(Debug, Clone)]
pub(crate) struct FaultyStore {
    inner: Arc<dyn ObjectStore>,
    dice: Arc<Dice>,
}

#[derive(Debug)]
struct Dice {
    state: AtomicU64,
    one_of: u64,
    faults: AtomicU64,
}

impl Dice {
    /// The `SplitMix64` generator (Steele, Lea and Flood, 2014).
    fn next(&self) -> u64 {
        let mut mixed = self.state.fetch_add(0x9e37_79b9_7f4a_7c15, Ordering::Relaxed);
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn fault(&self, when: &str, one_of: u64) -> Result<()> {
        if !self.next().is_multiple_of(one_of) {
            return Ok(());
        }
        self.faults.fetch_add(1, Ordering::Relaxed);
        Err(Error::Generic { store: "faulty", source: format!("the connection was lost {when} the operation").into() })
    }

    /// Runs a write, which can fail before or after it.
    async fn disturb<T>(&self, operation: impl Future<Output = Result<T>>) -> Result<T> {
        self.fault("before", self.one_of)?;
        let done = operation.await?;
        self.fault("after", self.one_of)?;
        Ok(done)
    }

    /// Lets a read fail.
    fn read(&self) -> Result<()> {
        self.fault("before", self.one_of * READ_FACTOR)
    }
}

impl FaultyStore {
    /// About two of every `one_of` writes fail, and reads less often.
    pub(crate) fn new(inner: Arc<dyn ObjectStore>, seed: u64, one_of: u64) -> Self {
        Self { inner, dice: Arc::new(Dice { state: AtomicU64::new(seed), one_of, faults: AtomicU64::new(0) }) }
    }

    /// How many operations have failed.
    pub(crate) fn faults(&self) -> u64 {
        self.dice.faults.load(Ordering::Relaxed)
    }
}

impl fmt::Display for FaultyStore {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "faulty {}", self.inner)
    }
}

#[async_trait]
impl ObjectStore for FaultyStore {
    async fn put_opts(&self, location: &Path, payload: PutPayload, opts: PutOptions) -> Result<PutResult> {
        self.dice.disturb(self.inner.put_opts(location, payload, opts)).await
    }

    async fn put_multipart_opts(&self, location: &Path, opts: PutMultipartOptions) -> Result<Box<dyn MultipartUpload>> {
        let upload = self.dice.disturb(self.inner.put_multipart_opts(location, opts)).await?;
        Ok(Box::new(FaultyUpload { upload, dice: Arc::clone(&self.dice) }))
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        self.dice.read()?;
        self.inner.get_opts(location, options).await
    }

    async fn get_ranges(&self, location: &Path, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
        self.dice.read()?;
        self.inner.get_ranges(location, ranges).await
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        let (before, after) = (Arc::clone(&self.dice), Arc::clone(&self.dice));
        let locations = locations.map(move |location| {
            before.fault("before", before.one_of)?;
            location
        });
        let removed = self.inner.delete_stream(locations.boxed()).map(move |removed| {
            after.fault("after", after.one_of)?;
            removed
        });
        removed.boxed()
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        match self.dice.read() {
            Ok(()) => self.inner.list(prefix),
            Err(fault) => futures::stream::iter([Err(fault)]).boxed(),
        }
    }

    fn list_with_offset(&self, prefix: Option<&Path>, offset: &Path) -> BoxStream<'static, Result<ObjectMeta>> {
        match self.dice.read() {
            Ok(()) => self.inner.list_with_offset(prefix, offset),
            Err(fault) => futures::stream::iter([Err(fault)]).boxed(),
        }
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.dice.read()?;
        self.inner.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.dice.disturb(self.inner.copy_opts(from, to, options)).await
    }
}

#[derive(Debug)]
struct FaultyUpload {
    upload: Box<dyn MultipartUpload>,
    dice: Arc<Dice>,
}

#[async_trait]
impl MultipartUpload for FaultyUpload {
    fn put_part(&mut self, data: PutPayload) -> UploadPart {
        let (part, dice) = (self.upload.put_part(data), Arc::clone(&self.dice));
        async move { dice.disturb(part).await }.boxed()
    }

    async fn complete(&mut self) -> Result<PutResult> {
        let Self { upload, dice } = self;
        dice.disturb(upload.complete()).await
    }

    async fn abort(&mut self) -> Result<()> {
        self.upload.abort().await
    }
}
