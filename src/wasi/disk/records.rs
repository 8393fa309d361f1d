//! The metadata as records, and as bytes. The bytes are untrusted: they are read page by page, and every
//! record is checked against those before it, so that what is kept never outgrows what was read.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{
    BLOCK, INODES_MAX, Ino, LINKS_MAX, NAME_MAX, ROOT, SIZE_MAX,
    extents::{Extents, Run},
    inode::{Content, Inode, Node, Times},
    lookup::PATH_MAX,
};
use crate::snapshot::{PAGE, limits::LEN_MAX};

const MAGIC: [u8; 8] = *b"WASMDISK";
const VERSION: u16 = 1;
/// Greatest length of a record, in bytes: a symbolic link's, with room.
const RECORD_MAX: usize = 8192;

#[derive(Debug, Serialize, Deserialize)]
enum Record<'a> {
    Inode {
        ino: Ino,
        changed: bool,
        atim: u64,
        mtim: u64,
        ctim: u64,
        #[serde(borrow)]
        kind: Kind<'a>,
    },
    Extent {
        at: u32,
        start: u32,
        len: u32,
    },
    Entry {
        name: &'a str,
        ino: Ino,
    },
}

#[derive(Debug, Serialize, Deserialize)]
enum Kind<'a> {
    File { size: u64 },
    Directory,
    Symlink { target: &'a str },
}

/// The metadata of a disk, as a value.
#[derive(Debug)]
pub(super) struct Metadata {
    pub limit: u64,
    pub next: Ino,
    pub inodes: BTreeMap<Ino, Inode>,
}

/// The bytes of the metadata.
pub(super) fn encode(limit: u64, next: Ino, inodes: &BTreeMap<Ino, Inode>) -> anyhow::Result<Vec<u8>> {
    let mut out = Vec::with_capacity(PAGE + inodes.len() * 96);
    out.extend(MAGIC);
    out.extend(VERSION.to_le_bytes());
    out.extend(limit.to_le_bytes());
    out.extend(next.to_le_bytes());
    out.resize(PAGE, 0);
    for (ino, inode) in inodes {
        let Times { atim, mtim, ctim } = inode.times;
        let kind = match &inode.node {
            Node::File(content) => Kind::File { size: content.size },
            Node::Directory { .. } => Kind::Directory,
            Node::Symlink(target) => Kind::Symlink { target },
        };
        let record = Record::Inode { ino: *ino, changed: inode.changed, atim, mtim, ctim, kind };
        push(&mut out, mix(*ino), &record)?;
        match &inode.node {
            Node::File(content) => {
                for (at, Run { start, len }) in content.extents.iter() {
                    let key = mix(ino ^ mix(u64::from(at) + 1));
                    push(&mut out, key, &Record::Extent { at, start, len })?;
                }
            }
            Node::Directory { entries, .. } => {
                for (name, entry) in entries {
                    push(&mut out, mix(ino ^ fnv(name)), &Record::Entry { name, ino: *entry })?;
                }
            }
            Node::Symlink(_) => {}
        }
    }
    Ok(out)
}

fn push(out: &mut Vec<u8>, key: u64, record: &Record<'_>) -> anyhow::Result<()> {
    if key.trailing_zeros() >= 7 {
        out.resize(out.len().next_multiple_of(PAGE), 0);
    }
    let mut bytes = [0; RECORD_MAX];
    let bytes = postcard::to_slice(record, &mut bytes)?;
    let mut len = bytes.len();
    while len >= 0x80 {
        out.push(len as u8 | 0x80);
        len >>= 7;
    }
    out.push(len as u8);
    out.extend_from_slice(bytes);
    Ok(())
}

