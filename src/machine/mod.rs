//! The engine: compile, run, capture, restore. The only room that imports wasmtime.

mod cache;
mod capture;
mod dirty;
mod engine;
mod freeze;
mod host;
mod instance;
mod lazy;
mod loading;
mod module;
mod pace;
mod restore;
mod trap;
mod traps;
mod values;

pub use capture::WASI_SECTION;
pub use dirty::{ParseTrackingError, Source, Tracking};
pub use engine::{Engine, Settings};
pub use freeze::{Aside, Dirtied, Frozen, MemoryTrees};
pub use host::{Functions, HostCall, UnknownImport};
pub use instance::{Instance, NoFunction, NotSetUp, Slice};
pub use lazy::{ChunkSource, Loading, RUNS_MAX, Restoring, Run, TakeChunks};
pub use module::{Module, Progress};
pub use pace::Until;
pub use restore::Fetch;
pub use trap::Trap;
pub use wasmtime::{FuncType, ValType};
