//! Tests of the indexes of packs: their bytes, what is refused, old formats, how little is read.

use std::collections::HashSet;
use std::sync::Arc;

use super::pack::{Footer, Frame, Index, Method};
use super::pack_index::{Pack, read_index};
use super::tables::{Encoded, Root};
// The pages of the fixture.
use super::testing::like_memory as page;
use super::*;
use crate::digest::{ChunkId, PackId};

/// Made by the build that wrote format 1. Never made anew.
const FORMAT_1: &[u8] = include_bytes!("fixtures/format-1.pack");
const FORMAT_1_ID: &str = "a4d6ae42c71c93de9954f946af5aba92358160843c2f0a816e30476134de0f47";

/// What else is in it.
fn noise() -> [Vec<u8>; 2] {
    let mut noise = vec![0; CHUNK_MAX];
    blake3::Hasher::new().finalize_xof().fill(&mut noise);
    [noise.clone(), noise[..5].to_vec()]
}

fn id(n: u32) -> ChunkId {
    ChunkId::of(&page(n))
}

/// A store with this pack alone.
fn store_of(id: PackId, pack: &[u8]) -> Arc<Memory> {
    let store = Memory::new();
    store.put(&id.key(), pack).unwrap();
    Arc::new(store)
}

#[test]
fn packs_of_format_1_are_read_as_ever() {
    let pack: PackId = FORMAT_1_ID.parse().unwrap();
    let store = store_of(pack, FORMAT_1);
    let chunks = Chunks::open(store.clone());
    let check = |chunks: &Chunks| {
        for n in 0..40 {
            assert!(chunks.read(id(n)).unwrap() == page(n), "page {n}");
        }
        for part in noise() {
            assert!(chunks.read(ChunkId::of(&part)).unwrap() == part);
        }
        assert!(matches!(chunks.read(id(40)), Err(StoreError::NotFound { .. })));
    };
    check(&chunks);
    chunks.verify(&mut |report| assert_eq!(report.result.unwrap(), (42, FORMAT_1.len() as u64))).unwrap();
    // Writers find its chunks.
    let mut writer = chunks.writer().unwrap();
    assert!((0..40).all(|n| !writer.add(id(n), &page(n)).unwrap()));
    assert!(writer.add(id(40), &page(40)).unwrap());
    drop(writer.finish().unwrap());
    // What is rewritten of it is of the newest format.
    let live: HashSet<ChunkId> = (0..10).map(id).collect();
    let mut upkeep = chunks.upkeep().unwrap();
    let done = upkeep.rewrite_sparse(&live, &|| true).unwrap();
    assert_eq!((done.replaced.clone(), done.packs.len()), (vec![pack], 1));
    assert_eq!(Pack::open(&*store, done.packs[0]).unwrap().format, 2);
    let swept = upkeep.sweep().unwrap().remove_unreferenced(&live).unwrap();
    assert!(swept.removed.contains(&pack), "{swept:?}");
    assert!((0..10).all(|n| Chunks::open(store.clone()).read(id(n)).unwrap() == page(n)));
    assert!(chunks.read(id(11)).is_err());
}

#[test]
fn damage_to_a_pack_of_format_1_is_found() {
    let pack: PackId = FORMAT_1_ID.parse().unwrap();
    let begin = FORMAT_1.len() - 50 - 42 * 36 - 200;
    let bits = (0..24 * 8).chain(begin * 8..FORMAT_1.len() * 8).step_by(3);
    for bit in bits {
        let mut bytes = FORMAT_1.to_vec();
        bytes[bit / 8] ^= 1 << (bit % 8);
        let chunks = Chunks::open(store_of(pack, &bytes));
        let mut reports = vec![];
        chunks.verify(&mut |report| reports.push(report.result)).unwrap();
        assert!(reports.pop().unwrap().is_err(), "bit {bit}");
        for n in [0, 39] {
            assert!(chunks.read(id(n)).is_err() || chunks.read(id(n)).unwrap() == page(n));
        }
    }
}

