//! The two sides: the reference implementation, and ours.

use std::collections::HashMap;
use std::path::Path;
use std::sync::OnceLock;

use wasm_ckpt::wasi::{Config, FUNCTIONS, Host, Interrupt, OutputBuffer, Param, Stdin, Stop, Wasi};
use wasmtime::{Engine, Func, InstancePre, Linker, Memory, Module, Store, Val};
use wasmtime_wasi::p1::{WasiP1Ctx, add_to_linker_sync};
use wasmtime_wasi::p2::pipe::{MemoryInputPipe, MemoryOutputPipe};
use wasmtime_wasi::{FsPerms, I32Exit, WasiCtxBuilder};

use crate::functions;

/// Pages of the guest's memory.
pub const PAGES: u32 = 4;
/// From here on the memory is the test's own, and not compared.
pub const SCRATCH: u32 = 2 << 16;

/// What both sides are given.
pub const ARGS: [&str; 3] = ["guest", "", "--an=argument"];
pub const ENV: [(&str, &str); 2] = [("HOME", "/"), ("EMPTY", "")];
pub const STDIN: &[u8] = b"what standard input holds";
/// The directories: names on the host below the side's own, for the guest, and whether it may only read.
pub type Dirs = &'static [(&'static str, &'static str, bool)];
pub const DIRS: Dirs = &[("data", "/data", false), ("ro", "/ro", true), ("more", "more", false)];

/// How a call ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// With this error number; 0 is success.
    Errno(u32),
    /// The program ended with this code.
    Exit(u32),
    /// The program was stopped, for this reason.
    Trap(String),
}

/// A call with its raw arguments.
#[derive(Debug, Clone)]
pub struct Call {
    pub name: &'static str,
    pub args: Vec<u64>,
}

pub fn call(name: &'static str, args: &[u64]) -> Call {
    Call { name, args: args.to_vec() }
}

/// One of the implementations, with a guest's memory.
pub trait Side {
    fn memory(&mut self) -> &mut [u8];
    fn call(&mut self, call: &Call) -> Answer;
    /// What was printed to standard output and error.
    fn printed(&mut self) -> [Vec<u8>; 2];

    fn errno(&mut self, name: &'static str, args: &[u64]) -> u32 {
        match self.call(&call(name, args)) {
            Answer::Errno(errno) => errno,
            other => panic!("{name} {args:x?}: {other:?}"),
        }
    }

    fn put(&mut self, at: u32, bytes: &[u8]) {
        self.memory()[at as usize..][..bytes.len()].copy_from_slice(bytes);
    }

    fn get(&mut self, at: u32, len: u32) -> Vec<u8> {
        self.memory()[at as usize..][..len as usize].to_vec()
    }

    fn get_u32(&mut self, at: u32) -> u32 {
        u32::from_le_bytes(self.get(at, 4).try_into().unwrap())
    }

    fn get_u64(&mut self, at: u32) -> u64 {
        u64::from_le_bytes(self.get(at, 8).try_into().unwrap())
    }
}

/// `wasmtime-wasi`, behind a module of trampolines.
pub struct Reference {
    store: Store<WasiP1Ctx>,
    memory: Memory,
    functions: HashMap<&'static str, Func>,
    stdout: MemoryOutputPipe,
    stderr: MemoryOutputPipe,
}

