//! The journal of standard input: what a pipe, socket or terminal gives is durable in the store before the guest
//! sees it, so that a guest that goes on from a snapshot reads on from where that stood.
//!
//! ```text
//! jobs/<name>/stdin/<number of the job's beginning>/<offset>     check, 0 and the bytes from there on; or
//!                                                                check, 1: the end is there
//! ```
//!
//! Each piece is as large as what can be read without waiting, up to [`PIECE_MAX`], and made by create-if-absent,
//! so that of two runners only one writes on. The pieces tell nothing of what the guest has seen: its snapshot does.
//!
//! Behind the journal comes the standard input of the process that runs the job now. Either it gives all bytes
//! from the first one on again, as the same command line does: then those of the journal are compared and passed
//! over. Or it goes on where the journal ends, as a terminal does, and a FIFO whose producer lives
//! ([`InputFrom`]). That is done when the guest asks for a byte that is not in the journal, and not before.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::FileType;
use rustix::io::Errno;
use rustix::termios::isatty;

use super::intake::Intake;
use super::{Job, JobError, JobName, log};
use crate::store::{Created, Key, Store, StoreError};
use crate::wasi::{self, Interrupt, Stdin, StreamState};

/// Longest piece, in bytes.
const PIECE_MAX: usize = 1 << 20;
/// Bytes before those of the piece: a hash, and whether it is the end.
const HEAD: usize = 33;
/// How long to wait before a piece that could not be stored is tried again.
const RETRIES: [Duration; 3] =
    [Duration::from_millis(50), Duration::from_millis(500), Duration::from_secs(2)];

/// Where standard input goes on, that the job has read from before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InputFrom {
    /// It begins anew: what was read before comes again, is compared and passed over.
    Start,
    /// It goes on behind what was read before.
    Now,
}

/// The pieces in the store.
#[derive(Clone)]
pub(super) struct Journal {
    store: Arc<dyn Store>,
    pub job: JobName,
    begin: u64,
    /// Offsets of the pieces, ascending.
    pieces: Vec<u64>,
    /// Offset behind the last byte.
    pub end: u64,
    /// The input ends there.
    pub ended: bool,
    /// The piece that was used last, and its offset.
    held: (u64, Arc<[u8]>),
}

/// The prefix of the keys of a job's journals.
fn prefix(job: &JobName) -> String {
    format!("{}{job}/stdin/", log::JOBS)
}

/// Beginning and offset of a piece.
fn parse(rest: &str) -> Option<(u64, u64)> {
    let (begin, offset) = rest.split_once('/')?;
    let number = |text: &str| (text.len() == 20).then(|| text.parse().ok()).flatten();
    Some((number(begin)?, number(offset)?))
}

/// Removes the journals of the beginnings of a job that `of` tells.
///
/// # Errors
/// What the store reports.
pub(super) fn remove(store: &dyn Store, job: &JobName, of: impl Fn(u64) -> bool) -> Result<(), StoreError> {
    let prefix = prefix(job);
    for key in store.list(&prefix)? {
        let found = key.as_str().strip_prefix(&prefix).and_then(parse);
        if found.is_none_or(|(begin, _)| of(begin)) {
            store.delete(&key)?;
        }
    }
    Ok(())
}

/// Gives a beginning of the job, which is to follow, the journal of the one that is now: it goes back, and what was read
/// since comes from there. Durable when it returns.
///
/// # Errors
/// What the store reports.
pub(super) fn carry_over(store: &dyn Store, job: &JobName, from: u64, to: u64) -> Result<(), StoreError> {
    let old = format!("{}{from:020}/", prefix(job));
    for key in store.list(&old)? {
        let piece = store.get_at_most(&key, (HEAD + PIECE_MAX) as u64)?;
        store.put(&Key::new(format!("{}{to:020}/{}", prefix(job), key.name()))?, &piece)?;
    }
    Ok(())
}

/// Brings to the journal of a beginning of the job what a process has taken from the pipe and could not bring there.
///
/// # Errors
/// The journal is damaged, or what the store reports.
pub(super) fn bring_late(store: &Arc<dyn Store>, job: &JobName, begin: u64) -> Result<()> {
    // All before was in the journal then.
    let Some(base) = Intake::base(&**store, job, begin) else { return Ok(()) };
    let mut journal = Journal::open(store.clone(), job, begin, base)?;
    let (_, late) = Intake::open(&**store, job, begin, journal.end)?;
    late.chunks(PIECE_MAX).try_for_each(|piece| journal.append(piece))
}

