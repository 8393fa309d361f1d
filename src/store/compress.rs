//! How much effort goes into making packs small. What is stored and what it is called does not depend on it.

use std::fmt;
use std::str::FromStr;

/// The level of zstd that new packs are compressed with.
///
/// Measured on pages like a program's (`cargo bench --bench store`; two busy cores together): level 1 190 MB/s and
/// ratio 2.2, -1 176 and 2.1, -5 276 and 1.6, -20 594 and 1.2.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Compress {
    /// Level 1, or a faster one when the processor cannot keep up with the disk.
    #[default]
    Auto,
    /// The fastest that still makes pages of zeros and text small.
    Fast,
    /// Not at all.
    None,
    /// This level of zstd, from [`LEVEL_MIN`] to [`LEVEL_MAX`].
    Level(i32),
}

/// The fastest level: beyond it nothing is gained.
pub const LEVEL_MIN: i32 = -50;
/// The smallest packs, some hundred times slower than level 1.
pub const LEVEL_MAX: i32 = 19;

/// What [`Compress::Auto`] chooses from: the further behind compression is, the further to the end.
const LADDER: [i32; 4] = [1, -1, -5, FAST];
const FAST: i32 = -20;

impl Compress {
    /// The level for a frame, none to store it as it is, when `behind` of `room` frames wait to be compressed and
    /// `ahead` of them to be written.
    pub(super) fn level(self, behind: usize, ahead: usize, room: usize) -> Option<i32> {
        match self {
            Self::None => None,
            Self::Fast => Some(FAST),
            Self::Level(level) => Some(level.clamp(LEVEL_MIN, LEVEL_MAX)),
            // What is compressed waits for the disk: there is time.
            Self::Auto if ahead > room / 4 => Some(LADDER[0]),
            Self::Auto => LADDER.get(behind * LADDER.len() / room.max(1)).or(LADDER.last()).copied(),
        }
    }
}

impl fmt::Display for Compress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auto => f.write_str("auto"),
            Self::Fast => f.write_str("fast"),
            Self::None => f.write_str("none"),
            Self::Level(level) => write!(f, "{level}"),
        }
    }
}

impl FromStr for Compress {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let level = || text.parse().ok().filter(|level| (LEVEL_MIN..=LEVEL_MAX).contains(level));
        match text {
            "auto" => Ok(Self::Auto),
            "fast" => Ok(Self::Fast),
            "none" => Ok(Self::None),
            _ => level().map(Self::Level).ok_or_else(|| {
                format!("give `auto`, `fast`, `none`, or a level of zstd from {LEVEL_MIN} to {LEVEL_MAX}")
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_are_read_and_shown() {
        for good in ["auto", "fast", "none", "-50", "3", "19"] {
            assert_eq!(good.parse::<Compress>().unwrap().to_string(), good);
        }
        for bad in ["", "20", "-51", "best", "1.5", "99999999999"] {
            assert!(bad.parse::<Compress>().is_err(), "{bad}");
        }
    }

    #[test]
    fn the_level_follows_what_is_behind() {
        let levels: Vec<_> = [0, 25, 50, 75, 100].map(|n| Compress::Auto.level(n, 0, 100)).to_vec();
        assert!(levels.is_sorted_by(|a, b| a >= b) && levels[0] > levels[4], "{levels:?}");
        assert_eq!(Compress::Auto.level(100, 80, 100), Some(1));
        assert_eq!(Compress::None.level(0, 0, 0), None);
        assert_eq!(Compress::Auto.level(0, 0, 0), Some(1));
    }
}
