//! From a paused guest to its [`State`]: all but its memories, which `freeze` is about.

use std::collections::HashMap;

use anyhow::{Context, Result, bail, ensure};
use wasmtime::{Ref, Table, Tag};

use super::instance::{Instance, Stage};
use crate::instrument::{InlinedFrame, Kind, Layout, PREFIX, Place, TRAILER};
use crate::snapshot::{self, Exn, Frame, FrameKind, Section, State, Value, limits};

/// Name of the section that holds the state of WASI.
pub const WASI_SECTION: &str = "wasi";

/// Pointers of the functions that can be referenced, to their indexes.
type FunctionIndexes = HashMap<usize, u32>;

impl Instance {
    /// The state of the paused guest, but for its memories and private disks.
    pub(super) fn capture_without_memory(&mut self) -> Result<State> {
        let module = self.module.clone();
        let (sp, funcs, exns) = match self.stage {
            Stage::Suspended => self.frames_end()?,
            _ => {
                // What an earlier run of the start function left there is of no meaning.
                self.controls.rewind.call(&mut self.store, (0, 0, 0, 0))?;
                (0, 0, 0)
            }
        };
        self.controls.save_globals.call(&mut self.store, ())?;
        let (_, funcs_end, exns_end) = self.frames_end()?;
        let references = self.references(funcs_end as u32, exns_end as u32)?;
        let (frames, globals, dropped) = {
            let reader = Reader {
                bytes: self.controls.frames.data(&self.store),
                funcs: &references.funcs,
                exns: &references.exns,
            };
            let frames = reader.frames(&module.meta, sp as u32, funcs as usize, exns as usize)?;
            let mut end = 0;
            let places = module.meta.globals.iter().map(|(_, kind)| {
                let at = end;
                end += kind.size();
                (*kind, at)
            });
            let values = reader.values(places, sp as usize, funcs as usize, exns as usize)?;
            let globals = module.meta.globals.iter().map(|(i, _)| *i).zip(values).collect();
            let flags = sp as usize + end as usize;
            (frames, globals, reader.flags(&module.meta, flags)?)
        };
        // Put the side tables back to what the frames need.
        self.controls.rewind.call(&mut self.store, (0, sp, funcs, exns))?;
        let wasi = self.store.data().wasi.as_ref().map(|wasi| wasi.save()).transpose()?;
        let section = |(version, bytes)| Section { name: WASI_SECTION.to_string(), version, bytes };
        Ok(State {
            identity: module.identity(),
            fuel: self.fuel(),
            call: self.call.clone(),
            frames,
            memories: vec![],
            globals,
            tables: self.tables()?,
            dropped_data: dropped.0,
            dropped_elems: dropped.1,
            sections: wasi.map(section).into_iter().collect(),
            blobs: vec![],
        })
    }

    /// A memory by its index in the original module.
    pub(super) fn memory(&mut self, index: u32) -> Result<wasmtime::Memory> {
        let name = format!("{PREFIX}memory{index}");
        self.inner.get_memory(&mut self.store, &name).with_context(|| format!("no memory {index}"))
    }

    pub(super) fn table(&mut self, name: &str) -> Result<Table> {
        let name = format!("{PREFIX}{name}");
        self.inner.get_table(&mut self.store, &name).with_context(|| format!("no table `{name}`"))
    }

    /// What is on the side tables, as values.
    fn references(&mut self, funcs: u32, exns: u32) -> Result<References> {
        let mut found = References { funcs: vec![], exns: vec![] };
        let table = self.controls.func_stack;
        if funcs > 0 {
            let indexes = self.function_indexes()?;
            for at in 0..funcs {
                let element = table.get(&mut self.store, at.into()).context("side table")?;
                found.funcs.push(self.value_of(element, &indexes, 0)?);
            }
        }
        if exns > 0 {
            let table = self.controls.exn_stack.context("no side table of exceptions")?;
            let indexes = self.function_indexes()?;
            for at in 0..exns {
                let element = table.get(&mut self.store, at.into()).context("side table")?;
                found.exns.push(self.value_of(element, &indexes, 0)?);
            }
        }
        Ok(found)
    }

