//! How much fuel a guest is given at a time, and whether it is to pause.
//!
//! It is given in several parts ([`FUELS`]), each for other charges, and a slice ends when any of them is spent. So where a limit is
//! to be kept, all parts together are no more than what is left, again and again: the guest stops for good at the first
//! point at which more than the limit has been consumed, as it would with one part.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::instrument::FUELS;

/// A slice lasts about this long: a pause request is seen at its end.
const SLICE: Duration = Duration::from_millis(5);
/// The first slice, in fuel; later ones follow the clock. Where slices end does not change any state.
const FIRST_SLICE: u64 = 1 << 20;
const PARTS: u64 = FUELS as u64;
const SLICE_MAX: u64 = 1 << 50;
/// Saving and rebuilding a frame costs about this much a byte, so what takes many gets longer slices.
const NANOS_PER_FRAME_BYTE: u64 = 1;
/// Slices are at least so many times longer than rebuilding what was saved at their end takes.
const SLICE_TO_REBUILD: u64 = 25;

/// Until when a guest runs. Whatever comes first.
#[derive(Debug, Clone, Default)]
pub struct Until {
    /// Pause at the first suspension point at which more fuel than this has been consumed since the
    /// program began.
    pub fuel: Option<u64>,
    /// Pause when this is set; it stays set.
    pub request: Option<Arc<AtomicBool>>,
    /// Pause at this time.
    pub deadline: Option<Instant>,
    /// Fuel from one look at the request and the clock to the next, at most. None: for about 5 ms.
    pub slice: Option<u64>,
}

/// What a guest has consumed, and what it has been given.
#[derive(Debug)]
pub(super) struct Pace {
    /// Fuel consumed since the program began, up to the last grant.
    consumed: u64,
    /// Each part, as in a slice.
    granted: u64,
    slice: u64,
    began: Instant,
    until: Until,
}

impl Pace {
    pub(super) fn new() -> Self {
        Self { consumed: 0, granted: 0, slice: FIRST_SLICE, began: Instant::now(), until: Until::default() }
    }

    pub(super) fn consumed(&self) -> u64 {
        self.consumed
    }

    /// The guest comes from a state in which it had consumed so much.
    pub(super) fn resume(&mut self, consumed: u64) {
        self.consumed = consumed;
    }

    pub(super) fn set_until(&mut self, until: &Until) {
        self.until = until.clone();
    }

    /// What each part of the fuel is next; none if it is to pause.
    pub(super) fn grant(&mut self) -> Option<i64> {
        let Until { fuel, request, deadline, slice } = &self.until;
        let asked = request.as_ref().is_some_and(|r| r.load(Ordering::SeqCst))
            || deadline.is_some_and(|d| Instant::now() >= d);
        // A limit that has been passed pauses here; at the very start nothing has been.
        if asked || fuel.is_some_and(|limit| self.consumed > limit) {
            return None;
        }
        let left = fuel.map_or(SLICE_MAX, |limit| limit.saturating_sub(self.consumed));
        self.granted = slice.map_or(self.slice, |slice| slice / PARTS).min(left / PARTS).min(SLICE_MAX);
        self.began = Instant::now();
        Some(self.granted as i64)
    }

    /// Fuel consumed since the program began, when so much is left of all parts and so much is owed beside it.
    ///
    /// All are below 2^62, or -2^61 in each part while a stack is rebuilt: the largest charge is 2^20, and no memory has 2^68 bytes. (A forged snapshot may give back a charge.)
    pub(super) fn consumed_with(&self, left: i64, owed: i64) -> u64 {
        self.consumed.saturating_add_signed((PARTS * self.granted) as i64 - left + owed)
    }

    /// The guest has stopped with this fuel, having saved so many bytes of frames.
    pub(super) fn spent(&mut self, left: i64, owed: i64, frames: u32) {
        self.consumed = self.consumed_with(left, owed);
        self.adapt(frames);
        self.granted = 0;
    }

    /// Chooses the next slice's fuel by how long the last one took and how much was saved at its end.
    fn adapt(&mut self, frames: u32) {
        let rebuild = u64::from(frames) * NANOS_PER_FRAME_BYTE;
        let target = SLICE.as_nanos() as u64 + rebuild.saturating_mul(SLICE_TO_REBUILD);
        let took = (self.began.elapsed().as_nanos() as u64).max(1);
        if self.granted == self.slice {
            let scaled = u128::from(self.granted) * u128::from(target) / u128::from(took);
            let scaled = u64::try_from(scaled).unwrap_or(SLICE_MAX);
            // Programs change their pace: up slowly, down at once.
            self.slice = scaled.clamp(1 << 10, self.granted.saturating_mul(2).min(SLICE_MAX));
        }
    }

    /// The guest is on its way out, having saved so many bytes of frames: what it may go on with, if it need not pause.
    pub(super) fn ask(&mut self, left: i64, owed: i64, frames: u32) -> Option<i64> {
        let before = (self.consumed, self.granted);
        self.consumed = self.consumed_with(left, owed);
        self.adapt(frames);
        let more = self.grant();
        if more.is_none() {
            // It comes out with the same fuel.
            (self.consumed, self.granted) = before;
        }
        more
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn up_to_a_limit_all_parts_together_are_no_more_than_what_is_left() {
        let mut pace = Pace::new();
        pace.set_until(&Until { fuel: Some(1000), ..Until::default() });
        let mut grants = 0;
        while let Some(part) = pace.grant() {
            assert!(pace.consumed() + PARTS * part as u64 <= 1000);
            // One part is spent, by a charge of 1 too many, and of the others nothing.
            pace.spent((PARTS as i64 - 1) * part - 1, 0, 0);
            grants += 1;
        }
        assert_eq!(pace.consumed(), 1001, "the first point at which more has been consumed");
        assert!(grants < 20, "{grants}");
    }

    #[test]
    fn between_two_looks_no_more_is_consumed_than_was_asked() {
        let mut pace = Pace::new();
        pace.set_until(&Until { slice: Some(101), ..Until::default() });
        assert!(PARTS * pace.grant().unwrap() as u64 <= 101);
    }
}
