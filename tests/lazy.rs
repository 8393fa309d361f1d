//! Jobs that go on at once and have their memory brought when it is touched: killed at any time they end as if nothing had
//! been; what is damaged is never used.

mod tool;

use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::time::{Duration, Instant};

use tool::moments::Moments;
use tool::{Running, Tool};

/// Pages that the program fills: 48 MiB.
const PAGES: u32 = 12_288;

/// Fills its memory, each page with a number of its own all over, counts for a while, and does the `rest`.
fn program(rest: &str) -> String {
    format!(
        r#"(module
  (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_read" (func $read (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "random_get" (func $random (param i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "path_open"
    (func $open (param i32 i32 i32 i32 i32 i64 i64 i32 i32) (result i32)))
  (memory (export "memory") 769)
  (func $at (param $page i32) (result i32) (i32.shl (local.get $page) (i32.const 12)))
  (func $fill (local $at i32)
    (loop $p
      (i64.store (local.get $at) (i64.mul (i64.extend_i32_u (i32.add (i32.const 1) (i32.shr_u (local.get $at) (i32.const 12)))) (i64.const 0x9E3779B97F4A7C15)))
      (br_if $p (i32.lt_u (local.tee $at (i32.add (local.get $at) (i32.const 64))) (i32.const {end})))))
  (func $spin (local $n i32)
    (local.set $n (i32.const 300000))
    (loop $l (br_if $l (local.tee $n (i32.sub (local.get $n) (i32.const 1))))))
  ;; Sums up so many pages, scattered, writes to each of them, and prints a letter made of the sum.
  (func $sum (param $count i32) (local $n i32) (local $at i32) (local $sum i64)
    (loop $p
      (local.set $at (call $at (i32.rem_u (i32.mul (local.get $n) (i32.const 7919)) (i32.const {PAGES}))))
      (local.set $sum (i64.add (i64.rotl (local.get $sum) (i64.const 3)) (i64.load offset=128 (local.get $at))))
      (i64.store offset=128 (local.get $at) (local.get $sum))
      (br_if $p (i32.lt_u (local.tee $n (i32.add (local.get $n) (i32.const 1))) (local.get $count))))
    (i64.store (i32.const {print}) (i64.add (i64.const 0x0a41)
      (i64.rem_u (i64.shr_u (local.get $sum) (i64.const 11)) (i64.const 26))))
    (call $print (i32.const {print}) (i32.const 2)))
  (func $print (param $at i32) (param $len i32)
    (i32.store (i32.const {vector}) (local.get $at))
    (i32.store (i32.add (i32.const 4) (i32.const {vector})) (local.get $len))
    (if (call $write (i32.const 1) (i32.const {vector}) (i32.const 1) (i32.const {result})) (then unreachable)))
  (func (export "_start") (local $n i32)
    (call $fill)
    (call $spin)
    {rest}))"#,
        end = PAGES * 4096,
        print = PAGES * 4096 + 16,
        vector = PAGES * 4096 + 32,
        result = PAGES * 4096 + 64,
    )
}

/// Fuel just before the rest of the program begins.
fn before_the_rest(tool: &Tool) -> String {
    tool.wat("begin.wasm", &program(""));
    assert_eq!(tool.run(&["run", "-q", "--every", "never", "--job", "begin", "begin.wasm"]).code, 0);
    let jobs = tool.json(&["ls", "--json"]);
    let begin = jobs.as_array().unwrap().iter().find(|job| job["job"] == "begin").expect("it has run");
    (begin["fuel"].as_u64().unwrap() - 2000).to_string()
}

/// The program, paused before the rest of it.
fn paused(rest: &str, options: &[&str]) -> Tool {
    let tool = Tool::new();
    let fuel = before_the_rest(&tool);
    tool.wat("prog.wasm", &program(rest));
    let args =
        [&["run", "-q", "--every", "never", "--pause-after", &fuel, "--job", "x"], options, &["prog.wasm"]]
            .concat();
    let told = tool.run(&args);
    assert_eq!((told.code, told.out.as_str()), (75, ""), "{told:?}");
    tool
}

/// Sums up all pages so often, and counts in between.
fn rounds(count: u32) -> String {
    format!(
        "(loop $r
            (call $sum (i32.const {PAGES}))
            (call $spin)
            (br_if $r (i32.lt_u (local.tee $n (i32.add (local.get $n) (i32.const 1))) (i32.const {count}))))"
    )
}

