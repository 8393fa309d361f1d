//! From a [`State`] to a guest that goes on from it.
//!
//! A state is untrusted even after its bytes have been verified: whatever it says is checked against the
//! module before it is used, and what the engine checks anyway is left to it.

use std::collections::HashMap;

use anyhow::{Context, Result, bail, ensure};
use wasmtime::{ExnRef, ExnRefPre, ExnType, HeapType, Ref, Table, Val};

use super::capture::frame_kind;
use super::freeze::MemoryTrees;
use super::host::Functions;
use super::instance::{Instance, Stage};
use super::lazy::Restoring;
use super::module::Module;
use super::values::{self, Ours};
use crate::digest::ChunkId;
use crate::instrument::{InlinedFrame, Kind, Layout, TRAILER};
use crate::snapshot::{Exn, Frame, FrameKind, PAGE, State, Tree, Value};
use crate::wasi::Wasi;

/// Gives a chunk's bytes by its id; they are checked against it.
pub type Fetch<'a> = dyn FnMut(ChunkId) -> Result<Vec<u8>> + 'a;

impl Instance {
    /// A guest in the given state, paused. `wasi` is what [`Wasi::restore`] made of the state's section.
    ///
    /// # Errors
    /// The state is of another module or other settings (an
    /// [`IdentityMismatch`](crate::snapshot::IdentityMismatch)); it does not fit the module; a chunk is
    /// missing or corrupt; there is not enough memory.
    pub fn restore(
        module: &Module,
        wasi: Option<Wasi>,
        functions: &Functions,
        state: &State,
        fetch: &mut Fetch<'_>,
    ) -> Result<(Self, MemoryTrees)> {
        Self::restore_by(module, wasi, functions, state, |instance| instance.load_memories(state, fetch))
    }

    /// As [`Instance::restore`], with the chunks from a source that can be asked later as well.
    ///
    /// # Errors
    /// As of [`Instance::restore`]. What is damaged may be found out only while the guest runs: then that fails, as this
    /// does.
    pub fn restore_from(
        module: &Module,
        wasi: Option<Wasi>,
        functions: &Functions,
        state: &State,
        how: &Restoring,
    ) -> Result<(Self, MemoryTrees)> {
        Self::restore_by(module, wasi, functions, state, |instance| instance.load_memories_from(state, how))
    }

    fn restore_by(
        module: &Module,
        wasi: Option<Wasi>,
        functions: &Functions,
        state: &State,
        load: impl FnOnce(&mut Self) -> Result<MemoryTrees>,
    ) -> Result<(Self, MemoryTrees)> {
        state.identity.require(&module.identity())?;
        let mut instance = Self::with_call(module, wasi, functions, state.call.clone())?;
        ensure!(!state.call.in_start || module.meta.has_start, "the module has no start function to be in");
        let indexes: Vec<u32> = state.globals.iter().map(|(i, _)| *i).collect();
        let expected: Vec<u32> = module.meta.globals.iter().map(|(i, _)| *i).collect();
        ensure!(indexes == expected, "the state's globals are not the module's mutable ones");
        ensure!(
            state.memories.len() == module.meta.memories as usize,
            "the state has {} memories, and the module {}",
            state.memories.len(),
            module.meta.memories
        );
        let trees = load(&mut instance)?;
        instance.load_tables(state)?;
        instance.load_dropped(state)?;
        instance.load_stack(state)?;
        instance.store.data_mut().pace.resume(state.fuel);
        ensure!(state.fuel < 1 << 62, "the state has consumed more fuel than there is");
        Ok((instance, trees))
    }

