//! The local store among processes that are killed, and in directories that are full or cannot be written.

mod tool;

use std::collections::HashSet;
use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use tool::Running;
use tool::store::{child as child_process, key, noise, task, wait_for, won_by};
use wasm_ckpt::digest::ChunkId;
use wasm_ckpt::store::{
    CHUNK_MAX, Chunks, Created, Key, Local, Sharing, Store, StoreError, conformance, objects,
};

/// As another process.
fn spawn(task: &str, store: &Path) -> Child {
    child_process(task, store.to_str().unwrap(), &[])
}

/// What another process does; nothing when the tests are run.
#[test]
fn child() {
    let Some((task, dir)) = task() else { return };
    let store = Arc::new(Local::open(dir).unwrap());
    match task.as_str() {
        "hold" => {
            let _held = store.hold(&key("jobs/x")).unwrap();
            let _shared = store.lease(&key("packs"), Sharing::Shared).unwrap();
            let mut upload = store.upload().unwrap();
            upload.write(b"half of it").unwrap();
            println!("\nheld");
            std::thread::sleep(Duration::from_secs(600));
        }
        "race" => {
            for n in 0..50 {
                let created =
                    store.create(&key(&format!("log/{n}")), &std::process::id().to_le_bytes()).unwrap();
                println!("\n{n} {}", created == Created::Yes);
            }
        }
        "commits" => {
            for seq in committed(&store).. {
                commit(store.clone(), seq).unwrap();
            }
        }
        // A job that keeps its last snapshot alone, whose chunks other jobs have as well.
        "job" => {
            let log = format!("jobs/{}/", std::process::id());
            for seq in 0.. {
                commit_to(&log, store.clone(), seq % 7, seq).unwrap();
                if seq > 0 {
                    store.delete(&key(&format!("{log}{:08}", seq - 1))).unwrap();
                }
            }
        }
        other => panic!("{other}"),
    }
}

fn chunks_of(seq: u64) -> impl Iterator<Item = Vec<u8>> {
    (seq * 20..seq * 20 + 60).map(|n| noise(n, 4096))
}

fn commit(store: Arc<Local>, seq: u64) -> Result<(), StoreError> {
    commit_to("log/", store, seq, seq)
}

/// Stores the `content`-th snapshot, and names it in the `seq`-th record of a log.
fn commit_to(log: &str, store: Arc<Local>, content: u64, seq: u64) -> Result<(), StoreError> {
    let mut writer = Chunks::open(store.clone()).writer()?;
    let mut manifest = Vec::new();
    for bytes in chunks_of(content) {
        writer.add(ChunkId::of(&bytes), &bytes)?;
        manifest.extend(ChunkId::of(&bytes).as_bytes());
    }
    let (_, guard) = writer.finish()?;
    let id = objects::put_snapshot(&*store, &manifest)?;
    store.create(&key(&format!("{log}{seq:08}")), id.to_string().as_bytes())?;
    drop(guard);
    Ok(())
}

/// The chunks that a record of a log names; none if the record is gone.
fn named_by(store: &Local, record: &Key) -> Vec<ChunkId> {
    let text = match store.get(record) {
        Err(StoreError::NotFound { .. }) => return Vec::new(),
        other => String::from_utf8(other.unwrap()).unwrap(),
    };
    let manifest = objects::get_snapshot(store, text.parse().unwrap()).unwrap();
    manifest.chunks(32).map(|id| ChunkId::from_bytes(id.try_into().unwrap())).collect()
}

/// Reads all that was committed, and returns how much that is.
fn committed(store: &Arc<Local>) -> u64 {
    let chunks = Chunks::open(store.clone());
    let log = store.list("log/").unwrap();
    for (seq, record) in (0..).zip(&log) {
        for (bytes, id) in chunks_of(seq).zip(named_by(store, record)) {
            assert!(chunks.read(id).unwrap() == bytes);
        }
    }
    log.len() as u64
}

#[test]
fn conforms() {
    let dir = tempfile::tempdir().unwrap();
    conformance::all(&Local::open(dir.path()).unwrap());
}

