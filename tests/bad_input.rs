//! Bad input: each kind gives one clear line, what to do about it, an exit code of its own, and loses nothing.

mod tool;

use std::fs;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use tool::{Running, STDOUT, Told, Tool, lines, printed};
use wasm_ckpt::Jobs;
use wasm_ckpt::digest::ChunkId;
use wasm_ckpt::snapshot::{FANOUT, Memory, PAGE, encode};
use wasm_ckpt::store::{Local, objects};

/// The error that is expected: code, first line's beginning, and something that the hint says.
fn assert_refused(told: &Told, code: i32, error: &str, hint: &str) {
    assert_eq!(told.code, code, "{told:?}");
    assert!(told.out.is_empty(), "{told:?}");
    assert!(told.err.starts_with(&format!("error: {error}")), "expected: {error}\nfound: {}", told.err);
    let last = told.err.lines().last().unwrap();
    assert!(last.starts_with("  hint: ") && last.contains(hint), "expected: {hint}\nfound: {}", told.err);
    assert!(told.err.lines().count() <= 4, "{}", told.err);
}

#[test]
fn what_is_no_module() {
    let tool = Tool::new();
    let refused = |bytes: &[u8]| {
        fs::write(tool.path("x.wasm"), bytes).unwrap();
        tool.run(&["run", "x.wasm"])
    };
    assert_refused(&refused(b"#!/bin/sh\n"), 65, "not a WebAssembly module", "wasm32-wasip1");
    assert_refused(&refused(b""), 65, "not a WebAssembly module", "wasm32-wasip1");
    assert_refused(&refused(b"(module)"), 65, "not a WebAssembly module", "wasm32-wasip1");
    let component = refused(b"\0asm\x0d\0\x01\0");
    assert_eq!(component.code, 65);
    assert!(component.err.starts_with("error: this is a WebAssembly component"), "{}", component.err);
    let cut = refused(&wat::parse_str("(module (func (export \"_start\")))").unwrap()[..20]);
    assert_eq!(cut.code, 65);
    assert!(cut.err.starts_with("error: invalid module: "), "{}", cut.err);
    assert_refused(&tool.run(&["run", "none.wasm"]), 66, "cannot read the module `none.wasm`", "path");
    assert_refused(&tool.run(&["run", "-"]), 2, "the module cannot come from standard input", "file");
    let shared = refused(&wat::parse_str("(module (memory 1 1 shared) (func (export \"_start\")))").unwrap());
    assert_eq!(shared.code, 65);
    assert!(shared.err.contains("memory 0") && shared.err.contains("cannot be saved"), "{}", shared.err);
    assert_eq!(tool.run(&["ls"]).out, "", "nothing of it became a job");
}

