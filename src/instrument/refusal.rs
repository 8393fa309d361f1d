//! Why a module is not run: said before anything of it runs.

use std::fmt;

/// Why a module is refused. Offsets are byte offsets in the module as given.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The bytes are not a WebAssembly module at all.
    #[error("not a WebAssembly module: {0}")]
    NotWasm(String),
    /// A component, not a core module.
    #[error("this is a WebAssembly component, and only core modules can be run; build for wasm32-wasip1")]
    Component,
    /// It uses the form of exceptions that came before that of the standard, as compilers still emit it by default.
    #[error(
        "the module uses the legacy form of exceptions (`try`, at byte {offset}), which wasmtime does not have"
    )]
    LegacyExceptions {
        /// Where the first such instruction is.
        offset: u64,
    },
    /// The module is not valid.
    #[error("invalid module: {message} (at byte {offset})")]
    Invalid {
        /// What the validator says.
        message: String,
        /// Where.
        offset: u64,
    },
    /// The module is valid, but uses what cannot be saved and resumed.
    #[error("{what} {item} at byte {offset} cannot be saved in a snapshot: {why}")]
    Unsupported {
        /// The feature.
        what: &'static str,
        /// The item that uses it.
        item: Item,
        /// Where.
        offset: u64,
        /// Why it has no portable state.
        why: &'static str,
    },
    /// A limit of the rewriter is passed.
    #[error("{item} at byte {offset} is too large: {what} is {found}, at most {limit} are possible")]
    TooLarge {
        /// What is counted.
        what: &'static str,
        /// The item that has too many.
        item: Item,
        /// Where.
        offset: u64,
        /// How many there are.
        found: u64,
        /// How many there may be.
        limit: u64,
    },
    /// The module has more of something than an engine takes, with what is added to save and restore its state.
    #[error(
        "the module has too many {what}: {found} with those that are added, at most {limit} are possible"
    )]
    TooMany {
        /// What is counted.
        what: &'static str,
        /// How many there are.
        found: u32,
        /// How many there may be.
        limit: u32,
    },
}

impl Refusal {
    /// A function, whose code is at that offset, has more of something than the limit.
    pub(super) fn too_large(func: u32, offset: usize, what: &'static str, found: u64, limit: u64) -> Self {
        Self::TooLarge { what, item: Item::new("function", func), offset: offset as u64, found, limit }
    }
}

/// An item of a module, by kind, index and name where it has one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Item {
    /// `function`, `memory`, …
    pub kind: &'static str,
    /// Its index.
    pub index: u32,
    /// Its import or export name.
    pub name: Option<String>,
}

impl Item {
    pub(super) fn new(kind: &'static str, index: u32) -> Self {
        Self { kind, index, name: None }
    }

    pub(super) fn named(kind: &'static str, index: u32, name: String) -> Self {
        Self { kind, index, name: Some(name) }
    }
}

impl fmt::Display for Item {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.kind, self.index)?;
        match &self.name {
            Some(name) => write!(f, " (`{name}`)"),
            None => Ok(()),
        }
    }
}

impl From<wasmparser::Error> for Refusal {
    fn from(error: wasmparser::Error) -> Self {
        // The validator has no other way to say so.
        if error.message().starts_with("legacy exceptions") {
            return Refusal::LegacyExceptions { offset: error.offset() as u64 };
        }
        Refusal::Invalid { message: error.message().to_string(), offset: error.offset() as u64 }
    }
}
