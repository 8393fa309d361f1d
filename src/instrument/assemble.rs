//! The emitted module: the given one with its functions rewritten, and the rewriter's additions behind
//! each kind of item, so that all original indexes stay what they are.

use wasm_encoder::reencode::{Reencode, RoundtripReencoder};
use wasm_encoder::{
    ConstExpr, CustomSection, DataCountSection, ElementSection, Elements, Encode, ExportKind, ExportSection,
    FunctionSection, GlobalSection, GlobalType, ImportSection, MemorySection, MemoryType, RawSection,
    RefType, Section, SectionId, TableSection, TableType, TagSection, TypeSection, ValType,
};
use wasmparser::ExternalKind;

use super::additions::Additions;
use super::emit::Context;
use super::hidden::{FUELS, Hidden, PREFIX, encoded};
use super::module::Module;
use super::pipeline::Rewritten;

/// Pages of 64 KiB of the frame memory: virtual until a deep stack is suspended. A saved frame is at most
/// about as large as its native one, and the native stack is smaller than this.
const FRAME_PAGES: u64 = (512 << 20) / 65536;

/// Bytes before the data section's contents, at most.
const DATA_HEADER: usize = 6;

type Error = wasm_encoder::reencode::Error<std::convert::Infallible>;

/// Re-encodes with the functions of imports replaced by their wrappers.
struct Renamed<'m, 'a> {
    module: &'m Module<'a>,
    hidden: &'m Hidden,
}

impl Reencode for Renamed<'_, '_> {
    type Error = std::convert::Infallible;

    fn function_index(&mut self, func: u32) -> Result<u32, Error> {
        Ok(self.hidden.func(self.module, func))
    }
}

/// Puts the module together. The code, by far the most of it, grows where it is: its beginning is made room for.
pub fn assemble(cx: &Context<'_, '_>, rewritten: Rewritten) -> Result<Vec<u8>, Error> {
    let additions = Additions::new(cx, cx.types);
    let Rewritten { mut code, hints, hinted, .. } = rewritten;
    additions.funcs.iter().for_each(|(_, body)| body.encode(&mut code));
    let mut head = sections_before_code(cx, &additions)?;
    head.section(&branch_hints(hinted, &hints));
    let mut head = head.finish();
    let mut count = vec![];
    (cx.module.bodies.len() + cx.hidden.copied.len() + additions.funcs.len()).encode(&mut count);
    head.push(SectionId::Code as u8);
    (count.len() + code.len()).encode(&mut head);
    head.extend_from_slice(&count);

    let data = cx.module.sections.data.as_ref().map_or(&[][..], |reader| &cx.wasm[reader.range()]);
    let len = code.len();
    code.reserve_exact(head.len() + data.len() + DATA_HEADER);
    code.resize(len + head.len(), 0);
    code.copy_within(..len, head.len());
    code[..head.len()].copy_from_slice(&head);
    if cx.module.sections.data.is_some() {
        RawSection { id: SectionId::Data as u8, data }.append_to(&mut code);
    }
    Ok(code)
}

fn sections_before_code(cx: &Context<'_, '_>, additions: &Additions) -> Result<wasm_encoder::Module, Error> {
    let mut out = wasm_encoder::Module::new();
    let module = cx.module;
    let mut renamed = Renamed { module, hidden: cx.hidden };

    let mut section = TypeSection::new();
    if let Some(reader) = &module.sections.types {
        RoundtripReencoder.parse_type_section(&mut section, reader.clone())?;
    }
    let mut functions = FunctionSection::new();
    for &ty in &module.funcs[module.imported_funcs as usize..] {
        functions.function(ty);
    }
    for &func in &cx.hidden.copied {
        functions.function(module.funcs[func as usize]);
    }
    for (ty, _) in &additions.funcs {
        functions.function(*ty);
    }
    for (params, results) in cx.types.all() {
        section.ty().function(params.iter().copied().map(encoded), results.iter().copied().map(encoded));
    }
    out.section(&section);

    if let Some(reader) = &module.sections.imports {
        let mut section = ImportSection::new();
        RoundtripReencoder.parse_import_section(&mut section, reader.clone())?;
        out.section(&section);
    }
    out.section(&functions);
    out.section(&tables(cx, &mut renamed)?);
    out.section(&memories(cx));
    if cx.hidden.has_exns {
        let mut section = TagSection::new();
        if let Some(reader) = &module.sections.tags {
            RoundtripReencoder.parse_tag_section(&mut section, reader.clone())?;
        }
        section.tag(wasm_encoder::TagType {
            kind: wasm_encoder::TagKind::Exception,
            func_type_idx: additions.empty_type,
        });
        out.section(&section);
    }
    out.section(&globals(cx, &mut renamed)?);
    out.section(&exports(cx));
    out.section(&elements(cx, &mut renamed)?);
    if let Some(count) = module.sections.data_count {
        out.section(&DataCountSection { count });
    }
    Ok(out)
}

