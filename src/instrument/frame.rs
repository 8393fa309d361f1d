//! How a suspended frame lies in the frame memory, and what each of its values is.
//!
//! A frame is its values, unaligned, little-endian, then a trailer of three u32: function index, point within
//! the function, size of the whole. The frame of the outermost function is pushed last, so it is popped
//! first. References do not fit into a memory: they are pushed on side tables in the same order and popped in
//! the reverse one.
//!
//! Where the values lie is each function's choice: one after another, or, where the points of a function have
//! many values in common, each local at a place of its own, so that one piece of code restores them for all
//! points. What lies at the places of dead locals is then never looked at.

use serde::{Deserialize, Serialize};
use wasmparser::ValType;

use super::module::{is_exn, is_extern};

/// Bytes of the trailer.
pub const TRAILER: u32 = 12;
/// Where its parts lie: function index, point, size of the whole.
pub const TRAILER_FUNC: u32 = 0;
pub const TRAILER_POINT: u32 = 4;
pub const TRAILER_SIZE: u32 = 8;

/// What kind of value a slot of a frame holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Kind {
    /// 4 bytes
    I32,
    /// 8 bytes
    I64,
    /// 4 bytes
    F32,
    /// 8 bytes
    F64,
    /// 16 bytes
    V128,
    /// In the side table of functions.
    Func,
    /// In the side table of exceptions.
    Exn,
    /// A reference that can only be null: not stored.
    Null,
}

impl Kind {
    /// The kind of a value of this type. The module has been checked: no other types occur.
    pub fn of(ty: ValType) -> Self {
        match ty {
            ValType::I32 => Kind::I32,
            ValType::I64 => Kind::I64,
            ValType::F32 => Kind::F32,
            ValType::F64 => Kind::F64,
            ValType::V128 => Kind::V128,
            ValType::Ref(r) if is_extern(ty) || is_bottom(r) => Kind::Null,
            ValType::Ref(r) if is_exn(r) => Kind::Exn,
            ValType::Ref(_) => Kind::Func,
        }
    }

    /// Whether a value is kept in a side table.
    pub fn is_aside(self) -> bool {
        matches!(self, Kind::Func | Kind::Exn)
    }

    /// Bytes in the frame memory.
    pub fn size(self) -> u32 {
        match self {
            Kind::I32 | Kind::F32 => 4,
            Kind::I64 | Kind::F64 => 8,
            Kind::V128 => 16,
            Kind::Func | Kind::Exn | Kind::Null => 0,
        }
    }
}

fn is_bottom(ty: wasmparser::RefType) -> bool {
    use wasmparser::{AbstractHeapType, HeapType};
    matches!(
        ty.heap_type(),
        HeapType::Abstract { ty: AbstractHeapType::NoFunc | AbstractHeapType::NoExn, .. }
    )
}

/// Where in its function a point is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Place {
    /// Before the first instruction.
    Entry,
    /// At a loop header.
    Loop,
    /// After a call, before its results are used.
    Call,
    /// Before a call of the host.
    Import,
}

/// What a suspended frame holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Layout {
    /// Where it stands.
    pub place: Place,
    /// Byte offset of that operator in the original module.
    pub offset: u32,
    /// Operand stack, bottom first.
    pub stack: Vec<Kind>,
    /// Live locals, ascending.
    pub locals: Vec<(u32, Kind)>,
    /// Where each value lies in the frame; empty if they lie one after another.
    pub offsets: Vec<u32>,
    /// Bytes of the frame, trailer included.
    pub size: u32,
    /// The frame is that of an inlined call as well: place, offset and the last operands and locals are the callee's.
    pub inlined: Option<InlinedFrame>,
}

/// Of a frame that holds that of an inlined call: which is whose.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct InlinedFrame {
    /// Byte offset of the call in the original module.
    pub call: u32,
    /// Index of the callee.
    pub callee: u32,
    /// How many of the operands are the caller's, the first ones.
    pub callers: u32,
    /// The callee's first local, among those of the frame.
    pub first_local: u32,
}

impl Layout {
    /// All values in the order in which they are stored.
    pub fn kinds(&self) -> impl Iterator<Item = Kind> + '_ {
        self.stack.iter().copied().chain(self.locals.iter().map(|(_, kind)| *kind))
    }

    /// All values in that order, with their places in the frame.
    pub fn places(&self) -> impl Iterator<Item = (Kind, u32)> + '_ {
        let mut next = 0;
        self.kinds().enumerate().map(move |(i, kind)| {
            let at = self.offsets.get(i).copied().unwrap_or(next);
            next = at + kind.size();
            (kind, at)
        })
    }
}

/// The layouts of all points of all functions, decoded one function at a time.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct FrameTable {
    /// End of each function's part of `bytes`, by function index.
    ends: Vec<u32>,
    #[serde(with = "super::bytes")]
    bytes: Vec<u8>,
}

impl FrameTable {
    /// Appends the next function's layouts.
    pub fn push(&mut self, encoded: &[u8]) {
        self.bytes.extend_from_slice(encoded);
        self.ends.push(self.bytes.len() as u32);
    }

    /// Keeps the memory alone.
    pub(super) fn clear(&mut self) {
        self.ends.clear();
        self.bytes.clear();
    }

    /// Appends the functions of another table.
    pub(super) fn append(&mut self, other: &Self) {
        let before = self.bytes.len() as u32;
        self.bytes.extend_from_slice(&other.bytes);
        self.ends.extend(other.ends.iter().map(|end| before + end));
    }

    /// One function's layouts, as [`FrameTable::push`] takes them.
    pub fn encode(layouts: &[Layout]) -> Vec<u8> {
        if layouts.is_empty() {
            return vec![];
        }
        postcard::to_stdvec(layouts).expect("plain data")
    }

    /// The layouts of a function, by point; none if it cannot be suspended.
    pub fn of(&self, func: u32) -> Option<Vec<Layout>> {
        let end = *self.ends.get(func as usize)? as usize;
        let start = func.checked_sub(1).map_or(0, |before| self.ends[before as usize] as usize);
        postcard::from_bytes(self.bytes.get(start..end)?).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_is_what_it_was_when_bytes_went_through_serde_one_by_one() {
        #[derive(Serialize)]
        struct Before {
            ends: Vec<u32>,
            bytes: Vec<u8>,
        }
        let mut table = FrameTable::default();
        let layout = Layout {
            place: Place::Loop,
            offset: 300,
            stack: vec![Kind::V128],
            locals: vec![(200, Kind::Null)],
            offsets: vec![],
            size: 28,
            inlined: None,
        };
        table.push(&FrameTable::encode(&[]));
        table.push(&FrameTable::encode(&vec![layout.clone(); 40]));
        let written = postcard::to_stdvec(&table).unwrap();
        let before = Before { ends: table.ends.clone(), bytes: table.bytes.clone() };
        assert_eq!(written, postcard::to_stdvec(&before).unwrap());
        let read: FrameTable = postcard::from_bytes(&written).unwrap();
        assert_eq!(read.of(1), Some(vec![layout; 40]));
        assert!(postcard::from_bytes::<FrameTable>(&written[..written.len() - 1]).is_err());
    }
}
