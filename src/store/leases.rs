//! Leases among the threads of one process, for stores that no other process can see.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::{Hold, Holder, Sharing};

/// Who holds what: none where absent, else `Some(n)` shared holders or `None` for the exclusive one.
#[derive(Debug)]
pub(super) struct Leases<K>(Arc<Mutex<HashMap<K, Option<u32>>>>);

impl<K> Default for Leases<K> {
    fn default() -> Self {
        Self(Arc::default())
    }
}

impl<K: Hash + Eq + Clone + Send + Sync + 'static> Leases<K> {
    /// Takes the lease, or returns nothing if it cannot be had now.
    pub(super) fn take(&self, key: &K, sharing: Sharing) -> Option<Box<dyn Hold>> {
        let mut held = lock(&self.0);
        match (sharing, held.get_mut(key)) {
            (_, None) => {
                held.insert(key.clone(), (sharing == Sharing::Shared).then_some(1));
            }
            (Sharing::Shared, Some(Some(holders))) => *holders += 1,
            _ => return None,
        }
        drop(held);
        Some(Box::new(Lease { held: self.0.clone(), key: key.clone() }))
    }
}

struct Lease<K: Hash + Eq> {
    held: Arc<Mutex<HashMap<K, Option<u32>>>>,
    key: K,
}

impl<K: Hash + Eq + Send + Sync> Hold for Lease<K> {}

impl<K: Hash + Eq> Drop for Lease<K> {
    fn drop(&mut self) {
        let mut held = lock(&self.held);
        match held.get_mut(&self.key) {
            Some(Some(holders)) if *holders > 1 => *holders -= 1,
            _ => {
                held.remove(&self.key);
            }
        }
    }
}

/// This process, as the holder of a lease.
pub(super) fn this_process() -> Holder {
    let host = ["/proc/sys/kernel/hostname", "/etc/hostname"]
        .iter()
        .find_map(|file| std::fs::read_to_string(file).ok())
        .map(|name| name.trim().to_string())
        .filter(|name| !name.is_empty());
    Holder { pid: std::process::id(), host: host.unwrap_or_else(|| "this machine".to_string()) }
}

/// Locks, also after a panic elsewhere: all that is guarded so in this room is consistent at each step.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
