//! Modules of `wasm-smith`.

use arbitrary::Unstructured;
use wasm_smith::{Config, Module};

use crate::rng::Rng;

fn config(rng: &mut Rng) -> Config {
    Config {
        // The host has functions only; our own generator imports those.
        max_imports: 0,
        allow_start_export: rng.one_in(4),
        bulk_memory_enabled: true,
        disallow_traps: rng.one_in(2),
        exceptions_enabled: true,
        export_everything: true,
        gc_enabled: false,
        extended_const_enabled: true,
        max_data_segments: 4,
        max_element_segments: 6,
        max_elements: 8,
        min_funcs: 1,
        max_funcs: 8,
        max_globals: 10,
        max_instructions: [40, 100, 400][rng.below(3)],
        max_memories: rng.below(4),
        max_memory32_bytes: 256 << 10,
        max_memory64_bytes: 256 << 10,
        memory_max_size_required: true,
        max_nesting_depth: 8,
        max_table_elements: 50,
        table_max_size_required: true,
        max_tables: 3,
        max_tags: 4,
        max_types: 12,
        min_types: 2,
        memory64_enabled: true,
        multi_value_enabled: true,
        reference_types_enabled: true,
        relaxed_simd_enabled: true,
        simd_enabled: true,
        tail_call_enabled: true,
        threads_enabled: false,
        max_aliases: 0,
        ..Config::default()
    }
}

/// The module of a seed, if the seed gives one.
pub fn module(seed: u64) -> Option<Vec<u8>> {
    let mut rng = Rng::new(seed);
    let config = config(&mut rng);
    let terminate = rng.one_in(2);
    let bytes = rng.bytes(4000);
    let Ok(mut module) = Module::new(config, &mut Unstructured::new(&bytes)) else { return None };
    if terminate && module.ensure_termination(300).is_err() {
        return None;
    }
    Some(module.to_bytes())
}
