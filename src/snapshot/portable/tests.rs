//! Tests of the portable stream: round trips, damage, hostile entries.

use std::io::Cursor;

use super::*;
use crate::snapshot::testing::{Random, state};
use crate::snapshot::{Dirty, Memory, Tree, encode};

/// Keeps what comes.
#[derive(Debug, Default, PartialEq)]
struct Kept {
    modules: Vec<Vec<u8>>,
    chunks: Vec<(ChunkId, Vec<u8>)>,
    snapshots: Vec<(SnapshotId, Vec<u8>)>,
}

impl Sink for Kept {
    fn module(&mut self, id: ModuleId, bytes: Vec<u8>) -> anyhow::Result<()> {
        assert_eq!(id, ModuleId::of(&bytes));
        self.modules.push(bytes);
        Ok(())
    }

    fn chunk(&mut self, id: ChunkId, bytes: Vec<u8>) -> anyhow::Result<()> {
        self.chunks.push((id, bytes));
        Ok(())
    }

    fn snapshot(&mut self, snapshot: Verified, manifest: Vec<u8>) -> anyhow::Result<()> {
        self.snapshots.push((snapshot.id(), manifest));
        Ok(())
    }
}

/// A module, a memory of it and its snapshot.
fn parts(seed: u64, memory: &[u8]) -> Kept {
    let mut random = Random::new(seed);
    let mut kept = Kept { modules: vec![b"\0asm module".repeat(9)], ..Kept::default() };
    let root = Tree::new().update(memory, Dirty::All, &mut |id, bytes| {
        kept.chunks.push((id, bytes.to_vec()));
        Ok(())
    });
    let mut state = state(&mut random);
    state.identity.module = ModuleId::of(&kept.modules[0]);
    state.memories = vec![Memory { len: memory.len() as u64, root: root.unwrap() }];
    kept.snapshots.push(encode(&state).unwrap());
    kept
}

fn write(kept: &Kept) -> Vec<u8> {
    let mut writer = Writer::new(Vec::new()).unwrap();
    for module in &kept.modules {
        writer.module(module).unwrap();
    }
    for (id, bytes) in &kept.chunks {
        writer.chunk(*id, bytes).unwrap();
    }
    for (id, manifest) in &kept.snapshots {
        writer.snapshot(*id, manifest).unwrap();
    }
    writer.finish().unwrap()
}

fn read_all(bytes: &[u8]) -> Result<Kept, PortableError> {
    let mut kept = Kept::default();
    read(bytes, &mut kept)?;
    Ok(kept)
}

fn random_bytes(seed: u64, len: usize) -> Vec<u8> {
    let mut random = Random::new(seed);
    (0..len).map(|_| random.next() as u8).collect()
}

/// Gives a byte at a time, as a pipe may.
struct Dribble<'a>(Cursor<&'a [u8]>);

impl Read for Dribble<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let end = buffer.len().min(1);
        self.0.read(&mut buffer[..end])
    }
}

#[test]
fn round_trips_over_many_blocks_and_through_a_slow_pipe() {
    // Bytes that cannot be compressed, and bytes that can; over one block and under.
    for (seed, memory) in [
        (1, random_bytes(7, 3 << 20)),
        (2, (0..3_u32 << 20).map(|n| (n >> 12) as u8).collect()),
        (3, vec![5; 100_000]),
        (4, Vec::new()),
    ] {
        let kept = parts(seed, &memory);
        let bytes = write(&kept);
        assert!(read_all(&bytes).unwrap() == kept);
        assert!(bytes.len() < memory.len() * 11 / 10 + 5000, "{}", bytes.len());
        if memory.len() <= 100_000 {
            let mut slowly = Kept::default();
            read(Dribble(Cursor::new(&bytes)), &mut slowly).unwrap();
            assert!(slowly == kept);
        }
    }
}

