//! The private disk: a file system that is part of the snapshot.
//!
//! Files go back with the guest's memory, so a run that is resumed finds them as they were at the snapshot,
//! on any host. One [`Disk`] is one file system; a guest sees it as a preopened directory.
//!
//! ```text
//!            names, sizes, times              what files hold
//!            BTreeMap<Ino, Inode>  ─extents─> Volume: blocks of 4 KiB, in a scratch file
//!                   │                            │
//!                records                       dirty blocks
//!                   │                            │
//!            meta: one page tree              data: one page tree
//! ```
//!
//! | file | what |
//! |---|---|
//! | `lookup` `names` `content` | paths; what changes names; what changes content |
//! | `inode` `extents` `blocks` `volume` | inodes; where a file's blocks are; sets of blocks; the blocks |
//! | `records` `image` | the bytes of the metadata; capturing and restoring |
//! | `listing` | looking into a disk that is stored, without loading it |
//! | `fill` `archive` `export` | filling it from a directory or a tar; writing out what changed |
//!
//! Everything is a function of the operations and the times that come with them: inode numbers are counted up
//! and never used again, blocks are given out by a rule that looks at the free ones alone. When
//! snapshots are taken, and how often, leaves no trace.
//!
//! # As on Linux, but for
//!
//! - Reading does not touch `atim`.
//! - The size of a directory is always 4096.
//! - A write that finds no room for all of it writes what fits, and only then says `Nospc`; what it cannot
//!   allocate as a whole `fd_allocate` leaves alone.
//! - A name may have 255 bytes, a path 4095, a file [`SIZE_MAX`] bytes, an inode [`LINKS_MAX`] names; all as ext4.
#![doc = include_str!("FORMAT.md")]

mod archive;
mod blocks;
mod content;
mod export;
mod extents;
mod fill;
mod image;
mod inode;
mod listing;
mod lookup;
mod names;
mod records;
#[cfg(test)]
mod tests;
mod volume;

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::File,
};

pub use archive::from_tar;
pub use export::{Exported, sync_out};
pub use fill::{Filled, from_directory};
pub use image::{Image, ImageError};
pub use listing::{Item, Listing};

use super::{errno::Errno, state::Listed, types::Attributes};
use crate::snapshot::{Tree, limits::LEN_MAX};
use inode::{Inode, Node};
use volume::{BLOCK, Volume};

/// Number of an inode.
pub type Ino = u64;

/// The root directory.
pub const ROOT: Ino = 1;
/// Most inodes of a disk.
pub const INODES_MAX: u64 = 1 << 24;
/// Longest name, in bytes.
pub const NAME_MAX: usize = 255;
/// Most names of a file (ext4).
pub const LINKS_MAX: u32 = 65_000;
/// Greatest size of a file in bytes (ext4 with blocks of 4 KiB).
pub const SIZE_MAX: u64 = ((1 << 32) - 1) * 4096;

/// A file system.
///
/// Paths are relative to a directory and never lead above it. `now` is the time in ns since 1970.
#[derive(Debug)]
pub struct Disk {
    dev: u64,
    /// Most bytes of the volume.
    limit: u64,
    /// The next inode number.
    next: Ino,
    inodes: BTreeMap<Ino, Inode>,
    volume: Volume,
    /// Files with blocks behind their end, given to them ahead.
    ahead: BTreeSet<Ino>,
    /// The tree of the metadata.
    meta: Tree,
    /// Length of the metadata when it was captured last; none if it may have changed since.
    captured: Option<u64>,
}

/// What was opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::wasi) enum Opened {
    Directory(Ino),
    File(Ino),
}

