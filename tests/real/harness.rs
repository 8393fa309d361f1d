//! A program under the reference implementation, under ours, and under ours while it is moved from instance to instance.

use std::cell::Cell;
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use wasm_ckpt::machine::{Functions, Instance, MemoryTrees, Module as OurModule, Slice, Until, WASI_SECTION};
use wasm_ckpt::snapshot;
use wasm_ckpt::wasi::{Config, Dirs, Host, Interrupt, OutputBuffer, Preopen, Restore, Stdin, Wasi};
use wasmtime::{Engine, Linker, Module, Store};
use wasmtime_wasi::p2::pipe::{MemoryInputPipe, MemoryOutputPipe};
use wasmtime_wasi::{FsPerms, I32Exit, WasiCtxBuilder};

use crate::common::{Random, engine};

/// Most bytes that a program may print.
const OUTPUT_MAX: usize = 16 << 20;

/// What a program is run with.
#[derive(Debug, Clone, Default)]
pub struct Program {
    pub path: PathBuf,
    /// Without the program's own name.
    pub args: Vec<String>,
    pub env: Vec<(&'static str, &'static str)>,
    /// Directory on the host, name for the guest, and whether it is only read.
    pub dirs: Vec<(PathBuf, &'static str, bool)>,
    pub stdin: Vec<u8>,
}

/// How it ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ended {
    /// `None`: it was stopped by a trap.
    pub code: Option<u32>,
    pub out: String,
    pub err: String,
}

impl Program {
    pub fn new(path: PathBuf, args: &[&str]) -> Self {
        Self { path, args: args.iter().map(ToString::to_string).collect(), ..Self::default() }
    }

    pub fn dir(mut self, host: &Path, guest: &'static str, read_only: bool) -> Self {
        self.dirs.push((host.to_path_buf(), guest, read_only));
        self
    }

    /// With the program's name, as the guest sees it.
    fn all_args(&self) -> Vec<String> {
        let name = self.path.file_name().unwrap().to_str().unwrap().to_string();
        std::iter::once(name).chain(self.args.iter().cloned()).collect()
    }
}

/// Runs it on plain wasmtime with the reference implementation.
pub fn reference(program: &Program) -> Ended {
    let engine = Engine::default();
    let module = plain_module(&engine, &program.path);
    let mut linker = Linker::new(&engine);
    wasmtime_wasi::p1::add_to_linker_sync(&mut linker, |ctx| ctx).unwrap();
    let (stdout, stderr) = (MemoryOutputPipe::new(OUTPUT_MAX), MemoryOutputPipe::new(OUTPUT_MAX));
    let mut wasi = WasiCtxBuilder::new();
    wasi.allow_blocking_current_thread(true).args(&program.all_args()).envs(&program.env);
    wasi.stdin(MemoryInputPipe::new(program.stdin.clone())).stdout(stdout.clone()).stderr(stderr.clone());
    for (host, guest, read_only) in &program.dirs {
        let perms = if *read_only { FsPerms::ReadOnly } else { FsPerms::ReadWrite };
        wasi.preopened_dir(host, guest, perms).unwrap();
    }
    let mut store = Store::new(&engine, wasi.build_p1());
    let instance = linker.instantiate(&mut store, &module).unwrap();
    let start = instance.get_typed_func::<(), ()>(&mut store, "_start").unwrap();
    let code = match start.call(&mut store, ()) {
        Ok(()) => Some(0),
        Err(error) => error.downcast_ref::<I32Exit>().map(|exit| exit.0 as u32),
    };
    drop(store);
    Ended { code, out: text(&stdout.contents()), err: text(&stderr.contents()) }
}

/// Tests compile one after the other: what one has compiled the next one finds.
fn compile_alone() -> MutexGuard<'static, ()> {
    static COMPILING: Mutex<()> = Mutex::new(());
    COMPILING.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The module as plain wasmtime compiles it, kept in the build directory between tests.
fn plain_module(engine: &Engine, path: &Path) -> Module {
    let _alone = compile_alone();
    let wasm = std::fs::read(path).unwrap();
    let cache = Path::new(env!("CARGO_TARGET_TMPDIR")).join("plain-cache");
    std::fs::create_dir_all(&cache).unwrap();
    let kept = cache.join(format!("{}.cwasm", &blake3::hash(&wasm).to_hex()[..32]));
    #[allow(unsafe_code)]
    // SAFETY: only this function writes there, complete files by renaming them; wasmtime refuses those of another
    // version or with other settings.
    if let Ok(module) = unsafe { Module::deserialize_file(engine, &kept) } {
        return module;
    }
    let module = Module::new(engine, &wasm).unwrap();
    let new = kept.with_extension(format!("{}", std::process::id()));
    std::fs::write(&new, module.serialize().unwrap()).unwrap();
    std::fs::rename(&new, &kept).unwrap();
    module
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// A program that runs under ours.
struct Running<'a> {
    program: &'a Program,
    module: OurModule,
    stdout: OutputBuffer,
    stderr: OutputBuffer,
    guest: Instance,
}

