//! Keeps a running job's log and packs few, and frees the snapshots that it has released, beside the run.
//!
//! It works for a tenth of the time at most, and lets go when the run ends: what it leaves undone is done by the next.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::{self, JoinHandle};
use std::time::Instant;

use anyhow::Result;

use super::{JobName, Jobs, fold};
use crate::store::StoreError;

/// Snapshots after which it looks whether there is something to do.
pub(super) const STEP: u64 = 16;
/// It rests so many times as long as it has worked.
const REST: u32 = 9;

/// A thread that works beside a run.
pub(super) struct Keeper {
    committed: Option<Sender<()>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

/// What the thread has.
struct Worker {
    jobs: Jobs,
    name: JobName,
    /// How many snapshots the job keeps.
    retain: Option<u64>,
    stop: Arc<AtomicBool>,
    /// Snapshots since the last sweep.
    unswept: u64,
}

impl Keeper {
    /// Begins to work for the job. Nothing, if the system has no thread for it: then a later run does it.
    pub fn start(jobs: &Jobs, name: &JobName, retain: Option<u64>) -> Option<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        let (committed, heard) = channel();
        let (jobs, name) = (jobs.clone(), name.clone());
        let mut worker = Worker { jobs, name, retain, stop: stop.clone(), unswept: STEP };
        let thread = thread::Builder::new().name("keeper".to_string());
        let thread = thread.spawn(move || worker.listen(&heard)).ok()?;
        Some(Self { committed: Some(committed), stop, thread: Some(thread) })
    }

    /// A snapshot is in the log.
    pub fn committed(&self) {
        if let Some(committed) = &self.committed {
            // It may have ended by a panic, which does not concern the run.
            let _ = committed.send(());
        }
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        drop(self.committed.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Worker {
    fn listen(&mut self, heard: &Receiver<()>) {
        let (mut since, mut rested) = (STEP, Instant::now());
        while heard.recv().is_ok() {
            let count = 1 + heard.try_iter().count() as u64;
            since += count;
            self.unswept += count;
            if since < STEP || Instant::now() < rested {
                continue;
            }
            since = 0;
            let began = Instant::now();
            // A store that is full or away now may not be later.
            let _ = self.work();
            rested = Instant::now() + began.elapsed() * REST;
        }
    }

    fn work(&mut self) -> Result<()> {
        fold::fold(&**self.jobs.store(), &self.name)?;
        let go_on = || !self.stop.load(Ordering::SeqCst);
        let upkeep = match self.jobs.chunks().try_upkeep() {
            // Another one does it.
            Err(StoreError::Held { .. }) => return Ok(()),
            other => other?,
        };
        if self.retain.is_some_and(|retain| self.unswept >= STEP.max(retain / 2)) {
            self.unswept = 0;
            self.jobs.gc_beside(upkeep, &go_on)?;
        } else {
            upkeep.merge(&go_on)?;
        }
        Ok(())
    }
}
