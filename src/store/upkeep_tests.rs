//! Tests of merging and rewriting packs.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::fault::{FailAfter, Failure};
use super::*;
use crate::digest::ChunkId;

/// A page that does not compress.
fn page(n: u32) -> Vec<u8> {
    testing::noisy(n, 4096)
}

fn id(n: u32) -> ChunkId {
    ChunkId::of(&page(n))
}

fn write(chunks: &Chunks, pages: impl IntoIterator<Item = u32>) -> Written {
    testing::write(chunks, page, pages)
}

/// As many small packs, of ten pages each.
fn small_packs(store: &Arc<dyn Store>, packs: std::ops::Range<u32>) {
    let chunks = Chunks::open(store.clone());
    packs.for_each(|n| drop(write(&chunks, n * 10..n * 10 + 10)));
}

fn assert_whole(store: &Arc<dyn Store>, pages: impl IntoIterator<Item = u32>) {
    let chunks = Chunks::open(store.clone());
    pages.into_iter().for_each(|n| assert!(chunks.read(id(n)).unwrap() == page(n), "page {n}"));
    chunks.verify(&mut |report| assert!(report.result.is_ok(), "{:?}", report.result)).unwrap();
}

fn packs(store: &Arc<dyn Store>) -> usize {
    store.list("packs/").unwrap().len()
}

fn memory() -> Arc<dyn Store> {
    Arc::new(Memory::new())
}

#[test]
fn many_packs_become_few_whatever_their_number() {
    let store = memory();
    let chunks = Chunks::open(store.clone());
    let bystander = Chunks::open(store.clone());
    let (mut most, mut written, mut stored) = (0, 0, 0);
    for n in 0..1000 {
        stored += write(&chunks, n * 10..n * 10 + 10).stored_bytes;
        written += chunks.upkeep().unwrap().merge(&|| true).unwrap().written;
        most = most.max(packs(&store));
        assert!(bystander.read(id(n * 10 + 3)).unwrap() == page(n * 10 + 3));
    }
    assert!(most <= 50, "{most} packs");
    assert!(written < stored * 5, "{written} bytes are written for {stored}");
    // All know where things are, and store nothing again.
    for chunks in [&chunks, &bystander] {
        assert_eq!(write(chunks, 0..10_000), Written::default());
    }
    assert_whole(&store, 0..10_000);
}

#[test]
fn what_is_needed_of_sparse_packs_is_kept_and_the_rest_goes() {
    let store = memory();
    let chunks = Chunks::open(store.clone());
    let before = write(&chunks, 0..1000).stored_bytes;
    write(&chunks, 1000..1100);
    let live: HashSet<ChunkId> = (0..1100).filter(|n| n % 10 == 0 || *n >= 1000).map(id).collect();
    let mut upkeep = chunks.upkeep().unwrap();
    let done = upkeep.rewrite_sparse(&live, &|| true).unwrap();
    assert_eq!((done.replaced.len(), done.packs.len(), done.bytes), (1, 1, before));
    assert!(done.written < before / 8);
    // A snapshot that is taken meanwhile finds a page that nobody needed.
    let other = Chunks::open(store.clone());
    assert_eq!(write(&other, [5]), Written::default());
    let live: HashSet<ChunkId> = live.into_iter().chain([id(5)]).collect();
    let swept = upkeep.sweep().unwrap().remove_unreferenced(&live).unwrap();
    assert!(swept.removed.is_empty(), "{swept:?}");
    assert_whole(&store, (0..1000).step_by(10).chain([5]));
    // Now it is known.
    let mut upkeep = chunks.upkeep().unwrap();
    upkeep.rewrite_sparse(&live, &|| true).unwrap();
    upkeep.sweep().unwrap().remove_unreferenced(&live).unwrap();
    assert_whole(&store, (0..1000).step_by(10).chain([5]).chain(1000..1100));
    assert!(matches!(Chunks::open(store.clone()).read(id(1)), Err(StoreError::NotFound { .. })));
    assert_eq!(write(&other, [1]).chunks, 1, "it must not rely on what is gone");
}

#[test]
fn of_a_chunk_that_is_there_twice_the_damaged_one_goes() {
    // Made by two writers at once, so that both packs hold page 5.
    let (store, other) = (memory(), memory());
    let first = write(&Chunks::open(store.clone()), 0..6).packs[0].key();
    let second = write(&Chunks::open(other.clone()), 5..8).packs[0].key();
    store.put(&second, &other.get(&second).unwrap()).unwrap();
    for damaged in [&first, &second] {
        let store = {
            let copy = memory();
            for key in store.list("").unwrap() {
                copy.put(&key, &store.get(&key).unwrap()).unwrap();
            }
            copy
        };
        let mut bytes = store.get(damaged).unwrap();
        bytes[20] ^= 1;
        store.put(damaged, &bytes).unwrap();
        let sweep = Chunks::open(store.clone()).sweep().unwrap();
        sweep.remove_unreferenced(&HashSet::from([id(5)])).unwrap();
        let left = store.list("packs/").unwrap();
        assert!(left.iter().any(|key| key != damaged), "{left:?}");
    }
}

