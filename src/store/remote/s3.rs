//! A store in a bucket of S3, or of a service that speaks its protocol.
//!
//! | object | what |
//! |---|---|
//! | `<prefix>/<key>` | an object |
//! | `<prefix>/.uploads/<random>` | a big object without its name yet, and its parts; a day later it is anyone's to remove |
//!
//! No segment of a key begins with a dot, so nothing of this can clash with an object.

mod config;
mod errors;
mod upload;

use std::future::Future;
use std::io;
use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use futures_util::{StreamExt, TryStreamExt};
use object_store::aws::AmazonS3;
use object_store::list::{PaginatedListOptions, PaginatedListStore};
use object_store::path::Path;
use object_store::{
    Error, GetOptions, GetRange, GetResult, ObjectStore, ObjectStoreExt, PutMode, PutPayload,
};

use super::super::{Created, Key, StoreError, Upload, short};
use super::runtime::wait;
use super::service::Service;
use upload::{PART, Parts};

pub use config::Config;

/// The time for which a call that fails is repeated.
const PATIENCE: Duration = Duration::from_secs(30);
/// The same when a store is opened: what does not answer then has most likely a wrong address.
const PATIENCE_AT_FIRST: Duration = Duration::from_secs(5);
/// The longest that anything takes, the last attempt included.
const LIMIT: Duration = Duration::from_secs(45);
/// Between one attempt and the next.
const PAUSE: Duration = Duration::from_millis(200);
/// What a big object leaves behind where its writer was killed is removed when it is so old.
const LEFTOVER: Duration = Duration::from_secs(24 * 3600);
/// More bytes than this are not allocated before they arrive.
const ALLOCATE: u64 = 1 << 20;

const UPLOADS: &str = ".uploads/";

/// The store's bucket. Clones share the connections.
#[derive(Clone)]
pub struct S3 {
    client: Arc<AmazonS3>,
    config: Arc<Config>,
    /// What fails for a short time is repeated for so long.
    patience: Duration,
}

impl S3 {
    /// Connects, and sees that the service answers. Writes nothing.
    ///
    /// # Errors
    /// It does not answer, does not let us in, or has no such bucket.
    pub fn connect(config: Config) -> Result<Self, StoreError> {
        // Fails where there is a provider already, which will do.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let config = Arc::new(config);
        let with = |patience| -> Result<Self, StoreError> {
            let client = config.client(patience).map_err(|error| config.failed("open", "", error))?;
            Ok(Self { client: Arc::new(client), config: config.clone(), patience })
        };
        with(PATIENCE_AT_FIRST)?.pages("", None, 1, &mut |_| false)?;
        with(PATIENCE)
    }

    /// The path of what has this name in the store.
    fn path(&self, name: &str) -> Result<Path, StoreError> {
        let path = format!("{}{name}", self.config.root());
        Path::parse(path).map_err(|error| self.config.failed("name", name, error.into()))
    }

    /// Sends a request, and again where that may help. What was done twice is no harm.
    fn ask<T, F: Future<Output = Result<T, Error>>>(
        &self,
        doing: &'static str,
        name: &str,
        mut request: impl FnMut() -> F,
    ) -> Result<T, StoreError> {
        let begun = Instant::now();
        loop {
            let left = LIMIT.saturating_sub(begun.elapsed());
            match self.within(left, doing, name, request()) {
                Err(error) if errors::is_passing(&error) && begun.elapsed() < self.patience => {
                    std::thread::sleep(PAUSE);
                }
                done => return done,
            }
        }
    }

    /// Waits for one request, which the client itself repeats where it surely was not done.
    fn within<T>(
        &self,
        limit: Duration,
        doing: &'static str,
        name: &str,
        request: impl Future<Output = Result<T, Error>>,
    ) -> Result<T, StoreError> {
        wait(async {
            match tokio::time::timeout(limit, request).await {
                Ok(done) => done.map_err(|error| self.config.failed(doing, name, error)),
                Err(_) => Err(self.config.silent(doing, name)),
            }
        })
    }

    fn put_at(&self, name: &str, bytes: Vec<u8>) -> Result<(), StoreError> {
        let (path, payload) = (self.path(name)?, PutPayload::from(bytes));
        self.ask("write", name, || self.client.put(&path, payload.clone())).map(drop)
    }

