//! How soon a program can begin: from its bytes, and from compiled code on disk, beside wasmtime's own; and what
//! rewriting it takes.

use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};
use wasm_ckpt::instrument::instrument;

use crate::clock::Took;
use crate::host::{Ready, wasi};
use crate::programs::{self, Program};
use crate::ways::{Compiled, Way, engine, load, our_engine};

/// Starts from the cache, of which the median counts.
const STARTS: usize = 11;
/// Times that a module is rewritten, of which the least counts.
const REWRITES: usize = 3;
/// A module of 32 KB.
const SMALL: &str = "wasm/lines.wasm";

/// Times are wall time in seconds, up to where the program's first instruction would run.
pub struct Start {
    pub module: String,
    pub bytes: u64,
    /// Bytes of functions, which is what there is to rewrite and compile.
    pub code_bytes: u64,
    /// From the module's bytes: plain, and ours.
    pub cold: (f64, f64),
    /// From compiled code on disk: plain, and ours.
    pub cached: (f64, f64),
    /// Processor time of rewriting on one core, and wall time on all, in seconds.
    pub rewrite: (f64, f64),
    /// Most bytes of memory that rewriting took besides the module's own: what a small module takes, nearly all of which is pages
    /// of the program and threads, and what this one took behind it; `None` where Linux does not tell.
    pub rewrite_memory: Option<(u64, u64)>,
}

/// Of one program's module; `None` if it has not been fetched.
pub fn measure(program: &Program) -> Option<Start> {
    let wasm = program.wasm()?;
    let dir = tempfile::tempdir().unwrap();
    let (ours, theirs) = (dir.path().join("ours"), dir.path().join("theirs"));
    let cold_ours = Took::by(|| start_ours(program, &wasm, &ours)).0.wall;
    let cold_theirs = Took::by(|| {
        let module = wasmtime::Module::new(&engine(Way::Plain), &wasm).unwrap();
        fs::write(&theirs, module.serialize().unwrap()).unwrap();
        Ready::new(&Compiled::Theirs(module), Way::Plain, wasi(program).0)
    });
    let (mut cached_ours, mut cached_theirs) = (vec![], vec![]);
    for _ in 0..STARTS {
        cached_ours.push(Took::by(|| start_ours(program, &wasm, &ours)).0.wall);
        let took = Took::by(|| {
            let module = load(&engine(Way::Plain), &theirs);
            Ready::new(&Compiled::Theirs(module), Way::Plain, wasi(program).0)
        });
        cached_theirs.push(took.0.wall);
    }
    Some(Start {
        module: program.module(),
        bytes: wasm.len() as u64,
        code_bytes: code_bytes(&wasm),
        cold: (cold_theirs.0.wall, cold_ours),
        cached: (median(cached_theirs), median(cached_ours)),
        rewrite: rewrite(&wasm),
        rewrite_memory: rewrite_memory(&wasm, dir.path()),
    })
}

/// As in production: the cache is asked first, by the module's hash, and filled.
fn start_ours(program: &Program, wasm: &[u8], cache: &Path) -> Ready {
    let module = our_engine(Way::Rewritten, cache).compile(wasm).unwrap();
    Ready::new(&Compiled::Ours(module), Way::Rewritten, wasi(program).0)
}

fn median(mut times: Vec<f64>) -> f64 {
    times.sort_by(f64::total_cmp);
    times[times.len() / 2]
}

fn rewrite(wasm: &[u8]) -> (f64, f64) {
    let one = rayon::ThreadPoolBuilder::new().num_threads(1).build().unwrap();
    let least = |times: Vec<f64>| times.into_iter().fold(f64::INFINITY, f64::min);
    let alone = || Took::by(|| one.install(|| drop(instrument(wasm).unwrap()))).0.cpu;
    let together = || Took::by(|| drop(instrument(wasm).unwrap())).0.wall;
    (least((0..REWRITES).map(|_| alone()).collect()), least((0..REWRITES).map(|_| together()).collect()))
}

/// Of the code section.
fn code_bytes(wasm: &[u8]) -> u64 {
    let sections = wasmparser::Parser::new(0).parse_all(wasm);
    let code = sections.filter_map(|payload| match payload.unwrap() {
        wasmparser::Payload::CodeSectionStart { size, .. } => Some(u64::from(size)),
        _ => None,
    });
    code.sum()
}

/// In a process of its own, since freed memory goes on being resident.
fn rewrite_memory(wasm: &[u8], dir: &Path) -> Option<(u64, u64)> {
    let file = dir.join("module.wasm");
    fs::write(&file, wasm).unwrap();
    let child =
        Command::new(std::env::current_exe().unwrap()).arg("--child-rewrite").arg(file).output().unwrap();
    assert!(child.status.success(), "{child:?}");
    let told = String::from_utf8(child.stdout).unwrap();
    let (small, own) = told.split_once(' ')?;
    Some((small.parse().ok()?, own.trim().parse().ok()?))
}

/// The child: prints by how many bytes the process grew at most for a small module, and then for this one, if Linux tells.
pub fn child_rewrite(file: &Path) {
    let small = programs::guest(SMALL).expect("it is committed");
    let wasm = fs::read(file).unwrap();
    if let (Some(small), Some(own)) = (growth(&small), growth(&wasm)) {
        println!("{small} {own}");
    }
}

/// By how many bytes the process grows at most while it rewrites.
fn growth(wasm: &[u8]) -> Option<u64> {
    // Sets the peak back to what is resident now.
    fs::write("/proc/self/clear_refs", "5").ok()?;
    let before = resident("VmRSS:")?;
    drop(instrument(wasm).unwrap());
    Some(resident("VmHWM:")?.saturating_sub(before))
}

fn resident(field: &str) -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix(field))?;
    Some(line.trim().trim_end_matches(" kB").parse::<u64>().ok()? * 1024)
}

impl Start {
    /// The memory that rewriting takes: what any module does, and how many times its own size this one does.
    pub fn memory(&self) -> String {
        let told =
            |(small, own)| format!("{:.1} MB + {:.1}x", small as f64 / 1e6, own as f64 / self.bytes as f64);
        self.rewrite_memory.map_or("?".to_string(), told)
    }

    /// MB of the code section a second, on one core.
    pub fn speed_one(&self) -> f64 {
        self.code_bytes as f64 / 1e6 / self.rewrite.0
    }

    /// The same on all cores.
    pub fn speed_all(&self) -> f64 {
        self.code_bytes as f64 / 1e6 / self.rewrite.1
    }

    /// All of it.
    pub fn json(&self) -> Value {
        let pair = |(plain, ours): (f64, f64)| json!({"plain": plain, "rewritten": ours});
        json!({
            "module": self.module, "bytes": self.bytes, "code_bytes": self.code_bytes,
            "cold_seconds": pair(self.cold), "cached_seconds": pair(self.cached),
            "rewrite_seconds": {"one_core": self.rewrite.0, "all_cores": self.rewrite.1},
            "rewrite_peak_bytes": self.rewrite_memory.map(|(_, own)| own),
            "rewrite_small_peak_bytes": self.rewrite_memory.map(|(small, _)| small),
        })
    }
}
