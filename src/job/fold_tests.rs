//! Tests of folded logs and released snapshots.

use super::fold::{fold, history, last, remove};
use super::log::{self, Begin, Claim, Commit, Entry, Event, Writer};
use super::{JobError, JobName, Spec};
use crate::digest::{ModuleId, SnapshotId};
use crate::store::fault::{FailAfter, Failure};
use crate::store::{Memory, Store};

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
