//! What Linux alone has, and what needs unsafe code: which pages were written to (`userfaultfd`, `PAGEMAP_SCAN`),
//! and a copy of this process that stands still (`fork`, `process_vm_readv`).
//!
//! The structures and numbers are those of `linux/userfaultfd.h` and `linux/fs.h`, which the kernel never changes.

#![allow(unsafe_code)]

use std::fs::File;
use std::io::{self, PipeWriter};
use std::ops::Range;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use super::Extent;
use crate::snapshot::PAGE;

/// `UFFD_USER_MODE_ONLY`: what an unprivileged process may ask for. Asynchronous write protection is resolved in
/// the kernel, so that the kernel's own writes (`read` into a page) work and are seen all the same.
const USER_MODE_ONLY: i32 = 1;
const UFFD_API: u64 = 0xAA;
/// `UFFD_FEATURE_WP_ASYNC`: the first write to a protected page takes the protection away, and nobody is asked.
/// Brings `UFFD_FEATURE_WP_UNPOPULATED` with it.
pub(in crate::machine) const WP_ASYNC: u64 = 1 << 15;
/// `UFFDIO_REGISTER_MODE_WP`.
pub(in crate::machine) const MODE_WP: u64 = 1 << 1;

/// `PAGE_IS_WRITTEN`: there, and not protected.
const IS_WRITTEN: u64 = 1 << 1;
/// `PAGE_IS_PRESENT`, `PAGE_IS_SWAPPED`: there.
const IS_THERE: u64 = 1 << 3 | 1 << 4;
/// `PM_SCAN_WP_MATCHING`: protect what is found.
const SCAN_PROTECT: u64 = 1;
/// `PM_SCAN_CHECK_WPASYNC`: fail where a range is not registered.
const SCAN_CHECK: u64 = 1 << 1;

/// Runs of pages that one call reports.
const REGIONS: usize = 1024;
/// `IOV_MAX`: ranges that one call reads.
const RANGES_MAX: usize = 1024;

#[repr(C)]
struct Api {
    api: u64,
    features: u64,
    ioctls: u64,
}

#[repr(C)]
struct Register {
    start: u64,
    len: u64,
    mode: u64,
    ioctls: u64,
}

/// `struct pm_scan_arg`
#[repr(C)]
struct Scan {
    size: u64,
    flags: u64,
    start: u64,
    end: u64,
    walk_end: u64,
    vec: u64,
    vec_len: u64,
    max_pages: u64,
    category_inverted: u64,
    category_mask: u64,
    category_anyof_mask: u64,
    return_mask: u64,
}

/// `struct page_region`
#[repr(C)]
#[derive(Clone, Copy, Default)]
struct Region {
    start: u64,
    end: u64,
    categories: u64,
}

/// `_IOWR(group, number, T)`, as all processors have it that wasmtime compiles for.
pub(in crate::machine) const fn read_write<T>(group: u8, number: u8) -> u32 {
    3 << 30 | (size_of::<T>() as u32) << 16 | (group as u32) << 8 | number as u32
}

/// Size of a page of this machine, in bytes.
pub(in crate::machine) fn page_size() -> u64 {
    // SAFETY: reads a number; no memory is involved.
    let size = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
    u64::try_from(size).unwrap_or(4096)
}

pub(in crate::machine) fn check(result: i64) -> io::Result<i64> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

/// A `userfaultfd`. Dropping it ends all that was registered with it.
#[derive(Debug)]
pub(in crate::machine) struct Uffd(OwnedFd);

impl Uffd {
    /// One with these features, all of which the kernel has.
    pub fn open(features: u64) -> io::Result<Self> {
        let flags = libc::O_CLOEXEC | libc::O_NONBLOCK | USER_MODE_ONLY;
        // SAFETY: the call takes one integer and gives a new descriptor, or an error.
        let fd = check(unsafe { libc::syscall(libc::SYS_userfaultfd, flags) })?;
        // SAFETY: the descriptor is new, so nobody else owns it; descriptors fit into an i32.
        let fd = unsafe { OwnedFd::from_raw_fd(fd as i32) };
        let mut api = Api { api: UFFD_API, features, ioctls: 0 };
        // SAFETY: the descriptor is a userfaultfd, and `api` the structure that this request reads and writes,
        // alive and borrowed by nobody else.
        let done = unsafe { libc::ioctl(fd.as_raw_fd(), read_write::<Api>(0xAA, 0x3F) as _, &raw mut api) };
        check(done.into())?;
        Ok(Self(fd))
    }

    /// Registers a range of addresses of this process, in whole pages. `mode` must not have what makes faults
    /// wait for an answer, unless somebody answers.
    pub fn register(&self, range: Range<u64>, mode: u64) -> io::Result<()> {
        let (start, len) = (range.start, range.end - range.start);
        let mut register = Register { start, len, mode, ioctls: 0 };
        // SAFETY: the descriptor is a userfaultfd, and `register` the structure that this request reads and writes,
        // alive and borrowed by nobody else. Registering changes no byte of the range and takes no access away: what
        // is written is as before, and the kernel notes it.
        let done = unsafe {
            libc::ioctl(self.0.as_raw_fd(), read_write::<Register>(0xAA, 0) as _, &raw mut register)
        };
        check(done.into()).map(drop)
    }
}

