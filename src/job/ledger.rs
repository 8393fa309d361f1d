//! The output ledger: what the guest printed is part of the job, so that one that goes on neither repeats nor
//! loses a byte.
//!
//! Everything that the guest prints is kept, and a snapshot holds all that was printed up to it. It is written
//! to its sink at once, or ([`Mode::ExactlyOnce`]) when the snapshot that covers it is durable. What a process
//! printed after its last snapshot will be printed again by the next one, which has to come to terms with what is
//! there already:
//!
//! - *The same file as before*, by device and inode: it is cut off where the snapshot ends, and continued. (If
//!   the process before has left in good order, or had written nothing to it yet, what is behind is of others and
//!   stays.)
//! - *Anything else* (a new file, one that was emptied, a pipe, a terminal): what was kept is printed from the
//!   start, so that whoever reads sees what an undisturbed run prints.
//! - *The same pipe or terminal as before*, if output was held back: what is covered and was not delivered.
//!   `delivery` says how that is known.
//!
//! Where both streams go to one file or pipe, they are one there as well: the order of writes is kept.

use std::fs::{self, File};
use std::io::{self, Seek, SeekFrom};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use anyhow::{Context, Result, ensure};

use super::delivery::{Counter, Courier};
use super::log::{Printed, PrintedStream};
use super::options::Pause;
use super::printed::{Fetch, Part, RUNS_MAX, in_order, load};
use super::sinks::{Delivery, Former, Mode, Plan, Sink};
use crate::snapshot::{Emit, PAGE, Tree};
use crate::wasi::{Interrupt, Output, write_some};

/// A snapshot is taken when more than this was printed since the last one, in bytes: it is held in memory.
const PENDING_MAX: usize = 64 << 20;

/// So many bytes are taken out at a time to be delivered.
const PIECE: u64 = 1 << 20;

/// The streams of a running guest. Clones share them.
#[derive(Clone)]
pub(super) struct Ledger {
    inner: Arc<Mutex<Inner>>,
    /// Locked while it is written to, which can take as long as a reader likes: by whoever has not locked `inner`.
    outlet: Arc<Mutex<Outlet>>,
    /// The sinks that are regular files, if they could be had once more.
    files: Arc<io::Result<Vec<File>>>,
}

/// Where what is printed goes.
struct Outlet {
    sinks: [Sink; 2],
    /// There may be no room in them.
    may_wait: [bool; 2],
    /// Delivers what is durable, if that is exactly once.
    courier: Option<Courier>,
    /// Of each stream: what is removed before something is written to it.
    silent: [Option<PathBuf>; 2],
}

struct Inner {
    streams: [Kept; 2],
    runs: Vec<u64>,
    /// Both streams go to the same place.
    joint: bool,
    mode: Mode,
    keep: u64,
    /// Set when much is pending; taken back by whoever takes the snapshot.
    full: Arc<AtomicBool>,
}

/// What is kept of a stream.
#[derive(Default)]
struct Kept {
    tree: Tree,
    /// The tree before the snapshot that is being stored.
    before: Option<Tree>,
    /// The end of what is kept, from the offset `at` on, a multiple of a page.
    tail: Vec<u8>,
    at: u64,
    written: u64,
    /// So much of it is in the snapshot that is being stored.
    captured: u64,
    /// So much of it is durable.
    durable: u64,
}

impl Kept {
    fn kept(&self) -> u64 {
        self.at + self.tail.len() as u64
    }

    /// How much more may be kept. Nothing behind what was not: what is kept has no gap.
    fn room(&self, keep: u64) -> u64 {
        if self.written > self.kept() { 0 } else { keep.saturating_sub(self.kept()) }
    }

    /// Lets go of the whole pages at the beginning of the tail that are stored.
    fn forget_pages(&mut self) {
        let stored = self.durable.min(self.kept()).saturating_sub(self.at) as usize;
        let whole = stored - stored % PAGE;
        self.tail.drain(..whole);
        self.at += whole as u64;
    }

    /// Bytes that are held in memory.
    fn slice(&self, part: Part) -> Option<&[u8]> {
        let from = usize::try_from(part.at.checked_sub(self.at)?).ok()?;
        self.tail.get(from..from.checked_add(usize::try_from(part.len).ok()?)?)
    }
}

