//! What calls about files cost: `cargo bench --bench files [NAME...]`.
//!
//! The same program (`guests/src/iobench.c`, and SQLite with a database in a file) does the same calls natively,
//! under `wasmtime-wasi`, and here in a host directory and on a private disk; the four take turns, for some rounds in
//! one process. The program measures itself. The table gives the median of each in ns an operation (SQLite: ms in
//! all), and its ratio to native.
//!
//! Native is the same calls made by this program, and Python's `sqlite3` for SQLite.

use std::fs;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::Instant;

use wasm_ckpt::machine::{Instance, Slice, Until};
use wasm_ckpt::wasi::{Config, DiskConfig, Host, Interrupt, OutputBuffer, Preopen, Stdin, Wasi};
use wasm_ckpt::{Engine, Functions, Module, Settings};
use wasmtime_wasi::p2::pipe::MemoryOutputPipe;
use wasmtime_wasi::{FsPerms, WasiCtxBuilder, p1};

const ROUNDS: usize = 3;
/// Name, and how many operations.
const TASKS: &[(&str, u32)] = &[
    ("pread", 20_000),
    ("pwrite", 20_000),
    ("append", 20_000),
    ("make", 5_000),
    ("walk", 100_000),
    ("sqlite", 1),
];
const SIZE: u64 = 64 << 20;
const WAYS: [&str; 4] = ["native", "wasmtime-wasi", "host directory", "private disk"];

/// A program, compiled for both.
struct Program {
    ours: Module,
    theirs: wasmtime::Module,
}

impl Program {
    fn load(path: &Path) -> Option<Self> {
        let wasm = fs::read(path).ok()?;
        let ours = Engine::new(Settings::default()).unwrap().compile(&wasm).unwrap();
        let theirs = wasmtime::Module::new(&wasmtime::Engine::default(), &wasm).unwrap();
        Some(Self { ours, theirs })
    }

    /// Runs it with `dir` as `/work`; gives what it prints.
    fn under_wasmtime(&self, dir: &Path, args: &[String], stdin: &[u8]) -> String {
        let engine = self.theirs.engine();
        let mut linker = wasmtime::Linker::new(engine);
        p1::add_to_linker_sync(&mut linker, |ctx: &mut p1::WasiP1Ctx| ctx).unwrap();
        let out = MemoryOutputPipe::new(1 << 20);
        let mut builder = WasiCtxBuilder::new();
        builder.args(args).stdout(out.clone()).inherit_stderr();
        builder.stdin(wasmtime_wasi::p2::pipe::MemoryInputPipe::new(stdin.to_vec()));
        builder.preopened_dir(dir, "/work", FsPerms::ReadWrite).unwrap();
        let mut store = wasmtime::Store::new(engine, builder.build_p1());
        let instance = linker.instantiate(&mut store, &self.theirs).unwrap();
        let start = instance.get_typed_func::<(), ()>(&mut store, "_start").unwrap();
        if let Err(error) = start.call(&mut store, ()) {
            let exit = error.downcast_ref::<wasmtime_wasi::I32Exit>().unwrap_or_else(|| panic!("{error:?}"));
            assert_eq!(exit.0, 0);
        }
        drop(store);
        String::from_utf8(out.contents().to_vec()).unwrap()
    }

    /// The same here: in a host directory, or on a private disk that is filled from it.
    fn under_ours(&self, dir: &Path, private: bool, args: &[String], stdin: &[u8]) -> String {
        let out = OutputBuffer::default();
        let host = Host {
            stdin: Stdin::Bytes(stdin.to_vec()),
            stdout: Box::new(out.clone()),
            stderr: Box::new(OutputBuffer::default()),
            interrupt: Interrupt::new().unwrap(),
        };
        let guest = "/work".to_string();
        let mut config = Config { args: args.to_vec(), ..Config::default() };
        if private {
            let source = fs::read_dir(dir).unwrap().next().map(|_| dir.to_path_buf());
            config.disks = vec![DiskConfig { guest, source, limit: 8 << 30 }];
        } else {
            config.dirs = vec![Preopen { host: dir.to_path_buf(), guest, read_only: false }];
        }
        let wasi = Wasi::new(config, host).unwrap();
        let mut instance =
            Instance::new(&self.ours, Some(wasi), &Functions::new(), "_start", vec![]).unwrap();
        match instance.run(&Until::default()).unwrap() {
            Slice::Exited(0) | Slice::Finished(_) => {}
            other => panic!("{other:?}: {}", String::from_utf8_lossy(&out.contents())),
        }
        String::from_utf8(out.contents()).unwrap()
    }
}

fn number(printed: &str) -> f64 {
    printed.trim().parse().unwrap_or_else(|_| panic!("not a number: {printed}"))
}

