//! Loops: one whose header is a suspension point, and one whose body stands there several times.
//!
//! ```text
//! block $done                 a short innermost loop, twice under one check
//!   loop $header
//!     block $second
//!       body                    a branch to the loop: br $second
//!       br $done
//!     end
//!     block $check
//!       body                    a branch to the loop: br $check
//!       br $done
//!     end
//!     fuel -= 2 * charge
//!     if (fuel < 0) { save; br $exit }
//!     br $header
//!   end
//! end
//! ```

use super::emit::Emitter;
use super::points::{Ctl, Op, OpKind};
use wasm_encoder::BlockType;

impl Emitter<'_, '_, '_> {
    pub(super) fn enter_loop(&mut self, ctl: Ctl, op: &Op) {
        let info = &self.scan.ctls[ctl as usize];
        let height = self.spilled.len();
        let operands = [&info.beneath[..], &info.params[..]].concat();
        self.spill(height, &operands);
        self.end_block(); // the label `Before`
        let params = height + info.beneath.len();
        for (i, &ty) in info.params.iter().enumerate() {
            let temp = self.temp(params + i, ty);
            self.get_or_zero(temp, ty);
        }
        let ty = self.cx.types.block_type(&info.params, &info.results);
        let at = self.code.len();
        self.sink().loop_(ty);
        self.origin(at, op.start);
        self.open += 1;
        self.push_label(self.open - 1, &info.beneath);
        self.spill(params, &info.params);
        self.open_region(info.region, Some(ctl));
        self.reload(params, &info.params);
    }

    /// A whole innermost loop, whose first operator is `op`. Gives the index of its last one.
    pub(super) fn repeat(&mut self, ctl: Ctl, op: &Op) -> usize {
        let scan = self.scan;
        let info = &scan.ctls[ctl as usize];
        let (first, last) = (info.start + 1, info.end);
        let height = self.spilled.len();
        self.spill(height, &info.beneath);
        self.end_block(); // the label `Before`
        let ty = self.cx.types.block_type(&[], &info.results);
        let done = self.block(ty);
        let at = self.code.len();
        self.sink().loop_(ty);
        self.origin(at, op.start);
        self.open += 1;
        let header = self.open - 1;
        let passes = info.passes.unwrap_or(1);
        for _ in 0..passes {
            let next = self.block(BlockType::Empty);
            self.set_repeated(true);
            self.push_label(next, &info.beneath);
            if self.ends_with_its_condition(ctl) {
                let from = self.ops(first..last - 1, op.end);
                self.copy(from, scan.ops[last - 1].start);
                self.sink().i32_eqz();
                let depth = self.depth(done);
                self.branch_rarely(depth);
            } else {
                let from = self.ops(first..last, op.end);
                if !scan.ops[last].dead_before {
                    self.copy(from, scan.ops[last].start);
                    let depth = self.depth(done);
                    self.sink().br(depth);
                }
            }
            self.pop_label();
            self.end_block();
        }
        self.set_repeated(false);
        self.charge_passes(ctl);
        self.save_if(info.point);
        let depth = self.depth(header);
        self.sink().br(depth);
        self.end_block();
        self.end_block();
        self.uncover(ctl);
        last
    }

    /// Whether the loop's last operator is a branch back on a condition: then the next copy follows if it holds.
    fn ends_with_its_condition(&self, ctl: Ctl) -> bool {
        let info = &self.scan.ctls[ctl as usize];
        let [.., before, end] = &self.scan.ops[info.start..=info.end] else { return false };
        matches!(before.kind, OpKind::BrIf(0, false)) && before.end == end.start && info.results.is_empty()
    }

    /// `br_if`, as a branch in a block of its own: what it takes along is then moved there, out of the way of the
    /// code that goes on.
    pub(super) fn branch_rarely(&mut self, depth: u32) {
        self.hint(false);
        self.sink().if_(BlockType::Empty).br(depth + 1).end();
    }
}
