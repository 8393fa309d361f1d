//! What being resumable costs while a program runs: `cargo bench --bench overhead [NAME...]`.
//!
//! Each program is run in turn plain, rewritten, with wasmtime's fuel and with its epochs, many rounds in one
//! process; the table gives the ratio of the medians to plain, and the spread of plain itself (its quartiles to
//! its median), which is the noise to compare them with. Compile time and code size stand beside it. The
//! rewritten program runs as in production but for the slices: its fuel is never spent.

use std::time::{Duration, Instant};

use wasmtime::{Caller, Config, Engine, Instance, Linker, Memory, Module, Store, Val, WasmFeatures};

const KERNELS: &[&str] = &[
    "gemm",
    "stencil",
    "cholesky",
    "mandelbrot",
    "sum",
    "scan",
    "crc32",
    "chase",
    "sort",
    "sieve",
    "fib",
    "shapes",
    "distance",
    "blend",
];
/// Program below `guests/wasm`, arguments; each takes some 20 to 200 ms.
const PROGRAMS: &[(&str, &str)] = &[
    ("nbody", "400000"),
    ("sudoku", "10"),
    ("sat", "5"),
    ("vm", "6000"),
    ("lz", "1000000"),
    ("heap", "100000"),
    ("sha256", "1000"),
    ("ackermann", "6 2000 20"),
];
const ROUNDS: usize = 15;
const NATIVE_STACK: usize = 16 << 20;

#[derive(Clone, Copy, PartialEq)]
enum Way {
    Plain,
    Rewritten,
    Fuel,
    Epochs,
}

const WAYS: [Way; 4] = [Way::Plain, Way::Rewritten, Way::Fuel, Way::Epochs];

fn engine(way: Way) -> Engine {
    let mut config = Config::new();
    config.wasm_features(WasmFeatures::WASM3, true);
    config.wasm_branch_hinting(true).generate_address_map(false);
    config.async_stack_size(NATIVE_STACK).max_wasm_stack(NATIVE_STACK / 2);
    config.consume_fuel(way == Way::Fuel).epoch_interruption(way == Way::Epochs);
    Engine::new(&config).unwrap()
}

/// The little of WASI that the programs need: arguments; output goes nowhere.
struct Host {
    args: Vec<String>,
}

fn bytes<'a>(caller: &'a mut Caller<'_, Host>) -> &'a mut [u8] {
    let memory: Memory = caller.get_export("memory").unwrap().into_memory().unwrap();
    memory.data_mut(caller)
}

fn put(memory: &mut [u8], at: i32, value: u32) {
    memory[at as usize..at as usize + 4].copy_from_slice(&value.to_le_bytes());
}

fn linker(engine: &Engine, module: &Module) -> Linker<Host> {
    let mut linker = Linker::new(engine);
    let wasi = "wasi_snapshot_preview1";
    let sizes = |mut caller: Caller<'_, Host>, count: i32, size: i32| {
        let args = &caller.data().args;
        let (n, len) = (args.len(), args.iter().map(|a| a.len() + 1).sum::<usize>());
        put(bytes(&mut caller), count, n as u32);
        put(bytes(&mut caller), size, len as u32);
        0i32
    };
    linker.func_wrap(wasi, "args_sizes_get", sizes).unwrap();
    let args = |mut caller: Caller<'_, Host>, argv: i32, buffer: i32| {
        let (args, mut at) = (caller.data().args.clone(), buffer);
        for (i, arg) in args.iter().enumerate() {
            put(bytes(&mut caller), argv + 4 * i as i32, at as u32);
            bytes(&mut caller)[at as usize..][..arg.len()].copy_from_slice(arg.as_bytes());
            bytes(&mut caller)[at as usize + arg.len()] = 0;
            at += arg.len() as i32 + 1;
        }
        0i32
    };
    linker.func_wrap(wasi, "args_get", args).unwrap();
    let write = |mut caller: Caller<'_, Host>, _fd: i32, iovs: i32, count: i32, written: i32| {
        let memory = bytes(&mut caller);
        let len = |i| u32::from_le_bytes(memory[(iovs + 8 * i + 4) as usize..][..4].try_into().unwrap());
        let all = (0..count).map(len).sum();
        put(memory, written, all);
        0i32
    };
    linker.func_wrap(wasi, "fd_write", write).unwrap();
    linker.func_wrap(wasi, "proc_exit", |code: i32| assert_eq!(code, 0)).unwrap();
    for import in module.imports() {
        let ty = import.ty().func().cloned().unwrap();
        let _ = linker.func_new(import.module(), import.name(), ty, |_, _, results| {
            results.iter_mut().for_each(|r| *r = Val::I32(8)); // badf
            Ok(())
        });
    }
    linker
}

