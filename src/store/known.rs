//! What is known of the packs in a store: where each chunk is.

use std::collections::{HashMap, HashSet};
use std::hash::{BuildHasher, Hasher, RandomState};
use std::sync::Arc;

use crate::digest::{ChunkId, PackId};

use super::chunks::PACKS;
use super::pack::{FOOTER, Frame, HEADER, Index, index_range};
use super::{Key, Store, StoreError};

/// The packs, and the chunks in them. A chunk that is in several packs is found in the biggest, or in one that this
/// process has just written.
#[derive(Default)]
pub(super) struct Known {
    pub loaded: bool,
    /// Value of the epoch when the packs were settled and listed under the lease: as long as it stays, all chunks
    /// that are known are there, and durable but for those in `unsettled`.
    pub as_of: Option<Vec<u8>>,
    /// Packs of others, which may have died before these were durable.
    pub unsettled: Vec<PackId>,
    packs: HashMap<u32, Pack>,
    by_id: HashMap<PackId, u32>,
    /// Number of the next pack: none is used twice.
    next: u32,
    chunks: HashMap<ChunkId, Place, ById>,
    /// Chunks that were in packs that are gone: so many of `chunks`, at most, lead nowhere.
    stale: usize,
    /// Packs whose index cannot be used, and why.
    pub damaged: Vec<(PackId, String)>,
}

/// A pack.
pub(super) struct Pack {
    pub id: PackId,
    /// The frames, each with its place in the pack's object, in bytes.
    pub frames: Arc<[(u64, Frame)]>,
    /// Bytes of its object.
    pub size: u64,
    pub chunks: usize,
    /// Some of its chunks are found in other packs: it is to be looked at again when one of those goes.
    shadowed: bool,
}

/// Where a chunk is.
#[derive(Clone, Copy)]
pub(super) struct Place {
    pack: u32,
    pub frame: u32,
    pub offset: u32,
    pub len: u32,
}

impl Known {
    /// Where the chunk is, and in which pack.
    pub fn find(&self, id: ChunkId) -> Option<(&Pack, Place)> {
        let place = self.chunks.get(&id)?;
        Some((self.packs.get(&place.pack)?, *place))
    }

    /// All packs.
    pub fn packs(&self) -> impl Iterator<Item = &Pack> {
        self.packs.values()
    }

    /// Takes notice of the packs that have come and gone, and says whether any has. Then the list may lack others: it
    /// is not of one moment, and a pack that is rewritten meanwhile is in it under neither name.
    pub fn refresh(&mut self, store: &dyn Store) -> Result<bool, StoreError> {
        let mut changed = false;
        self.damaged.clear();
        let listed = list_packs(store)?;
        if !self.by_id.is_empty() {
            let there: HashSet<PackId> = listed.iter().copied().collect();
            let gone: Vec<PackId> = self.by_id.keys().copied().filter(|id| !there.contains(id)).collect();
            changed |= !gone.is_empty();
            self.remove(&gone, store)?;
        }
        for id in listed {
            if self.by_id.contains_key(&id) {
                continue;
            }
            match read_index(store, id) {
                Ok((index, size)) => {
                    changed = true;
                    self.unsettled.push(id);
                    self.insert(id, &index, size, false)?;
                }
                // Removed since.
                Err(StoreError::NotFound { .. }) => changed = true,
                Err(error @ StoreError::Corrupt { .. }) => self.damaged.push((id, reason(error))),
                Err(error) => return Err(error),
            }
        }
        self.loaded = true;
        Ok(changed)
    }

