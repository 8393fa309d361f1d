//! The snapshot: the value first ([`State`]), bytes second. Pure: no engine, no I/O.
#![doc = include_str!("FORMAT.md")]

mod state;

pub use state::{Blob, Call, Exn, Frame, FrameKind, Identity, Memory, Section, State, Table, Value};
