//! The commands: what they print, on which stream, and with which exit code.

mod tool;

use std::fs;
use std::io::{Read, Write};
use std::process::{Command, Stdio};

use tool::{BOTH, Running, STDOUT, Told, Tool, lines, printed, printed_apart};

const FIB: &str = r#"(module
  (func $fib (export "fib") (param $n i32) (result i32)
    (if (result i32) (i32.lt_u (local.get $n) (i32.const 2))
      (then (local.get $n))
      (else (i32.add (call $fib (i32.sub (local.get $n) (i32.const 1)))
                     (call $fib (i32.sub (local.get $n) (i32.const 2)))))))
  (func (export "mixed") (param i32 i64 f32 f64) (result f64 i64)
    (f64.add (local.get 3) (f64.promote_f32 (local.get 2)))
    (i64.add (local.get 1) (i64.extend_i32_s (local.get 0)))))"#;

fn told(code: i32, out: &str, err: &str) -> Told {
    Told { code, out: out.to_string(), err: err.to_string() }
}

#[test]
fn a_function_is_called_and_its_results_printed() {
    let tool = Tool::new();
    tool.wat("fib.wasm", FIB);
    assert_eq!(tool.run(&["run", "--invoke", "fib", "fib.wasm", "20"]), told(0, "6765\n", ""));
    let mixed = ["run", "--invoke", "mixed", "fib.wasm", "-7", "0x10", "0.5", "-2e3"];
    assert_eq!(tool.run(&mixed), told(0, "-1999.5\n9\n", ""));
}

#[test]
fn pause_resume_and_what_is_said() {
    let tool = Tool::new();
    tool.wat("fib.wasm", FIB);
    let paused =
        tool.run(&["run", "--pause-after", "1000", "--id-file", "id", "--invoke", "fib", "fib.wasm", "20"]);
    let said = "wasm-ckpt: paused at fuel 1001, snapshot #; `wasm-ckpt resume fib-#` goes on\n";
    assert!(paused.code == 75 && paused.out.is_empty(), "{paused:?}");
    assert_eq!(
        paused.err.replace(|c: char| c.is_ascii_digit(), "0"),
        said.replace(|c: char| c.is_ascii_digit(), "0")
    );
    let id = fs::read_to_string(tool.path("id")).unwrap();
    assert!(id.len() == 65 && id.ends_with('\n'), "{id}");

    // By id in a file, on another instruction set; by the beginning of the id; by nothing, as it is the only one.
    let again =
        tool.run(&["resume", "@id", "--target", "pulley64", "--pause-after", "5000", "--id-file", "id2"]);
    assert!(again.code == 75 && again.err.contains("going on from fuel"), "{again:?}");
    let id2 = fs::read_to_string(tool.path("id2")).unwrap();
    let third = tool.run(&["resume", "-q", &id2[..8], "--pause-after", "9000"]);
    assert_eq!(third, told(75, "", ""));
    let last = tool.run(&["resume", "-q"]);
    assert_eq!(last, told(0, "6765\n", ""));
    // An earlier snapshot begins another job, and both have ended now.
    let fork = tool.run(&["resume", "-q", "@id"]);
    assert_eq!(fork, told(0, "6765\n", ""));
    assert_eq!(
        tool.run(&["resume"]).err,
        "error: no job waits to be resumed\n  hint: `wasm-ckpt ls` lists all jobs\n"
    );
    let jobs = tool.json(&["ls", "--json"]);
    assert_eq!(jobs.as_array().unwrap().len(), 2);
    assert!(jobs.as_array().unwrap().iter().all(|job| job["state"] == "returned"), "{jobs}");
}

#[test]
fn the_same_command_continues_and_then_starts_anew() {
    let tool = Tool::new();
    tool.wat("lines.wasm", &lines(10, 1000, STDOUT));
    let run = |more: &[&str]| tool.run(&[&["run"], more, &["lines.wasm"]].concat());
    let paused = run(&["-q", "--pause-after", "5kfuel"]);
    assert!(paused.code == 75 && printed(10).starts_with(&paused.out), "{paused:?}");
    // A pipe gets all of it; and it is said that this is the same job.
    let rest = run(&[]);
    assert_eq!((rest.code, rest.out), (0, printed(10)));
    assert!(
        rest.err.starts_with("wasm-ckpt: job `lines-#` was paused: going on from fuel 50"),
        "{}",
        rest.err
    );
    assert_eq!(run(&[]), told(0, &printed(10), ""));
    // Other arguments, another directory: another job.
    assert_eq!(run(&["-q", "--pause-after", "5000"]).code, 75);
    assert_eq!(tool.run(&["run", "lines.wasm", "x"]), told(0, &printed(10), ""));
    fs::create_dir(tool.path("sub")).unwrap();
    let elsewhere = tool.command(&["run", "../lines.wasm"]).current_dir(tool.path("sub")).output().unwrap();
    assert_eq!(tool.told(elsewhere), told(0, &printed(10), ""));
    assert_eq!(run(&["--new"]), told(0, &printed(10), ""));
}

