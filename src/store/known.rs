//! What is known of the packs in a store.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use crate::digest::{ChunkId, PackId};

use super::chunks::PACKS;
use super::filter::Filter;
use super::pack_index::{Pack, print_of};
use super::unfit::list_marked;
use super::writer::Finished;
use super::{Key, Store, StoreError};

/// A filter is made anew when it has so many chunks of packs that are gone, and more of them than others.
const STALE: usize = 100_000;

/// The packs. Where in them a chunk is, is looked up in their indexes: see `lookup.rs`.
#[derive(Default)]
pub(super) struct Known {
    pub loaded: bool,
    /// Value of the epoch when the packs were settled and listed under the lease: as long as it stays, all packs
    /// that are known are there, and durable but for those in `unsettled`.
    pub as_of: Option<Vec<u8>>,
    /// Packs of others, which may have died before these were durable.
    unsettled: Vec<Arc<Pack>>,
    packs: Arc<Vec<Arc<Pack>>>,
    ids: HashSet<PackId>,
    /// Packs that this process has written, in order.
    written: Vec<PackId>,
    /// For writers, made when the first one asks: of the packs in `filtered`.
    filter: Option<Filter>,
    filtered: HashSet<PackId>,
    /// Packs that are marked: see `unfit.rs`. Some may be gone.
    unfit: HashSet<PackId>,
    /// Packs whose index cannot be used, or a part of it, and why.
    pub damaged: Vec<(PackId, String)>,
}

impl Known {
    /// All packs.
    pub fn packs(&self) -> &Arc<Vec<Arc<Pack>>> {
        &self.packs
    }

    /// All packs: those that this process has just written, then the biggest first, and those that are marked behind
    /// all others. Of a chunk that is in several, the copy in the first of them is the one that counts.
    pub fn by_rank(&self) -> Vec<Arc<Pack>> {
        let when: HashMap<PackId, usize> = self.written.iter().copied().zip(1..).collect();
        let mut packs = self.packs.to_vec();
        packs.sort_by_key(|pack| {
            let when = when.get(&pack.id).copied().unwrap_or_default();
            std::cmp::Reverse((!pack.is_unfit(), when, pack.chunks(), pack.id))
        });
        packs
    }

    /// Takes notice of the packs that have come and gone, and says whether any has. Then the list may lack others: it
    /// is not of one moment, and a pack that is rewritten meanwhile is in it under neither name.
    pub fn refresh(&mut self, store: &dyn Store) -> Result<bool, StoreError> {
        self.damaged.clear();
        self.unfit = list_marked(store)?;
        let listed = list_packs(store)?;
        let there: HashSet<PackId> = listed.iter().copied().collect();
        let gone: Vec<PackId> = self.ids.difference(&there).copied().collect();
        let mut changed = !gone.is_empty();
        self.remove(&gone);
        let mut new = vec![];
        for id in listed {
            if self.ids.contains(&id) {
                continue;
            }
            match Pack::open(store, id) {
                Ok(pack) => {
                    changed = true;
                    new.push(Arc::new(pack));
                }
                // Removed since.
                Err(StoreError::NotFound { .. }) => changed = true,
                Err(error @ StoreError::Corrupt { .. }) => self.note_damage(id, error),
                Err(error) => return Err(error),
            }
        }
        self.unsettled.extend(new.iter().cloned());
        self.ids.extend(new.iter().map(|pack| pack.id));
        Arc::make_mut(&mut self.packs).extend(new);
        self.packs.iter().for_each(|pack| pack.set_unfit(self.unfit.contains(&pack.id)));
        self.loaded = true;
        Ok(changed)
    }

    /// All packs that are known are durable now.
    pub fn settled(&mut self) {
        self.unsettled.drain(..).for_each(|pack| pack.settle());
    }

    /// Makes the packs durable that are not known to be.
    pub fn settle(&mut self, store: &dyn Store) -> Result<(), StoreError> {
        while let Some(pack) = self.unsettled.last() {
            // It may have been rewritten since.
            store.settle(pack.id.key().as_str())?;
            pack.settle();
            self.unsettled.pop();
        }
        Ok(())
    }

    /// Something of the pack cannot be used.
    pub fn note_damage(&mut self, id: PackId, error: StoreError) {
        if !self.damaged.iter().any(|(damaged, _)| *damaged == id) {
            self.damaged.push((id, reason(error)));
        }
    }

    /// Packs that are marked.
    pub fn unfit(&self) -> &HashSet<PackId> {
        &self.unfit
    }

