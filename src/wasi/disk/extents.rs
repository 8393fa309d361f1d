//! Where the blocks of a file are in the volume.

use std::collections::BTreeMap;

/// Neighbouring blocks of the volume.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Run {
    /// The first one.
    pub start: u32,
    /// How many.
    pub len: u32,
}

/// Maps blocks of a file to blocks of the volume; a block that is missing is a hole. Canonical: neighbours
/// that go on in the volume as well are one entry.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Extents {
    /// By first block in the file.
    runs: BTreeMap<u32, Run>,
    /// Blocks in all.
    blocks: u32,
}

impl Extents {
    /// Blocks in all.
    pub fn blocks(&self) -> u32 {
        self.blocks
    }

    /// The block behind the last one.
    pub fn end(&self) -> u32 {
        self.runs.last_key_value().map_or(0, |(at, run)| at + run.len)
    }

    /// All, as (first block in the file, blocks in the volume), in ascending order.
    pub fn iter(&self) -> impl Iterator<Item = (u32, Run)> + '_ {
        self.runs.iter().map(|(at, run)| (*at, *run))
    }

    /// What is at `block`, up to before `end`: where it is in the volume (none for a hole), and for how many
    /// blocks this goes on.
    pub fn piece(&self, block: u32, end: u32) -> (Option<u32>, u32) {
        let left = end - block;
        if let Some((at, run)) = self.runs.range(..=block).next_back()
            && block - at < run.len
        {
            let into = block - at;
            return (Some(run.start + into), left.min(run.len - into));
        }
        let next = self.runs.range(block..).next().map_or(end, |(at, _)| *at);
        (None, left.min(next - block))
    }

    /// The block of the volume that follows what is before `block` in the file: where to put it best.
    pub fn goal(&self, block: u32) -> Option<u32> {
        let (at, run) = self.runs.range(..block).next_back()?;
        (at + run.len == block).then_some(run.start + run.len)
    }

    /// Fills a hole.
    pub fn insert(&mut self, mut at: u32, mut run: Run) {
        self.blocks += run.len;
        if let Some((before, old)) = self.runs.range_mut(..at).next_back()
            && before + old.len == at
            && old.start + old.len == run.start
        {
            (at, run) = (*before, Run { start: old.start, len: old.len + run.len });
        }
        if let Some((next, old)) = self.runs.range(at + 1..).next()
            && at + run.len == *next
            && run.start + run.len == old.start
        {
            let (next, len) = (*next, old.len);
            self.runs.remove(&next);
            run.len += len;
        }
        self.runs.insert(at, run);
    }

    /// Cuts off everything from `block` on, and gives what was there.
    pub fn truncate(&mut self, block: u32) -> Vec<Run> {
        let mut cut = Vec::new();
        if let Some((at, run)) = self.runs.range_mut(..block).next_back()
            && at + run.len > block
        {
            let keep = block - at;
            cut.push(Run { start: run.start + keep, len: run.len - keep });
            run.len = keep;
        }
        cut.extend(self.runs.split_off(&block).into_values());
        self.blocks -= cut.iter().map(|run| run.len).sum::<u32>();
        cut
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neighbours_are_one_entry_and_can_be_cut() {
        let mut extents = Extents::default();
        extents.insert(0, Run { start: 10, len: 2 });
        extents.insert(3, Run { start: 13, len: 1 });
        assert_eq!(extents.piece(1, 9), (Some(11), 1));
        assert_eq!(extents.piece(2, 9), (None, 1));
        assert_eq!(extents.piece(4, 9), (None, 5));
        assert_eq!((extents.goal(2), extents.goal(3)), (Some(12), None));
        extents.insert(2, Run { start: 12, len: 1 });
        assert_eq!(extents.iter().collect::<Vec<_>>(), [(0, Run { start: 10, len: 4 })]);
        assert_eq!((extents.blocks(), extents.end()), (4, 4));
        assert_eq!(extents.truncate(1), [Run { start: 11, len: 3 }]);
        assert_eq!((extents.blocks(), extents.end()), (1, 1));
        assert_eq!(extents.truncate(0), [Run { start: 10, len: 1 }]);
        assert_eq!(extents, Extents::default());
    }
}
