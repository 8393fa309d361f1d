//! CPython's own regression tests, inside the guest.

use std::collections::BTreeMap;
use std::fs;

use crate::common::{Random, guests};
use crate::harness::{Ended, Program, fetched, in_ci, moved, ours, reference};

/// Those that are about files, and quick; then those that take longer.
const MODULES: &[&str] = &[
    "test_os",
    "test_posixpath",
    "test_genericpath",
    "test_shutil",
    "test_tempfile",
    "test_fileio",
    "test_bufio",
    "test_file",
    "test_univnewlines",
    "test_largefile",
    "test_fileinput",
    "test_filecmp",
    "test_glob",
    "test_stat",
    "test_dbm_dumb",
];
const MORE: &[&str] = &[
    "test_re",
    "test_io",
    "test_memoryio",
    "test_time",
    "test_random",
    "test_shelve",
    "test_textwrap",
    "test_zipfile._path",
];

fn program(modules: &[&str], root: &std::path::Path) -> Option<Program> {
    let (python, tests) = (fetched("python.wasm")?, fetched("python-tests")?);
    for dir in ["tmp", "work"] {
        fs::create_dir_all(root.join(dir)).unwrap();
    }
    // Those that recurse until the stack ends do so under wasmtime as well, and take the program with them. `-r` with a
    // seed would print it; without, the order is that of the arguments.
    let args = [&["-m", "test", "-v", "-i", "*ecursi*"], modules].concat();
    let mut program = Program::new(python, &args).dir(root, "/", false).dir(&tests, "/tests", true);
    program.env = vec![
        ("PYTHONPATH", "/tests"),
        ("PYTHONDONTWRITEBYTECODE", "1"),
        ("PYTHONHASHSEED", "0"),
        ("HOME", "/work"),
        ("PWD", "/"),
    ];
    Some(program)
}

/// Of each test its outcome: `ok`, `skipped`, `FAIL`, `ERROR`.
fn outcomes(ended: &Ended) -> BTreeMap<String, String> {
    // Tests print as well, also between their name and their outcome: then the outcome stands on a line of its own.
    let (mut found, mut open) = (BTreeMap::new(), None);
    let all = format!("{}\n{}", ended.out, ended.err);
    for line in all.lines() {
        let (name, rest) = match line.split_once(" ... ") {
            Some((name, rest)) if name.contains(" (test.") || name.contains("(test.") => {
                (Some(name.to_string()), rest)
            }
            _ => (None, line),
        };
        let name = name.or_else(|| open.clone());
        let word = rest.split(' ').next().unwrap_or_default();
        let outcome = ["ok", "skipped", "FAIL", "ERROR", "expected"].into_iter().find(|o| *o == word);
        match (name, outcome) {
            (Some(name), Some(outcome)) => {
                open = None;
                found.insert(name, outcome.to_string());
            }
            (name, None) => open = name,
            _ => {}
        }
    }
    found
}

#[test]
fn cpythons_own_tests() {
    let modules = if in_ci() { [MODULES, MORE].concat() } else { MODULES.to_vec() };
    let Some(plain) = program(&modules, tempfile::tempdir().unwrap().path()) else { return };
    assert!(plain.path.starts_with(guests()));
    let run = |how: &dyn Fn(&Program) -> Ended| {
        let root = tempfile::tempdir().unwrap();
        how(&program(&modules, root.path()).unwrap())
    };
    let expected = run(&reference);
    assert!(expected.code.is_some(), "plain: {expected:#?}");
    let expected = outcomes(&expected);
    let passed = |outcomes: &BTreeMap<String, String>| outcomes.values().filter(|o| *o == "ok").count();
    println!("plain: {} tests, {} of them pass", expected.len(), passed(&expected));
    assert!(passed(&expected) > 500, "the tests were not found");

    let root = tempfile::tempdir().unwrap();
    let (straight, fuel) = ours(&program(&modules, root.path()).unwrap());
    same(&expected, &straight, "ours");
    let seed = u64::from(std::process::id());
    println!("seed of the moves: {seed}");
    let ended = run(&|program| moved(program, fuel, 8, &mut Random(seed)));
    same(&expected, &ended, "moved");
}

/// What passes on plain wasmtime passes here.
fn same(expected: &BTreeMap<String, String>, found: &Ended, how: &str) {
    let outcomes = outcomes(found);
    let lost: Vec<_> = expected
        .iter()
        .filter(|(_, outcome)| *outcome == "ok")
        .map(|(name, _)| (name, outcomes.get(name)))
        .filter(|(_, outcome)| outcome.is_none_or(|o| o != "ok"))
        .collect();
    assert!(lost.is_empty(), "{how}: {lost:#?}\n{}\n{}", found.out, found.err);
    println!(
        "{how}: {} tests, {} of them pass",
        outcomes.len(),
        outcomes.values().filter(|o| *o == "ok").count()
    );
}
