//! The memories of a paused guest: into its state at once, or put aside, so that the guest runs on meanwhile.
//!
//! What is put aside is a copy of the dirty pages; or, where these are many, a copy of the whole process that stands
//! still (`fork`): making it takes as long as copying the page tables, whatever is dirty.

use std::ops::Range;

use anyhow::{Context, Result, ensure};

use super::dirty::{Extent, Mark, Source, StandingCopy, Taken};
use super::instance::{Instance, Stage};
use super::lazy::{Loading, RUNS_MAX, Run};
use crate::snapshot::{Emit, Memory, PAGE, State, Tree};

/// Up to so many dirty pages are copied whatever else there is (16 MiB): copying them takes no longer than a copy of
/// a small process.
const COPIED_ALWAYS: u64 = 4096;
/// Copying a page takes so many times longer than copying its entry in the page tables, measured. So the copies are no
/// more than an eighth of what is in memory.
const COPY_TO_FORK: u64 = 8;

/// The page trees of a guest's memories, kept from one capture to the next, so that only what is new is looked at
/// and emitted.
#[derive(Default)]
pub struct MemoryTrees {
    pub(super) trees: Vec<Tree>,
    /// The moment whose content they are of.
    pub(super) at: Option<Mark>,
    dirtied: Option<Dirtied>,
    /// Pages that were dirty at the last capture, as far as that is known and they are few runs.
    written: Vec<Run>,
    /// They are still being read.
    pending: bool,
    /// For copies of pages: memory that the system has given once is ready.
    room: Vec<u8>,
}

impl MemoryTrees {
    /// Trees that are still being read, of memories of this moment.
    #[cfg(target_os = "linux")]
    pub(super) fn pending(at: Mark) -> Self {
        Self { pending: true, at: Some(at), ..Self::default() }
    }

    /// What the last capture had to do; nothing before the first.
    pub fn dirtied(&self) -> Option<Dirtied> {
        self.dirtied
    }

    /// Pages that the last capture found to have been written to, as far as the source knows: some runs of them.
    pub fn written(&self) -> &[Run] {
        &self.written
    }
}

/// What a capture of the memories had to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Dirtied {
    /// Bytes of the pages that may have changed, by what the source says.
    pub bytes: u64,
    /// Where that is known from.
    pub source: Source,
    /// How the pages were put aside.
    pub aside: Aside,
    /// How the guest's memories had been restored, if they had.
    pub restored: Option<Loading>,
}

/// How pages are put aside.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Aside {
    /// They were not: the guest stood until they were stored.
    Not,
    /// Copied.
    Copied,
    /// In a copy of the process.
    Forked,
}

/// A guest's state without its memories, and which of their pages may have changed.
struct Standing {
    state: State,
    /// The trees are of the moment since when the pages are known: those of another guest are not.
    known: bool,
    mark: Mark,
    dirty: Vec<(Extent, Vec<u64>)>,
}

impl Standing {
    fn pages(&self) -> u64 {
        self.dirty.iter().map(|(_, dirty)| dirty.len() as u64).sum()
    }
}

/// A state that is put aside, with the trees that it is to be added to.
pub struct Frozen {
    standing: Standing,
    trees: MemoryTrees,
    pages: Pages,
}

enum Pages {
    /// One after the other.
    Copied(Vec<u8>),
    Forked(StandingCopy),
}

impl Instance {
    /// The state of the paused guest, with the blobs of its private disks. Chunks of its memories that `trees` did
    /// not have are given to `emit`; if they cannot all be stored, drop `trees`.
    ///
    /// # Errors
    /// The guest has ended; it holds a reference that has no portable identity; `emit` failed. Then `trees` are
    /// empty.
    pub fn capture(&mut self, trees: &mut MemoryTrees, emit: &mut Emit<'_>) -> Result<State> {
        let mut before = std::mem::take(trees);
        let mut standing = self.stand(&mut before, emit)?;
        before.begin(&standing, (self.tracker.source(), self.loading), Aside::Not);
        for (index, (extent, dirty)) in standing.dirty.iter().enumerate() {
            let memory = self.memory(index as u32)?;
            let bytes = memory.data(&self.store);
            let read = |_: usize, pages: &[u64], out: &mut [u8]| pages_of(bytes, pages, out);
            let root = before.trees[index].update_along(extent.len, dirty, &read, emit)?;
            standing.state.memories.push(Memory { len: extent.len, root });
        }
        *trees = before;
        Ok(standing.state)
    }

