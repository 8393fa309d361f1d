//! The log of a job: what happened, in order, and who may write on.
//!
//! Entry `seq` is the object `jobs/<name>/log/<seq>`, made by the one atomic step that every store has,
//! create-if-absent: JSON that begins with a hash of the rest. An entry is never changed, and none is removed before the job is or it is folded (`fold.rs`). So
//! the entries are the fence between runners, without any clock: a runner that was only asleep while another took over
//! finds that its next entry exists already and is not its own, or is folded, and stops.
//!
//! ```text
//! Begin   a run of the command from its start, or from a snapshot
//! Claim   a process runs it now, and its output goes there
//! Commit  a snapshot: what it names was durable before
//! Stop    the process has paused it and ended
//! Done    the program has ended, with this result
//! ```
//!
//! A job can have several beginnings (`--new`, or the same command after it ended); what counts is the last.
//! Each entry says where the job stands with it, so that one finds that out from the last entry, however many
//! there are.

use std::time::{SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use super::disks::FinalDisk;
use super::keeper::{Keeper, STEP};
use super::{JobError, JobName, Jobs, Spec, fold};
use crate::digest::{ChunkId, SnapshotId};
use crate::machine::{Loading, Source};
use crate::snapshot::Value;
use crate::store::{Created, Hold, Key, Store, StoreError};

/// Version of the entries.
const FORMAT: u32 = 1;
/// Begins an entry that has a hash; then comes that, and what it is of.
const SEAL: &[u8] = br#"{"hash":""#;
/// Begins an entry of a version that gave none.
const NO_SEAL: &[u8] = br#"{"format":"#;
/// Longest entry in bytes: arguments and environment are the most of it, and they are bounded by 32 MiB.
const ENTRY_MAX: u64 = 256 << 20;

/// One entry.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Entry {
    /// Version of the entry.
    pub format: u32,
    /// A number of the writer's choice, by which it knows its own entries.
    pub nonce: String,
    /// When it was written: milliseconds since 1970. To be shown, not to be relied on.
    pub time: u64,
    /// Where the job stands with this entry.
    pub stand: Stand,
    /// What happened.
    pub event: Event,
}

/// Where a job stands: the numbers of the entries that matter.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stand {
    /// The last beginning.
    pub begin: u64,
    /// The last claim since.
    pub claim: Option<u64>,
    /// The last commit since.
    pub head: Option<u64>,
    /// How many commits there are since.
    pub commits: u64,
}

impl Stand {
    /// Where the job stands when this event is its entry `seq`.
    fn after(self, seq: u64, event: &Event) -> Self {
        match event {
            Event::Begin(_) => Self { begin: seq, ..Self::default() },
            Event::Claim(_) => Self { claim: Some(seq), ..self },
            Event::Commit(_) => Self { head: Some(seq), commits: self.commits + 1, ..self },
            Event::Stop | Event::Done(_) => self,
        }
    }
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Event {
    /// The job begins.
    Begin(Begin),
    /// A process runs it now.
    Claim(Claim),
    /// A snapshot is complete.
    Commit(Commit),
    /// The process has left it, after its last commit, in good order.
    Stop,
    /// The program has ended.
    Done(Done),
}

/// A beginning.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Begin {
    /// What runs.
    pub spec: Spec,
    /// Seed of the guest's random generator, if it begins at the start.
    pub seed: [u8; 32],
    /// The snapshot that it begins with, instead of the program's start.
    pub origin: Option<Origin>,
}

/// A snapshot that a job begins with.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Origin {
    /// The snapshot.
    pub snapshot: SnapshotId,
    /// Its fuel.
    pub fuel: u64,
    /// It was made on another host, whose paths mean nothing here.
    pub foreign: bool,
    /// Another job goes on from it as well: this one gets random numbers of its own.
    #[serde(default)]
    pub fork: bool,
}

/// A runner.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Claim {
    /// Its process.
    pub pid: u32,
    /// Where standard output and error go, where that is a file.
    pub sinks: [Option<SinkFile>; 2],
    /// How many snapshots the job keeps from here on, the last ones; all if absent.
    #[serde(default)]
    pub retain: Option<u64>,
}

