//! Removing the packs that nothing needs; see `chunks.rs` for how it gets along with writers.

use std::collections::HashSet;

use crate::digest::{ChunkId, PackId};

use super::chunks::{Chunks, EPOCH};
use super::pack_index::read_index;
use super::unfit::mark_of;
use super::{Hold, Key, StoreError};

/// Removes packs while no writer is at work.
///
/// Find out what is needed *after* it has begun: before, a writer may still name more.
pub struct Sweep {
    chunks: Chunks,
    /// Packs of which what was needed before it began has been copied.
    copied: HashSet<PackId>,
    holds: [Box<dyn Hold>; 2],
}

impl Sweep {
    pub(super) fn new(chunks: Chunks, copied: HashSet<PackId>, holds: [Box<dyn Hold>; 2]) -> Self {
        Self { chunks, copied, holds }
    }

    /// Makes sure that no writer is at work still, for one who is about to remove something.
    ///
    /// # Errors
    /// [`StoreError::Lapsed`], and what the store reports.
    pub fn check(&self) -> Result<(), StoreError> {
        self.holds.iter().try_for_each(|hold| hold.check())
    }

    /// Removes the packs of which no `live` chunk is needed, since they have none or another pack has it as well.
    /// Dying in between does no harm: what is left of them goes with the next sweep. Packs that cannot be read are
    /// left.
    ///
    /// # Errors
    /// What the store reports.
    pub fn remove_unreferenced(&self, live: &HashSet<ChunkId>) -> Result<Swept, StoreError> {
        let store = &**self.chunks.store();
        let mut swept = Swept::default();
        self.chunks.known().refresh(store)?;
        let claims = self.chunks.claims(live)?;
        swept.damaged.extend(self.chunks.known().damaged.iter().map(|(id, _)| *id));
        let needed: HashSet<PackId> =
            claims.iter().filter(|claim| claim.needed > 0).map(|claim| claim.pack.id).collect();
        swept.kept = needed.len() as u64;
        let mut unneeded: Vec<(PackId, u64)> = claims
            .iter()
            .filter(|claim| claim.needed == 0)
            .map(|claim| (claim.pack.id, claim.pack.size))
            .collect();
        unneeded.sort_unstable();
        let mut dead = vec![];
        for (id, size) in unneeded {
            match self.is_spare(id, live, &needed) {
                Ok(true) => dead.push((id, size)),
                Ok(false) => swept.kept += 1,
                Err(StoreError::NotFound { .. }) => {}
                Err(StoreError::Corrupt { .. }) => swept.damaged.push(id),
                Err(error) => return Err(error),
            }
        }
        let marks: Vec<Key> = self.chunks.known().unfit_without(&dead).into_iter().map(mark_of).collect();
        if dead.is_empty() {
            store.delete_all(&marks)?;
            return Ok(swept);
        }
        self.check()?;
        let was = self.chunks.known().as_of.take();
        let current = was.is_some() && was == Some(self.chunks.epoch()?);
        store.delete(&Key::new(EPOCH)?)?;
        let keys: Vec<Key> = dead.iter().map(|(id, _)| id.key()).collect();
        store.delete_all(&keys)?;
        // Not before: a damaged pack without its mark is relied on.
        store.delete_all(&marks)?;
        swept.bytes = dead.iter().map(|(_, size)| size).sum();
        swept.removed = dead.into_iter().map(|(id, _)| id).collect();
        self.chunks.forget(&swept.removed);
        if current {
            // We know of all that has happened: what we knew to be durable still is.
            let epoch = self.chunks.epoch()?;
            self.chunks.known().as_of = Some(epoch);
        }
        Ok(swept)
    }

    /// Whether what is needed of a pack can be read in others, which stay.
    fn is_spare(
        &self,
        pack: PackId,
        live: &HashSet<ChunkId>,
        stay: &HashSet<PackId>,
    ) -> Result<bool, StoreError> {
        if self.copied.contains(&pack) {
            return Ok(true);
        }
        let (index, _) = read_index(&**self.chunks.store(), pack)?;
        let elsewhere = |id| match self.chunks.find_in(id, stay) {
            Ok(Some(found)) => self.chunks.read_at(id, &found).is_ok(),
            _ => false,
        };
        Ok(index.chunks.iter().filter(|(id, _)| live.contains(id)).all(|(id, _)| elsewhere(*id)))
    }
}

/// What a [`Sweep`] has done.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Swept {
    /// The packs that it removed.
    pub removed: Vec<PackId>,
    /// Bytes that are free now.
    pub bytes: u64,
    /// Packs that it left, some of whose chunks are needed.
    pub kept: u64,
    /// Packs that it left because they cannot be read.
    pub damaged: Vec<PackId>,
}
