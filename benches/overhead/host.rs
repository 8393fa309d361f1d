//! The same WASI for all ways: the project's own, with its clock fixed and its random numbers seeded, so that the guest
//! does the same work each time. Only the rewritten ways run in the project's `Instance`.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use wasm_ckpt::machine::{Instance, Slice, Until};
use wasm_ckpt::wasi::{ClockMode, Config, Host, Interrupt, MODULE, OutputBuffer, Preopen, Stdin, Stop, Wasi};
use wasm_ckpt::{Functions, Module};
use wasmtime::{Caller, Extern, Linker, Memory, Store};

use crate::clock::Took;
use crate::programs::{Program, root};
use crate::ways::{Compiled, Way};

/// Native stack of the thread that runs a guest: what `Instance` has.
const THREAD_STACK: usize = 66 << 20;

/// A guest's WASI, and where it prints.
pub fn wasi(program: &Program) -> (Wasi, OutputBuffer) {
    let (out, err) = (OutputBuffer::default(), OutputBuffer::default());
    let host = Host {
        stdin: Stdin::Null,
        stdout: Box::new(out.clone()),
        stderr: Box::new(err),
        interrupt: Interrupt::new().unwrap(),
    };
    let tasks =
        Preopen { host: root().join("benches/overhead/tasks"), guest: "/tasks".into(), read_only: true };
    let config = Config {
        args: std::iter::once(program.name.clone()).chain(program.args.iter().cloned()).collect(),
        env: vec![("PYTHONDONTWRITEBYTECODE".into(), "1".into()), ("PYTHONHASHSEED".into(), "0".into())],
        dirs: vec![tasks],
        clock: ClockMode::Fixed { realtime: 1_700_000_000_000_000_000 },
        seed: Some([7; 32]),
        ..Config::default()
    };
    (Wasi::new(config, host).unwrap(), out)
}

/// A guest outside of the project's `Instance`.
pub struct Guest {
    wasi: Wasi,
    memory: Option<Memory>,
}

#[derive(Debug)]
struct Exit(u32);

impl std::fmt::Display for Exit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "exit with code {}", self.0)
    }
}

impl std::error::Error for Exit {}

macro_rules! link {
    ($linker:ident: $($name:ident($($arg:ident: $kind:ty),*);)*) => {
        $($linker.func_wrap(MODULE, stringify!($name),
            |mut caller: Caller<'_, Guest>, $($arg: $kind),*| -> wasmtime::Result<u32> {
                let memory = caller.data().memory;
                let (bytes, guest) = match memory {
                    Some(memory) => memory.data_and_store_mut(&mut caller),
                    None => (&mut [][..], caller.data_mut()),
                };
                match guest.wasi.$name(bytes, $($arg),*) {
                    Ok(errno) => Ok(errno as u32),
                    Err(Stop::Exit(code)) => Err(wasmtime::Error::from(Exit(code))),
                    Err(Stop::Suspend) => panic!("nothing is waited for"),
                    Err(Stop::Fail(error)) => panic!("{error:?}"),
                }
            }).unwrap();)*
    };
}

