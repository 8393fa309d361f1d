//! Making memories ready, whose pages are then brought one by one.

use std::io;
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};

use super::linux::{self, THREAD_ID};
use super::nodes::read_level;
use super::pager::{MayTrap, Pager, lock};
use super::region::Region;
use super::{ChunkSource, Restoring};
use crate::digest::ChunkId;
use crate::machine::dirty::linux::{Uffd, WP_ASYNC, page_size};
use crate::snapshot::{Known, PAGE, Partial, TreeError};

/// Pages of the same node's children of this level are either all zeros or watched (16 MiB).
const COARSE: u32 = 4;
/// So many nodes are read before the guest runs, to find what of its memory is zeros.
const FIRST_NODES: usize = 64;

/// Memories that are made ready, one after the other.
pub(in crate::machine) struct Setup {
    protect: bool,
    regions: Vec<Region>,
    fails: bool,
}

impl Setup {
    /// For memories whose pages come write-protected, or not.
    pub fn new(protect: bool) -> Self {
        Self { protect, regions: vec![], fails: page_size() != PAGE as u64 }
    }

    /// Adds the next memory, whose bytes are thrown away, and which is to be the content named `root`.
    ///
    /// # Errors
    /// The tree cannot be read.
    pub fn add(
        &mut self,
        bytes: &mut [u8],
        root: ChunkId,
        source: &dyn ChunkSource,
    ) -> Result<(), TreeError> {
        if self.fails {
            return Ok(());
        }
        let tree = upper_nodes(Partial::new(root, bytes.len() as u64)?, source)?;
        match region(bytes, tree, self.protect) {
            Ok(region) => self.regions.push(region),
            Err(_) => self.fails = true,
        }
        Ok(())
    }

    /// What brings their pages; nothing if the system has not what that takes.
    pub fn finish(self, how: &Restoring, may_trap: MayTrap) -> Option<Pager> {
        if self.fails {
            return None;
        }
        Pager::new(self.regions, how, may_trap).ok()
    }
}

/// A memory of this tree, of which no page is there.
fn region(bytes: &mut [u8], tree: Partial, protect: bool) -> io::Result<Region> {
    let uffd = Uffd::open(THREAD_ID | if protect { WP_ASYNC } else { 0 })?;
    linux::map_fresh(bytes)?;
    let zeros = zeros(&tree);
    let region = Region::new(bytes.as_ptr() as u64, Arc::new(uffd), protect, tree);
    let mut at = 0;
    for zeros in zeros {
        if at < zeros.start {
            region.watch(at..zeros.start)?;
        }
        at = zeros.end;
        region.leave(zeros)?;
    }
    if at < region.pages {
        region.watch(at..region.pages)?;
    }
    Ok(region)
}

/// Reads the nodes near the root, as far as they are few.
fn upper_nodes(tree: Partial, source: &dyn ChunkSource) -> Result<Partial, TreeError> {
    let (tree, mut left) = (Mutex::new(tree), FIRST_NODES);
    let top = lock(&tree).top();
    for level in (COARSE + 1..=top).rev() {
        left = left.saturating_sub(lock(&tree).unread(level).take(FIRST_NODES + 1).count());
        if left == 0 {
            break;
        }
        read_level(&tree, level, (source, 1), &mut Err)?;
    }
    Ok(tree.into_inner().unwrap_or_else(PoisonError::into_inner))
}

/// Runs of pages that are known to be zeros, each of many.
fn zeros(tree: &Partial) -> Vec<Range<u64>> {
    let mut found: Vec<Range<u64>> = vec![];
    let (end, mut at) = (tree.pages(), 0);
    while at < end {
        let next = match tree.page(at) {
            Known::Zero => (at + 8_u64.pow(COARSE)).min(end),
            Known::Behind(node) | Known::Page(node) => {
                at = node.pages().end.max(at + 1);
                continue;
            }
        };
        match found.last_mut() {
            Some(last) if last.end == at => last.end = next,
            _ => found.push(at..next),
        }
        at = next;
    }
    found
}
