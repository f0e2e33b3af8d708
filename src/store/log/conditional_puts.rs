//! Whether an object store honours conditional puts. In: a store's location. Out: an error if a put that must create an object overwrites
//! one: two runs could then write the same version of a log. It must not leave an object behind.

use object_store::path::Path;
use object_store::{ObjectStoreExt as _, PutMode};
use uuid::Uuid;

use crate::error::{Error, Result};
use crate::source::location::StoreLocation;

/// The name of the object that the check writes, without its number.
const PROBE: &str = ".quarry.probe";

/// Creates an object twice: the second time must fail. Three requests, at the start of each run: a store can be copied to another server.
/// A local disk needs no check.
///
/// # Errors
/// [`Error::UnsafeStore`] if the second put succeeds or the server has no conditional puts, [`Error::Store`] if a request fails.
pub(crate) async fn check(location: &StoreLocation) -> Result<()> {
    use object_store::Error as ObjectError;
    if location.folder().is_some() {
        return Ok(());
    }
    let objects = location.objects();
    let path = location.path(&Path::from(format!("{PROBE}-{}", Uuid::now_v7())));
    let create = || objects.put_opts(&path, "probe".into(), PutMode::Create.into());
    let honoured = async {
        match create().await {
            Ok(_) => {}
            // The answer to an attempt was lost, and the next one found the object.
            Err(ObjectError::AlreadyExists { .. }) => return Ok(true),
            Err(ObjectError::NotImplemented { .. } | ObjectError::NotSupported { .. }) => return Ok(false),
            Err(cause) => return Err(cause),
        }
        match create().await {
            Ok(_) => Ok(false),
            Err(ObjectError::AlreadyExists { .. }) => Ok(true),
            Err(cause) => Err(cause),
        }
    };
    let honoured = honoured.await;
    if let Err(cause) = objects.delete(&path).await {
        tracing::debug!(%cause, %path, "cannot remove the probe");
    }
    match honoured {
        Ok(true) => Ok(()),
        Ok(false) => Err(Error::UnsafeStore { store: location.to_string() }),
        Err(cause) => {
            Err(Error::Store { doing: "write to".to_owned(), store: location.to_string(), source: cause.into() })
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use futures::TryStreamExt as _;
    use object_store::ObjectStore;
    use object_store::memory::InMemory;
    use url::Url;

    use super::*;

    #[tokio::test]
    async fn a_store_that_honours_them_is_left_as_it_was() {
        let objects: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
        let location = StoreLocation::within(Arc::clone(&objects), Url::parse("memory:///lake/news").unwrap());
        check(&location).await.unwrap();
        assert_eq!(objects.list(None).try_collect::<Vec<_>>().await.unwrap(), []);
    }
}
