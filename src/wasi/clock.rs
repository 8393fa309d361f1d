//! Clocks. The guest's monotonic time is state, and goes on over a resume.

use std::time::Instant;

use rustix::time::{ClockId, clock_getres, clock_gettime};
use serde::{Deserialize, Serialize};

use super::{
    Wasi,
    errno::{Errno, Outcome, Stop, done},
    memory,
};

pub(super) const REALTIME: u32 = 0;
pub(super) const MONOTONIC: u32 = 1;
const CPUTIME: [u32; 2] = [2, 3];
/// What a look at a fixed clock takes, in ns: so that a guest that looks until time has passed ends.
const LOOK: u64 = 1000;

/// Which time the guest is given.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum ClockMode {
    /// The host's.
    #[default]
    Host,
    /// One that depends on the guest alone: a look takes 1 us, a wait takes its length, and nothing else
    /// takes any time. Waits for time do not wait.
    Fixed {
        /// Wall time at the start, in ns since 1970.
        realtime: u64,
    },
    /// One that follows the fuel that the guest has consumed, a unit being 1 ns: its own speed does not
    /// depend on the machine's, and a run is a function of its inputs. A wait takes its length in guest's
    /// time, and none of the host's.
    Virtual {
        /// Wall time at the start, in ns since 1970.
        realtime: u64,
    },
}

/// What of the clocks is state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum ClockState {
    /// The host's clocks.
    Host {
        /// The guest's monotonic time in ns, once it has seen it. Until then it is not part of the
        /// state, so that programs that do not look at the time have the same snapshots everywhere.
        monotonic: Option<u64>,
    },
    /// Fixed clocks.
    Fixed {
        /// Wall time at the start, in ns since 1970.
        realtime: u64,
        /// The guest's monotonic time in ns.
        monotonic: u64,
    },
    /// Clocks that follow the fuel.
    Virtual {
        /// Wall time at the start, in ns since 1970.
        realtime: u64,
        /// What the guest has waited, in ns.
        waited: u64,
    },
}

/// The guest's clocks. The monotonic one is 0 when the guest begins, and stands while it is not running.
#[derive(Debug)]
pub(super) struct Clock {
    /// As it was at `since`.
    state: ClockState,
    since: Instant,
    /// Fuel that the guest has consumed; kept up to date for virtual clocks only.
    fuel: u64,
}

impl Clock {
    /// The clock of a new guest.
    pub fn new(mode: ClockMode) -> Self {
        Self::restore(match mode {
            ClockMode::Host => ClockState::Host { monotonic: None },
            ClockMode::Fixed { realtime } => ClockState::Fixed { realtime, monotonic: 0 },
            ClockMode::Virtual { realtime } => ClockState::Virtual { realtime, waited: 0 },
        })
    }

    /// A clock that goes on.
    pub fn restore(state: ClockState) -> Self {
        Self { state, since: Instant::now(), fuel: 0 }
    }

    /// What has to be saved.
    pub fn saved(&self) -> ClockState {
        match self.state {
            ClockState::Host { monotonic: Some(_) } => ClockState::Host { monotonic: Some(self.monotonic()) },
            state => state,
        }
    }

    /// The guest looks at the monotonic clock, or begins to wait.
    pub fn look(&mut self) {
        match &mut self.state {
            ClockState::Host { monotonic } => drop(monotonic.get_or_insert(0)),
            ClockState::Fixed { monotonic, .. } => *monotonic = monotonic.saturating_add(LOOK),
            ClockState::Virtual { .. } => {}
        }
    }

    /// The guest looks at the wall clock. The host's is nothing that a resume would have to go on with.
    fn look_at_wall(&mut self) {
        if !matches!(self.state, ClockState::Host { .. }) {
            self.look();
        }
    }

    /// The clock follows the fuel.
    pub fn is_virtual(&self) -> bool {
        matches!(self.state, ClockState::Virtual { .. })
    }

    /// Tells how much fuel the guest has consumed.
    pub fn set_fuel(&mut self, fuel: u64) {
        self.fuel = fuel;
    }

    /// Guest's monotonic time in ns.
    pub fn monotonic(&self) -> u64 {
        match self.state {
            ClockState::Host { monotonic } => {
                let elapsed = u64::try_from(self.since.elapsed().as_nanos()).unwrap_or(u64::MAX);
                monotonic.unwrap_or(0).saturating_add(elapsed)
            }
            ClockState::Fixed { monotonic, .. } => monotonic,
            ClockState::Virtual { waited, .. } => self.fuel.saturating_add(waited),
        }
    }

    /// Guest's wall time in ns since 1970.
    pub fn realtime(&self) -> u64 {
        match self.state {
            ClockState::Host { .. } => to_nanos(clock_gettime(ClockId::Realtime)),
            ClockState::Fixed { realtime, .. } | ClockState::Virtual { realtime, .. } => {
                realtime.saturating_add(self.monotonic())
            }
        }
    }

    /// Lets so many ns pass without waiting, unless the clock is the host's; tells whether it did.
    pub fn pass(&mut self, nanos: u64) -> bool {
        match &mut self.state {
            ClockState::Host { .. } => false,
            ClockState::Fixed { monotonic: time, .. } | ClockState::Virtual { waited: time, .. } => {
                *time = time.saturating_add(nanos);
                true
            }
        }
    }

    fn resolution(&self, id: ClockId) -> u64 {
        match self.state {
            ClockState::Host { .. } => to_nanos(clock_getres(id)),
            ClockState::Fixed { .. } => LOOK,
            ClockState::Virtual { .. } => 1,
        }
    }
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
                REALTIME => self.clock.resolution(ClockId::Realtime),
                MONOTONIC => self.clock.resolution(ClockId::Monotonic),
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
                REALTIME => {
                    self.clock.look_at_wall();
                    self.clock.realtime()
                }
                MONOTONIC => {
                    self.clock.look();
                    self.clock.monotonic()
                }
                _ => return unknown(id),
            };
            Ok(memory::write_u64(mem, time, value)?)
        })
    }
}

fn unknown(id: u32) -> Outcome {
    Err(if CPUTIME.contains(&id) { Errno::Badf } else { Errno::Inval }.into())
}
