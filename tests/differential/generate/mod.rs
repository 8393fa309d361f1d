//! Structured programs that terminate, and can be suspended nearly everywhere: calls of all kinds, loops and
//! exceptions within expressions, so that values of all types lie beneath on the operand stack.
//!
//! Every function entry and loop header spends of a budget, a global that the entry functions fill; without
//! it functions return and loops end at once.

mod body;
mod dispatch;
mod ops;

use wasm_encoder::{
    AbstractHeapType, CodeSection, ConstExpr, DataCountSection, DataSection, ElementSection, Elements,
    EntityType, ExportKind, ExportSection, Function, FunctionSection, GlobalSection, GlobalType, HeapType,
    ImportSection, MemorySection, MemoryType, Module, RefType, StartSection, TableSection, TableType,
    TagKind, TagSection, TagType, TypeSection, ValType,
};

use crate::rng::Rng;
use body::Body;

/// A value type.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ty {
    I32,
    I64,
    F32,
    F64,
    V128,
    Func,
    /// A function of this type, or null.
    Typed(u32),
    /// A function of this type.
    NonNull(u32),
    Exn,
    Extern,
}

impl Ty {
    fn encoded(self) -> ValType {
        let of = |nullable, heap_type| ValType::Ref(RefType { nullable, heap_type });
        match self {
            Ty::I32 => ValType::I32,
            Ty::I64 => ValType::I64,
            Ty::F32 => ValType::F32,
            Ty::F64 => ValType::F64,
            Ty::V128 => ValType::V128,
            Ty::Func => ValType::FUNCREF,
            Ty::Typed(t) => of(true, HeapType::Concrete(t)),
            Ty::NonNull(t) => of(false, HeapType::Concrete(t)),
            Ty::Exn => ValType::EXNREF,
            Ty::Extern => ValType::EXTERNREF,
        }
    }

    fn is_number(self) -> bool {
        matches!(self, Ty::I32 | Ty::I64 | Ty::F32 | Ty::F64 | Ty::V128)
    }

    /// What an entry function has instead: whether it is null.
    fn outside(self) -> Ty {
        if self.is_number() { self } else { Ty::I32 }
    }
}

/// Exceptions.
const EXN: HeapType = HeapType::Abstract { shared: false, ty: AbstractHeapType::Exn };

type FuncTy = (Vec<Ty>, Vec<Ty>);

/// Memory 1 has 64-bit addresses.
const MEMORIES: u32 = 2;
/// Elements of table 0, which stays as it is; table 1 changes.
const TABLE: u64 = 16;

/// What all functions of a module know.
pub struct Shape {
    rng: Rng,
    /// The first ones are those of functions; blocks add theirs.
    types: Vec<FuncTy>,
    func_types: u32,
    /// Type of each function, imported ones first.
    funcs: Vec<u32>,
    imports: u32,
    tags: Vec<u32>,
    /// Mutable, but the last.
    globals: Vec<Ty>,
    /// Function in each slot of table 0.
    slots: Vec<u32>,
    atomics: bool,
    /// No references: such frames may be restored by one piece of code for all points.
    plain: bool,
    /// Functions so short that they stand in place of calls of them.
    small: bool,
}

impl Shape {
    fn new(seed: u64) -> Self {
        let mut rng = Rng::new(seed ^ 0x5eed);
        let func_types = 3 + rng.below(4) as u32;
        let small = rng.one_in(3);
        let mut shape = Shape {
            types: vec![],
            func_types,
            funcs: vec![],
            imports: rng.below(3) as u32,
            tags: vec![],
            globals: vec![Ty::I32],
            slots: vec![],
            atomics: rng.one_in(3),
            plain: small || rng.one_in(2),
            small,
            rng,
        };
        // References to function types name earlier ones only, so that each is its own group.
        for at in 0..func_types {
            let (params, results) = (shape.list(4, at), shape.list(if small { 1 } else { 3 }, at));
            shape.types.push((params, results));
        }
        let host = shape.types.len() as u32;
        shape.types.push((vec![Ty::I32, Ty::I64], vec![Ty::I64]));
        shape.types.push((vec![Ty::V128], vec![Ty::F64, Ty::I32]));
        shape.funcs.extend((0..shape.imports).map(|i| host + i));
        // Each type has a function, so that there is a reference of each.
        let more = shape.rng.below(4) as u32;
        let own: Vec<u32> = (0..func_types + more).map(|i| i % func_types).collect();
        shape.funcs.extend(own);
        for _ in 0..1 + shape.rng.below(3) {
            let params = shape.list(3, func_types);
            let ty = shape.type_of(params, vec![]);
            shape.tags.push(ty);
        }
        let globals = shape.list(6, func_types);
        shape.globals.extend(globals.into_iter().filter(|ty| !matches!(ty, Ty::NonNull(_))));
        shape.globals.push(Ty::I64);
        let all = shape.funcs.len();
        shape.slots = (0..TABLE).map(|_| shape.rng.below(all) as u32).collect();
        shape
    }