    fn function_indexes(&mut self) -> Result<FunctionIndexes> {
        let table = self.table("referenced")?;
        let module = self.module.clone();
        let mut indexes = HashMap::with_capacity(module.meta.referenced.len());
        for (at, &index) in module.meta.referenced.iter().enumerate() {
            let element = table.get(&mut self.store, at as u64);
            let func =
                element.and_then(|r| r.as_func().flatten().copied()).context("a function is missing")?;
            indexes.insert(func.to_raw(&mut self.store) as usize, index);
        }
        Ok(indexes)
    }

    /// A reference as a value that means the same elsewhere.
    fn value_of(&mut self, reference: Ref, indexes: &FunctionIndexes, depth: u32) -> Result<Value> {
        match reference {
            Ref::Func(None) => Ok(Value::Func(None)),
            Ref::Func(Some(func)) => match indexes.get(&(func.to_raw(&mut self.store) as usize)) {
                Some(index) => Ok(Value::Func(Some(*index))),
                None => bail!("the guest holds a reference to a function that is not its own"),
            },
            Ref::Exn(None) => Ok(Value::Exn(None)),
            Ref::Exn(Some(exn)) => {
                ensure!(depth < limits::EXN_DEPTH_MAX, "exceptions are nested too deeply in each other");
                let tag = exn.tag(&mut self.store)?;
                let tag = self.tag_index(&tag)?;
                let count = exn.ty(&self.store)?.fields().len();
                let mut fields = Vec::with_capacity(count);
                for at in 0..count {
                    let field = exn.field(&mut self.store, at)?;
                    fields.push(match field.ref_() {
                        Some(reference) => self.value_of(reference, indexes, depth + 1)?,
                        None => super::values::from_host(&field)?,
                    });
                }
                Ok(Value::Exn(Some(Box::new(Exn { tag, fields }))))
            }
            Ref::Extern(None) | Ref::Any(None) => Ok(Value::Null),
            _ => bail!("the guest holds a reference to an object of the host"),
        }
    }

    pub(super) fn tag(&mut self, index: u32) -> Result<Tag> {
        let name = format!("{PREFIX}tag{index}");
        self.inner.get_tag(&mut self.store, &name).with_context(|| format!("no tag {index}"))
    }

    fn tag_index(&mut self, wanted: &Tag) -> Result<u32> {
        for index in 0..self.module.meta.tags {
            let tag = self.tag(index)?;
            if Tag::eq(&tag, wanted, &self.store) {
                return Ok(index);
            }
        }
        bail!("the guest holds an exception with a tag that is not its own")
    }

    /// The tables that can change.
    fn tables(&mut self) -> Result<Vec<snapshot::Table>> {
        let module = self.module.clone();
        if module.meta.tables.is_empty() {
            return Ok(vec![]);
        }
        let indexes = self.function_indexes()?;
        let mut tables = vec![];
        for &(index, _) in &module.meta.tables {
            let table = self.table(&format!("table{index}"))?;
            let size = table.size(&self.store);
            let mut runs: Vec<(u64, Value)> = vec![];
            for at in 0..size {
                let element = table.get(&mut self.store, at).context("element")?;
                let value = self.value_of(element, &indexes, 0)?;
                match runs.last_mut() {
                    Some((count, last)) if *last == value => *count += 1,
                    _ => runs.push((1, value)),
                }
            }
            tables.push(snapshot::Table { index, runs });
        }
        Ok(tables)
    }
}

struct References {
    funcs: Vec<Value>,
    exns: Vec<Value>,
}

/// Reads what the guest wrote into the frame memory.
struct Reader<'a> {
    bytes: &'a [u8],
    funcs: &'a [Value],
    exns: &'a [Value],
}

