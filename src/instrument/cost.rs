//! The fuel cost model, versions 1 to 9.
//!
//! Each function entry and each loop header charges, every time it is passed, the expected number of
//! operators of its own body (the function outside of its loops; the loop outside of inner loops): every
//! conditional branch is taken half of the time, every `br_table` target equally often, and a loop is left
//! by its exits in proportion. One charge per pass, at least 1. So fuel grows with every iteration and
//! every call, is near the number of operators executed, and is a function of the program alone. The
//! arithmetic is IEEE 754 addition, multiplication and division, which is the same everywhere.
//!
//! From version 2 on a short innermost loop (no calls that can suspend) does not charge at its header but at the end of every
//! [`passes`] passes, for all of them; passes of which there are fewer before the loop is left are free, and what is around the loop
//! is charged for half as many, once each time that the loop is entered. Only there is such a loop's suspension point. So the check
//! and the charge cost little, and a loop that is left soon has none. In version 2 such a loop has no blocks, and branches out of it
//! or back at its end only; in version 3 it may have both, and be longer if it goes on by a `br_table`.
//!
//! From version 2 on `memory.fill`, `memory.copy` and `memory.init` cost their length besides, a unit for 64 bytes, once they are done.
//!
//! From version 4 on a small function that can return before it calls anything does not charge at its entry, but behind such ways out
//! (`shrink.rs`), what it would have charged at its entry; its callers are charged for what lies before that or beside it. A loop that
//! calls, in a recursive function, charges behind its ways out likewise.
//!
//! From version 5 on a loop that is passed a known number of times (`counted.rs`) charges for all of them at once, before the first, and only
//! there it is a suspension point; a short one does not charge at all, and what is around it is charged for so many passes.
//!
//! From version 6 on a small function stands in place of a recursive call of it (`inline.rs`): it is part of the function that calls it then,
//! with one charge for both. A loop whose passes can be computed before the first charges for all of them at once, or for as many as
//! [`CHUNK_MAX`] operators take (`chunks.rs`).
//!
//! From version 7 on jumps of a dispatch loop go past its header where they lead forwards (`jumps.rs`), and a function that begins with a loop that calls
//! charges and checks at its header alone (`first.rs`): each pass is charged for what is around the loop as well, at most [`AROUND_MAX`] operators. A
//! function that is on no cycle of calls, or at least is not the one of it that charges, does not charge at its entry if it is short: its callers are charged
//! for all that it does outside of its loops (`paid.rs`), each operator once.
//!
//! From version 8 on a loop whose passes can be computed charges for many at once if its body has at most [`CHUNKED_MAX`] operators, and more than
//! [`BODY_MAX`], or is in no other loop of the function and would stand there twice ([`TWICE_MIN`]); a longer one charges for each pass. If there are
//! so few passes that they take [`FEW_MAX`] operators at most, it does not charge, and what is around it is charged for half as many, as for a short loop.
//!
//! From version 9 on a loop that calls in some passes only, or has inner loops in some (`callfree.rs`), may have several bodies under one check, all but the last
//! without calls (`ahead.rs`): its header is passed less often, and charges for as many passes as are expected until the next time ([`ahead`]).
//!
//! Any change here changes at which states a fuel number stands: raise [`COST_MODEL`], and keep what was, for jobs that
//! began with it.

/// Newest version of the cost model, that of new jobs. A version is part of a job's identity.
pub const COST_MODEL: u32 = 9;
/// First version in which a function's check may stand behind its entry.
pub const SHRINKS: u32 = 4;
/// First version in which loops that are passed a known number of times are charged for at once.
pub const COUNTS: u32 = 5;
/// First version in which recursive calls are inlined.
pub const INLINES: u32 = 6;
/// First version in which loops whose passes can be computed charge for many at once.
pub const CHUNKS: u32 = 6;
/// First version in which jumps are threaded, a function's first loop checks for the function, and callers pay for short functions.
pub const THREADS: u32 = 7;
/// First version in which the length of its body decides whether a loop whose passes can be computed charges for many.
pub const LENGTHS: u32 = 8;
/// First version in which copies stand ahead of the body of a loop that calls in some passes only.
pub const AHEAD: u32 = 9;
/// Operators of a function, those of callees that do not charge included, for which its callers are charged, at most.
pub const PAID_MAX: u64 = 200;
/// What a call costs besides the loop that the function begins with, at most, if each pass of that is charged for it.
pub const AROUND_MAX: u64 = 16;
/// Operators for which such a loop charges at once, at most, if that is more than one pass: a tenth of a millisecond.
const CHUNK_MAX: u64 = 1 << 18;
/// Bodies of so many operators stand twice under one check otherwise.
const TWICE_MIN: u64 = 33;
/// In a longer one a check in each pass takes no time that could be seen, and a second body for chunks would take room.
const CHUNKED_MAX: u64 = 256;
/// Operators of so few passes that computing what they cost takes longer than they may.
const FEW_MAX: u64 = CHUNKED_MAX;
/// Operators that a function executes without a check of its own, at most: its callers are charged for them.
pub const UNCHECKED_MAX: u64 = 1000;
/// Oldest version that jobs can go on with.
pub const OLDEST_COST_MODEL: u32 = 1;

