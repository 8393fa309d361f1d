//! The host's side of a guest: WASI and functions of the embedder.

use std::sync::Arc;

use anyhow::{Result, bail};
use wasmtime::{Caller, ExternType, Linker, Memory, TypedFunc};

use super::lazy::Handle;
use super::module::Module;
use super::pace::Pace;
use super::values;
use crate::snapshot::Value;
use crate::wasi::{self, Stop, Wasi, wasi_functions};

type HostFunction = dyn Fn(&mut HostCall<'_, '_>, &[Value]) -> Result<Vec<Value>> + Send + Sync;

/// Functions that an embedder gives its guests. Cheap to clone.
///
/// They must give the same results for the same arguments, or keep what they depend on outside of the
/// guest's state knowingly: a resumed guest does not repeat calls that had returned.
#[derive(Clone, Default)]
pub struct Functions {
    list: Vec<(String, String, Arc<HostFunction>)>,
}

impl Functions {
    /// None.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a function; its type is the one that the module imports it with.
    #[must_use]
    pub fn with(
        mut self,
        module: &str,
        name: &str,
        function: impl Fn(&mut HostCall<'_, '_>, &[Value]) -> Result<Vec<Value>> + Send + Sync + 'static,
    ) -> Self {
        self.list.push((module.to_string(), name.to_string(), Arc::new(function)));
        self
    }

    fn find(&self, module: &str, name: &str) -> Option<&Arc<HostFunction>> {
        self.list.iter().find(|(m, n, _)| m == module && n == name).map(|(_, _, f)| f)
    }
}

/// A call from the guest, as a host function sees it.
pub struct HostCall<'a, 'b> {
    caller: &'a mut Caller<'b, Host>,
    suspend: bool,
}

impl HostCall<'_, '_> {
    /// The guest's first memory; empty if it has none. Waits until it has all been brought, if it is restored lazily.
    pub fn memory(&mut self) -> &mut [u8] {
        if let Some(lazy) = &self.caller.data().lazy {
            lazy.wait_for_all();
        }
        match self.caller.data().memory {
            Some(memory) => memory.data_mut(&mut *self.caller),
            None => &mut [],
        }
    }

    /// Asks for the guest to be suspended here: what this call returns is thrown away, and the call is made
    /// again when the guest is resumed.
    pub fn suspend(&mut self) {
        self.suspend = true;
    }
}

/// The guest's host: the data of its store.
pub(super) struct Host {
    pub(super) wasi: Option<Wasi>,
    pub(super) memory: Option<Memory>,
    pub(super) fuel: Option<TypedFunc<(), (i64, i64)>>,
    pub(super) unwind: Option<TypedFunc<(), ()>>,
    /// A host function has suspended the guest.
    pub(super) suspended: bool,
    pub(super) pace: Pace,
    /// No guest may become what no snapshot may hold.
    pub(super) limits: wasmtime::StoreLimits,
    /// Brings pages of the memories, if some are missing.
    pub(super) lazy: Option<Handle>,
}

impl Host {
    /// More fuel for a guest that is on its way out, if nothing wants it to stop.
    pub(super) fn ask(&mut self, left: i64, owed: i64, frames: u32) -> Option<i64> {
        let goes_on = !self.suspended && self.lazy.as_ref().and_then(Handle::struck).is_none();
        goes_on.then(|| self.pace.ask(left, owed, frames)).flatten()
    }

    /// An error if the guest must not go on, since a page that it needs is damaged.
    fn check_memory(&self) -> wasmtime::Result<()> {
        match self.lazy.as_ref().and_then(Handle::struck) {
            Some(error) => Err(wasmtime::Error::from_anyhow(error)),
            None => Ok(()),
        }
    }
}

/// The guest called `proc_exit`.
#[derive(Debug)]
pub(super) struct Exit(pub u32);

impl std::fmt::Display for Exit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "exit with code {}", self.0)
    }
}

impl std::error::Error for Exit {}

/// Has the wrapper of the import save itself.
fn suspend(caller: &mut Caller<'_, Host>) -> wasmtime::Result<()> {
    let unwind = caller.data().unwind.clone().expect("set when the instance was made");
    unwind.call(&mut *caller, ())?;
    caller.data_mut().suspended = true;
    Ok(())
}

/// Tells WASI how much fuel the guest has consumed up to this call.
fn tell_fuel(caller: &mut Caller<'_, Host>) -> wasmtime::Result<()> {
    let fuel = caller.data().fuel.clone().expect("set when the instance was made");
    let (left, owed) = fuel.call(&mut *caller, ())?;
    let host = caller.data_mut();
    let consumed = host.pace.consumed_with(left, owed);
    host.wasi.as_mut().expect("linked only with WASI").set_fuel(consumed);
    Ok(())
}

