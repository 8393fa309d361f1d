//! Tests of folded logs and released snapshots.

use std::sync::{Arc, Mutex};

use super::fold::{fold, history, last, needed, remove};
use super::log::{self, Begin, Claim, Commit, Entry, Event, Writer};
use super::{JobError, JobName, Jobs, Spec};
use crate::digest::{ModuleId, SnapshotId};
use crate::store::fault::{FailAfter, Failure};
use crate::store::{Created, Key, Memory, Sharing, Store, StoreError};

fn job() -> JobName {
    "x".parse().unwrap()
}

fn begin() -> Event {
    Event::Begin(Begin { spec: Spec::program(ModuleId::of(b"m"), "p"), seed: [0; 32], origin: None })
}

fn claim(retain: Option<u64>) -> Event {
    Event::Claim(Claim { pid: 1, sinks: [None; 2], retain })
}

fn commit(fuel: u64) -> Event {
    Event::Commit(Commit {
        snapshot: SnapshotId::of(&fuel.to_le_bytes()),
        fuel,
        memory: 0,
        chunks: 0,
        new_bytes: 0,
        stored_bytes: 0,
        manifest_bytes: 0,
        pause_us: 0,
        durable_us: 0,
        dirty_bytes: None,
        source: None,
        restored: None,
    })
}

/// A log that has begun, was claimed, and has commits with this fuel.
fn log_of(store: &dyn Store, retain: Option<u64>, fuels: std::ops::Range<u64>) -> Writer {
    let mut log = Writer::new(&job(), None).unwrap();
    log.append(store, begin()).unwrap();
    log.append(store, claim(retain)).unwrap();
    fuels.for_each(|fuel| log.append(store, commit(fuel)).unwrap());
    log
}

fn fuels(store: &dyn Store) -> Vec<u64> {
    let fuel = |entry: &Entry| match &entry.event {
        Event::Commit(commit) => Some(commit.fuel),
        _ => None,
    };
    history(store, &job()).unwrap().iter().filter_map(fuel).collect()
}

fn all(range: std::ops::Range<u64>) -> Vec<u64> {
    range.collect()
}

#[test]
fn a_folded_log_says_the_same_with_few_objects() {
    let store = Memory::new();
    let mut log = log_of(&store, None, 0..0);
    for fuel in 0..5000 {
        log.append(&store, commit(fuel)).unwrap();
        if fuel % 64 == 63 {
            fold(&store, &job()).unwrap();
        }
    }
    assert_eq!(fuels(&store), all(0..5000));
    let (status, last) = log::status(&store, &job()).unwrap().unwrap();
    assert_eq!((status.commits, status.fuel(), last.seq), (5000, 4999, 5001));
    assert!(matches!(history(&store, &job()).unwrap()[0].event, Event::Begin(_)));
    let objects = store.list("jobs/").unwrap().len();
    assert!(objects < 220, "{objects} objects");
    // Another beginning forgets them.
    log.append(&store, begin()).unwrap();
    log.append(&store, claim(Some(3))).unwrap();
    (0..300).for_each(|fuel| log.append(&store, commit(fuel)).unwrap());
    assert_eq!(fuels(&store), [297, 298, 299]);
    fold(&store, &job()).unwrap();
    assert_eq!(fuels(&store), [297, 298, 299]);
    assert!(store.list("jobs/").unwrap().len() < 10, "{:?}", store.list("jobs/"));
}

#[test]
fn released_snapshots_stay_released() {
    let store = Memory::new();
    let mut log = log_of(&store, Some(5), 0..20);
    assert_eq!(fuels(&store), all(15..20));
    // Nothing was folded: so they are all there again for one who keeps all.
    log.append(&store, claim(None)).unwrap();
    assert_eq!(fuels(&store), all(0..20));
    log.append(&store, claim(Some(5))).unwrap();
    fold(&store, &job()).unwrap();
    log.append(&store, claim(None)).unwrap();
    log.append(&store, commit(20)).unwrap();
    assert_eq!(fuels(&store), all(15..21));
    fold(&store, &job()).unwrap();
    assert_eq!(fuels(&store), all(15..21));
}

