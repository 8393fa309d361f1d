//! Storing a snapshot while the guest runs on.
//!
//! ```text
//! the guest stands     small state and dirty pages are put aside (`Aside`)                  -> pause
//! it runs on           hash, compress, write, sync; chunks, manifest, log entry; deliver    -> time to durable
//! ```
//!
//! One snapshot is on its way at a time. The thread belongs to the run, which waits for it before it ends.

use std::num::NonZero;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{self, Receiver, Sender, TryRecvError};
use std::thread::{self, JoinHandle};
use std::time::Instant;

use anyhow::{Context, Result};

use super::jobs::Recorder;
use super::ledger::Ledger;
use super::log::{Commit, Event, Printed};
use super::options::Pause;
use crate::digest::ChunkId;
use crate::machine::{Frozen, MemoryTrees};
use crate::snapshot::{self, Emit, State};
use crate::store::{Chunks, Writer, objects};
use crate::wasi::UnsyncedFiles;

/// Chunks that are put aside, in bytes; more are written while the guest stands.
const ASIDE_MAX: usize = 64 << 20;

/// What storing a snapshot takes, whoever does it. Clones are of the same job.
#[derive(Clone)]
pub(super) struct Desk {
    pub chunks: Chunks,
    pub recorder: Recorder,
    pub ledger: Ledger,
    pub pause: Pause,
}

/// Chunks that are to be stored.
pub(super) struct Held {
    chunks: Chunks,
    held: Vec<(ChunkId, Vec<u8>)>,
    bytes: usize,
    writer: Option<Writer>,
}

impl Held {
    /// None yet.
    pub fn new(chunks: &Chunks) -> Self {
        Self { chunks: chunks.clone(), held: vec![], bytes: 0, writer: None }
    }

    /// Adds one. Writes, if they have become too many to be kept.
    ///
    /// # Errors
    /// What the store reports.
    pub fn add(&mut self, id: ChunkId, bytes: &[u8]) -> Result<()> {
        if let Some(writer) = &mut self.writer {
            writer.add(id, bytes)?;
            return Ok(());
        }
        self.bytes += bytes.len();
        self.held.push((id, bytes.to_vec()));
        if self.bytes > ASIDE_MAX {
            self.write()?;
        }
        Ok(())
    }

    fn write(&mut self) -> Result<&mut Writer> {
        let writer = match self.writer.take() {
            Some(writer) => writer,
            None => {
                let mut writer = self.chunks.writer()?;
                // The guest has one processor; this must not take all the others from it.
                writer.set_threads(NonZero::<usize>::MIN);
                writer
            }
        };
        let writer = self.writer.insert(writer);
        for (id, bytes) in self.held.drain(..) {
            writer.add(id, &bytes)?;
        }
        Ok(writer)
    }

    /// What writes them and those that follow.
    fn into_writer(mut self) -> Result<Writer> {
        self.write()?;
        self.writer.context("a writer was just made")
    }
}

/// A snapshot that is put aside.
pub(super) struct Aside {
    pub frozen: Frozen,
    /// What was printed up to it.
    pub printed: Printed,
    /// Its chunks beside those of the memories.
    pub held: Held,
    /// Files that the program has written to.
    pub files: Option<UnsyncedFiles>,
    pub began: Instant,
    /// For how long the guest stood, in microseconds, once that is known.
    pub pause_us: Arc<AtomicU64>,
}

/// What became of a snapshot.
pub(super) struct Stored {
    /// The trees that the next one builds on.
    pub result: Result<(Commit, MemoryTrees)>,
    /// Whether what it covers could be delivered.
    pub delivered: Result<()>,
}

