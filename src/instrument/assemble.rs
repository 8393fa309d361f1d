//! The emitted module: the given one with its functions rewritten, and the rewriter's additions behind
//! each kind of item, so that all original indexes stay what they are.

use wasm_encoder::reencode::{Reencode, RoundtripReencoder};
use wasm_encoder::{
    CodeSection, ConstExpr, DataCountSection, ElementSection, Elements, ExportKind, ExportSection, Function,
    FunctionSection, GlobalSection, GlobalType, ImportSection, InstructionSink, MemorySection, MemoryType,
    RawSection, RefType, SectionId, TableSection, TableType, TagSection, TypeSection, ValType,
};
use wasmparser::ExternalKind;

use super::callgraph::CallGraph;
use super::emit::{Context, Emitted, cast, kind, load, mem, restore_frame, save_frame, store, zeros};
use super::frame::{Kind, Layout, Place};
use super::hidden::{Hidden, PREFIX, encoded};
use super::module::Module;
use super::types::TypeTable;

/// Pages of 64 KiB of the frame memory: virtual until a deep stack is suspended. A saved frame is at most
/// about as large as its native one, and the native stack is smaller than this.
const FRAME_PAGES: u64 = (512 << 20) / 65536;

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

/// A global that snapshots hold.
pub type SavedGlobal = (u32, Kind);

/// The mutable globals.
pub fn saved_globals(cx: &Context<'_, '_>) -> Vec<SavedGlobal> {
    let globals = cx.module.globals.iter().enumerate();
    globals.filter(|(_, ty)| ty.mutable).map(|(i, ty)| (i as u32, kind(cx, ty.content_type))).collect()
}

/// The module's bytes, and the offset of each emitted function body in them, by body.
pub struct Assembled {
    pub wasm: Vec<u8>,
}

