//! What a disk holds: files, directories, symbolic links.

use std::collections::BTreeMap;

use super::{Ino, extents::Extents};
use crate::wasi::{Filetype, types::Attributes};

/// A file, directory or symbolic link.
#[derive(Debug, Clone)]
pub(super) struct Inode {
    pub node: Node,
    /// How many names it has; of a directory, its own name, its `.` and the `..` of others. 0: it is removed,
    /// and stays for who has it open.
    pub links: u32,
    pub times: Times,
    /// Content or name changed since the disk was filled.
    pub changed: bool,
    /// How often it is open. Not part of the state.
    pub open: u32,
}

/// What an inode is.
#[derive(Debug, Clone)]
pub(super) enum Node {
    File(Content),
    Directory { entries: BTreeMap<String, Ino>, parent: Ino },
    Symlink(String),
}

/// What a file holds.
#[derive(Debug, Clone, Default)]
pub(super) struct Content {
    /// Size in bytes.
    pub size: u64,
    pub extents: Extents,
}

/// Times in ns since 1970.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Times {
    pub atim: u64,
    pub mtim: u64,
    pub ctim: u64,
}

impl Times {
    pub fn now(now: u64) -> Self {
        Self { atim: now, mtim: now, ctim: now }
    }
}

impl Inode {
    pub fn new(node: Node, now: u64) -> Self {
        let links = if matches!(node, Node::Directory { .. }) { 2 } else { 1 };
        Self { node, links, times: Times::now(now), changed: true, open: 0 }
    }

    pub fn is_directory(&self) -> bool {
        matches!(self.node, Node::Directory { .. })
    }

    pub fn kind(&self) -> Filetype {
        match self.node {
            Node::File(_) => Filetype::RegularFile,
            Node::Directory { .. } => Filetype::Directory,
            Node::Symlink(_) => Filetype::SymbolicLink,
        }
    }

    pub fn size(&self) -> u64 {
        match &self.node {
            Node::File(content) => content.size,
            // As most file systems say of one that is not large.
            Node::Directory { .. } => 4096,
            Node::Symlink(target) => target.len() as u64,
        }
    }

    pub fn attributes(&self, dev: u64, ino: Ino) -> Attributes {
        let time = |nanos: u64| ((nanos / 1_000_000_000) as i64, (nanos % 1_000_000_000) as u32);
        let Times { atim, mtim, ctim } = self.times;
        Attributes {
            dev,
            ino,
            kind: self.kind(),
            nlink: u64::from(self.links),
            size: self.size(),
            atim: time(atim),
            mtim: time(mtim),
            ctim: time(ctim),
        }
    }
}
