//! Recursive calls in whose place the callee's body stands (from cost model 6 on).
//!
//! A compiler inlines small functions, but for those that call themselves, or each other; they are most of what checks cost programs
//! that do little in each call. So a small function that calls itself, or that a function calls which it calls, stands in place of the
//! call once: two calls share an entry, its check and the check behind the call.
//!
//! Nothing of it shows outside. Such a body is read at *positions* behind the module's end; [`InlineTable`] tells which place of
//! the original module stands there, and in which call. A frame of such a function may hold that of a call in it: the layout of its
//! point says so (`frame.rs`), and the host makes two of it.

use serde::{Deserialize, Serialize};
use wasmparser::{BinaryReader, FunctionBody, Operator, ValType};

use super::module::Module;
use super::outline::{Effects, Outline};
use super::sink::leb;

/// Bytes of a body that is inlined, at most, and of all those that are inlined in one function.
const BYTES_MAX: usize = 400;
const ALL_BYTES_MAX: usize = 1500;
/// Positions are numbers of 32 bits.
const MODULE_MAX: usize = 1 << 29;

/// Bodies with inlined calls, and what they stand for.
#[derive(Default)]
pub struct Inlined {
    pub bodies: Vec<InlinedBody>,
    pub table: InlineTable,
}

/// The body of a function, with the bodies of callees in it.
pub struct InlinedBody {
    pub func: u32,
    /// Its declaration of locals and its operators, as in a code section.
    bytes: Vec<u8>,
    /// Its position.
    at: u32,
}

impl InlinedBody {
    pub fn body(&self) -> FunctionBody<'_> {
        FunctionBody::new(BinaryReader::new(&self.bytes, self.at as usize))
    }
}

/// What stands at the positions behind the module's end.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct InlineTable {
    /// Ascending.
    pieces: Vec<Piece>,
    /// Ascending.
    calls: Vec<InlinedCall>,
}

/// Code that stands for original code, up to the next piece.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
struct Piece {
    at: u32,
    /// Offset in the original module.
    from: u32,
    /// The call that it is part of, counted from 1; 0: none.
    call: u32,
}

/// A call in whose place the callee's body stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct InlinedCall {
    /// Offset of the call in the original module.
    pub offset: u32,
    pub callee: u32,
    /// The callee's first local, among those of the function.
    pub first_local: u32,
    /// Positions of the block that is the body, and of its end.
    pub block: u32,
    pub end: u32,
}

impl InlineTable {
    /// The offset in the original module of what stands at this position, and the call that it is part of.
    pub fn original(&self, position: u32) -> (u32, Option<&InlinedCall>) {
        let behind = match self.pieces.first() {
            Some(first) if first.at <= position => self.pieces.partition_point(|piece| piece.at <= position),
            _ => return (position, None),
        };
        let piece = self.pieces[behind - 1];
        let call = piece.call.checked_sub(1).and_then(|call| self.calls.get(call as usize));
        (piece.from.wrapping_add(position - piece.at), call)
    }

    /// The calls whose bodies stand between two positions, in order.
    pub fn calls(&self, from: u32, to: u32) -> &[InlinedCall] {
        let [first, end] = [from, to].map(|at| self.calls.partition_point(|call| call.block < at));
        &self.calls[first..end]
    }
}

/// Inlines recursive calls. What is not valid is left as it is, for the validator to refuse.
pub fn inline(module: &Module<'_>, outlines: &[(Outline, Effects)]) -> Inlined {
    let mut inlined = Inlined::default();
    if module.wasm.len() > MODULE_MAX {
        return inlined;
    }
    let imported = module.imported_funcs;
    let calls = |func: u32| func.checked_sub(imported).map_or(&[][..], |at| &outlines[at as usize].0.calls);
    // Of most functions their length says that they are not.
    let callable: Vec<bool> =
        (0..module.funcs.len() as u32).map(|f| can_be_inlined(module, outlines, f)).collect();
    for body in &module.bodies {
        let func = body.func;
        let recursive =
            |callee: u32| callable[callee as usize] && (callee == func || calls(callee).contains(&func));
        let lengths = calls(func).iter().filter(|&&callee| recursive(callee));
        let bytes: usize = lengths.map(|&callee| module.body(callee).body.range().len()).sum();
        if bytes == 0 || bytes > ALL_BYTES_MAX {
            continue;
        }
        let at = inlined.bodies.last().map_or(module.wasm.len(), |last| last.at as usize + last.bytes.len());
        let (pieces, calls) = (inlined.table.pieces.len(), inlined.table.calls.len());
        match Maker::new(module, &mut inlined.table).make(func, at as u32, recursive) {
            Some(bytes) => inlined.bodies.push(InlinedBody { func, bytes, at: at as u32 }),
            None => {
                inlined.table.pieces.truncate(pieces);
                inlined.table.calls.truncate(calls);
            }
        }
    }
    inlined
}

