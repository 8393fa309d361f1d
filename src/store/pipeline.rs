//! From the frames of a pack to its bytes: compressed and hashed on several cores, written in their order.
//!
//! ```text
//! add ──> queue ──> compressors ──> done, by number ──> writer ──> upload
//!   └───────────────── waits while IN_FLIGHT frames are on the way ──┘
//! ```
//!
//! A small pack starts no thread: whoever finishes it does all. With one thread to compress, that is the one that adds
//! the frames, which so takes one processor and no more.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};

use super::leases::lock;
use super::pack::{Frame, Method};
use super::{Compress, StoreError, Upload};

/// Frames that are on the way at most: 32 MiB before compression, and as much after it.
const IN_FLIGHT: u64 = 512;
/// Threads are started when so many frames wait: 512 KiB.
const ALONE: usize = 8;
/// Frames that are written before others may take the state again.
const BATCH: usize = 32;

/// Takes frames, and writes them to an upload.
pub(super) struct Pipeline {
    shared: Arc<Shared>,
    compress: Compress,
    compressors: usize,
    threads: Vec<JoinHandle<()>>,
    /// With which the frames are compressed as they are added.
    press: Option<Press>,
}

/// What a pipeline has made of its frames.
pub(super) struct Piped {
    pub upload: Box<dyn Upload>,
    pub frames: Vec<Frame>,
    /// Bytes of the frames.
    pub stored: u64,
}

struct Shared {
    state: Mutex<State>,
    /// There is a frame to compress, or none will come.
    work: Condvar,
    /// The next frame is compressed, or none will come.
    ready: Condvar,
    /// A frame is written.
    room: Condvar,
}

#[derive(Default)]
struct State {
    queue: VecDeque<Raw>,
    done: BTreeMap<u64, Encoded>,
    /// Buffers to be used again.
    spare: Vec<Vec<u8>>,
    pushed: u64,
    frames: Vec<Frame>,
    stored: u64,
    closed: bool,
    failed: bool,
    error: Option<StoreError>,
    /// With the writer while that is at work.
    upload: Option<Box<dyn Upload>>,
}

/// A frame as it came.
struct Raw {
    number: u64,
    bytes: Vec<u8>,
    chunks: u32,
}

/// A frame as it is stored.
struct Encoded {
    frame: Frame,
    bytes: Vec<u8>,
}

impl Pipeline {
    /// Writes to `upload`, with so many threads to compress.
    pub fn new(upload: Box<dyn Upload>, compress: Compress, compressors: usize) -> Self {
        let state = State { upload: Some(upload), ..State::default() };
        let shared = Shared {
            state: Mutex::new(state),
            work: Condvar::new(),
            ready: Condvar::new(),
            room: Condvar::new(),
        };
        Self { shared: Arc::new(shared), compress, compressors, threads: vec![], press: None }
    }

    /// Takes a frame, and gives an empty buffer for the next one. Waits while too many are on the way.
    pub fn push(&mut self, bytes: Vec<u8>, chunks: u32) -> Result<Vec<u8>, StoreError> {
        let shared = self.shared.clone();
        let mut state = lock(&shared.state);
        while state.pushed - state.frames.len() as u64 >= IN_FLIGHT && !state.failed {
            state = wait(&shared.room, state);
        }
        state.check()?;
        let number = state.pushed;
        state.pushed += 1;
        state.queue.push_back(Raw { number, bytes, chunks });
        let spare = state.spare.pop().unwrap_or_default();
        let waiting = state.queue.len().max(state.done.len());
        if self.threads.is_empty() && waiting > ALONE {
            drop(state);
            self.start()?;
        } else {
            drop(state);
            shared.work.notify_one();
        }
        if self.compressors <= 1 {
            self.press_one()?;
        }
        Ok(spare)
    }

