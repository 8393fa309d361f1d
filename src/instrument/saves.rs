//! Where the values of a function's frames are saved: those that neighbouring points have in common, by one piece of code.
//!
//! Points, chain after chain (`chains.rs`), are the leaves of a tree. A node saves the values that are live at all points beneath it, and at
//! no more; so no value is kept alive for the sake of another point. A point saves what is left, and branches to the
//! node above it, which goes on to the one above; the root's values are saved by the exit that all points share.
//!
//! Points in different loops have only those values in common that no loop writes: what is saved in one place is wanted in one place, and
//! where a loop moves it on, that costs moves between registers.

use super::chains::Chains;
use super::code::Slot;
use super::liveness::contains;
use super::points::Ctl;

/// A node saves so many values at least, or leaves them to what is beneath.
const VALUES_MIN: usize = 2;

/// In functions with fewer points those in different loops have nothing in common: it saves little code, and changes how registers are
/// given out in loops that may be all that a program does.
const POINTS_MIN: usize = 8;

/// A node that saves something; its parent comes before it.
struct Node {
    parent: u32,
    values: (u32, u32),
}

/// What a point saves itself, and the node above it.
#[derive(Clone, Copy, Default)]
struct OfPoint {
    values: (u32, u32),
    node: u32,
}

/// A range of points while the tree is made.
struct Range {
    points: (u32, u32),
    /// The values that are live at all of them, and not saved above.
    values: List,
    /// The second part; the first one comes right behind the range itself. 0: it is one point.
    second: u32,
}

/// The tree of one function.
#[derive(Default)]
pub struct Saves {
    nodes: Vec<Node>,
    /// What nodes save, and then what points do.
    values: Vec<Slot>,
    points: Vec<OfPoint>,
    work: Work,
}

/// What the tree is made of; memory that is used again.
#[derive(Default)]
struct Work {
    chains: Chains,
    runs: Runs,
    ranges: Vec<Range>,
    lists: Lists,
    /// Ranges that are to be looked at, with the nodes above them.
    open: Vec<(u32, u32)>,
    /// By point, in the order of the tree: its own values, and the node above it.
    own: Vec<(List, u32)>,
}

impl Saves {
    /// Keeps the memory alone.
    pub fn clear(&mut self) {
        self.nodes.clear();
        self.values.clear();
        self.points.clear();
    }

    /// Lays it out, where `loops` are the innermost ones around the points, `slots` the values of each, and every local has the
    /// same place everywhere. `still` tells the locals that no loop writes, a bit for each; it is asked where that counts alone.
    pub fn find<'s>(
        &mut self,
        loops: &[Option<Ctl>],
        still: impl FnOnce() -> Vec<u64>,
        slots: impl Fn(usize) -> &'s [Slot],
        locals: usize,
    ) {
        let Work { chains, runs, ranges, lists, .. } = &mut self.work;
        let still = if loops.len() < POINTS_MIN { vec![] } else { still() };
        chains.find(loops, &slots, locals);
        let points = chains.order().iter().map(|&point| (loops[point as usize], slots(point as usize)));
        runs.find(points, &still, locals);
        lists.clear();
        ranges.clear();
        divide(&runs.crossing, (0, loops.len() as u32), ranges);
        for run in &runs.found {
            place(ranges, lists, 0, run.slot, (run.first, run.last + 1));
        }
        self.gather(slots);
    }

    /// Nodes with few values leave them to their parts; what is left becomes the tree. What lies in side tables is each point's own, in order.
    fn gather<'s>(&mut self, slots: impl Fn(usize) -> &'s [Slot]) {
        let Self { nodes, values, points, work: Work { chains, ranges, lists, open, own, .. } } = self;
        let count = ranges.last().map_or(0, |last| last.points.1);
        own.clear();
        open.push((0, 0));
        while let Some((at, parent)) = open.pop() {
            let Range { values: list, second, .. } = ranges[at as usize];
            let (mut node, mut left) = (parent, list);
            if at == 0 || second > 0 && list.len >= VALUES_MIN as u32 {
                node = nodes.len() as u32;
                let start = values.len() as u32;
                values.extend(lists.of(list));
                nodes.push(Node { parent, values: (start, values.len() as u32) });
                left = List::default();
            }
            if second == 0 {
                own.push((left, node));
                continue;
            }
            for part in [second, at + 1] {
                lists.append(&mut ranges[part as usize].values, left);
                open.push((part, node));
            }
        }
        debug_assert_eq!(own.len() as u32, count);
        points.resize(own.len(), OfPoint::default());
        for (&(list, node), &point) in own.iter().zip(chains.order()) {
            let start = values.len() as u32;
            values.extend(lists.of(list));
            values.extend(slots(point as usize).iter().filter(|slot| slot.kind.is_aside()));
            points[point as usize] = OfPoint { values: (start, values.len() as u32), node };
        }
    }

    /// How many nodes there are. The first is the root.
    pub fn nodes(&self) -> u32 {
        self.nodes.len() as u32
    }

    /// The node that a node goes on to, and what it saves.
    pub fn node(&self, node: u32) -> (u32, &[Slot]) {
        let Node { parent, values: (start, end) } = self.nodes[node as usize];
        (parent, &self.values[start as usize..end as usize])
    }

    /// The node that a point goes on to, and what it saves itself.
    pub fn point(&self, point: u32) -> (u32, &[Slot]) {
        let OfPoint { values: (start, end), node } = self.points[point as usize];
        (node, &self.values[start as usize..end as usize])
    }
}

