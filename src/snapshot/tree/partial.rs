//! A page tree whose nodes are read as they are needed, in any order.

use super::load::Place;
use super::{FANOUT, NODE, PAGE, Tree, ZERO_PAGE, check_chunk, pages};
use super::{Kind, TreeError};
use crate::digest::ChunkId;

/// A tree of which some nodes have been read, from the root downwards.
#[derive(Debug)]
pub struct Partial {
    tree: Tree,
    /// Of each level, a bit for each node that was read; level 0 has none.
    read: Vec<Vec<u64>>,
}

/// A chunk at its place in a tree.
#[derive(Debug, Clone, Copy)]
pub struct ChunkAt(Place);

impl ChunkAt {
    /// Its id.
    pub fn id(&self) -> ChunkId {
        self.0.id
    }

    /// Levels that are below it; 0 for a page.
    pub fn level(&self) -> u32 {
        self.0.level
    }

    /// The pages that it holds, by index.
    pub fn pages(&self) -> std::ops::Range<u64> {
        self.0.start() / PAGE as u64..self.0.end().div_ceil(PAGE as u64)
    }

    /// It cannot be had.
    pub fn missing(&self, cause: anyhow::Error) -> TreeError {
        TreeError::Missing { id: self.0.id, start: self.0.start(), end: self.0.end(), cause }
    }

    /// Checks what was read for this page, whose bytes are known to have its id.
    ///
    /// # Errors
    /// [`TreeError::Corrupt`]: it is none, or one that no tree has.
    pub fn check_page(&self, bytes: &[u8]) -> Result<(), TreeError> {
        if bytes.len() != PAGE {
            return Err(self.0.corrupt(format!("{} bytes; a page has {PAGE}", bytes.len())));
        }
        if *bytes == ZERO_PAGE {
            return Err(self.0.corrupt("it is all zeros, for which there is no chunk"));
        }
        self.0.check_page(bytes).map(drop)
    }
}

/// What is known of a page.
#[derive(Debug, Clone, Copy)]
pub enum Known {
    /// It is all zeros.
    Zero,
    /// It is this chunk.
    Page(ChunkAt),
    /// This node must be read first.
    Behind(ChunkAt),
}

impl Partial {
    /// The tree named `root` of a content of `len` bytes, of which nothing has been read.
    ///
    /// # Errors
    /// [`TreeError::TooLong`], or a root that such a content does not have.
    pub fn new(root: ChunkId, len: u64) -> Result<Self, TreeError> {
        let top = Place::root(root, len)?;
        let mut tree = Tree::new();
        tree.resize(len);
        let mut width = pages(len);
        let mut read = vec![vec![]];
        for _ in 0..top.level {
            width = width.div_ceil(FANOUT as u64);
            read.push(vec![0; width.div_ceil(64) as usize]);
        }
        if root != ChunkId::ZERO {
            tree.levels[top.level as usize].set(0, root);
        }
        Ok(Self { tree, read })
    }

    /// How many pages there are.
    pub fn pages(&self) -> u64 {
        pages(self.tree.len)
    }

    /// What is known of a page; one beyond the end is zeros.
    pub fn page(&self, index: u64) -> Known {
        // Mostly its node has been read.
        let node = index / FANOUT as u64;
        if self.read.get(1).is_some_and(|read| is_set(read, node)) {
            let at = self.at(0, index);
            return if at.id() == ChunkId::ZERO { Known::Zero } else { Known::Page(at) };
        }
        for level in (0..self.read.len() as u32).rev() {
            let at = self.at(level, index / (FANOUT as u64).pow(level));
            if at.id() == ChunkId::ZERO {
                return Known::Zero;
            }
            if level == 0 {
                return Known::Page(at);
            }
            if !self.is_read(at.0) {
                return Known::Behind(at);
            }
        }
        Known::Zero
    }

