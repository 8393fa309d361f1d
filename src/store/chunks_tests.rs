//! Tests of the chunk repository: packs, reading, damage, sweeps.

use std::collections::HashSet;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use super::pack::PACK_CHUNKS;
use super::testing::like_memory as page;
use super::*;
use crate::digest::ChunkId;

fn id(n: u32) -> ChunkId {
    ChunkId::of(&page(n))
}

fn write(chunks: &Chunks, pages: impl IntoIterator<Item = u32>) -> Written {
    testing::write(chunks, page, pages)
}

fn memory() -> (Memory, Chunks) {
    let store = Memory::new();
    (store.clone(), Chunks::open(Arc::new(store)))
}

fn assert_whole(chunks: &Chunks, pages: impl IntoIterator<Item = u32>) {
    for n in pages {
        assert!(chunks.read(id(n)).unwrap() == page(n), "page {n}");
    }
}

#[test]
fn chunks_come_back_and_are_stored_once() {
    let (store, chunks) = memory();
    let first = write(&chunks, (0..500).chain(0..500));
    assert_eq!((first.packs.len(), first.chunks, first.bytes), (1, 500, 500 * 4096));
    assert_eq!(store.size(&first.packs[0].key()).unwrap(), first.stored_bytes);
    assert!(first.stored_bytes < first.bytes / 10);
    let second = write(&chunks, 400..600);
    assert_eq!((second.packs.len(), second.chunks), (1, 100));
    assert_eq!(write(&chunks, 0..600), Written::default());
    // The same, seen by another.
    let other = Chunks::open(Arc::new(store));
    assert!(other.contains(id(3)).unwrap() && !other.contains(id(600)).unwrap());
    assert_whole(&other, (0..600).rev());
    assert!(matches!(other.read(id(600)), Err(StoreError::NotFound { .. })));
    assert_eq!(write(&other, 0..600), Written::default());
}

#[test]
fn chunks_of_another_writer_are_found() {
    let (store, chunks) = memory();
    write(&chunks, 0..10);
    let other = Chunks::open(Arc::new(store));
    write(&other, 10..20);
    assert_whole(&chunks, 0..20);
}

#[test]
fn chunks_of_all_sizes_and_incompressible_ones() {
    let (_, chunks) = memory();
    let mut noise = vec![0; CHUNK_MAX + 1];
    blake3::Hasher::new().finalize_xof().fill(&mut noise);
    let sizes = [0, 1, 31, 4096, 65_000, CHUNK_MAX, 7, CHUNK_MAX - 1, CHUNK_MAX - 2, 256];
    let mut writer = chunks.writer().unwrap();
    for size in sizes {
        assert!(writer.add(ChunkId::of(&noise[..size]), &noise[..size]).unwrap());
        assert!(!writer.add(ChunkId::of(&noise[..size]), &noise[..size]).unwrap());
    }
    let too_large = writer.add(ChunkId::of(&noise), &noise);
    assert!(matches!(too_large, Err(StoreError::TooLarge { .. })));
    drop(writer.finish().unwrap());
    for size in sizes {
        assert!(chunks.read(ChunkId::of(&noise[..size])).unwrap() == noise[..size]);
    }
}

#[test]
fn a_writer_that_is_dropped_stores_nothing() {
    let (store, chunks) = memory();
    let mut writer = chunks.writer().unwrap();
    writer.add(id(1), &page(1)).unwrap();
    drop(writer);
    assert!(!chunks.contains(id(1)).unwrap());
    assert_eq!(store.list("packs/").unwrap(), []);
    assert_eq!(write(&chunks, [1]).chunks, 1);
}

/// Enough for the threads of a pipeline, many times over.
const MANY: u32 = 6000;

#[test]
fn the_effort_changes_neither_ids_nor_what_is_read() {
    let efforts = ["auto", "fast", "none", "3"].map(|text| text.parse::<Compress>().unwrap());
    let mut sizes = vec![];
    for effort in efforts {
        let (_, chunks) = memory();
        let chunks = chunks.with_compress(effort);
        let mut writer = chunks.writer().unwrap();
        writer.set_threads(std::num::NonZero::new(3).unwrap());
        for n in 0..MANY {
            assert!(writer.add(id(n), &page(n)).unwrap());
        }
        let (written, _guard) = writer.finish().unwrap();
        assert_eq!((written.chunks, written.packs.len()), (u64::from(MANY), 1));
        sizes.push(written.stored_bytes);
        assert_whole(&chunks, 0..MANY);
        chunks.verify(&mut |report| assert_eq!(report.result.unwrap().0, u64::from(MANY))).unwrap();
    }
    let [auto, fast, none, third] = sizes[..] else { panic!() };
    assert!(auto <= fast && fast < none && third < none, "{sizes:?}");
    assert!(none > u64::from(MANY) * 4096);
}