#[test]
fn damaged_packs_are_left_and_the_others_merged() {
    let store = memory();
    small_packs(&store, 0..20);
    let damaged = store.list("packs/").unwrap().remove(7);
    let mut bytes = store.get(&damaged).unwrap();
    bytes[100] ^= 1;
    store.put(&damaged, &bytes).unwrap();
    let done = Chunks::open(store.clone()).upkeep().unwrap().merge(&|| true).unwrap();
    assert_eq!((done.replaced.len(), done.packs.len()), (19, 1));
    assert!(store.size(&damaged).is_ok());
    let chunks = Chunks::open(store.clone());
    assert_eq!((0..200).filter(|n| chunks.read(id(*n)).is_ok()).count(), 190);
}

#[test]
fn merging_that_stops_anywhere_loses_nothing() {
    for how in [Failure::Before, Failure::After] {
        for n in 0.. {
            let store = memory();
            small_packs(&store, 0..20);
            let faulty = FailAfter::with(store.clone(), n, how);
            let chunks = Chunks::open(Arc::new(faulty.clone()));
            let result = chunks.upkeep().and_then(|upkeep| upkeep.merge(&|| true));
            assert_eq!(result.is_err(), faulty.has_failed());
            assert_whole(&store, 0..200);
            // The next one makes it good, and nothing is there twice after a sweep.
            let chunks = Chunks::open(store.clone());
            chunks.upkeep().unwrap().merge(&|| true).unwrap();
            let live = (0..200).map(id).collect();
            chunks.sweep().unwrap().remove_unreferenced(&live).unwrap();
            assert_whole(&store, 0..200);
            assert!(packs(&store) < 16, "{n}: {}", packs(&store));
            if !faulty.has_failed() {
                assert!(n > 20, "{n}");
                break;
            }
        }
    }
}

#[test]
fn merging_gives_up_when_it_is_told() {
    let store = memory();
    small_packs(&store, 0..40);
    let chunks = Chunks::open(store.clone());
    assert_eq!(chunks.upkeep().unwrap().merge(&|| false).unwrap(), Rewritten::default());
    let upkeep = chunks.upkeep().unwrap();
    assert!(matches!(chunks.try_upkeep(), Err(StoreError::Held { .. })), "one at a time");
    let left = std::cell::Cell::new(10);
    let done = upkeep.merge(&|| left.replace(left.get() - 1) > 0).unwrap();
    assert_eq!(done.replaced.len(), 10);
    assert_whole(&store, 0..400);
}

#[test]
fn writers_readers_and_upkeep_at_once() {
    let store = memory();
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let upkeep = scope.spawn(|| {
            let chunks = Chunks::open(store.clone());
            while !stop.load(Ordering::SeqCst) {
                chunks.upkeep().unwrap().merge(&|| true).unwrap();
                // Every third page is needed.
                let live: HashSet<ChunkId> = (0..4000).step_by(3).map(id).collect();
                let mut upkeep = chunks.upkeep().unwrap();
                upkeep.rewrite_sparse(&live, &|| true).unwrap();
                upkeep.sweep().unwrap().remove_unreferenced(&live).unwrap();
            }
        });
        let writers = [0, 1].map(|half| {
            let store = &store;
            scope.spawn(move || {
                let chunks = Chunks::open(store.clone());
                for n in 0..100 {
                    let first = half * 1000 + n * 10;
                    let mut writer = chunks.writer().unwrap();
                    for n in first..first + 20 {
                        writer.add(id(n), &page(n)).unwrap();
                    }
                    let (_, guard) = writer.finish().unwrap();
                    let reader = Chunks::open(store.clone());
                    for n in first..first + 20 {
                        assert!(
                            chunks.read(id(n)).unwrap() == page(n) && reader.read(id(n)).unwrap() == page(n)
                        );
                    }
                    drop(guard);
                }
            })
        });
        let done = writers.map(|writer| writer.join());
        stop.store(true, Ordering::SeqCst);
        upkeep.join().unwrap();
        done.into_iter().for_each(|done| done.unwrap());
    });
    assert_whole(&store, (0..2010).step_by(3));
}
