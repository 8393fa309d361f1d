//! What the rewriter adds to a module: indexes of its globals, memory, tables and functions, and the
//! names under which the host finds them.

use wasm_encoder::ValType;

use super::callgraph::CallGraph;
use super::module::Module;
use super::refusal::Refusal;
use super::types::TypeTable;

/// Prefix of all names that the rewriter exports.
pub const PREFIX: &str = "wasm-ckpt:";

/// How many globals hold fuel.
///
/// Charges to one global wait for each other, unless the processor knows that what it loads is what the same instruction has
/// stored before: one for entries and one for loops, so that a loop's charges are not between those of what it calls
/// (DESIGN.md, Fuel).
pub const FUELS: u32 = 2;

/// The guest runs.
pub const RUNNING: i32 = 0;
/// Frames are being rebuilt.
pub const REWINDING: i32 = 1;
/// Frames are being saved.
pub const UNWINDING: i32 = 2;

/// Number of functions that the host calls.
pub const CONTROLS: u32 = 8;

/// Indexes in the emitted module.
#[derive(Debug, Clone)]
pub struct Hidden {
    /// i64: what entries of functions may still consume; negative: the guest leaves, or frames are being rebuilt.
    pub entry_fuel: u32,
    /// i64: the same for loops and operations on memory.
    pub loop_fuel: u32,
    /// i32: one of [`RUNNING`], [`REWINDING`], [`UNWINDING`].
    pub state: u32,
    /// i32: the point that the dispatch is looking for, or that a frame which is being saved stands at.
    pub point: u32,
    /// i32: end of the frames in the frame memory.
    pub sp: u32,
    /// i64: what each fuel is once the innermost frame is rebuilt.
    pub grant: u32,
    /// i32: number of references on the side tables.
    pub funcs_len: u32,
    pub exns_len: u32,
    /// i64: what bulk operations have cost beyond the fuel that there was, since the guest was entered.
    pub owed: u32,
    /// First of the i32 flags of dropped segments: data, then elements.
    pub dropped: u32,
    /// Memory of the frames.
    pub frames: u32,
    /// Table by function index: calls the function again with zeros. Behind them the host's function that is asked for fuel.
    pub thunks: u32,
    /// Side table of function references in frames, that of exceptions, and all functions that can
    /// become a reference.
    pub func_stack: u32,
    pub exn_stack: u32,
    pub referenced: u32,
    /// Functions of which there is a copy to rebuild their frames with, ascending; the copies follow the module's functions.
    pub copied: Vec<u32>,
    /// Wrapper of import 0; the others follow.
    pub wrappers: u32,
    /// First thunk; `thunk_of[i]` is the function of the i-th.
    pub first_thunk: u32,
    pub thunk_of: Vec<u32>,
    /// Functions that are never called, one per function type of which a non-null reference is needed.
    pub first_dummy: u32,
    pub push_func: u32,
    pub pop_func: u32,
    pub push_exn: u32,
    pub pop_exn: u32,
    pub dummy_exn: u32,
    /// First of the functions that the host calls.
    pub controls: u32,
    /// First of the functions that call the function of the topmost frame again: one for each that is in
    /// [`TypeTable::results`].
    pub first_again: u32,
    /// Completes a frame, and asks the host for fuel: 1 if it gives some, and frames are to be rebuilt.
    pub turn: u32,
    /// Completes a frame, of the function and the size of its values given.
    pub push_frame: u32,
    /// Takes the topmost frame off: gives its point.
    pub pop_frame: u32,
    /// What is left of a fuel that an operation on memory has made negative: the others are taken, and what they lack is owed.
    pub borrow: u32,
    /// A tag of our own, for `dummy_exn`.
    pub tag: u32,
    /// The module handles exceptions.
    pub has_exns: bool,
}

