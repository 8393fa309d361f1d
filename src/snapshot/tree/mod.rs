//! The page tree: names the content of a memory or of a byte stream by one hash.
//!
//! The content is cut into pages of 4 KiB, the last one filled up with zeros. A page's id is the blake3
//! of its bytes. A node is the ids of its [`FANOUT`] children one after the other, and its id the blake3
//! of those 256 bytes. What is all zeros, page or subtree, has the id [`ChunkId::ZERO`] and no chunk. How
//! many levels of nodes there are follows from the length alone; up to one page, the root is the page.
//!
//! ```text
//! len  20480                        5 pages, so one level of nodes
//!      page 0   1   2   3   4
//!           p0  p1  0   0   p4      root = blake3(p0 | p1 | 0 | 0 | p4 | 0 | 0 | 0)
//! ```
//!
//! *One content, one root.* The form is canonical: a chunk of zeros, a child beyond the end and a byte
//! other than zero behind the end are refused on loading. A node cannot be taken for a page, nor a page
//! for a node: the one is 256 bytes long and the other 4096, which is checked before the hash, so the
//! two sets of preimages are disjoint; for the same reason a node of one level fails as one of another.
//! Every chunk's id is thus the plain blake3 of its bytes, and a store can check it without knowing
//! what it is.
//!
//! *Why a fan-out of 8.* A page that changes makes the nodes above it new. With dirty pages spread at
//! random with density d, about log(1/d)/log(F) of those levels are not shared with another dirty page,
//! at 32 F bytes each plus some 44 bytes in the store's index. For d = 0.1 % that comes, for each dirty
//! page of 4096 bytes, to 1.21 (F = 4), 1.25 (8), 1.34 (16), 1.52 (32) times its bytes; F = 4 needs half
//! again as many levels as 8, and twice as many nodes, for little.

mod along;
mod extent;
mod levels;
mod load;
mod partial;
#[cfg(test)]
mod tests;

pub use extent::Extents;
pub use load::{Fetch, Kind, TreeError, Walk, check_chunk, read_range};
pub use partial::{ChunkAt, Known, Partial};

use anyhow::ensure;
use rayon::prelude::*;

use crate::digest::{ChunkId, chunk_ids};
use levels::Level;

/// Size of a page, in bytes.
pub const PAGE: usize = 4096;
/// Children of a node.
pub const FANOUT: usize = 8;
/// Size of a node, in bytes.
pub const NODE: usize = FANOUT * 32;
/// Greatest length of a memory or stream, in bytes: 1 TiB. More than a host can back with memory, and
/// little enough for 2^40 to leave every computation with lengths free of overflow.
pub const LEN_MAX: u64 = 1 << 40;

/// Pages that are hashed together (4 MiB): enough to share among threads, little enough to stay in the
/// cache until the pages are emitted.
const BATCH: usize = 1024;
/// Pages that one thread reads and hashes at once.
const AT_ONCE: usize = 64;

static ZERO_PAGE: [u8; PAGE] = [0; PAGE];

/// Which pages may differ from those of the update before.
#[derive(Debug, Clone, Copy)]
pub enum Dirty<'a> {
    /// Any.
    All,
    /// Those with these indexes, in ascending order. What lay beyond the end counts as zeros.
    Pages(&'a [u64]),
}

/// Takes the chunks that a tree gives out.
pub type Emit<'a> = dyn FnMut(ChunkId, &[u8]) -> anyhow::Result<()> + 'a;

/// Reads pages of a content: see [`Tree::update_pages`].
pub type ReadPages<'a> = dyn FnMut(&[u64], &mut [u8]) -> anyhow::Result<()> + 'a;

/// The ids of a page tree, kept from snapshot to snapshot so that the work follows what changed.
/// Takes 37 bytes of memory per non-zero page.
#[derive(Debug, Clone, Default)]
pub struct Tree {
    len: u64,
    /// Level 0 holds the ids of the pages, the last level the root alone. Empty: nothing is known yet.
    levels: Vec<Level>,
}

impl Tree {
    /// A tree that knows nothing: its first update takes every page for dirty and emits every chunk.
    pub fn new() -> Self {
        Self::default()
    }

    /// The root of the tree of the last update.
    pub fn root(&self) -> ChunkId {
        self.levels.last().map_or(ChunkId::ZERO, |top| top.get(0))
    }

    /// Length of the content, in bytes.
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Whether the content has no bytes.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Brings the tree to the content `bytes`, gives the chunks that were not at this place of the tree
    /// before to `emit` (pages by ascending offset, then nodes, the root last), and returns the root.
    /// A chunk may come more than once, for instance when two pages are equal.
    ///
    /// # Errors
    /// When `emit` fails, `dirty` is not ascending or reaches beyond the end, or `bytes` is longer than
    /// [`LEN_MAX`]. The tree then knows nothing, as if new, and so does not take for stored what may not
    /// be. For the same reason, replace it by a new one when storing what it emitted fails later on.
    pub fn update(&mut self, bytes: &[u8], dirty: Dirty<'_>, emit: &mut Emit<'_>) -> anyhow::Result<ChunkId> {
        // A shorter content cuts its last page, which the caller need not know of.
        let any = self.levels.is_empty() || (bytes.len() as u64) < self.len;
        self.or_forget(|tree| {
            tree.change(bytes.len() as u64, emit, |tree, emit| match dirty {
                Dirty::Pages(pages) if !any => tree.set_pages(bytes, pages, emit),
                _ => tree.set_all(bytes, 0, emit),
            })
        })
    }

