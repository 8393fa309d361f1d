//! Copies of a loop's body that stand ahead of it, under one check with it, for passes that make no call. Where a copy comes to a call, or to
//! an inner loop, it goes on in the body, before the call: so there are no suspension points in copies.
//!
//! ```text
//! block $done
//!   loop $header
//!     fuel -= charge
//!     if (fuel < 0) { save; br $exit }   or the way to a point in the body
//!     block $call                          ends in the body, before a call
//!       block $next
//!         body                             a branch to the loop: br $next; a call: br $call
//!         br $done
//!       end
//!       body …
//!     end ;; $call
//!     call
//!     … body
//!   end
//! end
//! ```

use super::emit::Emitter;
use super::points::{Closer, Ctl, Op, OpKind, PointId, PointKind};
use wasm_encoder::BlockType;
use wasmparser::ValType;

impl Emitter<'_, '_, '_> {
    /// The copies, behind the loop's check. Behind the end of `done` is what follows the loop.
    pub(super) fn pass_ahead(&mut self, ctl: Ctl, op: &Op, done: u32) {
        self.ahead = true;
        for _ in 0..self.scan.ctls[ctl as usize].ahead {
            let next = self.block(BlockType::Empty);
            let header = self.relabel(next);
            self.pass(ctl, op, done);
            self.relabel(header);
            self.end_block();
        }
        self.ahead = false;
    }

    /// An operator of a copy. Gives the index of the last one that it stands for.
    pub(super) fn op_ahead(&mut self, at: usize) -> usize {
        let scan = self.scan;
        let op = &scan.ops[at];
        match op.kind {
            OpKind::Call(id) => self.go_on_at_call(id),
            OpKind::Loop(ctl) => {
                let info = &scan.ctls[ctl as usize];
                self.spill(self.spilled.len(), scan.types(info.operands()));
                let depth = self.closer(Closer::Before(ctl));
                self.sink().br(depth);
                return info.end;
            }
            OpKind::Block(ctl) | OpKind::If(ctl) if scan.ctls[ctl as usize].has_points => {
                self.enter_ahead(ctl, op);
            }
            OpKind::Else(_) => self.copy(op.start, op.end),
            OpKind::End(Some(ctl)) => {
                self.end_block();
                self.pop_label();
                if scan.ctls[ctl as usize].has_points {
                    self.uncover(ctl);
                }
            }
            _ => self.op(op),
        }
        at
    }

    /// A block or `if` with points inside: what is beneath it is in locals there, as in the body.
    fn enter_ahead(&mut self, ctl: Ctl, op: &Op) {
        let scan = self.scan;
        let info = &scan.ctls[ctl as usize];
        if !info.beneath.is_empty() {
            let (height, operands) = (self.spilled.len(), scan.types(info.operands()));
            let condition =
                matches!(op.kind, OpKind::If(_)).then(|| self.temp(height + operands.len(), ValType::I32));
            if let Some(condition) = condition {
                self.sink().local_set(condition);
            }
            self.spill(height, operands);
            self.reload(height + info.beneath.len(), scan.types(info.params));
            if let Some(condition) = condition {
                self.sink().local_get(condition);
            }
        }
        self.copy(op.start, op.end);
        self.open += 1;
        self.push_label(self.open - 1, scan.types(info.beneath));
    }

    /// Goes to the call in the body, its operands in locals.
    fn go_on_at_call(&mut self, id: PointId) {
        let point = &self.scan.points[id as usize];
        let PointKind::Call(callee) = point.kind else { unreachable!("noted as a call") };
        let (height, after) = (self.spilled.len(), point.stack.len());
        let closer = if self.again_in_place(callee) {
            let params = self.params_before(id, callee);
            self.spill(after, params);
            Closer::Point(id)
        } else {
            self.spill(after, self.scan.types(point.args));
            Closer::Call(id)
        };
        self.spill(height, &self.scan.types(point.stack)[height..]);
        let depth = self.closer(closer);
        self.sink().br(depth);
    }
}
