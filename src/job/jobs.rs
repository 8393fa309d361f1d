//! All jobs of a store, and one of them held.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use super::delivery::Counter;
use super::ledger::Ledger;
use super::log::{self, Begin, Done, Entry, Event, Origin, SinkFile, Status};
use super::options::Pause;
use super::printed::Fetch;
use super::sinks::{Delivery, Former, From, Mode, Sink};
use super::{JobError, JobName, Spec, fold, journal, working};
use crate::digest::SnapshotId;
use crate::snapshot::{State, Verified, decode};
use crate::store::{Chunks, Compress, Guard, Hold, Key, Store, StoreError, objects};

/// Who waits for a job that a dead process seems to have looks this often at most.
const LOOK: Duration = Duration::from_millis(50);

/// The jobs and snapshots of a store. Cheap to clone.
#[derive(Clone)]
pub struct Jobs {
    chunks: Chunks,
}

/// A snapshot that was read and checked; its chunks are checked when they are read.
#[derive(Debug, Clone)]
pub struct Snapshot {
    verified: Verified,
    manifest: Vec<u8>,
}

impl Snapshot {
    /// Its id.
    pub fn id(&self) -> SnapshotId {
        self.verified.id()
    }

    /// The state.
    pub fn state(&self) -> &State {
        self.verified.state()
    }

    /// The bytes of its manifest.
    pub fn manifest(&self) -> &[u8] {
        &self.manifest
    }
}

/// An ended job whose output was printed again.
#[derive(Debug, Clone)]
pub struct Replayed {
    /// Its end.
    pub done: Done,
    /// So many bytes are not kept, and were missing.
    pub lost: u64,
    /// So many bytes have perhaps arrived a second time: a process died while it delivered them.
    pub perhaps_twice: u64,
}

/// A job that only this process can run, as long as this value lives.
pub struct Job {
    jobs: Jobs,
    name: JobName,
    status: Option<Status>,
    /// With the lease.
    recorder: Recorder,
}

/// Writes the log of a job that this process has. Clones write the same.
#[derive(Clone)]
pub(super) struct Recorder {
    store: Arc<dyn Store>,
    log: Arc<Mutex<log::Writer>>,
}

impl Recorder {
    /// Appends an entry durably.
    ///
    /// # Errors
    /// [`JobError::Fenced`] if another process has taken over, and what the store reports.
    pub fn append(&self, event: Event) -> Result<()> {
        self.log().append(&*self.store, event)
    }

