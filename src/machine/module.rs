//! A guest module, compiled.

use std::sync::Arc;

use anyhow::{Context, Result};

use super::engine::Engine;
use super::values::Ours;
use crate::digest::ModuleId;
use crate::instrument::{self, Meta, PREFIX};
use crate::snapshot::Identity;

/// A compiled module. Cheap to clone.
#[derive(Clone)]
pub struct Module {
    pub(super) engine: Engine,
    pub(super) inner: wasmtime::Module,
    pub(super) meta: Arc<Meta>,
    id: ModuleId,
}

/// What [`Engine::compile`] is doing, for whoever shows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Progress {
    /// The module is being rewritten and compiled; it has so many bytes.
    Compiling {
        /// Bytes of the module.
        bytes: u64,
    },
    /// It is ready.
    Done {
        /// It came from the code cache.
        cached: bool,
    },
}

impl Engine {
    /// Rewrites and compiles a module, or takes it from the code cache.
    ///
    /// # Errors
    /// A [`Refusal`](crate::instrument::Refusal) (to be found by `downcast_ref`) if the module cannot be
    /// run; else the compiler's own error.
    pub fn compile(&self, wasm: &[u8]) -> Result<Module> {
        self.compile_with(wasm, &mut |_| {})
    }

    /// [`Engine::compile`], telling what it does.
    ///
    /// # Errors
    /// As [`Engine::compile`].
    pub fn compile_with(&self, wasm: &[u8], progress: &mut dyn FnMut(Progress)) -> Result<Module> {
        let id = ModuleId::of(wasm);
        let found = self.cache.as_ref().and_then(|cache| cache.load(&self.inner, &self.settings, id));
        if let Some((inner, meta)) = found {
            progress(Progress::Done { cached: true });
            return Ok(Module { engine: self.clone(), inner, meta: Arc::new(meta), id });
        }
        progress(Progress::Compiling { bytes: wasm.len() as u64 });
        let instrumented = instrument::instrument_with(wasm, &self.settings.rewrite)?;
        let inner = wasmtime::Module::from_binary(&self.inner, &instrumented.wasm)
            .ours()
            .context("the rewritten module does not compile")?;
        if let Some(cache) = &self.cache {
            // Without a cache the next start compiles again: slower, not wrong.
            let _ = cache.store(&self.inner, &self.settings, id, &inner, &instrumented.meta);
        }
        progress(Progress::Done { cached: false });
        Ok(Module { engine: self.clone(), inner, meta: Arc::new(instrumented.meta), id })
    }
}

impl Module {
    /// The id of the original module.
    pub fn id(&self) -> ModuleId {
        self.id
    }

    /// The engine that compiled it.
    pub fn engine(&self) -> &Engine {
        &self.engine
    }

    /// What a state must have been made with to be resumed with this module.
    pub fn identity(&self) -> Identity {
        self.engine.identity(self.id)
    }

    /// The module's own exported functions: name and type.
    pub fn functions(&self) -> impl Iterator<Item = (&str, wasmtime::FuncType)> {
        self.inner
            .exports()
            .filter(|e| !e.name().starts_with(PREFIX))
            .filter_map(|e| e.ty().func().cloned().map(|ty| (e.name(), ty)))
    }

    /// The type of an exported function.
    pub fn function(&self, name: &str) -> Option<wasmtime::FuncType> {
        if name.starts_with(PREFIX) {
            return None;
        }
        self.inner.get_export(name)?.func().cloned()
    }

    /// The module's imports: module, name, and what they are.
    pub fn imports(&self) -> impl Iterator<Item = (&str, &str, wasmtime::ExternType)> {
        self.inner.imports().map(|i| (i.module(), i.name(), i.ty()))
    }
}
