//! Functions about a descriptor itself, not its content.

use rustix::fs::Advice;

use super::{
    Wasi,
    errno::{Errno, Stop, done},
    fdtable::Open,
    host::Times,
    memory,
    types::{self, Filetype, fdflags, rights},
};

impl Wasi {
    /// Advises the host how a range of a file will be used.
    pub fn fd_advise(
        &mut self,
        _mem: &mut [u8],
        fd: u32,
        offset: u64,
        len: u64,
        advice: u32,
    ) -> Result<Errno, Stop> {
        done(|| {
            let advice = match advice {
                0 => Advice::Normal,
                1 => Advice::Sequential,
                2 => Advice::Random,
                3 => Advice::WillNeed,
                4 => Advice::DontNeed,
                5 => Advice::NoReuse,
                _ => return Err(Errno::Inval.into()),
            };
            let open = self.fds.file(fd)?;
            // Linux says so, whatever the advice.
            i64::try_from(len).map_err(|_| Errno::Inval)?;
            open.file.advise(offset, len, advice)
        })
    }

    /// Makes sure that a range of a file has room on the disk, growing the file to its end.
    pub fn fd_allocate(&mut self, _mem: &mut [u8], fd: u32, offset: u64, len: u64) -> Result<Errno, Stop> {
        done(|| {
            let open = self.fds.file_mut(fd)?;
            if open.read_only {
                return Err(Errno::Perm.into());
            }
            if !open.access.writable {
                return Err(Errno::Badf.into());
            }
            open.file.allocate(offset, len, &self.clock)
        })
    }

    /// Closes a descriptor.
    pub fn fd_close(&mut self, _mem: &mut [u8], fd: u32) -> Result<Errno, Stop> {
        done(|| {
            let open = self.fds.remove(fd)?;
            self.note_closed(open);
            Ok(())
        })
    }

    /// Waits until a file's data is on its disk.
    pub fn fd_datasync(&mut self, _mem: &mut [u8], fd: u32) -> Result<Errno, Stop> {
        done(|| self.fds.file(fd)?.file.sync(true))
    }

    /// Waits until a file's data and attributes are on its disk.
    pub fn fd_sync(&mut self, _mem: &mut [u8], fd: u32) -> Result<Errno, Stop> {
        done(|| self.fds.file(fd)?.file.sync(false))
    }

    /// Type, flags and rights of a descriptor.
    pub fn fd_fdstat_get(&mut self, mem: &mut [u8], fd: u32, stat: u32) -> Result<Errno, Stop> {
        done(|| {
            let bytes = match self.fds.get(fd)? {
                Open::Stream(stream) => {
                    use super::stdio::Stream::{Stderr, Stdin, Stdout};
                    let rights = match stream {
                        Stdin => rights::FD_READ,
                        Stdout | Stderr => rights::FD_WRITE,
                    };
                    types::fdstat(stream_type(self.streams.is_terminal(*stream)), 0, rights, rights)
                }
                Open::Directory(dir) if dir.preopen => {
                    let (base, inheriting) = (rights::PREOPEN_BASE, rights::PREOPEN_INHERITING);
                    types::fdstat(Filetype::Directory, 0, base, inheriting)
                }
                Open::Directory(_) => {
                    let rights = rights::ALL
                        & !rights::FD_SEEK
                        & !rights::FD_WRITE
                        & !rights::FD_FILESTAT_SET_SIZE
                        & !rights::PATH_FILESTAT_SET_SIZE;
                    types::fdstat(Filetype::Directory, 0, rights, rights)
                }
                Open::File(file) => {
                    let mut rights = rights::ALL;
                    if !file.access.readable {
                        rights &= !(rights::FD_READ | rights::FD_READDIR);
                    }
                    if !file.access.writable {
                        rights &= !rights::FD_WRITE;
                    }
                    let flags = if file.access.append { fdflags::APPEND } else { 0 }
                        | if file.access.nonblock { fdflags::NONBLOCK } else { 0 };
                    types::fdstat(file.kind, flags, rights, rights)
                }
            };
            Ok(memory::write(mem, stat, &bytes)?)
        })
    }

    /// Sets `APPEND` and `NONBLOCK` of a file; the other flags cannot be changed.
    pub fn fd_fdstat_set_flags(&mut self, _mem: &mut [u8], fd: u32, flags: u32) -> Result<Errno, Stop> {
        done(|| {
            let flags = types::flags(flags, fdflags::ALL)?;
            let access = &mut self.fds.file_mut(fd)?.access;
            if flags & (fdflags::DSYNC | fdflags::RSYNC | fdflags::SYNC) != 0 {
                return Err(Errno::Inval.into());
            }
            access.append = flags & fdflags::APPEND != 0;
            access.nonblock = flags & fdflags::NONBLOCK != 0;
            Ok(())
        })
    }

