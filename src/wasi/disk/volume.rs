//! The blocks in which a disk keeps what its files hold: which are free, what is in them, which changed.

use std::{collections::BTreeMap, fs::File, io, os::unix::fs::FileExt};

use anyhow::{Context, ensure};
use rustix::fs::{FallocateFlags, fallocate};

use super::{blocks::BlockSet, extents::Run};
use crate::{
    digest::ChunkId,
    snapshot::{Emit, PAGE, Tree},
    wasi::Errno,
};

/// Size of a block in bytes: a page of the snapshot.
pub(super) const BLOCK: u64 = PAGE as u64;

/// A linear space of blocks, kept in a scratch file.
///
/// Free blocks are zeros. Which block is given out next follows from which are free alone.
#[derive(Debug)]
pub(super) struct Volume {
    scratch: File,
    /// How many blocks there may be.
    limit: u32,
    /// The block behind the last one in use: the length.
    end: u32,
    /// Free blocks before `end`, as start and length; never two neighbours, nor one that touches `end`.
    free: BTreeMap<u32, u32>,
    free_blocks: u32,
    /// Blocks that may be other than zeros.
    written: BlockSet,
    /// Blocks that may differ from those in `tree`.
    dirty: BlockSet,
    tree: Tree,
    /// The scratch file failed: what is in it is not known any more.
    failed: Option<String>,
}

impl Volume {
    /// A volume of at most `limit` blocks, without any; `scratch` is empty.
    pub fn new(limit: u32, scratch: File) -> Self {
        Self {
            scratch,
            limit,
            end: 0,
            free: BTreeMap::new(),
            free_blocks: 0,
            written: BlockSet::default(),
            dirty: BlockSet::default(),
            tree: Tree::new(),
            failed: None,
        }
    }

    /// A volume whose content was loaded as `tree`, the blocks `written` to `scratch`, of which those in
    /// `used` (in ascending order, none twice) belong to files.
    pub fn loaded(limit: u32, scratch: File, tree: Tree, written: BlockSet, used: &[Run]) -> Self {
        let mut volume = Self { written, tree, ..Self::new(limit, scratch) };
        for run in used {
            if run.start > volume.end {
                let gap = run.start - volume.end;
                volume.free.insert(volume.end, gap);
                volume.free_blocks += gap;
            }
            volume.end = run.start + run.len;
        }
        volume
    }

    /// How many blocks can still be given out.
    pub fn room(&self) -> u32 {
        self.free_blocks + (self.limit - self.end)
    }

    /// Blocks in use.
    pub fn used(&self) -> u32 {
        self.end - self.free_blocks
    }

    /// Gives out up to `want` neighbouring blocks: at `goal` if that is free, else the first free ones.
    pub fn allocate(&mut self, goal: Option<u32>, want: u32) -> Option<Run> {
        if let Some(goal) = goal {
            let before = self.free.range(..=goal).next_back().map(|(start, len)| (*start, *len));
            if let Some((start, len)) = before.filter(|(start, len)| goal - start < *len) {
                return Some(self.take(start, len, goal, want));
            }
            if goal == self.end && goal < self.limit {
                return Some(self.grow(want));
            }
        }
        if let Some((start, len)) = self.free.first_key_value().map(|(start, len)| (*start, *len)) {
            return Some(self.take(start, len, start, want));
        }
        (self.end < self.limit).then(|| self.grow(want))
    }

    /// Takes blocks from `at` on out of the free run `start`, `len`.
    fn take(&mut self, start: u32, len: u32, at: u32, want: u32) -> Run {
        let taken = want.min(start + len - at);
        self.free.remove(&start);
        if at > start {
            self.free.insert(start, at - start);
        }
        if at + taken < start + len {
            self.free.insert(at + taken, start + len - at - taken);
        }
        self.free_blocks -= taken;
        Run { start: at, len: taken }
    }

    fn grow(&mut self, want: u32) -> Run {
        let run = Run { start: self.end, len: want.min(self.limit - self.end) };
        self.end += run.len;
        run
    }

    /// Takes blocks back, and makes them zeros.
    pub fn free(&mut self, run: Run) -> Result<(), Errno> {
        let (mut start, mut len) = (run.start, run.len);
        let removed = self.written.remove(start, start + len);
        if !removed.is_empty() {
            self.dirty.extend(&removed);
            let punched = self.zero(u64::from(start) * BLOCK, u64::from(len) * BLOCK);
            self.checked(punched)?;
        }
        self.free_blocks += len;
        if let Some((before, free)) = self.free.range(..start).next_back().map(|(a, b)| (*a, *b))
            && before + free == start
        {
            self.free.remove(&before);
            (start, len) = (before, free + len);
        }
        if let Some(after) = self.free.remove(&(start + len)) {
            len += after;
        }
        if start + len == self.end {
            self.end = start;
            self.free_blocks -= len;
        } else {
            self.free.insert(start, len);
        }
        Ok(())
    }

