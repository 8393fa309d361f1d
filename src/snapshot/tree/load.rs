//! Reading a page tree back from its chunks, each checked before it is used.

use std::collections::HashSet;
use std::ops::Range;

use super::{FANOUT, LEN_MAX, NODE, PAGE, Tree, ZERO_PAGE, depth, pages};
use crate::digest::ChunkId;

/// Gives the bytes of a chunk, from a store.
pub type Fetch<'a> = dyn FnMut(ChunkId) -> anyhow::Result<Vec<u8>> + 'a;

/// Why a page tree cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum TreeError {
    /// The content is longer than any that is stored.
    #[error("a content of {len} bytes is over the limit of {LEN_MAX} bytes")]
    TooLong {
        /// Its length in bytes.
        len: u64,
    },
    /// What was asked for is beyond the end.
    #[error("byte {offset} is beyond the end of a content of {len} bytes")]
    Beyond {
        /// Offset in bytes.
        offset: u64,
        /// Length of the content in bytes.
        len: u64,
    },
    /// The store does not give the chunk.
    #[error("chunk {id}, of bytes {start:#x} to {end:#x}, cannot be read")]
    Missing {
        /// The chunk.
        id: ChunkId,
        /// First byte of the content that it holds.
        start: u64,
        /// Byte behind the last one.
        end: u64,
        /// What the store says.
        #[source]
        cause: anyhow::Error,
    },
    /// The chunk is not what its id or its place asks for.
    #[error("chunk {id}, of bytes {start:#x} to {end:#x}, is corrupt: {problem}")]
    Corrupt {
        /// The chunk.
        id: ChunkId,
        /// First byte of the content that it holds.
        start: u64,
        /// Byte behind the last one.
        end: u64,
        /// What is wrong.
        problem: String,
    },
    /// Whoever takes the pages failed.
    #[error("the page at byte {start:#x} cannot be taken over")]
    Taker {
        /// Offset of the page in bytes.
        start: u64,
        /// What went wrong.
        #[source]
        cause: anyhow::Error,
    },
}

/// What a chunk is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// 4 KiB of content.
    Page,
    /// The ids of pages or nodes.
    Node,
}

/// A chunk's place in the tree.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place {
    pub id: ChunkId,
    /// 0 for a page.
    pub level: u32,
    pub index: u64,
    /// Length of the whole content.
    pub len: u64,
}

impl Tree {
    /// Reads the content named `root` of `len` bytes: gives every page that is not all zeros to `page`, with
    /// its offset in bytes (the last one without what fills it up), and returns the tree.
    ///
    /// A few chunks can stand for many pages, so bound `len` by what the content may take up before
    /// calling this.
    ///
    /// # Errors
    /// A [`TreeError`], which names the chunk and the bytes that it should hold.
    pub fn load(
        root: ChunkId,
        len: u64,
        fetch: &mut Fetch<'_>,
        page: &mut dyn FnMut(u64, &[u8]) -> anyhow::Result<()>,
    ) -> Result<Self, TreeError> {
        let top = Place::root(root, len)?;
        let mut tree = Self::new();
        tree.resize(len);
        tree.load_at(top, fetch, page)?;
        Ok(tree)
    }

    /// Reads a part of the content named `root` of `len` bytes: gives every page that reaches into `range` and
    /// is not all zeros to `page`, with its offset in bytes, by ascending offset. Fetches only what leads there.
    ///
    /// # Errors
    /// As of [`Tree::load`].
    pub fn read(
        root: ChunkId,
        len: u64,
        range: Range<u64>,
        fetch: &mut Fetch<'_>,
        page: &mut dyn FnMut(u64, &[u8]) -> anyhow::Result<()>,
    ) -> Result<(), TreeError> {
        Place::root(root, len)?.read(&range, fetch, page)
    }

    fn load_at(
        &mut self,
        place: Place,
        fetch: &mut Fetch<'_>,
        page: &mut dyn FnMut(u64, &[u8]) -> anyhow::Result<()>,
    ) -> Result<(), TreeError> {
        if place.id == ChunkId::ZERO {
            return Ok(());
        }
        self.levels[place.level as usize].set(place.index, place.id);
        if place.level > 0 {
            // At most 10 levels deep: LEN_MAX is 2^28 pages.
            return place.children(fetch)?.into_iter().try_for_each(|child| self.load_at(child, fetch, page));
        }
        let bytes = place.fetch(fetch)?;
        let content = place.check_page(&bytes)?;
        page(place.start(), content).map_err(|cause| TreeError::Taker { start: place.start(), cause })
    }
}

