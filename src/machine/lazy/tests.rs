//! What is restored lazily is what is restored at once, whatever is touched when; and what is damaged is never used.

use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::{Result, ensure};

use super::{ChunkSource, Loading, Restoring, Run, TakeChunks};
use crate::digest::{ChunkId, SnapshotId};
use crate::machine::dirty::tests::{
    Chunks, WANDERER, begin, host, id, input, keep, module, run_to, skipped, without_knowledge, works,
};
use crate::machine::{
    Engine, Functions, Instance, MemoryTrees, Module, Settings, Slice, Source, Tracking, Until, WASI_SECTION,
};
use crate::snapshot::{Known, PAGE, Partial, State, TreeError};
use crate::wasi::{self, Wasi};

/// A store that takes its time, and in which chunks can be damaged.
struct Slow {
    chunks: Chunks,
    pause: Duration,
    bad: Mutex<Vec<ChunkId>>,
    read: AtomicUsize,
    log: Mutex<Vec<ChunkId>>,
    open: AtomicBool,
}

impl Slow {
    fn new(chunks: &Chunks, pause_us: u64) -> Arc<Self> {
        let (bad, read, log) = (Mutex::default(), AtomicUsize::new(0), Mutex::default());
        let (chunks, pause) = (chunks.clone(), Duration::from_micros(pause_us));
        Arc::new(Self { chunks, pause, bad, read, log, open: AtomicBool::new(true) })
    }
}

impl ChunkSource for Slow {
    fn read_many(&self, ids: &[ChunkId], _: usize, each: &TakeChunks<'_>) -> Result<()> {
        for (nth, id) in ids.iter().enumerate() {
            if !self.pause.is_zero() {
                std::thread::sleep(self.pause);
            }
            while !self.open.load(Ordering::SeqCst) {
                std::thread::sleep(Duration::from_millis(1));
            }
            ensure!(!self.bad.lock().unwrap().contains(id), "chunk {id} is damaged");
            self.read.fetch_add(1, Ordering::SeqCst);
            self.log.lock().unwrap().push(*id);
            each(
                nth..nth + 1,
                self.chunks.get(id).unwrap_or_else(|| panic!("chunk {id} was never emitted")),
            )?;
        }
        Ok(())
    }
}

fn how(source: &Arc<Slow>, loading: Loading) -> Restoring {
    let stuck = Arc::new(|error| panic!("stuck: {error:#}"));
    Restoring { source: source.clone(), loading, patience: Duration::from_secs(60), first: vec![], stuck }
}

fn restore(module: &Module, state: &State, how: &Restoring) -> Result<(Instance, MemoryTrees)> {
    let section = state.sections.iter().find(|section| section.name == WASI_SECTION);
    let wasi = section.map(|s| Wasi::restore(s.version, &s.bytes, host(), wasi::Restore::default()).unwrap());
    Instance::restore_from(module, wasi, &Functions::new(), state, how)
}

const PAUSES: u64 = 40;
const STEP: u64 = 1777;

/// Ids of a chain of snapshots, of a guest that is restored after each of many of them.
fn chain(tracking: Tracking, dir: &Path, loading: Loading, pause_us: u64) -> Vec<SnapshotId> {
    let module = module(WANDERER, tracking);
    let mut guest = begin(&module, dir);
    let (mut trees, mut chunks, mut ids) = (MemoryTrees::default(), Chunks::new(), vec![]);
    for n in 1..=PAUSES {
        assert!(!run_to(&mut guest, n * STEP));
        let state = match n % 3 {
            0 => guest.capture(&mut trees, &mut keep(&mut chunks)).unwrap(),
            _ => {
                let frozen = guest.freeze(std::mem::take(&mut trees), &mut keep(&mut chunks)).unwrap();
                assert!(!run_to(&mut guest, n * STEP + STEP / 2));
                let (state, new) = frozen.thaw(&mut keep(&mut chunks)).unwrap();
                trees = new;
                state
            }
        };
        ids.push(id(&state));
        if n % 4 == 0 {
            let source = Slow::new(&chunks, pause_us);
            (guest, trees) = restore(&module, &state, &how(&source, loading)).unwrap();
            assert_eq!(guest.loading(), Some(loading));
            if n % 8 == 0 {
                let again = guest.capture(&mut trees, &mut |_, _| panic!("all is known")).unwrap();
                assert_eq!(id(&again), id(&state), "{n}");
            }
            if n % 12 == 0 {
                // One who knows nothing needs all.
                let all = guest.capture(&mut MemoryTrees::default(), &mut |_, _| Ok(())).unwrap();
                assert_eq!(id(&all), id(&state), "{n}");
                trees = MemoryTrees::default();
            }
        }
    }
    ids
}

