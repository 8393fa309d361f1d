//! Whether all that is stored is whole.
//!
//! Jobs may run meanwhile, release snapshots and end. So what cannot be read is damage only if it is needed still, which
//! is looked at *after* that was found: who frees something has said in a log before that it is not needed.

use std::collections::HashSet;

use anyhow::{Context, Result};

use super::disks::FinalDisk;
use super::log::{self, Entry, Event};
use super::{JobError, JobName, Jobs, journal};
use crate::digest::{ModuleId, SnapshotId};
use crate::store::objects;

/// What there is in a store, and what of it is damaged.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Inventory {
    /// Jobs.
    pub jobs: u64,
    /// Snapshots.
    pub snapshots: u64,
    /// Modules.
    pub modules: u64,
    /// Packs of chunks.
    pub packs: u64,
    /// Chunks in them.
    pub chunks: u64,
    /// Bytes of the packs.
    pub bytes: u64,
    /// What is damaged, in words.
    pub damaged: Vec<String>,
}

impl Jobs {
    /// Reads everything, and says what is damaged.
    ///
    /// # Errors
    /// What the store reports when it lists what there is.
    pub fn verify(&self) -> Result<Inventory> {
        let mut found = Inventory::default();
        self.chunks().verify(&mut |report| {
            found.packs += 1;
            match report.result {
                Ok((chunks, bytes)) => {
                    (found.chunks, found.bytes) = (found.chunks + chunks, found.bytes + bytes);
                }
                Err(error) => found.damaged.push(error.to_string()),
            }
        })?;
        let mut modules = HashSet::new();
        let snapshots: HashSet<SnapshotId> = self.snapshots()?.into_iter().collect();
        for &id in &snapshots {
            let checked = self.snapshot(id).and_then(|snapshot| {
                modules.insert(snapshot.state().identity.module);
                self.check(snapshot.state()).map(drop)
            });
            match self.unless_released(id, checked) {
                Err(error) if matches!(error.downcast_ref(), Some(JobError::Released { .. })) => continue,
                Err(error) => found.damaged.push(format!("snapshot {}: {error:#}", id.short())),
                Ok(()) => {}
            }
            found.snapshots += 1;
        }
        for name in self.names()? {
            found.jobs += 1;
            self.verify_job(&name, &snapshots, &mut modules, &mut found.damaged);
        }
        for &id in &modules {
            found.modules += 1;
            match objects::get_module(&**self.store(), id) {
                Err(error) if self.needs_module(id)? => found.damaged.push(format!("{error:#}")),
                _ => {}
            }
        }
        Ok(found)
    }

    /// A job's log, and what that names but for the snapshots that are `known`.
    fn verify_job(
        &self,
        name: &JobName,
        known: &HashSet<SnapshotId>,
        modules: &mut HashSet<ModuleId>,
        damaged: &mut Vec<String>,
    ) {
        let read = || match log::status(&**self.store(), name)? {
            Some((_, last)) => anyhow::Ok((last.stand.begin, self.history(name)?)),
            // It was removed meanwhile.
            None => Ok((0, vec![])),
        };
        let (begin, history) = match read() {
            Ok(found) => found,
            Err(error) => return damaged.push(format!("{error:#}")),
        };
        let open = is_open(&history);
        let is_needed = |entry: &Entry| match self.history(name) {
            Ok(now) => now.contains(entry) && is_open(&now) == open,
            Err(_) => true,
        };
        for entry in &history {
            if let Event::Begin(begin) = &entry.event {
                modules.insert(begin.spec.module);
            }
            let checked = match open {
                true => self.verify_open(name, begin, entry, known),
                false => self.verify_ended(entry),
            };
            if let Err(error) = checked
                && is_needed(entry)
            {
                damaged.push(format!("job `{name}`: {error:#}"));
            }
        }
    }

    /// What an entry of a job needs that has not ended: snapshots, and what it has read from a pipe.
    fn verify_open(
        &self,
        name: &JobName,
        number: u64,
        entry: &Entry,
        known: &HashSet<SnapshotId>,
    ) -> Result<()> {
        let snapshot = match &entry.event {
            Event::Begin(begin) => {
                journal::check(self.store(), name, number, begin.origin.is_none())?;
                begin.origin.as_ref().map(|origin| origin.snapshot)
            }
            Event::Commit(commit) => Some(commit.snapshot),
            _ => None,
        };
        match snapshot.filter(|id| !known.contains(id)) {
            Some(id) => self.snapshot(id).map(drop),
            None => Ok(()),
        }
    }

    /// What an entry of a job needs that has ended: its output and its private disks.
    fn verify_ended(&self, entry: &Entry) -> Result<()> {
        let Event::Done(done) = &entry.event else { return Ok(()) };
        for stream in done.output.streams {
            self.check_contents([(stream.root, stream.kept)]).context("its output")?;
        }
        for FinalDisk { guest, data, meta } in &done.disks {
            let contents = [data, meta].map(|(len, root)| (*root, *len));
            self.check_contents(contents).with_context(|| format!("its disk `{guest}`"))?;
        }
        Ok(())
    }

    /// Whether a snapshot or a job needs this module.
    fn needs_module(&self, id: ModuleId) -> Result<bool> {
        let of_snapshot = |snapshot: &SnapshotId| {
            self.snapshot(*snapshot).is_ok_and(|found| found.state().identity.module == id)
        };
        let of_job = |name: &JobName| {
            let needs = |entry: &Entry| matches!(&entry.event, Event::Begin(b) if b.spec.module == id);
            self.history(name).is_ok_and(|history| history.iter().any(needs))
        };
        Ok(self.snapshots()?.iter().any(of_snapshot) || self.names()?.iter().any(of_job))
    }
}

fn is_open(history: &[Entry]) -> bool {
    !history.iter().any(|entry| matches!(entry.event, Event::Done(_)))
}
