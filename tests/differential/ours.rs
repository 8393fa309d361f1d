//! The module on the machine: straight, and with pauses.

use std::collections::HashMap;
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use wasm_ckpt::digest::{ChunkId, SnapshotId};
use wasm_ckpt::machine::{Functions, Instance, MemoryTrees, Module, Slice, Until};
use wasm_ckpt::snapshot::{self, State};

use crate::plan::{Call, Outcome};
use crate::rng::Rng;

/// Pauses of one call at every point; later ones are at random distances.
const EVERY_POINT: u32 = 30;
/// No more pauses of one call than this.
const PAUSES_MAX: u32 = 60;

/// A module compiled for this machine, and for the interpreter if that takes part.
pub struct Subject {
    pub native: Module,
    pub pulley: Option<Module>,
    pub functions: Functions,
    pub calls: Vec<Call>,
    /// Fuel that a call may take.
    pub fuel: u64,
}

/// What came out.
pub struct Run {
    pub outcomes: Vec<Outcome>,
    /// Fuel after each call.
    pub fuel: Vec<u64>,
    /// The state at the end; none if the start function trapped.
    pub end: Option<(SnapshotId, State)>,
    /// Snapshots on the way.
    pub marks: Vec<Mark>,
    pub pauses: u64,
}

/// A snapshot on the way.
#[derive(Debug, Clone)]
pub struct Mark {
    /// Number of the call.
    pub call: usize,
    /// The fuel that was to be passed.
    pub until: u64,
    pub id: SnapshotId,
    pub state: Arc<State>,
}

/// How a guest is paused.
enum Pausing<'r> {
    Never,
    /// Until this fuel in this call; then the run is over.
    Once(usize, u64),
    Often(&'r mut Rng),
}

/// Short slices: at the end of each the innermost frames are rebuilt, up to a call that closes a cycle.
fn slice(rng: &mut Rng) -> Option<u64> {
    rng.one_in(2).then(|| 1 << rng.below(10))
}

struct Guest<'s> {
    subject: &'s Subject,
    instance: Instance,
    chunks: HashMap<ChunkId, Vec<u8>>,
}

impl Subject {
    /// Without pauses.
    pub fn straight(&self) -> Result<Run> {
        self.run(Pausing::Never)
    }

    /// Paused often: in place, moved, or moved to the other instruction set.
    pub fn chain(&self, rng: &mut Rng) -> Result<Run> {
        self.run(Pausing::Often(rng))
    }

    /// Goes straight to where a mark was made.
    pub fn straight_to(&self, mark: &Mark) -> Result<(SnapshotId, State)> {
        let run = self.run(Pausing::Once(mark.call, mark.until))?;
        run.end.context("it ended before the mark")
    }

    fn run(&self, mut pausing: Pausing<'_>) -> Result<Run> {
        let first = &self.calls[0];
        let instance = Instance::new(&self.native, None, &self.functions, &first.export, first.args.clone())?;
        let mut guest = Guest { subject: self, instance, chunks: HashMap::new() };
        let mut run = Run { outcomes: vec![], fuel: vec![], end: None, marks: vec![], pauses: 0 };
        for (number, call) in self.calls.iter().enumerate() {
            if number > 0 {
                guest.instance.call(&call.export, call.args.clone())?;
            }
            let outcome = guest.call(number, &mut pausing, &mut run)?;
            let paused = outcome == Outcome::Unfinished;
            let lost = outcome == Outcome::Overflowed;
            run.fuel.push(guest.instance.fuel());
            run.outcomes.push(outcome);
            if paused || lost {
                run.end = if paused { Some(guest.capture()?) } else { None };
                return Ok(run);
            }
        }
        // A guest that trapped in its start function can neither be called nor captured.
        if guest.instance.call(&first.export, first.args.clone()).is_ok() {
            run.end = Some(guest.capture()?);
        }
        Ok(run)
    }
}

impl Guest<'_> {
    fn call(&mut self, number: usize, pausing: &mut Pausing<'_>, run: &mut Run) -> Result<Outcome> {
        let most = self.instance.fuel() + self.subject.fuel;
        for count in 0.. {
            let until = match pausing {
                Pausing::Once(call, until) if *call == number => *until,
                Pausing::Never | Pausing::Once(..) => most,
                Pausing::Often(_) if count >= PAUSES_MAX => most,
                Pausing::Often(_) if count < EVERY_POINT => self.instance.fuel(),
                Pausing::Often(rng) => {
                    let bits = rng.below(14);
                    self.instance.fuel() + (rng.next() & ((1 << bits) - 1))
                }
            };
            let until = until.min(most);
            let slice = if let Pausing::Often(rng) = pausing { slice(rng) } else { None };
            match self.instance.run(&Until { fuel: Some(until), slice, ..Until::default() })? {
                Slice::Finished(values) => return Ok(Outcome::Returned(values)),
                Slice::Exited(code) => bail!("exited with {code}"),
                Slice::Trapped(trap) if trap.code == Some(wasmtime::Trap::StackOverflow) => {
                    return Ok(Outcome::Overflowed);
                }
                Slice::Trapped(trap) => {
                    return Ok(Outcome::Trapped { code: trap.code, frames: trap.frames });
                }
                Slice::Paused => {}
            }
            run.pauses += 1;
            let Pausing::Often(rng) = pausing else { return Ok(Outcome::Unfinished) };
            if self.instance.fuel() > most {
                return Ok(Outcome::Unfinished);
            }
            let choice = rng.below(4);
            if choice > 0 {
                let (id, state) = self.travel(choice == 1)?;
                run.marks.push(Mark { call: number, until, id, state: Arc::new(state) });
            }
        }
        unreachable!("the loop has no end")
    }

    /// The state as a snapshot's bytes would give it back.
    fn capture(&mut self) -> Result<(SnapshotId, State)> {
        let chunks = &mut self.chunks;
        let mut emit = |id, bytes: &[u8]| {
            chunks.insert(id, bytes.to_vec());
            Ok(())
        };
        let state = self.instance.capture(&mut MemoryTrees::default(), &mut emit)?;
        let (id, manifest) = snapshot::encode(&state)?;
        let decoded = snapshot::decode(&manifest, Some(id))?.state().clone();
        anyhow::ensure!(decoded == state, "decoded: {decoded:#?}, encoded: {state:#?}");
        Ok((id, state))
    }

    /// Goes on in a fresh instance, maybe under the other instruction set.
    fn travel(&mut self, change: bool) -> Result<(SnapshotId, State)> {
        let (id, state) = self.capture()?;
        let target = self.instance.module().engine().settings().target.is_some();
        let module = match &self.subject.pulley {
            Some(pulley) if change != target => pulley,
            _ => &self.subject.native,
        };
        let mut fetch = |id| self.chunks.get(&id).cloned().context("a chunk is missing");
        let restored = Instance::restore(module, None, &self.subject.functions, &state, &mut fetch);
        self.instance = restored.with_context(|| format!("{state:#?}"))?.0;
        Ok((id, state))
    }
}
