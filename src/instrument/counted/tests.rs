//! Which loops are counted, and that any bytes can be read.

use wasmparser::{FrameKind, Operator};

use super::super::opcodes::Make;
use super::*;

/// How often the loop of this text is passed; what comes before it sets `$i`.
fn found(before: &str, body: &str) -> Option<u64> {
    match found_passes(before, body) {
        Some(Passes::Free(passes) | Passes::Known(passes)) => Some(passes),
        _ => None,
    }
}

fn found_passes(before: &str, body: &str) -> Option<Passes> {
    let text = format!(
        "(module (memory 1) (func (param $p i32) (local $i i32) (local $k i32) (local $w i64)
           (block $out (i32.store8 (local.get $p) (i32.const 0)) {before} (loop $l {body}))))"
    );
    let wasm = wat::parse_str(text).unwrap();
    let bodies = wasmparser::Parser::new(0).parse_all(&wasm).filter_map(|payload| match payload.unwrap() {
        wasmparser::Payload::CodeSectionEntry(body) => Some(body),
        _ => None,
    });
    let body = bodies.last().unwrap();
    let mut reader = body.get_binary_reader_for_operators().unwrap();
    let mut constructs = Constructs::new(reader.original_position());
    let (mut operators, mut found) = (0, None);
    while !reader.eof() {
        let at = reader.original_position();
        let operator = reader.visit_operator(&mut Make(constructs.kind())).unwrap();
        let range = (at, reader.original_position());
        operators += 1;
        constructs.note(&operator);
        match operator {
            Operator::Loop { .. } => constructs.enter(FrameKind::Loop, range, operators),
            Operator::Block { .. } => constructs.enter(FrameKind::Block, range, operators),
            Operator::If { .. } => constructs.enter(FrameKind::If, range, operators),
            Operator::Else => constructs.change(FrameKind::Else, range.1),
            Operator::End => {
                if let Left::Loop(Some(counted), _) =
                    constructs.leave(range, operators, |from, to| &wasm[from..to])
                {
                    found = Some(counted.passes);
                }
            }
            _ => {}
        }
    }
    found
}

const FROM_5: &str = "(local.set $i (i32.const 5))";
const UP: &str = "(local.set $i (i32.add (local.get $i) (i32.const 3)))";

fn back_if(condition: &str) -> Option<u64> {
    found(FROM_5, &format!("{UP} (br_if $l ({condition}))"))
}

#[test]
fn each_relation_has_its_number_of_passes() {
    // 5 before the first pass, and 8, 11, 14, … at its end.
    assert_eq!(back_if("i32.ne (local.get $i) (i32.const 20)"), Some(5));
    assert_eq!(back_if("i32.ne (i32.const 20) (local.get $i)"), Some(5));
    assert_eq!(back_if("i32.ne (local.get $i) (i32.const 8)"), Some(1));
    assert_eq!(back_if("i32.lt_u (local.get $i) (i32.const 20)"), Some(5));
    assert_eq!(back_if("i32.le_s (local.get $i) (i32.const 20)"), Some(6));
    assert_eq!(back_if("i32.gt_s (i32.const 21) (local.get $i)"), Some(6));
    assert_eq!(back_if("i32.ge_u (i32.const 22) (local.get $i)"), Some(6));
    assert_eq!(back_if("i32.eq (local.get $i) (i32.const 8)"), Some(2));
    assert_eq!(back_if("i32.eqz (i32.ge_u (local.get $i) (i32.const 20))"), Some(5));
    assert_eq!(back_if("i32.sub (local.get $i) (i32.const 20)"), Some(5));
    assert_eq!(back_if("i32.lt_s (local.get $i) (i32.const -20)"), Some(1));
    // Too many, or around the end of the numbers.
    assert_eq!(back_if("i32.ne (local.get $i) (i32.const 19)"), None);
    assert_eq!(back_if("i32.lt_u (local.get $i) (i32.const 100000)"), None);
    assert_eq!(back_if("i32.gt_s (local.get $i) (i32.const -20)"), None);
    assert_eq!(back_if("i32.le_s (local.get $i) (i32.const 0x7fffffff)"), None);
    assert_eq!(
        found(
            "(local.set $i (i32.const 0x7ffffff0))",
            &format!("{UP} (br_if $l (i32.lt_s (local.get $i) (i32.const 0x7fffffff)))")
        ),
        Some(5)
    );
    let over = "(local.set $i (i32.const 0x7ffffff1))";
    assert_eq!(
        found(over, &format!("{UP} (br_if $l (i32.lt_s (local.get $i) (i32.const 0x7fffffff)))")),
        None
    );
}

