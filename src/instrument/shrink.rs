//! Where checks stand that need not stand at the entry of a function or at the header of a loop (shrink-wrapping, from cost model
//! 4 on).
//!
//! A small function often returns without a call: at the end of a recursion, for an empty list, while there is room in a
//! buffer. Such a way out needs no check. So the check goes behind it: right before what must not be done twice, on each way to a
//! call. What is saved there is still the state at the entry: what lies between has no effect, and is done again. It is the
//! same with a loop that calls: behind its header, the check goes right before what must not be done twice, on each way to a call or
//! to the next pass, be that in the loop or behind it.
//!
//! A frame that is being rebuilt must be recognised at the entry, though, and that is left to a copy of the function, which is
//! called for that alone.

mod blocks;

use wasmparser::FunctionBody;

use super::cost::UNCHECKED_MAX;
use super::counted::Counted;
use super::points::Callee;
use blocks::{Block, Blocks, behind, bits, dominators, live, mask, reached, read, set};

/// No copies are made of functions of more bytes.
const BYTES_MAX: usize = 400;

/// A check that stands behind where its frame says that it stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Check {
    /// Offset of the operator before which it stands.
    pub at: u32,
    /// The loop whose header the frame stands at, as the offset of its operator; none for the function's entry.
    pub header: Option<u32>,
}

/// A function that does not check at its entry.
#[derive(Debug, PartialEq)]
pub struct Shrunk {
    /// Its checks, ascending. Loops that have none here check at their header.
    pub checks: Vec<Check>,
    /// Operators that come before a check, or where none comes, each once: callers are charged for them.
    pub unchecked: u64,
}

/// Where the function checks, if not at its entry. Loops check behind their headers in a `recursive` function alone: others may run for
/// long, and in the copy from the first pause on, where the header still has to tell whether a frame is being rebuilt. `suspends`:
/// whether a call can suspend. The body need not be valid; then it does not matter what comes out.
pub fn shrink(
    body: &FunctionBody<'_>,
    params: u32,
    recursive: bool,
    counted: &[Counted],
    suspends: impl Fn(Callee) -> bool,
) -> Option<Shrunk> {
    if body.range().len() > BYTES_MAX {
        return None;
    }
    let (blocks, first) = read(body, counted, suspends)?;
    if !may_gain(&blocks, recursive) {
        return None;
    }
    place(&blocks, params, recursive, first)
}

/// Whether there is a way through the function without a call or the header of a loop that calls: each of those has a check before it, wherever
/// the checks stand. Of such loops in a `recursive` function this does not tell.
fn may_gain(blocks: &[Block], recursive: bool) -> bool {
    let calls = mask((0..blocks.len()).filter(|&at| blocks[at].call.is_some() || blocks[at].calls_inside));
    let past = behind(blocks, 0, calls, None);
    set(past).any(|at| blocks[at].returns) || recursive && blocks.iter().any(|block| block.calls_inside)
}

/// What is known of the blocks of a function.
struct Facts<'b> {
    blocks: &'b [Block],
    dominators: Vec<Blocks>,
    /// By block: the entry or the header of a loop that calls that was passed last.
    anchors: Vec<usize>,
    /// By block: where it first has an effect on the state at its anchor, counting loops without calls behind it.
    effects: Vec<Option<u32>>,
    /// Blocks that can be reached.
    alive: Blocks,
    /// Blocks that a pass ends with.
    repeats: Blocks,
}

fn place(blocks: &[Block], params: u32, recursive: bool, first: u32) -> Option<Shrunk> {
    let facts = Facts::find(blocks, params);
    let anchors = mask(set(facts.alive).filter(|&at| facts.is_anchor(at)));
    let (mut checks, mut stop, mut gains) = (vec![], 0, false);
    for anchor in set(anchors) {
        let header = blocks[anchor].header;
        let may = recursive || header.is_none();
        let places = if may { facts.places(anchor) } else { None };
        let gain = places.as_ref().is_some_and(|places| facts.gains(anchor, anchors, places));
        gains |= gain;
        match (places, header) {
            (Some(places), header) if gain || header.is_none() => {
                stop |= mask(places.iter().copied());
                checks.extend(places.iter().map(|&at| Check { at: facts.first(at), header }));
            }
            (_, Some(_)) => stop |= 1 << anchor,
            (_, None) => {
                stop |= 1;
                checks.push(Check { at: first, header });
            }
        }
    }
    checks.sort_unstable();
    let unchecked = behind(blocks, 0, stop, None);
    let unchecked = set(unchecked).map(|at| blocks[at].operators).sum();
    (gains && unchecked <= UNCHECKED_MAX).then_some(Shrunk { checks, unchecked })
}

