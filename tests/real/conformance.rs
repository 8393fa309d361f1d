//! The programs with which Node.js tests its WASI.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use crate::common::Random;
use crate::harness::{Ended, Program, fetched, moved, ours, reference};

/// What the programs expect to find, below `/sandbox`, and beside it.
fn fixtures(dir: &Path) {
    let sandbox = dir.join("sandbox");
    fs::create_dir_all(sandbox.join("subdir")).unwrap();
    fs::create_dir(dir.join("tmp")).unwrap();
    fs::write(dir.join("outside.txt"), "outside").unwrap();
    for name in ["input.txt", "input2.txt", "notadir"] {
        fs::write(sandbox.join(name), format!("hello from {name}\n")).unwrap();
    }
    fs::write(sandbox.join("subdir/outside.txt"), "hello from subdir\n").unwrap();
    for (target, link) in [
        ("../outside.txt", "symlink_escape"),
        ("../input.txt", "subdir/input_link.txt"),
        ("loop2", "subdir/loop1"),
        ("loop1", "subdir/loop2"),
        ("../../outside.txt", "subdir/outside_link"),
    ] {
        symlink(target, sandbox.join(link)).unwrap();
    }
}

fn program(path: &Path, dir: &Path) -> Program {
    let mut program = Program::new(path.to_path_buf(), &["-bar", "--baz=value"])
        .dir(&dir.join("sandbox"), "/sandbox", false)
        .dir(&dir.join("tmp"), "/tmp", false);
    program.env = vec![("NODE_PLATFORM", "linux")];
    program.stdin = b"hello world".to_vec();
    program
}

#[test]
fn small_programs_in_c_end_alike() {
    let Some(all) = fetched("wasi-tests") else { return };
    let mut programs: Vec<_> = fs::read_dir(all).unwrap().map(|entry| entry.unwrap().path()).collect();
    programs.retain(|path| path.extension().is_some_and(|e| e == "wasm"));
    programs.sort();
    let (mut passed, mut names) = (0, vec![]);
    for path in &programs {
        let run = |how: &dyn Fn(&Program) -> Ended| {
            let dir = tempfile::tempdir().unwrap();
            fixtures(dir.path());
            let ended = how(&program(path, dir.path()));
            let mut left: Vec<_> = ["sandbox", "sandbox/subdir", "tmp"]
                .iter()
                .flat_map(|below| fs::read_dir(dir.path().join(below)).unwrap())
                .map(|entry| entry.unwrap().path())
                .map(|path| (path.strip_prefix(dir.path()).unwrap().to_path_buf(), fs::read(&path).ok()))
                .collect();
            left.sort();
            (ended, left)
        };
        let expected = run(&reference);
        let fuel = std::cell::Cell::new(0);
        let straight = run(&|program| {
            let (ended, consumed) = ours(program);
            fuel.set(consumed);
            ended
        });
        let name = path.file_stem().unwrap().to_str().unwrap();
        assert_eq!(straight, expected, "{name}");
        // One that waits does so again and again, and one that tells the time is told another.
        if name != "poll" {
            let moved = run(&|program| moved(program, fuel.get(), 5, &mut Random(fuel.get())));
            assert_eq!(moved, expected, "{name}, moved");
        }
        passed += usize::from(expected.0.code == Some(0));
        names.push((name, expected.0.code));
    }
    println!("{passed} of {} end with 0: {names:?}", programs.len());
    assert!(passed >= 15, "too few of them work at all: {names:?}");
}