#[test]
fn a_named_job_gives_its_stored_result() {
    let tool = Tool::new();
    tool.wat("lines.wasm", &lines(30, 100, BOTH));
    let (out, err) = printed_apart(30);
    let run = |more: &[&str]| tool.run(&[&["run", "-q", "--job", "x"], more].concat());
    let first = run(&["lines.wasm"]);
    assert_eq!((first.code, &first.out, &first.err), (0, &out, &err));
    // Another program under the name is refused, unless it is to begin anew.
    tool.wat("fib.wasm", FIB);
    let refused = run(&["--invoke", "fib", "fib.wasm", "5"]);
    assert_eq!(refused.code, 71);
    assert!(
        refused.err.starts_with("error: job `x` runs another command: module: it has #, given is #; "),
        "{}",
        refused.err
    );
    assert!(refused.err.contains("function: it has _start(), given is fib(5)"), "{}", refused.err);
    assert!(refused.err.ends_with("hint: give another `--job`, or `--new` to begin anew under this name\n"));
    // The first one's result is still there, even when its module is changed to trap.
    let again = run(&["lines.wasm"]);
    assert_eq!((again.code, &again.out, &again.err), (0, &out, &err));
    assert_eq!(run(&["--new", "--invoke", "fib", "fib.wasm", "5"]), told(0, "5\n", ""));
    assert_eq!(tool.run(&["resume", "-q", "x"]), told(0, "5\n", ""));
}

#[test]
fn output_to_files_is_neither_repeated_nor_lost() {
    let tool = Tool::new();
    tool.wat("lines.wasm", &lines(60, 1000, BOTH));
    let (out, err) = printed_apart(60);
    for joint in [false, true] {
        for append in [false, true] {
            let out_path = tool.path(&format!("out-{joint}-{append}"));
            let err_path = if joint { out_path.clone() } else { tool.path(&format!("err-{append}")) };
            if append {
                fs::write(&out_path, "before\n").unwrap();
            }
            let job = format!("j-{joint}-{append}");
            let open = |path: &std::path::Path| {
                if append {
                    fs::File::options().append(true).create(true).open(path).unwrap()
                } else {
                    fs::File::create(path).unwrap()
                }
            };
            for pause in ["7000", "14000", "33000", "999999999"] {
                let stdout = open(&out_path);
                let stderr = if joint { stdout.try_clone().unwrap() } else { open(&err_path) };
                let mut command =
                    tool.command(&["run", "-q", "--job", &job, "--pause-after", pause, "lines.wasm"]);
                let status = command.stdout(stdout).stderr(stderr).status().unwrap();
                assert_eq!(status.code(), Some(if pause == "999999999" { 0 } else { 75 }));
            }
            let head = if append { "before\n" } else { "" };
            let found = fs::read_to_string(&out_path).unwrap();
            if joint {
                assert_eq!(found, format!("{head}{}", printed(60)), "append {append}");
            } else {
                assert_eq!(found, format!("{head}{out}"), "append {append}");
                assert_eq!(fs::read_to_string(&err_path).unwrap(), err, "append {append}");
            }
        }
    }
}

#[test]
fn what_the_tool_says_into_the_programs_file_does_no_harm() {
    let tool = Tool::new();
    tool.wat("lines.wasm", &lines(100, 10_000, BOTH));
    for joint in [true, false] {
        let (out, err) = (tool.path(&format!("out-{joint}")), tool.path(&format!("err-{joint}")));
        let open = |path: &std::path::Path| fs::File::options().append(true).create(true).open(path).unwrap();
        let job = format!("j-{joint}");
        let start = |options: &[&str]| {
            let mut command = tool.command(&[&["run", "--job", &job], options, &["lines.wasm"]].concat());
            let stdout = open(&out);
            command.stderr(if joint { stdout.try_clone().unwrap() } else { open(&err) });
            Running::spawn(command.stdout(stdout))
        };
        // Killed after some snapshots, again and again; paused in between; then to the end.
        for n in 0..12 {
            let pause = (n * 130_000).to_string();
            let every = ["--every", "20kfuel"];
            let mut run = match n % 3 {
                0 => start(&["--every", "20kfuel", "--pause-after", &pause]),
                _ => start(&every),
            };
            std::thread::sleep(std::time::Duration::from_millis(150));
            if n % 3 == 0 {
                run.0.wait().unwrap();
            }
        }
        assert!(matches!(start(&[]).0.wait().unwrap().code(), Some(0)));
        let theirs = |path: &std::path::Path| {
            let text = fs::read_to_string(path).unwrap();
            let (ours, theirs): (Vec<_>, Vec<_>) = text.lines().partition(|l| l.starts_with("wasm-ckpt: "));
            assert!(path == out && !joint || !ours.is_empty(), "nothing is said in {text}");
            theirs.join("\n") + "\n"
        };
        if joint {
            assert_eq!(theirs(&out), printed(100));
        } else {
            assert_eq!((theirs(&out), theirs(&err)), printed_apart(100));
        }
    }
}

#[test]
fn what_others_append_after_a_pause_stays() {
    let tool = Tool::new();
    tool.wat("lines.wasm", &lines(20, 1000, STDOUT));
    let log = tool.path("log");
    let open = || fs::File::options().append(true).create(true).open(&log).unwrap();
    let run = |pause: &str| {
        tool.command(&["run", "-q", "--job", "x", "--pause-after", pause, "lines.wasm"])
            .stdout(open())
            .status()
            .unwrap()
    };
    assert_eq!(run("7000").code(), Some(75));
    let first = fs::read_to_string(&log).unwrap();
    open().write_all(b"another\n").unwrap();
    assert_eq!(run("999999999").code(), Some(0));
    let rest = printed(20).strip_prefix(&first).unwrap().to_string();
    assert_eq!(fs::read_to_string(&log).unwrap(), format!("{first}another\n{rest}"));
}

