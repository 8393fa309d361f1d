//! Runs WebAssembly programs unmodified, pauses them at fuel boundaries, and resumes them anywhere.

pub mod digest;
pub mod instrument;
pub mod job;
pub mod machine;
pub mod snapshot;
pub mod store;
pub mod wasi;
