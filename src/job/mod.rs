//! The durable job: a named run of a program that survives the process that runs it.
//!
//! [`run`](self) tells the journey; the rest are its parts:
//!
//! - `background`: storing a snapshot while the guest runs on;
//! - `spec`: what a job runs; `name`: what it is called;
//! - `log`: what happened to it, and the fence between runners, with `fold`: old entries, and which snapshots are kept;
//! - `ledger`: what it printed, with `sinks`: where that goes, `delivery`: exactly once, `printed`: how it is kept,
//!   `follow`: reading it from outside; `policy`: when a snapshot is taken;
//! - `journal`: what it read, with `intake`: from the pipe to the journal; `working`: files of this machine;
//! - `source`: what a guest is restored from, and `hint`: in which order;
//! - `jobs`: all jobs of a store; `transfer`: snapshots in and out of it; `verify`: whether all is whole; `sweep`: what nothing needs, with
//!   `keeper`: beside a run.

mod background;
#[cfg(test)]
mod chain_tests;
mod delivery;
mod disks;
mod error;
mod fold;
#[cfg(test)]
mod fold_tests;
mod follow;
mod hint;
mod intake;
mod jobs;
mod journal;
#[cfg(test)]
mod journal_tests;
mod keeper;
mod ledger;
#[cfg(test)]
mod ledger_tests;
mod log;
#[cfg(test)]
mod log_tests;
mod name;
mod options;
mod policy;
mod printed;
mod run;
mod sinks;
mod source;
mod spec;
mod start;
mod sweep;
mod transfer;
mod verify;
mod working;

pub use disks::{DISK_LIMIT, FinalDisk, StoredDisks, SyncOut};
pub use error::JobError;
pub use follow::{Follow, Standing};
pub use jobs::{Job, Jobs, Lineage, Replayed, Snapshot};
pub use journal::InputFrom;
pub use log::{
    Begin, Claim, Commit, Done, Ending, Entry, Event, Origin, Printed, PrintedStream, SinkFile, Stand, Status,
};
pub use name::{JobName, NAME_MAX};
pub use options::{Notice, Options, Outcome, Pause};
pub use policy::{Every, ParseEveryError};
pub use run::Run;
pub use sinks::{Delivery, From, Mode, Sink};
pub use spec::{START, Spec, SpecDir, SpecDisk, shown_value};
pub use sweep::Freed;
pub use transfer::Imported;
pub use verify::Inventory;

use anyhow::{Context, Result};

use crate::machine::WASI_SECTION;
use crate::snapshot::State;
use crate::wasi;

/// Bytes of each stream of output that are kept unless told otherwise: 1 GiB.
pub const KEEP_OUTPUT: u64 = 1 << 30;

/// Snapshots of a job that are kept unless told otherwise: its last 100.
pub const RETAIN: u64 = 100;

/// The WASI side of a state, if it has one.
///
/// # Errors
/// It cannot be decoded.
pub fn wasi_state(state: &State) -> Result<Option<wasi::State>> {
    let section = state.sections.iter().find(|section| section.name == WASI_SECTION);
    section.map(|s| wasi::State::decode(s.version, &s.bytes).context("the snapshot's WASI state")).transpose()
}
