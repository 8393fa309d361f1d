//! Values of a script: as arguments, and as patterns for results.

use anyhow::{Result, bail};
use wasm_ckpt::snapshot::Value;
use wasmtime::{ExternRef, HeapType, Ref, Store, Val};
use wast::core::{AbstractHeapType, NanPattern, V128Pattern, WastArgCore, WastRetCore};
use wast::{WastArg, WastRet};

/// Whether the argument is a reference to an object of the host.
pub fn is_foreign(arg: &WastArg<'_>) -> bool {
    matches!(arg, WastArg::Core(WastArgCore::RefExtern(_) | WastArgCore::RefHost(_)))
}

/// Whether the result is expected to be a reference other than null.
pub fn is_reference(result: &WastRet<'_>) -> bool {
    use WastRetCore::*;
    let core = |r: &WastRetCore<'_>| !matches!(r, I32(_) | I64(_) | F32(_) | F64(_) | V128(_) | RefNull(_));
    match result {
        WastRet::Core(Either(all)) => all.iter().any(core),
        WastRet::Core(one) => core(one),
        _ => true,
    }
}

/// An argument as the engine takes it.
pub fn argument(store: &mut Store<()>, arg: &WastArg<'_>) -> Result<Val> {
    let WastArg::Core(arg) = arg else { bail!("not a core argument") };
    Ok(match arg {
        WastArgCore::I32(v) => Val::I32(*v),
        WastArgCore::I64(v) => Val::I64(*v),
        WastArgCore::F32(v) => Val::F32(v.bits),
        WastArgCore::F64(v) => Val::F64(v.bits),
        WastArgCore::V128(v) => Val::V128(u128::from_le_bytes(v.to_le_bytes()).into()),
        WastArgCore::RefExtern(n) => Val::ExternRef(Some(ExternRef::new(store, *n)?)),
        WastArgCore::RefNull(wast::core::HeapType::Abstract { ty, .. }) => null(*ty)?,
        other => bail!("argument {other:?}"),
    })
}

fn null(ty: AbstractHeapType) -> Result<Val> {
    use AbstractHeapType::*;
    Ok(match ty {
        Func => Ref::null(&HeapType::Func).into(),
        NoFunc => Ref::null(&HeapType::NoFunc).into(),
        Extern => Ref::null(&HeapType::Extern).into(),
        NoExtern => Ref::null(&HeapType::NoExtern).into(),
        Exn => Ref::null(&HeapType::Exn).into(),
        NoExn => Ref::null(&HeapType::NoExn).into(),
        Any => Ref::null(&HeapType::Any).into(),
        None => Ref::null(&HeapType::None).into(),
        other => bail!("null of {other:?}"),
    })
}

/// The same value in the snapshot's form.
pub fn to_snapshot(val: &Val) -> Result<Value> {
    Ok(match val {
        Val::I32(v) => Value::I32(*v as u32),
        Val::I64(v) => Value::I64(*v as u64),
        Val::F32(v) => Value::F32(*v),
        Val::F64(v) => Value::F64(*v),
        Val::V128(v) => Value::V128(v.as_u128()),
        Val::FuncRef(None) => Value::Func(None),
        Val::ExnRef(None) => Value::Exn(None),
        Val::ExternRef(None) | Val::AnyRef(None) => Value::Null,
        other => bail!("{other:?} is a reference"),
    })
}

/// The same value in the engine's form; a null is one of any type.
pub fn from_snapshot(value: &Value) -> Result<Val> {
    Ok(match value {
        Value::I32(v) => Val::I32(*v as i32),
        Value::I64(v) => Val::I64(*v as i64),
        Value::F32(v) => Val::F32(*v),
        Value::F64(v) => Val::F64(*v),
        Value::V128(v) => Val::V128((*v).into()),
        Value::Func(None) => Val::FuncRef(None),
        Value::Exn(None) => Val::ExnRef(None),
        Value::Null => Val::ExternRef(None),
        other => bail!("{other:?} is a reference"),
    })
}

