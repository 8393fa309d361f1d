//! Calls that can suspend: made, and made again where a frame is rebuilt.
//!
//! Most of them are made again in their own place: the label that the dispatch jumps to stands before the call, and before what only
//! pushes its last operands. The callee takes any operands then, since it rebuilds its own frame. Where another function has to be
//! called than the code names, the dispatch calls it, and the label is behind the call.
//!
//! Behind a call it is asked whether the callee has saved its frame. Such a callee gives zeros: where the next operator branches if the result
//! is not zero, it is asked behind that, so that a loop as `while ((f = f()))` checks once in each pass.

use wasmparser::ValType;

use super::code::anything;
use super::emit::Emitter;
use super::points::{Callee, Closer, Op, OpKind, PointId, PointKind};
use super::pushed::locals_read;

impl<'c> Emitter<'c, '_, '_> {
    /// Where the code begins that the emitter does not copy before it comes to this operator.
    pub(super) fn begins(&self, op: &Op) -> u32 {
        let OpKind::Call(id) = op.kind else { return op.start };
        let point = &self.scan.points[id as usize];
        match point.kind {
            PointKind::Call(callee) if self.again_in_place(callee) => point.pushed.0,
            _ => op.start,
        }
    }

    /// The call that is the operator at this index. Gives the index of the last operator that it stands for: the branch behind it, if that tests
    /// the result.
    pub(super) fn call(&mut self, id: PointId, index: usize) -> usize {
        let op = &self.scan.ops[index];
        let point = &self.scan.points[id as usize];
        let PointKind::Call(callee) = point.kind else { unreachable!("noted as a call") };
        let (height, after) = (self.spilled.len(), point.stack.len());
        debug_assert_eq!(height + point.own, after, "operands of function {} at {}", self.func, point.offset);
        let own = &self.scan.types(point.stack)[height..];
        let in_place = self.again_in_place(callee);
        if in_place {
            let params = self.params_before(id, callee);
            self.spill(after, params);
            self.spill(height, own);
            self.end_block(); // the label `Point`
            self.reload(after, params);
            self.copy(point.pushed.0, op.start);
        } else {
            let copies_go_here = self.closers.is_open(Closer::Call(id));
            if copies_go_here || !own.is_empty() {
                self.spill(after, self.scan.types(point.args));
                self.spill(height, own);
                if copies_go_here {
                    self.end_block(); // the label `Call`
                }
                self.reload(after, self.scan.types(point.args));
            }
        }
        let at = self.code.len();
        match callee {
            Callee::Direct(func) => {
                let func = self.cx.hidden.func(self.cx.module, func);
                self.sink().call(func);
            }
            Callee::Indirect { .. } | Callee::Ref { .. } => {
                self.code.extend_from_slice(self.body.bytes(op.start, op.end));
            }
        }
        self.origin(at, op.start);
        let results = self.results(callee);
        let on_the_stack = in_place && own.is_empty();
        if !on_the_stack {
            self.spill(after, results);
        }
        if !in_place {
            self.end_block(); // the label `Point`
        }
        let tested = results == [ValType::I32] && self.is_tested(index);
        if !tested {
            self.check_call(id);
        }
        if !on_the_stack {
            self.reload(height, own);
            self.reload(after, results);
        }
        if !tested {
            return index;
        }
        let branch = &self.scan.ops[index + 1];
        self.copy(op.end, branch.start);
        self.op(branch);
        self.check_call(id);
        index + 1
    }

    /// Behind a call: saves the frame if the callee has saved its own.
    fn check_call(&mut self, id: PointId) {
        self.push_not_running();
        self.save_if(id);
    }

    /// Whether the call's result is the condition of a branch right behind it. What keeps it in a local besides does no harm: its value of
    /// before is not of the frame, since nobody reads it any more.
    fn is_tested(&self, index: usize) -> bool {
        let [call, next, ..] = &self.scan.ops[index..] else { return false };
        let between = || self.body.bytes(call.end, next.start);
        self.cx.options.tested_results
            && matches!(next.kind, OpKind::BrIf(..))
            && !next.dead_before
            && (between().is_empty() || is_tee(between()))
    }

