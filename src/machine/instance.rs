//! A running guest: fuel slices, suspending, going on.

use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use wasmtime::{Caller, Func, Memory, Ref, Store, Table, TypedFunc, Val};

use super::dirty::Tracker;
use super::engine::WASM_STACK;
use super::host::{Exit, Functions, Host, linker};
use super::lazy::{Handle, Loading, Pager};
use super::module::Module;
use super::pace::{Pace, Until};
use super::trap::Trap;
use super::values;
use crate::instrument::{PREFIX, TRAILER, UNWINDING};
use crate::snapshot::{Call, Value, limits};
use crate::wasi::Wasi;

/// Native stack beside the guest's own, for the host's functions.
const HOST_STACK: usize = 2 << 20;
/// How often it is looked at whether a guest waits for a page that does not come.
const LOOK: Duration = Duration::from_secs(1);

/// What a guest's run ended with.
#[derive(Debug)]
pub enum Slice {
    /// The function returned.
    Finished(Vec<Value>),
    /// The guest called `proc_exit`.
    Exited(u32),
    /// The guest is paused, and can be captured or run on.
    Paused,
    /// The guest trapped: it cannot go on.
    Trapped(Trap),
}

/// A guest in memory.
pub struct Instance {
    /// Brings pages of the memories; before these, which it must not outlive.
    pub(super) lazy: Option<Pager>,
    pub(super) loading: Option<Loading>,
    pub(super) module: Module,
    pub(super) store: Store<Host>,
    pub(super) inner: wasmtime::Instance,
    pub(super) controls: Controls,
    pub(super) call: Call,
    pub(super) stage: Stage,
    pub(super) tracker: Tracker,
    /// Bytes that each memory was made with.
    pub(super) made: Vec<u64>,
}

/// Where a guest stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stage {
    /// The call has not begun.
    Before,
    /// Frames are in the frame memory.
    Suspended,
    /// It has returned, exited or trapped.
    Over,
}

/// What the rewriter exports for the host.
pub(super) struct Controls {
    fuel: TypedFunc<(), (i64, i64)>,
    unwind: TypedFunc<(), ()>,
    begin: TypedFunc<i64, ()>,
    pub(super) rewind: TypedFunc<(i64, i32, i32, i32), ()>,
    status: TypedFunc<(), (i32, i32, i32, i32)>,
    pub(super) save_globals: TypedFunc<(), ()>,
    pub(super) load_globals: TypedFunc<(), ()>,
    pub(super) drop_segment: TypedFunc<i32, ()>,
    pub(super) frames: Memory,
    pub(super) thunks: Table,
    pub(super) func_stack: Table,
    pub(super) exn_stack: Option<Table>,
}

impl Controls {
    fn find(instance: &wasmtime::Instance, store: &mut Store<Host>, has_exns: bool) -> Result<Self> {
        let name = |name: &str| format!("{PREFIX}{name}");
        macro_rules! func {
            ($name:literal) => {
                instance.get_typed_func(&mut *store, &name($name))?
            };
        }
        let table = |store: &mut Store<Host>, n: &str| {
            instance.get_table(store, &name(n)).with_context(|| format!("no table {n}"))
        };
        Ok(Controls {
            fuel: func!("fuel"),
            unwind: func!("unwind"),
            begin: func!("begin"),
            rewind: func!("rewind"),
            status: func!("status"),
            save_globals: func!("save_globals"),
            load_globals: func!("load_globals"),
            drop_segment: func!("drop_segment"),
            frames: instance.get_memory(&mut *store, &name("frames")).context("no frame memory")?,
            thunks: table(store, "thunks")?,
            func_stack: table(store, "func_stack")?,
            exn_stack: if has_exns { Some(table(store, "exn_stack")?) } else { None },
        })
    }

