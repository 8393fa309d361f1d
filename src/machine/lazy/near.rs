//! How much is brought with a page that is touched.

use std::ops::Range;

/// Pages around one that is touched that are brought with it, aligned: a frame of a store holds about as many.
const AROUND: u64 = 16;
/// The first so many faults bring no more. With twice as many faults it is twice as much each, up to [`AHEAD`]: who
/// touches few pages waits for little more than these, and who touches all of them waits seldom.
const FEW: u64 = 256;
/// So many at most, as when pages are touched in order.
const AHEAD: u64 = 256;

/// What is brought together with a page.
#[derive(Default)]
pub(super) struct Near {
    /// The memory, and behind what was brought for the last fault, and how much that was.
    last: (usize, u64, u64),
    /// Pages asked for so far.
    count: u64,
}

impl Near {
    /// The pages to be brought with this one: more and more, if they are touched in order.
    pub fn of(&mut self, (memory, page): (usize, u64)) -> Range<u64> {
        let (last, behind, count) = self.last;
        let in_order = last == memory && (behind..behind + count.max(AROUND)).contains(&page);
        self.count += 1;
        let around = (AROUND * (self.count / FEW).max(1)).next_power_of_two().min(AHEAD);
        let count = if in_order { (count * 2).clamp(around, AHEAD) } else { around };
        let start = if in_order { page } else { page / around * around };
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

    #[test]
    fn more_comes_when_many_pages_are_touched() {
        let mut near = Near::default();
        let mut brought = |n: u64| (0..n).map(|n| near.of((0, n * 7919 % 65536))).last().unwrap();
        let mut count = |n: u64| {
            let range = brought(n);
            assert_eq!(range.start % (range.end - range.start), 0);
            range.end - range.start
        };
        assert_eq!(count(FEW), 16);
        assert_eq!(count(FEW), 32);
        assert_eq!(count(FEW * 2), 64);
        assert_eq!(count(FEW * 200), AHEAD);
    }
}
