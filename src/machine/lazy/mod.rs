//! Restoring memories lazily: the guest runs at once, and its pages come when they are touched.
//!
//! ```text
//! the guest touches a page    the system stops its thread, and tells the pager (`userfaultfd`)
//! the pager                   path from the tree's root, each node checked; the page, checked; puts it there; wakes
//! meanwhile                   another thread reads the other nodes, then all other pages, first those that were
//!                             touched first when the job last ran
//! ```
//!
//! - A page that is not there has not changed since the snapshot. So a capture needs the tree, but not the pages:
//!   it waits for the nodes alone, and looks at pages that are there. Pages come write-protected, so that coming does
//!   not make them dirty.
//! - *A page that is damaged* is never there. Compiled code that touches it meets a page without access, which the engine
//!   takes for a trap; and the run is ended with the error, which is nobody's result. Functions of the host ask before
//!   they touch (`wasi`), and are told. What remains are the engine's own loops over memory (`memory.copy`), in which a
//!   thread cannot be stopped in an orderly way: it is left waiting, and [`Restoring::stuck`] is to end the process.
//! - *The system itself* brings no page: `read` into one that is missing fails. So functions of the host ask before
//!   they hand memory to it.
//! - The guest's memory is mapped anew for it, without pages, so that what it was made with does not show.
//!
//! | file | what |
//! |---|---|
//! | `region` | one memory: which pages are there |
//! | `setup` | memories without pages |
//! | `pager` `near` | the threads: answers faults, and what host functions ask for |
//! | `prefetch` | all else |
//! | `nodes` `eager` | reading trees; restoring all at once |
//! | `linux` | what the system has for it |

#[cfg(not(target_os = "linux"))]
mod absent;
mod eager;
#[cfg(target_os = "linux")]
mod linux;
#[cfg(target_os = "linux")]
mod near;
mod nodes;
#[cfg(target_os = "linux")]
mod pager;
#[cfg(target_os = "linux")]
mod prefetch;
#[cfg(target_os = "linux")]
mod region;
#[cfg(target_os = "linux")]
mod setup;
#[cfg(all(test, target_os = "linux"))]
mod tests;

use std::fmt;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use serde::{Deserialize, Serialize};

use crate::digest::ChunkId;
use crate::snapshot::TreeError;

#[cfg(not(target_os = "linux"))]
pub(super) use absent::{Handle, Pager, Setup};
pub(super) use eager::{clear, load};
#[cfg(target_os = "linux")]
pub(super) use pager::{Handle, Pager};
#[cfg(target_os = "linux")]
pub(super) use setup::Setup;

/// How the memories of a guest are restored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Loading {
    /// Pages come when they are touched, and in the background.
    Lazy,
    /// All before the guest runs.
    Eager,
}

impl fmt::Display for Loading {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Lazy => "lazy",
            Self::Eager => "eager",
        })
    }
}

/// Takes the bytes of chunks, with their places in the list that was asked for.
pub type TakeChunks<'a> = dyn Fn(Range<usize>, &[u8]) -> Result<()> + Sync + 'a;

/// Where the chunks of a snapshot come from: a store. Several threads ask at a time, as long as the guest lives.
pub trait ChunkSource: Send + Sync {
    /// Gives `each` the bytes of every one of these chunks, checked against its id, with its place in `ids`: those of one
    /// chunk, or of several of the same length that follow each other. In any order, and from as many threads at a time
    /// as may be used.
    ///
    /// # Errors
    /// A chunk is missing or damaged, or `each` failed; some may have been given before. A store that is away for a
    /// while is waited for, as long as the source thinks right.
    fn read_many(&self, ids: &[ChunkId], threads: usize, each: &TakeChunks<'_>) -> Result<()>;
}

/// How a guest is restored.
pub struct Restoring {
    /// Where its memories are.
    pub source: Arc<dyn ChunkSource>,
    /// [`Loading::Lazy`] where that works, or at once.
    pub loading: Loading,
    /// For how long a page is waited for.
    pub patience: Duration,
    /// What is likely to be needed first. It may be of another snapshot, or nonsense.
    pub first: Vec<Run>,
    /// Is called, with why, if the guest's thread waits for a page that cannot be had, where it cannot be stopped. It is to end
    /// the process, with everything left as by a crash.
    pub stuck: Arc<dyn Fn(anyhow::Error) + Send + Sync>,
}

/// A run of pages.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Run {
    /// Of this memory, by its index.
    pub memory: usize,
    /// Indexes of the pages.
    pub pages: Range<u64>,
}

/// Most runs that are worth to be remembered.
pub const RUNS_MAX: usize = 2048;

/// A part of a memory cannot be had.
#[derive(Debug, Clone)]
pub(super) struct Damage {
    memory: usize,
    cause: Arc<TreeError>,
}

impl Damage {
    pub fn new(memory: usize, cause: TreeError) -> Self {
        Self { memory, cause: Arc::new(cause) }
    }
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "memory {}", self.memory)
    }
}

impl std::error::Error for Damage {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&*self.cause)
    }
}