#[test]
fn a_big_pack_that_cannot_be_written_is_an_error_and_leaves_nothing() {
    for n in [1, 2, 20, 300] {
        let store = Memory::new();
        let faulty = fault::FailAfter::once(Arc::new(store.clone()), n, fault::Failure::Before);
        let chunks = Chunks::open(Arc::new(faulty)).with_compress(Compress::None);
        let write = || -> Result<(), StoreError> {
            let mut writer = chunks.writer()?;
            for n in 0..MANY {
                writer.add(id(n), &page(n))?;
            }
            writer.finish().map(drop)
        };
        assert!(matches!(write(), Err(StoreError::Io { .. })), "{n}");
        assert_eq!(store.list("packs/").unwrap(), []);
        write().unwrap();
        assert_whole(&Chunks::open(Arc::new(store)), [0, MANY - 1]);
    }
}

#[test]
fn a_big_pack_that_is_dropped_leaves_nothing() {
    let (store, chunks) = memory();
    let mut writer = chunks.writer().unwrap();
    for n in 0..MANY {
        writer.add(id(n), &page(n)).unwrap();
    }
    drop(writer);
    assert_eq!(store.list("packs/").unwrap(), []);
    // No lease is left either.
    drop(chunks.sweep().unwrap());
}

#[test]
fn packs_are_closed_when_they_have_many_chunks() {
    let (_, chunks) = memory();
    let mut writer = chunks.writer().unwrap();
    for n in 0..PACK_CHUNKS as u64 + 10 {
        let bytes = n.to_le_bytes();
        writer.add(ChunkId::of(&bytes), &bytes).unwrap();
    }
    let (written, _guard) = writer.finish().unwrap();
    assert_eq!((written.packs.len(), written.chunks), (2, PACK_CHUNKS as u64 + 10));
    for n in [0, PACK_CHUNKS as u64 - 1, PACK_CHUNKS as u64, PACK_CHUNKS as u64 + 9] {
        assert_eq!(chunks.read(ChunkId::of(&n.to_le_bytes())).unwrap(), n.to_le_bytes());
    }
}

/// What `verify` says of the one pack of the store.
fn verify(store: &Memory) -> Result<(u64, u64), StoreError> {
    let mut reports = Vec::new();
    Chunks::open(Arc::new(store.clone())).verify(&mut |report| reports.push(report)).unwrap();
    assert_eq!(reports.len(), 1);
    reports.remove(0).result
}

#[test]
fn every_truncation_and_bit_flip_is_found() {
    let (store, chunks) = memory();
    let key = write(&chunks, 0..3).packs[0].key();
    let whole = store.get(&key).unwrap();
    assert_eq!(verify(&store).unwrap(), (3, whole.len() as u64));
    let mut damaged: Vec<Vec<u8>> = (0..whole.len()).map(|len| whole[..len].to_vec()).collect();
    damaged.extend((0..whole.len() * 8).map(|bit| {
        let mut bytes = whole.clone();
        bytes[bit / 8] ^= 1 << (bit % 8);
        bytes
    }));
    damaged.push([whole.as_slice(), b"x"].concat());
    for bytes in damaged {
        store.put(&key, &bytes).unwrap();
        let error = verify(&store).unwrap_err();
        assert!(matches!(error, StoreError::Corrupt { .. } | StoreError::NewerVersion { .. }), "{error:?}");
        assert!(error.to_string().contains(key.as_str()), "{error}");
        // What can still be read is right.
        let chunks = Chunks::open(Arc::new(store.clone()));
        for n in 0..3 {
            assert!(chunks.read(id(n)).is_err() || chunks.read(id(n)).unwrap() == page(n));
        }
    }
}

#[test]
fn a_damaged_pack_hides_no_other_and_is_named() {
    let (store, chunks) = memory();
    let first = write(&chunks, 0..3).packs[0].key();
    write(&chunks, 3..6);
    let mut bytes = store.get(&first).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    store.put(&first, &bytes).unwrap();
    let chunks = Chunks::open(Arc::new(store.clone()));
    assert_whole(&chunks, 3..6);
    let error = chunks.read(id(0)).unwrap_err();
    assert!(error.to_string().contains(first.as_str()), "{error}");
    // Storing the chunks once more makes up for it.
    assert_eq!(write(&chunks, 0..6).chunks, 3);
    assert_whole(&Chunks::open(Arc::new(store)), 0..6);
}

