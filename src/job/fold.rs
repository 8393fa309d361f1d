//! Old entries of a job's log, folded into few objects, and which snapshots are kept.
//!
//! The object `jobs/<name>/past/<end>` holds entries before number `end` that are still of interest; what is of none
//! are entries from before the last beginning, and released snapshots. Once it is durable the entries before `end`
//! are removed, but for those that say where the job stands. The last entry is never folded. So however long a job
//! runs, its log has few objects, and where it stands is found as fast as on its first day.
//!
//! *Released snapshots.* A job keeps its last N (as its last claim says); the log forgets the others, a sweep removes
//! them. What has been released stays so, whatever a later claim says: `released` is durable before anything goes.
//!
//! *Who folds* has the job's lease: nobody removes the job, or begins it again, meanwhile.
//!
//! *The fence holds.* A runner that slept, and finds the place of its next entry free, since that one was folded
//! and removed, finds an `end` behind it as well: that was there before any entry was removed.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result, ensure};
use serde::{Deserialize, Serialize};

use super::log::{self, Entry, Event, JOBS, Stand};
use super::transfer::is_missing;
use super::{JobError, JobName};
use crate::store::{Created, Key, Store, StoreError};

/// Version of the folded form.
const FORMAT: u32 = 1;
/// A log is folded when so many entries are objects of their own.
const ENTRIES: usize = 128;
/// A folded object with fewer entries is taken up into the next one.
const SMALL: usize = 1024;
/// Longest folded object in bytes: some MiB, but for jobs with very long command lines.
const SEGMENT_MAX: u64 = 1 << 30;
/// How often reading starts over when another process folds the log meanwhile.
const TRIES: u32 = 20;

/// A folded part of a log.
#[derive(Serialize, Deserialize)]
struct Segment {
    format: u32,
    /// Snapshots before this entry are released.
    released: u64,
    entries: Vec<(u64, Entry)>,
}

/// What is left of a log since the last beginning.
struct Loaded {
    last: u64,
    stand: Stand,
    /// Numbers of the entries that are objects of their own.
    own: Vec<u64>,
    /// Number of the first entry that is not folded.
    end: u64,
    /// All, or the last ones.
    segments: Vec<(u64, Segment)>,
    /// Ends of segments from before the last beginning.
    stale: Vec<u64>,
    entries: BTreeMap<u64, Entry>,
    /// Snapshots before this entry were released when the log was folded.
    was_released: u64,
    /// Snapshots before this entry are released.
    released: u64,
}

fn prefix(job: &JobName) -> String {
    format!("{JOBS}{job}/past/")
}

fn key(job: &JobName, end: u64) -> Result<Key, StoreError> {
    Key::new(format!("{}{end:016}", prefix(job)))
}

fn ends(store: &dyn Store, job: &JobName) -> Result<Vec<u64>, StoreError> {
    Ok(store.list(&prefix(job))?.iter().filter_map(|key| key.name().parse().ok()).collect())
}

/// Number of the first entry that has not been folded.
pub(super) fn end(store: &dyn Store, job: &JobName) -> Result<u64, StoreError> {
    Ok(ends(store, job)?.last().copied().unwrap_or(0))
}

/// The numbers of the entries that are objects of their own, and the ends of what is folded.
type Listed = (Vec<u64>, Vec<u64>);

/// What there is of a log; nothing if there is no such job, or its removal was cut short.
fn listed(store: &dyn Store, job: &JobName) -> Result<Option<Listed>, StoreError> {
    let mut before = vec![];
    loop {
        // The entries first: one that is folded meanwhile is in both then, and never in none.
        let own = log::list(store, job)?;
        let ends = ends(store, job)?;
        let Some(last) = own.last() else { return Ok(None) };
        if *last >= ends.last().copied().unwrap_or(0) {
            return Ok(Some((own, ends)));
        }
        // Entries were written and folded between the two lists, or a removal has left these.
        if own == before {
            return Ok(None);
        }
        before = own;
    }
}

/// Number of the last entry of a log; nothing if there is no such job, or its removal was cut short.
pub(super) fn last(store: &dyn Store, job: &JobName) -> Result<Option<u64>, StoreError> {
    Ok(listed(store, job)?.and_then(|(mut own, _)| own.pop()))
}

