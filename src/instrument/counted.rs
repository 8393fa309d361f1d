//! Loops whose number of passes is known before the program runs: rounds of a cipher, rows of a small matrix (from cost model 5 on).
//! They do not check in each pass: a longer one checks once, before its first, and is charged for all of them there. A shorter one
//! is no suspension point at all, and what is around it is charged for it.
//!
//! The number is found for a loop that goes back in one place that each pass comes to, and has a local that each pass moves by a
//! constant, that is a constant before the loop, and that each pass compares with a constant, to go back or to leave. It may leave by
//! other ways as well: then there are fewer passes.
//!
//! Where a number is not known before, but can be computed before the first pass, from locals, and there is no other way out,
//! a long loop is charged for then if there is fuel for all of it; else it checks in each pass.

mod constructs;
#[cfg(test)]
mod tests;
mod walk;

pub use constructs::{Constructs, Left};
use walk::{Test, Value, Walk};

/// Operators between two checks of such a loop, at most: a tenth of a millisecond.
const OPERATORS_MAX: u64 = 1 << 18;
/// Operators that a loop without any check executes, at most. What is around it is charged for what it expects of it, as if
/// each arm of a branch was as likely, and that must not be far from what happens.
const UNCHECKED_MAX: u64 = 256;

/// A loop that need not check in each pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Counted {
    /// Offset of its operator in the module.
    pub at: u32,
    pub passes: Passes,
}

/// How often a loop is passed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Passes {
    /// So often at most, and it is so short that it does not check.
    Free(u64),
    /// So often at most: it checks before the first.
    Known(u64),
    Computed(Distance),
}

/// A loop is passed until a local, moved by a power of two in each pass, is what another one or a number is: so often, and once more,
/// if `(to - (local + by)) >> shift`, or the same of what is negated if it is moved `down`, has no bits that are shifted out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Distance {
    pub local: u32,
    pub by: u64,
    pub to: Bound,
    pub shift: u32,
    pub down: bool,
    /// Of 64 bits, and not of 32.
    pub wide: bool,
    /// Where another end can be put in place of `to`. None if the loop is written in another way.
    pub written: Option<Written>,
}

/// Where the end stands in a loop's last comparison, which its last operator goes back by: from and to an offset in the loop's body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Written {
    pub from: u32,
    pub to: u32,
    /// The end is zero and does not stand there, nor does a comparison: they would stand right before the branch.
    pub implied: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bound {
    Number(u64),
    /// A local that the loop does not move, and so much more.
    Local {
        local: u32,
        by: u64,
    },
}

/// How often a loop with this body, of so many operators, is passed, where it stands behind straight code; none if that is not known.
/// The code need not be valid; then it does not matter what comes out.
fn count(before: &[u8], body: &[u8], operators: u64) -> Option<Passes> {
    // `br 0` or `br_if 0`, or the latter and a branch out of the loop.
    if !matches!(body, [.., 0x0c | 0x0d, 0] | [.., 0x0d, 0, 0x0c, _]) {
        return None;
    }
    let mut pass = Walk::default();
    pass.walk(body, true)?;
    let tests: Vec<_> = pass.tests.iter().filter_map(|test| Some((test, pass.step(test.local)?))).collect();
    let mut entry = Walk::default();
    let may_be_known = tests.iter().any(|(test, step)| test.is_of_number() && *step != 0);
    if may_be_known && entry.walk(before, false).is_some() {
        let of = |&(test, step): &(&Test, u64)| match entry.get(test.local) {
            Value::Number(first) => test.passes(first, step),
            _ => None,
        };
        match tests.iter().filter_map(of).min() {
            Some(passes) if passes <= UNCHECKED_MAX / operators.max(1) => return Some(Passes::Free(passes)),
            Some(passes) if passes <= OPERATORS_MAX / operators.max(1) => return Some(Passes::Known(passes)),
            _ => {}
        }
    }
    pass.distance(body).map(Passes::Computed)
}