/// Fills `out` with the bytes from `offset` on of the content named `root` of `len` bytes. Fetches only the
/// chunks that they are in, each checked.
///
/// # Errors
/// A [`TreeError`], which names the chunk and the bytes that it should hold. What is beyond the end of the
/// content is [`TreeError::Beyond`].
pub fn read_range(
    root: ChunkId,
    len: u64,
    offset: u64,
    out: &mut [u8],
    fetch: &mut Fetch<'_>,
) -> Result<(), TreeError> {
    let end = offset.saturating_add(out.len() as u64);
    if end > len {
        return Err(TreeError::Beyond { offset: end, len });
    }
    out.fill(0);
    Tree::read(root, len, offset..end, fetch, &mut |at, page| {
        let (from, to) = (at.max(offset), end.min(at + page.len() as u64));
        let part = &page[(from - at) as usize..(to - at) as usize];
        out[(from - offset) as usize..(to - offset) as usize].copy_from_slice(part);
        Ok(())
    })
}

/// A walk over the chunks of many trees, which passes over what it has seen: its work follows the number of
/// different chunks, however often trees share them. Takes some 40 bytes of memory for each.
#[derive(Debug, Default)]
pub struct Walk {
    /// With the level, since the same id at another level means something else.
    seen: HashSet<(ChunkId, u32)>,
}

impl Walk {
    /// A walk that has seen nothing.
    pub fn new() -> Self {
        Self::default()
    }

    /// Names to `visit` all chunks of the tree `root` of a content of `len` bytes that this walk has not named
    /// before, a node after its children. Fetches and checks the nodes; pages it only names.
    ///
    /// # Errors
    /// A [`TreeError`], which names the chunk and the bytes that it should hold.
    pub fn tree(
        &mut self,
        root: ChunkId,
        len: u64,
        fetch: &mut Fetch<'_>,
        visit: &mut dyn FnMut(ChunkId, Kind) -> anyhow::Result<()>,
    ) -> Result<(), TreeError> {
        self.walk_at(Place::root(root, len)?, fetch, visit)
    }

    fn walk_at(
        &mut self,
        place: Place,
        fetch: &mut Fetch<'_>,
        visit: &mut dyn FnMut(ChunkId, Kind) -> anyhow::Result<()>,
    ) -> Result<(), TreeError> {
        let name = (place.id, place.level);
        if place.id == ChunkId::ZERO || self.seen.contains(&name) {
            return Ok(());
        }
        let mut kind = Kind::Page;
        if place.level > 0 {
            kind = Kind::Node;
            for child in place.children(fetch)? {
                self.walk_at(child, fetch, visit)?;
            }
        }
        let start = place.start();
        visit(place.id, kind).map_err(|cause| TreeError::Taker { start, cause })?;
        // Only now, so that after an error a second walk comes by here again.
        self.seen.insert(name);
        Ok(())
    }
}

/// Checks that `bytes` are those of the chunk `id`.
///
/// # Errors
/// What is wrong, as text.
pub fn check_chunk(id: ChunkId, bytes: &[u8]) -> Result<Kind, String> {
    let kind = match bytes.len() {
        PAGE => Kind::Page,
        NODE => Kind::Node,
        len => return Err(format!("{len} bytes; a page has {PAGE}, a node {NODE}")),
    };
    let found = ChunkId::of(bytes);
    if found != id {
        return Err(format!("its bytes hash to {found}"));
    }
    if bytes.iter().all(|byte| *byte == 0) {
        return Err("it is all zeros, for which there is no chunk".to_string());
    }
    Ok(kind)
}

impl Place {
    pub fn root(id: ChunkId, len: u64) -> Result<Self, TreeError> {
        if len > LEN_MAX {
            return Err(TreeError::TooLong { len });
        }
        let root = Self { id, level: depth(len), index: 0, len };
        if len == 0 && id != ChunkId::ZERO {
            return Err(root.corrupt("a content of no bytes has no chunks"));
        }
        Ok(root)
    }