/// Reads the journal of a beginning of the job, which began with the program if `whole`, as far as it goes now.
///
/// # Errors
/// A piece is missing or damaged.
pub(super) fn check(store: &Arc<dyn Store>, job: &JobName, begin: u64, whole: bool) -> Result<()> {
    let keys = store.list(&format!("{}{begin:020}/", prefix(job)))?;
    let offsets: Vec<u64> = keys.iter().filter_map(|key| key.name().parse().ok()).collect();
    let (Some(&first), Some(&last)) = (offsets.first(), offsets.last()) else { return Ok(()) };
    let nothing = Arc::from([].as_slice());
    let (store, job) = (store.clone(), job.clone());
    let journal = Journal { store, job, begin, pieces: vec![], end: 0, ended: false, held: (0, nothing) };
    // Each is where the one before ends. (One that is listed may have been made later than one that is not.)
    let mut at = if whole { 0 } else { first };
    while at < last {
        let (bytes, _) = journal.fetch(at)?;
        ensure!(!bytes.is_empty(), journal.damaged(at, "it is the end, and there is more"));
        at += bytes.len() as u64;
    }
    ensure!(at == last, journal.damaged(last, "it does not begin where the piece before ends"));
    journal.fetch(last).map(drop)
}

/// The job of a key, and the beginning that it is of, if it is a piece of a journal.
pub(super) fn of_key(key: &Key) -> Option<(JobName, u64)> {
    let (job, rest) = key.as_str().strip_prefix(log::JOBS)?.split_once("/stdin/")?;
    Some((job.parse().ok()?, parse(rest)?.0))
}

impl Journal {
    /// The journal of this beginning of the job; `read` bytes were read at its snapshot.
    pub fn open(store: Arc<dyn Store>, job: &JobName, begin: u64, read: u64) -> Result<Self> {
        let (job, nothing) = (job.clone(), Arc::from([].as_slice()));
        let held = (read, nothing);
        let mut journal = Self { store, job, begin, pieces: vec![], end: read, ended: false, held };
        let prefix = format!("{}{begin:020}/", prefix(&journal.job));
        let keys = journal.store.list(&prefix)?;
        journal.pieces = keys.iter().filter_map(|key| key.name().parse().ok()).collect();
        if let (Some(&last), Some(key)) = (journal.pieces.last(), keys.last()) {
            // Whoever wrote it may have died before it was durable, and we build on it.
            journal.store.settle(key.as_str())?;
            let (bytes, ended) = journal.fetch(last)?;
            (journal.end, journal.ended) = (last + bytes.len() as u64, ended);
            let whole = journal.first() <= read && read <= journal.end;
            ensure!(whole, journal.damaged(last, "it is not what the snapshot has read"));
        }
        Ok(journal)
    }

    /// Offset of the first byte that it has.
    pub fn first(&self) -> u64 {
        self.pieces.first().copied().unwrap_or(self.end)
    }

    pub fn key(&self, offset: u64) -> Result<Key, StoreError> {
        Key::new(format!("{}{:020}/{offset:020}", prefix(&self.job), self.begin))
    }

    fn damaged(&self, offset: u64, problem: &str) -> StoreError {
        let what = format!("the standard input of job `{}` from byte {offset} on", self.job);
        StoreError::corrupt(what, problem)
    }

    fn check(&self, offset: u64, rest: &[u8]) -> [u8; 32] {
        let mut hash = blake3::Hasher::new();
        hash.update(&offset.to_le_bytes()).update(rest);
        *hash.finalize().as_bytes()
    }

    /// Reads a piece, and whether it is the end.
    fn fetch(&self, offset: u64) -> Result<(Arc<[u8]>, bool)> {
        let bytes = self.store.get_at_most(&self.key(offset)?, (HEAD + PIECE_MAX) as u64)?;
        let (hash, rest) =
            bytes.split_first_chunk::<32>().with_context(|| self.damaged(offset, "it is cut off"))?;
        ensure!(self.check(offset, rest) == *hash, self.damaged(offset, "its bytes do not fit its hash"));
        let (ended, bytes) = rest.split_first().with_context(|| self.damaged(offset, "it is cut off"))?;
        Ok((bytes.into(), *ended != 0))
    }

