//! Removing what no job needs.
//!
//! A job that has not ended needs the snapshot that it began with and all since; one that has ended needs its
//! output and its private disks. Snapshots of earlier beginnings are needed by nobody.

use std::collections::HashSet;

use anyhow::Result;

use super::Jobs;
use super::disks::FinalDisk;
use super::log::{Event, Printed};
use crate::digest::{ChunkId, ModuleId, SnapshotId};
use crate::snapshot::Walk;
use crate::store::{StoreError, objects};

/// What a sweep has removed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Freed {
    /// Snapshots.
    pub snapshots: u64,
    /// Modules.
    pub modules: u64,
    /// Packs of chunks.
    pub packs: u64,
    /// Bytes of these packs.
    pub bytes: u64,
}

/// What is needed.
#[derive(Default)]
struct Live {
    modules: HashSet<ModuleId>,
    snapshots: HashSet<SnapshotId>,
    outputs: Vec<Printed>,
    disks: Vec<FinalDisk>,
}

impl Jobs {
    /// Removes the snapshots, modules and packs that no job needs. Waits, up to a minute, for snapshots that
    /// are being written.
    ///
    /// A pack goes when nothing in it is needed any more.
    ///
    /// # Errors
    /// A job's log or a needed snapshot is damaged (then nothing is removed: what it needs is unknown); what
    /// the store reports.
    pub fn sweep(&self) -> Result<Freed> {
        // From here on nobody stores anything.
        let sweep = self.chunks().sweep()?;
        let live = self.live()?;
        let chunks = self.live_chunks(&live)?;
        let store = self.store();
        let mut freed = Freed::default();
        for id in self.snapshots()? {
            if !live.snapshots.contains(&id) {
                store.delete(&objects::snapshot_key(id))?;
                freed.snapshots += 1;
            }
        }
        for key in store.list("modules/")? {
            if key.name().parse().is_ok_and(|id| !live.modules.contains(&id)) {
                store.delete(&key)?;
                freed.modules += 1;
            }
        }
        let swept = sweep.remove_unreferenced(&chunks)?;
        (freed.packs, freed.bytes) = (swept.removed.len() as u64, swept.bytes);
        Ok(freed)
    }

    fn live(&self) -> Result<Live> {
        let mut live = Live::default();
        for name in self.names()? {
            let history = self.history(&name)?;
            let done = history.iter().find_map(|entry| match &entry.event {
                Event::Done(done) => Some(done),
                _ => None,
            });
            for entry in &history {
                match &entry.event {
                    Event::Begin(begin) => {
                        live.modules.insert(begin.spec.module);
                        let origin = begin.origin.as_ref().filter(|_| done.is_none());
                        live.snapshots.extend(origin.map(|origin| origin.snapshot));
                    }
                    Event::Commit(commit) if done.is_none() => {
                        live.snapshots.insert(commit.snapshot);
                    }
                    _ => {}
                }
            }
            live.outputs.extend(done.map(|done| done.output.clone()));
            live.disks.extend(done.into_iter().flat_map(|done| done.disks.clone()));
        }
        Ok(live)
    }

    fn live_chunks(&self, live: &Live) -> Result<HashSet<ChunkId>> {
        let (mut chunks, mut walk) = (HashSet::new(), Walk::new());
        let mut fetch = |id| Ok(self.chunks().read(id)?);
        let mut visit = |id, _| {
            chunks.insert(id);
            Ok(())
        };
        for &id in &live.snapshots {
            let snapshot = match self.snapshot(id) {
                Ok(snapshot) => snapshot,
                // Its job is broken, and nothing more can be lost.
                Err(error) if is_missing(&error) => continue,
                Err(error) => return Err(error),
            };
            for (root, len) in snapshot.state().contents() {
                walk.tree(root, len, &mut fetch, &mut visit)?;
            }
        }
        for stream in live.outputs.iter().flat_map(|output| output.streams) {
            walk.tree(stream.root, stream.kept, &mut fetch, &mut visit)?;
        }
        for (len, root) in live.disks.iter().flat_map(|disk| [disk.data, disk.meta]) {
            walk.tree(root, len, &mut fetch, &mut visit)?;
        }
        Ok(chunks)
    }
}

fn is_missing(error: &anyhow::Error) -> bool {
    matches!(error.downcast_ref(), Some(super::JobError::NotFound { .. }))
        || matches!(error.downcast_ref(), Some(StoreError::NotFound { .. }))
}