    fn load_memories(&mut self, state: &State, fetch: &mut Fetch<'_>) -> Result<MemoryTrees> {
        let mut trees = vec![];
        for (index, saved) in state.memories.iter().enumerate() {
            let memory = self.size_memory(state, index)?;
            let fresh = self.made[index];
            let bytes = memory.data_mut(&mut self.store);
            // What the data segments have put there is not zero until it is said to be.
            let mut stale: Vec<bool> =
                bytes[..fresh as usize].chunks(PAGE).map(|p| p.iter().any(|b| *b != 0)).collect();
            let tree = Tree::load(saved.root, saved.len, fetch, &mut |offset, page| {
                let at = offset as usize;
                bytes.get_mut(at..at + page.len()).context("a page lies outside")?.copy_from_slice(page);
                if let Some(stale) = stale.get_mut(at / PAGE) {
                    *stale = false;
                }
                Ok(())
            })
            .with_context(|| format!("memory {index}"))?;
            for (at, _) in stale.iter().enumerate().filter(|(_, stale)| **stale) {
                let end = ((at + 1) * PAGE).min(bytes.len());
                bytes[at * PAGE..end].fill(0);
            }
            trees.push(tree);
        }
        self.trees_are_current(trees)
    }

    fn load_tables(&mut self, state: &State) -> Result<()> {
        let module = self.module.clone();
        let found: Vec<u32> = state.tables.iter().map(|t| t.index).collect();
        let expected: Vec<u32> = module.meta.tables.iter().map(|(i, _)| *i).collect();
        ensure!(found == expected, "the state's tables are not those that the module can change");
        for saved in &state.tables {
            let table = self.table(&format!("table{}", saved.index))?;
            let len: u64 = saved.runs.iter().map(|(count, _)| *count).sum();
            let fresh = table.size(&self.store);
            let heap = table.ty(&self.store).element().heap_type().clone();
            ensure!(len >= fresh, "table {} has {len} elements, fewer than the module's", saved.index);
            if len > fresh {
                let filler = match saved.runs.last() {
                    Some((_, value)) => self.reference(value, &heap)?,
                    None => bail!("table {} is empty", saved.index),
                };
                table.grow(&mut self.store, len - fresh, filler)?;
            }
            let mut at = 0;
            for (count, value) in &saved.runs {
                let reference = self.reference(value, &heap)?;
                table.fill(&mut self.store, at, reference, *count)?;
                at += count;
            }
        }
        Ok(())
    }

    /// A value of the state as a reference of this instance.
    fn reference(&mut self, value: &Value, heap: &HeapType) -> Result<Ref> {
        Ok(match value {
            Value::Func(None) | Value::Exn(None) | Value::Null => Ref::null(heap),
            Value::Func(Some(index)) => {
                let at = self.module.meta.referenced.binary_search(index);
                let at = at.map_err(|_| anyhow::anyhow!("function {index} cannot be referenced"))?;
                let element = self.table("referenced")?.get(&mut self.store, at as u64);
                element.context("a function is missing")?
            }
            Value::Exn(Some(exn)) => self.exception(exn)?,
            _ => bail!("a number stands where a reference must be"),
        })
    }

    fn exception(&mut self, exn: &Exn) -> Result<Ref> {
        ensure!(exn.tag < self.module.meta.tags, "the module has no tag {}", exn.tag);
        let tag = self.tag(exn.tag)?;
        let params: Vec<_> = tag.ty(&self.store).ty().params().collect();
        ensure!(
            params.len() == exn.fields.len(),
            "an exception of tag {} has {} fields",
            exn.tag,
            params.len()
        );
        let mut fields: Vec<Val> = vec![];
        for (value, ty) in exn.fields.iter().zip(&params) {
            fields.push(match ty {
                wasmtime::ValType::Ref(r) => {
                    let reference = self.reference(value, r.heap_type())?;
                    ensure!(
                        r.is_nullable() || !reference.is_null(),
                        "a field of an exception cannot be null"
                    );
                    reference.into()
                }
                number => values::to_val(value, number)?,
            });
        }
        let ty = ExnType::from_tag_type(&tag.ty(&self.store))?;
        let pre = ExnRefPre::new(&mut self.store, ty);
        let made = ExnRef::new(&mut self.store, &pre, &tag, &fields)
            .ours()
            .context("an exception cannot be made")?;
        Ok(Ref::Exn(Some(made)))
    }

    fn load_dropped(&mut self, state: &State) -> Result<()> {
        let meta = self.module.meta.clone();
        let lists = [
            (&meta.dropped_data, &state.dropped_data, 0, "data"),
            (&meta.dropped_elems, &state.dropped_elems, meta.dropped_data.len(), "element"),
        ];
        for (known, dropped, first, what) in lists {
            for index in dropped {
                let at = known.binary_search(index);
                let at = at.map_err(|_| anyhow::anyhow!("the module never drops {what} segment {index}"))?;
                self.controls.drop_segment.call(&mut self.store, (first + at) as i32)?;
            }
        }
        Ok(())
    }

