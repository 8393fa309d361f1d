//! Wasm to resumable Wasm, and the layout of its frames. Pure: no engine, no I/O.
//!
//! [`instrument`] reads as the chain of its passes: `module` (sections, refusals), `jumps` and `inline` (bodies that are read in place of
//! those given), `callgraph` (who can suspend, and who pays for whom), `pipeline` (the functions one by one: `scan` gives points, operands, liveness and cost of a body, `emit`
//! the body anew), `assemble`.
#![doc = include_str!("DESIGN.md")]

mod additions;
mod ahead;
mod allowed;
mod assemble;
mod bytes;
mod callfree;
mod callgraph;
mod calls;
mod chains;
mod chunks;
mod code;
mod cost;
mod counted;
mod cycles;
mod dispatch;
mod emit;
mod first;
mod frame;
mod hidden;
mod inline;
mod jumps;
mod liveness;
mod loops;
mod meter;
mod module;
mod opcodes;
mod outline;
mod paid;
mod pipeline;
mod points;
mod pushed;
mod refusal;
mod saves;
mod scan;
mod short;
mod shrink;
mod sink;
mod slots;
#[cfg(test)]
mod testing;
mod types;

use serde::{Deserialize, Serialize};
use sink::leb;

pub use cost::{AHEAD, COST_MODEL, INLINES, OLDEST_COST_MODEL, THREADS};
pub use frame::{FrameTable, InlinedFrame, Kind, Layout, Place, TRAILER};
pub use hidden::{FUELS, PREFIX, UNWINDING};
pub use refusal::{Item, Refusal};

/// Version of the rewriter: raised with every change of what it emits. Part of the code cache's key.
pub const REWRITER: u32 = 30;

/// How a module is rewritten.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Options {
    /// Version of the cost model, [`OLDEST_COST_MODEL`] to [`COST_MODEL`]: that of the job. All else here changes
    /// neither fuel nor snapshots.
    pub cost_model: u32,
    /// Where the points of a function have many values in common, one piece of code restores them.
    pub shared_restore: bool,
    /// What no loop writes is saved by one piece of code for points in different loops, too.
    pub saves_of_loops: bool,
    /// Calls are made again in their own place where a frame is rebuilt, if they can be.
    pub calls_in_place: bool,
    /// A call whose result is the condition of the next branch is checked behind the branch.
    pub tested_results: bool,
    /// Values that are restored before a loop are made the results of instructions.
    pub settled: bool,
    /// Loops whose passes can be computed are charged for all of them at once, if there is fuel for that.
    pub passes_at_once: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            cost_model: COST_MODEL,
            shared_restore: true,
            saves_of_loops: true,
            calls_in_place: true,
            tested_results: true,
            settled: true,
            passes_at_once: true,
        }
    }
}

/// A rewritten module, and what the host has to know to suspend and resume it.
#[derive(Debug, Clone)]
pub struct Instrumented {
    /// The module to compile.
    pub wasm: Vec<u8>,
    /// What the host has to know.
    pub meta: Meta,
}

/// What the host has to know of a rewritten module. Indexes are those of the original module.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Meta {
    /// Layouts of suspended frames.
    pub frames: FrameTable,
    /// Positions of what was emitted, of the functions and then of the copies: original offsets, but for inlined calls.
    pub origins: OriginTable,
    /// What that is where calls are inlined.
    inlined: inline::InlineTable,
    /// Functions of which there is a copy, ascending.
    pub copied: Vec<u32>,
    /// Number of functions, imported ones included.
    pub funcs: u32,
    /// The mutable globals, ascending, in the order in which they are saved.
    pub globals: Vec<(u32, Kind)>,
    /// Data segments that can be dropped; each has a flag behind the globals.
    pub dropped_data: Vec<u32>,
    /// Element segments that can be dropped; their flags follow.
    pub dropped_elems: Vec<u32>,
    /// Tables that an instruction can change, with what they hold.
    pub tables: Vec<(u32, Kind)>,
    /// Functions that can become a reference, ascending.
    pub referenced: Vec<u32>,
    /// Number of imported functions.
    pub imported_funcs: u32,
    /// Number of memories.
    pub memories: u32,
    /// Number of tags that the host finds, 0 in a module without exceptions.
    pub tags: u32,
    /// Frames can hold exceptions.
    pub has_exns: bool,
    /// The module has a start function.
    pub has_start: bool,
}

