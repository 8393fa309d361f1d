//! What scripts import from the host: the module `spectest`.

use anyhow::Result;
use wasm_ckpt::machine::Functions;
use wasmtime::{
    Extern, Func, Global, GlobalType, Memory, MemoryType, Mutability, Ref, RefType, Store, Table, TableType,
    Val, ValType,
};

/// Names of the functions, with the types of their parameters.
const PRINTS: [(&str, &[ValType]); 7] = [
    ("print", &[]),
    ("print_i32", &[ValType::I32]),
    ("print_i64", &[ValType::I64]),
    ("print_f32", &[ValType::F32]),
    ("print_f64", &[ValType::F64]),
    ("print_i32_f32", &[ValType::I32, ValType::F32]),
    ("print_f64_f64", &[ValType::F64, ValType::F64]),
];

/// The host module's items, by name.
pub fn items(store: &mut Store<()>) -> Result<Vec<(String, Extern)>> {
    let mut items: Vec<(String, Extern)> = vec![];
    for (name, params) in PRINTS {
        let ty = wasmtime::FuncType::new(store.engine(), params.iter().cloned(), []);
        items.push((name.into(), Func::new(&mut *store, ty, |_, _, _| Ok(())).into()));
    }
    let globals = [
        ("global_i32", ValType::I32, Val::I32(666)),
        ("global_i64", ValType::I64, Val::I64(666)),
        ("global_f32", ValType::F32, Val::F32(666.6f32.to_bits())),
        ("global_f64", ValType::F64, Val::F64(666.6f64.to_bits())),
    ];
    for (name, ty, value) in globals {
        let global = Global::new(&mut *store, GlobalType::new(ty, Mutability::Const), value)?;
        items.push((name.into(), global.into()));
    }
    let null = || Ref::Func(None);
    let table = Table::new(&mut *store, TableType::new(RefType::FUNCREF, 10, Some(20)), null())?;
    items.push(("table".into(), table.into()));
    let table = Table::new(&mut *store, TableType::new64(RefType::FUNCREF, 10, Some(20)), null())?;
    items.push(("table64".into(), table.into()));
    items.push(("memory".into(), Memory::new(&mut *store, MemoryType::new(1, Some(2)))?.into()));
    Ok(items)
}

/// Its functions for guests that are moved.
pub fn functions() -> Functions {
    PRINTS
        .iter()
        .fold(Functions::new(), |functions, (name, _)| functions.with("spectest", name, |_, _| Ok(vec![])))
}