impl<'a> Running<'a> {
    fn begin(program: &'a Program) -> Self {
        let alone = compile_alone();
        let module = engine(None).compile(&std::fs::read(&program.path).unwrap()).unwrap();
        drop(alone);
        let (stdout, stderr) = (OutputBuffer::default(), OutputBuffer::default());
        let dirs = program.dirs.iter().map(|(host, guest, read_only)| Preopen {
            host: host.clone(),
            guest: guest.to_string(),
            read_only: *read_only,
        });
        let config = Config {
            args: program.all_args(),
            env: program.env.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect(),
            dirs: dirs.collect(),
            ..Config::default()
        };
        let wasi = Wasi::new(config, host(program, &stdout, &stderr)).unwrap();
        let guest = Instance::new(&module, Some(wasi), &Functions::new(), "_start", vec![]).unwrap();
        Self { program, module, stdout, stderr, guest }
    }

    /// Runs on, to the fuel limit at most; `None`: it is paused there.
    fn run(&mut self, fuel: Option<u64>) -> Option<Ended> {
        let code = match self.guest.run(&Until { fuel, ..Until::default() }).unwrap() {
            Slice::Paused => return None,
            Slice::Finished(_) => Some(0),
            Slice::Exited(code) => Some(code),
            Slice::Trapped(_) => None,
        };
        Some(Ended { code, out: text(&self.stdout.contents()), err: text(&self.stderr.contents()) })
    }

    /// Goes on in a fresh instance, from a snapshot of the paused one.
    fn moved(&mut self) {
        let mut chunks = HashMap::new();
        let state = self.guest.capture(&mut MemoryTrees::default(), &mut |id, bytes| {
            chunks.insert(id, bytes.to_vec());
            Ok(())
        });
        let (id, manifest) = snapshot::encode(&state.unwrap()).unwrap();
        let verified = snapshot::decode(&manifest, Some(id)).unwrap();
        let section = verified.state().sections.iter().find(|s| s.name == WASI_SECTION).unwrap();
        let how = Restore { dirs: Dirs::AsRecorded, accept_changed: false, ..Restore::default() };
        let host = host(self.program, &self.stdout, &self.stderr);
        let wasi = Wasi::restore(section.version, &section.bytes, host, how).unwrap();
        let fetch = &mut |id| Ok(chunks[&id].clone());
        self.guest = Instance::restore(&self.module, Some(wasi), &Functions::new(), verified.state(), fetch)
            .unwrap()
            .0;
    }
}

fn host(program: &Program, stdout: &OutputBuffer, stderr: &OutputBuffer) -> Host {
    Host {
        stdin: Stdin::Bytes(program.stdin.clone()),
        stdout: Box::new(stdout.clone()),
        stderr: Box::new(stderr.clone()),
        interrupt: Interrupt::new().unwrap(),
    }
}

/// Runs it under ours; gives the fuel that it took as well.
pub fn ours(program: &Program) -> (Ended, u64) {
    let mut running = Running::begin(program);
    let ended = running.run(None).unwrap();
    (ended, running.guest.fuel())
}

/// Runs it under ours, moved to a fresh instance at so many random values of the fuel below `total`.
pub fn moved(program: &Program, total: u64, moves: u64, random: &mut Random) -> Ended {
    let mut cuts: Vec<u64> = (0..moves).map(|_| random.below(total)).collect();
    cuts.sort_unstable();
    let mut running = Running::begin(program);
    for cut in cuts {
        if let Some(ended) = running.run(Some(cut)) {
            return ended;
        }
        running.moved();
    }
    running.run(None).unwrap()
}

/// What `run` gives under ours, straight on, and then moved so many times within what `part` says of the fuel that took.
pub fn straight_and_moved<T>(
    run: impl Fn(&dyn Fn(&Program) -> Ended) -> T,
    part: impl Fn(u64) -> u64,
    moves: u64,
    seed: u64,
) -> [(T, &'static str); 2] {
    let fuel = Cell::new(0);
    let straight = run(&|program| {
        let (ended, consumed) = ours(program);
        fuel.set(consumed);
        ended
    });
    let moved = run(&|program| moved(program, part(fuel.get()), moves, &mut Random(seed)));
    [(straight, "ours"), (moved, "moved")]
}

/// Another people's program; `None`, and a word about it, if it was not fetched. In CI it has to be there.
pub fn fetched(name: &str) -> Option<PathBuf> {
    let path = crate::common::guests().join(".cache").join(name);
    if path.exists() {
        return Some(path);
    }
    let ci = std::env::var_os("CI").is_some_and(|v| !v.is_empty());
    // What comes from an archive of a distribution can be away for a while.
    let may_miss = name.starts_with("python-tests") || name.starts_with("wasi-tests");
    assert!(!ci || may_miss, "{name} is not there: guests/fetch.sh gets it");
    println!("SKIPPED: run guests/fetch.sh first, for {name}");
    None
}

/// In CI more is run.
pub fn in_ci() -> bool {
    std::env::var_os("CI").is_some_and(|v| !v.is_empty())
}