    /// The guest asks for fuel on its way out, where a deep stack would have to be saved for nothing.
    fn answer(&self, store: &mut Store<Host>) -> Result<()> {
        let ask = |mut caller: Caller<'_, Host>, frames: u32, left: i64, owed: i64| {
            caller.data_mut().ask(left, owed, frames).unwrap_or(-1)
        };
        let ask = Func::wrap(&mut *store, ask);
        let last = self.thunks.size(&*store) - 1;
        Ok(self.thunks.set(store, last, Ref::Func(Some(ask)))?)
    }
}

impl Instance {
    /// A guest that is going to call an exported function (after the module's start function, if any).
    /// Nothing of the guest runs yet.
    ///
    /// # Errors
    /// An import or the function is missing, the arguments do not fit, or there is not enough memory. A
    /// trap while segments are copied is such an error too.
    pub fn new(
        module: &Module,
        wasi: Option<Wasi>,
        functions: &Functions,
        export: &str,
        args: Vec<Value>,
    ) -> Result<Self> {
        let in_start = module.meta.has_start;
        Self::with_call(module, wasi, functions, Call { in_start, export: export.to_string(), args })
    }

    pub(super) fn with_call(
        module: &Module,
        wasi: Option<Wasi>,
        functions: &Functions,
        call: Call,
    ) -> Result<Self> {
        check_call(module, &call)?;
        let linker = linker(module, functions, wasi.is_some())?;
        let host = Host {
            wasi,
            memory: None,
            fuel: None,
            unwind: None,
            suspended: false,
            pace: Pace::new(),
            limits: limits(),
            lazy: None,
        };
        let mut store = Store::new(&module.engine.inner, host);
        store.limiter(|host| &mut host.limits);
        let inner = linker.instantiate(&mut store, &module.inner).map_err(|cause| NotSetUp {
            trapped: cause.downcast_ref::<wasmtime::Trap>().is_some(),
            cause: cause.into(),
        })?;
        let controls = Controls::find(&inner, &mut store, module.meta.has_exns)?;
        store.data_mut().fuel = Some(controls.fuel.clone());
        store.data_mut().unwind = Some(controls.unwind.clone());
        controls.answer(&mut store)?;
        if module.meta.memories > 0 {
            // As WASI has it: the memory that is exported under this name.
            let exported = inner.get_memory(&mut store, "memory");
            let first = || inner.get_memory(&mut store, &format!("{PREFIX}memory0"));
            store.data_mut().memory = exported.or_else(first);
        }
        let mut instance = Self {
            lazy: None,
            loading: None,
            module: module.clone(),
            store,
            inner,
            controls,
            call,
            stage: Stage::Before,
            tracker: Tracker::new(module.engine.settings.tracking)?,
            made: vec![],
        };
        for index in 0..module.meta.memories {
            let memory = instance.memory(index)?;
            instance.made.push(memory.data_size(&instance.store) as u64);
        }
        Ok(instance)
    }

    /// Makes a guest that is in no call ready for another one, on the memories, globals and tables that
    /// the last one left, even where it trapped. Fuel counts on.
    ///
    /// # Errors
    /// The guest is suspended in a call, or its start function has not returned; the function is missing,
    /// or the arguments do not fit.
    pub fn call(&mut self, export: &str, args: Vec<Value>) -> Result<()> {
        ensure!(self.stage != Stage::Suspended, "the guest is suspended in a call");
        ensure!(!self.call.in_start, "the guest's start function has not returned");
        let call = Call { in_start: false, export: export.to_string(), args };
        check_call(&self.module, &call)?;
        (self.call, self.stage) = (call, Stage::Before);
        Ok(())
    }

    /// Fuel consumed since the program began.
    pub fn fuel(&self) -> u64 {
        self.store.data().pace.consumed()
    }

    /// The module that runs.
    pub fn module(&self) -> &Module {
        &self.module
    }

    /// The guest's WASI side, if it has one.
    pub fn wasi(&mut self) -> Option<&mut Wasi> {
        self.store.data_mut().wasi.as_mut()
    }