#[test]
fn a_runner_that_slept_is_stopped_although_its_place_is_free() {
    let store = Memory::new();
    let mut asleep = log_of(&store, Some(2), 0..10);
    let (_, found) = log::status(&store, &job()).unwrap().unwrap();
    let mut other = Writer::new(&job(), Some(found)).unwrap();
    other.append(&store, claim(Some(2))).unwrap();
    (100..400).for_each(|fuel| other.append(&store, commit(fuel)).unwrap());
    fold(&store, &job()).unwrap();
    assert!(store.get(&log::entry_key(&job(), asleep.next() + 1).unwrap()).is_err(), "it was folded");
    // One entry stays, which is the other's claim; the next places are free.
    for _ in 0..2 {
        let error = asleep.append(&store, commit(10)).unwrap_err();
        assert!(matches!(error.downcast_ref(), Some(JobError::Fenced { .. })), "{error:?}");
    }
    let mut later = Writer::new(&job(), Some(log::Last { seq: found.seq + 3, stand: found.stand })).unwrap();
    let error = later.append(&store, commit(10)).unwrap_err();
    assert!(matches!(error.downcast_ref(), Some(JobError::Fenced { .. })), "{error:?}");
    assert_eq!(fuels(&store), [398, 399]);
}

#[test]
fn folding_that_stops_anywhere_changes_nothing_that_can_be_seen() {
    for how in [Failure::Before, Failure::After] {
        for n in 0.. {
            let memory = Memory::new();
            let mut log = log_of(&memory, Some(150), 0..200);
            fold(&memory, &job()).unwrap();
            (200..400).for_each(|fuel| log.append(&memory, commit(fuel)).unwrap());
            let faulty = FailAfter::with(std::sync::Arc::new(memory.clone()), n, how);
            let result = fold(&faulty, &job());
            assert_eq!(result.is_err(), faulty.has_failed(), "{n}");
            assert_eq!(fuels(&memory), all(250..400), "{n}");
            log.append(&memory, commit(400)).unwrap();
            fold(&memory, &job()).unwrap();
            assert_eq!(fuels(&memory), all(251..401), "{n}");
            assert_eq!(log::status(&memory, &job()).unwrap().unwrap().0.commits, 401);
            if !faulty.has_failed() {
                assert!(n > 100, "{n}");
                break;
            }
        }
    }
}

#[test]
fn a_removal_that_stops_anywhere_leaves_a_log_or_none() {
    for n in 0.. {
        let memory = Memory::new();
        let mut log = log_of(&memory, None, 0..200);
        fold(&memory, &job()).unwrap();
        (200..210).for_each(|fuel| log.append(&memory, commit(fuel)).unwrap());
        let faulty = FailAfter::new(std::sync::Arc::new(memory.clone()), n);
        let result = remove(&faulty, &job());
        let left = last(&memory, &job()).unwrap();
        if left.is_some() {
            let until = log::status(&memory, &job()).unwrap().unwrap().0.fuel() + 1;
            assert_eq!(fuels(&memory), all(0..until), "{n}");
        } else {
            assert!(log::status(&memory, &job()).unwrap().is_none() && fuels(&memory).is_empty());
        }
        remove(&memory, &job()).unwrap();
        assert_eq!(memory.list("jobs/").unwrap(), []);
        if result.is_ok() {
            assert!(n > 10);
            break;
        }
    }
}

/// What another process does once, before an object whose key contains `key` is created, or behind such a list.
struct Meanwhile {
    inner: Memory,
    key: &'static str,
    other: Mutex<Option<Box<dyn FnOnce() + Send>>>,
}

impl Meanwhile {
    fn new(inner: &Memory, key: &'static str, other: impl FnOnce() + Send + 'static) -> Self {
        Self { inner: inner.clone(), key, other: Mutex::new(Some(Box::new(other))) }
    }

    fn look(&self, key: &str) {
        if key.contains(self.key)
            && let Some(other) = self.other.lock().unwrap().take()
        {
            other();
        }
    }

    fn has_happened(&self) -> bool {
        self.other.lock().unwrap().is_none()
    }
}

impl Store for Meanwhile {
    crate::store_by!(inner: describe put upload get get_range size settle delete lease);
    fn create(&self, key: &Key, bytes: &[u8]) -> Result<Created, StoreError> {
        self.look(key.as_str());
        self.inner.create(key, bytes)
    }
    fn list(&self, prefix: &str) -> Result<Vec<Key>, StoreError> {
        let found = self.inner.list(prefix);
        self.look(prefix);
        found
    }
}

#[test]
fn a_log_that_is_written_and_folded_while_it_is_listed_is_found() {
    let memory = Memory::new();
    let mut log = log_of(&memory, Some(3), 0..10);
    let inner = memory.clone();
    let store = Meanwhile::new(&memory, "/log/", move || {
        log.append(&inner, commit(10)).unwrap();
        fold(&inner, &job()).unwrap();
    });
    assert_eq!(last(&store, &job()).unwrap(), Some(12));
    assert!(store.has_happened());
    let mut log = log_of_last(&memory);
    let inner = memory.clone();
    let store = Meanwhile::new(&memory, "/log/", move || {
        log.append(&inner, commit(11)).unwrap();
        fold(&inner, &job()).unwrap();
    });
    assert_eq!(fuels(&store), [9, 10, 11]);
    assert!(store.has_happened());
}