    fn log(&self) -> MutexGuard<'_, log::Writer> {
        self.log.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Jobs {
    /// The jobs in this store. Reads nothing yet.
    pub fn new(store: Arc<dyn Store>) -> Self {
        Self { chunks: Chunks::open(store) }
    }

    /// The same jobs, whose snapshots are compressed with this effort from now on.
    #[must_use]
    pub fn with_compress(self, compress: Compress) -> Self {
        Self { chunks: self.chunks.with_compress(compress) }
    }

    /// The store.
    pub fn store(&self) -> &Arc<dyn Store> {
        self.chunks.store()
    }

    /// Its chunks.
    pub fn chunks(&self) -> &Chunks {
        &self.chunks
    }

    /// The names of all jobs, in alphabetical order.
    ///
    /// # Errors
    /// What the store reports.
    pub fn names(&self) -> Result<Vec<JobName>> {
        let mut names = vec![];
        for name in self.store().names(log::JOBS)? {
            let Ok(name) = name.parse() else { continue };
            if fold::last(&**self.store(), &name)?.is_some() {
                names.push(name);
            }
        }
        names.sort_unstable();
        Ok(names)
    }

    /// Where a job stands; nothing if there is none. Another process may be running it.
    ///
    /// # Errors
    /// Its log is damaged, or what the store reports.
    pub fn status(&self, name: &JobName) -> Result<Option<Status>> {
        Ok(log::status(&**self.store(), name)?.map(|(status, _)| status))
    }

    /// Where a job stands, which there must be.
    ///
    /// # Errors
    /// [`JobError::NotFound`], and as [`Jobs::status`].
    pub fn existing(&self, name: &JobName) -> Result<Status> {
        self.status(name)?.ok_or_else(|| self.not_found("job", name.as_str()).into())
    }

    /// The entries of a job's log since its last beginning, oldest first, without snapshots that are released.
    ///
    /// # Errors
    /// As [`Jobs::status`].
    pub fn history(&self, name: &JobName) -> Result<Vec<Entry>> {
        fold::history(&**self.store(), name)
    }

    /// How many snapshots the job keeps.
    ///
    /// # Errors
    /// What the store reports.
    pub fn kept(&self, name: &JobName) -> Result<u64> {
        fold::kept(&**self.store(), name)
    }

    /// Takes the job for this process, whether it has begun or not.
    ///
    /// # Errors
    /// [`JobError::Held`] if another process has it, and as [`Jobs::status`].
    pub fn hold(&self, name: &JobName) -> Result<Job> {
        let lease = self.lease(name)?;
        let found = log::status(&**self.store(), name)?;
        let last = found.as_ref().map(|(_, last)| *last);
        if last.is_none() {
            // What a removal that was cut short has left.
            fold::remove(&**self.store(), name)?;
        }
        if let Some(last) = last {
            // Whoever wrote the entry may have died before it was durable, and we build on it.
            self.store().settle(log::entry_key(name, last.seq)?.as_str())?;
        }
        let log = Arc::new(Mutex::new(log::Writer::new(name, last)?.kept(self, lease)));
        let recorder = Recorder { store: self.store().clone(), log };
        let status = found.map(|(status, _)| status);
        Ok(Job { jobs: self.clone(), name: name.clone(), status, recorder })
    }

    /// Who runs the job now, if anybody does.
    ///
    /// # Errors
    /// What the store reports.
    pub fn is_held(&self, name: &JobName) -> Result<bool> {
        Ok(self.store().is_held(&lease_key(name)?)?)
    }

    /// Reads a snapshot's manifest and checks it.
    ///
    /// # Errors
    /// [`JobError::NotFound`]; it is damaged or of a newer version; what the store reports.
    pub fn snapshot(&self, id: SnapshotId) -> Result<Snapshot> {
        let manifest = match objects::get_snapshot(&**self.store(), id) {
            Err(StoreError::NotFound { .. }) => {
                return Err(self.not_found("snapshot", &id.to_string()).into());
            }
            other => other?,
        };
        let verified = decode(&manifest, Some(id))?;
        Ok(Snapshot { verified, manifest })
    }

    /// The snapshot whose id begins with these hex digits.
    ///
    /// # Errors
    /// [`JobError::NotFound`], [`JobError::Ambiguous`], and what the store reports.
    pub fn find_snapshot(&self, prefix: &str) -> Result<SnapshotId> {
        let lower = prefix.to_ascii_lowercase();
        let none = || self.not_found("snapshot", prefix);
        if lower.is_empty() || lower.len() > 64 || !lower.bytes().all(|b| b.is_ascii_hexdigit()) {
            return Err(none().into());
        }
        let ids: Vec<SnapshotId> = self
            .store()
            .list(&format!("snapshots/{lower}"))?
            .iter()
            .filter_map(|key| key.name().parse().ok())
            .collect();
        match ids.as_slice() {
            [] => Err(none().into()),
            [id] => Ok(*id),
            many => Err(JobError::Ambiguous { prefix: prefix.to_string(), count: many.len() }.into()),
        }
    }

    /// All snapshots in the store.
    ///
    /// # Errors
    /// What the store reports.
    pub fn snapshots(&self) -> Result<Vec<SnapshotId>> {
        let keys = self.store().list("snapshots/")?;
        Ok(keys.iter().filter_map(|key| key.name().parse().ok()).collect())
    }

    /// The jobs that have this snapshot since their last beginning, and whether it is where they stand.
    ///
    /// # Errors
    /// As [`Jobs::status`].
    pub fn owners(&self, id: SnapshotId) -> Result<Vec<(JobName, bool)>> {
        let mut owners = vec![];
        for name in self.names()? {
            let status = match self.existing(&name) {
                // It tells nothing about who has made what.
                Err(error) if is_damaged(&error) => continue,
                other => other?,
            };
            if status.done.is_none() && status.snapshot() == Some(id) {
                owners.push((name, true));
                continue;
            }
            if self.has_made(&name, id)? {
                owners.push((name, false));
            }
        }
        Ok(owners)
    }

    /// Whether the job has made this snapshot since its last beginning, and not only begun with it.
    fn has_made(&self, name: &JobName, id: SnapshotId) -> Result<bool> {
        let made = |entry: &Entry| matches!(&entry.event, Event::Commit(c) if c.snapshot == id);
        Ok(self.history(name)?.iter().any(made))
    }

    /// No job of this store has made this snapshot: it came from elsewhere.
    fn is_foreign(&self, id: SnapshotId) -> Result<bool> {
        for name in self.names()? {
            match self.has_made(&name, id) {
                Ok(true) => return Ok(false),
                Err(error) if !is_damaged(&error) => return Err(error),
                _ => {}
            }
        }
        Ok(true)
    }

    /// Removes a job: its log, newest entry first, so that what a crash leaves is a log again; then what it has
    /// read. Its snapshots go with the next sweep.
    ///
    /// # Errors
    /// [`JobError::Held`] if another process has it, and what the store reports.
    pub fn remove(&self, name: &JobName) -> Result<()> {
        // Its log is not read: it may be damaged.
        let _lease = self.lease(name)?;
        self.remove_held(name)
    }

    /// Removes a job if it has ended, and tells whether it had.
    ///
    /// # Errors
    /// As [`Jobs::remove`] and [`Jobs::status`].
    pub fn remove_ended(&self, name: &JobName) -> Result<bool> {
        let _lease = self.lease(name)?;
        // It may have begun anew since somebody looked.
        let ended = self.status(name)?.is_some_and(|status| status.done.is_some());
        if ended {
            self.remove_held(name)?;
        }
        Ok(ended)
    }

    fn remove_held(&self, name: &JobName) -> Result<()> {
        fold::remove(&**self.store(), name)?;
        journal::remove(&**self.store(), name, |_| true)?;
        working::forget(&**self.store(), name);
        Ok(())
    }

    fn lease(&self, name: &JobName) -> Result<Box<dyn Hold>> {
        let key = lease_key(name)?;
        let (until, mut pause) = (Instant::now() + self.store().lapse(), Duration::from_millis(5));
        loop {
            match self.store().hold(&key) {
                Err(StoreError::Held { alive: false, .. }) if Instant::now() < until => thread::sleep(pause),
                Err(StoreError::Held { holder, .. }) => {
                    return Err(JobError::Held { job: name.clone(), holder }.into());
                }
                other => return Ok(other?),
            }
            pause = (pause * 2).min(LOOK);
        }
    }

    pub(super) fn not_found(&self, what: &'static str, name: &str) -> JobError {
        JobError::NotFound { what, name: name.to_string(), place: self.store().describe() }
    }
}

/// The log of a job cannot be read, now or ever.
fn is_damaged(error: &anyhow::Error) -> bool {
    matches!(error.downcast_ref(), Some(JobError::DamagedLog { .. } | JobError::NewerLog { .. }))
}

/// What it means for a job to begin with a snapshot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lineage {
    /// A job of another host moves here: it goes on as it would have there. Paths of that host mean nothing.
    Moved,
    /// A second job goes its own way from a snapshot of the first.
    Fork {
        /// Of its random numbers, which are not to be those of the first; chosen by the system if not given.
        seed: Option<[u8; 32]>,
    },
}

