//! Jumps to a known case of a dispatch loop, made past the loop's header (jump threading, from cost model 7 on).
//!
//! Go's compiler makes each function one loop around a `br_table`: a jump sets the local that the table is indexed with, and goes back
//! to the loop.
//!
//! ```text
//! loop $dispatch
//!   block $second
//!     block $first
//!       (br_table $first $second (local.get $at))
//!     end
//!     ...
//!     (local.set $at (i32.const 1))
//!     br $dispatch                       ;; becomes: br $second
//!   end
//! ```
//!
//! Between the loop's beginning and its table nothing happens, so where the local is set to a constant right before, the jump may as well
//! go to the end of the block that the table leads to, if that is around it: a jump forwards. It saves the loop's check and charge, and the
//! table. Jumps backwards still go through the header, so every cycle has a check.
//!
//! Only the numbers of labels are changed, in as many bytes as they had: all else stays where it is, and the module is as valid as before.

use rayon::prelude::*;
use wasmparser::{BinaryReader, BlockType, FrameKind, FunctionBody, Operator};

use super::first::come_to_loop;
use super::module::Body;
use super::opcodes;

/// A label's number that is to be replaced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Patch {
    /// Offsets of its first byte and of what follows it, in the module.
    at: usize,
    end: usize,
    depth: u32,
}