    /// Rights cannot be given up: `Notsup`, as in the reference.
    pub fn fd_fdstat_set_rights(
        &mut self,
        _mem: &mut [u8],
        fd: u32,
        base: u64,
        inheriting: u64,
    ) -> Result<Errno, Stop> {
        done(|| {
            if (base | inheriting) & !rights::ALL != 0 {
                return Err(Errno::Inval.into());
            }
            match self.fds.get(fd)? {
                Open::Stream(_) => Err(Errno::Badf.into()),
                Open::Directory(_) | Open::File(_) => Err(Errno::Notsup.into()),
            }
        })
    }

    /// Attributes of what is open; of a stream only its type.
    pub fn fd_filestat_get(&mut self, mem: &mut [u8], fd: u32, stat: u32) -> Result<Errno, Stop> {
        done(|| {
            let bytes = match self.fds.get(fd)? {
                Open::Stream(stream) => {
                    types::stream_filestat(stream_type(self.streams.is_terminal(*stream)))
                }
                Open::Directory(open) => open.dir.attributes()?.filestat(),
                Open::File(open) => open.file.attributes()?.filestat(),
            };
            Ok(memory::write(mem, stat, &bytes)?)
        })
    }

    /// Cuts a file off, or fills it up with zeros, to `size` bytes.
    pub fn fd_filestat_set_size(&mut self, _mem: &mut [u8], fd: u32, size: u64) -> Result<Errno, Stop> {
        done(|| {
            let open = self.fds.file_mut(fd)?;
            if open.read_only {
                return Err(Errno::Perm.into());
            }
            if !open.access.writable {
                return Err(Errno::Inval.into());
            }
            open.file.set_len(size, &self.clock)
        })
    }

    /// Sets the times of what is open, in ns since 1970.
    pub fn fd_filestat_set_times(
        &mut self,
        _mem: &mut [u8],
        fd: u32,
        atim: u64,
        mtim: u64,
        flags: u32,
    ) -> Result<Errno, Stop> {
        done(|| {
            let times = Times::new(atim, mtim, flags)?;
            match self.fds.get(fd)? {
                Open::Stream(_) => Err(Errno::Badf.into()),
                Open::Directory(dir) if dir.read_only => Err(Errno::Perm.into()),
                Open::File(file) if file.read_only => Err(Errno::Perm.into()),
                Open::Directory(open) => open.dir.set_times(times, &self.clock),
                Open::File(open) => open.file.set_times(times, &self.clock),
            }
        })
    }

    /// Tells of a preopened directory: its kind, and the length of its name.
    pub fn fd_prestat_get(&mut self, mem: &mut [u8], fd: u32, stat: u32) -> Result<Errno, Stop> {
        done(|| match self.fds.get(fd)? {
            Open::Directory(dir) if dir.preopen => {
                let name = self.name_of(&dir.dir);
                let len = u32::try_from(name.len()).map_err(|_| Errno::Overflow)?;
                Ok(memory::write_u64(mem, stat, u64::from(len) << 32)?)
            }
            _ => Err(Errno::Badf.into()),
        })
    }

    /// Writes the name of a preopened directory, without a NUL.
    pub fn fd_prestat_dir_name(
        &mut self,
        mem: &mut [u8],
        fd: u32,
        path: u32,
        path_len: u32,
    ) -> Result<Errno, Stop> {
        done(|| match self.fds.get(fd)? {
            Open::Directory(dir) if dir.preopen => {
                let name = self.name_of(&dir.dir);
                if name.len() > path_len as usize {
                    return Err(Errno::Nametoolong.into());
                }
                Ok(memory::write(mem, path, name.as_bytes())?)
            }
            _ => Err(Errno::Notdir.into()),
        })
    }

    /// Gives a descriptor the number of another, which is closed.
    pub fn fd_renumber(&mut self, _mem: &mut [u8], from: u32, to: u32) -> Result<Errno, Stop> {
        done(|| {
            if let Some(replaced) = self.fds.renumber(from, to)? {
                self.note_closed(replaced);
            }
            Ok(())
        })
    }

    fn note_closed(&mut self, open: Open) {
        if let Open::File(file) = open {
            self.appended.closed(&file);
            self.unsynced.closed(file);
        }
    }

    /// Moves a file's offset; writes the new one.
    pub fn fd_seek(
        &mut self,
        mem: &mut [u8],
        fd: u32,
        offset: i64,
        whence: u32,
        position: u32,
    ) -> Result<Errno, Stop> {
        done(|| {
            memory::check(mem, position, 1, 8)?;
            let open = self.fds.seekable(fd)?;
            let base = match whence {
                0 => 0,
                1 => open.position,
                2 => open.file.size()?,
                _ => return Err(Errno::Inval.into()),
            };
            open.position = base.checked_add_signed(offset).ok_or(Errno::Inval)?;
            Ok(memory::write_u64(mem, position, open.position)?)
        })
    }

    /// Writes a file's offset.
    pub fn fd_tell(&mut self, mem: &mut [u8], fd: u32, position: u32) -> Result<Errno, Stop> {
        done(|| Ok(memory::write_u64(mem, position, self.fds.seekable(fd)?.position)?))
    }
}

/// What the guest is told that a stream is.
fn stream_type(terminal: bool) -> Filetype {
    if terminal { Filetype::CharacterDevice } else { Filetype::Unknown }
}
