//! Delivering output exactly once: what is durable goes to its sinks in steps, each of which is counted.
//!
//! The count lives in a small file of this machine, not in the store: what it says is true only as long as the
//! reader of a pipe lives, and so until the machine is started anew. A step is
//!
//! ```text
//! 1. the file says: `done` bytes have arrived, and `len` more are about to
//! 2. the bytes are written
//! 3. the file says: `done + len` bytes have arrived
//! ```
//!
//! SIGKILL loses neither: what `write(2)` has given to the system stays. A process that dies between 1 and 3
//! leaves open whether 2 was done:
//!
//! - *A regular file* is cut off at `done`, so 2 is done again.
//! - *A pipe or FIFO.* At most 4096 bytes are written in a step, which the system does whole or not at all. They
//!   are not written but spliced, out of a file in `/dev/shm` whose time of last access was set far back before: the
//!   same system call that puts the bytes into the pipe brings that time up to date, and a process cannot be killed
//!   in between. So that time tells whether 2 was done. (It must be a tmpfs: other file systems look whether the
//!   process is to die after they have decided to bring the time up to date, and before they give the page. If it
//!   cannot be had, or keeps no times of access, it is as with a socket.)
//! - *A socket or terminal.* It cannot be known. The bytes are delivered again, and that is said.
//!
//! Each step of a pipe has a page of the file for itself, which is not written again: the pipe holds the page, not
//! a copy of it.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::{Timespec, Timestamps, UTIME_OMIT, futimens};
use rustix::pipe::{SpliceFlags, splice};
use serde::{Deserialize, Serialize};

use super::sinks::{Place, Sink};
use super::{JobName, working};
use crate::store::Store;

/// Longest step into anything but a regular file, in bytes: `PIPE_BUF`, up to which a pipe takes all or nothing.
const STEP: usize = 4096;
/// Longest step into a regular file.
const FILE_STEP: usize = 1 << 20;
/// So often who waits for room looks whether it is to wait on.
const LOOK: Timespec = Timespec { tv_sec: 0, tv_nsec: 50_000_000 };
/// The file with the steps is made anew at this length.
const SPOOL_MAX: u64 = 4 << 20;
/// The time of last access, in seconds since 1970, of a file out of which nothing was spliced yet. Before every
/// other time of the file, so that the usual `relatime` brings it up to date.
const UNTOUCHED: i64 = 1;
/// `TMPFS_MAGIC` of `linux/magic.h`.
const TMPFS: u64 = 0x0102_1994;
/// Longest record, and what the file is read up to.
const RECORD_MAX: usize = 512;

/// What the file says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Record {
    /// What it is about.
    pub about: [u8; 32],
    /// Where the streams go.
    pub places: [Option<Place>; 2],
    /// Bytes of each stream that have arrived.
    pub done: [u64; 2],
    /// The step that was begun.
    pub step: Option<Step>,
}

/// A step that was begun and may have been made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Step {
    stream: u32,
    len: u64,
    spliced: bool,
}

/// How much has been delivered, as far as it is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Delivered {
    /// Where to.
    pub places: [Option<Place>; 2],
    /// Bytes of each stream.
    pub done: [u64; 2],
    /// So many bytes more, of one stream, may have been.
    pub doubtful: [u64; 2],
}

/// Where the count of a job is kept.
pub(super) struct Counter {
    path: PathBuf,
    steps: PathBuf,
    /// Of each stream: there as long as a process that prints at once has written nothing to it.
    silent: [PathBuf; 2],
    about: [u8; 32],
}

/// Delivers in steps that are counted.
pub(super) struct Courier {
    /// None where nothing goes to what could be known again.
    file: Option<File>,
    record: Record,
    spool: Option<Spool>,
}

impl Counter {
    /// The count of the job, which began with this entry of its log. Touches nothing.
    pub fn of(store: &dyn Store, job: &JobName, begin: u64) -> Self {
        let (path, steps) = (working::path(store, job, "delivered"), working::shared_memory(store, job));
        let silent = ["silent-output", "silent-error"].map(|kind| working::path(store, job, kind));
        Self { path, steps, silent, about: working::about(store, job, begin) }
    }