    /// The bytes from this offset on, one at least, which must be in the journal.
    pub fn at(&mut self, at: u64) -> Result<&[u8]> {
        let within = |held: &(u64, Arc<[u8]>)| at >= held.0 && at - held.0 < held.1.len() as u64;
        if !within(&self.held) {
            let nth = self.pieces.partition_point(|offset| *offset <= at).checked_sub(1);
            let offset = nth.and_then(|nth| self.pieces.get(nth)).copied();
            let offset = offset.ok_or_else(|| self.damaged(at, "it is not in the journal"))?;
            self.held = (offset, self.fetch(offset)?.0);
            ensure!(within(&self.held), self.damaged(offset, "a piece is missing behind it"));
        }
        Ok(&self.held.1[(at - self.held.0) as usize..])
    }

    /// Adds what was read, or that there is no more. Durable when it returns.
    pub fn append(&mut self, bytes: &[u8]) -> Result<()> {
        let ended = bytes.is_empty();
        let rest = [&[u8::from(ended)], bytes].concat();
        let piece = [self.check(self.end, &rest).as_slice(), &rest].concat();
        let lost = format!("{} bytes of standard input that were read cannot be stored", bytes.len());
        self.create(&self.key(self.end)?, &piece).context(lost)?;
        if ended {
            self.ended = true;
            return Ok(());
        }
        self.pieces.push(self.end);
        self.held = (self.end, bytes.into());
        self.end += bytes.len() as u64;
        Ok(())
    }

    /// Makes the object.
    fn create(&self, key: &Key, piece: &[u8]) -> Result<()> {
        retried(|| {
            let problem = match self.store.create(key, piece) {
                Ok(Created::Yes) => return Ok(Ok(())),
                Ok(Created::Exists) => None,
                Err(error) => Some(error),
            };
            // There is one; or there may be, and only the reply was lost.
            match (self.store.get_at_most(key, (HEAD + PIECE_MAX) as u64), problem) {
                (Ok(found), _) if found == piece => Ok(self.store.settle(key.as_str()).map_err(Into::into)),
                (Ok(_), _) => Ok(Err(JobError::Fenced { job: self.job.clone() }.into())),
                (Err(_), Some(error)) | (Err(error), None) => Err(error),
            }
        })?
    }
}

/// Does it again for a while: a store that is away for a moment, or a disk that is full, does not cost what was read.
pub(super) fn retried<T, E>(mut attempt: impl FnMut() -> Result<T, E>) -> Result<T, E> {
    for wait in RETRIES {
        match attempt() {
            Err(_) => thread::sleep(wait),
            done => return done,
        }
    }
    attempt()
}

/// Standard input of a job: the journal, and what comes behind it.
struct Input {
    journal: Journal,
    source: OwnedFd,
    is_terminal: bool,
    /// The source stands where the journal ends.
    caught_up: bool,
    /// Bytes of the source that were compared and passed over.
    passed: u64,
    /// The source has ended, and the guest has not been told.
    has_ended: bool,
    buffer: Vec<u8>,
    /// None before anything behind the journal was asked for.
    intake: Option<Intake>,
    from: InputFrom,
}

impl std::fmt::Debug for Input {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Input")
            .field("source", &self.source)
            .field("end", &self.journal.end)
            .finish_non_exhaustive()
    }
}

/// What reading the source has come to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Got {
    /// This many bytes, in the buffer; 0 is the end.
    Bytes(usize),
    /// Nothing yet, and one cannot wait.
    Nothing,
}

