//! Says of most chunks that are not stored that they are not, without a look at any index: a writer asks that of each
//! page that it is given.

/// Bits for each chunk at least, as long as there is room: one look in a hundred is for nothing.
const BITS: usize = 12;
/// Bits of the smallest filter: 128 KiB.
const LEAST: usize = 1 << 20;
/// Bits of the biggest one: 64 MiB, for 44 million chunks; with more, more looks are for nothing.
const MOST: usize = 1 << 29;
/// Bits that are set for a chunk.
const SET: u32 = 6;

/// A Bloom filter, all bits of a chunk in one line of the cache.
#[derive(Default)]
pub(super) struct Filter {
    lines: Vec<[u64; 8]>,
    chunks: usize,
}

impl Filter {
    /// One for so many chunks, twice over.
    pub fn new(chunks: usize) -> Self {
        let bits = (chunks.saturating_mul(2 * BITS)).clamp(LEAST, MOST);
        Self { lines: vec![[0; 8]; bits.div_ceil(512)], chunks: 0 }
    }

    /// It has so many chunks that it should be made anew, bigger.
    pub fn is_crowded(&self) -> bool {
        let bits = self.lines.len() * 512;
        bits < MOST && self.chunks * BITS > bits
    }

    /// Chunks that were added.
    pub fn len(&self) -> usize {
        self.chunks
    }

    /// Adds what a chunk is known by.
    pub fn add(&mut self, print: u64) {
        self.chunks += 1;
        let (line, bits) = self.place(print);
        if let Some(line) = self.lines.get_mut(line) {
            each(bits, |word, bit| {
                line[word] |= bit;
                true
            });
        }
    }

    /// Whether it may have been added.
    pub fn may_have(&self, print: u64) -> bool {
        let (line, bits) = self.place(print);
        self.lines.get(line).is_some_and(|line| each(bits, |word, bit| line[word] & bit != 0))
    }

    /// The line, and the bits in it.
    fn place(&self, print: u64) -> (usize, u64) {
        // Fingerprints are as good as random; these spread their 48 bits over 64.
        let mixed = print.wrapping_mul(0x9E37_79B9_7F4A_7C15);
        let line = (u128::from(mixed) * self.lines.len() as u128) >> 64;
        let bits = (mixed ^ mixed >> 29).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        (line as usize, bits ^ bits >> 32)
    }
}

/// Each bit of a chunk, until `f` says no; whether it never did.
fn each(bits: u64, mut f: impl FnMut(usize, u64) -> bool) -> bool {
    (0..SET).all(|n| {
        let at = bits >> (9 * n) & 511;
        f((at >> 6) as usize, 1 << (at & 63))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a fingerprint is like.
    fn print(n: u64) -> u64 {
        let hash = blake3::hash(&n.to_le_bytes());
        u64::from_le_bytes(hash.as_bytes()[..8].try_into().unwrap()) >> 16
    }

    #[test]
    fn nothing_that_was_added_is_missed_and_little_else_found() {
        for chunks in [0, 100, 200_000] {
            let mut filter = Filter::new(chunks);
            (0..2 * chunks as u64).for_each(|n| filter.add(print(n)));
            assert!(!filter.is_crowded() && filter.len() == 2 * chunks);
            assert!((0..2 * chunks as u64).all(|n| filter.may_have(print(n))));
            let wrong = (1 << 40..(1 << 40) + 100_000).filter(|n| filter.may_have(print(*n))).count();
            assert!(wrong < 2000, "{wrong} of 100000 with {chunks}");
        }
        let mut filter = Filter::new(0);
        (0..100_000).for_each(|n| filter.add(print(n)));
        assert!(filter.is_crowded());
        assert!(!Filter::default().may_have(print(1)));
    }
}
