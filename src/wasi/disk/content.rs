//! What files hold: reading, writing, sizes.

use std::collections::BTreeMap;

use super::{
    BLOCK, Disk, Ino, SIZE_MAX, Volume,
    inode::{Content, Inode, Node},
};
use crate::wasi::Errno;

/// Most blocks that a file is given ahead (1 MiB).
const AHEAD_MAX: u32 = 256;

impl Disk {
    /// Reads at `offset`; gives the number of bytes, which is less than asked for only at the end.
    ///
    /// # Errors
    /// `Isdir` for a directory; `Inval` for an offset that a file cannot have.
    pub fn read_at(&self, ino: Ino, out: &mut [u8], offset: u64) -> Result<usize, Errno> {
        check_range(offset, out.len())?;
        let content = self.content(ino)?;
        let n = content.size.saturating_sub(offset).min(out.len() as u64) as usize;
        let (mut at, mut rest) = (offset, &mut out[..n]);
        while !rest.is_empty() {
            let (block, into) = ((at / BLOCK) as u32, at % BLOCK);
            let blocks = (into + rest.len() as u64).div_ceil(BLOCK).min(u64::from(u32::MAX - block)) as u32;
            let (place, count) = content.extents.piece(block, block + blocks);
            let len = (u64::from(count) * BLOCK - into).min(rest.len() as u64) as usize;
            let (part, behind) = rest.split_at_mut(len);
            match place {
                // One block is often not written yet; of more, some are.
                Some(place) if count > 1 || self.volume.is_written(place) => {
                    self.volume.read(place, into, part)?
                }
                _ => part.fill(0),
            }
            at += len as u64;
            rest = behind;
        }
        Ok(n)
    }

    /// Writes at `offset`; gives the number of bytes, which is less than given only when room or the greatest
    /// size of a file do not allow for more.
    ///
    /// # Errors
    /// `Nospc` when there is no room, `Fbig` when no file is that large; nothing has changed then.
    pub fn write_at(&mut self, ino: Ino, bytes: &[u8], offset: u64, now: u64) -> Result<usize, Errno> {
        check_range(offset, bytes.len())?;
        self.content(ino)?;
        if bytes.is_empty() {
            return Ok(0);
        }
        if offset >= SIZE_MAX {
            return Err(Errno::Fbig);
        }
        let bytes = &bytes[..(SIZE_MAX - offset).min(bytes.len() as u64) as usize];
        let end = self.allocate_blocks(ino, offset, offset + bytes.len() as u64)?;
        let bytes = &bytes[..(end - offset) as usize];
        let (content, volume) = parts(&mut self.inodes, &mut self.volume, ino)?;
        let (mut at, mut rest) = (offset, bytes);
        while !rest.is_empty() {
            let (block, into) = ((at / BLOCK) as u32, at % BLOCK);
            let last = end.div_ceil(BLOCK) as u32;
            let (Some(place), count) = content.extents.piece(block, last) else { return Err(Errno::Io) };
            let len = (u64::from(count) * BLOCK - into).min(rest.len() as u64) as usize;
            volume.write(place, into, &rest[..len])?;
            at += len as u64;
            rest = &rest[len..];
        }
        content.size = content.size.max(end);
        self.touch(ino, now)?;
        Ok(bytes.len())
    }

    /// The size of a file in bytes.
    pub fn size(&self, ino: Ino) -> Result<u64, Errno> {
        self.content(ino).map(|content| content.size)
    }

    /// Cuts a file off, or fills it up with zeros, to `size` bytes.
    ///
    /// # Errors
    /// `Fbig` when no file is that large.
    pub fn set_len(&mut self, ino: Ino, size: u64, now: u64) -> Result<(), Errno> {
        check_range(size, 0)?;
        let old = self.content(ino)?.size;
        if size > SIZE_MAX {
            return Err(Errno::Fbig);
        }
        let (content, volume) = parts(&mut self.inodes, &mut self.volume, ino)?;
        content.size = size;
        if size < old {
            let blocks = size.div_ceil(BLOCK) as u32;
            for run in content.extents.truncate(blocks) {
                volume.free(run)?;
            }
            if size % BLOCK != 0
                && let (Some(place), _) = content.extents.piece(blocks - 1, blocks)
            {
                volume.zero_tail(place, size % BLOCK)?;
            }
        }
        self.touch(ino, now)
    }

    /// Makes sure that there is room for the bytes from `offset` on, growing the file to their end.
    ///
    /// # Errors
    /// `Nospc` when there is no room, `Fbig` when no file is that large; nothing has changed then.
    pub fn allocate(&mut self, ino: Ino, offset: u64, len: u64, now: u64) -> Result<(), Errno> {
        check_range(offset, 0)?;
        check_range(len, 0)?;
        self.content(ino)?;
        if len == 0 {
            return Err(Errno::Inval);
        }
        let end = offset + len;
        if end > SIZE_MAX {
            return Err(Errno::Fbig);
        }
        let missing = |disk: &Self| {
            let content = disk.content(ino)?;
            let holes = holes(content, offset, end).map(|(_, len)| u64::from(len));
            Ok::<_, Errno>(holes.sum::<u64>() > u64::from(disk.volume.room()))
        };
        if missing(self)? {
            self.trim_all()?;
            if missing(self)? {
                return Err(Errno::Nospc);
            }
        }
        self.fill_holes(ino, offset, end, false)?;
        let (content, _) = parts(&mut self.inodes, &mut self.volume, ino)?;
        content.size = content.size.max(end);
        self.touch(ino, now)
    }

