//! The output ledger: what the guest printed is part of the job, so that one that goes on neither repeats nor
//! loses a byte.
//!
//! Everything that the guest prints is written to its sink at once, and kept. A snapshot holds all that was
//! printed up to it. What a process printed after its last snapshot will be printed again by the next one,
//! which has to come to terms with what is there already:
//!
//! - *The same file as before*, by device and inode: it is cut off where the snapshot ends, and continued. (If
//!   the process before has left in good order, all that was printed is covered; what is behind it is of
//!   others and stays.)
//! - *Anything else* (a new file, one that was emptied, a pipe, a terminal): what was kept is printed from the
//!   start, so that whoever reads sees what an undisturbed run prints.
//!
//! Where both streams go to one file or pipe, they are one there as well: the order of writes is kept.

use std::fs::File;
use std::io::{self, Seek, SeekFrom};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::UNIX_EPOCH;

use anyhow::{Context, Result, ensure};
use serde::{Deserialize, Serialize};

use super::log::{Printed, PrintedStream, SinkFile};
use crate::digest::ChunkId;
use crate::snapshot::{Blob, Emit, PAGE, Section, State, Tree};
use crate::wasi::Output;

/// Name of the section that says how much was printed, and in which order.
const SECTION: &str = "output";
const SECTION_VERSION: u32 = 1;
/// Names of the blobs, by stream.
const BLOBS: [&str; 2] = ["stdout", "stderr"];
/// A snapshot is taken when more than this was printed since the last one, in bytes: it is held in memory.
const PENDING_MAX: usize = 64 << 20;
/// So many changes between the two streams are remembered; beyond them they are told one after the other.
const RUNS_MAX: usize = 1 << 16;

/// Where a stream of the guest goes.
pub enum Sink {
    /// A file, pipe or terminal of the host.
    File(File),
    /// What an embedder makes of it.
    Other(Box<dyn Output>),
    /// Nowhere. It is kept all the same.
    Null,
}

impl Sink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        match self {
            Self::File(file) => Output::write(file, bytes),
            Self::Other(output) => output.write(bytes),
            Self::Null => Ok(()),
        }
    }

    fn is_terminal(&self) -> bool {
        match self {
            Self::File(file) => Output::is_terminal(file),
            Self::Other(output) => output.is_terminal(),
            Self::Null => false,
        }
    }
}

/// What a sink's file is.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Place {
    dev: u64,
    ino: u64,
}

/// What has to be done with a file before the guest goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    /// Print what was kept. A regular file is first cut off here.
    Replay { cut: Option<u64> },
    /// Go on at this offset of the file; what is behind it is cut off.
    Continue { at: u64, cut: bool },
}

/// The streams of a running guest. Clones share them.
#[derive(Clone)]
pub(super) struct Ledger(Arc<Mutex<Inner>>);

struct Inner {
    streams: [Kept; 2],
    sinks: [Sink; 2],
    runs: Vec<u64>,
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
}

impl Kept {
    fn kept(&self) -> u64 {
        self.at + self.tail.len() as u64
    }
}

/// The section's bytes.
#[derive(Serialize, Deserialize)]
struct Saved {
    written: [u64; 2],
    runs: Vec<u64>,
}

/// Reads chunks.
type Fetch<'a> = dyn FnMut(ChunkId) -> Result<Vec<u8>> + 'a;

impl Printed {
    /// What had been printed at a snapshot.
    ///
    /// # Errors
    /// The state's section and blobs contradict each other.
    pub fn of_state(state: &State) -> Result<Self> {
        let mut printed = Self::default();
        let Some(section) = state.sections.iter().find(|s| s.name == SECTION) else {
            return Ok(printed);
        };
        let version = section.version;
        ensure!(
            version == SECTION_VERSION,
            "output of version {version}; this build reads {SECTION_VERSION}"
        );
        let (saved, rest): (Saved, _) =
            postcard::take_from_bytes(&section.bytes).context("the state's output cannot be decoded")?;
        ensure!(rest.is_empty() && saved.runs.len() <= RUNS_MAX, "the state's output is malformed");
        printed.runs = saved.runs;
        for (index, stream) in printed.streams.iter_mut().enumerate() {
            stream.written = saved.written[index];
            if let Some(blob) = state.blobs.iter().find(|blob| blob.name == BLOBS[index]) {
                (stream.kept, stream.root) = (blob.len, blob.root);
            }
            ensure!(stream.kept <= stream.written, "more output is kept than was printed");
        }
        Ok(printed)
    }

