//! Hostile snapshots, streams and chunks neither panic nor allocate without bound. One test, alone in its
//! process, since the allocator that enforces the bound is the process's own: going over it aborts.

use std::alloc::System;

use cap::Cap;
use wasm_ckpt::digest::{ChunkId, ModuleId, SnapshotId};
use wasm_ckpt::snapshot::portable::{self, PortableError, Sink};
use wasm_ckpt::snapshot::{FANOUT, PAGE, SnapshotError, State, Tree, Verified, decode, limits};

#[global_allocator]
static ALLOCATOR: Cap<System> = Cap::new(System, usize::MAX);

const GOOD: &[u8] = include_bytes!("../src/snapshot/fixtures/format-1.snap");
const HEADER: usize = 18;

/// Runs `body` with at most `bytes` bytes allocated beyond those of now.
fn within<T>(bytes: usize, body: impl FnOnce() -> T) -> T {
    ALLOCATOR.set_limit(ALLOCATOR.allocated() + bytes).unwrap();
    let result = body();
    ALLOCATOR.set_limit(usize::MAX).unwrap();
    result
}

/// Decodes the body behind a good header, within what [`decode`] promises.
fn decode_body(body: &[u8]) -> Result<State, SnapshotError> {
    let len = (body.len() as u64).to_le_bytes();
    let manifest = [&GOOD[..10], &len, body].concat();
    let most = (100 * manifest.len() + 16384).min(1 << 30);
    within(most, || decode(&manifest, None)).map(Verified::into_state)
}

fn varint(mut number: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    while number >= 0x80 {
        bytes.push(number as u8 | 0x80);
        number >>= 7;
    }
    bytes.push(number as u8);
    bytes
}

#[test]
fn hostile_bytes_stay_within_bounds() {
    lengths_and_counts_everywhere();
    random_bytes();
    as_much_memory_as_the_limits_allow();
    deep_nesting();
    streams();
    trees();
}

/// A huge number in place of each byte of a good snapshot, with what followed it and without.
fn lengths_and_counts_everywhere() {
    let body = &GOOD[HEADER..];
    for at in 0..body.len() {
        for number in [1 << 7, 1 << 20, u64::from(u32::MAX), 1 << 40, u64::MAX] {
            let bytes = varint(number);
            let with = |rest: &[u8]| [&body[..at], &bytes, rest].concat();
            // Some of these are good snapshots: a number may be a number.
            let _ = decode_body(&with(&body[at + 1..]));
            if at + bytes.len() != body.len() {
                decode_body(&with(&[])).unwrap_err();
            }
            let _ = decode_body(&with(&[0; 4096]));
        }
    }
}

fn random_bytes() {
    let mut seed = 1_u64;
    let mut next = || {
        seed = seed.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (seed >> 56) as u8
    };
    for round in 0..20_000 {
        let keep = usize::from(next()) % (GOOD.len() - HEADER);
        let mut body = GOOD[HEADER..HEADER + keep].to_vec();
        // Small numbers get deeper into the reader than any.
        let mask = [0xff, 0x0f, 0x07][round % 3];
        body.extend((0..600).map(|_| next() & mask));
        let _ = decode_body(&body);
    }
}

fn as_much_memory_as_the_limits_allow() {
    let identity_to_call = &GOOD[HEADER..HEADER + 35];
    // Fuel 0, not in start, an export without name, no arguments.
    let start = [identity_to_call, &[0, 0, 0, 0]].concat();
    let globals = limits::VALUES_MAX;
    let mut body = [&start[..], &[0, 0], &varint(globals)].concat();
    for index in 0..globals {
        body.extend(varint(index));
        body.push(7);
    }
    body.extend([0; 5]);
    assert_eq!(decode_body(&body).unwrap().globals.len() as u64, globals);

    // Frames: function, offset, call, no locals, no stack; the last one is an entry.
    let mut body = [&start[..], &varint(limits::FRAMES_MAX)].concat();
    body.extend([0, 0, 2, 0, 0].repeat(limits::FRAMES_MAX as usize - 1));
    body.extend([0, 0, 0, 0, 0]);
    body.extend([0; 7]);
    assert_eq!(decode_body(&body).unwrap().frames.len() as u64, limits::FRAMES_MAX);
    let at = start.len();
    body.splice(at..at + varint(limits::FRAMES_MAX).len(), varint(limits::FRAMES_MAX + 1));
    decode_body(&body).unwrap_err();
}

