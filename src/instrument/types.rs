//! Function types that the rewriter needs besides the module's own.

use std::collections::HashMap;
use std::sync::Mutex;

use wasm_encoder::BlockType;
use wasmparser::ValType;

use super::hidden::encoded;

type Signature = (Vec<ValType>, Vec<ValType>);

/// Types by signature; the indexes follow those of the module. Shared by the threads that rewrite, so an
/// index depends on who asks first: nothing that leaves the rewriter may depend on it.
pub struct TypeTable {
    first: u32,
    state: Mutex<(HashMap<Signature, u32>, Vec<Signature>)>,
}

impl TypeTable {
    /// A table whose first new type has this index.
    pub fn new(first: u32) -> Self {
        Self { first, state: Mutex::default() }
    }

    /// The index of a function type.
    pub fn func_type(&self, params: &[ValType], results: &[ValType]) -> u32 {
        let mut state = self.state.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        let (by_signature, all) = &mut *state;
        let signature = (params.to_vec(), results.to_vec());
        let first = self.first;
        *by_signature.entry(signature.clone()).or_insert_with(|| {
            all.push(signature);
            first + all.len() as u32 - 1
        })
    }

    /// The type of a block.
    pub fn block_type(&self, params: &[ValType], results: &[ValType]) -> BlockType {
        match (params, results) {
            ([], []) => BlockType::Empty,
            ([], [ty]) => BlockType::Result(encoded(*ty)),
            _ => BlockType::FunctionType(self.func_type(params, results)),
        }
    }

    /// All new types, by index.
    pub fn all(&self) -> Vec<Signature> {
        self.state.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).1.clone()
    }
}