impl Ledger {
    /// A ledger of what was printed, going on in these sinks. Reads what was kept.
    ///
    /// Sets `full` when so much is pending that a snapshot should be taken. At most `keep` bytes of each
    /// stream are kept.
    pub fn open(
        sinks: [Sink; 2],
        printed: &Printed,
        keep: u64,
        full: Arc<AtomicBool>,
        fetch: &mut Fetch<'_>,
    ) -> Result<Self> {
        // A snapshot from elsewhere can name terabytes of zeros by a few chunks.
        let most = printed.streams.iter().map(|s| s.kept).max().unwrap_or(0);
        ensure!(most <= keep, "it has {most} bytes of output, and at most {keep} are to be kept");
        let mut streams = [Kept::default(), Kept::default()];
        for (kept, stream) in streams.iter_mut().zip(&printed.streams) {
            let at = stream.kept - stream.kept % PAGE as u64;
            let (mut offset, mut tail) = (0, vec![]);
            kept.tree = load(stream, fetch, &mut |bytes| {
                if offset >= at {
                    tail.extend_from_slice(bytes);
                }
                offset += bytes.len() as u64;
                Ok(())
            })?;
            (kept.at, kept.tail, kept.written, kept.durable) = (at, tail, stream.written, stream.written);
        }
        let (runs, mode) = (printed.runs.clone(), Mode::AtOnce);
        Ok(Self::new(Inner { streams, runs, joint: false, mode, keep, full }, sinks))
    }

    fn new(inner: Inner, sinks: [Sink; 2]) -> Self {
        let files = Arc::new(regular(&sinks));
        let may_wait = [0, 1].map(|n: usize| sinks[n].may_wait());
        let outlet = Outlet { sinks, may_wait, courier: None, silent: [None, None] };
        Self { inner: Arc::new(Mutex::new(inner)), outlet: Arc::new(Mutex::new(outlet)), files }
    }

    /// A ledger of a job that has ended, whose output is only to be delivered.
    pub fn of_ended(sinks: [Sink; 2]) -> Self {
        let (streams, mode, full) = ([Kept::default(), Kept::default()], Mode::AtOnce, Arc::default());
        Self::new(Inner { streams, runs: vec![], joint: false, mode, keep: 0, full }, sinks)
    }

    /// What the guest writes to: 0 for standard output, 1 for standard error.
    pub fn output(&self, stream: usize) -> Box<dyn Output> {
        Box::new(Stream { ledger: self.clone(), stream })
    }

    /// Looks at the sinks and decides how to go on. `counter` says what was delivered, if that is to be exactly
    /// once.
    pub fn plan(&self, former: Former<'_>, delivery: Delivery, counter: &Counter) -> Result<Plan> {
        let exact = delivery.mode == Mode::ExactlyOnce;
        let delivered = if exact { counter.read() } else { None };
        let lost = former.printed.lost();
        ensure!(!exact || lost == 0, "{lost} bytes of its output are not kept, so it cannot be exactly once");
        Plan::new(&self.outlet().sinks, &Former { delivered, silent: counter.silent(), ..former }, delivery)
    }

