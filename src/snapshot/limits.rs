//! The limits of the format. They bound what a hostile snapshot can make a reader allocate; what writes
//! checks them as well, so that nothing is stored that could not be read again.
//!
//! Where a limit is one of WebAssembly's implementation limits (JS API, section "Implementation-defined
//! limits"), a program that keeps to those never meets it.

pub use super::tree::LEN_MAX;

/// Size of a manifest in bytes (128 MiB).
pub const MANIFEST_MAX: u64 = 128 << 20;
/// Activations on the call stack. A native frame is rarely under 64 bytes, so this is some 64 MiB of native
/// stack, over a hundred times what engines give a program unless told.
pub const FRAMES_MAX: u64 = 1 << 20;
/// Values in the whole state: arguments, locals, operand stacks, globals, runs of tables, payloads. Each takes
/// up to 48 bytes once decoded.
pub const VALUES_MAX: u64 = 1 << 23;
/// Exceptions within the payload of an exception.
pub const EXN_DEPTH_MAX: u32 = 64;
/// Arguments of the call (JS API: parameters of a function).
pub const ARGS_MAX: u64 = 1000;
/// Bytes of the exported function's name (JS API: size of a string).
pub const EXPORT_MAX: u64 = 100_000;
/// Memories (JS API).
pub const MEMORIES_MAX: u64 = 100;
/// Tables. The JS API allows 100,000 of them, engines a hundred.
pub const TABLES_MAX: u64 = 100;
/// Elements of one table (JS API).
pub const TABLE_LEN_MAX: u64 = 10_000_000;
/// Data segments, and element segments (JS API: data segments 100,000, element segments 10,000,000, of which
/// engines take 100,000).
pub const SEGMENTS_MAX: u64 = 100_000;
/// Sections.
pub const SECTIONS_MAX: u64 = 256;
/// Blobs.
pub const BLOBS_MAX: u64 = 1 << 16;
/// Bytes of the name of a section or blob.
pub const NAME_MAX: u64 = 255;
/// Size of a module in bytes (JS API).
pub const MODULE_MAX: u64 = 1 << 30;
