//! The module as it is, on plain wasmtime.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use anyhow::{Context, Result};
use wasm_ckpt::digest::ChunkId;
use wasm_ckpt::snapshot::{Dirty, Tree, Value};
use wasmtime::{Engine, Func, Linker, Module, Ref, Store, Trap, Val};

use crate::plan::{self, Call, Outcome};

/// The engine's clock.
pub const TICK: Duration = Duration::from_millis(10);
/// So many ticks a call may take; what takes longer is not compared.
const TICKS: u64 = 3;

/// What came out of a module.
pub struct Run {
    pub outcomes: Vec<Outcome>,
    /// None if it could not be instantiated.
    pub end: Option<End>,
}

/// What can be seen of the state from outside, by index.
#[derive(Debug, Default)]
pub struct End {
    pub memories: HashMap<u32, (u64, ChunkId)>,
    pub globals: HashMap<u32, Seen>,
    pub tables: HashMap<u32, Vec<Seen>>,
}

/// A value as it is seen from outside.
#[derive(Debug, Clone, PartialEq)]
pub enum Seen {
    Value(Value),
    /// One of these functions.
    Func(Vec<u32>),
    /// An exception, or a function that has no name outside.
    Something,
}

impl Seen {
    /// Whether this is the value.
    pub fn is(&self, value: &Value) -> bool {
        match (self, value) {
            // References that can only be null are not told apart: exceptions where nothing throws or catches.
            (Seen::Value(Value::Exn(None) | Value::Func(None)), Value::Null) => true,
            (Seen::Value(a), b) => a == b,
            (Seen::Func(any), Value::Func(Some(index))) => any.contains(index),
            (Seen::Something, Value::Func(Some(_)) | Value::Exn(Some(_))) => true,
            _ => false,
        }
    }
}

/// Instantiates the module and makes the calls, until one does not end.
pub fn run(engine: &Engine, module: &Module, wasm: &[u8], calls: &[Call]) -> Result<Run> {
    let mut store = Store::new(engine, ());
    store.set_epoch_deadline(TICKS);
    let mut linker = Linker::new(engine);
    linker.allow_shadowing(true);
    for import in module.imports() {
        let wasmtime::ExternType::Func(ty) = import.ty() else { continue };
        let own = ty.clone();
        linker.func_new(import.module(), import.name(), ty, move |_, args, results| {
            let args: Vec<Value> = args.iter().filter_map(plan::value).collect();
            for ((slot, value), ty) in
                results.iter_mut().zip(plan::import_results(&args, &own)).zip(own.results())
            {
                *slot = plan::val(&value, &ty);
            }
            Ok(())
        })?;
    }
    let places = places(wasm)?;
    let instance = match linker.instantiate(&mut store, module) {
        Ok(instance) => instance,
        Err(error) => return Ok(Run { outcomes: vec![failed(&error, &places)?], end: None }),
    };
    let mut outcomes = vec![];
    for call in calls {
        store.set_epoch_deadline(TICKS);
        let func = instance.get_func(&mut store, &call.export).context("no such function")?;
        let ty = func.ty(&store);
        let args: Vec<Val> = call.args.iter().zip(ty.params()).map(|(v, ty)| plan::val(v, &ty)).collect();
        let mut results = vec![Val::I32(0); ty.results().len()];
        let outcome = match func.call(&mut store, &args, &mut results) {
            Ok(()) => Outcome::Returned(results.iter().filter_map(plan::value).collect()),
            Err(error) => failed(&error, &places)?,
        };
        let over = matches!(outcome, Outcome::Unfinished | Outcome::Overflowed);
        outcomes.push(outcome);
        if over {
            break;
        }
    }
    let end = end(&mut store, &instance, wasm)?;
    Ok(Run { outcomes, end: Some(end) })
}