#[test]
fn downwards_wide_and_left_from_within() {
    let down = "(local.set $i (i32.const 9)) ";
    let one = "(local.tee $i (i32.add (local.get $i) (i32.const -1)))";
    assert_eq!(found(down, &format!("(br_if $l {one})")), Some(9));
    assert_eq!(found(down, &format!("(br_if $out (i32.eqz {one})) (br $l)")), Some(9));
    assert_eq!(found(down, &format!("(br_if $l (i32.gt_s {one} (i32.const -3)))")), Some(12));
    // The number before it is moved, by way of another local.
    let by_way = "(local.set $k (i32.add (local.get $i) (i32.const 3))) (br_if $out (i32.eq (local.get $i) (i32.const 20)))
        (local.set $i (local.get $k)) (br $l)";
    assert_eq!(found(FROM_5, by_way), Some(6));
    let wide = "(local.set $w (i64.add (local.get $w) (i64.const 0x100000000)))
        (br_if $l (i64.ne (local.get $w) (i64.const 0x700000000)))";
    assert_eq!(found("(local.set $w (i64.const 0))", wide), Some(7));
    let then_out = format!("{UP} (br_if $l (i32.ne (local.get $i) (i32.const 20))) (br $out)");
    assert_eq!(found(FROM_5, &then_out), Some(5));
    let earlier = format!(
        "{UP} (br_if $out (i32.load (local.get $p))) (br_if $l (i32.ne (local.get $i) (i32.const 20)))"
    );
    assert_eq!(found(FROM_5, &earlier), Some(5));
}

#[test]
fn what_is_not_known_is_not_counted() {
    let end = "(br_if $l (i32.ne (local.get $i) (i32.const 20)))";
    let of = |body: &str| found(FROM_5, &format!("{body} {end}"));
    assert_eq!(of(UP), Some(5));
    assert_eq!(
        of(&format!("(if (local.get $p) (then (i32.store8 (local.get $k) (local.get $i)))) {UP}")),
        Some(5)
    );
    assert_eq!(of(&format!("{UP} (if (local.get $p) (then {UP}))")), None);
    assert_eq!(of(&format!("{UP} (br_if $l (local.get $p))")), None);
    assert_eq!(of(&format!("(block (br_if $l (local.get $p))) {UP}")), None);
    assert_eq!(of(&format!("(block (br_table 0 $l (local.get $p))) {UP}")), None);
    assert_eq!(of(&format!("{UP} (local.set $i (i32.mul (local.get $i) (local.get $i)))")), None);
    assert_eq!(of("(drop (local.get $i))"), None);
    assert_eq!(of(&format!("{UP} {end} {UP}")), None);
    assert_eq!(of(&format!("{UP} (memory.fill (local.get $p) (local.get $p) (local.get $p))")), None);
    // Of the test that not each pass comes to nothing is known.
    let sometimes = format!(
        "{UP} (block (br_if 0 (local.get $p)) (br_if $out (i32.eq (local.get $i) (i32.const 20)))) (br $l)"
    );
    assert_eq!(found(FROM_5, &sometimes), None);
    let known = format!("{UP} {end}");
    assert_eq!(found("", &known), None);
    assert_eq!(found(&format!("{FROM_5} (local.set $i (local.get $p))"), &known), None);
    assert_eq!(found(&format!("(block {FROM_5})"), &known), None);
    let in_block = format!("{FROM_5} (block (loop $n {} )) (br $out)", known.replace("$l", "$n"));
    assert_eq!(found("", &in_block), Some(5));
    assert_eq!(found(&format!("{FROM_5} (br_if $out (local.get $p))"), &known), Some(5));
    // A loop in which another one is counted is, too; not one with any other.
    let nested = |inner: &str| {
        format!(
            "(local.set $k (i32.const 0)) (loop $m (local.set $k (i32.add (local.get $k) (i32.const 1))) (br_if $m ({inner}))) {UP}"
        )
    };
    assert_eq!(of(&nested("i32.lt_u (local.get $k) (i32.const 4)")), Some(5));
    assert_eq!(of(&nested("i32.lt_u (local.get $k) (local.get $p)")), None);
}

