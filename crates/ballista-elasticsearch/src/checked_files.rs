//! The object stores of tasks: only the local file system.
//!
//! Owns: checking every path of a plan before the file system sees it. Must not know: which paths are allowed
//! ([`FileAccess`]).

use crate::file_access::{FileAccess, FileRefusal};
use async_trait::async_trait;
use ballista_core::RuntimeProducer;
use datafusion::error::{DataFusionError, Result};
use datafusion::execution::object_store::{DefaultObjectStoreRegistry, ObjectStoreRegistry};
use datafusion::execution::runtime_env::RuntimeEnvBuilder;
use datafusion::object_store::local::LocalFileSystem;
use datafusion::object_store::path::Path as Location;
use datafusion::object_store::{
    self, CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore,
    PutMultipartOptions, PutOptions, PutPayload, PutResult, RenameOptions,
};
use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt};
use std::fmt;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;
use url::Url;

impl FileAccess {
    /// Returns a producer of runtimes for tasks that read and write files through these object stores, and spill
    /// to the folder `temporary`.
    pub fn runtime_producer(&self, temporary: &str) -> RuntimeProducer {
        let (stores, temporary) = (self.object_stores(), temporary.to_owned());
        Arc::new(move |_| {
            RuntimeEnvBuilder::new()
                .with_temp_file_path(temporary.clone())
                .with_object_store_registry(Arc::clone(&stores))
                .build_arc()
        })
    }

    /// Returns the object stores of tasks: the files that they may read and write, and no remote store.
    pub fn object_stores(&self) -> Arc<dyn ObjectStoreRegistry> {
        match self {
            Self::Everything => Arc::new(DefaultObjectStoreRegistry::new()),
            Self::Roots { .. } => Arc::new(CheckedStores { files: Arc::new(CheckedFiles::new(self)) }),
        }
    }
}

/// Serves only `file://`. A registered store is never served, so that no plan makes a process send requests to a
/// host that no configuration names.
#[derive(Debug)]
struct CheckedStores {
    files: Arc<dyn ObjectStore>,
}

impl ObjectStoreRegistry for CheckedStores {
    fn register_store(&self, _url: &Url, _store: Arc<dyn ObjectStore>) -> Option<Arc<dyn ObjectStore>> {
        None
    }

    fn get_store(&self, url: &Url) -> Result<Arc<dyn ObjectStore>> {
        check_scheme(url)?;
        Ok(Arc::clone(&self.files))
    }
}

/// Rejects a URL that is not a file of this machine.
pub(crate) fn check_scheme(url: &Url) -> Result<()> {
    match (url.scheme(), url.host_str()) {
        ("file", None | Some("")) => Ok(()),
        // The message shows only the scheme, because the URL may contain credentials.
        (scheme, _) => Err(DataFusionError::Plan(format!(
            "tasks read and write files of their executor, as file:///…; a location of the scheme \"{scheme}\" is refused"
        ))),
    }
}

/// The local file system with a check of every location.
#[derive(Debug)]
struct CheckedFiles {
    files: LocalFileSystem,
    access: Arc<FileAccess>,
}

impl CheckedFiles {
    fn new(access: &FileAccess) -> Self {
        Self { files: LocalFileSystem::new(), access: Arc::new(access.clone()) }
    }

    fn checked(&self) -> Checked {
        Checked { files: self.files.clone(), access: Arc::clone(&self.access) }
    }
}

/// The parts that a check needs, for streams that outlive the call.
#[derive(Clone)]
struct Checked {
    files: LocalFileSystem,
    access: Arc<FileAccess>,
}

impl Checked {
    async fn read(&self, location: &Location) -> object_store::Result<()> {
        self.check(location, FileAccess::check_read).await
    }

    async fn write(&self, location: &Location) -> object_store::Result<()> {
        self.check(location, FileAccess::check_write).await
    }

    async fn copy(&self, from: &Location, to: &Location) -> object_store::Result<()> {
        let target = path_of(&self.files, to)?;
        self.check(from, move |access, source| access.check_copy(source, &target)).await
    }