/// What the programs import, as the project links it.
pub fn linker(engine: &wasmtime::Engine, module: &wasmtime::Module) -> Linker<Guest> {
    let mut linker: Linker<Guest> = Linker::new(engine);
    link!(linker:
        args_get(argv: u32, argv_buf: u32);
        args_sizes_get(argc: u32, argv_buf_size: u32);
        environ_get(environ: u32, environ_buf: u32);
        environ_sizes_get(count: u32, environ_buf_size: u32);
        clock_res_get(id: u32, resolution: u32);
        clock_time_get(id: u32, precision: u64, time: u32);
        fd_close(fd: u32);
        fd_fdstat_get(fd: u32, stat: u32);
        fd_fdstat_set_flags(fd: u32, flags: u32);
        fd_filestat_get(fd: u32, stat: u32);
        fd_pread(fd: u32, iovs: u32, iovs_len: u32, offset: u64, nread: u32);
        fd_prestat_get(fd: u32, stat: u32);
        fd_prestat_dir_name(fd: u32, path: u32, path_len: u32);
        fd_read(fd: u32, iovs: u32, iovs_len: u32, nread: u32);
        fd_readdir(fd: u32, buf: u32, buf_len: u32, cookie: u64, used: u32);
        fd_renumber(from: u32, to: u32);
        fd_seek(fd: u32, offset: i64, whence: u32, position: u32);
        fd_sync(fd: u32);
        fd_tell(fd: u32, position: u32);
        fd_write(fd: u32, iovs: u32, iovs_len: u32, nwritten: u32);
        path_filestat_get(fd: u32, lookup: u32, path: u32, path_len: u32, stat: u32);
        path_open(
            fd: u32, lookup: u32, path: u32, path_len: u32, oflags: u32,
            base: u64, inheriting: u64, fdflags: u32, opened: u32
        );
        path_readlink(fd: u32, path: u32, path_len: u32, buf: u32, buf_len: u32, used: u32);
        poll_oneoff(subscriptions: u32, events: u32, count: u32, stored: u32);
        random_get(buf: u32, buf_len: u32);
        sched_yield();
    );
    linker
        .func_wrap(MODULE, "proc_exit", |code: u32| -> wasmtime::Result<()> {
            Err(wasmtime::Error::from(Exit(code)))
        })
        .unwrap();
    linker.define_unknown_imports_as_traps(module).unwrap();
    linker
}

/// A guest that is ready to run, and what runs it.
pub enum Ready {
    Theirs { store: Store<Guest>, instance: wasmtime::Instance },
    Ours(Box<Instance>),
}

impl Ready {
    /// Instantiates.
    pub fn new(compiled: &Compiled, way: Way, wasi: Wasi) -> Self {
        match compiled {
            Compiled::Ours(module) => Self::ours(module, wasi),
            Compiled::Theirs(module) => {
                let engine = module.engine();
                let mut store = Store::new(engine, Guest { wasi, memory: None });
                match way {
                    Way::Fuel => store.set_fuel(u64::MAX).unwrap(),
                    Way::Epochs => store.set_epoch_deadline(u64::MAX / 2),
                    _ => {}
                }
                let instance = linker(engine, module).instantiate(&mut store, module).unwrap();
                let memory = instance.get_export(&mut store, "memory").and_then(Extern::into_memory);
                store.data_mut().memory = memory;
                Ready::Theirs { store, instance }
            }
        }
    }

    fn ours(module: &Module, wasi: Wasi) -> Self {
        let instance = Instance::new(module, Some(wasi), &Functions::new(), "_start", vec![]).unwrap();
        Ready::Ours(Box::new(instance))
    }

    /// Runs it to its end. The clock runs from before the guest's thread is made until it has ended.
    pub fn run(self) -> Took {
        match self {
            Ready::Ours(mut instance) => {
                // As in production: with slices, at whose ends a pause would be seen.
                let request = Some(Arc::new(AtomicBool::new(false)));
                let until = Until { request, ..Until::default() };
                let (took, ended) = Took::by(|| instance.run(&until).unwrap());
                assert!(matches!(ended, Slice::Finished(_) | Slice::Exited(0)), "{ended:?}");
                took
            }
            Ready::Theirs { mut store, instance } => {
                let start = instance.get_typed_func::<(), ()>(&mut store, "_start").unwrap();
                let call = || match start.call(&mut store, ()) {
                    Ok(()) => 0,
                    Err(error) => {
                        error.downcast_ref::<Exit>().map(|exit| exit.0).unwrap_or_else(|| panic!("{error:?}"))
                    }
                };
                let (took, code) = Took::by(|| {
                    std::thread::scope(|scope| {
                        let thread = std::thread::Builder::new().stack_size(THREAD_STACK);
                        thread.spawn_scoped(scope, call).unwrap().join().unwrap()
                    })
                });
                assert_eq!(code, 0);
                took
            }
        }
    }
}
