//! Which loops are short: charged for behind several passes, whose bodies then stand several times in the code; and how other loops charge.

use super::cost::{self, Charges};
use super::counted::Passes;
use super::points::{Ctl, CtlKind, Op, OpKind};
use super::scan::Scanner;

/// Whether the body of a loop has no blocks, and nothing but its last operator goes back to the header.
fn is_straight(body: &[Op]) -> bool {
    let block = |op: &Op| matches!(op.kind, OpKind::Block(_) | OpKind::If(_));
    let back = |op: &Op| matches!(op.kind, OpKind::Br(0) | OpKind::BrIf(0, _));
    !body.iter().any(block) && body.split_last().is_none_or(|(_, before)| !before.iter().any(back))
}

/// Whether it is an interpreter or a state machine.
fn has_table(body: &[Op]) -> bool {
    body.iter().any(|op| matches!(op.kind, OpKind::BrTable(..)))
}

impl Scanner<'_, '_> {
    /// How a loop charges whose end is read.
    pub(super) fn charges(&mut self, ctl: Ctl) -> Charges {
        match self.out.ctls[ctl as usize].counted {
            Some(Passes::Known(passes)) => return Charges::Before(passes),
            Some(Passes::Free(passes)) => return Charges::Around(passes),
            Some(Passes::Computed(_)) if self.cost_model >= cost::LENGTHS => {
                let few = self.few(ctl);
                let info = &mut self.out.ctls[ctl as usize];
                match few {
                    Some(few) => {
                        info.few = few;
                        return Charges::Many(few);
                    }
                    None => info.counted = None,
                }
            }
            Some(Passes::Computed(_)) | None => {}
        }
        let passes = self.passes(ctl);
        self.out.ctls[ctl as usize].passes = passes;
        if let Some(passes) = passes {
            return Charges::Behind(passes);
        }
        if self.cost_model < cost::AHEAD {
            return Charges::ByPass;
        }
        let (charges, ahead) = self.charges_ahead(ctl);
        self.out.ctls[ctl as usize].ahead = ahead;
        charges
    }

    /// For a loop whose passes can be computed: for how many it does not charge, if it charges for many at once.
    fn few(&self, ctl: Ctl) -> Option<u64> {
        let info = &self.out.ctls[ctl as usize];
        let takes_values = !info.params.is_empty() || !info.results.is_empty();
        let few = cost::few(self.costs.operators(), self.loops.is_empty())?;
        (!takes_values && !has_table(&self.out.ops[info.start + 1..])).then_some(few)
    }

    /// For a loop that charges behind its passes: for how many at once.
    fn passes(&self, ctl: Ctl) -> Option<u32> {
        let info = &self.out.ctls[ctl as usize];
        let innermost = info.kind == CtlKind::Loop && info.point as usize + 1 == self.out.points.len();
        // Where each pass checks for itself (it makes a tail call) nothing is left to charge for behind them.
        let repeats = self.cost_model >= 2 && innermost && info.params.is_empty() && !info.sunk;
        let passes = if repeats { self.copies(&self.out.ops[info.start + 1..]) } else { 1 };
        (passes > 1).then_some(passes)
    }

    /// How often the body of a loop stands there that has no points inside and is at its end. Where blocks end, or ways back to
    /// the header meet, values are moved between registers, in each copy as in the only one.
    fn copies(&self, body: &[Op]) -> u32 {
        let operators = self.costs.operators();
        let has = |kind: fn(&OpKind) -> bool| body.iter().any(|op| kind(&op.kind));
        if has(|kind| matches!(kind, OpKind::Try(..) | OpKind::Bulk { .. })) {
            return 1;
        }
        match self.cost_model {
            2 if !is_straight(body) => 1,
            2 => cost::passes(operators),
            _ if has_table(body) => cost::passes_with_table(operators),
            _ => cost::passes(operators),
        }
    }
}
