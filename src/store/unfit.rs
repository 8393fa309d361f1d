//! Packs that are found damaged.
//!
//! Who finds that a chunk is not what was written marks its pack in the store, and from then on nobody relies on it:
//! writers store its chunks anew, in other packs, and readers take them from there if they can. So what is begun anew
//! is whole, and snapshots from before become whole again where they need the same chunks. A pack that is marked is
//! not rewritten, and goes with its mark when other packs have what is needed of it.

use std::collections::HashSet;

use crate::digest::{ChunkId, PackId};

use super::chunks::{Chunks, EPOCH};
use super::frames::Found;
use super::known::list_ids;
use super::leases::lock;
use super::writer::Finished;
use super::{Created, Key, Store, StoreError, objects};

/// The mark of a pack.
pub(super) fn mark_of(id: PackId) -> Key {
    objects::key_of("unfit", &id)
}

/// The packs that are marked.
pub(super) fn list_marked(store: &dyn Store) -> Result<HashSet<PackId>, StoreError> {
    Ok(list_ids(store, "unfit/", mark_of)?.into_iter().collect())
}

impl Chunks {
    /// Marks the pack. Where that fails, on a full disk for instance, this process at least knows.
    pub(super) fn mark(&self, id: PackId) {
        if self.known().unfit().contains(&id) {
            return;
        }
        let store = &**self.store();
        if matches!(store.create(&mark_of(id), &[]), Ok(Created::Yes))
            && let Ok(epoch) = Key::new(EPOCH)
        {
            // So that writers look again.
            let _ = store.delete(&epoch);
        }
        self.known().set_unfit(id, true);
    }

    /// A pack was written. If it was marked, it was written over.
    pub(super) fn unmark(&self, finished: &Finished) {
        let id = finished.id;
        if self.known().unfit().contains(&id) && self.store().delete(&mark_of(id)).is_ok() {
            self.known().set_unfit(id, false);
            lock(self.frames()).clear();
        }
    }

    /// Where the chunk is but for these packs, in which it is damaged.
    pub(super) fn find_besides(&self, id: ChunkId, damaged: &[PackId]) -> Result<Option<Found>, StoreError> {
        self.known().refresh(&**self.store())?;
        lock(self.near()).clear();
        self.find_where(id, &|pack| !damaged.contains(&pack.id))
    }
}