    /// Up to `most` types, which may refer to the first `known` function types.
    fn list(&mut self, most: usize, known: u32) -> Vec<Ty> {
        (0..self.rng.below(most + 1)).map(|_| self.ty(known)).collect()
    }

    fn ty(&mut self, known: u32) -> Ty {
        let kinds = if self.plain { 14 } else { 20 };
        match self.rng.below(kinds) {
            0..5 => Ty::I32,
            5..8 => Ty::I64,
            8..10 => Ty::F32,
            10..12 => Ty::F64,
            12..14 => Ty::V128,
            14 => Ty::Func,
            15 if known > 0 => Ty::Typed(self.rng.below(known as usize) as u32),
            16 if known > 0 => Ty::NonNull(self.rng.below(known as usize) as u32),
            17 => Ty::Exn,
            18 => Ty::Extern,
            _ => Ty::I32,
        }
    }

    fn type_of(&mut self, params: Vec<Ty>, results: Vec<Ty>) -> u32 {
        let wanted = (params, results);
        let first = self.func_types as usize;
        if let Some(at) = self.types.iter().skip(first).position(|ty| *ty == wanted) {
            return (first + at) as u32;
        }
        self.types.push(wanted);
        self.types.len() as u32 - 1
    }

    fn func_type(&self, func: u32) -> &FuncTy {
        &self.types[self.funcs[func as usize] as usize]
    }

    /// The functions of this type.
    fn funcs_of(&self, ty: u32) -> Vec<u32> {
        (0..self.funcs.len() as u32).filter(|f| self.funcs[*f as usize] == ty).collect()
    }

    /// A function that is not imported.
    fn own_func(&mut self) -> u32 {
        let own = self.funcs.len() - self.imports as usize;
        self.imports + self.rng.below(own) as u32
    }

    /// A function of this type that is not imported; each function type has one.
    fn own_func_of(&mut self, ty: u32) -> u32 {
        let all = self.funcs_of(ty);
        self.rng.pick(&all)
    }
}

/// The module of a seed.
pub fn module(seed: u64) -> Vec<u8> {
    let mut shape = Shape::new(seed);
    let mut code = CodeSection::new();
    let own: Vec<u32> = (shape.imports..shape.funcs.len() as u32).collect();
    for &func in &own {
        code.function(&Body::function(&mut shape, func));
    }
    let entries: Vec<(u32, u32)> = own
        .iter()
        .map(|&func| {
            let (params, results) = shape.func_type(func).clone();
            let params = params.into_iter().filter(|ty| ty.is_number()).collect();
            let results = results.into_iter().map(Ty::outside).collect();
            (func, shape.type_of(params, results))
        })
        .collect();
    for &(func, ty) in &entries {
        code.function(&Body::entry(&mut shape, func, ty));
    }
    let start = shape.rng.one_in(4).then(|| {
        let ty = shape.type_of(vec![], vec![]);
        code.function(&Body::start(&mut shape, own[0]));
        ty
    });
    let entry_types: Vec<u32> = entries.iter().map(|(_, ty)| *ty).chain(start).collect();
    assemble(&mut shape, &entry_types, start.is_some(), &code)
}

