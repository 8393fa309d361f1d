//! The guest's memory: every pointer is checked before anything is read or written, and what it points to is there.

use super::errno::Errno;
use super::present::is_present;

/// The `len` bytes at `ptr`.
///
/// # Errors
/// `Fault` if they are not all inside the memory, or cannot be had: who calls functions finds out about that.
pub(super) fn bytes(mem: &[u8], ptr: u32, len: u32) -> Result<&[u8], Errno> {
    let start = ptr as usize;
    let end = start.checked_add(len as usize).ok_or(Errno::Fault)?;
    mem.get(start..end).filter(|bytes| is_present(bytes)).ok_or(Errno::Fault)
}

/// The `len` bytes at `ptr`, to be written.
pub(super) fn bytes_mut(mem: &mut [u8], ptr: u32, len: u32) -> Result<&mut [u8], Errno> {
    let start = ptr as usize;
    let end = start.checked_add(len as usize).ok_or(Errno::Fault)?;
    mem.get_mut(start..end).filter(|bytes| is_present(bytes)).ok_or(Errno::Fault)
}

/// Checks that `count` records of `size` bytes fit at `ptr`; gives their length in bytes.
pub(super) fn check(mem: &[u8], ptr: u32, count: u32, size: u32) -> Result<u32, Errno> {
    let len = count.checked_mul(size).ok_or(Errno::Fault)?;
    bytes(mem, ptr, len)?;
    Ok(len)
}

/// Writes `data` at `ptr`.
pub(super) fn write(mem: &mut [u8], ptr: u32, data: &[u8]) -> Result<(), Errno> {
    let len = u32::try_from(data.len()).map_err(|_| Errno::Overflow)?;
    bytes_mut(mem, ptr, len)?.copy_from_slice(data);
    Ok(())
}

/// Writes a `u32` at `ptr`.
pub(super) fn write_u32(mem: &mut [u8], ptr: u32, value: u32) -> Result<(), Errno> {
    write(mem, ptr, &value.to_le_bytes())
}

/// Writes a `u64` at `ptr`.
pub(super) fn write_u64(mem: &mut [u8], ptr: u32, value: u64) -> Result<(), Errno> {
    write(mem, ptr, &value.to_le_bytes())
}

/// The `u16` at byte `at` of a record whose length the caller has checked.
pub(super) fn field_u16(record: &[u8], at: usize) -> u16 {
    record[at..at + 2].iter().rev().fold(0, |n, byte| n << 8 | u16::from(*byte))
}

/// The `u32` at byte `at` of a record whose length the caller has checked.
pub(super) fn field_u32(record: &[u8], at: usize) -> u32 {
    record[at..at + 4].iter().rev().fold(0, |n, byte| n << 8 | u32::from(*byte))
}

/// The `u64` at byte `at` of a record whose length the caller has checked.
pub(super) fn field_u64(record: &[u8], at: usize) -> u64 {
    u64::from(field_u32(record, at)) | u64::from(field_u32(record, at + 4)) << 32
}

/// The path at `ptr`. Who looks it up says whether it is too long, after what else there is to say.
///
/// # Errors
/// `Fault`, `Ilseq` if it is not UTF-8.
pub(super) fn path(mem: &[u8], ptr: u32, len: u32) -> Result<&str, Errno> {
    std::str::from_utf8(bytes(mem, ptr, len)?).map_err(|_| Errno::Ilseq)
}

/// Most buffers that one call uses; a call with more of them is served in part.
pub(super) const BUFFERS_MAX: usize = 16;

/// The buffers of an `iovec` array that are not empty, checked to be inside the memory.
#[derive(Debug)]
pub(super) struct Buffers {
    list: [(u32, u32); BUFFERS_MAX],
    len: usize,
}

impl Buffers {
    /// Reads the array of `count` entries at `ptr`.
    ///
    /// # Errors
    /// `Fault` if the array, or a buffer that would be used, is not inside the memory.
    pub fn read(mem: &[u8], ptr: u32, count: u32) -> Result<Self, Errno> {
        let array = bytes(mem, ptr, check(mem, ptr, count, 8)?)?;
        let mut found = Self { list: [(0, 0); BUFFERS_MAX], len: 0 };
        for entry in array.chunks_exact(8) {
            let (at, len) = (field_u32(entry, 0), field_u32(entry, 4));
            bytes(mem, at, len)?;
            if len == 0 {
                continue;
            }
            if found.len == BUFFERS_MAX {
                break;
            }
            found.list[found.len] = (at, len);
            found.len += 1;
        }
        Ok(found)
    }

    /// Pointers and lengths.
    pub fn list(&self) -> &[(u32, u32)] {
        &self.list[..self.len]
    }
}

/// The two buffers as slices, if they do not overlap.
pub(super) fn two_mut(
    mem: &mut [u8],
    first: (u32, u32),
    second: (u32, u32),
) -> Option<(&mut [u8], &mut [u8])> {
    let range = |(at, len): (u32, u32)| at as usize..at as usize + len as usize;
    let [first, second] = mem.get_disjoint_mut([range(first), range(second)]).ok()?;
    Some((first, second))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pointers_out_of_bounds_fault() {
        let mut mem = [0; 16];
        assert_eq!(bytes(&mem, 8, 8).map(<[u8]>::len), Ok(8));
        assert_eq!(bytes(&mem, 8, 9), Err(Errno::Fault));
        assert_eq!(bytes(&mem, u32::MAX, u32::MAX), Err(Errno::Fault));
        assert_eq!(check(&mem, 0, u32::MAX, 48), Err(Errno::Fault));
        assert_eq!(write_u64(&mut mem, 9, 1), Err(Errno::Fault));
        assert_eq!(Buffers::read(&mem, 0, u32::MAX).err(), Some(Errno::Fault));
    }

    #[test]
    fn buffers_skip_empty_ones_and_are_bounded() {
        let mut mem = vec![0; 1024];
        for n in 0..100u32 {
            write_u32(&mut mem, n * 8, n).unwrap();
            write_u32(&mut mem, n * 8 + 4, n % 2).unwrap();
        }
        let found = Buffers::read(&mem, 0, 100).unwrap();
        assert_eq!(found.list().len(), BUFFERS_MAX);
        assert_eq!(found.list()[..2], [(1, 1), (3, 1)]);
        write_u32(&mut mem, 4, 1025).unwrap();
        assert_eq!(Buffers::read(&mem, 0, 1).err(), Some(Errno::Fault));
    }

    #[test]
    fn overlapping_buffers_are_not_split() {
        let mut mem = [0; 16];
        assert!(two_mut(&mut mem, (0, 4), (3, 4)).is_none());
        assert!(two_mut(&mut mem, (8, 4), (0, 8)).is_some());
    }
}