#[test]
fn functions_and_arguments() {
    let tool = Tool::new();
    tool.wat("f.wasm", r#"(module (func (export "add") (param i32 f64)) (func (export "nop")))"#);
    assert_refused(
        &tool.run(&["run", "f.wasm"]),
        65,
        "the module does not export a function `_start`; it exports `add`, `nop`",
        "--invoke",
    );
    let call = |args: &[&str]| tool.run(&[&["run", "--invoke"], args].concat());
    assert_refused(&call(&["sub", "f.wasm"]), 65, "the module does not export a function `sub`", "name one");
    assert_refused(
        &call(&["add", "f.wasm", "1"]),
        2,
        "`add` takes 2 arguments, and 1 are given",
        "call it as `add <i32> <f64>`",
    );
    assert_refused(
        &call(&["add", "f.wasm", "1.5", "1"]),
        2,
        "argument 1 of `add` must be an i32 (-2147483648 to 4294967295, or 0x…), and `1.5` is none",
        "call it as `add <i32> <f64>`",
    );
    assert_refused(&call(&["add", "f.wasm", "1", "x"]), 2, "argument 2 of `add` must be an f64", "add <i32>");
    assert_eq!(tool.run(&["ls"]).out, "", "nothing of it became a job");
}

#[test]
fn unknown_imports_are_named_with_the_nearest() {
    let tool = Tool::new();
    tool.wat(
        "i.wasm",
        r#"(module (import "wasi_snapshot_preview1" "fd_wirte" (func)) (func (export "_start")))"#,
    );
    assert_refused(
        &tool.run(&["run", "i.wasm"]),
        67,
        "the module imports the function `wasi_snapshot_preview1.fd_wirte`, which this host does not have; the \
         nearest one is `wasi_snapshot_preview1.fd_write`",
        "wasm32-wasip1",
    );
    assert_eq!(tool.run(&["ls"]).out, "", "nothing of it became a job");
}

#[test]
fn options() {
    let tool = Tool::new();
    tool.wat("lines.wasm", &lines(3, 10, STDOUT));
    let run = |options: &[&str]| tool.run(&[&["run"], options, &["lines.wasm"]].concat());
    assert_refused(
        &run(&["--dir", "none::/data"]),
        66,
        "the directory `none` cannot be given to the program: ",
        "a directory that exists",
    );
    assert_refused(&run(&["--env", "NO_SUCH_VARIABLE"]), 2, "the environment has no variable", "NAME=VALUE");
    for bad in [
        ["--job", "a/b"],
        ["--every", "soon"],
        ["--every", "0banana"],
        ["--dir", ".::/a:RO"],
        ["--store", ""],
        ["--seed", "x"],
        ["--dir", "::"],
        ["--pause-after", "-1"],
    ] {
        assert_eq!(run(&bad).code, 2, "{bad:?}");
    }
    assert_refused(&run(&["--sync-out", "out"]), 2, "the program has no private disk", "`--disk GUEST`");
    let target = run(&["--target", "vax"]);
    assert!(target.code == 1 && target.err.contains("`vax`"), "{target:?}");
}

#[test]
fn what_is_not_there() {
    let tool = Tool::new();
    assert_refused(&tool.run(&["inspect", "x"]), 66, "there is no store in `%/store`", "--store");
    tool.wat("lines.wasm", &lines(3, 10, STDOUT));
    assert_eq!(tool.run(&["run", "lines.wasm"]).code, 0);
    assert_refused(&tool.run(&["inspect", "nope"]), 66, "there is no job, snapshot or file `nope`", "ls");
    assert_refused(&tool.run(&["inspect", "0123abcd"]), 66, "there is no snapshot `0123abcd`", "ls");
    assert_refused(&tool.run(&["ls", "--snapshots", "nope"]), 66, "there is no job `nope`", "ls");
    assert_refused(&tool.run(&["resume", "nope"]), 66, "there is no job, snapshot or file `nope`", "ls");
    assert_refused(&tool.run(&["resume", "@nope"]), 66, "cannot read `nope`", "path");
    assert_refused(&tool.run(&["import", "nope"]), 66, "cannot import `nope`", "path");
}

/// A paused job `x`, whose rest prints what [`printed`] says.
fn paused() -> Tool {
    let tool = Tool::new();
    tool.wat("lines.wasm", &lines(20, 1000, STDOUT));
    let args = ["run", "-q", "--job", "x", "--pause-after", "9000", "lines.wasm"];
    assert_eq!(tool.run(&args).code, 75);
    tool
}

/// All files below a directory.
fn files(dir: &std::path::Path) -> Vec<std::path::PathBuf> {
    let mut found = vec![];
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { found.extend(files(&path)) } else { found.push(path) }
    }
    found
}