/// The output function of SplitMix64.
fn mix(n: u64) -> u64 {
    let n = n.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let n = (n ^ (n >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let n = (n ^ (n >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    n ^ (n >> 31)
}

/// 64-bit FNV-1a.
fn fnv(name: &str) -> u64 {
    let step = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    name.bytes().fold(0xcbf2_9ce4_8422_2325, step)
}

/// Reads the bytes of the metadata, page after page.
#[derive(Debug, Default)]
pub(super) struct Decoder {
    /// Bytes taken so far.
    at: u64,
    /// Bytes that no whole record has been read of yet.
    pending: Vec<u8>,
    limit: u64,
    next: Ino,
    inodes: BTreeMap<Ino, Inode>,
}

/// What is wrong with the bytes.
type Problem = String;

impl Decoder {
    /// Takes the bytes at `offset`: a page, or less of the last one.
    pub fn page(&mut self, offset: u64, page: &[u8]) -> Result<(), Problem> {
        if offset != self.at {
            return Err(format!("a page of zeros at byte {}", self.at));
        }
        self.at += page.len() as u64;
        if offset == 0 {
            return self.header(page);
        }
        let mut bytes = std::mem::take(&mut self.pending);
        // Zeros behind a record stand up to the next page; a record that goes on has no part of them.
        let carried = bytes.len();
        bytes.extend_from_slice(page);
        let mut rest = bytes.as_slice();
        while let Some(first) = rest.first() {
            if *first == 0 {
                if rest.len() == bytes.len() && carried == 0 || rest.iter().any(|byte| *byte != 0) {
                    return Err(format!("a gap in the page at byte {offset}"));
                }
                return Ok(());
            }
            match split(rest)? {
                Some((record, behind)) => {
                    self.record(record).map_err(|problem| format!("page at byte {offset}: {problem}"))?;
                    rest = behind;
                }
                None => break,
            }
        }
        self.pending = rest.to_vec();
        Ok(())
    }

    fn header(&mut self, page: &[u8]) -> Result<(), Problem> {
        let mut at = 0;
        let mut take = |n: usize| {
            at += n;
            page.get(at - n..at).ok_or_else(|| "it is too short".to_string())
        };
        let mut number = |n: usize| {
            let mut bytes = [0; 8];
            bytes[..n].copy_from_slice(take(n)?);
            Ok::<_, Problem>(u64::from_le_bytes(bytes))
        };
        let (magic, version, limit, next) = (number(8)?, number(2)?, number(8)?, number(8)?);
        if magic != u64::from_le_bytes(MAGIC) || version != u64::from(VERSION) {
            return Err("it is no metadata of a disk, or of another version".to_string());
        }
        if limit > LEN_MAX {
            return Err(format!("a limit of {limit} bytes"));
        }
        (self.limit, self.next) = (limit, next);
        Ok(())
    }

    fn record(&mut self, bytes: &[u8]) -> Result<(), Problem> {
        let (record, rest) = postcard::take_from_bytes::<Record<'_>>(bytes).map_err(|e| e.to_string())?;
        if !rest.is_empty() {
            return Err("a record is longer than what it says".to_string());
        }
        match record {
            Record::Inode { ino, changed, atim, mtim, ctim, kind } => {
                let last = self.inodes.last_key_value().map_or(ROOT - 1, |(ino, _)| *ino);
                if ino <= last || ino >= self.next || (last < ROOT && ino != ROOT) {
                    return Err(format!("inode {ino} after {last}"));
                }
                if self.inodes.len() as u64 >= INODES_MAX {
                    return Err("too many inodes".to_string());
                }
                let node = node(ino, kind)?;
                let times = Times { atim, mtim, ctim };
                self.inodes.insert(ino, Inode { node, links: 0, times, changed, open: 0 });
                Ok(())
            }
            Record::Extent { at, start, len } => {
                let Some(Node::File(content)) = self.last() else {
                    return Err("an extent of what is no file".to_string());
                };
                let within = |start: u32, end: u64| len > 0 && u64::from(start) + u64::from(len) <= end;
                if at < content.extents.end() || !within(at, SIZE_MAX / BLOCK) {
                    return Err(format!("an extent of {len} blocks at block {at}"));
                }
                content.extents.insert(at, Run { start, len });
                if within(start, self.limit / BLOCK) {
                    Ok(())
                } else {
                    Err("an extent beyond the limit".to_string())
                }
            }
            Record::Entry { name, ino } => {
                let Some(Node::Directory { entries, .. }) = self.last() else {
                    return Err("an entry of what is no directory".to_string());
                };
                if !is_name(name) || entries.last_key_value().is_some_and(|(last, _)| last.as_str() >= name) {
                    return Err(format!("the name {name:?}"));
                }
                entries.insert(name.to_string(), ino);
                Ok(())
            }
        }
    }

    fn last(&mut self) -> Option<&mut Node> {
        self.inodes.last_entry().map(|entry| &mut entry.into_mut().node)
    }

    /// The metadata, when all `len` bytes of it were taken.
    pub fn finish(mut self, len: u64) -> Result<Metadata, Problem> {
        if self.at != len || !self.pending.is_empty() {
            return Err("it ends within a record, or with zeros".to_string());
        }
        if !self.inodes.get(&ROOT).is_some_and(Inode::is_directory) {
            return Err("it has no root directory".to_string());
        }
        self.count_links()?;
        self.check_tree()?;
        let Self { limit, next, inodes, .. } = self;
        Ok(Metadata { limit, next, inodes })
    }

    /// Counts the names of everything, and sets the parents of directories.
    fn count_links(&mut self) -> Result<(), Problem> {
        let mut names: BTreeMap<Ino, (u32, Ino)> = BTreeMap::new();
        let mut subdirectories: BTreeMap<Ino, u32> = BTreeMap::new();
        for (dir, inode) in &self.inodes {
            let Node::Directory { entries, .. } = &inode.node else { continue };
            for (name, ino) in entries {
                let found = self
                    .inodes
                    .get(ino)
                    .ok_or_else(|| format!("{name:?} is inode {ino}, which is not there"))?;
                let names = names.entry(*ino).or_default();
                *names = (names.0 + 1, *dir);
                let most = if found.is_directory() { 1 } else { LINKS_MAX };
                if names.0 > most || *ino == ROOT {
                    return Err(format!("inode {ino} has too many names"));
                }
                if found.is_directory() {
                    *subdirectories.entry(*dir).or_default() += 1;
                }
            }
        }
        for (ino, inode) in &mut self.inodes {
            let (links, dir) = names.get(ino).copied().unwrap_or((u32::from(*ino == ROOT), *ino));
            inode.links = links;
            match &mut inode.node {
                Node::Directory { entries, parent } => {
                    *parent = dir;
                    if links == 0 && !entries.is_empty() {
                        return Err(format!("directory {ino} is removed, and not empty"));
                    }
                    if links > 0 {
                        inode.links = 2 + subdirectories.get(ino).copied().unwrap_or(0);
                    }
                }
                Node::Symlink(_) if links == 0 => return Err(format!("symbolic link {ino} has no name")),
                _ => {}
            }
        }
        Ok(())
    }

    /// Every directory that has a name is below the root: there are no circles.
    fn check_tree(&self) -> Result<(), Problem> {
        let named = self.inodes.values().filter(|inode| inode.is_directory() && inode.links > 0).count();
        let (mut reached, mut open) = (0, vec![ROOT]);
        while let Some(dir) = open.pop() {
            reached += 1;
            if let Some(Node::Directory { entries, .. }) = self.inodes.get(&dir).map(|inode| &inode.node) {
                let is_directory = |ino: &&Ino| self.inodes.get(*ino).is_some_and(Inode::is_directory);
                open.extend(entries.values().filter(is_directory));
            }
        }
        if reached == named { Ok(()) } else { Err("directories are in each other".to_string()) }
    }
}

fn node(ino: Ino, kind: Kind<'_>) -> Result<Node, Problem> {
    match kind {
        Kind::File { size } if size <= SIZE_MAX => {
            Ok(Node::File(Content { size, extents: Extents::default() }))
        }
        Kind::File { size } => Err(format!("file {ino} of {size} bytes")),
        Kind::Directory => Ok(Node::Directory { entries: BTreeMap::new(), parent: ino }),
        Kind::Symlink { target } if target.is_empty() || target.len() > PATH_MAX || target.contains('\0') => {
            Err(format!("the target of symbolic link {ino}"))
        }
        Kind::Symlink { target } => Ok(Node::Symlink(target.to_string())),
    }
}

/// Whether something can have this name.
pub(super) fn is_name(name: &str) -> bool {
    !matches!(name, "" | "." | "..") && name.len() <= NAME_MAX && !name.contains(['/', '\0'])
}

/// The first record and what follows; none if it is not whole.
fn split(bytes: &[u8]) -> Result<Option<(&[u8], &[u8])>, Problem> {
    let (mut len, mut at) = (0, 0);
    loop {
        let Some(byte) = bytes.get(at) else { return Ok(None) };
        len |= usize::from(byte & 0x7f) << (7 * at);
        at += 1;
        if byte & 0x80 == 0 {
            break;
        }
        if at == 2 {
            return Err("a record is too long".to_string());
        }
    }
    if len == 0 || len > RECORD_MAX {
        return Err(format!("a record of {len} bytes"));
    }
    let rest = &bytes[at..];
    Ok((rest.len() >= len).then(|| rest.split_at(len)))
}
