//! Stores that are services on a network: what they have in common.
//!
//! A [`Service`] has objects and one atomic step, create-if-absent; [`Remote`] makes a [`Store`] of it, with
//! leases that are objects as well (`lease.rs`).

#[cfg(feature = "cassandra")]
pub mod cassandra;
#[cfg(any(feature = "s3", feature = "hdfs", feature = "cassandra"))]
mod runtime;
mod service;

use std::ops::Range;
use std::sync::Arc;

use super::leases::{Leases, this_process};
use super::{Created, Hold, Key, Sharing, Store, StoreError, Upload};

pub use service::Service;

/// A store on a service. Clones share it.
pub struct Remote<S> {
    service: Arc<S>,
    leases: Leases<Key>,
}

impl<S: Service> Remote<S> {
    /// The store on this service, unopened.
    pub fn new(service: S) -> Self {
        Self { service: Arc::new(service), leases: Leases::default() }
    }
}

impl<S: Service> Store for Remote<S> {
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
        let taken = || StoreError::Held { what: key.to_string(), holder: Some(this_process()) };
        self.leases.take(key, sharing).ok_or_else(taken)
    }
}