#[test]
fn lazy_and_eager_give_the_same_snapshots_with_every_source() {
    let dir = input();
    let expected = without_knowledge(dir.path(), PAUSES, STEP);
    for source in [Source::WriteProtection, Source::SoftDirty, Source::Compare] {
        if !works(source) {
            skipped(source);
            continue;
        }
        let tracking = Tracking::Only(source);
        assert_eq!(chain(tracking, dir.path(), Loading::Eager, 0), expected, "{source}");
        // At once, while it goes on, and hardly begun when a snapshot is taken.
        for pause_us in [0, 10, 1000] {
            let found = chain(tracking, dir.path(), Loading::Lazy, pause_us);
            assert_eq!(found, expected, "{source}, {pause_us} us a chunk");
        }
    }
}

/// 64 MiB, each page but every seventh with its number at two places; reads or writes as it is told.
const FIELD: &str = r#"(module
  (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "random_get" (func $random (param i32 i32) (result i32)))
  (memory (export "memory") 1025)
  (data (i32.const 67108900) "seen at first")
  (func (export "fill") (local $page i32)
    (loop $p
      (if (i32.rem_u (local.get $page) (i32.const 7))
        (then
          (i32.store (i32.shl (local.get $page) (i32.const 12)) (local.get $page))
          (i32.store offset=2000 (i32.shl (local.get $page) (i32.const 12)) (local.get $page))))
      (br_if $p (i32.lt_u (local.tee $page (i32.add (local.get $page) (i32.const 1))) (i32.const 16384)))))
  (func (export "idle"))
  (func (export "read") (param $page i32) (result i32)
    (i32.load offset=2000 (i32.shl (local.get $page) (i32.const 12))))
  (func (export "write") (param $page i32)
    (i32.store offset=8 (i32.shl (local.get $page) (i32.const 12)) (i32.const 77)))
  (func (export "sum") (param $step i32) (result i64) (local $n i32) (local $page i32) (local $sum i64)
    (loop $p
      (local.set $page (i32.and (i32.mul (local.get $n) (local.get $step)) (i32.const 16383)))
      (local.set $sum (i64.add (i64.mul (local.get $sum) (i64.const 31))
        (i64.load32_u offset=2000 (i32.shl (local.get $page) (i32.const 12)))))
      (br_if $p (i32.lt_u (local.tee $n (i32.add (local.get $n) (i32.const 1))) (i32.const 16384))))
    (local.get $sum))
  (func (export "copy") (param $from i32) (param $to i32) (param $len i32)
    (memory.copy (i32.shl (local.get $to) (i32.const 12)) (i32.shl (local.get $from) (i32.const 12)) (local.get $len)))
  (func (export "copy-little") (param $from i32)
    (memory.copy (i32.const 67108864) (i32.shl (local.get $from) (i32.const 12)) (i32.const 16)))
  (func (export "random") (param $page i32) (param $len i32) (result i32)
    (call $random (i32.shl (local.get $page) (i32.const 12)) (local.get $len)))
  (func (export "print") (param $page i32) (param $len i32) (result i32)
    (i32.store (i32.const 67108864) (i32.shl (local.get $page) (i32.const 12)))
    (i32.store (i32.const 67108868) (local.get $len))
    (call $write (i32.const 1) (i32.const 67108864) (i32.const 1) (i32.const 67108872))))"#;

fn call(guest: &mut Instance, name: &str, args: &[u32]) -> Result<Slice> {
    guest.call(name, args.iter().map(|n| crate::Value::I32(*n)).collect())?;
    guest.run(&Until::default())
}

struct Field {
    module: Module,
    state: State,
    chunks: Chunks,
    dir: tempfile::TempDir,
}

impl Field {
    fn new() -> Self {
        let (module, dir) = (module(FIELD, Tracking::Auto), input());
        let mut guest = begin_with(&module, dir.path(), "fill");
        assert!(matches!(guest.run(&Until::default()).unwrap(), Slice::Finished(_)));
        guest.call("idle", vec![]).unwrap();
        let mut chunks = Chunks::new();
        let state = guest.capture(&mut MemoryTrees::default(), &mut keep(&mut chunks)).unwrap();
        Self { module, state, chunks, dir }
    }

    fn lazily(&self, source: &Arc<Slow>) -> (Instance, MemoryTrees) {
        restore(&self.module, &self.state, &how(source, Loading::Lazy)).unwrap()
    }

