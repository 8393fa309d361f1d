//! What straight code, or one pass of a loop, does to locals.

use wasmparser::{BinaryReader, FrameKind, Operator};

use super::super::opcodes::Make;
use super::{Bound, Distance, Written};

/// Locals of one loop that are looked at.
const LOCALS_MAX: usize = 64;

/// What is known of a value in one pass of a loop, or in straight code.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Value {
    Any,
    Number(u64),
    /// What the local was at the beginning, and so much more, of as many bits as the type has.
    Moved {
        local: u32,
        by: u64,
    },
    Test(Test),
}

/// Whether a local, moved, stands in a relation to a number.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Test {
    pub(super) local: u32,
    by: u64,
    relation: Relation,
    to: Bound,
    /// Of 64 bits, and not of 32.
    wide: bool,
    /// Where `to` is pushed, if one operator does that, right before the comparison; or where it would be.
    written: Option<Written>,
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Relation {
    Equal,
    Unequal,
    Less { signed: bool },
    LessOrEqual { signed: bool },
    Greater { signed: bool },
    GreaterOrEqual { signed: bool },
}

use Relation::{Equal, Greater, GreaterOrEqual, Less, LessOrEqual, Unequal};

impl Relation {
    /// That of the same values the other way around.
    fn turned(self) -> Self {
        match self {
            Equal | Unequal => self,
            Less { signed } => Greater { signed },
            LessOrEqual { signed } => GreaterOrEqual { signed },
            Greater { signed } => Less { signed },
            GreaterOrEqual { signed } => LessOrEqual { signed },
        }
    }

    fn negated(self) -> Self {
        match self {
            Equal => Unequal,
            Unequal => Equal,
            Less { signed } => GreaterOrEqual { signed },
            LessOrEqual { signed } => Greater { signed },
            Greater { signed } => LessOrEqual { signed },
            GreaterOrEqual { signed } => Less { signed },
        }
    }
}

impl Test {
    /// Whether the number of passes may be known before the program runs.
    pub(super) fn is_of_number(&self) -> bool {
        matches!(self.to, Bound::Number(_))
    }

    /// How often the loop is passed that goes on while this holds, if the local is `first` at first and each pass adds `step`.
    pub(super) fn passes(&self, first: u64, step: u64) -> Option<u64> {
        let bits = if self.wide { 64 } else { 32 };
        let unsigned = |value: u64| i128::from(if self.wide { value } else { value & u64::from(u32::MAX) });
        let signed = |value: u64| i128::from(if self.wide { value as i64 } else { i64::from(value as i32) });
        let (first, step) = (first.wrapping_add(self.by), signed(step));
        if step == 0 {
            return None;
        }
        let Bound::Number(number) = self.to else { return None };
        let as_is = |is_signed: bool, value: u64| if is_signed { signed(value) } else { unsigned(value) };
        // Of a range of numbers that the local must not leave, from the far end on.
        let until = |is_signed: bool, including: i128| {
            let (low, high) = if is_signed {
                (-(1 << (bits - 1)), (1 << (bits - 1)) - 1)
            } else {
                (0, (1i128 << bits) - 1)
            };
            let (first, number) = (as_is(is_signed, first), as_is(is_signed, number));
            let way = (number - first) * step.signum() + including;
            if way <= 0 {
                return Some(0);
            }
            let steps = (way + step.abs() - 1) / step.abs();
            let last = first + steps * step;
            (low..=high).contains(&last).then_some(steps)
        };
        let more = match self.relation {
            Equal => i128::from(unsigned(first) == unsigned(number)),
            Unequal => {
                // Around the end of the numbers, if need be.
                let way = if step > 0 { number.wrapping_sub(first) } else { first.wrapping_sub(number) };
                let way = unsigned(way);
                (way % step.abs() == 0).then_some(way / step.abs())?
            }
            Less { signed } if step > 0 => until(signed, 0)?,
            LessOrEqual { signed } if step > 0 => until(signed, 1)?,
            Greater { signed } if step < 0 => until(signed, 0)?,
            GreaterOrEqual { signed } if step < 0 => until(signed, 1)?,
            _ => return None,
        };
        u64::try_from(more + 1).ok()
    }
}

/// One pass of a loop, or straight code: what it does to locals.
#[derive(Default)]
pub(super) struct Walk {
    /// The topmost operands; what lies beneath is not known.
    stack: Vec<Value>,
    locals: Vec<(u32, Value)>,
    /// Tests that hold if the loop goes on.
    pub(super) tests: Vec<Test>,
    /// What follows does not lead back to the loop.
    gone: bool,
    /// How many ways out there are.
    outs: u32,
    /// Offsets of the last operator, if that is `local.get` or a number.
    pushed: Option<Written>,
}

