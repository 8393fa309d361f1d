//! Opcodes by their first byte: most operators are validated, or skipped, without making a value of them.

use wasmparser::{
    BinaryReader, BinaryReaderError, BlockType, FrameKind, FrameStack, Operator, ValType, VisitOperator,
    VisitSimdOperator,
};

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
#[inline(always)]
pub fn class(code: &[u8], at: usize) -> Class {
    code.get(at).map_or(Class::Special, |&first| CLASSES[first as usize])
}

/// The index behind the opcode at this place, LEB128; of what is not valid, any.
#[inline(always)]
pub fn index(code: &[u8], at: usize) -> u32 {
    match code.get(at + 1) {
        Some(&short @ 0..0x80) => u32::from(short),
        _ => long_index(code.get(at + 1..).unwrap_or_default()),
    }
}

fn long_index(bytes: &[u8]) -> u32 {
    let mut value = 0;
    for (i, byte) in bytes.iter().take(5).enumerate() {
        value |= u32::from(byte & 0x7f) << (7 * i);
        if byte & 0x80 == 0 {
            break;
        }
    }
    value
}

/// Of an operator in short form, as bits of its first 8 bytes: those of which the first one that is not set ends it, and those that must not be
/// set. None of an operator that has no such form.
const SHORT: [(u64, u64); 256] = {
    let mut short = [(0, 0); 256];
    const ALONE: (u64, u64) = (0x80, 0);
    const WITH_NUMBER: (u64, u64) = (0x80_8080_8000, 0);
    // A byte of flags comes before the offset: the alignment alone.
    const ACCESS: (u64, u64) = (0x8080_8080_0000, 0xf800);
    let ranges = [
        // `unreachable`, `nop`, `return`, `drop`, `select`, numbers.
        (0x00, 0x01, ALONE),
        (0x0f, 0x0f, ALONE),
        (0x1a, 0x1b, ALONE),
        (0x45, 0xc4, ALONE),
        // `br`, `br_if`, locals, globals, constants.
        (0x0c, 0x0d, WITH_NUMBER),
        (0x20, 0x24, WITH_NUMBER),
        (0x41, 0x42, WITH_NUMBER),
        (0x28, 0x3e, ACCESS),
    ];
    let mut i = 0;
    while i < ranges.len() {
        let (mut at, last, bits) = ranges[i];
        while at <= last {
            short[at] = bits;
            at += 1;
        }
        i += 1;
    }
    short
};

/// The length of an operator if it is one of the most frequent ones, in short form, where nothing needs to be checked to know it. Without a
/// branch that depends on the operator: it could not be foreseen.
#[inline(always)]
pub fn short(bytes: [u8; 8]) -> Option<usize> {
    let (ends, others) = SHORT[bytes[0] as usize];
    let word = u64::from_le_bytes(bytes);
    // The opcode itself always ends.
    let end = (!word | 0x80) & ends;
    (end != 0 && word & others == 0).then(|| end.trailing_zeros() as usize / 8 + 1)
}

/// The operators that the code begins with of which [`short`] tells the length, if they neither call nor begin or end a construct: their
/// number, and their bytes. Up to the last 8 bytes.
pub fn skip_frequent(code: &[u8]) -> (u64, usize) {
    let (mut at, mut operators) = (0, 0);
    while let Some(bytes) = code.get(at..).and_then(<[u8]>::first_chunk)
        && let Some(len) = short(*bytes)
    {
        at += len;
        operators += 1;
    }
    (operators, at)
}

/// Reads an operator, which `code` begins with, within a frame of this kind. The most frequent ones of those that
/// [`skip_frequent`] leaves are made without going through all opcodes.
#[inline(always)]
pub fn read<'a>(
    reader: &mut BinaryReader<'a>,
    code: &[u8],
    within: Option<FrameKind>,
) -> Result<Operator<'a>, BinaryReaderError> {
    match frequent(code) {
        Some((operator, len)) if within.is_some() => reader.read_bytes(len).map(|_| operator),
        _ => reader.visit_operator(&mut Make(within)),
    }
}

/// A frequent control operator in short form, and its length.
#[inline(always)]
fn frequent(code: &[u8]) -> Option<(Operator<'static>, usize)> {
    let &[opcode, next, ..] = code else { return None };
    let blockty = || {
        Some(match next {
            0x40 => BlockType::Empty,
            0x7f => BlockType::Type(ValType::I32),
            0x7e => BlockType::Type(ValType::I64),
            _ => return None,
        })
    };
    match opcode {
        0x02 => Some((Operator::Block { blockty: blockty()? }, 2)),
        0x03 => Some((Operator::Loop { blockty: blockty()? }, 2)),
        0x04 => Some((Operator::If { blockty: blockty()? }, 2)),
        0x0b => Some((Operator::End, 1)),
        0x10 if next < 0x80 => Some((Operator::Call { function_index: next.into() }, 2)),
        0x10 if code.get(2).is_some_and(|&last| last < 0x80) => {
            Some((Operator::Call { function_index: long_index(&code[1..]) }, 3))
        }
        _ => None,
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

    #[test]
    fn what_is_read_at_once_is_what_the_reader_reads() {
        // Blocks of several types, `end`, calls with indexes of one byte and more, and others.
        let codes: [&[u8]; 14] = [
            &[0x02, 0x40],
            &[0x02, 0x7f],
            &[0x03, 0x7e],
            &[0x03, 0x40],
            &[0x04, 0x40],
            &[0x04, 0x7c],
            &[0x04, 5],
            &[0x0b],
            &[0x0b, 0x0b],
            &[0x10, 0x7f],
            &[0x10, 0xff, 1],
            &[0x10, 0xff, 0xff, 1],
            &[0x10, 0x80],
            &[0x45, 0x0b],
        ];
        for code in codes {
            let [mut ours, mut theirs] = [0; 2].map(|_| BinaryReader::new(code, 0));
            let kind = Some(FrameKind::Block);
            let found = read(&mut ours, code, kind).map_err(|error| error.to_string());
            let wanted = theirs.visit_operator(&mut Make(kind)).map_err(|error| error.to_string());
            assert_eq!(found, wanted, "{code:x?}");
            assert_eq!(ours.current_position(), theirs.current_position(), "{code:x?}");
            // Behind the end of a function.
            assert!(read(&mut BinaryReader::new(code, 0), code, None).is_err(), "{code:x?}");
        }
    }
}
