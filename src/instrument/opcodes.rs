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

/// Of an operator in short form: how many bytes come before its number, 0 if it is another one, and all bits set if
/// there is a number.
const SHORT: [(u8, u8); 256] = {
    let mut short = [(0, 0); 256];
    // `drop`, `select`, numbers; locals, globals, constants; memory, where a byte of flags comes before the offset.
    let ranges = [
        (0x1a, 0x1b, 1, 0),
        (0x45, 0xc4, 1, 0),
        (0x20, 0x24, 1, 0xff),
        (0x41, 0x42, 1, 0xff),
        (0x28, 0x3e, 2, 0xff),
    ];
    let mut i = 0;
    while i < ranges.len() {
        let (mut at, last, before, number) = ranges[i];
        while at <= last {
            short[at] = (before, number);
            at += 1;
        }
        i += 1;
    }
    short
};

/// The most frequent operators that the code begins with, in short form, where nothing needs to be checked to know their length:
/// their number, and their bytes. Up to the last 8 bytes.
pub fn skip_frequent(code: &[u8]) -> (u64, usize) {
    let (mut rest, mut operators) = (code, 0);
    // Without a branch that depends on the operator, but for the one that leaves: they could not be foreseen.
    while let Some(bytes) = rest.first_chunk::<8>() {
        let (before, number) = SHORT[bytes[0] as usize];
        let ends = !u64::from_le_bytes(*bytes) >> (8 * u32::from(before)) & 0x8080_8080_8080_8080;
        let len = (ends.trailing_zeros() / 8 + 1) as usize;
        let flags_are_plain = before < 2 || bytes[1] <= 4;
        if before == 0 || (number > 0 && len > 4) || !flags_are_plain {
            break;
        }
        rest = &rest[before as usize + (len & number as usize)..];
        operators += 1;
    }
    (operators, code.len() - rest.len())
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_skipped_is_what_there_is() {
        // local.get 200, i32.const -1, i32.load align=4 offset=300, i32.add, drop; then an `end`.
        let code = [0x20, 0xc8, 1, 0x41, 0x7f, 0x28, 2, 0xac, 2, 0x6a, 0x1a, 0x0b];
        let mut padded = code.to_vec();
        padded.extend([0; 8]);
        assert_eq!(skip_frequent(&padded), (5, 11));
        assert_eq!(skip_frequent(&code), (2, 5), "the last bytes are read with care");
        // A number in long form, a memory's number, and another operator: not skipped.
        for other in [[0x20, 0x80, 0x80, 0x80, 0x80, 0], [0x28, 0x42, 1, 0, 0, 0], [0x02, 0x40, 0, 0, 0, 0]] {
            let padded = [&other[..], &[0; 8]].concat();
            assert_eq!(skip_frequent(&padded), (0, 0), "{other:x?}");
        }
        assert_eq!(index(&code, 0), 200);
    }
}