#[test]
fn a_lease_ends_with_its_process() {
    let dir = tempfile::tempdir().unwrap();
    let store = Local::open(dir.path()).unwrap();
    let mut child = spawn("hold", dir.path());
    wait_for(&mut child, "held");
    let refused = store.hold(&key("jobs/x")).err().unwrap();
    let StoreError::Held { holder: Some(holder), .. } = &refused else { panic!("{refused:?}") };
    assert_eq!(holder.pid, child.id());
    assert!(refused.to_string().contains(&format!("process {}", child.id())), "{refused}");
    assert!(matches!(store.hold(&key("packs")), Err(StoreError::Held { .. })));
    drop(store.lease(&key("packs"), Sharing::Shared).unwrap());
    let temporaries =
        || fs::read_dir(dir.path().join("tmp")).unwrap().map(|e| e.unwrap().path()).collect::<Vec<_>>();
    let age = || {
        let hour_ago = SystemTime::now() - Duration::from_secs(3600);
        for file in temporaries() {
            fs::File::options().write(true).open(file).unwrap().set_modified(hour_ago).unwrap();
        }
    };
    age();
    drop(Local::open(dir.path()).unwrap());
    assert_eq!(temporaries().len(), 1, "the child is still writing it");

    child.kill().unwrap();
    child.wait().unwrap();
    drop(store.hold(&key("jobs/x")).expect("its holder has died"));
    drop(store.hold(&key("packs")).expect("its holder has died"));
    age();
    drop(Local::open(dir.path()).unwrap());
    assert_eq!(temporaries().len(), 0);
}

#[test]
fn of_several_processes_one_creates() {
    let dir = tempfile::tempdir().unwrap();
    let children: Vec<_> = (0..4).map(|_| spawn("race", dir.path())).collect();
    let mut won: Vec<_> = won_by(children).into_iter().map(|(n, _)| n).collect();
    assert_eq!(won.len(), 50, "{won:?}");
    won.dedup();
    assert_eq!(won.len(), 50, "{won:?}");
}

#[test]
fn killing_a_writer_at_any_time_leaves_what_it_committed() {
    let dir = tempfile::tempdir().unwrap();
    let store = Arc::new(Local::open(dir.path()).unwrap());
    // On a machine that has much else to do, most are killed before they have written anything.
    for round in 0..100u64 {
        let before = committed(&store);
        if round >= 10 && before > 10 {
            break;
        }
        let mut child = spawn("commits", dir.path());
        std::thread::sleep(Duration::from_millis(40 + 7 * round));
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(committed(&store) >= before);
        let sweep = Chunks::open(store.clone()).sweep().unwrap();
        let live = (0..committed(&store)).flat_map(chunks_of).map(|bytes| ChunkId::of(&bytes)).collect();
        sweep.remove_unreferenced(&live).unwrap();
        drop(sweep);
        committed(&store);
    }
    assert!(committed(&store) > 10, "the writers hardly came to write");
    commit(store.clone(), committed(&store)).unwrap();
    let damaged =
        |report: wasm_ckpt::store::PackReport| assert!(report.result.is_ok(), "{:?}", report.result);
    Chunks::open(store.clone()).verify(&mut { damaged }).unwrap();
}

#[test]
fn sweeps_beside_running_jobs_take_nothing_from_them() {
    let dir = tempfile::tempdir().unwrap();
    let store = Arc::new(Local::open(dir.path()).unwrap());
    let mut jobs: Vec<_> = (0..3).map(|_| Running(spawn("job", dir.path()))).collect();
    let (begin, mut removed, mut checked) = (Instant::now(), 0, 0);
    let named = || -> HashSet<ChunkId> {
        store.list("jobs/").unwrap().iter().flat_map(|record| named_by(&store, record)).collect()
    };
    let enough = |removed, checked| removed > 5 && checked > 500;
    while begin.elapsed() < Duration::from_secs(if enough(removed, checked) { 2 } else { 60 }) {
        let sweep = Chunks::open(store.clone()).sweep().unwrap();
        let live = named();
        removed += sweep.remove_unreferenced(&live).unwrap().removed.len();
        // While the lease is held, nothing new is named, and all that is named is there.
        let chunks = Chunks::open(store.clone());
        for id in &live {
            chunks.read(*id).unwrap();
            checked += 1;
        }
        drop(sweep);
        std::thread::sleep(Duration::from_millis(5));
    }
    for job in &mut jobs {
        assert!(job.0.try_wait().unwrap().is_none(), "a job has failed");
    }
    drop(jobs);
    println!("{removed} packs removed, {checked} chunks checked");
    assert!(enough(removed, checked), "{removed} packs removed, {checked} chunks checked");
    let chunks = Chunks::open(store.clone());
    named().into_iter().for_each(|id| drop(chunks.read(id).unwrap()));
}

/// A small file system of its own, gone when dropped; none where one may not mount.
struct Tmpfs(tempfile::TempDir);

impl Tmpfs {
    fn new(options: &str) -> Option<Self> {
        let dir = tempfile::tempdir().unwrap();
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", options, "none"])
            .arg(dir.path())
            .stderr(Stdio::null())
            .status();
        if mounted.is_ok_and(|status| status.success()) {
            return Some(Self(dir));
        }
        eprintln!("SKIPPED: this needs to mount a tmpfs, so to be root");
        None
    }

    fn read_only(&self) {
        let status = Command::new("mount").args(["-o", "remount,ro"]).arg(self.0.path()).status();
        assert!(status.unwrap().success());
    }
}

impl Drop for Tmpfs {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(self.0.path()).status();
    }
}

