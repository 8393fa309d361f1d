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

use wasmparser::{BlockType, FunctionBody, Operator};

/// No copies are made of functions of more bytes.
const BYTES_MAX: usize = 400;
/// As many basic blocks and locals as a word has bits.
const BITS: usize = 64;

/// A set of blocks.
type Blocks = u64;
/// A set of locals.
type Locals = u64;

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

/// Straight code.
#[derive(Default)]
struct Block {
    before: Blocks,
    /// Offset of its first operator that may have an effect other than on locals.
    effect: Option<u32>,
    /// Locals that it writes, with the offsets of the operators.
    writes: Vec<(u32, u32)>,
    reads_first: Locals,
    written: Locals,
    /// Offset of its first call that can suspend.
    call: Option<u32>,
    /// Offset of the operator that it ends with.
    end: u32,
    operators: u32,
    /// The function returns at its end.
    returns: bool,
    /// The header of a loop: offset of the loop's operator.
    header: Option<u32>,
    /// There is such a call in the loop: it checks, by itself.
    calls_inside: bool,
    /// The loop takes no parameters.
    is_simple: bool,
    /// Loops around it.
    depth: u32,
}

#[derive(Clone, Copy)]
enum Kind {
    Block,
    Loop,
    If(usize),
}

struct Frame {
    kind: Kind,
    /// Where a branch to it goes.
    label: usize,
}

/// The blocks of one function; the first one is its entry.
struct Flow {
    blocks: Vec<Block>,
    frames: Vec<Frame>,
    /// None where control does not get to.
    at: Option<usize>,
}

/// Where the function checks, if not at its entry. `suspends`: of a function, whether a call of it can suspend. The body
/// need not be valid; then it does not matter what comes out.
pub fn shrink(body: &FunctionBody<'_>, params: u32, suspends: impl Fn(u32) -> bool) -> Option<Shrunk> {
    if body.range().len() > BYTES_MAX {
        return None;
    }
    let mut flow = Flow { blocks: vec![Block::default()], frames: vec![], at: Some(0) };
    let end = flow.reserve()?;
    flow.blocks[end].returns = true;
    flow.frames.push(Frame { kind: Kind::Block, label: end });
    let code = body.as_bytes();
    let start = body.range().start;
    let mut first = None;
    for operator in body.get_operators_reader().ok()?.into_iter_with_offsets() {
        let (operator, offset) = operator.ok()?;
        first.get_or_insert(offset as u32);
        let byte = *code.get(offset - start)?;
        if let Some(at) = flow.at {
            flow.blocks[at].operators += 1;
        }
        flow.read(&operator, byte, offset as u32, &suspends)?;
    }
    place(flow.blocks, params, first?)
}

impl Flow {
    fn reserve(&mut self) -> Option<usize> {
        let depth = self.frames.iter().filter(|frame| matches!(frame.kind, Kind::Loop)).count() as u32;
        self.blocks.push(Block { depth, ..Block::default() });
        (self.blocks.len() <= BITS).then(|| self.blocks.len() - 1)
    }

    fn go(&mut self, to: usize) {
        if let Some(at) = self.at {
            self.blocks[to].before |= 1 << at;
        }
    }

    fn branch(&mut self, depth: u32) -> Option<()> {
        let at = self.frames.len().checked_sub(depth as usize + 1)?;
        self.go(self.frames[at].label);
        Some(())
    }

    /// The block ends; what follows is another one, reached from it if `on`.
    fn split(&mut self, on: bool, offset: u32) -> Option<()> {
        let next = self.reserve()?;
        if let Some(at) = self.at {
            self.blocks[at].end = offset;
        }
        if on {
            self.go(next);
        }
        self.at = Some(next).filter(|_| on && self.at.is_some());
        Some(())
    }

