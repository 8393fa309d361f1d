//! A module of a script, instantiated: how it is called, and how it is paused.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::{Context, Result, bail};
use wasm_ckpt::digest::ChunkId;
use wasm_ckpt::instrument::{PREFIX, TRAILER, UNWINDING};
use wasm_ckpt::machine::{self, MemoryTrees, Slice, Until};
use wasm_ckpt::snapshot;
use wasmtime::{Func, Memory, Ref, Store, Table, TypedFunc, Val};

use crate::spectest;
use crate::values;

/// So many pauses of one call are at every suspension point; later ones are ever further apart.
const EVERY_POINT: u32 = 100;
/// Then the distance doubles with so many pauses.
const DOUBLE_AFTER: u32 = 5;
/// Fuel that does not run out.
const ENOUGH: i64 = i64::MAX / 2;

/// Until when a call is paused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pauses {
    /// To its end.
    All,
    /// It is going to exhaust the stack, and would only be paused ever deeper in the same recursion: at
    /// first only.
    AtFirst,
}

impl Pauses {
    /// Fuel until the n-th pause of a call.
    fn distance(self, pause: u32) -> Option<u64> {
        match (pause.checked_sub(EVERY_POINT), self) {
            (None, _) => Some(0),
            (Some(n), Pauses::All) => Some(1 << (n / DOUBLE_AFTER).min(40)),
            (Some(_), Pauses::AtFirst) => None,
        }
    }
}

/// What a call ended with.
pub enum Outcome {
    Returned(Vec<Val>),
    Failed(Failure),
}

/// Why a call did not return.
pub struct Failure {
    /// In the engine's words.
    pub message: String,
    /// An exception came out.
    pub thrown: bool,
}

impl From<wasmtime::Error> for Failure {
    fn from(error: wasmtime::Error) -> Self {
        Failure { message: format!("{error:?}"), thrown: error.is::<wasmtime::ThrownException>() }
    }
}

/// The rewritten module in the script's own store.
pub struct Local {
    pub instance: wasmtime::Instance,
    begin: TypedFunc<i64, ()>,
    rewind: TypedFunc<(i64, i32, i32, i32), ()>,
    status: TypedFunc<(), (i32, i32, i32, i32)>,
    frames: Memory,
    thunks: Table,
    /// Paused in place at every point.
    pub pausing: bool,
}

impl Local {
    pub fn new(store: &mut Store<()>, instance: wasmtime::Instance, pausing: bool) -> Result<Self> {
        let name = |name: &str| format!("{PREFIX}{name}");
        let thunks = instance.get_table(&mut *store, &name("thunks")).context("thunks")?;
        // Who asks for fuel on the way out gets some every second time.
        let asked = AtomicU64::new(0);
        let answer = move |_: u32, _: i64, _: i64| match asked.fetch_add(1, Ordering::Relaxed) % 2 {
            0 => -1,
            _ => 2_i64,
        };
        let answer = Func::wrap(&mut *store, answer);
        let last = thunks.size(&*store) - 1;
        thunks.set(&mut *store, last, Ref::Func(Some(answer)))?;
        Ok(Local {
            instance,
            begin: instance.get_typed_func(&mut *store, &name("begin"))?,
            rewind: instance.get_typed_func(&mut *store, &name("rewind"))?,
            status: instance.get_typed_func(&mut *store, &name("status"))?,
            frames: instance.get_memory(&mut *store, &name("frames")).context("frames")?,
            thunks,
            pausing,
        })
    }

    /// Gives the guest fuel that does not run out.
    pub fn fill(&self, store: &mut Store<()>) -> Result<()> {
        Ok(self.begin.call(store, ENOUGH)?)
    }

