//! Tests of the log.

use std::sync::Arc;

use super::log::*;
use super::{JobError, JobName, Spec};
use crate::digest::{ChunkId, ModuleId, SnapshotId};
use crate::snapshot::Value;
use crate::store::fault::{FailAfter, Failure};
use crate::store::{Created, Key, Memory, Store, StoreError};

fn begin() -> Event {
    let spec = Spec::invoke(ModuleId::of(b"m"), "f", vec![Value::V128(u128::MAX), Value::F64(!0)]);
    Event::Begin(Begin { spec, seed: [7; 32], origin: None })
}

fn claim(pid: u32) -> Event {
    let sink = SinkFile { dev: u64::MAX, ino: 2, born: 4, base: 3, first: 0 };
    Event::Claim(Claim { pid, sinks: [Some(sink), None], retain: None })
}

fn commit(fuel: u64) -> Event {
    let snapshot = SnapshotId::of(&fuel.to_le_bytes());
    let (memory, chunks, new_bytes, stored_bytes) = (1, 2, 3, 4);
    let (manifest_bytes, pause_us) = (5, 6);
    let (durable_us, dirty_bytes, source) = (pause_us, None, None);
    let commit = Commit {
        snapshot,
        fuel,
        memory,
        chunks,
        new_bytes,
        stored_bytes,
        manifest_bytes,
        pause_us,
        durable_us,
        dirty_bytes,
        source,
        restored: None,
    };
    Event::Commit(commit)
}

fn done() -> Event {
    let streams = [PrintedStream::default(), PrintedStream { written: 2, kept: 1, root: ChunkId::of(b"p") }];
    let output = Printed { streams, runs: vec![0, 2] };
    let ending = Ending::Trapped { message: "m".into(), frames: vec![(1, None), (2, Some(3))] };
    Event::Done(Done { ending, fuel: 9, output, disks: vec![] })
}

/// What counts of a status.
fn stands(store: &dyn Store, job: &JobName) -> (Option<u64>, u64, Option<u32>, bool, bool) {
    let (status, _) = status(store, job).unwrap().unwrap();
    let head = status.head.map(|head| head.fuel);
    (head, status.commits, status.claim.map(|claim| claim.pid), status.stopped, status.done.is_some())
}

#[test]
fn a_job_stands_where_its_events_have_led_it() {
    let (store, job) = (Memory::new(), "x".parse().unwrap());
    assert!(status(&store, &job).unwrap().is_none());
    let mut log = Writer::new(&job, None).unwrap();
    let steps = [
        (begin(), (None, 0, None, false, false)),
        (claim(1), (None, 0, Some(1), false, false)),
        (commit(10), (Some(10), 1, Some(1), false, false)),
        (commit(20), (Some(20), 2, Some(1), false, false)),
        (Event::Stop, (Some(20), 2, Some(1), true, false)),
        (claim(2), (Some(20), 2, Some(2), false, false)),
        (done(), (Some(20), 2, Some(2), true, true)),
        (begin(), (None, 0, None, false, false)),
        (claim(3), (None, 0, Some(3), false, false)),
    ];
    for (event, stand) in steps {
        log.append(&store, event.clone()).unwrap();
        assert_eq!(stands(&store, &job), stand, "{event:?}");
        // Another process reads on and writes on.
        let (_, last) = status(&store, &job).unwrap().unwrap();
        assert_eq!(read(&store, &job, last.seq).unwrap().event, event);
        log = Writer::new(&job, Some(last)).unwrap();
    }
}

#[test]
fn a_lost_reply_is_found_out_and_a_foreign_entry_is_a_fence() {
    let job: JobName = "x".parse().unwrap();
    for how in [Failure::Before, Failure::After] {
        let memory = Arc::new(Memory::new());
        let store = FailAfter::once(memory.clone(), 1, how);
        let mut log = Writer::new(&job, None).unwrap();
        log.append(&store, begin()).unwrap();
        let first = log.append(&store, claim(1));
        assert_eq!(first.is_ok(), how == Failure::After, "{first:?}");
        // A failed attempt is made again; whether it was made or not, there is one in the end.
        if first.is_err() {
            log.append(&store, claim(1)).unwrap();
        }
        log.append(&store, commit(10)).unwrap();
        assert_eq!(list(&*memory, &job).unwrap(), [0, 1, 2]);
        // Somebody else writes on.
        let (_, last) = status(&*memory, &job).unwrap().unwrap();
        Writer::new(&job, Some(last)).unwrap().append(&*memory, claim(2)).unwrap();
        let error = log.append(&store, commit(20)).unwrap_err();
        assert!(matches!(error.downcast_ref(), Some(JobError::Fenced { .. })), "{error:?}");
        assert_eq!(stands(&*memory, &job), (Some(10), 1, Some(2), false, false));
    }
}

