//! Private disks, by the command: filled, killed, moved, looked into, written out; what they hold is of the same
//! instant as the memory.

mod tool;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use tool::{Running, Tool, wait_until};

fn guest(name: &str) -> String {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("guests/wasm").join(name);
    path.to_str().unwrap().to_string()
}

/// Exit code, output and errors, with all their digits.
fn run(tool: &Tool, args: &[&str]) -> (i32, String, String) {
    let output = tool.command(args).output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
}

fn ok(tool: &Tool, args: &[&str]) -> String {
    let (code, out, err) = run(tool, args);
    assert_eq!(code, 0, "{args:?}: {out}{err}");
    out
}

/// The directory's files, symbolic links and directories, with their content.
fn tree(dir: &Path) -> String {
    let script = "find . -mindepth 1 \\( -type f -printf '%P %s ' -exec sha256sum {} \\; \\) -o -printf '%P %y %l\\n' \
                  | sed 's/  .*//' | LC_ALL=C sort";
    let output = Command::new("sh").args(["-c", script]).current_dir(dir).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// Something of everything.
fn make_source(dir: &Path) {
    fs::create_dir_all(dir.join("sub/empty")).unwrap();
    fs::write(dir.join("a"), "hello\n").unwrap();
    fs::write(dir.join("sub/b"), [b'x'; 10_000]).unwrap();
    fs::write(dir.join("sub/zeros"), [0; 100_000]).unwrap();
    fs::hard_link(dir.join("a"), dir.join("sub/a2")).unwrap();
    std::os::unix::fs::symlink("sub/b", dir.join("link")).unwrap();
}

#[test]
fn it_is_filled_used_listed_copied_and_written_out() {
    let tool = Tool::new();
    let filer = guest("filer.wasm");
    make_source(&tool.path("source"));
    let mut tar = Command::new("tar");
    tar.args(["-C", "source", "-cf", "source.tar", "."]).current_dir(tool.dir.path());
    assert!(tar.status().unwrap().success());
    let script = [
        &filer[..],
        "cat",
        "/w/a",
        "append",
        "/w/a",
        "more\n",
        "mkdir",
        "/w/new",
        "write",
        "/w/new/x",
        "text",
        "mv",
        "/w/sub/b",
        "/w/new/moved",
        "rm",
        "/w/sub/zeros",
        "stat",
        "/w/sub/a2",
        "ls",
        "/w",
        "ls",
        "/w/sub",
    ];
    let printed = "hello\n/w/sub/a2 11 bytes, 2 links\na\nlink\nnew\nsub\na2\nempty\n";
    let mut lists = vec![];
    for (job, source) in [("d", "/w=source"), ("t", "/w=source.tar")] {
        let args = [&["run", "--job", job, "--disk", source, "--sync-out", "out"], &script[..]].concat();
        let (code, out, err) = run(&tool, &args);
        assert_eq!((code, &out[..]), (0, printed), "{err}");
        assert!(err.contains("disk `/w`: 3 changed files, 10015 bytes, are written out"), "{err}");

        // Written out is what has changed, under whatever name, and nothing else.
        let written = tree(&tool.path("out"));
        let names: Vec<&str> = written.lines().map(|line| line.split(' ').next().unwrap()).collect();
        assert_eq!(names, ["a", "new", "new/moved", "new/x", "sub", "sub/a2"], "{written}");
        assert_eq!(fs::read_to_string(tool.path("out/sub/a2")).unwrap(), "hello\nmore\n");
        fs::remove_dir_all(tool.path("out")).unwrap();

        assert_eq!(ok(&tool, &["cp", &format!("{job}:/w/a"), "-"]), "hello\nmore\n");
        ok(&tool, &["cp", &format!("{job}:/w"), "copy"]);
        assert_eq!(fs::read(tool.path("copy/new/moved")).unwrap(), [b'x'; 10_000]);
        assert_eq!(fs::read_link(tool.path("copy/link")).unwrap(), Path::new("sub/b"));
        lists.push(tree(&tool.path("copy")));
        fs::remove_dir_all(tool.path("copy")).unwrap();
        let files = tool.json(&["files", "--json", job, "/w/new"]);
        let of = |n: usize, key: &str| files[n][key].clone();
        assert_eq!((of(1, "path"), of(1, "size")), ("/w/new/moved".into(), 10_000.into()), "{files}");
        assert_eq!(files.as_array().unwrap().len(), 3, "{files}");
    }
    assert_eq!(lists[0], lists[1], "from a directory, and from an archive");
    // The directory that it was filled from is as it was.
    assert_eq!(fs::read_to_string(tool.path("source/a")).unwrap(), "hello\n");
}

#[test]
fn what_cannot_be_is_refused_with_the_next_step() {
    let tool = Tool::new();
    let filer = guest("filer.wasm");
    fs::write(tool.path("source.tgz"), [0x1f, 0x8b, 8, 0]).unwrap();
    fs::write(tool.path("no.tar"), [7; 4096]).unwrap();
    for (args, code, what) in [
        (&["run", "--disk", "/w=missing", &filer][..], 66, "takes a directory or a tar archive that exists"),
        (&["run", "--disk", "/w=source.tgz", &filer], 1, "compressed; unpack it first"),
        (&["run", "--disk", "/w=no.tar", &filer], 1, "the disk `/w` cannot be filled"),
        (&["run", "--disk", "/w", "--disk", "/w", &filer], 1, "there is another directory with the name"),
        (&["run", "--dir", ".::/w", "--disk", "/w", &filer], 1, "there is another directory with the name"),
        (&["run", "--disk", "", &filer], 2, "give GUEST"),
        (&["run", "--disk", "/w", "--disk-limit", "4X", &filer], 2, "give a number of bytes"),
        (&["run", "--sync-out", "out", &filer], 2, "`--disk` gives it one"),
        (&["run", "--disk", "/v", "--disk", "/w", "--sync-out", "out", &filer], 2, "`/v`, `/w`: say which"),
        (&["run", "--disk", "/w", "--sync-out", "/v=out", &filer], 2, "no private disk `/v`, but `/w`"),
        (&["files", "none"], 66, "`wasm-ckpt ls`"),
        (&["cp", "none", "-"], 2, "write it as JOB:/PATH"),
    ] {
        let (found, out, err) = run(&tool, args);
        assert!(found == code && err.contains(what), "{args:?}: {found} {out}{err}");
    }
    ok(&tool, &["run", "--job", "j", "--disk", "/w", &filer, "write", "/w/a", "1", "mkdir", "/w/d"]);
    for (args, code, what) in [
        (&["files", "j", "/w/none"][..], 66, "its disks are `/w`"),
        (&["cp", "j:/w/none", "-"], 66, "`wasm-ckpt files JOB`"),
        (&["cp", "j:/w/d", "-"], 2, "is a directory"),
        (&["cp", "j:/w", "store"], 1, "cannot make the directory `store`"),
    ] {
        let (found, out, err) = run(&tool, args);
        assert!(found == code && err.contains(what), "{args:?}: {found} {out}{err}");
    }
    ok(&tool, &["run", "--job", "two", "--disk", "/a", "--disk", "/ab", &filer, "write", "/a/x", "1"]);
    let (code, _, err) = run(&tool, &["cp", "two:/", "out"]);
    assert!(code == 2 && err.contains("copy each of them"), "{err}");
    ok(&tool, &["cp", "two:/a", "out"]);
    assert_eq!(fs::read_to_string(tool.path("out/x")).unwrap(), "1");
    // The guest is told when its disk is full, and all else stays.
    let full =
        ["run", "--disk", "/w", "--disk-limit", "8K", &filer, "write", "/w/a", "1", "write", "/w/b", "2"];
    let (code, out, _) = run(&tool, &[&full[..], &["write", "/w/c", "3"]].concat());
    assert_eq!((code, &out[..]), (1, "write : No space left on device\n"));
}

#[test]
fn it_goes_back_with_the_memory() {
    let tool = Tool::new();
    let filer = guest("filer.wasm");
    make_source(&tool.path("source"));
    let script = [
        "hold",
        "/w/a",
        "rm",
        "/w/a",
        "append",
        "/w/log",
        "one\n",
        "spin",
        "100000000",
        "append",
        "/w/log",
        "two\n",
    ];
    let tail = ["held", "cat", "/w/log", "ls", "/w"];
    let args = [&["run", "--job", "j", "--disk", "/w=source", &filer], &script[..], &tail].concat();
    let pause = |fuel: &'static str| [&["run", "--pause-after", fuel], &args[1..]].concat();
    assert_eq!(run(&tool, &pause("1000000")).0, 75);
    // Of what it was filled from nothing is needed any more.
    fs::remove_dir_all(tool.path("source")).unwrap();
    fs::create_dir(tool.path("source")).unwrap();
    assert_eq!(ok(&tool, &["cp", "j:/w/log", "-"]), "one\n");
    // Killed after the second line was written, it knows nothing of it.
    let running = Running::spawn(tool.command(&args).stdout(Stdio::null()).stderr(Stdio::null()));
    std::thread::sleep(Duration::from_millis(300));
    running.signal("KILL");
    drop(running);
    let out = ok(&tool, &args);
    assert_eq!(out, "hello\none\ntwo\nlink\nlog\nsub\n");
}

#[test]
fn it_moves_with_the_job_and_forks_with_it() {
    let tool = Tool::new();
    let filer = guest("filer.wasm");
    let first = ["run", "--job", "j", "--disk", "/w", "--pause-after", "1000000", "--id-file", "id", &filer];
    let script = ["write", "/w/a", "one\n", "spin", "2000000", "append", "/w/a", "two\n", "cat", "/w/a"];
    assert_eq!(run(&tool, &[&first[..], &script].concat()).0, 75);
    let there = Tool::new();
    ok(&tool, &["export", "j", "-o", "j.ckpt"]);
    fs::rename(tool.path("j.ckpt"), there.path("j.ckpt")).unwrap();
    let pulley = ["resume", "--target", "pulley64", "--job", "k", "--sync-out", "out", "j.ckpt"];
    assert_eq!(ok(&there, &pulley), "one\ntwo\n");
    assert_eq!(fs::read_to_string(there.path("out/a")).unwrap(), "one\ntwo\n");
    assert_eq!(ok(&there, &["cp", "k:/w/a", "-"]), "one\ntwo\n");
    // At home the job and a fork of it each have a disk of their own.
    assert_eq!(ok(&tool, &["resume", "j"]), "one\ntwo\n");
    assert_eq!(ok(&tool, &["resume", "--job", "f", "@id"]), "one\ntwo\n");
    // What an ended job has on its disk outlives its snapshots.
    ok(&tool, &["rm", "f"]);
    assert_eq!(ok(&tool, &["cp", "j:/w/a", "-"]), "one\ntwo\n");
}

#[test]
fn a_fork_leaves_the_files_of_the_first_job_as_they_are() {
    let (tool, filer) = (Tool::new(), guest("filer.wasm"));
    fs::create_dir(tool.path("h")).unwrap();
    let pause = ["run", "--job", "j", "--dir", "h::/w", "--pause-after", "3000000", "--id-file", "id"];
    for (job, script) in [("j", ["log", "/w/open", "100"]), ("k", ["append", "/w/closed", "one\n"])] {
        let tail = [&script[..], &["spin", "9000000", "append", "/w/closed", "two\n"]].concat();
        let pause: Vec<_> = pause.iter().map(|arg| if *arg == "j" { job } else { arg }).collect();
        assert_eq!(run(&tool, &[&pause[..], &[&filer], &tail[..]].concat()).0, 75);
        let copy = Command::new("cp").args(["-a", "h", job]).current_dir(tool.dir.path()).status().unwrap();
        assert!(copy.success());
        ok(&tool, &["resume", job]);
        let whole = tree(&tool.path("h"));
        let (code, _, err) = run(&tool, &["resume", "@id"]);
        assert!(code == 70 && err.contains("it has grown since the snapshot"), "{code}: {err}");
        assert_eq!(tree(&tool.path("h")), whole, "{job}");
        // A copy from then does.
        ok(&tool, &["resume", "--dir", &format!("{job}::/w"), "@id"]);
        assert_eq!(tree(&tool.path(job)), whole, "{job}");
        assert_eq!(tree(&tool.path("h")), whole, "{job}");
    }
}

#[test]
fn snapshots_depend_on_what_was_done_not_on_pauses() {
    let (sort, ids) = (guest("extsort.wasm"), std::cell::RefCell::new(vec![]));
    let pauses = ["3000000", "9000000", "20000000"];
    let reach = |through: &[&str], target: &str| {
        let tool = Tool::new();
        let args = [
            "--disk",
            "/work",
            "--clock",
            "virtual",
            "--seed",
            "1",
            "--target",
            target,
            "--id-file",
            "id",
            &sort,
            "/work/sort",
            "20000",
            "500",
        ];
        for fuel in through {
            let args = [&["run", "--job", "j", "--pause-after", fuel], &args[..]].concat();
            assert_eq!(run(&tool, &args).0, 75, "{args:?}");
        }
        ids.borrow_mut().push(fs::read_to_string(tool.path("id")).unwrap());
        let out = ok(&tool, &["resume", "j"]);
        (out, ok(&tool, &["files", "j"]))
    };
    let native =
        if cfg!(target_arch = "x86_64") { "x86_64-unknown-linux-gnu" } else { "aarch64-unknown-linux-gnu" };
    let straight = reach(&pauses[2..], native);
    assert_eq!(reach(&pauses, native), straight);
    assert_eq!(reach(&pauses, "pulley64"), straight);
    let ids = ids.borrow();
    assert!(ids.iter().all(|id| *id == ids[0]), "{ids:?}");
}

#[test]
fn a_running_job_can_be_looked_into() {
    let tool = Tool::new();
    let filer = guest("filer.wasm");
    let args = ["run", "--job", "j", "--disk", "/w", "--every", "50ms", &filer, "log", "/w/log", "100000"];
    let _running = Running::spawn(tool.command(&args).stdout(Stdio::null()).stderr(Stdio::null()));
    let mut seen = 0;
    wait_until("much of it to be seen", || {
        let (code, out, err) = run(&tool, &["cp", "j:/w/log", "-"]);
        if code != 0 {
            assert!(code == 66 || seen == 0, "{err}");
            return false;
        }
        // Whole lines, in order, from the first on; and both files of the same instant.
        let count = out.lines().count();
        assert!(out.lines().enumerate().all(|(n, line)| line == format!("line {n:06}")) && count >= seen);
        seen = count;
        seen > 50
    });
}

#[test]
fn hard_links_in_many_directories_are_written_out_with_few_descriptors() {
    let (tool, filer) = (Tool::new(), guest("filer.wasm"));
    let mut script = vec![];
    for n in 0..150 {
        let path = |name: &str| format!("/w/{n:03}{name}");
        script.extend(["mkdir".to_string(), path(""), "write".to_string(), path("/a"), format!("{n}")]);
        script.extend(["ln".to_string(), path("/a"), path("/b")]);
    }
    script.extend(["ln", "/w/007/a", "/w/149/z"].map(str::to_string));
    let run = ["run", "-q", "--disk", "/w", "--sync-out", "out", &filer];
    let args: Vec<_> = run.into_iter().chain(script.iter().map(String::as_str)).collect();
    let output = tool.command_in_shell("ulimit -n 100; exec \"$@\"", &args).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let ino = |path: &str| {
        use std::os::unix::fs::MetadataExt;
        fs::metadata(tool.path("out").join(path)).unwrap().ino()
    };
    for n in 0..150 {
        assert_eq!(ino(&format!("{n:03}/a")), ino(&format!("{n:03}/b")));
    }
    assert_eq!(ino("007/a"), ino("149/z"));
    assert_eq!(fs::read_to_string(tool.path("out/149/z")).unwrap(), "7");
}

/// Writes 2 MiB to its private disk, whatever comes of it, works for a long time and prints a line.
const CARELESS: &str = r#"(module
  (import "wasi_snapshot_preview1" "path_open"
    (func $open (param i32 i32 i32 i32 i32 i64 i64 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (data (i32.const 16) "f") (data (i32.const 32) "went on\n")
  (func (export "_start") (local $i i32) (local $n i64)
    (drop (call $open (i32.const 3) (i32.const 0) (i32.const 16) (i32.const 1) (i32.const 1)
      (i64.const 64) (i64.const 0) (i32.const 0) (i32.const 20)))
    (i32.store (i32.const 0) (i32.const 4096))
    (i32.store (i32.const 4) (i32.const 32768))
    (memory.fill (i32.const 4096) (i32.const 7) (i32.const 32768))
    (loop $l
      (drop (call $write (i32.load (i32.const 20)) (i32.const 0) (i32.const 1) (i32.const 8)))
      (br_if $l (i32.lt_u (local.tee $i (i32.add (local.get $i) (i32.const 1))) (i32.const 64))))
    (local.set $n (i64.const 2000000000))
    (loop $s (br_if $s (i64.ne (local.tee $n (i64.sub (local.get $n) (i64.const 1))) (i64.const 0))))
    (i32.store (i32.const 0) (i32.const 32))
    (i32.store (i32.const 4) (i32.const 8))
    (drop (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8)))))"#;

#[test]
fn a_disk_whose_scratch_file_fails_stops_the_program() {
    let tool = Tool::new();
    tool.wat("careless.wasm", CARELESS);
    // No file of the process may be longer than that: 512 KiB or 1 MiB, as the shell counts.
    let limited = "trap '' XFSZ; ulimit -f 1024; exec \"$@\"";
    let args = ["run", "--job", "j", "--no-cache", "--every", "50ms", "--disk", "/w", "careless.wasm"];
    let output = tool.command_in_shell(limited, &args).output().unwrap();
    let err = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success(), "{err}");
    assert_eq!(String::from_utf8_lossy(&output.stdout), "", "{err}");
    assert!(err.contains("the disk `/w`") && err.contains("scratch file of a private disk failed"), "{err}");
    // It goes on where there is room.
    assert_eq!(ok(&tool, &["resume", "j"]), "went on\n");
}

#[test]
fn working_files_of_a_store_are_for_one_user_whatever_is_usual() {
    let (tool, filer) = (Tool::new(), guest("filer.wasm"));
    let run = |args: &[&str]| {
        let args = [&["run", "-q"], args].concat();
        let output = tool.command_in_shell("umask 002; echo in | \"$@\"", &args).output().unwrap();
        assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
    };
    run(&["--job", "a", "--disk", "/w", &filer, "write", "/w/f", "x"]);
    run(&["--job", "b", "--output", "exactly-once", &filer]);
}

#[test]
fn a_file_that_was_half_written_out_does_not_stay() {
    let (tool, filer) = (Tool::new(), guest("filer.wasm"));
    fs::create_dir(tool.path("out")).unwrap();
    let args = ["run", "-q", "--job", "j", "--disk", "/w", "--sync-out", "out", &filer];
    let script = ["mkdir", "/w/d", "write", "/w/d/f", "x", "write", "/w/g", "y"];
    let args = [&args[..], &script].concat();
    let hidden = || -> Vec<PathBuf> {
        let dirs = [tool.path("out"), tool.path("out/d")];
        let entries = dirs.iter().filter_map(|dir| fs::read_dir(dir).ok()).flatten();
        let paths = entries.map(|entry| entry.unwrap().path());
        paths.filter(|path| path.file_name().unwrap().to_str().unwrap().starts_with('.')).collect()
    };
    // It is killed where the first file is to get its name.
    let kill = ["-o", "/dev/null", "-e", "inject=renameat,renameat2:error=EIO:signal=KILL:when=1"];
    let Some(mut run) = tool.traced(&kill, &args) else { return };
    assert!(!run.status().unwrap().success());
    assert!(!hidden().is_empty(), "it was killed elsewhere");
    ok(&tool, &args);
    assert_eq!(fs::read_to_string(tool.path("out/g")).unwrap(), "y");
    assert_eq!(hidden(), Vec::<PathBuf>::new());
}