/// The end of a pack of format 1.
fn encode_1(index: &Index) -> (PackId, Vec<u8>) {
    let mut out = vec![];
    out.extend((index.frames.len() as u32).to_le_bytes());
    out.extend((index.chunks.len() as u32).to_le_bytes());
    Index::write_entries(&index.frames, &index.chunks, &mut out);
    let id = PackId::of(&out);
    let mut footer = Footer::encode(id, out.len() as u64);
    footer[40..42].copy_from_slice(&1_u16.to_le_bytes());
    (id, [out, footer].concat())
}

/// Indexes that are hashed properly and say what cannot be.
#[test]
fn inconsistent_indexes_are_refused() {
    let frame = |stored_len, len, method, chunks| Frame { stored_len, len, method, chunks, hash: [7; 32] };
    let chunk = |len| (ChunkId::of(b"x"), len);
    let read = |frames: Vec<Frame>, chunks: Vec<(ChunkId, u32)>| {
        let index = Index { frames, chunks };
        let encoded = Encoded::of(&index);
        [encode_1(&index), (encoded.id(), encoded.into_end())].map(|(id, end)| {
            let pack = [&Index::header()[..], &[0; 50], &end].concat();
            let store = store_of(id, &pack);
            let reader = Chunks::open(store.clone());
            assert!(reader.read(ChunkId::of(b"x")).is_err());
            read_index(&*store, id).map(|_| ())
        })
    };
    let refused = |frames: Vec<Frame>, chunks: Vec<(ChunkId, u32)>| {
        for result in read(frames, chunks) {
            assert!(matches!(result, Err(StoreError::Corrupt { .. })), "{result:?}");
        }
    };
    assert!(read(vec![frame(50, 60, Method::Zstd, 1)], vec![chunk(60)]).iter().all(Result::is_ok));
    refused(vec![frame(50, 60, Method::Zstd, 2)], vec![chunk(60)]);
    refused(vec![frame(50, 60, Method::Zstd, 1)], vec![chunk(59)]);
    refused(vec![frame(50, 60, Method::Zstd, 1)], vec![chunk(60), chunk(0)]);
    refused(vec![frame(50, 60, Method::Raw, 1)], vec![chunk(60)]);
    refused(vec![frame(50, 50, Method::Zstd, 1)], vec![chunk(50)]);
    refused(vec![frame(50, 50, Method::Raw, 0), frame(0, 0, Method::Raw, 1)], vec![chunk(50)]);
    refused(vec![frame(50, 50, Method::Raw, 1), frame(0, 0, Method::Raw, 0)], vec![chunk(50)]);
    refused(vec![frame(50, u32::MAX, Method::Zstd, 1)], vec![chunk(u32::MAX)]);
    refused(vec![frame(50, 0, Method::Zstd, 2)], vec![chunk(u32::MAX), chunk(1)]);
    refused(vec![frame(49, 49, Method::Raw, 1)], vec![chunk(49)]);
    refused(vec![frame(u32::MAX, u32::MAX, Method::Raw, 1)], vec![chunk(u32::MAX)]);
}

#[test]
fn counts_that_are_not_there_allocate_nothing() {
    for counts in [[0xff; 8], [0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0], [0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff]] {
        let refused = Index::decode_1(PackId::of(&counts), 8 + 66, &counts);
        assert!(matches!(refused, Err(StoreError::Corrupt { .. })));
        for bits in [0_u32, 16, 17, 63, 64, u32::MAX] {
            assert_eq!(Root::parse(1 << 20, &[&counts[..], &bits.to_le_bytes()].concat()), None);
        }
    }
    // One block of all the bytes that there are.
    let mut root = vec![0; 12 + 48 + 36];
    root[4] = 1;
    root[12..20].fill(0xff);
    assert_eq!(Root::parse(1 << 20, &root), None);
    root[12..20].fill(0);
    root[20..28].fill(0xff);
    assert_eq!(Root::parse(1 << 20, &root), None);
}

