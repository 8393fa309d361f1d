//! The same program with its code and data elsewhere. How long a loop takes can depend on where its branches lie in a line of 64 bytes, which
//! of them share a place in the processor's tables, and which pages of memory hold them: some take half as long again for nothing else, plain
//! or rewritten. So each program runs in several layouts, each compiled for itself, and the middle one counts.

use std::convert::Infallible;

use wasm_encoder::reencode::{Error, Reencode, utils};
use wasm_encoder::{
    CodeSection, ConstExpr, Function, FunctionSection, GlobalSection, GlobalType, Module, TypeSection,
    ValType,
};
use wasmparser::{Parser, Payload, TypeRef};

/// The module with unused functions before its own, and unused globals behind them, which move all that lies behind either. Layout 0 is the
/// module as it is.
pub fn shifted(wasm: &[u8], layout: usize) -> Vec<u8> {
    if layout == 0 {
        return wasm.to_vec();
    }
    let mut shift = Shift { imported: imported_functions(wasm), layout: layout as u32, ty: 0 };
    let mut module = Module::new();
    shift.parse_core_module(&mut module, Parser::new(0), wasm).expect("a valid module");
    module.finish()
}

fn imported_functions(wasm: &[u8]) -> u32 {
    let imports = Parser::new(0).parse_all(wasm).find_map(|payload| match payload {
        Ok(Payload::ImportSection(section)) => Some(section),
        _ => None,
    });
    let is_function = |ty: TypeRef| matches!(ty, TypeRef::Func(_) | TypeRef::FuncExact(_));
    let of = |section: wasmparser::ImportSectionReader<'_>| {
        section
            .into_imports()
            .filter(|import| is_function(import.as_ref().expect("a valid module").ty))
            .count()
    };
    imports.map_or(0, of) as u32
}

struct Shift {
    imported: u32,
    /// As many functions and globals are added.
    layout: u32,
    /// Type of the added functions.
    ty: u32,
}

impl Reencode for Shift {
    type Error = Infallible;

    fn function_index(&mut self, func: u32) -> Result<u32, Error> {
        Ok(if func < self.imported { func } else { func + self.layout })
    }

    fn parse_type_section(
        &mut self,
        types: &mut TypeSection,
        section: wasmparser::TypeSectionReader<'_>,
    ) -> Result<(), Error> {
        utils::parse_type_section(self, types, section)?;
        self.ty = types.len();
        types.ty().function([ValType::I32], [ValType::I32]);
        Ok(())
    }

    fn parse_function_section(
        &mut self,
        functions: &mut FunctionSection,
        section: wasmparser::FunctionSectionReader<'_>,
    ) -> Result<(), Error> {
        for _ in 0..self.layout {
            functions.function(self.ty);
        }
        utils::parse_function_section(self, functions, section)
    }

    fn parse_global_section(
        &mut self,
        globals: &mut GlobalSection,
        section: wasmparser::GlobalSectionReader<'_>,
    ) -> Result<(), Error> {
        utils::parse_global_section(self, globals, section)?;
        let ty = GlobalType { val_type: ValType::I64, mutable: true, shared: false };
        for _ in 0..self.layout {
            globals.global(ty, &ConstExpr::i64_const(0));
        }
        Ok(())
    }

    fn parse_code_section(
        &mut self,
        code: &mut CodeSection,
        section: wasmparser::CodeSectionReader<'_>,
    ) -> Result<(), Error> {
        for nth in 0..self.layout {
            let mut body = Function::new([]);
            body.instructions().local_get(0);
            // Some 9 bytes of machine code each, in all a different number of lines for each layout.
            for constant in 0..5 + 11 * (nth + self.layout) {
                body.instructions().i32_const(constant as i32 * 77 + 1000).i32_mul().i32_const(3).i32_rotl();
            }
            body.instructions().end();
            code.function(&body);
        }
        utils::parse_code_section(self, code, section)
    }
}
