//! What is behind an open descriptor: a file or directory of the host, or of a private disk. The
//! functions of WASI are written against these two, and do not know which it is.

use std::sync::Arc;

use cap_fs_ext::DirExt;
use cap_std::fs::Dir;
use rustix::fs::{Advice, futimens};

use super::{
    clock::Clock,
    disk,
    disknode::DiskNode,
    errno::{Errno, Outcome},
    host::{self, How, Times},
    hostfile::HostFile,
    memory::Buffers,
    state::{Listed, PATH_LEN_MAX, Place, Written},
    types::Attributes,
};

/// An open directory.
#[derive(Debug)]
pub(super) enum DirHandle {
    Host(HostDir),
    Disk(DiskNode),
}

/// An open directory of the host.
#[derive(Debug)]
pub(super) struct HostDir {
    pub dir: Arc<Dir>,
    pub place: Place,
}

/// An open file.
#[derive(Debug)]
pub(super) enum FileHandle {
    Host(HostFile),
    Disk(DiskNode),
}

/// What was opened.
#[derive(Debug)]
pub(super) enum Opened {
    Directory(DirHandle),
    File { file: FileHandle, found: Attributes },
}

impl DirHandle {
    /// Opens what is at a path in this directory.
    pub fn open(&self, path: &str, how: How, clock: &Clock) -> Outcome<Opened> {
        match self {
            Self::Host(HostDir { dir, place }) => {
                let place = join(place, path)?;
                Ok(match host::open(dir, path, how)? {
                    host::Opened::Directory(dir) => {
                        Opened::Directory(Self::Host(HostDir { dir: Arc::new(dir), place }))
                    }
                    host::Opened::File { file, found } => {
                        // What is put into an empty file is all the guest's.
                        let end = (how.write && found.size == 0).then_some(0);
                        let written = Written { end, in_place: false };
                        Opened::File { file: FileHandle::Host(HostFile { file, place, written }), found }
                    }
                })
            }
            Self::Disk(at) => {
                let found = at.disk().open(at.ino, path, how, clock.realtime())?;
                Ok(match found {
                    disk::Opened::Directory(ino) => Opened::Directory(Self::Disk(at.sibling(ino)?)),
                    disk::Opened::File(ino) => {
                        let file = at.sibling(ino)?;
                        let found = file.disk().attributes(ino)?;
                        Opened::File { file: FileHandle::Disk(file), found }
                    }
                })
            }
        }
    }

    /// Makes a directory.
    pub fn create_dir(&self, path: &str, clock: &Clock) -> Outcome {
        match self {
            Self::Host(at) => Ok(at.dir.create_dir(path)?),
            Self::Disk(at) => Ok(at.disk().create_dir(at.ino, path, clock.realtime())?),
        }
    }

    /// Removes an empty directory.
    pub fn remove_dir(&self, path: &str, clock: &Clock) -> Outcome {
        match self {
            Self::Host(at) => Ok(at.dir.remove_dir(path)?),
            Self::Disk(at) => Ok(at.disk().remove_dir(at.ino, path, clock.realtime())?),
        }
    }

    /// Removes a file or symbolic link.
    pub fn unlink(&self, path: &str, clock: &Clock) -> Outcome {
        match self {
            Self::Host(at) => Ok(at.dir.remove_file_or_symlink(path)?),
            Self::Disk(at) => Ok(at.disk().unlink(at.ino, path, clock.realtime())?),
        }
    }

    /// Renames, over what has the new name.
    pub fn rename(&self, path: &str, to: &Self, new_path: &str, clock: &Clock) -> Outcome {
        match (self, to) {
            (Self::Host(at), Self::Host(to)) => Ok(at.dir.rename(path, &to.dir, new_path)?),
            (Self::Disk(at), Self::Disk(to)) if at.shares_disk(to) => {
                Ok(at.disk().rename(at.ino, path, to.ino, new_path, clock.realtime())?)
            }
            _ => Err(Errno::Xdev.into()),
        }
    }

    /// Makes a hard link.
    pub fn hard_link(&self, path: &str, to: &Self, new_path: &str, clock: &Clock) -> Outcome {
        match (self, to) {
            (Self::Host(at), Self::Host(to)) => Ok(at.dir.hard_link(path, &to.dir, new_path)?),
            (Self::Disk(at), Self::Disk(to)) if at.shares_disk(to) => {
                Ok(at.disk().hard_link(at.ino, path, to.ino, new_path, clock.realtime())?)
            }
            _ => Err(Errno::Xdev.into()),
        }
    }

    /// Makes a symbolic link at a path.
    pub fn symlink(&self, target: &str, path: &str, clock: &Clock) -> Outcome {
        match self {
            Self::Host(at) => Ok(Dir::symlink(&at.dir, target, path)?),
            Self::Disk(at) => Ok(at.disk().symlink(target, at.ino, path, clock.realtime())?),
        }
    }

    /// The target of a symbolic link.
    pub fn read_link(&self, path: &str) -> Outcome<String> {
        match self {
            Self::Host(at) => {
                let link = at.dir.read_link(path)?;
                Ok(link.into_os_string().into_string().map_err(|_| Errno::Ilseq)?)
            }
            Self::Disk(at) => Ok(at.disk().read_link(at.ino, path)?.to_string()),
        }
    }

    /// Attributes of the directory.
    pub fn attributes(&self) -> Outcome<Attributes> {
        match self {
            Self::Host(at) => Ok(host::attributes(&*at.dir)?),
            Self::Disk(at) => Ok(at.disk().attributes(at.ino)?),
        }
    }

