//! Modules of `wasm-smith` and of our own generator by the thousand: the body of `tests/differential`, with
//! seeds that the fuzzer chooses.
#![no_main]
#![allow(dead_code)]

use std::sync::OnceLock;

use libfuzzer_sys::fuzz_target;

#[path = "../../differential/check.rs"]
mod check;
#[path = "../../differential/generate/mod.rs"]
mod generate;
#[path = "../../differential/ours.rs"]
mod ours;
#[path = "../../differential/plain.rs"]
mod plain;
#[path = "../../differential/plan.rs"]
mod plan;
#[path = "../../differential/rng.rs"]
mod rng;
#[path = "../../differential/smith.rs"]
mod smith;

fuzz_target!(|input: (u64, bool)| {
    static ENGINES: OnceLock<check::Engines> = OnceLock::new();
    let engines = ENGINES.get_or_init(|| check::Engines::new().unwrap());
    let (seed, structured) = input;
    let module = if structured { Some(generate::module(seed)) } else { smith::module(seed) };
    let Some(wasm) = module else { return };
    if let Err(error) = engines.check(&wasm, seed) {
        panic!("seed {seed}, structured {structured}: {error:#}");
    }
});
