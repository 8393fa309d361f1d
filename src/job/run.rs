//! The journey of a run, from its beginning or its last snapshot to its end:
//!
//! ```text
//! job.run         the snapshot's state -> an instance; claim the job; bring the output to where it goes on
//! run.advance     the guest runs until it ends, or somebody asks, or a snapshot is due
//! run.snapshot    chunks, then the manifest that names them, then the log entry that names it
//! run.end         the result and all output, then the log entry that names them
//! ```
//!
//! Whenever the process dies, what the log's last entry names is whole.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use super::disks::{FOREIGN_MAX, FinalDisk, SyncOut};
use super::jobs::Snapshot;
use super::ledger::Ledger;
use super::log::{Claim, Commit, Done, Ending, Event, Printed, Status};
use super::policy::Every;
use super::sinks::{Delivery, Former, Mode, Sink};
use super::{InputFrom, Job, JobError, KEEP_OUTPUT, Spec, journal};
use crate::digest::{ChunkId, SnapshotId};
use crate::machine::{Functions, Instance, MemoryTrees, Module, Slice, Until};
use crate::snapshot::{self, Difference, IdentityMismatch, State, Value};
use crate::store::objects;
use crate::wasi::{self, Exported, Host, Interrupt, Preopen, Stdin, Wasi};

/// Asks a run to take a snapshot and stop. Clones share the request.
#[derive(Clone)]
pub struct Pause {
    asked: Arc<AtomicBool>,
    /// What the guest's slices look at.
    flag: Arc<AtomicBool>,
    interrupt: Interrupt,
}

impl Pause {
    /// Nothing is asked for yet.
    ///
    /// # Errors
    /// The host has no file descriptors left.
    pub fn new() -> Result<Self> {
        let interrupt = Interrupt::new().context("cannot make a pipe")?;
        Ok(Self { asked: Arc::default(), flag: Arc::default(), interrupt })
    }

    /// Asks; the run pauses within some milliseconds, or when a host function that does not wait returns.
    pub fn request(&self) {
        // In this order: whoever takes the flag back looks at `asked` afterwards.
        self.asked.store(true, Ordering::SeqCst);
        self.flag.store(true, Ordering::SeqCst);
        self.interrupt.request();
    }

    fn is_requested(&self) -> bool {
        self.asked.load(Ordering::SeqCst)
    }
}