impl<'b> Facts<'b> {
    fn find(blocks: &'b [Block], params: u32) -> Self {
        let count = blocks.len();
        let alive = behind(blocks, 0, 0, None);
        let mut facts = Facts {
            blocks,
            dominators: dominators(blocks),
            anchors: vec![0; count],
            effects: vec![None; count],
            alive,
            repeats: 0,
        };
        let live = live(blocks);
        for at in set(alive) {
            let above = set(facts.dominators[at]).filter(|&above| facts.is_anchor(above));
            let anchor = above.max_by_key(|&above| facts.dominators[above].count_ones()).unwrap_or(0);
            facts.anchors[at] = anchor;
            // At the entry all but the parameters are zero.
            let kept = if blocks[anchor].header.is_some() { !0 } else { bits(params) };
            let kept = live[anchor] & kept;
            let writes = blocks[at].writes.iter().filter(|(local, _)| kept & 1 << local != 0);
            facts.effects[at] = writes.map(|&(_, offset)| offset).chain(blocks[at].effect).min();
        }
        for block in blocks.iter().filter(|block| block.header.is_some()) {
            for at in set(block.before & alive) {
                let enters = blocks[at].depth < block.depth;
                if !enters && block.calls_inside {
                    facts.repeats |= 1 << at;
                } else if enters && !block.calls_inside {
                    facts.effects[at].get_or_insert(blocks[at].end);
                }
            }
        }
        facts
    }

    /// The entry, or the header of a loop that calls.
    fn is_anchor(&self, at: usize) -> bool {
        at == 0 || self.blocks[at].calls_inside
    }

    fn is_needed(&self, at: usize) -> bool {
        self.blocks[at].call.is_some() || self.repeats & 1 << at != 0
    }

    /// The offset before which a block checks.
    fn first(&self, at: usize) -> u32 {
        let Block { call, end, .. } = self.blocks[at];
        self.effects[at].into_iter().chain(call).min().unwrap_or(end)
    }

    /// The blocks in which an anchor's checks stand; none if they stand there.
    fn places(&self, anchor: usize) -> Option<Vec<usize>> {
        if anchor != 0 && !self.blocks[anchor].is_simple {
            return None;
        }
        let of = |test: &dyn Fn(usize) -> bool| {
            mask(set(self.alive).filter(|&at| self.anchors[at] == anchor && test(at)))
        };
        let ends = of(&|at| self.is_needed(at));
        let reached = reached(self.blocks, anchor);
        let needs = ends | of(&|at| self.effects[at].is_some() && reached[at] & ends != 0);
        let mut places = vec![];
        if needs != 0 {
            self.part(needs, &reached, &mut places);
        }
        // Nothing that has an effect, and no check, comes between the anchor and a check.
        let passed = behind(self.blocks, anchor, 0, Some(anchor));
        for &place in &places {
            let acts = |at: usize| {
                let block = &self.blocks[at];
                at != anchor && block.header.is_some()
                    || self.effects[at].is_some()
                    || block.call.is_some()
                    || places.contains(&at)
            };
            let wrong = |at: usize| at != place && reached[at] & 1 << place != 0 && acts(at);
            if place == anchor || reached[place] & 1 << place != 0 || set(passed).any(wrong) {
                return None;
            }
        }
        Some(places)
    }

    /// Whether there is a way past these checks and other anchors: out of the function, or of the loop.
    fn gains(&self, anchor: usize, anchors: Blocks, places: &[usize]) -> bool {
        let stop = mask(places.iter().copied()) | anchors & !(1 << anchor);
        let past = behind(self.blocks, anchor, stop, Some(anchor));
        let is_out = |at: usize| {
            let block = &self.blocks[at];
            block.returns || anchor != 0 && block.depth < self.blocks[anchor].depth
        };
        set(past).any(is_out)
    }

