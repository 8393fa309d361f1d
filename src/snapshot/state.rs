//! All that a paused program is, as a value.
//!
//! Everything here speaks of the *original* module: its function, global, table and segment indexes,
//! its byte offsets. Nothing of the rewriting shows, so that a later version may rewrite differently
//! and still resume.

use serde::{Deserialize, Serialize};

use crate::digest::{ChunkId, ModuleId};

/// The state of a paused program.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct State {
    /// What the state belongs to; a host with another identity must not resume it.
    pub identity: Identity,
    /// Fuel consumed since the program began.
    pub fuel: u64,
    /// The call by which the host runs the program.
    pub call: Call,
    /// The call stack, outermost first. Empty: the call has not begun.
    pub frames: Vec<Frame>,
    /// The module's memories, in index order, imported ones included.
    pub memories: Vec<Memory>,
    /// The mutable globals, by ascending index.
    pub globals: Vec<(u32, Value)>,
    /// The tables that an instruction can change, by ascending index.
    pub tables: Vec<Table>,
    /// Data segments dropped by `data.drop`, ascending.
    pub dropped_data: Vec<u32>,
    /// Element segments dropped by `elem.drop`, ascending.
    pub dropped_elems: Vec<u32>,
    /// State of the host's side (WASI and others), by ascending name.
    pub sections: Vec<Section>,
    /// Byte streams that belong to the state (what the guest printed), by ascending name.
    pub blobs: Vec<Blob>,
}

impl State {
    /// Root and length in bytes of every content that the state names but does not hold: memories, then
    /// blobs. Their trees are all the chunks that the snapshot needs.
    pub fn contents(&self) -> impl Iterator<Item = (ChunkId, u64)> + '_ {
        let memories = self.memories.iter().map(|memory| (memory.root, memory.len));
        memories.chain(self.blobs.iter().map(|blob| (blob.root, blob.len)))
    }
}

/// What must be equal for a state to be resumed with the same meaning.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// The original module.
    pub module: ModuleId,
    /// Version of the fuel cost model.
    pub cost_model: u32,
    /// NaN results are canonical, so that they are equal on every processor.
    pub canonical_nans: bool,
    /// Relaxed SIMD instructions give their deterministic results.
    pub deterministic_relaxed_simd: bool,
}

/// The call that the host makes to run the program.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Call {
    /// The module's `start` function is running, or has still to run; the export comes after it.
    pub in_start: bool,
    /// Name of the exported function.
    pub export: String,
    /// Its arguments.
    pub args: Vec<Value>,
}

/// One activation of a function.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Frame {
    /// Index of the function in the original module.
    pub func: u32,
    /// Byte offset, in the original module, of the instruction at which the frame stands; for a function
    /// entry that of the body's first instruction, for an import 0.
    pub offset: u64,
    /// What the frame waits for there.
    pub kind: FrameKind,
    /// The live locals as (index, value), by ascending index.
    pub locals: Vec<(u32, Value)>,
    /// The operand stack, bottom first, without what a pending call has consumed.
    pub stack: Vec<Value>,
}

/// Where in its function a frame stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum FrameKind {
    /// Before the body's first instruction.
    Entry,
    /// At a loop header, before the loop's first instruction; `offset` is that of the `loop`.
    Loop,
    /// In a call, whose callee is the next frame; `offset` is that of the call instruction.
    Call,
    /// In an imported function that has to be called again; `locals` holds its arguments.
    Import,
}

/// A value of the guest. Floats are kept as bits; references by index.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Value {
    /// `i32`
    I32(u32),
    /// `i64`
    I64(u64),
    /// `f32`, as bits.
    F32(u32),
    /// `f64`, as bits.
    F64(u64),
    /// `v128`
    V128(u128),
    /// Any function reference: null, or the function's index.
    Func(Option<u32>),
    /// A guest exception.
    Exn(Option<Box<Exn>>),
    /// A null reference of any other kind (`externref`, `anyref`, …).
    Null,
}

/// A guest exception: its tag's index and its payload.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Exn {
    /// Index of the tag in the original module.
    pub tag: u32,
    /// Payload, in the order of the tag's parameters.
    pub fields: Vec<Value>,
}

/// A linear memory: its size, and the root of its page tree.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Memory {
    /// Size in bytes, a multiple of the memory's page size.
    pub len: u64,
    /// Root of the tree of its 4 KiB pages (see FORMAT.md).
    pub root: ChunkId,
}

/// A table's content.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Table {
    /// Index of the table.
    pub index: u32,
    /// Its elements, as runs of (how many, value).
    pub runs: Vec<(u64, Value)>,
}

/// The state of one part of the host, opaque here.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Section {
    /// Name, such as `wasi`.
    pub name: String,
    /// Version of the section's own format.
    pub version: u32,
    /// Its bytes.
    pub bytes: Vec<u8>,
}

/// A byte stream that is part of the state.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Blob {
    /// Name, such as `stdout`.
    pub name: String,
    /// Length in bytes.
    pub len: u64,
    /// Root of the tree of its 4 KiB pages (the last one filled up with zeros).
    pub root: ChunkId,
}
