//! Where the values of a function's frames are saved: those that neighbouring points have in common, by one piece of code.
//!
//! Points in program order are the leaves of a tree. A node saves the values that are live at all points beneath it, and at
//! no more; so no value is kept alive for the sake of another point. A point saves what is left, and branches to the
//! node above it, which goes on to the one above; the root's values are saved by the exit that all points share.
//!
//! Points in different loops have nothing in common: what is saved in one place is wanted in one place, and in loops
//! that costs moves between registers.

use super::code::Slot;
use super::points::Ctl;

/// A node saves so many values at least, or leaves them to what is beneath.
const VALUES_MIN: usize = 2;

/// A node that saves something; its parent comes before it.
struct Node {
    parent: u32,
    values: (u32, u32),
}

/// A range of points while the tree is made.
struct Range {
    points: (u32, u32),
    /// The values that are live at all of them, and not saved above.
    values: Vec<Slot>,
    /// The second part; the first one comes right behind the range itself. None: it is one point.
    second: Option<usize>,
}

/// The tree of one function.
#[derive(Default)]
pub struct Saves {
    nodes: Vec<Node>,
    /// What nodes save, and then what points do.
    values: Vec<Slot>,
    /// By point: the end of its own values, and the node above it.
    points: Vec<(u32, u32)>,
}

impl Saves {
    /// Keeps the memory alone.
    pub fn clear(&mut self) {
        self.nodes.clear();
        self.values.clear();
        self.points.clear();
    }

    /// Lays it out, where `loops` are the innermost ones around the points, `slots` the values of each, and every local has the
    /// same place everywhere.
    pub fn find<'s>(&mut self, loops: &[Option<Ctl>], slots: impl Fn(usize) -> &'s [Slot], locals: usize) {
        let runs = Runs::find(loops, &slots, locals);
        let mut ranges = vec![];
        divide(&runs.crossing, (0, loops.len() as u32), &mut ranges);
        for &(slot, first, last) in &runs.found {
            place(&mut ranges, 0, slot, (first, last + 1));
        }
        self.gather(&mut ranges);
    }

    /// Nodes with few values leave them to their parts; what is left becomes the tree.
    fn gather(&mut self, ranges: &mut [Range]) {
        let count = ranges.last().map_or(0, |last| last.points.1);
        let mut own = vec![];
        // (range, the node above it)
        let mut open = vec![(0usize, 0u32)];
        while let Some((at, parent)) = open.pop() {
            let mut values = std::mem::take(&mut ranges[at].values);
            let (second, mut node) = (ranges[at].second, parent);
            if at == 0 || second.is_some() && values.len() >= VALUES_MIN {
                node = self.nodes.len() as u32;
                let start = self.values.len() as u32;
                self.values.append(&mut values);
                self.nodes.push(Node { parent, values: (start, self.values.len() as u32) });
            }
            let Some(second) = second else {
                own.push((values, node));
                continue;
            };
            for part in [second, at + 1] {
                ranges[part].values.extend_from_slice(&values);
                open.push((part, node));
            }
        }
        debug_assert_eq!(own.len() as u32, count);
        for (values, node) in own {
            self.values.extend(values);
            self.points.push((self.values.len() as u32, node));
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
        let (end, node) = self.points[point as usize];
        let nodes = || self.nodes.last().map_or(0, |last| last.values.1);
        let start = point.checked_sub(1).map_or_else(nodes, |before| self.points[before as usize].0);
        (node, &self.values[start as usize..end as usize])
    }
}

/// Values and the points one after another at which they are live.
struct Runs {
    /// (value, first point, last point)
    found: Vec<(Slot, u32, u32)>,
    /// By point: how many values are live there and at the next one.
    crossing: Vec<u32>,
}

impl Runs {
    fn find<'s>(loops: &[Option<Ctl>], slots: &impl Fn(usize) -> &'s [Slot], locals: usize) -> Self {
        let points = loops.len();
        let mut runs = Runs { found: vec![], crossing: vec![0; points] };
        // By local: its last run, plus 1.
        let mut last = vec![0u32; locals];
        for point in 0..points {
            for &slot in slots(point).iter().filter(|slot| slot.kind.size() > 0) {
                let last = &mut last[slot.local as usize];
                match (*last as usize).checked_sub(1).map(|run| &mut runs.found[run]) {
                    Some((_, _, end)) if *end + 1 == point as u32 && loops[point - 1] == loops[point] => {
                        *end = point as u32;
                        runs.crossing[point - 1] += 1;
                    }
                    _ => {
                        runs.found.push((slot, point as u32, point as u32));
                        *last = runs.found.len() as u32;
                    }
                }
            }
        }
        runs
    }
}

/// Appends the range and its parts: it is divided where the fewest values are live on both sides, in its middle half, so that the
/// tree is not deep.
fn divide(crossing: &[u32], (first, end): (u32, u32), ranges: &mut Vec<Range>) {
    let at = ranges.len();
    ranges.push(Range { points: (first, end), values: vec![], second: None });
    let count = (end - first) as usize;
    if count <= 1 {
        return;
    }
    let quarter = (count as u32 - 1) / 4;
    let middle = first + (count as u32 - 1) / 2;
    let places = first + quarter..end - 1 - quarter;
    let last =
        places.min_by_key(|&place| (crossing[place as usize], place.abs_diff(middle))).unwrap_or(middle);
    divide(crossing, (first, last + 1), ranges);
    ranges[at].second = Some(ranges.len());
    divide(crossing, (last + 1, end), ranges);
}

/// Puts a value that is live at these points to the largest ranges within them.
fn place(ranges: &mut [Range], at: usize, slot: Slot, run: (u32, u32)) {
    let (first, end) = ranges[at].points;
    if run.1 <= first || end <= run.0 {
        return;
    }
    if run.0 <= first && end <= run.1 {
        return ranges[at].values.push(slot);
    }
    if let Some(second) = ranges[at].second {
        place(ranges, at + 1, slot, run);
        place(ranges, second, slot, run);
    }
}

#[cfg(test)]
mod tests {
    use wasmparser::ValType;

    use super::super::frame::Kind;
    use super::*;

    fn slot(local: u32) -> Slot {
        Slot { local, ty: ValType::I32, kind: Kind::I32, at: 4 * local }
    }

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
        let mut seed = 5u64;
        let mut below = |n: u64| {
            seed = seed.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            (seed >> 33) % n
        };
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
            saves.clear();
            saves.find(&loops, |point| &slots[point], locals as usize);
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
        saves.find(&[None; 40], |_| &all, 5);
        assert_eq!(saves.nodes(), 1);
        assert_eq!(saves.node(0).1.len(), 5);
        assert!((0..40).all(|point| saves.point(point) == (0, &[])));
    }

    #[test]
    fn points_of_different_loops_share_nothing() {
        let all: Vec<Slot> = (0..5).map(slot).collect();
        let mut saves = Saves::default();
        let loops: Vec<Option<Ctl>> = (0..40).map(|point| (point >= 20).then_some(1)).collect();
        saves.find(&loops, |_| &all, 5);
        assert_eq!(saves.node(0).1, &[], "the exit saves nothing");
        assert_eq!(saves.nodes(), 3, "besides it there is one for the points of each loop");
    }
}
