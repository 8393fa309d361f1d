//! The module as given: one pass over its sections, validated, with the refusals that need no code.

use std::collections::HashMap;

use wasmparser::types::CoreTypeId;
use wasmparser::{
    BinaryReader, CompositeInnerType, Export, ExternalKind, FuncToValidate, FuncType, FunctionBody,
    GlobalType, HeapType, MemoryType, PackedIndex, Parser, Payload, RefType, TableType, TypeRef, ValType,
    ValidPayload, Validator, ValidatorResources, WasmFeatures,
};

use super::inline::InlinedBody;
use super::refusal::{Item, Refusal};

/// The features that are accepted: what wasmtime 48 turns on by default, and branch hints are ignored.
pub fn features() -> WasmFeatures {
    let mut features = WasmFeatures::WASM3;
    features.insert(WasmFeatures::THREADS);
    features
}

/// An imported item.
#[derive(Debug, Clone)]
pub struct Import<'a> {
    pub module: &'a str,
    pub name: &'a str,
    pub ty: TypeRef,
}

/// What the rewriter knows of the module.
pub struct Module<'a> {
    /// All of it, as given.
    pub wasm: &'a [u8],
    pub types: Vec<Option<FuncType>>,
    /// Some type has subtypes.
    pub subtypes: bool,
    pub imports: Vec<Import<'a>>,
    /// Type index of each function, imported ones first.
    pub funcs: Vec<u32>,
    pub imported_funcs: u32,
    pub tables: Vec<TableType>,
    pub memories: Vec<MemoryType>,
    pub globals: Vec<GlobalType>,
    /// Type index of each tag.
    pub tags: Vec<u32>,
    pub exports: Vec<Export<'a>>,
    pub start: Option<u32>,
    pub sections: Sections<'a>,
    pub bodies: Vec<Body<'a>>,
    /// Functions that can become a `funcref`, ascending: those named outside of `call`.
    pub referenced: Vec<u32>,
    /// The validator names types by ids of its own; the first index of each.
    type_ids: HashMap<CoreTypeId, u32>,
}

/// A function body, with its validator.
pub struct Body<'a> {
    pub func: u32,
    pub body: FunctionBody<'a>,
    pub to_validate: FuncToValidate<ValidatorResources>,
}

impl<'a> Body<'a> {
    /// The bytes between two positions.
    pub fn bytes(&self, from: u32, to: u32) -> &'a [u8] {
        let start = self.body.range().start;
        &self.body.as_bytes()[from as usize - start..to as usize - start]
    }
}

/// The sections that are copied or re-encoded when the module is assembled anew.
#[derive(Default)]
pub struct Sections<'a> {
    pub types: Option<wasmparser::TypeSectionReader<'a>>,
    pub imports: Option<wasmparser::ImportSectionReader<'a>>,
    pub tables: Option<wasmparser::TableSectionReader<'a>>,
    pub tags: Option<wasmparser::TagSectionReader<'a>>,
    pub globals: Option<wasmparser::GlobalSectionReader<'a>>,
    pub elements: Option<wasmparser::ElementSectionReader<'a>>,
    pub data: Option<wasmparser::DataSectionReader<'a>>,
    pub data_count: Option<u32>,
}

impl<'a> Module<'a> {
    /// Reads and validates everything but the function bodies, which carry their validators.
    pub fn parse(wasm: &'a [u8]) -> Result<Self, Refusal> {
        check_header(wasm)?;
        let mut module = Module {
            wasm,
            types: vec![],
            subtypes: false,
            imports: vec![],
            funcs: vec![],
            imported_funcs: 0,
            tables: vec![],
            memories: vec![],
            globals: vec![],
            tags: vec![],
            exports: vec![],
            start: None,
            sections: Sections::default(),
            bodies: vec![],
            referenced: vec![],
            type_ids: HashMap::new(),
        };
        let mut validator = Validator::new_with_features(features());
        for payload in Parser::new(0).parse_all(wasm) {
            let payload = payload?;
            match validator.payload(&payload)? {
                ValidPayload::Func(to_validate, body) => {
                    let func = module.imported_funcs + module.bodies.len() as u32;
                    module.bodies.push(Body { func, body, to_validate });
                }
                ValidPayload::End(types) => {
                    let types = types.as_ref();
                    let indexes = (0..types.core_type_count_in_module()).rev();
                    module.type_ids = indexes.map(|i| (types.core_type_at_in_module(i), i)).collect();
                }
                _ => module.section(payload)?,
            }
        }
        module.refuse_foreign_references()?;
        module.referenced.extend(module.start);
        module.referenced.sort_unstable();
        module.referenced.dedup();
        Ok(module)
    }

