//! How much is brought with a page that is touched.

use std::ops::Range;

/// Pages around one that is touched that are brought with it, aligned: a frame of a store holds about as many.
const AROUND: u64 = 16;
/// So many when pages are touched in order.
const AHEAD: u64 = 256;

/// What is brought together with a page.
#[derive(Default)]
pub(super) struct Near {
    /// The memory, and behind what was brought for the last fault, and how much that was.
    last: (usize, u64, u64),
    /// For their bytes.
    pub room: Vec<u8>,
}

impl Near {
    /// The pages to be brought with this one: more and more, if they are touched in order.
    pub fn of(&mut self, (memory, page): (usize, u64)) -> Range<u64> {
        let (last, behind, count) = self.last;
        let in_order = last == memory && (behind..behind + count.max(AROUND)).contains(&page);
        let count = if in_order { (count * 2).clamp(AROUND, AHEAD) } else { AROUND };
        let start = if in_order { page } else { page / AROUND * AROUND };
        self.last = (memory, start + count, count);
        start..start + count
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn more_comes_when_pages_are_touched_in_order() {
        let mut near = Near::default();
        assert_eq!(near.of((0, 1003)), 992..1008);
        assert_eq!(near.of((0, 1008)), 1008..1040);
        assert_eq!(near.of((0, 1040)), 1040..1104);
        let mut at = 1104;
        for _ in 0..5 {
            at = near.of((0, at)).end;
        }
        assert_eq!(near.of((0, at)).end - at, AHEAD);
        // Elsewhere, or in another memory: as few as before.
        assert_eq!(near.of((0, 5)), 0..16);
        assert_eq!(near.of((1, 16)), 16..32);
    }
}