/// An operation on memory costs a unit for so many bytes, as a power of two: 64, which take about as long as an operator.
pub const BYTES_SHIFT: i64 = 6;

/// Operators that a repeated loop body has in all, at most, and how often it is repeated, at most.
const REPEATED_MAX: u64 = 128;
const PASSES_MAX: u64 = 8;
/// Operators in all of a loop that goes on by a table: each copy has an indirect branch of its own, which the processor foresees better.
const TABLE_REPEATED_MAX: u64 = 1024;
/// The same where such a loop calls in some passes: copies have no points, and interpreters with calls are longer.
const TABLE_AHEAD_MAX: u64 = 8192;
/// In a longer body there is no room for a copy.
pub const AHEAD_MAX: u64 = TABLE_AHEAD_MAX / 2;
/// A copy that fewer passes come to is not made.
const REACHED_MIN: f64 = 0.5;
/// A body of more operators stands there once: a compiler has unrolled it before, and twice of it has no room in registers.
const BODY_MAX: u64 = 48;

/// Passes for which a short innermost loop of so many operators is charged at once: so often does its body stand in
/// the rewritten code. One: it charges at its header, as others do.
pub fn passes(operators: u64) -> u32 {
    if operators > BODY_MAX {
        return 1;
    }
    fitting(REPEATED_MAX, operators)
}

/// The same for a loop that goes on by a table, of any length.
pub fn passes_with_table(operators: u64) -> u32 {
    fitting(TABLE_REPEATED_MAX, operators)
}

/// From cost model 9 on: for a loop that calls in some passes, with a body of so many operators, how many bodies it has under one check, and how many
/// passes are expected from one check to the next, if there is more than one body. `share`: of the passes, how many come back without a call.
pub fn ahead(operators: u64, table: bool, share: f64) -> Option<(u32, f64)> {
    let room = if table { TABLE_AHEAD_MAX } else { REPEATED_MAX };
    let most = (room / operators.max(1)).min(PASSES_MAX) as u32;
    let (mut bodies, mut passes, mut reached) = (1, 1.0, share);
    while bodies < most && reached >= REACHED_MIN {
        bodies += 1;
        passes += reached;
        reached *= share;
    }
    (bodies > 1).then_some((bodies, passes))
}

/// Passes for which a loop charges at once, at most, each of which costs `charge`.
pub fn chunk(charge: u64) -> u64 {
    (CHUNK_MAX / charge.max(1)).max(1)
}

/// From cost model 8 on: for a loop with a body of so many operators, which is `outermost` in its function or not, and whose passes can be computed,
/// for how many passes it does not charge, if it charges for many at once.
pub fn few(operators: u64, outermost: bool) -> Option<u64> {
    let least = if outermost { TWICE_MIN } else { BODY_MAX + 1 };
    (least..=CHUNKED_MAX).contains(&operators).then(|| FEW_MAX / operators)
}

/// A power of two of bodies of so many operators that have room in `max`; at least one.
fn fitting(max: u64, operators: u64) -> u32 {
    1 << (max / operators.max(1)).clamp(1, PASSES_MAX).ilog2()
}

/// No charge is higher, so that a hostile body cannot overflow the clock.
const CHARGE_MAX: f64 = (1 << 20) as f64;
/// A flow is never less: rare code costs something too.
const FLOW_MIN: f64 = 1.0 / (1u64 << 40) as f64;

/// Follows the expected flow through one function and sums up the charges.
#[derive(Default)]
pub struct Costs {
    flow: f64,
    /// Of the innermost frame that charges: its cost up to here, and its operators, each once.
    cost: f64,
    operators: u64,
    frames: Vec<Frame>,
    /// Frames that charge: indexes into `frames`; the function first.
    charging: Vec<usize>,
}

/// How the passes of a loop are charged.
#[derive(Clone, Copy, PartialEq)]
pub enum Charges {
    /// Each one, as those of a function.
    ByPass,
    /// At the header, for as many as are expected to come before the next time.
    Header(f64),
    /// So many at once, behind them.
    Behind(u32),
    /// Many at once, before the first, if there are more than so few.
    Many(u64),
    /// So many at once, before the first.
    Before(u64),
    /// So many by what is around it.
    Around(u64),
}