    /// The chunk of a page.
    fn page(&self, index: u64) -> ChunkId {
        let memory = &self.state.memories[0];
        let mut tree = Partial::new(memory.root, memory.len).unwrap();
        loop {
            match tree.page(index) {
                Known::Behind(node) => tree.put(node, &self.chunks[&node.id()]).unwrap(),
                Known::Page(at) => return at.id(),
                Known::Zero => panic!("page {index} is zeros"),
            }
        }
    }
}

fn begin_with(module: &Module, dir: &Path, export: &str) -> Instance {
    let dirs = vec![wasi::Preopen { host: dir.into(), guest: "/".into(), read_only: true }];
    let clock = wasi::ClockMode::Fixed { realtime: 0 };
    let config = wasi::Config { dirs, seed: Some([1; 32]), clock, ..wasi::Config::default() };
    let wasi = Wasi::new(config, host()).unwrap();
    Instance::new(module, Some(wasi), &Functions::new(), export, vec![]).unwrap()
}

fn finished(slice: Result<Slice>) -> Vec<crate::Value> {
    match slice.unwrap() {
        Slice::Finished(values) => values,
        other => panic!("{other:?}"),
    }
}

#[test]
fn whatever_is_touched_is_there_and_only_changes_are_dirty() {
    let field = Field::new();
    for step in [1, 3, 4099] {
        let source = Slow::new(&field.chunks, 0);
        let (mut eager, _) = restore(&field.module, &field.state, &how(&source, Loading::Eager)).unwrap();
        let expected = finished(call(&mut eager, "sum", &[step]));
        let (mut other, mut trees) =
            restore(&field.module, &field.state, &how(&source, Loading::Eager)).unwrap();
        finished(call(&mut other, "write", &[100]));
        finished(call(&mut other, "write", &[9000]));
        other.call("idle", vec![]).unwrap();
        other.capture(&mut trees, &mut |_, _| Ok(())).unwrap();
        let dirtied = trees.dirtied().unwrap();
        assert!(dirtied.source != Source::WriteProtection || dirtied.bytes == 2 * PAGE as u64, "{dirtied:?}");
        for pause_us in [0, 1] {
            let source = Slow::new(&field.chunks, pause_us);
            let (mut guest, mut trees) = field.lazily(&source);
            assert_eq!(finished(call(&mut guest, "sum", &[step])), expected, "{step}");
            finished(call(&mut guest, "write", &[100]));
            finished(call(&mut guest, "write", &[49]));
            guest.call("idle", vec![]).unwrap();
            let state = guest.capture(&mut trees, &mut |_, _| Ok(())).unwrap();
            finished(call(&mut eager, "write", &[100]));
            finished(call(&mut eager, "write", &[49]));
            eager.call("idle", vec![]).unwrap();
            let all = eager.capture(&mut MemoryTrees::default(), &mut |_, _| Ok(())).unwrap();
            assert_eq!(state.memories, all.memories);
            if trees.dirtied().unwrap().source == Source::WriteProtection {
                // The two that were written to; zeros that came by themselves count as well.
                let dirty = trees.dirtied().unwrap().bytes / PAGE as u64;
                assert!((2..10).contains(&dirty), "{dirty} pages are dirty");
            }
        }
    }
}

#[test]
fn the_guest_runs_before_its_pages_are_there() {
    let field = Field::new();
    let source = Slow::new(&field.chunks, 0);
    drop(field.lazily(&source));
    let read = source.read.load(Ordering::SeqCst);
    assert!(read < 16384, "{read} chunks were read at once");
    // The store hangs behind the first nodes: what is there can be used, and all ends all the same.
    let (mut guest, trees) = field.lazily(&source);
    finished(call(&mut guest, "read", &[5]));
    source.open.store(false, Ordering::SeqCst);
    finished(call(&mut guest, "idle", &[]));
    drop((guest, trees));
    source.open.store(true, Ordering::SeqCst);
    // Nothing holds it any more.
    let until = std::time::Instant::now() + Duration::from_secs(10);
    while Arc::strong_count(&source) > 1 {
        assert!(std::time::Instant::now() < until, "a thread is left");
        std::thread::sleep(Duration::from_millis(1));
    }
}