    fn read(
        &mut self,
        operator: &Operator<'_>,
        byte: u8,
        offset: u32,
        suspends: &impl Fn(u32) -> bool,
    ) -> Option<()> {
        match operator {
            Operator::Block { .. } => {
                let label = self.reserve()?;
                self.frames.push(Frame { kind: Kind::Block, label });
            }
            Operator::Loop { blockty } => {
                self.frames.push(Frame { kind: Kind::Loop, label: 0 });
                self.split(true, offset)?;
                let header = self.blocks.len() - 1;
                self.frames.last_mut()?.label = header;
                self.blocks[header].header = Some(offset);
                self.blocks[header].is_simple = !matches!(blockty, BlockType::FuncType(_));
            }
            Operator::If { .. } => {
                let (label, otherwise) = (self.reserve()?, self.reserve()?);
                self.go(otherwise);
                self.split(true, offset)?;
                self.frames.push(Frame { kind: Kind::If(otherwise), label });
            }
            Operator::Else => {
                let Frame { kind: Kind::If(otherwise), label } = *self.frames.last()? else { return None };
                self.go(label);
                self.frames.last_mut()?.kind = Kind::Block;
                self.at = Some(otherwise).filter(|&at| self.blocks[at].before != 0);
            }
            Operator::End => {
                let frame = self.frames.pop()?;
                if let Kind::If(otherwise) = frame.kind {
                    let before = self.blocks[otherwise].before;
                    self.blocks[frame.label].before |= before;
                }
                if !matches!(frame.kind, Kind::Loop) {
                    self.go(frame.label);
                    self.at = Some(frame.label).filter(|&at| self.blocks[at].before != 0);
                } else if self.at.is_some() {
                    // What is behind a loop is not in it.
                    self.split(true, offset)?;
                }
            }
            Operator::Br { relative_depth } => {
                self.branch(*relative_depth)?;
                self.split(false, offset)?;
            }
            Operator::BrIf { relative_depth } => {
                self.branch(*relative_depth)?;
                self.split(true, offset)?;
            }
            Operator::BrTable { targets } => {
                for depth in targets.targets() {
                    self.branch(depth.ok()?)?;
                }
                self.branch(targets.default())?;
                self.split(false, offset)?;
            }
            Operator::Return => {
                if let Some(at) = self.at {
                    self.blocks[at].returns = true;
                }
                self.split(false, offset)?;
            }
            Operator::Unreachable => self.split(false, offset)?,
            Operator::Call { function_index } if suspends(*function_index) => self.call(offset),
            Operator::CallIndirect { .. } | Operator::CallRef { .. } => self.call(offset),
            Operator::ReturnCall { function_index } => {
                // What is called in its place does not know whether this one has checked.
                if suspends(*function_index) {
                    self.call(offset);
                }
                self.split(false, offset)?;
            }
            Operator::LocalGet { local_index } => {
                if let Some(at) = self.at {
                    let block = &mut self.blocks[at];
                    block.reads_first |= bit(*local_index)? & !block.written;
                }
            }
            Operator::LocalSet { local_index } | Operator::LocalTee { local_index } => {
                if let Some(at) = self.at {
                    let block = &mut self.blocks[at];
                    block.written |= bit(*local_index)?;
                    block.writes.push((*local_index, offset));
                }
            }
            _ if has_no_effect(byte) => {}
            // Exceptions, and tail calls through references.
            Operator::TryTable { .. }
            | Operator::Throw { .. }
            | Operator::ThrowRef
            | Operator::ReturnCallIndirect { .. }
            | Operator::ReturnCallRef { .. }
            | Operator::BrOnNull { .. }
            | Operator::BrOnNonNull { .. }
            | Operator::BrOnCast { .. }
            | Operator::BrOnCastFail { .. } => return None,
            _ => self.effect(offset),
        }
        Some(())
    }

    fn effect(&mut self, offset: u32) {
        if let Some(at) = self.at {
            self.blocks[at].effect.get_or_insert(offset);
        }
    }