    /// Adds it to a state.
    fn add_to(&self, state: &mut State) -> Result<()> {
        if self.runs.is_empty() {
            return Ok(());
        }
        let written = self.streams.map(|s| s.written);
        let bytes = postcard::to_stdvec(&Saved { written, runs: self.runs.clone() })?;
        state.sections.push(Section { name: SECTION.to_string(), version: SECTION_VERSION, bytes });
        state.sections.sort_by(|a, b| a.name.cmp(&b.name));
        for (name, stream) in BLOBS.iter().zip(self.streams) {
            if stream.kept > 0 {
                state.blobs.push(Blob { name: name.to_string(), len: stream.kept, root: stream.root });
            }
        }
        state.blobs.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(())
    }

    /// Gives all that is kept of the stream (0 for output, 1 for error) to `take`, in order.
    ///
    /// # Errors
    /// A chunk is missing or corrupt, or `take` failed.
    pub fn read(
        &self,
        stream: usize,
        fetch: &mut dyn FnMut(ChunkId) -> Result<Vec<u8>>,
        take: &mut dyn FnMut(&[u8]) -> Result<()>,
    ) -> Result<()> {
        load(&self.streams[stream], fetch, take).map(drop)
    }

    /// How many bytes were printed and not kept.
    pub fn lost(&self) -> u64 {
        self.streams.iter().map(|s| s.written - s.kept).sum()
    }
}

/// Reads what is kept of a stream in order, zeros included, and gives its tree.
fn load(
    stream: &PrintedStream,
    fetch: &mut Fetch<'_>,
    take: &mut dyn FnMut(&[u8]) -> Result<()>,
) -> Result<Tree> {
    let zeros = [0; PAGE];
    let mut at = 0;
    let fill = |at: &mut u64, to: u64, take: &mut dyn FnMut(&[u8]) -> Result<()>| {
        while *at < to {
            let n = (to - *at).min(PAGE as u64);
            take(&zeros[..n as usize])?;
            *at += n;
        }
        anyhow::Ok(())
    };
    let tree = Tree::load(stream.root, stream.kept, fetch, &mut |offset, page| {
        fill(&mut at, offset, take)?;
        at += page.len() as u64;
        take(page)
    })
    .context("the output that was kept cannot be read")?;
    fill(&mut at, stream.kept, take)?;
    Ok(tree)
}

/// How the guest's streams go on. Made before anything is changed, carried out when the claim is durable.
pub(super) struct Plan {
    /// For the claim.
    pub sinks: [Option<SinkFile>; 2],
    steps: [Step; 2],
    /// Both streams go to the same place.
    joint: bool,
}

/// What is known of the run before.
pub(super) struct Former<'a> {
    /// Where its output went.
    pub sinks: [Option<SinkFile>; 2],
    /// It has left in good order: all that it printed is covered.
    pub clean: bool,
    /// What is covered.
    pub printed: &'a Printed,
}