impl Reader<'_> {
    fn array<const N: usize>(&self, at: usize) -> Result<[u8; N]> {
        let bytes = self.bytes.get(at..at + N).context("the frames end early")?;
        Ok(bytes.try_into().expect("N bytes"))
    }

    /// Values by kind and place from `start` on in memory, and from `func` and `exn` on on the side tables.
    fn values(
        &self,
        places: impl Iterator<Item = (Kind, u32)>,
        start: usize,
        func: usize,
        exn: usize,
    ) -> Result<Vec<Value>> {
        let (mut func, mut exn) = (func, exn);
        let mut values = vec![];
        for (kind, at) in places {
            let at = start + at as usize;
            values.push(match kind {
                Kind::I32 => Value::I32(u32::from_le_bytes(self.array(at)?)),
                Kind::I64 => Value::I64(u64::from_le_bytes(self.array(at)?)),
                Kind::F32 => Value::F32(u32::from_le_bytes(self.array(at)?)),
                Kind::F64 => Value::F64(u64::from_le_bytes(self.array(at)?)),
                Kind::V128 => Value::V128(u128::from_le_bytes(self.array(at)?)),
                Kind::Null => Value::Null,
                Kind::Func => {
                    func += 1;
                    self.funcs.get(func - 1).context("a function reference is missing")?.clone()
                }
                Kind::Exn => {
                    exn += 1;
                    self.exns.get(exn - 1).context("an exception is missing")?.clone()
                }
            });
        }
        Ok(values)
    }

    /// The frames, outermost first. They lie innermost first, so they are read from the end.
    fn frames(
        &self,
        meta: &crate::instrument::Meta,
        sp: u32,
        funcs: usize,
        exns: usize,
    ) -> Result<Vec<Frame>> {
        let (mut end, mut funcs, mut exns) = (sp as usize, funcs, exns);
        let mut layouts: HashMap<u32, Vec<Layout>> = HashMap::new();
        let mut frames = vec![];
        while end > 0 {
            let trailer = end.checked_sub(TRAILER as usize).context("a frame is too small")?;
            let func = u32::from_le_bytes(self.array(trailer)?);
            let point = u32::from_le_bytes(self.array(trailer + 4)?);
            let layouts = layouts.entry(func).or_insert_with(|| meta.frames.of(func).unwrap_or_default());
            let layout = layouts.get(point as usize).context("a frame is of no known point")?;
            let start = end.checked_sub(layout.size as usize).context("a frame is too small")?;
            let count = |kind| layout.kinds().filter(|k| *k == kind).count();
            funcs = funcs.checked_sub(count(Kind::Func)).context("too few function references")?;
            exns = exns.checked_sub(count(Kind::Exn)).context("too few exceptions")?;
            let mut values = self.values(layout.places(), start, funcs, exns)?;
            let locals = values.split_off(layout.stack.len());
            let mut frame = Frame {
                func,
                offset: u64::from(layout.offset),
                kind: frame_kind(layout.place),
                locals: layout.locals.iter().map(|(index, _)| *index).zip(locals).collect(),
                stack: values,
            };
            if let Some(inlined) = &layout.inlined {
                frames.push(split_caller(&mut frame, inlined));
            }
            frames.push(frame);
            end = start;
        }
        Ok(frames)
    }

    fn flags(&self, meta: &crate::instrument::Meta, at: usize) -> Result<(Vec<u32>, Vec<u32>)> {
        let mut at = at;
        let mut read = |list: &[u32]| -> Result<Vec<u32>> {
            let mut set = vec![];
            for &index in list {
                if u32::from_le_bytes(self.array(at)?) != 0 {
                    set.push(index);
                }
                at += 4;
            }
            Ok(set)
        };
        Ok((read(&meta.dropped_data)?, read(&meta.dropped_elems)?))
    }
}

/// Of a frame that holds that of an inlined call too: takes the caller's out, and leaves the callee's.
fn split_caller(frame: &mut Frame, inlined: &InlinedFrame) -> Frame {
    let callees = frame.stack.split_off((inlined.callers as usize).min(frame.stack.len()));
    let first = frame.locals.partition_point(|(local, _)| *local < inlined.first_local);
    let mut locals = frame.locals.split_off(first);
    locals.iter_mut().for_each(|(local, _)| *local -= inlined.first_local);
    let caller = Frame {
        func: frame.func,
        offset: u64::from(inlined.call),
        kind: FrameKind::Call,
        locals: std::mem::replace(&mut frame.locals, locals),
        stack: std::mem::replace(&mut frame.stack, callees),
    };
    frame.func = inlined.callee;
    caller
}

pub(super) fn frame_kind(place: Place) -> FrameKind {
    match place {
        Place::Entry => FrameKind::Entry,
        Place::Loop => FrameKind::Loop,
        Place::Call => FrameKind::Call,
        Place::Import => FrameKind::Import,
    }
}
