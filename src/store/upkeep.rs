//! Rewriting packs: small ones into bigger ones, so that few are read, and what is needed of those that hold much
//! that is not.
//!
//! The chunks that are kept are durable in another pack before their pack goes. So whoever dies in between leaves
//! chunks that are there twice, and whoever relies on a chunk meanwhile still has it: rewriting runs beside writers
//! and readers. Only one does it at a time, since of two each might take the other's copy for the one that stays.

use std::collections::{BTreeMap, HashSet};
use std::time::Duration;

use crate::digest::{ChunkId, PackId};

use super::chunks::Chunks;
use super::frames::read_frame;
use super::pack::HEADER;
use super::pack_index::read_index;
use super::sweep::Sweep;
use super::writer::OpenPack;
use super::{Hold, Sharing, StoreError};

/// Packs of one class that are merged when there are as many.
const FAN: usize = 16;
/// Bytes of the biggest pack of class 0; those of the next class are up to four times as big.
const CLASS_0: u64 = 128 << 10;
/// Packs of this class are big enough: 128 MiB.
const CLASS_END: u32 = 5;
/// A pack is rewritten when less than this part of its chunks is needed: half.
const SPARSE: usize = 2;

/// Removes and rewrites packs, one at a time for a store.
pub struct Upkeep {
    chunks: Chunks,
    hold: Box<dyn Hold>,
    /// Packs of which what is needed was copied.
    copied: HashSet<PackId>,
}

/// What was rewritten.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Rewritten {
    /// Packs that are gone, or will be with a sweep.
    pub replaced: Vec<PackId>,
    /// Bytes of these.
    pub bytes: u64,
    /// Packs that are there instead.
    pub packs: Vec<PackId>,
    /// Bytes of these.
    pub written: u64,
}

impl Rewritten {
    /// Both together.
    pub fn add(&mut self, other: Self) {
        self.replaced.extend(other.replaced);
        self.bytes += other.bytes;
        self.packs.extend(other.packs);
        self.written += other.written;
    }
}

impl Upkeep {
    pub(super) fn new(chunks: Chunks, hold: Box<dyn Hold>) -> Self {
        Self { chunks, hold, copied: HashSet::new() }
    }

    /// Keeps writers away; see [`Chunks::sweep`].
    ///
    /// # Errors
    /// As of [`Chunks::sweep`].
    pub fn sweep(self) -> Result<Sweep, StoreError> {
        let lease = self.chunks.lease(Sharing::Exclusive)?;
        Ok(Sweep::new(self.chunks, self.copied, [self.hold, lease]))
    }

    /// As [`Upkeep::sweep`], waiting for writers no longer than this; those that come meanwhile wait.
    ///
    /// # Errors
    /// As of [`Chunks::sweep`].
    pub fn sweep_within(self, patience: Duration) -> Result<Sweep, StoreError> {
        let lease = self.chunks.lease_within(Sharing::Exclusive, patience)?;
        Ok(Sweep::new(self.chunks, self.copied, [self.hold, lease]))
    }

    /// Merges small packs where there are many, and removes those that it has merged. Stops early, with what it has,
    /// when `go_on` says no.
    ///
    /// # Errors
    /// What the store reports.
    pub fn merge(&self, go_on: &dyn Fn() -> bool) -> Result<Rewritten, StoreError> {
        let mut all = Rewritten::default();
        self.chunks.load()?;
        loop {
            let sources = self.crowded();
            if sources.is_empty() {
                return Ok(all);
            }
            let done = self.rewrite(&sources, &|_| true, go_on)?;
            let keys: Vec<_> = done.replaced.iter().map(PackId::key).collect();
            let store = &**self.chunks.store();
            self.hold.check()?;
            store.delete_all(&keys)?;
            self.chunks.forget(&done.replaced);
            let stuck = done.replaced.len() < 2;
            all.add(done);
            if stuck || !go_on() {
                return Ok(all);
            }
        }
    }

    /// Copies what is `live` of packs most of which is not, so that a sweep with the same chunks removes them.
    /// Stops early, with what it has, when `go_on` says no.
    ///
    /// # Errors
    /// What the store reports.
    pub fn rewrite_sparse(
        &mut self,
        live: &HashSet<ChunkId>,
        go_on: &dyn Fn() -> bool,
    ) -> Result<Rewritten, StoreError> {
        self.chunks.known().refresh(&**self.chunks.store())?;
        let claims = self.chunks.claims(live)?;
        // One of which nothing is needed goes as it is.
        let is_sparse = |needed, chunks| needed > 0 && needed * SPARSE < chunks;
        let sparse = claims
            .iter()
            .filter(|claim| !claim.pack.is_unfit() && is_sparse(claim.needed, claim.pack.chunks()));
        let mut sources: Vec<PackId> = sparse.map(|claim| claim.pack.id).collect();
        sources.sort_unstable();
        let done = self.rewrite(&sources, &|id| live.contains(&id), go_on)?;
        self.copied.extend(&done.replaced);
        Ok(done)
    }