struct Frame {
    /// Flow that branches to the frame's end (for a loop: unused).
    arrived: f64,
    /// For `if`: the flow that enters `else`.
    other_arm: f64,
    looped: Option<Loop>,
}

struct Loop {
    /// Cost and operators of the frame around it that charges, up to its beginning.
    around: (f64, u64),
    /// Flow at the entry, in the terms of the surrounding code.
    entered: f64,
    /// Flow that leaves by branches: (frame, amount).
    exits: Vec<(usize, f64)>,
}

impl Costs {
    /// Begins anew, with another function.
    pub fn reset(&mut self) {
        (self.flow, self.cost, self.operators) = (1.0, 0.0, 0);
        self.frames.clear();
        self.charging.clear();
        self.enter_loop();
    }

    /// So many operators are executed here.
    pub fn charge(&mut self, operators: u64) {
        self.cost += self.flow * operators as f64;
        self.operators = self.operators.saturating_add(operators);
    }

    /// One operator is: the same, quicker.
    pub fn charge_one(&mut self) {
        self.cost += self.flow;
        self.operators = self.operators.saturating_add(1);
    }

    /// Operators of the innermost body that charges, each once; without inner loops.
    pub fn operators(&self) -> u64 {
        self.operators
    }

    pub fn enter_block(&mut self) {
        self.frames.push(Frame { arrived: 0.0, other_arm: 0.0, looped: None });
    }

    pub fn enter_if(&mut self) {
        self.flow /= 2.0;
        self.frames.push(Frame { arrived: 0.0, other_arm: self.flow, looped: None });
    }

    pub fn enter_loop(&mut self) {
        let around = (std::mem::take(&mut self.cost), std::mem::take(&mut self.operators));
        let looped = Some(Loop { around, entered: self.flow, exits: vec![] });
        self.charging.push(self.frames.len());
        self.frames.push(Frame { arrived: 0.0, other_arm: 0.0, looped });
        self.flow = 1.0;
    }

    /// `else`; `reached`: the end of the first arm is.
    pub fn enter_else(&mut self, reached: bool) {
        let frame = self.frames.last_mut().expect("inside of an if");
        if reached {
            frame.arrived += self.flow;
        }
        self.flow = std::mem::take(&mut frame.other_arm).max(FLOW_MIN);
    }

    /// A share of the flow branches to the frame at `depth`; the rest goes on.
    pub fn branch(&mut self, depth: u32, share: f64) {
        let amount = self.flow * share;
        let target = self.frames.len() - 1 - depth as usize;
        self.send(target, amount);
        self.flow = (self.flow - amount).max(FLOW_MIN);
    }

    /// Flow to a frame: kept by the innermost loop until its end is known, when it leaves it.
    fn send(&mut self, target: usize, amount: f64) {
        let innermost = *self.charging.last().expect("the function charges");
        if target > innermost {
            self.frames[target].arrived += amount;
        } else if target < innermost
            && let Some(l) = &mut self.frames[innermost].looped
        {
            l.exits.push((target, amount));
        }
        // Equal: back to the loop's own header, where the next pass charges for itself.
    }

