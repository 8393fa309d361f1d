//! When a snapshot is taken.

use std::fmt;
use std::str::FromStr;
use std::time::{Duration, Instant};

/// How often a snapshot is taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Every {
    /// When the program has run for so long since the last one was begun. One that is due before the last is durable
    /// is left out.
    Time(Duration),
    /// At every multiple of so much fuel, however long that takes.
    Fuel(u64),
    /// Never: only when the run is paused.
    Never,
}

impl Default for Every {
    fn default() -> Self {
        Self::Time(Duration::from_secs(30))
    }
}

/// Not a duration and not an amount of fuel.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("give a time (500ms, 30s, 5m, 2h), an amount of fuel (1000000fuel, 10Mfuel), or `never`")]
pub struct ParseEveryError;

impl FromStr for Every {
    type Err = ParseEveryError;

    fn from_str(text: &str) -> Result<Self, ParseEveryError> {
        if matches!(text, "0" | "never") {
            return Ok(Self::Never);
        }
        let unit = text.find(|c: char| !c.is_ascii_digit() && c != '.').ok_or(ParseEveryError)?;
        let (number, unit) = text.split_at(unit);
        let amount = |one: u64| multiple(number, one).ok_or(ParseEveryError);
        let time = |one: Duration| Ok(Duration::from_nanos(amount(one.as_nanos() as u64)?));
        let every = match unit {
            "ms" => Self::Time(time(Duration::from_millis(1))?),
            "s" => Self::Time(time(Duration::from_secs(1))?),
            "m" | "min" => Self::Time(time(Duration::from_secs(60))?),
            "h" => Self::Time(time(Duration::from_secs(3600))?),
            "fuel" => Self::Fuel(amount(1)?),
            "kfuel" => Self::Fuel(amount(1_000)?),
            "Mfuel" => Self::Fuel(amount(1_000_000)?),
            "Gfuel" => Self::Fuel(amount(1_000_000_000)?),
            _ => return Err(ParseEveryError),
        };
        Ok(if matches!(every, Self::Time(Duration::ZERO) | Self::Fuel(0)) { Self::Never } else { every })
    }
}

/// So many times `one`, with at most nine digits behind the point; nothing if that is no whole number, or too large.
fn multiple(number: &str, one: u64) -> Option<u64> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, "0"));
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    if !is_number(whole) || !is_number(fraction) || fraction.len() > 9 {
        return None;
    }
    let scale = 10u128.pow(fraction.len() as u32);
    let part = fraction.parse::<u128>().ok()? * u128::from(one);
    let whole = whole.parse::<u64>().ok()?.checked_mul(one)?;
    let part = (part % scale == 0).then_some(part / scale)?;
    whole.checked_add(u64::try_from(part).ok()?)
}

impl fmt::Display for Every {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Time(time) => write!(f, "{time:?}"),
            Self::Fuel(fuel) => write!(f, "{fuel}fuel"),
            Self::Never => f.write_str("never"),
        }
    }
}

impl Every {
    /// The time of the next snapshot, if it goes by time.
    pub(super) fn deadline(&self, now: Instant) -> Option<Instant> {
        match self {
            // Times beyond what the clock can count are never.
            Self::Time(time) => now.checked_add(*time),
            _ => None,
        }
    }

    /// The fuel of the next snapshot, if it goes by fuel.
    pub(super) fn fuel(&self, consumed: u64) -> Option<u64> {
        match self {
            Self::Fuel(step) => Some((consumed / step + 1).saturating_mul(*step)),
            _ => None,
        }
    }
}

/// When the next snapshot is due.
#[derive(Debug)]
pub(super) struct Schedule {
    every: Every,
    time: Option<Instant>,
    fuel: Option<u64>,
    /// Grows with each time that the guest could not run between two snapshots.
    patience: u32,
}

impl Schedule {
    /// The first one, of a guest that is to run now and has consumed so much fuel.
    pub fn new(every: Every, now: Instant, consumed: u64) -> Self {
        Self { every, time: every.deadline(now), fuel: every.fuel(consumed), patience: 1 }
    }

    /// One was taken, or is left out; the guest is to run on now.
    pub fn next(&mut self, now: Instant, consumed: u64) {
        *self = Self::new(self.every, now, consumed);
    }