impl Plan {
    /// Looks at the sinks and decides.
    pub fn new(sinks: &[Sink; 2], former: &Former<'_>) -> Result<Self> {
        let places = [place(&sinks[0])?, place(&sinks[1])?];
        let joint = places[0].is_some() && places[0] == places[1];
        let was_joint = |a: &Option<SinkFile>, b: &Option<SinkFile>| matches!((a, b), (Some(a), Some(b)) if (a.dev, a.ino) == (b.dev, b.ino));
        let written = former.printed.streams.map(|s| s.written);
        let mut plan = Self { sinks: [None; 2], steps: [Step::Replay { cut: None }; 2], joint };
        for index in 0..2 {
            let Sink::File(file) = &sinks[index] else { continue };
            let covered = if joint { written.iter().sum() } else { written[index] };
            let alike = joint == was_joint(&former.sinks[0], &former.sinks[1]);
            let was = former.sinks[index].filter(|_| alike);
            if let Some((sink, step)) = plan_file(file, was, covered, former.clean)? {
                (plan.sinks[index], plan.steps[index]) = (Some(sink), step);
            }
        }
        Ok(plan)
    }
}

impl Plan {
    /// Something that was kept is printed again.
    pub fn replays(&self) -> bool {
        self.steps.iter().any(|step| matches!(step, Step::Replay { .. }))
    }
}

fn place(sink: &Sink) -> io::Result<Option<Place>> {
    let Sink::File(file) = sink else { return Ok(None) };
    let meta = file.metadata()?;
    let kind = meta.file_type();
    // A device such as /dev/null has no order to keep; a terminal is one.
    let ordered = kind.is_file() || kind.is_fifo() || kind.is_socket() || Output::is_terminal(file);
    Ok(ordered.then(|| Place { dev: meta.dev(), ino: meta.ino() }))
}