    /// Puts the state of the paused guest aside, with the blobs of its private disks, whose new chunks are given to
    /// `emit` at once.
    ///
    /// # Errors
    /// As [`Instance::capture`]; or there is no memory for it.
    pub fn freeze(&mut self, trees: MemoryTrees, emit: &mut Emit<'_>) -> Result<Frozen> {
        let mut trees = trees;
        let standing = self.stand(&mut trees, emit)?;
        let forked = should_fork(standing.pages())
            .then(|| {
                standing.dirty.iter().find_map(|(extent, dirty)| (!dirty.is_empty()).then_some(extent.addr))
            })
            .flatten()
            .and_then(|addr| StandingCopy::new(addr).ok());
        let pages = match forked {
            Some(copy) => Pages::Forked(copy),
            None => Pages::Copied(self.copy(&standing, std::mem::take(&mut trees.room))?),
        };
        let aside = if matches!(pages, Pages::Forked(_)) { Aside::Forked } else { Aside::Copied };
        trees.begin(&standing, (self.tracker.source(), self.loading), aside);
        Ok(Frozen { standing, trees, pages })
    }

    /// All but the content of the memories.
    fn stand(&mut self, trees: &mut MemoryTrees, emit: &mut Emit<'_>) -> Result<Standing> {
        ensure!(self.stage != Stage::Over, "the guest has ended: there is nothing to capture");
        self.bring_trees(trees)?;
        let mut state = self.capture_without_memory()?;
        if let Some(wasi) = self.wasi() {
            if trees.at.is_none() {
                // Who knows nothing of the memories knows nothing of the disks either.
                wasi.forget_stored();
            }
            state.blobs = wasi.capture_disks(emit)?;
        }
        let extents = self.extents()?;
        let known = self.tracker.knows_since(trees.at);
        let Taken { mark, mut dirty } = self.tracker.take(trees.at, &extents);
        if let Some(pager) = self.lazy.as_ref().filter(|_| known) {
            for (memory, pages) in dirty.iter_mut().enumerate() {
                pager.keep_present(memory, pages);
            }
        }
        Ok(Standing { state, known, mark, dirty: extents.into_iter().zip(dirty).collect() })
    }

    /// Waits for the trees, if they are still being read; for all pages, if they are of another moment.
    fn bring_trees(&mut self, trees: &mut MemoryTrees) -> Result<()> {
        let Some(pager) = &self.lazy else { return Ok(()) };
        if let Some(damage) = pager.found() {
            return Err(damage).context("it would have the damage of the snapshot that it goes on from");
        }
        if !self.tracker.knows_since(trees.at) {
            pager.wait_for_all()?;
        } else if std::mem::take(&mut trees.pending) {
            trees.trees = pager.take_trees()?.context("the trees of the memories are gone")?;
        }
        if pager.is_whole() {
            (self.lazy, self.store.data_mut().lazy) = (None, None);
        }
        Ok(())
    }

    /// Where the memories lie.
    fn extents(&mut self) -> Result<Vec<Extent>> {
        let made = self.made.clone();
        let extent = |(index, made): (usize, &u64)| {
            let memory = self.memory(index as u32)?;
            let (addr, len) = (memory.data_ptr(&self.store) as u64, memory.data_size(&self.store) as u64);
            Ok(Extent { addr, len, made: *made })
        };
        made.iter().enumerate().map(extent).collect()
    }

    /// From here on the trees are those of the memories: what is written from now on will be dirty.
    pub(super) fn trees_are_current(&mut self, trees: Vec<Tree>) -> Result<MemoryTrees> {
        let extents = self.extents()?;
        let mark = self.tracker.take(None, &extents).mark;
        Ok(MemoryTrees { trees, at: Some(mark), ..MemoryTrees::default() })
    }

    /// The dirty pages, one after the other.
    fn copy(&mut self, standing: &Standing, mut room: Vec<u8>) -> Result<Vec<u8>> {
        room.clear();
        let len = usize::try_from(standing.pages())?.saturating_mul(PAGE);
        room.try_reserve_exact(len)
            .context("there is no memory for a copy of the pages that have changed")?;
        for (index, (_, dirty)) in standing.dirty.iter().enumerate() {
            let memory = self.memory(index as u32)?;
            let bytes = memory.data(&self.store);
            for run in runs(dirty) {
                let run = bytes.get(run.start as usize * PAGE..run.end as usize * PAGE);
                room.extend_from_slice(run.context("a dirty page lies outside of its memory")?);
            }
        }
        Ok(room)
    }
}

