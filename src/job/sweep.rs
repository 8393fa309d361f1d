//! Removing what no job needs.
//!
//! A job that has not ended needs the snapshot that it began with and those since that it has not released; one that
//! has ended needs its output and its private disks. Snapshots of earlier beginnings are needed by nobody.
//!
//! ```text
//! fold     the logs, so that what is released stays so
//! mark     all chunks that are needed                        beside writers
//! rewrite  packs most of which is not needed                 beside writers
//! sweep    what became needed meanwhile; remove the rest     writers wait
//! merge    small packs                                       beside writers
//! ```
//!
//! Whoever dies in between leaves what was needed, and things that the next sweep removes.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use anyhow::{Result, ensure};

use super::disks::FinalDisk;
use super::jobs::lease_key;
use super::log::{self, Event, Printed};
use super::transfer::is_missing;
use super::{JobName, Jobs, fold, journal};
use crate::digest::{ChunkId, ModuleId, SnapshotId};
use crate::snapshot::Walk;
use crate::store::{Key, Rewritten, StoreError, Upkeep, objects};

/// How long a sweep beside a run waits for writers.
const PATIENCE: Duration = Duration::from_millis(500);

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
    /// Packs that were written for what was needed of them.
    pub new_packs: u64,
    /// Bytes of these.
    pub new_bytes: u64,
}

/// What is needed.
#[derive(Default)]
struct Live {
    modules: HashSet<ModuleId>,
    snapshots: HashSet<SnapshotId>,
    outputs: Vec<Printed>,
    disks: Vec<FinalDisk>,
}

/// The chunks that are needed, as far as it was looked.
#[derive(Default)]
struct Marked {
    walk: Walk,
    chunks: HashSet<ChunkId>,
    snapshots: HashSet<SnapshotId>,
}

impl Jobs {
    /// Removes the snapshots, modules and packs that no job needs, and rewrites packs that hold little or are small.
    /// Waits, up to a minute each, for another one that does this and for snapshots that are being written; jobs may
    /// run beside it.
    ///
    /// # Errors
    /// A job's log or a needed snapshot is damaged (then nothing is removed: what it needs is unknown); what
    /// the store reports.
    pub fn gc(&self) -> Result<Freed> {
        let upkeep = self.chunks().upkeep()?;
        let freed = self.collect(upkeep, None, &|| true)?;
        let merged = self.chunks().upkeep()?.merge(&|| true)?;
        Ok(Freed {
            packs: freed.packs + merged.replaced.len() as u64,
            bytes: freed.bytes + merged.bytes,
            new_packs: freed.new_packs + merged.packs.len() as u64,
            new_bytes: freed.new_bytes + merged.written,
            ..freed
        })
    }

    /// The same beside a run of this process: gives way to writers, and stops when `go_on` says no.
    pub(super) fn gc_beside(&self, upkeep: Upkeep, go_on: &dyn Fn() -> bool) -> Result<()> {
        upkeep.merge(go_on)?;
        self.collect(upkeep, Some(PATIENCE), go_on).map(drop)
    }

    fn collect(
        &self,
        mut upkeep: Upkeep,
        patience: Option<Duration>,
        go_on: &dyn Fn() -> bool,
    ) -> Result<Freed> {
        for name in self.names()? {
            self.fold(&name)?;
        }
        let mut marked = Marked::default();
        self.mark(&self.live()?, &mut marked, go_on)?;
        let rewritten = upkeep.rewrite_sparse(&marked.chunks, go_on)?;
        let sweep = match patience {
            Some(patience) => upkeep.sweep_within(patience)?,
            None => upkeep.sweep()?,
        };
        // From here on nobody stores anything.
        let live = self.live()?;
        self.mark(&live, &mut marked, go_on)?;
        sweep.check()?;
        let mut freed = self.remove_unneeded(&live)?;
        self.sweep_journals()?;
        let swept = sweep.remove_unreferenced(&marked.chunks)?;
        (freed.packs, freed.bytes) = (swept.removed.len() as u64, swept.bytes);
        let Rewritten { packs, written, .. } = rewritten;
        (freed.new_packs, freed.new_bytes) = (packs.len() as u64, written);
        Ok(freed)
    }

    /// Folds the log of a job that nobody has; who has it folds it.
    fn fold(&self, name: &JobName) -> Result<()> {
        let store = self.store();
        if !fold::is_due(&**store, name)? {
            return Ok(());
        }
        match store.hold(&lease_key(name)?) {
            Err(StoreError::Held { .. }) => Ok(()),
            lease => {
                let _lease = lease?;
                fold::fold(&**store, name)
            }
        }
    }

    /// Removes snapshots and modules.
    fn remove_unneeded(&self, live: &Live) -> Result<Freed> {
        let store = self.store();
        let mut gone: Vec<Key> = vec![];
        for id in self.snapshots()? {
            if !live.snapshots.contains(&id) {
                gone.push(objects::snapshot_key(id));
            }
        }
        let snapshots = gone.len() as u64;
        for key in store.list("modules/")? {
            if key.name().parse().is_ok_and(|id| !live.modules.contains(&id)) {
                gone.push(key);
            }
        }
        store.delete_all(&gone)?;
        Ok(Freed { snapshots, modules: gone.len() as u64 - snapshots, ..Freed::default() })
    }

    /// Removes what was read from standard input by jobs that have ended, that have been begun anew, or that are
    /// removed.
    fn sweep_journals(&self) -> Result<()> {
        let mut needed = HashMap::new();
        for key in self.store().list(log::JOBS)? {
            let Some((job, begin)) = journal::of_key(&key) else { continue };
            let live = match needed.get(&job) {
                Some(live) => *live,
                None => {
                    let found = log::status(&**self.store(), &job)?;
                    let open = found.filter(|(status, _)| status.done.is_none());
                    *needed.entry(job).or_insert(open.map(|(_, last)| last.stand.begin))
                }
            };
            // One of a later beginning is of a job that was begun since we looked.
            if live.is_none_or(|live| begin < live) {
                self.store().delete(&key)?;
            }
        }
        Ok(())
    }

    fn live(&self) -> Result<Live> {
        let mut live = Live::default();
        for name in self.names()? {
            // Who has the job may not have folded its log yet.
            let history = fold::needed(&**self.store(), &name)?;
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

    /// Marks what is needed and was not marked before.
    fn mark(&self, live: &Live, marked: &mut Marked, go_on: &dyn Fn() -> bool) -> Result<()> {
        let Marked { walk, chunks, snapshots } = marked;
        let mut fetch = |id| Ok(self.chunks().read(id)?);
        let mut visit = |id, _| {
            ensure!(go_on(), "the run has ended");
            chunks.insert(id);
            Ok(())
        };
        for &id in &live.snapshots {
            if snapshots.contains(&id) {
                continue;
            }
            let snapshot = match self.snapshot(id) {
                Ok(snapshot) => snapshot,
                // Its job is broken, and nothing more can be lost.
                Err(error) if is_missing(&error) => continue,
                Err(error) => return Err(error),
            };
            for (root, len) in snapshot.state().contents() {
                walk.tree(root, len, &mut fetch, &mut visit)?;
            }
            snapshots.insert(id);
        }
        for stream in live.outputs.iter().flat_map(|output| output.streams) {
            walk.tree(stream.root, stream.kept, &mut fetch, &mut visit)?;
        }
        for (len, root) in live.disks.iter().flat_map(|disk| [disk.data, disk.meta]) {
            walk.tree(root, len, &mut fetch, &mut visit)?;
        }
        Ok(())
    }
}
