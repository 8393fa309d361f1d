//! Bytes from anywhere: modules, manifests, portable streams, WASI states, metadata of disks, archives. Nothing may panic.
#![no_main]

use std::{collections::HashMap, fs::File};

use libfuzzer_sys::fuzz_target;
use wasm_ckpt::digest::{ChunkId, ModuleId};
use wasm_ckpt::instrument;
use wasm_ckpt::snapshot::{self, Dirty, Tree, Verified, portable};
use wasm_ckpt::wasi::{self, disk};

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

/// The metadata of a disk.
fn metadata(bytes: &[u8]) {
    let mut chunks = HashMap::new();
    let root = Tree::new().update(bytes, Dirty::All, &mut |id, bytes| {
        chunks.insert(id, bytes.to_vec());
        Ok(())
    });
    let Ok(root) = root else { return };
    let image = disk::Image { data: (0, ChunkId::ZERO), meta: (bytes.len() as u64, root) };
    let mut fetch = |id| chunks.get(&id).cloned().ok_or_else(|| anyhow::anyhow!("no such chunk"));
    drop(disk::Listing::load(image, &mut fetch));
}

fuzz_target!(|bytes: &[u8]| {
    let Some((kind, bytes)) = bytes.split_first() else { return };
    match kind % 6 {
        0 => drop(instrument::instrument(bytes)),
        1 => drop(snapshot::decode(bytes, None)),
        2 => drop(portable::read(bytes, &mut Nowhere)),
        3 => drop(wasi::State::decode(wasi::VERSION, bytes)),
        4 => metadata(bytes),
        _ => {
            let Ok(scratch) = File::options().read(true).write(true).open("/dev/null") else { return };
            drop(disk::from_tar(&mut disk::Disk::new(1 << 20, 0, scratch, 0), bytes));
        }
    }
});