    /// Attributes of what is at a path.
    pub fn attributes_at(&self, path: &str, follow: bool) -> Outcome<Attributes> {
        match self {
            Self::Host(at) => Ok(host::attributes_at(&at.dir, path, follow)?),
            Self::Disk(at) => Ok(at.disk().attributes_at(at.ino, path, follow)?),
        }
    }

    /// Sets the directory's times.
    pub fn set_times(&self, times: Times, clock: &Clock) -> Outcome {
        match self {
            Self::Host(at) => Ok(futimens(&*at.dir, &times.timestamps())?),
            Self::Disk(at) => set_disk_times(at, times, clock),
        }
    }

    /// Sets the times of what is at a path.
    pub fn set_times_at(&self, path: &str, times: Times, follow: bool, clock: &Clock) -> Outcome {
        match self {
            Self::Host(at) => Ok(host::set_times(&at.dir, path, times, follow)?),
            Self::Disk(at) => {
                let now = clock.realtime();
                let (access, modification) = times.on_disk(now);
                Ok(at.disk().set_times_at(at.ino, path, follow, access, modification, now)?)
            }
        }
    }

    /// The entries but `.` and `..`, by ascending name.
    pub fn list(&self) -> Outcome<Vec<Listed>> {
        match self {
            Self::Host(at) => Ok(host::list(&at.dir)?),
            Self::Disk(at) => Ok(at.disk().list(at.ino)?),
        }
    }
}

impl FileHandle {
    /// Reads into the buffers, from `offset` on, until they are full or the file ends.
    pub fn read(&self, mem: &mut [u8], buffers: &Buffers, offset: u64) -> Outcome<u32> {
        match self {
            Self::Host(file) => file.read(mem, buffers, offset),
            Self::Disk(file) => file.read(mem, buffers, offset),
        }
    }

    /// Writes the buffers at `offset`, or at the file's end; gives the number of bytes, and the offset
    /// after them.
    pub fn write(
        &mut self,
        mem: &[u8],
        buffers: &Buffers,
        offset: u64,
        at_end: bool,
        clock: &Clock,
    ) -> Outcome<(u32, u64)> {
        match self {
            Self::Host(file) => file.write(mem, buffers, offset, at_end),
            Self::Disk(file) => file.write(mem, buffers, offset, at_end, clock),
        }
    }

    /// Attributes of the file.
    pub fn attributes(&self) -> Outcome<Attributes> {
        match self {
            Self::Host(HostFile { file, .. }) => Ok(host::attributes(file)?),
            Self::Disk(file) => Ok(file.disk().attributes(file.ino)?),
        }
    }

    /// Size in bytes.
    pub fn size(&self) -> Outcome<u64> {
        Ok(self.attributes()?.size)
    }

    /// Cuts the file off, or fills it up with zeros, to `size` bytes.
    pub fn set_len(&mut self, size: u64, clock: &Clock) -> Outcome {
        match self {
            Self::Host(file) => file.set_len(size),
            Self::Disk(file) => Ok(file.disk().set_len(file.ino, size, clock.realtime())?),
        }
    }

    /// Makes sure that a range has room on the disk, growing the file to its end.
    pub fn allocate(&mut self, offset: u64, len: u64, clock: &Clock) -> Outcome {
        match self {
            Self::Host(file) => file.allocate(offset, len),
            Self::Disk(file) => Ok(file.disk().allocate(file.ino, offset, len, clock.realtime())?),
        }
    }

    /// Advises how a range will be used.
    pub fn advise(&self, offset: u64, len: u64, advice: Advice) -> Outcome {
        match self {
            Self::Host(file) => file.advise(offset, len, advice),
            Self::Disk(_) => Ok(()),
        }
    }

    /// Waits until the data is on its disk; its attributes too, unless told. What is on a private disk is durable
    /// with the next snapshot, as the memory of who wrote it is.
    pub fn sync(&self, data_only: bool) -> Outcome {
        match self {
            Self::Host(HostFile { file, .. }) if data_only => Ok(file.sync_data()?),
            Self::Host(HostFile { file, .. }) => Ok(file.sync_all()?),
            Self::Disk(_) => Ok(()),
        }
    }

    /// Sets the file's times.
    pub fn set_times(&self, times: Times, clock: &Clock) -> Outcome {
        match self {
            Self::Host(HostFile { file, .. }) => Ok(futimens(file, &times.timestamps())?),
            Self::Disk(at) => set_disk_times(at, times, clock),
        }
    }
}

fn set_disk_times(at: &DiskNode, times: Times, clock: &Clock) -> Outcome {
    let now = clock.realtime();
    let (access, modification) = times.on_disk(now);
    Ok(at.disk().set_times(at.ino, access, modification, now)?)
}

/// The place of `path` as seen from `parent`, without `.` and `..`.
///
/// Symbolic links make this a guess, which is checked when a snapshot is taken.
fn join(parent: &Place, path: &str) -> Result<Place, Errno> {
    let mut parts: Vec<&str> = parent.path.split('/').filter(|part| !part.is_empty()).collect();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    let path = parts.join("/");
    if path.len() > PATH_LEN_MAX {
        return Err(Errno::Nametoolong);
    }
    Ok(Place { root: parent.root, path })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_joined_without_dots() {
        let at = |path: &str| Place { root: 3, path: path.to_string() };
        assert_eq!(join(&at(""), "a//b/./c/").unwrap(), at("a/b/c"));
        assert_eq!(join(&at("a/b"), "../c").unwrap(), at("a/c"));
        assert_eq!(join(&at("a"), "../../..").unwrap(), at(""));
        assert_eq!(join(&at(&"x".repeat(PATH_LEN_MAX)), "y").err(), Some(Errno::Nametoolong));
    }
}