macro_rules! link_all {
    ($($name:ident($($arg:ident: $kind:ty),*);)*) => {
        fn link_wasi(linker: &mut Linker<Host>) -> Result<()> {
            $(linker.func_wrap(wasi::MODULE, stringify!($name),
                |mut caller: Caller<'_, Host>, $($arg: $kind),*| -> wasmtime::Result<u32> {
                    if caller.data().wasi.as_ref().is_some_and(Wasi::follows_fuel) {
                        tell_fuel(&mut caller)?;
                    }
                    let memory = caller.data().memory;
                    let (bytes, host) = match memory {
                        Some(memory) => memory.data_and_store_mut(&mut caller),
                        None => (&mut [][..], caller.data_mut()),
                    };
                    let wasi = host.wasi.as_mut().expect("linked only with WASI");
                    let done = wasi.$name(bytes, $($arg),*);
                    host.check_memory()?;
                    match done {
                        Ok(errno) => Ok(errno as u32),
                        Err(Stop::Exit(code)) => Err(wasmtime::Error::from(Exit(code))),
                        Err(Stop::Suspend) => suspend(&mut caller).map(|()| 0),
                        Err(Stop::Fail(error)) => Err(wasmtime::Error::from_anyhow(error)),
                    }
                })?;)*
            Ok(())
        }
    };
}
wasi_functions!(link_all);

/// Links everything that the module imports.
pub(super) fn linker(module: &Module, functions: &Functions, with_wasi: bool) -> Result<Linker<Host>> {
    let mut linker = Linker::new(&module.engine.inner);
    // A module may import the same function several times.
    linker.allow_shadowing(true);
    if with_wasi {
        link_wasi(&mut linker)?;
        linker.func_wrap(wasi::MODULE, "proc_exit", |code: u32| -> wasmtime::Result<()> {
            Err(wasmtime::Error::from(Exit(code)))
        })?;
    }
    for (from, name, ty) in module.imports() {
        if with_wasi && from == wasi::MODULE && wasi::FUNCTIONS.iter().any(|f| f.name == name) {
            continue;
        }
        let (ExternType::Func(ty), Some(function)) = (&ty, functions.find(from, name)) else {
            bail!(unknown_import(from, name, &ty, functions, with_wasi));
        };
        let (function, results_ty) = (function.clone(), ty.clone());
        linker.func_new(from, name, ty.clone(), move |mut caller, args, results| {
            let args = args.iter().map(values::from_host).collect::<Result<Vec<_>>>();
            let args = args.map_err(wasmtime::Error::from_anyhow)?;
            let mut call = HostCall { caller: &mut caller, suspend: false };
            let given = function(&mut call, &args);
            let suspend_here = call.suspend;
            caller.data().check_memory()?;
            let given = given.map_err(wasmtime::Error::from_anyhow)?;
            if suspend_here {
                for (slot, ty) in results.iter_mut().zip(results_ty.results()) {
                    *slot = values::zero(&ty).map_err(wasmtime::Error::from_anyhow)?;
                }
                return suspend(&mut caller);
            }
            values::to_host(&given, results_ty.results(), results).map_err(wasmtime::Error::from_anyhow)
        })?;
    }
    Ok(linker)
}

/// An import that the host does not have.
#[derive(Debug, thiserror::Error)]
#[error("the module imports {what} `{module}.{name}`, which this host does not have{hint}")]
pub struct UnknownImport {
    /// `function`, `memory`, …
    pub what: &'static str,
    /// The module that it is imported from.
    pub module: String,
    /// Its name.
    pub name: String,
    /// The nearest that there is.
    pub hint: String,
}

fn unknown_import(
    module: &str,
    name: &str,
    ty: &ExternType,
    functions: &Functions,
    wasi: bool,
) -> UnknownImport {
    let what = match ty {
        ExternType::Func(_) => "the function",
        ExternType::Memory(_) => "the memory",
        ExternType::Table(_) => "the table",
        ExternType::Global(_) => "the global",
        ExternType::Tag(_) => "the exception tag",
    };
    let known = wasi::FUNCTIONS.iter().filter(|_| wasi).map(|f| (wasi::MODULE, f.name));
    let given = functions.list.iter().map(|(m, n, _)| (m.as_str(), n.as_str()));
    let wanted = format!("{module}.{name}");
    let nearest = known.chain(given).map(|(m, n)| format!("{m}.{n}")).min_by_key(|k| distance(&wanted, k));
    let hint = match (module, nearest) {
        ("wasi_unstable", _) => "; it was built for an old WASI: rebuild it for wasm32-wasip1".to_string(),
        ("wasi" | "wasi:cli" | "wasi:io", _) => "; rebuild it for wasm32-wasip1".to_string(),
        ("env", _) if what == "the function" => {
            "; symbols of `env` are mostly functions that were not found when the module was linked"
                .to_string()
        }
        (_, Some(nearest)) => format!("; the nearest one is `{nearest}`"),
        (_, None) => String::new(),
    };
    UnknownImport { what, module: module.to_string(), name: name.to_string(), hint }
}

/// Levenshtein's distance, of names, which are short.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<_> = b.chars().take(200).collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, ca) in a.chars().take(200).enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], i + 1);
        for (j, cb) in b.iter().enumerate() {
            let next = (diagonal + usize::from(ca != *cb)).min(row[j] + 1).min(row[j + 1] + 1);
            diagonal = std::mem::replace(&mut row[j + 1], next);
        }
    }
    row[b.len()]
}