/// The bytes of a pack of so many chunks, 17 of which are in one frame, in the order of their number; and its index.
fn frames_of(chunks: u32) -> (Vec<u8>, Index) {
    let bytes: Vec<u8> = (0..chunks).flat_map(u32::to_le_bytes).collect();
    let frame = |bytes: &[u8]| {
        let (len, chunks) = (bytes.len() as u32, bytes.len() as u32 / 4);
        let hash = *blake3::hash(bytes).as_bytes();
        Frame { stored_len: len, len, method: Method::Raw, chunks, hash }
    };
    let ids = bytes.chunks(4).map(|chunk| (ChunkId::of(chunk), 4)).collect();
    let index = Index { frames: bytes.chunks(4 * 17).map(frame).collect(), chunks: ids };
    ([Index::header().to_vec(), bytes].concat(), index)
}

#[test]
fn every_chunk_is_found_by_its_bucket() {
    for count in [0, 1, 255, 256, 257, 5000, 40_000] {
        let (frames, index) = frames_of(count);
        let encoded = Encoded::of(&index);
        let (id, root) = (encoded.id(), encoded.root.clone());
        let pack = [frames, encoded.into_end()].concat();
        let store = store_of(id, &pack);
        assert_eq!(read_index(&*store, id).unwrap(), (index.clone(), pack.len() as u64));
        let written = Pack::written(id, &root, pack.len() as u64).unwrap();
        assert_eq!((written.chunks(), written.size), (count as usize, pack.len() as u64));
        let chunks = Chunks::open(store.clone());
        for n in (0..count).step_by(1 + count as usize / 1000) {
            assert_eq!(chunks.read(ChunkId::of(&n.to_le_bytes())).unwrap(), n.to_le_bytes());
        }
        assert!(!chunks.contains(ChunkId::of(&count.to_le_bytes())).unwrap());
        let (mut prints, mut all) = (0, HashSet::new());
        let mut add = |print| {
            prints += 1;
            all.insert(print);
        };
        written.fingerprints(&*store, &mut add).unwrap();
        assert_eq!((prints, all.len()), (count as usize, count as usize));
    }
}

/// Looking for one chunk reads little of a pack that has many.
#[test]
fn one_look_reads_a_small_part_of_an_index() {
    let (frames, index) = frames_of(20_000);
    let encoded = Encoded::of(&index);
    let (id, index_at) = (encoded.id(), frames.len());
    let pack = [frames, encoded.into_end()].concat();
    let wanted = ChunkId::of(&7_777_u32.to_le_bytes());
    // Whatever is read is checked: so a part that is read is one without which the chunk cannot be found.
    let needed = (index_at..pack.len()).step_by(2048).filter(|at| {
        let mut bytes = pack.clone();
        bytes[*at] ^= 1;
        Chunks::open(store_of(id, &bytes)).read(wanted).is_err()
    });
    let (needed, parts) = (needed.count(), (pack.len() - index_at) / 2048);
    assert!(needed >= 6 && needed * 20 < parts, "{needed} of {parts} parts are needed");
    let damaged = {
        let mut bytes = pack.clone();
        let all = bytes.len();
        bytes[index_at + 1000] ^= 1;
        bytes[all - 20_000] ^= 1;
        Chunks::open(store_of(id, &bytes))
    };
    // Those whose parts are damaged are said to be missing in a pack that is damaged, the others are read.
    let ids = (0..20_000_u32).step_by(20).map(|n| ChunkId::of(&n.to_le_bytes()));
    let (mut good, mut bad) = (0, 0);
    for id in ids {
        match damaged.read(id) {
            Ok(_) => good += 1,
            Err(error) => {
                assert!(error.to_string().contains("is damaged"), "{error}");
                bad += 1;
            }
        }
    }
    assert!(good > 900 && bad >= 2, "{good} are read, {bad} not");
}
