//! Keeps a running job's log and packs few, and frees the snapshots that it has released, beside the run.
//!
//! It works for a tenth of the time at most, unless snapshots come so fast that it falls behind. When the run ends it is given a moment to finish; what it leaves undone is
//! done by the next.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::Result;

use super::{JobName, Jobs, fold};
use crate::store::StoreError;

/// Snapshots after which it looks whether there is something to do.
pub(super) const STEP: u64 = 16;
/// It rests so many times as long as it has worked,
const REST: u32 = 9;
/// but not when so many snapshots have been taken since.
const BEHIND: u64 = 128;
/// For how long the end of a run waits for it.
const GRACE: Duration = Duration::from_secs(1);

/// A thread that works beside a run.
pub(super) struct Keeper {
    committed: Option<Sender<u64>>,
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
    /// How many snapshots there were when it last looked.
    looked: u64,
    /// How many there were at the last sweep.
    swept: u64,
}

impl Keeper {
    /// Begins to work for the job, which has taken so many snapshots. Nothing, if the system has no thread for it: then a later run does it.
    pub fn start(jobs: &Jobs, name: &JobName, retain: Option<u64>, commits: u64) -> Option<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        let (committed, heard) = channel();
        let (jobs, name) = (jobs.clone(), name.clone());
        let mut worker = Worker { jobs, name, retain, stop: stop.clone(), looked: commits, swept: commits };
        let thread = thread::Builder::new().name("keeper".to_string());
        let thread = thread.spawn(move || worker.listen(&heard)).ok()?;
        Some(Self { committed: Some(committed), stop, thread: Some(thread) })
    }

    /// A snapshot is in the log, the job's `commits`-th.
    pub fn committed(&self, commits: u64) {
        if let Some(committed) = &self.committed {
            // It may have ended by a panic, which does not concern the run.
            let _ = committed.send(commits);
        }
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        drop(self.committed.take());
        let Some(thread) = self.thread.take() else { return };
        let until = Instant::now() + GRACE;
        while !thread.is_finished() && Instant::now() < until {
            thread::sleep(Duration::from_millis(1));
        }
        self.stop.store(true, Ordering::SeqCst);
        let _ = thread.join();
    }
}

impl Worker {
    fn listen(&mut self, heard: &Receiver<u64>) {
        let mut rested = Instant::now();
        while let Ok(commits) = heard.recv() {
            let commits = heard.try_iter().last().unwrap_or(commits);
            let behind = commits >= self.looked + BEHIND;
            if !due(self.looked, commits, STEP) || Instant::now() < rested && !behind {
                continue;
            }
            self.looked = commits;
            let began = Instant::now();
            // A store that is full or away now may not be later.
            let _ = self.work(commits);
            rested = Instant::now() + began.elapsed() * REST;
        }
    }

    fn work(&mut self, commits: u64) -> Result<()> {
        fold::fold(&**self.jobs.store(), &self.name)?;
        let go_on = || !self.stop.load(Ordering::SeqCst);
        let upkeep = match self.jobs.chunks().try_upkeep() {
            // Another one does it.
            Err(StoreError::Held { .. }) => return Ok(()),
            other => other?,
        };
        if self.retain.is_some_and(|retain| due(self.swept, commits, STEP.max(retain / 2))) {
            self.swept = commits;
            self.jobs.gc_beside(upkeep, &go_on)?;
        } else {
            upkeep.merge(&go_on)?;
        }
        Ok(())
    }
}

/// Every so many snapshots, counted over all processes of the job.
fn due(before: u64, now: u64, every: u64) -> bool {
    before / every < now / every
}