impl Meta {
    /// The original function that an emitted one stands for; none if it is one of the rewriter's own.
    pub fn function(&self, emitted: u32) -> Option<u32> {
        match emitted.checked_sub(self.funcs) {
            None => Some(emitted),
            Some(nth) => self.copied.get(nth as usize).copied(),
        }
    }

    /// What an offset in the body of an emitted function stands for: functions and byte offsets of the original module, the callee of
    /// an inlined call before its caller. Nothing for one of the rewriter's own functions, no offset in code of its own.
    pub fn places(&self, emitted: u32, offset: Option<u32>) -> Vec<(u32, Option<u32>)> {
        let Some(function) = self.function(emitted) else { return vec![] };
        let body = emitted.checked_sub(self.imported_funcs);
        let position = body.zip(offset).and_then(|(body, offset)| self.origins.original(body, offset));
        match position.map(|position| self.inlined.original(position)) {
            None => vec![(function, None)],
            Some((at, None)) => vec![(function, Some(at))],
            Some((at, Some(call))) => vec![(call.callee, Some(at)), (function, Some(call.offset))],
        }
    }
}

/// Maps offsets in emitted function bodies to offsets in the original module.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct OriginTable {
    ends: Vec<u32>,
    #[serde(with = "bytes")]
    bytes: Vec<u8>,
}

/// Difference to the piece before of its place and of its origin, and its length. A body has a list of them, in
/// postcard's form.
type Delta = (u32, i64, u32);

impl OriginTable {
    /// Appends a body whose origins are those, `shift` bytes further on.
    fn push(&mut self, origins: &[points::Origin], shift: u32) {
        let out = &mut self.bytes;
        leb(out, origins.len() as u64);
        let mut last = (0, 0);
        for origin in origins {
            let at = origin.at + shift;
            // A repeated body goes back to where it began.
            let from = i64::from(origin.from) - i64::from(last.1);
            let delta = [u64::from(at - last.0), ((from << 1) ^ (from >> 63)) as u64, u64::from(origin.len)];
            match delta {
                [0..0x80, 0..0x80, 0..0x80] => out.extend_from_slice(&delta.map(|part| part as u8)),
                _ => delta.into_iter().for_each(|part| leb(out, part)),
            }
            last = (at, origin.from);
        }
        self.ends.push(self.bytes.len() as u32);
    }

    /// Keeps the memory alone.
    fn clear(&mut self) {
        self.ends.clear();
        self.bytes.clear();
    }

    /// Appends the bodies of another table.
    fn append(&mut self, other: &Self) {
        let before = self.bytes.len() as u32;
        self.bytes.extend_from_slice(&other.bytes);
        self.ends.extend(other.ends.iter().map(|end| before + end));
    }

    /// The original byte offset for an offset in the emitted body number `body` (imports not counted). None in
    /// code of the rewriter's own, to which the optimizer can move a trap.
    pub fn original(&self, body: u32, offset: u32) -> Option<u32> {
        let end = *self.ends.get(body as usize)? as usize;
        let start = body.checked_sub(1).map_or(0, |before| self.ends[before as usize] as usize);
        let deltas: Vec<Delta> = postcard::from_bytes(self.bytes.get(start..end)?).ok()?;
        let (mut at, mut from) = (0, 0);
        let mut found = None;
        for (d_at, d_from, len) in deltas {
            (at, from) = (at + d_at, from + d_from);
            if at > offset {
                break;
            }
            found = (offset - at < len).then(|| from as u32 + (offset - at));
        }
        found
    }
}

/// Rewrites a module so that it can be suspended and resumed.
///
/// # Errors
/// A [`Refusal`]: the module is not valid, or uses what cannot be saved.
pub fn instrument(wasm: &[u8]) -> Result<Instrumented, Refusal> {
    instrument_with(wasm, &Options::default())
}

