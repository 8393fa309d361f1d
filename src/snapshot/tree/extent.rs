//! Which parts of a content are not all zeros, found from the nodes of its tree alone.
//!
//! A few nodes can stand for any number of pages. So a node is looked at once, however often it is there, and a part
//! that is full is told as one.

use std::collections::HashMap;

use super::load::{Fetch, Place};
use super::{TreeError, pages};
use crate::digest::ChunkId;

/// What a content holds.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Extents {
    /// Pages that are not all zeros.
    pub pages: u64,
    /// Runs of such pages.
    pub count: u64,
    /// The first runs: first byte, and byte behind the last.
    pub runs: Vec<(u64, u64)>,
}

/// What is below a node.
#[derive(Debug, Clone, Copy, Default)]
struct Below {
    pages: u64,
    runs: u64,
    /// Its first page is one of a run, and its last one is.
    ends: (bool, bool),
}

impl Extents {
    /// Those of the content named `root` of `len` bytes, with `most` runs at most. Fetches and checks the nodes; pages
    /// are not read.
    ///
    /// # Errors
    /// A [`TreeError`], which names the chunk and the bytes that it should hold.
    pub fn of(root: ChunkId, len: u64, most: usize, fetch: &mut Fetch<'_>) -> Result<Self, TreeError> {
        let top = Place::root(root, len)?;
        let mut survey = Survey { fetch, seen: HashMap::new() };
        let Below { pages, runs: count, .. } = survey.below(top)?;
        let mut runs = vec![];
        survey.runs(top, most, &mut runs)?;
        runs.truncate(most);
        Ok(Self { pages, count, runs })
    }
}

struct Survey<'a, 'b> {
    fetch: &'a mut Fetch<'b>,
    /// With the level, since the same id at another level means something else.
    seen: HashMap<(ChunkId, u32), Below>,
}

impl Survey<'_, '_> {
    fn below(&mut self, place: Place) -> Result<Below, TreeError> {
        if place.id == ChunkId::ZERO {
            return Ok(Below::default());
        }
        if place.level == 0 {
            return Ok(Below { pages: 1, runs: 1, ends: (true, true) });
        }
        // At the end of the content a node has fewer children, and is there once.
        let name = (place.id, place.level);
        let is_whole = place.is_whole();
        if let Some(known) = self.seen.get(&name).filter(|_| is_whole) {
            return Ok(*known);
        }
        let mut sum = Below::default();
        for (nth, child) in place.children(self.fetch)?.into_iter().enumerate() {
            let Below { pages, runs, ends } = self.below(child)?;
            let joined = sum.ends.1 && ends.0;
            sum.pages += pages;
            sum.runs += runs - u64::from(joined);
            sum.ends = (if nth == 0 { ends.0 } else { sum.ends.0 }, ends.1);
        }
        if is_whole {
            self.seen.insert(name, sum);
        }
        Ok(sum)
    }

    /// Adds the runs below this place, until there are more than `most`.
    fn runs(&mut self, place: Place, most: usize, runs: &mut Vec<(u64, u64)>) -> Result<(), TreeError> {
        if runs.len() > most {
            return Ok(());
        }
        let below = self.below(place)?.pages;
        let (start, end) = (place.start(), place.end());
        if below == pages(end - start) {
            match runs.last_mut() {
                Some((_, last)) if *last == start => *last = end,
                _ if below > 0 => runs.push((start, end)),
                _ => {}
            }
        } else if below > 0 {
            for child in place.children(self.fetch)? {
                self.runs(child, most, runs)?;
            }
        }
        Ok(())
    }
}
