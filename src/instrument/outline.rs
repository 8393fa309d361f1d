//! What a body tells of its function without being validated: whom it calls, how long it is, how often its loops are passed.

use rayon::prelude::*;
use wasmparser::{FrameKind, Operator};

use super::cost::COUNTS;
use super::counted::{Constructs, Counted, Left, Passes};
use super::module::{Body, Module};
use super::opcodes;
use super::refusal::Refusal;

/// What matters of a function to others.
#[derive(Default)]
pub struct Outline {
    pub suspends: bool,
    pub operators: u64,
    /// Of these, those in loops that charge for themselves.
    pub in_loops: u64,
    pub calls: Vec<u32>,
    pub tail_calls: Vec<u32>,
    /// Types of the references that it calls, once for each call.
    pub indirect_calls: Vec<u32>,
    pub reference_call: bool,
    pub indirect_tail_call: bool,
    pub references: Vec<u32>,
    pub counted: Vec<Counted>,
}

impl Outline {
    /// A loop of so many operators ends, of which it may be known how often it is passed.
    fn add_loop(&mut self, counted: Option<Counted>, operators: u64, in_another: bool) {
        self.counted.extend(counted);
        match counted.map(|counted| counted.passes) {
            Some(Passes::Free(passes)) => {
                self.operators = self.operators.saturating_add(operators * (passes - 1));
            }
            _ => {
                self.suspends = true;
                self.in_loops += if in_another { 0 } else { operators };
            }
        }
    }
}

/// What it does to the module.
#[derive(Default)]
pub struct Effects {
    pub dropped_data: Vec<u32>,
    pub dropped_elems: Vec<u32>,
    pub changed_tables: Vec<u32>,
    pub catches: bool,
}

impl Effects {
    /// `table` checks an index.
    fn note(
        &mut self,
        operator: &Operator<'_>,
        table: impl Fn(u32) -> Result<u32, Refusal>,
    ) -> Result<(), Refusal> {
        match *operator {
            Operator::DataDrop { data_index } => self.dropped_data.push(data_index),
            Operator::ElemDrop { elem_index } => self.dropped_elems.push(elem_index),
            Operator::TableSet { table: index }
            | Operator::TableGrow { table: index }
            | Operator::TableFill { table: index }
            | Operator::TableCopy { dst_table: index, .. }
            | Operator::TableInit { table: index, .. } => self.changed_tables.push(table(index)?),
            _ => {}
        }
        Ok(())
    }
}

/// The body is not validated yet, so its indexes are checked here.
#[derive(Clone, Copy)]
struct Limits {
    funcs: u32,
    tables: u32,
}

impl Limits {
    fn of(module: &Module<'_>) -> Self {
        Limits { funcs: module.funcs.len() as u32, tables: module.tables.len() as u32 }
    }
}

/// Those of all functions, imported ones left out. The first refusal, however many threads there are.
pub fn outlines(module: &Module<'_>, cost_model: u32) -> Result<Vec<(Outline, Effects)>, Refusal> {
    let limits = Limits::of(module);
    let read = |body: &Body<'_>| outline(&body.body, limits, cost_model);
    let all: Vec<_> = module.bodies.par_iter().map(read).collect();
    all.into_iter().collect()
}

/// That of a function whose body is another one now.
pub fn again(module: &Module<'_>, body: &Body<'_>, cost_model: u32) -> Result<(Outline, Effects), Refusal> {
    outline(&body.body, Limits::of(module), cost_model)
}

fn outline(
    body: &wasmparser::FunctionBody<'_>,
    limits: Limits,
    cost_model: u32,
) -> Result<(Outline, Effects), Refusal> {
    let mut outline = Outline::default();
    let mut effects = Effects::default();
    let mut reader = body.get_binary_reader_for_operators()?;
    let (code, start) = (body.as_bytes(), body.range().start);
    let mut frames = Constructs::new(reader.original_position());
    let mut loops = 0u32;
    while !reader.eof() {
        let mut rest = code.get(reader.original_position() - start..).unwrap_or_default();
        if frames.kind().is_some() {
            let (operators, bytes) = opcodes::skip_frequent(rest);
            outline.operators += operators;
            reader.read_bytes(bytes)?;
            if reader.eof() {
                break;
            }
            rest = &rest[bytes..];
        }
        outline.operators += 1;
        let offset = reader.original_position();
        let operator = opcodes::read(&mut reader, rest, frames.kind())?;
        let end = reader.original_position();
        let unknown = |what, index| Refusal::Invalid {
            message: format!("unknown {what} {index}"),
            offset: offset as u64,
        };
        let func = |index| if index < limits.funcs { Ok(index) } else { Err(unknown("function", index)) };
        let table = |index| if index < limits.tables { Ok(index) } else { Err(unknown("table", index)) };
        frames.note(&operator);
        match operator {
            Operator::Loop { .. } => {
                outline.suspends |= cost_model < COUNTS;
                loops += 1;
                frames.enter(FrameKind::Loop, (offset, end), outline.operators);
            }
            Operator::Block { .. } => frames.enter(FrameKind::Block, (offset, end), outline.operators),
            Operator::If { .. } => frames.enter(FrameKind::If, (offset, end), outline.operators),
            Operator::Else => frames.change(FrameKind::Else, end),
            Operator::End | Operator::Delegate { .. } => {
                let bytes = |from: usize, to: usize| code.get(from - start..to - start).unwrap_or_default();
                let left = frames.leave((offset, end), outline.operators, bytes);
                if let Left::Loop(counted, operators) = left
                    && cost_model >= COUNTS
                {
                    loops -= 1;
                    outline.add_loop(counted, operators, loops > 0);
                }
            }
            Operator::Call { function_index } => outline.calls.push(func(function_index)?),
            Operator::ReturnCall { function_index } => outline.tail_calls.push(func(function_index)?),
            Operator::CallIndirect { type_index, .. } => outline.indirect_calls.push(type_index),
            Operator::CallRef { .. } => {
                outline.suspends = true;
                outline.reference_call = true;
            }
            Operator::ReturnCallIndirect { .. } | Operator::ReturnCallRef { .. } => {
                outline.suspends = true;
                outline.indirect_tail_call = true;
            }
            Operator::RefFunc { function_index } => outline.references.push(func(function_index)?),
            Operator::TryTable { .. } => {
                effects.catches = true;
                frames.enter(FrameKind::TryTable, (offset, end), outline.operators);
            }
            // The validator refuses them.
            Operator::Try { .. } => frames.enter(FrameKind::LegacyTry, (offset, end), outline.operators),
            Operator::Catch { .. } | Operator::CatchAll => frames.change(FrameKind::LegacyCatch, end),
            _ => effects.note(&operator, table)?,
        }
    }
    outline.counted.sort_unstable_by_key(|counted| counted.at);
    Ok((outline, effects))
}