impl Walk {
    /// `repeats`: the code is a loop's body. None if it goes back in more than one place, or in one that
    /// not each pass comes to, or does what is not looked at.
    pub(super) fn walk(&mut self, code: &[u8], repeats: bool) -> Option<()> {
        let mut reader = BinaryReader::new(code, 0);
        let mut frames: Vec<FrameKind> = vec![];
        while !reader.eof() {
            let frame = frames.last().copied().unwrap_or(FrameKind::Loop);
            let at = reader.current_position() as u32;
            let operator = reader.visit_operator(&mut Make(Some(frame))).ok()?;
            let level = frames.len() as u32;
            let pushes = matches!(
                operator,
                Operator::LocalGet { .. } | Operator::I32Const { .. } | Operator::I64Const { .. }
            );
            match operator {
                Operator::Block { .. } if !repeats => self.stack.clear(),
                Operator::Block { .. } | Operator::Loop { .. } | Operator::If { .. } => {
                    self.stack.clear();
                    frames.push(match operator {
                        Operator::Block { .. } => FrameKind::Block,
                        Operator::Loop { .. } => FrameKind::Loop,
                        _ => FrameKind::If,
                    });
                }
                Operator::Else => {
                    self.stack.clear();
                    *frames.last_mut()? = FrameKind::Else;
                }
                Operator::End => {
                    self.stack.clear();
                    frames.pop()?;
                }
                Operator::BrIf { relative_depth } => {
                    let test = self.pop();
                    let goes_back = repeats && relative_depth == level;
                    if goes_back && (level > 0 || self.gone) {
                        return None;
                    }
                    if level == 0 && !self.gone {
                        self.note(test, goes_back, at);
                    }
                    self.leave_if(goes_back || relative_depth > level);
                    self.gone |= goes_back;
                }
                Operator::Br { relative_depth } => {
                    let goes_back = repeats && relative_depth == level;
                    if goes_back && (level > 0 || self.gone) || !goes_back && level == 0 && !self.gone {
                        return None;
                    }
                    self.stack.clear();
                    self.leave_if(relative_depth > level);
                    self.gone |= goes_back;
                }
                Operator::BrTable { targets } => {
                    let leads = |depth: u32| repeats && depth == level;
                    let goes_back = targets.targets().any(|depth| depth.map_or(true, leads));
                    if level == 0 && !self.gone || goes_back || leads(targets.default()) {
                        return None;
                    }
                    self.stack.clear();
                    let out = |depth: u32| depth > level;
                    let leaves = targets.targets().any(|depth| depth.map_or(true, out));
                    self.leave_if(leaves || out(targets.default()));
                }
                Operator::Return | Operator::Unreachable if level == 0 && !self.gone => return None,
                Operator::BrOnNull { .. }
                | Operator::BrOnNonNull { .. }
                | Operator::BrOnCast { .. }
                | Operator::BrOnCastFail { .. }
                | Operator::TryTable { .. } => return None,
                Operator::Return => self.leave_if(true),
                _ => self.compute(&operator, level > 0)?,
            }
            let to = reader.current_position() as u32;
            self.pushed = pushes.then_some(Written { from: at, to, implied: false });
        }
        frames.is_empty().then_some(())
    }

    /// An operator that is not a branch. What is written `inside` of another construct may not be written.
    fn compute(&mut self, operator: &Operator<'_>, inside: bool) -> Option<()> {
        match *operator {
            Operator::LocalGet { local_index } => {
                let value = self.get(local_index);
                self.stack.push(value);
            }
            Operator::LocalSet { local_index } => {
                let value = self.pop();
                self.set(local_index, if inside { Value::Any } else { value })?;
            }
            Operator::LocalTee { local_index } => {
                let value = self.pop();
                self.set(local_index, if inside { Value::Any } else { value })?;
                self.stack.push(value);
            }
            Operator::I32Const { value } => self.stack.push(Value::Number(u64::from(value as u32))),
            Operator::I64Const { value } => self.stack.push(Value::Number(value as u64)),
            Operator::I32Add | Operator::I64Add => {
                let (right, left) = (self.pop(), self.pop());
                self.stack.push(match (left, right) {
                    (Value::Moved { local, by }, Value::Number(more))
                    | (Value::Number(more), Value::Moved { local, by }) => {
                        Value::Moved { local, by: by.wrapping_add(more) }
                    }
                    _ => Value::Any,
                });
            }
            Operator::I32Sub | Operator::I64Sub => {
                let (right, left) = (self.pop(), self.pop());
                self.stack.push(match (left, right) {
                    (Value::Moved { local, by }, Value::Number(less)) => {
                        Value::Moved { local, by: by.wrapping_sub(less) }
                    }
                    _ => Value::Any,
                });
            }
            Operator::I32Eqz | Operator::I64Eqz => {
                let wide = matches!(operator, Operator::I64Eqz);
                let value = self.pop();
                self.stack.push(match value {
                    Value::Test(test) => Value::Test(Test { relation: test.relation.negated(), ..test }),
                    value => compared(value, Equal, Value::Number(0), wide),
                });
            }
            _ => match relation(operator) {
                Some((relation, wide)) => {
                    let (right, left) = (self.pop(), self.pop());
                    self.stack.push(match compared(left, relation, right, wide) {
                        Value::Test(test) if !matches!(left, Value::Number(_)) => {
                            Value::Test(Test { written: self.pushed, ..test })
                        }
                        value => value,
                    });
                }
                None => self.stack.clear(),
            },
        }
        Some(())
    }