/// How a job is run here and now: nothing of it is part of what the job is.
pub struct Options {
    /// How often a snapshot is taken.
    pub every: Every,
    /// Pause when more fuel than this has been consumed, counted from the program's start.
    pub pause_after: Option<u64>,
    /// By which others ask for a pause.
    pub pause: Option<Pause>,
    /// Standard input.
    pub stdin: Stdin,
    /// Where a pipe on standard input goes on, if the job has read from it before: from the start unless told,
    /// a terminal from now.
    pub input_from: Option<InputFrom>,
    /// Standard output and error.
    pub sinks: [Sink; 2],
    /// How output gets there.
    pub delivery: Delivery,
    /// At most so many bytes of each stream are kept.
    pub keep_output: u64,
    /// Where directories are, instead of where they were, by the guest's names.
    pub dirs: Vec<Preopen>,
    /// Take open files as they are, that have changed in a way that cannot be mended.
    pub accept_changed: bool,
    /// Hash the files of read-only directories that the guest opens.
    pub hash_inputs: bool,
    /// Where to write the changed files of private disks when the program ends by itself.
    pub sync_out: Vec<SyncOut>,
    /// Functions of the embedder.
    pub functions: Functions,
    /// A line for standard error, written between what was printed before and what will be.
    pub greeting: Option<String>,
    /// Is told what happens meanwhile.
    pub observe: Box<dyn FnMut(Notice<'_>)>,
}

impl Default for Options {
    /// A snapshot every 30 s, no input, and output that is only kept.
    fn default() -> Self {
        Self {
            every: Every::default(),
            pause_after: None,
            pause: None,
            stdin: Stdin::Null,
            input_from: None,
            sinks: [Sink::Null, Sink::Null],
            delivery: Delivery::default(),
            keep_output: KEEP_OUTPUT,
            dirs: vec![],
            accept_changed: false,
            hash_inputs: false,
            sync_out: vec![],
            functions: Functions::new(),
            greeting: None,
            observe: Box::new(|_| {}),
        }
    }
}

/// What happens during a run.
#[derive(Debug)]
pub enum Notice<'a> {
    /// A snapshot is durable.
    Committed(&'a Commit),
    /// A snapshot could not be stored. The run goes on, and tries again later.
    SnapshotFailed(&'a anyhow::Error),
    /// The program has ended, and that could not be stored: the job counts as unfinished.
    ResultNotStored(&'a anyhow::Error),
    /// The changed files of a private disk, the guest's name of which this is, are written out.
    SyncedOut(&'a str, &'a Exported),
    /// So many bytes that were printed before are not kept any more, and cannot be printed again.
    OutputLost(u64),
    /// A process died while it delivered so many bytes, and it cannot be known whether they have arrived: they
    /// were delivered again.
    PerhapsTwice(u64),
}

/// What a run ended with.
#[derive(Debug, Clone, PartialEq)]
pub enum Outcome {
    /// The program has ended.
    Ended(Ending),
    /// It is paused, and can be resumed from this snapshot.
    Paused {
        /// The snapshot.
        snapshot: SnapshotId,
        /// Fuel consumed since the program began.
        fuel: u64,
    },
}

/// A job that runs in this process.
pub struct Run {
    job: Job,
    instance: Instance,
    trees: MemoryTrees,
    ledger: Ledger,
    /// Output is held back until it is durable.
    exact: bool,
    every: Every,
    pause_after: Option<u64>,
    pause: Pause,
    sync_out: Vec<SyncOut>,
    observe: Box<dyn FnMut(Notice<'_>)>,
    /// Fuel at the last snapshot.
    covered: Option<u64>,
}

impl Job {
    /// Makes the job ready to run on from its last snapshot, or from its start. Nothing of it runs yet.
    ///
    /// # Errors
    /// It has not begun or has ended; the module is another; the snapshot cannot be read or does not fit; an
    /// open file has changed (see [`FileProblem`](crate::wasi::FileProblem)); or what the store reports.
    pub fn run(mut self, module: &Module, options: Options) -> Result<Run> {
        let status =
            self.status().cloned().with_context(|| format!("job `{}` has not begun", self.name()))?;
        if let Some(done) = &status.done {
            let (job, ending) = (self.name().clone(), format!("{:?}", done.ending));
            return Err(JobError::Ended { job, ending }.into());
        }
        same_module(&status.begin.spec, module)?;
        let jobs = self.jobs().clone();
        let mut fetch = |id: ChunkId| Ok(jobs.chunks().read(id)?);
        let Options { every, pause_after, pause, stdin, sinks, delivery, keep_output, dirs, .. } = options;
        let (functions, hash_inputs, sync_out) = (options.functions, options.hash_inputs, options.sync_out);
        let scratch = jobs.store().working_dir();
        let pause = pause.map_or_else(Pause::new, Ok)?;
        let snapshot = status.snapshot().map(|id| jobs.snapshot(id)).transpose()?;
        let printed =
            snapshot.as_ref().map(|s| Printed::of_state(s.state())).transpose()?.unwrap_or_default();
        let streams = snapshot.as_ref().map(|s| super::wasi_state(s.state())).transpose()?.flatten();
        let streams = streams.map(|wasi| wasi.streams).unwrap_or_default();
        let stdin = journal::journalled(&self, stdin, options.input_from, &streams)?;
        let ledger = Ledger::open(sinks, &printed, keep_output, pause.flag.clone(), &mut fetch)?;
        let host = Host {
            stdin,
            stdout: ledger.output(0),
            stderr: ledger.output(1),
            interrupt: pause.interrupt.clone(),
        };
        let (mut instance, trees) = match &snapshot {
            Some(snapshot) => {
                let dirs = where_dirs_are(&status, snapshot, dirs)?;
                // Its first process: the job that it forks from has the same files.
                let forks =
                    status.head.is_none() && status.begin.origin.as_ref().is_some_and(|origin| origin.fork);
                let accept_changed = options.accept_changed;
                let restore =
                    wasi::Restore { dirs, accept_changed, shares_files: forks, hash_inputs, scratch };
                let foreign = status.begin.origin.as_ref().is_some_and(|origin| origin.foreign);
                let most = if foreign { FOREIGN_MAX } else { u64::MAX };
                let explain = || format!("cannot resume snapshot `{}`", snapshot.id().short());
                let (mut instance, trees) =
                    restored(module, snapshot.state(), &functions, host, (restore, most), &mut fetch)
                        .with_context(explain)?;
                if let (true, Some(wasi)) = (forks, instance.wasi()) {
                    wasi.reseed(status.begin.seed);
                }
                (instance, trees)
            }
            None => {
                (fresh(module, &status, (hash_inputs, scratch), &functions, host)?, MemoryTrees::default())
            }
        };
        let disks: Vec<String> =
            instance.wasi().into_iter().flat_map(|wasi| wasi.disks().map(str::to_string)).collect();
        for sync_out in &sync_out {
            sync_out.disk(&disks)?;
        }
        let former = Former {
            sinks: status.claim.as_ref().map_or([None; 2], |claim| claim.sinks),
            clean: status.stopped,
            printed: &printed,
            delivered: None,
        };
        let counter = self.counter();
        let mut plan = ledger.plan(former, delivery, &counter)?;
        let pid = std::process::id();
        self.append(Event::Claim(Claim { pid, sinks: plan.sinks }))?;
        ledger.carry_out(&plan, delivery.mode, &counter, &printed, &mut fetch)?;
        if let Some(line) = &options.greeting
            && ledger.say(&mut plan, line).context("standard error cannot be written")?
        {
            self.append(Event::Claim(Claim { pid, sinks: plan.sinks }))?;
        }
        let mut observe = options.observe;
        if printed.lost() > 0 && plan.is_behind(&printed) {
            observe(Notice::OutputLost(printed.lost()));
        }
        if plan.doubtful != [0; 2] {
            observe(Notice::PerhapsTwice(plan.doubtful.iter().sum()));
        }
        let covered = snapshot.map(|s| s.state().fuel);
        let exact = delivery.mode == Mode::ExactlyOnce;
        Ok(Run {
            job: self,
            instance,
            trees,
            ledger,
            exact,
            every,
            pause_after,
            pause,
            sync_out,
            observe,
            covered,
        })
    }
}

/// The module must be the job's.
fn same_module(spec: &Spec, module: &Module) -> Result<(), IdentityMismatch> {
    if spec.module == module.id() {
        return Ok(());
    }
    let (found, expected) = (spec.module.to_string(), module.id().to_string());
    Err(IdentityMismatch(vec![Difference { what: "module", found, expected }]))
}

/// The job's program before its first instruction.
fn fresh(
    module: &Module,
    status: &Status,
    (hash_inputs, scratch): (bool, Option<PathBuf>),
    functions: &Functions,
    host: Host,
) -> Result<Instance> {
    let spec = &status.begin.spec;
    let config = wasi::Config { hash_inputs, scratch, ..spec.wasi_config(status.begin.seed) };
    let wasi = Wasi::new(config, host)?;
    Instance::new(module, Some(wasi), functions, &spec.call.0, spec.call.1.clone())
}

/// The program as it was at a snapshot.
fn restored(
    module: &Module,
    state: &State,
    functions: &Functions,
    host: Host,
    (how, most): (wasi::Restore, u64),
    fetch: &mut dyn FnMut(ChunkId) -> Result<Vec<u8>>,
) -> Result<(Instance, MemoryTrees)> {
    // Before WASI looks for files of another program.
    state.identity.require(&module.identity())?;
    let section = state.sections.iter().find(|s| s.name == crate::machine::WASI_SECTION);
    let wasi = section.map(|s| {
        let contents = wasi::Contents { blobs: &state.blobs, fetch: &mut *fetch, most };
        Wasi::restore_with(s.version, &s.bytes, host, how, contents)
    });
    let wasi = wasi.transpose()?;
    Instance::restore(module, wasi, functions, state, fetch)
}

/// The directories of a snapshot: where it says, or where the user says. Only what was made here is believed
/// where it says.
fn where_dirs_are(status: &Status, snapshot: &Snapshot, given: Vec<Preopen>) -> Result<wasi::Dirs> {
    // One from elsewhere that has been continued here has its directories of here.
    let foreign = status.head.is_none() && status.begin.origin.as_ref().is_some_and(|o| o.foreign);
    if given.is_empty() && !foreign {
        return Ok(wasi::Dirs::AsRecorded);
    }
    let (mut dirs, mut missing) = (given, vec![]);
    for root in super::wasi_state(snapshot.state())?.into_iter().flat_map(|wasi| wasi.roots) {
        if dirs.iter().any(|dir| dir.guest == root.guest) {
            continue;
        }
        if foreign {
            missing.push(root.guest);
            continue;
        }
        let host = PathBuf::from(OsString::from_vec(root.host));
        dirs.push(Preopen { host, guest: root.guest, read_only: root.read_only });
    }
    if !missing.is_empty() {
        return Err(JobError::ForeignDirectories { snapshot: snapshot.id(), guests: missing }.into());
    }
    Ok(wasi::Dirs::Given(dirs))
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

impl Outcome {
    /// The results of the function, if it has returned.
    pub fn returned(&self) -> Option<&[Value]> {
        match self {
            Self::Ended(Ending::Returned(values)) => Some(values),
            _ => None,
        }
    }
}