/// [`instrument`], with other than the default options.
///
/// # Errors
/// As [`instrument`].
pub fn instrument_with(wasm: &[u8], options: &Options) -> Result<Instrumented, Refusal> {
    let inlines = options.cost_model >= cost::INLINES;
    match rewrite(wasm, options, inlines) {
        // What is wrong is told of the module as it was given.
        Err(_) if inlines => rewrite(wasm, options, false),
        done => done,
    }
}

fn rewrite(wasm: &[u8], options: &Options, inlines: bool) -> Result<Instrumented, Refusal> {
    let given = module::Module::parse(wasm)?;
    let threads = options.cost_model >= cost::THREADS;
    let threaded = if threads { jumps::thread(wasm, &given.bodies) } else { None };
    let given = match &threaded {
        Some(threaded) => given.with_code(threaded),
        None => given,
    };
    let mut outlines = outline::outlines(&given, options.cost_model)?;
    let inlined = if inlines { inline::inline(&given, &outlines) } else { inline::Inlined::default() };
    let mut module = given.with_bodies(&inlined.bodies);
    for body in &inlined.bodies {
        let at = (body.func - module.imported_funcs) as usize;
        outlines[at] = outline::again(&module, &module.bodies[at], options.cost_model)?;
    }
    let graph = callgraph::CallGraph::build(&mut module, outlines, options.cost_model);
    let types = types::TypeTable::new(&module.types);
    let hidden = hidden::Hidden::new(&module, &types, &graph);
    hidden.check(&graph)?;
    let cx = emit::Context {
        wasm,
        module: &module,
        inlined: &inlined.table,
        graph: &graph,
        hidden: &hidden,
        types: &types,
        options,
    };
    let mut imports = pipeline::Rewritten::default();
    for import in 0..module.imported_funcs {
        imports.frames.push(&FrameTable::encode(&additions::wrapper_layouts(&cx, import)));
    }
    let mut rewritten = pipeline::rewrite(&cx, imports)?;
    let meta = meta(&cx, &mut rewritten);
    let wasm_out = assemble::assemble(&cx, rewritten)
        .map_err(|e| Refusal::Invalid { message: e.to_string(), offset: 0 })?;
    if cfg!(debug_assertions) {
        assert_valid(&wasm_out);
    }
    Ok(Instrumented { wasm: wasm_out, meta })
}

fn meta(cx: &emit::Context<'_, '_>, rewritten: &mut pipeline::Rewritten) -> Meta {
    let (module, graph) = (cx.module, cx.graph);
    let changed = module.tables.iter().enumerate().filter(|(i, _)| graph.changed_tables[*i]);
    let tables = changed
        .map(|(i, ty)| (i as u32, code::kind(cx, wasmparser::ValType::Ref(ty.element_type))))
        .collect();
    Meta {
        frames: std::mem::take(&mut rewritten.frames),
        origins: std::mem::take(&mut rewritten.origins),
        inlined: cx.inlined.clone(),
        copied: cx.hidden.copied.clone(),
        funcs: module.funcs.len() as u32,
        globals: additions::saved_globals(cx),
        dropped_data: graph.dropped_data.clone(),
        dropped_elems: graph.dropped_elems.clone(),
        tables,
        referenced: module.referenced.clone(),
        imported_funcs: module.imported_funcs,
        memories: module.memories.len() as u32,
        tags: if cx.hidden.has_exns { module.tags.len() as u32 } else { 0 },
        has_exns: cx.hidden.has_exns,
        has_start: module.start.is_some(),
    }
}

/// Checks what we emitted.
///
/// # Panics
/// If it is not valid; the text form goes to a file whose name the message gives.
fn assert_valid(wasm: &[u8]) {
    let mut validator = wasmparser::Validator::new_with_features(module::features());
    if let Err(error) = validator.validate_all(wasm) {
        let path = std::env::temp_dir().join(format!("wasm-ckpt-invalid-{}.wat", std::process::id()));
        let mut text = String::new();
        let printed = wasmprinter::Config::new()
            .print_offsets(true)
            .print(wasm, &mut wasmprinter::PrintFmtWrite(&mut text));
        if let Err(error) = printed {
            text.push_str(&format!("\n;; cannot be printed: {error}"));
        }
        let written = std::fs::write(&path, text);
        panic!("the rewritten module is not valid: {error}; its text: {} ({written:?})", path.display());
    }
}
