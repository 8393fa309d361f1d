//! What must never change: old bytes are read as the values that they were written from, and FORMAT.md says
//! what the code does. Do not edit a value or a fixture of a format that has been released.

use super::portable::{self, Sink, Writer};
use super::*;
use crate::digest::{ChunkId, ModuleId, SnapshotId};

const FORMAT_MD: &str = include_str!("FORMAT.md");
const SNAP: &[u8] = include_bytes!("fixtures/format-1.snap");
const BUNDLE: &[u8] = include_bytes!("fixtures/format-1.bundle");
const MODULE: &[u8] = b"\0asm\x01\0\0\0";

/// One of everything, in format 1.
pub(super) fn format_1() -> State {
    let exn = Exn { tag: 3, fields: vec![Value::I32(7), Value::Exn(None)] };
    State {
        identity: Identity {
            module: ModuleId::of(MODULE),
            cost_model: 1,
            canonical_nans: true,
            deterministic_relaxed_simd: true,
        },
        fuel: 1_000_000,
        call: Call { in_start: false, export: "_start".to_string(), args: vec![Value::I64(1 << 40)] },
        frames: vec![
            Frame {
                func: 12,
                offset: 345,
                kind: FrameKind::Call,
                locals: vec![(0, Value::I32(300)), (2, Value::F64(1.5_f64.to_bits()))],
                stack: vec![Value::Exn(Some(Box::new(exn))), Value::Func(Some(5))],
            },
            Frame {
                func: 5,
                offset: 678,
                kind: FrameKind::Loop,
                locals: vec![(1, Value::V128(1 << 127)), (7, Value::F32(1))],
                stack: vec![Value::Null],
            },
        ],
        memories: vec![
            Memory { len: 65536, root: ChunkId::of(b"memory") },
            Memory { len: 0, root: ChunkId::ZERO },
        ],
        globals: vec![(0, Value::I32(65520)), (4, Value::I64(u64::MAX))],
        tables: vec![Table { index: 1, runs: vec![(1, Value::Func(None)), (2, Value::Func(Some(12)))] }],
        dropped_data: vec![0, 3],
        dropped_elems: vec![1],
        sections: vec![Section { name: "wasi".to_string(), version: 2, bytes: vec![0, 255, 1] }],
        blobs: vec![Blob { name: "stdout".to_string(), len: 5000, root: ChunkId::of(b"stdout") }],
    }
}

/// The example of FORMAT.md.
fn example() -> State {
    State {
        identity: format_1().identity,
        fuel: 0,
        call: Call { in_start: false, export: "_start".to_string(), args: Vec::new() },
        frames: Vec::new(),
        memories: vec![Memory { len: 65536, root: ChunkId::ZERO }],
        globals: Vec::new(),
        tables: Vec::new(),
        dropped_data: Vec::new(),
        dropped_elems: Vec::new(),
        sections: Vec::new(),
        blobs: Vec::new(),
    }
}

/// The memory of the bundle: three pages, of which the middle one is zeros.
fn memory() -> Vec<u8> {
    [[1; PAGE], [0; PAGE], [2; PAGE]].concat()
}

/// What the bundle holds: its module, its chunks in order, the state.
fn bundle() -> (Vec<(ChunkId, Vec<u8>)>, State) {
    let mut chunks = Vec::new();
    let root = Tree::new().update(&memory(), Dirty::All, &mut |id, bytes| {
        chunks.push((id, bytes.to_vec()));
        Ok(())
    });
    let len = memory().len() as u64;
    (chunks, State { memories: vec![Memory { len, root: root.unwrap() }], ..example() })
}

#[test]
fn format_1_is_read_and_written_as_ever() {
    let verified = decode(SNAP, None).unwrap();
    assert_eq!(verified.state(), &format_1());
    assert_eq!(encode(&format_1()), Ok((verified.id(), SNAP.to_vec())));
    assert!(FORMAT_MD.contains(&format!("\n{}\n", verified.id())), "its id is in FORMAT.md");
}

