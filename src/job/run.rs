//! The journey of a run, from its beginning or its last snapshot to its end:
//!
//! ```text
//! job.run         (`start`) the snapshot's state -> an instance; claim the job; bring the output to where it goes on
//! run.advance     the guest runs until it ends, or somebody asks, or a snapshot is due
//!   put aside     what a snapshot needs is put aside; the guest runs on while it is stored (`background`)
//! run.snapshot    chunks, then the manifest that names them, then the log entry that names it
//! run.end         the result and all output, then the log entry that names them
//! ```
//!
//! Whenever the process dies, what the log's last entry names is whole.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use anyhow::{Context, Result, ensure};

use super::background::{Aside, Background, Desk, Held, Stored};
use super::disks::{FinalDisk, SyncOut};
use super::hint::Hint;
use super::ledger::Ledger;
use super::log::{Commit, Done, Ending, Event};
use super::options::{Notice, Outcome, Pause};
use super::policy::Schedule;
use super::{Job, JobError};
use crate::digest::{ChunkId, SnapshotId};
use crate::machine::{Instance, MemoryTrees, Slice, Until};

/// A job that runs in this process.
pub struct Run {
    /// Before the job: what is on its way is waited for while this process has the job.
    pub(super) background: Option<Background>,
    pub(super) job: Job,
    pub(super) instance: Instance,
    pub(super) trees: MemoryTrees,
    pub(super) ledger: Ledger,
    pub(super) desk: Desk,
    /// It was to pause before all that was printed before had arrived.
    pub(super) behind: bool,
    /// Output is held back until it is durable.
    pub(super) exact: bool,
    pub(super) schedule: Schedule,
    pub(super) pause_after: Option<u64>,
    pub(super) pause: Pause,
    pub(super) sync_out: Vec<SyncOut>,
    pub(super) observe: Box<dyn FnMut(Notice<'_>)>,
    /// The snapshot that it was restored from.
    pub(super) restored: Option<SnapshotId>,
    pub(super) hint: Hint,
    /// It was told that something of that is damaged.
    pub(super) told: bool,
    /// Fuel at the last snapshot, be it durable or on its way.
    pub(super) covered: Option<u64>,
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

    /// Runs the program until it ends or is to pause, with a snapshot whenever one is due. No snapshot is on its way
    /// when this returns.
    ///
    /// # Errors
    /// Another process has taken over ([`JobError::Fenced`]); a host function failed; when pausing, that the
    /// snapshot could not be stored. The job can be resumed from its last snapshot.
    pub fn advance(&mut self) -> Result<Outcome> {
        let restored = self.restored;
        let outcome = self.go_on().map_err(|error| match restored {
            Some(snapshot) => self.job.jobs().explain_damage(self.job.name(), snapshot, error),
            None => error,
        });
        if outcome.is_err() {
            // The first error is the one to tell.
            let _ = self.look(true);
        }
        outcome
    }

    fn go_on(&mut self) -> Result<Outcome> {
        if let (true, Some(snapshot)) = (self.behind, self.restored) {
            // Not left in good order: what is in the sinks is less than what is covered.
            return Ok(Outcome::Paused { snapshot, fuel: self.instance.fuel() });
        }
        if self.covered.is_none() && self.job.is_filled() {
            // From here on it does not depend on what its disks were filled with.
            let stored = self.commit();
            self.or_go_on(stored)?;
            self.desk.deliver()?;
        }
        self.schedule.next(Instant::now(), self.instance.fuel());
        loop {
            let before = self.instance.fuel();
            match self.instance.run(&self.until())? {
                Slice::Finished(values) => return self.end(Ending::Returned(values)),
                Slice::Exited(code) => return self.end(Ending::Exited(code)),
                Slice::Trapped(trap) => {
                    return self.end(Ending::Trapped { message: trap.message, frames: trap.frames });
                }
                Slice::Paused => {}
            }
            self.pause.woken();
            self.look(false)?;
            self.tell_damage();
            let (now, fuel) = (Instant::now(), self.instance.fuel());
            if self.pause.is_requested() || self.pause_after.is_some_and(|limit| fuel > limit) {
                return self.stop();
            }
            if !self.schedule.is_due(now, fuel) && !self.ledger.is_full() {
                continue;
            }
            let stands = fuel == before && self.covered == Some(before);
            // What it has slept is worth a snapshot all the same.
            if stands && !self.instance.wasi().is_some_and(|wasi| wasi.is_waiting()) {
                self.schedule.postpone(now, fuel);
                continue;
            }
            self.snapshot_due()?;
            self.schedule.next(Instant::now(), fuel);
        }
    }

    /// Tells once that a part of the memory is damaged, as far as that is known.
    fn tell_damage(&mut self) {
        if !self.told
            && let Some(damage) = self.instance.damage()
        {
            self.told = true;
            (self.observe)(Notice::Damaged(&damage));
        }
    }

    fn until(&self) -> Until {
        Until {
            fuel: self.schedule.fuel().into_iter().chain(self.pause_after).min(),
            request: Some(self.pause.flag.clone()),
            deadline: self.schedule.time(),
            slice: None,
        }
    }

    /// Stores the state, and names it in the job's log. Output that was held back for that is delivered.
    ///
    /// # Errors
    /// What the store reports; the guest is unharmed then, and the snapshot before stays the job's head. Or a
    /// sink takes no more.
    pub fn snapshot(&mut self) -> Result<Commit> {
        self.look(true)?;
        let commit = self.commit()?;
        self.desk.deliver()?;
        Ok(commit)
    }

    /// Stores a snapshot while the guest stands. None is on its way.
    fn commit(&mut self) -> Result<Commit> {
        let stored = self.store_snapshot();
        self.took(stored)
    }

    fn store_snapshot(&mut self) -> Result<(Commit, MemoryTrees)> {
        let Self { instance, ledger, desk, .. } = self;
        let (began, mut trees) = (Instant::now(), std::mem::take(&mut self.trees));
        let pause_us = || began.elapsed().as_micros() as u64;
        desk.store(began, pause_us, desk.chunks.writer()?, |emit| {
            let mut state = instance.capture(&mut trees, emit)?;
            ledger.capture(emit)?.add_to(&mut state)?;
            if let Some(wasi) = instance.wasi() {
                wasi.sync_files()?;
            }
            Ok((state, trees))
        })
    }

    /// A snapshot that is due: it is put aside, and stored while the guest runs on.
    fn snapshot_due(&mut self) -> Result<()> {
        if self.background.as_ref().is_some_and(Background::is_busy) {
            if !self.schedule.is_strict() && !self.ledger.is_full() {
                (self.observe)(Notice::SnapshotSkipped);
                return Ok(());
            }
            self.look(true)?;
        }
        match self.put_aside() {
            Ok(()) => {
                self.covered = Some(self.instance.fuel());
                Ok(())
            }
            Err(error) => {
                let failed = self.took(Err(error));
                self.or_go_on(failed)
            }
        }
    }

    fn put_aside(&mut self) -> Result<()> {
        let began = Instant::now();
        let mut held = Held::new(&self.desk.chunks);
        let mut emit = |id: ChunkId, bytes: &[u8]| held.add(id, bytes);
        let frozen = self.instance.freeze(std::mem::take(&mut self.trees), &mut emit)?;
        let printed = self.ledger.capture(&mut emit)?;
        let files = self.instance.wasi().map(|wasi| wasi.unsynced_files()).transpose()?;
        let background = match &mut self.background {
            Some(background) => background,
            none => none.insert(Background::start(self.desk.clone(), self.pause.clone())?),
        };
        let pause_us = Arc::new(AtomicU64::new(began.elapsed().as_micros() as u64));
        background.begin(Aside { frozen, printed, held, files, began, pause_us: pause_us.clone() })?;
        pause_us.store(began.elapsed().as_micros() as u64, Ordering::SeqCst);
        Ok(())
    }

    /// Looks at what has become of the snapshot that is on its way, if it is there or after waiting for it.
    fn look(&mut self, wait: bool) -> Result<()> {
        let Some(Stored { result, delivered }) = self.background.as_mut().and_then(|b| b.take(wait)) else {
            return Ok(());
        };
        let taken = self.took(result);
        self.or_go_on(taken)?;
        delivered
    }

    /// A snapshot is durable, or could not be stored.
    fn took(&mut self, stored: Result<(Commit, MemoryTrees)>) -> Result<Commit> {
        match stored {
            Ok((commit, trees)) => {
                let stops = self.pause.is_requested() || self.pause_after.is_some();
                self.hint.note(trees.written(), self.instance.touched_first(), stops);
                (self.trees, self.covered) = (trees, Some(commit.fuel));
                (self.observe)(Notice::Committed(&commit));
                Ok(commit)
            }
            Err(error) => {
                // What was emitted may be lost: nothing of it counts as stored.
                (self.trees, self.covered) = (MemoryTrees::default(), None);
                if let Some(wasi) = self.instance.wasi() {
                    wasi.forget_stored();
                }
                self.ledger.undo();
                Err(error)
            }
        }
    }

    /// A store that is full or away for a while does not stop the program; a private disk that is lost does, and
    /// another runner.
    fn or_go_on(&mut self, stored: Result<Commit>) -> Result<()> {
        match stored {
            Err(error) if !is_fenced(&error) => {
                self.check_disks()?;
                (self.observe)(Notice::SnapshotFailed(&error));
                Ok(())
            }
            other => other.map(drop),
        }
    }

    fn check_disks(&mut self) -> Result<()> {
        let checked = self.instance.wasi().map_or(Ok(()), |wasi| wasi.check_disks());
        checked.context("the program cannot go on here, but can from its last snapshot")
    }

    /// A snapshot, and the job is left in good order.
    fn stop(&mut self) -> Result<Outcome> {
        self.look(true)?;
        let commit = self.commit().context("the run cannot be paused: its snapshot cannot be stored")?;
        self.desk.deliver()?;
        self.job.append(Event::Stop)?;
        Ok(Outcome::Paused { snapshot: commit.snapshot, fuel: commit.fuel })
    }

    /// The program has ended: stores its result and all that it printed.
    fn end(&mut self, ending: Ending) -> Result<Outcome> {
        self.look(true)?;
        self.tell_damage();
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
        let all = self.desk.deliver()?;
        // What was held back until now is to outlive the machine as well.
        self.ledger.sync().context("what was printed cannot be made durable")?;
        ensure!(all, JobError::Undelivered { job: self.job.name().clone(), again: false });
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
        // Of this beginning of this job: others may write to the same directory meanwhile.
        let seed = self.job.status().map(|status| status.begin.seed);
        let owner = format!("{} {} {seed:?}", self.job.name(), self.job.jobs().store().describe());
        for sync_out in &self.sync_out {
            let disk = sync_out.disk(&disks)?;
            let explain = || format!("the disk `{disk}` cannot be written out to {}", sync_out.to.display());
            let done = wasi.sync_out(&disk, &sync_out.to, &owner).with_context(explain)?;
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
        if let Some(wasi) = self.instance.wasi() {
            wasi.sync_files()?;
        }
        let (_, guard) = chunks.finish()?;
        let done = Done { ending: ending.clone(), fuel: self.instance.fuel(), output, disks };
        guard.during(|| self.job.append(Event::Done(done)))?;
        drop(guard);
        self.ledger.settle();
        Ok(())
    }
}

/// Another runner has taken over: nothing may be done in the job's name any more.
fn is_fenced(error: &anyhow::Error) -> bool {
    matches!(error.downcast_ref(), Some(JobError::Fenced { .. }))
}
