//! A store in memory: for tests, and for embedders that move snapshots themselves.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::{Arc, Mutex};

use super::leases::{Leases, lock, this_process};
use super::{Created, Hold, Key, Sharing, Store, StoreError, Upload, key};

/// Objects in the memory of this process, gone with it. Clones share them.
#[derive(Clone, Default)]
pub struct Memory {
    objects: Arc<Mutex<BTreeMap<Key, Arc<[u8]>>>>,
    leases: Arc<Leases<Key>>,
}

impl Memory {
    /// An empty store.
    pub fn new() -> Self {
        Self::default()
    }

    fn find(&self, key: &Key) -> Result<Arc<[u8]>, StoreError> {
        let found = lock(&self.objects).get(key).cloned();
        found.ok_or_else(|| StoreError::NotFound { what: key.to_string() })
    }

    fn insert(&self, key: &Key, bytes: &[u8], replace: bool) -> Result<Created, StoreError> {
        let mut objects = lock(&self.objects);
        refuse_file_and_directory(&objects, key)?;
        if !replace && objects.contains_key(key) {
            return Ok(Created::Exists);
        }
        objects.insert(key.clone(), bytes.into());
        Ok(Created::Yes)
    }
}

/// The rule that a local directory sets: a key is not also the directory of another.
fn refuse_file_and_directory(objects: &BTreeMap<Key, Arc<[u8]>>, key: &Key) -> Result<(), StoreError> {
    let below = format!("{key}/");
    let text = key.as_str();
    let parents = text.match_indices('/').map(|(at, _)| &text[..at]);
    // In order, so that only what begins with the key is looked at.
    let behind = objects.range(key..).map(|(k, _)| k.as_str()).take_while(|k| k.starts_with(text));
    let mut taken = behind.clone().any(|k| k.starts_with(&below));
    for parent in parents {
        taken |= objects.contains_key(&Key::new(parent)?);
    }
    if taken {
        return Err(StoreError::BadKey { key: key.to_string(), why: super::key::FILE_AND_DIRECTORY });
    }
    Ok(())
}

impl Store for Memory {
    fn describe(&self) -> String {
        "memory".to_string()
    }

    fn put(&self, key: &Key, bytes: &[u8]) -> Result<(), StoreError> {
        self.insert(key, bytes, true).map(|_| ())
    }

    fn upload(&self) -> Result<Box<dyn Upload>, StoreError> {
        Ok(Box::new(MemoryUpload { store: self.clone(), bytes: Vec::new() }))
    }

    fn create(&self, key: &Key, bytes: &[u8]) -> Result<Created, StoreError> {
        self.insert(key, bytes, false)
    }

    fn get(&self, key: &Key) -> Result<Vec<u8>, StoreError> {
        Ok(self.find(key)?.to_vec())
    }

    fn get_range(&self, key: &Key, range: Range<u64>) -> Result<Vec<u8>, StoreError> {
        let object = self.find(key)?;
        let within = usize::try_from(range.start).ok().zip(usize::try_from(range.end).ok());
        let found = within.and_then(|(start, end)| object.get(start..end));
        found.map(<[u8]>::to_vec).ok_or_else(|| super::short(key, &range, object.len() as u64))
    }

    fn size(&self, key: &Key) -> Result<u64, StoreError> {
        Ok(self.find(key)?.len() as u64)
    }

    fn list(&self, prefix: &str) -> Result<Vec<Key>, StoreError> {
        key::check_prefix(prefix)?;
        let objects = lock(&self.objects);
        Ok(objects.keys().filter(|k| k.as_str().starts_with(prefix)).cloned().collect())
    }

    fn settle(&self, prefix: &str) -> Result<(), StoreError> {
        key::check_prefix(prefix)
    }

    fn delete(&self, key: &Key) -> Result<(), StoreError> {
        lock(&self.objects).remove(key);
        Ok(())
    }

    fn lease(&self, key: &Key, sharing: Sharing) -> Result<Box<dyn Hold>, StoreError> {
        let taken = || StoreError::Held { what: key.to_string(), holder: Some(this_process()), alive: false };
        self.leases.take(key, sharing).ok_or_else(taken)
    }
}

struct MemoryUpload {
    store: Memory,
    bytes: Vec<u8>,
}

impl Upload for MemoryUpload {
    fn write(&mut self, bytes: &[u8]) -> Result<(), StoreError> {
        self.bytes.extend_from_slice(bytes);
        Ok(())
    }

    fn commit(self: Box<Self>, key: &Key) -> Result<(), StoreError> {
        self.store.put(key, &self.bytes)
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn conforms() {
        super::super::conformance::all(&super::Memory::new());
    }
}