    /// Compresses the frame that was just added. The more there were, the faster: it may be a big pack.
    fn press_one(&mut self) -> Result<(), StoreError> {
        let press = match &mut self.press {
            Some(press) => press,
            none => none.insert(Press::new()?),
        };
        let mut state = lock(&self.shared.state);
        let Some(raw) = state.queue.pop_front() else { return Ok(()) };
        let behind = usize::try_from(raw.number / 4).unwrap_or(usize::MAX).min(IN_FLIGHT as usize);
        let level = self.compress.level(behind, state.done.len(), IN_FLIGHT as usize);
        drop(state);
        press.run(&self.shared, raw, level)
    }

    /// Bytes of frames that are written so far.
    pub fn stored(&self) -> u64 {
        lock(&self.shared.state).stored
    }

    /// Waits until all frames are written.
    pub fn finish(mut self) -> Result<Piped, StoreError> {
        if self.threads.is_empty() {
            self.shared.close();
            Alarm::guard(&self.shared, |shared| compress(shared, self.compress));
            Alarm::guard(&self.shared, write);
        }
        self.join();
        let mut state = lock(&self.shared.state);
        state.check()?;
        let (frames, stored) = (std::mem::take(&mut state.frames), state.stored);
        let upload = state.upload.take().ok_or_else(panicked)?;
        Ok(Piped { upload, frames, stored })
    }

    fn start(&mut self) -> Result<(), StoreError> {
        let mut spawn = |name: &str, work: Box<dyn FnOnce(&Shared) + Send>| {
            let shared = self.shared.clone();
            let started = thread::Builder::new().name(name.to_string());
            let started = started.spawn(move || Alarm::guard(&shared, |shared| work(shared)));
            let thread =
                started.map_err(|error| StoreError::from_io("start a thread for", "a pack", error))?;
            self.threads.push(thread);
            Ok(())
        };
        spawn("pack-write", Box::new(write))?;
        let how = self.compress;
        for _ in 0..if self.compressors > 1 { self.compressors } else { 0 } {
            spawn("pack-compress", Box::new(move |shared| compress(shared, how)))?;
        }
        Ok(())
    }

    fn join(&mut self) {
        self.shared.close();
        for thread in self.threads.drain(..) {
            // A panic is told by its alarm.
            let _ = thread.join();
        }
    }
}

impl Drop for Pipeline {
    fn drop(&mut self) {
        if !self.threads.is_empty() {
            lock(&self.shared.state).failed = true;
            self.join();
        }
    }
}

impl Shared {
    fn close(&self) {
        lock(&self.state).closed = true;
        self.wake();
    }

    fn fail(&self, error: StoreError) {
        let mut state = lock(&self.state);
        state.failed = true;
        state.error.get_or_insert(error);
        drop(state);
        self.wake();
    }

    fn wake(&self) {
        self.work.notify_all();
        self.ready.notify_all();
        self.room.notify_all();
    }
}

impl State {
    /// The error, once; whoever asks again is told that there was one.
    fn check(&mut self) -> Result<(), StoreError> {
        match (self.failed, self.error.take()) {
            (false, _) => Ok(()),
            (true, Some(error)) => Err(error),
            (true, None) => {
                let again = io::Error::other("writing has failed before");
                Err(StoreError::from_io("write", "a pack", again))
            }
        }
    }
}

/// Tells the others when a thread panics: they would wait for it for ever.
struct Alarm<'a>(&'a Shared);

impl<'a> Alarm<'a> {
    fn guard(shared: &'a Shared, work: impl FnOnce(&Shared)) {
        let alarm = Self(shared);
        work(shared);
        drop(alarm);
    }
}

impl Drop for Alarm<'_> {
    fn drop(&mut self) {
        if thread::panicking() {
            self.0.fail(panicked());
        }
    }
}

fn panicked() -> StoreError {
    StoreError::from_io("write", "a pack", io::Error::other("a thread has panicked"))
}

fn wait<'a>(condition: &Condvar, state: MutexGuard<'a, State>) -> MutexGuard<'a, State> {
    condition.wait(state).unwrap_or_else(PoisonError::into_inner)
}

