//! Bytes from anywhere: modules, manifests, portable streams, WASI states. Nothing may panic.
#![no_main]

use libfuzzer_sys::fuzz_target;
use wasm_ckpt::digest::{ChunkId, ModuleId};
use wasm_ckpt::snapshot::{self, Verified, portable};
use wasm_ckpt::{instrument, wasi};

struct Nowhere;

impl portable::Sink for Nowhere {
    fn module(&mut self, _: ModuleId, _: Vec<u8>) -> anyhow::Result<()> {
        Ok(())
    }
    fn chunk(&mut self, _: ChunkId, _: Vec<u8>) -> anyhow::Result<()> {
        Ok(())
    }
    fn snapshot(&mut self, _: Verified, _: Vec<u8>) -> anyhow::Result<()> {
        Ok(())
    }
}

fuzz_target!(|bytes: &[u8]| {
    let Some((kind, bytes)) = bytes.split_first() else { return };
    match kind % 4 {
        0 => drop(instrument::instrument(bytes)),
        1 => drop(snapshot::decode(bytes, None)),
        2 => drop(portable::read(bytes, &mut Nowhere)),
        _ => drop(wasi::State::decode(wasi::VERSION, bytes)),
    }
});
