//! What was read last, up to a bound.

use std::collections::HashMap;
use std::hash::{BuildHasher, Hash, RandomState};
use std::sync::Arc;

/// Bytes by their name: those that were used last.
///
/// In two generations, since that takes next to nothing: what is not used while the younger one fills up is forgotten.
pub(super) struct Cache<K, S = RandomState> {
    young: HashMap<K, Arc<[u8]>, S>,
    old: HashMap<K, Arc<[u8]>, S>,
    /// Bytes of the young.
    bytes: usize,
    /// Bytes that a generation may have.
    max: usize,
}

impl<K: Eq + Hash, S: BuildHasher + Default> Cache<K, S> {
    /// Keeps up to so many bytes.
    pub(super) fn new(max: usize) -> Self {
        Self { young: HashMap::default(), old: HashMap::default(), bytes: 0, max: max / 2 }
    }

    pub(super) fn get(&mut self, name: K) -> Option<Arc<[u8]>> {
        if let Some(held) = self.young.get(&name) {
            return Some(held.clone());
        }
        let held = self.old.remove(&name)?;
        self.insert(name, held.clone());
        Some(held)
    }

    /// Forgets all.
    pub(super) fn clear(&mut self) {
        *self = Self { young: HashMap::default(), old: HashMap::default(), bytes: 0, max: self.max };
    }

    pub(super) fn insert(&mut self, name: K, bytes: Arc<[u8]>) {
        if self.bytes + bytes.len() > self.max {
            self.old = std::mem::take(&mut self.young);
            self.bytes = 0;
        }
        self.bytes += bytes.len();
        if let Some(former) = self.young.insert(name, bytes) {
            self.bytes -= former.len();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keeps_what_was_used_last_within_its_bound() {
        let mut cache: Cache<(&str, u32)> = Cache::new(32 << 20);
        let frame: Arc<[u8]> = vec![0; 1 << 20].into();
        for n in 0..100 {
            cache.insert(("pack", n), frame.clone());
            cache.insert(("pack", n), frame.clone());
            assert!(cache.get(("pack", 0)).is_some(), "used all the time, and gone after {n}");
            assert!(cache.get(("pack", 0)).is_some(), "used twice in a row");
        }
        assert_eq!(cache.bytes, cache.young.len() << 20);
        let all = cache.young.len() + cache.old.len();
        assert!((16..=32).contains(&all), "{all} MiB");
        assert!(cache.get(("pack", 99)).is_some());
        assert!(cache.get(("pack", 50)).is_none());
    }
}
