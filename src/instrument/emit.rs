//! One function, rewritten. See DESIGN.md for the scheme and a worked example.
//!
//! Invariant on which everything rests: at every label that a dispatch can jump to, the operand stack is
//! empty; what was on it is in locals of our own, one per (height, type).

use wasm_encoder::BlockType;
use wasmparser::ValType;

mod locals;
mod memory;

use super::Options;
use super::callgraph::CallGraph;
use super::code::{push_trailer, save_values, zeros};
use super::counted::{Passes, Written};
use super::hidden::{Hidden, nullable};
use super::inline::InlineTable;
use super::module::{Body, Module};
use super::pipeline::{Function, Rewritten};
use super::points::Origin;
use super::points::{Closer, Ctl, CtlKind, Op, OpKind, PointId, Scan};
use super::sink::{Sink, append};
use super::slots::Frames;
use super::types::TypeTable;
use memory::{Closers, Temps, declare_locals};

pub use memory::Scratch;

/// Everything that all functions share.
pub struct Context<'m, 'a> {
    pub wasm: &'a [u8],
    pub module: &'m Module<'a>,
    /// What stands at positions behind the module's end.
    pub inlined: &'m InlineTable,
    pub graph: &'m CallGraph,
    pub hidden: &'m Hidden,
    pub types: &'m TypeTable,
    pub options: &'m Options,
}

/// What an emitted function is for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// To run, and to rebuild its frames.
    Whole,
    /// To run alone: frames are saved, and rebuilt by the copy.
    Hot,
    /// The copy: it is called to rebuild a frame, and goes on with it, or begins the function again if the frame stands at the entry.
    Rebuilding,
}

struct Label {
    /// The level of the emitted block that a branch to it leaves or repeats.
    level: u32,
    /// Height of the spilled operands before the construct.
    spilled: usize,
}

pub(super) struct Emitter<'c, 'm, 'a> {
    pub(super) cx: &'c Context<'m, 'a>,
    pub(super) scan: &'c Scan,
    pub(super) body: &'c Body<'a>,
    /// The body's bytes, and the position of the first.
    given: &'a [u8],
    base: u32,
    pub(super) func: u32,
    pub(super) role: Role,
    pub(super) code: Vec<u8>,
    hints: Vec<(u32, bool)>,
    origins: Vec<Origin>,
    /// Emitted blocks that are open, the function's own included.
    pub(super) open: u32,
    labels: Vec<Label>,
    /// How many labels there are around the body that is emitted several times.
    around_repeated: Option<usize>,
    /// What is emitted is a copy that stands ahead of a loop's body.
    pub(super) ahead: bool,
    /// Levels of the labels that the regions have opened.
    pub(super) closers: Closers,
    /// Types of the operands of surrounding constructs, all of them in locals.
    pub(super) spilled: Vec<ValType>,
    temps: Temps,
    pub(super) temp_types: Vec<ValType>,
    /// Two i32 locals: for addresses, and one for which any value will do.
    scratch: Option<u32>,
    /// What is not copied next, but is this local.
    pub(super) replaced: Option<(Written, u32)>,
    /// Two i64 locals for the cost of bulk operations.
    bulk_locals: Option<u32>,
    /// The frames of its points, if it can suspend.
    pub(super) frames: Frames,
}

/// Rewrites a function that can suspend; another one is only adapted to the new indexes. It is appended to `done`.
pub fn emit(
    cx: &Context<'_, '_>,
    body: &Body<'_>,
    role: Role,
    scan: &Scan,
    scratch: &mut Scratch,
    done: &mut Rewritten,
) {
    let func = body.func;
    let suspends = cx.graph.can_suspend[func as usize];
    scratch.clear();
    let Scratch { code, hints, origins, mut labels, mut closers, spilled, temps, temp_types, frames, locals } =
        std::mem::take(scratch);
    labels.push(Label { level: 0, spilled: 0 });
    closers.reset(scan);
    let mut emitter = Emitter {
        cx,
        scan,
        body,
        given: body.body.as_bytes(),
        base: body.body.range().start as u32,
        func,
        role,
        code,
        hints,
        origins,
        open: 1,
        labels,
        around_repeated: None,
        ahead: false,
        closers,
        spilled,
        temps,
        temp_types,
        scratch: None,
        replaced: None,
        bulk_locals: None,
        frames,
    };
    if suspends {
        emitter.lay_out_frames();
        emitter.enter_function();
    }
    emitter.ops(0..scan.ops.len(), scan.code.0);
    *scratch = emitter.finish(locals, done);
}