/// Values one after another, of which each knows the next: many short lists in one piece of memory.
#[derive(Clone, Copy, Default)]
struct List {
    first: u32,
    last: u32,
    len: u32,
}

#[derive(Default)]
struct Lists {
    /// A value, and the place of the one behind it.
    all: Vec<(Slot, u32)>,
}

impl Lists {
    fn clear(&mut self) {
        self.all.clear();
    }

    fn push(&mut self, list: &mut List, slot: Slot) {
        let at = self.all.len() as u32;
        match list.len {
            0 => list.first = at,
            _ => self.all[list.last as usize].1 = at,
        }
        (list.last, list.len) = (at, list.len + 1);
        self.all.push((slot, 0));
    }

    /// Appends the values of another list, which stays as it is.
    fn append(&mut self, list: &mut List, other: List) {
        let mut at = other.first;
        for _ in 0..other.len {
            let (slot, next) = self.all[at as usize];
            self.push(list, slot);
            at = next;
        }
    }

    fn of(&self, list: List) -> impl Iterator<Item = Slot> + '_ {
        let mut at = list.first;
        (0..list.len).map(move |_| {
            let (slot, next) = self.all[at as usize];
            at = next;
            slot
        })
    }
}

/// A value, and points one after another at which it is live.
struct Run {
    slot: Slot,
    first: u32,
    last: u32,
}

#[derive(Default)]
struct Runs {
    found: Vec<Run>,
    /// By point: how many values are live there and at the next one.
    crossing: Vec<u32>,
    /// By local: its last run, plus 1.
    latest: Vec<u32>,
}

impl Runs {
    /// Of points in order, each with the innermost loop around it and its values. Those that are `still` go on from loop to loop.
    fn find<'s>(
        &mut self,
        points: impl Iterator<Item = (Option<Ctl>, &'s [Slot])>,
        still: &[u64],
        locals: usize,
    ) {
        let Runs { found, crossing, latest } = self;
        found.clear();
        crossing.clear();
        latest.clear();
        latest.resize(locals, 0);
        let mut before = None;
        for (here, (around, slots)) in points.enumerate() {
            // Whether all that is live at the point before goes on, and how many values do.
            let (goes_on, mut crosses) = (before == Some(around), 0);
            before = Some(around);
            let here = here as u32;
            for &slot in slots.iter().filter(|slot| slot.kind.size() > 0) {
                let latest = &mut latest[slot.local as usize];
                match found.get_mut((*latest as usize).wrapping_sub(1)) {
                    Some(run) if run.last + 1 == here && (goes_on || contains(still, slot.local)) => {
                        run.last = here;
                        crosses += 1;
                    }
                    _ => {
                        found.push(Run { slot, first: here, last: here });
                        *latest = found.len() as u32;
                    }
                }
            }
            if let Some(before) = crossing.last_mut() {
                *before = crosses;
            }
            crossing.push(0);
        }
    }
}

/// Appends the range and its parts: it is divided where the fewest values are live on both sides, in its middle half, so that the
/// tree is not deep.
fn divide(crossing: &[u32], (first, end): (u32, u32), ranges: &mut Vec<Range>) {
    let at = ranges.len();
    ranges.push(Range { points: (first, end), values: List::default(), second: 0 });
    let count = end - first;
    if count <= 1 {
        return;
    }
    let quarter = (count - 1) / 4;
    let middle = first + (count - 1) / 2;
    let places = first + quarter..end - 1 - quarter;
    let last =
        places.min_by_key(|&place| (crossing[place as usize], place.abs_diff(middle))).unwrap_or(middle);
    divide(crossing, (first, last + 1), ranges);
    ranges[at].second = ranges.len() as u32;
    divide(crossing, (last + 1, end), ranges);
}

