//! Function shapes at their limits: very large, very deep, very many.

mod common;

use std::fmt::Write;

use wasm_ckpt::instrument::{COST_MODEL, Options, instrument_with};
use wasm_ckpt::machine::{Engine, Functions, Instance, Settings, Slice, Until};
use wasm_ckpt::snapshot::{FrameKind, Value};

use common::Place;

fn compile(wat: &str) -> wasm_ckpt::machine::Module {
    common::engine(None).compile(&wat::parse_str(wat).unwrap()).unwrap()
}

fn begin(module: &wasm_ckpt::machine::Module) -> Instance {
    Instance::new(module, None, &Functions::new(), "run", vec![]).unwrap()
}

fn straight(module: &wasm_ckpt::machine::Module) -> (Vec<Value>, u64) {
    let mut guest = begin(module);
    match guest.run(&Until::default()).unwrap() {
        Slice::Finished(values) => (values, guest.fuel()),
        other => panic!("{other:?}"),
    }
}

/// Moved so many times, at even distances.
fn moved(module: &wasm_ckpt::machine::Module, times: u64, total: u64) -> Vec<Value> {
    let mut guest = begin(module);
    for n in 1..=times {
        let fuel = Some(total * n / (times + 1));
        match guest.run(&Until { fuel, ..Until::default() }).unwrap() {
            Slice::Paused => {}
            other => panic!("{other:?}"),
        }
        let moving = Place::snapshot(&mut guest);
        let verified = wasm_ckpt::snapshot::decode(&moving.manifest, Some(moving.id)).unwrap();
        let fetch = &mut |id| Ok(moving.chunks[&id].clone());
        guest = Instance::restore(module, None, &Functions::new(), verified.state(), fetch).unwrap().0;
    }
    match guest.run(&Until::default()).unwrap() {
        Slice::Finished(values) => values,
        other => panic!("{other:?}"),
    }
}

/// An interpreter as compilers make them: one loop around a `br_table` with hundreds of arms, each of which
/// calls, 2,000 call sites and more than 100 KB in one function.
#[test]
fn a_large_interpreter_loop() {
    let (arms, calls) = (400, 5);
    let mut body = String::new();
    let labels: String = (0..arms).map(|i| format!(" $op{i}")).collect();
    (0..arms).rev().for_each(|i| write!(body, "(block $op{i} ").unwrap());
    write!(body, "(br_table{labels} (i32.rem_u (local.get $pc) (i32.const {arms}))))").unwrap();
    for i in 0..arms {
        for c in 0..calls {
            let local = ["$a", "$b", "$c", "$d"][(i + c) % 4];
            write!(
                body,
                "(local.set {local} (i64.add (i64.mul (local.get {local}) (i64.const {})) \
                 (i64.add (local.get $b) (call $step (i32.add (local.get $pc) (i32.const {c}))))))\
                 (i64.store offset={} (i32.const 0) (i64.xor (local.get {local}) (i64.load offset={} (i32.const 8))))\
                 (local.set $d (i64.rotl (i64.add (local.get $d) (i64.load offset=2048 (i32.const 16))) (i64.const 77777)))",
                i * 2 + 3,
                (i * 8) % 4096,
                (c * 8) % 4096
            )
            .unwrap();
        }
        body.push_str("(br $next)");
        if i + 1 < arms {
            body.push(')');
        }
    }
    let wat = format!(
        "(module (memory 1)
           (func $step (param $n i32) (result i64) (local $h i64)
             (loop $l (local.set $h (i64.add (i64.mul (local.get $h) (i64.const 31)) (i64.extend_i32_u (local.get $n))))
               (br_if $l (i32.and (local.tee $n (i32.sub (local.get $n) (i32.const 1))) (i32.const 3))))
             (local.get $h))
           (func (export \"run\") (result i64)
             (local $pc i32) (local $a i64) (local $b i64) (local $c i64) (local $d i64)
             (loop $top
               (block $next {body})
               (local.set $pc (i32.add (local.get $pc) (i32.const 7)))
               (br_if $top (i32.lt_u (local.get $pc) (i32.const 20000))))
             (i64.add (i64.add (local.get $a) (local.get $b)) (i64.xor (local.get $c) (local.get $d)))))"
    );
    let wasm = wat::parse_str(&wat).unwrap();
    assert!(wasm.len() > 100_000, "{} bytes", wasm.len());
    let module = compile(&wat);
    let (values, fuel) = straight(&module);
    assert_eq!(moved(&module, 50, fuel), values);
}

