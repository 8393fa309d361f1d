//! The snapshot: the value first ([`State`]), bytes second. Pure: no engine, no I/O.
#![doc = include_str!("FORMAT.md")]

mod state;
#[cfg(test)]
pub(crate) mod testing;
mod tree;

pub use state::{Blob, Call, Exn, Frame, FrameKind, Identity, Memory, Section, State, Table, Value};
pub use tree::{Dirty, Emit, FANOUT, Kind, LEN_MAX, NODE, PAGE, Tree, TreeError, Walk, check_chunk, pages};