fn run(engine: &Engine, module: &Module, way: Way, args: &[String]) -> Duration {
    let mut store = Store::new(engine, Host { args: args.to_vec() });
    match way {
        Way::Fuel => store.set_fuel(u64::MAX).unwrap(),
        Way::Epochs => store.set_epoch_deadline(u64::MAX / 2),
        Way::Plain | Way::Rewritten => {}
    }
    let instance: Instance = linker(engine, module).instantiate(&mut store, module).unwrap();
    if way == Way::Rewritten {
        let begin = instance.get_typed_func::<i64, ()>(&mut store, "wasm-ckpt:begin").unwrap();
        begin.call(&mut store, i64::MAX / 2).unwrap();
    }
    let start = instance.get_typed_func::<(), ()>(&mut store, "_start").unwrap();
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().stack_size(NATIVE_STACK);
        let thread = thread.spawn_scoped(scope, || {
            let began = Instant::now();
            start.call(&mut store, ()).unwrap();
            began.elapsed()
        });
        thread.unwrap().join().unwrap()
    })
}

struct Row {
    /// Of rewritten, fuel and epochs to plain.
    ratios: [f64; 3],
    compile: f64,
    code: f64,
}

fn measure(name: &str, program: &str, args: &str, engines: &[Engine; 4]) -> Row {
    let path = format!("{}/guests/wasm/{program}.wasm", env!("CARGO_MANIFEST_DIR"));
    let wasm = std::fs::read(path).unwrap();
    let rewritten = wasm_ckpt::instrument::instrument(&wasm).unwrap().wasm;
    let mut times = vec![];
    let modules: Vec<Module> = WAYS
        .iter()
        .zip(engines)
        .map(|(way, engine)| {
            let began = Instant::now();
            let module =
                Module::new(engine, if *way == Way::Rewritten { &rewritten } else { &wasm }).unwrap();
            times.push(began.elapsed().as_secs_f64());
            module
        })
        .collect();
    let args: Vec<String> = [program].into_iter().chain(args.split(' ')).map(String::from).collect();
    let mut samples = [const { vec![] }; 4];
    for _ in 0..ROUNDS {
        for (i, way) in WAYS.iter().enumerate() {
            samples[i].push(run(&engines[i], &modules[i], *way, &args).as_secs_f64());
        }
    }
    samples.iter_mut().for_each(|s| s.sort_by(f64::total_cmp));
    let at = |i: usize, n: usize| samples[i][n];
    let (median, quarter) = (ROUNDS / 2, ROUNDS / 4);
    let plain = at(0, median);
    let ratios = [1, 2, 3].map(|i| at(i, median) / plain);
    let (low, high) = (at(0, quarter) / plain, at(0, ROUNDS - 1 - quarter) / plain);
    let (compile, code) = (times[1] / times[0], size(&modules[1]) / size(&modules[0]));
    println!(
        "{name:<12} {:>8.1} ms  {low:.2}-{high:.2}   {:>6.3}x {:>6.3}x {:>6.3}x   {compile:>5.2}x {code:>5.2}x",
        plain * 1e3,
        ratios[0],
        ratios[1],
        ratios[2]
    );
    Row { ratios, compile, code }
}

fn size(module: &Module) -> f64 {
    module.text().len() as f64
}

fn mean(rows: &[Row], value: impl Fn(&Row) -> f64) -> f64 {
    (rows.iter().map(|row| value(row).ln()).sum::<f64>() / rows.len() as f64).exp()
}

fn main() {
    let wanted: Vec<String> = std::env::args().skip(1).filter(|a| !a.starts_with('-')).collect();
    let engines = WAYS.map(engine);
    println!("program         plain     spread    rewritten  fuel   epochs   compile  code");
    let kernels = KERNELS.iter().map(|name| (*name, "kernels", format!("{name} 4")));
    let programs = PROGRAMS.iter().map(|(name, args)| (*name, *name, args.to_string()));
    let mut rows = vec![];
    for (name, program, args) in kernels.chain(programs) {
        if wanted.is_empty() || wanted.iter().any(|w| w == name) {
            rows.push(measure(name, program, &args, &engines));
        }
    }
    println!(
        "geometric mean                     {:>6.3}x {:>6.3}x {:>6.3}x   {:>5.2}x {:>5.2}x",
        mean(&rows, |r| r.ratios[0]),
        mean(&rows, |r| r.ratios[1]),
        mean(&rows, |r| r.ratios[2]),
        mean(&rows, |r| r.compile),
        mean(&rows, |r| r.code)
    );
}
