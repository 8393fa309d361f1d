//! Random modules: plain wasmtime and ours must agree on results, traps and their places, memory, globals
//! and tables; paused runs, in place or moved, natively or under the interpreter, must agree with straight
//! ones on all of that, on fuel, and on the snapshot at any fuel.
//!
//! `MODULES=n` runs so many of each kind, `SEED=n` begins with that seed. What fails is printed with its
//! seed, and its text is written to a file; `REGRESS=directory` checks the texts in a directory.

mod check;
mod generate;
mod ours;
mod plain;
mod plan;
mod rng;
mod smith;

use std::path::{Path, PathBuf};
use std::sync::Mutex;

use check::{Engines, Stats};
use rayon::prelude::*;
use rng::Rng;
use wasm_ckpt::instrument::{
    AHEAD, COST_MODEL, INLINES, OLDEST_COST_MODEL, Options, THREADS, instrument_with,
};

/// Native stack of a thread that runs modules.
const STACK: usize = 16 << 20;

fn number(name: &str, otherwise: u64) -> u64 {
    std::env::var(name).ok().and_then(|n| n.parse().ok()).unwrap_or(otherwise)
}

/// Checks the modules of many seeds.
fn run_all(kind: &str, count: u64, module: impl Fn(u64) -> Option<Vec<u8>> + Sync) {
    let engines = Engines::new().unwrap();
    let total = Mutex::new((Stats::default(), 0u64));
    let failures = Mutex::new(vec![]);
    let (first, count) = (number("SEED", 0), number("MODULES", count));
    let pool = rayon::ThreadPoolBuilder::new().stack_size(STACK).build().unwrap();
    let one = |seed: u64| {
        if failures.lock().unwrap().len() >= 5 {
            return;
        }
        let Some(wasm) = module(seed) else { return };
        let checked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| engines.check(&wasm, seed)));
        match checked {
            Ok(Ok(stats)) => {
                let mut total = total.lock().unwrap();
                total.0 += stats;
                total.1 += 1;
            }
            Ok(Err(error)) => {
                failures.lock().unwrap().push(failure(kind, seed, &wasm, &format!("{error:#}")))
            }
            Err(_) => failures.lock().unwrap().push(failure(kind, seed, &wasm, "panicked")),
        }
    };
    pool.install(|| (first..first + count).into_par_iter().for_each(one));
    let (stats, modules) = *total.lock().unwrap();
    println!("{kind}: {modules} modules: {stats:?}");
    let failures = failures.into_inner().unwrap();
    assert!(failures.is_empty(), "{}", failures.join("\n"));
    assert!(modules < 100 || stats.pauses > modules, "hardly anything was paused");
}

/// Keeps what failed, and says where.
fn failure(kind: &str, seed: u64, wasm: &[u8], why: &str) -> String {
    let dir = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let path = dir.join(format!("{kind}-{seed}.wat"));
    let text = wasmprinter::print_bytes(wasm).unwrap_or_else(|e| format!(";; cannot be printed: {e}"));
    let _ = std::fs::write(path.with_extension("wasm"), wasm);
    let written = std::fs::write(&path, text);
    let why: String = why.chars().take(3000).collect();
    format!("{kind}, SEED={seed}, {} ({written:?}): {why}", path.display())
}

#[test]
fn smith() {
    run_all("smith", 400, smith::module);
}

#[test]
fn structured() {
    run_all("structured", 300, |seed| Some(generate::module(seed)));
    let all = [
        (INLINES, "calls are inlined"),
        (THREADS, "jumps are threaded"),
        (AHEAD, "copies of a body stand ahead of it"),
    ];
    for (model, what) in all {
        let changes = |seed: &u64| {
            let wasm = generate::module(*seed);
            let [before, now] = [model - 1, model].map(|cost_model| {
                let options = Options { cost_model, ..Options::default() };
                instrument_with(&wasm, &options).unwrap().wasm
            });
            before != now
        };
        let changed = (0..300).filter(changes).count();
        assert!(changed > 30, "{what} in {changed} of 300 modules");
    }
}

/// Fuel that a call of them may take: several times what a loop is charged for at once.
const LONG: u64 = 20_000_000;

fn exported_functions(wasm: &[u8]) -> usize {
    let sections = wasmparser::Parser::new(0).parse_all(wasm).filter_map(|payload| match payload.unwrap() {
        wasmparser::Payload::ExportSection(exports) => Some(exports),
        _ => None,
    });
    sections
        .flatten()
        .filter(|export| export.as_ref().unwrap().kind == wasmparser::ExternalKind::Func)
        .count()
}

/// Modules on which something once failed.
#[test]
fn regressions() {
    let engines = Engines::new().unwrap();
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/regress");
    let dir = std::env::var_os("REGRESS").map_or(dir, PathBuf::from);
    let first = number("SEED", 0);
    let mut count = 0;
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        let wasm = wat::parse_file(&path).unwrap();
        let functions = exported_functions(&wasm);
        assert!(functions <= plan::CALLS_MAX, "{}: {functions} exports, not all are called", path.display());
        for (model, seed) in
            (OLDEST_COST_MODEL..=COST_MODEL).flat_map(|model| (first..first + 4).map(move |s| (model, s)))
        {
            let checked = engines.check_model(&wasm, Rng::new(seed), model, LONG);
            checked.unwrap_or_else(|e| panic!("{}, cost model {model}, seed {seed}: {e:#}", path.display()));
        }
        count += 1;
    }
    assert!(count > 0);
}
