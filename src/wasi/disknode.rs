//! An open file or directory of a private disk.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::{
    clock::Clock,
    disk::{Disk, Ino},
    errno::{Errno, Outcome},
    host::{Time, Times},
    memory::{self, Buffers},
};

/// A private disk that several descriptors have open.
pub(super) type SharedDisk = Arc<Mutex<Disk>>;

/// The disk, for one operation.
pub(super) fn lock(disk: &SharedDisk) -> MutexGuard<'_, Disk> {
    disk.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Something open on a private disk; while it is, it stays there.
#[derive(Debug)]
pub(super) struct DiskNode {
    disk: SharedDisk,
    /// Number of the disk.
    pub index: u32,
    pub ino: Ino,
}

impl DiskNode {
    /// Takes over what was just opened.
    pub fn opened(disk: &SharedDisk, index: u32, ino: Ino) -> Result<Self, Errno> {
        lock(disk).retain(ino)?;
        Ok(Self { disk: disk.clone(), index, ino })
    }

    /// Another one on the same disk.
    pub fn sibling(&self, ino: Ino) -> Result<Self, Errno> {
        Self::opened(&self.disk, self.index, ino)
    }

    /// The disk, for one operation.
    pub fn disk(&self) -> MutexGuard<'_, Disk> {
        lock(&self.disk)
    }

    /// On the same disk as another.
    pub fn shares_disk(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.disk, &other.disk)
    }

    /// Reads into the buffers, from `offset` on, until they are full or the file ends.
    pub fn read(&self, mem: &mut [u8], buffers: &Buffers, offset: u64) -> Outcome<u32> {
        let disk = self.disk();
        let mut total = 0u32;
        for (at, len) in buffers.list() {
            // As much as the result can say.
            let Some(end) = total.checked_add(*len) else { break };
            let from = offset.saturating_add(u64::from(total));
            total += disk.read_at(self.ino, memory::bytes_mut(mem, *at, *len)?, from)? as u32;
            if total < end {
                break;
            }
        }
        Ok(total)
    }

    /// Writes the buffers at `offset`, or at the file's end; gives the number of bytes, and the offset after
    /// them.
    pub fn write(
        &self,
        mem: &[u8],
        buffers: &Buffers,
        offset: u64,
        at_end: bool,
        clock: &Clock,
    ) -> Outcome<(u32, u64)> {
        let (mut disk, now) = (self.disk(), clock.realtime());
        let offset = if at_end { disk.size(self.ino)? } else { offset };
        let mut total = 0u32;
        for (at, len) in buffers.list() {
            let Some(end) = total.checked_add(*len) else { break };
            let to = offset.saturating_add(u64::from(total));
            match disk.write_at(self.ino, memory::bytes(mem, *at, *len)?, to, now) {
                Ok(n) => total += n as u32,
                // What was written before the error counts; the next call meets the error again.
                Err(_) if total > 0 => break,
                Err(errno) => return Err(errno.into()),
            }
            if total < end {
                break;
            }
        }
        Ok((total, offset.saturating_add(u64::from(total))))
    }
}

impl Drop for DiskNode {
    fn drop(&mut self) {
        self.disk().release(self.ino);
    }
}

impl Times {
    /// Both times in ns since 1970, on a private disk.
    pub fn on_disk(self, now: u64) -> (Option<u64>, Option<u64>) {
        let nanos = |time: Time| match time {
            Time::Now => now,
            Time::At(nanos) => nanos,
        };
        (self.access.map(nanos), self.modification.map(nanos))
    }
}