/// Puts a value that is live at these points, of those of the range `at`, to the largest ranges within them.
fn place(ranges: &mut [Range], lists: &mut Lists, mut at: usize, slot: Slot, (mut first, end): (u32, u32)) {
    loop {
        let range = &mut ranges[at];
        if range.points == (first, end) {
            return lists.push(&mut range.values, slot);
        }
        let second = range.second as usize;
        let middle = ranges[second].points.0;
        if end <= middle {
            at += 1;
            continue;
        }
        if first < middle {
            place(ranges, lists, at + 1, slot, (first, middle));
            first = middle;
        }
        at = second;
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{random, slot};
    use super::*;

    /// The values that are saved on the way from a point to the exit, ascending, and how many pieces of code that is.
    fn saved(saves: &Saves, point: u32) -> (Vec<u32>, u32) {
        let (mut node, own) = saves.point(point);
        let mut found: Vec<u32> = own.iter().map(|slot| slot.local).collect();
        let mut pieces = 1;
        loop {
            let (parent, values) = saves.node(node);
            found.extend(values.iter().map(|slot| slot.local));
            if node == 0 {
                break;
            }
            assert!(parent < node, "a node stands before what leads to it");
            (node, pieces) = (parent, pieces + 1);
        }
        found.sort_unstable();
        (found, pieces)
    }

    #[test]
    fn each_point_saves_what_is_live_there_and_nothing_else() {
        let mut below = random(5);
        let mut saves = Saves::default();
        for _ in 0..300 {
            let (points, locals) = (1 + below(60), 1 + below(12) as u32);
            let mut loops = vec![None; points as usize];
            for (at, innermost) in loops.iter_mut().enumerate() {
                *innermost = (below(3) == 0).then_some(at as u32 / 7);
            }
            // Values come and go, and mostly stay.
            let mut live = vec![false; locals as usize];
            let slots: Vec<Vec<Slot>> = (0..points)
                .map(|_| {
                    live.iter_mut().for_each(|live| *live ^= below(5) == 0);
                    (0..locals).filter(|local| live[*local as usize]).map(slot).collect()
                })
                .collect();
            let still = vec![below(1 << 12)];
            saves.clear();
            saves.find(&loops, || still, |point| &slots[point], locals as usize);
            for (point, slots) in slots.iter().enumerate() {
                let wanted: Vec<u32> = slots.iter().map(|slot| slot.local).collect();
                let (found, pieces) = saved(&saves, point as u32);
                assert_eq!(found, wanted, "at point {point}");
                assert!(pieces <= 16, "{pieces} pieces of code of {points} points");
            }
        }
    }

    #[test]
    fn what_all_points_have_is_saved_once() {
        let all: Vec<Slot> = (0..5).map(slot).collect();
        let mut saves = Saves::default();
        saves.find(&[None; 40], Vec::new, |_| &all, 5);
        assert_eq!(saves.nodes(), 1);
        assert_eq!(saves.node(0).1.len(), 5);
        assert!((0..40).all(|point| saves.point(point) == (0, &[])));
    }

    #[test]
    fn points_of_different_loops_share_what_no_loop_writes() {
        let all: Vec<Slot> = (0..5).map(slot).collect();
        // How many values the exit saves, and how many nodes there are.
        let of_two_loops = |points: Ctl, still: &[u64]| {
            let mut saves = Saves::default();
            let loops: Vec<Option<Ctl>> =
                (0..points).map(|point| (point >= points / 2).then_some(1)).collect();
            saves.find(&loops, || still.to_vec(), |_| &all, 5);
            (saves.node(0).1.len(), saves.nodes())
        };
        assert_eq!(
            of_two_loops(40, &[]),
            (0, 3),
            "besides the exit there is one for the points of each loop"
        );
        assert_eq!(of_two_loops(40, &[0b1_0101]), (3, 3));
        assert_eq!(of_two_loops(40, &[0b1_1111]), (5, 1));
        assert_eq!(of_two_loops(6, &[0b1_1111]), (0, 3), "few points");
    }
}