    /// Calls a function of the guest; adds to `pauses`.
    pub fn call(
        &self,
        store: &mut Store<()>,
        func: Func,
        args: &[Val],
        policy: Pauses,
        pauses: &mut u64,
    ) -> Result<Outcome> {
        if self.pausing {
            self.begin.call(&mut *store, 0)?;
        }
        let (mut func, mut args, mut count) = (func, args, 0);
        loop {
            let mut results = vec![Val::I32(0); func.ty(&*store).results().len()];
            if let Err(error) = func.call(&mut *store, args, &mut results) {
                return Ok(Outcome::Failed(error.into()));
            }
            let (state, sp, funcs, exns) = self.status.call(&mut *store, ())?;
            if state != UNWINDING {
                return Ok(Outcome::Returned(results));
            }
            if !self.pausing {
                bail!("suspended with fuel left");
            }
            (count, *pauses) = (count + 1, *pauses + 1);
            let grant = policy.distance(count).map_or(ENOUGH, |d| d as i64);
            self.rewind.call(&mut *store, (grant, sp, funcs, exns))?;
            func = self.outermost(store, sp)?;
            args = &[];
        }
    }

    fn outermost(&self, store: &mut Store<()>, sp: i32) -> Result<Func> {
        let at = (sp as u32).checked_sub(TRAILER).context("no frames")? as usize;
        let bytes = self.frames.data(&*store)[at..at + 4].try_into().expect("4 bytes");
        let index = u64::from(u32::from_le_bytes(bytes));
        let thunk = self.thunks.get(store, index).and_then(|r| r.as_func().flatten().copied());
        thunk.with_context(|| format!("no thunk of function {index}"))
    }
}

/// A guest that goes through capture, encoding, decoding and restoring at every pause.
pub struct Moved {
    guest: machine::Instance,
    chunks: HashMap<ChunkId, Vec<u8>>,
}

impl Moved {
    /// None if the module cannot be moved: it exports no function that can be named in a call.
    pub fn new(engine: &machine::Engine, wasm: &[u8]) -> Result<Option<Self>> {
        let module = engine.compile(wasm)?;
        let export = module.functions().find_map(|(name, ty)| {
            let args = ty.params().map(|p| values::to_snapshot(&Val::default_for_ty(&p)?).ok());
            Some((name.to_string(), args.collect::<Option<Vec<_>>>()?))
        });
        let Some((export, args)) = export else { return Ok(None) };
        let guest = machine::Instance::new(&module, None, &spectest::functions(), &export, args)?;
        Ok(Some(Moved { guest, chunks: HashMap::new() }))
    }

    /// Calls an export; adds to `pauses`.
    pub fn call(&mut self, export: &str, args: &[Val], policy: Pauses, pauses: &mut u64) -> Result<Outcome> {
        let args = args.iter().map(values::to_snapshot).collect::<Result<_>>()?;
        self.guest.call(export, args)?;
        for count in 0.. {
            let fuel = policy.distance(count).map(|d| self.guest.fuel() + d);
            match self.guest.run(&Until { fuel, ..Until::default() })? {
                Slice::Finished(results) => {
                    let results = results.iter().map(values::from_snapshot).collect::<Result<_>>()?;
                    return Ok(Outcome::Returned(results));
                }
                Slice::Trapped(trap) => {
                    let thrown = trap.code.is_none();
                    return Ok(Outcome::Failed(Failure { message: trap.message, thrown }));
                }
                Slice::Exited(code) => bail!("exited with {code}"),
                Slice::Paused => self.travel()?,
            }
            *pauses += 1;
        }
        unreachable!("the loop has no end")
    }

    /// Into a snapshot's bytes, and out of them as a new guest.
    fn travel(&mut self) -> Result<()> {
        let chunks = &mut self.chunks;
        let mut emit = |id, bytes: &[u8]| {
            chunks.insert(id, bytes.to_vec());
            Ok(())
        };
        let state = self.guest.capture(&mut MemoryTrees::default(), &mut emit)?;
        let (id, manifest) = snapshot::encode(&state)?;
        let verified = snapshot::decode(&manifest, Some(id))?;
        let mut fetch = |id| self.chunks.get(&id).cloned().context("a chunk is missing");
        let module = self.guest.module().clone();
        let restored =
            machine::Instance::restore(&module, None, &spectest::functions(), verified.state(), &mut fetch);
        self.guest = restored.with_context(|| format!("{state:#?}"))?.0;
        Ok(())
    }
}