/// What the guest reads: with a journal, if that is needed for it.
///
/// # Errors
/// The journal is damaged, or what the store reports.
pub(super) fn journalled(
    job: &Job,
    stdin: Stdin,
    from: Option<InputFrom>,
    streams: &StreamState,
) -> Result<Stdin> {
    // A file is checked and repositioned; what has ended gives nothing more.
    if streams.stdin_file.is_some() || streams.stdin_ended {
        return Ok(stdin);
    }
    let read = streams.stdin_read;
    let journal = || {
        Journal::open(job.jobs().store().clone(), job.name(), job.begin_number(), read)
            .context("standard input")
    };
    let (source, journal) = match stdin {
        Stdin::Stream(fd) => {
            let journal = journal()?;
            let kind = FileType::from_raw_mode(rustix::fs::fstat(&fd)?.st_mode);
            let plain = !matches!(kind, FileType::Fifo | FileType::Socket) && !isatty(&fd);
            // Of a device such as /dev/null nothing can be lost.
            if plain && journal.is_new() {
                return Ok(Stdin::Stream(fd));
            }
            (fd, journal)
        }
        Stdin::File { file, base } => {
            let journal = journal()?;
            if journal.is_new() {
                return Ok(Stdin::File { file, base });
            }
            rustix::fs::seek(&file, rustix::fs::SeekFrom::Start(base))?;
            (OwnedFd::from(file), journal)
        }
        Stdin::Null => {
            let journal = journal()?;
            if journal.is_new() {
                return Ok(Stdin::Null);
            }
            (OwnedFd::from(File::open("/dev/null")?), journal)
        }
        // The embedder's own business.
        Stdin::Bytes(_) | Stdin::Other(_) => return Ok(stdin),
    };
    Ok(Stdin::Other(Box::new(Input::new(journal, source, from)?)))
}

impl Journal {
    /// Nothing was ever read.
    pub fn is_new(&self) -> bool {
        self.pieces.is_empty() && self.end == 0 && !self.ended
    }
}

impl Input {
    fn new(journal: Journal, source: OwnedFd, from: Option<InputFrom>) -> Result<Self> {
        let is_terminal = isatty(&source);
        // Only the number of bytes is known that were read where there is no journal of them.
        let unknown = journal.first() > 0;
        let from = match from {
            Some(from) => from,
            None if is_terminal => InputFrom::Now,
            None if unknown && !journal.ended => {
                let (job, read) = (journal.job.clone(), journal.first());
                return Err(JobError::InputUnknown { job, read }.into());
            }
            None => InputFrom::Start,
        };
        // The more the producer can write while a piece is being stored, the larger is the next one. Where it
        // may not be enlarged it is slower.
        let _ = rustix::pipe::fcntl_setpipe_size(&source, PIECE_MAX);
        let caught_up = from == InputFrom::Now || journal.end == 0;
        let (passed, has_ended, buffer, intake) = (0, false, vec![], None);
        Ok(Self { journal, source, is_terminal, caught_up, passed, has_ended, buffer, intake, from })
    }

    /// Brings bytes into the journal, or its end; false if there are none yet. Waits if it may.
    fn advance(&mut self, wait: Option<&Interrupt>) -> Result<bool> {
        if !self.catch_up(wait)? {
            return Ok(false);
        }
        if self.intake.is_none() && self.begin_intake().map_err(|error| not_the_guests(&error))? {
            return Ok(true);
        }
        // A line of a terminal at a time: its end may come next, and is not to be passed over.
        let most = if self.is_terminal { 1 } else { usize::MAX };
        match self.fill(PIECE_MAX, most, wait)? {
            Got::Nothing => return Ok(false),
            Got::Bytes(0) if self.is_terminal => self.has_ended = true,
            Got::Bytes(_) => self.journal.append(&self.buffer)?,
        }
        if let Some(intake) = &mut self.intake {
            intake.settle().map_err(|error| not_the_guests(&error.into()))?;
        }
        Ok(true)
    }

    /// From here on what comes goes into the journal. What a process before had taken from the pipe, and could
    /// not bring there, comes first: whether there is any.
    fn begin_intake(&mut self) -> Result<bool> {
        let Journal { store, job, begin, end, .. } = &self.journal;
        let (mut intake, late) = Intake::open(&**store, job, *begin, *end)
            .context("the working file for standard input cannot be made")?;
        // If all comes again from the start, that does as well.
        let comes_again = self.from == InputFrom::Start;
        if !comes_again {
            for piece in late.chunks(PIECE_MAX) {
                self.journal.append(piece)?;
            }
        }
        intake.restart(self.journal.end)?;
        self.intake = Some(intake);
        Ok(!late.is_empty() && !comes_again)
    }