/// Whether the results are what the script expects.
pub fn all_match(store: &mut Store<()>, found: &[Val], expected: &[WastRet<'_>]) -> Result<()> {
    if found.len() != expected.len() {
        bail!("{} results, {} expected", found.len(), expected.len());
    }
    for (found, expected) in found.iter().zip(expected) {
        let WastRet::Core(core) = expected else { bail!("not a core result") };
        if !matches(store, found, core)? {
            bail!("found {found:?}, expected {core:?}");
        }
    }
    Ok(())
}

fn matches(store: &mut Store<()>, found: &Val, expected: &WastRetCore<'_>) -> Result<bool> {
    Ok(match (found, expected) {
        (found, WastRetCore::Either(any)) => {
            for one in any {
                if matches(store, found, one)? {
                    return Ok(true);
                }
            }
            false
        }
        (Val::I32(a), WastRetCore::I32(b)) => a == b,
        (Val::I64(a), WastRetCore::I64(b)) => a == b,
        (Val::F32(a), WastRetCore::F32(b)) => f32_matches(*a, b),
        (Val::F64(a), WastRetCore::F64(b)) => f64_matches(*a, b),
        (Val::V128(a), WastRetCore::V128(b)) => v128_matches(a.as_u128(), b),
        (found, WastRetCore::RefNull(_)) => found.ref_().is_some_and(|r| r.is_null()),
        (Val::FuncRef(Some(_)), WastRetCore::RefFunc(None)) => true,
        (Val::ExternRef(Some(_)), WastRetCore::RefExtern(None)) => true,
        (Val::ExternRef(Some(a)), WastRetCore::RefExtern(Some(b))) => {
            a.data(&*store)?.and_then(|d| d.downcast_ref::<u32>()) == Some(b)
        }
        _ => false,
    })
}

/// With NaNs made canonical, an arithmetic NaN is one too, but a constant keeps its payload.
fn f32_matches(found: u32, expected: &NanPattern<wast::token::F32>) -> bool {
    match expected {
        NanPattern::CanonicalNan => found & 0x7fff_ffff == 0x7fc0_0000,
        NanPattern::ArithmeticNan => found & 0x7fc0_0000 == 0x7fc0_0000,
        NanPattern::Value(v) => found == v.bits,
    }
}

fn f64_matches(found: u64, expected: &NanPattern<wast::token::F64>) -> bool {
    match expected {
        NanPattern::CanonicalNan => found & 0x7fff_ffff_ffff_ffff == 0x7ff8_0000_0000_0000,
        NanPattern::ArithmeticNan => found & 0x7ff8_0000_0000_0000 == 0x7ff8_0000_0000_0000,
        NanPattern::Value(v) => found == v.bits,
    }
}

fn v128_matches(found: u128, expected: &V128Pattern) -> bool {
    let bytes = found.to_le_bytes();
    let lane32 = |i: usize| u32::from_le_bytes(bytes[i * 4..i * 4 + 4].try_into().expect("4 bytes"));
    let lane64 = |i: usize| u64::from_le_bytes(bytes[i * 8..i * 8 + 8].try_into().expect("8 bytes"));
    match expected {
        V128Pattern::I8x16(lanes) => lanes.iter().zip(bytes).all(|(a, b)| *a as u8 == b),
        V128Pattern::I16x8(lanes) => {
            let found = bytes.chunks(2).map(|b| i16::from_le_bytes([b[0], b[1]]));
            lanes.iter().copied().eq(found)
        }
        V128Pattern::I32x4(lanes) => lanes.iter().enumerate().all(|(i, a)| *a as u32 == lane32(i)),
        V128Pattern::I64x2(lanes) => lanes.iter().enumerate().all(|(i, a)| *a as u64 == lane64(i)),
        V128Pattern::F32x4(lanes) => lanes.iter().enumerate().all(|(i, a)| f32_matches(lane32(i), a)),
        V128Pattern::F64x2(lanes) => lanes.iter().enumerate().all(|(i, a)| f64_matches(lane64(i), a)),
    }
}
