//! Function types that the rewriter needs besides the module's own.
//!
//! A block's type is a value type or one of the module's function types, so all signatures that rewriting can
//! need follow from those: they are laid down before the functions are rewritten, in parallel, and the
//! emitted module does not depend on which thread was first.

use std::collections::{HashMap, HashSet};

use wasm_encoder::BlockType;
use wasmparser::{FuncType, ValType};

use super::hidden::encoded;

/// The type of the host's function that is asked for fuel: size of the frames that were saved, fuel, what is owed.
pub const ASK: (&[ValType], &[ValType]) = (&[ValType::I32, ValType::I64, ValType::I64], &[ValType::I64]);

type Signature = (Vec<ValType>, Vec<ValType>);

/// Types by signature; the indexes follow those of the module.
pub struct TypeTable {
    first: u32,
    by_signature: HashMap<Signature, u32>,
    all: Vec<Signature>,
    /// What the module's functions give.
    results: Vec<Vec<ValType>>,
}

impl TypeTable {
    /// The types needed for a module with these; structs and others are `None`.
    pub fn new(types: &[Option<FuncType>]) -> Self {
        use ValType::{I32, I64};
        const FUNCREF: ValType = ValType::FUNCREF;
        const EXNREF: ValType = ValType::EXNREF;
        let mut table =
            Self { first: types.len() as u32, by_signature: HashMap::new(), all: vec![], results: vec![] };
        let exn = ValType::Ref(wasmparser::RefType::EXN);
        // The helpers' and those of the functions that the host calls.
        let own: [(&[ValType], &[ValType]); 16] = [
            (&[], &[]),
            (&[FUNCREF], &[]),
            (&[], &[FUNCREF]),
            (&[EXNREF], &[]),
            (&[], &[EXNREF]),
            (&[], &[exn]),
            (&[], &[I64, I64]),
            (&[I64], &[]),
            (&[I64, I32, I32, I32], &[]),
            (&[], &[I32, I32, I32, I32]),
            (&[I32], &[]),
            ASK,
            (&[], &[I32]),
            (&[I32, I32], &[I32]),
            (&[I32, I32], &[]),
            (&[I64], &[I64]),
        ];
        for (params, results) in own {
            table.add(params.to_vec(), results.to_vec());
        }
        let mut seen = HashSet::new();
        for ty in types.iter().flatten() {
            if seen.insert(ty.results()) {
                table.results.push(ty.results().to_vec());
            }
            let (params, results) = (ty.params().to_vec(), ty.results().to_vec());
            // A block that was moved has no parameters; nor has a thunk.
            table.add(vec![], results.clone());
            // A loop, or a `try_table` that stays where it is.
            table.add(params, results);
        }
        table
    }

    fn add(&mut self, params: Vec<ValType>, results: Vec<ValType>) {
        let next = self.first + self.all.len() as u32;
        let signature = (params, results);
        if !self.by_signature.contains_key(&signature) {
            self.by_signature.insert(signature.clone(), next);
            self.all.push(signature);
        }
    }

    /// The index of a function type.
    pub fn func_type(&self, params: &[ValType], results: &[ValType]) -> u32 {
        let found = self.by_signature.get(&(params.to_vec(), results.to_vec()));
        *found.expect("every signature follows from the module's types")
    }

    /// All that functions of the module give, each once.
    pub fn results(&self) -> &[Vec<ValType>] {
        &self.results
    }

    /// Where these are among [`TypeTable::results`].
    pub fn position(&self, results: &[ValType]) -> u32 {
        let at = self.results.iter().position(|found| found == results);
        at.expect("the results of a function type") as u32
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
    pub fn all(&self) -> &[Signature] {
        &self.all
    }
}
