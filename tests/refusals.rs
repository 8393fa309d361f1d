//! Modules that are refused before anything of them runs: by name, index and byte offset.

use wasm_ckpt::instrument::{Refusal, instrument};

fn refused(wat: &str) -> Refusal {
    instrument(&wat::parse_str(wat).unwrap()).map(|_| ()).expect_err(wat)
}

/// The message, and that the offset it names is inside of the module.
fn unsupported(wat: &str, words: &[&str]) {
    let wasm = wat::parse_str(wat).unwrap();
    let refusal = instrument(&wasm).map(|_| ()).expect_err(wat);
    let Refusal::Unsupported { offset, .. } = &refusal else { panic!("{refusal:?}") };
    assert!(*offset > 8 && *offset < wasm.len() as u64, "{refusal}");
    let message = refusal.to_string();
    for word in words.iter().chain(&["at byte"]) {
        assert!(message.contains(word), "`{word}` is not in: {message}");
    }
}

#[test]
fn shared_memory() {
    unsupported("(module (memory 1 2 shared))", &["shared", "memory 0"]);
    unsupported(
        "(module (memory 1) (import \"a\" \"b\" (memory 1 2 shared)))".replace("(memory 1) ", "").as_str(),
        &["memory 0"],
    );
}

#[test]
fn references_to_the_host() {
    unsupported(
        "(module (import \"a\" \"b\" (func (result externref))))",
        &["externref", "imported function 0", "`a.b`"],
    );
    unsupported(
        "(module (import \"a\" \"g\" (global externref)))",
        &["externref", "imported global 0", "`a.g`"],
    );
    unsupported(
        "(module (import \"a\" \"t\" (table 1 externref)))",
        &["externref", "imported table", "`a.t`"],
    );
}

#[test]
fn a_null_externref_is_taken() {
    let wat =
        "(module (func (export \"run\") (result i32) (local externref) (loop) (ref.is_null (local.get 0))))";
    instrument(&wat::parse_str(wat).unwrap()).unwrap();
}

#[test]
fn objects_of_the_garbage_collector() {
    unsupported(
        "(module (type $s (struct (field i32))) (func (drop (struct.new $s (i32.const 1)))))",
        &["GC", "function 0"],
    );
    unsupported("(module (global anyref (ref.null any)))", &["GC", "global 0"]);
    unsupported("(module (table 1 i31ref))", &["GC", "table 0"]);
    unsupported("(module (func (local eqref)))", &["GC", "function 0"]);
    unsupported("(module (func $a) (func (drop (ref.i31 (i32.const 1)))))", &["GC", "function 1"]);
}

/// Not taken for a module that is not valid: it is one to those who know that form.
#[test]
fn exceptions_in_their_legacy_form() {
    let wat = "(module (tag $t) (func $f (loop)) (func try call $f catch $t rethrow 0 end))";
    let wasm = wat::parse_str(wat).unwrap();
    let at = wasm.windows(4).position(|bytes| bytes == [0x06, 0x40, 0x10, 0]).unwrap() as u64;
    assert_eq!(refused(wat), Refusal::LegacyExceptions { offset: at });
}

#[test]
fn not_a_module() {
    assert!(matches!(instrument(b"").unwrap_err(), Refusal::NotWasm(_)));
    assert!(matches!(instrument(b"#!/bin/sh\necho hello\n").unwrap_err(), Refusal::NotWasm(_)));
    assert_eq!(refused("(component)"), Refusal::Component);
    assert!(matches!(instrument(b"\0asm\x01\0\0\0\x01\x01").unwrap_err(), Refusal::Invalid { .. }));
    let Refusal::Invalid { offset, .. } = refused("(module (func (result i32)))") else { panic!() };
    assert!(offset > 8);
}

#[test]
fn a_function_with_too_many_points_is_named() {
    let calls = "(call $f)".repeat(60_001);
    let refusal = refused(&format!("(module (func $f (loop)) (func $g {calls}))"));
    let Refusal::TooLarge { found: 60_002, limit: 60_000, item, .. } = &refusal else {
        panic!("{refusal:?}")
    };
    assert_eq!(item.index, 1, "{refusal}");
}

/// What is noted of operands at all its constructs would take ten thousand times the module's size.
#[test]
fn a_function_with_too_many_operands_beneath_constructs_is_named() {
    let (push, blocks, drop) =
        ("(i32.const 1)".repeat(5000), "(block)".repeat(20_000), "(drop)".repeat(5000));
    let refusal = refused(&format!("(module (func $f (loop)) (func $g (call $f) {push} {blocks} {drop}))"));
    let Refusal::TooLarge { what, item, .. } = &refusal else { panic!("{refusal:?}") };
    assert!(what.contains("operands"), "{refusal}");
    assert_eq!(item.index, 1, "{refusal}");
}

/// What it becomes is larger than an engine takes, though the function itself is not.
#[test]
fn a_function_that_becomes_too_large() {
    // Values come and go so that those of two calls differ.
    let call =
        |at: usize| format!("(try_table (local.set {} (call $f (local.get {}))))", at % 97, at * 31 % 97);
    let calls: String = (0..59_900).map(call).collect();
    let wat = format!(
        "(module (func $f (param i32) (result i32) (loop) (local.get 0)) (func (local {}) {calls}))",
        "i32 ".repeat(97)
    );
    let refusal = instrument(&wat::parse_str(&wat).unwrap()).map(|done| done.wasm.len());
    let Err(Refusal::TooLarge { item, found, limit, .. }) = &refusal else { panic!("{refusal:?}") };
    assert_eq!((item.kind, item.index, *limit), ("function", 1, 7_654_321));
    assert!(found > limit);
}

/// What is added to save and restore its state is too much for an engine.
#[test]
fn a_module_that_becomes_too_large() {
    for (what, text) in [
        ("tables", "(table 1 funcref)".repeat(100)),
        ("memories", "(memory 1)".repeat(100)),
        ("globals", "(global i32 (i32.const 0))".repeat(1_000_000)),
    ] {
        let refusal = refused(&format!("(module {text} (func (loop)))"));
        let Refusal::TooMany { what: found, .. } = &refusal else { panic!("{refusal:?}") };
        assert_eq!(*found, what);
    }
    // So many that the engine takes the function as it is given.
    let locals = "i32 ".repeat(50_000);
    let refusal = refused(&format!("(module (func $f (loop)) (func (local {locals}) (loop) (call $f)))"));
    let Refusal::TooLarge { item, limit: 50_000, .. } = &refusal else { panic!("{refusal:?}") };
    assert_eq!(item.index, 1);
}