fn failed(error: &wasmtime::Error, places: &HashSet<u64>) -> Result<Outcome> {
    let code = error.downcast_ref::<Trap>().copied();
    Ok(match code {
        Some(Trap::Interrupt) => Outcome::Unfinished,
        Some(Trap::StackOverflow) => Outcome::Overflowed,
        None if !error.is::<wasmtime::ThrownException>() => anyhow::bail!("{error:?}"),
        code => {
            let frames = error.downcast_ref::<wasmtime::WasmBacktrace>().map_or(vec![], |b| {
                let place = |f: &wasmtime::FrameInfo| f.module_offset().map(|at| at as u64);
                let frame =
                    |f: &wasmtime::FrameInfo| (f.func_index(), place(f).filter(|at| places.contains(at)));
                b.frames().iter().map(frame).collect()
            });
            Outcome::Trapped { code, frames }
        }
    })
}

/// Offsets of all instructions. The engine sometimes names another place: a function's beginning, or the
/// middle of a loop's header, where its own checks are.
fn places(wasm: &[u8]) -> Result<HashSet<u64>> {
    let mut places = HashSet::new();
    for payload in wasmparser::Parser::new(0).parse_all(wasm) {
        if let wasmparser::Payload::CodeSectionEntry(body) = payload? {
            let mut reader = body.get_operators_reader()?;
            while !reader.eof() {
                places.insert(reader.original_position() as u64);
                reader.read()?;
            }
        }
    }
    Ok(places)
}

/// Exported items by kind and index.
fn exports(wasm: &[u8]) -> Result<Vec<(wasmparser::ExternalKind, u32, String)>> {
    let mut found = vec![];
    for payload in wasmparser::Parser::new(0).parse_all(wasm) {
        if let wasmparser::Payload::ExportSection(section) = payload? {
            for export in section {
                let export = export?;
                found.push((export.kind, export.index, export.name.to_string()));
            }
        }
    }
    Ok(found)
}

fn end(store: &mut Store<()>, instance: &wasmtime::Instance, wasm: &[u8]) -> Result<End> {
    use wasmparser::ExternalKind as Kind;
    let exports = exports(wasm)?;
    let mut names: HashMap<usize, Vec<u32>> = HashMap::new();
    for (_, index, name) in exports.iter().filter(|(kind, ..)| *kind == Kind::Func) {
        let func = instance.get_func(&mut *store, name).context("function")?;
        names.entry(func.to_raw(&mut *store) as usize).or_default().push(*index);
    }
    let mut end = End::default();
    for (kind, index, name) in exports {
        match kind {
            Kind::Memory => {
                let memory = instance.get_memory(&mut *store, &name).context("memory")?;
                let bytes = memory.data(&*store);
                let root = Tree::new().update(bytes, Dirty::All, &mut |_, _| Ok(()))?;
                end.memories.insert(index, (bytes.len() as u64, root));
            }
            Kind::Global => {
                let global = instance.get_global(&mut *store, &name).context("global")?;
                let val = global.get(&mut *store);
                end.globals.insert(index, seen(store, &names, val));
            }
            Kind::Table => {
                let table = instance.get_table(&mut *store, &name).context("table")?;
                let elements = (0..table.size(&*store))
                    .map(|at| {
                        let element = table.get(&mut *store, at).context("element")?;
                        Ok(seen(store, &names, element.into()))
                    })
                    .collect::<Result<_>>()?;
                end.tables.insert(index, elements);
            }
            _ => {}
        }
    }
    Ok(end)
}

fn seen(store: &mut Store<()>, names: &HashMap<usize, Vec<u32>>, val: Val) -> Seen {
    let raw = |func: &Func, store: &mut Store<()>| func.to_raw(store) as usize;
    match (plan::value(&val), val.ref_()) {
        (Some(value), _) => Seen::Value(value),
        (None, Some(Ref::Func(Some(func)))) => match names.get(&raw(&func, store)) {
            Some(any) => Seen::Func(any.clone()),
            None => Seen::Something,
        },
        _ => Seen::Something,
    }
}
