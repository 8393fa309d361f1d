//! How a job is run here and now, what is told meanwhile, and what comes out.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context, Result};

use super::disks::SyncOut;
use super::log::{Commit, Ending};
use super::policy::Every;
use super::sinks::{Delivery, Sink};
use super::{InputFrom, KEEP_OUTPUT, RETAIN};
use crate::digest::SnapshotId;
use crate::machine::{Functions, Loading};
use crate::snapshot::Value;
use crate::wasi::{Exported, Interrupt, Preopen, Stdin};

/// Exit code of a process that has to end since its program's memory is damaged.
const DAMAGED: i32 = 68;

/// Asks a run to take a snapshot and stop. Clones share the request.
#[derive(Clone)]
pub struct Pause {
    pub(super) asked: Arc<AtomicBool>,
    /// What the guest's slices look at.
    pub(super) flag: Arc<AtomicBool>,
    pub(super) interrupt: Interrupt,
}

impl Pause {
    /// Nothing is asked for yet.
    ///
    /// # Errors
    /// The host has no file descriptors left.
    pub fn new() -> Result<Self> {
        let interrupt = Interrupt::new().context("cannot make a pipe")?;
        Ok(Self { asked: Arc::default(), flag: Arc::default(), interrupt })
    }

    /// Asks; the run pauses within some milliseconds, or when a host function that does not wait returns.
    pub fn request(&self) {
        // In this order: whoever takes the flag back looks at `asked` afterwards.
        self.asked.store(true, Ordering::SeqCst);
        self.flag.store(true, Ordering::SeqCst);
        self.interrupt.request();
    }

    pub(super) fn is_requested(&self) -> bool {
        self.asked.load(Ordering::SeqCst)
    }

    /// Makes the guest stand for an instant, so that somebody looks at what there is.
    pub(super) fn wake(&self) {
        self.flag.store(true, Ordering::SeqCst);
        self.interrupt.request();
    }

    /// Somebody looks now.
    pub(super) fn woken(&self) {
        self.flag.store(false, Ordering::SeqCst);
        self.interrupt.clear();
        // It may have been asked for meanwhile, and waiting calls are not to wait then.
        if self.is_requested() {
            self.interrupt.request();
        }
    }
}

/// How a job is run here and now: nothing of it is part of what the job is.
pub struct Options {
    /// How often a snapshot is taken.
    pub every: Every,
    /// Pause when more fuel than this has been consumed, counted from the program's start.
    pub pause_after: Option<u64>,
    /// By which others ask for a pause.
    pub pause: Option<Pause>,
    /// Standard input.
    pub stdin: Stdin,
    /// Where a pipe on standard input goes on, if the job has read from it before: from the start unless told,
    /// a terminal from now.
    pub input_from: Option<InputFrom>,
    /// Standard output and error.
    pub sinks: [Sink; 2],
    /// How output gets there.
    pub delivery: Delivery,
    /// How many snapshots of the job are kept, the last ones; at least one. None: all.
    pub retain: Option<u64>,
    /// At most so many bytes of each stream are kept.
    pub keep_output: u64,
    /// Where directories are, instead of where they were, by the guest's names.
    pub dirs: Vec<Preopen>,
    /// Take open files as they are, that have changed in a way that cannot be mended.
    pub accept_changed: bool,
    /// Hash the files of read-only directories that the guest opens.
    pub hash_inputs: bool,
    /// Where to write the changed files of private disks when the program ends by itself.
    pub sync_out: Vec<SyncOut>,
    /// How the program's memory is restored: [`Loading::Lazy`] where that works, or at once.
    pub loading: Loading,
    /// Is called, with why, when the program waits for memory that is damaged in the store, in a place where it cannot be
    /// stopped. It is to end the process, as a crash would; if it returns, the program waits for ever.
    pub stuck: Arc<dyn Fn(anyhow::Error) + Send + Sync>,
    /// Functions of the embedder.
    pub functions: Functions,
    /// A line for standard error, written between what was printed before and what will be.
    pub greeting: Option<String>,
    /// Is told what happens meanwhile.
    pub observe: Box<dyn FnMut(Notice<'_>)>,
}

impl Default for Options {
    /// A snapshot every 30 s, of which the last 100 are kept, no input, and output that is only kept.
    fn default() -> Self {
        Self {
            every: Every::default(),
            pause_after: None,
            pause: None,
            stdin: Stdin::Null,
            input_from: None,
            sinks: [Sink::Null, Sink::Null],
            delivery: Delivery::default(),
            retain: Some(RETAIN),
            keep_output: KEEP_OUTPUT,
            dirs: vec![],
            accept_changed: false,
            hash_inputs: false,
            sync_out: vec![],
            loading: Loading::Lazy,
            stuck: Arc::new(|error| {
                eprintln!("error: {error:#}");
                std::process::exit(DAMAGED);
            }),
            functions: Functions::new(),
            greeting: None,
            observe: Box::new(|_| {}),
        }
    }
}

/// What happens during a run.
#[derive(Debug)]
pub enum Notice<'a> {
    /// A snapshot is durable.
    Committed(&'a Commit),
    /// A snapshot was due and not taken: the one before is not durable yet.
    SnapshotSkipped,
    /// A snapshot could not be stored. The run goes on, and tries again later.
    SnapshotFailed(&'a anyhow::Error),
    /// A part of the program's memory is damaged in the store, which it has not needed yet. It goes on, without snapshots.
    Damaged(&'a anyhow::Error),
    /// The program has ended, and that could not be stored: the job counts as unfinished.
    ResultNotStored(&'a anyhow::Error),
    /// The changed files of a private disk, the guest's name of which this is, are written out.
    SyncedOut(&'a str, &'a Exported),
    /// So many bytes that were printed before are not kept any more, and cannot be printed again.
    OutputLost(u64),
    /// A process died while it delivered so many bytes, and it cannot be known whether they have arrived: they
    /// were delivered again.
    PerhapsTwice(u64),
}

/// What a run ended with.
#[derive(Debug, Clone, PartialEq)]
pub enum Outcome {
    /// The program has ended.
    Ended(Ending),
    /// It is paused, and can be resumed from this snapshot.
    Paused {
        /// The snapshot.
        snapshot: SnapshotId,
        /// Fuel consumed since the program began.
        fuel: u64,
    },
}

impl Outcome {
    /// The results of the function, if it has returned.
    pub fn returned(&self) -> Option<&[Value]> {
        match self {
            Self::Ended(Ending::Returned(values)) => Some(values),
            _ => None,
        }
    }
}