    /// Passes over the bytes of the source that are in the journal; false if there are not enough yet.
    fn catch_up(&mut self, wait: Option<&Interrupt>) -> Result<bool> {
        while !self.caught_up {
            let (job, end, first) = (self.journal.job.clone(), self.journal.end, self.journal.first());
            let left = usize::try_from(end - self.passed).unwrap_or(usize::MAX);
            match self.fill(left.min(PIECE_MAX), usize::MAX, wait)? {
                Got::Nothing => return Ok(false),
                Got::Bytes(0) => {
                    return Err(JobError::InputShort { job, read: end, found: self.passed }.into());
                }
                Got::Bytes(_) => {}
            }
            let mut bytes = self.buffer.as_slice();
            let unknown = usize::try_from(first.saturating_sub(self.passed)).unwrap_or(usize::MAX);
            bytes = &bytes[unknown.min(bytes.len())..];
            let mut at = self.passed + (self.buffer.len() - bytes.len()) as u64;
            while !bytes.is_empty() {
                let known = self.journal.at(at)?;
                let n = known.len().min(bytes.len());
                if let Some(differs) = (0..n).find(|n| known[*n] != bytes[*n]) {
                    let at = at + differs as u64;
                    return Err(JobError::InputDiffers { job, read: end, at }.into());
                }
                (at, bytes) = (at + n as u64, &bytes[n..]);
            }
            self.passed += self.buffer.len() as u64;
            self.caught_up = self.passed == end;
        }
        Ok(true)
    }

    /// Reads the source into the buffer: what is there without waiting, up to `max` bytes in `times` reads.
    fn fill(&mut self, max: usize, times: usize, wait: Option<&Interrupt>) -> Result<Got> {
        self.buffer.resize(max, 0);
        let mut len = 0;
        for _ in 0..times {
            let ready = match wait.filter(|_| len == 0) {
                Some(interrupt) => interrupt.wait_for(self.source.as_fd())?,
                None => is_ready(self.source.as_fd())?,
            };
            if !ready || len == max {
                break;
            }
            let taken = match &mut self.intake {
                Some(intake) => {
                    let taken = intake.take(self.source.as_fd(), &mut self.buffer[len..]);
                    taken.map_err(|error| {
                        StoreError::from_io("write", "the working file for standard input", error)
                    })?
                }
                None => rustix::io::read(&self.source, &mut self.buffer[len..]),
            };
            match taken {
                Ok(0) if len > 0 => break,
                Ok(0) => {
                    self.buffer.clear();
                    return Ok(Got::Bytes(0));
                }
                Ok(n) => len += n,
                Err(Errno::INTR | Errno::AGAIN) => {}
                // It will come again.
                Err(_) if len > 0 => break,
                Err(error) => return Err(io::Error::from(error).into()),
            }
        }
        self.buffer.truncate(len);
        Ok(if len == 0 { Got::Nothing } else { Got::Bytes(len) })
    }
}

fn is_ready(fd: BorrowedFd<'_>) -> io::Result<bool> {
    let mut fds = [PollFd::from_borrowed_fd(fd, PollFlags::IN)];
    match poll(&mut fds, Some(&Timespec { tv_sec: 0, tv_nsec: 0 })) {
        Ok(_) => Ok(!fds[0].revents().is_empty()),
        Err(Errno::INTR) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

impl wasi::Input for Input {
    fn read(&mut self, at: u64, buffer: &mut [u8], interrupt: &Interrupt) -> Result<Option<usize>> {
        while at >= self.journal.end {
            if self.journal.ended || std::mem::take(&mut self.has_ended) {
                return Ok(Some(0));
            }
            if !self.advance(Some(interrupt))? && interrupt.is_requested() {
                return Ok(None);
            }
        }
        let mut len = 0;
        while len < buffer.len() && at + (len as u64) < self.journal.end {
            let known = self.journal.at(at + len as u64)?;
            let n = known.len().min(buffer.len() - len);
            buffer[len..len + n].copy_from_slice(&known[..n]);
            len += n;
        }
        Ok(Some(len))
    }

    fn is_ready(&mut self, at: u64) -> Result<bool> {
        while at >= self.journal.end && !self.journal.ended && !self.has_ended {
            if !self.advance(None)? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn as_fd(&self) -> BorrowedFd<'_> {
        self.source.as_fd()
    }

    fn is_terminal(&self) -> bool {
        self.is_terminal
    }
}

/// The error of a file of ours, which is none of the number that the system gave: the guest, whose input it is not,
/// would be told that.
fn not_the_guests(error: &anyhow::Error) -> anyhow::Error {
    anyhow::anyhow!("{error:#}")
}
