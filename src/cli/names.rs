//! Names of a module's functions and locals, from its name section.

use std::collections::HashMap;

use wasmparser::{KnownCustom, Name, Parser, Payload};

/// The names; empty where the module gives none.
#[derive(Default)]
pub struct Names {
    functions: HashMap<u32, String>,
    locals: HashMap<(u32, u32), String>,
}

/// Longest name that is shown, in characters.
const SHOWN_MAX: usize = 200;

impl Names {
    /// The names of a module. One that cannot be parsed has none.
    pub fn of(wasm: &[u8]) -> Self {
        let mut names = Self::default();
        let mut imported = 0;
        for payload in Parser::new(0).parse_all(wasm) {
            match payload {
                Ok(Payload::ImportSection(imports)) => {
                    for import in imports.into_imports().flatten() {
                        if matches!(
                            import.ty,
                            wasmparser::TypeRef::Func(_) | wasmparser::TypeRef::FuncExact(_)
                        ) {
                            let name = format!("{}.{}", import.module, import.name);
                            names.functions.entry(imported).or_insert(shown(&name));
                            imported += 1;
                        }
                    }
                }
                Ok(Payload::ExportSection(exports)) => {
                    for export in exports.into_iter().flatten() {
                        if export.kind == wasmparser::ExternalKind::Func {
                            names.functions.entry(export.index).or_insert(shown(export.name));
                        }
                    }
                }
                Ok(Payload::CustomSection(section)) => {
                    if let KnownCustom::Name(section) = section.as_known() {
                        section.into_iter().flatten().for_each(|name| names.add(name));
                    }
                }
                Ok(_) => {}
                Err(_) => break,
            }
        }
        names
    }

    fn add(&mut self, name: Name<'_>) {
        match name {
            Name::Function(map) => {
                for naming in map.into_iter().flatten() {
                    self.functions.insert(naming.index, shown(naming.name));
                }
            }
            Name::Local(functions) => {
                for function in functions.into_iter().flatten() {
                    for naming in function.names.into_iter().flatten() {
                        self.locals.insert((function.index, naming.index), shown(naming.name));
                    }
                }
            }
            _ => {}
        }
    }

    /// A function in words: its name, or its index.
    pub fn function(&self, index: u32) -> String {
        self.functions.get(&index).cloned().unwrap_or_else(|| format!("function {index}"))
    }

    /// The name of a function, if it has one.
    pub fn of_function(&self, index: u32) -> Option<&str> {
        self.functions.get(&index).map(String::as_str)
    }

    /// The name of a local, if it has one.
    pub fn of_local(&self, function: u32, local: u32) -> Option<&str> {
        self.locals.get(&(function, local)).map(String::as_str)
    }
}

/// Names come from the module, so they could do anything to a terminal.
fn shown(name: &str) -> String {
    let plain = name.chars().take(SHOWN_MAX);
    plain.flat_map(|c| if c.is_control() { c.escape_default().collect() } else { vec![c] }).collect()
}
