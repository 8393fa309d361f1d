//! What several unit tests need.

use wasmparser::ValType;

use super::code::Slot;
use super::frame::Kind;

/// Numbers below a bound, always the same ones for a seed.
pub fn random(mut seed: u64) -> impl FnMut(u64) -> u64 {
    move |bound| {
        seed = seed.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (seed >> 33) % bound
    }
}

/// A number in a local, with a place of its own.
pub fn slot(local: u32) -> Slot {
    Slot { local, ty: ValType::I32, kind: Kind::I32, at: 4 * local }
}
