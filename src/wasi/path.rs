//! Functions about paths. Every path starts at an open directory and stays inside it.

use super::{
    Wasi,
    errno::{Errno, Outcome, Stop, done},
    fdtable::{Open, OpenDirectory, OpenFile},
    handle::{FileHandle, Opened},
    host::{How, Times},
    memory,
    state::Access,
    types::{self, SYMLINK_FOLLOW, fdflags, oflags, rights},
};

impl Wasi {
    /// Makes a directory.
    pub fn path_create_directory(
        &mut self,
        mem: &mut [u8],
        fd: u32,
        path: u32,
        path_len: u32,
    ) -> Result<Errno, Stop> {
        done(|| {
            let open = self.fds.directory(fd)?;
            let path = memory::path(mem, path, path_len)?;
            let dir = &writable(open)?.dir;
            dir.create_dir(path, &self.clock)?;
            self.unsynced.renamed(dir, path);
            Ok(())
        })
    }

    /// Attributes of what is at a path.
    pub fn path_filestat_get(
        &mut self,
        mem: &mut [u8],
        fd: u32,
        lookup: u32,
        path: u32,
        path_len: u32,
        stat: u32,
    ) -> Result<Errno, Stop> {
        done(|| {
            let follow = follows(lookup)?;
            let open = self.fds.directory(fd)?;
            let found = open.dir.attributes_at(memory::path(mem, path, path_len)?, follow)?;
            Ok(memory::write(mem, stat, &found.filestat())?)
        })
    }

    /// Sets the times of what is at a path, in ns since 1970.
    #[allow(clippy::too_many_arguments)] // The signature is the standard's.
    pub fn path_filestat_set_times(
        &mut self,
        mem: &mut [u8],
        fd: u32,
        lookup: u32,
        path: u32,
        path_len: u32,
        atim: u64,
        mtim: u64,
        flags: u32,
    ) -> Result<Errno, Stop> {
        done(|| {
            let follow = follows(lookup)?;
            let times = Times::new(atim, mtim, flags)?;
            let open = self.fds.directory(fd)?;
            let path = memory::path(mem, path, path_len)?;
            writable(open)?.dir.set_times_at(path, times, follow, &self.clock)
        })
    }

    /// Makes a hard link.
    #[allow(clippy::too_many_arguments)] // The signature is the standard's.
    pub fn path_link(
        &mut self,
        mem: &mut [u8],
        old_fd: u32,
        lookup: u32,
        old_path: u32,
        old_path_len: u32,
        new_fd: u32,
        new_path: u32,
        new_path_len: u32,
    ) -> Result<Errno, Stop> {
        done(|| {
            let follow = follows(lookup)?;
            let (old, new) = (self.fds.directory(old_fd)?, self.fds.directory(new_fd)?);
            let old_path = memory::path(mem, old_path, old_path_len)?;
            let new_path = memory::path(mem, new_path, new_path_len)?;
            let (old, new) = (writable(old)?, writable(new)?);
            if follow {
                return Err(Errno::Inval.into());
            }
            old.dir.hard_link(old_path, &new.dir, new_path, &self.clock)?;
            self.unsynced.renamed(&new.dir, new_path);
            Ok(())
        })
    }

    /// Opens a file or directory; writes its descriptor.
    #[allow(clippy::too_many_arguments)] // The signature is the standard's.
    pub fn path_open(
        &mut self,
        mem: &mut [u8],
        fd: u32,
        lookup: u32,
        path: u32,
        path_len: u32,
        oflags: u32,
        base: u64,
        inheriting: u64,
        fdflags: u32,
        opened: u32,
    ) -> Result<Errno, Stop> {
        done(|| {
            let request = OpenRequest::new(lookup, oflags, base, inheriting, fdflags)?;
            memory::check(mem, opened, 1, 4)?;
            let path = memory::path(mem, path, path_len)?;
            let found = self.open_at(fd, path, &request)?;
            if let Open::File(OpenFile { file: FileHandle::Host(file), read_only: true, .. }) = &found {
                self.inputs.opened(&self.roots, &file.place, &file.file)?;
            }
            if let Open::File(OpenFile { file: FileHandle::Host(file), .. }) = &found
                && request.how.create
                && file.written.end.is_some()
            {
                // It was empty, so it may be new.
                self.unsynced.created(&self.fds.directory(fd)?.dir, path, &file.file);
            }
            Ok(memory::write_u32(mem, opened, self.fds.push(found)?)?)
        })
    }

    fn open_at(&self, fd: u32, path: &str, request: &OpenRequest) -> Outcome<Open> {
        let parent = match self.fds.get(fd)? {
            Open::Directory(dir) => dir,
            Open::File(_) => return Err(Errno::Notdir.into()),
            Open::Stream(_) => return Err(Errno::Badf.into()),
        };
        let how = request.how;
        if request.synchronous {
            return Err(Errno::Notsup.into());
        }
        if request.directory && (how.create || how.exclusive || how.truncate) {
            return Err(Errno::Inval.into());
        }
        if parent.read_only && how.write {
            return Err(Errno::Perm.into());
        }
        self.fds.check_room()?;
        match parent.dir.open(path, how, &self.clock)? {
            Opened::Directory(dir) => Ok(Open::Directory(OpenDirectory {
                dir,
                preopen: false,
                read_only: parent.read_only,
                listing: None,
            })),
            Opened::File { .. } if request.directory => Err(Errno::Notdir.into()),
            Opened::File { file, found } => Ok(Open::File(OpenFile {
                file,
                kind: found.kind,
                read_only: parent.read_only,
                access: request.access,
                position: 0,
            })),
        }
    }

