//! Tests of packs that are found damaged.

use std::collections::HashSet;
use std::ops::Range;
use std::sync::{Arc, Mutex};

use super::fault::{FailAfter, Failure};
use super::*;
use crate::digest::{ChunkId, PackId};

/// A page that does not compress.
fn noise(n: u32) -> Vec<u8> {
    testing::noisy(n, 4096)
}

type Page = fn(u32) -> Vec<u8>;

fn id(page: Page, n: u32) -> ChunkId {
    ChunkId::of(&page(n))
}

fn memory() -> Arc<dyn Store> {
    Arc::new(Memory::new())
}

fn open(store: &Arc<dyn Store>) -> Chunks {
    Chunks::open(store.clone())
}

/// A pack of these pages, whose first frame is damaged.
fn damaged(store: &Arc<dyn Store>, page: Page, pages: Range<u32>) -> PackId {
    let pack = testing::write(&open(store), page, pages).packs[0];
    let mut bytes = store.get(&pack.key()).unwrap();
    bytes[30] ^= 4;
    store.put(&pack.key(), &bytes).unwrap();
    pack
}

fn marks(store: &Arc<dyn Store>) -> Vec<Key> {
    store.list("unfit/").unwrap()
}

fn assert_whole(chunks: &Chunks, page: Page, pages: Range<u32>) {
    let many: Vec<ChunkId> = pages.clone().map(|n| id(page, n)).collect();
    let came = Mutex::new(vec![0; many.len()]);
    let take = |range: Range<usize>, bytes: &[u8]| {
        for (nth, bytes) in range.zip(bytes.chunks(4096)) {
            assert!(ChunkId::of(bytes) == many[nth]);
            came.lock().unwrap()[nth] += 1;
        }
        Ok(())
    };
    chunks.read_many(&many, 2, &take).unwrap();
    assert!(came.into_inner().unwrap().iter().all(|times| *times == 1));
    pages.for_each(|n| assert!(chunks.read(id(page, n)).unwrap() == page(n), "page {n}"));
}

/// All ways to find a pack damaged.
const FINDERS: [fn(&Chunks, ChunkId); 3] = [
    |chunks, id| assert!(matches!(chunks.read(id), Err(StoreError::Corrupt { .. }))),
    |chunks, id| {
        let read = chunks.read_many(&[id], 1, &|_, _| Ok(()));
        assert!(matches!(read, Err(StoreError::Corrupt { .. })));
    },
    |chunks, _| {
        let mut found = 0;
        chunks.verify(&mut |report| found += u32::from(report.result.is_err())).unwrap();
        assert_eq!(found, 1);
    },
];

#[test]
fn what_is_found_damaged_is_stored_anew_and_read_from_there() {
    for page in [noise as Page, testing::like_memory] {
        for find in FINDERS {
            let store = memory();
            // Of others, who know the pack while it is whole.
            let (reader, writer) = (open(&store), open(&store));
            let pack = damaged(&store, page, 0..100);
            reader.contains(id(page, 0)).unwrap();
            assert_eq!(testing::write(&writer, page, 0..100), Written::default(), "nobody knows yet");
            let finder = open(&store);
            find(&finder, id(page, 0));
            assert_eq!(marks(&store), [unfit::mark_of(pack)]);
            find(&finder, id(page, 0));
            // Enough of it to come out as another pack.
            assert_eq!(testing::write(&writer, page, 0..101).chunks, 101);
            assert_eq!(testing::write(&finder, page, 0..101), Written::default());
            for chunks in [&reader, &writer, &finder, &open(&store)] {
                assert_whole(chunks, page, 0..101);
            }
            assert_eq!(marks(&store).len(), 1);
        }
    }
}

#[test]
fn a_damaged_pack_that_is_written_over_is_relied_on_again() {
    let store = memory();
    damaged(&store, noise, 0..100);
    let chunks = open(&store);
    FINDERS[1](&chunks, id(noise, 0));
    for n in 0..100 {
        let _ = chunks.read(id(noise, n));
    }
    assert_eq!(testing::write(&chunks, noise, 0..100).chunks, 100);
    assert_eq!(marks(&store), []);
    for chunks in [&chunks, &open(&store)] {
        assert_eq!(testing::write(chunks, noise, 0..100), Written::default());
        assert_whole(chunks, noise, 0..100);
    }
}

#[test]
fn packs_that_are_marked_are_left_until_others_have_what_is_needed() {
    let store = memory();
    let pack = damaged(&store, noise, 0..100);
    for n in 10..30 {
        testing::write(&open(&store), noise, n * 100..n * 100 + 10);
    }
    FINDERS[0](&open(&store), id(noise, 0));
    let chunks = open(&store);
    let merged = chunks.upkeep().unwrap().merge(&|| true).unwrap();
    assert_eq!((merged.replaced.len(), merged.replaced.contains(&pack)), (20, false));
    // Of a sweep: little of it is needed, and nobody else has that.
    let needed = [70..72, 1000..1010, 2000..2010].into_iter().flatten().map(|n| id(noise, n)).collect();
    let sweep = |live: &HashSet<ChunkId>| {
        let mut upkeep = chunks.upkeep().unwrap();
        let rewritten = upkeep.rewrite_sparse(live, &|| true).unwrap();
        assert!(!rewritten.replaced.contains(&pack));
        upkeep.sweep().unwrap().remove_unreferenced(live).unwrap()
    };
    assert!(!sweep(&needed).removed.contains(&pack));
    assert_eq!(marks(&store).len(), 1);
    assert_whole(&open(&store), noise, 70..72);
    // It is the bigger pack, and goes all the same when another has them.
    assert_eq!(testing::write(&open(&store), noise, 70..72).chunks, 2);
    assert_eq!(sweep(&needed).removed, [pack]);
    assert_eq!(marks(&store), []);
    assert_whole(&open(&store), noise, 70..72);
    assert_whole(&open(&store), noise, 1000..1010);
    // So does one that nobody needs, and a mark whose pack is gone.
    let other = damaged(&store, noise, 300..400);
    FINDERS[1](&open(&store), id(noise, 300));
    store.create(&unfit::mark_of(pack), &[]).unwrap();
    assert_eq!((marks(&store).len(), sweep(&needed).removed), (2, vec![other]));
    assert_eq!(marks(&store), []);
}

#[test]
fn upkeep_marks_what_it_finds_damaged() {
    let store = memory();
    let pack = damaged(&store, noise, 0..10);
    for n in 1..20 {
        testing::write(&open(&store), noise, n * 10..n * 10 + 10);
    }
    let merged = open(&store).upkeep().unwrap().merge(&|| true).unwrap();
    assert_eq!((merged.replaced.len(), marks(&store)), (19, vec![unfit::mark_of(pack)]));
}

#[test]
fn a_mark_that_cannot_be_made_is_no_error() {
    let store = memory();
    damaged(&store, noise, 0..10);
    let faulty = FailAfter::once(store.clone(), 0, Failure::Before);
    let chunks = Chunks::open(Arc::new(faulty.clone()));
    FINDERS[0](&chunks, id(noise, 0));
    assert!(faulty.has_failed());
    assert_eq!(marks(&store), []);
}
