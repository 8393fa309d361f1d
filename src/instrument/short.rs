//! Which loops are short: charged for behind several passes, whose bodies then stand several times in the code.

use super::cost;
use super::points::{Ctl, CtlKind, OpKind};
use super::scan::Scanner;

impl Scanner<'_, '_> {
    /// Whether nothing but the last operator of the loop's body goes back to the header, so that its copies can stand one
    /// behind the other. In cost model 2 it must besides have no way around a part of it, that is, no blocks.
    fn is_straight(&self, ctl: Ctl) -> bool {
        let with_blocks = self.cost_model >= 3;
        let body = &self.out.ops[self.out.ctls[ctl as usize].start + 1..];
        // Of blocks in the loop; a branch of this depth goes to the header.
        let mut inside = 0;
        for (at, op) in body.iter().enumerate() {
            let back = match &op.kind {
                OpKind::Try(..) | OpKind::Bulk { .. } => return false,
                OpKind::Block(_) | OpKind::If(_) if !with_blocks => return false,
                OpKind::Block(_) | OpKind::If(_) => {
                    inside += 1;
                    false
                }
                OpKind::End(Some(_)) => {
                    inside -= 1;
                    false
                }
                OpKind::Br(depth) | OpKind::BrIf(depth, _) => *depth == inside,
                // Model 2 takes no notice of these.
                _ if !with_blocks => false,
                OpKind::BrOnNull(depth) | OpKind::BrOnNonNull(depth) | OpKind::BrOnCast { depth, .. } => {
                    *depth == inside
                }
                OpKind::BrTable(targets, default) => {
                    targets.iter().chain([default]).any(|&depth| depth == inside)
                }
                _ => false,
            };
            let last = at + 1 == body.len() && inside == 0;
            if back && !last {
                return false;
            }
        }
        true
    }

    /// Whether the loop goes on by a table, as an interpreter or a state machine does. All its ways meet at the header anyway,
    /// so it does not matter how many they are.
    fn has_table(&self, ctl: Ctl) -> bool {
        let body = &self.out.ops[self.out.ctls[ctl as usize].start + 1..];
        let table = body.iter().any(|op| matches!(op.kind, OpKind::BrTable(..)));
        table && !body.iter().any(|op| matches!(op.kind, OpKind::Try(..) | OpKind::Bulk { .. }))
    }

    /// For a loop that charges behind its passes: for how many at once.
    pub(super) fn passes(&self, ctl: Ctl) -> Option<u32> {
        let info = &self.out.ctls[ctl as usize];
        let innermost = info.kind == CtlKind::Loop && info.point as usize + 1 == self.out.points.len();
        let repeats = self.cost_model >= 2 && innermost && info.params.is_empty();
        let operators = self.costs.operators();
        let passes = match () {
            () if !repeats => 1,
            () if self.cost_model >= 3 && self.has_table(ctl) => cost::passes_with_table(operators),
            () if self.is_straight(ctl) => cost::passes(operators),
            () => 1,
        };
        (passes > 1).then_some(passes)
    }
}
