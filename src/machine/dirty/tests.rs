//! All sources of dirty pages give the same snapshots, of a program that does all that a memory can go through.

use std::collections::HashMap;
use std::fs;
use std::io::Write;
use std::path::Path;

use super::standing::{REFUSED, Refused};
use super::{Source, Tracker, Tracking};
use crate::digest::{ChunkId, SnapshotId};
use crate::machine::{
    Aside, Engine, Functions, Instance, MemoryTrees, Module, Settings, Slice, Until, WASI_SECTION,
};
use crate::snapshot::{self, State};
use crate::wasi::{self, ClockMode, Config, Host, Interrupt, OutputBuffer, Preopen, Stdin, Wasi};

/// Stores, fills, clears, copies, loads, reads files into, and grows three memories, one of them with 64-bit
/// addresses, as a small random generator says.
pub(in crate::machine) const WANDERER: &str = r#"(module
  (import "wasi_snapshot_preview1" "path_open"
    (func $open (param i32 i32 i32 i32 i32 i64 i64 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_pread" (func $pread (param i32 i32 i32 i64 i32) (result i32)))
  (memory $a (export "memory") 40 400)
  (memory $b i64 2 300)
  (memory $c 3 3)
  (data (memory $a) (i32.const 16) "input")
  (data (memory $a) (i32.const 1500000) "far from the rest of it")
  (data (memory $c) (i32.const 100000) "in the third one")
  (global $seed (mut i64) (i64.const 88172645463325252))
  (func $below (param $n i32) (result i32)
    (global.set $seed (i64.xor (global.get $seed) (i64.shl (global.get $seed) (i64.const 13))))
    (global.set $seed (i64.xor (global.get $seed) (i64.shr_u (global.get $seed) (i64.const 7))))
    (global.set $seed (i64.xor (global.get $seed) (i64.shl (global.get $seed) (i64.const 17))))
    (i32.rem_u (i32.wrap_i64 (i64.shr_u (global.get $seed) (i64.const 20))) (local.get $n)))
  ;; An address in $a behind the first page, with room for 40000 bytes.
  (func $place (result i32)
    (i32.add (i32.const 4096)
      (call $below (i32.sub (i32.mul (memory.size $a) (i32.const 65536)) (i32.const 50000)))))
  (func $step (local $op i32) (local $at i32)
    (local.set $op (call $below (i32.const 16)))
    (local.set $at (call $place))
    (if (i32.lt_u (local.get $op) (i32.const 6))
      (then (i64.store $a (local.get $at) (global.get $seed)) (return)))
    (if (i32.eq (local.get $op) (i32.const 6))
      (then (memory.fill $a (local.get $at) (call $below (i32.const 256)) (call $below (i32.const 40000))) (return)))
    ;; As an allocator that uses memory again.
    (if (i32.eq (local.get $op) (i32.const 7))
      (then (memory.fill $a (local.get $at) (i32.const 0) (i32.const 40000)) (return)))
    (if (i32.eq (local.get $op) (i32.const 8))
      (then (drop (memory.grow $a (call $below (i32.const 3)))) (return)))
    (if (i32.eq (local.get $op) (i32.const 9))
      (then (drop (memory.grow $b (i64.extend_i32_u (call $below (i32.const 3))))) (return)))
    (if (i32.lt_u (local.get $op) (i32.const 12))
      (then (i64.store $b
          (i64.extend_i32_u (call $below (i32.sub (i32.wrap_i64 (i64.shl (memory.size $b) (i64.const 16))) (i32.const 8))))
          (global.get $seed))
        (return)))
    (if (i32.eq (local.get $op) (i32.const 12))
      (then (memory.copy $c $a (call $below (i32.const 150000)) (local.get $at) (call $below (i32.const 40000))) (return)))
    (if (i32.lt_u (local.get $op) (i32.const 15))
      (then
        (i32.store (i32.const 0) (local.get $at))
        (i32.store (i32.const 4) (i32.add (i32.const 1) (call $below (i32.const 30000))))
        (if (call $pread (i32.load (i32.const 48)) (i32.const 0) (i32.const 1)
              (i64.extend_i32_u (call $below (i32.const 20000))) (i32.const 8)) (then unreachable))
        (return)))
    (drop (i64.load $a (local.get $at))))
  (func (export "_start") (local $n i32)
    (if (call $open (i32.const 3) (i32.const 0) (i32.const 16) (i32.const 5) (i32.const 0)
          (i64.const 2) (i64.const 0) (i32.const 0) (i32.const 48)) (then unreachable))
    (loop $l
      (call $step)
      (br_if $l (i32.lt_u (local.tee $n (i32.add (local.get $n) (i32.const 1))) (i32.const 4000))))))"#;

pub(in crate::machine) type Chunks = HashMap<ChunkId, Vec<u8>>;

pub(in crate::machine) fn module(wat: &str, tracking: Tracking) -> Module {
    let engine = Engine::new(Settings { tracking, ..Settings::default() }).unwrap();
    engine.compile(&wat::parse_str(wat).unwrap()).unwrap()
}

fn dirs(dir: &Path) -> Vec<Preopen> {
    vec![Preopen { host: dir.into(), guest: "/".into(), read_only: true }]
}

pub(in crate::machine) fn host() -> Host {
    let out = || Box::new(OutputBuffer::default());
    Host { stdin: Stdin::Null, stdout: out(), stderr: out(), interrupt: Interrupt::new().unwrap() }
}

pub(in crate::machine) fn begin(module: &Module, dir: &Path) -> Instance {
    let clock = ClockMode::Fixed { realtime: 0 };
    let config = Config { dirs: dirs(dir), seed: Some([1; 32]), clock, ..Config::default() };
    let wasi = Wasi::new(config, host()).unwrap();
    Instance::new(module, Some(wasi), &Functions::new(), "_start", vec![]).unwrap()
}

pub(in crate::machine) fn run_to(guest: &mut Instance, fuel: u64) -> bool {
    match guest.run(&Until { fuel: Some(fuel), ..Until::default() }).unwrap() {
        Slice::Paused => false,
        Slice::Finished(_) => true,
        other => panic!("{other:?}"),
    }
}

pub(in crate::machine) fn keep(chunks: &mut Chunks) -> impl FnMut(ChunkId, &[u8]) -> anyhow::Result<()> {
    |id, bytes| {
        chunks.insert(id, bytes.to_vec());
        Ok(())
    }
}

pub(in crate::machine) fn id(state: &State) -> SnapshotId {
    snapshot::encode(state).unwrap().0
}

fn restore(module: &Module, state: &State, chunks: &Chunks) -> (Instance, MemoryTrees) {
    let section = state.sections.iter().find(|section| section.name == WASI_SECTION).unwrap();
    let wasi = Wasi::restore(section.version, &section.bytes, host(), wasi::Restore::default()).unwrap();
    let fetch = &mut |id| chunks.get(&id).cloned().ok_or(anyhow::anyhow!("chunk {id} was never emitted"));
    Instance::restore(module, Some(wasi), &Functions::new(), state, fetch).unwrap()
}

pub(in crate::machine) fn works(source: Source) -> bool {
    Tracker::new(Tracking::Only(source)).is_ok()
}

/// Says so where it is seen: what a test that passes prints is not.
pub(in crate::machine) fn skipped(source: Source) {
    let _ = writeln!(std::io::stderr(), "SKIPPED: {source} does not work here");
}

pub(in crate::machine) fn input() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let bytes: Vec<u8> = (0..50_000_u32).flat_map(|n| n.wrapping_mul(0x9e37_79b9).to_le_bytes()).collect();
    fs::write(dir.path().join("input"), bytes).unwrap();
    dir
}

/// How often a chain is paused, and every how many times it goes on in another instance.
const PAUSES: u64 = 60;
const MOVES: u64 = 17;
const STEP: u64 = 1777;

/// Ids of a chain of snapshots that build on each other; each is also what a capture without knowledge gives.
fn chain(tracking: Tracking, dir: &Path) -> Vec<SnapshotId> {
    let module = module(WANDERER, tracking);
    let mut guest = begin(&module, dir);
    let (mut trees, mut chunks, mut ids) = (MemoryTrees::default(), Chunks::new(), vec![]);
    let (mut dirty, mut size) = (0, 0);
    for n in 1..=PAUSES {
        assert!(!run_to(&mut guest, n * STEP), "the program is too short");
        let state = match n % 3 {
            0 => guest.capture(&mut trees, &mut keep(&mut chunks)).unwrap(),
            // The guest goes on before what was put aside is looked at.
            _ => {
                let frozen = guest.freeze(std::mem::take(&mut trees), &mut keep(&mut chunks)).unwrap();
                assert!(!run_to(&mut guest, n * STEP + STEP / 2));
                let (state, new) = frozen.thaw(&mut keep(&mut chunks)).unwrap();
                trees = new;
                state
            }
        };
        ids.push(id(&state));
        dirty += trees.dirtied().unwrap().bytes;
        size += state.memories.iter().map(|memory| memory.len).sum::<u64>();
        if n % MOVES == 0 {
            (guest, trees) = restore(&module, &state, &chunks);
            assert_eq!(
                id(&guest.capture(&mut trees, &mut |_, _| panic!("all is known")).unwrap()),
                id(&state)
            );
        }
    }
    if let Tracking::Only(source) = tracking {
        assert_eq!(trees.dirtied().unwrap().source, source);
        assert_eq!(source == Source::Compare, dirty == size, "{source}: {dirty} of {size} bytes were dirty");
    }
    ids
}

/// Ids of so many snapshots of [`WANDERER`], one each time that so much fuel is consumed. Nothing is known of dirty pages: every
/// capture begins with new trees.
pub(in crate::machine) fn without_knowledge(dir: &Path, pauses: u64, step: u64) -> Vec<SnapshotId> {
    let plain = module(WANDERER, Tracking::Only(Source::Compare));
    let mut guest = begin(&plain, dir);
    let mut snapshot = |n| {
        assert!(!run_to(&mut guest, n * step));
        id(&guest.capture(&mut MemoryTrees::default(), &mut |_, _| Ok(())).unwrap())
    };
    (1..=pauses).map(&mut snapshot).collect()
}

#[test]
fn all_sources_give_the_same_snapshots() {
    let dir = input();
    let expected = without_knowledge(dir.path(), PAUSES, STEP);
    for source in [Source::WriteProtection, Source::SoftDirty, Source::Compare] {
        if works(source) {
            assert_eq!(chain(Tracking::Only(source), dir.path()), expected, "{source}");
        } else {
            skipped(source);
        }
    }
    assert_eq!(chain(Tracking::Auto, dir.path()), expected);
}

#[test]
fn a_capture_that_fails_loses_no_dirty_page() {
    let dir = input();
    let module = module(WANDERER, Tracking::Auto);
    let mut guest = begin(&module, dir.path());
    let (mut trees, mut chunks) = (MemoryTrees::default(), Chunks::new());
    for n in 1..20 {
        assert!(!run_to(&mut guest, n * STEP));
        let mut left = 1 + n % 7;
        let mut fail = |_, _: &[u8]| {
            left -= 1;
            anyhow::ensure!(left > 0, "the store is away");
            Ok(())
        };
        let failed = if n % 2 == 0 {
            guest.capture(&mut trees, &mut fail).is_err()
        } else {
            let frozen = guest.freeze(std::mem::take(&mut trees), &mut keep(&mut chunks)).unwrap();
            assert!(!run_to(&mut guest, n * STEP + 100));
            frozen.thaw(&mut fail).is_err()
        };
        assert!(failed, "{n}");
        let state = guest.capture(&mut trees, &mut keep(&mut chunks)).unwrap();
        let full = guest.capture(&mut MemoryTrees::default(), &mut |_, _| Ok(())).unwrap();
        assert_eq!(id(&state), id(&full), "{n}");
        restore(&module, &state, &chunks);
        // Nor do trees of another moment, or of another guest, hide one.
        let mut others = MemoryTrees::default();
        let mut other = begin(&module, dir.path());
        assert!(!run_to(&mut other, 500));
        other.capture(&mut others, &mut |_, _| Ok(())).unwrap();
        assert_eq!(id(&guest.capture(&mut others, &mut |_, _| Ok(())).unwrap()), id(&full), "{n}");
        assert_eq!(id(&guest.capture(&mut trees, &mut |_, _| Ok(())).unwrap()), id(&full), "{n}");
    }
}

/// Writes to every page of 130 MiB, over and over: so much is never copied where there is another way.
const SPREADER: &str = r#"(module (memory 2080)
  (func (export "_start") (local $at i32) (local $n i32)
    (loop $again
      (local.set $at (i32.const 0))
      (loop $l
        (i32.store (local.get $at) (i32.add (local.get $n) (local.get $at)))
        (br_if $l (i32.lt_u (local.tee $at (i32.add (local.get $at) (i32.const 4096))) (i32.const 136314880))))
      (br_if $again (i32.lt_u (local.tee $n (i32.add (local.get $n) (i32.const 1))) (i32.const 100))))))"#;