    /// Brings the sinks to where the guest goes on, until there is no room and a pause is asked for: false then.
    pub fn carry_out(
        &self,
        plan: &Plan,
        mode: Mode,
        counter: &Counter,
        (printed, fetch): (&Printed, &mut Fetch<'_>),
        pause: Option<&Pause>,
    ) -> Result<bool> {
        let explain = || "the output of the run before cannot be continued";
        let outlet = &mut *self.outlet();
        {
            let mut inner = self.lock();
            (inner.mode, inner.joint) = (mode, plan.joint);
        }
        for (sink, position) in outlet.sinks.iter_mut().zip(plan.positions) {
            let (Sink::File(file), Some(position)) = (sink, position) else { continue };
            if position.cut {
                file.set_len(position.at).with_context(explain)?;
            }
            // Shared with whoever gave us the file, who will write behind us.
            file.seek(SeekFrom::Start(position.at)).with_context(explain)?;
        }
        match mode {
            Mode::AtOnce => {
                counter.forget();
                outlet.silent = counter.begin_silent();
            }
            Mode::ExactlyOnce => {
                let courier = counter.start(plan.places, plan.there);
                outlet.courier = Some(courier.context("what is delivered cannot be counted")?);
            }
        }
        let runs = if plan.joint { printed.runs.as_slice() } else { &[] };
        let parts = in_order(runs, plan.there, printed.kept());
        let mut all = true;
        let read = printed.read_parts(parts, fetch, &mut |stream, bytes| {
            all = outlet.put(stream, bytes, pause)?;
            ensure!(all, "a pause is asked for");
            Ok(())
        });
        match read {
            Err(_) if !all => Ok(false),
            read => read.map(|()| true).with_context(explain),
        }
    }

    /// Writes a line of ours to standard error, now that it stands where the guest goes on. Where that is a
    /// file, what the guest will print lies further behind: says whether the claim has to be made again.
    ///
    /// Later it could not be: a line behind output that no snapshot covers yet would be taken for output.
    pub fn say(&self, plan: &mut Plan, text: &str) -> io::Result<bool> {
        self.outlet().sinks[1].write(text.as_bytes())?;
        let mut moved = false;
        for (index, sink) in plan.sinks.iter_mut().enumerate() {
            if let Some(sink) = sink
                && (index == 1 || plan.joint)
            {
                sink.base += text.len() as u64;
                moved = true;
            }
        }
        Ok(moved)
    }

    /// Adds what was printed to a state, and gives new chunks to `emit`. Then [`Ledger::settle`] or
    /// [`Ledger::undo`].
    pub fn capture(&self, emit: &mut Emit<'_>) -> Result<Printed> {
        let mut inner = self.lock();
        let mut printed = Printed { runs: inner.runs.clone(), ..Printed::default() };
        for (kept, stream) in inner.streams.iter_mut().zip(&mut printed.streams) {
            kept.before.get_or_insert(kept.tree.clone());
            kept.captured = kept.written;
            let root = kept.tree.update_tail(kept.at, &kept.tail, emit)?;
            *stream = PrintedStream { written: kept.written, kept: kept.kept(), root };
        }
        Ok(printed)
    }

    /// What was captured is durable: it can be delivered, and need not be held in memory for long. What was printed
    /// since then is not.
    pub fn settle(&self) {
        let mut inner = self.lock();
        let held = inner.mode == Mode::ExactlyOnce;
        for kept in &mut inner.streams {
            (kept.before, kept.durable) = (None, kept.captured);
            if !held {
                kept.forget_pages();
            }
        }
    }

    /// Delivers what is durable and was held back, until a sink has no room and it `is_enough`: false then. The guest
    /// may print meanwhile.
    ///
    /// # Errors
    /// A sink does not take it. What has arrived is known, and the rest can be delivered later.
    pub fn deliver(&self, is_enough: &dyn Fn() -> bool) -> io::Result<bool> {
        let Outlet { sinks, courier, .. } = &mut *self.outlet();
        let Some(courier) = courier else { return Ok(true) };
        let (to, runs) = {
            let inner = self.lock();
            let runs = if inner.joint { inner.runs.clone() } else { vec![] };
            ([0, 1].map(|n: usize| inner.streams[n].durable), runs)
        };
        for Part { stream, at, len } in in_order(&runs, courier.done(), to) {
            let end = at + len;
            for at in (at..end).step_by(PIECE as usize) {
                let part = Part { stream, at, len: PIECE.min(end - at) };
                let bytes = self.lock().streams[stream].slice(part).map(<[u8]>::to_vec);
                let bytes =
                    bytes.ok_or_else(|| io::Error::other("output that is due is not held any more"))?;
                if !courier.put(&mut sinks[stream], stream, &bytes, is_enough)? {
                    return Ok(false);
                }
            }
        }
        self.lock().streams.iter_mut().for_each(Kept::forget_pages);
        Ok(true)
    }

    /// What was captured could not be stored.
    pub fn undo(&self) {
        for kept in &mut self.lock().streams {
            if let Some(before) = kept.before.take() {
                kept.tree = before;
            }
        }
    }

    /// Makes what was printed to files durable, so that they are not shorter than the snapshot says. The guest may
    /// print meanwhile.
    pub fn sync(&self) -> io::Result<()> {
        match &*self.files {
            Ok(files) => files.iter().try_for_each(File::sync_data),
            Err(error) => Err(io::Error::new(error.kind(), error.to_string())),
        }
    }

    /// So much is pending that a snapshot should be taken.
    pub fn is_full(&self) -> bool {
        self.lock().pending() > PENDING_MAX
    }

    /// Takes some of what the guest prints; nothing if a request comes while there is no room.
    fn print(&self, stream: usize, bytes: &[u8], interrupt: Option<&Interrupt>) -> io::Result<usize> {
        let mode = self.lock().mode;
        let n = match mode {
            Mode::AtOnce => self.outlet().write(stream, bytes, interrupt)?,
            Mode::ExactlyOnce => {
                self.lock().check_room(stream, bytes.len())?;
                bytes.len()
            }
        };
        self.lock().record(stream, &bytes[..n]);
        Ok(n)
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn outlet(&self) -> MutexGuard<'_, Outlet> {
        self.outlet.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The sinks that are regular files.
fn regular(sinks: &[Sink; 2]) -> io::Result<Vec<File>> {
    let mut files = vec![];
    for sink in sinks {
        if let Sink::File(file) = sink
            && file.metadata()?.is_file()
        {
            files.push(file.try_clone()?);
        }
    }
    Ok(files)
}

impl Outlet {
    /// Writes what is durable, until there is no room and a pause is asked for: false then.
    fn put(&mut self, stream: usize, mut bytes: &[u8], pause: Option<&Pause>) -> io::Result<bool> {
        let is_enough = || pause.is_some_and(Pause::is_requested);
        if let Some(courier) = &mut self.courier {
            return courier.put(&mut self.sinks[stream], stream, bytes, &is_enough);
        }
        while !bytes.is_empty() {
            let n = self.write(stream, bytes, pause.map(|pause| &pause.interrupt))?;
            if n == 0 && is_enough() {
                return Ok(false);
            }
            if let Some(pause) = pause.filter(|_| n == 0) {
                pause.woken();
            }
            bytes = &bytes[n..];
        }
        Ok(true)
    }

    /// Writes some of what the guest prints; nothing if a request comes while there is no room.
    fn write(&mut self, stream: usize, bytes: &[u8], interrupt: Option<&Interrupt>) -> io::Result<usize> {
        if let Some(path) = self.silent[stream].take()
            && let Err(error) = fs::remove_file(&path)
            && error.kind() != io::ErrorKind::NotFound
        {
            self.silent[stream] = Some(path);
            return Err(io::Error::other(error));
        }
        match (&mut self.sinks[stream], interrupt) {
            (Sink::File(file), Some(interrupt)) if self.may_wait[stream] => {
                Ok(interrupt.write(file, bytes)?.unwrap_or(0))
            }
            // Not all or nothing: the guest is to know what was written before the disk was full.
            (Sink::File(file), _) => write_some(file, bytes),
            (sink, _) => sink.write(bytes).map(|()| bytes.len()),
        }
    }
}

impl Inner {
    /// Only what is kept can be delivered by another process.
    fn check_room(&self, stream: usize, len: usize) -> io::Result<()> {
        if len as u64 <= self.streams[stream].room(self.keep) {
            return Ok(());
        }
        let (keep, name) = (self.keep, ["output", "error"][stream]);
        let why = format!(
            "over {keep} bytes of standard {name} are printed, and no more are kept, so the rest \
             cannot be delivered exactly once; go on with a larger `--keep-output`"
        );
        Err(io::Error::other(why))
    }

    /// Bytes that are held in memory.
    fn pending(&self) -> usize {
        self.streams.iter().map(|s| s.tail.len()).sum()
    }

    fn record(&mut self, stream: usize, bytes: &[u8]) {
        let kept = &mut self.streams[stream];
        let room = kept.room(self.keep);
        kept.written += bytes.len() as u64;
        kept.tail.extend_from_slice(&bytes[..bytes.len().min(usize::try_from(room).unwrap_or(usize::MAX))]);
        self.note_run(stream, bytes.len() as u64);
        if self.pending() > PENDING_MAX {
            self.full.store(true, Ordering::SeqCst);
        }
    }

    /// Runs are of output and error in turn, beginning with output.
    fn note_run(&mut self, stream: usize, len: u64) {
        if self.runs.len() >= RUNS_MAX || len == 0 {
            return;
        }
        if self.runs.is_empty() && stream == 1 {
            self.runs.push(0);
        }
        match self.runs.len() {
            n if n > 0 && (n - 1) % 2 == stream => self.runs[n - 1] += len,
            _ => self.runs.push(len),
        }
    }
}

/// What the guest writes to.
struct Stream {
    ledger: Ledger,
    stream: usize,
}

impl Output for Stream {
    fn write(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            bytes = &bytes[self.ledger.print(self.stream, bytes, None)?..];
        }
        Ok(())
    }

    fn write_at(&mut self, at: u64, bytes: &[u8], interrupt: &Interrupt) -> io::Result<Option<usize>> {
        // What is printed beyond that is the beginning of these bytes: a call was suspended in the midst of them, perhaps
        // in another process.
        let before = self.ledger.lock().streams[self.stream].written.saturating_sub(at);
        let mut n = bytes.len().min(usize::try_from(before).unwrap_or(usize::MAX));
        while n < bytes.len() {
            match self.ledger.print(self.stream, &bytes[n..], Some(interrupt)) {
                Ok(0) => return Ok(None),
                Ok(more) => n += more,
                // What was written before the error counts; the next call meets the error again.
                Err(_) if n > 0 => break,
                Err(error) => return Err(error),
            }
        }
        Ok(Some(n))
    }

    fn is_terminal(&self) -> bool {
        self.ledger.outlet().sinks[self.stream].is_terminal()
    }
}
