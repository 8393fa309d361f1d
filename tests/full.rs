//! A disk that has no room for a while, and then has. A limit on the size of files stands for it: it needs no
//! privileges, and the system gives the same kind of error.

mod tool;

use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::process::Stdio;
use std::thread;
use std::time::Duration;

use rustix::process::{Pid, Resource, Rlimit, prlimit};
use tool::{Running, Tool};

/// A program that prints what it reads. It tries again what cannot be written; an error of a read is its exit code.
const COPY: &str = r#"(module
  (import "wasi_snapshot_preview1" "fd_read" (func $read (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
  (memory (export "memory") 1)
  (func (export "_start") (local $error i32) (local $left i32)
    (loop $all
      (i32.store (i32.const 0) (i32.const 64))
      (i32.store (i32.const 4) (i32.const 3000))
      (local.set $error (call $read (i32.const 0) (i32.const 0) (i32.const 1) (i32.const 8)))
      (if (local.get $error) (then (call $exit (local.get $error))))
      (local.set $left (i32.load (i32.const 8)))
      (if (i32.eqz (local.get $left)) (then (return)))
      (loop $some
        (i32.store (i32.const 4) (local.get $left))
        (if (i32.eqz (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 12))) (then
          (local.set $left (i32.sub (local.get $left) (i32.load (i32.const 12))))
          (i32.store (i32.const 0) (i32.add (i32.load (i32.const 0)) (i32.load (i32.const 12))))))
        (br_if $some (local.get $left)))
      (br $all))))"#;

fn text() -> String {
    (0..5000).map(|n| format!("{n:09}\n")).collect()
}

/// Blocks of 512 bytes that a file may have at first.
const ROOM: u64 = 48;

/// Runs the program. When it has had no room for a while, there is some, and then what comes `after`.
fn without_room(tool: &Tool, stdin: impl Into<Stdio>, out: File, after: impl FnOnce()) -> Option<i32> {
    let run = ["run", "-q", "--job", "x", "--every", "never", "copy.wasm"];
    // The signal would end it; ignored, it is the error alone.
    let script = format!("trap '' XFSZ; ulimit -S -f {ROOM}; exec \"$@\"");
    let mut child = Running::spawn(tool.command_in_shell(&script, &run).stdin(stdin).stdout(out));
    thread::sleep(Duration::from_millis(1200));
    assert!(child.0.try_wait().unwrap().is_none(), "it has ended without room: {:?}", child.0.wait());
    let pid = Pid::from_raw(child.0.id().try_into().unwrap());
    prlimit(pid, Resource::Fsize, Rlimit { current: None, maximum: None }).unwrap();
    after();
    child.0.wait().unwrap().code()
}

#[test]
fn a_store_without_room_is_no_error_of_the_input() {
    let tool = Tool::new();
    tool.wat("copy.wasm", COPY);
    let (reader, mut writer) = std::io::pipe().unwrap();
    // Fits into the pipe, and not into a file.
    writer.write_all(text().as_bytes()).unwrap();
    // The output has room all the time.
    let (mut copied, pipe) = std::io::pipe().unwrap();
    let reading = thread::spawn(move || {
        let mut all = String::new();
        copied.read_to_string(&mut all).unwrap();
        all
    });
    let code = without_room(&tool, reader, File::from(OwnedFd::from(pipe)), || drop(writer));
    assert_eq!(code, Some(0));
    assert!(reading.join().unwrap() == text());
}

#[test]
fn a_program_knows_what_was_written_before_there_was_no_room() {
    let tool = Tool::new();
    tool.wat("copy.wasm", COPY);
    fs::write(tool.path("in"), text()).unwrap();
    let out = File::create(tool.path("out")).unwrap();
    assert_eq!(without_room(&tool, File::open(tool.path("in")).unwrap(), out, || ()), Some(0));
    assert!(fs::read_to_string(tool.path("out")).unwrap() == text());
    assert!(tool.run(&["output", "x"]).out == text());
}
