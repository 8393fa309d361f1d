//! The ids of one level of a page tree, kept sparsely: zero subtrees take no room.

use std::collections::BTreeMap;

use crate::digest::ChunkId;

/// Ids per block. A block of 2 KiB keeps the map small beside the ids, and a lone id cheap.
const BLOCK: u64 = 64;

/// Ids by index within a level; an absent one is [`ChunkId::ZERO`].
#[derive(Debug, Clone, Default)]
pub(super) struct Level(BTreeMap<u64, Box<[ChunkId; BLOCK as usize]>>);

impl Level {
    /// The id at `index`.
    pub(super) fn get(&self, index: u64) -> ChunkId {
        match self.0.get(&(index / BLOCK)) {
            Some(block) => block[(index % BLOCK) as usize],
            None => ChunkId::ZERO,
        }
    }

    /// Puts `id` at `index`.
    pub(super) fn set(&mut self, index: u64, id: ChunkId) {
        let slot = (index % BLOCK) as usize;
        if id == ChunkId::ZERO {
            if let Some(block) = self.0.get_mut(&(index / BLOCK)) {
                block[slot] = id;
                if block.iter().all(|id| *id == ChunkId::ZERO) {
                    self.0.remove(&(index / BLOCK));
                }
            }
            return;
        }
        let zeros = || Box::new([ChunkId::ZERO; BLOCK as usize]);
        self.0.entry(index / BLOCK).or_insert_with(zeros)[slot] = id;
    }

    /// Puts ids at `first` and behind it, all of one block, where there were none.
    pub(super) fn fill(&mut self, first: u64, ids: impl Iterator<Item = ChunkId>) {
        let mut ids = ids.enumerate().filter(|(_, id)| *id != ChunkId::ZERO).peekable();
        if ids.peek().is_none() {
            return;
        }
        let zeros = || Box::new([ChunkId::ZERO; BLOCK as usize]);
        let block = self.0.entry(first / BLOCK).or_insert_with(zeros);
        for (nth, id) in ids {
            if let Some(slot) = block.get_mut((first % BLOCK) as usize + nth) {
                *slot = id;
            }
        }
    }

    /// Forgets the ids from `count` on.
    pub(super) fn truncate(&mut self, count: u64) {
        drop(self.0.split_off(&count.div_ceil(BLOCK)));
        if let Some(block) = self.0.get_mut(&(count / BLOCK)) {
            block[(count % BLOCK) as usize..].fill(ChunkId::ZERO);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sparse_like_a_vector_of_zeros() {
        let id = |n: u64| ChunkId::of(&n.to_le_bytes());
        let mut level = Level::default();
        for n in [0, 63, 64, 1 << 40] {
            assert_eq!(level.get(n), ChunkId::ZERO);
            level.set(n, id(n));
            assert_eq!(level.get(n), id(n));
        }
        level.set(1 << 40, ChunkId::ZERO);
        assert_eq!(level.0.len(), 2, "a block of zeros is given back");
        level.fill(128, [ChunkId::ZERO; 8].into_iter());
        assert_eq!(level.0.len(), 2, "zeros take no room");
        level.fill(72, [id(72), ChunkId::ZERO, id(74)].into_iter());
        assert_eq!(
            [71, 72, 73, 74, 75].map(|n| level.get(n)),
            [ChunkId::ZERO, id(72), ChunkId::ZERO, id(74), ChunkId::ZERO]
        );
        level.truncate(64);
        assert_eq!((level.get(63), level.get(64)), (id(63), ChunkId::ZERO));
        level.truncate(63);
        assert_eq!((level.get(0), level.get(63)), (id(0), ChunkId::ZERO));
    }
}