impl Hidden {
    /// Lays the additions out behind what the module has.
    pub fn new(module: &Module<'_>, types: &TypeTable, graph: &CallGraph) -> Self {
        let CallGraph { by_reference, can_suspend, has_exceptions: has_exns, .. } = graph;
        let globals = module.globals.len() as u32;
        let own = globals + FUELS;
        let tables = module.tables.len() as u32;
        let funcs = module.funcs.len() as u32;
        let copied: Vec<u32> = (0..funcs).filter(|&f| graph.shrunk[f as usize].is_some()).collect();
        let wrappers = funcs + copied.len() as u32;
        let first_thunk = wrappers + module.imported_funcs;
        let thunk_of: Vec<u32> =
            (0..funcs).filter(|&f| by_reference[f as usize] && can_suspend[f as usize]).collect();
        let first_dummy = first_thunk + thunk_of.len() as u32;
        let helpers = first_dummy + module.types.iter().flatten().count() as u32;
        let first_again = helpers + 2 + CONTROLS;
        let turn = first_again + types.results().len() as u32;
        let first_exn = turn + 4;
        Hidden {
            entry_fuel: globals,
            loop_fuel: globals + 1,
            state: own,
            point: own + 1,
            sp: own + 2,
            grant: own + 3,
            funcs_len: own + 4,
            exns_len: own + 5,
            owed: own + 6,
            dropped: own + 7,
            frames: module.memories.len() as u32,
            thunks: tables,
            func_stack: tables + 1,
            referenced: tables + 2,
            exn_stack: tables + 3,
            copied,
            wrappers,
            first_thunk,
            thunk_of,
            first_dummy,
            push_func: helpers,
            pop_func: helpers + 1,
            controls: helpers + 2,
            first_again,
            turn,
            push_frame: turn + 1,
            pop_frame: turn + 2,
            borrow: turn + 3,
            push_exn: first_exn,
            pop_exn: first_exn + 1,
            dummy_exn: first_exn + 2,
            tag: module.tags.len() as u32,
            has_exns: *has_exns,
        }
    }

    /// Refuses a module that has more with all this than an engine takes.
    pub fn check(&self, graph: &CallGraph) -> Result<(), Refusal> {
        let of_exns = |count: u32| if self.has_exns { count } else { 0 };
        let flags = (graph.dropped_data.len() + graph.dropped_elems.len()) as u32;
        for (what, found, limit) in [
            ("functions", self.push_exn + of_exns(3), 1_000_000),
            ("tables", self.exn_stack + of_exns(1), 100),
            ("memories", self.frames + 1, 100),
            ("globals", self.dropped + flags, 1_000_000),
        ] {
            if found > limit {
                return Err(Refusal::TooMany { what, found, limit });
            }
        }
        Ok(())
    }

    /// The globals that hold fuel.
    pub fn fuels(&self) -> [u32; FUELS as usize] {
        [self.entry_fuel, self.loop_fuel]
    }

    /// The emitted function for a function of the module: an import's is its wrapper.
    pub fn func(&self, module: &Module<'_>, func: u32) -> u32 {
        if func < module.imported_funcs { self.wrappers + func } else { func }
    }

    /// The emitted function that rebuilds a frame of this function.
    pub fn rebuilding(&self, module: &Module<'_>, func: u32) -> u32 {
        match self.copied.binary_search(&func) {
            Ok(nth) => module.funcs.len() as u32 + nth as u32,
            Err(_) => self.func(module, func),
        }
    }

    /// The function without parameters that calls the function of the topmost frame again, and gives this.
    pub fn again(&self, types: &TypeTable, results: &[wasmparser::ValType]) -> u32 {
        self.first_again + types.position(results)
    }

    /// The function of this type that is never called.
    pub fn dummy(&self, module: &Module<'_>, ty: u32) -> u32 {
        self.first_dummy + module.types[..ty as usize].iter().flatten().count() as u32
    }
}

/// Types are emitted as they are, but a local must have a default.
pub fn nullable(ty: wasmparser::ValType) -> wasmparser::ValType {
    match ty {
        wasmparser::ValType::Ref(r) => wasmparser::ValType::Ref(r.nullable()),
        other => other,
    }
}

/// The encoder's form of a type.
pub fn encoded(ty: wasmparser::ValType) -> ValType {
    ty.try_into().expect("validated: a module's own type")
}