#[test]
fn every_truncation_and_bit_flip_is_refused() {
    let good = write(&parts(5, &random_bytes(8, 300)));
    for len in 0..good.len() {
        let error = read_all(&good[..len]).unwrap_err();
        assert!(matches!(error, PortableError::Truncated { .. }), "{len}: {error}");
    }
    let longer = [&good[..], &[0]].concat();
    let error = read_all(&longer).unwrap_err().to_string();
    assert!(error.contains("something follows the end"), "{error}");
    for bit in 0..good.len() * 8 {
        let mut flipped = good.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        let error = read_all(&flipped).unwrap_err();
        use PortableError::{Damaged, NotPortable, OtherFormat, Truncated};
        let named =
            matches!(error, Damaged { .. } | NotPortable { .. } | OtherFormat { .. } | Truncated { .. });
        assert!(named, "{bit}: {error}");
    }
}

/// A stream of these bytes as only entry layer, with blocks in good order.
fn stream(entries: &[u8]) -> Vec<u8> {
    let mut blocks = BlockWriter::new(Vec::new()).unwrap();
    blocks.write(entries).unwrap();
    blocks.finish().unwrap()
}

fn entry(kind: u8, len: u64, id: &[u8; 32], bytes: &[u8]) -> Vec<u8> {
    [&[kind], &len.to_le_bytes()[..], id, bytes].concat()
}

#[test]
fn hostile_entries_are_refused_with_a_reason() {
    let module = ModuleId::of(b"m");
    let page = [1; 4096];
    let good_module = entry(1, 1, module.as_bytes(), b"m");
    let chunk = entry(2, 4096, ChunkId::of(&page).as_bytes(), &page);
    let kept = parts(6, b"memory");
    let (id, manifest) = &kept.snapshots[0];
    let snapshot = entry(3, manifest.len() as u64, id.as_bytes(), manifest);
    for (entries, reason) in [
        (vec![], "ends without a snapshot"),
        ([&good_module[..], &chunk].concat(), "ends without a snapshot"),
        ([&chunk[..], &good_module].concat(), "modules come first"),
        (snapshot, "of the snapshot is missing"),
        (entry(0, 0, &[0; 32], &[]), "no kind of entry has number 0"),
        (entry(4, 0, &[0; 32], &[]), "no kind of entry has number 4"),
        (entry(1, u64::MAX, &[0; 32], &[]), "18446744073709551615 bytes, over the limit"),
        (entry(1, MODULE_MAX, &[0; 32], &[]), "the last entry is not complete"),
        (entry(2, 4097, &[0; 32], &page), "4097 bytes, over the limit"),
        (entry(3, MANIFEST_MAX + 1, &[0; 32], &[]), "134217729 bytes, over the limit"),
        (entry(1, 1, module.as_bytes(), b"n"), "is corrupt: its bytes hash to"),
        (entry(2, 4096, &[7; 32], &page), "is corrupt: its bytes hash to"),
        (entry(2, 1, &[7; 32], &[1]), "is corrupt: 1 bytes; a page has"),
        (good_module[..20].to_vec(), "the last entry is not complete"),
    ] {
        let error = read_all(&stream(&entries)).unwrap_err().to_string();
        assert!(error.contains(reason), "{error}, not {reason}");
    }
    let bad = [&good_module[..], &entry(3, 1, &[0; 32], &[0])].concat();
    let error = read_all(&stream(&bad)).unwrap_err();
    assert!(matches!(error, PortableError::Snapshot(SnapshotError::WrongId { .. })), "{error}");
}

#[test]
fn hostile_blocks_are_refused_with_a_reason() {
    let block = |raw: u32, stored: u32, bytes: &[u8]| {
        let mut stream = [&MAGIC[..], &FORMAT.to_le_bytes()].concat();
        stream.extend(raw.to_le_bytes());
        stream.extend(stored.to_le_bytes());
        stream.extend(bytes);
        let check = blake3::hash(&stream);
        stream.extend(check.as_bytes());
        read_all(&stream).unwrap_err().to_string()
    };
    let zeros = zstd::bulk::compress(&[0; 1 << 20], 1).unwrap();
    let len = zeros.len() as u32;
    for (error, reason) in [
        (block(u32::MAX, u32::MAX, &[]), "a block of 4294967295 bytes"),
        (block((1 << 20) + 1, 5, &[]), "a block of 1048577 bytes"),
        (block(4, 5, &[0; 5]), "a block of 4 bytes, stored as 5"),
        (block(1, 0, &[]), "a block of 1 bytes, stored as 0"),
        (block(100, 5, b"hello"), "damaged at byte 10"),
        (block(len + 1, len, &zeros), "damaged at byte 10"),
        (block((1 << 20) - 1, len, &zeros), "damaged at byte 10"),
    ] {
        assert!(error.contains(reason), "{error}, not {reason}");
    }
    let short = zstd::bulk::compress(&[0; 1000], 1).unwrap();
    let error = block(1001, short.len() as u32, &short);
    assert!(error.contains("1000 bytes, not 1001"), "{error}");
}

