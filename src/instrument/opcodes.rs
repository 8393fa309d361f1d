//! Opcodes by their first byte: most operators are validated, or skipped, without making a value of them.

use wasmparser::{FrameKind, FrameStack, Operator, VisitOperator, VisitSimdOperator};

/// What an operator means to a pass over the code.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// It takes operands, gives results, and costs an operator: nothing else.
    Plain,
    /// The same, but of a local.
    LocalGet,
    LocalSet,
    LocalTee,
    /// `end`, `br`, `br_if`, `call`.
    End,
    Br,
    BrIf,
    Call,
    /// Something else.
    Special,
}

/// By the first byte of the operator.
const CLASSES: [Class; 256] = {
    let mut classes = [Class::Special; 256];
    // `drop`, `select`, globals; memory, constants and numbers; vectors; atomic operations.
    let ranges = [(0x1a, 0x1b), (0x23, 0x24), (0x28, 0xc4), (0xfd, 0xfe)];
    let mut i = 0;
    while i < ranges.len() {
        let (mut at, last) = ranges[i];
        while at <= last {
            classes[at] = Class::Plain;
            at += 1;
        }
        i += 1;
    }
    classes[0x0b] = Class::End;
    classes[0x0c] = Class::Br;
    classes[0x0d] = Class::BrIf;
    classes[0x10] = Class::Call;
    classes[0x20] = Class::LocalGet;
    classes[0x21] = Class::LocalSet;
    classes[0x22] = Class::LocalTee;
    classes
};

/// The class of the operator at this place.
pub fn class(code: &[u8], at: usize) -> Class {
    code.get(at).map_or(Class::Special, |&first| CLASSES[first as usize])
}

/// The index behind the opcode at this place, LEB128; of what is not valid, any.
pub fn index(code: &[u8], at: usize) -> u32 {
    let bytes = code.get(at + 1..).unwrap_or_default();
    let mut value = 0;
    for (i, byte) in bytes.iter().take(5).enumerate() {
        value |= u32::from(byte & 0x7f) << (7 * i);
        if byte & 0x80 == 0 {
            break;
        }
    }
    value
}

/// The most frequent operators that the code begins with, in short form, where nothing needs to be checked to know their length:
/// their number, and their bytes.
pub fn skip_frequent(code: &[u8]) -> (u64, usize) {
    let (mut rest, mut operators) = (code, 0);
    loop {
        rest = match *rest {
            [0x1a | 0x1b | 0x45..=0xc4, ref rest @ ..] => rest,
            [0x20..=0x24 | 0x41 | 0x42, ref number @ ..] | [0x28..=0x3e, 0..=4, ref number @ ..] => {
                match *number {
                    [0..0x80, ref rest @ ..]
                    | [_, 0..0x80, ref rest @ ..]
                    | [_, _, 0..0x80, ref rest @ ..]
                    | [_, _, _, 0..0x80, ref rest @ ..] => rest,
                    _ => return (operators, code.len() - rest.len()),
                }
            }
            _ => return (operators, code.len() - rest.len()),
        };
        operators += 1;
    }
}

/// Makes a value of an operator, within a frame of this kind.
pub struct Make(pub Option<FrameKind>);

impl FrameStack for Make {
    fn current_frame(&self) -> Option<FrameKind> {
        self.0
    }
}

macro_rules! make {
    ($(@$proposal:ident $op:ident $({ $($arg:ident: $argty:ty),* })? => $visit:ident ($($ann:tt)*))*) => {
        $( fn $visit(&mut self $($(, $arg: $argty)*)?) -> Operator<'a> {
            Operator::$op $({ $($arg),* })?
        } )*
    };
}

impl<'a> VisitOperator<'a> for Make {
    type Output = Operator<'a>;

    fn simd_visitor(&mut self) -> Option<&mut dyn VisitSimdOperator<'a, Output = Operator<'a>>> {
        Some(self)
    }

    wasmparser::for_each_visit_operator!(make);
}

impl<'a> VisitSimdOperator<'a> for Make {
    wasmparser::for_each_visit_simd_operator!(make);
}