#[test]
fn killed_while_its_memory_comes_it_ends_as_if_undisturbed() {
    let tool = paused(&rounds(4000), &[]);
    let began = Instant::now();
    let straight = tool.run(&["run", "-q", "--every", "never", "--job", "straight", "prog.wasm"]);
    assert_eq!((straight.code, straight.out.lines().count()), (0, 4000), "{straight:?}");
    let mut moments = Moments::new("lazy", 6, began.elapsed());
    let out = tool.path("out");
    let (mut kills, mut paused) = (0_u32, 0);
    let ways: [&[&str]; 4] = [&[], &["--dirty-tracking", "compare"], &["--every", "never"], &["--eager"]];
    let began = Instant::now();
    loop {
        let mut command = tool.command(&["resume", "-q", "--every", "20ms", "x"]);
        if kills % 4 == 2 {
            command = tool.command(&["resume", "-q", "x"]);
        }
        command.args(ways[kills as usize % 4]);
        command.stdout(fs::OpenOptions::new().create(true).append(true).open(&out).unwrap());
        let mut child = Running::spawn(&mut command);
        // Mostly before all is there.
        let wait = moments.after(kills, 10..40 + 20 * u64::from(kills));
        let (started, mut status) = (Instant::now(), None);
        let patient = kills >= 24 || began.elapsed() > Duration::from_secs(30);
        while status.is_none() && (started.elapsed() < wait || patient) {
            std::thread::sleep(Duration::from_millis(1));
            status = child.0.try_wait().unwrap();
        }
        if status.is_none() && kills % 3 == 1 {
            // Asked instead of killed, it pauses with a snapshot.
            child.signal("INT");
            let ended = child.0.wait().unwrap();
            // Before it listens to the signal, that kills it.
            let early = ended.signal().is_some();
            assert!(early || matches!(ended.code(), Some(75 | 0)), "{ended:?}");
            status = Some(ended).filter(std::process::ExitStatus::success);
            paused += usize::from(ended.code() == Some(75));
        }
        drop(child);
        match status {
            Some(status) => break assert_eq!(status.code(), Some(0)),
            None => kills += 1,
        }
    }
    assert!(kills > 5 && paused > 0, "it was killed {kills} times only, and paused {paused} times");
    assert_eq!(fs::read_to_string(&out).unwrap(), straight.out, "after {kills} kills");
    let verified = tool.run(&["verify"]);
    assert_eq!(verified.code, 0, "{verified:?}");
}

#[test]
fn snapshots_after_a_lazy_restore_are_those_of_a_straight_run() {
    let tool = paused(&rounds(150), &[]);
    let fuel = before_the_rest(&tool).parse::<u64>().unwrap();
    let run = |args: &[&str]| {
        let told = tool.command(args).output().unwrap();
        assert_eq!(told.status.code(), Some(75), "{told:?}");
        fs::read_to_string(tool.path("id")).unwrap()
    };
    let mut straight = vec![];
    for n in [1_u64, 40, 800, 4000] {
        let to = (fuel + n * 10_000).to_string();
        let args = ["run", "-q", "--every", "never", "--pause-after", &to, "--seed", "1", "--id-file", "id"];
        let job = format!("straight-{n}");
        straight.push((to.clone(), run(&[&args[..], &["--job", &job, "prog.wasm"]].concat())));
    }
    let begin = ["run", "-q", "--every", "never", "--pause-after", &fuel.to_string(), "--seed", "1"]
        .map(String::from);
    for how in ["auto", "compare"] {
        let begin: Vec<&str> = begin.iter().map(String::as_str).collect();
        assert_eq!(tool.run(&[&begin[..], &["--job", how, "prog.wasm"]].concat()).code, 75);
        for (to, id) in &straight {
            let args = ["resume", "-q", "--every", "never", "--id-file", "id", "--dirty-tracking", how];
            assert_eq!(&run(&[&args[..], &["--pause-after", to, how]].concat()), id, "{how}, fuel {to}");
            let shown = tool.json(&["inspect", "--json", how]);
            let expected = if cfg!(target_os = "linux") { "lazy" } else { "eager" };
            assert_eq!(shown["cost"]["restored"], expected, "{shown}");
        }
    }
}

/// Changes a byte of a page of the memory where it is stored.
fn damage(tool: &Tool, page: u64) {
    let number = (page + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15).to_le_bytes();
    let (mut found, mut paths) = (0, vec![tool.path("store/objects/packs")]);
    while let Some(path) = paths.pop() {
        if path.is_dir() {
            paths.extend(fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path()));
            continue;
        }
        let mut bytes = fs::read(&path).unwrap();
        let Some(at) = bytes.windows(8).position(|window| window == number) else { continue };
        bytes[at + 9] ^= 1;
        fs::write(&path, bytes).unwrap();
        found += 1;
    }
    assert!(found > 0, "page {page} is not in the store");
}