    fn call(&mut self, offset: u32) {
        let Some(at) = self.at else { return };
        self.blocks[at].call.get_or_insert(offset);
        for frame in &self.frames {
            if matches!(frame.kind, Kind::Loop) {
                self.blocks[frame.label].calls_inside = true;
            }
        }
    }
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

fn place(blocks: Vec<Block>, params: u32, first: u32) -> Option<Shrunk> {
    let facts = Facts::find(&blocks, params);
    let anchors = mask(set(facts.alive).filter(|&at| facts.is_anchor(at)));
    let (mut checks, mut stop, mut gains) = (vec![], 0, false);
    for anchor in set(anchors) {
        let header = blocks[anchor].header;
        let places = facts.places(anchor);
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
    let unchecked = behind(&blocks, 0, stop, None);
    let unchecked = set(unchecked).map(|at| u64::from(blocks[at].operators)).sum();
    gains.then_some(Shrunk { checks, unchecked })
}

/// The blocks that control can get to from this one, itself included, if it stops before those, and never gets to the header `not`.
fn behind(blocks: &[Block], from: usize, stop: Blocks, not: Option<usize>) -> Blocks {
    let mut found = 1 << from & !stop;
    loop {
        let next = |at: &usize| Some(*at) != not && blocks[*at].before & found != 0;
        let more = found | mask((0..blocks.len()).filter(next)) & !stop;
        if more == found {
            return found;
        }
        found = more;
    }
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
        let reached: Vec<Blocks> = (0..self.blocks.len()).map(|at| self.after(at, anchor)).collect();
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

    /// Blocks that can come behind this one before the anchor is passed again.
    fn after(&self, at: usize, anchor: usize) -> Blocks {
        let next = (0..self.blocks.len()).filter(|&to| to != anchor && self.blocks[to].before & 1 << at != 0);
        next.fold(0, |all, next| all | behind(self.blocks, next, 0, Some(anchor)))
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

fn dominators(blocks: &[Block]) -> Vec<Blocks> {
    let all = mask(0..blocks.len());
    let mut dominators = vec![all; blocks.len()];
    dominators[0] = 1;
    let mut changed = true;
    while changed {
        changed = false;
        for at in 1..blocks.len() {
            let before = set(blocks[at].before);
            let found = before.fold(all, |common, before| common & dominators[before]) | 1 << at;
            changed |= std::mem::replace(&mut dominators[at], found) != found;
        }
    }
    dominators
}

/// By block: the locals that are live at its beginning.
fn live(blocks: &[Block]) -> Vec<Locals> {
    let mut live = vec![0; blocks.len()];
    let mut changed = true;
    while changed {
        changed = false;
        for (at, block) in blocks.iter().enumerate() {
            for before in set(block.before) {
                let found = live[before] | (live[at] & !blocks[before].written);
                changed |= std::mem::replace(&mut live[before], found) != found;
            }
            let found = live[at] | block.reads_first;
            changed |= std::mem::replace(&mut live[at], found) != found;
        }
    }
    live
}

/// Whether an operator with this first byte leaves all but the operand stack as it was. It may trap.
fn has_no_effect(byte: u8) -> bool {
    // Nothing, `drop` and `select`; reads of globals and memory; numbers.
    matches!(byte, 0x01 | 0x1a..=0x1c | 0x23 | 0x28..=0x35 | 0x3f | 0x41..=0xc4)
}

fn bit(local: u32) -> Option<Locals> {
    1u64.checked_shl(local)
}

/// The first locals.
fn bits(count: u32) -> Locals {
    1u64.checked_shl(count).map_or(!0, |bit| bit - 1)
}

fn set(blocks: Blocks) -> impl Iterator<Item = usize> {
    (0..BITS).filter(move |at| blocks & 1 << at != 0)
}

fn mask(blocks: impl Iterator<Item = usize>) -> Blocks {
    blocks.fold(0, |all, at| all | 1 << at)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The functions that this text calls: `$slow` can suspend, `$fast` cannot. Gives what stands at the checks.
    fn found(body: &str) -> Option<Vec<u8>> {
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
        let found = shrink(&bodies[2], 1, |func| func == 0)?;
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
