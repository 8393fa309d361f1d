//! Where the check of a function stands that need not stand at its entry (shrink-wrapping, from cost model 4 on).
//!
//! A small function often returns without a call: at the end of a recursion, for an empty list, while there is room in a
//! buffer. Such a way out needs no check. So the check goes behind it: right before what must not be done twice, on each way to a call.
//! What is saved there is still the state at the entry: what lies between has no effect, and is done again.
//! A frame that is being rebuilt must be recognised at the entry, though, and that is left to a copy of the function, which is
//! called for that alone.

use wasmparser::{FunctionBody, Operator};

/// No copies are made of functions of more bytes.
const BYTES_MAX: usize = 400;
/// As many basic blocks as a word has bits.
const BLOCKS_MAX: usize = 64;

/// A set of blocks.
type Blocks = u64;

/// A function that does not check at its entry.
#[derive(Debug, PartialEq)]
pub struct Shrunk {
    /// Offsets of the operators before which it checks, ascending; where there are none, loops do.
    pub checks: Vec<u32>,
    /// Operators that come before a check, or where none comes, each once: callers are charged for them.
    pub unchecked: u64,
}

/// Straight code.
#[derive(Default, Clone, Copy)]
struct Block {
    before: Blocks,
    /// Offset of its first operator that may have an effect, or of a loop without calls behind it.
    effect: Option<u32>,
    /// Offset of its first call that can suspend.
    call: Option<u32>,
    /// Offset of the operator that it ends with.
    end: u32,
    operators: u32,
    /// The function returns at its end.
    returns: bool,
    /// The header of a loop; with such a call inside it checks, as its first operator.
    is_loop: bool,
    checks: bool,
    /// Loops around it.
    depth: u32,
}

impl Block {
    fn acts(&self) -> bool {
        self.effect.is_some() || self.call.is_some() || self.is_loop
    }
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
    for operator in body.get_operators_reader().ok()?.into_iter_with_offsets() {
        let (operator, offset) = operator.ok()?;
        let byte = *code.get(offset - start)?;
        if let Some(at) = flow.at {
            flow.blocks[at].operators += 1;
        }
        flow.read(&operator, byte, offset as u32, params, &suspends)?;
    }
    flow.place()
}