/// Half a million frames, suspended at the bottom and on the way.
#[test]
fn deep_recursion() {
    let module = compile(
        "(module (func $deep (param $n i32) (result i64)
           (if (result i64) (local.get $n)
             (then (i64.add (i64.extend_i32_u (local.get $n)) (call $deep (i32.sub (local.get $n) (i32.const 1)))))
             (else (i64.const 1))))
         (func (export \"run\") (result i64) (call $deep (i32.const 500000))))",
    );
    let (values, fuel) = straight(&module);
    assert_eq!(values, [Value::I64(500_000 * 500_001 / 2 + 1)]);
    assert_eq!(moved(&module, 7, fuel), values);
}

/// Calls that stand in place of their callees are told as such that were made: every activation has its frame, with its own values.
#[test]
fn a_stack_of_inlined_calls_is_told_frame_by_frame() {
    let module = compile(
        "(module (func $f (param $n i32) (param $unused i64) (result i64) (local $i i32)
           (loop $l (br_if $l (i32.lt_u (local.tee $i (i32.add (local.get $i) (i32.const 1))) (local.get $n))))
           (if (i32.eqz (local.get $n)) (then (return (i64.const 0))))
           (i64.add (i64.extend_i32_u (i32.mul (local.get $n) (i32.const 3)))
             (i64.add (call $f (i32.sub (local.get $n) (i32.const 1)) (i64.const 7)) (i64.extend_i32_u (local.get $i)))))
         (func (export \"run\") (result i64) (call $f (i32.const 40) (i64.const 7))))",
    );
    let (values, fuel) = straight(&module);
    let (mut depths, mut innermost) = (vec![], vec![]);
    for mark in 1..fuel {
        let mut guest = begin(&module);
        let Slice::Paused = guest.run(&Until { fuel: Some(mark), ..Until::default() }).unwrap() else {
            break;
        };
        let moving = Place::snapshot(&mut guest);
        let verified = wasm_ckpt::snapshot::decode(&moving.manifest, Some(moving.id)).unwrap();
        let state = verified.state();
        let calls: Vec<_> = state.frames[1..].iter().filter(|f| f.kind == FrameKind::Call).collect();
        for (n, frame) in (1..=40).rev().zip(&calls) {
            assert_eq!((frame.func, &frame.stack[..]), (0, &[Value::I64(3 * n)][..]), "fuel {mark}");
            assert!(frame.locals.iter().all(|(local, _)| *local == 2), "{:?}", frame.locals);
            assert_eq!(frame.offset, calls[0].offset, "there is one call");
        }
        let last = state.frames.last().unwrap();
        depths.push(state.frames.len());
        if calls.is_empty() {
            continue;
        }
        innermost.push((last.kind, last.offset));
        let fetch = &mut |id| Ok(moving.chunks[&id].clone());
        let mut again = Instance::restore(&module, None, &Functions::new(), state, fetch).unwrap().0;
        assert!(matches!(again.run(&Until::default()).unwrap(), Slice::Finished(v) if v == values));
        // Without the callee that stands in the caller, or with its values given to the caller.
        let inlined = state.frames.len() > 1 && state.frames.len() % 2 == 1;
        let mut wrong = state.clone();
        wrong.frames.pop();
        assert!(!inlined || Instance::restore(&module, None, &Functions::new(), &wrong, fetch).is_err());
        let mut wrong = state.clone();
        let taken = wrong.frames.last_mut().unwrap().locals.pop();
        let caller = wrong.frames.len() - 2;
        wrong.frames[caller].locals.extend(taken);
        assert!(Instance::restore(&module, None, &Functions::new(), &wrong, fetch).is_err());
    }
    // The entry's first operator is the loop.
    assert!(innermost.iter().all(|(_, offset)| *offset == innermost[0].1), "{innermost:?}");
    for kind in [FrameKind::Entry, FrameKind::Loop] {
        assert!(innermost.iter().any(|(found, _)| *found == kind), "{kind:?}");
    }
    depths.sort_unstable();
    depths.dedup();
    assert!(depths.len() > 35, "with even and odd numbers of frames: {depths:?}");
}

/// A slice takes the same however deep the stack is: at its end the innermost frames alone are rebuilt.
#[test]
fn slices_of_a_deep_stack_are_cheap() {
    let spin = "(loop $l (br_if $l (local.tee $k (i32.sub (local.get $k) (i32.const 1)))))";
    let called = format!("(func $spin (local $k i32) (local.set $k (global.get $passes)) {spin})");
    let shapes = [
        ("in the innermost frame", "call $down", format!("(local.set $k (global.get $passes)) {spin}"), ""),
        ("in a function called there", "call $down", "(call $spin)".to_string(), called.as_str()),
        ("through a reference", "call_indirect (param i32)", "(call $spin)".to_string(), called.as_str()),
    ];
    for (name, call, work, spin) in shapes {
        let index = if call == "call $down" { "" } else { "(i32.const 0)" };
        let took = [10, 200_000].map(|depth| {
            let module = compile(&format!(
                "(module (table funcref (elem $down)) (global $passes i32 (i32.const 3000000)) {spin}
                   (func $down (param $n i32) (local $k i32)
                     (if (local.get $n)
                       (then ({call} (i32.sub (local.get $n) (i32.const 1)) {index}))
                       (else {work})))
                   (func (export \"run\") (call $down (i32.const {depth}))))",
            ));
            let began = std::time::Instant::now();
            let end = begin(&module).run(&Until { slice: Some(1000), ..Until::default() }).unwrap();
            assert!(matches!(end, Slice::Finished(_)), "{name}: {end:?}");
            began.elapsed().as_secs_f64()
        });
        // Rebuilding all of the stack would take some hundred times as long.
        assert!(took[1] < took[0] * 10.0 + 1.0, "{name}: {took:?} s");
    }
}

/// A recursion without end traps, and the host lives.
#[test]
fn endless_recursion_traps() {
    let module = compile("(module (func $f (export \"run\") (call $f)))");
    match begin(&module).run(&Until::default()).unwrap() {
        Slice::Trapped(trap) => assert!(trap.message.contains("stack"), "{trap}"),
        other => panic!("{other:?}"),
    }
}

/// Ten thousand blocks within each other, with a call in the innermost.
#[test]
fn deep_nesting() {
    let depth = 10_000;
    let wat = format!(
        "(module (func $spin (param $n i32) (loop $l (br_if $l (local.tee $n (i32.sub (local.get $n) (i32.const 1))))))
           (func (export \"run\") (result i32) {} (call $spin (i32.const 100)) {} (i32.const 5)))",
        "(block ".repeat(depth),
        ")".repeat(depth)
    );
    let module = compile(&wat);
    let (values, fuel) = straight(&module);
    assert_eq!(moved(&module, 10, fuel), values);
}

/// Forty thousand loops within each other are rewritten about as quickly as behind each other: what is around a point is not looked through
/// for each.
#[test]
fn deep_nesting_takes_no_longer() {
    let loops = 40_000;
    let bodies = ["loop ".repeat(loops) + &"end ".repeat(loops), "loop end ".repeat(loops)];
    let took = bodies.map(|body| {
        let wasm = wat::parse_str(format!("(module (func {body}))")).unwrap();
        let round = || {
            let began = std::time::Instant::now();
            wasm_ckpt::instrument::instrument(&wasm).unwrap();
            began.elapsed().as_secs_f64()
        };
        round().min(round())
    });
    assert!(took[0] < took[1] * 5.0, "{took:?} s");
}

/// A large function as C++ makes them: each of its calls stands in a `try_table`, since something is to be cleaned up behind it, by a call as
/// well; and hundreds of values live through all of them. What is saved and restored at each point once took 200 times the room of the
/// given code (Yosys, whose largest function has 1,800 of them).
#[test]
fn many_handlers_and_many_values() {
    let (handlers, values) = (400, 200);
    let (mut body, mut sum) = (String::new(), String::new());
    for i in 0..values {
        write!(body, "(local.set $v{i} (call $step (i32.const {i})))").unwrap();
        write!(sum, "(i32.add (local.get $v{i}) ").unwrap();
    }
    for i in 0..handlers {
        let value = (i * 7) % values;
        write!(
            body,
            "(block $next{i} (block $clean{i} (result exnref) (try_table (catch_all_ref $clean{i})
               (local.set $v{value} (i32.add (local.get $v{value}) (call $step (i32.const {i})))))
               (br $next{i}))
             (local.set $thrown) (call $spin (i32.const 3)) (throw_ref (local.get $thrown)))"
        )
        .unwrap();
    }
    let locals: String = (0..values).map(|i| format!("(local $v{i} i32)")).collect();
    let wat = format!(
        "(module (tag $t)
           (global $throws (mut i32) (i32.const -1))
           (func $spin (param $n i32) (loop $l (br_if $l (local.tee $n (i32.sub (local.get $n) (i32.const 1))))))
           (func $step (param $n i32) (result i32)
             (call $spin (i32.const 4))
             (if (i32.eq (local.get $n) (global.get $throws)) (then (throw $t)))
             (i32.mul (local.get $n) (i32.const 77)))
           (func $large (result i32) {locals} (local $thrown exnref) {body} {sum} (i32.const 0) {ends})
           (func (export \"run\") (result i32)
             (local $sum i32)
             (local.set $sum (call $large))
             (global.set $throws (i32.const {last}))
             (block $caught (try_table (catch_all $caught) (drop (call $large)) (return (i32.const -1))))
             (local.get $sum)))",
        last = handlers - 1,
        ends = ")".repeat(values)
    );
    let wasm = wat::parse_str(&wat).unwrap();
    let rewritten = wasm_ckpt::instrument::instrument(&wasm).unwrap().wasm;
    assert!(rewritten.len() < 7 * wasm.len(), "{} bytes of {}", rewritten.len(), wasm.len());
    let module = compile(&wat);
    let (given, fuel) = straight(&module);
    // Each value is there once, and what is added to it.
    let sum: usize = (0..values).chain(0..handlers).sum();
    assert_eq!(given, [Value::I32(77 * sum as u32)]);
    assert_eq!(moved(&module, 100, fuel), given);
}

/// What is emitted depends on the module alone, not on which thread was first.
#[test]
fn the_same_module_is_rewritten_the_same() {
    for name in ["calculator", "kernels_simd", "extsort"] {
        let wasm = std::fs::read(common::guests().join(format!("wasm/{name}.wasm"))).unwrap();
        let first = wasm_ckpt::instrument::instrument(&wasm).unwrap();
        for _ in 0..5 {
            assert!(wasm_ckpt::instrument::instrument(&wasm).unwrap().wasm == first.wasm, "{name}");
        }
    }
}

/// A loop of which the rewriter knows how often it is passed is charged for that often at once, and not stopped in between: it must
/// not be passed more often. Where that takes fuel for all passes, and there is not, it must be charged for as much in the end.
/// Some 1,500 loops that look much like such ones; how often they are passed is counted.
#[test]
fn no_loop_is_passed_more_often_than_it_is_charged_for() {
    let engine = Engine::new(Settings::default()).unwrap(); // nothing of this is worth a cache
    let mut seed = 7u64;
    let mut below = |n: u64| {
        seed = seed.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (seed >> 33) % n
    };
    let (mut at_once, mut text) = (0, String::new());
    for _ in 0..1500 {
        let mut number =
            || [0i64, 1, 3, 12, 100, 0x7fff_fff8, 0x8000_0003, 0xffff_fffe, 7, 40][below(10) as usize];
        let (first, bound) = (number(), number());
        let step = [1, 2, 4, 8, -1, -2, -4, 3, -3, 0][below(10) as usize];
        let relation =
            ["ne", "eq", "lt_s", "lt_u", "le_s", "le_u", "gt_s", "gt_u", "ge_s", "ge_u"][below(10) as usize];
        let up = format!("(local.set $i (i32.add (local.get $i) (i32.const {step})))");
        let sometimes = "(i32.and (global.get $passes) (i32.const 1))";
        let other = [
            "".into(),
            "(local.set $k (local.get $i))".into(),
            "(local.set $i (local.get $k))".into(),
            up.clone(),
            format!("(if {sometimes} (then {up}))"),
            format!("(block (br_if 0 {sometimes}) (local.set $i (i32.const {first})))"),
            format!("(br_if $l {sometimes})"),
            format!("(block (br_if $l {sometimes}))"),
            format!("(br_if $out {sometimes})"),
            format!("(local.set $i (i32.sub (local.get $i) (i32.const {})))", step / 2),
        ][if below(2) == 0 { 0 } else { below(10) as usize }]
        .clone();
        // A number, or one that can be told before the loop alone.
        let to = if below(2) == 0 { format!("(i32.const {bound})") } else { "(local.get $to)".into() };
        let relation = if below(2) == 0 { "ne" } else { relation };
        let test = match below(4) {
            3 => "(local.get $i)".into(), // is not zero
            0 => format!("(i32.{relation} (local.get $i) {to})"),
            1 => format!("(i32.{relation} {to} (local.get $i))"),
            _ => format!("(i32.eqz (i32.{relation} (local.get $i) {to}))"),
        };
        let long =
            "(local.set $x (i32.xor (local.get $x) (local.get $i)))".repeat([0, 5, 15][below(3) as usize]);
        let end = match below(3) {
            0 => format!("(br_if $l {test})"),
            1 => format!("(br_if $out {test}) (br $l)"),
            _ => format!("(br_if $l {test}) {up} (br $out)"),
        };
        let parts = [[&up, &other, &end], [&other, &up, &end]][below(2) as usize];
        let [one, two, three] = parts;
        text.clear();
        write!(
            text,
            "(module (global $passes (mut i32) (i32.const 0)) (func (export \"run\") (result i32) (local $i i32) (local $k i32) (local $to i32) (local $x i32)
               (local.set $k (i32.const 2)) (local.set $to (i32.const {bound})) (local.set $i (i32.const {first}))
               (block $out (loop $l
                 (global.set $passes (i32.add (global.get $passes) (i32.const 1)))
                 (if (i32.gt_u (global.get $passes) (i32.const 5000)) (then (unreachable)))
                 {long} {one} {two} {three}))
               (global.get $passes)))"
        )
        .unwrap();
        let module = engine.compile(&wat::parse_str(&text).unwrap()).unwrap();
        let run = |slice| {
            let mut guest = begin(&module);
            let passes = match guest.run(&Until { slice, ..Until::default() }).unwrap() {
                Slice::Finished(values) => match values[..] {
                    [Value::I32(passes)] => passes as u64,
                    _ => panic!("{values:?}"),
                },
                Slice::Trapped(_) => 5001,
                other => panic!("{other:?}"),
            };
            (passes, guest.fuel())
        };
        let (passes, fuel) = run(None);
        // Where it traps as well.
        assert_eq!(run(Some(100)), (passes, fuel), "{text}");
        assert!(fuel + 240 >= 8 * passes, "{passes} passes for {fuel}: {text}");
        let [before, now] = [4, COST_MODEL].map(|cost_model| {
            let options = Options { cost_model, ..Options::default() };
            instrument_with(&wat::parse_str(&text).unwrap(), &options).unwrap().wasm
        });
        at_once += u32::from(before != now);
    }
    assert!(at_once > 60, "{at_once} of them are charged for at once");
}
