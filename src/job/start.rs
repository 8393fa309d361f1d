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
use super::run::Run;
use super::sinks::{Former, Mode};
use super::{Job, JobError, Spec, journal};
use crate::digest::ChunkId;
use crate::machine::{Functions, Instance, MemoryTrees, Module, Restoring};
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
        let (loading, stuck) = (options.loading, options.stuck);
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
        let hint = Hint::new(&**jobs.store(), self.name());
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
                let (jobs, name, id) = (jobs.clone(), self.name().clone(), snapshot.id());
                let source = Arc::new(jobs.chunks().clone());
                let stuck = Arc::new(move |error| stuck(jobs.explain_damage(&name, id, error)));
                let how = Restoring { source, loading, patience: PATIENCE, first: hint.read(), stuck };
                let (mut instance, trees) =
                    restored(module, snapshot.state(), &functions, host, (restore, most), &how, &mut fetch)
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
        let (pid, retain) = (std::process::id(), options.retain);
        self.append(Event::Claim(Claim { pid, sinks: plan.sinks, retain }))?;
        ledger.carry_out(&plan, delivery.mode, &counter, &printed, &mut fetch)?;
        if let Some(line) = &options.greeting
            && ledger.say(&mut plan, line).context("standard error cannot be written")?
        {
            self.append(Event::Claim(Claim { pid, sinks: plan.sinks, retain }))?;
        }
        let mut observe = options.observe;
        if printed.lost() > 0 && plan.is_behind(&printed) {
            observe(Notice::OutputLost(printed.lost()));
        }
        if plan.doubtful != [0; 2] {
            observe(Notice::PerhapsTwice(plan.doubtful.iter().sum()));
        }
        let restored = snapshot.as_ref().map(Snapshot::id);
        let covered = snapshot.map(|s| s.state().fuel);
        let exact = delivery.mode == Mode::ExactlyOnce;
        let schedule = Schedule::new(every, Instant::now(), instance.fuel());
        let desk = Desk { chunks: jobs.chunks().clone(), recorder: self.recorder(), ledger: ledger.clone() };
        Ok(Run {
            background: None,
            job: self,
            instance,
            trees,
            ledger,
            desk,
            exact,
            schedule,
            pause_after,
            pause,
            sync_out,
            observe,
            restored,
            hint,
            told: false,
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
    (files, most): (wasi::Restore, u64),
    how: &Restoring,
    fetch: &mut dyn FnMut(ChunkId) -> Result<Vec<u8>>,
) -> Result<(Instance, MemoryTrees)> {
    // Before WASI looks for files of another program.
    state.identity.require(&module.identity())?;
    let section = state.sections.iter().find(|s| s.name == crate::machine::WASI_SECTION);
    let wasi = section.map(|s| {
        let contents = wasi::Contents { blobs: &state.blobs, fetch: &mut *fetch, most };
        Wasi::restore_with(s.version, &s.bytes, host, files, contents)
    });
    let wasi = wasi.transpose()?;
    Instance::restore_from(module, wasi, functions, state, how)
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