/// Nothing of the program's can have come behind what it knows of.
#[test]
fn what_others_append_to_its_files_after_a_pause_stays() {
    let guest = |name: &str| format!("{}/guests/wasm/{name}.wasm", env!("CARGO_MANIFEST_DIR"));
    let (filer, streams) = (guest("filer"), guest("streams"));
    let closed = [&filer, "append", "/d/log", "1\n", "spin", "3000000", "append", "/d/log", "2\n"];
    let open = [&streams, "print", "50", "100000", "/d/log"];
    let at_a_place = [&filer, "log", "/d/log", "50"];
    for (program, wanted) in [(&closed[..], 0), (&open[..], 0), (&at_a_place[..], 70)] {
        let tool = Tool::new();
        let log = tool.path("d/log");
        let read = || fs::read_to_string(&log).unwrap();
        fs::create_dir(tool.path("d")).unwrap();
        let run = |job: &str, pause: &str| {
            let args = ["run", "-q", "--job", job, "--dir", "d::/d", "--pause-after", pause];
            tool.run(&[&args[..], program].concat())
        };
        assert_eq!(run("whole", "999999999999").code, 0);
        let whole = read();
        fs::remove_file(&log).unwrap();
        assert_eq!(run("x", "2000000").code, 75, "{program:?}");
        let first = read();
        assert!(!first.is_empty() && first.len() < whole.len(), "{program:?}: {first}");
        fs::File::options().append(true).open(&log).unwrap().write_all(b"another\n").unwrap();
        let told = tool.run(&["resume", "-q", "x"]);
        assert_eq!(told.code, wanted, "{program:?}: {told:?}");
        match wanted {
            0 => assert_eq!(read(), format!("{first}another\n{}", &whole[first.len()..])),
            _ => {
                assert!(told.err.contains("it has grown since the snapshot"), "{told:?}");
                assert_eq!(read(), format!("{first}another\n"));
            }
        }
    }
}

#[test]
fn output_beyond_what_is_kept_is_missing_and_that_is_said() {
    let tool = Tool::new();
    tool.wat("lines.wasm", &lines(20, 1000, STDOUT));
    let run = |pause: &str| {
        tool.run(&["run", "--job", "x", "--keep-output", "24", "--pause-after", pause, "lines.wasm"])
    };
    let first = run("30000");
    let printed_first = first.out.len() as u64;
    assert!(first.code == 75 && printed_first > 24, "{first:?}");
    let second = run("999999999");
    let missing = printed_first - 24;
    let said =
        format!("wasm-ckpt: {missing} bytes that were printed before are not kept and are missing here\n");
    assert!(second.err.ends_with(&said), "{}", second.err);
    assert_eq!(second.out, printed(2) + &printed(20)[printed_first as usize..]);
}

