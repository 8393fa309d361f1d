//! What is called in a module, what its imports do, and what a call can end with.

use anyhow::Result;
use wasm_ckpt::machine::Functions;
use wasm_ckpt::snapshot::Value;
use wasmtime::{ExternType, FuncType, HeapType, ValType};

use crate::rng::Rng;

/// So many exports of a module are called.
pub const CALLS_MAX: usize = 8;

/// A call of an export.
#[derive(Debug, Clone)]
pub struct Call {
    pub export: String,
    pub args: Vec<Value>,
}

/// A function and the offset of the instruction that it stands at, if that is known.
pub type Frame = (u32, Option<u64>);

/// What a call ended with.
#[derive(Debug, Clone, PartialEq)]
pub enum Outcome {
    Returned(Vec<Value>),
    /// `code`: none for an exception. Frames are innermost first.
    Trapped {
        code: Option<wasmtime::Trap>,
        frames: Vec<(u32, Option<u64>)>,
    },
    /// It took more fuel than it was given.
    Unfinished,
    /// The native stack ended: where depends on the machine.
    Overflowed,
}

impl Outcome {
    pub fn is_trap(&self) -> bool {
        matches!(self, Outcome::Trapped { .. })
    }
}

/// The calls to make: functions whose names begin with `entry` if there are any, else all whose arguments
/// we have and whose results are numbers.
pub fn calls(module: &wasmtime::Module, rng: &mut Rng) -> Vec<Call> {
    let exported = module.exports().filter_map(|e| Some((e.name().to_string(), e.ty().func()?.clone())));
    let mut all: Vec<Call> = exported.filter_map(|(name, ty)| call(name, &ty, rng)).collect();
    if all.iter().any(|c| c.export.starts_with("entry")) {
        all.retain(|c| c.export.starts_with("entry"));
    }
    all.truncate(CALLS_MAX);
    all
}

fn call(export: String, ty: &FuncType, rng: &mut Rng) -> Option<Call> {
    if ty.results().any(|r| r.is_ref()) {
        return None;
    }
    let args = ty.params().map(|p| argument(&p, rng)).collect::<Option<_>>()?;
    Some(Call { export, args })
}

fn argument(ty: &ValType, rng: &mut Rng) -> Option<Value> {
    Some(match ty {
        ValType::I32 => Value::I32(rng.number() as u32),
        ValType::I64 => Value::I64(rng.number()),
        ValType::F32 => Value::F32((rng.number() as f32).to_bits()),
        ValType::F64 => Value::F64((rng.number() as f64).to_bits()),
        ValType::V128 => Value::V128(u128::from(rng.next()) << 64 | u128::from(rng.number())),
        ValType::Ref(r) if !r.is_nullable() => return None,
        ValType::Ref(r) => null(r.heap_type()),
    })
}

fn null(heap: &HeapType) -> Value {
    match heap {
        HeapType::Func | HeapType::NoFunc | HeapType::ConcreteFunc(_) => Value::Func(None),
        HeapType::Exn | HeapType::NoExn => Value::Exn(None),
        _ => Value::Null,
    }
}

/// What an imported function gives: something that depends on all of its arguments.
pub fn import_results(args: &[Value], ty: &FuncType) -> Vec<Value> {
    let mut sum = 0x1234_5678_9abc_def0u64;
    for arg in args {
        let bits = match arg {
            Value::I32(v) | Value::F32(v) => u64::from(*v),
            Value::I64(v) | Value::F64(v) => *v,
            Value::V128(v) => (*v as u64) ^ (*v >> 64) as u64,
            _ => 7,
        };
        sum = (sum ^ bits).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(23);
    }
    let result = |ty: ValType| match ty {
        ValType::I32 => Value::I32(sum as u32),
        ValType::I64 => Value::I64(sum),
        ValType::F32 => Value::F32((sum as u32 as f32).to_bits()),
        ValType::F64 => Value::F64((sum as f64).to_bits()),
        ValType::V128 => Value::V128(u128::from(sum)),
        ValType::Ref(r) => null(r.heap_type()),
    };
    ty.results().map(result).collect()
}

/// The imports of a module as the machine takes them.
pub fn functions(module: &wasmtime::Module) -> Result<Functions> {
    let mut functions = Functions::new();
    for import in module.imports() {
        if let ExternType::Func(ty) = import.ty() {
            functions =
                functions.with(import.module(), import.name(), move |_, args| Ok(import_results(args, &ty)));
        }
    }
    Ok(functions)
}

/// A number or null of the engine in the snapshot's form; none for other references.
pub fn value(val: &wasmtime::Val) -> Option<Value> {
    use wasmtime::Val;
    Some(match val {
        Val::I32(v) => Value::I32(*v as u32),
        Val::I64(v) => Value::I64(*v as u64),
        Val::F32(v) => Value::F32(*v),
        Val::F64(v) => Value::F64(*v),
        Val::V128(v) => Value::V128(v.as_u128()),
        Val::FuncRef(None) => Value::Func(None),
        Val::ExnRef(None) => Value::Exn(None),
        Val::ExternRef(None) | Val::AnyRef(None) => Value::Null,
        _ => return None,
    })
}

/// The engine's form of a number or null.
pub fn val(value: &Value, ty: &ValType) -> wasmtime::Val {
    use wasmtime::Val;
    match (value, ty) {
        (Value::I32(v), _) => Val::I32(*v as i32),
        (Value::I64(v), _) => Val::I64(*v as i64),
        (Value::F32(v), _) => Val::F32(*v),
        (Value::F64(v), _) => Val::F64(*v),
        (Value::V128(v), _) => Val::V128((*v).into()),
        (_, ValType::Ref(r)) => wasmtime::Ref::null(r.heap_type()).into(),
        (_, other) => unreachable!("a reference for {other}"),
    }
}