/// Whether a body can stand in place of a call: it is short, leaves its function by falling or branching out of it alone, and its values are
/// numbers, which are zero where they are declared.
fn can_be_inlined(module: &Module<'_>, outlines: &[(Outline, Effects)], func: u32) -> bool {
    let Some(at) = func.checked_sub(module.imported_funcs) else { return false };
    let (outline, effects) = &outlines[at as usize];
    let ty = module.func_type(func);
    module.body(func).body.range().len() <= BYTES_MAX
        && !outline.calls.is_empty()
        && outline.tail_calls.is_empty()
        && !outline.indirect_tail_call
        && !effects.catches
        && ty.results().len() <= 1
        && ty.params().iter().chain(ty.results()).all(|&ty| is_number(ty))
}

fn is_number(ty: ValType) -> bool {
    !matches!(ty, ValType::Ref(_))
}

/// Locals of one type in a row.
type Locals = Vec<(u32, ValType)>;

/// Those that a body declares; none if there are others than numbers.
fn declared(body: &FunctionBody<'_>) -> Option<Locals> {
    let locals = body.get_locals_reader().ok()?.into_iter().collect::<Result<Locals, _>>().ok()?;
    locals.iter().all(|&(_, ty)| is_number(ty)).then_some(locals)
}

/// How many there are; none if there are more than a function has.
fn count(locals: &Locals) -> Option<u32> {
    let all = locals.iter().try_fold(0u32, |all, (count, _)| all.checked_add(*count))?;
    (all < 1000).then_some(all)
}

/// Puts one body together.
struct Maker<'m, 'a> {
    module: &'m Module<'a>,
    table: &'m mut InlineTable,
    first_piece: usize,
    first_call: usize,
    code: Vec<u8>,
    /// The call in whose callee's body it is, counted from 1.
    call: u32,
}

impl<'m, 'a> Maker<'m, 'a> {
    fn new(module: &'m Module<'a>, table: &'m mut InlineTable) -> Self {
        let (first_piece, first_call) = (table.pieces.len(), table.calls.len());
        Maker { module, table, first_piece, first_call, code: vec![], call: 0 }
    }

    /// The function at this position, with the callees that are wanted in place of their calls. None if it is not valid.
    fn make(mut self, func: u32, position: u32, wanted: impl Fn(u32) -> bool) -> Option<Vec<u8>> {
        let body = &self.module.body(func).body;
        let params = self.module.func_type(func).params().len() as u32;
        let mut locals = declared(body)?;
        let own = params + count(&locals)?;
        // Callees of which no two run at once share their locals.
        let mut placed: Vec<(u32, u32)> = vec![];
        let mut all = own;
        let mut reader = body.get_operators_reader().ok()?;
        while !reader.eof() {
            let (operator, at) = reader.read_with_offset().ok()?;
            let end = reader.original_position();
            match operator {
                Operator::Call { function_index: callee } if wanted(callee) => {
                    let given = self.locals_of(callee)?;
                    let known = placed.iter().find(|(of, _)| *of == callee).map(|(_, first)| *first);
                    let first_local = known.unwrap_or(all);
                    if known.is_none() {
                        placed.push((callee, first_local));
                        all += count(&given)?;
                        locals.extend(&given);
                    }
                    self.inline(callee, at as u32, first_local, &given)?;
                }
                Operator::LocalGet { local_index }
                | Operator::LocalSet { local_index }
                | Operator::LocalTee { local_index }
                    if local_index >= own =>
                {
                    return None;
                }
                _ => self.copy(body, at, end),
            }
        }
        let mut bytes = vec![];
        leb(&mut bytes, locals.len() as u64);
        for (count, ty) in locals {
            leb(&mut bytes, u64::from(count));
            bytes.push(value_type(ty));
        }
        let shift = position + bytes.len() as u32;
        bytes.append(&mut self.code);
        for piece in &mut self.table.pieces[self.first_piece..] {
            piece.at += shift;
        }
        for call in &mut self.table.calls[self.first_call..] {
            call.block += shift;
            call.end += shift;
        }
        Some(bytes)
    }