#[test]
fn exported_and_imported() {
    let tool = Tool::new();
    tool.wat("lines.wasm", &lines(20, 1000, STDOUT));
    assert_eq!(tool.run(&["run", "-q", "--job", "x", "--pause-after", "9000", "lines.wasm"]).code, 75);
    assert_eq!(tool.run(&["export", "x", "-o", "x.ckpt"]), told(0, "", ""));
    let printed_out = tool.command(&["export", "x", "-o", "-"]).output().unwrap();
    assert!(printed_out.stdout == fs::read(tool.path("x.ckpt")).unwrap() && !tool.path("-").exists());
    let piped = tool.command(&["export", "x"]).output().unwrap();
    assert!(piped.stdout == fs::read(tool.path("x.ckpt")).unwrap());

    // Into another store: as a file, through a pipe, and by import.
    let other = |store: &str, args: &[&str]| {
        let mut command = tool.command(args);
        command.env("WASM_CKPT_STORE", tool.path(store));
        command
    };
    let file = tool.told(other("other", &["resume", "-q", "x.ckpt"]).output().unwrap());
    assert_eq!(file, told(0, &printed(20), ""));
    let mut child =
        other("third", &["resume", "-q", "-"]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(&piped.stdout).unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!((output.status.code(), String::from_utf8(output.stdout).unwrap()), (Some(0), printed(20)));
    let import = || tool.told(other("fourth", &["import", "x.ckpt"]).output().unwrap());
    assert_eq!(import(), told(0, "import-#\n", ""));
    assert_eq!(import(), told(0, "import-#\n", ""));
    let resumed = other("fourth", &["resume", "-q"]).output().unwrap();
    assert_eq!(tool.told(resumed), told(0, &printed(20), ""));

    // Cut short or damaged: nothing is taken over.
    let whole = piped.stdout;
    for (name, bytes) in [("cut", &whole[..whole.len() - 9]), ("none", b"not a snapshot"), ("empty", b"")] {
        fs::write(tool.path(name), bytes).unwrap();
        let refused = tool.told(other("fifth", &["import", name]).output().unwrap());
        assert_eq!(refused.code, 68, "{name}: {refused:?}");
        assert!(
            refused.err.starts_with(&format!("error: cannot import `{name}`\n  caused by: ")),
            "{}",
            refused.err
        );
    }
    assert_eq!(tool.told(other("fifth", &["ls"]).output().unwrap()), told(0, "", ""));
    assert!(tool.told(other("fifth", &["verify"]).output().unwrap()).out.starts_with("0 jobs, 0 snapshots"));
    // A job that has ended has nothing to be resumed from.
    assert_eq!(tool.run(&["resume", "-q", "x"]).code, 0);
    let ended = tool.run(&["export", "x"]);
    assert_eq!(ended, told(66, "", "error: job `x` has ended: exit 0\n"));
}

#[test]
fn directories_of_another_host_are_not_opened_unasked() {
    let tool = Tool::new();
    tool.wat("lines.wasm", &lines(20, 1000, STDOUT));
    fs::create_dir(tool.path("data")).unwrap();
    let args = ["run", "-q", "--job", "x", "--dir", "data::/data", "--pause-after", "9000", "lines.wasm"];
    assert_eq!(tool.run(&args).code, 75);
    assert_eq!(tool.run(&["export", "x", "-o", "x.ckpt"]).code, 0);
    assert_eq!(tool.run(&["rm", "x"]).code, 0);
    let refused = tool.run(&["resume", "x.ckpt"]);
    assert_eq!(refused.code, 70);
    let said = "  caused by: snapshot # comes from another host, and its program uses the directory `/data`\n  \
                hint: say where they are here: `--dir HOST::GUEST` for each\n";
    assert!(
        refused.err.contains("comes from another host, and its program uses the directory `/data`\n"),
        "{}",
        refused.err
    );
    assert!(
        refused.err.ends_with(said.lines().last().map(|l| format!("{l}\n")).unwrap().as_str()),
        "{}",
        refused.err
    );
    assert_eq!(tool.run(&["resume", "-q", "x.ckpt", "--dir", "data::/data"]), told(0, &printed(20), ""));
}

#[test]
fn nor_by_a_second_job_that_begins_with_the_same_snapshot() {
    let tool = Tool::new();
    tool.wat("lines.wasm", &lines(20, 1000, STDOUT));
    fs::create_dir(tool.path("data")).unwrap();
    let args =
        ["run", "-q", "--job", "x", "--dir", "data::/data", "--pause-after", "9000", "--id-file", "id"];
    assert_eq!(tool.run(&[&args[..], &["lines.wasm"]].concat()).code, 75);
    // What was made here is believed.
    assert_eq!(tool.run(&["resume", "-q", "--job", "y", "@id"]), told(0, &printed(20), ""));
    assert_eq!(tool.run(&["export", "x", "-o", "x.ckpt"]).code, 0);
    assert_eq!(tool.run(&["rm", "x"]).code, 0);
    assert_eq!(tool.run(&["import", "--job", "i", "x.ckpt"]).code, 0);
    for job in ["one", "two"] {
        let refused = tool.run(&["resume", "--job", job, "@id"]);
        assert_eq!(refused.code, 70, "{refused:?}");
        assert!(refused.err.contains("comes from another host"), "{}", refused.err);
    }
    let given = ["resume", "-q", "one", "--dir", "data::/data"];
    assert_eq!(tool.run(&given), told(0, &printed(20), ""));
}

#[test]
fn listed_inspected_verified_and_removed() {
    let tool = Tool::new();
    assert_eq!(tool.run(&["ls"]), told(0, "", "wasm-ckpt: there is no store in `%/store` yet\n"));
    assert!(!tool.path("store").exists(), "looking makes no store");
    tool.wat("lines.wasm", &lines(200, 1000, STDOUT));
    assert_eq!(
        tool.run(&["run", "-q", "--job", "x", "--every", "20kfuel", "--pause-after", "99000", "lines.wasm"])
            .code,
        75
    );
    let listed = tool.run(&["ls"]);
    let rows: Vec<&str> = listed.out.lines().collect();
    assert!(
        rows[0].starts_with("JOB  STATE   FUEL") && rows[1].starts_with("x    paused  99"),
        "{}",
        listed.out
    );
    let list = tool.json(&["ls", "--snapshots", "x", "--json"]);
    let fuel: Vec<u64> =
        list.as_array().unwrap().iter().map(|s| s["fuel"].as_u64().unwrap() / 1000).collect();
    assert_eq!(fuel, [20, 40, 60, 80, 99]);
    for snapshot in list.as_array().unwrap() {
        let number = |name: &str| snapshot[name].as_u64().unwrap_or_else(|| panic!("{name} in {snapshot}"));
        assert!(number("pause_us") <= number("durable_us"), "{snapshot}");
        assert!(
            (1..=16).contains(&(number("dirty_bytes") / 4096)) && number("stored_bytes") > 0,
            "{snapshot}"
        );
        let sources = ["write-protection", "soft-dirty", "compare"];
        assert!(sources.contains(&snapshot["dirty_source"].as_str().unwrap()), "{snapshot}");
    }
    let table = tool.run(&["ls", "--snapshots", "x"]).out;
    assert_eq!(table.lines().count(), 6);
    let columns: Vec<&str> = table.lines().next().unwrap().split_whitespace().collect();
    assert_eq!(columns.join(" "), "SNAPSHOT FUEL TAKEN MEMORY DIRTY STORED PAUSE DURABLE DIRTY BY");

    let shown = tool.run(&["inspect", "x"]);
    assert_eq!(shown.code, 0, "{shown:?}");
    for part in [
        "call       _start()\n",
        "cost       ",
        " pause, ",
        ", durable after ",
        "memory     0: 65536 bytes, 1 of 16 pages not zero\n",
        "  #0 spin (",
        "local 0 n = i32 ",
        "stdout     ",
    ] {
        assert!(shown.out.contains(part), "{part} in {}", shown.out);
    }
    let json = tool.json(&["inspect", "--json", "x"]);
    assert_eq!(json["frames"][0]["name"], "spin");
    assert_eq!(json["memories"][0]["len"], 65536);
    assert!(json["stdout"]["written"].as_u64().unwrap() > 100);

    let verified = tool.run(&["verify"]);
    assert!(verified.code == 0 && verified.out.ends_with("everything is whole\n"), "{verified:?}");
    assert!(verified.out.starts_with("1 jobs, 5 snapshots, 1 modules, "), "{}", verified.out);
    assert!(tool.run(&["verify", "x"]).out.starts_with("snapshot # is whole: "));

    let removed = tool.run(&["rm", "x"]);
    assert!(
        removed.code == 0 && removed.err.starts_with("wasm-ckpt: removed 1 jobs, 5 snapshots, "),
        "{removed:?}"
    );
    assert_eq!(
        tool.run(&["verify"]).out,
        "0 jobs, 0 snapshots, 0 modules, 0 packs with 0 chunks (0 bytes)\neverything is whole\n"
    );
    assert_eq!(tool.run(&["rm", "x"]).code, 66);
    assert_eq!(tool.run(&["rm"]).code, 2);
}

#[test]
fn removing_one_job_leaves_the_others_whole() {
    let tool = Tool::new();
    tool.wat("lines.wasm", &lines(200, 1000, STDOUT));
    for job in ["a", "b", "c"] {
        assert_eq!(tool.run(&["run", "-q", "--job", job, "--pause-after", "99000", "lines.wasm"]).code, 75);
    }
    assert_eq!(tool.run(&["resume", "-q", "b"]).code, 0);
    assert_eq!(tool.run(&["rm", "a"]).code, 0);
    assert!(tool.run(&["verify"]).out.ends_with("everything is whole\n"));
    assert_eq!(tool.run(&["resume", "-q", "c"]), told(0, &printed(200), ""));
    assert_eq!(tool.run(&["run", "-q", "--job", "b", "lines.wasm"]), told(0, &printed(200), ""));
    // What is not to be removed does not keep the rest: one that is running, and one whose log is damaged.
    assert_eq!(tool.run(&["run", "-q", "--job", "d", "--pause-after", "99000", "lines.wasm"]).code, 75);
    for entry in fs::read_dir(tool.path("store/objects/jobs/d/log")).unwrap() {
        fs::write(entry.unwrap().path(), b"{").unwrap();
    }
    let removed = tool.run(&["rm", "--ended"]);
    assert!(removed.err.starts_with("wasm-ckpt: job `d` is left: "), "{removed:?}");
    assert!(tool.run(&["ls"]).out.lines().skip(1).all(|line| line.starts_with("d ")));
    assert_eq!(tool.run(&["rm", "d"]).code, 0);
    assert_eq!(tool.run(&["ls"]), told(0, "", ""));
}

/// A program that reads standard input to its end, and prints it.
const CAT: &str = r#"(module
  (import "wasi_snapshot_preview1" "fd_read" (func $read (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (func (export "_start")
    (loop $l
      (i32.store (i32.const 0) (i32.const 64))
      (i32.store (i32.const 4) (i32.const 10))
      (drop (call $read (i32.const 0) (i32.const 0) (i32.const 1) (i32.const 8)))
      (i32.store (i32.const 4) (i32.load (i32.const 8)))
      (drop (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 12)))
      (br_if $l (i32.load (i32.const 4))))))"#;

#[test]
fn a_job_that_reads_a_file_moves_with_a_copy_of_it() {
    let tool = Tool::new();
    tool.wat("cat.wasm", CAT);
    let text: String = (0..100).map(|n| format!("{n:09}\n")).collect();
    fs::write(tool.path("input"), &text).unwrap();
    fs::write(tool.path("copy"), &text).unwrap();
    let copied = std::time::SystemTime::now() + std::time::Duration::from_secs(1);
    fs::File::options().write(true).open(tool.path("copy")).unwrap().set_modified(copied).unwrap();
    let with = |input: &str, args: &[&str]| {
        let file = fs::File::open(tool.path(input)).unwrap();
        tool.told(tool.command(args).stdin(file).output().unwrap())
    };
    let run = with("input", &["run", "-q", "--job", "c", "--pause-after", "1000", "cat.wasm"]);
    assert!(run.code == 75 && text.starts_with(&run.out) && run.out.len() < text.len(), "{run:?}");
    for args in [["resume", "-q", "c"].as_slice(), &["run", "-q", "--job", "c", "cat.wasm"]] {
        let refused = with("copy", args);
        assert_eq!((refused.code, refused.out.as_str()), (70, ""), "{refused:?}");
        assert!(refused.err.contains("the file has changed since the snapshot"), "{}", refused.err);
        assert!(refused.err.ends_with("or take this one as it is with `--force`\n"), "{}", refused.err);
    }
    let none = tool.run(&["resume", "-q", "c"]);
    assert!(none.code == 70 && none.err.contains("hint: redirect the file to it"), "{none:?}");
    let forced = with("copy", &["resume", "-q", "--force", "c", "--pause-after", "2000"]);
    assert_eq!(forced.code, 75, "{forced:?}");
    // From then on it is the file.
    assert_eq!(with("copy", &["resume", "-q", "c"]), told(0, &text, ""));
}

#[test]
fn the_memory_that_wasi_sees_is_the_exported_one() {
    let tool = Tool::new();
    let text = lines(20, 1000, STDOUT)
        .replace("(memory (export", "(memory $own 1) (memory $shown (export")
        .replace("(data (i32.const", "(data (memory $shown) (i32.const")
        .replace("i32.store8 (local", "i32.store8 $shown (local")
        .replace("i32.store (i32", "i32.store $shown (i32");
    tool.wat("two.wasm", &text);
    assert_eq!(tool.run(&["run", "-q", "--job", "a", "two.wasm"]), told(0, &printed(20), ""));
    assert_eq!(tool.run(&["run", "-q", "--job", "b", "--pause-after", "9000", "two.wasm"]).code, 75);
    assert_eq!(tool.run(&["resume", "-q", "b"]), told(0, &printed(20), ""));
}

#[test]
fn an_id_that_cannot_be_written_is_said_before_or_does_not_hide_that_it_is_paused() {
    let tool = Tool::new();
    tool.wat("lines.wasm", &lines(200, 1000, STDOUT));
    let run = |id: &str| {
        tool.run(&["run", "--job", "x", "--new", "--pause-after", "9000", "--id-file", id, "lines.wasm"])
    };
    let refused = run("none/id");
    assert!(refused.code == 2 && refused.err.contains("hint: `--id-file FILE` takes a file"), "{refused:?}");
    std::os::unix::fs::symlink("none/id", tool.path("id")).unwrap();
    let paused = run("id");
    assert!(paused.code == 75 && paused.err.contains("paused at fuel"), "{paused:?}");
    assert!(paused.err.contains("error: cannot write `id`"), "{paused:?}");
}

#[test]
fn traps_and_exit_codes_are_the_guests() {
    let tool = Tool::new();
    tool.wat("trap.wasm", r#"(module (func $inner unreachable) (func (export "_start") call $inner))"#);
    let trapped = tool.run(&["run", "--job", "t", "trap.wasm"]);
    assert_eq!(trapped.code, 134);
    assert!(
        trapped.err.starts_with(
            "error: the program trapped: wasm `unreachable` instruction executed\n  at inner (byte 0x"
        ),
        "{}",
        trapped.err
    );
    // The same, told from the store.
    let again = tool.run(&["run", "-q", "--job", "t", "trap.wasm"]);
    assert_eq!((again.code, again.err), (134, trapped.err));
    for (code, seen) in [(0, 0), (7, 7), (75, 75), (256 + 3, 3)] {
        tool.wat(
            "exit.wasm",
            &format!(
                r#"(module (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
               (func (export "_start") (call $exit (i32.const {code}))))"#
            ),
        );
        assert_eq!(tool.run(&["run", "exit.wasm"]), told(seen, "", ""));
    }
}

#[test]
fn canonical_nans_stay_the_jobs() {
    let tool = Tool::new();
    let text = r#"(module (func (export "nan") (param $n i32) (result i64) (local $x f64)
        (loop $l
          (local.set $x (f64.div (local.get $x) (f64.const 0)))
          (br_if $l (local.tee $n (i32.sub (local.get $n) (i32.const 1)))))
        (i64.shr_u (i64.reinterpret_f64 (local.get $x)) (i64.const 48))))"#;
    tool.wat("nan.wasm", text);
    let run = ["run", "--job", "x", "--pause-after", "100", "--quiet", "--canonical-nans", "--invoke", "nan"];
    assert_eq!(tool.run(&[&run[..], &["nan.wasm", "1000"]].concat()).code, 75);
    assert_eq!(tool.json(&["inspect", "x", "--json"])["canonical_nans"], true);
    // The positive one, where x86 makes a negative one.
    assert_eq!(tool.run(&["resume", "x", "--quiet"]), told(0, &format!("{}\n", 0x7ff8), ""));
    let run = ["run", "--job", "y", "--pause-after", "100", "--quiet", "--invoke", "nan", "nan.wasm", "1000"];
    assert_eq!(tool.run(&run).code, 75);
    assert_eq!(tool.json(&["inspect", "y", "--json"])["canonical_nans"], false);
}

