//! The journey of a run, from its beginning or its last snapshot to its end:
//!
//! ```text
//! job.run         (`start`) the snapshot's state -> an instance; claim the job; bring the output to where it goes on
//! run.advance     the guest runs until it ends, or somebody asks, or a snapshot is due
//! run.snapshot    chunks, then the manifest that names them, then the log entry that names it
//! run.end         the result and all output, then the log entry that names them
//! ```
//!
//! Whenever the process dies, what the log's last entry names is whole.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use super::disks::{FinalDisk, SyncOut};
use super::ledger::Ledger;
use super::log::{Commit, Done, Ending, Event};
use super::options::{Notice, Outcome, Pause};
use super::policy::Every;
use super::{Job, JobError};
use crate::digest::ChunkId;
use crate::machine::{Instance, MemoryTrees, Slice, Until};
use crate::snapshot;
use crate::store::objects;

/// A job that runs in this process.
pub struct Run {
    pub(super) job: Job,
    pub(super) instance: Instance,
    pub(super) trees: MemoryTrees,
    pub(super) ledger: Ledger,
    /// Output is held back until it is durable.
    pub(super) exact: bool,
    pub(super) every: Every,
    pub(super) pause_after: Option<u64>,
    pub(super) pause: Pause,
    pub(super) sync_out: Vec<SyncOut>,
    pub(super) observe: Box<dyn FnMut(Notice<'_>)>,
    /// Fuel at the last snapshot.
    pub(super) covered: Option<u64>,
}

/// Why the guest stands still.
enum Stop {
    /// Somebody asked, or the fuel that was given is spent.
    Pause,
    /// A snapshot is due.
    Due,
}

impl Run {
    /// The job.
    pub fn job(&self) -> &Job {
        &self.job
    }

    /// Fuel consumed since the program began.
    pub fn fuel(&self) -> u64 {
        self.instance.fuel()
    }

    /// Runs the program until it ends or is to pause, with a snapshot whenever one is due.
    ///
    /// # Errors
    /// Another process has taken over ([`JobError::Fenced`]); a host function failed; when pausing, that the
    /// snapshot could not be stored. The job can be resumed from its last snapshot.
    pub fn advance(&mut self) -> Result<Outcome> {
        let mut patience = 1;
        if self.covered.is_none() && self.job.is_filled() {
            // From here on it does not depend on what its disks were filled with.
            self.snapshot_or_go_on()?;
        }
        loop {
            let before = self.instance.fuel();
            let slice = self.instance.run(&self.until(patience))?;
            let stop = match slice {
                Slice::Finished(values) => return self.end(Ending::Returned(values)),
                Slice::Exited(code) => return self.end(Ending::Exited(code)),
                Slice::Trapped(trap) => {
                    return self.end(Ending::Trapped { message: trap.message, frames: trap.frames });
                }
                Slice::Paused => self.why_paused(),
            };
            // With snapshots in quick succession on a busy machine, the time may be over before the guest
            // has run at all.
            let stands = self.instance.fuel() == before && self.covered == Some(before);
            // What it has slept is worth a snapshot all the same.
            let stands = stands && !self.instance.wasi().is_some_and(|wasi| wasi.is_waiting());
            patience = if stands { patience * 2 } else { 1 };
            match stop {
                Stop::Pause => return self.stop(),
                Stop::Due if stands => {}
                Stop::Due => self.snapshot_or_go_on()?,
            }
        }
    }

    fn until(&self, patience: u32) -> Until {
        let due = self.every.fuel(self.instance.fuel());
        let deadline = self.every.deadline(Instant::now());
        let deadline = deadline.and_then(|d| d.checked_add(Duration::from_millis(1) * (patience - 1)));
        Until {
            fuel: due.into_iter().chain(self.pause_after).min(),
            request: Some(self.pause.flag.clone()),
            deadline,
        }
    }

    fn why_paused(&self) -> Stop {
        self.pause.flag.store(false, Ordering::SeqCst);
        let spent = self.pause_after.is_some_and(|limit| self.instance.fuel() > limit);
        if spent || self.pause.is_requested() { Stop::Pause } else { Stop::Due }
    }

    /// Stores the state, and names it in the job's log. Output that was held back for that is delivered.
    ///
    /// # Errors
    /// What the store reports; the guest is unharmed then, and the snapshot before stays the job's head. Or a
    /// sink takes no more.
    pub fn snapshot(&mut self) -> Result<Commit> {
        let commit = self.commit()?;
        self.deliver()?;
        Ok(commit)
    }

    fn deliver(&self) -> Result<()> {
        self.ledger.deliver().context("what was printed cannot be delivered")
    }

    fn commit(&mut self) -> Result<Commit> {
        let stored = self.store_snapshot();
        match &stored {
            Ok(commit) => {
                self.ledger.settle();
                self.covered = Some(commit.fuel);
                (self.observe)(Notice::Committed(commit));
            }
            Err(_) => {
                // What was emitted may be lost: nothing of it counts as stored.
                self.trees = MemoryTrees::default();
                if let Some(wasi) = self.instance.wasi() {
                    wasi.forget_stored();
                }
                self.ledger.undo();
            }
        }
        stored
    }