#[test]
fn a_distance_is_computed_from_locals() {
    let (i, k, w) = (1, 2, 3);
    let of = |body: &str| match found_passes("", body) {
        Some(Passes::Computed(distance)) => Some(distance),
        None => None,
        other => panic!("{other:?}"),
    };
    let up = "(local.set $i (i32.add (local.get $i) (i32.const 4)))";
    let back_if = |test: &str| of(&format!("{up} (br_if $l {test})"));
    let to_k = Distance {
        local: i,
        by: 4,
        to: Bound::Local { local: k, by: 0 },
        shift: 2,
        down: false,
        wide: false,
        written: Some(Written { from: 9, to: 11, implied: false }),
    };
    assert_eq!(back_if("(i32.ne (local.get $i) (local.get $k))"), Some(to_k));
    let elsewhere = Distance { written: None, ..to_k };
    assert_eq!(back_if("(i32.ne (local.get $k) (local.get $i))"), Some(elsewhere));
    assert_eq!(back_if("(i32.eqz (i32.eq (local.get $i) (local.get $k)))"), Some(elsewhere));
    assert_eq!(back_if("(i32.eqz (i32.eq (local.get $k) (local.get $i)))"), Some(elsewhere));
    let to_9 = Distance { to: Bound::Number(9), ..to_k };
    assert_eq!(back_if("(i32.ne (local.get $i) (i32.const 9))"), Some(to_9));
    assert_eq!(
        of(&format!("(br_if $out (i32.eq (local.get $i) (i32.const 9))) {up} (br $l)")),
        Some(Distance { by: 0, written: None, ..to_9 })
    );
    let implied = Some(Written { from: 7, to: 7, implied: true });
    assert_eq!(
        of("(br_if $l (local.tee $i (i32.sub (local.get $i) (i32.const 1))))"),
        Some(Distance { by: u64::MAX, to: Bound::Number(0), shift: 0, down: true, written: implied, ..to_k })
    );
    let down = "(local.set $w (i64.sub (local.get $w) (i64.const 1)))";
    assert_eq!(
        of(&format!("{down} (br_if $l (i64.ne (local.get $w) (i64.const 0)))")),
        Some(Distance {
            local: w,
            by: u64::MAX,
            to: Bound::Number(0),
            shift: 0,
            down: true,
            wide: true,
            written: Some(Written { from: 9, to: 11, implied: false })
        })
    );
    assert_eq!(
        of(&format!("{down} (br_if $l (i32.wrap_i64 (i64.shr_u (local.get $w) (i64.const 1))))")),
        None
    );
    // Another relation, another way out, another end in each pass, no power of two.
    assert_eq!(back_if("(i32.lt_u (local.get $i) (local.get $k))"), None);
    assert_eq!(
        of(&format!("(br_if $out (local.get $p)) {up} (br_if $l (i32.ne (local.get $i) (local.get $k)))")),
        None
    );
    assert_eq!(
        of(&format!(
            "(block (br_if $out (local.get $p))) {up} (br_if $l (i32.ne (local.get $i) (local.get $k)))"
        )),
        None
    );
    assert_eq!(
        of(&format!(
            "(if (local.get $p) (then (return))) {up} (br_if $l (i32.ne (local.get $i) (local.get $k)))"
        )),
        None
    );
    assert_eq!(back_if("(i32.ne (local.get $i) (local.tee $k (i32.load (local.get $p))))"), None);
    assert_eq!(
        of(
            "(local.set $i (i32.add (local.get $i) (i32.const 3))) (br_if $l (i32.ne (local.get $i) (local.get $k)))"
        ),
        None
    );
}

#[test]
fn any_bytes_are_read() {
    let mut seed = 1u64;
    let mut next = || {
        seed = seed.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (seed >> 56) as u8
    };
    let likely = [0x20, 0x21, 0x22, 0x41, 0x6a, 0x47, 0x0d, 0x0c, 0x02, 0x03, 0x04, 0x05, 0x0b, 0x40, 0, 1];
    for _ in 0..20_000 {
        let mut code =
            |len| (0..len).map(|_| likely[usize::from(next()) % likely.len()]).collect::<Vec<u8>>();
        let (before, mut body) = (code(9), code(24));
        body.extend([0x0d, 0]);
        let _ = count(&before, &body, 10);
    }
}