#[test]
fn damage_is_named() {
    for (what, dir) in [("pack", "packs"), ("manifest", "snapshots"), ("module", "modules")] {
        let tool = paused();
        let found = files(&tool.path("store/objects").join(dir));
        assert!(!found.is_empty(), "{what}");
        let whole: Vec<Vec<u8>> = found.iter().map(|path| fs::read(path).unwrap()).collect();
        for (path, bytes) in found.iter().zip(&whole) {
            let mut bytes = bytes.clone();
            let middle = bytes.len() / 2;
            bytes[middle] ^= 1;
            fs::write(path, bytes).unwrap();
        }
        let resumed = tool.run(&["resume", "-q", "x"]);
        assert_eq!(resumed.code, 68, "{what}: {resumed:?}");
        let verified = tool.run(&["verify"]);
        assert_eq!(verified.code, 68, "{what}: {verified:?}");
        assert!(verified.out.contains("\ndamaged: "), "{what}: {}", verified.out);
        // Nothing was lost by trying.
        for (path, bytes) in found.iter().zip(&whole) {
            fs::write(path, bytes).unwrap();
        }
        assert_eq!(tool.run(&["resume", "-q", "x"]).out, printed(20), "{what}");
    }
}

#[test]
fn logs_that_are_damaged_or_newer() {
    for (text, code) in [("{", 68), ("{\"format\": 1}", 68), ("{\"format\": 9}", 76)] {
        let tool = paused();
        let mut log = files(&tool.path("store/objects/jobs/x/log"));
        log.sort();
        fs::write(log.last().unwrap(), text).unwrap();
        let resumed = tool.run(&["resume", "x"]);
        assert_eq!(resumed.code, code, "{resumed:?}");
        assert!(resumed.err.contains("log of job `x`"), "{}", resumed.err);
        let listed = tool.run(&["ls"]);
        assert!(listed.code == 0 && listed.out.contains("damaged"), "{listed:?}");
        // Its snapshot can still be resumed, as another job.
        assert_eq!(tool.run(&["rm", "x"]).code, 0);
    }
}

#[test]
fn newer_and_older_formats() {
    let tool = paused();
    // A manifest of a later format, under its own name.
    let manifest = tool.path("store/objects/snapshots");
    let path = files(&manifest).pop().unwrap();
    let mut bytes = fs::read(&path).unwrap();
    bytes[8] = 2;
    let newer = blake3::hash(&bytes).to_hex().to_string();
    let place = path.parent().unwrap().parent().unwrap().join(format!("+{}", &newer[..2]));
    fs::create_dir_all(&place).unwrap();
    fs::write(place.join(&newer), bytes).unwrap();
    let resumed = tool.run(&["resume", &newer]);
    assert_refused(&resumed, 76, "snapshot has format 2, this build reads up to 1", "newer program");

    fs::write(tool.path("store/format"), "wasm-ckpt store\nformat 7\n").unwrap();
    let refused = tool.run(&["resume", "x"]);
    assert_refused(&refused, 76, "the store `%/store` cannot be used", "newer program");
    assert!(refused.err.contains("has format 7, and this program knows formats up to 1"), "{}", refused.err);
    fs::write(tool.path("store/format"), "wasm-ckpt store\nformat 1\n").unwrap();
    assert_eq!(tool.run(&["resume", "-q", "x"]).out, printed(20));
}

#[test]
fn stores_that_cannot_be_used() {
    let tool = Tool::new();
    tool.wat("lines.wasm", &lines(3, 10, STDOUT));
    fs::create_dir(tool.path("other")).unwrap();
    fs::write(tool.path("other/letter"), "dear").unwrap();
    for (store, hint) in
        [("other", "an empty or a new directory"), ("lines.wasm", "an empty or a new directory")]
    {
        let refused = tool.run(&["run", "--store", store, "lines.wasm"]);
        assert_refused(&refused, 73, &format!("the store `{store}` cannot be used"), hint);
    }
    let refused = tool.run(&["run", "--store", "/proc/none/store", "lines.wasm"]);
    assert_eq!(refused.code, 73, "{refused:?}");
    let mut homeless = tool.command(&["run", "lines.wasm"]);
    homeless.env_remove("WASM_CKPT_STORE").env_remove("XDG_STATE_HOME").env_remove("HOME");
    let refused = tool.told(homeless.output().unwrap());
    assert_refused(&refused, 73, "there is no place for the store", "--store DIR");
}

/// The command with a limit on the size of files, which is as if the disk were full: each write beyond it fails
/// with EFBIG.
fn on_a_full_disk(tool: &Tool, blocks: u32, args: &[&str]) -> Command {
    tool.command_in_shell(&format!("trap '' XFSZ; ulimit -f {blocks}; exec \"$@\""), args)
}