#[test]
fn a_job_of_an_older_cost_model_goes_on_with_it() {
    use wasm_ckpt::instrument::{OLDEST_COST_MODEL, Options as Rewrite};
    use wasm_ckpt::store::Local;
    use wasm_ckpt::{Engine, Jobs, Options, Outcome, Settings, Spec};

    let tool = Tool::new();
    let wasm = wat::parse_str(lines(9, 1000, STDOUT)).unwrap();
    let rewrite = Rewrite { cost_model: OLDEST_COST_MODEL, ..Rewrite::default() };
    let module = Engine::new(Settings { rewrite, ..Settings::default() }).unwrap().compile(&wasm).unwrap();
    let paused = |name: &str, fuel| {
        let jobs = Jobs::new(std::sync::Arc::new(Local::open(tool.path("store")).unwrap()));
        let mut job = jobs.hold(&name.parse().unwrap()).unwrap();
        job.begin(&wasm, Spec { seed: Some([1; 32]), ..Spec::program(module.id(), "small.wasm") }).unwrap();
        let outcome =
            job.run(&module, Options { pause_after: Some(fuel), ..Options::default() }).unwrap().advance();
        let Ok(Outcome::Paused { snapshot, .. }) = outcome else { panic!("{outcome:?}") };
        snapshot
    };
    let straight = paused("straight", 20_000);
    paused("old", 5_000);
    let resumed = tool.run(&["resume", "old", "--pause-after", "20000", "--quiet", "--id-file", "id"]);
    assert_eq!(resumed.code, 75, "{resumed:?}");
    assert_eq!(std::fs::read_to_string(tool.path("id")).unwrap().trim(), straight.to_string());
    let state = tool.json(&["inspect", "old", "--json"]);
    assert_eq!(state["cost_model"], 1, "{state}");
    assert_eq!(tool.run(&["resume", "old", "--quiet"]), told(0, &printed(9), ""));
}