    /// Writes frames and globals where the guest looks for them.
    fn load_stack(&mut self, state: &State) -> Result<()> {
        let meta = self.module.meta.clone();
        let mut out = Writer::default();
        let mut layouts: HashMap<u32, Vec<Layout>> = HashMap::new();
        let mut frames = vec![];
        let mut rest = &state.frames[..];
        while let [frame, after @ ..] = rest {
            let known =
                layouts.entry(frame.func).or_insert_with(|| meta.frames.of(frame.func).unwrap_or_default());
            let joined = Joined::new(frame, after.first(), known)?;
            rest = if joined.callee.is_some() { &after[1..] } else { after };
            frames.push(joined);
        }
        for joined in frames.iter().rev() {
            out.frame(joined, &layouts[&joined.frame.func][joined.point])?;
        }
        let (sp, funcs, exns) = (out.bytes.len(), out.funcs.len(), out.exns.len());
        for (&(index, kind), (_, value)) in meta.globals.iter().zip(&state.globals) {
            out.value(kind, value).with_context(|| format!("global {index}"))?;
        }
        let frames = self.controls.frames;
        frames.write(&mut self.store, 0, &out.bytes).context("the call stack is too deep")?;
        let func_stack = self.controls.func_stack;
        self.fill_stack(func_stack, &out.funcs, &HeapType::Func)?;
        if let Some(table) = self.controls.exn_stack {
            self.fill_stack(table, &out.exns, &HeapType::Exn)?;
        } else {
            ensure!(out.exns.is_empty(), "the module has no exceptions");
        }
        let all = (0, sp as i32, out.funcs.len() as i32, out.exns.len() as i32);
        self.controls.rewind.call(&mut self.store, all)?;
        self.controls.load_globals.call(&mut self.store, ()).ours().context("a global does not fit")?;
        self.controls.rewind.call(&mut self.store, (0, sp as i32, funcs as i32, exns as i32))?;
        self.stage = if state.frames.is_empty() { Stage::Before } else { Stage::Suspended };
        if self.stage == Stage::Suspended {
            self.check_outermost(state)?;
        }
        Ok(())
    }

    fn fill_stack(&mut self, table: Table, values: &[Value], heap: &HeapType) -> Result<()> {
        let size = table.size(&self.store);
        if (values.len() as u64) > size {
            table.grow(&mut self.store, values.len() as u64 - size, Ref::null(heap))?;
        }
        for (at, value) in values.iter().enumerate() {
            let reference = self.reference(value, heap)?;
            table.set(&mut self.store, at as u64, reference)?;
        }
        Ok(())
    }

    /// The outermost frame must be of a function that gives what the call gives.
    fn check_outermost(&mut self, state: &State) -> Result<()> {
        let thunk = {
            let sp = self.frames_end()?.0 as u32;
            self.outermost(sp)?
        };
        let found = thunk.ty(&self.store);
        if state.call.in_start {
            ensure!(found.results().len() == 0, "the outermost frame is not of the start function");
            return Ok(());
        }
        let wanted = self.module.function(&state.call.export).context("no such function")?;
        let same = found.results().len() == wanted.results().len()
            && found.results().zip(wanted.results()).all(|(a, b)| wasmtime::ValType::eq(&a, &b));
        ensure!(same, "the outermost frame is not of a function like `{}`", state.call.export);
        Ok(())
    }
}

/// A frame as it lies in the frame memory: with that of the callee in it, if the call is inlined.
struct Joined<'a> {
    frame: &'a Frame,
    callee: Option<&'a Frame>,
    /// Its place among the layouts of the function.
    point: usize,
}

