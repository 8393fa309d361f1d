//! Random moments to kill a process at.

use std::ops::Range;
use std::time::Duration;

/// Random enough to choose moments by; the seed is printed.
pub struct Random(pub u64);

impl Random {
    pub fn new(test: &str) -> Self {
        let seed = std::env::var("SEED").ok().and_then(|seed| seed.parse().ok());
        let seed = seed.unwrap_or_else(|| u64::from(std::process::id()) * 0x9e37_79b9 + test.len() as u64);
        println!("{test}: SEED={seed}");
        Self(seed | 1)
    }

    pub fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % limit
    }
}

/// How long to let a process run before it is killed.
pub struct Moments {
    random: Random,
    /// How often it must be killed before it may end.
    often: u32,
    /// An undisturbed run takes so long.
    straight: Duration,
}

impl Moments {
    pub fn new(test: &str, often: u32, straight: Duration) -> Self {
        Self { random: Random::new(test), often, straight }
    }

    /// The wait before the kill after so many, of so many milliseconds. The first `often` are in all half as long as an
    /// undisturbed run or shorter (if `millis.start` allows), so that the program does not end before on a faster
    /// machine.
    pub fn after(&mut self, kills: u32, millis: Range<u64>) -> Duration {
        let most = (self.straight / (2 * self.often)).as_millis() as u64;
        let end = if kills < self.often { millis.end.min(most).max(millis.start + 1) } else { millis.end };
        Duration::from_millis(millis.start + self.random.below(end - millis.start))
    }
}
