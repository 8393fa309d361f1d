//! What was read last, up to a bound.

use std::collections::{BTreeMap, HashMap};
use std::hash::Hash;
use std::sync::Arc;

/// Bytes by their name: those that were used last.
pub(super) struct Cache<K> {
    held: HashMap<K, (u64, Arc<[u8]>)>,
    /// By when they were used, which is counted and so differs for each.
    by_use: BTreeMap<u64, K>,
    uses: u64,
    bytes: usize,
    max: usize,
}

impl<K: Copy + Eq + Hash> Cache<K> {
    /// Keeps up to so many bytes.
    pub(super) fn new(max: usize) -> Self {
        Self { held: HashMap::new(), by_use: BTreeMap::new(), uses: 0, bytes: 0, max }
    }

    pub(super) fn get(&mut self, name: K) -> Option<Arc<[u8]>> {
        let (used, held) = self.held.get_mut(&name)?;
        if *used != self.uses {
            self.uses += 1;
            self.by_use.remove(used);
            self.by_use.insert(self.uses, name);
            *used = self.uses;
        }
        Some(held.clone())
    }

    pub(super) fn insert(&mut self, name: K, bytes: Arc<[u8]>) {
        self.uses += 1;
        self.bytes += bytes.len();
        if let Some((used, former)) = self.held.insert(name, (self.uses, bytes)) {
            self.by_use.remove(&used);
            self.bytes -= former.len();
        }
        self.by_use.insert(self.uses, name);
        while self.bytes > self.max {
            let Some((_, oldest)) = self.by_use.pop_first() else {
                break;
            };
            self.bytes -= self.held.remove(&oldest).map_or(0, |(_, bytes)| bytes.len());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keeps_what_was_used_last_within_its_bound() {
        let mut cache = Cache::new(32 << 20);
        let frame: Arc<[u8]> = vec![0; 1 << 20].into();
        for n in 0..100 {
            cache.insert(("pack", n), frame.clone());
            cache.insert(("pack", n), frame.clone());
            assert!(cache.get(("pack", 0)).is_some(), "used all the time, and gone after {n}");
            assert!(cache.get(("pack", 0)).is_some(), "used twice in a row");
        }
        assert!(cache.bytes <= 32 << 20);
        assert_eq!(cache.bytes, cache.held.len() << 20);
        assert_eq!(cache.held.len(), cache.by_use.len());
        assert!(cache.get(("pack", 99)).is_some());
        assert!(cache.get(("pack", 50)).is_none());
    }
}