    /// With snapshots in quick succession on a busy machine, the time may be over before the guest has run at all.
    pub fn postpone(&mut self, now: Instant, consumed: u64) {
        let patience = self.patience.saturating_mul(2);
        self.next(now, consumed);
        let more = Duration::from_millis(1) * (patience - 1);
        (self.patience, self.time) = (patience, self.time.and_then(|time| time.checked_add(more)));
    }

    /// The time of the next one, if it goes by time.
    pub fn time(&self) -> Option<Instant> {
        self.time
    }

    /// Its fuel, if it goes by that: at the first point where more is consumed.
    pub fn fuel(&self) -> Option<u64> {
        self.fuel
    }

    /// Whether it is due.
    pub fn is_due(&self, now: Instant, consumed: u64) -> bool {
        self.time.is_some_and(|time| now >= time) || self.fuel.is_some_and(|fuel| consumed > fuel)
    }

    /// Each one must be taken, however long it takes: they are at given places of the program.
    pub fn is_strict(&self) -> bool {
        self.fuel.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_and_what_is_refused() {
        let time = |ms| Ok(Every::Time(Duration::from_millis(ms)));
        let fuel = |n| Ok(Every::Fuel(n));
        for (text, every) in [
            ("500ms", time(500)),
            ("30s", time(30_000)),
            ("5m", time(300_000)),
            ("2h", time(7_200_000)),
            ("7fuel", fuel(7)),
            ("10Mfuel", fuel(10_000_000)),
            ("never", Ok(Every::Never)),
            ("0", Ok(Every::Never)),
            ("0s", Ok(Every::Never)),
            ("30", Err(ParseEveryError)),
            ("", Err(ParseEveryError)),
            ("-1s", Err(ParseEveryError)),
            ("0.5s", time(500)),
            ("1.5h", time(5_400_000)),
            ("2.5Mfuel", fuel(2_500_000)),
            ("0.0s", Ok(Every::Never)),
            ("0banana", Err(ParseEveryError)),
            ("0.5fuel", Err(ParseEveryError)),
            (".5s", Err(ParseEveryError)),
            ("1.s", Err(ParseEveryError)),
            ("1.5.5s", Err(ParseEveryError)),
            ("0.0000000001s", Err(ParseEveryError)),
            ("s", Err(ParseEveryError)),
            ("99999999999999999999s", Err(ParseEveryError)),
            ("18446744073709551615h", Err(ParseEveryError)),
        ] {
            assert_eq!(text.parse::<Every>(), every, "{text}");
        }
    }

    #[test]
    fn what_is_due_stays_due_until_it_is_taken_or_left_out() {
        let (start, ms) = (Instant::now(), Duration::from_millis);
        let mut fuel = Schedule::new(Every::Fuel(100), start, 0);
        // Standing at a multiple is not beyond it, whoever looks meanwhile.
        assert_eq!([100, 101, 150].map(|at| fuel.is_due(start, at)), [false, true, true]);
        assert!(fuel.is_strict());
        fuel.next(start, 101);
        assert_eq!(fuel.fuel(), Some(200));
        let mut time = Schedule::new(Every::Time(ms(10)), start, 0);
        assert_eq!([9, 10, 11].map(|after| time.is_due(start + ms(after), 0)), [false, true, true]);
        assert!(!time.is_strict());
        // Each time that the program could not run at all it gets longer.
        time.postpone(start, 0);
        assert_eq!(time.time(), Some(start + ms(11)));
        time.postpone(start, 0);
        assert_eq!(time.time(), Some(start + ms(13)));
        time.next(start, 0);
        time.postpone(start, 0);
        assert_eq!(time.time(), Some(start + ms(11)));
        let never = Schedule::new(Every::Never, start, 0);
        assert!(!never.is_due(start + Duration::from_secs(1 << 20), u64::MAX));
    }

    #[test]
    fn fuel_boundaries_do_not_depend_on_where_one_begins() {
        let every = Every::Fuel(100);
        assert_eq!([0, 99, 100, 101].map(|at| every.fuel(at)), [Some(100), Some(100), Some(200), Some(200)]);
        assert_eq!(Every::Fuel(u64::MAX).fuel(5), Some(u64::MAX));
        assert_eq!(Every::Time(Duration::MAX).deadline(Instant::now()), None);
    }
}