#[test]
fn a_newer_pack_is_not_taken_for_damage() {
    let (store, chunks) = memory();
    let key = write(&chunks, 0..3).packs[0].key();
    let mut bytes = store.get(&key).unwrap();
    let format = bytes.len() - 10;
    bytes[format] = 9;
    store.put(&key, &bytes).unwrap();
    let error = Chunks::open(Arc::new(store.clone())).contains(id(0)).unwrap_err();
    assert!(matches!(error, StoreError::NewerVersion { found: 9, known: 2, .. }), "{error:?}");
    // So a sweep does not remove what it does not understand.
    assert!(chunks.sweep().unwrap().remove_unreferenced(&HashSet::new()).is_err());
    assert!(store.size(&key).is_ok());
}

#[test]
fn sweeps_remove_what_is_not_needed_and_no_more() {
    let (store, chunks) = memory();
    let (dead, live) = (write(&chunks, 0..10), write(&chunks, 10..20));
    let bystander = Chunks::open(Arc::new(store.clone()));
    assert_whole(&bystander, 0..20);
    // A writer is known to be up to date, before and after.
    assert_eq!(write(&bystander, 0..20), Written::default());

    let sweep = chunks.sweep().unwrap();
    let swept = sweep.remove_unreferenced(&HashSet::from([id(15)])).unwrap();
    drop(sweep);
    assert_eq!(swept.removed, dead.packs);
    assert_eq!((swept.bytes, swept.kept, swept.damaged.len()), (dead.stored_bytes, 1, 0));
    assert_eq!(store.list("packs/").unwrap(), [live.packs[0].key()]);
    assert!(!chunks.contains(id(0)).unwrap());
    assert_whole(&bystander, 10..20);

    // The bystander knew chunks that are gone now. It must not rely on them.
    assert_eq!(write(&bystander, 0..20).chunks, 10);
    assert_whole(&Chunks::open(Arc::new(store)), 0..20);
    let again = chunks.sweep().unwrap().remove_unreferenced(&(0..20).map(id).collect()).unwrap();
    assert_eq!((again.removed.len(), again.kept), (0, 2));
}

#[test]
fn a_reader_finds_the_other_copy_of_a_chunk_whose_pack_was_removed() {
    let (store, chunks) = memory();
    let first = write(&chunks, 0..10);
    // Made by two writers at once, so that both packs hold page 5.
    let other = Memory::new();
    let second = write(&Chunks::open(Arc::new(other.clone())), 5..15);
    store.put(&second.packs[0].key(), &other.get(&second.packs[0].key()).unwrap()).unwrap();
    for gone in [&first, &second] {
        let reader = Chunks::open(Arc::new(store.clone()));
        assert!(reader.contains(id(5)).unwrap());
        let object = store.get(&gone.packs[0].key()).unwrap();
        store.delete(&gone.packs[0].key()).unwrap();
        assert_whole(&reader, 5..10);
        store.put(&gone.packs[0].key(), &object).unwrap();
    }
}

#[test]
fn a_sweep_waits_for_writers_and_writers_for_a_sweep() {
    let (_, chunks) = memory();
    let mut writer = chunks.writer().unwrap();
    writer.add(id(1), &page(1)).unwrap();
    let (_, guard) = writer.finish().unwrap();
    let mut also_shared = chunks.writer().unwrap();
    also_shared.add(id(2), &page(2)).unwrap();
    thread::scope(|scope| {
        let sweep = scope.spawn(|| {
            let sweep = chunks.sweep().unwrap();
            // Only now it is known that these are needed.
            sweep.remove_unreferenced(&HashSet::from([id(1), id(2)])).unwrap()
        });
        thread::sleep(Duration::from_millis(50));
        drop(guard);
        thread::sleep(Duration::from_millis(50));
        assert!(!sweep.is_finished());
        drop(also_shared.finish().unwrap());
        assert_eq!(sweep.join().unwrap().kept, 2);
    });
    let sweep = chunks.sweep().unwrap();
    thread::scope(|scope| {
        let writer = scope.spawn(|| write(&chunks, [1, 3]));
        thread::sleep(Duration::from_millis(50));
        assert!(!writer.is_finished());
        sweep.remove_unreferenced(&HashSet::new()).unwrap();
        drop(sweep);
        assert_eq!(writer.join().unwrap().chunks, 2);
    });
}

#[test]
fn a_sweep_that_waits_lets_writers_in_meanwhile() {
    let (_, chunks) = memory();
    let slow = chunks.writer().unwrap();
    thread::scope(|scope| {
        let sweep = scope.spawn(|| chunks.sweep().unwrap().remove_unreferenced(&HashSet::new()).unwrap());
        thread::sleep(Duration::from_millis(50));
        for n in 0..3 {
            let begun = Instant::now();
            write(&chunks, [n]);
            assert!(begun.elapsed() < Duration::from_secs(4), "writer {n}: {:?}", begun.elapsed());
        }
        assert!(!sweep.is_finished());
        drop(slow);
        assert_eq!(sweep.join().unwrap().removed.len(), 3);
    });
}
