//! Dirty pages by the kernel's soft-dirty bits: `clear_refs` resets those of the whole process, and `pagemap` has
//! them.
//!
//! A kernel without them resets nothing, and says so to nobody: so it is tried whether a page that is written to
//! gets its bit, and one that is not has none.

use std::fs::{self, File};
use std::hint::black_box;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

use super::linux::add;
use super::{Extent, all, linux};

/// Bits 63 and 62 of an entry: there is a page. Bit 55: it was written to.
const DIRTY: u64 = 1 << 55;
/// Entries that are read at once.
const BATCH: usize = 8192;

/// The bits belong to the process, and whoever resets them resets them for all: one guest has them at a time.
static TAKEN: AtomicBool = AtomicBool::new(false);

/// The bits, and so many bytes of each memory that were there at the last reset.
pub(super) struct SoftDirty {
    pagemap: File,
    page: u64,
    known: Vec<Extent>,
}

impl SoftDirty {
    /// Nothing if they do not work here, or another guest has them.
    pub fn new() -> Option<Self> {
        static WORK: OnceLock<bool> = OnceLock::new();
        if TAKEN.swap(true, Ordering::SeqCst) {
            return None;
        }
        let open = || File::open("/proc/self/pagemap").ok().filter(|_| *WORK.get_or_init(works));
        match open() {
            Some(pagemap) => Some(Self { pagemap, page: linux::page_size(), known: vec![] }),
            None => {
                TAKEN.store(false, Ordering::SeqCst);
                None
            }
        }
    }

    /// See [`super::Means::take`].
    pub fn take(&mut self, known: bool, memories: &[Extent]) -> io::Result<Vec<Vec<u64>>> {
        let mut found = vec![];
        for (index, memory) in memories.iter().enumerate() {
            let before = self.known.get(index).filter(|before| known && before.addr == memory.addr);
            found.push(match before {
                Some(before) => self.dirty(memory, before.len.min(memory.len))?,
                None => all(memory),
            });
        }
        reset()?;
        self.known = memories.to_vec();
        Ok(found)
    }

    /// The dirty pages up to the byte `len`, and all behind it.
    fn dirty(&self, memory: &Extent, len: u64) -> io::Result<Vec<u64>> {
        let (mut found, page) = (vec![], self.page);
        let mut note = |at: u64, bits: u64| {
            if bits & DIRTY != 0 {
                add(&mut found, memory, at * page..(at + 1) * page);
            }
        };
        entries(&self.pagemap, memory.addr / page, (memory.addr + len).div_ceil(page), &mut note)?;
        add(&mut found, memory, memory.addr + len..memory.addr + memory.len);
        Ok(found)
    }
}

impl Drop for SoftDirty {
    fn drop(&mut self) {
        TAKEN.store(false, Ordering::SeqCst);
    }
}

fn reset() -> io::Result<()> {
    fs::write("/proc/self/clear_refs", "4")
}

/// The entries of the pages with these numbers.
fn entries(pagemap: &File, from: u64, to: u64, note: &mut dyn FnMut(u64, u64)) -> io::Result<()> {
    let mut bytes = vec![0; BATCH * 8];
    let mut at = from;
    while at < to {
        let n = ((to - at) as usize).min(BATCH);
        pagemap.read_exact_at(&mut bytes[..n * 8], at * 8)?;
        for entry in bytes[..n * 8].chunks_exact(8) {
            let entry: [u8; 8] = entry.try_into().unwrap_or_default();
            // The kernel's words are this machine's.
            #[allow(clippy::host_endian_bytes)]
            note(at, u64::from_ne_bytes(entry));
            at += 1;
        }
    }
    Ok(())
}

fn works() -> bool {
    probe().unwrap_or(false)
}

/// Whether of some pages the one that is written to after a reset has its bit, and the others have none.
fn probe() -> io::Result<bool> {
    const PAGES: usize = 8;
    let page = linux::page_size() as usize;
    let pagemap = File::open("/proc/self/pagemap")?;
    let mut pages = linux::Pages::new(PAGES * page)?;
    pages.bytes().fill(1);
    reset()?;
    black_box(pages.bytes())[3 * page] = 2;
    let first = pages.bytes().as_ptr() as u64 / page as u64;
    let mut dirty = vec![];
    let mut note = |at: u64, bits: u64| {
        if bits & DIRTY != 0 {
            dirty.push(at - first);
        }
    };
    entries(&pagemap, first, first + PAGES as u64, &mut note)?;
    Ok(dirty == [3])
}
