//! Operands that a piece of code pushes and does nothing else: locals, constants, and what is computed of them and cannot trap.
//!
//! Such code in front of a call need not be gone through while a frame is rebuilt, nor be left out: it may run once more with any
//! values. So the label that a dispatch jumps to, to make the call again, can stand before it.

use super::opcodes::index;

/// What an operator does to the operands that were only pushed.
#[derive(Clone, Copy)]
enum Effect {
    Push,
    /// One takes the place of another.
    Keep,
    /// One takes the place of two.
    Join,
    Clear,
}

/// By the first byte of the operator.
const EFFECTS: [Effect; 256] = {
    let mut effects = [Effect::Clear; 256];
    let mut opcode = 0;
    while opcode < effects.len() {
        effects[opcode] = match opcode {
            // `local.get`, constants.
            0x20 | 0x41..=0x44 => Effect::Push,
            // Divisions, remainders and conversions that trap.
            0x6d..=0x70 | 0x7f..=0x82 | 0xa8..=0xab | 0xae..=0xb1 => Effect::Clear,
            // `eqz`, operators of one number, conversions.
            0x45 | 0x50 | 0x67..=0x69 | 0x79..=0x7b | 0x8b..=0x91 | 0x99..=0x9f | 0xa7..=0xc4 => Effect::Keep,
            // The others, of two numbers.
            0x46..=0xa6 => Effect::Join,
            _ => Effect::Clear,
        };
        opcode += 1;
    }
    effects
};

/// Where the code begins that pushes each of the topmost operands.
#[derive(Default)]
pub struct Pushed(Vec<u32>);

impl Pushed {
    pub fn clear(&mut self) {
        self.0.clear();
    }

    /// The operator with this first byte, at this position, comes next. The validator has taken it.
    #[inline]
    pub fn note(&mut self, opcode: u8, at: usize) {
        match EFFECTS[opcode as usize] {
            Effect::Push => self.0.push(at as u32),
            Effect::Keep => {}
            Effect::Join => drop(self.0.pop()),
            Effect::Clear => self.0.clear(),
        }
    }

    /// Where the code for the topmost operands begins, of `count` at most, and for how many it is, with `end` behind it.
    pub fn last(&self, count: usize, end: u32) -> (u32, u32) {
        let count = count.min(self.0.len());
        let start = self.0.len() - count;
        (self.0.get(start).copied().unwrap_or(end), count as u32)
    }
}

/// The locals that such code reads, ascending.
pub fn locals_read(mut code: &[u8]) -> Vec<u32> {
    let mut locals = vec![];
    while let Some((&first, rest)) = code.split_first() {
        let number = 1 + rest.iter().take_while(|byte| **byte & 0x80 != 0).count();
        let len = match first {
            0x20 => {
                locals.push(index(code, 0));
                number
            }
            0x41 | 0x42 => number,
            0x43 => 4,
            0x44 => 8,
            _ => 0,
        };
        code = rest.get(len..).unwrap_or_default();
    }
    locals.sort_unstable();
    locals.dedup();
    locals
}

#[cfg(test)]
mod tests {
    use super::*;
    use wasmparser::{Operator, Parser, Payload};

    /// What is pushed at the last call of a function with this text, with its number of operands, and the locals that are read.
    fn found(body: &str) -> (String, u32, Vec<u32>) {
        let text = format!(
            "(module (memory 1) (func $f (param i32 f64 i32))
               (func (param i32 i64) (local f32 f64) {body} (call $f)))"
        );
        let wasm = wat::parse_str(text).unwrap();
        let bodies = Parser::new(0).parse_all(&wasm).filter_map(|payload| match payload.unwrap() {
            Payload::CodeSectionEntry(body) => Some(body),
            _ => None,
        });
        let (mut pushed, mut result, mut names) = (Pushed::default(), None, vec![]);
        for operator in bodies.last().unwrap().get_operators_reader().unwrap().into_iter_with_offsets() {
            let (operator, at) = operator.unwrap();
            if let Operator::Call { .. } = operator {
                result = Some((pushed.last(3, at as u32), at));
            }
            pushed.note(wasm[at], at);
            names.push((at, format!("{operator:?}").split(' ').next().unwrap().to_string()));
        }
        let ((start, count), end) = result.unwrap();
        let names = names.iter().filter(|(at, _)| (start as usize..end).contains(at));
        let names: Vec<_> = names.map(|(_, name)| name.as_str()).collect();
        (names.join(" "), count, locals_read(&wasm[start as usize..end]))
    }

    #[test]
    fn operands_that_are_only_pushed_are_found() {
        let all = "(i32.add (local.get 0) (i32.const 200)) (f64.const 0.5) (i32.wrap_i64 (local.get 1))";
        let names = "LocalGet I32Const I32Add F64Const LocalGet I32WrapI64";
        assert_eq!(found(all), (names.into(), 3, vec![0, 1]));
        // What lies beneath the call's operands is left out.
        let beneath =
            "(local.get 0) (local.get 0) (f64.neg (local.get 3)) (i32.eqz (local.get 0)) (call $f) (drop)";
        assert_eq!(found(&format!("{beneath} {all}")), (names.into(), 3, vec![0, 1]));
        let beneath = "(i32.const 1) (i32.const 2) (f64.const 3) (i32.const 4)";
        assert_eq!(found(&format!("{beneath} (call $f) (f64.const 0.5) (local.get 0)")).1, 2);
    }

    #[test]
    fn what_may_trap_or_does_something_ends_them() {
        let first = "(local.get 0) (f64.const 0.5)";
        for last in [
            "(i32.load (local.get 0))",
            "(local.tee 0 (i32.const 1))",
            "(i32.div_u (local.get 0) (local.get 0))",
            "(i32.trunc_f32_u (local.get 2))",
            "(memory.size)",
            "(select (local.get 0) (local.get 0) (local.get 0))",
            "(block (result i32) (local.get 0))",
        ] {
            let (names, count, read) = found(&format!("{first} {last}"));
            assert_eq!((count, read), (0, vec![]), "{last}: {names}");
        }
        let then = found("(i32.load (local.get 0)) (f64.const 0.5) (i32.const 300)");
        assert_eq!(then, ("F64Const I32Const".into(), 2, vec![]));
        // An operand that the code did not push.
        assert_eq!(
            found("(i32.load (local.get 0)) (f64.const 1) (i32.const 0) (i32.load) (local.get 0) (i32.add)")
                .1,
            0
        );
    }
}
