//! Functions that begin with a loop: one check for both (from cost model 7 on).
//!
//! Where nothing of effect comes before a function's first loop, each call passes that loop's header right away. So the function does not check at its
//! entry: its first suspension point is the header, and its frames are rebuilt from there.

use wasmparser::{BlockType, FunctionBody, Operator, OperatorsReader};

use super::cost::AROUND_MAX;
use super::points::{Ctl, CtlKind, Scan};

/// Operators that may come before the loop.
const BEFORE_MAX: usize = 16;

/// The offset of the loop that a function begins with.
pub fn first_loop(body: &FunctionBody<'_>) -> Option<u32> {
    come_to_loop(&mut body.get_operators_reader().ok()?, |_| {}).map(|at| at as u32)
}

/// Reads on behind the loop that a function begins with, and gives its offset. Nothing comes before it but blocks, and what has no effect outside of the
/// function. All operators are told of, the loop's the last.
pub fn come_to_loop(reader: &mut OperatorsReader<'_>, mut tell: impl FnMut(&Operator<'_>)) -> Option<usize> {
    for _ in 0..BEFORE_MAX {
        let (operator, at) = reader.read_with_offset().ok()?;
        tell(&operator);
        match operator {
            Operator::Loop { blockty: BlockType::Empty } => return Some(at),
            Operator::Block { .. }
            | Operator::LocalGet { .. }
            | Operator::LocalSet { .. }
            | Operator::LocalTee { .. }
            | Operator::GlobalGet { .. }
            | Operator::I32Const { .. }
            | Operator::I64Const { .. } => {}
            _ => return None,
        }
    }
    None
}

/// If the loop there may check for the whole function, makes its header the function's first point. What the function does besides must be little, and
/// there must be no other point outside of the loop. A loop without points inside stays as it is: nothing comes back into it from its cold code.
pub fn unite(scan: &mut Scan, at: u32) {
    let Scan { ctls, points, regions, entry_charge, first_loop, .. } = scan;
    let Some(ctl) = ctls.iter().position(|info| info.kind == CtlKind::Loop) else { return };
    let info = &mut ctls[ctl];
    let header = &points[info.point as usize];
    let checks_each_pass = info.passes.is_none() && info.counted.is_none();
    let alone = regions[0].items.len() == 1 && !regions[info.region].items.is_empty();
    if header.offset != at
        || !header.stack.is_empty()
        || !checks_each_pass
        || !alone
        || *entry_charge > AROUND_MAX
    {
        return;
    }
    info.charge += *entry_charge;
    let (kind, offset, block) = (header.kind, header.offset, header.block);
    let first = &mut points[0];
    (first.kind, first.offset, first.block) = (kind, offset, block);
    *first_loop = Some(ctl as Ctl);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn opcode_at_first_loop(code: &str) -> Option<u8> {
        let wasm = wat::parse_str(format!(
            "(module (global $g (mut i32) (i32.const 0)) (memory 1) (func $f (param $n i32) {code}))"
        ));
        let wasm = wasm.unwrap();
        let payloads = wasmparser::Parser::new(0).parse_all(&wasm);
        let at = payloads.filter_map(|payload| match payload.unwrap() {
            wasmparser::Payload::CodeSectionEntry(body) => first_loop(&body),
            _ => None,
        });
        at.last().map(|at| wasm[at as usize])
    }

    #[test]
    fn nothing_of_effect_comes_before_it() {
        let body = "(loop $l (br_if $l (local.get $n)))";
        assert_eq!(opcode_at_first_loop(body), Some(0x03));
        let quiet = "(local.set $n (global.get $g)) (local.set $n (local.tee $n (i32.const 3)))";
        assert_eq!(opcode_at_first_loop(&format!("(block {quiet} {body})")), Some(0x03));
        for before in [
            "(global.set $g (i32.const 1))",
            "(i32.store (i32.const 0) (i32.const 1))",
            "(call $f (i32.const 0))",
        ] {
            assert_eq!(opcode_at_first_loop(&format!("{before} {body}")), None, "{before}");
        }
        assert_eq!(
            opcode_at_first_loop(&format!("{} {body}", quiet.repeat(5))),
            None,
            "too much comes before it"
        );
        assert_eq!(opcode_at_first_loop("(loop $l (result i32) (i32.const 1)) drop"), None);
    }
}