/// Fills 1 MiB with numbers that do not compress, tells `ready`, fills it again, tells `done`.
const NOISE: &str = r#"(module
  (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 17)
  (data (i32.const 8) "\18\00\00\00\06\00\00\00\1e\00\00\00\05\00\00\00ready\ndone\n")
  (global $x (mut i64) (i64.const 88172645463325252))
  (func $fill (local $at i32)
    (local.set $at (i32.const 65536))
    (loop $l
      (global.set $x (i64.xor (global.get $x) (i64.shl (global.get $x) (i64.const 13))))
      (global.set $x (i64.xor (global.get $x) (i64.shr_u (global.get $x) (i64.const 7))))
      (global.set $x (i64.xor (global.get $x) (i64.shl (global.get $x) (i64.const 17))))
      (i64.store (local.get $at) (global.get $x))
      (br_if $l (i32.lt_u (local.tee $at (i32.add (local.get $at) (i32.const 8))) (i32.const 1114112)))))
  (func (export "_start")
    (call $fill)
    (drop (call $write (i32.const 1) (i32.const 8) (i32.const 1) (i32.const 0)))
    (call $fill)
    (drop (call $write (i32.const 1) (i32.const 16) (i32.const 1) (i32.const 0)))))"#;

#[test]
fn a_full_store_stops_neither_the_program_nor_loses_anything() {
    let tool = Tool::new();
    tool.wat("noise.wasm", NOISE);
    // So that compiled code, which is bigger, is there.
    assert_eq!(tool.run(&["run", "--job", "whole", "noise.wasm"]).out, "ready\ndone\n");
    let full = |args: &[&str]| {
        let mut command = on_a_full_disk(&tool, 600, args);
        tool.told(command.output().unwrap())
    };
    // In the midst of the second filling, and towards its end.
    let fuel = tool.json(&["ls", "--json"])[0]["fuel"].as_u64().unwrap();
    let (middle, later) = ((fuel * 6 / 10).to_string(), (fuel * 9 / 10).to_string());
    // Pausing needs room.
    let refused = full(&["run", "--job", "x", "--pause-after", &middle, "noise.wasm"]);
    assert_eq!((refused.code, refused.out.as_str()), (74, "ready\n"), "{refused:?}");
    assert!(refused.err.starts_with("error: the run cannot be paused: "), "{}", refused.err);
    assert!(refused.err.contains("no space left for `"), "{}", refused.err);
    assert!(refused.err.contains("  hint: free some space"), "{}", refused.err);
    // With room it can be; then there is none again, and the job is where it was.
    assert_eq!(tool.run(&["run", "-q", "--job", "x", "--pause-after", &middle, "noise.wasm"]).code, 75);
    let refused = full(&["resume", "-q", "x", "--pause-after", &later]);
    assert_eq!(refused.code, 74, "{refused:?}");
    let jobs = tool.json(&["ls", "--json"]);
    assert_eq!((&jobs[1]["snapshots"], &jobs[1]["state"]), (&1.into(), &"interrupted".into()), "{jobs}");
    assert!(tool.run(&["verify"]).out.ends_with("everything is whole\n"));
    // A snapshot that is due and cannot be stored does not stop the program.
    let ended = full(&["resume", "x", "--every", "2500kfuel"]);
    assert_eq!((ended.code, ended.out.as_str()), (0, "ready\ndone\n"), "{ended:?}");
    assert_eq!(ended.err.matches("wasm-ckpt: no snapshot: no space left for ").count(), 1, "{}", ended.err);
}