/// Puts the module together.
pub fn assemble(cx: &Context<'_, '_>, emitted: &[Emitted], types: &TypeTable) -> Result<Assembled, Error> {
    // Bodies first: they may ask for more types.
    let additions = Additions::new(cx, types);
    let mut out = wasm_encoder::Module::new();
    let module = cx.module;
    let mut renamed = Renamed { module, hidden: cx.hidden };

    let mut section = TypeSection::new();
    if let Some(reader) = &module.sections.types {
        RoundtripReencoder.parse_type_section(&mut section, reader.clone())?;
    }
    let mut functions = FunctionSection::new();
    module.funcs[module.imported_funcs as usize..].iter().for_each(|&ty| drop(functions.function(ty)));
    additions.funcs.iter().for_each(|(ty, _)| drop(functions.function(*ty)));
    for (params, results) in types.all() {
        section.ty().function(params.into_iter().map(encoded), results.into_iter().map(encoded));
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
    out.section(&branch_hints(module.imported_funcs, emitted));
    let mut code = CodeSection::new();
    emitted.iter().for_each(|f| drop(code.raw(&f.body)));
    additions.funcs.iter().for_each(|(_, body)| drop(code.function(body)));
    out.section(&code);
    if let Some(reader) = &module.sections.data {
        let data = &cx.wasm[reader.range()];
        out.section(&RawSection { id: SectionId::Data as u8, data });
    }
    Ok(Assembled { wasm: out.finish() })
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
    section.table(table(RefType::FUNCREF, cx.module.funcs.len(), true));
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
    let types =
        [ValType::I64, ValType::I32, ValType::I32, ValType::I32, ValType::I64, ValType::I32, ValType::I32];
    for val_type in types.into_iter().chain((0..dropped).map(|_| ValType::I32)) {
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
    let mut export =
        |name: String, kind, index| drop(section.export(&format!("{PREFIX}{name}"), kind, index));
    let controls = ["swap_fuel", "begin", "rewind", "status", "save_globals", "load_globals", "drop_segment"];
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

fn branch_hints(imported: u32, emitted: &[Emitted]) -> wasm_encoder::BranchHints {
    let mut section = wasm_encoder::BranchHints::new();
    for (i, function) in emitted.iter().enumerate().filter(|(_, f)| !f.hints.is_empty()) {
        let hints = function.hints.iter().map(|&(at, taken)| wasm_encoder::BranchHint {
            branch_func_offset: at,
            branch_hint_value: u32::from(taken),
        });
        section.function_hints(imported + i as u32, hints.collect::<Vec<_>>());
    }
    section
}

/// The layouts of an import's wrapper: its arguments.
pub fn wrapper_layouts(cx: &Context<'_, '_>, import: u32) -> Vec<Layout> {
    let params = cx.module.func_type(import).params().iter().enumerate();
    let locals = params.map(|(i, &ty)| (i as u32, kind(cx, ty))).collect();
    vec![Layout { place: Place::Import, offset: 0, stack: vec![], locals }]
}

/// The functions that are added, as (type, body), in the order that [`Hidden`] lays down.
struct Additions {
    funcs: Vec<(u32, Function)>,
    empty_type: u32,
}

impl Additions {
    fn new(cx: &Context<'_, '_>, types: &TypeTable) -> Self {
        let (module, hidden) = (cx.module, cx.hidden);
        let mut funcs = vec![];
        for import in 0..module.imported_funcs {
            funcs.push((module.funcs[import as usize], wrapper(cx, import)));
        }
        for &func in &hidden.thunk_of {
            let ty = module.func_type(func);
            funcs.push((types.func_type(&[], ty.results()), thunk(cx, func)));
        }
        for (i, _) in module.types.iter().enumerate().filter(|(_, ty)| ty.is_some()) {
            funcs.push((i as u32, body(|sink| drop(sink.unreachable()))));
        }
        let p = wasmparser::ValType::FUNCREF;
        funcs.push((types.func_type(&[p], &[]), push(hidden.func_stack, hidden.funcs_len, RefType::FUNCREF)));
        funcs.push((types.func_type(&[], &[p]), pop(hidden.func_stack, hidden.funcs_len, RefType::FUNCREF)));
        controls(cx, types, &mut funcs);
        if hidden.has_exns {
            let p = wasmparser::ValType::EXNREF;
            funcs
                .push((types.func_type(&[p], &[]), push(hidden.exn_stack, hidden.exns_len, RefType::EXNREF)));
            funcs.push((types.func_type(&[], &[p]), pop(hidden.exn_stack, hidden.exns_len, RefType::EXNREF)));
            let exn = wasmparser::RefType::EXN;
            funcs.push((types.func_type(&[], &[wasmparser::ValType::Ref(exn)]), dummy_exn(cx, types)));
        }
        Additions { funcs, empty_type: types.func_type(&[], &[]) }
    }
}

fn body(write: impl FnOnce(&mut InstructionSink<'_>)) -> Function {
    let mut function = Function::new([]);
    write(&mut function.instructions());
    function.instructions().end();
    function
}

/// Calls the import; when the host asks to stop in it, keeps the arguments to call it again.
fn wrapper(cx: &Context<'_, '_>, import: u32) -> Function {
    let ty = cx.module.func_type(import);
    let slots: Vec<_> = ty.params().iter().enumerate().map(|(i, &ty)| (i as u32, ty)).collect();
    let (hidden, scratch) = (cx.hidden, slots.len() as u32);
    let mut code = vec![];
    let negative = |code: &mut Vec<u8>| {
        InstructionSink::new(code)
            .global_get(hidden.fuel)
            .i64_const(0)
            .i64_lt_s()
            .if_(wasm_encoder::BlockType::Empty);
    };
    negative(&mut code);
    // Only a rewind gets here without fuel.
    restore_frame(&mut code, cx, scratch, &slots, scratch);
    let mut sink = InstructionSink::new(&mut code);
    sink.i32_const(0).global_set(hidden.rewinding).global_get(hidden.grant).global_set(hidden.fuel).end();
    slots.iter().for_each(|(local, _)| drop(sink.local_get(*local)));
    sink.call(import);
    negative(&mut code);
    save_frame(&mut code, cx, scratch, &slots, import, 0);
    zeros(&mut code, cx, ty.results());
    InstructionSink::new(&mut code).return_().end().end();
    let mut function = Function::new([(1, ValType::I32)]);
    function.raw(code);
    function
}

/// Calls the function again, with zeros for its arguments, in the thunk's own place.
fn thunk(cx: &Context<'_, '_>, func: u32) -> Function {
    let mut code = vec![];
    zeros(&mut code, cx, cx.module.func_type(func).params());
    InstructionSink::new(&mut code).return_call(cx.hidden.func(cx.module, func)).end();
    let mut function = Function::new([]);
    function.raw(code);
    function
}

fn push(table: u32, len: u32, ty: RefType) -> Function {
    body(|sink| {
        sink.global_get(len).table_size(table).i32_ge_u().if_(wasm_encoder::BlockType::Empty);
        sink.ref_null(ty.heap_type).i32_const(64).table_grow(table).i32_const(-1).i32_eq();
        sink.if_(wasm_encoder::BlockType::Empty).unreachable().end().end();
        sink.global_get(len).local_get(0).table_set(table);
        sink.global_get(len).i32_const(1).i32_add().global_set(len);
    })
}

fn pop(table: u32, len: u32, ty: RefType) -> Function {
    body(|sink| {
        sink.global_get(len).i32_const(1).i32_sub().global_set(len);
        sink.global_get(len).table_get(table);
        // What is popped must not be kept alive.
        sink.global_get(len).ref_null(ty.heap_type).table_set(table);
    })
}

fn dummy_exn(cx: &Context<'_, '_>, types: &TypeTable) -> Function {
    let exn = wasmparser::ValType::Ref(wasmparser::RefType::EXN);
    let block = types.block_type(&[], &[exn]);
    body(|sink| {
        sink.block(block);
        sink.try_table(wasm_encoder::BlockType::Empty, [wasm_encoder::Catch::AllRef { label: 0 }]);
        sink.throw(cx.hidden.tag).end().unreachable().end();
    })
}

/// The functions that the host calls, in the order of their exports.
fn controls(cx: &Context<'_, '_>, types: &TypeTable, funcs: &mut Vec<(u32, Function)>) {
    use wasmparser::ValType::{I32, I64};
    let hidden = cx.hidden;
    let swap_fuel = body(|sink| drop(sink.global_get(hidden.fuel).local_get(0).global_set(hidden.fuel)));
    funcs.push((types.func_type(&[I64], &[I64]), swap_fuel));
    let begin = body(|sink| {
        sink.local_get(0).global_set(hidden.fuel);
        [hidden.rewinding, hidden.sp, hidden.funcs_len, hidden.exns_len]
            .iter()
            .for_each(|&global| drop(sink.i32_const(0).global_set(global)));
    });
    funcs.push((types.func_type(&[I64], &[]), begin));
    let rewind = body(|sink| {
        sink.local_get(0).global_set(hidden.grant);
        sink.local_get(1).global_set(hidden.sp);
        sink.local_get(2).global_set(hidden.funcs_len);
        sink.local_get(3).global_set(hidden.exns_len);
        sink.i32_const(1).global_set(hidden.rewinding);
        // So far below zero that the charges of frames being rebuilt do not matter.
        sink.i64_const(i64::MIN / 2).global_set(hidden.fuel);
    });
    funcs.push((types.func_type(&[I64, I32, I32, I32], &[]), rewind));
    let status = body(|sink| {
        [hidden.sp, hidden.funcs_len, hidden.exns_len]
            .iter()
            .for_each(|&global| drop(sink.global_get(global)));
    });
    funcs.push((types.func_type(&[], &[I32, I32, I32]), status));
    let nothing = types.func_type(&[], &[]);
    funcs.push((nothing, save_globals(cx)));
    funcs.push((nothing, load_globals(cx)));
    funcs.push((types.func_type(&[I32], &[]), drop_segment(cx.hidden, cx.graph)));
}

/// Writes the mutable globals behind the frames, then the flags of dropped segments.
fn save_globals(cx: &Context<'_, '_>) -> Function {
    let (hidden, mut at) = (cx.hidden, 0);
    body(|sink| {
        for (global, kind) in saved_globals(cx).into_iter().chain(flags(cx)) {
            match kind {
                Kind::Null => {}
                Kind::Func => {
                    sink.global_get(global).call(hidden.push_func);
                }
                Kind::Exn => {
                    sink.global_get(global).call(hidden.push_exn);
                }
                _ => {
                    sink.global_get(hidden.sp).global_get(global);
                    store(sink, kind, mem(hidden.frames, at));
                }
            }
            at += kind.size();
        }
    })
}

/// Sets the mutable globals from what [`save_globals`] wrote.
fn load_globals(cx: &Context<'_, '_>) -> Function {
    let (hidden, mut at) = (cx.hidden, 0);
    let globals: Vec<_> = saved_globals(cx);
    body(|sink| {
        for &(global, kind) in &globals {
            if kind.size() > 0 {
                sink.global_get(hidden.sp);
                load(sink, kind, mem(hidden.frames, at));
                sink.global_set(global);
                at += kind.size();
            }
        }
        for &(global, kind) in globals.iter().rev() {
            let ty = cx.module.globals[global as usize].content_type;
            match kind {
                Kind::Func => {
                    sink.call(hidden.pop_func);
                    cast(sink, ty);
                }
                Kind::Exn => drop(sink.call(hidden.pop_exn)),
                _ => continue,
            }
            if !ty.is_defaultable() {
                sink.ref_as_non_null();
            }
            sink.global_set(global);
        }
    })
}

fn flags<'c>(cx: &'c Context<'_, '_>) -> impl Iterator<Item = SavedGlobal> + use<'c> {
    let count = (cx.graph.dropped_data.len() + cx.graph.dropped_elems.len()) as u32;
    let first = cx.hidden.dropped;
    (first..first + count).map(|global| (global, Kind::I32))
}

/// Drops the n-th of the segments that have a flag.
fn drop_segment(hidden: &Hidden, graph: &CallGraph) -> Function {
    body(|sink| {
        let data = graph.dropped_data.iter().map(|&i| (i, true));
        let elems = graph.dropped_elems.iter().map(|&i| (i, false));
        for (n, (index, is_data)) in data.chain(elems).enumerate() {
            sink.local_get(0).i32_const(n as i32).i32_eq().if_(wasm_encoder::BlockType::Empty);
            if is_data {
                sink.data_drop(index);
            } else {
                sink.elem_drop(index);
            }
            sink.i32_const(1).global_set(hidden.dropped + n as u32).end();
        }
    })
}