#[test]
fn much_that_is_dirty_is_put_aside_by_a_fork_or_copied_where_that_is_refused() {
    let module = module(SPREADER, Tracking::Auto);
    let start = || Instance::new(&module, None, &Functions::new(), "_start", vec![]).unwrap();
    let (mut guest, mut other) = (start(), start());
    let mut trees = MemoryTrees::default();
    let step = 33_280 * 10;
    for n in 1..8 {
        assert!(!run_to(&mut guest, n * step));
        assert!(!run_to(&mut other, n * step));
        // Whatever the system permits, the pages are put aside in some way.
        let refused = [Refused::Nothing, Refused::Fork, Refused::File][n as usize % 3];
        REFUSED.set(refused);
        let frozen = guest.freeze(trees, &mut |_, _| Ok(())).unwrap();
        REFUSED.set(Refused::Nothing);
        assert!(!run_to(&mut guest, n * step + step / 2));
        let (state, new) = frozen.thaw(&mut |_, _| Ok(())).unwrap();
        trees = new;
        let expected = other.capture(&mut MemoryTrees::default(), &mut |_, _| Ok(())).unwrap();
        assert_eq!(id(&state), id(&expected), "{n}");
        if cfg!(target_os = "linux") {
            let how = if refused == Refused::Fork { Aside::Copied } else { Aside::Forked };
            assert_eq!(trees.dirtied().unwrap().aside, how, "{n}");
        }
    }
}