fn assemble(shape: &mut Shape, entry_types: &[u32], has_start: bool, code: &CodeSection) -> Vec<u8> {
    let mut out = Module::new();
    let mut section = TypeSection::new();
    for (params, results) in &shape.types {
        section.ty().function(params.iter().map(|t| t.encoded()), results.iter().map(|t| t.encoded()));
    }
    out.section(&section);
    let mut section = ImportSection::new();
    for import in 0..shape.imports {
        let ty = EntityType::Function(shape.funcs[import as usize]);
        section.import("host", &format!("f{import}"), ty);
    }
    out.section(&section);
    let mut section = FunctionSection::new();
    for &ty in shape.funcs[shape.imports as usize..].iter().chain(entry_types) {
        section.function(ty);
    }
    out.section(&section);
    let mut section = TableSection::new();
    let table = |maximum| TableType {
        element_type: RefType::FUNCREF,
        table64: false,
        minimum: TABLE,
        maximum: Some(maximum),
        shared: false,
    };
    section.table(table(TABLE));
    section.table(table(TABLE + 8));
    out.section(&section);
    let mut section = MemorySection::new();
    for memory in 0..MEMORIES {
        let memory64 = memory == 1;
        section.memory(MemoryType {
            minimum: 1,
            maximum: Some(3),
            memory64,
            shared: false,
            page_size_log2: None,
        });
    }
    out.section(&section);
    let mut section = TagSection::new();
    for &func_type_idx in &shape.tags {
        section.tag(TagType { kind: TagKind::Exception, func_type_idx });
    }
    out.section(&section);
    out.section(&globals(shape));
    out.section(&exports(shape, entry_types.len() - usize::from(has_start)));
    if has_start {
        let function_index = (shape.funcs.len() + entry_types.len() - 1) as u32;
        out.section(&StartSection { function_index });
    }
    let mut section = ElementSection::new();
    let zero = ConstExpr::i32_const(0);
    section.active(Some(0), &zero, Elements::Functions(shape.slots.clone().into()));
    section.active(Some(1), &zero, Elements::Functions(shape.slots[..8].into()));
    section.passive(Elements::Functions(shape.slots[4..12].into()));
    out.section(&section);
    out.section(&DataCountSection { count: 2 });
    out.section(code);
    let mut section = DataSection::new();
    section.active(0, &zero, shape.rng.bytes(100));
    section.passive(shape.rng.bytes(40));
    out.section(&section);
    out.finish()
}

fn globals(shape: &mut Shape) -> GlobalSection {
    let mut section = GlobalSection::new();
    for (at, &ty) in shape.globals.iter().enumerate() {
        let init = match ty {
            Ty::I32 => ConstExpr::i32_const(at as i32),
            Ty::I64 => ConstExpr::i64_const(shape.rng.next() as i64),
            Ty::F32 => ConstExpr::f32_const(1.5.into()),
            Ty::F64 => ConstExpr::f64_const((-2.25).into()),
            Ty::V128 => ConstExpr::v128_const(i128::from(at as u64) << 70),
            Ty::Func => ConstExpr::ref_func(shape.slots[0]),
            Ty::Typed(t) | Ty::NonNull(t) => ConstExpr::ref_null(HeapType::Concrete(t)),
            Ty::Exn => ConstExpr::ref_null(EXN),
            Ty::Extern => ConstExpr::ref_null(HeapType::EXTERN),
        };
        let mutable = at + 1 < shape.globals.len();
        section.global(GlobalType { val_type: ty.encoded(), mutable, shared: false }, &init);
    }
    section
}

fn exports(shape: &Shape, entries: usize) -> ExportSection {
    let mut section = ExportSection::new();
    let funcs = shape.funcs.len() as u32;
    (0..entries as u32).for_each(|i| {
        section.export(&format!("entry{i}"), ExportKind::Func, funcs + i);
    });
    (0..funcs).for_each(|i| {
        section.export(&format!("f{i}"), ExportKind::Func, i);
    });
    (0..MEMORIES).for_each(|i| {
        section.export(&format!("m{i}"), ExportKind::Memory, i);
    });
    (0..2).for_each(|i| {
        section.export(&format!("t{i}"), ExportKind::Table, i);
    });
    (0..shape.globals.len() as u32).for_each(|i| {
        section.export(&format!("g{i}"), ExportKind::Global, i);
    });
    section
}

/// A body from its locals' types (parameters left out) and its code.
fn function(locals: &[Ty], code: Vec<u8>) -> Function {
    let mut function = Function::new_with_locals_types(locals.iter().map(|ty| ty.encoded()));
    function.raw(code);
    function
}