    /// The same, with other bodies of some functions.
    pub fn with_bodies<'b>(self, bodies: &'b [InlinedBody]) -> Module<'b>
    where
        'a: 'b,
    {
        let mut module: Module<'b> = self;
        for inlined in bodies {
            let at = (inlined.func - module.imported_funcs) as usize;
            module.bodies[at].body = inlined.body();
        }
        module
    }

    /// The same, with all bodies read from other bytes, of a module in which all is at the same place.
    pub fn with_code<'b>(self, wasm: &'b [u8]) -> Module<'b>
    where
        'a: 'b,
    {
        let mut module: Module<'b> = self;
        for body in &mut module.bodies {
            let range = body.body.range();
            body.body = FunctionBody::new(BinaryReader::new(&wasm[range.clone()], range.start));
        }
        module
    }

    fn section(&mut self, payload: Payload<'a>) -> Result<(), Refusal> {
        match payload {
            Payload::TypeSection(reader) => {
                self.read_types(&reader)?;
                self.sections.types = Some(reader);
            }
            Payload::ImportSection(reader) => {
                for import in reader.clone().into_imports_with_offsets() {
                    let (offset, import) = import?;
                    self.import(import, offset as u64)?;
                }
                self.sections.imports = Some(reader);
            }
            Payload::FunctionSection(reader) => {
                for ty in reader {
                    self.funcs.push(ty?);
                }
            }
            Payload::TableSection(reader) => {
                for table in reader.clone().into_iter_with_offsets() {
                    let (offset, table) = table?;
                    self.table(table.ty, offset as u64)?;
                    if let wasmparser::TableInit::Expr(init) = table.init {
                        self.references_in(&init)?;
                    }
                }
                self.sections.tables = Some(reader);
            }
            Payload::MemorySection(reader) => {
                for memory in reader.into_iter_with_offsets() {
                    let (offset, memory) = memory?;
                    self.memory(memory, offset as u64)?;
                }
            }
            Payload::TagSection(reader) => {
                for tag in reader.clone() {
                    self.tags.push(tag?.func_type_idx);
                }
                self.sections.tags = Some(reader);
            }
            Payload::GlobalSection(reader) => {
                for global in reader.clone().into_iter_with_offsets() {
                    let (offset, global) = global?;
                    self.value_type(
                        "global",
                        self.globals.len() as u32,
                        global.ty.content_type,
                        offset as u64,
                    )?;
                    self.globals.push(global.ty);
                    self.references_in(&global.init_expr)?;
                }
                self.sections.globals = Some(reader);
            }
            Payload::ExportSection(reader) => {
                for export in reader {
                    let export = export?;
                    if export.kind == ExternalKind::Func || export.kind == ExternalKind::FuncExact {
                        self.referenced.push(export.index);
                    }
                    self.exports.push(export);
                }
            }
            Payload::StartSection { func, .. } => self.start = Some(func),
            Payload::ElementSection(reader) => {
                self.read_elements(&reader)?;
                self.sections.elements = Some(reader);
            }
            Payload::DataCountSection { count, .. } => self.sections.data_count = Some(count),
            Payload::DataSection(reader) => self.sections.data = Some(reader),
            _ => {}
        }
        Ok(())
    }

    fn read_types(&mut self, reader: &wasmparser::TypeSectionReader<'a>) -> Result<(), Refusal> {
        for group in reader.clone() {
            for ty in group?.into_types() {
                self.subtypes |= !ty.is_final || ty.supertype_idx.is_some();
                self.types.push(match ty.composite_type.inner {
                    CompositeInnerType::Func(ty) => Some(ty),
                    // Struct, array and continuation types may be named; what makes or holds an object of
                    // theirs is refused where it stands.
                    _ => None,
                });
            }
        }
        Ok(())
    }

    fn import(&mut self, import: wasmparser::Import<'a>, offset: u64) -> Result<(), Refusal> {
        let label = format!("{}.{}", import.module, import.name);
        match import.ty {
            TypeRef::Func(ty) | TypeRef::FuncExact(ty) => {
                self.imported_funcs += 1;
                self.funcs.push(ty);
            }
            TypeRef::Table(ty) => self.table(ty, offset)?,
            TypeRef::Memory(ty) => self.memory(ty, offset)?,
            TypeRef::Global(ty) => {
                self.value_type("global", self.globals.len() as u32, ty.content_type, offset)?;
                if is_extern(ty.content_type) {
                    return Err(extern_refused(
                        Item::named("imported global", self.globals.len() as u32, label),
                        offset,
                    ));
                }
                self.globals.push(ty);
            }
            TypeRef::Tag(ty) => self.tags.push(ty.func_type_idx),
        }
        self.imports.push(Import { module: import.module, name: import.name, ty: import.ty });
        Ok(())
    }

    fn table(&mut self, ty: TableType, offset: u64) -> Result<(), Refusal> {
        let index = self.tables.len() as u32;
        if ty.shared {
            return Err(shared("table", index, offset));
        }
        self.value_type("table", index, ValType::Ref(ty.element_type), offset)?;
        self.tables.push(ty);
        Ok(())
    }

    fn memory(&mut self, ty: MemoryType, offset: u64) -> Result<(), Refusal> {
        if ty.shared {
            return Err(shared("memory", self.memories.len() as u32, offset));
        }
        self.memories.push(ty);
        Ok(())
    }

    fn read_elements(&mut self, reader: &wasmparser::ElementSectionReader<'a>) -> Result<(), Refusal> {
        for element in reader.clone() {
            match element?.items {
                wasmparser::ElementItems::Functions(functions) => {
                    for func in functions {
                        self.referenced.push(func?);
                    }
                }
                wasmparser::ElementItems::Expressions(_, exprs) => {
                    for expr in exprs {
                        self.references_in(&expr?)?;
                    }
                }
            }
        }
        Ok(())
    }

    /// Notes the functions that a constant expression makes references of.
    fn references_in(&mut self, expr: &wasmparser::ConstExpr<'a>) -> Result<(), Refusal> {
        let mut reader = expr.get_operators_reader();
        while !reader.eof() {
            let (op, offset) = reader.read_with_offset()?;
            match op {
                wasmparser::Operator::RefFunc { function_index } => self.referenced.push(function_index),
                wasmparser::Operator::StructNew { .. }
                | wasmparser::Operator::StructNewDefault { .. }
                | wasmparser::Operator::ArrayNew { .. }
                | wasmparser::Operator::ArrayNewDefault { .. }
                | wasmparser::Operator::ArrayNewFixed { .. }
                | wasmparser::Operator::RefI31 => {
                    return Err(gc_refused(Item::new("constant expression", 0), offset as u64));
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Refuses types whose values have no portable identity. `externref` passes: without an import that
    /// makes one it can only be null.
    pub fn value_type(
        &self,
        kind: &'static str,
        index: u32,
        ty: ValType,
        offset: u64,
    ) -> Result<(), Refusal> {
        let ValType::Ref(ty) = ty else { return Ok(()) };
        let refuse = || gc_refused(Item::new(kind, index), offset);
        match ty.heap_type() {
            wasmparser::HeapType::Abstract { ty, .. } => {
                use wasmparser::AbstractHeapType::*;
                match ty {
                    Func | NoFunc | Extern | NoExtern | Exn | NoExn => Ok(()),
                    _ => Err(refuse()),
                }
            }
            wasmparser::HeapType::Concrete(at) | wasmparser::HeapType::Exact(at) => {
                let known = at.as_module_index().and_then(|i| self.types.get(i as usize));
                match known {
                    Some(Some(_)) => Ok(()),
                    _ => Err(refuse()),
                }
            }
        }
    }

    /// Imported functions that give an `externref`, tables and globals that hold one: values of the host
    /// would enter the guest.
    fn refuse_foreign_references(&self) -> Result<(), Refusal> {
        let Some(reader) = &self.sections.imports else { return Ok(()) };
        let offset = reader.range().start as u64;
        let mut func = 0;
        for import in &self.imports {
            let label = format!("{}.{}", import.module, import.name);
            match import.ty {
                TypeRef::Func(_) | TypeRef::FuncExact(_) => {
                    let ty = self.func_type(func);
                    if ty.results().iter().copied().any(is_extern) {
                        return Err(extern_refused(Item::named("imported function", func, label), offset));
                    }
                    func += 1;
                }
                TypeRef::Table(ty) if is_extern(ValType::Ref(ty.element_type)) => {
                    return Err(extern_refused(Item::named("imported table", 0, label), offset));
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// A type as the validator gives it, named by the module's own indexes.
    pub fn indexed(&self, ty: ValType) -> ValType {
        let ValType::Ref(r) = ty else { return ty };
        let (at, exact) = match r.heap_type() {
            HeapType::Concrete(at) => (at, false),
            HeapType::Exact(at) => (at, true),
            HeapType::Abstract { .. } => return ty,
        };
        let index = at.as_core_type_id().and_then(|id| self.type_ids.get(&id));
        let Some(index) = index.and_then(|&i| PackedIndex::from_module_index(i)) else { return ty };
        let make = if exact { RefType::exact } else { RefType::concrete };
        ValType::Ref(make(r.is_nullable(), index))
    }

    /// Whether all functions that a reference can reach are the module's own, and those of a type are called through that type alone.
    pub fn knows_references(&self) -> bool {
        let is_ref = |ty: ValType| matches!(ty, ValType::Ref(_));
        let takes_none = |ty: &FuncType| !ty.params().iter().chain(ty.results()).any(|ty| is_ref(*ty));
        let imports_none = |import: &Import<'_>| match import.ty {
            TypeRef::Table(_) => false,
            TypeRef::Global(ty) => !is_ref(ty.content_type),
            _ => true,
        };
        let exports_none = |export: &Export<'_>| match export.kind {
            ExternalKind::Table => false,
            ExternalKind::Global => {
                self.globals.get(export.index as usize).is_some_and(|ty| !is_ref(ty.content_type))
            }
            _ => true,
        };
        !self.subtypes
            && self.types.iter().flatten().all(takes_none)
            && self.imports.iter().all(imports_none)
            && self.exports.iter().all(exports_none)
    }

    /// The body of a function that is not imported.
    pub fn body(&self, func: u32) -> &Body<'a> {
        &self.bodies[(func - self.imported_funcs) as usize]
    }

    /// The type of a function.
    pub fn func_type(&self, func: u32) -> &FuncType {
        self.type_at(self.funcs[func as usize])
    }

    /// The function type with this index; the module is valid, so it is one.
    pub fn type_at(&self, index: u32) -> &FuncType {
        self.types[index as usize].as_ref().expect("validated: a function type")
    }
}

fn check_header(wasm: &[u8]) -> Result<(), Refusal> {
    if wasm.len() < 8 || &wasm[..4] != b"\0asm" {
        let why =
            if wasm.is_empty() { "the file is empty" } else { "it does not begin with the bytes \\0asm" };
        return Err(Refusal::NotWasm(why.to_string()));
    }
    if Parser::is_component(wasm) {
        return Err(Refusal::Component);
    }
    Ok(())
}

/// Whether the type is of the `extern` hierarchy.
pub fn is_extern(ty: ValType) -> bool {
    let ValType::Ref(ty) = ty else { return false };
    matches!(
        ty.heap_type(),
        wasmparser::HeapType::Abstract {
            ty: wasmparser::AbstractHeapType::Extern | wasmparser::AbstractHeapType::NoExtern,
            ..
        }
    )
}

/// Whether the type is of the `exn` hierarchy.
pub fn is_exn(ty: RefType) -> bool {
    matches!(
        ty.heap_type(),
        wasmparser::HeapType::Abstract {
            ty: wasmparser::AbstractHeapType::Exn | wasmparser::AbstractHeapType::NoExn,
            ..
        }
    )
}

fn extern_refused(item: Item, offset: u64) -> Refusal {
    let why = "a reference to a value of the host means nothing in another process";
    Refusal::Unsupported { what: "externref in", item, offset, why }
}

pub(super) fn gc_refused(item: Item, offset: u64) -> Refusal {
    let why = "objects of the garbage collector have no portable identity";
    Refusal::Unsupported { what: "a GC reference in", item, offset, why }
}

fn shared(kind: &'static str, index: u32, offset: u64) -> Refusal {
    let why = "another thread could change it while it is copied";
    Refusal::Unsupported { what: "shared", item: Item::new(kind, index), offset, why }
}
