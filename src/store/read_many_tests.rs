//! Tests of reading many chunks at once.

use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use super::*;
use crate::digest::ChunkId;
use crate::snapshot::PAGE;

/// A page half of which does not compress.
fn page(n: u32) -> Vec<u8> {
    testing::noisy(n, 2048)
}

fn id(n: u32) -> ChunkId {
    ChunkId::of(&page(n))
}

fn write(chunks: &Chunks, pages: impl IntoIterator<Item = u32>) -> Written {
    testing::write(chunks, page, pages)
}

/// Reads these pages, and checks that each comes once for each time that it is asked for.
fn read(chunks: &Chunks, pages: &[u32], threads: usize) -> Result<(), StoreError> {
    let ids: Vec<_> = pages.iter().map(|n| id(*n)).collect();
    let came = Mutex::new(vec![0; pages.len()]);
    chunks.read_many(&ids, threads, &|range, bytes| {
        assert_eq!(bytes.len(), range.len() * PAGE);
        for (index, bytes) in range.zip(bytes.chunks(PAGE)) {
            assert!(bytes == page(pages[index]), "page {}", pages[index]);
            came.lock().unwrap()[index] += 1;
        }
        Ok(())
    })?;
    assert!(came.into_inner().unwrap().iter().all(|times| *times == 1));
    Ok(())
}

/// Counts the bytes that are read.
struct Counting(Memory, AtomicU64);

impl Store for Counting {
    crate::store_by!(0: describe put upload create get size list settle delete lease);
    fn get_range(&self, key: &Key, range: Range<u64>) -> Result<Vec<u8>, StoreError> {
        self.1.fetch_add(range.end - range.start, Ordering::SeqCst);
        self.0.get_range(key, range)
    }
}

#[test]
fn all_come_whatever_the_order_and_the_threads() {
    for compress in [Compress::None, Compress::Auto] {
        let store = Memory::new();
        let chunks = Chunks::open(Arc::new(store.clone())).with_compress(compress);
        write(&chunks, 0..1000);
        write(&chunks, 1000..1300);
        let mut pages: Vec<u32> = (0..1300).chain(5..9).chain([1299; 3]).collect();
        for threads in [0, 1, 2, 5] {
            read(&chunks, &pages, threads).unwrap();
            // As good as shuffled.
            pages.sort_by_key(|n| n.wrapping_mul(0x9E37_79B1));
            read(&Chunks::open(Arc::new(store.clone())), &pages, threads).unwrap();
        }
        read(&chunks, &[], 2).unwrap();
        // A part of a frame, again and again.
        for first in 0..40 {
            read(&chunks, &[first, first + 1, first + 900], 2).unwrap();
        }
    }
}

#[test]
fn each_frame_is_read_once() {
    let store = Arc::new(Counting(Memory::new(), AtomicU64::new(0)));
    let chunks = Chunks::open(store.clone());
    let stored = write(&chunks, 0..2000).stored_bytes;
    let before = store.1.load(Ordering::SeqCst);
    let mut pages: Vec<u32> = (0..2000).collect();
    pages.sort_by_key(|n| n.wrapping_mul(0x9E37_79B1));
    read(&chunks, &pages, 2).unwrap();
    let bytes = store.1.load(Ordering::SeqCst) - before;
    assert!(bytes < stored + stored / 10, "{bytes} bytes are read of {stored}");
    // Far from each other, they are read alone.
    let before = store.1.load(Ordering::SeqCst);
    read(&chunks, &[0, 500, 1000, 1500], 2).unwrap();
    let bytes = store.1.load(Ordering::SeqCst) - before;
    assert!(bytes < stored / 8, "{bytes} bytes are read for 4 pages");
}

#[test]
fn what_is_wrong_is_told() {
    for compress in [Compress::None, Compress::Auto] {
        let store = Memory::new();
        let chunks = Chunks::open(Arc::new(store.clone())).with_compress(compress);
        let key = write(&chunks, 0..500).packs[0].key();
        let all: Vec<u32> = (0..500).collect();
        let ids: Vec<_> = all.iter().map(|n| id(*n)).collect();
        assert!(matches!(read(&chunks, &[1, 2, 500], 2), Err(StoreError::NotFound { .. })));
        let refuse = |range: Range<usize>, _: &[u8]| match range.contains(&77) {
            true => Err(StoreError::corrupt("the taker", "is full")),
            false => Ok(()),
        };
        let error = chunks.read_many(&ids, 2, &refuse).unwrap_err();
        assert!(error.to_string().contains("the taker"), "{error}");
        let mut bytes = store.get(&key).unwrap();
        let middle = bytes.len() / 3;
        bytes[middle] ^= 1;
        store.put(&key, &bytes).unwrap();
        let error = read(&Chunks::open(Arc::new(store.clone())), &all, 2).unwrap_err();
        assert!(matches!(error, StoreError::Corrupt { .. }), "{error}");
        assert!(error.to_string().contains(key.as_str()), "{error}");
        // What lies elsewhere is given.
        read(&Chunks::open(Arc::new(store)), &[0, 1, 499], 2).unwrap();
    }
}

#[test]
fn packs_that_were_rewritten_are_found_again() {
    let store: Arc<dyn Store> = Arc::new(Memory::new());
    let chunks = Chunks::open(store.clone());
    let pages: Vec<u32> = (0..200).collect();
    pages.chunks(10).for_each(|part| drop(write(&chunks, part.iter().copied())));
    let other = Chunks::open(store.clone());
    assert_eq!(other.upkeep().unwrap().merge(&|| true).unwrap().packs.len(), 1);
    read(&chunks, &pages, 2).unwrap();
    // One that is gone for good.
    let reader = Chunks::open(store.clone());
    reader.read(id(3)).unwrap();
    for key in store.list("packs/").unwrap() {
        store.delete(&key).unwrap();
    }
    assert!(matches!(read(&reader, &[150, 151], 2), Err(StoreError::NotFound { .. })));
}
