//! Dirty pages by write protection: the kernel takes the protection of a page away at the first write, and a scan
//! of the page tables finds those without.
//!
//! A page that was never touched is in no page table. It is not protected: when it is touched it comes without
//! protection, and counts as written. So what a memory grows by needs no care but to be registered; what is not
//! registered yet is in the scan that follows.

use std::fs::File;
use std::io::{self, Read, Write};
use std::sync::{Arc, OnceLock};

use super::linux::{self, Look, MODE_WP, Pages, Uffd, WP_ASYNC, add};
use super::{Extent, all};

/// The memories that are watched.
pub(super) struct Protection {
    pagemap: File,
    page: u64,
    watched: Vec<Watched>,
}

/// One memory: a descriptor for each, since what else is done with its faults may be about one alone.
struct Watched {
    uffd: Arc<Uffd>,
    addr: u64,
    /// So many bytes are registered.
    len: u64,
}

impl Watched {
    fn new(addr: u64) -> io::Result<Self> {
        Ok(Self { uffd: Arc::new(Uffd::open(WP_ASYNC)?), addr, len: 0 })
    }
}

impl Protection {
    /// Nothing if it does not work here.
    pub fn new() -> Option<Self> {
        static WORKS: OnceLock<bool> = OnceLock::new();
        let works = *WORKS.get_or_init(|| probe().unwrap_or(false));
        let pagemap = File::open("/proc/self/pagemap").ok().filter(|_| works)?;
        Some(Self { pagemap, page: linux::page_size(), watched: vec![] })
    }

    /// The memories are registered with these descriptors already: each as far as its length here.
    pub fn adopt(&mut self, memories: &[(Arc<Uffd>, Extent)]) {
        let watched =
            |(uffd, at): &(Arc<Uffd>, Extent)| Watched { uffd: uffd.clone(), addr: at.addr, len: at.len };
        self.watched = memories.iter().map(watched).collect();
    }

    /// See [`super::Means::take`].
    pub fn take(&mut self, known: bool, memories: &[Extent]) -> io::Result<Vec<Vec<u64>>> {
        self.watched.truncate(memories.len());
        let mut found = vec![];
        for (index, memory) in memories.iter().enumerate() {
            if self.watched.len() == index {
                self.watched.push(Watched::new(memory.addr)?);
            }
            found.push(match self.look(index, known, memory) {
                Ok(found) => found,
                // Another memory at the old place, or a part of it that was mapped anew.
                Err(_) => {
                    self.watched[index] = Watched::new(memory.addr)?;
                    self.look(index, false, memory)?
                }
            });
        }
        Ok(found)
    }

    /// The dirty pages of a memory; protects them.
    fn look(&mut self, index: usize, known: bool, memory: &Extent) -> io::Result<Vec<u64>> {
        let (pagemap, watched) = (&self.pagemap, &mut self.watched[index]);
        let mut known = known;
        if watched.addr != memory.addr || memory.len < watched.len {
            // It was moved when it grew.
            (*watched, known) = (Watched::new(memory.addr)?, false);
        }
        let end = memory.addr + memory.len;
        if !memory.addr.is_multiple_of(self.page) || !memory.len.is_multiple_of(self.page) {
            return Err(io::Error::other("the memory does not consist of whole pages"));
        }
        if watched.len < memory.len {
            watched.uffd.register(memory.addr + watched.len..end, MODE_WP)?;
            watched.len = memory.len;
        }
        let (mut found, mut ignored) = (vec![], |_| {});
        if known {
            let mut add = |run| add(&mut found, memory, run);
            // A second thread for a half of it is no help: each page that is protected concerns all processors that run
            // the process, 0.87 ms for 1 GiB against 0.50 ms.
            linux::scan(pagemap, memory.addr..end, Look::Protect, &mut add)?;
            return Ok(found);
        }
        // What it was made with may come from a file, and be other than zeros without having been touched.
        let made = memory.made.min(memory.len).next_multiple_of(self.page).min(memory.len);
        found = all(&Extent { len: made, ..*memory });
        linux::scan(pagemap, memory.addr + made..end, Look::There, &mut |run| add(&mut found, memory, run))?;
        linux::scan(pagemap, memory.addr..end, Look::Protect, &mut ignored)?;
        Ok(found)
    }
}

/// Tries it: whether a write by the program and one by the kernel are seen, and no other page that is there; and
/// one to a page that was not there.
fn probe() -> io::Result<bool> {
    // The kernel may give neighbours of a page that is touched at once, so the last one lies far off.
    const THERE: usize = 6;
    const LAST: usize = 511;
    let page = linux::page_size() as usize;
    let pagemap = File::open("/proc/self/pagemap")?;
    let mut pages = Pages::new((LAST + 1) * page)?;
    (0..THERE).for_each(|n| pages.bytes()[n * page] = 1);
    let addr = pages.bytes().as_ptr() as u64;
    let range = addr..addr + ((LAST + 1) * page) as u64;
    let uffd = Uffd::open(WP_ASYNC)?;
    uffd.register(range.clone(), MODE_WP)?;
    let written = |look| {
        let mut found = vec![];
        linux::scan(&pagemap, range.clone(), look, &mut |run| {
            found.extend((run.start - addr) as usize / page..(run.end - addr) as usize / page)
        })?;
        io::Result::Ok(found)
    };
    if !written(Look::Protect)?.starts_with(&[0, 1, 2, 3, 4, 5]) || !written(Look::Written)?.is_empty() {
        return Ok(false);
    }
    let (mut from, mut to) = io::pipe()?;
    to.write_all(&[2])?;
    pages.bytes()[page] = 2;
    from.read_exact(&mut pages.bytes()[3 * page..][..1])?;
    pages.bytes()[LAST * page] = 2;
    let mut seen = written(Look::Protect)?;
    let last = seen.pop();
    seen.retain(|page| *page < THERE);
    let whole = pages.bytes().chunks(page).take(THERE).map(|page| page[0]).eq([1, 2, 1, 2, 1, 1]);
    Ok(last == Some(LAST) && seen == [1, 3] && whole && written(Look::Protect)?.is_empty())
}