impl Flow {
    fn reserve(&mut self) -> Option<usize> {
        let depth = self.frames.iter().filter(|frame| matches!(frame.kind, Kind::Loop)).count() as u32;
        self.blocks.push(Block { depth, ..Block::default() });
        (self.blocks.len() <= BLOCKS_MAX).then(|| self.blocks.len() - 1)
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
        params: u32,
        suspends: &impl Fn(u32) -> bool,
    ) -> Option<()> {
        match operator {
            Operator::Block { .. } => {
                let label = self.reserve()?;
                self.frames.push(Frame { kind: Kind::Block, label });
            }
            Operator::Loop { .. } => {
                self.frames.push(Frame { kind: Kind::Loop, label: 0 });
                self.split(true, offset)?;
                let header = self.blocks.len() - 1;
                self.frames.last_mut()?.label = header;
                self.blocks[header].is_loop = true;
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
            Operator::LocalSet { local_index } | Operator::LocalTee { local_index } => {
                if *local_index < params {
                    self.effect(offset);
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
                self.blocks[frame.label].checks = true;
            }
        }
    }

    /// Where the checks stand.
    fn place(mut self) -> Option<Shrunk> {
        // A loop that does not check before it does anything is an effect of what is before it.
        for header in 0..self.blocks.len() {
            let Block { is_loop: true, checks: false, before, depth, .. } = self.blocks[header] else {
                continue;
            };
            for at in set(before) {
                if self.blocks[at].depth < depth {
                    let end = self.blocks[at].end;
                    self.blocks[at].effect.get_or_insert(end);
                }
            }
        }
        let dominators = self.dominators();
        let reached = self.reached();
        let of = |test: &dyn Fn(usize) -> bool| mask((0..self.blocks.len()).filter(|&at| test(at)));
        let alive = of(&|at| at == 0 || reached[0] & 1 << at != 0);
        let checked = of(&|at| set(dominators[at]).any(|above| self.blocks[above].checks));
        let calls = of(&|at| self.blocks[at].call.is_some()) & alive & !checked;
        let needs = of(&|at| {
            let block = &self.blocks[at];
            let call = calls & 1 << at != 0;
            call || block.effect.is_some() && checked & 1 << at == 0 && reached[at] & calls != 0
        }) & alive;
        let mut places = vec![];
        if needs != 0 {
            self.find(needs, &dominators, &reached, &mut places);
        }
        // Nothing that has an effect, and no check, comes before a check.
        for &place in &places {
            let comes_before = |at: usize| at != place && reached[at] & 1 << place != 0;
            let wrong = |at: usize| comes_before(at) && (self.blocks[at].acts() || places.contains(&at));
            let again = reached[place] & 1 << place != 0;
            if place == 0 || again || set(alive).any(wrong) {
                return None;
            }
        }
        let stop = places.iter().fold(of(&|at| self.blocks[at].checks), |stop, &place| stop | 1 << place);
        let unchecked = self.without(stop);
        // Where every way comes to a check, one at the entry does as well.
        if !set(unchecked).any(|at| self.blocks[at].returns) {
            return None;
        }
        let mut checks: Vec<u32> = places.iter().map(|&place| self.first(place)).collect();
        checks.sort_unstable();
        let unchecked = set(unchecked).map(|at| u64::from(self.blocks[at].operators)).sum();
        Some(Shrunk { checks, unchecked })
    }

    /// The blocks that control can get to without these.
    fn without(&self, stop: Blocks) -> Blocks {
        let mut found = 1 & !stop;
        loop {
            let next = |at: &usize| self.blocks[*at].before & found != 0;
            let more = found | mask((0..self.blocks.len()).filter(next)) & !stop;
            if more == found {
                return found;
            }
            found = more;
        }
    }

    /// The offset before which a block checks.
    fn first(&self, at: usize) -> u32 {
        let Block { effect, call, end, .. } = self.blocks[at];
        effect.into_iter().chain(call).min().unwrap_or(end)
    }

    /// The blocks in which the checks for these stand: where the ways to them part, if no way goes through two of them.
    fn find(&self, needs: Blocks, dominators: &[Blocks], reached: &[Blocks], places: &mut Vec<usize>) {
        let common = set(needs).fold(!0, |common, at| common & dominators[at]);
        let nearest = set(common).max_by_key(|&at| dominators[at].count_ones()).unwrap_or(0);
        if needs & 1 << nearest != 0 {
            return places.push(nearest);
        }
        // The blocks right below that the others are dominated by.
        let mut parts: Vec<(usize, Blocks)> = vec![];
        for at in set(needs) {
            let below =
                set(dominators[at] & !dominators[nearest]).min_by_key(|&at| dominators[at].count_ones());
            let below = below.unwrap_or(at);
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
            self.find(blocks, dominators, reached, places);
        }
    }

    fn dominators(&self) -> Vec<Blocks> {
        let all = mask(0..self.blocks.len());
        let mut dominators = vec![all; self.blocks.len()];
        dominators[0] = 1;
        let mut changed = true;
        while changed {
            changed = false;
            for at in 1..self.blocks.len() {
                let before = set(self.blocks[at].before);
                let found = before.fold(all, |common, before| common & dominators[before]) | 1 << at;
                changed |= std::mem::replace(&mut dominators[at], found) != found;
            }
        }
        dominators
    }

    /// By block: those that can come behind it.
    fn reached(&self) -> Vec<Blocks> {
        let mut reached: Vec<Blocks> = vec![0; self.blocks.len()];
        let mut changed = true;
        while changed {
            changed = false;
            for at in 0..self.blocks.len() {
                for before in set(self.blocks[at].before) {
                    let found = reached[before] | reached[at] | 1 << at;
                    changed |= std::mem::replace(&mut reached[before], found) != found;
                }
            }
        }
        reached
    }
}

/// Whether an operator with this first byte leaves all but the operand stack as it was. It may trap.
fn has_no_effect(byte: u8) -> bool {
    // Nothing, `drop` and `select`; reads of locals, globals and memory; numbers.
    matches!(byte, 0x01 | 0x1a..=0x1c | 0x20 | 0x23 | 0x28..=0x35 | 0x3f | 0x41..=0xc4)
}

fn set(blocks: Blocks) -> impl Iterator<Item = usize> {
    (0..BLOCKS_MAX).filter(move |at| blocks & 1 << at != 0)
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
        Some(found.checks.iter().map(|&at| wasm[at as usize]).collect())
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
        // The other way to the call has no check, and what the loop did would be done again.
        assert_eq!(found(&format!("(if (local.get $n) (then {calling})) (call $slow (i32.const 0))")), None);
        let other = "(loop $l (br_if $l (local.get $n)))";
        assert_eq!(found(&format!("{early} {other} (call $slow (i32.const 0))")), Some(vec![0x03]));
        assert_eq!(found(&format!("{other} {early} (call $slow (i32.const 0))")), None);
    }
}
