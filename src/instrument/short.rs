//! Which loops are short: charged for behind several passes, whose bodies then stand several times in the code.

use super::cost;
use super::points::{Ctl, CtlKind, Op, OpKind};
use super::scan::Scanner;

impl Scanner<'_, '_> {
    /// Whether all that the loop's body does is its pass: it has no way around a part of it.
    fn is_straight(&self, ctl: Ctl) -> bool {
        let body = &self.out.ops[self.out.ctls[ctl as usize].start + 1..];
        let (last, before) = body.split_last().map_or((None, body), |(last, before)| (Some(last), before));
        let plain = |op: &Op| {
            !matches!(op.kind, OpKind::Block(_) | OpKind::If(_) | OpKind::Try(..) | OpKind::Bulk { .. })
        };
        let leaves = |op: &Op| plain(op) && !matches!(op.kind, OpKind::Br(0) | OpKind::BrIf(0, _));
        before.iter().all(leaves) && last.is_none_or(plain)
    }

    /// For a loop that charges behind its passes: for how many at once.
    pub(super) fn passes(&self, ctl: Ctl) -> Option<u32> {
        let info = &self.out.ctls[ctl as usize];
        let innermost = info.kind == CtlKind::Loop && info.point as usize + 1 == self.out.points.len();
        let repeats = self.cost_model >= 2 && innermost && info.params.is_empty();
        let passes = if repeats && self.is_straight(ctl) { cost::passes(self.costs.operators()) } else { 1 };
        (passes > 1).then_some(passes)
    }
}
