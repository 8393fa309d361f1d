//! Values between the snapshot's form and the engine's.

use anyhow::{Result, bail, ensure};
use wasmtime::{Ref, V128, Val, ValType};

use crate::snapshot::Value;

/// The engine's errors as ours: its type has no `std::error::Error`, so `context` does not take it.
pub(super) trait Ours<T> {
    /// The same result.
    fn ours(self) -> Result<T>;
}

impl<T> Ours<T> for wasmtime::Result<T> {
    fn ours(self) -> Result<T> {
        self.map_err(anyhow::Error::from)
    }
}

/// A number, or a null reference.
pub(super) fn from_host(val: &Val) -> Result<Value> {
    Ok(match val {
        Val::I32(v) => Value::I32(*v as u32),
        Val::I64(v) => Value::I64(*v as u64),
        Val::F32(v) => Value::F32(*v),
        Val::F64(v) => Value::F64(*v),
        Val::V128(v) => Value::V128(v.as_u128()),
        Val::FuncRef(None) => Value::Func(None),
        Val::ExnRef(None) => Value::Exn(None),
        Val::ExternRef(None) | Val::AnyRef(None) => Value::Null,
        _ => bail!("a reference cannot be passed here"),
    })
}

/// The engine's form of a number or a null reference.
pub(super) fn to_val(value: &Value, ty: &ValType) -> Result<Val> {
    Ok(match (value, ty) {
        (Value::I32(v), ValType::I32) => Val::I32(*v as i32),
        (Value::I64(v), ValType::I64) => Val::I64(*v as i64),
        (Value::F32(v), ValType::F32) => Val::F32(*v),
        (Value::F64(v), ValType::F64) => Val::F64(*v),
        (Value::V128(v), ValType::V128) => Val::V128(V128::from(*v)),
        (Value::Func(None) | Value::Exn(None) | Value::Null, ValType::Ref(r)) if r.is_nullable() => {
            Ref::null(r.heap_type()).into()
        }
        _ => bail!("a value of type {ty} is expected, and {value:?} was given"),
    })
}

/// The engine's forms of results.
pub(super) fn to_host(
    given: &[Value],
    types: impl ExactSizeIterator<Item = ValType>,
    slots: &mut [Val],
) -> Result<()> {
    ensure!(given.len() == types.len(), "a host function gave {} results of {}", given.len(), types.len());
    for ((value, ty), slot) in given.iter().zip(types).zip(slots) {
        *slot = to_val(value, &ty)?;
    }
    Ok(())
}

/// A value that nobody reads.
pub(super) fn zero(ty: &ValType) -> Result<Val> {
    match Val::default_for_ty(ty) {
        Some(val) => Ok(val),
        None => bail!("a function that gives {ty} cannot be suspended by the host"),
    }
}