#[test]
fn a_damaged_page_that_is_touched_ends_the_run_with_its_name() {
    let field = Field::new();
    let bad = field.page(5000);
    let place = 5000 * PAGE as u64;
    // As the guest does it, and as functions of the host do.
    let ways: [(&str, &[u32]); 5] = [
        ("read", &[5000]),
        ("write", &[5000]),
        ("random", &[4999, 5000]),
        ("print", &[4990, 100_000]),
        ("sum", &[1]),
    ];
    for (function, args) in ways {
        for wait in [0, 200] {
            let source = Slow::new(&field.chunks, 0);
            source.bad.lock().unwrap().push(bad);
            let (mut guest, mut trees) = field.lazily(&source);
            std::thread::sleep(Duration::from_millis(wait));
            let error = call(&mut guest, function, args).unwrap_err();
            match error.chain().find_map(|cause| cause.downcast_ref()) {
                Some(TreeError::Missing { id, start, end, .. }) => {
                    assert_eq!((*id, *start, *end), (bad, place, place + PAGE as u64), "{function}");
                }
                _ => panic!("{function}: {error:#}"),
            }
            assert!(format!("{error:#}").starts_with("memory 0"), "{error:#}");
            assert!(guest.capture(&mut trees, &mut |_, _| Ok(())).is_err());
        }
    }
}

#[test]
fn a_damaged_page_that_is_not_needed_is_told_and_in_no_snapshot() {
    let field = Field::new();
    let source = Slow::new(&field.chunks, 0);
    source.bad.lock().unwrap().push(field.page(5000));
    let (mut guest, mut trees) = field.lazily(&source);
    assert_eq!(finished(call(&mut guest, "read", &[4999])), [crate::Value::I32(4999)]);
    while guest.damage().is_none() {
        std::thread::sleep(Duration::from_millis(1));
    }
    assert_eq!(finished(call(&mut guest, "read", &[5001])), [crate::Value::I32(5001)]);
    guest.call("idle", vec![]).unwrap();
    for _ in 0..2 {
        let error = guest.capture(&mut trees, &mut |_, _| Ok(())).unwrap_err();
        assert!(format!("{error:#}").contains("is damaged"), "{error:#}");
    }
    assert_eq!(finished(call(&mut guest, "read", &[5002])), [crate::Value::I32(5002)]);
    // A trap of its own is the guest's.
    assert!(matches!(call(&mut guest, "read", &[0xf_ffff]).unwrap(), Slice::Trapped(_)));
}

#[test]
fn a_damaged_node_damages_what_is_below() {
    let field = Field::new();
    let memory = &field.state.memories[0];
    let mut tree = Partial::new(memory.root, memory.len).unwrap();
    let node = loop {
        match tree.page(5000) {
            Known::Behind(node) if node.level() == 1 => break node.id(),
            Known::Behind(node) => tree.put(node, &field.chunks[&node.id()]).unwrap(),
            _ => panic!(),
        }
    };
    let source = Slow::new(&field.chunks, 0);
    source.bad.lock().unwrap().push(node);
    let (mut guest, mut trees) = field.lazily(&source);
    assert_eq!(finished(call(&mut guest, "read", &[4990])), [crate::Value::I32(4990)]);
    guest.call("idle", vec![]).unwrap();
    assert!(guest.capture(&mut trees, &mut |_, _| Ok(())).is_err());
    assert!(call(&mut guest, "read", &[5001]).is_err());
}

#[test]
fn where_a_thread_cannot_be_stopped_the_process_is_to_end() {
    let field = Arc::new(Field::new());
    for (function, args) in [("copy", [5000, 1, 100]), ("copy-little", [5000, 0, 0])] {
        let source = Slow::new(&field.chunks, 0);
        source.bad.lock().unwrap().push(field.page(5000));
        let (tell, told) = channel();
        let tell = Mutex::new(tell);
        let stuck = move |error: anyhow::Error| tell.lock().unwrap().send(format!("{error:#}")).unwrap();
        let how = Restoring { stuck: Arc::new(stuck), ..how(&source, Loading::Lazy) };
        let field = field.clone();
        // This thread waits until the process ends.
        std::thread::spawn(move || {
            let (mut guest, _) = restore(&field.module, &field.state, &how).unwrap();
            let args = if function == "copy" { &args[..] } else { &args[..1] };
            panic!("{:?}", call(&mut guest, function, args));
        });
        let told = told.recv_timeout(Duration::from_secs(20)).unwrap();
        assert!(told.contains("memory 0") && told.contains("is damaged"), "{function}: {told}");
    }
}

#[test]
fn functions_of_the_host_find_untouched_memory_there() {
    let field = Field::new();
    for pause_us in [0, 3] {
        let source = Slow::new(&field.chunks, pause_us);
        let (mut guest, _) = field.lazily(&source);
        assert_eq!(finished(call(&mut guest, "print", &[3, 60_000])), [crate::Value::I32(0)]);
        assert_eq!(finished(call(&mut guest, "random", &[9000, 3_000_000])), [crate::Value::I32(0)]);
        assert_eq!(finished(call(&mut guest, "copy", &[2, 8000, 2_000_000])), []);
        assert_eq!(finished(call(&mut guest, "read", &[8001])), [crate::Value::I32(3)]);
        assert_eq!(finished(call(&mut guest, "read", &[12_000])), [crate::Value::I32(12_000)]);
    }
    assert!(field.dir.path().exists());
}