fn system_seed() -> Result<[u8; 32]> {
    let mut seed = [0; 32];
    getrandom::fill(&mut seed).map_err(|e| anyhow::anyhow!("the system gives no random bytes: {e}"))?;
    Ok(seed)
}

/// The lease of a job.
pub(super) fn lease_key(name: &JobName) -> Result<Key, StoreError> {
    Key::new(format!("{}{name}", log::JOBS))
}

impl Job {
    /// All jobs of its store.
    pub fn jobs(&self) -> &Jobs {
        &self.jobs
    }

    /// Its name.
    pub fn name(&self) -> &JobName {
        &self.name
    }

    /// Where it stands; nothing if it has not begun.
    pub fn status(&self) -> Option<&Status> {
        self.status.as_ref()
    }

    /// The snapshot that it goes on from, if it has one.
    ///
    /// # Errors
    /// [`JobError::DamagedSnapshot`], which names one before it that is whole; it is of a newer version; what the store reports.
    pub fn snapshot(&self) -> Result<Option<Snapshot>> {
        let Some(id) = self.status.as_ref().and_then(Status::snapshot) else { return Ok(None) };
        let found = self.jobs.snapshot(id);
        found.map(Some).map_err(|error| self.jobs.explain_damage(&self.name, id, error))
    }