    fn pop(&mut self) -> Value {
        self.stack.pop().unwrap_or(Value::Any)
    }

    pub(super) fn get(&self, local: u32) -> Value {
        let found = self.locals.iter().find(|(it, _)| *it == local);
        found.map_or(Value::Moved { local, by: 0 }, |&(_, value)| value)
    }

    fn set(&mut self, local: u32, value: Value) -> Option<()> {
        if self.gone {
            return Some(());
        }
        match self.locals.iter().position(|(it, _)| *it == local) {
            Some(at) => self.locals[at].1 = value,
            None if self.locals.len() < LOCALS_MAX => self.locals.push((local, value)),
            None => return None,
        }
        Some(())
    }

    /// A way out of the loop, if that holds.
    fn leave_if(&mut self, leaves: bool) {
        self.outs += u32::from(leaves && !self.gone);
    }

    /// A branch at that offset, which each pass comes to; the loop goes on if it is taken, or if it is not.
    fn note(&mut self, value: Value, on: bool, at: u32) {
        let test = match value {
            Value::Test(test) => test,
            value => match compared(value, Unequal, Value::Number(0), false) {
                Value::Test(test) => {
                    Test { written: Some(Written { from: at, to: at, implied: true }), ..test }
                }
                _ => return,
            },
        };
        let relation = if on { test.relation } else { test.relation.negated() };
        self.tests.push(Test { relation, ..test });
    }

    /// How far the only way out of a loop with this body is, if that can be told from locals before the first pass.
    pub(super) fn distance(&self, body: &[u8]) -> Option<Distance> {
        let &[Test { local, by, relation: Unequal, to, wide, written }] = &self.tests[..] else {
            return None;
        };
        if self.outs != 1 {
            return None;
        }
        let (local, by, to, written) = match to {
            // The other way around.
            Bound::Local { local: to, by: more } if self.step(local) == Some(0) => {
                (to, more, Bound::Local { local, by }, None)
            }
            _ => (local, by, to, written),
        };
        if let Bound::Local { local: to, .. } = to
            && self.step(to) != Some(0)
        {
            return None;
        }
        let step = self.step(local)?;
        let step = if wide { step as i64 } else { i64::from(step as i32) };
        let shift = step.unsigned_abs().trailing_zeros();
        let is_power = step.unsigned_abs().is_power_of_two();
        // `i32.ne` or `i64.ne`, and `br_if 0`.
        let is_last = |written: &Written| match body[written.to as usize..] {
            [0x0d, 0] => written.implied,
            [0x47 | 0x52, 0x0d, 0] => !written.implied,
            _ => false,
        };
        let written = written.filter(is_last);
        (is_power && shift < 32).then_some(Distance { local, by, to, shift, down: step < 0, wide, written })
    }

    /// What a pass adds to a local.
    pub(super) fn step(&self, local: u32) -> Option<u64> {
        match self.get(local) {
            Value::Moved { local: from, by } if from == local => Some(by),
            _ => None,
        }
    }
}

fn compared(left: Value, relation: Relation, right: Value, wide: bool) -> Value {
    match (left, right) {
        (Value::Moved { local, by }, Value::Number(number)) => {
            Value::Test(Test { local, by, relation, to: Bound::Number(number), wide, written: None })
        }
        (Value::Number(_), Value::Moved { .. }) => compared(right, relation.turned(), left, wide),
        (Value::Moved { local, by }, Value::Moved { local: to, by: more }) => Value::Test(Test {
            local,
            by,
            relation,
            to: Bound::Local { local: to, by: more },
            wide,
            written: None,
        }),
        _ => Value::Any,
    }
}

/// The relation that a comparison is of, and whether of 64 bits.
fn relation(operator: &Operator<'_>) -> Option<(Relation, bool)> {
    let (signed, unsigned) = (true, false);
    Some(match operator {
        Operator::I32Eq => (Equal, false),
        Operator::I32Ne => (Unequal, false),
        Operator::I32LtS => (Less { signed }, false),
        Operator::I32LtU => (Less { signed: unsigned }, false),
        Operator::I32LeS => (LessOrEqual { signed }, false),
        Operator::I32LeU => (LessOrEqual { signed: unsigned }, false),
        Operator::I32GtS => (Greater { signed }, false),
        Operator::I32GtU => (Greater { signed: unsigned }, false),
        Operator::I32GeS => (GreaterOrEqual { signed }, false),
        Operator::I32GeU => (GreaterOrEqual { signed: unsigned }, false),
        Operator::I64Eq => (Equal, true),
        Operator::I64Ne => (Unequal, true),
        Operator::I64LtS => (Less { signed }, true),
        Operator::I64LtU => (Less { signed: unsigned }, true),
        Operator::I64LeS => (LessOrEqual { signed }, true),
        Operator::I64LeU => (LessOrEqual { signed: unsigned }, true),
        Operator::I64GtS => (Greater { signed }, true),
        Operator::I64GtU => (Greater { signed: unsigned }, true),
        Operator::I64GeS => (GreaterOrEqual { signed }, true),
        Operator::I64GeU => (GreaterOrEqual { signed: unsigned }, true),
        _ => return None,
    })
}
