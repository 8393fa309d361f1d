//! Sets of blocks.

use std::collections::BTreeMap;

/// A set of block numbers: 64 of them take some 20 bytes when they are together.
#[derive(Debug, Clone, Default)]
pub(super) struct BlockSet(BTreeMap<u32, u64>);

impl BlockSet {
    /// Whether `block` is in the set.
    pub fn contains(&self, block: u32) -> bool {
        self.0.get(&(block / 64)).is_some_and(|word| word >> (block % 64) & 1 == 1)
    }

    /// Puts the blocks from `start` to before `end` in.
    pub fn insert(&mut self, start: u32, end: u32) {
        for word in start / 64..end.div_ceil(64) {
            *self.0.entry(word).or_default() |= mask(word, start, end);
        }
    }

    /// Takes the blocks from `start` to before `end` out, and gives those that were in. Its time follows the
    /// blocks that are in the set.
    pub fn remove(&mut self, start: u32, end: u32) -> BlockSet {
        let mut removed = BTreeMap::new();
        let words = self.0.range_mut(start / 64..end.div_ceil(64));
        for (word, bits) in words {
            let was = *bits & mask(*word, start, end);
            *bits &= !was;
            removed.insert(*word, was);
        }
        for word in removed.keys() {
            if self.0.get(word) == Some(&0) {
                self.0.remove(word);
            }
        }
        removed.retain(|_, bits| *bits != 0);
        BlockSet(removed)
    }

    /// Puts all of `other` in.
    pub fn extend(&mut self, other: &BlockSet) {
        for (word, bits) in &other.0 {
            *self.0.entry(*word).or_default() |= bits;
        }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The blocks, in ascending order.
    pub fn iter(&self) -> impl Iterator<Item = u32> + '_ {
        let bits = |(word, bits): (&u32, &u64)| {
            let (word, bits) = (*word, *bits);
            (0..64).filter(move |bit| bits >> bit & 1 == 1).map(move |bit| word * 64 + bit)
        };
        self.0.iter().flat_map(bits)
    }
}

/// The bits of `word` that stand for blocks from `start` to before `end`, which it meets.
fn mask(word: u32, start: u32, end: u32) -> u64 {
    let base = u64::from(word) * 64;
    let low = u64::from(start).saturating_sub(base).min(64);
    let high = u64::from(end).saturating_sub(base).min(64);
    let below = |bits: u64| if bits == 64 { u64::MAX } else { (1 << bits) - 1 };
    below(high) & !below(low)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_go_in_and_out() {
        let mut set = BlockSet::default();
        set.insert(60, 70);
        set.insert(128, 192);
        assert!(set.contains(60) && set.contains(69) && !set.contains(70) && !set.contains(59));
        assert_eq!(set.remove(65, 130).iter().collect::<Vec<_>>(), [65, 66, 67, 68, 69, 128, 129]);
        assert_eq!(set.iter().take(6).collect::<Vec<_>>(), [60, 61, 62, 63, 64, 130]);
        set.remove(0, 1000);
        assert!(set.is_empty());
        set.insert(5, 5);
        assert_eq!(set.iter().count(), 0);
    }
}
