//! Removing the packs that nothing needs; see `chunks.rs` for how it gets along with writers.

use std::collections::HashSet;

use crate::digest::{ChunkId, PackId};

use super::chunks::{Chunks, EPOCH, list_packs, read_index};
use super::{Hold, Key, StoreError};

/// Removes packs while no writer is at work.
///
/// Find out what is needed *after* it has begun: before, a writer may still name more.
pub struct Sweep {
    chunks: Chunks,
    _hold: Box<dyn Hold>,
}

impl Sweep {
    pub(super) fn new(chunks: Chunks, hold: Box<dyn Hold>) -> Self {
        Self { chunks, _hold: hold }
    }

    /// Removes the packs none of whose chunks is `live`, one after the other. Dying in between does no
    /// harm: what is left of them goes with the next sweep. Packs that cannot be read are left.
    ///
    /// # Errors
    /// What the store reports.
    pub fn remove_unreferenced(&self, live: &HashSet<ChunkId>) -> Result<Swept, StoreError> {
        let store = &**self.chunks.store();
        let mut swept = Swept::default();
        let mut dead = Vec::new();
        for id in list_packs(store)? {
            match read_index(store, id) {
                Ok((index, _)) if index.chunks.iter().any(|(id, _)| live.contains(id)) => swept.kept += 1,
                Ok((_, size)) => dead.push((id, size)),
                Err(StoreError::NotFound { .. }) => {}
                Err(StoreError::Corrupt { .. }) => swept.damaged.push(id),
                Err(error) => return Err(error),
            }
        }
        if dead.is_empty() {
            return Ok(swept);
        }
        store.delete(&Key::new(EPOCH)?)?;
        self.chunks.forget();
        for (id, size) in dead {
            store.delete(&id.key())?;
            swept.removed.push(id);
            swept.bytes += size;
        }
        Ok(swept)
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
