//! Real programs: what they do on plain wasmtime with the reference WASI, they do under ours, straight on and moved.

#[path = "../common/mod.rs"]
mod common;
mod conformance;
mod esbuild;
mod harness;
mod python;
mod sqlite;
mod yosys;
