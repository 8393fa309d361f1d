//! Why a guest cannot go on.

use std::fmt;

use anyhow::Result;

use super::module::Module;

/// A trap, or an exception that nobody caught.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trap {
    /// What happened, in the engine's words.
    pub message: String,
    /// The engine's code, where it has one.
    pub code: Option<wasmtime::Trap>,
    /// The call stack, innermost first: (function, byte offset), both of the original module.
    pub frames: Vec<(u32, Option<u64>)>,
}

impl fmt::Display for Trap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl Trap {
    /// Takes what the engine reports apart; an error of the host's own functions is passed on.
    pub(super) fn from_engine(error: wasmtime::Error, module: &Module) -> Result<Self> {
        let code = error.downcast_ref::<wasmtime::Trap>().copied();
        let thrown = error.downcast_ref::<wasmtime::ThrownException>().is_some();
        let frames = error.downcast_ref::<wasmtime::WasmBacktrace>().map_or(vec![], |b| frames(b, module));
        let message = match code {
            Some(code) => code.to_string(),
            None if thrown => "an exception was thrown and not caught".to_string(),
            None => return Err(OfHost(error).into()),
        };
        Ok(Self { message, code, frames })
    }
}

/// An error of a function of the host. The engine puts the native call stack before it, which says nothing to anybody.
#[derive(Debug)]
struct OfHost(wasmtime::Error);

impl fmt::Display for OfHost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the program cannot go on")
    }
}

impl std::error::Error for OfHost {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        let hidden = usize::from(self.0.downcast_ref::<wasmtime::WasmBacktrace>().is_some());
        self.0.chain().nth(hidden)
    }
}

/// The engine tells of so many native frames, and some of them are two of the guest's.
const FRAMES_MAX: usize = 20;

fn frames(backtrace: &wasmtime::WasmBacktrace, module: &Module) -> Vec<(u32, Option<u64>)> {
    let meta = &module.meta;
    let emitted = backtrace.frames().iter();
    let places = emitted
        .flat_map(|frame| meta.places(frame.func_index(), frame.func_offset().map(|offset| offset as u32)));
    places.map(|(func, offset)| (func, offset.map(u64::from))).take(FRAMES_MAX).collect()
}