impl Reference {
    /// With these directories, which are below `host`.
    pub fn new(host: &Path, dirs: Dirs) -> Self {
        static MODULE: OnceLock<(Engine, InstancePre<WasiP1Ctx>)> = OnceLock::new();
        let (engine, module) = MODULE.get_or_init(|| {
            let engine = Engine::default();
            let module =
                Module::new(&engine, wat::parse_str(functions::trampolines(PAGES)).unwrap()).unwrap();
            let mut linker = Linker::new(&engine);
            add_to_linker_sync(&mut linker, |ctx| ctx).unwrap();
            let module = linker.instantiate_pre(&module).unwrap();
            (engine, module)
        });
        let (stdout, stderr) = (MemoryOutputPipe::new(1 << 20), MemoryOutputPipe::new(1 << 20));
        let mut wasi = WasiCtxBuilder::new();
        // As the `wasmtime` command does.
        wasi.allow_blocking_current_thread(true);
        wasi.args(&ARGS).envs(&ENV).stdin(MemoryInputPipe::new(STDIN));
        wasi.stdout(stdout.clone()).stderr(stderr.clone());
        for (name, guest, read_only) in dirs {
            let perms = if *read_only { FsPerms::ReadOnly } else { FsPerms::ReadWrite };
            wasi.preopened_dir(host.join(name), guest, perms).unwrap();
        }
        let mut store = Store::new(engine, wasi.build_p1());
        let instance = module.instantiate(&mut store).unwrap();
        let memory = instance.get_memory(&mut store, "memory").unwrap();
        let functions = FUNCTIONS
            .iter()
            .map(|function| (function.name, instance.get_func(&mut store, function.name).unwrap()))
            .collect();
        Self { store, memory, functions, stdout, stderr }
    }
}

impl Side for Reference {
    fn memory(&mut self) -> &mut [u8] {
        self.memory.data_mut(&mut self.store)
    }

    fn call(&mut self, call: &Call) -> Answer {
        let params = FUNCTIONS.iter().find(|function| function.name == call.name).unwrap().params;
        let args: Vec<Val> = params
            .iter()
            .zip(&call.args)
            .map(
                |(kind, arg)| if *kind == Param::I64 { Val::I64(*arg as i64) } else { Val::I32(*arg as i32) },
            )
            .collect();
        let mut results = [Val::I32(0)];
        let results = if call.name == "proc_exit" { &mut results[..0] } else { &mut results[..] };
        match self.functions[call.name].call(&mut self.store, &args, results) {
            Ok(()) => Answer::Errno(results[0].unwrap_i32() as u32),
            Err(error) => match error.downcast_ref::<I32Exit>() {
                Some(exit) => Answer::Exit(exit.0 as u32),
                None => Answer::Trap(format!("{error:?}")),
            },
        }
    }

    fn printed(&mut self) -> [Vec<u8>; 2] {
        [self.stdout.contents().to_vec(), self.stderr.contents().to_vec()]
    }
}

/// Ours, without an engine.
pub struct Ours {
    wasi: Wasi,
    memory: Vec<u8>,
    stdout: OutputBuffer,
    stderr: OutputBuffer,
}

impl Ours {
    /// With what the reference is given, but for directories: those are the configuration's.
    pub fn new(config: Config) -> Self {
        Self::with_memory(config, (PAGES as usize) << 16)
    }

    /// With a memory of so many bytes.
    pub fn with_memory(config: Config, memory: usize) -> Self {
        let (stdout, stderr) = (OutputBuffer::default(), OutputBuffer::default());
        let host = Host {
            stdin: Stdin::Bytes(STDIN.to_vec()),
            stdout: Box::new(stdout.clone()),
            stderr: Box::new(stderr.clone()),
            interrupt: Interrupt::new().unwrap(),
        };
        let args = ARGS.map(String::from).to_vec();
        let env = ENV.map(|(name, value)| (name.to_string(), value.to_string())).to_vec();
        let wasi = Wasi::new(Config { args, env, ..config }, host).unwrap();
        Self { wasi, memory: vec![0; memory], stdout, stderr }
    }
}

impl Side for Ours {
    fn memory(&mut self) -> &mut [u8] {
        &mut self.memory
    }

    fn call(&mut self, call: &Call) -> Answer {
        match functions::call(&mut self.wasi, &mut self.memory, call.name, &call.args) {
            Ok(errno) => Answer::Errno(errno.code()),
            Err(Stop::Exit(code)) => Answer::Exit(code),
            Err(stop) => panic!("{call:x?}: {stop:?}"),
        }
    }

    fn printed(&mut self) -> [Vec<u8>; 2] {
        [self.stdout.contents(), self.stderr.contents()]
    }
}