fn deep_nesting() {
    // One global: an exception that holds as many values as bytes are left, the first of them alike.
    let start = [&GOOD[HEADER..HEADER + 35], &[0, 0, 0, 0, 0, 0, 1, 0]].concat();
    let level = [&[6, 1, 0][..], &varint(1 << 22)].concat();
    let mut body = [&start[..], &level.repeat(1 << 16)].concat();
    body.extend(vec![7; 1 << 22]);
    let error = decode_body(&body).unwrap_err();
    assert!(error.to_string().contains("nested over 64 deep"), "{error}");
}

/// Keeps nothing.
struct Nothing;

impl Sink for Nothing {
    fn module(&mut self, _: ModuleId, _: Vec<u8>) -> anyhow::Result<()> {
        Ok(())
    }
    fn chunk(&mut self, _: ChunkId, _: Vec<u8>) -> anyhow::Result<()> {
        Ok(())
    }
    fn snapshot(&mut self, _: Verified, _: Vec<u8>) -> anyhow::Result<()> {
        Ok(())
    }
}

/// A portable stream of one block for each of these, with right checks.
fn stream(blocks: &[&[u8]]) -> Vec<u8> {
    let mut stream = b"CKPTBNDL\x01\x00".to_vec();
    for block in blocks {
        let packed = zstd::bulk::compress(block, 1).unwrap();
        let stored = if packed.len() < block.len() { &packed } else { *block };
        stream.extend((block.len() as u32).to_le_bytes());
        stream.extend((stored.len() as u32).to_le_bytes());
        stream.extend(stored);
        let check = blake3::hash(&stream);
        stream.extend(check.as_bytes());
    }
    stream
}

fn streams() {
    let refused = |stream: &[u8], bytes: usize| -> PortableError {
        within(bytes, || portable::read(stream, &mut Nothing)).unwrap_err()
    };
    let entry = |kind: u8, len: u64| [&[kind], &len.to_le_bytes()[..], &[0; 32]].concat();
    for (kind, len) in [(1, limits::MODULE_MAX), (3, limits::MANIFEST_MAX), (2, 4096)] {
        // Much announced, little there: what is allocated follows what is there.
        refused(&stream(&[&entry(kind, len)]), 4 << 20);
        let zeros = vec![0; 1 << 20];
        refused(&stream(&[&entry(kind, len), &zeros, &zeros]), 9 << 20);
        // More announced than may be.
        refused(&stream(&[&entry(kind, len + 1), &zeros]), 4 << 20);
        refused(&stream(&[&entry(kind, u64::MAX), &zeros]), 4 << 20);
    }
    // Block lengths: any byte of them wrong.
    let good = stream(&[&entry(1, 4), b"wasm"]);
    for at in 10..18 {
        for byte in [0, 1, 0x7f, 0xff] {
            let mut bad = good.clone();
            if bad[at] != byte {
                bad[at] = byte;
                refused(&bad, 4 << 20);
            }
        }
    }
}

fn trees() {
    // A chunk whose ids are all those of the chunk below: 10 chunks that stand for 2^27 pages.
    let page = vec![1; PAGE];
    let mut chunks = vec![(ChunkId::of(&page), page)];
    for _ in 0..9 {
        let node = chunks[chunks.len() - 1].0.as_bytes().repeat(FANOUT);
        chunks.push((ChunkId::of(&node), node));
    }
    let root = chunks[chunks.len() - 1].0;
    let mut fetch = |id: ChunkId| match chunks.iter().find(|chunk| chunk.0 == id) {
        Some((_, bytes)) => Ok(bytes.clone()),
        None => anyhow::bail!("missing"),
    };
    let mut taken = 0;
    let mut take = |_: u64, _: &[u8]| {
        taken += 1;
        if taken > 1000 { anyhow::bail!("enough") } else { Ok(()) }
    };
    let len = (PAGE << 27) as u64;
    within(1 << 20, || Tree::load(root, len, &mut fetch, &mut take)).unwrap_err();
    assert_eq!(taken, 1001, "who takes the pages can stop it");
    // The longest content, of zeros, and one whose root is anything.
    for (root, good) in [(ChunkId::ZERO, true), (ChunkId::of(b"?"), false)] {
        let load = || Tree::load(root, limits::LEN_MAX, &mut fetch, &mut |_, _| Ok(()));
        assert_eq!(within(1 << 16, load).is_ok(), good);
    }
    assert!(Tree::load(ChunkId::ZERO, u64::MAX, &mut fetch, &mut |_, _| Ok(())).is_err());
    assert!(decode(GOOD, Some(SnapshotId::of(GOOD))).is_ok());
}
