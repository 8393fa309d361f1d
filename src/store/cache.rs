//! Decompressed frames that were read last, up to a bound.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use crate::digest::PackId;

/// Bytes that are kept: neighbouring pages are read one after the other, and they share a frame.
const CACHE_BYTES: usize = 32 << 20;

/// A frame: its pack, and its place in it in bytes.
type Id = (PackId, u64);

/// The frames that were used last.
#[derive(Default)]
pub(super) struct FrameCache {
    frames: HashMap<Id, (u64, Arc<[u8]>)>,
    /// By when they were used, which is counted and so differs for each.
    by_use: BTreeMap<u64, Id>,
    uses: u64,
    bytes: usize,
}

impl FrameCache {
    pub(super) fn get(&mut self, id: Id) -> Option<Arc<[u8]>> {
        let (used, frame) = self.frames.get_mut(&id)?;
        self.uses += 1;
        self.by_use.remove(used);
        self.by_use.insert(self.uses, id);
        *used = self.uses;
        Some(frame.clone())
    }

    pub(super) fn insert(&mut self, id: Id, frame: Arc<[u8]>) {
        self.uses += 1;
        self.bytes += frame.len();
        if let Some((used, former)) = self.frames.insert(id, (self.uses, frame)) {
            self.by_use.remove(&used);
            self.bytes -= former.len();
        }
        self.by_use.insert(self.uses, id);
        while self.bytes > CACHE_BYTES {
            let Some((_, oldest)) = self.by_use.pop_first() else {
                break;
            };
            self.bytes -= self.frames.remove(&oldest).map_or(0, |(_, frame)| frame.len());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keeps_what_was_used_last_within_its_bound() {
        let (mut cache, pack) = (FrameCache::default(), PackId::of(b"pack"));
        let frame: Arc<[u8]> = vec![0; 1 << 20].into();
        for n in 0..100 {
            cache.insert((pack, n), frame.clone());
            cache.insert((pack, n), frame.clone());
            assert!(cache.get((pack, 0)).is_some(), "used all the time, and gone after {n}");
        }
        assert!(cache.bytes <= CACHE_BYTES);
        assert_eq!(cache.bytes, cache.frames.len() << 20);
        assert_eq!(cache.frames.len(), cache.by_use.len());
        assert!(cache.get((pack, 99)).is_some());
        assert!(cache.get((pack, 50)).is_none());
    }
}
