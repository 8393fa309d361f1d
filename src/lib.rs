//! Runs WebAssembly programs unmodified, pauses them at fuel boundaries, and resumes them anywhere.

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
