//! Clocks. The guest's monotonic time is state, and goes on over a resume.

use std::time::Instant;

use rustix::time::{ClockId, clock_getres, clock_gettime};

use super::{
    Wasi,
    errno::{Errno, Outcome, Stop, done},
    memory,
};

pub(super) const REALTIME: u32 = 0;
pub(super) const MONOTONIC: u32 = 1;
const CPUTIME: [u32; 2] = [2, 3];

/// The guest's monotonic clock: 0 when the guest begins, and standing while it is not running.
#[derive(Debug)]
pub(super) struct Clock {
    /// Guest time at `since`, in ns.
    base: u64,
    since: Instant,
    /// The guest has seen this clock. Until then it is not part of the state, so that programs that
    /// do not look at the time have the same snapshots everywhere.
    seen: bool,
}

impl Clock {
    /// The clock of a new guest, or one that goes on at `saved` ns.
    pub fn new(saved: Option<u64>) -> Self {
        Self { base: saved.unwrap_or(0), since: Instant::now(), seen: saved.is_some() }
    }

    /// Guest time in ns.
    pub fn now(&mut self) -> u64 {
        self.seen = true;
        self.peek()
    }

    /// What has to be saved, in ns.
    pub fn saved(&self) -> Option<u64> {
        self.seen.then(|| self.peek())
    }

    fn peek(&self) -> u64 {
        let elapsed = u64::try_from(self.since.elapsed().as_nanos()).unwrap_or(u64::MAX);
        self.base.saturating_add(elapsed)
    }
}

/// The host's wall time in ns since 1970.
pub(super) fn realtime() -> u64 {
    to_nanos(clock_gettime(ClockId::Realtime))
}

fn to_nanos(time: rustix::time::Timespec) -> u64 {
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    seconds.saturating_mul(1_000_000_000).saturating_add(u64::try_from(time.tv_nsec).unwrap_or(0))
}

impl Wasi {
    /// Resolution of a clock, in ns. The two CPU time clocks are `Badf`, as in the reference.
    pub fn clock_res_get(&mut self, mem: &mut [u8], id: u32, resolution: u32) -> Result<Errno, Stop> {
        done(|| {
            let value = match id {
                REALTIME => to_nanos(clock_getres(ClockId::Realtime)),
                MONOTONIC => to_nanos(clock_getres(ClockId::Monotonic)),
                _ => return unknown(id),
            };
            Ok(memory::write_u64(mem, resolution, value)?)
        })
    }

    /// Time of a clock, in ns; `precision` is not used.
    pub fn clock_time_get(
        &mut self,
        mem: &mut [u8],
        id: u32,
        _precision: u64,
        time: u32,
    ) -> Result<Errno, Stop> {
        done(|| {
            let value = match id {
                REALTIME => realtime(),
                MONOTONIC => self.clock.now(),
                _ => return unknown(id),
            };
            Ok(memory::write_u64(mem, time, value)?)
        })
    }
}

fn unknown(id: u32) -> Outcome {
    Err(if CPUTIME.contains(&id) { Errno::Badf } else { Errno::Inval }.into())
}
