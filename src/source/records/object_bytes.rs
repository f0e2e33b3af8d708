//! An object → its bytes. In: an object's path, size and compression. Out: a blocking reader of the decompressed bytes. It must not read
//! beyond the size that was listed: what is appended while a run reads belongs to the next run.

use std::fs::File;
use std::io::{BufRead, BufReader, Error, ErrorKind, Read, Result};
use std::sync::Arc;

use bytes::{Buf, Bytes};
use datafusion::error::DataFusionError;
use flate2::read::MultiGzDecoder;
use futures::StreamExt;
use futures::stream::BoxStream;
use object_store::path::Path;
use object_store::{GetResultPayload, ObjectMeta, ObjectStore, ObjectStoreExt};
use tokio::runtime::Handle;

use crate::source::listing::Compression;

/// Bytes that are read at once.
const BUFFER: usize = 64 << 10;

/// An object to read.
#[derive(Debug, Clone)]
pub(crate) struct Object {
    pub(crate) objects: Arc<dyn ObjectStore>,
    pub(crate) location: Path,
    /// Its size in bytes, as listed.
    pub(crate) size: u64,
}

impl Object {
    pub(crate) fn new(objects: &Arc<dyn ObjectStore>, meta: &ObjectMeta) -> Self {
        Self { objects: Arc::clone(objects), location: meta.location.clone(), size: meta.size }
    }

    /// Opens it. Call this, and read, on a thread that may block.
    pub(crate) fn open(&self, runtime: &Handle) -> Result<Box<dyn BufRead + Send>> {
        let found = runtime.block_on(self.objects.get(&self.location))?;
        let bytes = match found.payload {
            GetResultPayload::File(file, _) => Content::File(file),
            GetResultPayload::Stream(stream) => {
                Content::Stream { stream, buffered: Bytes::new(), runtime: runtime.clone() }
            }
        };
        let bytes = BufReader::with_capacity(BUFFER, Listed { bytes, remaining: self.size });
        Ok(match Compression::of(self.location.as_ref()) {
            Compression::None => Box::new(bytes),
            Compression::Gzip => Box::new(BufReader::with_capacity(BUFFER, MultiGzDecoder::new(bytes))),
            Compression::Zstandard => {
                Box::new(BufReader::with_capacity(BUFFER, zstd::stream::read::Decoder::with_buffer(bytes)?))
            }
        })
    }
}

enum Content {
    File(File),
    Stream { stream: BoxStream<'static, object_store::Result<Bytes>>, buffered: Bytes, runtime: Handle },
}

/// The first bytes of an object, as many as were listed.
struct Listed {
    bytes: Content,
    remaining: u64,
}

impl Read for Listed {
    fn read(&mut self, buffer: &mut [u8]) -> Result<usize> {
        let wanted = buffer.len().min(usize::try_from(self.remaining).unwrap_or(usize::MAX));
        if wanted == 0 {
            return Ok(0);
        }
        let length = match &mut self.bytes {
            Content::File(file) => file.read(&mut buffer[..wanted])?,
            Content::Stream { stream, buffered, runtime } => {
                while buffered.is_empty() {
                    match runtime.block_on(stream.next()) {
                        Some(chunk) => *buffered = chunk?,
                        None => break,
                    }
                }
                let length = wanted.min(buffered.len());
                buffered.copy_to_slice(&mut buffer[..length]);
                length
            }
        };
        if length == 0 {
            return Err(Error::new(ErrorKind::UnexpectedEof, "the file is shorter than it was when it was listed"));
        }
        self.remaining -= length as u64;
        Ok(length)
    }
}

/// A failure to read, with the object store's error in reach if it is one.
pub(crate) fn read_error(error: Error) -> DataFusionError {
    let of_the_store = error.get_ref().is_some_and(<dyn std::error::Error + Send + Sync>::is::<object_store::Error>);
    if !of_the_store {
        return DataFusionError::IoError(error);
    }
    let inner = error.into_inner().map(<dyn std::error::Error + Send + Sync>::downcast::<object_store::Error>);
    match inner {
        Some(Ok(error)) => DataFusionError::ObjectStore(error),
        Some(Err(error)) => DataFusionError::External(error),
        None => DataFusionError::Execution("the object store failed".to_owned()),
    }
}
