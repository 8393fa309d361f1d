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
    chunks: HashMap<ChunkId, Spot, ById>,
    blocks: Vec<Block>,
}

#[derive(Clone)]
struct Block {
    pack: Arc<Pack>,
    frames: Arc<[(u64, super::pack::Frame)]>,
}

/// Where in a block a chunk is.
#[derive(Clone, Copy)]
struct Spot {
    block: u32,
    frame: u32,
    offset: u32,
    len: u32,
}

impl Near {
    /// Where the chunk is, if that is known and the pack will do.
    pub fn get(&self, id: ChunkId, will_do: &dyn Fn(&Pack) -> bool) -> Option<Found> {
        [&self.young, &self.old].into_iter().find_map(|generation| generation.get(id, will_do))
    }

    /// Adds a block, and says where in it the chunk is.
    pub fn insert(&mut self, pack: &Arc<Pack>, content: Content, wanted: ChunkId) -> Option<Found> {
        let Content { frames, chunks } = content;
        if self.young.chunks.len() + chunks.len() > CHUNKS_MAX {
            self.old = std::mem::take(&mut self.young);
        }
        let (mut rest, block) = (chunks.iter(), self.young.blocks.len() as u32);
        let mut found = None;
        for (nth, (_, frame)) in frames.iter().enumerate() {
            let mut offset = 0;
            for (id, len) in rest.by_ref().take(frame.chunks as usize) {
                // Frames and chunks of a block are fewer than fit into a u32.
                let spot = Spot { block, frame: nth as u32, offset, len: *len };
                offset += len;
                self.young.chunks.insert(*id, spot);
                if *id == wanted {
                    found = Some(spot);
                }
            }
        }
        let block = Block { pack: pack.clone(), frames: frames.into() };
        self.young.blocks.push(block.clone());
        Some(block.at(found?))
    }

    /// Forgets all.
    pub fn clear(&mut self) {
        *self = Self::default();
    }
}

impl Generation {
    fn get(&self, id: ChunkId, will_do: &dyn Fn(&Pack) -> bool) -> Option<Found> {
        let spot = self.chunks.get(&id)?;
        let block = self.blocks.get(spot.block as usize).filter(|block| will_do(&block.pack))?;
        Some(block.at(*spot))
    }
}

impl Block {
    fn at(&self, spot: Spot) -> Found {
        let Spot { frame: nth, offset, len, .. } = spot;
        Found { pack: self.pack.id, frames: self.frames.clone(), nth, offset, len }
    }
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