#[test]
fn portable_format_1_is_read_as_ever() {
    /// Compares what comes.
    struct Compare(Vec<(ChunkId, Vec<u8>)>, State, bool);
    impl Sink for Compare {
        fn module(&mut self, id: ModuleId, bytes: Vec<u8>) -> anyhow::Result<()> {
            assert_eq!((id, &bytes[..]), (ModuleId::of(MODULE), MODULE));
            Ok(())
        }
        fn chunk(&mut self, id: ChunkId, bytes: Vec<u8>) -> anyhow::Result<()> {
            assert_eq!((id, bytes), self.0.remove(0));
            Ok(())
        }
        fn snapshot(&mut self, snapshot: Verified, _: Vec<u8>) -> anyhow::Result<()> {
            assert_eq!(snapshot.state(), &self.1);
            self.2 = true;
            Ok(())
        }
    }
    let (chunks, state) = bundle();
    let mut compare = Compare(chunks, state, false);
    portable::read(BUNDLE, &mut compare).unwrap();
    assert!(compare.0.is_empty() && compare.2);
}

#[test]
fn the_example_of_the_document_is_true() {
    let (_, after) = FORMAT_MD.split_once("## Example").unwrap();
    let (_, fence) = after.split_once("```text\n").unwrap();
    let (fence, _) = fence.split_once("```").unwrap();
    let mut bytes = Vec::new();
    for line in fence.lines() {
        let [offset, hex, _meaning] = line.splitn(3, '|').collect::<Vec<_>>()[..] else { panic!("{line}") };
        if !offset.trim().is_empty() {
            assert_eq!(usize::from_str_radix(offset.trim(), 16), Ok(bytes.len()), "{line}");
        }
        bytes.extend(hex.split_whitespace().map(|byte| u8::from_str_radix(byte, 16).unwrap()));
    }
    assert_eq!(decode(&bytes, None).unwrap().state(), &example());
}

#[test]
fn the_limits_of_the_document_are_true() {
    use limits::*;
    for (what, limit) in [
        ("manifest, bytes", MANIFEST_MAX),
        ("frames", FRAMES_MAX),
        ("values in all (arguments, locals, stacks, globals, runs, payloads)", VALUES_MAX),
        ("exceptions nested in payloads", EXN_DEPTH_MAX.into()),
        ("arguments", ARGS_MAX),
        ("export name, bytes", EXPORT_MAX),
        ("memories", MEMORIES_MAX),
        ("content of a memory or blob, bytes", LEN_MAX),
        ("tables", TABLES_MAX),
        ("elements of a table", TABLE_LEN_MAX),
        ("dropped segments, of each kind", SEGMENTS_MAX),
        ("sections", SECTIONS_MAX),
        ("blobs", BLOBS_MAX),
        ("name of a section or blob, bytes", NAME_MAX),
        ("module in a portable stream, bytes", MODULE_MAX),
    ] {
        let row = format!("\n| {what} | {limit} |\n");
        assert!(FORMAT_MD.contains(&row), "FORMAT.md lacks `{}`", row.trim());
    }
    assert_eq!((PAGE, NODE, FANOUT), (4096, 256, 8), "FORMAT.md says so in many places");
}

/// Writes the fixtures of a new format. Refuses to overwrite those of an old one.
#[test]
#[ignore = "only for a new format"]
fn write_fixtures() {
    let write = |name: &str, bytes: &[u8]| {
        let path = format!("{}/src/snapshot/fixtures/{name}", env!("CARGO_MANIFEST_DIR"));
        let file = std::fs::File::create_new(&path);
        std::io::Write::write_all(&mut file.unwrap(), bytes).unwrap();
    };
    let (id, manifest) = encode(&format_1()).unwrap();
    println!("{id}");
    write("format-1.snap", &manifest);
    let (chunks, state) = bundle();
    let mut writer = Writer::new(Vec::new()).unwrap();
    writer.module(MODULE).unwrap();
    for (id, bytes) in chunks {
        writer.chunk(id, &bytes).unwrap();
    }
    let (id, manifest): (SnapshotId, _) = encode(&state).unwrap();
    writer.snapshot(id, &manifest).unwrap();
    write("format-1.bundle", &writer.finish().unwrap());
    println!("{}", encode(&example()).unwrap().1.iter().map(|b| format!("{b:02x} ")).collect::<String>());
}
