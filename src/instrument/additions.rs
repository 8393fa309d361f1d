//! The functions that the rewriter adds: wrappers of imports, thunks, helpers, and what the host calls.

use wasm_encoder::{BlockType, Function, RefType, ValType};

use super::callgraph::CallGraph;
use super::code::{
    cast, in_sequence, kind, load, load_values, mem, pop_trailer, push_trailer, save_values, store, zeros,
};
use super::emit::Context;
use super::frame::{Kind, Layout, Place, TRAILER, TRAILER_FUNC, TRAILER_POINT, TRAILER_SIZE};
use super::hidden::{Hidden, REWINDING, RUNNING, UNWINDING};
use super::sink::Sink;
use super::types::{self, TypeTable};

/// A global that snapshots hold.
pub type SavedGlobal = (u32, Kind);

/// The mutable globals.
pub fn saved_globals(cx: &Context<'_, '_>) -> Vec<SavedGlobal> {
    let globals = cx.module.globals.iter().enumerate();
    globals.filter(|(_, ty)| ty.mutable).map(|(i, ty)| (i as u32, kind(cx, ty.content_type))).collect()
}

/// The layouts of an import's wrapper: its arguments.
pub fn wrapper_layouts(cx: &Context<'_, '_>, import: u32) -> Vec<Layout> {
    let params = cx.module.func_type(import).params().iter().enumerate();
    let locals: Vec<_> = params.map(|(i, &ty)| (i as u32, kind(cx, ty))).collect();
    let size = locals.iter().map(|(_, kind)| kind.size()).sum::<u32>() + TRAILER;
    vec![Layout {
        place: Place::Import,
        offset: 0,
        stack: vec![],
        locals,
        offsets: vec![],
        size,
        inlined: None,
    }]
}

/// The functions that are added, as (type, body), in the order that [`Hidden`] lays down.
pub struct Additions {
    pub funcs: Vec<(u32, Function)>,
    pub empty_type: u32,
}