    /// What was delivered; nothing if that is not known.
    pub fn read(&self) -> Option<Delivered> {
        let file = File::open(&self.path).ok()?;
        let mut bytes = [0; RECORD_MAX];
        let len = file.read_at(&mut bytes, 0).ok()?;
        let Record { about, places, mut done, step } = working::decode(&bytes[..len])?;
        if about != self.about {
            return None;
        }
        let mut doubtful = [0; 2];
        if let Some(Step { stream, len, spliced }) = step {
            let stream = (stream as usize).min(1);
            match spliced.then(|| Spool::was_spliced(&self.steps)).flatten() {
                Some(true) => done[stream] += len,
                Some(false) => {}
                None => doubtful[stream] = len,
            }
        }
        Some(Delivered { places, done, doubtful })
    }

    /// Forgets the count: what goes on now is not counted.
    pub fn forget(&self) {
        let _ = fs::remove_file(&self.path);
        let _ = fs::remove_file(&self.steps);
    }

    /// The streams to which the process before printed at once, and had written nothing yet.
    pub fn silent(&self) -> [bool; 2] {
        let is_there = |path: &PathBuf| {
            let mut found = [0; 32];
            let read = File::open(path).and_then(|file| file.read_exact_at(&mut found, 0));
            read.is_ok() && found == self.about
        };
        self.silent.each_ref().map(is_there)
    }

    /// From here on it is printed at once, and nothing is written yet. Gives what is to be removed before something is.
    pub fn begin_silent(&self) -> [Option<PathBuf>; 2] {
        self.silent.each_ref().map(|path| {
            // Without it nothing is claimed.
            let _ = working::open(path).and_then(|file| file.write_all_at(&self.about, 0));
            Some(path.clone())
        })
    }

    /// Counts from here on.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn start(&self, places: [Option<Place>; 2], done: [u64; 2]) -> io::Result<Courier> {
        for path in &self.silent {
            let _ = fs::remove_file(path);
        }
        let record = Record { about: self.about, places, done, step: None };
        let mut courier = Courier { file: None, record, spool: None };
        if places == [None; 2] {
            self.forget();
            return Ok(courier);
        }
        courier.file = Some(working::open(&self.path)?);
        // The count first: the spool decides about a step that is still open.
        courier.save()?;
        if places.iter().flatten().any(|place| place.is_pipe) {
            // Without it a step that was cut short is in doubt.
            courier.spool = Spool::make(&self.steps).unwrap_or_default();
        }
        Ok(courier)
    }
}

impl Courier {
    /// Bytes of each stream that have arrived.
    pub fn done(&self) -> [u64; 2] {
        self.record.done
    }

    /// Delivers the bytes, which follow those that have arrived, until there is no room and it `is_enough`: false then.
    ///
    /// # Errors
    /// As [`Output::write`](crate::wasi::Output::write); what has arrived is counted.
    pub fn put(
        &mut self,
        sink: &mut Sink,
        stream: usize,
        mut bytes: &[u8],
        is_enough: &dyn Fn() -> bool,
    ) -> io::Result<bool> {
        let place = self.record.places[stream];
        let longest = if place.is_some_and(|place| !place.is_file) { STEP } else { FILE_STEP };
        while !bytes.is_empty() {
            let (now, later) = bytes.split_at(step_of(bytes, longest));
            let (Sink::File(file), Some(place)) = (&*sink, place) else {
                sink.write(now)?;
                self.record.done[stream] += now.len() as u64;
                bytes = later;
                continue;
            };
            if !place.is_file && !wait_for_room(file, is_enough)? {
                return Ok(false);
            }
            let spliced = self.spool.is_some() && place.is_pipe;
            if let Some(spool) = self.spool.as_mut().filter(|_| spliced) {
                spool.load(now)?;
            }
            let len = now.len() as u64;
            self.record.step = Some(Step { stream: stream as u32, len, spliced });
            self.save()?;
            match self.spool.as_mut().filter(|_| spliced) {
                Some(spool) => {
                    if let Err(error) = spool.unload(file, now.len()) {
                        // Nothing of it has arrived.
                        self.record.step = None;
                        self.save()?;
                        return Err(error);
                    }
                }
                None => sink.write(now)?,
            }
            self.record.step = None;
            self.record.done[stream] += len;
            self.save()?;
            bytes = later;
        }
        Ok(true)
    }

    fn save(&self) -> io::Result<()> {
        match &self.file {
            Some(file) => file.write_all_at(&working::encode(&self.record, RECORD_MAX)?, 0),
            None => Ok(()),
        }
    }
}

/// Waits until there is room for a step; false if there is none and it `is_enough`.
fn wait_for_room(file: &File, is_enough: &dyn Fn() -> bool) -> io::Result<bool> {
    loop {
        match poll(&mut [PollFd::new(file, PollFlags::OUT)], Some(&LOOK)) {
            Ok(0) | Err(rustix::io::Errno::INTR) => {}
            Ok(_) => return Ok(true),
            Err(error) => return Err(error.into()),
        }
        if is_enough() {
            return Ok(false);
        }
    }
}

