//! The command under test, with a store and files of its own, and small programs for it.
#![allow(dead_code)]

pub mod disk;
pub mod moments;
pub mod server;
pub mod service;
pub mod store;

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

/// A directory with a store in it.
pub struct Tool {
    pub dir: tempfile::TempDir,
    /// Further variables for the command, such as those of a store that is a service.
    pub variables: Vec<(String, String)>,
}

/// What a command did.
#[derive(Debug, PartialEq)]
pub struct Told {
    pub code: i32,
    pub out: String,
    pub err: String,
}

impl Tool {
    pub fn new() -> Self {
        Self { dir: tempfile::tempdir().unwrap(), variables: vec![] }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Writes a program given as text.
    pub fn wat(&self, name: &str, text: &str) -> PathBuf {
        let path = self.path(name);
        std::fs::write(&path, wat::parse_str(text).unwrap()).unwrap();
        path
    }

    /// The command with these arguments, in the directory.
    pub fn command(&self, args: &[&str]) -> Command {
        // Another build of the command can be tested, such as one that is installed.
        let built = || env!("CARGO_BIN_EXE_wasm-ckpt").into();
        let mut command = Command::new(std::env::var_os("WASM_CKPT_BIN").unwrap_or_else(built));
        command.args(args).current_dir(self.dir.path()).stdin(Stdio::null());
        command.env("WASM_CKPT_STORE", self.path("store"));
        command.env("WASM_CKPT_CACHE", Path::new(env!("CARGO_TARGET_TMPDIR")).join("code-cache"));
        command.envs(self.variables.iter().map(|(name, value)| (name, value)));
        command
    }

    /// The command with these arguments, run by another one: such as a shell, or `strace`.
    pub fn command_by(&self, outer: &[&str], args: &[&str]) -> Command {
        let run = self.command(args);
        let mut command = Command::new(outer[0]);
        command.args(&outer[1..]).arg(run.get_program()).args(run.get_args());
        command.envs(run.get_envs().filter_map(|(name, value)| Some((name, value?))));
        command.current_dir(self.dir.path()).stdin(Stdio::null());
        command
    }

    /// The command with these arguments as `"$@"` of a shell's script.
    pub fn command_in_shell(&self, script: &str, args: &[&str]) -> Command {
        self.command_by(&["sh", "-c", script, "sh"], args)
    }

    /// The command with these arguments under `strace`, with those options; nothing where it cannot trace.
    pub fn traced(&self, options: &[&str], args: &[&str]) -> Option<Command> {
        let trial = Command::new("strace").args(["-o", "/dev/null", "true"]).output();
        if trial.is_ok_and(|output| output.status.success()) {
            return Some(self.command_by(&[&["strace", "-f", "-qq"], options].concat(), args));
        }
        // Not by `eprintln`, which a test that passes keeps to itself.
        let _ = writeln!(std::io::stderr(), "SKIPPED: this needs strace, and that it may trace");
        None
    }

    /// Runs it to its end.
    pub fn run(&self, args: &[&str]) -> Told {
        self.told(self.command(args).output().unwrap())
    }

    /// Runs it, and reads the JSON that it prints.
    pub fn json(&self, args: &[&str]) -> serde_json::Value {
        let output = self.command(args).output().unwrap();
        serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {output:?}"))
    }

    /// What it did, without what differs from run to run: the directory is `%`, ids are `#`.
    pub fn told(&self, output: Output) -> Told {
        let code = output.status.code().unwrap_or_else(|| panic!("killed: {output:?}"));
        let plain = |bytes: &[u8]| {
            let text = String::from_utf8_lossy(bytes).replace(self.dir.path().to_str().unwrap(), "%");
            without_ids(&text)
        };
        Told { code, out: plain(&output.stdout), err: plain(&output.stderr) }
    }
}

/// A process that does not outlive the test, however that ends.
pub struct Running(pub Child);

impl Running {
    pub fn spawn(command: &mut Command) -> Self {
        Self(command.spawn().unwrap())
    }

    /// Sends it a signal by name.
    pub fn signal(&self, name: &str) {
        let (name, pid) = (format!("-{name}"), self.0.id().to_string());
        assert!(Command::new("kill").args([name, pid]).status().unwrap().success());
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Waits until it holds, as long as a busy machine may take to come to it.
pub fn wait_until(what: &str, mut holds: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !holds() {
        assert!(begun.elapsed() < Duration::from_secs(60), "not {what} after a minute");
        thread::sleep(Duration::from_millis(10));
    }
}

/// Hexadecimal digits, 12 or more in a row, as `#`.
fn without_ids(text: &str) -> String {
    let mut plain = String::new();
    let mut rest = text;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !matches!(c, '0'..='9' | 'a'..='f')).unwrap_or(rest.len());
        if digits >= 12 {
            plain.push('#');
            rest = &rest[digits..];
            continue;
        }
        let next = digits + rest[digits..].chars().next().map_or(0, char::len_utf8);
        plain += &rest[..next];
        rest = &rest[next..];
    }
    plain
}

/// A program that prints `lines` numbered lines, after counting to `spin` before each. Where, `stream` says: an
/// expression over `$i`, the line's number.
pub fn lines(lines: u32, spin: u32, stream: &str) -> String {
    format!(
        r#"(module
          (import "wasi_snapshot_preview1" "fd_write"
            (func $write (param i32 i32 i32 i32) (result i32)))
          (memory (export "memory") 1)
          (data (i32.const 16) "line 000000\n")
          (func $spin (param $n i32)
            (loop $l (br_if $l (local.tee $n (i32.sub (local.get $n) (i32.const 1))))))
          (func $digits (param $n i32) (local $p i32)
            (local.set $p (i32.const 26))
            (loop $l
              (i32.store8 (local.get $p)
                (i32.add (i32.const 48) (i32.rem_u (local.get $n) (i32.const 10))))
              (local.set $n (i32.div_u (local.get $n) (i32.const 10)))
              (br_if $l (i32.gt_u (local.tee $p (i32.sub (local.get $p) (i32.const 1))) (i32.const 20)))))
          (func (export "_start") (local $i i32)
            (i32.store (i32.const 0) (i32.const 16))
            (i32.store (i32.const 4) (i32.const 12))
            (loop $l
              (call $spin (i32.const {spin}))
              (call $digits (local.get $i))
              (drop (call $write {stream} (i32.const 0) (i32.const 1) (i32.const 8)))
              (br_if $l (i32.lt_u (local.tee $i (i32.add (local.get $i) (i32.const 1)))
                (i32.const {lines}))))))"#
    )
}

/// Standard output, whatever the line.
pub const STDOUT: &str = "(i32.const 1)";
/// Standard error for every third line, else output.
pub const BOTH: &str =
    "(select (i32.const 2) (i32.const 1) (i32.eqz (i32.rem_u (local.get $i) (i32.const 3))))";

/// What [`lines`] prints in all.
pub fn printed(lines: u32) -> String {
    (0..lines).map(|n| format!("line {n:06}\n")).collect()
}

/// Of [`BOTH`], what goes to output and to error.
pub fn printed_apart(lines: u32) -> (String, String) {
    let text = |err: bool| {
        (0..lines).filter(|n| (n % 3 == 0) == err).map(|n| format!("line {n:06}\n")).collect::<String>()
    };
    (text(false), text(true))
}