/// Writes on behind what is there.
fn log_of_last(store: &dyn Store) -> Writer {
    Writer::new(&job(), log::status(store, &job()).unwrap().map(|(_, last)| last)).unwrap()
}

#[test]
fn a_job_whose_log_is_folded_by_a_sweep_is_not_removed_meanwhile() {
    let memory = Memory::new();
    log_of(&memory, Some(3), 0..10);
    let (jobs, tells) = (Jobs::new(Arc::new(memory.clone())), Arc::new(Mutex::new(None)));
    let told = tells.clone();
    let store = Meanwhile::new(&memory, "/past/0", move || {
        *told.lock().unwrap() = Some(jobs.remove(&job()).unwrap_err());
    });
    let store = Arc::new(store);
    Jobs::new(store.clone()).gc().unwrap();
    let error = tells.lock().unwrap().take().expect("its log was folded");
    assert!(matches!(error.downcast_ref(), Some(JobError::Held { .. })), "{error:?}");
    assert_eq!(fuels(&memory), [7, 8, 9]);
}

#[test]
fn a_sweep_leaves_the_log_of_a_held_job_and_what_it_has_not_released() {
    let memory = Memory::new();
    drop(log_of(&memory, Some(3), 0..10));
    let jobs = Jobs::new(Arc::new(memory.clone()));
    let held = jobs.hold(&job()).unwrap();
    let before = memory.list("jobs/").unwrap();
    jobs.gc().unwrap();
    assert_eq!(memory.list("jobs/").unwrap(), before);
    assert_eq!((fuels(&memory).len(), needed(&memory, &job()).unwrap().len()), (3, 12));
    drop(held);
    jobs.gc().unwrap();
    assert_eq!((fuels(&memory).len(), needed(&memory, &job()).unwrap().len()), (3, 5));
}

#[test]
fn folding_a_long_log_reads_the_end_of_it() {
    let memory = Memory::new();
    let mut log = log_of(&memory, None, 0..0);
    for fuel in 0..6000 {
        log.append(&memory, commit(fuel)).unwrap();
        if fuel % 128 == 127 {
            fold(&memory, &job()).unwrap();
        }
    }
    let ends = memory.list("jobs/x/past/").unwrap();
    assert!(ends.len() > 3, "{ends:?}");
    // What is folded already is not looked at again.
    memory.put(&ends[0], b"damaged").unwrap();
    (0..200).for_each(|fuel| log.append(&memory, commit(6000 + fuel)).unwrap());
    fold(&memory, &job()).unwrap();
    assert!(memory.list("jobs/x/log/").unwrap().len() < 10);
    assert!(history(&memory, &job()).is_err());
}

#[test]
fn two_that_ask_at_once_whether_a_job_is_held_do_not_see_each_other() {
    let memory = Memory::new();
    log_of(&memory, None, 0..1);
    let jobs = Jobs::new(Arc::new(memory.clone()));
    let asks = memory.lease(&Key::new("jobs/x").unwrap(), Sharing::Shared).unwrap();
    assert!(!jobs.is_held(&job()).unwrap());
    drop(asks);
    let held = jobs.hold(&job()).unwrap();
    assert!(jobs.is_held(&job()).unwrap());
    drop(held);
}

#[test]
fn only_an_ended_job_is_removed_as_one() {
    let memory = Memory::new();
    log_of(&memory, None, 0..1);
    let jobs = Jobs::new(Arc::new(memory.clone()));
    assert!(!jobs.remove_ended(&job()).unwrap());
    assert_eq!(fuels(&memory), [0]);
}

#[test]
fn every_flipped_bit_of_a_folded_part_is_found_and_one_without_a_hash_is_read() {
    let store = Memory::new();
    log_of(&store, Some(3), 0..20);
    fold(&store, &job()).unwrap();
    let [key] = store.list("jobs/x/past/").unwrap().try_into().unwrap();
    let whole = store.get(&key).unwrap();
    for bit in 0..whole.len() * 8 {
        let mut bytes = whole.clone();
        bytes[bit / 8] ^= 1 << (bit % 8);
        store.put(&key, &bytes).unwrap();
        assert!(history(&store, &job()).is_err(), "bit {bit}");
    }
    // As it was written before it had a hash.
    let format = whole.windows(9).position(|found| found == b"\"format\":").unwrap();
    store.put(&key, &[b"{", &whole[format..]].concat()).unwrap();
    assert_eq!(fuels(&store), [17, 18, 19]);
}
