//! Making a job ready to run on: from its start or its last snapshot to a guest that stands, with its output
//! brought to where it goes on.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use super::background::Desk;
use super::disks::FOREIGN_MAX;
use super::hint::Hint;
use super::jobs::Snapshot;
use super::ledger::Ledger;
use super::log::{Claim, Event, Printed, Status};
use super::options::{Notice, Options, Pause};
use super::policy::Schedule;
use super::printed::Fetch;
use super::run::Run;
use super::sinks::{Delivery, Former, Mode, Plan};
use super::{Job, JobError, Spec, journal};
use crate::digest::ChunkId;
use crate::machine::{self, Functions, Instance, Loading, MemoryTrees, Module, Restoring};
use crate::snapshot::{Difference, IdentityMismatch, State};
use crate::wasi::{self, Host, Preopen, Wasi};

/// For how long the program waits for a part of its memory.
const PATIENCE: Duration = Duration::from_secs(60);

impl Job {
    /// Makes the job ready to run on from its last snapshot, or from its start. Nothing of it runs yet.
    ///
    /// # Errors
    /// It has not begun or has ended; the module is another; the snapshot is damaged
    /// ([`JobError::DamagedSnapshot`]) or does not fit; an
    /// open file has changed (see [`FileProblem`](crate::wasi::FileProblem)); or what the store reports.
    pub fn run(self, module: &Module, options: Options) -> Result<Run> {
        let (jobs, name) = (self.jobs().clone(), self.name().clone());
        let snapshot = self.status().and_then(Status::snapshot);
        self.prepare(module, options).map_err(|error| match snapshot {
            Some(snapshot) => jobs.explain_damage(&name, snapshot, error),
            None => error,
        })
    }

    fn prepare(mut self, module: &Module, options: Options) -> Result<Run> {
        let status = self.unfinished()?;
        same_module(&status.begin.spec, module)?;
        let jobs = self.jobs().clone();
        let mut fetch = |id: ChunkId| Ok(jobs.chunks().read(id)?);
        let pause = options.pause.map_or_else(Pause::new, Ok)?;
        let snapshot = status.snapshot().map(|id| jobs.snapshot(id)).transpose()?;
        let printed =
            snapshot.as_ref().map(|s| Printed::of_state(s.state())).transpose()?.unwrap_or_default();
        let streams = snapshot.as_ref().map(|s| super::wasi_state(s.state())).transpose()?.flatten();
        let streams = streams.map(|wasi| wasi.streams).unwrap_or_default();
        let stdin = journal::journalled(&self, options.stdin, options.input_from, &streams)?;
        let flag = pause.flag.clone();
        let ledger = Ledger::open(options.sinks, &printed, options.keep_output, flag, &mut fetch)?;
        let host = Host {
            stdin,
            stdout: ledger.output(0),
            stderr: ledger.output(1),
            interrupt: pause.interrupt.clone(),
        };
        let hint = Hint::new(&**jobs.store(), self.name());
        let (hash_inputs, scratch) = (options.hash_inputs, jobs.store().working_dir());
        let guest = Guest {
            job: &self,
            module,
            status: &status,
            functions: &options.functions,
            hash_inputs,
            scratch,
        };
        let (mut instance, trees) = match &snapshot {
            Some(snapshot) => {
                let files = (options.dirs, options.accept_changed);
                let memory = (options.loading, options.stuck, hint.read());
                guest.restored(snapshot, host, files, memory)?
            }
            None => (guest.fresh(host)?, MemoryTrees::default()),
        };
        let disks: Vec<String> =
            instance.wasi().into_iter().flat_map(|wasi| wasi.disks().map(str::to_string)).collect();
        options.sync_out.iter().try_for_each(|sync_out| sync_out.disk(&disks).map(drop))?;
        let delivery = options.delivery;
        let how = (delivery, options.retain);
        let (plan, behind) =
            self.claim(&status, &printed, &ledger, how, options.greeting.as_deref(), &pause)?;
        let mut observe = options.observe;
        if printed.lost() > 0 && plan.is_behind(&printed) {
            observe(Notice::OutputLost(printed.lost()));
        }
        if plan.doubtful != [0; 2] {
            observe(Notice::PerhapsTwice(plan.doubtful.iter().sum()));
        }
        Ok(Run {
            background: None,
            desk: Desk {
                chunks: jobs.chunks().clone(),
                recorder: self.recorder(),
                ledger: ledger.clone(),
                pause: pause.clone(),
            },
            job: self,
            schedule: Schedule::new(options.every, Instant::now(), instance.fuel()),
            instance,
            trees,
            ledger,
            behind,
            exact: delivery.mode == Mode::ExactlyOnce,
            pause_after: options.pause_after,
            pause,
            sync_out: options.sync_out,
            observe,
            restored: snapshot.as_ref().map(Snapshot::id),
            hint,
            told: false,
            covered: snapshot.map(|s| s.state().fuel),
        })
    }