/// A file that output goes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct SinkFile {
    /// Device.
    pub dev: u64,
    /// Inode number.
    pub ino: u64,
    /// When it was made, in ns since 1970, since inode numbers are used again; 0 if that is not known.
    pub born: u64,
    /// Offset in it of the first byte of the job that is there.
    pub base: u64,
    /// Which byte of the job's output that is: 0 unless what was printed before was left out.
    #[serde(default)]
    pub first: u64,
}

/// A snapshot of the job.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Commit {
    /// The snapshot.
    pub snapshot: SnapshotId,
    /// Fuel consumed since the program began.
    pub fuel: u64,
    /// Size of the guest's memories in bytes.
    pub memory: u64,
    /// New chunks, and their bytes before and after compression.
    pub chunks: u64,
    /// See `chunks`.
    pub new_bytes: u64,
    /// See `chunks`.
    pub stored_bytes: u64,
    /// Bytes of the manifest.
    pub manifest_bytes: u64,
    /// For how long the guest stood still, in microseconds.
    pub pause_us: u64,
    /// How long it took from when the guest was stopped until all but this entry was durable, in microseconds.
    #[serde(default)]
    pub durable_us: u64,
    /// Bytes of the pages of memory that may have changed since the snapshot before, and were looked at.
    #[serde(default)]
    pub dirty_bytes: Option<u64>,
    /// Where that was known from.
    #[serde(default)]
    pub source: Option<Source>,
    /// How the process that has taken it had restored the memories, if it had.
    #[serde(default)]
    pub restored: Option<Loading>,
}

/// The end of the program.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Done {
    /// How it ended.
    pub ending: Ending,
    /// Fuel consumed in all.
    pub fuel: u64,
    /// What it printed.
    pub output: Printed,
    /// Its private disks.
    #[serde(default)]
    pub disks: Vec<FinalDisk>,
}

/// How a program ends.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Ending {
    /// The function returned.
    Returned(Vec<Value>),
    /// It called `proc_exit`.
    Exited(u32),
    /// It trapped.
    Trapped {
        /// What happened, in the engine's words.
        message: String,
        /// The call stack, innermost first: function index, and byte offset in the module.
        frames: Vec<(u32, Option<u64>)>,
    },
}

/// All that a program has printed: the content of its streams, as chunks of the store.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Printed {
    /// Standard output and error.
    pub streams: [PrintedStream; 2],
    /// In which order they were written to: bytes to the one, then to the other, and so on.
    pub runs: Vec<u64>,
}

/// All that was printed on one stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct PrintedStream {
    /// Bytes that were printed.
    pub written: u64,
    /// Bytes of them that are kept, from the first on.
    pub kept: u64,
    /// Root of their page tree.
    pub root: ChunkId,
}

impl Default for PrintedStream {
    fn default() -> Self {
        Self { written: 0, kept: 0, root: ChunkId::ZERO }
    }
}

/// Where a job stands: what its log says since the last beginning.
#[derive(Debug, Clone, PartialEq)]
pub struct Status {
    /// The beginning.
    pub begin: Begin,
    /// When it began: milliseconds since 1970.
    pub began: u64,
    /// When the last entry was written.
    pub changed: u64,
    /// The last commit.
    pub head: Option<Commit>,
    /// How many commits there are since the beginning.
    pub commits: u64,
    /// The last claim.
    pub claim: Option<Claim>,
    /// The last runner has left it in good order.
    pub stopped: bool,
    /// The end.
    pub done: Option<Done>,
}

impl Status {
    /// The snapshot to go on from: its last one, or the one that it began with.
    pub fn snapshot(&self) -> Option<SnapshotId> {
        let origin = || self.begin.origin.as_ref().map(|origin| origin.snapshot);
        self.head.as_ref().map(|head| head.snapshot).or_else(origin)
    }

    /// Fuel consumed up to that snapshot, or in all.
    pub fn fuel(&self) -> u64 {
        let origin = || self.begin.origin.as_ref().map(|origin| origin.fuel);
        let head = || self.head.as_ref().map(|head| head.fuel);
        self.done.as_ref().map(|done| done.fuel).or_else(head).or_else(origin).unwrap_or(0)
    }
}

/// All keys of jobs begin with this.
pub(super) const JOBS: &str = "jobs/";

/// The prefix of the keys of a job's log.
pub(super) fn prefix(job: &JobName) -> String {
    format!("{JOBS}{job}/log/")
}

