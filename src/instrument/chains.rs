//! In which order the points of a function share what saves their values: neighbours have most of them in common.
//!
//! In program order they often have not. What cleans up behind a call stands right behind it, and needs a few values only, where the next
//! call needs them all again; a loop lies between what comes before it and what comes after. So there are chains of points: each point
//! is appended to the one, of those in the same innermost loop, whose last point differs least from it, or begins a new chain if all differ much.

use super::code::Slot;
use super::liveness::insert;
use super::points::Ctl;

/// So many chains in a loop, at most.
const CHAINS_MAX: usize = 4;
/// A point that differs by so many values belongs to a chain anyway.
const DIFFERENCE_MIN: u32 = 4;

#[derive(Default)]
pub struct Chains {
    /// By chain: the one before it in the same loop, plus 1; 0 if there is none.
    before: Vec<u32>,
    /// By innermost loop, plus 1: its last chain, plus 1; 0 if there is none.
    last: Vec<u32>,
    /// By chain: the values of its last point, a bit for each local.
    sets: Vec<u64>,
    /// By point: its chain.
    of_point: Vec<u32>,
    /// The points, chain after chain.
    order: Vec<u32>,
}

impl Chains {
    /// Puts the points in order, where `loops` are the innermost ones around each.
    pub fn find<'s>(&mut self, loops: &[Option<Ctl>], slots: impl Fn(usize) -> &'s [Slot], locals: usize) {
        let words = locals.div_ceil(64);
        let Self { before, last, sets, of_point, order } = self;
        before.clear();
        last.clear();
        sets.clear();
        of_point.clear();
        for (point, around) in loops.iter().enumerate() {
            let around = around.map_or(0, |ctl| ctl as usize + 1);
            if last.len() <= around {
                last.resize(around + 1, 0);
            }
            // The point's values, where a new chain would have them.
            let at = sets.len();
            sets.resize(at + words, 0);
            let mut count = 0;
            for slot in slots(point).iter().filter(|slot| slot.kind.size() > 0) {
                insert(&mut sets[at..], slot.local);
                count += 1;
            }
            let (those, here) = sets.split_at(at);
            let last = &mut last[around];
            let chains = || std::iter::successors(chain(*last), |at| chain(before[*at as usize]));
            let differences = chains().map(|at| (at, differ(&those[at as usize * words..], here)));
            let nearest = differences.min_by_key(|(_, difference)| *difference);
            match nearest {
                Some((chain, difference))
                    if difference <= DIFFERENCE_MIN.max(count / 2) || chains().count() == CHAINS_MAX =>
                {
                    sets.copy_within(at.., chain as usize * words);
                    sets.truncate(at);
                    of_point.push(chain);
                }
                _ => {
                    of_point.push(before.len() as u32);
                    before.push(*last);
                    *last = before.len() as u32;
                }
            }
        }
        order.clear();
        order.extend(0..loops.len() as u32);
        order.sort_by_key(|&point| of_point[point as usize]);
    }

    /// The points, chain after chain.
    pub fn order(&self) -> &[u32] {
        &self.order
    }
}

/// A chain that is stored plus 1, if one is.
fn chain(stored: u32) -> Option<u32> {
    stored.checked_sub(1)
}

/// How many locals are in one of two sets alone.
fn differ(one: &[u64], other: &[u64]) -> u32 {
    one.iter().zip(other).map(|(one, other)| (one ^ other).count_ones()).sum()
}

#[cfg(test)]
mod tests {
    use super::super::testing::{random, slot};
    use super::*;

    fn slots(locals: impl IntoIterator<Item = u32>) -> Vec<Slot> {
        locals.into_iter().map(slot).collect()
    }

    fn order(loops: &[Option<Ctl>], values: &[Vec<Slot>]) -> Vec<u32> {
        let mut chains = Chains::default();
        chains.find(loops, |point| &values[point], 200);
        chains.order().to_vec()
    }

    #[test]
    fn what_cleans_up_between_calls_is_in_a_chain_of_its_own() {
        // Every other point needs few values, and the others most of them.
        let values: Vec<_> =
            (0..10).map(|point| if point % 2 == 0 { slots(point..150) } else { slots(140..150) }).collect();
        assert_eq!(order(&[None; 10], &values), [0, 2, 4, 6, 8, 1, 3, 5, 7, 9]);
    }

    #[test]
    fn a_loop_between_them_does_not_part_points() {
        let loops = [None, Some(1), Some(1), None, Some(3), None];
        let values: Vec<_> = loops.iter().map(|_| slots(0..9)).collect();
        assert_eq!(order(&loops, &values), [0, 3, 5, 1, 2, 4]);
    }

    #[test]
    fn each_point_is_there_once_and_chains_are_few() {
        let mut below = random(3);
        let mut chains = Chains::default();
        for _ in 0..200 {
            let count = below(80) as usize;
            let loops: Vec<Option<Ctl>> = (0..count).map(|_| Some(below(3) as u32)).collect();
            let values: Vec<_> =
                loops.iter().map(|_| slots((0..200).filter(|_| below(9) == 0).collect::<Vec<_>>())).collect();
            chains.find(&loops, |point| &values[point], 200);
            assert!(chains.before.len() <= 3 * CHAINS_MAX);
            let mut order = chains.order().to_vec();
            order.sort_unstable();
            assert!(order.into_iter().eq(0..count as u32));
        }
    }
}
