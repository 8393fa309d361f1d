//! The ways in which a program is run, and how it is compiled for each.

use std::fs;
use std::path::Path;

use wasm_ckpt::instrument::instrument;
use wasm_ckpt::{Engine, Module, Settings};
use wasmtime::{Config, WasmFeatures};

use crate::clock::Took;

/// How a program is run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// The module as it is, wasmtime as it is.
    Plain,
    /// Rewritten, with the settings of production.
    Rewritten,
    /// Rewritten, with the other setting for NaNs: as the processor gives them, or canonical.
    OtherNan,
    /// The module as it is, with wasmtime's fuel.
    Fuel,
    /// The module as it is, with checks of wasmtime's epochs.
    Epochs,
}

/// All, plain first.
pub const WAYS: [Way; 5] = [Way::Plain, Way::Rewritten, Way::OtherNan, Way::Fuel, Way::Epochs];

impl Way {
    /// Whether NaNs are canonical.
    fn canonical_nans(self) -> bool {
        self.is_ours() && (self == Way::OtherNan) != Settings::default().canonical_nans
    }

    /// In tables.
    pub fn name(self) -> &'static str {
        match self {
            Way::Plain => "plain",
            Way::Rewritten => "rewritten",
            Way::OtherNan if Settings::default().canonical_nans => "any NaN",
            Way::OtherNan => "canonical NaN",
            Way::Fuel => "fuel",
            Way::Epochs => "epochs",
        }
    }

    /// It runs in the project's own `Instance`.
    pub fn is_ours(self) -> bool {
        matches!(self, Way::Rewritten | Way::OtherNan)
    }
}

/// Wasmtime's defaults, with what it takes to run the same programs: features, and the native stack.
fn config() -> Config {
    let mut config = Config::new();
    config.wasm_features(WasmFeatures::WASM3, true);
    config.wasm_branch_hinting(true);
    config.async_stack_size((64 << 20) + (1 << 20)).max_wasm_stack(64 << 20);
    config
}

/// An engine for a way: of those that are ours, what the project's own engine has inside.
pub fn engine(way: Way) -> wasmtime::Engine {
    let mut config = config();
    config.consume_fuel(way == Way::Fuel).epoch_interruption(way == Way::Epochs);
    config.cranelift_nan_canonicalization(way.canonical_nans());
    config.relaxed_simd_deterministic(way.is_ours() && Settings::default().deterministic_relaxed_simd);
    wasmtime::Engine::new(&config).unwrap()
}

/// The project's own engine, for a way that is ours.
pub fn our_engine(way: Way, cache: &Path) -> Engine {
    let code_cache = Some(cache.to_path_buf());
    Engine::new(Settings { canonical_nans: way.canonical_nans(), code_cache, ..Settings::default() }).unwrap()
}

/// A compiled module.
pub enum Compiled {
    Theirs(wasmtime::Module),
    Ours(Module),
}

/// A compiled module, and what it took.
pub struct Built {
    pub compiled: Compiled,
    /// Compiling alone, without rewriting.
    pub compile: Took,
    /// Rewriting, on all cores.
    pub rewrite: Option<Took>,
    /// Bytes of native code, without padding.
    pub code: u64,
}

/// Compiles. The project's own engine keeps its code below `cache`, which must be empty.
pub fn build(way: Way, wasm: &[u8], cache: &Path) -> Built {
    let timed = |wasm: &[u8]| {
        let engine = engine(way);
        let (compile, module) = Took::by(|| wasmtime::Module::new(&engine, wasm).unwrap());
        let code = functions_size(&module);
        (compile, code, module)
    };
    if !way.is_ours() {
        let (compile, code, module) = timed(wasm);
        return Built { compiled: Compiled::Theirs(module), compile, rewrite: None, code };
    }
    let (rewrite, rewritten) = Took::by(|| instrument(wasm).unwrap().wasm);
    let (compile, code, _) = timed(&rewritten);
    let module = our_engine(way, cache).compile(wasm).unwrap();
    assert_eq!(code, cached_code_size(way, cache), "the project's engine gives other code");
    Built { compiled: Compiled::Ours(module), compile, rewrite: Some(rewrite), code }
}

/// Compiles, or loads what was compiled before into the same directory.
pub fn build_once(way: Way, wasm: &[u8], cache: &Path) -> Compiled {
    if way.is_ours() {
        return Compiled::Ours(our_engine(way, cache).compile(wasm).unwrap());
    }
    let (engine, file) = (engine(way), cache.join("code"));
    if !file.exists() {
        fs::create_dir_all(cache).unwrap();
        fs::write(&file, engine.precompile_module(wasm).unwrap()).unwrap();
    }
    Compiled::Theirs(load(&engine, &file))
}

/// The text section is padded to whole pages, and holds trampolines: what counts is the functions' own length.
fn functions_size(module: &wasmtime::Module) -> u64 {
    module.functions().map(|function| function.len as u64).sum()
}

/// Of the one module in a code cache. An engine with other settings than production's could not load it.
fn cached_code_size(way: Way, cache: &Path) -> u64 {
    let entry = fs::read_dir(cache).unwrap().next().unwrap().unwrap();
    functions_size(&load(&engine(way), &entry.path().join("code")))
}

/// A module that was compiled by this program, from its file.
#[allow(unsafe_code)]
pub fn load(engine: &wasmtime::Engine, file: &Path) -> wasmtime::Module {
    // SAFETY: the file is in a temporary directory of this process, which wrote it with the same wasmtime.
    unsafe { wasmtime::Module::deserialize_file(engine, file) }.unwrap()
}
