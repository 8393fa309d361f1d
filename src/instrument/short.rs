//! Which loops are short: charged for behind several passes, whose bodies then stand several times in the code.

use super::cost;
use super::points::{Ctl, CtlKind, Op, OpKind};
use super::scan::Scanner;

impl Scanner<'_, '_> {
    /// Whether the loop's body has no blocks, and nothing but its last operator goes back to the header.
    fn is_straight(&self, ctl: Ctl) -> bool {
        let body = self.body(ctl);
        let (last, before) = body.split_last().map_or((None, body), |(last, before)| (Some(last), before));
        let plain = |op: &Op| {
            !matches!(op.kind, OpKind::Block(_) | OpKind::If(_) | OpKind::Try(..) | OpKind::Bulk { .. })
        };
        let leaves = |op: &Op| plain(op) && !matches!(op.kind, OpKind::Br(0) | OpKind::BrIf(0, _));
        before.iter().all(leaves) && last.is_none_or(plain)
    }

    /// What is noted of the body of the innermost loop, which is at its end.
    fn body(&self, ctl: Ctl) -> &[Op] {
        &self.out.ops[self.out.ctls[ctl as usize].start + 1..]
    }

    /// For a loop that charges behind its passes: for how many at once.
    pub(super) fn passes(&self, ctl: Ctl) -> Option<u32> {
        let info = &self.out.ctls[ctl as usize];
        let innermost = info.kind == CtlKind::Loop && info.point as usize + 1 == self.out.points.len();
        let repeats = self.cost_model >= 2 && innermost && info.params.is_empty();
        let passes = if repeats { self.copies(ctl) } else { 1 };
        (passes > 1).then_some(passes)
    }

    /// How often the body of a loop stands there that has no points inside. Where blocks end, or ways back to the header meet,
    /// values are moved between registers, in each copy as in the only one.
    fn copies(&self, ctl: Ctl) -> u32 {
        let operators = self.costs.operators();
        if self.cost_model == 2 {
            return if self.is_straight(ctl) { cost::passes(operators) } else { 1 };
        }
        let is = |kind: fn(&OpKind) -> bool| self.body(ctl).iter().any(|op| kind(&op.kind));
        if is(|kind| matches!(kind, OpKind::Try(..) | OpKind::Bulk { .. })) {
            return 1;
        }
        // An interpreter or a state machine.
        if is(|kind| matches!(kind, OpKind::BrTable(..))) {
            return cost::passes_with_table(operators);
        }
        cost::passes(operators)
    }
}