#[test]
fn what_was_needed_first_is_brought_first() {
    let field = Field::new();
    let source = Slow::new(&field.chunks, 0);
    let run = |memory, start, end| Run { memory, pages: start..end };
    // Some of it is nonsense.
    let first = vec![
        run(7, 0, 10),
        run(0, 9000, 9002),
        run(0, u64::MAX - 1, u64::MAX),
        run(0, 500, 400),
        run(0, 16_380, u64::MAX),
        run(0, 3, 4),
    ];
    let how = Restoring { first, ..how(&source, Loading::Lazy) };
    let (mut guest, _) = restore(&field.module, &field.state, &how).unwrap();
    guest.call("idle", vec![]).unwrap();
    guest.capture(&mut MemoryTrees::default(), &mut |_, _| Ok(())).unwrap();
    let log = source.log.lock().unwrap().clone();
    let pages: Vec<ChunkId> = log.into_iter().filter(|id| field.chunks[id].len() == PAGE).collect();
    let expected = [9000, 9001, 16_381, 16_382, 16_383, 3].map(|page| field.page(page));
    // The second thread takes what follows.
    assert_eq!(pages.iter().filter(|id| expected.contains(id)).count(), 6, "each once");
    assert_eq!(pages[..2], expected[..2]);
    let at = |id: &ChunkId| pages.iter().position(|page| page == id).unwrap();
    assert!(expected.iter().all(|id| at(id) < 600), "{:?}", expected.map(|id| at(&id)));
    // Of a guest that goes on: what it touches, in that order.
    let slow = Slow::new(&field.chunks, 20);
    let (mut guest, mut trees) = field.lazily(&slow);
    for page in [12_000, 5, 7000] {
        finished(call(&mut guest, "read", &[page]));
    }
    let found: Vec<u64> = guest.touched_first().iter().map(|run| run.pages.start).collect();
    assert_eq!(found[..3], [12_000, 5, 7000]);
    finished(call(&mut guest, "write", &[800]));
    guest.call("idle", vec![]).unwrap();
    guest.capture(&mut trees, &mut |_, _| Ok(())).unwrap();
    finished(call(&mut guest, "write", &[900]));
    guest.call("idle", vec![]).unwrap();
    guest.capture(&mut trees, &mut |_, _| Ok(())).unwrap();
    if trees.dirtied().unwrap().source == Source::WriteProtection {
        assert!(trees.written().contains(&run(0, 900, 901)), "{:?}", trees.written());
    }
}

#[test]
fn a_store_that_does_not_answer_is_waited_for_and_then_told() {
    let field = Field::new();
    for (function, args) in [("read", &[9000][..]), ("print", &[9000, 5000])] {
        let source = Slow::new(&field.chunks, 5);
        let patience = Duration::from_secs(2);
        let how = Restoring { patience, ..how(&source, Loading::Lazy) };
        // It answers again in time.
        let (mut guest, _) = restore(&field.module, &field.state, &how).unwrap();
        source.open.store(false, Ordering::SeqCst);
        let open = source.clone();
        let opener = std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(500));
            open.open.store(true, Ordering::SeqCst);
        });
        finished(call(&mut guest, function, args));
        opener.join().unwrap();
        drop(guest);
        // And never.
        let (mut guest, _) = restore(&field.module, &field.state, &how).unwrap();
        source.open.store(false, Ordering::SeqCst);
        let error = call(&mut guest, function, args).unwrap_err();
        assert!(format!("{error:#}").contains("has not answered for 2 s"), "{function}: {error:#}");
        drop(guest);
        source.open.store(true, Ordering::SeqCst);
    }
}

#[test]
fn where_a_guest_cannot_be_stopped_all_is_restored_at_once() {
    let field = Field::new();
    let settings = Settings { target: Some("pulley64".to_string()), ..Settings::default() };
    let module = Engine::new(settings).unwrap().compile(&wat::parse_str(FIELD).unwrap()).unwrap();
    let source = Slow::new(&field.chunks, 0);
    let (mut guest, mut trees) = restore(&module, &field.state, &how(&source, Loading::Lazy)).unwrap();
    assert_eq!(guest.loading(), Some(Loading::Eager));
    guest.call("idle", vec![]).unwrap();
    let state = guest.capture(&mut trees, &mut |_, _| panic!("all is known")).unwrap();
    assert_eq!(state.memories, field.state.memories);
}