    /// Small packs of one class, with those that are smaller still, if there are many.
    fn crowded(&self) -> Vec<PackId> {
        let mut classes: BTreeMap<u32, Vec<PackId>> = BTreeMap::new();
        for pack in self.chunks.known().packs().iter().filter(|pack| !pack.is_unfit()) {
            classes.entry(class(pack.size)).or_default().push(pack.id);
        }
        let crowded = |(class, packs): (&u32, &Vec<PackId>)| *class < CLASS_END && packs.len() >= FAN;
        let Some(top) = classes.iter().find(|entry| crowded(*entry)).map(|(class, _)| *class) else {
            return vec![];
        };
        let mut sources: Vec<PackId> = classes.range(..=top).flat_map(|(_, packs)| packs).copied().collect();
        sources.sort_unstable();
        sources
    }

    /// Copies the chunks of these packs that are to be kept. A pack that is damaged is left as it is.
    fn rewrite(
        &self,
        sources: &[PackId],
        keep: &dyn Fn(ChunkId) -> bool,
        go_on: &dyn Fn() -> bool,
    ) -> Result<Rewritten, StoreError> {
        let (mut done, mut open): (_, Option<OpenPack>) = (Rewritten::default(), None);
        for &source in sources.iter().take_while(|_| go_on()) {
            match self.copy(source, keep, &mut open, &mut done) {
                Ok(size) => {
                    done.replaced.push(source);
                    done.bytes += size;
                }
                Err(StoreError::Corrupt { .. }) => self.chunks.mark(source),
                Err(StoreError::NotFound { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        self.close(open, &mut done)?;
        // What comes out may be what went in.
        done.replaced.retain(|id| !done.packs.contains(id));
        Ok(done)
    }

    /// Copies the chunks of a pack that are to be kept, each checked, and gives the bytes of its object.
    fn copy(
        &self,
        source: PackId,
        keep: &dyn Fn(ChunkId) -> bool,
        open: &mut Option<OpenPack>,
        done: &mut Rewritten,
    ) -> Result<u64, StoreError> {
        let store = &**self.chunks.store();
        let (index, size) = read_index(store, source)?;
        let (mut at, mut chunks) = (HEADER, index.chunks.iter());
        for frame in &index.frames {
            let chunks: Vec<_> = chunks.by_ref().take(frame.chunks as usize).collect();
            let begin = at;
            at += u64::from(frame.stored_len);
            if !chunks.iter().any(|(id, _)| keep(*id)) {
                continue;
            }
            let bytes = read_frame(store, source, begin, frame)?;
            let mut rest = bytes.as_slice();
            for (id, len) in chunks {
                // The index was checked: the chunks fill the frame.
                let (chunk, after) = rest.split_at(*len as usize);
                rest = after;
                if !keep(*id) || open.as_ref().is_some_and(|pack: &OpenPack| pack.contains(*id)) {
                    continue;
                }
                if ChunkId::of(chunk) != *id {
                    return Err(StoreError::corrupt(source.key(), format!("its chunk {id} is another")));
                }
                if open.is_none() {
                    // One thread: it is done beside the guest.
                    *open = Some(OpenPack::new(&self.chunks, 1)?);
                }
                let Some(pack) = open.as_mut() else { continue };
                pack.add(*id, chunk)?;
                if pack.is_full() {
                    self.close(open.take(), done)?;
                }
            }
        }
        Ok(size)
    }

    fn close(&self, open: Option<OpenPack>, done: &mut Rewritten) -> Result<(), StoreError> {
        let Some(pack) = open else { return Ok(()) };
        let finished = pack.finish()?;
        self.chunks.insert(&finished)?;
        done.packs.push(finished.id);
        done.written += finished.size;
        Ok(())
    }
}

/// Packs of one class differ in size by four times at most.
fn class(size: u64) -> u32 {
    (size / CLASS_0).checked_ilog2().map_or(0, |log| log / 2 + 1).min(CLASS_END)
}