    /// Begins the job, or begins it anew. What was before stays in the log, and its snapshots stay until the
    /// next sweep.
    ///
    /// # Errors
    /// What the store reports.
    pub fn begin(&mut self, module: &[u8], spec: Spec) -> Result<()> {
        // Chosen now and kept, so that a start that is repeated after a crash is the same.
        let seed = spec.seed.map_or_else(system_seed, Ok)?;
        let guard = self.jobs.chunks.guard()?;
        objects::put_module(&**self.jobs.store(), module)?;
        guard.during(|| self.begin_with(Begin { spec, seed, origin: None }))
    }

    /// Begins the job with a snapshot of the store.
    ///
    /// # Errors
    /// The snapshot cannot be read, or what the store reports.
    pub fn begin_from(&mut self, snapshot: SnapshotId, how: Lineage) -> Result<()> {
        let guard = self.jobs.chunks.guard()?;
        self.begin_guarded(snapshot, how, &guard)
    }

    /// The same with a snapshot that was just taken over. What keeps sweeps away since then goes on doing so: asking
    /// for it once more would wait for a sweep that waits for us.
    ///
    /// # Errors
    /// As of [`Job::begin_from`].
    pub fn begin_guarded(&mut self, snapshot: SnapshotId, how: Lineage, guard: &Guard) -> Result<()> {
        let found = self.jobs.snapshot(snapshot)?;
        let spec = Spec::of_state(found.state())?;
        let (foreign, fork, seed) = match how {
            // The snapshot has the generator's state, so the seed is of no meaning.
            Lineage::Moved => (true, false, [0; 32]),
            // Another job may have begun with one from elsewhere.
            Lineage::Fork { seed } => {
                (self.jobs.is_foreign(snapshot)?, true, seed.map_or_else(system_seed, Ok)?)
            }
        };
        let origin = Some(Origin { snapshot, fuel: found.state().fuel, foreign, fork });
        guard.during(|| self.begin_with(Begin { spec, seed, origin }))
    }

    /// Goes back to an earlier snapshot of the job: it goes on from there as it did then, under the same name. What it
    /// has done since is forgotten, and its other snapshots are released. What it has read from a pipe since is known
    /// still, and is read again.
    ///
    /// # Errors
    /// [`JobError::NotFound`] if the job has not made that snapshot, or has released it; it cannot be read; what the
    /// store reports.
    pub fn go_back(&mut self, snapshot: SnapshotId) -> Result<()> {
        let guard = self.jobs.chunks.guard()?;
        let begin =
            self.status.as_ref().map(|status| status.begin.clone()).context("the job has not begun")?;
        if !self.jobs.has_made(&self.name, snapshot)? {
            return Err(self.jobs.not_found("snapshot of the job", &snapshot.to_string()).into());
        }
        let fuel = self.jobs.snapshot(snapshot)?.state().fuel;
        let origin = Some(Origin { snapshot, fuel, foreign: false, fork: false });
        guard.during(|| self.begin_as(Begin { origin, ..begin }, true))
    }

    fn begin_with(&mut self, begin: Begin) -> Result<()> {
        self.begin_as(begin, false)
    }

    /// Begins the job; with what it has read from a pipe before, or without that.
    fn begin_as(&mut self, begin: Begin, with_input: bool) -> Result<()> {
        // Of a job of this name that was removed, if the removal was cut short.
        let (store, next) = (self.jobs.store().clone(), self.recorder.log().next());
        journal::remove(&*store, &self.name, |begin| begin >= next)?;
        if with_input {
            // What is in a file of this machine alone is about the beginning that is now.
            journal::bring_late(&store, &self.name, self.begin_number())?;
            // Under the number that the beginning will have. Dying in between leaves what the line above removes.
            journal::carry_over(&*store, &self.name, self.begin_number(), next)?;
        }
        working::forget(&*store, &self.name);
        self.append(Event::Begin(begin.clone()))?;
        let ours = self.recorder.log().stand().begin;
        journal::remove(&*store, &self.name, |begin| begin != ours)?;
        let now = log::now();
        self.status = Some(Status {
            begin,
            began: now,
            changed: now,
            head: None,
            commits: 0,
            claim: None,
            stopped: false,
            done: None,
        });
        Ok(())
    }

