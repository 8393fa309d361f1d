//! Pieces of emitted code that are the same everywhere: frames to memory and back, values that nobody reads.

use wasm_encoder::{InstructionSink, MemArg};
use wasmparser::ValType;

use super::emit::Context;
use super::frame::{Kind, TRAILER};
use super::hidden::nullable;
use super::points::PointId;

/// The kind of a value; exceptions can only be null in a module that neither throws nor catches.
pub fn kind(cx: &Context<'_, '_>, ty: ValType) -> Kind {
    match Kind::of(ty) {
        Kind::Exn if !cx.hidden.has_exns => Kind::Null,
        kind => kind,
    }
}

/// An access to a memory of ours: unaligned.
pub fn mem(memory_index: u32, offset: u32) -> MemArg {
    MemArg { offset: u64::from(offset), align: 0, memory_index }
}

/// Pushes a frame with these locals.
pub fn save_frame(
    code: &mut Vec<u8>,
    cx: &Context<'_, '_>,
    scratch: u32,
    slots: &[(u32, ValType)],
    func: u32,
    point: PointId,
) {
    let (hidden, frames) = (cx.hidden, cx.hidden.frames);
    let mut sink = InstructionSink::new(code);
    sink.global_get(hidden.sp).local_set(scratch);
    let mut at = 0;
    for &(local, ty) in slots {
        let kind = kind(cx, ty);
        match kind {
            Kind::Null => {}
            Kind::Func => {
                sink.local_get(local).call(hidden.push_func);
            }
            Kind::Exn => {
                sink.local_get(local).call(hidden.push_exn);
            }
            _ => {
                sink.local_get(scratch).local_get(local);
                store(&mut sink, kind, mem(frames, at));
            }
        }
        at += kind.size();
    }
    let trailer = u64::from(func) | u64::from(point) << 32;
    sink.local_get(scratch).i64_const(trailer as i64).i64_store(mem(frames, at));
    sink.local_get(scratch).i32_const((at + TRAILER) as i32).i32_add().global_set(hidden.sp);
}

/// Pops a frame into these locals.
///
/// Locals below `params` keep their declared type; all others are nullable.
pub fn restore_frame(
    code: &mut Vec<u8>,
    cx: &Context<'_, '_>,
    scratch: u32,
    slots: &[(u32, ValType)],
    params: u32,
) {
    let (hidden, frames) = (cx.hidden, cx.hidden.frames);
    let size: u32 = slots.iter().map(|&(_, ty)| kind(cx, ty).size()).sum::<u32>() + TRAILER;
    let mut sink = InstructionSink::new(code);
    sink.global_get(hidden.sp).i32_const(size as i32).i32_sub().local_tee(scratch).global_set(hidden.sp);
    let mut at = 0;
    for &(local, ty) in slots {
        let kind = kind(cx, ty);
        if kind.size() > 0 {
            sink.local_get(scratch);
            load(&mut sink, kind, mem(frames, at));
            sink.local_set(local);
        }
        at += kind.size();
    }
    for &(local, ty) in slots.iter().rev() {
        match kind(cx, ty) {
            Kind::Func => {
                sink.call(hidden.pop_func);
                cast(&mut sink, ty);
            }
            Kind::Exn => {
                sink.call(hidden.pop_exn);
            }
            _ => continue,
        }
        if local < params && !ty.is_defaultable() {
            sink.ref_as_non_null();
        }
        sink.local_set(local);
    }
}

/// From `funcref` to the type of a local.
pub fn cast(sink: &mut InstructionSink<'_>, ty: ValType) {
    let ValType::Ref(r) = nullable(ty) else { unreachable!("a reference") };
    if r != wasmparser::RefType::FUNCREF {
        let heap = r.heap_type().try_into().expect("validated: a module's own type");
        sink.ref_cast_nullable(heap);
    }
}

pub fn store(sink: &mut InstructionSink<'_>, kind: Kind, at: MemArg) {
    match kind {
        Kind::I32 => sink.i32_store(at),
        Kind::I64 => sink.i64_store(at),
        Kind::F32 => sink.f32_store(at),
        Kind::F64 => sink.f64_store(at),
        Kind::V128 => sink.v128_store(at),
        Kind::Func | Kind::Exn | Kind::Null => unreachable!("not in memory"),
    };
}

pub fn load(sink: &mut InstructionSink<'_>, kind: Kind, at: MemArg) {
    match kind {
        Kind::I32 => sink.i32_load(at),
        Kind::I64 => sink.i64_load(at),
        Kind::F32 => sink.f32_load(at),
        Kind::F64 => sink.f64_load(at),
        Kind::V128 => sink.v128_load(at),
        Kind::Func | Kind::Exn | Kind::Null => unreachable!("not in memory"),
    };
}

/// A value of each type that nobody reads.
pub fn zeros(code: &mut Vec<u8>, cx: &Context<'_, '_>, types: &[ValType]) {
    let mut sink = InstructionSink::new(code);
    for &ty in types {
        match ty {
            ValType::I32 => {
                sink.i32_const(0);
            }
            ValType::I64 => {
                sink.i64_const(0);
            }
            ValType::F32 => {
                sink.f32_const(0.0.into());
            }
            ValType::F64 => {
                sink.f64_const(0.0.into());
            }
            ValType::V128 => {
                sink.v128_const(0);
            }
            ValType::Ref(r) if r.is_nullable() => {
                let heap = r.heap_type().try_into().expect("validated: a module's own type");
                sink.ref_null(heap);
            }
            ValType::Ref(r) => match (Kind::of(ty), r.heap_type()) {
                (Kind::Func, wasmparser::HeapType::Concrete(at) | wasmparser::HeapType::Exact(at)) => {
                    let at = at.as_module_index().expect("a module's own type");
                    sink.ref_func(cx.hidden.dummy(cx.module, at));
                }
                (Kind::Func, _) => {
                    sink.ref_func(cx.hidden.push_func);
                }
                (Kind::Exn, _) if cx.hidden.has_exns => {
                    sink.call(cx.hidden.dummy_exn);
                }
                // No value of the type exists, so neither does a call that gives or takes one.
                _ => {
                    sink.unreachable();
                }
            },
        }
    }
}