    /// Reads a symbolic link; one that leads out of its directory is `Perm`. Gives the number of bytes
    /// written; a longer link is cut off.
    #[allow(clippy::too_many_arguments)] // The signature is the standard's.
    pub fn path_readlink(
        &mut self,
        mem: &mut [u8],
        fd: u32,
        path: u32,
        path_len: u32,
        buf: u32,
        buf_len: u32,
        used: u32,
    ) -> Result<Errno, Stop> {
        done(|| {
            let open = self.fds.directory(fd)?;
            let link = open.dir.read_link(memory::path(mem, path, path_len)?)?;
            let n = link.len().min(buf_len as usize);
            memory::write(mem, buf, &link.as_bytes()[..n])?;
            Ok(memory::write_u32(mem, used, n as u32)?)
        })
    }

    /// Removes an empty directory.
    pub fn path_remove_directory(
        &mut self,
        mem: &mut [u8],
        fd: u32,
        path: u32,
        path_len: u32,
    ) -> Result<Errno, Stop> {
        done(|| {
            let open = self.fds.directory(fd)?;
            let path = memory::path(mem, path, path_len)?;
            let dir = &writable(open)?.dir;
            self.unsynced.unlinking(dir, path, || dir.remove_dir(path, &self.clock))
        })
    }

    /// Renames a file or directory, replacing what has the new name.
    #[allow(clippy::too_many_arguments)] // The signature is the standard's.
    pub fn path_rename(
        &mut self,
        mem: &mut [u8],
        old_fd: u32,
        old_path: u32,
        old_path_len: u32,
        new_fd: u32,
        new_path: u32,
        new_path_len: u32,
    ) -> Result<Errno, Stop> {
        done(|| {
            let (old, new) = (self.fds.directory(old_fd)?, self.fds.directory(new_fd)?);
            let old_path = memory::path(mem, old_path, old_path_len)?;
            let new_path = memory::path(mem, new_path, new_path_len)?;
            let (old, new) = (writable(old)?, writable(new)?);
            // A slash at the end of either name asks for a directory; `cap-std` looks at the old one only.
            let old_path = match new_path.ends_with('/') && !old_path.is_empty() {
                true => &format!("{old_path}/"),
                false => old_path,
            };
            let rename = || old.dir.rename(old_path, &new.dir, new_path, &self.clock);
            self.unsynced.unlinking(&new.dir, new_path, rename)?;
            self.unsynced.renamed(&old.dir, old_path);
            Ok(())
        })
    }

    /// Makes a symbolic link with this target; an absolute one is `Perm`.
    pub fn path_symlink(
        &mut self,
        mem: &mut [u8],
        target: u32,
        target_len: u32,
        fd: u32,
        path: u32,
        path_len: u32,
    ) -> Result<Errno, Stop> {
        done(|| {
            let open = self.fds.directory(fd)?;
            let target = memory::path(mem, target, target_len)?;
            let path = memory::path(mem, path, path_len)?;
            let dir = &writable(open)?.dir;
            dir.symlink(target, path, &self.clock)?;
            self.unsynced.renamed(dir, path);
            Ok(())
        })
    }

    /// Removes a file or symbolic link.
    pub fn path_unlink_file(
        &mut self,
        mem: &mut [u8],
        fd: u32,
        path: u32,
        path_len: u32,
    ) -> Result<Errno, Stop> {
        done(|| {
            let open = self.fds.directory(fd)?;
            let path = memory::path(mem, path, path_len)?;
            let dir = &writable(open)?.dir;
            self.unsynced.unlinking(dir, path, || dir.unlink(path, &self.clock))
        })
    }
}

/// What `path_open` was asked for.
struct OpenRequest {
    how: How,
    access: Access,
    directory: bool,
    synchronous: bool,
}

impl OpenRequest {
    /// Reads the flags as the reference does: a file that is to be made or cut off is open for writing
    /// whatever the rights say, and one that is not for writing is open for reading.
    fn new(lookup: u32, flags: u32, base: u64, inheriting: u64, fd_flags: u32) -> Result<Self, Errno> {
        let flags = types::flags(flags, oflags::ALL)?;
        let fd_flags = types::flags(fd_flags, fdflags::ALL)?;
        if (base | inheriting) & !rights::ALL != 0 {
            return Err(Errno::Inval);
        }
        let (create, truncate) = (flags & oflags::CREAT != 0, flags & oflags::TRUNC != 0);
        let readable = base & (rights::FD_READ | rights::FD_WRITE) != rights::FD_WRITE;
        let writable = base & rights::FD_WRITE != 0 || create || truncate;
        Ok(Self {
            how: How {
                read: readable,
                write: writable,
                create,
                exclusive: flags & oflags::EXCL != 0,
                truncate,
                follow: follows(lookup)?,
            },
            access: Access {
                readable,
                writable,
                append: fd_flags & fdflags::APPEND != 0,
                nonblock: fd_flags & fdflags::NONBLOCK != 0,
            },
            directory: flags & oflags::DIRECTORY != 0,
            synchronous: fd_flags & (fdflags::SYNC | fdflags::DSYNC | fdflags::RSYNC) != 0,
        })
    }
}

/// Whether the lookup flags ask to follow a symbolic link at the end of the path.
fn follows(lookup: u32) -> Result<bool, Errno> {
    Ok(types::flags(lookup, SYMLINK_FOLLOW)? != 0)
}

/// The directory, if something in it may be changed.
fn writable(open: &OpenDirectory) -> Result<&OpenDirectory, Errno> {
    if open.read_only { Err(Errno::Perm) } else { Ok(open) }
}
