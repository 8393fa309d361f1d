//! A small function as basic blocks: what each does that matters to where checks may stand.

use wasmparser::{BlockType, FrameKind, FunctionBody, Operator};

use super::super::counted::{Counted, Passes};
use super::super::opcodes;
use super::super::points::Callee;

/// As many basic blocks and locals as a word has bits.
const BITS: usize = 64;

/// A set of blocks.
pub(super) type Blocks = u64;
/// A set of locals.
pub(super) type Locals = u64;

/// Straight code.
#[derive(Default)]
pub(super) struct Block {
    pub(super) before: Blocks,
    /// Offset of its first operator that may have an effect other than on locals.
    pub(super) effect: Option<u32>,
    /// Locals that it writes, with the offsets of the operators.
    pub(super) writes: Vec<(u32, u32)>,
    pub(super) reads_first: Locals,
    pub(super) written: Locals,
    /// Offset of its first call that can suspend.
    pub(super) call: Option<u32>,
    /// Offset of the operator that it ends with.
    pub(super) end: u32,
    /// Those in loops that do not charge, as often as they are passed.
    pub(super) operators: u64,
    /// The function returns at its end.
    pub(super) returns: bool,
    /// The header of a loop: offset of the loop's operator.
    pub(super) header: Option<u32>,
    /// There is such a call in the loop: it checks, by itself.
    pub(super) calls_inside: bool,
    /// The loop takes no parameters.
    pub(super) is_simple: bool,
    /// Loops around it.
    pub(super) depth: u32,
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
    /// How often it is passed, in loops that do not charge.
    passes: u64,
}

/// The blocks of one function; the first one is its entry.
struct Flow {
    blocks: Vec<Block>,
    frames: Vec<Frame>,
    /// None where control does not get to.
    at: Option<usize>,
}

/// The blocks of a body, and the offset of its first operator; none if there are too many, or something in it that is not looked at:
/// exceptions, branches on references.
pub(super) fn read(
    body: &FunctionBody<'_>,
    counted: &[Counted],
    suspends: impl Fn(Callee) -> bool,
) -> Option<(Vec<Block>, u32)> {
    let mut flow = Flow { blocks: vec![Block::default()], frames: vec![], at: Some(0) };
    let end = flow.reserve()?;
    flow.blocks[end].returns = true;
    flow.enter(Kind::Block, end);
    let code = body.as_bytes();
    let start = body.range().start;
    let mut reader = body.get_binary_reader_for_operators().ok()?;
    let first = reader.original_position() as u32;
    while !reader.eof() {
        let offset = reader.original_position();
        let rest = code.get(offset - start..)?;
        let kind = flow.kind()?;
        if let Some(at) = flow.at {
            flow.blocks[at].operators += flow.passes();
        }
        if let Some(len) = rest.first_chunk().copied().and_then(opcodes::short)
            && flow.read_simple(rest, offset as u32)?
        {
            reader.read_bytes(len).ok()?;
            continue;
        }
        let operator = opcodes::read(&mut reader, rest, Some(kind)).ok()?;
        flow.read(&operator, rest[0], offset as u32, &suspends)?;
        if let Operator::Loop { .. } = operator
            && let Some(found) = counted.iter().find(|counted| counted.at == offset as u32)
            && let Passes::Free(passes) = found.passes
        {
            let frame = flow.frames.last_mut()?;
            frame.passes = frame.passes.saturating_mul(passes);
        }
    }
    Some((flow.blocks, first))
}

impl Flow {
    fn reserve(&mut self) -> Option<usize> {
        let depth = self.frames.iter().filter(|frame| matches!(frame.kind, Kind::Loop)).count() as u32;
        self.blocks.push(Block { depth, ..Block::default() });
        (self.blocks.len() <= BITS).then(|| self.blocks.len() - 1)
    }

    /// How often an operator is executed here, in loops that do not charge.
    fn passes(&self) -> u64 {
        self.frames.last().map_or(1, |frame| frame.passes)
    }

    fn enter(&mut self, kind: Kind, label: usize) {
        self.frames.push(Frame { kind, label, passes: self.passes() });
    }

