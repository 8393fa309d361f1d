//! Random moments to kill a process at.

use std::ops::Range;
use std::time::Duration;

/// How long to let a process run before it is killed.
pub struct Moments {
    state: u64,
    /// How often it must be killed before it may end.
    often: u32,
    /// An undisturbed run takes so long.
    straight: Duration,
}

impl Moments {
    /// Other ones in every process.
    pub fn new(often: u32, straight: Duration) -> Self {
        Self { state: 0x9e37_79b9_7f4a_7c15 ^ u64::from(std::process::id()), often, straight }
    }

    /// The wait before the kill after so many, of so many milliseconds. The first `often` are in all half as long as an
    /// undisturbed run or shorter (if `millis.start` allows), so that the program does not end before on a faster
    /// machine.
    pub fn after(&mut self, kills: u32, millis: Range<u64>) -> Duration {
        self.state ^= self.state << 13;
        self.state ^= self.state >> 7;
        self.state ^= self.state << 17;
        let most = (self.straight / (2 * self.often)).as_millis() as u64;
        let end = if kills < self.often { millis.end.min(most).max(millis.start + 1) } else { millis.end };
        Duration::from_millis(millis.start + self.state % (end - millis.start))
    }
}
