//! Opcodes by their first byte: most operators are read by the validator alone, without making a value of them.

use wasmparser::{VisitOperator, VisitSimdOperator};

/// What an operator means to a pass over the code.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// It takes operands, gives results, and costs an operator: nothing else.
    Plain,
    /// The same, but of a local.
    LocalGet,
    LocalSet,
    LocalTee,
    /// Something else.
    Special,
}

/// By the first byte of the operator.
const CLASSES: [Class; 256] = {
    let mut classes = [Class::Special; 256];
    classes[0x20] = Class::LocalGet;
    classes[0x21] = Class::LocalSet;
    classes[0x22] = Class::LocalTee;
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
    classes
};

/// The class of the operator that begins with this byte.
pub fn class(first: u8) -> Class {
    CLASSES[first as usize]
}

/// The index that stands in these bytes, which the validator has read: LEB128.
pub fn index(bytes: &[u8]) -> u32 {
    bytes.iter().rev().fold(0, |value, byte| value << 7 | u32::from(byte & 0x7f))
}

/// Reads an operator and does nothing with it.
pub struct Skip;

macro_rules! skip {
    ($(@$proposal:ident $op:ident $({ $($arg:ident: $argty:ty),* })? => $visit:ident ($($ann:tt)*))*) => {
        $( fn $visit(&mut self $($(, _: $argty)*)?) {} )*
    };
}

impl<'a> VisitOperator<'a> for Skip {
    type Output = ();

    fn simd_visitor(&mut self) -> Option<&mut dyn VisitSimdOperator<'a, Output = ()>> {
        Some(self)
    }

    wasmparser::for_each_visit_operator!(skip);
}

impl VisitSimdOperator<'_> for Skip {
    wasmparser::for_each_visit_simd_operator!(skip);
}
