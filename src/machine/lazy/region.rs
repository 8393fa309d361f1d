//! One memory whose pages are brought when they are touched: which are there, and putting one there.

use std::io;
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use super::linux;
use crate::machine::dirty::linux::{MODE_WP, Uffd};
use crate::snapshot::{PAGE, Partial};

const PAGE_BYTES: u64 = PAGE as u64;

/// A memory.
pub(super) struct Region {
    /// Address of its first byte.
    pub addr: u64,
    /// Its pages, when it was restored.
    pub pages: u64,
    pub uffd: Arc<Uffd>,
    /// Its pages come write-protected: those that change are found by that.
    pub protect: bool,
    pub tree: Mutex<Partial>,
    /// Pages that somebody brings, or has brought. Nobody else may: the memory may be elsewhere soon after.
    claimed: Bits,
    /// Pages that are there, or come by themselves.
    there: Bits,
}

impl Region {
    pub fn new(addr: u64, uffd: Arc<Uffd>, protect: bool, tree: Partial) -> Self {
        let pages = tree.pages();
        let (claimed, there) = (Bits::new(pages), Bits::new(pages));
        Self { addr, pages, uffd, protect, tree: Mutex::new(tree), claimed, there }
    }

    /// Begins to bring the page, if nobody does.
    pub fn claim(&self, page: u64) -> bool {
        self.claimed.set(page)
    }

    /// Whether the page is there, or comes by itself, as those do that the memory has grown by.
    pub fn is_there(&self, page: u64) -> bool {
        page >= self.pages || self.there.get(page)
    }

    /// Whether all are.
    pub fn is_whole(&self) -> bool {
        self.there.all(self.pages)
    }

    /// The page at an address.
    pub fn page_at(&self, addr: u64) -> Option<u64> {
        addr.checked_sub(self.addr).map(|at| at / PAGE_BYTES).filter(|page| *page < self.pages)
    }

    /// The addresses of pages.
    pub fn place(&self, pages: Range<u64>) -> Range<u64> {
        self.addr + pages.start * PAGE_BYTES..self.addr + pages.end * PAGE_BYTES
    }

    /// Who touches these pages waits for them from now on.
    pub fn watch(&self, pages: Range<u64>) -> io::Result<()> {
        let mode = linux::MODE_MISSING | if self.protect { MODE_WP } else { 0 };
        self.uffd.register(self.place(pages), mode)
    }

    /// These pages are zeros, and come by themselves.
    pub fn leave(&self, pages: Range<u64>) -> io::Result<()> {
        if self.protect {
            self.uffd.register(self.place(pages.clone()), MODE_WP)?;
        }
        self.claimed.set_all(pages.clone());
        self.there.set_all(pages);
        Ok(())
    }

    /// As [`Region::leave`], for pages that were watched. What was written to them counts as changed.
    pub fn release(&self, pages: Range<u64>) -> io::Result<()> {
        linux::unregister(&self.uffd, self.place(pages.clone()))?;
        self.leave(pages)
    }

    /// Puts pages there, which are claimed, with the bytes of one after the other.
    pub fn install(&self, pages: &[u64], bytes: &[u8]) -> io::Result<()> {
        let mut rest = bytes;
        for run in pages.chunk_by(|a, b| a + 1 == *b) {
            let (now, behind) = rest.split_at_checked(run.len() * PAGE).ok_or(io::ErrorKind::InvalidInput)?;
            rest = behind;
            let (mut at, mut bytes) = (self.addr + run[0] * PAGE_BYTES, now);
            while !bytes.is_empty() {
                let done = match linux::copy(&self.uffd, at, bytes, self.protect) {
                    Ok(done) => done,
                    Err(error) => match error.raw_os_error() {
                        Some(libc::EAGAIN | libc::EINTR) => 0,
                        // It came by itself: as zeros, which it is then; or the memory is gone.
                        Some(libc::EEXIST | libc::ENOENT | libc::ESRCH) => PAGE,
                        _ => return Err(error),
                    },
                };
                (at, bytes) = (at + done as u64, &bytes[done.min(bytes.len())..]);
            }
            self.there.set_all(run[0]..run[0] + run.len() as u64);
        }
        Ok(())
    }

    /// Wakes who waits for the page.
    pub fn wake(&self, page: u64) {
        // What could fail are wrong arguments, of a memory that is gone.
        let _ = linux::wake(&self.uffd, self.place(page..page + 1));
    }

    /// Who touches the page, which is not there, is stopped by the system.
    pub fn forbid(&self, page: u64) -> io::Result<()> {
        linux::forbid(self.place(page..page + 1))
    }
}

/// A bit for each page.
struct Bits(Vec<AtomicU64>);

impl Bits {
    fn new(pages: u64) -> Self {
        Self((0..pages.div_ceil(64)).map(|_| AtomicU64::new(0)).collect())
    }

    fn get(&self, page: u64) -> bool {
        let word = self.0.get((page / 64) as usize);
        word.is_some_and(|word| word.load(Ordering::Acquire) >> (page % 64) & 1 == 1)
    }

    /// Sets it, and says whether it was not set before.
    fn set(&self, page: u64) -> bool {
        let (word, bit) = (self.0.get((page / 64) as usize), 1 << (page % 64));
        word.is_some_and(|word| word.fetch_or(bit, Ordering::AcqRel) & bit == 0)
    }

    fn set_all(&self, pages: Range<u64>) {
        let mut at = pages.start;
        while at < pages.end {
            let (bit, count) = (at % 64, (64 - at % 64).min(pages.end - at));
            let mask = (u64::MAX >> (64 - count)) << bit;
            if let Some(word) = self.0.get((at / 64) as usize) {
                word.fetch_or(mask, Ordering::AcqRel);
            }
            at += count;
        }
    }

    fn all(&self, pages: u64) -> bool {
        let full = |(n, word): (usize, &AtomicU64)| {
            let count = (pages - n as u64 * 64).min(64);
            word.load(Ordering::Acquire) == u64::MAX >> (64 - count)
        };
        self.0.iter().enumerate().all(full)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bits_are_set_one_by_one_and_in_runs() {
        let bits = Bits::new(200);
        assert!(bits.set(70) && !bits.set(70) && bits.get(70) && !bits.get(71));
        bits.set_all(60..130);
        assert!((0..200).all(|n| bits.get(n) == (60..130).contains(&n)));
        assert!(!bits.all(200));
        bits.set_all(0..200);
        assert!(bits.all(200) && !bits.get(1 << 40));
        assert!(Bits::new(0).all(0));
    }
}