    /// The kind of the innermost construct; none behind the function's end.
    fn kind(&self) -> Option<FrameKind> {
        Some(match self.frames.last()?.kind {
            Kind::Block => FrameKind::Block,
            Kind::Loop => FrameKind::Loop,
            Kind::If(_) => FrameKind::If,
        })
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
        suspends: &impl Fn(Callee) -> bool,
    ) -> Option<()> {
        match operator {
            Operator::Block { .. }
            | Operator::Loop { .. }
            | Operator::If { .. }
            | Operator::Else
            | Operator::End => self.construct(operator, offset)?,
            Operator::Br { .. }
            | Operator::BrIf { .. }
            | Operator::BrTable { .. }
            | Operator::Return
            | Operator::Unreachable => self.jump(operator, offset)?,
            Operator::Call { function_index } if suspends(Callee::Direct(*function_index)) => {
                self.call(offset)
            }
            Operator::CallIndirect { type_index, .. } if suspends(Callee::Indirect { ty: *type_index }) => {
                self.call(offset);
            }
            Operator::CallRef { .. } => self.call(offset),
            Operator::ReturnCall { function_index } => {
                // What is called in its place does not know whether this one has checked.
                if suspends(Callee::Direct(*function_index)) {
                    self.call(offset);
                }
                self.split(false, offset)?;
            }
            Operator::LocalGet { local_index } => self.get(*local_index)?,
            Operator::LocalSet { local_index } | Operator::LocalTee { local_index } => {
                self.set(*local_index, offset)?;
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

    /// A construct begins, comes to its `else`, or ends.
    fn construct(&mut self, operator: &Operator<'_>, offset: u32) -> Option<()> {
        match operator {
            Operator::Block { .. } => {
                let label = self.reserve()?;
                self.enter(Kind::Block, label);
            }
            Operator::Loop { blockty } => {
                self.enter(Kind::Loop, 0);
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
                self.enter(Kind::If(otherwise), label);
            }
            Operator::Else => {
                let Frame { kind: Kind::If(otherwise), label, .. } = *self.frames.last()? else {
                    return None;
                };
                self.go(label);
                self.frames.last_mut()?.kind = Kind::Block;
                self.at = Some(otherwise).filter(|&at| self.blocks[at].before != 0);
            }
            _ => {
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
        }
        Some(())
    }

    /// Control goes, or may go, elsewhere.
    fn jump(&mut self, operator: &Operator<'_>, offset: u32) -> Option<()> {
        let mut goes_on = false;
        match operator {
            Operator::Br { relative_depth } => self.branch(*relative_depth)?,
            Operator::BrIf { relative_depth } => {
                self.branch(*relative_depth)?;
                goes_on = true;
            }
            Operator::BrTable { targets } => {
                for depth in targets.targets() {
                    self.branch(depth.ok()?)?;
                }
                self.branch(targets.default())?;
            }
            Operator::Return => {
                if let Some(at) = self.at {
                    self.blocks[at].returns = true;
                }
            }
            _ => {}
        }
        self.split(goes_on, offset)
    }

    /// An operator that is looked at by its bytes alone, if it is one.
    fn read_simple(&mut self, code: &[u8], offset: u32) -> Option<bool> {
        match code[0] {
            0x20 => self.get(opcodes::index(code, 0))?,
            0x21 | 0x22 => self.set(opcodes::index(code, 0), offset)?,
            // `global.set`, stores.
            0x24 | 0x36..=0x3e => self.effect(offset),
            other => return Some(has_no_effect(other)),
        }
        Some(true)
    }

    fn get(&mut self, local: u32) -> Option<()> {
        if let Some(at) = self.at {
            let block = &mut self.blocks[at];
            block.reads_first |= bit(local)? & !block.written;
        }
        Some(())
    }

    fn set(&mut self, local: u32, offset: u32) -> Option<()> {
        if let Some(at) = self.at {
            let block = &mut self.blocks[at];
            block.written |= bit(local)?;
            block.writes.push((local, offset));
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

/// The blocks that control can get to from this one, itself included, if it stops before those, and never gets to the header `not`.
pub(super) fn behind(blocks: &[Block], from: usize, stop: Blocks, not: Option<usize>) -> Blocks {
    let mut found = 1 << from & !stop;
    loop {
        let before = found;
        // Most edges lead forwards: seldom more than two rounds.
        for at in set(bits(blocks.len() as u32) & !(found | stop)) {
            if Some(at) != not && blocks[at].before & found != 0 {
                found |= 1 << at;
            }
        }
        if found == before {
            return found;
        }
    }
}

/// By block: those that can come behind it before control gets to the header `not`.
pub(super) fn reached(blocks: &[Block], not: usize) -> Vec<Blocks> {
    let mut reached = vec![0; blocks.len()];
    for (to, block) in blocks.iter().enumerate().filter(|(to, _)| *to != not) {
        set(block.before).for_each(|from| reached[from] |= 1 << to);
    }
    for via in 0..blocks.len() {
        let behind = reached[via];
        for from in &mut reached {
            if *from & 1 << via != 0 {
                *from |= behind;
            }
        }
    }
    reached
}

pub(super) fn dominators(blocks: &[Block]) -> Vec<Blocks> {
    let all = bits(blocks.len() as u32);
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
pub(super) fn live(blocks: &[Block]) -> Vec<Locals> {
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
pub(super) fn bits(count: u32) -> Locals {
    1u64.checked_shl(count).map_or(!0, |bit| bit - 1)
}

pub(super) fn set(mut blocks: Blocks) -> impl Iterator<Item = usize> {
    std::iter::from_fn(move || {
        let next = (blocks != 0).then(|| blocks.trailing_zeros() as usize)?;
        blocks &= blocks - 1;
        Some(next)
    })
}

pub(super) fn mask(blocks: impl Iterator<Item = usize>) -> Blocks {
    blocks.fold(0, |all, at| all | 1 << at)
}
