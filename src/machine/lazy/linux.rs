//! What bringing pages needs of Linux: a mapping without pages, and `userfaultfd` for those that are missing.
//!
//! The structures and numbers are those of `linux/userfaultfd.h`, which the kernel never changes.

#![allow(unsafe_code)]

use std::io;
use std::ops::Range;
use std::os::fd::{AsFd, AsRawFd};

use crate::machine::dirty::linux::{Uffd, check, page_size, read_write};

/// `UFFD_FEATURE_THREAD_ID`: a fault says whose it is.
pub(super) const THREAD_ID: u64 = 1 << 8;
/// `UFFDIO_REGISTER_MODE_MISSING`: who touches a page that is not there waits until it is brought.
pub(super) const MODE_MISSING: u64 = 1;
/// `UFFDIO_COPY_MODE_WP`: the page comes write-protected.
const COPY_WP: u64 = 1 << 1;
/// `UFFD_EVENT_PAGEFAULT`
const PAGE_FAULT: u8 = 0x12;

/// `struct uffdio_copy`
#[repr(C)]
struct Copy {
    dst: u64,
    src: u64,
    len: u64,
    mode: u64,
    copied: i64,
}

/// `struct uffdio_range`
#[repr(C)]
struct Span {
    start: u64,
    len: u64,
}

/// `struct uffd_msg` of a page fault
#[repr(C)]
#[derive(Default)]
struct Message {
    event: u8,
    reserved: [u8; 7],
    flags: u64,
    address: u64,
    thread: u32,
    rest: u32,
}

/// A thread that waits for a page.
#[derive(Debug, Clone, Copy)]
pub(super) struct Fault {
    pub addr: u64,
    /// Its number in the system.
    pub thread: u32,
}

/// `_IOR(group, number, T)`
const fn read_only<T>(group: u8, number: u8) -> u32 {
    2 << 30 | (size_of::<T>() as u32) << 16 | (group as u32) << 8 | number as u32
}

/// Replaces the pages of these bytes, which begin and end with a page, by none: they read as zeros.
pub(super) fn map_fresh(bytes: &mut [u8]) -> io::Result<()> {
    let page = page_size();
    if bytes.is_empty() {
        return Ok(());
    }
    if !(bytes.as_ptr() as u64).is_multiple_of(page) || !(bytes.len() as u64).is_multiple_of(page) {
        return Err(io::Error::other("the memory does not consist of whole pages"));
    }
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_FIXED | libc::MAP_NORESERVE;
    let protection = libc::PROT_READ | libc::PROT_WRITE;
    // SAFETY: the bytes are borrowed by us alone, so nobody looks at them meanwhile; they can be written to, so they may
    // become zeros; and they are mapped as before, for reading and writing by this process alone. The range has whole
    // pages, so that nothing beside them changes. Whoever owns the range unmaps it by its addresses, as before.
    let done = unsafe { libc::mmap(bytes.as_mut_ptr().cast(), bytes.len(), protection, flags, -1, 0) };
    if done == libc::MAP_FAILED { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Asks for huge pages where these bytes have none yet, or not to make any from now on. What is there stays.
pub(super) fn prefer_huge(bytes: &mut [u8], yes: bool) -> io::Result<()> {
    let page = page_size();
    let start = bytes.as_ptr() as u64;
    let (first, end) = (start.next_multiple_of(page), (start + bytes.len() as u64) / page * page);
    if first >= end {
        return Ok(());
    }
    let at = bytes.as_mut_ptr().wrapping_add((first - start) as usize).cast();
    let advice = if yes { libc::MADV_HUGEPAGE } else { libc::MADV_NOHUGEPAGE };
    // SAFETY: the range lies within `bytes`, which are borrowed by us alone; the advice changes none of them.
    check(unsafe { libc::madvise(at, (end - first) as usize, advice) }.into()).map(drop)
}

/// Takes all access to pages that are not there: who touches them gets a SIGSEGV.
pub(super) fn forbid(range: Range<u64>) -> io::Result<()> {
    let len = (range.end - range.start) as usize;
    let at = std::ptr::with_exposed_provenance_mut(range.start as usize);
    // SAFETY: the call changes no byte. Who uses the pages is stopped by the system instead of by waiting for them,
    // which it does already; no value that was read from them is anywhere, since they never were there.
    check(unsafe { libc::mprotect(at, len, libc::PROT_NONE) }.into()).map(drop)
}

/// Brings pages that are missing, with these bytes, and wakes who waits for them. Gives the number of bytes that were
/// brought: fewer when it meets a page that is there, which is an error at the first one.
pub(super) fn copy(uffd: &Uffd, addr: u64, bytes: &[u8], protect: bool) -> io::Result<usize> {
    let mode = if protect { COPY_WP } else { 0 };
    let mut copy = Copy { dst: addr, src: bytes.as_ptr() as u64, len: bytes.len() as u64, mode, copied: 0 };
    // SAFETY: the descriptor is a userfaultfd, and `copy` the structure that this request reads and writes; `src` and
    // `len` are `bytes`; all are alive and borrowed by nobody else. The kernel writes to no page that is there: to
    // whoever looks at those that are missing, they get these bytes as the first that they ever had.
    let done =
        unsafe { libc::ioctl(uffd.as_fd().as_raw_fd(), read_write::<Copy>(0xAA, 3) as _, &raw mut copy) };
    match check(done.into()) {
        Ok(_) => Ok(bytes.len()),
        Err(_) if copy.copied > 0 => Ok(copy.copied as usize),
        Err(error) => Err(error),
    }
}

/// Wakes who waits for pages of a range: they look again.
pub(super) fn wake(uffd: &Uffd, range: Range<u64>) -> io::Result<()> {
    let mut span = Span { start: range.start, len: range.end - range.start };
    // SAFETY: the descriptor is a userfaultfd, and `span` the structure that this request reads, alive and borrowed by
    // nobody else. No memory but the kernel's is changed.
    let done =
        unsafe { libc::ioctl(uffd.as_fd().as_raw_fd(), read_only::<Span>(0xAA, 2) as _, &raw mut span) };
    check(done.into()).map(drop)
}

/// From here on pages of the range that are missing come by themselves, as zeros; and none is write-protected.
pub(super) fn unregister(uffd: &Uffd, range: Range<u64>) -> io::Result<()> {
    let mut span = Span { start: range.start, len: range.end - range.start };
    // SAFETY: as in `wake`. No page that is there changes; those that are not, the caller wants to be zeros.
    let done =
        unsafe { libc::ioctl(uffd.as_fd().as_raw_fd(), read_only::<Span>(0xAA, 1) as _, &raw mut span) };
    check(done.into()).map(drop)
}

/// The next fault that nobody has been told of, if there is one.
pub(super) fn next_fault(uffd: &Uffd) -> io::Result<Option<Fault>> {
    loop {
        let mut message = Message::default();
        // SAFETY: the call writes at most the size of `message`, whose fields are integers, any of whose values are good;
        // it is alive and borrowed by nobody else.
        let read =
            unsafe { libc::read(uffd.as_fd().as_raw_fd(), (&raw mut message).cast(), size_of::<Message>()) };
        match check(read as i64) {
            Ok(_) if message.event == PAGE_FAULT => {
                return Ok(Some(Fault { addr: message.address, thread: message.thread }));
            }
            Ok(0) => return Ok(None),
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(None),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_have_the_kernels_size() {
        assert_eq!((size_of::<Message>(), size_of::<Copy>(), size_of::<Span>()), (32, 40, 16));
    }
}