/// The module with its jumps threaded; none if there is nothing to do.
pub fn thread(wasm: &[u8], bodies: &[Body<'_>]) -> Option<Vec<u8>> {
    let patches: Vec<Patch> = bodies.par_iter().flat_map_iter(|body| patches(&body.body)).collect();
    if patches.is_empty() {
        return None;
    }
    let mut threaded = wasm.to_vec();
    for patch in patches {
        patch.write(&mut threaded);
    }
    Some(threaded)
}

impl Patch {
    /// LEB128, as long as what was there.
    fn write(self, wasm: &mut [u8]) {
        let (mut rest, bytes) = (self.depth, &mut wasm[self.at..self.end]);
        let mut left = bytes.len();
        for byte in bytes {
            left -= 1;
            *byte = (rest & 0x7f) as u8 | u8::from(left > 0) << 7;
            rest >>= 7;
        }
    }

    fn fits(self) -> bool {
        let bits = 7 * (self.end - self.at) as u32;
        bits >= u32::BITS || self.depth >> bits == 0
    }
}

/// The dispatch loop of a function.
struct Dispatch {
    /// The local that says where to.
    local: u32,
    /// Its own number among the open constructs.
    at: usize,
    /// The numbers of the constructs that the table leads to, by index, the default last.
    targets: Vec<usize>,
}

/// An open construct. Numbers are in program order, so that no two constructs of a function have the same one.
#[derive(Clone, Copy)]
struct Open {
    number: usize,
    /// A block without parameters and results: a jump to it goes to its end, and takes nothing along.
    is_plain: bool,
    /// The first arm of an `if`.
    is_if: bool,
}

const BR: u8 = 0x0c;
const LOCAL_SET: u8 = 0x21;
const I32_CONST: u8 = 0x41;

/// What stands right before the current operator, as far as it matters.
#[derive(Clone, Copy, PartialEq)]
enum Before {
    Other,
    /// A constant, whose number stands at this place of the body.
    Const(usize),
    /// The dispatch's local was set to that.
    Goes(usize),
}

/// The jumps of one function. The body need not be valid: of one that cannot be read there are none.
fn patches(body: &FunctionBody<'_>) -> Vec<Patch> {
    find(body).unwrap_or_default()
}

fn find(body: &FunctionBody<'_>) -> Option<Vec<Patch>> {
    let mut reader = body.get_operators_reader().ok()?;
    let mut open = vec![Open { number: 0, is_plain: false, is_if: false }];
    let dispatch = dispatch(&mut reader, &mut open)?;
    let mut constructs = open.last()?.number;
    let (mut patches, mut before) = (vec![], Before::Other);
    let (code, start) = (body.as_bytes(), body.range().start);
    let mut reader = reader.get_binary_reader();
    while !reader.eof() {
        let (around, at) = (open.last()?, reader.original_position());
        let rest = code.get(at - start..)?;
        // Most operators are looked at by their bytes alone: nearly all of what Go compiles is read here.
        let operator = match rest.first_chunk().copied().and_then(opcodes::short) {
            Some(len) => reader.read_bytes(len).ok().map(|_| None)?,
            None => {
                let kind = if around.is_if { FrameKind::If } else { FrameKind::Block };
                Some(opcodes::read(&mut reader, rest, Some(kind)).ok()?)
            }
        };
        before = match (rest[0], before) {
            (I32_CONST, _) => Before::Const(at + 1 - start),
            (LOCAL_SET, Before::Const(number)) if opcodes::index(rest, 0) == dispatch.local => {
                Before::Goes(number)
            }
            (BR, Before::Goes(number)) => {
                let value = BinaryReader::new(&code[number..], 0).read_var_i32().ok()?;
                let bytes = (at + 1, reader.original_position());
                patches.extend(dispatch.threaded(&open, opcodes::index(rest, 0), value, bytes));
                Before::Other
            }
            _ => {
                if let Some(operator) = operator {
                    follow(&operator, &mut open, &mut constructs)?;
                }
                Before::Other
            }
        };
    }
    Some(patches)
}

/// The dispatch loop that a function begins with.
fn dispatch(reader: &mut wasmparser::OperatorsReader<'_>, open: &mut Vec<Open>) -> Option<Dispatch> {
    let (mut local, mut constructs) = (None, 0);
    come_to_loop(reader, |operator| {
        let _ = follow(operator, open, &mut constructs); // nothing ends there
    })?;
    let at = constructs;
    loop {
        let operator = reader.read().ok()?;
        match (&operator, local) {
            (Operator::Block { .. }, None) => follow(&operator, open, &mut constructs)?,
            (Operator::LocalGet { local_index }, None) => local = Some(*local_index),
            (Operator::BrTable { targets }, Some(local)) => {
                let depths = targets.targets().chain([Ok(targets.default())]);
                let number = |depth: u32| open.iter().rev().nth(depth as usize).map(|open| open.number);
                let targets = depths.map(|depth| number(depth.ok()?)).collect::<Option<Vec<_>>>()?;
                return Some(Dispatch { local, at, targets });
            }
            _ => return None,
        }
    }
}

/// Keeps account of the open constructs.
fn follow(operator: &Operator<'_>, open: &mut Vec<Open>, constructs: &mut usize) -> Option<()> {
    let is_plain = match operator {
        Operator::Block { blockty } => *blockty == BlockType::Empty,
        Operator::Loop { .. } | Operator::If { .. } | Operator::TryTable { .. } => false,
        Operator::Try { .. } | Operator::Delegate { .. } => return None,
        Operator::End => return open.pop().map(drop),
        Operator::Else => {
            open.last_mut()?.is_if = false;
            return Some(());
        }
        _ => return Some(()),
    };
    *constructs += 1;
    open.push(Open { number: *constructs, is_plain, is_if: matches!(operator, Operator::If { .. }) });
    Some(())
}

impl Dispatch {
    /// A jump to this label, before which the local is set to `value`: where it may go at once.
    fn threaded(&self, open: &[Open], depth: u32, value: i32, (at, end): (usize, usize)) -> Option<Patch> {
        let to = open.iter().rev().nth(depth as usize)?;
        if to.number != self.at {
            return None;
        }
        let (default, cases) = self.targets.split_last()?;
        let target = cases.get(value as u32 as usize).unwrap_or(default);
        let depth = open.iter().rev().position(|open| open.is_plain && open.number == *target)?;
        let patch = Patch { at, end, depth: depth as u32 };
        patch.fits().then_some(patch)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The labels that the jumps of a function with this code lead to, before and after.
    fn threaded(code: &str) -> Option<(Vec<u32>, Vec<u32>)> {
        let wasm = wat::parse_str(format!("(module (func (param $at i32) (local $n i32) {code}))")).unwrap();
        let body = |wasm: &'_ [u8]| -> (Vec<Patch>, Vec<u32>) {
            let payloads = wasmparser::Parser::new(0).parse_all(wasm);
            let body = payloads.filter_map(|payload| match payload.unwrap() {
                wasmparser::Payload::CodeSectionEntry(body) => Some(body),
                _ => None,
            });
            let body = body.last().unwrap();
            let operators = body.get_operators_reader().unwrap().into_iter();
            let labels = operators.filter_map(|operator| match operator.unwrap() {
                Operator::Br { relative_depth } => Some(relative_depth),
                _ => None,
            });
            (patches(&body), labels.collect())
        };
        let (found, before) = body(&wasm);
        if found.is_empty() {
            return None;
        }
        let mut after = wasm.clone();
        found.into_iter().for_each(|patch| patch.write(&mut after));
        wasmparser::Validator::new().validate_all(&after).unwrap();
        Some((before, body(&after).1))
    }

    /// A dispatch over three cases, each with this code in it; `$a` is behind the first one.
    fn cases(first: &str, second: &str) -> String {
        format!(
            "local.get $n local.set $n
             block $out loop $dispatch
               block $c block $b block $a
                 (br_table $a $b $c (local.get $at))
               end {first} end {second} end
               br $out
             end end"
        )
    }

    #[test]
    fn a_jump_forwards_goes_to_its_case() {
        let go = |to: i32| format!("(local.set $at (i32.const {to})) br $dispatch");
        assert_eq!(threaded(&cases(&go(1), "")), Some((vec![2, 1], vec![0, 1])));
        assert_eq!(threaded(&cases(&go(2), "")), Some((vec![2, 1], vec![1, 1])), "the default");
        assert_eq!(threaded(&cases(&go(77), "")), Some((vec![2, 1], vec![1, 1])), "the default as well");
        assert_eq!(threaded(&cases(&go(-1), "")), Some((vec![2, 1], vec![1, 1])), "numbers are unsigned");
        let inner = format!("(if (local.get $n) (then (block {})))", go(1));
        assert_eq!(threaded(&cases(&inner, "")), Some((vec![4, 1], vec![2, 1])));
    }

    #[test]
    fn other_jumps_are_left_alone() {
        let backwards = "(local.set $at (i32.const 0)) br $dispatch";
        assert_eq!(threaded(&cases("", backwards)), None);
        assert_eq!(threaded(&cases("(local.set $n (i32.const 1)) br $dispatch", "")), None, "another local");
        assert_eq!(threaded(&cases("(local.set $at (local.get $n)) br $dispatch", "")), None);
        assert_eq!(threaded(&cases("(local.set $at (i32.const 1)) (nop) br $dispatch", "")), None);
        assert_eq!(threaded(&cases("(local.set $at (i32.const 1)) br $out", "")), None, "not to the loop");
        // A block at the same depth as a case that has ended is not that case.
        let other = "(block $x (local.set $at (i32.const 0)) br $dispatch)";
        assert_eq!(threaded(&cases(other, "")), None);
    }

    #[test]
    fn only_where_nothing_happens_before_the_table() {
        let body = |before: &str, within: &str| {
            format!(
                "{before} loop $dispatch {within} block $b block $a (br_table $a $b (local.get $at)) end
                 (local.set $at (i32.const 1)) br $dispatch end end"
            )
        };
        assert!(threaded(&body("", "")).is_some());
        assert_eq!(threaded(&body("(call 0 (i32.const 0))", "")), None);
        assert_eq!(threaded(&body("", "(local.set $n (i32.const 1))")), None);
        assert_eq!(threaded(&body("", "(call 0 (i32.const 0))")), None);
    }

    #[test]
    fn numbers_keep_their_length() {
        let patch = Patch { at: 1, end: 3, depth: 5 };
        let mut wasm = [9, 0x80, 1, 9];
        patch.write(&mut wasm);
        assert_eq!(wasm, [9, 0x85, 0, 9]);
        assert!(Patch { depth: 127, ..Patch { at: 0, end: 1, depth: 0 } }.fits());
        assert!(!Patch { at: 0, end: 1, depth: 128 }.fits());
    }
}
