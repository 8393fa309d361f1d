//! Tests of the private disk.

mod exchange;
mod hostile;
mod oracle;
mod sizes;

use std::{collections::HashMap, fs::File};

use super::*;
use crate::{
    digest::ChunkId,
    snapshot::testing::Random,
    wasi::{Filetype, host::How},
};

const NEW: How =
    How { read: true, write: true, create: true, exclusive: false, truncate: false, follow: true };
const OLD: How = How { create: false, ..NEW };
const READ: How = How { write: false, ..OLD };
const DEV: u64 = 7;

/// A file without a name.
fn scratch() -> File {
    tempfile::tempfile().unwrap()
}

fn disk(limit: u64) -> Disk {
    Disk::new(limit, DEV, scratch(), 1)
}

/// What a store would have.
#[derive(Default)]
struct Chunks {
    all: HashMap<ChunkId, Vec<u8>>,
    /// How many came.
    count: usize,
}

impl Chunks {
    fn capture(&mut self, disk: &mut Disk) -> Image {
        let emit = &mut |id: ChunkId, bytes: &[u8]| {
            crate::snapshot::check_chunk(id, bytes).map_err(anyhow::Error::msg)?;
            self.all.insert(id, bytes.to_vec());
            self.count += 1;
            Ok(())
        };
        disk.capture(emit).unwrap()
    }

    fn fetch(&self) -> impl FnMut(ChunkId) -> anyhow::Result<Vec<u8>> + '_ {
        |id| self.all.get(&id).cloned().ok_or_else(|| anyhow::anyhow!("no such chunk"))
    }

    fn restore(&self, image: Image) -> Result<Disk, ImageError> {
        Disk::restore(image, DEV, u64::MAX, scratch(), &mut self.fetch())
    }
}

impl Disk {
    /// Opens a file for reading and writing, made if it is not there.
    fn file(&mut self, path: &str, now: u64) -> Ino {
        let Opened::File(ino) = self.open(ROOT, path, NEW, now).unwrap() else {
            panic!("{path} is a directory")
        };
        self.retain(ino).unwrap();
        ino
    }

    /// Makes a file with this content.
    fn put(&mut self, path: &str, bytes: &[u8], now: u64) {
        let ino = self.file(path, now);
        assert_eq!(self.write_at(ino, bytes, 0, now), Ok(bytes.len()));
        self.release(ino);
    }

    /// The content of a file.
    fn get(&self, path: &str) -> Vec<u8> {
        let ino = self.find(ROOT, path, true).unwrap();
        let mut bytes = vec![0xaa; self.size(ino).unwrap() as usize + 1];
        let n = self.read_at(ino, &mut bytes, 0).unwrap();
        assert_eq!(n + 1, bytes.len());
        bytes.truncate(n);
        bytes
    }

    /// Everything that must always hold.
    fn check(&self) {
        let owned = image::owned(&self.inodes).unwrap();
        self.volume.check(&owned.iter().map(|owned| owned.run).collect::<Vec<_>>());
        let is_ahead = |ino: &Ino| match &self.inodes[ino].node {
            Node::File(content) => u64::from(content.extents.end()) > content.size.div_ceil(BLOCK),
            _ => false,
        };
        assert!(self.inodes.keys().all(|ino| is_ahead(ino) == self.ahead.contains(ino)));
    }

    /// The whole tree: paths with kind, size, links, times, and content or target.
    fn tree(&self) -> Vec<(String, Filetype, u64, u32, u64, Vec<u8>)> {
        let (mut found, mut pending) = (Vec::new(), vec![(String::new(), ROOT)]);
        while let Some((path, ino)) = pending.pop() {
            let inode = &self.inodes[&ino];
            let content = match &inode.node {
                Node::Directory { entries, .. } => {
                    pending.extend(entries.iter().map(|(name, ino)| (format!("{path}/{name}"), *ino)));
                    Vec::new()
                }
                Node::File(_) => self.get(&path[1..]),
                Node::Symlink(target) => target.clone().into_bytes(),
            };
            found.push((path, inode.kind(), inode.size(), inode.links, inode.times.mtim, content));
        }
        found.sort_by(|a, b| a.0.cmp(&b.0));
        found
    }
}