impl AsFd for Uffd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// Which pages [`scan`] reports.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Look {
    /// Those that were written to since they were protected, or never were protected. The range must be registered.
    Written,
    /// The same, and protects them.
    Protect,
    /// Those that were ever touched.
    There,
}

/// Gives runs of pages of a range of addresses to `found`, by ascending address. `pagemap` is
/// `/proc/self/pagemap`.
///
/// # Errors
/// The kernel cannot, or a part of the range is not registered. Pages may be protected then that were not reported.
pub(super) fn scan(
    pagemap: &File,
    range: Range<u64>,
    look: Look,
    found: &mut dyn FnMut(Range<u64>),
) -> io::Result<()> {
    let mut regions = [Region::default(); REGIONS];
    let mut at = range.start;
    while at < range.end {
        let (mask, any_of) = if look == Look::There { (0, IS_THERE) } else { (IS_WRITTEN, 0) };
        let mut scan = Scan {
            size: size_of::<Scan>() as u64,
            flags: match look {
                Look::Written => SCAN_CHECK,
                Look::Protect => SCAN_CHECK | SCAN_PROTECT,
                Look::There => 0,
            },
            start: at,
            end: range.end,
            walk_end: 0,
            vec: regions.as_mut_ptr() as u64,
            vec_len: REGIONS as u64,
            max_pages: 0,
            category_inverted: 0,
            category_mask: mask,
            category_anyof_mask: any_of,
            return_mask: mask | any_of,
        };
        // SAFETY: `scan` is the structure that this request reads and writes, and `vec` and `vec_len` in it are the
        // array `regions`: both alive, and borrowed by nobody else. Of the range itself only the kernel's notes are
        // changed: a page that is protected so can be read and written as before.
        let count =
            unsafe { libc::ioctl(pagemap.as_raw_fd(), read_write::<Scan>(b'f', 16) as _, &raw mut scan) };
        let count = check(count.into())? as usize;
        regions.iter().take(count).for_each(|region| found(region.start..region.end));
        if scan.walk_end <= at {
            return Err(io::Error::other("the kernel's scan of pages does not advance"));
        }
        at = scan.walk_end;
    }
    Ok(())
}

/// Adds the pages that a run of addresses touches, which lies behind all before.
pub(super) fn add(found: &mut Vec<u64>, memory: &Extent, run: Range<u64>) {
    let end = run.end.saturating_sub(memory.addr).min(memory.len).div_ceil(PAGE as u64);
    let start = run.start.saturating_sub(memory.addr) / PAGE as u64;
    let start = start.max(found.last().map_or(0, |last| last + 1));
    found.extend(start..end.max(start));
}

/// Memory of our own to try things on: whole pages of zeros.
pub(super) struct Pages {
    at: *mut libc::c_void,
    len: usize,
}

impl Pages {
    /// So many bytes, a multiple of the page's size and not 0.
    pub fn new(len: usize) -> io::Result<Self> {
        let (protection, flags) =
            (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS);
        // SAFETY: a mapping at an address that the kernel chooses touches nothing that is there already.
        let at = unsafe { libc::mmap(std::ptr::null_mut(), len, protection, flags, -1, 0) };
        if at == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        Ok(Self { at, len })
    }

    /// The bytes.
    pub fn bytes(&mut self) -> &mut [u8] {
        // SAFETY: `at` is the begin of a mapping of `len` bytes that can be read and written, are zeros at first, and
        // live until `self` is dropped; nobody else has the address, and `self` is borrowed as long as the slice.
        unsafe { std::slice::from_raw_parts_mut(self.at.cast(), self.len) }
    }
}

impl Drop for Pages {
    fn drop(&mut self) {
        // SAFETY: the mapping is ours, and no slice of it is alive, since they borrow `self`.
        unsafe { libc::munmap(self.at, self.len) };
    }
}

/// A copy of this process that does nothing: its memory stays what it was when the copy was made. It ends when this
/// is dropped, or when this process ends, in whatever way.
#[derive(Debug)]
pub(super) struct Standing {
    pid: libc::pid_t,
    /// Its memory, where the system lets us open that. `process_vm_readv`, which is there for when it does not, makes
    /// the copy's pages its own first: it takes twice as long, and as much memory as is read.
    memory: Option<File>,
    /// The copy waits for the end of this pipe.
    _alive: PipeWriter,
}

