//! An open file of the host: reading and writing it straight between the guest's memory and the host,
//! without a copy, and what has to be known of it to find and mend it at a resume.

use std::{
    fs::File,
    io::{IoSlice, IoSliceMut},
    num::NonZeroU64,
};

use rustix::{
    fs::{Advice, FallocateFlags, fadvise, fallocate},
    io::{pread, preadv, pwrite, pwritev, retry_on_intr},
};

use super::{
    errno::Outcome,
    host,
    memory::{self, BUFFERS_MAX, Buffers},
    state::{Place, Written},
};

/// An open file of the host. Its offset is ours, the host's is never used.
#[derive(Debug)]
pub(super) struct HostFile {
    pub file: File,
    pub place: Place,
    pub written: Written,
}

impl HostFile {
    /// Reads into the buffers, from `offset` on, until they are full or a read falls short.
    pub fn read(&self, mem: &mut [u8], buffers: &Buffers, offset: u64) -> Outcome<u32> {
        let file = &self.file;
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
    pub fn write(&mut self, mem: &[u8], buffers: &Buffers, offset: u64, at_end: bool) -> Outcome<(u32, u64)> {
        if self.written.end.is_none() {
            self.written.end = Some(host::attributes(&self.file)?.size);
        }
        let mut slices = [IoSlice::new(&[]); BUFFERS_MAX];
        for (slice, (at, len)) in slices.iter_mut().zip(buffers.list()) {
            *slice = IoSlice::new(memory::bytes(mem, *at, *len)?);
        }
        let slices = &slices[..buffers.list().len()];
        if at_end {
            let n = append(&self.file, slices)? as u32;
            let end = host::attributes(&self.file)?.size;
            self.written.note(end.saturating_sub(u64::from(n)), u64::from(n));
            return Ok((n, end));
        }
        let n = match slices {
            [one] => retry_on_intr(|| pwrite(&self.file, one, offset))?,
            many => retry_on_intr(|| pwritev(&self.file, many, offset))?,
        };
        self.written.note(offset, n as u64);
        Ok((n as u32, offset.saturating_add(n as u64)))
    }

    /// Cuts the file off, or fills it up with zeros, to `size` bytes.
    pub fn set_len(&mut self, size: u64) -> Outcome {
        self.file.set_len(size)?;
        self.written.note_size(size);
        Ok(())
    }

    /// Makes sure that a range has room on the disk, growing the file to its end.
    pub fn allocate(&mut self, offset: u64, len: u64) -> Outcome {
        fallocate(&self.file, FallocateFlags::empty(), offset, len)?;
        self.written.note_size(host::attributes(&self.file)?.size);
        Ok(())
    }

    /// Advises the host how a range will be used.
    pub fn advise(&self, offset: u64, len: u64, advice: Advice) -> Outcome {
        Ok(fadvise(&self.file, offset, NonZeroU64::new(len), advice)?)
    }
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