    /// Checks that a folder, or the whole file system, may be listed.
    async fn list(&self, prefix: Option<&Location>) -> object_store::Result<()> {
        self.read(prefix.unwrap_or(&Location::default())).await
    }

    /// Runs the check on a thread that may block on the disk.
    async fn check(
        &self,
        location: &Location,
        check: impl FnOnce(&FileAccess, &Path) -> Result<(), FileRefusal> + Send + 'static,
    ) -> object_store::Result<()> {
        let (path, access) = (path_of(&self.files, location)?, Arc::clone(&self.access));
        let checked = tokio::task::spawn_blocking(move || check(&access, &path)).await?;
        checked.map_err(|refusal| object_store::Error::PermissionDenied {
            path: location.to_string(),
            source: Box::new(refusal),
        })
    }
}

/// Returns the path of a location as the file system does. The root is a special case, because `LocalFileSystem`
/// rejects it. It also rejects names that end like its temporary files.
pub(crate) fn path_of(
    files: &LocalFileSystem,
    location: &Location,
) -> object_store::Result<std::path::PathBuf> {
    match location.as_ref() {
        "" => Ok("/".into()),
        _ => files.path_to_filesystem(location),
    }
}

impl fmt::Display for CheckedFiles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("files that tasks may read and write")
    }
}

#[async_trait]
impl ObjectStore for CheckedFiles {
    async fn put_opts(
        &self,
        location: &Location,
        payload: PutPayload,
        opts: PutOptions,
    ) -> object_store::Result<PutResult> {
        self.checked().write(location).await?;
        self.files.put_opts(location, payload, opts).await
    }

    async fn put_multipart_opts(
        &self,
        location: &Location,
        opts: PutMultipartOptions,
    ) -> object_store::Result<Box<dyn MultipartUpload>> {
        self.checked().write(location).await?;
        self.files.put_multipart_opts(location, opts).await
    }

    async fn get_opts(&self, location: &Location, options: GetOptions) -> object_store::Result<GetResult> {
        self.checked().read(location).await?;
        self.files.get_opts(location, options).await
    }

    async fn get_ranges(
        &self,
        location: &Location,
        ranges: &[Range<u64>],
    ) -> object_store::Result<Vec<bytes::Bytes>> {
        self.checked().read(location).await?;
        self.files.get_ranges(location, ranges).await
    }

    fn delete_stream(
        &self,
        locations: BoxStream<'static, object_store::Result<Location>>,
    ) -> BoxStream<'static, object_store::Result<Location>> {
        let checked = self.checked();
        let allowed = locations.and_then(move |location| {
            let checked = checked.clone();
            async move { checked.write(&location).await.map(|()| location) }
        });
        self.files.delete_stream(allowed.boxed())
    }

    fn list(&self, prefix: Option<&Location>) -> BoxStream<'static, object_store::Result<ObjectMeta>> {
        listed(self.checked(), prefix, self.files.list(prefix))
    }

    fn list_with_offset(
        &self,
        prefix: Option<&Location>,
        offset: &Location,
    ) -> BoxStream<'static, object_store::Result<ObjectMeta>> {
        listed(self.checked(), prefix, self.files.list_with_offset(prefix, offset))
    }

    async fn list_with_delimiter(&self, prefix: Option<&Location>) -> object_store::Result<ListResult> {
        let checked = self.checked();
        checked.list(prefix).await?;
        let found = self.files.list_with_delimiter(prefix).await?;
        for location in found.objects.iter().map(|object| &object.location).chain(&found.common_prefixes) {
            checked.read(location).await?;
        }
        Ok(found)
    }

    async fn copy_opts(
        &self,
        from: &Location,
        to: &Location,
        options: CopyOptions,
    ) -> object_store::Result<()> {
        self.checked().copy(from, to).await?;
        self.files.copy_opts(from, to, options).await
    }

    async fn rename_opts(
        &self,
        from: &Location,
        to: &Location,
        options: RenameOptions,
    ) -> object_store::Result<()> {
        let checked = self.checked();
        checked.write(from).await?;
        checked.copy(from, to).await?;
        self.files.rename_opts(from, to, options).await
    }
}