impl<'a> Joined<'a> {
    /// A frame that is no inlined call's, and the one after it.
    fn new(frame: &'a Frame, next: Option<&'a Frame>, layouts: &[Layout]) -> Result<Self> {
        let stands = |frame: &Frame, l: &Layout| {
            u64::from(l.offset) == frame.offset && frame_kind(l.place) == frame.kind
        };
        let alone = |l: &Layout| l.inlined.is_none() && stands(frame, l);
        if let Some(point) = layouts.iter().position(alone) {
            return Ok(Self { frame, callee: None, point });
        }
        let calls = |l: &&Layout, callee: &Frame| {
            let of = |call: &InlinedFrame| u64::from(call.call) == frame.offset && call.callee == callee.func;
            frame.kind == FrameKind::Call && l.inlined.as_ref().is_some_and(of)
        };
        let with = |callee: &&Frame| layouts.iter().any(|l| calls(&l, callee));
        let Some(callee) = next.filter(with) else { bail!("{}: {NO_POINT}", describe(frame)) };
        let point = layouts.iter().position(|l| calls(&l, callee) && stands(callee, l));
        let point = point.with_context(|| format!("{}: {NO_POINT}", describe(callee)))?;
        Ok(Self { frame, callee: Some(callee), point })
    }
}

const NO_POINT: &str = "the module has no such suspension point";

fn describe(frame: &Frame) -> String {
    format!("frame of function {} at byte {}", frame.func, frame.offset)
}

/// Frames and values as the guest reads them.
#[derive(Default)]
struct Writer {
    bytes: Vec<u8>,
    funcs: Vec<Value>,
    exns: Vec<Value>,
}

impl Writer {
    fn frame(&mut self, joined: &Joined<'_>, layout: &Layout) -> Result<()> {
        let Joined { frame, callee, point } = *joined;
        let describe = || describe(callee.unwrap_or(frame));
        let (callers, first_local) = match &layout.inlined {
            Some(inlined) => (inlined.callers as usize, inlined.first_local),
            None => (layout.stack.len(), 0),
        };
        let locals = frame.locals.iter().map(|(index, _)| *index);
        let callees = callee.map_or(&[][..], |callee| &callee.locals);
        let locals = locals.chain(callees.iter().map(|(index, _)| index.saturating_add(first_local)));
        let values: Vec<&Value> = (frame.stack.iter())
            .chain(callee.iter().flat_map(|callee| &callee.stack))
            .chain(frame.locals.iter().chain(callees).map(|(_, value)| value))
            .collect();
        ensure!(
            frame.stack.len() == callers
                && layout.locals.iter().map(|(index, _)| *index).eq(locals)
                && values.len() == layout.kinds().count(),
            "{}: other values are live there",
            describe()
        );
        let start = self.bytes.len();
        let mut lying = Writer::default();
        for ((kind, at), value) in layout.places().zip(values) {
            lying.bytes.clear();
            lying.value(kind, value).with_context(describe)?;
            let at = start + at as usize;
            if self.bytes.len() < at + lying.bytes.len() {
                self.bytes.resize(at + lying.bytes.len(), 0);
            }
            self.bytes[at..at + lying.bytes.len()].copy_from_slice(&lying.bytes);
        }
        self.funcs.append(&mut lying.funcs);
        self.exns.append(&mut lying.exns);
        self.bytes.resize(start + (layout.size - TRAILER) as usize, 0);
        self.bytes.extend(frame.func.to_le_bytes());
        self.bytes.extend((point as u32).to_le_bytes());
        self.bytes.extend(layout.size.to_le_bytes());
        Ok(())
    }

    fn value(&mut self, kind: Kind, value: &Value) -> Result<()> {
        match (kind, value) {
            (Kind::I32, Value::I32(v)) | (Kind::F32, Value::F32(v)) => self.bytes.extend(v.to_le_bytes()),
            (Kind::I64, Value::I64(v)) | (Kind::F64, Value::F64(v)) => self.bytes.extend(v.to_le_bytes()),
            (Kind::V128, Value::V128(v)) => self.bytes.extend(v.to_le_bytes()),
            (Kind::Func, Value::Func(_)) => self.funcs.push(value.clone()),
            (Kind::Exn, Value::Exn(_)) => self.exns.push(value.clone()),
            (Kind::Null, Value::Null) => {}
            _ => bail!("{value:?} stands where a value of kind {kind:?} must be"),
        }
        Ok(())
    }
}