    /// How the job stands, which has begun and not ended.
    fn unfinished(&self) -> Result<Status> {
        let status =
            self.status().cloned().with_context(|| format!("job `{}` has not begun", self.name()))?;
        match &status.done {
            None => Ok(status),
            Some(done) => {
                let (job, ending) = (self.name().clone(), format!("{:?}", done.ending));
                Err(JobError::Ended { job, ending }.into())
            }
        }
    }

    /// Writes into the log where output goes on, then brings the sinks there. They may not be there yet when it is to
    /// pause: tells that.
    fn claim(
        &mut self,
        status: &Status,
        printed: &Printed,
        ledger: &Ledger,
        (delivery, retain): (Delivery, Option<u64>),
        greeting: Option<&str>,
        pause: &Pause,
    ) -> Result<(Plan, bool)> {
        let former = Former::new(
            status.claim.as_ref().map_or([None; 2], |claim| claim.sinks),
            status.stopped,
            printed,
        );
        let (counter, pid) = (self.counter(), std::process::id());
        let mut plan = ledger.plan(former, delivery, &counter)?;
        self.append(Event::Claim(Claim { pid, sinks: plan.sinks, retain }))?;
        let jobs = self.jobs().clone();
        let mut fetch = |id: ChunkId| Ok(jobs.chunks().read(id)?);
        let before = (printed, &mut fetch as &mut Fetch<'_>);
        if !ledger.carry_out(&plan, delivery.mode, &counter, before, Some(pause))? {
            return Ok((plan, true));
        }
        if let Some(line) = greeting
            && ledger.say(&mut plan, line).context("standard error cannot be written")?
        {
            self.append(Event::Claim(Claim { pid, sinks: plan.sinks, retain }))?;
        }
        Ok((plan, false))
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

/// What the job's program is made of, here.
struct Guest<'a> {
    job: &'a Job,
    module: &'a Module,
    status: &'a Status,
    functions: &'a Functions,
    hash_inputs: bool,
    scratch: Option<PathBuf>,
}

/// How its memory is loaded, what is called if it waits for a part that is damaged, and what is loaded first.
type Memory = (Loading, Arc<dyn Fn(anyhow::Error) + Send + Sync>, Vec<machine::Run>);

impl Guest<'_> {
    /// The program before its first instruction.
    fn fresh(self, host: Host) -> Result<Instance> {
        let Self { module, functions, hash_inputs, scratch, .. } = self;
        let begin = &self.status.begin;
        let config = wasi::Config { hash_inputs, scratch, ..begin.spec.wasi_config(begin.seed) };
        let (function, args) = &begin.spec.call;
        Instance::new(module, Some(Wasi::new(config, host)?), functions, function, args.clone())
    }

    /// The program as it was at the snapshot.
    fn restored(
        self,
        snapshot: &Snapshot,
        host: Host,
        (dirs, accept_changed): (Vec<Preopen>, bool),
        (loading, stuck, first): Memory,
    ) -> Result<(Instance, MemoryTrees)> {
        let (jobs, name, id) = (self.job.jobs().clone(), self.job.name().clone(), snapshot.id());
        let begin = &self.status.begin;
        let origin = begin.origin.as_ref();
        // Its first process: the job that it forks from has the same files.
        let forks = self.status.head.is_none() && origin.is_some_and(|origin| origin.fork);
        let files = wasi::Restore {
            dirs: where_dirs_are(self.status, snapshot, dirs)?,
            accept_changed,
            shares_files: forks,
            stopped: self.status.stopped,
            hash_inputs: self.hash_inputs,
            scratch: self.scratch.clone(),
        };
        let most = if origin.is_some_and(|origin| origin.foreign) { FOREIGN_MAX } else { u64::MAX };
        let source = Arc::new(jobs.chunks().clone());
        let stuck = Arc::new(move |error| stuck(jobs.explain_damage(&name, id, error)));
        let how = Restoring { source, loading, patience: PATIENCE, first, stuck };
        let (mut instance, trees) = self
            .state_restored(snapshot.state(), host, (files, most), &how)
            .with_context(|| format!("cannot resume snapshot `{}`", id.short()))?;
        if let (true, Some(wasi)) = (forks, instance.wasi()) {
            wasi.reseed(begin.seed);
        }
        Ok((instance, trees))
    }

    fn state_restored(
        &self,
        state: &State,
        host: Host,
        (files, most): (wasi::Restore, u64),
        how: &Restoring,
    ) -> Result<(Instance, MemoryTrees)> {
        // Before WASI looks for files of another program.
        state.identity.require(&self.module.identity())?;
        let mut fetch = |id: ChunkId| Ok(self.job.jobs().chunks().read(id)?);
        let section = state.sections.iter().find(|s| s.name == machine::WASI_SECTION);
        let wasi = section.map(|s| {
            let contents = wasi::Contents { blobs: &state.blobs, fetch: &mut fetch, most };
            Wasi::restore_with(s.version, &s.bytes, host, files, contents)
        });
        Instance::restore_from(self.module, wasi.transpose()?, self.functions, state, how)
    }
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
