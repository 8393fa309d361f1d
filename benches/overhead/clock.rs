//! Processor and wall time.
//!
//! Processor time is that of the whole process, taken while nothing but the one guest's thread runs in it: what a
//! neighbour on the machine takes is not in it. (The thread's own clock could not be read from outside.)

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rustix::time::{ClockId, clock_gettime};

/// What something took, in seconds.
#[derive(Debug, Clone, Copy)]
pub struct Took {
    /// Processor time, of all threads.
    pub cpu: f64,
    /// By the clock on the wall.
    pub wall: f64,
}

impl Took {
    /// Runs it.
    pub fn by<T>(what: impl FnOnce() -> T) -> (Self, T) {
        let (cpu, wall) = (cpu_time(), Instant::now());
        let result = what();
        let (wall, cpu) = (wall.elapsed(), cpu_time() - cpu);
        (Self { cpu: cpu.as_secs_f64(), wall: wall.as_secs_f64() }, result)
    }
}

/// Under valgrind, which shows no vDSO, rustix crashes when it looks for one.
static WITHOUT: AtomicBool = AtomicBool::new(false);

/// From now on no processor time is told.
pub fn without_cpu_time() {
    WITHOUT.store(true, Ordering::Relaxed);
}

/// Processor time of this process.
pub fn cpu_time() -> Duration {
    if WITHOUT.load(Ordering::Relaxed) {
        return Duration::ZERO;
    }
    let time = clock_gettime(ClockId::ProcessCPUTime);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}
