//! Reading and writing: straight between the guest's memory and the host, without a copy.

use std::{
    fs::File,
    io::{IoSlice, IoSliceMut},
};

use rustix::io::{pread, preadv, pwrite, pwritev, retry_on_intr};

use super::{
    Wasi,
    errno::{Errno, Outcome, Stop, done},
    fdtable::{Open, OpenFile},
    host,
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
                    let (n, end) = write_at(open, mem, &buffers, open.position)?;
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
                Open::File(open) => write_at(open, mem, &buffers, offset)?.0,
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
    let file = &open.file;
    if let [first, second] = *buffers.list()
        && let Some((first, second)) = memory::two_mut(mem, first, second)
    {
        let mut slices = [IoSliceMut::new(first), IoSliceMut::new(second)];
        return Ok(retry_on_intr(|| preadv(file, &mut slices, offset))? as u32);
    }
    let mut total = 0u32;
    for (at, len) in buffers.list() {
        let Some(end) = total.checked_add(*len) else { break };
        let from = offset.saturating_add(u64::from(total));
        let buffer = memory::bytes_mut(mem, *at, *len)?;
        match retry_on_intr(|| pread(file, &mut *buffer, from)) {
            Ok(n) => total += n as u32,
            // What was read before the error counts; the next call meets the error again.
            Err(_) if total > 0 => break,
            Err(e) => return Err(e.into()),
        }
        if total < end {
            break;
        }
    }
    Ok(total)
}

/// Writes the buffers at `offset`, or at the end for a file that is appended to; gives the number of
/// bytes, and the offset after them.
fn write_at(open: &mut OpenFile, mem: &[u8], buffers: &Buffers, offset: u64) -> Outcome<(u32, u64)> {
    if !open.access.append {
        check_offset(offset)?;
    }
    if !open.access.writable {
        return Err(Errno::Badf.into());
    }
    if open.written.end.is_none() {
        open.written.end = Some(host::attributes(&open.file)?.size);
    }
    let mut slices = [IoSlice::new(&[]); BUFFERS_MAX];
    for (slice, (at, len)) in slices.iter_mut().zip(buffers.list()) {
        *slice = IoSlice::new(memory::bytes(mem, *at, *len)?);
    }
    let slices = &slices[..buffers.list().len()];
    if open.access.append {
        let n = append(&open.file, slices)? as u32;
        let end = host::attributes(&open.file)?.size;
        open.written.note(end.saturating_sub(u64::from(n)), u64::from(n));
        return Ok((n, end));
    }
    let n = match slices {
        [one] => retry_on_intr(|| pwrite(&open.file, one, offset))?,
        many => retry_on_intr(|| pwritev(&open.file, many, offset))?,
    };
    open.written.note(offset, n as u64);
    Ok((n as u32, offset.saturating_add(n as u64)))
}

#[cfg(target_os = "linux")]
fn append(file: &File, slices: &[IoSlice<'_>]) -> rustix::io::Result<usize> {
    use rustix::io::{ReadWriteFlags, pwritev2};
    retry_on_intr(|| pwritev2(file, slices, 0, ReadWriteFlags::APPEND))
}

/// Without `RWF_APPEND`: other processes could write in between.
#[cfg(not(target_os = "linux"))]
fn append(file: &File, slices: &[IoSlice<'_>]) -> rustix::io::Result<usize> {
    let end = host::attributes(file)?.size;
    retry_on_intr(|| pwritev(file, slices, end))
}
