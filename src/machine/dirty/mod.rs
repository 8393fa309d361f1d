//! Which pages of a guest's memories were written to since the last capture.
//!
//! There are several sources of it; the best one that works here is chosen at run time, by trying it:
//!
//! | source | what a capture costs | what the guest pays | where |
//! |---|---|---|---|
//! | [`Source::WriteProtection`] | a scan of the page tables, 1 ms a GiB | 1 to 2 us at the first write to a page | Linux 6.7 |
//! | [`Source::SoftDirty`] | reading and resetting a bit of each page | the same | Linux with the option |
//! | [`Source::Compare`] | hashing all pages | nothing | everywhere |
//!
//! Each tells of more pages than have changed, never of fewer: the page tree finds out by their hashes. So all of
//! them give the same snapshot.

#[cfg(target_os = "linux")]
pub(super) mod linux;
#[cfg(target_os = "linux")]
mod protect;
#[cfg(target_os = "linux")]
mod softdirty;
mod standing;
#[cfg(test)]
pub(super) mod tests;

use std::fmt;
use std::str::FromStr;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::{Result, bail};
use serde::{Deserialize, Serialize};

use crate::snapshot::pages;
pub(super) use standing::StandingCopy;

/// How the pages are found that have changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Source {
    /// Pages are write-protected, and the kernel notes the first write (`userfaultfd`, `PAGEMAP_SCAN`).
    WriteProtection,
    /// The kernel's soft-dirty bits.
    SoftDirty,
    /// All pages are hashed and compared.
    Compare,
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::WriteProtection => "write-protection",
            Self::SoftDirty => "soft-dirty",
            Self::Compare => "compare",
        })
    }
}

/// Which source to use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Tracking {
    /// The best one that works here.
    #[default]
    Auto,
    /// This one, for tests.
    Only(Source),
}

/// Not the name of a source.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("give `auto`, `uffd`, `soft-dirty` or `compare`")]
pub struct ParseTrackingError;

impl FromStr for Tracking {
    type Err = ParseTrackingError;

    fn from_str(text: &str) -> Result<Self, ParseTrackingError> {
        match text {
            "auto" => Ok(Self::Auto),
            "uffd" => Ok(Self::Only(Source::WriteProtection)),
            "soft-dirty" => Ok(Self::Only(Source::SoftDirty)),
            "compare" => Ok(Self::Only(Source::Compare)),
            _ => Err(ParseTrackingError),
        }
    }
}

/// Where a memory lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Extent {
    /// Address of its first byte.
    pub addr: u64,
    /// Its length in bytes.
    pub len: u64,
    /// The length that it was made with, in bytes: what lies behind was zeros at first, and is in no page until it is
    /// written to.
    pub made: u64,
}

/// A moment at which the pages were looked at. No two are equal, in a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Mark(u64);

impl Mark {
    fn new() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        Self(NEXT.fetch_add(1, Ordering::Relaxed))
    }
}

/// What was found.
pub(super) struct Taken {
    /// This moment.
    pub mark: Mark,
    /// Of each memory the indexes of the pages that may have changed since the moment that was asked for, ascending.
    pub dirty: Vec<Vec<u64>>,
}

/// Looks which pages were written to.
pub(super) struct Tracker {
    means: Means,
    /// When it looked last; nothing if what was written since is not known.
    last: Option<Mark>,
}

enum Means {
    #[cfg(target_os = "linux")]
    Protect(protect::Protection),
    #[cfg(target_os = "linux")]
    SoftDirty(softdirty::SoftDirty),
    Compare,
}

impl Tracker {
    /// One of the best source that works here, or of the given one.
    ///
    /// # Errors
    /// The given one does not work here.
    pub fn new(tracking: Tracking) -> Result<Self> {
        let means = match tracking {
            Tracking::Auto => Means::best(),
            Tracking::Only(source) => match Means::of(source) {
                Some(means) => means,
                None => bail!("dirty pages cannot be found by {source} here"),
            },
        };
        Ok(Self { means, last: None })
    }

    /// Where its knowledge comes from.
    pub fn source(&self) -> Source {
        match self.means {
            #[cfg(target_os = "linux")]
            Means::Protect(_) => Source::WriteProtection,
            #[cfg(target_os = "linux")]
            Means::SoftDirty(_) => Source::SoftDirty,
            Means::Compare => Source::Compare,
        }
    }

    /// Begins to look for what is written to from now on, of memories no page of which is there, and which are registered
    /// with these descriptors already, for write protection if that is the source. Their pages come protected, so there is
    /// nothing to look at yet.
    #[cfg(target_os = "linux")]
    pub fn adopt(&mut self, memories: &[(std::sync::Arc<linux::Uffd>, Extent)]) -> Mark {
        if let Means::Protect(protection) = &mut self.means {
            protection.adopt(memories);
            return *self.last.insert(Mark::new());
        }
        let extents: Vec<Extent> = memories.iter().map(|(_, extent)| *extent).collect();
        self.take(None, &extents).mark
    }

    /// Whether this is the moment when it looked last.
    pub fn knows_since(&self, since: Option<Mark>) -> bool {
        since.is_some() && since == self.last
    }

    /// The pages that may have changed since the moment `since`, and begins to look for the next ones. Without a
    /// moment, or with one that is not the last, these are all that may be other than zeros. The guest stands
    /// meanwhile.
    pub fn take(&mut self, since: Option<Mark>, memories: &[Extent]) -> Taken {
        let known = self.knows_since(since);
        // Should anything fail on the way, nothing is known.
        self.last = None;
        let found = self.means.take(known, memories).unwrap_or_else(|_| {
            // Whatever it is, it will not get better: the slowest way always works.
            self.means = Means::Compare;
            memories.iter().map(all).collect()
        });
        let mark = Mark::new();
        self.last = Some(mark);
        Taken { mark, dirty: found }
    }
}

impl Means {
    fn best() -> Self {
        let better = [Source::WriteProtection, Source::SoftDirty];
        better.into_iter().find_map(Self::of).unwrap_or(Self::Compare)
    }

    /// The means, if it works here.
    fn of(source: Source) -> Option<Self> {
        match source {
            #[cfg(target_os = "linux")]
            Source::WriteProtection => protect::Protection::new().map(Self::Protect),
            #[cfg(target_os = "linux")]
            Source::SoftDirty => softdirty::SoftDirty::new().map(Self::SoftDirty),
            Source::Compare => Some(Self::Compare),
            #[cfg(not(target_os = "linux"))]
            _ => None,
        }
    }

    /// Of each memory the pages that were written to since the last time, if that is `known`, else those that may be
    /// other than zeros.
    fn take(&mut self, known: bool, memories: &[Extent]) -> std::io::Result<Vec<Vec<u64>>> {
        match self {
            #[cfg(target_os = "linux")]
            Self::Protect(protection) => protection.take(known, memories),
            #[cfg(target_os = "linux")]
            Self::SoftDirty(bits) => bits.take(known, memories),
            Self::Compare => {
                let _ = known;
                Ok(memories.iter().map(all).collect())
            }
        }
    }
}

/// All pages.
fn all(memory: &Extent) -> Vec<u64> {
    (0..pages(memory.len)).collect()
}