/// What to do with a regular file; nothing for others.
fn plan_file(
    file: &File,
    was: Option<SinkFile>,
    covered: u64,
    clean: bool,
) -> Result<Option<(SinkFile, Step)>> {
    let meta = file.metadata().context("an output file cannot be examined")?;
    if !meta.is_file() {
        return Ok(None);
    }
    let (dev, ino, len) = (meta.dev(), meta.ino(), meta.len());
    let since_1970 = meta.created().ok().and_then(|born| born.duration_since(UNIX_EPOCH).ok());
    let born = since_1970.map_or(0, |time| time.as_nanos() as u64);
    let sink = |base| SinkFile { dev, ino, born, base };
    let same = was.filter(|was| sink(was.base) == *was && len >= was.base);
    Ok(Some(match same {
        Some(SinkFile { base, .. }) => {
            let end = base.saturating_add(covered);
            match len {
                _ if len < end => (sink(base), Step::Replay { cut: Some(base) }),
                _ if clean => (sink(len - covered), Step::Continue { at: len, cut: false }),
                _ => (sink(base), Step::Continue { at: end, cut: true }),
            }
        }
        None => {
            let appends = rustix::fs::fcntl_getfl(file)?.contains(rustix::fs::OFlags::APPEND);
            let base = if appends { len } else { rustix::fs::tell(file)? };
            (sink(base), Step::Replay { cut: None })
        }
    }))
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
            (kept.at, kept.tail, kept.written) = (at, tail, stream.written);
        }
        Ok(Self(Arc::new(Mutex::new(Inner { streams, sinks, runs: printed.runs.clone(), keep, full }))))
    }

    /// What the guest writes to: 0 for standard output, 1 for standard error.
    pub fn output(&self, stream: usize) -> Box<dyn Output> {
        Box::new(Stream { ledger: self.clone(), stream })
    }

    /// Looks at the sinks and decides how to go on.
    pub fn plan(&self, former: &Former<'_>) -> Result<Plan> {
        Plan::new(&self.lock().sinks, former)
    }

    /// Brings the sinks to where the guest goes on.
    pub fn carry_out(&self, plan: &Plan, printed: &Printed, fetch: &mut Fetch<'_>) -> Result<()> {
        let explain = || "the output of the run before cannot be continued";
        let mut inner = self.lock();
        for (sink, step) in inner.sinks.iter_mut().zip(plan.steps) {
            let Sink::File(file) = sink else { continue };
            let (at, cut) = match step {
                Step::Continue { at, cut } => (at, cut),
                Step::Replay { cut: Some(at) } => (at, true),
                Step::Replay { cut: None } => continue,
            };
            if cut {
                file.set_len(at).with_context(explain)?;
            }
            // Shared with whoever gave us the file, who will write behind us.
            file.seek(SeekFrom::Start(at)).with_context(explain)?;
        }
        if plan.joint && matches!(plan.steps[0], Step::Replay { .. }) {
            return replay_joint(&mut inner.sinks[0], printed, fetch).with_context(explain);
        }
        for index in 0..2 {
            if matches!(plan.steps[index], Step::Replay { .. }) && !plan.joint {
                let sink = &mut inner.sinks[index];
                printed.read(index, fetch, &mut |bytes| Ok(sink.write(bytes)?)).with_context(explain)?;
            }
        }
        Ok(())
    }

    /// Writes a line of ours to standard error, now that it stands where the guest goes on. Where that is a
    /// file, what the guest will print lies further behind: says whether the claim has to be made again.
    ///
    /// Later it could not be: a line behind output that no snapshot covers yet would be taken for output.
    pub fn say(&self, plan: &mut Plan, text: &str) -> io::Result<bool> {
        self.lock().sinks[1].write(text.as_bytes())?;
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
            let root = kept.tree.update_tail(kept.at, &kept.tail, emit)?;
            *stream = PrintedStream { written: kept.written, kept: kept.kept(), root };
        }
        Ok(printed)
    }

    /// [`Ledger::capture`] into a state.
    pub fn capture_into(&self, state: &mut State, emit: &mut Emit<'_>) -> Result<()> {
        self.capture(emit)?.add_to(state)
    }

    /// What was captured is durable: it need not be held in memory any more.
    pub fn settle(&self) {
        let mut inner = self.lock();
        for kept in &mut inner.streams {
            kept.before = None;
            let whole = kept.tail.len() - kept.tail.len() % PAGE;
            kept.tail.drain(..whole);
            kept.at += whole as u64;
        }
    }

    /// What was captured could not be stored.
    pub fn undo(&self) {
        for kept in &mut self.lock().streams {
            if let Some(before) = kept.before.take() {
                kept.tree = before;
            }
        }
    }

    /// Makes what was printed to files durable, so that they are not shorter than the snapshot says.
    pub fn sync(&self) -> io::Result<()> {
        for sink in &self.lock().sinks {
            if let Sink::File(file) = sink
                && file.metadata()?.is_file()
            {
                file.sync_data()?;
            }
        }
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Prints both streams into one sink, in the order in which they were written.
fn replay_joint(sink: &mut Sink, printed: &Printed, fetch: &mut Fetch<'_>) -> Result<()> {
    let mut texts = [vec![], vec![]];
    for (index, text) in texts.iter_mut().enumerate() {
        printed.read(index, fetch, &mut |bytes| {
            text.extend_from_slice(bytes);
            Ok(())
        })?;
    }
    let mut rest = [texts[0].as_slice(), texts[1].as_slice()];
    for (nth, run) in printed.runs.iter().enumerate() {
        let rest = &mut rest[nth % 2];
        let (now, later) = rest.split_at(usize::try_from(*run).unwrap_or(usize::MAX).min(rest.len()));
        sink.write(now)?;
        *rest = later;
    }
    for rest in rest {
        sink.write(rest)?;
    }
    Ok(())
}

impl Inner {
    fn record(&mut self, stream: usize, bytes: &[u8]) {
        let room = self.keep.saturating_sub(self.streams[stream].kept());
        let kept = &mut self.streams[stream];
        kept.written += bytes.len() as u64;
        kept.tail.extend_from_slice(&bytes[..bytes.len().min(usize::try_from(room).unwrap_or(usize::MAX))]);
        self.note_run(stream, bytes.len() as u64);
        if self.streams.iter().map(|s| s.tail.len()).sum::<usize>() > PENDING_MAX {
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
    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        let mut inner = self.ledger.lock();
        inner.sinks[self.stream].write(bytes)?;
        inner.record(self.stream, bytes);
        Ok(())
    }

    fn is_terminal(&self) -> bool {
        self.ledger.lock().sinks[self.stream].is_terminal()
    }
}