    /// The pack is marked now, or no more.
    pub fn set_unfit(&mut self, id: PackId, unfit: bool) {
        if unfit {
            self.unfit.insert(id);
        } else {
            self.unfit.remove(&id);
        }
        self.packs.iter().filter(|pack| pack.id == id).for_each(|pack| pack.set_unfit(unfit));
    }

    /// The packs that are marked and not there, or not when these are removed.
    pub fn unfit_without(&self, dead: &[(PackId, u64)]) -> Vec<PackId> {
        let damaged = |id: &PackId| self.damaged.iter().any(|(damaged, _)| damaged == id);
        let stays =
            |id: &PackId| (self.ids.contains(id) || damaged(id)) && !dead.iter().any(|(dead, _)| dead == id);
        self.unfit.iter().copied().filter(|id| !stays(id)).collect()
    }

    /// Adds a pack that was just written.
    pub fn insert(&mut self, finished: &Finished) -> Result<(), StoreError> {
        let Finished { id, chunks, root, size } = finished;
        self.written.retain(|written| written != id);
        self.written.push(*id);
        if !self.ids.insert(*id) {
            return Ok(());
        }
        Arc::make_mut(&mut self.packs).push(Arc::new(Pack::written(*id, root, *size)?));
        if let Some(filter) = &mut self.filter {
            chunks.iter().for_each(|(id, _)| filter.add(print_of(*id)));
            self.filtered.insert(*id);
        }
        Ok(())
    }

    /// Forgets packs that are gone.
    pub fn remove(&mut self, gone: &[PackId]) {
        if gone.is_empty() {
            return;
        }
        let gone: HashSet<PackId> = gone.iter().copied().collect();
        self.packs.iter().filter(|pack| gone.contains(&pack.id)).for_each(|pack| pack.unsettle());
        Arc::make_mut(&mut self.packs).retain(|pack| !gone.contains(&pack.id));
        self.unsettled.retain(|pack| !gone.contains(&pack.id));
        self.written.retain(|id| !gone.contains(id));
        self.ids.retain(|id| !gone.contains(id));
        self.filtered.retain(|id| !gone.contains(id));
    }

    /// Whether the chunk may be in one of the packs; a no is certain.
    pub fn may_have(&mut self, id: ChunkId, store: &dyn Store) -> Result<bool, StoreError> {
        if self.filtered.len() != self.ids.len() || self.filter.as_ref().is_none_or(Filter::is_crowded) {
            self.fill_filter(store)?;
        }
        Ok(self.filter.as_ref().is_none_or(|filter| filter.may_have(print_of(id))))
    }

    fn fill_filter(&mut self, store: &dyn Store) -> Result<(), StoreError> {
        let chunks = self.packs.iter().map(|pack| pack.chunks()).sum();
        let fits = |filter: &Filter| !filter.is_crowded() && filter.len() < STALE + 2 * chunks;
        let mut filter = match self.filter.take().filter(fits) {
            Some(filter) => filter,
            None => {
                self.filtered.clear();
                Filter::new(chunks)
            }
        };
        for pack in self.packs.iter() {
            if !self.filtered.contains(&pack.id) {
                match pack.fingerprints(store, &mut |print| filter.add(print)) {
                    // Rewritten since: its chunks are elsewhere, and who does not find them stores them again.
                    Ok(()) | Err(StoreError::NotFound { .. } | StoreError::Corrupt { .. }) => {}
                    Err(error) => return Err(error),
                }
                self.filtered.insert(pack.id);
            }
        }
        self.filter = Some(filter);
        Ok(())
    }
}

/// The packs in the store.
pub(super) fn list_packs(store: &dyn Store) -> Result<Vec<PackId>, StoreError> {
    list_ids(store, PACKS, |id| id.key())
}

/// The packs that have an object under this prefix, by the key of that.
pub(super) fn list_ids(
    store: &dyn Store,
    prefix: &str,
    key_of: fn(PackId) -> Key,
) -> Result<Vec<PackId>, StoreError> {
    let keys = store.list(prefix)?;
    // What else may be there is not ours.
    let id_of = |key: &Key| key.name().parse().ok().filter(|id: &PackId| key_of(*id) == *key);
    Ok(keys.iter().filter_map(id_of).collect())
}

fn reason(error: StoreError) -> String {
    match error {
        StoreError::Corrupt { why, .. } => why,
        other => other.to_string(),
    }
}
