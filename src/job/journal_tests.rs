//! Tests of the journal.

use std::sync::Arc;

use anyhow::Result;

use super::JobError;
use super::journal::*;
use crate::store::fault::{FailAfter, Failure};
use crate::store::{Memory, Store};

fn open(store: &Arc<dyn Store>, read: u64) -> Result<Journal> {
    Journal::open(store.clone(), &"x".parse().unwrap(), 0, read)
}

fn all(journal: &mut Journal, mut at: u64) -> Vec<u8> {
    let mut all = vec![];
    while at < journal.end {
        let bytes = journal.at(at).unwrap().to_vec();
        at += bytes.len() as u64;
        all.extend(bytes);
    }
    all
}

#[test]
fn what_was_added_is_read_again_from_anywhere() {
    let store: Arc<dyn Store> = Arc::new(Memory::new());
    let mut journal = open(&store, 0).unwrap();
    assert!(journal.is_new());
    for bytes in [&b"abc"[..], b"d", b"efghij"] {
        journal.append(bytes).unwrap();
    }
    for at in 0..10 {
        let mut again = open(&store, at).unwrap();
        assert_eq!((again.end, again.first(), again.ended), (10, 0, false));
        assert_eq!(all(&mut again, at), &b"abcdefghij"[at as usize..]);
    }
    journal.append(b"").unwrap();
    assert!(open(&store, 10).unwrap().ended);
    // A snapshot that has read more is not of this input.
    assert!(open(&store, 11).is_err());
    remove(&*store, &journal.job, |begin| begin != 0).unwrap();
    assert!(open(&store, 10).unwrap().ended);
    remove(&*store, &journal.job, |begin| begin == 0).unwrap();
    assert!(open(&store, 0).unwrap().is_new());
}

#[test]
fn damage_and_another_writer_are_found() {
    let store: Arc<dyn Store> = Arc::new(Memory::new());
    let (mut one, mut other) = (open(&store, 0).unwrap(), open(&store, 0).unwrap());
    one.append(b"abc").unwrap();
    // The same bytes may be those of an attempt whose reply was lost.
    other.append(b"abc").unwrap();
    one.append(b"def").unwrap();
    let fenced = other.append(b"xyz").unwrap_err();
    assert!(matches!(fenced.downcast_ref(), Some(JobError::Fenced { .. })), "{fenced:?}");
    let key = one.key(3).unwrap();
    let whole = store.get(&key).unwrap();
    for at in 0..whole.len() {
        let mut bytes = whole.clone();
        bytes[at] ^= 1;
        store.put(&key, &bytes).unwrap();
        assert!(open(&store, 0).is_err(), "byte {at}");
    }
    store.put(&key, &whole).unwrap();
    store.delete(&one.key(0).unwrap()).unwrap();
    assert!(open(&store, 0).is_err());
}

#[test]
fn a_store_that_fails_once_costs_nothing() {
    for how in [Failure::Before, Failure::After] {
        for n in 0..8 {
            let memory = Memory::new();
            let store: Arc<dyn Store> = Arc::new(FailAfter::once(Arc::new(memory.clone()), n, how));
            let Ok(mut journal) = open(&store, 0) else { continue };
            for bytes in [&b"abc"[..], b"def"] {
                journal.append(bytes).unwrap();
            }
            let store: Arc<dyn Store> = Arc::new(memory);
            assert_eq!(all(&mut open(&store, 0).unwrap(), 0), b"abcdef", "{how:?} at operation {n}");
        }
    }
}