    /// Like [`Tree::update`] for a stream of which only the end changed: the content up to `offset`, a
    /// multiple of [`PAGE`], is that of before, and what follows is `tail`.
    ///
    /// # Errors
    /// As of [`Tree::update`]; also when `offset` is no multiple of a page, or beyond the end.
    pub fn update_tail(&mut self, offset: u64, tail: &[u8], emit: &mut Emit<'_>) -> anyhow::Result<ChunkId> {
        self.or_forget(|tree| {
            ensure!(
                offset.is_multiple_of(PAGE as u64) && offset <= tree.len,
                "a stream of {} bytes has no whole page ending at byte {offset}",
                tree.len,
            );
            tree.change(offset + tail.len() as u64, emit, |tree, emit| {
                tree.set_all(tail, offset / PAGE as u64, emit)
            })
        })
    }

    /// Like [`Tree::update`] for a content that is not in memory: `read` fills its second argument with the
    /// pages that the first one names, one after the other. All pages but those in `dirty` are as before; a
    /// new tree takes them for zeros, as it does what lay beyond the end.
    ///
    /// # Errors
    /// As of [`Tree::update`]; also when `read` fails, or `len` is no multiple of [`PAGE`].
    pub fn update_pages(
        &mut self,
        len: u64,
        dirty: &[u64],
        read: &mut ReadPages<'_>,
        emit: &mut Emit<'_>,
    ) -> anyhow::Result<ChunkId> {
        self.or_forget(|tree| {
            ensure!(len.is_multiple_of(PAGE as u64), "a volume of {len} bytes does not end with a page");
            tree.change(len, emit, |tree, emit| tree.set_read(dirty, read, emit))
        })
    }

    /// Runs `change`; the tree forgets everything if that fails.
    fn or_forget(
        &mut self,
        change: impl FnOnce(&mut Self) -> anyhow::Result<ChunkId>,
    ) -> anyhow::Result<ChunkId> {
        let result = change(self);
        if result.is_err() {
            *self = Self::new();
        }
        result
    }

