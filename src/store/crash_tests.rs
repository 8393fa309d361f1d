//! A loss of power, or a full disk, at every file operation: what was committed stays, whole.

use std::collections::HashSet;
use std::sync::Arc;

use super::fault::{FailAfter, Failure};
use super::simulated::{Fault, Loss, SimulatedFiles};
use super::*;
use crate::digest::{ChunkId, SnapshotId};

const LOG: &str = "jobs/j/log/";

/// What a crash may leave: all, what was synced, and some of the rest in many ways.
fn losses() -> impl Iterator<Item = Loss> {
    [Loss::Nothing, Loss::Unsynced].into_iter().chain((0..5).map(Loss::Some))
}

fn chunk(n: u32) -> Vec<u8> {
    let mut chunk = n.to_le_bytes().repeat(1024);
    blake3::Hasher::new().update(&n.to_le_bytes()).finalize_xof().fill(&mut chunk[..600]);
    chunk
}

/// The chunks of the `seq`-th snapshot: most are those of the one before. Enough for several frames.
fn chunks_of(seq: u32) -> std::ops::Range<u32> {
    seq * 10..seq * 10 + 24
}

fn log_key(seq: u32) -> Key {
    Key::new(format!("{LOG}{seq:08}")).unwrap()
}

/// What a job does: chunks, then the manifest, then the record that commits.
fn commit(store: &Arc<dyn Store>, seq: u32) -> Result<(), StoreError> {
    let chunks = Chunks::open(store.clone());
    let mut writer = chunks.writer()?;
    let mut manifest = Vec::new();
    for n in chunks_of(seq) {
        let id = ChunkId::of(&chunk(n));
        writer.add(id, &chunk(n))?;
        manifest.extend(id.as_bytes());
    }
    let (_, guard) = writer.finish()?;
    let id = objects::put_snapshot(&**store, &manifest)?;
    let created = store.create(&log_key(seq), id.to_string().as_bytes())?;
    assert_eq!(created, Created::Yes);
    drop(guard);
    Ok(())
}

fn live(store: &Arc<dyn Store>, record: &Key) -> Vec<ChunkId> {
    let id: SnapshotId = String::from_utf8(store.get(record).unwrap()).unwrap().parse().unwrap();
    let manifest = objects::get_snapshot(&**store, id).unwrap();
    manifest.chunks(32).map(|id| ChunkId::from_bytes(id.try_into().unwrap())).collect()
}

/// Reads every snapshot that was committed, with all its chunks, and returns how many there are.
fn committed(store: &Arc<dyn Store>) -> u32 {
    let chunks = Chunks::open(store.clone());
    let log = store.list(LOG).unwrap();
    for (seq, record) in (0..).zip(&log) {
        assert_eq!(*record, log_key(seq));
        for (n, id) in chunks_of(seq).zip(live(store, record)) {
            assert!(chunks.read(id).unwrap() == chunk(n), "chunk {n} of snapshot {seq}");
        }
    }
    let damaged = |report: PackReport| assert!(report.result.is_ok(), "{:?}", report.result);
    chunks.verify(&mut { damaged }).unwrap();
    log.len() as u32
}

fn open(files: &SimulatedFiles) -> Result<Arc<dyn Store>, StoreError> {
    Ok(Arc::new(Local::open_on("/home/store", Arc::new(files.clone()))?))
}

/// Runs `action` once for each of its file operations and each fault there, then `check`s what each crash
/// leaves; `check` learns whether the action has succeeded. Returns the number of operations.
fn at_every_operation(
    before: &SimulatedFiles,
    action: impl Fn(&SimulatedFiles) -> Result<(), StoreError>,
    check: impl Fn(&SimulatedFiles, bool),
) -> u64 {
    let mut operations = 0;
    for fault in [Fault::Stop, Fault::StopAfter, Fault::Full] {
        for n in 0.. {
            let files = before.fork();
            files.fail_at(n, fault);
            let result = action(&files);
            let reached = files.ops() > n;
            // What failed at its last step may have failed after it counted, so success is not excluded.
            assert!(result.is_ok() || reached);
            for loss in losses() {
                check(&files.crash(loss), result.is_ok());
            }
            if fault == Fault::Full {
                // The process lives on.
                check(&files.fork(), result.is_ok());
            }
            if !reached {
                operations = n;
                break;
            }
        }
    }
    operations
}