    fn create_at(&self, name: &str, bytes: &[u8]) -> Result<Created, StoreError> {
        let (path, payload) = (self.path(name)?, PutPayload::from(bytes.to_vec()));
        self.ask("write", name, || async {
            match self.client.put_opts(&path, payload.clone(), PutMode::Create.into()).await {
                Ok(_) => Ok(Created::Yes),
                // The condition does not hold. A conflict (409) comes as the same error, around another one, and only
                // means that another request was under way.
                Err(Error::AlreadyExists { source, .. }) if source.is::<Error>() => Ok(Created::Exists),
                Err(other) => Err(other),
            }
        })
    }

    /// Calls `each` with all names that begin with the prefix, `false` ending it, or with those up to the delimiter.
    fn pages(
        &self,
        prefix: &str,
        delimiter: Option<&'static str>,
        max: usize,
        each: &mut dyn FnMut(Listed<'_>) -> bool,
    ) -> Result<(), StoreError> {
        let (root, mut token) = (self.config.root(), None::<String>);
        let full = format!("{root}{prefix}");
        loop {
            let page = self.ask("list", prefix, || {
                let options = PaginatedListOptions {
                    delimiter: delimiter.map(Into::into),
                    max_keys: Some(max),
                    page_token: token.clone(),
                    ..Default::default()
                };
                self.client.list_paginated((!full.is_empty()).then_some(&full), options)
            })?;
            let objects = page.result.objects.iter().map(|o| (&o.location, o.last_modified.timestamp()));
            let dirs = page.result.common_prefixes.iter().map(|dir| (dir, 0));
            for (path, modified) in objects.chain(dirs) {
                let Some(name) = path.as_ref().strip_prefix(&root) else { continue };
                if name.starts_with(prefix) && !each(Listed { name, modified }) {
                    return Ok(());
                }
            }
            token = page.page_token;
            if token.is_none() {
                return Ok(());
            }
        }
    }

    fn delete_names(&self, names: impl Iterator<Item = String>) -> Result<(), StoreError> {
        let paths = names.map(|name| self.path(&name)).collect::<Result<Vec<_>, _>>()?;
        // As many as one request takes.
        for paths in paths.chunks(1000) {
            let first = paths[0].to_string();
            let first = first.strip_prefix(&self.config.root()).unwrap_or(&first);
            self.ask("remove", first, || async {
                let paths: Vec<_> = paths.iter().cloned().map(Ok).collect();
                let mut deleted = self.client.delete_stream(futures_util::stream::iter(paths).boxed());
                loop {
                    match deleted.try_next().await {
                        Ok(None) => return Ok(()),
                        Ok(Some(_)) | Err(Error::NotFound { .. }) => {}
                        Err(error) => return Err(error),
                    }
                }
            })?;
        }
        Ok(())
    }

    /// Removes what writers that were killed have left. Parts that were never joined are not seen from here: the
    /// bucket's own rules end them.
    fn delete_leftovers(&self) -> Result<(), StoreError> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let before = now.saturating_sub(LEFTOVER).as_secs();
        let mut old = Vec::new();
        self.pages(UPLOADS, None, 1000, &mut |listed| {
            if u64::try_from(listed.modified).is_ok_and(|modified| modified < before) {
                old.push(listed.name.to_string());
            }
            true
        })?;
        self.delete_names(old.into_iter())
    }

    /// What the service gives for this range of the object, which is read to its end.
    fn read(&self, key: &Key, range: Option<GetRange>) -> Result<Read, StoreError> {
        let (name, path) = (key.as_str(), self.path(key.as_str())?);
        let options = || GetOptions { range: range.clone(), ..Default::default() };
        let result = match self.ask("read", name, || self.client.get_opts(&path, options())) {
            // Of an empty object, or beyond the end.
            Err(StoreError::Io { source, .. }) if errors::is_no_range(&source) => {
                return Ok(Read { size: self.size(key)?, bytes: None });
            }
            other => other?,
        };
        let (size, range) = (result.meta.size, result.range.clone());
        let bytes = wait(self.body(name, range.end.saturating_sub(range.start), result))?;
        Ok(Read { size, bytes: Some((range, bytes)) })
    }