#[test]
fn other_files_and_formats_are_named() {
    let error = read_all(b"WASMCKPT snapshot").unwrap_err().to_string();
    assert_eq!(error, "not a portable snapshot: it begins with `WASMCKPT`");
    let error = read_all(b"CKPTBNDL\x02\x00").unwrap_err().to_string();
    assert_eq!(error, "portable snapshot has format 2, this build reads up to 1");
}

#[test]
fn the_writer_keeps_the_rules_that_the_reader_checks() {
    let kept = parts(9, b"memory");
    let (id, manifest) = &kept.snapshots[0];
    let mut writer = Writer::new(Vec::new()).unwrap();
    assert!(writer.snapshot(*id, manifest).is_err(), "no module");
    writer.module(&kept.modules[0]).unwrap();
    assert!(writer.chunk(ChunkId::of(b"x"), b"x").is_err(), "no page");
    assert!(writer.chunk(ChunkId::of(b"x"), &[1; 4096]).is_err(), "another id");
    assert!(writer.snapshot(SnapshotId::of(b"x"), manifest).is_err(), "another id");
    writer.snapshot(*id, manifest).unwrap();
    assert!(writer.module(b"late").is_err());
    let page = [1; 4096];
    assert!(writer.chunk(ChunkId::of(&page), &page).is_err(), "late");
    writer.finish().unwrap();
    assert!(Writer::new(Vec::new()).unwrap().finish().is_err(), "nothing in it");
}

#[test]
fn a_sink_that_fails_ends_the_reading() {
    struct Full;
    impl Sink for Full {
        fn module(&mut self, _: ModuleId, _: Vec<u8>) -> anyhow::Result<()> {
            Ok(())
        }
        fn chunk(&mut self, _: ChunkId, _: Vec<u8>) -> anyhow::Result<()> {
            anyhow::bail!("disk full")
        }
        fn snapshot(&mut self, _: Verified, _: Vec<u8>) -> anyhow::Result<()> {
            panic!("went on")
        }
    }
    let error = read(&write(&parts(1, b"memory"))[..], &mut Full).unwrap_err();
    let PortableError::Sink { index: 1, cause } = error else { panic!("{error}") };
    assert_eq!(cause.to_string(), "disk full");
}

/// Random damage below the blocks' checks: an error each time, since every entry has its id. Never a panic.
#[test]
fn random_damage_to_entries_never_panics() {
    let mut random = Random::new(10);
    let kept = parts(11, b"memory");
    let (module, chunk, snapshot) = (&kept.modules[0], &kept.chunks[0], &kept.snapshots[0]);
    let good = [
        entry(1, module.len() as u64, ModuleId::of(module).as_bytes(), module),
        entry(2, chunk.1.len() as u64, chunk.0.as_bytes(), &chunk.1),
        entry(3, snapshot.1.len() as u64, snapshot.0.as_bytes(), &snapshot.1),
    ];
    let good = good.concat();
    assert!(read_all(&stream(&good)).unwrap() == kept);
    for _ in 0..3000 {
        let mut bad = good.clone();
        let at = random.below(bad.len() as u64) as usize;
        match random.below(4) {
            0 => bad.truncate(at),
            1 => bad.insert(at, random.next() as u8),
            2 => drop(bad.splice(at..at, [0xff; 8])),
            _ => bad[at] ^= 1 << random.below(8),
        }
        read_all(&stream(&bad)).unwrap_err();
    }
}
