//! Snapshots in and out of a store, as one portable stream; and whether what is in it is whole.

use std::io::{Read, Write};

use anyhow::{Context, Result, bail};

use super::{Event, JobError, JobName, Jobs, Snapshot};
use crate::digest::{ChunkId, ModuleId, SnapshotId};
use crate::snapshot::portable::{self, Sink};
use crate::snapshot::{Kind, SnapshotError, State, TreeError, Verified, Walk};
use crate::store::{Guard, StoreError, Writer, objects};

/// What a portable stream has brought.
pub struct Imported {
    /// The snapshots.
    pub snapshots: Vec<SnapshotId>,
    /// Keeps sweeps away until something names them.
    pub guard: Guard,
}

impl Jobs {
    /// Writes a snapshot with all that it needs.
    ///
    /// # Errors
    /// Something of it is missing or damaged; `to` does not take it.
    pub fn export<W: Write>(&self, snapshot: &Snapshot, to: W) -> Result<W> {
        self.unless_released(snapshot.id(), self.write_out(snapshot, to))
    }

    fn write_out<W: Write>(&self, snapshot: &Snapshot, to: W) -> Result<W> {
        let state = snapshot.state();
        let mut out = portable::Writer::new(to)?;
        out.module(&objects::get_module(&**self.store(), state.identity.module)?)?;
        self.walk(state.contents(), &mut |id, _| out.chunk(id, &self.chunks().read(id)?))?;
        out.snapshot(snapshot.id(), snapshot.manifest())?;
        out.finish()
    }

    /// What was read of a snapshot. If something was missing and the snapshot is gone as well, which goes first, its
    /// job has released it meanwhile: then the error is [`JobError::Released`].
    ///
    /// # Errors
    /// That, or the one that was given.
    pub fn unless_released<T>(&self, snapshot: SnapshotId, read: Result<T>) -> Result<T> {
        read.map_err(|error| {
            let gone = || self.snapshot(snapshot).is_err_and(|error| is_missing(&error));
            if is_missing(&error) && gone() { JobError::Released { snapshot }.into() } else { error }
        })
    }

    /// Takes over a portable stream. Nothing of it can be seen unless all of it is right.
    ///
    /// # Errors
    /// A [`PortableError`](portable::PortableError); a chunk that a snapshot needs is missing; what the
    /// store reports.
    pub fn import(&self, from: impl Read) -> Result<Imported> {
        let mut taker = Taker { jobs: self, chunks: self.chunks().writer()?, snapshots: vec![] };
        portable::read(from, &mut taker)?;
        let Taker { chunks, snapshots, .. } = taker;
        let (_, guard) = chunks.finish()?;
        let mut ids = vec![];
        for (snapshot, manifest) in &snapshots {
            self.check(snapshot.state()).context("the portable file is incomplete")?;
            ids.push(objects::put_snapshot(&**self.store(), manifest)?);
        }
        Ok(Imported { snapshots: ids, guard })
    }

    /// Checks that all chunks that a state needs are there, and reads every one of them.
    ///
    /// # Errors
    /// What is missing or damaged.
    pub fn check(&self, state: &State) -> Result<u64> {
        self.check_contents(state.contents())
    }

    /// The same for some contents, each its root and length in bytes.
    pub(super) fn check_contents(&self, contents: impl IntoIterator<Item = (ChunkId, u64)>) -> Result<u64> {
        let mut count = 0;
        self.walk(contents, &mut |id, kind| {
            count += 1;
            match kind {
                // The walk has read it.
                Kind::Node => Ok(()),
                Kind::Page => Ok(self.chunks().read(id).map(drop)?),
            }
        })?;
        Ok(count)
    }

