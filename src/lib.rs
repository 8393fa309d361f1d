//! Runs WebAssembly programs unmodified, pauses them at fuel boundaries, captures all that they are in a hashed
//! snapshot, and resumes them anywhere: in this process, in another, under another instruction set.
//!
//! ```text
//!   prog.wasm ──> instrument ──> machine ──────────> snapshot ──────> store
//!   as it is      wasm that      compile and run:    the state as a   bytes by name,
//!                 can leave its  wasmtime, fuel      value, and its   durable
//!                 stack, and     slices, capture,    hashed bytes
//!                 come back      restore; wasi             │             │
//!                                    └──────── job ────────┴─────────────┘
//!                                    when, in which order, what was printed, who may
//! ```
//!
//! Modules in reading order: [`job`] (the whole journey of a durable run), [`machine`], [`instrument`],
//! [`wasi`], [`snapshot`], [`store`], [`digest`]. They import one way: job → machine, store → instrument, wasi,
//! snapshot → digest (and wasi → snapshot); only `machine` knows the engine. The most of an embedder's needs are at the root:
//!
//! | | |
//! |---|---|
//! | [`Engine`], [`Module`], [`Settings`] | compile a program, with a cache of compiled code |
//! | [`Store`], [`store::Local`], [`store::Memory`] | where jobs and snapshots are kept |
//! | [`Jobs`], [`Job`], [`Spec`] | the jobs of a store; one of them, held by this process; what it runs |
//! | [`Run`], [`Options`], [`Outcome`], [`Pause`] | running it: how, what came out, and stopping it |
//! | [`Functions`] | host functions that the embedder gives |
//! | [`Snapshot`] | a paused program: its state, to look at or to begin another job with |
//!
//! What always holds:
//!
//! - A snapshot depends on the program, its inputs and the fuel alone: not on when or how often the program was
//!   paused, nor on the machine.
//! - What a job's last log entry names is whole and durable: chunks are stored before the manifest that names
//!   them, the manifest before the log entry that names it.
//! - One runner writes a job; another one that believes to be it is stopped by the log itself.
//! - A snapshot is untrusted input. Whatever its bytes are, they are refused or resumed, safely.
//!
//! Deliberately absent: threads and shared memory, `externref` and GC objects in the guest (they have no portable
//! identity; such modules are refused), components, and any service that has to run beside the program.

pub mod digest;
pub mod instrument;
pub mod job;
pub mod machine;
pub mod snapshot;
pub mod store;
pub mod wasi;

pub use job::{Every, Job, JobError, JobName, Jobs, Options, Outcome, Pause, Run, Snapshot, Spec};
pub use machine::{Engine, Functions, Module, Settings};
pub use snapshot::Value;
pub use store::Store;

/// The README's example is a test.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