/// The entries since the last beginning, but for released snapshots, oldest first.
pub(super) fn history(store: &dyn Store, job: &JobName) -> Result<Vec<Entry>> {
    let Some(loaded) = load(store, job, Part::Whole)? else { return Ok(vec![]) };
    Ok(loaded.kept().map(|(_, entry)| entry.clone()).collect())
}

/// The same, with the snapshots of which the log does not say yet that they are released: a later claim may keep
/// them.
pub(super) fn needed(store: &dyn Store, job: &JobName) -> Result<Vec<Entry>> {
    let Some(mut loaded) = load(store, job, Part::Whole)? else { return Ok(vec![]) };
    loaded.released = loaded.was_released;
    Ok(loaded.kept().map(|(_, entry)| entry.clone()).collect())
}

/// How many snapshots since the last beginning are not released.
pub(super) fn kept(store: &dyn Store, job: &JobName) -> Result<u64> {
    let Some(loaded) = load(store, job, Part::Whole)? else { return Ok(0) };
    Ok(loaded.kept().filter(|(_, entry)| matches!(entry.event, Event::Commit(_))).count() as u64)
}

/// Whether there is something to fold.
pub(super) fn is_due(store: &dyn Store, job: &JobName) -> Result<bool> {
    Ok(load(store, job, Part::End)?.is_some_and(|loaded| loaded.is_due()))
}

/// Folds the log, if it is long or snapshots were released since. Whoever does has the job's lease.
///
/// # Errors
/// The log is damaged; what the store reports. What was there can still be read then.
pub(super) fn fold(store: &dyn Store, job: &JobName) -> Result<()> {
    let Some(loaded) = load(store, job, Part::End)?.filter(Loaded::is_due) else { return Ok(()) };
    let Loaded { last, stand, .. } = loaded;
    // Of the folded ones, those at the end that are small, and those that nothing is needed of.
    let (mut first, mut count) = (loaded.end, 0);
    let mut replaced = loaded.stale.clone();
    for (end, segment) in loaded.segments.iter().rev() {
        count += segment.entries.len();
        if count >= SMALL {
            break;
        }
        first = first.min(segment.entries.first().map_or(first, |(seq, _)| *seq));
        replaced.push(*end);
    }
    for (end, segment) in &loaded.segments {
        let needed = |(seq, entry): &(u64, Entry)| loaded.is_kept(*seq, entry);
        if !segment.entries.iter().any(needed) && !replaced.contains(end) {
            replaced.push(*end);
        }
    }
    let entries = loaded.kept().filter(|(seq, _)| (first..last).contains(*seq));
    let entries = entries.map(|(seq, entry)| (*seq, entry.clone())).collect();
    let segment = Segment { format: FORMAT, released: loaded.released, entries };
    let key = key(job, last)?;
    if store.create(&key, &log::seal(&segment)?)? == Created::Exists {
        // Of one who died here, or is as far as we are: it says the same.
        store.settle(key.as_str())?;
    }
    let named: BTreeSet<u64> = [Some(stand.begin), stand.claim, stand.head].into_iter().flatten().collect();
    let folded = loaded.own.iter().filter(|seq| **seq < last && !named.contains(seq));
    let mut gone: Vec<Key> = folded.map(|seq| log::entry_key(job, *seq)).collect::<Result<_, _>>()?;
    for end in replaced {
        gone.push(self::key(job, end)?);
    }
    Ok(store.delete_all(&gone)?)
}

/// Removes a log: first its entries, newest first, so that what a crash leaves is a log again, or none.
///
/// # Errors
/// What the store reports.
pub(super) fn remove(store: &dyn Store, job: &JobName) -> Result<(), StoreError> {
    for seq in log::list(store, job)?.into_iter().rev() {
        store.delete(&log::entry_key(job, seq)?)?;
    }
    let ends = ends(store, job)?;
    // The one that tells that there is no log goes last.
    for end in ends {
        store.delete(&key(job, end)?)?;
    }
    Ok(())
}

impl Loaded {
    /// It is long, or snapshots were released since it was folded.
    fn is_due(&self) -> bool {
        self.end != self.last && (self.own.len() >= ENTRIES || self.released != self.was_released)
    }

    fn is_kept(&self, seq: u64, entry: &Entry) -> bool {
        let released = seq < self.released && matches!(entry.event, Event::Commit(_));
        seq >= self.stand.begin && !released
    }