    /// If the error is about what is stored of this snapshot of the job: an error that says so, and names one before it
    /// that is whole.
    pub(super) fn explain_damage(
        &self,
        job: &JobName,
        snapshot: SnapshotId,
        cause: anyhow::Error,
    ) -> anyhow::Error {
        let is_damage = |cause: &(dyn std::error::Error + 'static)| {
            let newer = matches!(cause.downcast_ref(), Some(SnapshotError::NewerFormat { .. }));
            let store = matches!(
                cause.downcast_ref(),
                Some(StoreError::Corrupt { .. } | StoreError::NotFound { .. })
            );
            // Of a snapshot of the job's own.
            let gone = matches!(cause.downcast_ref(), Some(JobError::NotFound { what: "snapshot", .. }));
            store || gone || cause.is::<TreeError>() || cause.is::<SnapshotError>() && !newer
        };
        let unreachable = |cause: &(dyn std::error::Error + 'static)| {
            // Such as that there is no room for a private disk here.
            let system = cause.downcast_ref::<std::io::Error>().is_some_and(|e| e.raw_os_error().is_some());
            system || matches!(cause.downcast_ref(), Some(StoreError::Io { .. } | StoreError::Denied { .. }))
        };
        if !cause.chain().any(is_damage) || cause.chain().any(unreachable) {
            return cause;
        }
        let before = self.whole_before(job, snapshot).unwrap_or_default();
        JobError::DamagedSnapshot { job: job.clone(), snapshot, before, cause }.into()
    }

    /// The last snapshot of the job before this one that can be read whole, of the [`LOOK_BACK`] before it.
    fn whole_before(&self, job: &JobName, snapshot: SnapshotId) -> Result<Option<SnapshotId>> {
        let history = self.history(job)?;
        let commits = history.iter().rev().filter_map(|entry| match &entry.event {
            Event::Commit(commit) => Some(commit.snapshot),
            _ => None,
        });
        for id in commits.skip_while(|id| *id != snapshot).filter(|id| *id != snapshot).take(LOOK_BACK) {
            if self.snapshot(id).and_then(|found| self.check(found.state())).is_ok() {
                return Ok(Some(id));
            }
        }
        Ok(None)
    }

    /// Names all chunks of these contents to `visit`.
    fn walk(
        &self,
        contents: impl IntoIterator<Item = (ChunkId, u64)>,
        visit: &mut dyn FnMut(ChunkId, Kind) -> Result<()>,
    ) -> Result<()> {
        let mut walk = Walk::new();
        for (root, len) in contents {
            walk.tree(root, len, &mut |id| Ok(self.chunks().read(id)?), visit)?;
        }
        Ok(())
    }
}

/// Snapshots that are read in search of a whole one: each may take a while.
const LOOK_BACK: usize = 8;

/// A snapshot, or something that it needs, is not there.
pub(super) fn is_missing(error: &anyhow::Error) -> bool {
    error.chain().any(|cause| {
        matches!(cause.downcast_ref(), Some(JobError::NotFound { .. }))
            || matches!(cause.downcast_ref(), Some(StoreError::NotFound { .. }))
    })
}

/// Takes over the entries of a stream.
struct Taker<'a> {
    jobs: &'a Jobs,
    chunks: Writer,
    snapshots: Vec<(Verified, Vec<u8>)>,
}

/// Snapshots in one stream: they are held in memory until all is there.
const SNAPSHOTS_MAX: usize = 16;

impl Sink for Taker<'_> {
    fn module(&mut self, _: ModuleId, bytes: Vec<u8>) -> Result<()> {
        objects::put_module(&**self.jobs.store(), &bytes)?;
        Ok(())
    }

    fn chunk(&mut self, id: ChunkId, bytes: Vec<u8>) -> Result<()> {
        self.chunks.add(id, &bytes)?;
        Ok(())
    }

    fn snapshot(&mut self, snapshot: Verified, manifest: Vec<u8>) -> Result<()> {
        if self.snapshots.len() == SNAPSHOTS_MAX {
            bail!("over {SNAPSHOTS_MAX} snapshots");
        }
        self.snapshots.push((snapshot, manifest));
        Ok(())
    }
}
