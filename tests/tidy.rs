//! House rules, as tests: rooms import one way, unsafe code has an address, files stay small.

use std::fs;
use std::path::{Path, PathBuf};

fn sources() -> Vec<(PathBuf, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let (mut dirs, mut found) = (vec![root.clone()], vec![]);
    while let Some(dir) = dirs.pop() {
        for entry in fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                dirs.push(path);
            } else if path.extension().is_some_and(|e| e == "rs") {
                let text = fs::read_to_string(&path).unwrap();
                found.push((path.strip_prefix(&root).unwrap().to_path_buf(), text));
            }
        }
    }
    assert!(found.len() > 50, "the sources were not found");
    found
}

/// Each room, and the rooms that it may import.
const ROOMS: &[(&str, &[&str])] = &[
    ("digest", &[]),
    ("instrument", &["digest"]),
    ("snapshot", &["digest"]),
    ("wasi", &["digest", "snapshot"]),
    ("store", &["digest", "snapshot"]),
    ("machine", &["digest", "instrument", "snapshot", "wasi"]),
    ("job", &["digest", "instrument", "snapshot", "wasi", "store", "machine"]),
    ("cli", &["digest", "instrument", "snapshot", "wasi", "store", "machine", "job"]),
];

#[test]
fn rooms_import_one_way() {
    for (path, text) in sources() {
        let room = path
            .components()
            .next()
            .unwrap()
            .as_os_str()
            .to_str()
            .unwrap()
            .trim_end_matches(".rs")
            .to_string();
        let Some((_, allowed)) = ROOMS.iter().find(|(name, _)| *name == room) else {
            assert!(
                ["main", "lib"].contains(&room.as_str()),
                "{}: a room that no rule knows",
                path.display()
            );
            continue;
        };
        for (other, _) in ROOMS.iter().filter(|(name, _)| *name != room && !allowed.contains(name)) {
            for (n, line) in text.lines().enumerate().filter(|(_, l)| !l.trim_start().starts_with("//")) {
                let named =
                    line.contains(&format!("crate::{other}::")) || line.contains(&format!("crate::{other};"));
                assert!(!named, "{}:{}: `{room}` may not import `{other}`", path.display(), n + 1);
            }
        }
    }
}

#[test]
fn only_the_machine_knows_the_engine() {
    for (path, text) in sources() {
        if path.starts_with("machine") {
            continue;
        }
        for (n, line) in text.lines().enumerate().filter(|(_, l)| !l.trim_start().starts_with("//")) {
            let named = line.contains("wasmtime::") || line.contains("use wasmtime");
            assert!(!named, "{}:{}: only machine/ imports wasmtime", path.display(), n + 1);
        }
    }
}

/// Files that may hold unsafe code, each block with its proof (clippy's `undocumented_unsafe_blocks`).
const UNSAFE: &[&str] = &["machine/cache.rs", "machine/dirty/linux.rs", "machine/lazy/linux.rs"];

#[test]
fn unsafe_code_has_an_address() {
    for (path, text) in sources() {
        let allowed = UNSAFE.contains(&path.to_str().unwrap());
        let found = text.contains("allow(unsafe_code)") || text.contains("unsafe {");
        assert_eq!(
            found,
            allowed,
            "{}: unsafe code is allowed in {UNSAFE:?} alone, and is there",
            path.display()
        );
    }
}

/// Lines of a file, tests included.
const LINES_MAX: usize = 600;

#[test]
fn files_are_about_one_thing() {
    for (path, text) in sources() {
        let lines = text.lines().count();
        assert!(lines <= LINES_MAX, "{}: {lines} lines; look for the seam", path.display());
        assert!(text.starts_with("//!"), "{}: says at its top what it is about", path.display());
    }
}