    /// Where the checks for these stand: where the ways to them part, if no way goes through two of them.
    fn part(&self, needs: Blocks, reached: &[Blocks], places: &mut Vec<usize>) {
        let dominators = &self.dominators;
        let common = set(needs).fold(!0, |common, at| common & dominators[at]);
        let nearest = set(common).max_by_key(|&at| dominators[at].count_ones()).unwrap_or(0);
        if needs & 1 << nearest != 0 {
            return places.push(nearest);
        }
        // The blocks right below that the others are dominated by.
        let mut parts: Vec<(usize, Blocks)> = vec![];
        for at in set(needs) {
            let below = set(dominators[at] & !dominators[nearest]);
            let below = below.min_by_key(|&at| dominators[at].count_ones()).unwrap_or(at);
            match parts.iter_mut().find(|(part, _)| *part == below) {
                Some((_, blocks)) => *blocks |= 1 << at,
                None => parts.push((below, 1 << at)),
            }
        }
        let meets = |&(part, blocks): &(usize, Blocks)| (reached[part] | 1 << part) & needs & !blocks != 0;
        if parts.iter().any(meets) {
            return places.push(nearest);
        }
        for (_, blocks) in parts {
            self.part(blocks, reached, places);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The functions that this text calls: `$slow` can suspend, `$fast` cannot. Gives what stands at the checks.
    fn found(body: &str) -> Option<Vec<u8>> {
        found_if(true, body)
    }

    fn found_if(recursive: bool, body: &str) -> Option<Vec<u8>> {
        let text = format!(
            "(module (memory 1) (func $slow (param i32) (result i32) i32.const 0) (func $fast)
               (func (param $n i32) (result i32) (local $k i32) {body}))"
        );
        let wasm = wat::parse_str(text).unwrap();
        let mut bodies = vec![];
        for payload in wasmparser::Parser::new(0).parse_all(&wasm) {
            if let wasmparser::Payload::CodeSectionEntry(body) = payload.unwrap() {
                bodies.push(body);
            }
        }
        let found = shrink(&bodies[2], 1, recursive, &[], |callee| matches!(callee, Callee::Direct(0)))?;
        Some(found.checks.iter().map(|check| wasm[check.at as usize]).collect())
    }

    const CALL: u8 = 0x10;
    const BR_IF: u8 = 0x0d;
    const LOCAL_SET: u8 = 0x21;

    #[test]
    fn behind_the_ways_out_that_need_none() {
        let early = "(if (i32.eqz (local.get $n)) (then (return (i32.const 1))))";
        let call = "(call $slow (local.get $n))";
        assert_eq!(found(&format!("{early} {call}")), Some(vec![CALL]));
        // What has an effect stays behind the check, but not on a way that leads to no call.
        assert_eq!(found(&format!("{early} (local.set $n (i32.const 5)) {call}")), Some(vec![LOCAL_SET]));
        assert_eq!(found(&format!("{early} (local.set $k (i32.const 5)) {call}")), Some(vec![CALL]));
        let stores = "(if (i32.eqz (local.get $n)) (then (i32.store (i32.const 0) (i32.const 1)) (return (i32.const 1))))";
        assert_eq!(found(&format!("{stores} {call}")), Some(vec![CALL]));
        // Nothing is won: no way out, or an effect before it.
        assert_eq!(found(call), None);
        assert_eq!(found(&format!("(call $fast) {early} {call}")), None);
    }

    #[test]
    fn one_for_each_way_or_one_for_all() {
        let arms = "(block $b (block $a (block $leaf (br_table $leaf $a $b (local.get $n)))
             (return (i32.const 1))) (return (call $slow (i32.const 1)))) (call $slow (i32.const 2))";
        assert_eq!(found(arms), Some(vec![CALL, CALL]));
        // A call may follow another one, or not: one check before both.
        let both = "(block $out (br_if $out (i32.eqz (local.get $n)))
             (block $b (br_if $b (i32.const 7)) (drop (call $slow (i32.const 1)))) (return (call $slow (i32.const 2))))
             (i32.const 9)";
        assert_eq!(found(both), Some(vec![BR_IF]));
    }

    #[test]
    fn loops_check_for_themselves_if_they_call() {
        let early = "(if (i32.eqz (local.get $n)) (then (return (i32.const 1))))";
        let calling = "(loop $l (br_if $l (call $slow (local.get $n))))";
        assert_eq!(found(&format!("{early} {calling} (call $slow (i32.const 0))")), Some(vec![]));
        // The other way to the call needs a check, and what the loop did would be done again.
        assert_eq!(found(&format!("(if (local.get $n) (then {calling})) (call $slow (i32.const 0))")), None);
        let other = "(loop $l (br_if $l (local.get $n)))";
        assert_eq!(found(&format!("{early} {other} (call $slow (i32.const 0))")), Some(vec![0x03]));
        assert_eq!(found(&format!("{other} {early} (call $slow (i32.const 0))")), None);
        assert_eq!(found(&format!("{other} (i32.const 0)")), Some(vec![]));
    }

    #[test]
    fn a_pass_that_leaves_its_loop_before_a_call_needs_no_check() {
        const BR: u8 = 0x0c;
        let list = |behind: &str| {
            format!(
                "(block $out (loop $l (br_if $out (i32.eqz (local.tee $k (i32.load (local.get $n)))))
                   (drop (call $slow (local.get $k))) (local.set $n (local.get $k)) (br $l))) {behind}"
            )
        };
        assert_eq!(found(&list("(i32.const 0)")), Some(vec![CALL]));
        assert_eq!(found_if(false, &list("(i32.const 0)")), None);
        // A call behind the loop is checked for where the loop was left; if it always comes, that is as often as at the header.
        let sometimes =
            "(if (result i32) (local.get $k) (then (call $slow (i32.const 0))) (else (i32.const 1)))";
        assert_eq!(found(&list(sometimes)), Some(vec![CALL, CALL]));
        assert_eq!(found(&list("(call $slow (i32.const 0))")), None);
        // The value is needed in the next pass: it must be what it was.
        let kept = "(block $out (loop $l (local.set $k (i32.add (local.get $k) (i32.const 1)))
             (br_if $out (i32.gt_u (local.get $k) (local.get $n))) (drop (call $slow (local.get $k))) (br $l))) (i32.const 0)";
        assert_eq!(found(kept), None);
        // A pass without a call needs a check as well, at its end.
        let around = "(block $out (loop $l (br_if $out (i32.load (local.get $n)))
             (if (i32.load8_u (local.get $n)) (then (drop (call $slow (i32.const 1))) (br $l))) (br $l))) (i32.const 0)";
        assert_eq!(found(around), Some(vec![CALL, BR]));
    }
}