#[test]
fn a_commit_that_stops_anywhere_leaves_the_last_one() {
    let before = SimulatedFiles::new();
    let store = open(&before).unwrap();
    commit(&store, 0).unwrap();
    commit(&store, 1).unwrap();
    let operations = at_every_operation(
        &before,
        |files| commit(&open(files)?, 2),
        |files, succeeded| {
            let store = open(files).unwrap();
            let heads = committed(&store);
            assert!(heads == 3 || heads == 2 && !succeeded, "{heads} after {succeeded}");
            // And the job goes on.
            commit(&store, heads).unwrap();
            assert_eq!(committed(&store), heads + 1);
            assert_eq!(committed(&open(&files.crash(Loss::Unsynced)).unwrap()), heads + 1);
        },
    );
    // Pack: make, header, two frames at least, index, sync, directory made and synced, rename, sync.
    assert!(operations > 20, "{operations}");
}

#[test]
fn a_first_start_that_stops_anywhere_leaves_a_store_that_can_be_opened() {
    let operations = at_every_operation(
        &SimulatedFiles::new(),
        |files| commit(&open(files)?, 0),
        |files, succeeded| {
            let store = open(files).unwrap();
            let heads = committed(&store);
            assert!(heads == 1 || heads == 0 && !succeeded);
            commit(&store, heads).unwrap();
            assert_eq!(committed(&open(&files.crash(Loss::Unsynced)).unwrap()), heads + 1);
        },
    );
    assert!(operations > 30, "{operations}");
}

#[test]
fn a_sweep_that_stops_anywhere_removes_nothing_that_is_needed() {
    let before = SimulatedFiles::new();
    let store = open(&before).unwrap();
    // Garbage: packs that nothing names, as a dead writer leaves them, or a removed job.
    for seq in [7, 12, 20] {
        let chunks = Chunks::open(store.clone());
        let mut writer = chunks.writer().unwrap();
        for n in chunks_of(seq) {
            writer.add(ChunkId::of(&chunk(n)), &chunk(n)).unwrap();
        }
        drop(writer.finish().unwrap());
    }
    commit(&store, 0).unwrap();
    commit(&store, 1).unwrap();
    let sweep = |files: &SimulatedFiles| {
        let store = open(files)?;
        let chunks = Chunks::open(store.clone());
        let sweep = chunks.sweep()?;
        let live: HashSet<_> = store.list(LOG)?.iter().flat_map(|record| live(&store, record)).collect();
        sweep.remove_unreferenced(&live).map(|_| ())
    };
    let packs = |files: &SimulatedFiles| open(files).unwrap().list("packs/").unwrap().len();
    assert_eq!(packs(&before), 5);
    let operations = at_every_operation(&before, sweep, |files, succeeded| {
        assert_eq!(committed(&open(files).unwrap()), 2);
        assert!(packs(files) == 2 || !succeeded);
        sweep(files).unwrap();
        assert_eq!(packs(files), 2);
        commit(&open(files).unwrap(), 2).unwrap();
        assert_eq!(committed(&open(&files.crash(Loss::Unsynced)).unwrap()), 3);
    });
    // Epoch and three packs, each removed and its directory synced.
    assert_eq!(operations, 8);
}

#[test]
fn what_was_deleted_first_is_gone_first() {
    let before = SimulatedFiles::new();
    let store = open(&before).unwrap();
    commit(&store, 0).unwrap();
    let manifest = store.list("snapshots/").unwrap().remove(0);
    let remove = |files: &SimulatedFiles| {
        let store = open(files)?;
        store.delete(&log_key(0))?;
        store.delete(&manifest)
    };
    at_every_operation(&before, remove, |files, succeeded| {
        let store = open(files).unwrap();
        // A record that is still there can be read with all it names.
        assert!(committed(&store) <= u32::from(!succeeded));
    });
}

/// The same one level up, for any store: each operation of the store fails, has its effect without a reply,
/// or is torn.
#[test]
fn store_operations_that_fail_leave_the_last_commit() {
    for how in [Failure::Before, Failure::After, Failure::Torn] {
        for once in [false, true] {
            for n in 0.. {
                let memory: Arc<dyn Store> = Arc::new(Memory::new());
                commit(&memory, 0).unwrap();
                let faulty = if once {
                    FailAfter::once(memory.clone(), n, how)
                } else {
                    FailAfter::with(memory.clone(), n, how)
                };
                let result = commit(&(Arc::new(faulty.clone()) as Arc<dyn Store>), 1);
                assert_eq!(result.is_err(), faulty.has_failed());
                let log = memory.list(LOG).unwrap();
                assert!(log.len() == 2 || log.len() == 1 && result.is_err());
                let chunks = Chunks::open(memory.clone());
                for (seq, record) in (0..).zip(&log) {
                    for (n, id) in chunks_of(seq).zip(live(&memory, record)) {
                        assert!(chunks.read(id).unwrap() == chunk(n));
                    }
                }
                // A torn object is repaired by storing it again.
                commit(&memory, log.len() as u32).unwrap();
                assert_eq!(committed(&memory), log.len() as u32 + 1);
                if !faulty.has_failed() {
                    assert!(n > 5, "{n}");
                    break;
                }
            }
        }
    }
}