impl Standing {
    /// Forks. The copy is no child that `wait` or SIGCHLD tells anybody else of.
    ///
    /// # Errors
    /// The system does not permit it, or has no room.
    pub fn fork() -> io::Result<Self> {
        let (end, alive) = io::pipe()?;
        let (end_fd, alive_fd) = (end.as_raw_fd(), alive.as_raw_fd());
        // SAFETY: `sigset_t` is a plain set of bits, for which zeros are a value.
        let (mut all, mut before): (libc::sigset_t, libc::sigset_t) = unsafe { std::mem::zeroed() };
        // SAFETY: both sets are alive and borrowed by nobody else; this thread's mask is put back below, in the same
        // thread, on all paths. Blocking signals for an instant only delays them.
        unsafe {
            libc::sigfillset(&raw mut all);
            libc::pthread_sigmask(libc::SIG_SETMASK, &raw const all, &raw mut before);
        }
        // SAFETY: with all arguments 0 the call is a fork without an exit signal: the copy has its own copy-on-write
        // memory, and only this thread in it. Other threads may have held any lock at that moment, so the copy calls
        // nothing but `stand_still`, which makes system calls on integers and on its own stack, allocates nothing, takes
        // no lock, and never returns. It shares no memory with us, so nothing that it does can be seen here.
        let pid = unsafe {
            let pid = libc::syscall(libc::SYS_clone, 0, 0, 0, 0, 0);
            if pid == 0 {
                stand_still(end_fd, alive_fd);
            }
            pid
        };
        let pid = check(pid);
        // SAFETY: `before` was filled above, and is the mask that this thread had.
        unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, &raw const before, std::ptr::null_mut()) };
        let mut copy = Self { pid: pid? as libc::pid_t, memory: None, _alive: alive };
        copy.memory = File::open(format!("/proc/{}/mem", copy.pid)).ok();
        Ok(copy)
    }

    /// As if the system did not let us open its memory.
    #[cfg(test)]
    pub fn close_file(&mut self) {
        self.memory = None;
    }

    /// Reads these ranges of addresses, one after the other, into `bytes`, which they fill.
    ///
    /// # Errors
    /// The system does not permit it, or the copy is gone.
    pub fn read(&self, ranges: &[Range<u64>], bytes: &mut [u8]) -> io::Result<()> {
        let wanted: u64 = ranges.iter().map(|range| range.end - range.start).sum();
        if wanted != bytes.len() as u64 {
            return Err(io::Error::other("the ranges do not fill the buffer"));
        }
        let mut rest = bytes;
        if let Some(memory) = &self.memory {
            for range in ranges {
                let (part, behind) = rest.split_at_mut((range.end - range.start) as usize);
                std::os::unix::fs::FileExt::read_exact_at(memory, part, range.start)?;
                rest = behind;
            }
            return Ok(());
        }
        for ranges in ranges.chunks(RANGES_MAX) {
            let len: u64 = ranges.iter().map(|range| range.end - range.start).sum();
            let (part, behind) = rest.split_at_mut(len as usize);
            let of = |range: &Range<u64>| libc::iovec {
                iov_base: range.start as *mut libc::c_void,
                iov_len: (range.end - range.start) as usize,
            };
            let remote: Vec<libc::iovec> = ranges.iter().map(of).collect();
            let local = libc::iovec { iov_base: part.as_mut_ptr().cast(), iov_len: part.len() };
            // SAFETY: the kernel writes to `local` alone, which is `part`: alive, of this length, and borrowed by nobody
            // else. `remote` are addresses of the other process, which it checks.
            let read = unsafe {
                let count = remote.len() as libc::c_ulong;
                libc::process_vm_readv(self.pid, &raw const local, 1, remote.as_ptr(), count, 0)
            };
            if check(read as i64)? as u64 != len {
                return Err(io::Error::other("a page of the process's copy cannot be read"));
            }
            rest = behind;
        }
        Ok(())
    }
}

impl Drop for Standing {
    fn drop(&mut self) {
        // SAFETY: the process is ours and not waited for yet, so its number is not another's. It needs the flag for
        // processes without an exit signal. No memory is involved: the status is not asked for.
        unsafe {
            libc::kill(self.pid, libc::SIGKILL);
            while libc::waitpid(self.pid, std::ptr::null_mut(), libc::__WALL) < 0
                && io::Error::last_os_error().kind() == io::ErrorKind::Interrupted
            {}
        }
    }
}

/// What the copy does: lets go of all files but the end of the pipe, and waits for it to close.
///
/// # Safety
/// For a process that was just forked, and is to run nothing else.
unsafe fn stand_still(end: i32, alive: i32) -> ! {
    // SAFETY: system calls on integers, and one byte of the own stack; see `Standing::fork`. That files are closed
    // under their owners' feet does no harm: none of them runs in this process.
    unsafe {
        libc::syscall(libc::SYS_close, alive);
        libc::syscall(libc::SYS_dup3, end, 0, 0);
        // Pipes and locks are not to live on in here. Older kernels cannot; then they do, for so long.
        libc::syscall(libc::SYS_close_range, 1_u32, u32::MAX, 0_u32);
        let mut byte = 0_u8;
        // Returns when the last writer is gone. All signals are blocked but those that end the process.
        libc::syscall(libc::SYS_read, 0, &raw mut byte, 1_usize);
        loop {
            libc::syscall(libc::SYS_exit_group, 0);
        }
    }
}