/// The job of a key, and the number of the entry.
pub(super) fn parse(key: &Key) -> Option<(JobName, u64)> {
    let mut parts = key.as_str().strip_prefix(JOBS)?.splitn(3, '/');
    let (job, log, seq) = (parts.next()?, parts.next()?, parts.next()?);
    if log != "log" || seq.len() != 16 {
        return None;
    }
    Some((job.parse().ok()?, seq.parse().ok()?))
}

/// Key of an entry.
pub(super) fn entry_key(job: &JobName, seq: u64) -> Result<Key, StoreError> {
    Key::new(format!("{}{seq:016}", prefix(job)))
}

/// The numbers of a job's entries, ascending.
pub(super) fn list(store: &dyn Store, job: &JobName) -> Result<Vec<u64>, StoreError> {
    Ok(store.list(&prefix(job))?.iter().filter_map(parse).map(|(_, seq)| seq).collect())
}

/// Reads one entry.
pub(super) fn read(store: &dyn Store, job: &JobName, seq: u64) -> anyhow::Result<Entry> {
    let bytes = store.get_at_most(&entry_key(job, seq)?, ENTRY_MAX)?;
    Ok(decode(job, seq, &bytes)?)
}

/// An entry as JSON whose first field is a hash of all that follows it.
pub(super) fn seal(entry: &impl Serialize) -> serde_json::Result<Vec<u8>> {
    let json = serde_json::to_vec(entry)?;
    let rest = json.strip_prefix(b"{").unwrap_or_default();
    Ok([SEAL, blake3::hash(rest).to_hex().as_bytes(), b"\",", rest].concat())
}

/// Checks the hash, if it has one.
pub(super) fn check_seal(bytes: &[u8]) -> Result<(), &'static str> {
    let sealed = bytes.strip_prefix(SEAL).and_then(|sealed| sealed.split_at_checked(64));
    let sealed = sealed.and_then(|(hash, rest)| Some((hash, rest.strip_prefix(b"\",")?)));
    let whole = sealed
        .map_or(bytes.starts_with(NO_SEAL), |(hash, rest)| blake3::hash(rest).to_hex().as_bytes() == hash);
    if whole { Ok(()) } else { Err("its bytes do not fit its hash") }
}

fn decode(job: &JobName, seq: u64, bytes: &[u8]) -> Result<Entry, JobError> {
    // The version first: a later one may have any form.
    #[derive(Deserialize)]
    struct Version {
        format: u32,
    }
    let damaged = |problem: &dyn std::fmt::Display| JobError::DamagedLog {
        job: job.clone(),
        seq,
        problem: problem.to_string(),
    };
    check_seal(bytes).map_err(|problem| damaged(&problem))?;
    let Version { format: found } = serde_json::from_slice(bytes).map_err(|e| damaged(&e))?;
    if found > FORMAT {
        return Err(JobError::NewerLog { job: job.clone(), seq, found, known: FORMAT });
    }
    serde_json::from_slice(bytes).map_err(|e| damaged(&e))
}

/// Reads where a job stands, and its last entry's number; nothing if there is no such job.
pub(super) fn status(store: &dyn Store, job: &JobName) -> anyhow::Result<Option<(Status, Last)>> {
    let Some(last) = fold::last(store, job)? else { return Ok(None) };
    let entry = read(store, job, last)?;
    let stand = entry.stand;
    let entry_at = |seq| if seq == last { Ok(entry.clone()) } else { read(store, job, seq) };
    let other = |seq, what| {
        let problem = format!("it is no {what}, and entry {last} says that it is");
        JobError::DamagedLog { job: job.clone(), seq, problem }
    };
    let begun = entry_at(stand.begin)?;
    let Event::Begin(begin) = begun.event else { return Err(other(stand.begin, "beginning").into()) };
    let (mut claim, mut head) = (None, None);
    if let Some(seq) = stand.claim {
        let Event::Claim(found) = entry_at(seq)?.event else { return Err(other(seq, "claim").into()) };
        claim = Some(found);
    }
    if let Some(seq) = stand.head {
        let Event::Commit(found) = entry_at(seq)?.event else { return Err(other(seq, "commit").into()) };
        head = Some(found);
    }
    let (began, changed, commits) = (begun.time, entry.time, stand.commits);
    let stopped = matches!(entry.event, Event::Stop | Event::Done(_));
    let done = match entry.event {
        Event::Done(done) => Some(done),
        _ => None,
    };
    let status = Status { begin, began, changed, head, commits, claim, stopped, done };
    Ok(Some((status, Last { seq: last, stand })))
}