#[test]
fn a_signal_pauses_and_a_second_ends_at_once() {
    let tool = Tool::new();
    tool.wat("endless.wasm", r#"(module (func (export "_start") (loop $l (br $l))))"#);
    for signal in ["INT", "TERM"] {
        let mut command = tool.command(&["run", "--job", "x", "endless.wasm"]);
        let mut child = Running::spawn(command.stderr(Stdio::piped()));
        wait_until_claimed(&tool, "x");
        child.signal(signal);
        let code = child.0.wait().unwrap().code();
        let mut err = String::new();
        child.0.stderr.take().unwrap().read_to_string(&mut err).unwrap();
        assert_eq!(code, Some(75), "{signal}: {err}");
        assert!(err.contains("wasm-ckpt: paused at fuel "), "{err}");
    }
    assert_eq!(tool.json(&["ls", "--json"])[0]["state"], "paused");
    // One that waits for a reader can be paused as well.
    tool.wat("lines.wasm", &lines(1_000_000, 10, STDOUT));
    let mut command = tool.command(&["run", "-q", "--job", "y", "lines.wasm"]);
    let mut child = Running::spawn(command.stdout(Stdio::piped()));
    wait_until_claimed(&tool, "y");
    child.signal("TERM");
    assert_eq!(child.0.wait().unwrap().code(), Some(75));
    // One that has ended, and only delivers what it has held back, leaves the rest to the next.
    tool.wat("few.wasm", &lines(20_000, 10, STDOUT));
    let exact = ["run", "-q", "--job", "z", "--every", "never", "--output", "exactly-once", "few.wasm"];
    let mut child = Running::spawn(tool.command(&exact).stdout(Stdio::piped()).stderr(Stdio::piped()));
    child.0.stdout.as_mut().unwrap().read_exact(&mut [0]).unwrap();
    wait_for(&tool, "z", |state| state != "running");
    child.signal("TERM");
    assert_eq!(child.0.wait().unwrap().code(), Some(75));
    let mut err = String::new();
    child.0.stderr.take().unwrap().read_to_string(&mut err).unwrap();
    assert!(err.contains("the same command writes the rest"), "{err}");
    // What is printed again of a job that has ended as well.
    for (output, hint) in [("exactly-once", "writes the rest"), ("at-once", "writes it again")] {
        let again = ["run", "-q", "--job", "z", "--output", output, "few.wasm"];
        let mut command = tool.command(&again);
        let mut child = Running::spawn(command.stdout(Stdio::piped()).stderr(Stdio::piped()));
        child.0.stdout.as_mut().unwrap().read_exact(&mut [0]).unwrap();
        child.signal("TERM");
        assert_eq!(child.0.wait().unwrap().code(), Some(75));
        let mut err = String::new();
        child.0.stderr.take().unwrap().read_to_string(&mut err).unwrap();
        assert!(err.contains(hint), "{err}");
    }
    assert_eq!(tool.run(&exact), told(0, &printed(20_000), ""));
    // One that is paused, and cannot tell where, is ended by a second.
    assert!(Command::new("mkfifo").arg(tool.path("id")).status().unwrap().success());
    let mut child =
        Running::spawn(&mut tool.command(&["run", "-q", "--job", "w", "--id-file", "id", "endless.wasm"]));
    wait_until_claimed(&tool, "w");
    child.signal("TERM");
    wait_for(&tool, "w", |state| state != "running");
    std::thread::sleep(std::time::Duration::from_millis(200));
    assert!(child.0.try_wait().unwrap().is_none());
    child.signal("TERM");
    let status = child.0.wait().unwrap();
    assert_eq!(status.code(), Some(143), "{status:?}");
}

/// Waits until a process runs the job.
fn wait_until_claimed(tool: &Tool, job: &str) {
    wait_for(tool, job, |state| state == "running");
    // Signals are handled before the job is claimed; its log says when that was.
    std::thread::sleep(std::time::Duration::from_millis(200));
}

/// Waits until the job stands like that.
fn wait_for(tool: &Tool, job: &str, stands: impl Fn(&str) -> bool) {
    for _ in 0..500 {
        let jobs = tool.json(&["ls", "--json"]);
        if jobs.as_array().unwrap().iter().any(|j| j["job"] == job && stands(j["state"].as_str().unwrap())) {
            return;
        }
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    panic!("job {job} does not come to that");
}

#[test]
fn a_closed_pipe_is_no_error() {
    let tool = Tool::new();
    tool.wat("lines.wasm", &lines(20, 1000, STDOUT));
    assert_eq!(tool.run(&["run", "-q", "--job", "x", "--pause-after", "9000", "lines.wasm"]).code, 75);
    for (args, code) in [(["ls", "--json"], 0), (["export", "x"], 141), (["inspect", "x"], 0)] {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let output = tool.command(&args).stdout(writer).output().unwrap();
        assert_eq!((output.status.code(), output.stderr.len()), (Some(code), 0), "{args:?}");
    }
}

#[test]
fn help_teaches() {
    let tool = Tool::new();
    let help = tool.run(&["--help"]);
    for part in ["run", "resume", "Exit codes:", "75  paused", "WASM_CKPT_STORE"] {
        assert!(help.code == 0 && help.out.contains(part), "{part} in {}", help.out);
    }
    for command in ["run", "resume", "output", "ls", "inspect", "verify", "export", "import", "rm"] {
        let help = tool.run(&[command, "--help"]);
        assert!(help.code == 0 && help.out.contains("Examples:\n  "), "{command}: {}", help.out);
    }
    assert_eq!(tool.run(&["fly"]).code, 2);
    assert_eq!(tool.run(&["run"]).code, 2);
    assert_eq!(tool.run(&["run", "--every", "30", "x.wasm"]).code, 2);
}

#[test]
fn what_is_no_file_is_written_to_and_what_is_one_is_for_its_owner() {
    use std::os::unix::fs::{FileTypeExt, PermissionsExt, symlink};
    let tool = Tool::new();
    tool.wat("lines.wasm", &lines(10, 1000, STDOUT));
    let paused = tool.run(&["run", "-q", "--job", "x", "--pause-after", "2000", "lines.wasm"]);
    assert_eq!(paused.code, 75, "{paused:?}");
    let whole = tool.command(&["export", "x"]).output().unwrap().stdout;
    let fifo = tool.path("fifo");
    assert!(Command::new("mkfifo").arg(&fifo).status().unwrap().success());
    let mut export = Running::spawn(&mut tool.command(&["export", "x", "-o", "fifo"]));
    let started = fs::File::options().read(true).write(true).open(&fifo).unwrap();
    let reader = fs::File::open(&fifo).unwrap();
    let mut read = vec![0; whole.len()];
    // Held open for writing as well: if it were replaced, there would be no end and nothing to read.
    let reading = std::thread::spawn(move || (&reader).read_exact(&mut read).map(|()| read));
    assert!(export.0.wait().unwrap().success());
    assert!(fs::symlink_metadata(&fifo).unwrap().file_type().is_fifo(), "it was replaced");
    assert!(reading.join().unwrap().unwrap() == whole);
    drop(started);

    fs::write(tool.path("there"), "before").unwrap();
    symlink("there", tool.path("link")).unwrap();
    assert_eq!(tool.run(&["export", "x", "-o", "link"]).code, 0);
    assert!(fs::read(tool.path("there")).unwrap() == whole);
    assert!(fs::symlink_metadata(tool.path("link")).unwrap().is_symlink());
    assert_eq!(fs::metadata(tool.path("there")).unwrap().permissions().mode() & 0o777, 0o600);
}

#[test]
fn a_reader_that_has_gone_is_not_taken_for_success() {
    let tool = Tool::new();
    tool.wat("lines.wasm", &lines(10, 1000, STDOUT));
    let run = ["run", "-q", "--job", "x", "--disk", "/w=d", "--pause-after", "2000", "lines.wasm"];
    fs::create_dir(tool.path("d")).unwrap();
    fs::write(tool.path("d/f"), "content").unwrap();
    assert_eq!(tool.run(&run).code, 75);
    let code = |args: &[&str]| {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        tool.command(args).stdout(writer).status().unwrap().code()
    };
    assert_eq!([code(&["export", "x"]), code(&["cp", "x:/w/f", "-"])], [Some(141); 2]);
    // What was found counts, not whether it was read.
    assert_eq!([code(&["verify"]), code(&["ls"])], [Some(0); 2]);
    let packs = tool.path("store/objects/packs");
    let mut dirs = vec![packs];
    while let Some(dir) = dirs.pop() {
        for entry in fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                dirs.push(path);
            } else {
                let mut bytes = fs::read(&path).unwrap();
                let middle = bytes.len() / 2;
                bytes[middle] ^= 1;
                fs::write(path, bytes).unwrap();
            }
        }
    }
    assert_eq!([tool.run(&["verify"]).code, code(&["verify"]).unwrap()], [68; 2]);
}