/// How many of the bytes are the next step: whole lines, if there is room for one.
fn step_of(bytes: &[u8], longest: usize) -> usize {
    if bytes.len() <= longest {
        return bytes.len();
    }
    bytes[..longest].iter().rposition(|byte| *byte == b'\n').map_or(longest, |at| at + 1)
}

/// The file out of which steps are spliced into pipes.
struct Spool {
    path: PathBuf,
    file: File,
    /// Where the next step goes: a multiple of a page.
    next: u64,
}

impl Spool {
    /// A new file; none if its time of access is not brought up to date here, or not when it must be.
    fn make(path: &Path) -> io::Result<Option<Self>> {
        let mut spool = Self { file: Self::file(path)?, path: path.to_path_buf(), next: 0 };
        if rustix::fs::fstatfs(&spool.file)?.f_type as u64 != TMPFS {
            return Ok(None);
        }
        let (reader, writer) = io::pipe()?;
        spool.load(b"x")?;
        let works = !touched(&spool.file)?
            && splice(&spool.file, Some(&mut 0), &writer, None, 1, SpliceFlags::empty()) == Ok(1)
            && touched(&spool.file)?;
        spool.next = STEP as u64;
        drop(reader);
        Ok(works.then_some(spool))
    }

    /// Over a former one: the pipe holds on to the pages of that.
    fn file(path: &Path) -> io::Result<File> {
        let fresh = path.with_extension("steps-new");
        let _ = fs::remove_file(&fresh);
        let file = working::create(&fresh)?;
        fs::rename(&fresh, path)?;
        Ok(file)
    }

    /// Whether the last step was made; nothing if that cannot be told.
    fn was_spliced(path: &Path) -> Option<bool> {
        // Looked at from outside: to open it would be no harm, to read it would.
        let found = fs::symlink_metadata(path).ok()?;
        let ours = found.is_file() && found.uid() == rustix::process::getuid().as_raw();
        ours.then(|| found.atime() != UNTOUCHED || found.atime_nsec() != 0)
    }

    /// Puts a step into the file.
    fn load(&mut self, bytes: &[u8]) -> io::Result<()> {
        if self.next >= SPOOL_MAX {
            (self.file, self.next) = (Self::file(&self.path)?, 0);
        }
        self.file.write_all_at(bytes, self.next)?;
        let untouched = Timespec { tv_sec: UNTOUCHED, tv_nsec: 0 };
        let as_it_is = Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT };
        Ok(futimens(&self.file, &Timestamps { last_access: untouched, last_modification: as_it_is })?)
    }

    /// Puts the step into the pipe.
    fn unload(&mut self, pipe: &File, len: usize) -> io::Result<()> {
        let mut at = self.next;
        let end = at + len as u64;
        while at < end {
            let left = (end - at) as usize;
            match splice(&self.file, Some(&mut at), pipe, None, left, SpliceFlags::empty()) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                // Another process has made the pipe non-blocking; wait for it all the same.
                Err(rustix::io::Errno::AGAIN) => {
                    poll(&mut [PollFd::new(pipe, PollFlags::OUT)], None)?;
                }
                Err(error) => return Err(error.into()),
            }
        }
        self.next += STEP as u64;
        Ok(())
    }
}

impl Drop for Spool {
    fn drop(&mut self) {
        // No step is open that it could tell of.
        let _ = fs::remove_file(&self.path);
    }
}

