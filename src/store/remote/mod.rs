//! Stores that are services on a network: what they have in common.
//!
//! A [`Service`] has objects and one atomic step, create-if-absent; [`Remote`] makes a [`Store`] of it, with leases that
//! are objects as well (`lease.rs`).
//!
//! | key | what |
//! |---|---|
//! | `format` | `wasm-ckpt store` and the version of the store, made first of all |
//! | `leases/…`, `beats/…` | who holds what, see `lease.rs` |
//! | `probes/…` | made when the store is, to see whether the service keeps its word; removed |

#[cfg(feature = "cassandra")]
pub mod cassandra;
mod connect;
#[cfg(feature = "hdfs")]
pub mod hdfs;
mod lease;
#[cfg(test)]
mod lease_tests;
mod process;
#[cfg(any(feature = "s3", feature = "hdfs", feature = "cassandra"))]
mod runtime;
#[cfg(feature = "s3")]
pub mod s3;
mod service;

use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use lease::{Leases, Timing};
use process::Process;

use super::local::{FORMAT, format_file, format_of};
use super::{Created, Hold, Key, Sharing, Store, StoreError, Upload};

pub use connect::{connect, is_url};
pub use service::Service;

const FORMAT_KEY: &str = "format";
const PROBES: &str = "probes/";
/// Two short lines.
const FORMAT_MAX: u64 = 256;
/// Objects up to this size are read in one call, however long they may be.
const SMALL: u64 = 4 << 20;

/// A store on a service. Clones share it.
#[derive(Clone)]
pub struct Remote {
    service: Arc<dyn Service>,
    leases: Arc<Leases>,
    working: Option<PathBuf>,
}

impl Remote {
    /// Opens the store there, and makes it if there is nothing.
    ///
    /// # Errors
    /// [`StoreError::NewerVersion`], [`StoreError::NotAStore`] where there are other objects,
    /// [`StoreError::Unsafe`] for a service that lets two make the same object, and what the service reports.
    pub fn open(service: Arc<dyn Service>) -> Result<Self, StoreError> {
        match Self::existing(service.clone()) {
            Err(StoreError::NotFound { .. }) => {}
            other => return other,
        }
        // Another process may make it at the same time.
        let is_ours = |key: &Key| key.as_str() == FORMAT_KEY || key.as_str().starts_with(PROBES);
        if !service.list("")?.iter().all(is_ours) && Self::existing(service.clone()).is_err() {
            return Err(StoreError::NotAStore { what: service.describe() });
        }
        probe(&*service)?;
        service.create(&Key::new(FORMAT_KEY)?, format_file().as_bytes())?;
        Self::existing(service)
    }

    /// Opens the store there, which there must be. Writes nothing.
    ///
    /// # Errors
    /// [`StoreError::NotFound`], and as of [`Remote::open`].
    pub fn existing(service: Arc<dyn Service>) -> Result<Self, StoreError> {
        let bytes = match service.get_at_most(&Key::new(FORMAT_KEY)?, FORMAT_MAX) {
            Err(StoreError::NotFound { .. }) => {
                return Err(StoreError::NotFound { what: service.describe() });
            }
            other => other?,
        };
        match format_of(&bytes) {
            Some(FORMAT) => {}
            Some(found) if found > FORMAT => {
                let what = service.describe();
                return Err(StoreError::NewerVersion { what, found, known: FORMAT });
            }
            _ => return Err(StoreError::corrupt(FORMAT_KEY, "it is not the format file of a store")),
        }
        Self::new(service)
    }

    /// The store there, whether or not there is one: for tests.
    ///
    /// # Errors
    /// The system gives no random bytes.
    #[doc(hidden)]
    pub fn new(service: Arc<dyn Service>) -> Result<Self, StoreError> {
        let process = Process::this()?;
        let leases = Leases::new(service.clone(), process, Timing::default(), lease::system_clock());
        Ok(Self { service, leases: Arc::new(leases), working: None })
    }

