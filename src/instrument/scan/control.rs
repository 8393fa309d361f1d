//! What control operators do to the flow and to the cost, and what the emitter is told of them.

use wasmparser::Operator;

use super::super::cost::Charges;
use super::super::liveness::Block;
use super::super::opcodes::Class;
use super::super::points::{Closer, CtlKind, Op, OpKind, PointId};
use super::super::refusal::Refusal;
use super::Scanner;

impl<'a> Scanner<'_, 'a> {
    /// The block that a branch to the label at `depth` goes to.
    pub(super) fn label_block(&self, depth: u32) -> Block {
        let Some(at) = self.frames.len().checked_sub(1 + depth as usize) else {
            return self.frames[0].end_block; // the validator refuses it right after
        };
        let frame = &self.frames[at];
        if frame.repeats { frame.other_block } else { frame.end_block }
    }

    /// Whether a branch to the label takes operands with it.
    fn carries(&self, depth: u32) -> bool {
        match self.frames[self.frames.len() - 1 - depth as usize].ctl {
            None => !self.module.func_type(self.func).results().is_empty(),
            Some(ctl) => {
                let info = &self.out.ctls[ctl as usize];
                !if info.kind.is_loop() { info.params } else { info.results }.is_empty()
            }
        }
    }

    fn branch(&mut self, depth: u32, share: f64) {
        let to = self.label_block(depth);
        self.flow.branch(to);
        if (depth as usize) < self.frames.len() {
            self.costs.branch(depth, share);
        }
    }

    /// What the operator does to the flow, after the validator has taken it.
    pub(super) fn control(
        &mut self,
        op: &Operator<'a>,
        start: u32,
        end: u32,
        was_reachable: bool,
    ) -> Result<(), Refusal> {
        if !was_reachable {
            return self.dead_control(op, start, end);
        }
        match op {
            Operator::Else => self.else_(start, end, true),
            Operator::BrOnNull { relative_depth } => {
                self.branch(*relative_depth, 0.5);
                self.flow.split();
                self.note(OpKind::BrOnNull(*relative_depth), start, end);
            }
            Operator::BrOnNonNull { relative_depth } => {
                self.branch(*relative_depth, 0.5);
                self.flow.split();
                self.note(OpKind::BrOnNonNull(*relative_depth), start, end);
            }
            Operator::BrOnCast { relative_depth, from_ref_type, to_ref_type }
            | Operator::BrOnCastFail { relative_depth, from_ref_type, to_ref_type } => {
                self.branch(*relative_depth, 0.5);
                self.flow.split();
                let (depth, from, to) = (*relative_depth, *from_ref_type, *to_ref_type);
                let fail = matches!(op, Operator::BrOnCastFail { .. });
                self.note(OpKind::BrOnCast { depth, from, to, fail }, start, end);
            }
            Operator::BrTable { targets } => {
                let list = targets.targets().collect::<Result<Vec<_>, _>>()?;
                let all = list.len() + 1;
                for (i, &depth) in list.iter().chain([&targets.default()]).enumerate() {
                    self.branch(depth, 1.0 / (all - i) as f64);
                }
                self.stop(OpKind::BrTable(list, targets.default()), start, end);
            }
            Operator::Return | Operator::Unreachable => self.stop(OpKind::Stop, start, end),
            Operator::Throw { .. } | Operator::ThrowRef => {
                self.throws();
                self.stop(OpKind::Stop, start, end);
            }
            Operator::ReturnCall { function_index } => {
                self.stop(OpKind::ReturnCall(*function_index), start, end);
            }
            Operator::ReturnCallIndirect { .. } | Operator::ReturnCallRef { .. } => {
                self.stop(OpKind::Stop, start, end);
            }
            Operator::Call { .. } | Operator::CallIndirect { .. } | Operator::CallRef { .. } => {
                self.throws();
                if let Some(Op { kind: OpKind::Call(point), start: at, .. }) = self.out.ops.last()
                    && *at == start
                {
                    let point = *point as usize;
                    // A resumed callee may throw: what the handlers read is live while it runs.
                    self.out.points[point].block = self.flow.split();
                    self.throws();
                    self.flow.split();
                } else if !self.handlers.is_empty() {
                    self.flow.split();
                }
            }
            Operator::RefFunc { function_index } => self.note(OpKind::RefFunc(*function_index), start, end),
            Operator::DataDrop { data_index } => self.note(OpKind::DataDrop(*data_index), start, end),
            Operator::ElemDrop { elem_index } => self.note(OpKind::ElemDrop(*elem_index), start, end),
            _ => {}
        }
        Ok(())
    }

    /// One of the most frequent operators, in code that can be reached.
    pub(super) fn frequent_control(&mut self, class: Class, index: u32, start: u32, end: u32) {
        match class {
            Class::End => self.end(start, end, true),
            Class::Br => {
                self.branch(index, 1.0);
                self.stop(OpKind::Br(index), start, end);
            }
            Class::BrIf => {
                self.branch(index, 0.5);
                self.flow.split();
                let carries = self.carries(index);
                self.note(OpKind::BrIf(index, carries), start, end);
            }
            Class::Call => {
                self.throws();
                if !self.handlers.is_empty() {
                    self.flow.split();
                }
            }
            _ => {}
        }
    }

    /// Dead code: only its nesting matters. The validator's control stack tells when the construct that we know of is
    /// the innermost again.
    pub(super) fn dead_end(&mut self, start: u32, end: u32) {
        if self.validator.control_stack_height() as usize + 1 == self.frames.len() {
            self.end(start, end, false);
        }
    }

    fn dead_control(&mut self, op: &Operator<'a>, start: u32, end: u32) -> Result<(), Refusal> {
        let depth = self.validator.control_stack_height() as usize;
        if matches!(op, Operator::Else) && depth == self.frames.len() {
            self.else_(start, end, false);
        }
        Ok(())
    }

    /// A call or throw may go to the handlers around it.
    fn throws(&mut self) {
        for targets in &self.handlers {
            for &to in targets {
                self.flow.branch(to);
            }
        }
    }

    fn stop(&mut self, kind: OpKind, start: u32, end: u32) {
        self.note(kind, start, end);
        self.flow.stop();
        self.reachable = false;
        self.dead_before = true;
    }

    fn else_(&mut self, start: u32, end: u32, reached: bool) {
        let frame = self.frames.last_mut().expect("in a frame");
        let ctl = frame.ctl.expect("an if");
        let (end_block, else_block, region) = (frame.end_block, frame.other_block, frame.region);
        frame.other_block = end_block;
        self.flow.branch(end_block);
        self.flow.stop();
        self.flow.begin(else_block);
        self.costs.enter_else(reached);
        self.out.ctls[ctl as usize].has_else = true;
        self.out.regions[region].closers.push(Closer::Else(ctl));
        self.note(OpKind::Else(ctl), start, end);
        self.reachable = true;
    }

    fn end(&mut self, start: u32, end: u32, reached: bool) {
        let frame = self.frames.pop().expect("in a frame");
        if frame.repeats {
            self.loops.pop();
        }
        let charges = frame.ctl.map_or(Charges::ByPass, |ctl| self.charges(ctl));
        let charge = self.costs.leave(reached, charges);
        if let Some(ctl) = frame.ctl {
            let points = self.out.points.len() as PointId;
            let info = &mut self.out.ctls[ctl as usize];
            info.points_end = points;
            info.writes.1 = self.out.writes.len() as u32;
            info.charge = charge.unwrap_or(0);
            info.end = self.out.ops.len();
            let bare_if = info.kind == CtlKind::If && !info.has_else;
            if info.kind == CtlKind::Try {
                self.handlers.pop();
            }
            if bare_if {
                if !info.params.is_empty() {
                    self.out.regions[frame.region].closers.push(Closer::Else(ctl));
                }
                // The arm that is not there falls to the end.
                self.flow.branch(frame.end_block);
                self.flow.stop();
                self.flow.begin(frame.other_block);
            }
            if matches!(info.kind, CtlKind::Block | CtlKind::If) {
                self.out.regions[frame.region].closers.push(Closer::End(ctl));
            }
        } else {
            self.out.entry_charge = charge.expect("the function charges");
        }
        self.flow.begin(frame.end_block);
        self.note(OpKind::End(frame.ctl), start, end);
        self.reachable = true;
    }
}