    /// How many pages are below this place, when all are there.
    fn span(&self) -> u64 {
        (FANOUT as u64).pow(self.level)
    }

    pub fn start(&self) -> u64 {
        self.index * self.span() * PAGE as u64
    }

    pub fn end(&self) -> u64 {
        self.len.min(self.start() + self.span() * PAGE as u64)
    }

    /// Gives the pages below this place that reach into the range.
    fn read(
        self,
        range: &Range<u64>,
        fetch: &mut Fetch<'_>,
        page: &mut dyn FnMut(u64, &[u8]) -> anyhow::Result<()>,
    ) -> Result<(), TreeError> {
        let apart = self.end() <= range.start || range.end <= self.start();
        if self.id == ChunkId::ZERO || apart {
            return Ok(());
        }
        if self.level > 0 {
            return self.children(fetch)?.into_iter().try_for_each(|child| child.read(range, fetch, page));
        }
        let bytes = self.fetch(fetch)?;
        let content = self.check_page(&bytes)?;
        page(self.start(), content).map_err(|cause| TreeError::Taker { start: self.start(), cause })
    }

    /// The content reaches beyond all that is below this place, or up to its end.
    pub fn is_whole(&self) -> bool {
        self.start() + self.span() * PAGE as u64 <= self.len
    }

    pub fn corrupt(&self, problem: impl Into<String>) -> TreeError {
        let (id, start, end) = (self.id, self.start(), self.end());
        TreeError::Corrupt { id, start, end, problem: problem.into() }
    }

    fn fetch(&self, fetch: &mut Fetch<'_>) -> Result<Vec<u8>, TreeError> {
        let (id, start, end) = (self.id, self.start(), self.end());
        let bytes = fetch(id).map_err(|cause| TreeError::Missing { id, start, end, cause })?;
        let kind = check_chunk(id, &bytes).map_err(|problem| self.corrupt(problem))?;
        match (kind, self.level) {
            (Kind::Page, 0) | (Kind::Node, 1..) => Ok(bytes),
            (Kind::Page, _) => Err(self.corrupt("it is a page where a node belongs")),
            (Kind::Node, _) => Err(self.corrupt("it is a node where a page belongs")),
        }
    }

    /// The children of this node that the content reaches.
    pub fn children(self, fetch: &mut Fetch<'_>) -> Result<Vec<Place>, TreeError> {
        let node = self.fetch(fetch)?;
        self.children_of(&node)
    }

    /// The children of this node, of which these are the bytes.
    fn children_of(self, node: &[u8]) -> Result<Vec<Place>, TreeError> {
        let ids = self.child_ids(node)?;
        let first = self.index * FANOUT as u64;
        let place = move |(n, id)| Place { id, level: self.level - 1, index: first + n, ..self };
        Ok((0..self.child_count()).zip(ids).map(place).collect())
    }

    /// How many children of this node the content reaches.
    fn child_count(&self) -> u64 {
        let below = (FANOUT as u64).pow(self.level - 1);
        let first = self.index * FANOUT as u64;
        pages(self.len).div_ceil(below).saturating_sub(first).min(FANOUT as u64)
    }

    /// The ids in this node, of which these are the bytes; those that the content does not reach are zeros.
    pub fn child_ids(&self, node: &[u8]) -> Result<[ChunkId; FANOUT], TreeError> {
        let mut ids = [ChunkId::ZERO; FANOUT];
        for (id, bytes) in ids.iter_mut().zip(node.as_chunks::<32>().0) {
            *id = ChunkId::from_bytes(*bytes);
        }
        if ids[self.child_count() as usize..].iter().any(|id| *id != ChunkId::ZERO) {
            return Err(self.corrupt("it has a child beyond the end of the content"));
        }
        Ok(ids)
    }

    /// The part of this page that is content; what fills it up must be zeros.
    pub fn check_page<'a>(&self, page: &'a [u8]) -> Result<&'a [u8], TreeError> {
        let (content, filling) = page.split_at((self.end() - self.start()) as usize);
        if *filling != ZERO_PAGE[..filling.len()] {
            return Err(self.corrupt("it goes on behind the end of the content"));
        }
        Ok(content)
    }
}