#[test]
fn an_attempt_that_was_thought_to_have_failed_does_not_hide_the_next() {
    // The entry is made, its reply is lost, and it cannot be read back then.
    struct Deaf(Memory, std::sync::atomic::AtomicBool);
    let deaf = |on: bool, store: &Deaf| store.1.store(on, std::sync::atomic::Ordering::SeqCst);
    impl Deaf {
        fn check(&self) -> Result<(), StoreError> {
            match self.1.load(std::sync::atomic::Ordering::SeqCst) {
                true => Err(StoreError::from_io("reach", "x", std::io::Error::other("deaf"))),
                false => Ok(()),
            }
        }
    }
    impl Store for Deaf {
        crate::store_by!(0: describe put upload get_range size list settle delete lease);
        fn create(&self, key: &Key, bytes: &[u8]) -> Result<Created, StoreError> {
            self.0.create(key, bytes).and_then(|made| self.check().map(|()| made))
        }
        fn get(&self, key: &Key) -> Result<Vec<u8>, StoreError> {
            self.check().and_then(|()| self.0.get(key))
        }
    }
    let (store, job) = (Deaf(Memory::new(), false.into()), "x".parse().unwrap());
    let mut log = Writer::new(&job, None).unwrap();
    log.append(&store, begin()).unwrap();
    deaf(true, &store);
    assert!(log.append(&store, commit(10)).is_err());
    deaf(false, &store);
    log.append(&store, commit(20)).unwrap();
    log.append(&store, commit(30)).unwrap();
    assert_eq!(list(&store, &job).unwrap(), [0, 1, 2, 3]);
    assert_eq!(stands(&store, &job), (Some(30), 3, None, false, false));
}

#[test]
fn entries_that_contradict_each_other_are_refused() {
    let (store, job) = (Memory::new(), "x".parse().unwrap());
    let mut log = Writer::new(&job, None).unwrap();
    log.append(&store, begin()).unwrap();
    log.append(&store, commit(10)).unwrap();
    let last = entry_key(&job, 1).unwrap();
    let mut entry = read(&store, &job, 1).unwrap();
    for stand in [
        Stand { begin: 1, ..entry.stand },
        Stand { begin: 7, ..entry.stand },
        Stand { claim: Some(0), ..entry.stand },
        Stand { head: Some(0), ..entry.stand },
        Stand { head: Some(u64::MAX), ..entry.stand },
    ] {
        entry.stand = stand;
        store.put(&last, &serde_json::to_vec(&entry).unwrap()).unwrap();
        assert!(status(&store, &job).is_err(), "{stand:?}");
    }
}

/// As it was written before entries had a hash.
const OLD: &str = r#"{"format":1,"nonce":"00","time":5,"stand":{"begin":0,"claim":1,"head":null,"commits":0},"event":{"Claim":{"pid":1,"sinks":[{"dev":18446744073709551615,"ino":2,"born":4,"base":3,"first":0},null],"retain":null}}}"#;

#[test]
fn every_flipped_bit_of_an_entry_is_found_and_one_without_a_hash_is_read() {
    let (store, job) = (Memory::new(), "x".parse().unwrap());
    let mut log = Writer::new(&job, None).unwrap();
    log.append(&store, begin()).unwrap();
    log.append(&store, claim(1)).unwrap();
    let key = entry_key(&job, 1).unwrap();
    let whole = store.get(&key).unwrap();
    for bit in 0..whole.len() * 8 {
        let mut bytes = whole.clone();
        bytes[bit / 8] ^= 1 << (bit % 8);
        store.put(&key, &bytes).unwrap();
        assert!(read(&store, &job, 1).is_err(), "bit {bit}");
    }
    store.put(&key, OLD.as_bytes()).unwrap();
    assert_eq!(read(&store, &job, 1).unwrap().event, claim(1));
    let (_, last) = status(&store, &job).unwrap().unwrap();
    Writer::new(&job, Some(last)).unwrap().append(&store, commit(10)).unwrap();
    assert_eq!(stands(&store, &job), (Some(10), 1, Some(1), false, false));
}