    /// Gives blocks to a file for its bytes from `offset` to before `end`, or as many of them as there is room
    /// for; gives the offset up to which there are.
    fn allocate_blocks(&mut self, ino: Ino, offset: u64, end: u64) -> Result<u64, Errno> {
        let end = match self.reach(ino, offset, end)? {
            reached if reached < end => {
                self.trim_all()?;
                self.reach(ino, offset, end)?
            }
            reached => reached,
        };
        if end <= offset {
            return Err(Errno::Nospc);
        }
        self.fill_holes(ino, offset, end, true)?;
        Ok(end)
    }

    /// How far towards `end` the room goes.
    fn reach(&self, ino: Ino, offset: u64, end: u64) -> Result<u64, Errno> {
        let mut room = self.volume.room();
        for (block, len) in holes(self.content(ino)?, offset, end) {
            if len > room {
                return Ok(u64::from(block + room) * BLOCK);
            }
            room -= len;
        }
        Ok(end)
    }

    /// Gives blocks to the holes of a file between two offsets. What is appended is given more than it needs, as
    /// much again as the file has: so a file is in few pieces.
    fn fill_holes(&mut self, ino: Ino, offset: u64, end: u64, ahead: bool) -> Result<(), Errno> {
        let (content, volume) = parts(&mut self.inodes, &mut self.volume, ino)?;
        let missing: Vec<(u32, u32)> = holes(content, offset, end).collect();
        if missing.is_empty() {
            return Ok(());
        }
        for (mut block, mut need) in missing {
            while need > 0 {
                let appends = ahead && block >= content.extents.end();
                let more = if appends { content.extents.blocks().clamp(1, AHEAD_MAX) } else { 0 };
                let want = need.max(more).min((SIZE_MAX / BLOCK) as u32 - block);
                let run = volume.allocate(content.extents.goal(block), want).ok_or(Errno::Nospc)?;
                content.extents.insert(block, run);
                let got = run.len.min(need);
                block += got;
                need -= got;
            }
        }
        self.captured = None;
        self.note_ahead(ino)
    }

    /// Takes back what a file was given ahead.
    pub(super) fn trim(&mut self, ino: Ino) -> Result<(), Errno> {
        if self.ahead.remove(&ino) {
            self.captured = None;
            let (content, volume) = parts(&mut self.inodes, &mut self.volume, ino)?;
            for run in content.extents.truncate(content.size.div_ceil(BLOCK) as u32) {
                volume.free(run)?;
            }
        }
        Ok(())
    }

    /// Takes back what all files were given ahead: there is no room left.
    fn trim_all(&mut self) -> Result<(), Errno> {
        while let Some(ino) = self.ahead.first().copied() {
            self.trim(ino)?;
        }
        Ok(())
    }

    /// Notes whether a file has blocks behind its end.
    fn note_ahead(&mut self, ino: Ino) -> Result<(), Errno> {
        let content = self.content(ino)?;
        if u64::from(content.extents.end()) > content.size.div_ceil(BLOCK) {
            self.ahead.insert(ino);
        } else {
            self.ahead.remove(&ino);
        }
        Ok(())
    }

    /// The content has changed.
    fn touch(&mut self, ino: Ino, now: u64) -> Result<(), Errno> {
        let inode = self.inode_mut(ino)?;
        inode.times.mtim = now;
        inode.times.ctim = now;
        inode.changed = true;
        self.note_ahead(ino)
    }

    fn content(&self, ino: Ino) -> Result<&Content, Errno> {
        match &self.inode(ino)?.node {
            Node::File(content) => Ok(content),
            Node::Directory { .. } => Err(Errno::Isdir),
            Node::Symlink(_) => Err(Errno::Inval),
        }
    }
}

/// A file's content, and the volume that it is in.
fn parts<'a>(
    inodes: &'a mut BTreeMap<Ino, Inode>,
    volume: &'a mut Volume,
    ino: Ino,
) -> Result<(&'a mut Content, &'a mut Volume), Errno> {
    match inodes.get_mut(&ino).map(|inode| &mut inode.node) {
        Some(Node::File(content)) => Ok((content, volume)),
        _ => Err(Errno::Badf),
    }
}

/// The holes of a file between two offsets, as first block and number of blocks.
fn holes(content: &Content, offset: u64, end: u64) -> impl Iterator<Item = (u32, u32)> + '_ {
    let (mut at, end) = ((offset / BLOCK) as u32, end.div_ceil(BLOCK) as u32);
    std::iter::from_fn(move || {
        while at < end {
            let (start, (place, len)) = (at, content.extents.piece(at, end));
            at += len;
            if place.is_none() {
                return Some((start, len));
            }
        }
        None
    })
}

/// Refuses what is no offset of a file.
fn check_range(offset: u64, len: usize) -> Result<(), Errno> {
    let end = offset.checked_add(len as u64).filter(|end| *end <= i64::MAX as u64);
    end.map(drop).ok_or(Errno::Inval)
}