impl Additions {
    pub fn new(cx: &Context<'_, '_>, types: &TypeTable) -> Self {
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
            funcs.push((
                i as u32,
                body(|sink| {
                    sink.unreachable();
                }),
            ));
        }
        let p = wasmparser::ValType::FUNCREF;
        funcs.push((types.func_type(&[p], &[]), push(hidden.func_stack, hidden.funcs_len, RefType::FUNCREF)));
        funcs.push((types.func_type(&[], &[p]), pop(hidden.func_stack, hidden.funcs_len, RefType::FUNCREF)));
        controls(cx, types, &mut funcs);
        for results in types.results() {
            let ty = types.func_type(&[], results);
            funcs.push((ty, again(hidden, ty)));
        }
        let i32 = wasmparser::ValType::I32;
        funcs.push((types.func_type(&[i32, i32], &[i32]), turn(cx, types)));
        funcs.push((types.func_type(&[i32, i32], &[]), push_frame(hidden)));
        funcs.push((types.func_type(&[], &[i32]), pop_frame(cx)));
        let i64 = wasmparser::ValType::I64;
        funcs.push((types.func_type(&[i64], &[i64]), borrow(hidden)));
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

fn body(write: impl FnOnce(&mut Sink<'_>)) -> Function {
    let mut code = vec![];
    let mut sink = Sink::new(&mut code);
    write(&mut sink);
    sink.end();
    let mut function = Function::new([]);
    function.raw(code);
    function
}

/// Calls the import; when the host asks to stop in it, keeps the arguments to call it again.
fn wrapper(cx: &Context<'_, '_>, import: u32) -> Function {
    let ty = cx.module.func_type(import);
    let params: Vec<_> = ty.params().iter().enumerate().map(|(i, &ty)| (i as u32, ty)).collect();
    let (slots, size) = in_sequence(cx, &params);
    let count = params.len() as u32;
    let (hidden, scratch) = (cx.hidden, count);
    let mut code = vec![];
    // Before the call a frame may be to be rebuilt, behind it saved.
    let not_running = |code: &mut Vec<u8>| {
        Sink::new(code).global_get(hidden.state).if_(BlockType::Empty);
    };
    not_running(&mut code);
    pop_trailer(&mut code, cx, scratch);
    Sink::new(&mut code).drop();
    load_values(&mut code, cx, scratch, &slots, count);
    let mut sink = Sink::new(&mut code);
    run(&mut sink, hidden);
    sink.end();
    for (local, _) in &params {
        sink.local_get(*local);
    }
    sink.call(import);
    not_running(&mut code);
    save_values(&mut code, cx, scratch, &slots);
    Sink::new(&mut code).i32_const(0).global_set(hidden.point);
    push_trailer(&mut code, cx, import, size);
    zeros(&mut code, cx, ty.results());
    Sink::new(&mut code).return_().end().end();
    let mut function = Function::new([(1, ValType::I32)]);
    function.raw(code);
    function
}

/// Calls the function again, with zeros for its arguments, in the thunk's own place.
fn thunk(cx: &Context<'_, '_>, func: u32) -> Function {
    let mut code = vec![];
    zeros(&mut code, cx, cx.module.func_type(func).params());
    Sink::new(&mut code).return_call(cx.hidden.rebuilding(cx.module, func)).end();
    let mut function = Function::new([]);
    function.raw(code);
    function
}

/// Calls the function of the topmost frame again, in the place of this one. Of it everything is rare: in a function of
/// its own it keeps out of the way of those that call it.
fn again(hidden: &Hidden, ty: u32) -> Function {
    body(|sink| {
        sink.global_get(hidden.sp)
            .i32_const(TRAILER as i32)
            .i32_sub()
            .i32_load(mem(hidden.frames, TRAILER_FUNC));
        sink.return_call_indirect(hidden.thunks, ty);
    })
}

/// Completes a frame, of the function and the size of its values given, as `push_trailer` does.
fn push_frame(hidden: &Hidden) -> Function {
    let (func, size, end) = (0, 1, 2);
    let mut code = vec![];
    let mut sink = Sink::new(&mut code);
    sink.global_get(hidden.sp).local_get(size).i32_add().local_tee(end);
    sink.local_get(func).i32_store(mem(hidden.frames, TRAILER_FUNC));
    sink.local_get(end).global_get(hidden.point).i32_store(mem(hidden.frames, TRAILER_POINT));
    sink.local_get(end)
        .local_get(size)
        .i32_const(TRAILER as i32)
        .i32_add()
        .i32_store(mem(hidden.frames, TRAILER_SIZE));
    sink.local_get(end).i32_const(TRAILER as i32).i32_add().global_set(hidden.sp);
    sink.i32_const(UNWINDING).global_set(hidden.state).end();
    let mut function = Function::new([(1, ValType::I32)]);
    function.raw(code);
    function
}

/// Takes the topmost frame off: gives its point, and names it.
fn pop_frame(cx: &Context<'_, '_>) -> Function {
    let mut code = vec![];
    pop_trailer(&mut code, cx, 0);
    let point = cx.hidden.point;
    Sink::new(&mut code).global_set(point).global_get(point).end();
    let mut function = Function::new([(1, ValType::I32)]);
    function.raw(code);
    function
}

/// Completes a frame, and asks the host for more fuel: 1 if it gives some, and frames are to be rebuilt from the topmost one on. If not it is
/// not asked again on the way out.
fn turn(cx: &Context<'_, '_>, types: &TypeTable) -> Function {
    let hidden = cx.hidden;
    body(|sink| {
        sink.local_get(0).local_get(1).call(hidden.push_frame);
        sink.global_get(hidden.grant).i64_const(0).i64_ge_s().if_(BlockType::Empty);
        sink.global_get(hidden.sp);
        left_and_owed(sink, hidden);
        sink.i32_const(cx.module.funcs.len() as i32);
        sink.call_indirect(hidden.thunks, types.func_type(types::ASK.0, types::ASK.1));
        sink.global_set(hidden.grant);
        sink.global_get(hidden.grant).i64_const(0).i64_ge_s().if_(BlockType::Empty);
        rewinding(sink, hidden);
        sink.i32_const(1).return_().end().end().i32_const(0);
    })
}

/// The innermost frame is rebuilt.
pub(super) fn run(sink: &mut Sink<'_>, hidden: &Hidden) {
    sink.i32_const(RUNNING).global_set(hidden.state);
    for fuel in hidden.fuels() {
        sink.global_get(hidden.grant).global_set(fuel);
    }
}

/// What is left if so much, which is negative, is taken from all fuel; of which nothing is left otherwise. What that lacks as well is owed.
fn borrow(hidden: &Hidden) -> Function {
    let left = 0;
    body(|sink| {
        for fuel in hidden.fuels() {
            sink.global_get(fuel).local_get(left).i64_add().local_set(left);
            sink.i64_const(0).global_set(fuel);
        }
        sink.local_get(left).i64_const(0).i64_lt_s().if_(BlockType::Empty);
        sink.global_get(hidden.owed).local_get(left).i64_sub().global_set(hidden.owed);
        sink.i64_const(0).local_set(left).end().local_get(left);
    })
}

/// What is left of the fuel, and what is owed beside it.
fn left_and_owed(sink: &mut Sink<'_>, hidden: &Hidden) {
    sink.i64_const(0);
    for fuel in hidden.fuels() {
        sink.global_get(fuel).i64_add();
    }
    sink.global_get(hidden.owed);
}

/// From here on frames are rebuilt.
fn rewinding(sink: &mut Sink<'_>, hidden: &Hidden) {
    sink.i32_const(REWINDING).global_set(hidden.state);
    // So far below zero that the charges of frames being rebuilt do not matter; the sum can be computed all the same.
    for fuel in hidden.fuels() {
        sink.i64_const(i64::MIN / 4).global_set(fuel);
    }
    sink.i64_const(0).global_set(hidden.owed);
}

fn push(table: u32, len: u32, ty: RefType) -> Function {
    body(|sink| {
        sink.global_get(len).table_size(table).i32_ge_u().if_(BlockType::Empty);
        sink.ref_null(ty.heap_type).i32_const(64).table_grow(table).i32_const(-1).i32_eq();
        sink.if_(BlockType::Empty).unreachable().end().end();
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
        sink.try_table(BlockType::Empty, vec![wasm_encoder::Catch::AllRef { label: 0 }]);
        sink.throw(cx.hidden.tag).end().unreachable().end();
    })
}

/// The functions that the host calls, in the order of their exports.
fn controls(cx: &Context<'_, '_>, types: &TypeTable, funcs: &mut Vec<(u32, Function)>) {
    use wasmparser::ValType::{I32, I64};
    let hidden = cx.hidden;
    let nothing = types.func_type(&[], &[]);
    let fuel = body(|sink| left_and_owed(sink, hidden));
    funcs.push((types.func_type(&[], &[I64, I64]), fuel));
    let unwind = body(|sink| {
        sink.i32_const(UNWINDING).global_set(hidden.state);
    });
    funcs.push((nothing, unwind));
    let begin = body(|sink| {
        for fuel in hidden.fuels() {
            sink.local_get(0).global_set(fuel);
        }
        for global in [hidden.state, hidden.sp, hidden.funcs_len, hidden.exns_len] {
            sink.i32_const(0).global_set(global);
        }
        for global in [hidden.owed, hidden.grant] {
            sink.i64_const(0).global_set(global);
        }
    });
    funcs.push((types.func_type(&[I64], &[]), begin));
    let rewind = body(|sink| {
        sink.local_get(0).global_set(hidden.grant);
        sink.local_get(1).global_set(hidden.sp);
        sink.local_get(2).global_set(hidden.funcs_len);
        sink.local_get(3).global_set(hidden.exns_len);
        rewinding(sink, hidden);
    });
    funcs.push((types.func_type(&[I64, I32, I32, I32], &[]), rewind));
    let status = body(|sink| {
        for global in [hidden.state, hidden.sp, hidden.funcs_len, hidden.exns_len] {
            sink.global_get(global);
        }
    });
    funcs.push((types.func_type(&[], &[I32, I32, I32, I32]), status));
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
                Kind::Exn => {
                    sink.call(hidden.pop_exn);
                }
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
            sink.local_get(0).i32_const(n as i32).i32_eq().if_(BlockType::Empty);
            if is_data {
                sink.data_drop(index);
            } else {
                sink.elem_drop(index);
            }
            sink.i32_const(1).global_set(hidden.dropped + n as u32).end();
        }
    })
}
