//! Pieces of emitted code that are the same everywhere: frames to memory and back, values that nobody reads.

use wasm_encoder::MemArg;
use wasmparser::ValType;

use super::emit::Context;
use super::frame::{Kind, TRAILER, TRAILER_FUNC, TRAILER_POINT, TRAILER_SIZE};
use super::hidden::{UNWINDING, nullable};
use super::sink::Sink;

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

/// A value of a frame: the local that holds it, its type, and its place in the frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Slot {
    pub local: u32,
    pub ty: ValType,
    pub kind: Kind,
    pub at: u32,
}

/// These locals one after another, and the bytes that they take.
pub fn in_sequence(cx: &Context<'_, '_>, locals: &[(u32, ValType)]) -> (Vec<Slot>, u32) {
    let mut end = 0;
    let place = |&(local, ty): &(u32, ValType)| {
        let at = end;
        let kind = kind(cx, ty);
        end += kind.size();
        Slot { local, ty, kind, at }
    };
    let slots = locals.iter().map(place).collect();
    (slots, end)
}

/// Writes values of a frame behind the frames that are there; [`push_trailer`] completes it.
pub fn save_values(code: &mut Vec<u8>, cx: &Context<'_, '_>, scratch: u32, slots: &[Slot]) {
    let (hidden, frames) = (cx.hidden, cx.hidden.frames);
    let mut sink = Sink::new(code);
    if slots.iter().any(|slot| slot.kind.size() > 0) {
        sink.global_get(hidden.sp).local_set(scratch);
    }
    for slot in slots {
        match slot.kind {
            Kind::Null => {}
            Kind::Func => {
                sink.local_get(slot.local).call(hidden.push_func);
            }
            Kind::Exn => {
                sink.local_get(slot.local).call(hidden.push_exn);
            }
            Kind::V128 => {
                sink.local_get(scratch).local_get(slot.local).v128_store(mem(frames, slot.at));
            }
            number => sink.save(scratch, slot.local, number, mem(frames, slot.at)),
        }
    }
}

/// Completes the frame, whose values take `size` bytes, and whose point `hidden.point` names.
pub fn push_trailer(code: &mut Vec<u8>, cx: &Context<'_, '_>, func: u32, size: u32) {
    let (hidden, frames) = (cx.hidden, cx.hidden.frames);
    let mut sink = Sink::new(code);
    sink.global_get(hidden.sp).i32_const(func as i32).i32_store(mem(frames, size + TRAILER_FUNC));
    sink.global_get(hidden.sp).global_get(hidden.point).i32_store(mem(frames, size + TRAILER_POINT));
    sink.global_get(hidden.sp).i32_const((size + TRAILER) as i32).i32_store(mem(frames, size + TRAILER_SIZE));
    sink.global_get(hidden.sp).i32_const((size + TRAILER) as i32).i32_add().global_set(hidden.sp);
    sink.i32_const(UNWINDING).global_set(hidden.state);
}

/// Takes the topmost frame off; its values are then right behind the others. Leaves its point on the stack.
pub fn pop_trailer(code: &mut Vec<u8>, cx: &Context<'_, '_>, scratch: u32) {
    let (hidden, frames) = (cx.hidden, cx.hidden.frames);
    let mut sink = Sink::new(code);
    sink.global_get(hidden.sp).i32_const(TRAILER as i32).i32_sub().local_tee(scratch);
    sink.i32_load(mem(frames, TRAILER_POINT));
    sink.global_get(hidden.sp)
        .local_get(scratch)
        .i32_load(mem(frames, TRAILER_SIZE))
        .i32_sub()
        .global_set(hidden.sp);
}

/// Sets these locals from the frame that was taken off.
///
/// Locals below `params` keep their declared type; all others are nullable.
pub fn load_values(code: &mut Vec<u8>, cx: &Context<'_, '_>, scratch: u32, slots: &[Slot], params: u32) {
    let (hidden, frames) = (cx.hidden, cx.hidden.frames);
    let mut sink = Sink::new(code);
    if slots.iter().any(|slot| slot.kind.size() > 0) {
        sink.global_get(hidden.sp).local_set(scratch);
    }
    for slot in slots {
        match slot.kind {
            Kind::Null | Kind::Func | Kind::Exn => {}
            Kind::V128 => {
                sink.local_get(scratch).v128_load(mem(frames, slot.at)).local_set(slot.local);
            }
            number => sink.restore(scratch, slot.local, number, mem(frames, slot.at)),
        }
    }
    for slot in slots.iter().rev() {
        match slot.kind {
            Kind::Func => {
                sink.call(hidden.pop_func);
                cast(&mut sink, slot.ty);
            }
            Kind::Exn => {
                sink.call(hidden.pop_exn);
            }
            _ => continue,
        }
        if slot.local < params && !slot.ty.is_defaultable() {
            sink.ref_as_non_null();
        }
        sink.local_set(slot.local);
    }
}

/// From `funcref` to the type of a local.
pub fn cast(sink: &mut Sink<'_>, ty: ValType) {
    let ValType::Ref(r) = nullable(ty) else { unreachable!("a reference") };
    if r != wasmparser::RefType::FUNCREF {
        let heap = r.heap_type().try_into().expect("validated: a module's own type");
        sink.ref_cast_nullable(heap);
    }
}

pub fn store(sink: &mut Sink<'_>, kind: Kind, at: MemArg) {
    match kind {
        Kind::I32 => sink.i32_store(at),
        Kind::I64 => sink.i64_store(at),
        Kind::F32 => sink.f32_store(at),
        Kind::F64 => sink.f64_store(at),
        Kind::V128 => sink.v128_store(at),
        Kind::Func | Kind::Exn | Kind::Null => unreachable!("not in memory"),
    };
}

pub fn load(sink: &mut Sink<'_>, kind: Kind, at: MemArg) {
    match kind {
        Kind::I32 => sink.i32_load(at),
        Kind::I64 => sink.i64_load(at),
        Kind::F32 => sink.f32_load(at),
        Kind::F64 => sink.f64_load(at),
        Kind::V128 => sink.v128_load(at),
        Kind::Func | Kind::Exn | Kind::Null => unreachable!("not in memory"),
    };
}

/// A value of each type that nobody reads, where control seldom comes by: numbers are made of the i32 local `any`.
/// Constants would be hoisted out of the loops around, and take registers there.
pub fn anything(code: &mut Vec<u8>, cx: &Context<'_, '_>, types: &[ValType], any: u32) {
    for &ty in types {
        let mut sink = Sink::new(code);
        match ty {
            ValType::I32 => sink.local_get(any),
            ValType::I64 => sink.local_get(any).i64_extend_i32_u(),
            ValType::F32 => sink.local_get(any).f32_reinterpret_i32(),
            ValType::F64 => sink.local_get(any).i64_extend_i32_u().f64_reinterpret_i64(),
            ValType::V128 => sink.local_get(any).i32x4_splat(),
            ValType::Ref(_) => {
                zeros(code, cx, &[ty]);
                continue;
            }
        };
    }
}

/// A value of each type that nobody reads.
pub fn zeros(code: &mut Vec<u8>, cx: &Context<'_, '_>, types: &[ValType]) {
    let mut sink = Sink::new(code);
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
