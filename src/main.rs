//! wasm-ckpt
fn main() {}
