//! Reading and writing.

use super::{
    Wasi,
    clock::Clock,
    errno::{Errno, Outcome, Stop, done},
    fdtable::{Open, OpenFile},
    memory::{self, BUFFERS_MAX, Buffers},
    stdio::Stream,
};

impl Wasi {
    /// Reads at a file's offset, or from standard input.
    pub fn fd_read(
        &mut self,
        mem: &mut [u8],
        fd: u32,
        iovs: u32,
        iovs_len: u32,
        nread: u32,
    ) -> Result<Errno, Stop> {
        done(|| {
            memory::check(mem, nread, 1, 4)?;
            let buffers = Buffers::read(mem, iovs, iovs_len)?;
            let n = match self.fds.get_mut(fd)? {
                Open::File(open) => {
                    let n = read_at(open, mem, &buffers, open.position)?;
                    open.position += u64::from(n);
                    n
                }
                Open::Stream(Stream::Stdin) => match buffers.list() {
                    [] => 0,
                    // One buffer only: a second read could wait for ever with the first one's bytes.
                    [(at, len), ..] => self.streams.read(memory::bytes_mut(mem, *at, *len)?)?,
                },
                Open::Stream(_) | Open::Directory(_) => return Err(Errno::Badf.into()),
            };
            Ok(memory::write_u32(mem, nread, n)?)
        })
    }

    /// Reads a file at `offset`.
    pub fn fd_pread(
        &mut self,
        mem: &mut [u8],
        fd: u32,
        iovs: u32,
        iovs_len: u32,
        offset: u64,
        nread: u32,
    ) -> Result<Errno, Stop> {
        done(|| {
            memory::check(mem, nread, 1, 4)?;
            let buffers = Buffers::read(mem, iovs, iovs_len)?;
            let n = match self.fds.get(fd)? {
                Open::File(open) => read_at(open, mem, &buffers, offset)?,
                Open::Stream(Stream::Stdin) => return Err(Errno::Spipe.into()),
                Open::Stream(_) | Open::Directory(_) => return Err(Errno::Badf.into()),
            };
            Ok(memory::write_u32(mem, nread, n)?)
        })
    }

    /// Writes at a file's offset, at its end if it was opened for appending, or to standard output or
    /// error.
    pub fn fd_write(
        &mut self,
        mem: &mut [u8],
        fd: u32,
        iovs: u32,
        iovs_len: u32,
        nwritten: u32,
    ) -> Result<Errno, Stop> {
        done(|| {
            memory::check(mem, nwritten, 1, 4)?;
            let buffers = Buffers::read(mem, iovs, iovs_len)?;
            let n = match self.fds.get_mut(fd)? {
                Open::File(open) => {
                    let (n, end) = write_at(open, mem, &buffers, open.position, &self.clock)?;
                    open.position = end;
                    n
                }
                Open::Stream(Stream::Stdin) | Open::Directory(_) => return Err(Errno::Badf.into()),
                Open::Stream(stream) => {
                    let mut slices = [[].as_slice(); BUFFERS_MAX];
                    for (slice, (at, len)) in slices.iter_mut().zip(buffers.list()) {
                        *slice = memory::bytes(mem, *at, *len)?;
                    }
                    self.streams.write(*stream, &slices[..buffers.list().len()])?
                }
            };
            Ok(memory::write_u32(mem, nwritten, n)?)
        })
    }

    /// Writes a file at `offset`; at its end if it was opened for appending, as Linux does.
    pub fn fd_pwrite(
        &mut self,
        mem: &mut [u8],
        fd: u32,
        iovs: u32,
        iovs_len: u32,
        offset: u64,
        nwritten: u32,
    ) -> Result<Errno, Stop> {
        done(|| {
            memory::check(mem, nwritten, 1, 4)?;
            let buffers = Buffers::read(mem, iovs, iovs_len)?;
            let n = match self.fds.get_mut(fd)? {
                Open::File(open) => write_at(open, mem, &buffers, offset, &self.clock)?.0,
                Open::Stream(Stream::Stdin) | Open::Directory(_) => return Err(Errno::Badf.into()),
                Open::Stream(_) => return Err(Errno::Spipe.into()),
            };
            Ok(memory::write_u32(mem, nwritten, n)?)
        })
    }
}

/// `Inval` for an offset that no file has. Linux says so before it says anything else.
fn check_offset(offset: u64) -> Result<(), Errno> {
    i64::try_from(offset).map(drop).map_err(|_| Errno::Inval)
}

/// Reads into the buffers, from `offset` on, until they are full or a read falls short.
fn read_at(open: &OpenFile, mem: &mut [u8], buffers: &Buffers, offset: u64) -> Outcome<u32> {
    check_offset(offset)?;
    if !open.access.readable {
        return Err(Errno::Badf.into());
    }
    open.file.read(mem, buffers, offset)
}

/// Writes the buffers at `offset`, or at the end for a file that is appended to; gives the number of
/// bytes, and the offset after them.
fn write_at(
    open: &mut OpenFile,
    mem: &[u8],
    buffers: &Buffers,
    offset: u64,
    clock: &Clock,
) -> Outcome<(u32, u64)> {
    if !open.access.append {
        check_offset(offset)?;
    }
    if !open.access.writable {
        return Err(Errno::Badf.into());
    }
    open.file.write(mem, buffers, offset, open.access.append, clock)
}