    /// It begins with private disks that were filled from elsewhere.
    pub(super) fn is_filled(&self) -> bool {
        let begin = self.status.as_ref().map(|status| &status.begin);
        begin.is_some_and(|begin| {
            begin.origin.is_none() && begin.spec.disks.iter().any(|d| d.source.is_some())
        })
    }

    /// The bytes of the job's module.
    ///
    /// # Errors
    /// It is missing or damaged; the job has not begun.
    pub fn module(&self) -> Result<Vec<u8>> {
        let status = self.status.as_ref().context("the job has not begun")?;
        let id = status.begin.spec.module;
        objects::get_module(&**self.jobs.store(), id)
            .with_context(|| format!("the module of job `{}` cannot be read", self.name))
    }

    /// Prints what the ended job has printed, as far as it is not there yet, and gives its result.
    ///
    /// # Errors
    /// It has not ended; what the store or the sinks report.
    pub fn replay(&mut self, sinks: [Sink; 2], delivery: Delivery) -> Result<Replayed> {
        self.replay_until(sinks, delivery, None)
    }

    /// The same, until there is no room and a pause is asked for: [`JobError::Undelivered`] then.
    ///
    /// # Errors
    /// As [`Job::replay`].
    pub fn replay_until(
        &mut self,
        sinks: [Sink; 2],
        delivery: Delivery,
        pause: Option<&Pause>,
    ) -> Result<Replayed> {
        let (done, sinks_were) = self.ended()?;
        let ledger = Ledger::of_ended(sinks);
        let jobs = self.jobs.clone();
        let mut fetch = |id| Ok(jobs.chunks.read(id)?);
        let (mode, counter) = (delivery.mode, self.counter());
        let former = Former::new(sinks_were, true, &done.output);
        let plan = ledger.plan(former, delivery, &counter)?;
        let before = (&done.output, &mut fetch as &mut Fetch<'_>);
        if !ledger.carry_out(&plan, mode, &counter, before, pause)? {
            let again = mode == Mode::AtOnce;
            return Err(JobError::Undelivered { job: self.name.clone(), again }.into());
        }
        let lost = if plan.is_behind(&done.output) { done.output.lost() } else { 0 };
        Ok(Replayed { done, lost, perhaps_twice: plan.doubtful.iter().sum() })
    }

    /// How many bytes of what the ended job has printed have not arrived in these sinks, if they were to have it
    /// exactly once and a process died on it; 0 if that is not known, or they are others.
    ///
    /// # Errors
    /// As [`Job::replay`].
    pub fn owes(&mut self, sinks: [Sink; 2]) -> Result<u64> {
        let counter = self.counter();
        if counter.read().is_none() {
            return Ok(0);
        }
        let (done, sinks_were) = self.ended()?;
        let delivery = Delivery { mode: Mode::ExactlyOnce, from: Some(From::Now) };
        let former = Former::new(sinks_were, true, &done.output);
        let plan = Ledger::of_ended(sinks).plan(former, delivery, &counter)?;
        Ok((0..2).map(|n| done.output.streams[n].written - plan.there[n]).sum())
    }

    /// The end of the job, and where its output went.
    fn ended(&self) -> Result<(Done, [Option<SinkFile>; 2])> {
        let status = self.status.clone().context("the job has not begun")?;
        let done = status.done.with_context(|| format!("job `{}` has not ended", self.name))?;
        Ok((done, status.claim.map_or([None; 2], |claim| claim.sinks)))
    }

    /// Counts what is delivered of this beginning of the job.
    pub(super) fn counter(&self) -> Counter {
        Counter::of(&**self.jobs.store(), &self.name, self.recorder.log().stand().begin)
    }

    /// Number of the job's beginning in its log.
    pub(super) fn begin_number(&self) -> u64 {
        self.recorder.log().stand().begin
    }

    pub(super) fn append(&mut self, event: Event) -> Result<()> {
        self.recorder.append(event)
    }

    /// What writes its log.
    pub(super) fn recorder(&self) -> Recorder {
        self.recorder.clone()
    }
}
