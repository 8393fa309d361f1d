//! What is inlined, and what its positions stand for.

use std::collections::BTreeMap;

use super::super::outline::outlines;
use super::super::{COST_MODEL, Options, Refusal, instrument, instrument_with};
use super::*;

/// Operators of a body by position, by name.
fn operators(body: &FunctionBody<'_>) -> BTreeMap<u32, String> {
    let operators = body.get_operators_reader().unwrap().into_iter_with_offsets();
    let named = operators.map(|operator| {
        let (operator, at) = operator.unwrap();
        (at as u32, format!("{operator:?}").split(' ').next().unwrap().to_string())
    });
    named.collect()
}

/// For each function of a module with inlined calls: whom it calls so. All positions are checked.
fn inlined(text: &str) -> Vec<(u32, Vec<u32>)> {
    let wasm = wat::parse_str(text).unwrap();
    instrument(&wasm).unwrap();
    let module = Module::parse(&wasm).unwrap();
    let found = inline(&module, &outlines(&module, COST_MODEL).unwrap());
    let given: BTreeMap<u32, String> = module.bodies.iter().flat_map(|body| operators(&body.body)).collect();
    let check = |body: &InlinedBody| {
        let range = body.body().range();
        let calls = found.table.calls(range.start as u32, range.end as u32);
        let mut seen = 0;
        for (at, name) in operators(&body.body()) {
            let (offset, call) = found.table.original(at);
            let inside = calls.iter().find(|call| (call.block + 2..call.end).contains(&at));
            assert_eq!(call, inside, "{name} at {at}");
            // Before an inlined body its parameters and locals are set.
            let glue = calls.iter().any(|call| call.offset == offset && at < call.block + 2);
            match given.get(&offset).map(String::as_str) {
                Some("Call") if name != "Call" => assert!(glue, "{name} at {at}"),
                Some("Return") if call.is_some() => assert_eq!(name, "Br"),
                Some(given) => {
                    assert_eq!(name, *given, "at {at}");
                    seen += 1;
                }
                None => assert!(glue, "{name} at {at} is of no operator"),
            }
        }
        assert!(seen > 0);
        (body.func, calls.iter().map(|call| call.callee).collect())
    };
    assert_eq!(found.table.original(20), (20, None), "in the module itself");
    found.bodies.iter().map(check).collect()
}

const FIB: &str = "(func $fib (param $n i64) (result i64) (local $a i32) (local $b f64)
    (if (i64.lt_u (local.get $n) (i64.const 2)) (then (return (local.get $n))))
    (i64.add (call $fib (i64.sub (local.get $n) (i64.const 1)))
             (call $fib (i64.sub (local.get $n) (i64.const 2)))))";

#[test]
fn a_function_stands_in_place_of_its_calls_of_itself() {
    assert_eq!(
        inlined(&format!("(module {FIB} (func (drop (call $fib (i64.const 9)))))")),
        [(0, vec![0, 0])]
    );
}

#[test]
fn functions_that_call_each_other_stand_in_each_other() {
    let text = "(module
      (func $even (param $n i32) (result i32)
        (if (result i32) (local.get $n) (then (call $odd (i32.sub (local.get $n) (i32.const 1)))) (else (i32.const 1))))
      (func $odd (param $n i32) (result i32) (local $m v128)
        (block $out (br_if $out (i32.eqz (local.get $n)))
          (return (call $even (i32.sub (local.get $n) (i32.const 1)))))
        (i32.const 0))
      (func (export \"run\") (result i32) (call $even (i32.const 7))))";
    assert_eq!(inlined(text), [(0, vec![1]), (1, vec![0])]);
}

#[test]
fn what_cannot_stand_in_place_of_a_call_does_not() {
    let not = |text: &str| assert_eq!(inlined(&format!("(module (memory 1) {text})")), [], "{text}");
    not("(func $f (param i32) (call $g)) (func $g)");
    not(
        "(func $f (param i32) (if (local.get 0) (then (return_call $f (i32.const 0)))) (call $f (i32.const 1)))",
    );
    not("(func $f (param funcref) (call $f (local.get 0)))");
    not("(func $f (local funcref) (call $f))");
    not("(func $f (result i32 i32) (call $f))");
    not("(tag $t) (func $f (block $b (try_table (catch $t $b) (call $f))))");
    let long = "(i32.store (i32.const 0) (i32.const 1))".repeat(60);
    not(&format!("(func $f {long} (call $f))"));
    // Its calls stand for more than there is room for.
    let often = "(call $f)".repeat(40);
    not(&format!("(func $f (i32.store (i32.const 0) (i32.const 1)) {often})"));
}

#[test]
fn older_cost_models_inline_nothing() {
    let wasm = wat::parse_str(format!("(module {FIB})")).unwrap();
    let points = |cost_model| {
        let options = Options { cost_model, ..Options::default() };
        let layouts = instrument_with(&wasm, &options).unwrap().meta.frames.of(0).unwrap();
        layouts.iter().map(|layout| layout.inlined.is_some()).collect::<Vec<_>>()
    };
    assert_eq!(points(5), [false; 3]);
    let now = points(COST_MODEL);
    assert!(now.iter().filter(|inlined| **inlined).count() >= 4, "{now:?}");
}

#[test]
fn what_is_not_valid_is_refused_where_it_stands_in_the_module() {
    // Valid where the callee's locals are there as well.
    let text = "(module (func $f (param i32) (if (local.get 0) (then (call $f (i32.const 0)))) (drop (local.get 7))))";
    let mut wasm = wat::parse_str(text.replace("7", "0")).unwrap();
    let at = wasm.windows(4).rposition(|bytes| bytes == [0x20, 0, 0x1a, 0x0b]).unwrap();
    instrument(&wasm).unwrap();
    for (what, bytes) in [("local", [0x20, 7]), ("type", [0x42, 0]), ("label", [0x0c, 9])] {
        wasm[at..at + 2].copy_from_slice(&bytes);
        if what == "type" {
            wasm[at + 2] = 0x45; // `i32.eqz` of an i64
        }
        match instrument(&wasm) {
            Err(Refusal::Invalid { offset, .. }) => {
                assert!((at as u64..=at as u64 + 4).contains(&offset), "{what} at {at}: {offset}");
            }
            other => panic!("{what}: {other:?}"),
        }
        wasm[at + 2] = 0x1a;
    }
}