impl Disk {
    /// An empty disk with room for `limit` bytes of content (whole blocks of 4 KiB), at most
    /// [`LEN_MAX`]. Its blocks are kept in `scratch`, an empty file, while it is in use. `dev` is
    /// what the guest sees as the number of the device.
    pub fn new(limit: u64, dev: u64, scratch: File, now: u64) -> Self {
        let limit = limit.min(LEN_MAX);
        let root = Node::Directory { entries: BTreeMap::new(), parent: ROOT };
        let mut root = Inode::new(root, now);
        root.changed = false;
        Self {
            dev,
            limit,
            next: ROOT + 1,
            inodes: BTreeMap::from([(ROOT, root)]),
            volume: Volume::new((limit / BLOCK) as u32, scratch),
            ahead: BTreeSet::new(),
            meta: Tree::new(),
            captured: None,
        }
    }

    /// Most bytes that the files may take up.
    pub fn limit(&self) -> u64 {
        self.limit
    }

    /// Bytes that the files take up, in whole blocks.
    pub fn used(&self) -> u64 {
        u64::from(self.volume.used()) * BLOCK
    }

    /// How many files, directories and symbolic links there are.
    pub fn inodes(&self) -> u64 {
        self.inodes.len() as u64
    }

    /// Counts one more who has it open: while someone has, it stays, even without a name.
    ///
    /// # Errors
    /// `Noent` if there is no such inode.
    pub fn retain(&mut self, ino: Ino) -> Result<(), Errno> {
        // The count is not part of the state.
        let inode = self.inodes.get_mut(&ino).ok_or(Errno::Noent)?;
        inode.open += 1;
        Ok(())
    }

    /// Counts one less who has it open. The last one gives back what was allocated ahead, and the file itself
    /// if it has no name.
    pub fn release(&mut self, ino: Ino) {
        let Some(inode) = self.inodes.get_mut(&ino) else { return };
        inode.open = inode.open.saturating_sub(1);
        if inode.open == 0 {
            // A scratch file that fails is remembered by the volume.
            let _ = self.trim(ino);
            let _ = self.drop_unused(ino);
        }
    }

    /// Who has no name and is not open, and so is out of reach: none, unless a restored disk was not
    /// given back all who had it open.
    pub fn lost(&self) -> impl Iterator<Item = Ino> + '_ {
        self.inodes.iter().filter(|(_, inode)| inode.links == 0 && inode.open == 0).map(|(ino, _)| *ino)
    }

    /// Attributes of what is open.
    pub(in crate::wasi) fn attributes(&self, ino: Ino) -> Result<Attributes, Errno> {
        Ok(self.inode(ino)?.attributes(self.dev, ino))
    }

    /// The entries of a directory but `.` and `..`, by ascending name.
    pub(in crate::wasi) fn list(&self, ino: Ino) -> Result<Vec<Listed>, Errno> {
        let Node::Directory { entries, .. } = &self.inode(ino)?.node else { return Err(Errno::Notdir) };
        let listed = |(name, ino): (&String, &Ino)| {
            Ok(Listed { name: name.clone(), ino: *ino, kind: self.inode(*ino)?.kind() })
        };
        entries.iter().map(listed).collect()
    }

    fn inode(&self, ino: Ino) -> Result<&Inode, Errno> {
        self.inodes.get(&ino).ok_or(Errno::Noent)
    }

    /// The inode, to be changed.
    fn inode_mut(&mut self, ino: Ino) -> Result<&mut Inode, Errno> {
        self.captured = None;
        self.inodes.get_mut(&ino).ok_or(Errno::Noent)
    }

    /// Removes an inode that nobody can reach any more.
    fn drop_unused(&mut self, ino: Ino) -> Result<(), Errno> {
        let Some(inode) = self.inodes.get(&ino) else { return Ok(()) };
        if inode.links > 0 || inode.open > 0 {
            return Ok(());
        }
        self.captured = None;
        self.ahead.remove(&ino);
        let node = self.inodes.remove(&ino).map(|inode| inode.node);
        if let Some(Node::File(mut content)) = node {
            for run in content.extents.truncate(0) {
                self.volume.free(run)?;
            }
        }
        Ok(())
    }

    /// From now on nothing counts as changed.
    pub(super) fn settle(&mut self) {
        self.captured = None;
        self.inodes.values_mut().for_each(|inode| inode.changed = false);
    }
}
