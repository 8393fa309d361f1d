//! Names of a module's functions and locals, from its name section.

use std::collections::HashMap;
use std::fmt::{self, Write};

use wasmparser::{KnownCustom, Name, Parser, Payload};

use super::exit::printable;

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

/// A name as its source has it, as far as it is shown, if a compiler of Rust or C++ made it.
fn demangled(name: &str) -> Option<String> {
    let mut text = Text(String::new());
    if let Ok(symbol) = rustc_demangle::try_demangle(name) {
        let _ = write!(text, "{symbol:#}"); // without the hash
        return Some(text.0);
    }
    if !name.starts_with("_Z") {
        return None;
    }
    let symbol = cpp_demangle::Symbol::new(name).ok()?;
    let done = symbol.structured_demangle(&mut text, &cpp_demangle::DemangleOptions::default());
    (done.is_ok() || text.0.len() >= SHOWN_MAX).then_some(text.0)
}

/// The beginning of a text: a short name can stand for a very long one.
struct Text(String);

impl Write for Text {
    fn write_str(&mut self, more: &str) -> fmt::Result {
        self.0.push_str(more);
        if self.0.len() >= SHOWN_MAX * char::MAX.len_utf8() { Err(fmt::Error) } else { Ok(()) }
    }
}

/// Names come from the module, so they could do anything to a terminal. Those of Rust and C++ are shown as in the source.
fn shown(name: &str) -> String {
    let source = demangled(name);
    printable(source.as_deref().unwrap_or(name), SHOWN_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_shown_as_in_the_source() {
        for (given, source) in [
            ("main", "main"),
            ("_RNvNtCseAz5zj8E2Rj_5bench7numeric6matmul", "bench::numeric::matmul"),
            ("_ZN4core9panicking5panic17h0123456789abcdefE", "core::panicking::panic"),
            ("_ZN5Stack4pushEi", "Stack::push(int)"),
            ("_Znope", "_Znope"),
            ("_Rnope", "_Rnope"),
            ("runtime.memmove", "runtime.memmove"),
            ("a\nb", "a\\nb"),
        ] {
            assert_eq!(shown(given), source);
        }
    }

    #[test]
    fn no_name_takes_long() {
        // Each part stands for all before it, twice.
        let mut name = "_ZN1aI1b".to_string();
        (0..60).for_each(|nth| name += &format!("S{}_IT_T_E", char::from(b'0' + nth % 10)));
        let doubled = format!("_Z1fI{}E", "3fooIS_S_E".repeat(200));
        for name in [name, doubled, format!("_R{}", "NvC".repeat(5000)), "_ZN".repeat(5000)] {
            assert!(shown(&name).chars().count() <= 2 * SHOWN_MAX, "{name}");
        }
    }
}