    /// The same store, whose runs on this machine keep their working files in this directory, each store's apart.
    #[must_use]
    pub fn with_working_dir(self, dir: PathBuf) -> Self {
        let store = blake3::hash(self.identity().as_bytes()).to_hex();
        Self { working: Some(dir.join("work").join(&store[..24])), ..self }
    }
}

/// Whether of two that make the same object the second is told so: all that keeps two runners of a job apart rests on
/// it, and some servers take the condition for decoration.
fn probe(service: &dyn Service) -> Result<(), StoreError> {
    let key = Key::new(format!("{PROBES}{}", process::nonce()?))?;
    service.create(&key, b"first")?;
    let second = service.create(&key, b"second")?;
    let found = service.get_at_most(&key, FORMAT_MAX)?;
    let listed = service.list(PROBES)?.contains(&key);
    service.delete(&key)?;
    if second == Created::Yes || found != b"first" {
        return Err(StoreError::Unsafe {
            what: service.describe(),
            why: "it makes an object that is there already",
        });
    }
    if !listed {
        return Err(StoreError::Unsafe {
            what: service.describe(),
            why: "it does not list what it has just stored",
        });
    }
    Ok(())
}

impl Store for Remote {
    fn describe(&self) -> String {
        self.service.describe()
    }

    fn put(&self, key: &Key, bytes: &[u8]) -> Result<(), StoreError> {
        self.service.put(key, bytes)
    }

    fn upload(&self) -> Result<Box<dyn Upload>, StoreError> {
        self.service.upload()
    }

    fn create(&self, key: &Key, bytes: &[u8]) -> Result<Created, StoreError> {
        self.service.create(key, bytes)
    }

    fn get(&self, key: &Key) -> Result<Vec<u8>, StoreError> {
        self.service.get(key)
    }

    fn get_range(&self, key: &Key, range: Range<u64>) -> Result<Vec<u8>, StoreError> {
        self.service.get_range(key, range)
    }

    fn get_end(&self, key: &Key, max: u64) -> Result<(u64, Vec<u8>), StoreError> {
        self.service.get_end(key, max)
    }

    fn get_at_most(&self, key: &Key, max: u64) -> Result<Vec<u8>, StoreError> {
        let (len, bytes) = self.service.get_end(key, max.min(SMALL))?;
        if len > max {
            return Err(StoreError::TooLarge { what: key.to_string(), len, max });
        }
        if len <= SMALL { Ok(bytes) } else { self.service.get_range(key, 0..len) }
    }

    fn size(&self, key: &Key) -> Result<u64, StoreError> {
        self.service.size(key)
    }

    fn list(&self, prefix: &str) -> Result<Vec<Key>, StoreError> {
        super::key::check_prefix(prefix)?;
        self.service.list(prefix)
    }

    fn settle(&self, prefix: &str) -> Result<(), StoreError> {
        // What can be seen on a service is durable.
        super::key::check_prefix(prefix)
    }

    fn delete(&self, key: &Key) -> Result<(), StoreError> {
        self.service.delete(key)
    }

    fn delete_all(&self, keys: &[Key]) -> Result<(), StoreError> {
        self.service.delete_all(keys)
    }

    fn names(&self, dir: &str) -> Result<Vec<String>, StoreError> {
        super::key::check_prefix(dir)?;
        self.service.names(dir)
    }

    fn lease(&self, key: &Key, sharing: Sharing) -> Result<Box<dyn Hold>, StoreError> {
        self.leases.take(key, sharing)
    }

    fn working_dir(&self) -> Option<PathBuf> {
        self.working.clone()
    }

    fn lapse(&self) -> Duration {
        // A little more, since it is looked at from time to time only.
        let timing = Timing::default();
        timing.lapse + timing.beat
    }

    fn is_held(&self, key: &Key) -> Result<bool, StoreError> {
        self.leases.is_held(key)
    }
}