/// Returns a listing, with an error in place of each entry that may not be read. Silently dropping an entry would
/// return too few rows.
fn listed(
    checked: Checked,
    prefix: Option<&Location>,
    found: BoxStream<'static, object_store::Result<ObjectMeta>>,
) -> BoxStream<'static, object_store::Result<ObjectMeta>> {
    let (prefix, for_prefix) = (prefix.cloned(), checked.clone());
    let folder = async move { for_prefix.list(prefix.as_ref()).await.map(|()| found) };
    let entries = futures::stream::once(folder).try_flatten();
    let allowed = entries.and_then(move |entry| {
        let checked = checked.clone();
        async move { checked.read(&entry.location).await.map(|()| entry) }
    });
    allowed.boxed()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::file_access::tests::folders;
    use datafusion::object_store::{ObjectStoreExt, PutMode};
    use std::path::PathBuf;

    fn store(access: &FileAccess) -> Arc<dyn ObjectStore> {
        access.object_stores().get_store(&Url::parse("file:///").unwrap()).unwrap()
    }

    /// Returns a location as a plan may name it, with percent signs and dots.
    fn at(base: &std::path::Path, path: &str) -> Location {
        let base = base.to_str().unwrap();
        Location::parse(format!("{base}/{path}").trim_start_matches('/')).unwrap()
    }

    fn is_refused<T>(result: object_store::Result<T>) -> bool {
        matches!(result, Err(object_store::Error::PermissionDenied { .. }))
    }

    #[tokio::test]
    async fn every_way_to_read_is_checked() {
        let (_folder, base, access) = folders();
        let store = store(&access);
        let inside = at(&base, "in/a.csv");
        assert_eq!(store.get(&inside).await.unwrap().bytes().await.unwrap(), "a\nin\n");
        assert_eq!(store.get_ranges(&inside, std::slice::from_ref(&(0..1))).await.unwrap()[0], "a");
        assert_eq!(store.head(&inside).await.unwrap().size, 5);
        let missing = store.get(&at(&base, "in/missing.csv")).await;
        assert!(matches!(missing, Err(object_store::Error::NotFound { .. })));
        for path in ["secret/a.csv", "out/a.csv", "in/link/a.csv", "in/linked.csv"] {
            let outside = at(&base, path);
            assert!(is_refused(store.get(&outside).await), "{path}");
            assert!(is_refused(store.get_range(&outside, 0..1).await), "{path}");
            assert!(is_refused(store.get_ranges(&outside, std::slice::from_ref(&(0..1))).await), "{path}");
            assert!(is_refused(store.head(&outside).await), "{path}");
        }
        assert!(is_refused(store.get(&Location::from("proc/self/environ")).await));
    }

    #[tokio::test]
    async fn a_location_is_decoded_as_often_as_the_file_system_does() {
        let (_folder, base, access) = folders();
        let store = store(&access);
        // The name looks like an encoded "..", but is not: no such file exists.
        for path in ["in/%2e%2e/secret/a.csv", "in/%2E%2E/secret/a.csv", "in%2F..%2Fsecret/a.csv"] {
            let result = store.get(&at(&base, path)).await;
            assert!(
                matches!(result, Err(object_store::Error::NotFound { .. })) || is_refused(result),
                "{path}"
            );
        }
        // Locations without a parser contain no ".." either.
        assert!(Location::parse(format!("{}/in/../secret/a.csv", base.display())).is_err());
        let decoded = Location::from_url_path(format!("{}/in/%2e%2e/secret/a.csv", base.display()));
        assert!(decoded.is_err(), "{decoded:?}");
    }

    #[tokio::test]
    async fn a_listing_with_what_may_not_be_read_is_an_error() {
        let (_folder, base, access) = folders();
        let store = store(&access);
        let both: Vec<ObjectMeta> = store.list(Some(&at(&base, "both"))).try_collect().await.unwrap();
        assert_eq!(both.len(), 1);
        // The folder is empty, but the check still rejects it.
        std::fs::create_dir(base.join("secret/empty")).unwrap();
        for prefix in ["in", "secret", "out", "secret/empty"] {
            let prefix = at(&base, prefix);
            let all: object_store::Result<Vec<_>> = store.list(Some(&prefix)).try_collect().await;
            assert!(is_refused(all), "{prefix}");
            let after = store.list_with_offset(Some(&prefix), &at(&base, "0"));
            assert!(is_refused(after.try_collect::<Vec<_>>().await), "{prefix}");
            assert!(is_refused(store.list_with_delimiter(Some(&prefix)).await), "{prefix}");
        }
        assert!(is_refused(store.list(None).try_collect::<Vec<_>>().await));
        assert!(is_refused(store.list_with_delimiter(None).await));
    }

    #[tokio::test]
    async fn every_way_to_write_is_checked() {
        let (_folder, base, access) = folders();
        let store = store(&access);
        let text = |path: PathBuf| std::fs::read_to_string(path).unwrap();
        for path in ["out/a.csv", "out/new/b.csv"] {
            store.put(&at(&base, path), "new".into()).await.unwrap();
            assert_eq!(text(base.join(path)), "new");
        }
        let mut upload = store.put_multipart(&at(&base, "out/c.csv")).await.unwrap();
        upload.put_part("c".into()).await.unwrap();
        upload.complete().await.unwrap();
        store.rename(&at(&base, "out/c.csv"), &at(&base, "out/d.csv")).await.unwrap();
        store.copy(&at(&base, "in/a.csv"), &at(&base, "both/e.csv")).await.unwrap();
        store.delete(&at(&base, "out/d.csv")).await.unwrap();
        assert!(!base.join("out/d.csv").exists());

        let before = |path: &str| base.join(path).symlink_metadata().unwrap().len();
        for path in ["in/a.csv", "secret/a.csv", "secret/into.csv", "out/link/a.csv", "out/linked.csv"] {
            let (outside, length) = (at(&base, path), before(path));
            assert!(is_refused(store.put(&outside, "x".into()).await), "{path}");
            let create = PutOptions::from(PutMode::Create);
            assert!(is_refused(store.put_opts(&outside, "x".into(), create).await), "{path}");
            assert!(is_refused(store.put_multipart(&outside).await), "{path}");
            assert!(is_refused(store.delete(&outside).await), "{path}");
            assert!(is_refused(store.copy(&at(&base, "both/a.csv"), &outside).await), "{path}");
            assert!(is_refused(store.rename(&at(&base, "both/a.csv"), &outside).await), "{path}");
            assert_eq!(before(path), length, "{path}");
        }
        for (from, to) in
            [("secret/a.csv", "out/x.csv"), ("out/a.csv", "both/x.csv"), ("in/linked.csv", "out/x.csv")]
        {
            let (from, to) = (at(&base, from), at(&base, to));
            assert!(is_refused(store.copy(&from, &to).await), "{from}");
            assert!(is_refused(store.copy_if_not_exists(&from, &to).await), "{from}");
            assert!(is_refused(store.rename(&from, &to).await), "{from}");
            assert!(is_refused(store.rename_if_not_exists(&from, &to).await), "{from}");
        }
        // A file with only read access must not be moved away.
        assert!(is_refused(store.rename(&at(&base, "in/a.csv"), &at(&base, "out/x.csv")).await));
        assert_eq!(text(base.join("secret/a.csv")), "a\nsecret\n");
    }

    #[test]
    fn no_store_but_that_of_files_is_served() {
        let (_folder, _base, access) = folders();
        let stores = access.object_stores();
        for url in ["http://127.0.0.1:9/", "https://example.org", "s3://bucket", "memory://", "file://host/"]
        {
            let url = Url::parse(url).unwrap();
            stores.register_store(&url, Arc::new(LocalFileSystem::new()));
            assert!(stores.get_store(&url).is_err(), "{url}");
        }
        let files = Url::parse("file:///").unwrap();
        stores.register_store(&files, Arc::new(LocalFileSystem::new()));
        assert_eq!(stores.get_store(&files).unwrap().to_string(), "files that tasks may read and write");
        let secret = Url::parse("s3://key:hunter2@bucket/").unwrap();
        assert!(!stores.get_store(&secret).unwrap_err().to_string().contains("hunter2"));
    }
}