/// ns an operation.
fn natively(task: &str, dir: &Path, n: u32) -> f64 {
    let mut buffer = [b'x'; 4096];
    let mut random = 88_172_645_463_325_252u64;
    let mut place = || {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        random % (SIZE / 4096) * 4096
    };
    let open = |name: &str| {
        fs::OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(dir.join(name))
            .unwrap()
    };
    let began;
    match task {
        "pread" | "pwrite" => {
            let file = open("file");
            for at in (0..SIZE).step_by(4096) {
                file.write_all_at(&buffer, at).unwrap();
            }
            began = Instant::now();
            for _ in 0..n {
                match task {
                    "pread" => file.read_exact_at(&mut buffer, place()).unwrap(),
                    _ => file.write_all_at(&buffer, place()).unwrap(),
                }
            }
        }
        "append" => {
            use std::io::Write;
            let mut file = fs::OpenOptions::new().append(true).create(true).open(dir.join("file")).unwrap();
            file.set_len(0).unwrap();
            began = Instant::now();
            for _ in 0..n {
                file.write_all(&buffer[..100]).unwrap();
            }
        }
        "make" => {
            began = Instant::now();
            make(dir, n);
        }
        "walk" => {
            began = Instant::now();
            assert_eq!(walk(dir), n);
        }
        other => panic!("no task {other}"),
    }
    began.elapsed().as_nanos() as f64 / f64::from(n)
}

fn make(dir: &Path, n: u32) {
    for i in 0..n {
        let below = dir.join((i / 1000).to_string());
        if i % 1000 == 0 {
            fs::create_dir(&below).unwrap();
        }
        fs::write(below.join(i.to_string()), [0; 64]).unwrap();
    }
}

fn walk(dir: &Path) -> u32 {
    let mut files = 0;
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        files += if fs::symlink_metadata(&path).unwrap().is_dir() { walk(&path) } else { 1 };
    }
    files
}

/// SQL that writes much in many transactions, and reads it back.
fn sql() -> String {
    let mut sql = "CREATE TABLE t (id INTEGER PRIMARY KEY, a INTEGER, b TEXT);\n".to_string();
    for transaction in 0..300 {
        sql += "BEGIN;\n";
        for row in 0..20 {
            let n = transaction * 20 + row;
            sql += &format!("INSERT INTO t (a, b) VALUES ({}, '{}');\n", n * 7919 % 6000, "text ".repeat(20));
        }
        sql += "COMMIT;\n";
    }
    sql + "CREATE INDEX i ON t (a);\nSELECT count(*), sum(a) FROM t WHERE a % 3 = 0;\n"
}

/// ms in all.
fn sqlite(way: usize, program: &Program, dir: &Path, script: &Path) -> f64 {
    let began = Instant::now();
    if way == 0 {
        let code = "import sqlite3, sys\n\
                    c = sqlite3.connect(sys.argv[1], isolation_level=None)\n\
                    for s in open(sys.argv[2]).read().split(';\\n'): c.execute(s).fetchall()";
        let mut python = std::process::Command::new("python3");
        let status = python.args(["-c", code]).arg(dir.join("db")).arg(script).status();
        assert!(status.unwrap().success());
        return began.elapsed().as_secs_f64() * 1e3;
    }
    fs::copy(script, dir.join("script.sql")).unwrap();
    let args = ["sqlite", "/work/db", "/work/script.sql", "1"].map(String::from);
    match way {
        1 => program.under_wasmtime(dir, &args, b""),
        _ => program.under_ours(dir, way == 3, &args, b""),
    };
    began.elapsed().as_secs_f64() * 1e3
}

fn median(mut times: Vec<f64>) -> f64 {
    times.sort_by(f64::total_cmp);
    times[times.len() / 2]
}

fn main() {
    let wanted: Vec<String> = std::env::args().skip(1).filter(|arg| !arg.starts_with('-')).collect();
    let guests = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("guests");
    let io = Program::load(&guests.join("wasm/iobench.wasm")).unwrap();
    let sql_program = Program::load(&guests.join(".cache/sqlite.wasm"));
    let root = tempfile::tempdir().unwrap();
    let script = root.path().join("script.sql");
    fs::write(&script, sql()).unwrap();
    println!("{:8} {}", "", WAYS.map(|way| format!("{way:>22}")).join(""));
    for (task, n) in TASKS.iter().filter(|(task, _)| wanted.is_empty() || wanted.iter().any(|w| w == task)) {
        let Some(program) = (if *task == "sqlite" { sql_program.as_ref() } else { Some(&io) }) else {
            println!("{task:8} is not there: guests/fetch.sh gets it");
            continue;
        };
        let mut times = [const { vec![] }; WAYS.len()];
        // What all of them walk over is made once: on some file systems that takes a minute.
        let tree = tempfile::tempdir_in(root.path()).unwrap();
        if *task == "walk" {
            make(tree.path(), *n);
        }
        for _ in 0..ROUNDS {
            for (way, times) in times.iter_mut().enumerate() {
                let fresh = tempfile::tempdir_in(root.path()).unwrap();
                let dir = if *task == "walk" { tree.path() } else { fresh.path() };
                let name = if matches!(*task, "make" | "walk") { "" } else { "/file" };
                let args = ["iobench", task, &format!("/work{name}"), &n.to_string()].map(String::from);
                times.push(match (way, *task) {
                    (way, "sqlite") => sqlite(way, program, dir, &script),
                    (0, task) => natively(task, dir, *n),
                    (1, _) => number(&program.under_wasmtime(dir, &args, b"")),
                    (way, _) => number(&program.under_ours(dir, way == 3, &args, b"")),
                });
            }
        }
        let medians = times.map(median);
        let shown = medians.map(|time| format!("{time:>13.0} {:>7.2}x", time / medians[0]));
        println!("{task:8} {}", shown.join(""));
    }
}
