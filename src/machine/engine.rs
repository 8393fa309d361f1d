//! The compiler and its settings.

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context, Result, ensure};

use super::cache::CodeCache;
use super::dirty::Tracking;
use super::values::Ours;
use crate::digest::ModuleId;
use crate::instrument::{COST_MODEL, OLDEST_COST_MODEL, Options};
use crate::snapshot::Identity;

/// Bytes of native stack for the guest's frames. A guest that recurses deeper traps; where exactly depends
/// on the instruction set, since native frames differ in size.
pub(super) const WASM_STACK: usize = 64 << 20;

/// How guests are compiled. What is part of a job's identity says so.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// The instruction set: `None` for this machine's, `pulley64` for the portable interpreter.
    pub target: Option<String>,
    /// NaN results are canonical: the same bits on all instruction sets, at 2 to 4 times the time of floating-point code.
    /// Without it they are those of the instruction set. Part of the identity.
    pub canonical_nans: bool,
    /// Relaxed SIMD gives its deterministic results. Part of the identity.
    pub deterministic_relaxed_simd: bool,
    /// How the module is rewritten; the fuel cost model in it is part of the identity.
    pub rewrite: Options,
    /// Where compiled code is kept, if anywhere. Must be private to the user: it is run as it is found.
    pub code_cache: Option<PathBuf>,
    /// How the pages are found that a snapshot has to look at. All ways give the same snapshots.
    pub tracking: Tracking,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            target: None,
            canonical_nans: false,
            deterministic_relaxed_simd: true,
            rewrite: Options::default(),
            code_cache: None,
            tracking: Tracking::Auto,
        }
    }
}

impl Settings {
    /// These settings for going on from a state: with those that are part of its identity, if they are known here.
    /// [`Identity::require`] finds what is not.
    pub fn for_identity(self, identity: &Identity) -> Self {
        let Identity { module: _, cost_model, canonical_nans, deterministic_relaxed_simd } = *identity;
        let cost_model = cost_model.clamp(OLDEST_COST_MODEL, COST_MODEL);
        let rewrite = Options { cost_model, ..self.rewrite };
        Self { rewrite, canonical_nans, deterministic_relaxed_simd, ..self }
    }
}

/// Compiles modules. Cheap to clone.
#[derive(Clone)]
pub struct Engine {
    pub(super) inner: wasmtime::Engine,
    pub(super) settings: Settings,
    pub(super) cache: Option<Arc<CodeCache>>,
}

impl Engine {
    /// An engine with these settings.
    ///
    /// # Errors
    /// The target or the cost model is unknown, or the code cache cannot be made.
    pub fn new(settings: Settings) -> Result<Self> {
        let cost_model = settings.rewrite.cost_model;
        ensure!(
            (OLDEST_COST_MODEL..=COST_MODEL).contains(&cost_model),
            "unknown fuel cost model v{cost_model}"
        );
        let mut config = wasmtime::Config::new();
        config.wasm_branch_hinting(true);
        config.wasm_features(wasmtime::WasmFeatures::WASM3, true);
        // Pulley has no atomic instructions: a module that uses them is refused there.
        config.wasm_threads(!settings.target.as_deref().is_some_and(|t| t.starts_with("pulley")));
        config.cranelift_nan_canonicalization(settings.canonical_nans);
        config.relaxed_simd_deterministic(settings.deterministic_relaxed_simd);
        // Unused here, but checked against the other.
        config.async_stack_size(WASM_STACK + (1 << 20));
        config.max_wasm_stack(WASM_STACK);
        config.cranelift_opt_level(wasmtime::OptLevel::Speed);
        config.generate_address_map(true);
        if let Some(target) = &settings.target {
            config.target(target).ours().with_context(|| format!("unknown target `{target}`"))?;
        }
        let inner = wasmtime::Engine::new(&config).ours().context("cannot set up the engine")?;
        let cache = settings.code_cache.as_deref().map(CodeCache::open).transpose()?.map(Arc::new);
        Ok(Self { inner, settings, cache })
    }

    /// The settings that the engine was made with.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// What a state must have been made with to be resumed by this engine.
    pub fn identity(&self, module: ModuleId) -> Identity {
        Identity {
            module,
            cost_model: self.settings.rewrite.cost_model,
            canonical_nans: self.settings.canonical_nans,
            deterministic_relaxed_simd: self.settings.deterministic_relaxed_simd,
        }
    }
}