    fn zero(&self, at: u64, len: u64) -> io::Result<()> {
        let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
        match fallocate(&self.scratch, flags, at, len) {
            Ok(()) => Ok(()),
            // Some file systems have no holes.
            Err(_) => {
                let (zeros, mut at, end) = ([0; PAGE], at, at + len);
                while at < end {
                    let n = (end - at).min(BLOCK);
                    self.scratch.write_all_at(&zeros[..n as usize], at)?;
                    at += n;
                }
                Ok(())
            }
        }
    }

    /// Reads at `at` within the block `block`, and on over its neighbours.
    pub fn read(&self, block: u32, at: u64, out: &mut [u8]) -> Result<(), Errno> {
        if self.failed.is_some() {
            return Err(Errno::Io);
        }
        read_zeros_behind(&self.scratch, u64::from(block) * BLOCK + at, out).map_err(|_| Errno::Io)
    }

    /// Whether `block` may be other than zeros.
    pub fn is_written(&self, block: u32) -> bool {
        self.written.contains(block)
    }

    /// Writes at `at` within the block `block`, and on over its neighbours.
    pub fn write(&mut self, block: u32, at: u64, bytes: &[u8]) -> Result<(), Errno> {
        let end = block + (at + bytes.len() as u64).div_ceil(BLOCK) as u32;
        self.written.insert(block, end);
        self.dirty.insert(block, end);
        let written = self.scratch.write_all_at(bytes, u64::from(block) * BLOCK + at);
        self.checked(written)
    }

    /// Makes the block `block` zeros from its byte `at` on.
    pub fn zero_tail(&mut self, block: u32, at: u64) -> Result<(), Errno> {
        if self.written.contains(block) {
            self.dirty.insert(block, block + 1);
            let zeroed = self.scratch.write_all_at(&[0; PAGE][at as usize..], u64::from(block) * BLOCK + at);
            self.checked(zeroed)?;
        }
        Ok(())
    }

    /// Remembers a failure: what the blocks hold is not known any more, so nothing may be captured.
    fn checked(&mut self, result: io::Result<()>) -> Result<(), Errno> {
        result.map_err(|error| {
            self.failed.get_or_insert_with(|| error.to_string());
            Errno::Io
        })
    }

    /// Brings the tree up to date, and gives length in bytes and root of the content.
    pub fn capture(&mut self, emit: &mut Emit<'_>) -> anyhow::Result<(u64, ChunkId)> {
        if let Some(failed) = &self.failed {
            anyhow::bail!("the scratch file of a private disk failed: {failed}");
        }
        let len = u64::from(self.end) * BLOCK;
        let dirty: Vec<u64> =
            self.dirty.iter().take_while(|block| *block < self.end).map(u64::from).collect();
        let scratch = &self.scratch;
        let mut read = |pages: &[u64], bytes: &mut [u8]| read_pages(scratch, pages, bytes);
        let root = self.tree.update_pages(len, &dirty, &mut read, emit)?;
        self.dirty = BlockSet::default();
        Ok((len, root))
    }

    /// Takes nothing for stored: the next capture emits all.
    pub fn forget_stored(&mut self) {
        self.tree = Tree::new();
        self.dirty = self.written.clone();
    }

    /// Checks what must always hold of the free blocks.
    #[cfg(test)]
    pub fn check(&self, used: &[Run]) {
        let again = Self::loaded(
            self.limit,
            self.scratch.try_clone().unwrap(),
            Tree::new(),
            BlockSet::default(),
            used,
        );
        assert_eq!((again.end, &again.free, again.free_blocks), (self.end, &self.free, self.free_blocks));
    }
}

/// Reads whole blocks, neighbours at once.
fn read_pages(scratch: &File, pages: &[u64], bytes: &mut [u8]) -> anyhow::Result<()> {
    ensure!(bytes.len() == pages.len() * PAGE, "a buffer of {} bytes for {} pages", bytes.len(), pages.len());
    let mut rest = bytes;
    for run in pages.chunk_by(|a, b| a + 1 == *b) {
        let (out, behind) = rest.split_at_mut(run.len() * PAGE);
        read_zeros_behind(scratch, run[0] * BLOCK, out).context("the scratch file of a private disk")?;
        rest = behind;
    }
    Ok(())
}

/// Reads; what is behind the end of the file is zeros.
fn read_zeros_behind(file: &File, mut at: u64, mut out: &mut [u8]) -> io::Result<()> {
    while !out.is_empty() {
        match file.read_at(out, at) {
            Ok(0) => {
                out.fill(0);
                return Ok(());
            }
            Ok(n) => {
                at += n as u64;
                out = &mut out[n..];
            }
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    Ok(())
}
