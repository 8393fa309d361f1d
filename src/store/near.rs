//! Where the chunks are that lie near those that were looked up last: who wants one page wants its neighbours next.

use std::collections::HashMap;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::sync::Arc;

use crate::digest::ChunkId;

use super::frames::Found;
use super::pack_index::Pack;
use super::tables::Content;

/// Chunks that are remembered at most, twice: some 30 MB.
const CHUNKS_MAX: usize = 1 << 18;

/// The blocks that were read last, by the chunks in them.
#[derive(Default)]
pub(super) struct Near {
    young: Generation,
    /// Forgotten when the young are as many as may be.
    old: Generation,
}

#[derive(Default)]
struct Generation {
    /// By the first bytes of the id. If two have the same, one is found by another look at the pack.
    chunks: HashMap<u64, Spot, ById>,
    blocks: Vec<Block>,
    /// Chunks in the blocks, of which some may be in several.
    held: usize,
    /// Behind the chunk that was found last, which is the one that is most likely to be wanted next.
    next: Spot,
}

#[derive(Clone)]
struct Block {
    pack: Arc<Pack>,
    frames: Arc<[(u64, super::pack::Frame)]>,
    chunks: Arc<[Chunk]>,
}

/// A chunk, and where in its frame it is.
#[derive(Clone, Copy)]
struct Chunk {
    id: ChunkId,
    frame: u32,
    offset: u32,
    len: u32,
}

/// Number of a block, and of a chunk in it. Both fit into a u32.
#[derive(Clone, Copy, Default)]
struct Spot {
    block: u32,
    nth: u32,
}

impl Near {
    /// Where the chunk is, if that is known and the pack will do.
    pub fn get(&mut self, id: ChunkId, will_do: &dyn Fn(&Pack) -> bool) -> Option<Found> {
        [&mut self.young, &mut self.old].into_iter().find_map(|generation| generation.get(id, will_do))
    }

    /// Adds a block, and says where in it the chunk is.
    pub fn insert(&mut self, pack: &Arc<Pack>, content: Content, wanted: ChunkId) -> Option<Found> {
        let Content { frames, chunks } = content;
        if self.young.held + chunks.len() > CHUNKS_MAX {
            self.old = std::mem::take(&mut self.young);
            self.young.chunks.reserve(CHUNKS_MAX);
        }
        let mut rest = chunks.iter();
        let mut placed = Vec::with_capacity(chunks.len());
        for (nth, (_, frame)) in frames.iter().enumerate() {
            let mut offset = 0;
            for (id, len) in rest.by_ref().take(frame.chunks as usize) {
                placed.push(Chunk { id: *id, frame: nth as u32, offset, len: *len });
                offset += len;
            }
        }
        let block = Block { pack: pack.clone(), frames: frames.into(), chunks: placed.into() };
        self.young.add(block, wanted)
    }

    /// Forgets all.
    pub fn clear(&mut self) {
        *self = Self::default();
    }
}

impl Generation {
    fn get(&mut self, id: ChunkId, will_do: &dyn Fn(&Pack) -> bool) -> Option<Found> {
        let at = |spot: Spot| {
            let block = self.blocks.get(spot.block as usize)?;
            let chunk = block.chunks.get(spot.nth as usize).filter(|chunk| chunk.id == id)?;
            Some((spot, block, chunk))
        };
        let known = || at(*self.chunks.get(&prefix(id))?);
        let (spot, block, chunk) = at(self.next).or_else(known)?;
        let found = will_do(&block.pack).then(|| block.found(chunk));
        self.next = Spot { nth: spot.nth + 1, ..spot };
        found
    }

    fn add(&mut self, block: Block, wanted: ChunkId) -> Option<Found> {
        let number = self.blocks.len() as u32;
        let spots = (0..).map(|nth| Spot { block: number, nth });
        self.chunks.extend(block.chunks.iter().map(|chunk| prefix(chunk.id)).zip(spots));
        let nth = block.chunks.iter().position(|chunk| chunk.id == wanted);
        let found = nth.map(|nth| block.found(&block.chunks[nth]));
        self.next = Spot { block: number, nth: nth.map_or(0, |nth| nth as u32 + 1) };
        self.held += block.chunks.len();
        self.blocks.push(block);
        found
    }
}

impl Block {
    fn found(&self, chunk: &Chunk) -> Found {
        let Chunk { frame: nth, offset, len, .. } = *chunk;
        Found { pack: self.pack.id, frames: self.frames.clone(), nth, offset, len }
    }
}

fn prefix(id: ChunkId) -> u64 {
    let [first, ..] = id.as_bytes().as_chunks().0 else { return 0 };
    u64::from_le_bytes(*first)
}

/// Hashes ids, which are hashes themselves, by a part of them: a million chunks are to be found in no time. Keyed, so
/// that nobody can make chunks that collide.
pub(super) struct ById(u64);

impl Default for ById {
    fn default() -> Self {
        Self(RandomState::new().hash_one(0))
    }
}

impl BuildHasher for ById {
    type Hasher = IdHasher;

    fn build_hasher(&self) -> IdHasher {
        IdHasher(self.0)
    }
}

pub(super) struct IdHasher(u64);

impl Hasher for IdHasher {
    fn write(&mut self, bytes: &[u8]) {
        let Some(([a, b], _)) = bytes.as_chunks::<8>().0.split_first_chunk::<2>() else {
            // The length, which is that of all.
            return;
        };
        let [a, b] = [a, b].map(|part| u64::from_le_bytes(*part));
        let product = u128::from(a ^ self.0) * u128::from(b ^ self.0.rotate_left(32) | 1);
        self.0 = product as u64 ^ (product >> 64) as u64;
    }

    fn write_u64(&mut self, n: u64) {
        let product = u128::from(n ^ self.0) * 0x9E37_79B9_7F4A_7C15;
        self.0 = product as u64 ^ (product >> 64) as u64;
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{like_memory, write};
    use super::super::{Chunks, Memory};
    use super::*;

    #[test]
    fn a_block_that_is_read_again_and_again_takes_no_more_room() {
        let chunks = Chunks::open(Arc::new(Memory::new()));
        write(&chunks, like_memory, 0..1000);
        let (pack, id) = (chunks.known().packs()[0].clone(), ChunkId::of(&like_memory(7)));
        let mut near = Near::default();
        for _ in 0..3000 {
            let block = pack.block_of(id, &**chunks.store(), chunks.buckets()).unwrap().unwrap();
            assert!(near.insert(&pack, block, id).is_some());
            for generation in [&near.young, &near.old] {
                let held: usize = generation.blocks.iter().map(|block| block.chunks.len()).sum();
                assert!(held <= CHUNKS_MAX, "{held} chunks");
            }
        }
        assert!(near.get(id, &|_| true).is_some());
        assert!(!near.old.blocks.is_empty(), "it was often enough");
    }
}