    /// `end`; `reached`: the code before it is. Gives the charge of a pass if the frame has one.
    pub fn leave(&mut self, reached: bool, charges: Charges) -> Option<u64> {
        let frame = self.frames.pop().expect("frames and ends are paired");
        let fallen = if reached { self.flow } else { 0.0 };
        let Some(l) = frame.looped else {
            self.flow = (frame.arrived + frame.other_arm + fallen).max(FLOW_MIN);
            return None;
        };
        self.charging.pop();
        let at_once = if let Charges::Header(passes) = charges { passes } else { 1.0 };
        let charge = (self.cost * at_once).round().clamp(1.0, CHARGE_MAX);
        let mut all = charge;
        let operators = self.operators;
        (self.cost, self.operators) = l.around;
        match charges {
            Charges::ByPass | Charges::Header(_) => {}
            Charges::Behind(passes) => self.cost += l.entered * charge * f64::from(passes) / 2.0,
            Charges::Many(few) => self.cost += l.entered * charge * few as f64 / 2.0,
            Charges::Before(passes) => all = (charge * passes as f64).min(CHARGE_MAX),
            Charges::Around(passes) => {
                self.cost += l.entered * charge * passes as f64;
                self.operators = self.operators.saturating_add(operators.saturating_mul(passes));
            }
        }
        if !self.frames.is_empty() {
            let left: f64 = l.exits.iter().map(|(_, amount)| amount).sum::<f64>() + fallen;
            let scale = if left > 0.0 { l.entered / left } else { 0.0 };
            for (target, amount) in l.exits {
                self.send(target, amount * scale);
            }
            self.flow = (fallen * scale).max(FLOW_MIN);
        }
        Some(all as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn begin() -> Costs {
        let mut costs = Costs::default();
        costs.reset();
        costs
    }

    #[test]
    fn branches_share_and_loops_conserve_the_flow() {
        let mut costs = begin();
        costs.charge(4);
        costs.enter_block();
        costs.enter_loop();
        costs.charge(10);
        costs.branch(1, 0.5); // leaves by half
        costs.charge(10);
        costs.branch(0, 1.0);
        assert_eq!(costs.leave(false, Charges::ByPass), Some(15));
        assert_eq!(costs.leave(false, Charges::ByPass), None);
        costs.charge(6); // all of the flow is here again
        assert_eq!(costs.leave(true, Charges::ByPass), Some(10));
    }

    #[test]
    fn passes_that_are_free_are_paid_by_what_is_around() {
        let mut costs = begin();
        costs.charge(4);
        costs.enter_loop();
        costs.charge(10);
        costs.branch(0, 0.5);
        assert_eq!(costs.operators(), 10);
        assert_eq!(costs.leave(true, Charges::Behind(8)), Some(10));
        assert_eq!(costs.leave(true, Charges::ByPass), Some(44));
    }

    #[test]
    fn passes_of_a_known_number_are_paid_by_what_is_around() {
        let mut costs = begin();
        costs.charge(4);
        costs.enter_if();
        costs.enter_loop();
        costs.charge(10);
        costs.branch(0, 0.5);
        costs.leave(true, Charges::Around(6));
        assert_eq!(costs.operators(), 64);
        costs.leave(true, Charges::ByPass);
        assert_eq!(costs.leave(true, Charges::ByPass), Some(34), "half of the flow enters the loop");
        costs.reset();
        costs.enter_loop();
        costs.charge(10);
        assert_eq!(costs.leave(true, Charges::Before(600)), Some(6000));
        assert_eq!(costs.leave(true, Charges::ByPass), Some(1));
    }

    #[test]
    fn a_small_body_is_passed_more_often() {
        let found = [0, 1, 16, 17, 32, 33, 48, 49, 1000].map(passes);
        assert_eq!(found, [8, 8, 8, 4, 4, 2, 2, 1, 1]);
    }

    #[test]
    fn few_passes_of_a_loop_that_charges_for_many_are_paid_by_what_is_around() {
        let found = [32, 33, 48, 49, 129, 256, 257].map(|operators| few(operators, true));
        assert_eq!(found, [None, Some(7), Some(5), Some(5), Some(1), Some(1), None]);
        assert_eq!([48, 49, 257].map(|operators| few(operators, false)), [None, Some(5), None]);
        let mut costs = begin();
        costs.charge(4);
        costs.enter_loop();
        costs.charge(40);
        costs.branch(0, 0.5);
        assert_eq!(costs.leave(true, Charges::Many(6)), Some(40));
        assert_eq!(costs.leave(true, Charges::ByPass), Some(124));
    }

    #[test]
    fn a_copy_that_few_passes_come_to_is_not_made() {
        let found = ahead;
        assert_eq!(found(10, false, 0.4), None);
        assert_eq!(found(10, false, 0.5), Some((2, 1.5)));
        assert_eq!(found(10, false, 0.75), Some((3, 2.3125)));
        assert_eq!(found(10, false, 1.0), Some((8, 8.0)));
        assert_eq!(found(64, false, 1.0), Some((2, 2.0)));
        assert_eq!(found(65, false, 1.0), None);
        assert_eq!(found(65, true, 1.0), Some((8, 8.0)));
        assert_eq!(found(4096, true, 1.0), Some((2, 2.0)));
        assert_eq!(found(4097, true, 1.0), None);
        let mut costs = begin();
        costs.charge(4);
        costs.enter_loop();
        costs.charge(40);
        assert_eq!(costs.leave(true, Charges::Header(1.5)), Some(60));
        assert_eq!(costs.leave(true, Charges::ByPass), Some(4));
    }

    #[test]
    fn a_charge_is_bounded() {
        let mut costs = begin();
        costs.charge(u64::MAX);
        assert_eq!(costs.leave(true, Charges::ByPass), Some(1 << 20));
        assert_eq!({ begin().leave(true, Charges::ByPass) }, Some(1));
    }
}
