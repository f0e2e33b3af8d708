//! The whole program on an object store: input and store on an S3 server.

use futures::TryStreamExt;
use object_store::aws::{AmazonS3, AmazonS3Builder};
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};

use crate::moto::{BUCKET, Moto};
use crate::promises::{Stores, documents_to_lose, job};
use crate::support::{Dir, Random};

/// The bucket, as a test accesses it.
pub(crate) struct Bucket {
    objects: AmazonS3,
    runtime: tokio::runtime::Runtime,
}

impl Bucket {
    pub(crate) fn of(server: &Moto) -> Self {
        let settings = server.environment().into_iter().map(|(name, value)| (name.to_ascii_lowercase(), value));
        let builder = settings.fold(AmazonS3Builder::new().with_bucket_name(BUCKET), |builder, (name, value)| {
            builder.with_config(name.parse().unwrap(), value)
        });
        Self { objects: builder.build().unwrap(), runtime: tokio::runtime::Runtime::new().unwrap() }
    }

    /// Copies the folder's files to the bucket.
    pub(crate) fn upload(&self, dir: &Dir, folder: &str) {
        for entry in std::fs::read_dir(dir.path(folder)).unwrap() {
            let path = entry.unwrap().path();
            let object = Path::from(format!("{folder}/{}", path.file_name().unwrap().to_str().unwrap()));
            self.runtime.block_on(self.objects.put(&object, std::fs::read(path).unwrap().into())).unwrap();
        }
    }

    /// Replaces a folder by the objects below `prefix` in the bucket.
    pub(crate) fn download(&self, prefix: &str, dir: &Dir, folder: &str) {
        let _ = std::fs::remove_dir_all(dir.path(folder)); // the first time there is none
        self.runtime.block_on(async {
            let prefix = Path::from(prefix);
            let objects: Vec<_> = self.objects.list(Some(&prefix)).try_collect().await.unwrap();
            for object in objects {
                let inside: Path = object.location.prefix_match(&prefix).unwrap().collect();
                let path = dir.path(folder).join(inside.as_ref());
                std::fs::create_dir_all(path.parent().unwrap()).unwrap();
                let bytes = self.objects.get(&object.location).await.unwrap().bytes().await.unwrap();
                std::fs::write(path, bytes).unwrap();
            }
        });
    }
}

/// Moves the documents and the store of a job, which are folders here, to the bucket.
pub(crate) fn to_bucket(dir: &Dir, job: &str, documents: &str, store: &str) {
    let mut text = std::fs::read_to_string(job).unwrap();
    for (local, object) in [(documents, format!("{documents}/")), (store, format!("stores/{store}"))] {
        text = text.replace(&format!("'{}'", dir.path(local).display()), &format!("'s3://{BUCKET}/{object}'"));
    }
    std::fs::write(job, text).unwrap();
}

#[test]
fn a_run_on_s3_killed_at_any_moment_loses_nothing() {
    let Some(server) = Moto::start("QUARRY_S3_TESTS") else { return };
    let dir = Dir::new();
    let mut random = Random(77);
    documents_to_lose(&dir, &mut random);
    let bucket = Bucket::of(&server);
    bucket.upload(&dir, "docs");
    let model = dir.small_model().display().to_string();
    let there = |store: &str| {
        let path = job(&dir, "docs", store, &model, "");
        to_bucket(&dir, &path, "docs", store);
        path
    };
    Stores {
        dir: &dir,
        environment: server.environment(),
        job: &there,
        fetch: &|store| bucket.download(&format!("stores/{store}"), &dir, store),
    }
    .survive(12, &mut random);
}