#[test]
fn a_damaged_page_that_is_touched_stops_it_with_a_clear_error() {
    // As the program itself touches it, as a function of the host, and as a loop of the engine.
    let print = format!("(call $print (i32.const {}) (i32.const 9000))", 8999 * 4096);
    let copy = "(memory.copy (call $at (i32.const 4)) (call $at (i32.const 8999)) (i32.const 9000))";
    for rest in [&rounds(150), &print, copy] {
        let tool = paused(rest, &["--compress", "none"]);
        let before = tool.json(&["ls", "--json", "--snapshots", "x"]);
        assert_eq!(before.as_array().map(Vec::len), Some(1), "{before}");
        damage(&tool, 9000);
        for eager in [false, true] {
            let mut command = tool.command(&["resume", "x"]);
            let told = command.args(eager.then_some("--eager")).output().unwrap();
            let err = String::from_utf8_lossy(&told.stderr);
            assert_eq!(told.status.code(), Some(68), "{err}");
            assert!(told.stdout.is_empty(), "{told:?}");
            let place = format!("of bytes {:#x} to {:#x}, cannot be read", 9000 * 4096, 9001 * 4096);
            for part in [
                "error: job `x` cannot go on from snapshot `",
                "which is damaged\n",
                "memory 0\n",
                "chunk ",
                &place,
            ] {
                assert!(err.contains(part), "`{part}` is not in {err}");
            }
        }
        // Nothing of that is the job's end.
        assert_eq!(tool.json(&["ls", "--json", "--snapshots", "x"]), before);
        // Another one that is there can be gone on from.
        assert_eq!(tool.run(&["run", "-q", "--job", "x", "--new", "begin.wasm"]).code, 0);
    }
}

#[test]
fn a_damaged_page_that_is_never_touched_is_told_and_the_program_ends() {
    let slow = "(loop $r
        (call $spin)
        (br_if $r (i32.lt_u (local.tee $n (i32.add (local.get $n) (i32.const 1))) (i32.const 12000))))
      (call $sum (i32.const 3))";
    let tool = paused(slow, &["--compress", "none"]);
    let straight = tool.run(&["run", "-q", "--every", "never", "--job", "straight", "prog.wasm"]);
    damage(&tool, 9000);
    let told = tool.run(&["resume", "--every", "100ms", "x"]);
    assert_eq!((told.code, &told.out), (0, &straight.out), "{told:?}");
    assert_eq!(
        told.err.matches("a part of the program's memory is damaged in the store").count(),
        1,
        "{told:?}"
    );
    assert_eq!(told.err.matches("no snapshot: ").count(), 1, "{told:?}");
}

#[test]
fn what_it_hands_to_the_system_untouched_is_there() {
    let path = "(i32.const 28672000)";
    let rest = format!(
        ";; A name that was never touched since, into a file that is read to memory that was not either.
        (if (call $open (i32.const 3) (i32.const 0) {path} (i32.const 2) (i32.const 0) (i64.const 2) (i64.const 0)
              (i32.const 0) {path}) (then unreachable))
        (i32.store offset=8 {path} (i32.const {into}))
        (i32.store offset=12 {path} (i32.const 50000))
        (if (call $read (i32.load {path}) (i32.add {path} (i32.const 8)) (i32.const 1) {path}) (then unreachable))
        (call $print (i32.const {into}) (i32.load {path}))
        (if (call $random (call $at (i32.const 11000)) (i32.const 20000)) (then unreachable))
        (call $print (call $at (i32.const 10999)) (i32.const 4096))
        (call $print (call $at (i32.const 3000)) (i32.const 1000000))",
        into = 31_000 * 1000,
    );
    // The file's name is what the page of that address begins with.
    let tool = Tool::new();
    let fuel = before_the_rest(&tool);
    let named = rest.replace(";; A name", &format!("(i32.store16 {path} (i32.const 0x6e69)) ;; A name"));
    let straight = program(&named);
    // Named long before in the one that is paused.
    let begun = program(&rest).replace(
        "(call $spin)\n    ;;",
        &format!("(i32.store16 {path} (i32.const 0x6e69)) (call $spin)\n    ;;"),
    );
    assert_ne!(begun, program(&rest));
    tool.wat("straight.wasm", &straight);
    tool.wat("begun.wasm", &begun);
    fs::write(tool.path("in"), (0..40_000_u32).flat_map(|n| n.to_le_bytes()).collect::<Vec<u8>>()).unwrap();
    let options = ["-q", "--every", "never", "--seed", "3", "--dir", ".::/", "--job"];
    let straight =
        tool.command(&[&["run"], &options[..], &["s", "straight.wasm"]].concat()).output().unwrap();
    assert!(straight.status.success() && straight.stdout.len() > 1_050_000, "{:?}", straight.status);
    let pause = ["run", "--pause-after", &fuel];
    assert_eq!(tool.run(&[&pause[..], &options[..], &["x", "begun.wasm"]].concat()).code, 75);
    let lazily = tool.command(&["resume", "-q", "x"]).output().unwrap();
    assert!(lazily.status.success(), "{lazily:?}");
    assert!(lazily.stdout == straight.stdout);
}
