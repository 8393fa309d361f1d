//! The operators of a body one after another: most of them by their first byte alone, and by what the validator says.

use wasmparser::{BinaryReader, MemArg, VisitOperator};

use super::super::opcodes::{self, Class};
use super::super::points::OpKind;
use super::super::refusal::Refusal;
use super::Scanner;

impl<'a> Scanner<'_, 'a> {
    pub(super) fn run(&mut self, reader: &mut BinaryReader<'a>) -> Result<(), Refusal> {
        let (code, base) = (self.code, self.base);
        let shrunk = self.graph.shrunk[self.func as usize].as_ref();
        let mut checks = shrunk.map_or(&[][..], |shrunk| &shrunk.checks);
        while !self.frames.is_empty() {
            let at = reader.current_position();
            while let [next, rest @ ..] = checks
                && next.at as usize == base + at
            {
                self.check(next.header, next.at);
                checks = rest;
            }
            match opcodes::class(code, at) {
                Class::Plain => {
                    self.validate_plain(reader, at)?;
                    self.pushed.note(code[at], base + at);
                    if self.reachable {
                        self.costs.charge_one();
                    }
                }
                class @ (Class::LocalGet | Class::LocalSet | Class::LocalTee) => {
                    self.local(class, reader, at)?;
                }
                Class::Special => self.special(reader, at)?,
                Class::Call if self.suspends(opcodes::index(code, at)) => self.special(reader, at)?,
                class => self.branch_or_call(class, reader, at)?,
            }
        }
        reader.finish_expression(&self.validator.visitor(reader.original_position()))?;
        Ok(())
    }

    /// An operator that takes operands, gives results, and does nothing else that matters here. Of the most frequent accesses to memory and of constants,
    /// if they are short, the validator is told without going through all opcodes.
    #[inline(always)]
    fn validate_plain(&mut self, reader: &mut BinaryReader<'a>, at: usize) -> Result<(), Refusal> {
        let mut visitor = self.validator.visitor(self.base + at);
        // The flags are the alignment alone: an access to the first memory.
        let (len, done) = match self.code[at..] {
            [0x41, number @ 0..0x80, ..] => {
                let value = i32::from((number << 1) as i8 >> 1);
                (2, visitor.visit_i32_const(value))
            }
            [opcode @ (0x28 | 0x29 | 0x2d | 0x36 | 0x37 | 0x3a), align @ 0..8, offset @ 0..0x80, ..] => {
                let access = |max_align| MemArg { align, max_align, offset: offset.into(), memory: 0 };
                let done = match opcode {
                    0x28 => visitor.visit_i32_load(access(2)),
                    0x29 => visitor.visit_i64_load(access(3)),
                    0x2d => visitor.visit_i32_load8_u(access(0)),
                    0x36 => visitor.visit_i32_store(access(2)),
                    0x37 => visitor.visit_i64_store(access(3)),
                    _ => visitor.visit_i32_store8(access(0)),
                };
                (3, done)
            }
            _ => return Ok(reader.visit_operator(&mut visitor)??),
        };
        reader.read_bytes(len)?;
        Ok(done?)
    }

    /// The index at this place, if it has one byte. Then the validator is told of the operator without going through all opcodes.
    #[inline(always)]
    fn short_index(&self, at: usize) -> Option<u32> {
        self.code.get(at).filter(|&&byte| byte < 0x80).map(|&byte| u32::from(byte))
    }

    /// An operator of a local.
    #[inline(always)]
    fn local(&mut self, class: Class, reader: &mut BinaryReader<'a>, at: usize) -> Result<(), Refusal> {
        let start = self.base + at;
        let index = match self.short_index(at + 1) {
            Some(index) => {
                reader.read_bytes(2)?;
                let mut visitor = self.validator.visitor(start);
                match class {
                    Class::LocalGet => visitor.visit_local_get(index),
                    Class::LocalSet => visitor.visit_local_set(index),
                    _ => visitor.visit_local_tee(index),
                }?;
                index
            }
            None => {
                reader.visit_operator(&mut self.validator.visitor(start))??;
                opcodes::index(self.code, at)
            }
        };
        self.pushed.note(self.code[at], start);
        if !self.reachable {
            return Ok(());
        }
        self.costs.charge_one();
        if class == Class::LocalGet {
            self.flow.read(index);
        } else {
            self.out.writes.push(index);
            self.flow.write(index);
        }
        if self.has_non_null && class != Class::LocalSet && !self.out.locals[index as usize].is_defaultable()
        {
            // The local is nullable in what we emit, and so would be the value that `tee` leaves.
            self.note(OpKind::GetNonNull, start as u32, reader.original_position() as u32);
        }
        Ok(())
    }

    /// `end`, `br`, `br_if`, or a call that cannot suspend.
    fn branch_or_call(
        &mut self,
        class: Class,
        reader: &mut BinaryReader<'a>,
        at: usize,
    ) -> Result<(), Refusal> {
        let start = self.base + at;
        match (class, self.short_index(at + 1)) {
            (Class::End, _) => {
                reader.read_bytes(1)?;
                self.validator.visitor(start).visit_end()?;
            }
            (Class::BrIf, Some(depth)) => {
                reader.read_bytes(2)?;
                self.validator.visitor(start).visit_br_if(depth)?;
            }
            _ => reader.visit_operator(&mut self.validator.visitor(start))??,
        }
        self.pushed.clear();
        let end = reader.original_position();
        if self.reachable {
            let index = if class == Class::End { 0 } else { opcodes::index(self.code, at) };
            match class {
                Class::Call => self.costs.charge(1 + self.graph.cost[index as usize]),
                _ => self.costs.charge_one(),
            }
            self.frequent_control(class, index, start as u32, end as u32);
        } else if class == Class::End {
            self.dead_end(start as u32, end as u32);
        }
        Ok(())
    }

    /// An operator that is more than its operands and results.
    fn special(&mut self, reader: &mut BinaryReader<'a>, at: usize) -> Result<(), Refusal> {
        let start = self.base + at;
        let frame = self.validator.get_control_frame(0).map(|frame| frame.kind);
        let op = opcodes::read(reader, self.code.get(at..).unwrap_or_default(), frame)?;
        let end = reader.original_position();
        let was_reachable = self.reachable;
        if was_reachable {
            self.refuse(&op, start as u64)?;
            self.before(&op, start as u32, end as u32);
        }
        self.validator.op(start, &op)?;
        self.control(&op, start as u32, end as u32, was_reachable)?;
        self.pushed.clear();
        Ok(())
    }
}