/// What compresses, and a buffer for that.
struct Press {
    zstd: zstd::bulk::Compressor<'static>,
    buffer: Vec<u8>,
}

impl Press {
    fn new() -> Result<Self, StoreError> {
        let zstd = zstd::bulk::Compressor::new(1).map_err(cannot_compress)?;
        Ok(Self { zstd, buffer: vec![] })
    }

    /// Compresses a frame, and hands it on.
    fn run(&mut self, shared: &Shared, raw: Raw, level: Option<i32>) -> Result<(), StoreError> {
        let number = raw.number;
        let encoded = encode(&mut self.zstd, level, raw, &mut self.buffer).map_err(cannot_compress)?;
        let mut state = lock(&shared.state);
        state.done.insert(number, encoded);
        if number == state.frames.len() as u64 {
            shared.ready.notify_one();
        }
        if self.buffer.capacity() == 0 {
            self.buffer = state.spare.pop().unwrap_or_default();
        }
        Ok(())
    }
}

fn cannot_compress(error: io::Error) -> StoreError {
    StoreError::from_io("compress", "a frame", error)
}

/// Compresses frames until there are no more.
fn compress(shared: &Shared, how: Compress) {
    let mut press = match Press::new() {
        Ok(press) => press,
        Err(error) => return shared.fail(error),
    };
    let mut state = lock(&shared.state);
    loop {
        if state.failed {
            return;
        }
        let Some(raw) = state.queue.pop_front() else {
            if state.closed {
                return;
            }
            state = wait(&shared.work, state);
            continue;
        };
        let level = how.level(state.queue.len(), state.done.len(), IN_FLIGHT as usize);
        drop(state);
        if let Err(error) = press.run(shared, raw, level) {
            return shared.fail(error);
        }
        state = lock(&shared.state);
    }
}

/// The stored form of a frame. What it does not need is left in `buffer`.
fn encode(
    compressor: &mut zstd::bulk::Compressor<'_>,
    level: Option<i32>,
    raw: Raw,
    buffer: &mut Vec<u8>,
) -> io::Result<Encoded> {
    let Raw { bytes, chunks, .. } = raw;
    let len = bytes.len();
    let mut stored = (Method::Raw, bytes);
    if let Some(level) = level {
        compressor.set_compression_level(level)?;
        buffer.clear();
        buffer.reserve(zstd::zstd_safe::compress_bound(len));
        compressor.compress_to_buffer(&stored.1, buffer)?;
        if buffer.len() < len {
            let raw = std::mem::replace(&mut stored, (Method::Zstd, std::mem::take(buffer)));
            *buffer = raw.1;
        }
    }
    let (method, bytes) = stored;
    let hash = *blake3::hash(&bytes).as_bytes();
    // Both at most FRAME_TARGET + CHUNK_MAX.
    let frame = Frame { stored_len: bytes.len() as u32, len: len as u32, method, chunks, hash };
    Ok(Encoded { frame, bytes })
}

/// Writes the frames in their order until there are no more.
fn write(shared: &Shared) {
    let mut state = lock(&shared.state);
    let Some(mut upload) = state.upload.take() else { return };
    loop {
        let next = state.frames.len() as u64;
        let batch: Vec<Encoded> = (next..).map_while(|n| state.done.remove(&n)).take(BATCH).collect();
        if state.failed || batch.is_empty() && state.closed && next == state.pushed {
            break;
        }
        if batch.is_empty() {
            state = wait(&shared.ready, state);
            continue;
        }
        drop(state);
        for encoded in &batch {
            if let Err(error) = upload.write(&encoded.bytes) {
                return shared.fail(error);
            }
        }
        state = lock(&shared.state);
        for Encoded { frame, mut bytes } in batch {
            state.stored += u64::from(frame.stored_len);
            state.frames.push(frame);
            bytes.clear();
            state.spare.push(bytes);
        }
        shared.room.notify_all();
    }
    state.upload = Some(upload);
}