    fn kept(&self) -> impl Iterator<Item = (&u64, &Entry)> {
        self.entries.iter().filter(|(seq, entry)| self.is_kept(**seq, entry))
    }
}

/// How much of a log is read.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Part {
    Whole,
    /// What folding needs: of a job that keeps all its snapshots, the last entries.
    End,
}

fn load(store: &dyn Store, job: &JobName, part: Part) -> Result<Option<Loaded>> {
    let mut tries = 0;
    loop {
        tries += 1;
        match try_load(store, job, part) {
            // It was folded meanwhile.
            Err(error) if is_missing(&error) && tries < TRIES => {}
            other => return other,
        }
    }
}

fn try_load(store: &dyn Store, job: &JobName, part: Part) -> Result<Option<Loaded>> {
    let Some((own, ends)) = listed(store, job)? else { return Ok(None) };
    let last = own[own.len() - 1];
    let stand = log::read(store, job, last)?.stand;
    let retain = match stand.claim {
        Some(claim) => match log::read(store, job, claim)?.event {
            Event::Claim(claim) => claim.retain,
            _ => None,
        },
        None => None,
    };
    let end = ends.last().copied().unwrap_or(0);
    let (stale, ends): (Vec<u64>, Vec<u64>) = ends.into_iter().partition(|end| *end <= stand.begin);
    let (mut segments, mut count) = (vec![], 0);
    for at in ends.into_iter().rev() {
        if part == Part::End && retain.is_none() && count >= SMALL {
            break;
        }
        let segment = read(store, job, at)?;
        count += segment.entries.len();
        segments.push((at, segment));
    }
    segments.reverse();
    // What was released of an earlier beginning is no news.
    let was_released = segments.iter().map(|(_, segment)| segment.released).fold(stand.begin, u64::max);
    let mut entries = BTreeMap::new();
    for (seq, entry) in segments.iter().flat_map(|(_, segment)| &segment.entries) {
        entries.insert(*seq, entry.clone());
    }
    // What is left before the end are those that say where the job stands, or stood.
    for &seq in own.iter().filter(|seq| **seq >= end || **seq == stand.begin) {
        if seq >= stand.begin && !entries.contains_key(&seq) {
            entries.insert(seq, log::read(store, job, seq)?);
        }
    }
    entries.retain(|seq, _| *seq >= stand.begin);
    let released = was_released;
    let mut loaded = Loaded { last, stand, own, end, segments, stale, entries, was_released, released };
    if let Some(retain) = retain {
        let is_commit = |entry: &Entry| matches!(entry.event, Event::Commit(_));
        let commits: Vec<u64> =
            loaded.kept().filter(|(_, entry)| is_commit(entry)).map(|(seq, _)| *seq).collect();
        let over = commits.len().saturating_sub(usize::try_from(retain.max(1)).unwrap_or(usize::MAX));
        loaded.released = commits.get(over).copied().filter(|_| over > 0).unwrap_or(loaded.released);
    }
    Ok(Some(loaded))
}

fn read(store: &dyn Store, job: &JobName, end: u64) -> Result<Segment> {
    let bytes = store.get_at_most(&key(job, end)?, SEGMENT_MAX)?;
    let damaged = |problem: String| JobError::DamagedLog { job: job.clone(), seq: end, problem };
    log::check_seal(&bytes).map_err(|problem| damaged(problem.to_string()))?;
    let segment: Segment = serde_json::from_slice(&bytes).map_err(|e| damaged(e.to_string()))?;
    if segment.format > FORMAT {
        let (found, known) = (segment.format, FORMAT);
        return Err(JobError::NewerLog { job: job.clone(), seq: end, found, known }.into());
    }
    let in_order = segment.entries.is_sorted_by(|(a, _), (b, _)| a < b);
    let within = segment.entries.last().is_none_or(|(seq, _)| *seq < end);
    ensure!(in_order && within, damaged("folded entries are not in order".to_string()));
    Ok(segment)
}

/// Finds out that another has written on, although our entry `seq` could be made: its place was folded.
pub(super) fn check_fence(store: &dyn Store, job: &JobName, seq: u64) -> Result<()> {
    if end(store, job)? <= seq {
        return Ok(());
    }
    store.delete(&log::entry_key(job, seq)?).context("a stray entry of the log cannot be removed")?;
    Err(JobError::Fenced { job: job.clone() }.into())
}