    /// Adds a pack. If it was just written, its chunks are found in it, whatever packs have them as well.
    pub fn insert(&mut self, id: PackId, index: &Index, size: u64, written: bool) -> Result<(), StoreError> {
        if let Some(number) = self.by_id.get(&id) {
            if written {
                self.place(*number, index, true);
            }
            return Ok(());
        }
        let number = self.next;
        let too_many = || StoreError::corrupt("packs", "there are more packs than can be counted");
        self.next = number.checked_add(1).ok_or_else(too_many)?;
        let mut at = HEADER;
        let place = |frame: &Frame| {
            let begin = at;
            at += u64::from(frame.stored_len);
            (begin, frame.clone())
        };
        let frames = index.frames.iter().map(place).collect();
        let chunks = index.chunks.len();
        self.packs.insert(number, Pack { id, frames, size, chunks, shadowed: false });
        self.by_id.insert(id, number);
        self.place(number, index, written);
        Ok(())
    }

    /// The chunks of this index are found in this pack from now on, if it is the biggest that has them or `at_once`.
    fn place(&mut self, number: u32, index: &Index, at_once: bool) {
        let (mut chunks, mut shadowed) = (index.chunks.iter(), false);
        self.chunks.reserve(index.chunks.len());
        for (nth, frame) in index.frames.iter().enumerate() {
            let mut offset = 0;
            for (id, len) in chunks.by_ref().take(frame.chunks as usize) {
                // A frame has a chunk at least, so there are fewer than fit into a u32.
                let place = Place { pack: number, frame: nth as u32, offset, len: *len };
                offset += len;
                let former = self.chunks.entry(*id).or_insert(place);
                if former.pack == number {
                    continue;
                }
                match self.packs.get_mut(&former.pack) {
                    Some(pack) if !at_once && pack.chunks > index.chunks.len() => shadowed = true,
                    Some(pack) => (pack.shadowed, *former) = (true, place),
                    None => *former = place,
                }
            }
        }
        if let Some(pack) = self.packs.get_mut(&number) {
            pack.shadowed |= shadowed;
        }
    }

    /// Forgets packs that are gone. Chunks of theirs that other packs have are found there.
    pub fn remove(&mut self, gone: &[PackId], store: &dyn Store) -> Result<(), StoreError> {
        for id in gone {
            if let Some(pack) = self.by_id.remove(id).and_then(|number| self.packs.remove(&number)) {
                self.stale += pack.chunks;
            }
        }
        if gone.is_empty() {
            return Ok(());
        }
        let mut shadowed = vec![];
        for (number, pack) in &mut self.packs {
            if std::mem::take(&mut pack.shadowed) {
                shadowed.push((*number, pack.id));
            }
        }
        for (number, id) in shadowed {
            match read_index(store, id) {
                Ok((index, _)) => self.place(number, &index, false),
                // It was readable before; whoever reads from it will see.
                Err(StoreError::NotFound { .. } | StoreError::Corrupt { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        if self.stale > self.chunks.len() / 4 {
            let packs = &self.packs;
            self.chunks.retain(|_, place| packs.contains_key(&place.pack));
            self.stale = 0;
        }
        Ok(())
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

    fn finish(&self) -> u64 {
        self.0
    }
}

/// The packs in the store.
pub(super) fn list_packs(store: &dyn Store) -> Result<Vec<PackId>, StoreError> {
    let keys = store.list(PACKS)?;
    // What else may be there is not ours.
    let id_of = |key: &Key| key.name().parse().ok().filter(|id: &PackId| id.key() == *key);
    Ok(keys.iter().filter_map(id_of).collect())
}

/// The index of a pack, and the length of its object in bytes.
pub(super) fn read_index(store: &dyn Store, id: PackId) -> Result<(Index, u64), StoreError> {
    let key = id.key();
    let size = store.size(&key)?;
    if size < HEADER + FOOTER {
        return Err(StoreError::corrupt(&key, format!("it has {size} bytes, too few for a pack")));
    }
    let footer = store.get_range(&key, size - FOOTER..size)?;
    let range = index_range(id, size, &footer)?;
    let index = store.get_range(&key, range)?;
    Ok((Index::decode(id, size, &index)?, size))
}

fn reason(error: StoreError) -> String {
    match error {
        StoreError::Corrupt { why, .. } => why,
        other => other.to_string(),
    }
}