    /// Gives the tree its new length, then its new pages by `set`, then the nodes above what changed.
    fn change(
        &mut self,
        len: u64,
        emit: &mut Emit<'_>,
        set: impl FnOnce(&mut Self, &mut Emit<'_>) -> anyhow::Result<Vec<u64>>,
    ) -> anyhow::Result<ChunkId> {
        ensure!(len <= LEN_MAX, "{len} bytes are over the limit of {LEN_MAX}");
        let (old_len, old_depth) = (self.len, self.levels.len());
        self.resize(len);
        let mut touched = set(self, emit)?;
        // Nodes whose children did not change, but whose place is new or was cut.
        if self.levels.len() != old_depth {
            touched.insert(0, 0);
        }
        if len < old_len {
            touched.push(pages(len).saturating_sub(1));
        }
        self.set_nodes(touched, emit)?;
        Ok(self.root())
    }

    fn resize(&mut self, len: u64) {
        self.len = len;
        self.levels.resize_with(depth(len) as usize + 1, Level::default);
        let mut count = pages(len);
        for level in &mut self.levels {
            level.truncate(count);
            count = count.div_ceil(FANOUT as u64);
        }
    }

    /// Sets all pages from the index `first` on, of which `bytes` is the content.
    fn set_all(&mut self, bytes: &[u8], first: u64, emit: &mut Emit<'_>) -> anyhow::Result<Vec<u64>> {
        let mut changed = Vec::new();
        let mut at = first;
        for part in bytes.chunks(BATCH * PAGE) {
            let ids = ids_of(part.chunks(PAGE).collect());
            for (page, id) in part.chunks(PAGE).zip(ids) {
                if self.set_page(at, id, page, emit)? {
                    changed.push(at);
                }
                at += 1;
            }
        }
        Ok(changed)
    }

    /// Sets the pages with the given indexes, whose content `read` gives.
    fn set_read(
        &mut self,
        indexes: &[u64],
        read: &mut ReadPages<'_>,
        emit: &mut Emit<'_>,
    ) -> anyhow::Result<Vec<u64>> {
        self.check_indexes(indexes)?;
        let mut changed = Vec::new();
        let mut bytes = vec![0; indexes.len().min(BATCH) * PAGE];
        for batch in indexes.chunks(BATCH) {
            let bytes = &mut bytes[..batch.len() * PAGE];
            read(batch, bytes)?;
            let ids = ids_of(bytes.chunks(PAGE).collect());
            for ((index, page), id) in batch.iter().zip(bytes.chunks(PAGE)).zip(ids) {
                if self.set_page(*index, id, page, emit)? {
                    changed.push(*index);
                }
            }
        }
        Ok(changed)
    }

    fn check_indexes(&self, indexes: &[u64]) -> anyhow::Result<()> {
        let ascending = indexes.is_sorted_by(|a, b| a < b);
        ensure!(ascending, "the indexes of the dirty pages are not ascending");
        let end = pages(self.len);
        if let Some(last) = indexes.last() {
            ensure!(*last < end, "dirty page {last} is beyond the end, page {end}");
        }
        Ok(())
    }

    /// Sets the pages with the given indexes; `bytes` is the whole content.
    fn set_pages(&mut self, bytes: &[u8], indexes: &[u64], emit: &mut Emit<'_>) -> anyhow::Result<Vec<u64>> {
        self.check_indexes(indexes)?;
        let page = |index: &u64| {
            let start = *index as usize * PAGE;
            &bytes[start..bytes.len().min(start + PAGE)]
        };
        let mut changed = Vec::new();
        for batch in indexes.chunks(BATCH) {
            let ids = ids_of(batch.iter().map(page).collect());
            for (index, id) in batch.iter().zip(ids) {
                if self.set_page(*index, id, page(index), emit)? {
                    changed.push(*index);
                }
            }
        }
        Ok(changed)
    }

    /// Sets one page, and says whether it changed.
    fn set_page(
        &mut self,
        index: u64,
        id: ChunkId,
        page: &[u8],
        emit: &mut Emit<'_>,
    ) -> anyhow::Result<bool> {
        if self.levels[0].get(index) == id {
            return Ok(false);
        }
        self.levels[0].set(index, id);
        match page.len() {
            _ if id == ChunkId::ZERO => {}
            PAGE => emit(id, page)?,
            _ => emit(id, &filled_up(page))?,
        }
        Ok(true)
    }

    /// Computes anew the nodes above the pages `touched`, which are in ascending order.
    fn set_nodes(&mut self, mut touched: Vec<u64>, emit: &mut Emit<'_>) -> anyhow::Result<()> {
        for above in 1..self.levels.len() {
            touched.iter_mut().for_each(|index| *index /= FANOUT as u64);
            touched.dedup();
            for index in &touched {
                let node = self.node(above - 1, *index);
                let id = node_id(&node);
                if self.levels[above].get(*index) != id {
                    self.levels[above].set(*index, id);
                    if id != ChunkId::ZERO {
                        emit(id, &node)?;
                    }
                }
            }
        }
        Ok(())
    }

    /// The bytes of the node `index` above the level `below`.
    fn node(&self, below: usize, index: u64) -> [u8; NODE] {
        let mut node = [0; NODE];
        for (child, bytes) in node.chunks_mut(32).enumerate() {
            let id = self.levels[below].get(index * FANOUT as u64 + child as u64);
            bytes.copy_from_slice(id.as_bytes());
        }
        node
    }
}

/// How many pages a content of `len` bytes has.
pub fn pages(len: u64) -> u64 {
    len.div_ceil(PAGE as u64)
}

/// How many levels of nodes are above the pages of a content of `len` bytes.
fn depth(len: u64) -> u32 {
    let (mut depth, mut width) = (0, 1_u64);
    while width < pages(len) {
        width = width.saturating_mul(FANOUT as u64);
        depth += 1;
    }
    depth
}

/// The ids of pages, hashed by all threads of the pool.
fn ids_of(pages: Vec<&[u8]>) -> Vec<ChunkId> {
    let mut ids = vec![ChunkId::ZERO; pages.len()];
    let parts = pages.par_chunks(AT_ONCE).zip(ids.par_chunks_mut(AT_ONCE));
    parts.for_each(|(pages, ids)| page_ids(pages.iter().copied(), ids));
    ids
}

/// Sets the ids of pages; one shorter than [`PAGE`] stands for itself filled up with zeros.
fn page_ids<'a>(pages: impl Iterator<Item = &'a [u8]>, ids: &mut [ChunkId]) {
    ids.fill(ChunkId::ZERO);
    let mut short = None;
    let not_zero = pages.enumerate().filter(|(_, page)| **page != ZERO_PAGE[..page.len()]);
    let whole = not_zero.filter(|page| {
        if page.1.len() < PAGE {
            // The last one of its content.
            short = Some(*page);
        }
        page.1.len() == PAGE
    });
    chunk_ids(whole, |nth, id| ids[nth] = id);
    if let Some((nth, page)) = short {
        ids[nth] = ChunkId::of(&filled_up(page));
    }
}

fn node_id(node: &[u8; NODE]) -> ChunkId {
    if *node == [0; NODE] { ChunkId::ZERO } else { ChunkId::of(node) }
}

fn filled_up(page: &[u8]) -> [u8; PAGE] {
    let mut full = [0; PAGE];
    full[..page.len()].copy_from_slice(page);
    full
}