/// The last entry of a log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Last {
    /// Its number.
    pub seq: u64,
    /// Where the job stands with it.
    pub stand: Stand,
}

/// The end of a log, for the one who writes it.
pub(super) struct Writer {
    job: JobName,
    nonce: String,
    next: u64,
    stand: Stand,
    /// How many snapshots the job keeps.
    retain: Option<u64>,
    /// Where there is something to keep in order.
    jobs: Option<Jobs>,
    keeper: Option<Keeper>,
    /// The job's: let go of when the keeper has ended.
    lease: Option<Box<dyn Hold>>,
}

impl Writer {
    /// Writes on behind the entry `last`.
    pub fn new(job: &JobName, last: Option<Last>) -> anyhow::Result<Self> {
        let mut nonce = [0; 16];
        getrandom::fill(&mut nonce).map_err(|e| anyhow::anyhow!("the system gives no random bytes: {e}"))?;
        let nonce = nonce.iter().map(|b| format!("{b:02x}")).collect();
        let (next, stand) = last.map_or((0, Stand::default()), |last| (last.seq + 1, last.stand));
        Ok(Self { job: job.clone(), nonce, next, stand, retain: None, jobs: None, keeper: None, lease: None })
    }

    /// Keeps logs and packs few while it writes, and has this lease of the job.
    pub fn kept(self, jobs: &Jobs, lease: Box<dyn Hold>) -> Self {
        Self { jobs: Some(jobs.clone()), lease: Some(lease), ..self }
    }

    /// Number of the next entry.
    pub fn next(&self) -> u64 {
        self.next
    }

    /// Where the job stands with the last entry.
    pub fn stand(&self) -> Stand {
        self.stand
    }

    /// Appends an entry durably; fails with [`JobError::Fenced`] if another has written on.
    pub fn append(&mut self, store: &dyn Store, event: Event) -> anyhow::Result<()> {
        if let Event::Claim(claim) = &event {
            self.retain = claim.retain;
        }
        let is_commit = matches!(event, Event::Commit(_));
        self.append_entry(store, event)?;
        let commits = self.stand.commits;
        if let Some(jobs) = self.jobs.as_ref().filter(|_| is_commit && commits >= STEP) {
            if self.keeper.is_none() {
                self.keeper = Keeper::start(jobs, &self.job, self.retain, commits - 1);
            }
            self.keeper.iter().for_each(|keeper| keeper.committed(commits));
        }
        Ok(())
    }

    fn append_entry(&mut self, store: &dyn Store, event: Event) -> anyhow::Result<()> {
        match self.lease.as_ref().map_or(Ok(()), |lease| lease.check()) {
            Err(StoreError::Lapsed { .. }) => return Err(JobError::Fenced { job: self.job.clone() }.into()),
            checked => checked?,
        }
        loop {
            let (time, stand) = (now(), self.stand.after(self.next, &event));
            let entry =
                Entry { format: FORMAT, nonce: self.nonce.clone(), time, stand, event: event.clone() };
            let bytes = seal(&entry)?;
            let key = entry_key(&self.job, self.next)?;
            let problem = match store.create(&key, &bytes) {
                Ok(Created::Yes) => {
                    fold::check_fence(store, &self.job, self.next)?;
                    (self.next, self.stand) = (self.next + 1, stand);
                    return Ok(());
                }
                Ok(Created::Exists) => None,
                Err(error) => Some(error),
            };
            // There is an entry; or there may be one, and only the reply was lost.
            let found = match (store.get_at_most(&key, ENTRY_MAX), problem) {
                (Ok(found), _) => decode(&self.job, self.next, &found)?,
                (Err(_), Some(error)) | (Err(error), None) => return Err(error.into()),
            };
            if found.nonce != self.nonce {
                return Err(JobError::Fenced { job: self.job.clone() }.into());
            }
            fold::check_fence(store, &self.job, self.next)?;
            store.settle(key.as_str())?;
            (self.next, self.stand) = (self.next + 1, found.stand);
            if found.event == event {
                return Ok(());
            }
            // An entry of a former attempt, which was thought to have failed: write behind it.
        }
    }
}

/// Milliseconds since 1970.
pub(super) fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_millis() as u64)
}