    async fn body(&self, name: &str, len: u64, result: GetResult) -> Result<Vec<u8>, StoreError> {
        let mut bytes = Vec::with_capacity(len.min(ALLOCATE) as usize);
        let mut stream = result.into_stream();
        while let Some(piece) = tokio::time::timeout(LIMIT, stream.try_next())
            .await
            .map_err(|_| self.config.silent("read", name))?
            .map_err(|error| self.config.failed("read", name, error))?
        {
            if (bytes.len() + piece.len()) as u64 > len {
                break;
            }
            bytes.extend_from_slice(&piece);
        }
        if bytes.len() as u64 == len {
            return Ok(bytes);
        }
        let error = io::Error::new(
            io::ErrorKind::InvalidData,
            "the service sent another number of bytes than it said",
        );
        Err(StoreError::from_io("read", self.config.address(name), error))
    }
}

/// One of a listing: its name in the store, and when it was written.
struct Listed<'a> {
    name: &'a str,
    /// Seconds since 1970; 0 for a directory.
    modified: i64,
}

/// What was read of an object.
struct Read {
    /// Length of the whole object.
    size: u64,
    /// Where in it they are; none if there are no such bytes.
    bytes: Option<(Range<u64>, Vec<u8>)>,
}

impl Service for S3 {
    fn describe(&self) -> String {
        self.config.describe()
    }

    fn put(&self, key: &Key, bytes: &[u8]) -> Result<(), StoreError> {
        if bytes.len() <= PART {
            return self.put_at(key.as_str(), bytes.to_vec());
        }
        let mut upload = self.upload()?;
        upload.write(bytes)?;
        upload.commit(key)
    }

    fn upload(&self) -> Result<Box<dyn Upload>, StoreError> {
        Ok(Box::new(Parts::new(self.clone())))
    }

    fn create(&self, key: &Key, bytes: &[u8]) -> Result<Created, StoreError> {
        self.create_at(key.as_str(), bytes)
    }

    fn get(&self, key: &Key) -> Result<Vec<u8>, StoreError> {
        Ok(self.read(key, None)?.bytes.map_or_else(Vec::new, |(_, bytes)| bytes))
    }

    fn get_range(&self, key: &Key, range: Range<u64>) -> Result<Vec<u8>, StoreError> {
        let read = if range.start < range.end {
            self.read(key, Some(GetRange::Bounded(range.clone())))?
        } else {
            // Such a range cannot be asked for.
            Read { size: self.size(key)?, bytes: None }
        };
        match read.bytes {
            Some((got, bytes)) if got == range => Ok(bytes),
            None if range.start == range.end && range.end <= read.size => Ok(Vec::new()),
            _ => Err(short(self.config.address(key.as_str()), &range, read.size)),
        }
    }

    fn get_end(&self, key: &Key, max: u64) -> Result<(u64, Vec<u8>), StoreError> {
        if max == 0 {
            return Ok((self.size(key)?, Vec::new()));
        }
        // Services count in signed numbers.
        let read = self.read(key, Some(GetRange::Suffix(max.min(i64::MAX as u64))))?;
        Ok((read.size, read.bytes.map_or_else(Vec::new, |(_, bytes)| bytes)))
    }

    fn size(&self, key: &Key) -> Result<u64, StoreError> {
        let path = self.path(key.as_str())?;
        Ok(self.ask("read", key.as_str(), || self.client.head(&path))?.size)
    }

    fn list(&self, prefix: &str) -> Result<Vec<Key>, StoreError> {
        let mut keys = Vec::new();
        self.pages(prefix, None, 1000, &mut |listed| {
            // What is not named as a key is not an object of ours.
            keys.extend(Key::new(listed.name));
            true
        })?;
        keys.sort_unstable();
        keys.dedup();
        Ok(keys)
    }

    fn names(&self, dir: &str) -> Result<Vec<String>, StoreError> {
        let mut names = Vec::new();
        self.pages(dir, Some("/"), 1000, &mut |listed| {
            let name = listed.name.strip_prefix(dir).and_then(|name| Key::new(name).ok());
            names.extend(name.map(|name| name.to_string()));
            true
        })?;
        names.sort_unstable();
        names.dedup();
        Ok(names)
    }

    fn delete(&self, key: &Key) -> Result<(), StoreError> {
        self.delete_names([key.to_string()].into_iter())
    }

    fn delete_all(&self, keys: &[Key]) -> Result<(), StoreError> {
        self.delete_names(keys.iter().map(Key::to_string))?;
        self.delete_leftovers()
    }
}