#[test]
fn a_full_disk_loses_nothing_and_can_be_freed() {
    let Some(disk) = Tmpfs::new("size=2m") else { return };
    let store = Arc::new(Local::open(disk.0.path().join("store")).unwrap());
    commit(store.clone(), 0).unwrap();
    // Packs that nothing names, until there is no more room.
    let chunks = Chunks::open(store.clone());
    let full = (0..100u64).find_map(|n| {
        let mut writer = chunks.writer().unwrap();
        let bytes = noise(1000 + n, CHUNK_MAX);
        writer.add(ChunkId::of(&bytes), &bytes).and_then(|_| writer.finish()).err()
    });
    let error = full.expect("2 MiB are enough for ever");
    assert!(matches!(error, StoreError::Full { .. }), "{error:?}");
    assert!(error.to_string().starts_with("no space left for `"), "{error}");
    assert!(error.hint().unwrap().contains("intact"));
    // And the last room that is left.
    let unfilled = (0..10_000).find(|n| store.put(&key(&format!("fill/{n}")), &[b'x'; 4096]).is_err());
    assert!(unfilled.is_some());
    let refused = commit(store.clone(), 5).err();
    assert!(matches!(refused, Some(StoreError::Full { .. })), "{refused:?}");
    assert_eq!(fs::read_dir(store.root().join("tmp")).unwrap().count(), 0, "a failed write leaves nothing");
    // Reading, leases and removing still work, also in a new process.
    let store = Arc::new(Local::open(store.root()).unwrap());
    assert_eq!(committed(&store), 1);
    drop(store.hold(&key("jobs/x")).unwrap());
    let live = chunks_of(0).map(|bytes| ChunkId::of(&bytes)).collect();
    let swept = Chunks::open(store.clone()).sweep().unwrap().remove_unreferenced(&live).unwrap();
    assert!(swept.bytes > 1 << 20, "{swept:?}");
    commit(store.clone(), 1).unwrap();
    assert_eq!(committed(&store), 2);
}

#[test]
fn a_full_disk_at_the_first_start() {
    // Room for some of the directories of a store, but not for all.
    let Some(disk) = Tmpfs::new("size=64k,nr_inodes=4") else { return };
    let error = Local::open(disk.0.path().join("store")).err().unwrap();
    assert!(matches!(error, StoreError::Full { .. }), "{error:?}");
}

#[test]
fn a_store_that_cannot_be_written_can_be_read() {
    let Some(disk) = Tmpfs::new("size=2m") else { return };
    let root = disk.0.path().join("store");
    commit(Arc::new(Local::open(&root).unwrap()), 0).unwrap();
    disk.read_only();
    for store in [Local::open(&root).unwrap(), Local::existing(&root).unwrap()] {
        let store = Arc::new(store);
        assert_eq!(committed(&store), 1);
        let errors = [
            store.put(&key("a"), b"x").err(),
            store.create(&key("a"), b"x").err(),
            store.delete(&key("log/00000000")).err(),
            store.hold(&key("jobs/x")).err(),
            commit(store.clone(), 1).err(),
        ];
        for error in errors {
            let error = error.unwrap();
            assert!(matches!(error, StoreError::Denied { .. }), "{error:?}");
            assert!(error.to_string().contains(root.to_str().unwrap()), "{error}");
        }
    }
    let error = Local::open(disk.0.path().join("other")).err().unwrap();
    assert!(matches!(error, StoreError::Denied { .. }), "{error:?}");
    assert!(error.to_string().starts_with("cannot create `"), "{error}");
}

/// An upload of much more than one would keep in memory.
#[test]
fn a_big_pack_takes_little_memory() {
    let resident = || -> u64 {
        let statm = fs::read_to_string("/proc/self/statm").unwrap_or_default();
        statm.split(' ').nth(1).and_then(|pages| pages.parse().ok()).unwrap_or(0) * 4096
    };
    let dir = tempfile::tempdir().unwrap();
    let chunks = Chunks::open(Arc::new(Local::open(dir.path()).unwrap()));
    let mut writer = chunks.writer().unwrap();
    let (begin, before) = (Instant::now(), resident());
    let pages = 100_000u64;
    for n in 0..pages {
        let bytes = noise(n, 4096);
        writer.add(ChunkId::of(&bytes), &bytes).unwrap();
    }
    let grown = resident().saturating_sub(before);
    let (written, _guard) = writer.finish().unwrap();
    assert_eq!((written.packs.len(), written.chunks), (1, pages));
    println!("{} MB in {:?}, {} MB of memory", written.bytes / 1_000_000, begin.elapsed(), grown / 1_000_000);
    assert!(grown < 100 << 20, "{grown} bytes for {} of chunks", written.bytes);
    assert!(chunks.read(ChunkId::of(&noise(77_777, 4096))).unwrap() == noise(77_777, 4096));
}