fn tables(cx: &Context<'_, '_>, renamed: &mut Renamed<'_, '_>) -> Result<TableSection, Error> {
    let mut section = TableSection::new();
    if let Some(reader) = &cx.module.sections.tables {
        renamed.parse_table_section(&mut section, reader.clone())?;
    }
    let table = |element_type, minimum: usize, fixed: bool| TableType {
        element_type,
        table64: false,
        minimum: minimum as u64,
        maximum: fixed.then_some(minimum as u64),
        shared: false,
    };
    section.table(table(RefType::FUNCREF, cx.module.funcs.len() + 1, true));
    section.table(table(RefType::FUNCREF, 0, false));
    section.table(table(RefType::FUNCREF, cx.module.referenced.len(), true));
    if cx.hidden.has_exns {
        section.table(table(RefType::EXNREF, 0, false));
    }
    Ok(section)
}

fn memories(cx: &Context<'_, '_>) -> MemorySection {
    let mut section = MemorySection::new();
    let imported =
        cx.module.imports.iter().filter(|i| matches!(i.ty, wasmparser::TypeRef::Memory(_))).count();
    for memory in &cx.module.memories[imported..] {
        section.memory((*memory).into());
    }
    section.memory(MemoryType {
        minimum: FRAME_PAGES,
        maximum: Some(FRAME_PAGES),
        memory64: false,
        shared: false,
        page_size_log2: None,
    });
    section
}

fn globals(cx: &Context<'_, '_>, renamed: &mut Renamed<'_, '_>) -> Result<GlobalSection, Error> {
    let mut section = GlobalSection::new();
    if let Some(reader) = &cx.module.sections.globals {
        renamed.parse_global_section(&mut section, reader.clone())?;
    }
    let dropped = cx.graph.dropped_data.len() + cx.graph.dropped_elems.len();
    let types = {
        use ValType::{I32, I64};
        [I32, I32, I32, I64, I32, I32, I64]
    };
    let fuels = (0..FUELS).map(|_| ValType::I64);
    for val_type in fuels.chain(types).chain((0..dropped).map(|_| ValType::I32)) {
        let init = if val_type == ValType::I64 { ConstExpr::i64_const(0) } else { ConstExpr::i32_const(0) };
        section.global(GlobalType { val_type, mutable: true, shared: false }, &init);
    }
    Ok(section)
}

fn exports(cx: &Context<'_, '_>) -> ExportSection {
    let (module, hidden) = (cx.module, cx.hidden);
    let mut section = ExportSection::new();
    for export in &module.exports {
        let (kind, index) = match export.kind {
            ExternalKind::Func | ExternalKind::FuncExact => {
                (ExportKind::Func, hidden.func(module, export.index))
            }
            ExternalKind::Table => (ExportKind::Table, export.index),
            ExternalKind::Memory => (ExportKind::Memory, export.index),
            ExternalKind::Global => (ExportKind::Global, export.index),
            ExternalKind::Tag => (ExportKind::Tag, export.index),
        };
        section.export(export.name, kind, index);
    }
    let mut export = |name: String, kind, index| {
        section.export(&format!("{PREFIX}{name}"), kind, index);
    };
    let controls =
        ["fuel", "unwind", "begin", "rewind", "status", "save_globals", "load_globals", "drop_segment"];
    for (i, name) in controls.into_iter().enumerate() {
        export(name.to_string(), ExportKind::Func, hidden.controls + i as u32);
    }
    export("frames".into(), ExportKind::Memory, hidden.frames);
    export("thunks".into(), ExportKind::Table, hidden.thunks);
    export("func_stack".into(), ExportKind::Table, hidden.func_stack);
    export("referenced".into(), ExportKind::Table, hidden.referenced);
    if hidden.has_exns {
        export("exn_stack".into(), ExportKind::Table, hidden.exn_stack);
        (0..module.tags.len() as u32).for_each(|i| export(format!("tag{i}"), ExportKind::Tag, i));
    }
    (0..module.memories.len() as u32).for_each(|i| export(format!("memory{i}"), ExportKind::Memory, i));
    for (i, _) in cx.graph.changed_tables.iter().enumerate().filter(|(_, changed)| **changed) {
        export(format!("table{i}"), ExportKind::Table, i as u32);
    }
    if let Some(start) = module.start {
        export("start".into(), ExportKind::Func, hidden.func(module, start));
    }
    section
}

fn elements(cx: &Context<'_, '_>, renamed: &mut Renamed<'_, '_>) -> Result<ElementSection, Error> {
    let (module, hidden) = (cx.module, cx.hidden);
    let mut section = ElementSection::new();
    if let Some(reader) = &module.sections.elements {
        renamed.parse_element_section(&mut section, reader.clone())?;
    }
    for (i, &func) in hidden.thunk_of.iter().enumerate() {
        let at = ConstExpr::i32_const(func as i32);
        let thunk = [hidden.first_thunk + i as u32];
        section.active(Some(hidden.thunks), &at, Elements::Functions(thunk[..].into()));
    }
    let referenced: Vec<_> = module.referenced.iter().map(|&f| hidden.func(module, f)).collect();
    let zero = ConstExpr::i32_const(0);
    section.active(Some(hidden.referenced), &zero, Elements::Functions(referenced[..].into()));
    let dummies: Vec<_> = (hidden.first_dummy..=hidden.push_func).collect();
    section.declared(Elements::Functions(dummies[..].into()));
    Ok(section)
}

fn branch_hints(functions: u32, hints: &[u8]) -> CustomSection<'static> {
    let mut data = vec![];
    functions.encode(&mut data);
    data.extend_from_slice(hints);
    CustomSection { name: "metadata.code.branch_hint".into(), data: data.into() }
}