    /// The parameters and locals of a function.
    fn locals_of(&self, func: u32) -> Option<Locals> {
        let params = self.module.func_type(func).params().iter().map(|&ty| (1, ty));
        Some(params.chain(declared(&self.module.body(func).body)?).collect())
    }

    /// In place of a call: takes the arguments, and what the callee does is a block, which returning leaves.
    fn inline(&mut self, callee: u32, offset: u32, first_local: u32, locals: &Locals) -> Option<()> {
        let ty = self.module.func_type(callee);
        let params = ty.params().len() as u32;
        for param in (0..params).rev() {
            self.stands_for(offset);
            self.of_local(LOCAL_SET, first_local + param);
        }
        let mut local = first_local + params;
        for &(count, ty) in &locals[params as usize..] {
            for _ in 0..count {
                self.stands_for(offset);
                self.code.extend_from_slice(zero(ty));
                self.stands_for(offset);
                self.of_local(LOCAL_SET, local);
                local += 1;
            }
        }
        self.stands_for(offset);
        let block = self.code.len() as u32;
        self.code.extend([0x02, ty.results().first().map_or(0x40, |&ty| value_type(ty))]);
        self.table.calls.push(InlinedCall { offset, callee, first_local, block, end: 0 });
        self.call = self.table.calls.len() as u32;
        self.body(&self.module.body(callee).body, first_local, local - first_local)?;
        self.call = 0;
        self.table.calls.last_mut().expect("just pushed").end = self.code.len() as u32;
        Some(())
    }

    fn body(&mut self, body: &FunctionBody<'_>, first_local: u32, locals: u32) -> Option<()> {
        let mut depth = 0;
        let mut reader = body.get_operators_reader().ok()?;
        while !reader.eof() {
            let (operator, at) = reader.read_with_offset().ok()?;
            let end = reader.original_position();
            match operator {
                Operator::Block { .. } | Operator::Loop { .. } | Operator::If { .. } => depth += 1,
                Operator::End => depth -= 1,
                Operator::Return => {
                    self.stands_for(at as u32);
                    self.code.push(0x0c); // `br` out of the block
                    leb(&mut self.code, u64::try_from(depth).ok()?);
                    continue;
                }
                Operator::LocalGet { local_index }
                | Operator::LocalSet { local_index }
                | Operator::LocalTee { local_index } => {
                    if local_index >= locals {
                        return None;
                    }
                    self.stands_for(at as u32);
                    let opcode = body.as_bytes()[at - body.range().start];
                    self.of_local(opcode, first_local + local_index);
                    continue;
                }
                _ => {}
            }
            self.copy(body, at, end);
        }
        (depth == -1).then_some(())
    }

    /// What comes next stands for the code at this offset.
    fn stands_for(&mut self, from: u32) {
        let piece = Piece { at: self.code.len() as u32, from, call: self.call };
        let last = self.table.pieces[self.first_piece..].last();
        if last.is_none_or(|last| last.call != piece.call || piece.at - last.at + last.from != from) {
            self.table.pieces.push(piece);
        }
    }

    fn copy(&mut self, body: &FunctionBody<'_>, from: usize, to: usize) {
        self.stands_for(from as u32);
        let start = body.range().start;
        self.code.extend_from_slice(&body.as_bytes()[from - start..to - start]);
    }

    fn of_local(&mut self, opcode: u8, local: u32) {
        self.code.push(opcode);
        leb(&mut self.code, u64::from(local));
    }
}

const LOCAL_SET: u8 = 0x21;

/// A number's type, as it is encoded.
fn value_type(ty: ValType) -> u8 {
    match ty {
        ValType::I32 => 0x7f,
        ValType::I64 => 0x7e,
        ValType::F32 => 0x7d,
        ValType::F64 => 0x7c,
        ValType::V128 => 0x7b,
        ValType::Ref(_) => unreachable!("numbers alone"),
    }
}

/// The operator for a number that is zero.
fn zero(ty: ValType) -> &'static [u8] {
    match ty {
        ValType::I32 => &[0x41, 0],
        ValType::I64 => &[0x42, 0],
        ValType::F32 => &[0x43, 0, 0, 0, 0],
        ValType::F64 => &[0x44, 0, 0, 0, 0, 0, 0, 0, 0],
        ValType::V128 => &[0xfd, 12, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
        ValType::Ref(_) => unreachable!("numbers alone"),
    }
}

#[cfg(test)]
mod tests;