    /// Runs until the guest ends or one of the conditions holds.
    ///
    /// # Errors
    /// Those of the host: a WASI or embedder function failed. Traps of the guest are a [`Slice`].
    pub fn run(&mut self, until: &Until) -> Result<Slice> {
        ensure!(self.stage != Stage::Over, "the guest has ended");
        let lazy = self.store.data().lazy.clone();
        // The guest needs its own large native stack, whatever thread this is.
        std::thread::scope(|scope| {
            let thread = std::thread::Builder::new().name("guest".into()).stack_size(WASM_STACK + HOST_STACK);
            let (ended, end) = channel::<()>();
            let work = move || {
                let _ended = ended;
                self.run_here(until)
            };
            let run = thread.spawn_scoped(scope, work).context("cannot start a thread")?;
            if let Some(lazy) = lazy {
                // Whoever waits for a page does not wait for ever.
                while end.recv_timeout(LOOK) == Err(RecvTimeoutError::Timeout) {
                    lazy.look();
                }
            }
            run.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }

    fn run_here(&mut self, until: &Until) -> Result<Slice> {
        if let Some(wasi) = &self.store.data().wasi {
            wasi.interrupt().set_deadline(until.deadline);
        }
        self.store.data_mut().pace.set_until(until);
        loop {
            let Some(grant) = self.store.data_mut().pace.grant() else { return Ok(Slice::Paused) };
            let outcome = self.enter(grant)?;
            match outcome {
                Entered::Suspended { by_host: true } => return Ok(Slice::Paused),
                Entered::Suspended { by_host: false } => {}
                Entered::Returned(results) if self.call.in_start => {
                    debug_assert!(results.is_empty());
                    self.call.in_start = false;
                    self.stage = Stage::Before;
                }
                Entered::Returned(results) => {
                    self.stage = Stage::Over;
                    return Ok(Slice::Finished(results));
                }
                Entered::Exited(code) => {
                    self.stage = Stage::Over;
                    return Ok(Slice::Exited(code));
                }
                Entered::Trapped(trap) => {
                    self.stage = Stage::Over;
                    return Ok(Slice::Trapped(trap));
                }
            }
        }
    }

    /// Gives the guest so much fuel and lets it run until that is spent, or it ends.
    fn enter(&mut self, granted: i64) -> Result<Entered> {
        let (func, args) = match self.stage {
            Stage::Before => {
                self.controls.begin.call(&mut self.store, granted)?;
                self.entry()?
            }
            Stage::Suspended => {
                let (sp, funcs, exns) = self.frames_end()?;
                self.controls.rewind.call(&mut self.store, (granted, sp, funcs, exns))?;
                (self.outermost(sp as u32)?, vec![])
            }
            Stage::Over => bail!("the guest has ended"),
        };
        let mut results: Vec<Val> = func.ty(&self.store).results().map(|_| Val::I32(0)).collect();
        let outcome = func.call(&mut self.store, &args, &mut results);
        let (left, owed) = self.controls.fuel.call(&mut self.store, ())?;
        let (state, sp, ..) = self.controls.status.call(&mut self.store, ())?;
        let host = self.store.data_mut();
        let by_host = std::mem::take(&mut host.suspended);
        host.pace.spent(left, owed, sp as u32);
        if let Some(struck) = self.store.data().lazy.as_ref().and_then(Handle::struck) {
            // Whatever came of it is not the guest's doing.
            self.stage = Stage::Over;
            return Err(struck);
        }
        match outcome {
            Ok(()) if state == UNWINDING => {
                self.stage = Stage::Suspended;
                Ok(Entered::Suspended { by_host })
            }
            Ok(()) => Ok(Entered::Returned(results.iter().map(values::from_host).collect::<Result<_>>()?)),
            Err(error) => match error.downcast_ref::<Exit>() {
                Some(Exit(code)) => Ok(Entered::Exited(*code)),
                None => Ok(Entered::Trapped(Trap::from_engine(error, &self.module)?)),
            },
        }
    }

    fn entry(&mut self) -> Result<(Func, Vec<Val>)> {
        if self.call.in_start {
            let start = self.inner.get_func(&mut self.store, &format!("{PREFIX}start"));
            return Ok((start.context("no start function")?, vec![]));
        }
        let func = self.inner.get_func(&mut self.store, &self.call.export).context("no such function")?;
        let ty = func.ty(&self.store);
        let args = self.call.args.iter().zip(ty.params()).map(|(value, ty)| values::to_val(value, &ty));
        Ok((func, args.collect::<Result<_>>()?))
    }

    /// Ends of the frames in the frame memory, and in the side tables of functions and exceptions.
    pub(super) fn frames_end(&mut self) -> Result<(i32, i32, i32)> {
        let (_, sp, funcs, exns) = self.controls.status.call(&mut self.store, ())?;
        Ok((sp, funcs, exns))
    }

    /// What rebuilds the stack: the thunk of the function that its outermost frame is of.
    pub(super) fn outermost(&mut self, sp: u32) -> Result<Func> {
        let at = sp.checked_sub(TRAILER).context("no frames")? as usize;
        let bytes = self.controls.frames.data(&self.store).get(at..at + 4).context("frames end early")?;
        let index = u32::from_le_bytes(bytes.try_into().expect("4 bytes"));
        let thunk = self.controls.thunks.get(&mut self.store, u64::from(index));
        let thunk = thunk.and_then(|r| r.as_func().flatten().copied());
        thunk.with_context(|| format!("function {index} cannot be the outermost frame"))
    }
}

/// The sizes that a snapshot can hold.
fn limits() -> wasmtime::StoreLimits {
    let memory = usize::try_from(limits::LEN_MAX).unwrap_or(usize::MAX);
    let table = usize::try_from(limits::TABLE_LEN_MAX).unwrap_or(usize::MAX);
    wasmtime::StoreLimitsBuilder::new().memory_size(memory).table_elements(table).build()
}

/// Whether the module has the function that is to be called, and whether the arguments fit.
fn check_call(module: &Module, call: &Call) -> Result<()> {
    let ty = module.function(&call.export).ok_or_else(|| NoFunction::new(module, &call.export))?;
    ensure!(
        ty.params().len() == call.args.len(),
        "`{}` takes {} arguments, and {} were given",
        call.export,
        ty.params().len(),
        call.args.len()
    );
    for (value, ty) in call.args.iter().zip(ty.params()) {
        values::to_val(value, &ty).with_context(|| format!("argument of `{}`", call.export))?;
    }
    Ok(())
}

enum Entered {
    Suspended { by_host: bool },
    Returned(Vec<Value>),
    Exited(u32),
    Trapped(Trap),
}

/// The module is valid, and no instance of it can be made.
#[derive(Debug, thiserror::Error)]
#[error("the program cannot be set up")]
pub struct NotSetUp {
    /// It trapped, such as by a data segment that lies outside of its memory; else its imports do not fit, or it asks for more
    /// than there may be.
    pub trapped: bool,
    #[source]
    cause: anyhow::Error,
}

/// The module has no such exported function.
#[derive(Debug, thiserror::Error)]
#[error("the module does not export a function `{wanted}`{}", shown(.found))]
pub struct NoFunction {
    /// What was asked for.
    pub wanted: String,
    /// What there is.
    pub found: Vec<String>,
}

impl NoFunction {
    fn new(module: &Module, wanted: &str) -> Self {
        Self { wanted: wanted.to_string(), found: module.functions().map(|(n, _)| n.to_string()).collect() }
    }
}

fn shown(found: &[String]) -> String {
    match found {
        [] => "; it exports no function at all".to_string(),
        few => format!(
            "; it exports {}",
            few.iter().take(10).map(|n| format!("`{n}`")).collect::<Vec<_>>().join(", ")
        ),
    }
}