impl Emitter<'_, '_, '_> {
    pub(super) fn sink(&mut self) -> Sink<'_> {
        Sink::new(&mut self.code)
    }

    /// Copies bytes of the original body.
    pub(super) fn copy(&mut self, start: u32, end: u32) {
        match self.replaced {
            Some((Written { from, to, implied }, local)) if start <= from && to <= end => {
                self.replaced = None;
                self.copy(start, from);
                self.sink().local_get(local);
                if implied {
                    self.sink().i32_ne();
                }
                self.copy(to, end);
            }
            _ if start < end => {
                let at = self.code.len();
                append(&mut self.code, &self.given[(start - self.base) as usize..], (end - start) as usize);
                self.origin(at, start);
            }
            _ => {}
        }
    }

    /// What was emitted since `at` stands for the original code at `offset`.
    pub(super) fn origin(&mut self, at: usize, offset: u32) {
        let len = (self.code.len() - at) as u32;
        self.origins.push(Origin { at: at as u32, from: offset, len });
    }

    /// The relative depth of a level from here.
    pub(super) fn depth(&self, level: u32) -> u32 {
        self.open - 1 - level
    }

    /// The relative depth of an original label from here.
    pub(super) fn label(&self, depth: u32) -> u32 {
        let at = self.labels.len() - 1 - depth as usize;
        self.depth(self.labels[at].level)
    }

    pub(super) fn closer(&self, closer: Closer) -> u32 {
        self.depth(self.closers.level(closer))
    }

    pub(super) fn block(&mut self, ty: BlockType) -> u32 {
        self.sink().block(ty);
        self.open += 1;
        self.open - 1
    }

    pub(super) fn end_block(&mut self) {
        self.sink().end();
        self.open -= 1;
    }

    /// The next branch is hinted.
    pub(super) fn hint(&mut self, taken: bool) {
        self.hints.push((self.code.len() as u32, taken));
    }

    /// These operators and what lies between them, from offset `from` on. Gives the offset behind the last one.
    pub(super) fn ops(&mut self, which: std::ops::Range<usize>, from: u32) -> u32 {
        let (scan, mut from, mut at) = (self.scan, from, which.start);
        while at < which.end {
            let op = &scan.ops[at];
            if !op.dead_before {
                self.copy(from, self.begins(op));
            }
            match op.kind {
                _ if self.ahead => at = self.op_ahead(at),
                OpKind::Loop(ctl) if scan.ctls[ctl as usize].passes.is_some() => at = self.repeat(ctl, op),
                OpKind::Loop(ctl) if let Some(chunks) = self.chunks(ctl) => {
                    at = self.pass_in_chunks(ctl, op, chunks);
                }
                OpKind::Loop(ctl) if let Some(distance) = self.computed(ctl) => {
                    at = self.pass_at_once_or_one_by_one(ctl, op, distance);
                }
                OpKind::Call(point) => at = self.call(point, at),
                _ => self.op(op),
            }
            from = scan.ops[at].end;
            at += 1;
        }
        from
    }

    pub(super) fn op(&mut self, op: &Op) {
        match &op.kind {
            OpKind::Block(ctl) => self.enter_block(*ctl, op),
            OpKind::If(ctl) => self.enter_if(*ctl, op),
            OpKind::Loop(ctl) if matches!(self.scan.ctls[*ctl as usize].counted, Some(Passes::Known(_))) => {
                self.enter_counted(*ctl, op);
            }
            OpKind::Loop(ctl) => self.enter_loop(*ctl, op),
            OpKind::Try(ctl, catches) => self.enter_try(*ctl, catches, op),
            OpKind::Else(ctl) => self.enter_else(*ctl, op),
            OpKind::End(Some(ctl)) => self.leave(*ctl, op),
            OpKind::End(None) => self.leave_function(op),
            OpKind::Br(depth) => {
                let depth = self.label(*depth);
                self.sink().br(depth);
            }
            OpKind::BrIf(depth, false) if self.leaves_repeated(*depth) => {
                let depth = self.label(*depth);
                self.branch_rarely(depth);
            }
            OpKind::BrIf(depth, _) => {
                let depth = self.label(*depth);
                self.sink().br_if(depth);
            }
            OpKind::BrOnNull(depth) => {
                let depth = self.label(*depth);
                self.sink().br_on_null(depth);
            }
            OpKind::BrOnNonNull(depth) => {
                let depth = self.label(*depth);
                self.sink().br_on_non_null(depth);
            }
            OpKind::BrOnCast { depth, from, to, fail } => {
                let depth = self.label(*depth);
                let ours = |ty: wasmparser::RefType| ty.try_into().expect("validated: a module's own type");
                if *fail {
                    self.sink().br_on_cast_fail(depth, ours(*from), ours(*to));
                } else {
                    self.sink().br_on_cast(depth, ours(*from), ours(*to));
                }
            }
            OpKind::BrTable(targets, default) => {
                let targets: Vec<_> = targets.iter().map(|&d| self.label(d)).collect();
                let default = self.label(*default);
                self.sink().br_table(&targets, default);
            }
            OpKind::Call(_) => unreachable!("made by its index"),
            OpKind::ReturnCall(func) => {
                let at = self.code.len();
                let func = self.cx.hidden.func(self.cx.module, *func);
                self.sink().return_call(func);
                self.origin(at, op.start);
            }
            OpKind::RefFunc(func) => {
                let func = self.cx.hidden.func(self.cx.module, *func);
                self.sink().ref_func(func);
            }
            OpKind::GetNonNull => {
                self.copy(op.start, op.end);
                self.sink().ref_as_non_null();
            }
            OpKind::DataDrop(index) => self.drop_segment(op, &self.cx.graph.dropped_data, 0, *index),
            OpKind::ElemDrop(index) => {
                self.drop_segment(op, &self.cx.graph.dropped_elems, self.cx.graph.dropped_data.len(), *index);
            }
            OpKind::Bulk { wide } => self.bulk(*wide, op),
            OpKind::Check(point) => self.check(*point),
            OpKind::Stop => self.copy(op.start, op.end),
        }
    }

    fn drop_segment(&mut self, op: &Op, list: &[u32], first: usize, index: u32) {
        self.copy(op.start, op.end);
        let at = first + list.binary_search(&index).expect("the call graph saw it");
        let flag = self.cx.hidden.dropped + at as u32;
        self.sink().i32_const(1).global_set(flag);
    }

    /// Whether a branch leaves the body that is emitted several times.
    fn leaves_repeated(&self, depth: u32) -> bool {
        self.around_repeated.is_some_and(|around| self.labels.len() - (depth as usize) <= around)
    }

    /// The body of the innermost label is emitted several times, or not any more.
    pub(super) fn set_repeated(&mut self, repeated: bool) {
        self.around_repeated = repeated.then_some(self.labels.len() - 1);
    }

    /// A branch to the innermost construct goes there from here on; gives where it went before.
    pub(super) fn relabel(&mut self, level: u32) -> u32 {
        let label = self.labels.last_mut().expect("constructs are paired");
        std::mem::replace(&mut label.level, level)
    }

    pub(super) fn pop_label(&mut self) {
        let label = self.labels.pop().expect("constructs are paired");
        self.spilled.truncate(label.spilled);
    }

    pub(super) fn push_label(&mut self, level: u32, beneath: &[ValType]) {
        self.labels.push(Label { level, spilled: self.spilled.len() });
        self.spilled.extend_from_slice(beneath);
    }

    fn enter_block(&mut self, ctl: Ctl, op: &Op) {
        let info = &self.scan.ctls[ctl as usize];
        if !info.has_points {
            self.copy(op.start, op.end);
            self.open += 1;
            return self.push_label(self.open - 1, &[]);
        }
        // The block itself began where its region begins.
        let level = self.closers.level(Closer::End(ctl));
        let operands = self.scan.types(info.operands());
        let height = self.spilled.len();
        if !info.beneath.is_empty() {
            self.spill(height, operands);
            self.reload(height + info.beneath.len(), self.scan.types(info.params));
        }
        self.push_label(level, self.scan.types(info.beneath));
    }

    fn enter_if(&mut self, ctl: Ctl, op: &Op) {
        let info = &self.scan.ctls[ctl as usize];
        if !info.has_points {
            self.copy(op.start, op.end);
            self.open += 1;
            return self.push_label(self.open - 1, &[]);
        }
        let operands = self.scan.types(info.operands());
        let height = self.spilled.len();
        if !operands.is_empty() {
            let condition = self.temp(height + operands.len(), ValType::I32);
            self.sink().local_set(condition);
            self.spill(height, operands);
            self.sink().local_get(condition);
        }
        let otherwise =
            if info.has_else || !info.params.is_empty() { Closer::Else(ctl) } else { Closer::End(ctl) };
        let depth = self.closer(otherwise);
        self.sink().i32_eqz().br_if(depth);
        self.reload(height + info.beneath.len(), self.scan.types(info.params));
        let level = self.closers.level(Closer::End(ctl));
        self.push_label(level, self.scan.types(info.beneath));
    }

    fn enter_else(&mut self, ctl: Ctl, op: &Op) {
        let info = &self.scan.ctls[ctl as usize];
        if !info.has_points {
            return self.copy(op.start, op.end);
        }
        self.close_first_arm(ctl, op);
    }

    /// The first arm's results go to the `if`'s end; the other arm begins.
    fn close_first_arm(&mut self, ctl: Ctl, op: &Op) {
        if !op.dead_before {
            let depth = self.closer(Closer::End(ctl));
            self.sink().br(depth);
        }
        self.end_block();
        let info = &self.scan.ctls[ctl as usize];
        self.reload(self.spilled.len(), self.scan.types(info.params));
    }

    fn leave(&mut self, ctl: Ctl, op: &Op) {
        let info = &self.scan.ctls[ctl as usize];
        let bare_if = info.kind == CtlKind::If && !info.has_else;
        if info.has_points && bare_if && !info.params.is_empty() {
            self.close_first_arm(ctl, op);
        }
        self.end_block();
        self.pop_label();
        if info.ahead > 0 {
            self.end_block();
        }
        if info.has_points {
            self.uncover(ctl);
        }
    }

    /// Behind a construct whose results are on the operand stack: puts what lay beneath it back there.
    pub(super) fn uncover(&mut self, ctl: Ctl) {
        let info = &self.scan.ctls[ctl as usize];
        if !info.beneath.is_empty() {
            let height = self.spilled.len();
            self.spill(height + info.beneath.len(), self.scan.types(info.results));
            self.reload(height, self.scan.types(info.beneath));
            self.reload(height + info.beneath.len(), self.scan.types(info.results));
        }
    }

    fn enter_try(&mut self, ctl: Ctl, catches: &[wasmparser::Catch], op: &Op) {
        let info = &self.scan.ctls[ctl as usize];
        let height = self.spilled.len();
        let mut params: &[ValType] = self.scan.types(info.params);
        if info.has_points {
            let operands = self.scan.types(info.operands());
            self.spill(height, operands);
            self.end_block(); // the label `Before`
            params = &[];
        }
        let catches: Vec<_> = catches.iter().map(|c| self.catch(*c)).collect();
        let ty = self.cx.types.block_type(params, self.scan.types(info.results));
        let at = self.code.len();
        self.sink().try_table(ty, catches);
        self.origin(at, op.start);
        self.open += 1;
        if !info.has_points {
            return self.push_label(self.open - 1, &[]);
        }
        self.push_label(self.open - 1, self.scan.types(info.beneath));
        self.open_region(info.region, Some(ctl));
        self.reload(height + info.beneath.len(), self.scan.types(info.params));
    }

    fn catch(&self, catch: wasmparser::Catch) -> wasm_encoder::Catch {
        use wasm_encoder::Catch as Out;
        use wasmparser::Catch as In;
        match catch {
            In::One { tag, label } => Out::One { tag, label: self.label(label) },
            In::OneRef { tag, label } => Out::OneRef { tag, label: self.label(label) },
            In::All { label } => Out::All { label: self.label(label) },
            In::AllRef { label } => Out::AllRef { label: self.label(label) },
        }
    }

    /// Saves the values of the frame that no other point has, and leaves by what saves the others.
    pub(super) fn save(&mut self, id: PointId) {
        let scratch = self.scratch();
        let (node, values) = self.frames.saves(id);
        save_values(&mut self.code, self.cx, scratch, values);
        let point = self.cx.hidden.point;
        self.sink().i32_const(id as i32).global_set(point);
        let depth = self.depth(1 + node);
        self.sink().br(depth);
    }

    /// Behind the function's code: what saves the values that points have in common. The root of it is the exit.
    fn save_common(&mut self) {
        for node in (1..=self.frames.nodes()).rev() {
            self.end_block();
            self.begin_cold();
            let scratch = self.scratch();
            let (parent, values) = self.frames.node(node);
            save_values(&mut self.code, self.cx, scratch, values);
            let depth = self.depth(1 + parent);
            self.sink().br(depth);
            self.end_cold();
        }
        self.end_block();
        self.begin_cold();
        let scratch = self.scratch();
        save_values(&mut self.code, self.cx, scratch, self.frames.node(0).1);
    }

    /// Completes the frame. With more fuel, a function on a cycle of calls rebuilds itself then, in its own place.
    fn complete_frame(&mut self) {
        let (hidden, size) = (self.cx.hidden, self.frames.size);
        if !self.scan.calls() {
            return push_trailer(&mut self.code, self.cx, self.func, size);
        }
        let turns = self.cx.graph.on_cycle[self.func as usize];
        let complete = if turns { hidden.turn } else { hidden.push_frame };
        let func = self.func as i32;
        self.sink().i32_const(func).i32_const(size as i32).call(complete);
        if turns {
            self.hint(false);
            self.sink().if_(BlockType::Empty);
            zeros(&mut self.code, self.cx, self.cx.module.func_type(self.func).params());
            let again = hidden.rebuilding(self.cx.module, self.func);
            self.sink().return_call(again).end();
        }
    }

    /// The end of the function: behind it is the exit that all points share, which completes the frame and
    /// returns zeros. The fuel stays negative.
    fn leave_function(&mut self, op: &Op) {
        if self.frames.exist() {
            self.sink().return_();
            self.save_common();
            self.complete_frame();
            zeros(&mut self.code, self.cx, self.cx.module.func_type(self.func).results());
            self.sink().return_();
            self.end_cold();
        }
        self.copy(op.start, op.end);
    }

    /// Gives the function, and the memory back.
    fn finish(self, mut locals: Vec<u8>, done: &mut Rewritten) -> Scratch {
        let params = self.scan.params as usize;
        let types = self.scan.locals[params..].iter().chain(&self.temp_types);
        declare_locals(types.map(|&ty| nullable(ty)), &mut locals);
        done.push(&Function {
            index: match self.role {
                Role::Rebuilding => self.cx.hidden.rebuilding(self.cx.module, self.func),
                Role::Whole | Role::Hot => self.func,
            },
            locals: &locals,
            code: &self.code,
            hints: &self.hints,
            origins: &self.origins,
            frames: self.frames.encoded(),
        });
        Scratch {
            code: self.code,
            hints: self.hints,
            origins: self.origins,
            labels: self.labels,
            closers: self.closers,
            spilled: self.spilled,
            temps: self.temps,
            temp_types: self.temp_types,
            frames: self.frames,
            locals,
        }
    }
}
