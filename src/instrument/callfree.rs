//! Loops that call in some of their passes only, as interpreters do: which share of the passes comes back without, and how many bodies
//! such a loop has then, with one check for all of them (`ahead.rs`).

use super::cost::{self, Charges};
use super::points::{Ctl, CtlInfo, CtlKind, OpKind};
use super::scan::Scanner;

/// Which share of the passes that come to a place goes back to the header without a call, of those that go back at all: None if all leave the
/// loop from there, or end in `unreachable`, as a panic does. Each way is as likely.
type Share = Option<f64>;

impl Scanner<'_, '_> {
    /// How a loop charges whose end is read and that checks at its header, and how many copies of its body stand ahead of it.
    pub(super) fn charges_ahead(&self, ctl: Ctl) -> (Charges, u32) {
        let info = &self.out.ctls[ctl as usize];
        let operators = self.costs.operators();
        let calls = info.kind == CtlKind::Loop && (info.point as usize) + 1 < self.out.points.len();
        let otherwise = info.counted.is_some() || info.sunk || !info.params.is_empty();
        if calls && !otherwise && operators <= cost::AHEAD_MAX {
            let (share, table) = self.share(info.start);
            // Elsewhere copies that leave out inner loops made nothing faster, and `pancakes` slower.
            if (table || !info.has_loops)
                && let Some((bodies, passes)) = cost::ahead(operators, table, share.unwrap_or(0.0))
            {
                return (Charges::Header(passes), bodies - 1);
            }
        }
        (Charges::ByPass, 0)
    }

    /// Goes backwards through the body of the loop that begins with operator `first`, up to which all is read. Says besides whether it goes on by a
    /// table somewhere.
    fn share(&self, first: usize) -> (Share, bool) {
        let (ops, ctls) = (&self.out.ops, &self.out.ctls);
        // Of the constructs around: the share behind each, and in the other arm.
        let mut around: Vec<(Share, Option<Share>)> = vec![];
        let (mut share, mut table, mut at): (Share, _, _) = (None, false, ops.len());
        while at > first + 1 {
            at -= 1;
            let target = |depth: u32| match around.len().checked_sub(depth as usize) {
                Some(0) => Some(1.0),
                Some(at) => around[at - 1].0,
                None => None,
            };
            match &ops[at].kind {
                OpKind::End(Some(ctl)) => {
                    let CtlInfo { kind, start, .. } = ctls[*ctl as usize];
                    match kind {
                        CtlKind::Loop => (share, at) = (Some(0.0), start),
                        CtlKind::Free => at = start,
                        _ => around.push((share, None)),
                    }
                }
                OpKind::Else(_) => {
                    let frame = around.last_mut().expect("in an if");
                    frame.1 = Some(share);
                    share = frame.0;
                }
                OpKind::If(_) => {
                    let (behind, other) = around.pop().expect("constructs are paired");
                    share = mean([share, other.unwrap_or(behind)].into_iter());
                }
                OpKind::Block(_) => drop(around.pop()),
                OpKind::Br(depth) => share = target(*depth),
                OpKind::BrIf(depth, _) | OpKind::BrOnNull(depth) | OpKind::BrOnNonNull(depth) => {
                    share = mean([share, target(*depth)].into_iter());
                }
                OpKind::BrTable(targets, default) => {
                    table = true;
                    share = mean(targets.iter().chain([default]).map(|&depth| target(depth)));
                }
                OpKind::Stop | OpKind::ReturnCall(_) => share = None,
                OpKind::Call(_) => share = share.and(Some(0.0)),
                OpKind::Try(..) | OpKind::BrOnCast { .. } | OpKind::Check(_) => return (None, false),
                _ => {}
            }
        }
        (share, table)
    }
}

/// Of as likely ways, but for those that nobody takes.
fn mean(ways: impl Iterator<Item = Share>) -> Share {
    let (sum, count) = ways.flatten().fold((0.0, 0u32), |(sum, count), share| (sum + share, count + 1));
    (count > 0).then(|| sum / f64::from(count))
}