    fn store_snapshot(&mut self) -> Result<Commit> {
        let began = Instant::now();
        let jobs = self.job.jobs().clone();
        let mut chunks = jobs.chunks().writer()?;
        let mut emit = |id: ChunkId, bytes: &[u8]| {
            chunks.add(id, bytes)?;
            Ok(())
        };
        let mut state = self.instance.capture(&mut self.trees, &mut emit)?;
        self.ledger.capture_into(&mut state, &mut emit)?;
        if let Some(wasi) = self.instance.wasi() {
            wasi.sync_files()?;
        }
        self.ledger.sync().context("what was printed cannot be made durable")?;
        let (id, manifest) = snapshot::encode(&state)?;
        // Children first, then the root that names them, then the head. The guard keeps sweeps away so long.
        let (written, guard) = chunks.finish()?;
        objects::put_snapshot(&**jobs.store(), &manifest)?;
        let commit = Commit {
            snapshot: id,
            fuel: state.fuel,
            memory: state.memories.iter().map(|memory| memory.len).sum(),
            chunks: written.chunks,
            new_bytes: written.bytes,
            stored_bytes: written.stored_bytes,
            manifest_bytes: manifest.len() as u64,
            pause_us: began.elapsed().as_micros() as u64,
        };
        self.job.append(Event::Commit(commit.clone()))?;
        drop(guard);
        Ok(commit)
    }

    /// A snapshot that is due. A store that is full or away for a while does not stop the program; a private
    /// disk that is lost does.
    fn snapshot_or_go_on(&mut self) -> Result<()> {
        match self.commit() {
            Err(error) if !is_fenced(&error) => {
                self.check_disks()?;
                (self.observe)(Notice::SnapshotFailed(&error));
            }
            other => {
                other?;
            }
        }
        self.deliver()
    }

    fn check_disks(&mut self) -> Result<()> {
        let checked = self.instance.wasi().map_or(Ok(()), |wasi| wasi.check_disks());
        checked.context("the program cannot go on here, but can from its last snapshot")
    }

    /// A snapshot, and the job is left in good order.
    fn stop(&mut self) -> Result<Outcome> {
        let commit = self.commit().context("the run cannot be paused: its snapshot cannot be stored")?;
        self.deliver()?;
        self.job.append(Event::Stop)?;
        Ok(Outcome::Paused { snapshot: commit.snapshot, fuel: commit.fuel })
    }

    /// The program has ended: stores its result and all that it printed.
    fn end(&mut self, ending: Ending) -> Result<Outcome> {
        // What came of it is no result then.
        self.check_disks()?;
        if let Ending::Returned(values) = &ending
            && !values.is_empty()
        {
            let text = values.iter().map(|v| super::shown_value(v) + "\n").collect::<String>();
            self.ledger.output(0).write(text.as_bytes()).context("the results cannot be printed")?;
        }
        self.write_out(&ending)?;
        match self.store_end(&ending) {
            // All is computed and printed: that is worth more than the record of it.
            Err(error) if !is_fenced(&error) && !self.exact => {
                (self.observe)(Notice::ResultNotStored(&error))
            }
            other => other.context("the program has ended, but its result cannot be stored")?,
        }
        self.deliver()?;
        // What was held back until now is to outlive the machine as well.
        self.ledger.sync().context("what was printed cannot be made durable")?;
        Ok(Outcome::Ended(ending))
    }

    /// Writes out what has changed on the private disks. Before the end is recorded, so that a crash in between
    /// makes the job come by here again.
    fn write_out(&mut self, ending: &Ending) -> Result<()> {
        if matches!(ending, Ending::Trapped { .. }) {
            return Ok(());
        }
        let Some(wasi) = self.instance.wasi() else { return Ok(()) };
        let disks: Vec<String> = wasi.disks().map(str::to_string).collect();
        for sync_out in &self.sync_out {
            let disk = sync_out.disk(&disks)?;
            let explain = || format!("the disk `{disk}` cannot be written out to {}", sync_out.to.display());
            let done = wasi.sync_out(&disk, &sync_out.to).with_context(explain)?;
            (self.observe)(Notice::SyncedOut(&disk, &done));
        }
        Ok(())
    }

    fn store_end(&mut self, ending: &Ending) -> Result<()> {
        let jobs = self.job.jobs().clone();
        let mut chunks = jobs.chunks().writer()?;
        let mut emit = |id: ChunkId, bytes: &[u8]| {
            chunks.add(id, bytes)?;
            Ok(())
        };
        let output = self.ledger.capture(&mut emit)?;
        let disks = match self.instance.wasi() {
            Some(wasi) => {
                let blobs = wasi.capture_disks(&mut emit)?;
                FinalDisk::of(wasi.disks(), &blobs)
            }
            None => vec![],
        };
        self.ledger.sync().context("what was printed cannot be made durable")?;
        let (_, guard) = chunks.finish()?;
        let done = Done { ending: ending.clone(), fuel: self.instance.fuel(), output, disks };
        self.job.append(Event::Done(done))?;
        drop(guard);
        self.ledger.settle();
        Ok(())
    }
}

/// Another runner has taken over: nothing may be done in the job's name any more.
fn is_fenced(error: &anyhow::Error) -> bool {
    matches!(error.downcast_ref(), Some(JobError::Fenced { .. }))
}