#[test]
fn a_job_that_a_live_process_holds() {
    let tool = Tool::new();
    tool.wat("endless.wasm", r#"(module (func (export "_start") (loop $l (br $l))))"#);
    let child = Running::spawn(&mut tool.command(&["run", "--job", "x", "endless.wasm"]));
    let mut refused = None;
    for _ in 0..200 {
        let told = tool.run(&["resume", "x"]);
        if told.code == 69 {
            refused = Some(told);
            break;
        }
        assert_eq!(told.code, 66, "not begun yet: {told:?}");
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    let refused = refused.expect("it never ran");
    let pid = child.0.id();
    assert_refused(&refused, 69, &format!("job `x` is being run by process {pid} on "), "wait until it ends");
    assert_refused(&tool.run(&["run", "--job", "x", "endless.wasm"]), 69, "job `x` is being run", "wait");
    assert_refused(&tool.run(&["rm", "x"]), 69, "job `x` is being run", "wait");
    drop(child);
    assert!(tool.run(&["ls"]).out.contains("interrupted"));
}

#[test]
fn a_store_whose_empty_directories_were_not_copied_is_whole() {
    let tool = Tool::new();
    tool.wat("lines.wasm", &lines(200, 1000, STDOUT));
    let run = ["run", "-q", "--job", "x", "--pause-after", "99000", "lines.wasm"];
    assert_eq!(tool.run(&run).code, 75);
    for name in ["tmp", "locks", "work"] {
        let _ = fs::remove_dir_all(tool.path("store").join(name));
    }
    let listed = tool.run(&["ls"]);
    assert!(listed.code == 0 && listed.out.contains("paused"), "{listed:?}");
    let _ = fs::remove_dir_all(tool.path("store/tmp"));
    let resumed = tool.run(&["resume", "-q", "x"]);
    assert_eq!((resumed.code, resumed.out), (0, printed(200)));
}

#[test]
fn what_a_program_is_named_does_not_steer_a_terminal() {
    let tool = Tool::new();
    tool.wat(
        "x.wasm",
        "(module (import \"env\" \"a\\1b]0;b\\07c\\u{202e}\" (func)) (func (export \"_start\")))",
    );
    let refused = tool.run(&["run", "x.wasm"]);
    assert_eq!(refused.code, 67, "{refused:?}");
    assert!(refused.err.contains("a\\u{1b}]0;b\\u{7}c\\u{202e}"), "{}", refused.err);
    assert!(!refused.err.contains('\u{1b}'));
}

#[test]
fn a_failure_is_never_a_success() {
    let tool = Tool::new();
    let exit = |code: u32| {
        let text = format!(
            r#"(module (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
              (memory (export "memory") 1) (func (export "_start") (call $exit (i32.const {code}))))"#
        );
        tool.wat("x.wasm", &text);
        tool.run(&["run", "-q", "x.wasm"]).code
    };
    assert_eq!([0, 1, 255, 256, 300, 0x8000_0000].map(exit), [0, 1, 255, 255, 44, 255]);
}

#[test]
fn what_the_host_refuses_while_a_program_runs_is_said_first() {
    let tool = Tool::new();
    tool.wat("lines.wasm", &lines(2000, 10, STDOUT));
    let args = ["run", "-q", "--output", "exactly-once", "--keep-output", "1K", "lines.wasm"];
    let stopped = tool.run(&args);
    assert_eq!(stopped.code, 1, "{stopped:?}");
    assert!(!stopped.err.contains("backtrace"), "{}", stopped.err);
    assert!(stopped.err.lines().count() <= 4, "{}", stopped.err);
}

#[test]
fn a_snapshot_whose_manifest_is_damaged_or_gone_has_one_before_it() {
    for gone in [false, true] {
        let tool = Tool::new();
        tool.wat("lines.wasm", &lines(200, 1000, STDOUT));
        let run = ["run", "-q", "--job", "x", "--every", "20kfuel", "--pause-after", "99000", "lines.wasm"];
        assert_eq!(tool.run(&run).code, 75);
        let id = tool.json(&["ls", "--json"])[0]["snapshot"].as_str().unwrap().to_string();
        let listed = tool.json(&["ls", "--snapshots", "x", "--json"]);
        let before = listed.as_array().unwrap().iter().rev().nth(1).unwrap()["snapshot"].as_str().unwrap();
        let name = format!("*{}", &id[8..]);
        let found = Command::new("find").arg(tool.path("store")).args(["-name", &name]).output();
        let path = String::from_utf8(found.unwrap().stdout).unwrap();
        match gone {
            true => fs::remove_file(path.trim()).unwrap(),
            false => fs::write(path.trim(), b"damaged").unwrap(),
        }
        let hint = format!("the snapshot `{}` before it is whole", &before[..12]);
        for args in [["resume", "-q", "x"].as_slice(), &["run", "-q", "--job", "x", "lines.wasm"]] {
            let refused = tool.command(args).output().unwrap();
            let err = String::from_utf8(refused.stderr).unwrap();
            assert_eq!(refused.status.code(), Some(68), "{err}");
            assert!(err.contains(&hint), "{err}");
        }
        let back = tool.run(&["resume", "-q", "x", "--from", before]);
        assert_eq!((back.code, back.out), (0, printed(200)));
    }
}

#[test]
fn a_snapshot_whose_few_chunks_stand_for_many_pages_is_shown_at_once() {
    let tool = Tool::new();
    tool.wat("lines.wasm", &lines(60, 20_000, STDOUT));
    let args = ["run", "-q", "--job", "x", "--every", "never", "--pause-after", "100000", "lines.wasm"];
    assert_eq!(tool.run(&args).code, 75);
    let jobs = Jobs::new(Arc::new(Local::open(tool.path("store")).unwrap()));
    let mut state = jobs.snapshot(jobs.snapshots().unwrap()[0]).unwrap().state().clone();
    let mut chunks = jobs.chunks().writer().unwrap();
    let mut add = |bytes: &[u8]| {
        let id = ChunkId::of(bytes);
        chunks.add(id, bytes).unwrap();
        id
    };
    let (mut root, mut len) = (add(&[b'x'; PAGE]), PAGE as u64);
    for _ in 0..9 {
        (root, len) = (add(&root.as_bytes().repeat(FANOUT)), len * FANOUT as u64);
    }
    state.memories[0] = Memory { len, root };
    let (id, manifest) = encode(&state).unwrap();
    drop(chunks.finish().unwrap());
    objects::put_snapshot(&**jobs.store(), &manifest).unwrap();
    let inspect = tool.command(&["inspect", "--json", &id.to_string()]).stdout(Stdio::piped()).spawn();
    let (mut inspect, begun) = (Running(inspect.unwrap()), Instant::now());
    while inspect.0.try_wait().unwrap().is_none() {
        assert!(begun.elapsed() < Duration::from_secs(20), "it takes long");
        thread::sleep(Duration::from_millis(10));
    }
    let shown: serde_json::Value = serde_json::from_reader(inspect.0.stdout.take().unwrap()).unwrap();
    let memory = &shown["memories"][0];
    assert_eq!(memory["pages"], len / PAGE as u64);
    assert_eq!(memory["ranges"], serde_json::json!([[0, len]]));
}

#[test]
fn what_is_valid_and_cannot_begin() {
    let tool = Tool::new();
    let refused = |text: &str| {
        tool.wat("x.wasm", text);
        tool.run(&["run", "x.wasm"])
    };
    let start = "(func (export \"_start\"))";
    let outside = refused(&format!("(module (memory 1) (data (i32.const 65536) \"a\") {start})"));
    assert!(outside.code == 134 && outside.err.contains("out of bounds"), "{outside:?}");
    let import = "(import \"wasi_snapshot_preview1\" \"fd_write\" (func (param i64) (result i32)))";
    let other = refused(&format!("(module {import} (memory (export \"memory\") 1) {start})"));
    assert!(other.code == 65 && other.err.contains("fd_write"), "{other:?}");
    let arguments = refused("(module (func (export \"_start\") (param i32)))");
    assert_refused(&arguments, 65, "`_start` takes arguments", "`--invoke`");
    let tables = "(table 1 funcref)".repeat(100);
    let many = refused(&format!("(module {tables} (func (export \"_start\") (loop)))"));
    assert_refused(&many, 65, "the module has too many tables: 103", "split");
}