    /// Whether the call can be made again in its own place.
    pub(super) fn again_in_place(&self, callee: Callee) -> bool {
        let Callee::Direct(func) = callee else { return false };
        if !self.cx.options.calls_in_place {
            return false;
        }
        let (graph, module) = (self.cx.graph, self.cx.module);
        // Else a copy rebuilds its frame.
        let itself = graph.shrunk[func as usize].is_none();
        // The operands are in locals that are null while the function is being rebuilt.
        let plain = module.func_type(func).params().iter().all(|ty| ty.is_defaultable());
        itself && plain && !graph.tail_calls[func as usize]
    }

    /// The operands of a call that stand before the label, which are in locals there.
    pub(super) fn params_before(&self, id: PointId, callee: Callee) -> &'c [ValType] {
        let Callee::Direct(func) = callee else { return &[] };
        let params = self.cx.module.func_type(func).params();
        &params[..params.len() - self.scan.points[id as usize].pushed.1 as usize]
    }

    /// The frame is restored: makes the call again.
    pub(super) fn resume_call(&mut self, id: PointId, callee: Callee) {
        let height = self.scan.points[id as usize].stack.len();
        if self.again_in_place(callee) {
            self.forget_read(id);
            let (params, any) = (self.params_before(id, callee), self.scratch() + 1);
            anything(&mut self.code, self.cx, params, any);
            self.spill(height, params);
        } else {
            self.call_again(callee, self.scan.points[id as usize].offset);
            let results = self.results(callee);
            self.spill(height, results);
        }
        let depth = self.closer(Closer::Point(id));
        self.sink().br(depth);
    }

    /// Gives a value to what is read between the label and the call and has none in the frame. Else these locals would have their
    /// values of the region's beginning, and go through a loop's header for that.
    fn forget_read(&mut self, id: PointId) {
        let (scan, any) = (self.scan, self.scratch() + 1);
        let point = &scan.points[id as usize];
        for local in locals_read(self.body.bytes(point.pushed.0, point.offset)) {
            if self.frames.slots(id).iter().all(|slot| slot.local != local) {
                anything(&mut self.code, self.cx, &[scan.locals[local as usize]], any);
                self.sink().local_set(local);
            }
        }
    }

    /// Calls the callee again, which rebuilds its own frame: with any arguments, or, where another
    /// function may have taken its place, through the thunk of the one that the inner frame names.
    fn call_again(&mut self, callee: Callee, offset: u32) {
        let hidden = self.cx.hidden;
        if let Callee::Direct(func) = callee
            && !self.cx.graph.tail_calls[func as usize]
        {
            let (module, any) = (self.cx.module, self.scratch() + 1);
            anything(&mut self.code, self.cx, module.func_type(func).params(), any);
            self.call_for(hidden.rebuilding(module, func), offset);
            return;
        }
        let again = hidden.again(self.cx.types, self.results(callee));
        self.call_for(again, offset);
    }

    /// Calls a function for the guest's call at this position, so that a trap's call stack is told the same as before.
    fn call_for(&mut self, func: u32, offset: u32) {
        let at = self.code.len();
        self.sink().call(func);
        self.origin(at, offset);
    }

    fn results(&self, callee: Callee) -> &'c [ValType] {
        let module = self.cx.module;
        match callee {
            Callee::Direct(func) => module.func_type(func).results(),
            Callee::Indirect { ty, .. } | Callee::Ref { ty } => module.type_at(ty).results(),
        }
    }
}

/// Whether these operators are a single `local.tee`.
fn is_tee(operators: &[u8]) -> bool {
    let [0x22, local @ .., last] = operators else { return false };
    last & 0x80 == 0 && local.iter().all(|byte| byte & 0x80 != 0)
}