fn touched(file: &File) -> io::Result<bool> {
    let found = file.metadata()?;
    Ok(found.atime() != UNTOUCHED || found.atime_nsec() != 0)
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::os::fd::OwnedFd;
    use std::os::unix::net::UnixStream;

    use super::super::log::Printed;
    use super::super::sinks::{Delivery, Former, Plan};
    use super::*;
    use crate::store::Local;

    /// A courier to one sink, and the count that another process would read.
    fn courier(dir: &Path, sink: OwnedFd) -> (Counter, Courier, [Sink; 2]) {
        let store = Local::open(dir).unwrap();
        let counter = Counter::of(&store, &"x".parse().unwrap(), 3);
        let sinks = [Sink::File(File::from(sink)), Sink::Null];
        let none = Printed::default();
        let former = Former::new([None; 2], false, &none);
        let plan = Plan::new(&sinks, &former, Delivery::default()).unwrap();
        let courier = counter.start(plan.places, plan.there).unwrap();
        (counter, courier, sinks)
    }

    /// Begins a step as [`Courier::put`] does, and is killed before it is counted.
    fn cut_short(courier: &mut Courier, sinks: &mut [Sink; 2], bytes: &[u8], made: bool) {
        let spliced = courier.spool.is_some();
        courier.record.step = Some(Step { stream: 0, len: bytes.len() as u64, spliced });
        if let Some(spool) = &mut courier.spool {
            spool.load(bytes).unwrap();
        }
        courier.save().unwrap();
        if made {
            let Sink::File(file) = &sinks[0] else { unreachable!() };
            match &mut courier.spool {
                Some(spool) => spool.unload(file, bytes.len()).unwrap(),
                None => sinks[0].write(bytes).unwrap(),
            }
        }
    }

    #[test]
    fn a_pipe_tells_whether_a_step_was_made() {
        for made in [false, true] {
            let dir = tempfile::tempdir().unwrap();
            let (mut read, write) = io::pipe().unwrap();
            let (counter, mut courier, mut sinks) = courier(dir.path(), write.into());
            if courier.spool.is_none() {
                println!("SKIPPED: there is no /dev/shm that keeps times of access");
                return;
            }
            courier.put(&mut sinks[0], 0, b"first ", &|| false).unwrap();
            assert_eq!(counter.read().unwrap().done, [6, 0]);
            cut_short(&mut courier, &mut sinks, b"second", made);
            let found = counter.read().unwrap();
            assert_eq!((found.done, found.doubtful), ([if made { 12 } else { 6 }, 0], [0, 0]));
            // The pipe holds what it was given, whatever is done with the file.
            drop((courier, sinks));
            let mut all = String::new();
            read.read_to_string(&mut all).unwrap();
            assert_eq!(all, if made { "first second" } else { "first " });
            // A later beginning, or another store, knows nothing of it.
            let store = Local::open(dir.path()).unwrap();
            assert!(Counter::of(&store, &"x".parse().unwrap(), 4).read().is_none());
            counter.forget();
            assert!(counter.read().is_none());
        }
    }

    #[test]
    fn a_socket_leaves_it_in_doubt_and_only_then() {
        let dir = tempfile::tempdir().unwrap();
        let (_read, write) = UnixStream::pair().unwrap();
        let (counter, mut courier, mut sinks) = courier(dir.path(), write.into());
        courier.put(&mut sinks[0], 0, b"first ", &|| false).unwrap();
        let found = counter.read().unwrap();
        assert_eq!((found.done, found.doubtful), ([6, 0], [0, 0]));
        cut_short(&mut courier, &mut sinks, b"second", true);
        let found = counter.read().unwrap();
        assert_eq!((found.done, found.doubtful), ([6, 0], [6, 0]));
    }

    #[test]
    fn much_goes_through_a_pipe_in_whole_lines_and_as_it_was() {
        let dir = tempfile::tempdir().unwrap();
        let (mut read, write) = io::pipe().unwrap();
        let (counter, mut courier, mut sinks) = courier(dir.path(), write.into());
        let all: String = (0..800_000).map(|n| format!("{n}\n")).collect();
        let text = all.clone();
        let reader = std::thread::spawn(move || {
            let mut all = vec![];
            read.read_to_end(&mut all).unwrap();
            all
        });
        courier.put(&mut sinks[0], 0, text.as_bytes(), &|| false).unwrap();
        assert!(text.len() as u64 > SPOOL_MAX && counter.read().unwrap().done[0] == text.len() as u64);
        drop((courier, sinks));
        assert!(reader.join().unwrap() == all.as_bytes());
        assert_eq!([step_of(b"ab\ncd\nef", 7), step_of(b"abcdefgh", 7), step_of(b"ab\ncd", 7)], [6, 7, 5]);
    }

    #[test]
    fn a_damaged_count_is_none() {
        let dir = tempfile::tempdir().unwrap();
        let (_read, write) = io::pipe().unwrap();
        let (counter, courier, _sinks) = courier(dir.path(), write.into());
        assert!(counter.read().is_some());
        drop(courier);
        for at in [0, 33, 40, 60] {
            let mut bytes = fs::read(&counter.path).unwrap();
            bytes[at] ^= 1;
            fs::write(&counter.path, &bytes).unwrap();
            assert!(counter.read().is_none(), "byte {at}");
            bytes[at] ^= 1;
            fs::write(&counter.path, &bytes).unwrap();
        }
        assert!(counter.read().is_some());
    }
}