    /// Nodes of this level that are known and have not been read, by ascending index; none on level 0.
    pub fn unread(&self, level: u32) -> impl Iterator<Item = ChunkAt> + '_ {
        let count = if level == 0 { 0 } else { pages(self.tree.len).div_ceil((FANOUT as u64).pow(level)) };
        let places = (0..count).map(move |index| self.at(level, index));
        places.filter(|at| at.id() != ChunkId::ZERO && !self.is_read(at.0))
    }

    /// The highest level.
    pub fn top(&self) -> u32 {
        self.read.len() as u32 - 1
    }

    /// Takes what was read for a node.
    ///
    /// # Errors
    /// [`TreeError::Corrupt`].
    pub fn put(&mut self, node: ChunkAt, bytes: &[u8]) -> Result<(), TreeError> {
        let place = node.0;
        match check_chunk(place.id, bytes) {
            Ok(Kind::Node) if place.level > 0 => {}
            Ok(_) => return Err(place.corrupt("it is a page where a node belongs")),
            Err(problem) => return Err(place.corrupt(problem)),
        }
        debug_assert_eq!(bytes.len(), NODE);
        let ids = place.child_ids(bytes)?;
        self.tree.levels[place.level as usize - 1].fill(place.index * FANOUT as u64, ids.into_iter());
        if let Some(word) = self.read[place.level as usize].get_mut((place.index / 64) as usize) {
            *word |= 1 << (place.index % 64);
        }
        Ok(())
    }

    /// Whether all nodes have been read.
    pub fn is_whole(&self) -> bool {
        (1..=self.top()).all(|level| self.unread(level).next().is_none())
    }

    /// The tree, when all nodes have been read.
    pub fn whole(&self) -> Option<Tree> {
        self.is_whole().then(|| self.tree.clone())
    }

    /// As [`Partial::whole`], without a copy.
    pub fn into_whole(self) -> Option<Tree> {
        self.is_whole().then_some(self.tree)
    }

    fn at(&self, level: u32, index: u64) -> ChunkAt {
        let id = self.tree.levels.get(level as usize).map_or(ChunkId::ZERO, |level| level.get(index));
        ChunkAt(Place { id, level, index, len: self.tree.len })
    }

    fn is_read(&self, place: Place) -> bool {
        is_set(&self.read[place.level as usize], place.index)
    }
}

fn is_set(bits: &[u64], index: u64) -> bool {
    bits.get((index / 64) as usize).is_some_and(|word| word >> (index % 64) & 1 == 1)
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::super::Dirty;
    use super::*;

    fn content(pages: usize) -> Vec<u8> {
        let mut bytes = vec![0; pages * PAGE];
        for (n, page) in bytes.chunks_mut(PAGE).enumerate().filter(|(n, _)| n % 100 < 60) {
            page[n % PAGE] = 1 + (n % 250) as u8;
        }
        bytes
    }

    #[test]
    fn read_on_demand_it_is_the_same_tree() {
        for count in [1, 2, 8, 9, 64, 700, 5000] {
            let bytes = content(count);
            let (mut tree, mut chunks) = (Tree::new(), HashMap::new());
            let mut keep = |id, bytes: &[u8]| {
                chunks.insert(id, bytes.to_vec());
                Ok(())
            };
            let root = tree.update(&bytes, Dirty::All, &mut keep).unwrap();
            let mut partial = Partial::new(root, bytes.len() as u64).unwrap();
            // From the middle, on demand.
            for index in (0..count as u64).map(|n| (n + count as u64 / 2) % count as u64) {
                let page = &bytes[index as usize * PAGE..][..PAGE];
                loop {
                    match partial.page(index) {
                        Known::Behind(node) => partial.put(node, &chunks[&node.id()]).unwrap(),
                        Known::Zero => break assert_eq!(page, ZERO_PAGE),
                        Known::Page(at) => {
                            at.check_page(&chunks[&at.id()]).unwrap();
                            assert_eq!(at.pages(), index..index + 1);
                            break assert_eq!(at.id(), ChunkId::of(page));
                        }
                    }
                }
            }
            let whole = partial.whole().expect("all nodes above pages were read");
            assert_eq!(whole.root(), root);
            let mut whole = whole;
            let again = whole.update(&bytes, Dirty::All, &mut |_, _| panic!("all is known")).unwrap();
            assert_eq!(again, root);
        }
    }

    #[test]
    fn what_is_not_a_node_is_refused_and_changes_nothing() {
        let bytes = content(70);
        let mut chunks = HashMap::new();
        let mut keep = |id, bytes: &[u8]| {
            chunks.insert(id, bytes.to_vec());
            Ok(())
        };
        let root = Tree::new().update(&bytes, Dirty::All, &mut keep).unwrap();
        let mut partial = Partial::new(root, bytes.len() as u64).unwrap();
        let Known::Behind(top) = partial.page(0) else { panic!() };
        let mut wrong = chunks[&root].clone();
        wrong[40] ^= 1;
        for bad in [&wrong[..], &bytes[..PAGE], &[0; NODE], &[]] {
            assert!(matches!(partial.put(top, bad), Err(TreeError::Corrupt { .. })));
            assert!(matches!(partial.page(0), Known::Behind(_)));
        }
        assert!(partial.whole().is_none());
        assert!(Partial::new(root, super::super::LEN_MAX + 1).is_err());
    }
}
