//! The snapshot: the value first ([`State`]), bytes second. Pure: no engine, no I/O.
#![doc = include_str!("FORMAT.md")]

mod check;
mod decode;
mod encode;
mod error;
#[cfg(test)]
mod frozen;
mod identity;
pub mod limits;
pub mod portable;
mod reader;
mod state;
#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;
mod tree;

pub use decode::{Verified, decode};
pub use encode::{FORMAT, MAGIC, encode};
pub use error::SnapshotError;
pub use identity::{Difference, IdentityMismatch};
pub use state::{Blob, Call, Exn, Frame, FrameKind, Identity, Memory, Section, State, Table, Value};
pub use tree::{
    ChunkAt, Dirty, Emit, Extents, FANOUT, Fetch, Kind, Known, NODE, PAGE, Partial, ReadPages, Tree,
    TreeError, Walk, check_chunk, pages, read_range,
};
