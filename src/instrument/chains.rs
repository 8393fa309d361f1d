//! In which order the points of a function share what saves their values: neighbours have most of them in common.
//!
//! In program order they often have not. What cleans up behind a call stands right behind it, and needs a few values only, where the next
//! call needs them all again; a loop lies between what comes before it and what comes after. So there are chains of points: each point
//! is appended to the one, of those in the same innermost loop, whose last point differs least from it, or begins a new chain if all differ much.

use super::code::Slot;
use super::points::Ctl;

/// So many chains in a loop, at most.
const CHAINS_MAX: u32 = 4;
/// A point that differs by so many values belongs to a chain anyway.
const DIFFERENCE_MIN: u32 = 4;

#[derive(Default)]
pub struct Chains {
    /// The points, chain after chain.
    order: Vec<u32>,
    chains: Vec<Chain>,
    /// By innermost loop, plus 1: its last chain, plus 1.
    of_loop: Vec<u32>,
    /// By chain: the values of its last point, a bit for each local.
    sets: Vec<u64>,
    /// By point: the one behind it in its chain, plus 1.
    next: Vec<u32>,
}

struct Chain {
    first: u32,
    last: u32,
    /// The chain before it in the same loop, plus 1.
    before: u32,
    /// How many chains there are up to this one in that loop.
    number: u32,
}

impl Chains {
    /// The points in order, where `loops` are the innermost ones around each.
    pub fn order<'s>(
        &mut self,
        loops: &[Option<Ctl>],
        slots: impl Fn(usize) -> &'s [Slot],
        locals: usize,
    ) -> &[u32] {
        let words = locals.div_ceil(64);
        let Self { order, chains, of_loop, sets, next } = self;
        order.clear();
        chains.clear();
        sets.clear();
        next.clear();
        next.resize(loops.len(), 0);
        of_loop.clear();
        for (point, around) in loops.iter().enumerate() {
            let around = around.map_or(0, |ctl| ctl as usize + 1);
            if of_loop.len() <= around {
                of_loop.resize(around + 1, 0);
            }
            // The point's values, where a new chain would have them.
            let at = sets.len();
            sets.resize(at + words, 0);
            let mut count = 0;
            for slot in slots(point).iter().filter(|slot| slot.kind.size() > 0) {
                sets[at + slot.local as usize / 64] |= 1 << (slot.local % 64);
                count += 1;
            }
            let last = of_loop[around];
            let nearest = nearest(chains, sets, words, last);
            let room = last == 0 || chains[last as usize - 1].number < CHAINS_MAX;
            match nearest {
                Some((chain, difference)) if !room || difference <= DIFFERENCE_MIN.max(count / 2) => {
                    sets.copy_within(at.., chain * words);
                    sets.truncate(at);
                    let chain = &mut chains[chain];
                    next[chain.last as usize] = point as u32 + 1;
                    chain.last = point as u32;
                }
                _ => {
                    let number = last.checked_sub(1).map_or(1, |last| chains[last as usize].number + 1);
                    let point = point as u32;
                    chains.push(Chain { first: point, last: point, before: last, number });
                    of_loop[around] = chains.len() as u32;
                }
            }
        }
        for chain in chains.iter() {
            let mut point = chain.first + 1;
            while point != 0 {
                order.push(point - 1);
                point = next[point as usize - 1];
            }
        }
        order
    }

    /// What [`Chains::order`] gave last.
    pub fn in_order(&self) -> &[u32] {
        &self.order
    }
}

/// Of the chains of a loop, the last of which is given, plus 1: that whose last point differs least from the values behind all chains, and
/// by how many.
fn nearest(chains: &[Chain], sets: &[u64], words: usize, last: u32) -> Option<(usize, u32)> {
    let here = &sets[chains.len() * words..];
    let before = |at: &u32| Some(chains[*at as usize - 1].before).filter(|before| *before > 0);
    let those = std::iter::successors(Some(last).filter(|last| *last > 0), before);
    let difference = |at: u32| {
        let chain = at as usize - 1;
        let last = &sets[chain * words..][..words];
        (chain, last.iter().zip(here).map(|(last, here)| (last ^ here).count_ones()).sum())
    };
    those.map(difference).min_by_key(|(_, difference)| *difference)
}

#[cfg(test)]
mod tests {
    use wasmparser::ValType;

    use super::super::frame::Kind;
    use super::*;

    fn slots(locals: impl IntoIterator<Item = u32>) -> Vec<Slot> {
        let slot = |local| Slot { local, ty: ValType::I32, kind: Kind::I32, at: 0 };
        locals.into_iter().map(slot).collect()
    }

    fn order(loops: &[Option<Ctl>], values: &[Vec<Slot>]) -> Vec<u32> {
        Chains::default().order(loops, |point| &values[point], 200).to_vec()
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
        let mut seed = 3u64;
        let mut below = |n: u64| {
            seed = seed.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            (seed >> 33) % n
        };
        let mut chains = Chains::default();
        for _ in 0..200 {
            let count = below(80) as usize;
            let loops: Vec<Option<Ctl>> = (0..count).map(|_| Some(below(3) as u32)).collect();
            let values: Vec<_> =
                loops.iter().map(|_| slots((0..200).filter(|_| below(9) == 0).collect::<Vec<_>>())).collect();
            let mut order = chains.order(&loops, |point| &values[point], 200).to_vec();
            assert_eq!(chains.in_order(), order);
            assert!(chains.chains.len() <= 3 * CHAINS_MAX as usize);
            order.sort_unstable();
            assert!(order.into_iter().eq(0..count as u32));
        }
    }
}
