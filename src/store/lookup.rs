//! Finding the pack that has a chunk, and the place in it.
//!
//! Nothing is read before it is needed: of each pack the root when it is seen first, then a bucket where a chunk may be
//! and the block that it is in. A block is kept with all that it tells, since the chunks that are wanted next lie near.
//! No lock is held while a pack is read.

use std::collections::HashSet;
use std::sync::Arc;

use crate::digest::{ChunkId, PackId};

use super::StoreError;
use super::chunks::{Chunks, TRIES};
use super::frames::Found;
use super::leases::lock;
use super::pack_index::{Pack, read_index};

/// What a look has found.
struct Looked {
    found: Option<Found>,
    /// A pack could not be looked at, since it is gone.
    gone: bool,
}

/// A pack, and how many live chunks it alone has or has first.
pub(super) struct Claim {
    pub pack: Arc<Pack>,
    pub needed: usize,
}

impl Chunks {
    /// Where the chunk is, as far as is known.
    pub(super) fn find(&self, id: ChunkId) -> Result<Option<Found>, StoreError> {
        self.find_where(id, &|_| true)
    }

    /// Where the chunk is in a pack that will do: one that is not marked, if there is one.
    pub(super) fn find_where(
        &self,
        id: ChunkId,
        will_do: &dyn Fn(&Pack) -> bool,
    ) -> Result<Option<Found>, StoreError> {
        let fit = self.look(id, &|pack| !pack.is_unfit() && will_do(pack))?.found;
        if fit.is_some() {
            return Ok(fit);
        }
        Ok(self.look(id, &|pack| pack.is_unfit() && will_do(pack))?.found)
    }

    /// Where the chunk is now: looks again as long as others rewrite packs.
    pub(super) fn look_for(&self, id: ChunkId) -> Result<Option<Found>, StoreError> {
        for _ in 0..TRIES {
            let changed = self.known().refresh(&**self.store())?;
            // It may lead to packs that are gone.
            lock(self.near()).clear();
            let found = self.find(id)?;
            if found.is_some() || !changed {
                return Ok(found);
            }
        }
        Ok(None)
    }

    /// Whether the chunk is stored durably, in a pack that is not marked: for writers, who hold the lease.
    pub(super) fn holds(&self, id: ChunkId) -> Result<bool, StoreError> {
        let store = &**self.store();
        for _ in 0..TRIES {
            if !self.known().may_have(id, store)? {
                return Ok(false);
            }
            let Looked { found, gone } = self.look(id, &|pack| pack.is_settled() && !pack.is_unfit())?;
            if found.is_some() || !gone {
                return Ok(found.is_some());
            }
            let mut known = self.known();
            known.refresh(store)?;
            known.settle(store)?;
        }
        // Then it is stored once more.
        Ok(false)
    }

    /// Where the chunk is in one of these packs.
    pub(super) fn find_in(&self, id: ChunkId, packs: &HashSet<PackId>) -> Result<Option<Found>, StoreError> {
        self.find_where(id, &|pack| packs.contains(&pack.id))
    }

    fn look(&self, id: ChunkId, will_do: &dyn Fn(&Pack) -> bool) -> Result<Looked, StoreError> {
        let near = lock(self.near()).get(id, will_do);
        if near.is_some() {
            return Ok(Looked { found: near, gone: false });
        }
        let packs = self.known().packs().clone();
        let mut gone = false;
        // The one that had the last chunk is likely to have this one; then what was written last.
        let recent = self.recent();
        let order = packs.get(recent).map(|_| recent).into_iter();
        for nth in order.chain((0..packs.len()).rev().filter(|nth| *nth != recent)) {
            let Some(pack) = packs.get(nth).filter(|pack| will_do(pack)) else { continue };
            match pack.block_of(id, &**self.store(), self.buckets()) {
                Ok(Some(block)) => {
                    self.set_recent(nth);
                    let found = lock(self.near()).insert(pack, block, id);
                    if found.is_some() {
                        return Ok(Looked { found, gone });
                    }
                }
                Ok(None) => {}
                Err(StoreError::NotFound { .. }) => gone = true,
                Err(error @ StoreError::Corrupt { .. }) => self.known().note_damage(pack.id, error),
                Err(error) => return Err(error),
            }
        }
        Ok(Looked { found: None, gone })
    }

    /// Which packs have the live chunks. Of a chunk that is in several, one counts; see
    /// [`Known::by_rank`](super::known::Known::by_rank). Packs that are damaged or gone are not among them; the former
    /// are noted.
    pub(super) fn claims(&self, live: &HashSet<ChunkId>) -> Result<Vec<Claim>, StoreError> {
        let packs = self.known().by_rank();
        let (mut claimed, mut claims) = (HashSet::new(), vec![]);
        for pack in packs {
            let index = match read_index(&**self.store(), pack.id) {
                Ok((index, _)) => index,
                Err(StoreError::NotFound { .. }) => continue,
                Err(error @ StoreError::Corrupt { .. }) => {
                    self.known().note_damage(pack.id, error);
                    continue;
                }
                Err(error) => return Err(error),
            };
            let mine = index.chunks.iter().filter(|(id, _)| live.contains(id) && claimed.insert(*id));
            let needed = mine.count();
            claims.push(Claim { pack, needed });
        }
        Ok(claims)
    }
}