impl Desk {
    /// Stores a snapshot, from its state to the log entry; `state` gives new chunks to what it is given.
    pub fn store(
        &self,
        began: Instant,
        pause_us: impl FnOnce() -> u64,
        writer: Writer,
        state: impl FnOnce(&mut Emit<'_>) -> Result<(State, MemoryTrees)>,
    ) -> Result<(Commit, MemoryTrees)> {
        let mut writer = writer;
        let mut emit = |id: ChunkId, bytes: &[u8]| {
            writer.add(id, bytes)?;
            Ok(())
        };
        let (state, trees) = state(&mut emit)?;
        self.ledger.sync().context("what was printed cannot be made durable")?;
        let (id, manifest) = snapshot::encode(&state)?;
        // Children first, then the root that names them, then the head. The guard keeps sweeps away so long.
        let (written, guard) = writer.finish()?;
        objects::put_snapshot(&**self.chunks.store(), &manifest)?;
        let dirtied = trees.dirtied();
        let commit = Commit {
            snapshot: id,
            fuel: state.fuel,
            memory: state.memories.iter().map(|memory| memory.len).sum(),
            chunks: written.chunks,
            new_bytes: written.bytes,
            stored_bytes: written.stored_bytes,
            manifest_bytes: manifest.len() as u64,
            pause_us: pause_us(),
            durable_us: began.elapsed().as_micros() as u64,
            dirty_bytes: dirtied.map(|dirtied| dirtied.bytes),
            source: dirtied.map(|dirtied| dirtied.source),
            restored: dirtied.and_then(|dirtied| dirtied.restored),
        };
        guard.during(|| self.recorder.append(Event::Commit(commit.clone())))?;
        drop(guard);
        self.ledger.settle();
        Ok((commit, trees))
    }

    fn store_aside(&self, aside: Aside) -> Result<(Commit, MemoryTrees)> {
        let Aside { frozen, printed, held, files, began, pause_us } = aside;
        let writer = held.into_writer()?;
        self.store(
            began,
            || pause_us.load(Ordering::SeqCst),
            writer,
            |emit| {
                let (mut state, trees) = frozen.thaw(emit)?;
                printed.add_to(&mut state)?;
                files.map_or(Ok(()), UnsyncedFiles::sync)?;
                Ok((state, trees))
            },
        )
    }

    /// Delivers what is durable. When it is to pause, only what there is room for: the next process delivers the rest.
    /// Tells whether that was all.
    ///
    /// # Errors
    /// A sink takes no more.
    pub fn deliver(&self) -> Result<bool> {
        let is_enough = || self.pause.is_requested();
        self.ledger.deliver(&is_enough).context("what was printed cannot be delivered")
    }
}

/// The thread that stores what is put aside. Dropping it waits for the snapshot that is on its way.
pub(super) struct Background {
    tasks: Option<Sender<Aside>>,
    stored: Receiver<Stored>,
    thread: Option<JoinHandle<()>>,
    busy: bool,
}

impl Background {
    /// Starts the thread. It tells of each snapshot by waking the guest.
    ///
    /// # Errors
    /// The system has no more threads.
    pub fn start(desk: Desk, pause: Pause) -> Result<Self> {
        let (tasks, todo) = mpsc::channel::<Aside>();
        let (tell, stored) = mpsc::channel();
        let work = move || {
            // One processor for this, too: see `Held::write`.
            let pool = rayon::ThreadPoolBuilder::new().num_threads(1).use_current_thread().build();
            while let Ok(aside) = todo.recv() {
                let result = desk.store_aside(aside);
                let delivered = if result.is_ok() { desk.deliver().map(drop) } else { Ok(()) };
                let _ = tell.send(Stored { result, delivered });
                pause.wake();
            }
            drop(pool);
        };
        let thread = thread::Builder::new().name("snapshot".into()).spawn(work);
        let thread = Some(thread.context("cannot start a thread")?);
        Ok(Self { tasks: Some(tasks), stored, thread, busy: false })
    }

    /// A snapshot is on its way, or was not looked at yet.
    pub fn is_busy(&self) -> bool {
        self.busy
    }

    /// Begins to store a snapshot; there must be none on its way.
    ///
    /// # Errors
    /// The thread is gone.
    pub fn begin(&mut self, aside: Aside) -> Result<()> {
        debug_assert!(!self.busy);
        let sent = self.tasks.as_ref().is_some_and(|tasks| tasks.send(aside).is_ok());
        anyhow::ensure!(sent, "the thread that stores snapshots has ended");
        self.busy = true;
        Ok(())
    }

    /// What has become of the snapshot on its way, if it is there already, or after waiting for it.
    pub fn take(&mut self, wait: bool) -> Option<Stored> {
        if !self.busy {
            return None;
        }
        let stored = match wait {
            true => self.stored.recv().map_err(|_| TryRecvError::Disconnected),
            false => self.stored.try_recv(),
        };
        match stored {
            Err(TryRecvError::Empty) => return None,
            _ => self.busy = false,
        }
        Some(stored.unwrap_or_else(|_| {
            let result = Err(anyhow::anyhow!("the thread that stores snapshots has ended"));
            Stored { result, delivered: Ok(()) }
        }))
    }
}

impl Drop for Background {
    fn drop(&mut self) {
        drop(self.tasks.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
