//! The table of open descriptors.

use std::collections::BTreeSet;

use super::{
    errno::Errno,
    handle::{DirHandle, FileHandle},
    state::{Access, Listed},
    stdio::Stream,
    types::Filetype,
};

/// Most descriptors that can be open at once; more is `Mfile`.
pub(super) const DESCRIPTORS_MAX: usize = 1 << 16;

/// An open descriptor: its state, and its handle.
#[derive(Debug)]
pub(super) enum Open {
    Stream(Stream),
    Directory(OpenDirectory),
    File(OpenFile),
}

/// An open directory.
#[derive(Debug)]
pub(super) struct OpenDirectory {
    pub dir: DirHandle,
    /// The guest finds it by `fd_prestat_get`.
    pub preopen: bool,
    pub read_only: bool,
    /// The names that a `fd_readdir` from the start has found, while they are being read.
    pub listing: Option<Vec<Listed>>,
}

/// An open file.
#[derive(Debug)]
pub(super) struct OpenFile {
    pub file: FileHandle,
    pub kind: Filetype,
    pub read_only: bool,
    pub access: Access,
    pub position: u64,
}

/// Descriptors by number. Numbers are given out as the reference does: the highest of those that were
/// closed, else the next one that was never used.
#[derive(Debug, Default)]
pub(super) struct FdTable {
    slots: Vec<Option<Open>>,
    /// The numbers of the empty slots.
    free: BTreeSet<u32>,
}

impl FdTable {
    pub fn get(&self, fd: u32) -> Result<&Open, Errno> {
        self.slots.get(fd as usize).and_then(Option::as_ref).ok_or(Errno::Badf)
    }

    pub fn get_mut(&mut self, fd: u32) -> Result<&mut Open, Errno> {
        self.slots.get_mut(fd as usize).and_then(Option::as_mut).ok_or(Errno::Badf)
    }

    /// The file at `fd`; `Badf` if it is anything else.
    pub fn file(&self, fd: u32) -> Result<&OpenFile, Errno> {
        match self.get(fd)? {
            Open::File(file) => Ok(file),
            _ => Err(Errno::Badf),
        }
    }

    /// The file at `fd`, to be changed; `Badf` if it is anything else.
    pub fn file_mut(&mut self, fd: u32) -> Result<&mut OpenFile, Errno> {
        match self.get_mut(fd)? {
            Open::File(file) => Ok(file),
            _ => Err(Errno::Badf),
        }
    }

    /// The file at `fd`; `Spipe` if it is a stream, `Badf` if it is a directory.
    pub fn seekable(&mut self, fd: u32) -> Result<&mut OpenFile, Errno> {
        match self.get_mut(fd)? {
            Open::File(file) => Ok(file),
            Open::Stream(_) => Err(Errno::Spipe),
            Open::Directory(_) => Err(Errno::Badf),
        }
    }

    /// The directory at `fd`; `Badf` if it is anything else.
    pub fn directory(&self, fd: u32) -> Result<&OpenDirectory, Errno> {
        match self.get(fd)? {
            Open::Directory(dir) => Ok(dir),
            _ => Err(Errno::Badf),
        }
    }

    /// The directory at `fd`, to be changed; `Badf` if it is anything else.
    pub fn directory_mut(&mut self, fd: u32) -> Result<&mut OpenDirectory, Errno> {
        match self.get_mut(fd)? {
            Open::Directory(dir) => Ok(dir),
            _ => Err(Errno::Badf),
        }
    }

    /// `Mfile` if there is no room for one more.
    pub fn check_room(&self) -> Result<(), Errno> {
        if self.free.is_empty() && self.slots.len() >= DESCRIPTORS_MAX { Err(Errno::Mfile) } else { Ok(()) }
    }

    /// Adds a descriptor; gives its number.
    pub fn push(&mut self, open: Open) -> Result<u32, Errno> {
        self.check_room()?;
        if let Some(fd) = self.free.pop_last() {
            self.slots[fd as usize] = Some(open);
            return Ok(fd);
        }
        self.slots.push(Some(open));
        Ok(self.slots.len() as u32 - 1)
    }

    /// Takes a descriptor out.
    pub fn remove(&mut self, fd: u32) -> Result<Open, Errno> {
        let open = self.slots.get_mut(fd as usize).and_then(Option::take).ok_or(Errno::Badf)?;
        self.free.insert(fd);
        Ok(open)
    }

    /// Gives descriptor `from` the number `to`; gives what was there, which is to be closed.
    pub fn renumber(&mut self, from: u32, to: u32) -> Result<Option<Open>, Errno> {
        self.get(from)?;
        self.get(to)?;
        if from == to {
            return Ok(None);
        }
        let moved = self.remove(from)?;
        Ok(self.slots[to as usize].replace(moved))
    }

    /// The open descriptors, by ascending number.
    pub fn iter(&self) -> impl Iterator<Item = (u32, &Open)> {
        (0..).zip(&self.slots).filter_map(|(fd, slot)| Some((fd, slot.as_ref()?)))
    }

    /// How many numbers were ever given out.
    pub fn numbers(&self) -> u32 {
        self.slots.len() as u32
    }

    /// A table of `numbers` slots with these descriptors in them; the caller has checked both.
    pub fn from_parts(numbers: u32, open: Vec<(u32, Open)>) -> Self {
        let mut slots: Vec<Option<Open>> = (0..numbers).map(|_| None).collect();
        for (fd, open) in open {
            slots[fd as usize] = Some(open);
        }
        let free = (0..numbers).filter(|fd| slots[*fd as usize].is_none()).collect();
        Self { slots, free }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stream() -> Open {
        Open::Stream(Stream::Stdin)
    }

    #[test]
    fn numbers_are_given_out_as_by_the_reference() {
        let mut table = FdTable::default();
        for fd in 0..6 {
            assert_eq!(table.push(stream()), Ok(fd));
        }
        table.remove(2).unwrap();
        table.remove(4).unwrap();
        assert_eq!(table.remove(4).err(), Some(Errno::Badf));
        assert_eq!(table.push(stream()), Ok(4));
        table.renumber(5, 0).unwrap();
        assert_eq!(table.renumber(5, 0).err(), Some(Errno::Badf));
        assert_eq!(table.push(stream()), Ok(5));
        assert_eq!(table.push(stream()), Ok(2));
        assert_eq!(table.push(stream()), Ok(6));
        assert_eq!(table.iter().count() as u32, table.numbers());
    }

    #[test]
    fn the_table_is_bounded() {
        let mut table = FdTable::default();
        for _ in 0..DESCRIPTORS_MAX {
            table.push(stream()).unwrap();
        }
        assert_eq!(table.push(stream()), Err(Errno::Mfile));
        table.remove(77).unwrap();
        assert_eq!(table.push(stream()), Ok(77));
    }
}