impl MemoryTrees {
    /// What follows are the pages of this moment.
    fn begin(&mut self, standing: &Standing, (source, restored): (Source, Option<Loading>), aside: Aside) {
        if !standing.known {
            self.trees.clear();
        }
        self.trees.resize_with(standing.dirty.len(), Tree::new);
        self.at = Some(standing.mark);
        let known = standing.known && source != Source::Compare;
        let of = |(memory, (_, dirty)): (usize, &(Extent, Vec<u64>))| {
            runs(dirty).map(move |pages| Run { memory, pages }).collect::<Vec<_>>()
        };
        let written = standing.dirty.iter().filter(|_| known).enumerate().flat_map(of);
        self.written = written.take(RUNS_MAX).collect();
        self.dirtied = Some(Dirtied { bytes: standing.pages() * PAGE as u64, source, aside, restored });
    }
}

impl Frozen {
    /// Fuel that the guest had consumed.
    pub fn fuel(&self) -> u64 {
        self.standing.state.fuel
    }

    /// What was found.
    pub fn dirtied(&self) -> Option<Dirtied> {
        self.trees.dirtied
    }

    /// The state, and the trees for the next capture. New chunks of the memories are given to `emit`; if they cannot
    /// all be stored, drop the trees.
    ///
    /// # Errors
    /// `emit` failed, or the copy of the process is gone. The trees are lost then, and the next capture takes every
    /// page for dirty.
    pub fn thaw(self, emit: &mut Emit<'_>) -> Result<(State, MemoryTrees)> {
        let Self { standing: Standing { mut state, dirty, .. }, mut trees, pages } = self;
        let mut copied = match &pages {
            Pages::Copied(bytes) => bytes.as_slice(),
            Pages::Forked(_) => &[],
        };
        for ((extent, dirty), tree) in dirty.iter().zip(&mut trees.trees) {
            // The copies of this memory's pages follow those of the ones before.
            let (mine, behind) = copied.split_at(copied.len().min(dirty.len() * PAGE));
            copied = behind;
            let read = |first: usize, indexes: &[u64], out: &mut [u8]| match &pages {
                Pages::Copied(_) => {
                    let bytes = mine.get(first * PAGE..first * PAGE + out.len());
                    bytes.context("a copied page is missing").map(Some)
                }
                Pages::Forked(copy) => {
                    let place = |page: u64| extent.addr + page * PAGE as u64;
                    let ranges: Vec<_> = runs(indexes).map(|r| place(r.start)..place(r.end)).collect();
                    copy.read(&ranges, out).context("the memory that was put aside cannot be read")?;
                    Ok(None)
                }
            };
            let root = tree.update_along(extent.len, dirty, &read, emit)?;
            state.memories.push(Memory { len: extent.len, root });
        }
        if let Pages::Copied(room) = pages {
            trees.room = room;
        }
        Ok((state, trees))
    }
}

/// Whether a copy of the process takes less time than copying so many pages, or less memory.
fn should_fork(pages: u64) -> bool {
    pages > COPIED_ALWAYS && pages > resident_pages() / COPY_TO_FORK
}

/// Pages of this process that are in memory, by which the time of a fork goes.
fn resident_pages() -> u64 {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    statm.split(' ').nth(1).and_then(|pages| pages.parse().ok()).unwrap_or(u64::MAX)
}

/// Pages of `bytes` where they are, if they are one run, or copied to `out`. None lies outside.
fn pages_of<'m>(bytes: &'m [u8], pages: &[u64], out: &mut [u8]) -> Result<Option<&'m [u8]>> {
    let mut rest = out;
    for run in runs(pages) {
        let from = bytes.get(run.start as usize * PAGE..run.end as usize * PAGE);
        let from = from.context("a dirty page lies outside of its memory")?;
        if from.len() == pages.len() * PAGE {
            return Ok(Some(from));
        }
        let (part, behind) = rest.split_at_mut_checked(from.len()).context("too many pages")?;
        part.copy_from_slice(from);
        rest = behind;
    }
    Ok(None)
}

/// Neighbours at once.
fn runs(pages: &[u64]) -> impl Iterator<Item = Range<u64>> {
    pages.chunk_by(|a, b| a + 1 == *b).map(|run| run[0]..run[0] + run.len() as u64)
}
