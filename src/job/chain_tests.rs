//! Chains of many snapshots: as fast at the end as at the beginning, and swept without loss.

use std::io::{self, Write};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::intake::Intake;
use super::log::{Claim, Commit, Event};
use super::{Job, JobName, Jobs, Spec};
use crate::digest::ModuleId;
use crate::snapshot::testing::Random;
use crate::snapshot::{self, Dirty, Memory, PAGE, State, Tree};
use crate::store::fault::{FailAfter, Failure};
use crate::store::simulated::{Fault, Loss, SimulatedFiles};
use crate::store::{self, Local, Store, objects};

const MODULE: &[u8] = b"\0asm\x01\0\0\0";

/// A job whose program writes to some pages of its memory between snapshots.
struct Chain {
    job: Job,
    tree: Tree,
    memory: Vec<u8>,
    random: Random,
    fuel: u64,
}

impl Chain {
    fn begin(jobs: &Jobs, name: &str, pages: usize, retain: Option<u64>) -> anyhow::Result<Self> {
        let mut job = jobs.hold(&name.parse()?)?;
        job.begin(MODULE, Spec::program(ModuleId::of(MODULE), name))?;
        job.append(Event::Claim(Claim { pid: 1, sinks: [None; 2], retain }))?;
        let mut memory = vec![0; pages * PAGE];
        blake3::Hasher::new().update(name.as_bytes()).finalize_xof().fill(&mut memory);
        Ok(Self { job, tree: Tree::new(), memory, random: Random::new(pages as u64), fuel: 0 })
    }

    /// Writes to some pages, and takes a snapshot.
    fn step(&mut self, dirty: usize) -> anyhow::Result<()> {
        self.fuel += 1;
        let pages = (self.memory.len() / PAGE) as u64;
        let mut changed: Vec<u64> = (0..dirty).map(|_| self.random.below(pages)).collect();
        changed.sort_unstable();
        changed.dedup();
        for page in &changed {
            self.memory[*page as usize * PAGE..][..8].copy_from_slice(&self.fuel.to_le_bytes());
        }
        let jobs = self.job.jobs().clone();
        let mut writer = jobs.chunks().writer()?;
        let stored = self.tree.update(&self.memory, Dirty::Pages(&changed), &mut |id, bytes| {
            writer.add(id, bytes)?;
            Ok(())
        });
        let root = stored?;
        let state = State {
            fuel: self.fuel,
            memories: vec![Memory { len: self.memory.len() as u64, root }],
            blobs: vec![],
            sections: vec![],
            ..snapshot::testing::state(&mut Random::new(1))
        };
        let (snapshot, manifest) = snapshot::encode(&state)?;
        let (written, guard) = writer.finish()?;
        objects::put_snapshot(&**jobs.store(), &manifest)?;
        self.job.append(Event::Commit(Commit {
            snapshot,
            fuel: self.fuel,
            memory: state.memories[0].len,
            chunks: written.chunks,
            new_bytes: written.bytes,
            stored_bytes: written.stored_bytes,
            manifest_bytes: manifest.len() as u64,
            pause_us: 0,
            durable_us: 0,
            dirty_bytes: None,
            source: None,
            restored: None,
        }))?;
        drop(guard);
        Ok(())
    }
}

/// Fuel of the snapshots of a job, each of which can be read whole.
fn whole(jobs: &Jobs, name: &str) -> Vec<u64> {
    let mut fuels = vec![];
    for entry in jobs.history(&name.parse().unwrap()).unwrap() {
        let Event::Commit(commit) = entry.event else { continue };
        let snapshot = jobs.snapshot(commit.snapshot).unwrap();
        jobs.check(snapshot.state()).unwrap();
        fuels.push(commit.fuel);
    }
    fuels
}

fn objects_of(store: &dyn Store, prefix: &str) -> usize {
    store.list(prefix).unwrap().len()
}

/// A directory in memory, if there is one: what is measured is what we do, not the disk.
fn fast_dir() -> tempfile::TempDir {
    let shared = Path::new("/dev/shm");
    let dir = if shared.is_dir() { shared.to_path_buf() } else { std::env::temp_dir() };
    tempfile::tempdir_in(dir).unwrap()
}

fn open(path: &PathBuf) -> Jobs {
    Jobs::new(Arc::new(Local::existing(path).unwrap()))
}

fn timed<T>(work: impl FnOnce() -> T) -> (Duration, T) {
    let began = Instant::now();
    let result = work();
    (began.elapsed(), result)
}

/// Times of one who comes anew: to find out where the job stands and what jobs there are, to read the last snapshot, and
/// to list the last ones.
fn anew(path: &PathBuf, name: &JobName, pages: usize) -> [Duration; 3] {
    let best = |what: &dyn Fn() -> Duration| (0..5).map(|_| what()).min().unwrap();
    let status = best(&|| timed(|| (open(path).existing(name).unwrap(), open(path).names().unwrap())).0);
    let restore = best(&|| {
        let jobs = open(path);
        let id = jobs.existing(name).unwrap().snapshot().unwrap();
        timed(|| {
            let state = jobs.snapshot(id).unwrap();
            let (root, len) = state.state().contents().next().unwrap();
            let mut count = 0;
            let mut fetch = |id| Ok(jobs.chunks().read(id)?);
            let tree = Tree::load(root, len, &mut fetch, &mut |_, _| {
                count += 1;
                Ok(())
            });
            tree.unwrap();
            assert_eq!(count, pages);
        })
        .0
    });
    let list = best(&|| timed(|| open(path).history(name).unwrap()).0);
    [status, restore, list]
}

/// `WASM_CKPT_CHAIN=10000` for the full length.
#[test]
fn a_long_chain_of_snapshots_stays_as_fast_as_the_first() {
    let length: usize = std::env::var("WASM_CKPT_CHAIN").map_or(1500, |text| text.parse().unwrap());
    let (pages, name): (usize, JobName) = (256, "chain".parse().unwrap());
    for retain in [Some(20), None] {
        let dir = fast_dir();
        let path = dir.path().join("store");
        let jobs = Jobs::new(Arc::new(Local::open(&path).unwrap()));
        let mut chain = Chain::begin(&jobs, "chain", pages, retain).unwrap();
        let mut times: Vec<Duration> = (0..100).map(|_| timed(|| chain.step(8).unwrap()).0).collect();
        let first = anew(&path, &name, pages);
        times.extend((100..length).map(|_| timed(|| chain.step(8).unwrap()).0));
        drop(chain);
        let last = anew(&path, &name, pages);

        let median = |times: &[Duration]| {
            let mut times = times.to_vec();
            times.sort_unstable();
            times[times.len() / 2]
        };
        let take = [median(&times[..100]), median(&times[length - 100..])];
        let store = Local::existing(&path).unwrap();
        let bytes: u64 =
            store.list("packs/").unwrap().iter().map(|key| store.size(key).unwrap()).sum::<u64>() >> 10;
        println!(
            "{length} snapshots, {retain:?} kept: {} packs of {bytes} KiB, {} manifests, {} objects of the log",
            objects_of(&store, "packs/"),
            objects_of(&store, "snapshots/"),
            objects_of(&store, "jobs/"),
        );
        let ratio = |[first, last]: [Duration; 2]| last.as_secs_f64() / first.as_secs_f64();
        println!("  take       first and last hundred {take:?}: {:.2}", ratio(take));
        for (what, n) in [("status", 0), ("restore", 1), ("list all", 2)] {
            println!(
                "  {what:10} after 100 {:?}, after all {:?}: {:.2}",
                first[n],
                last[n],
                ratio([first[n], last[n]])
            );
        }
        // Generous, for a busy machine, where some milliseconds say nothing: the figures above are what counts, and how
        // many objects and entries there are.
        let noise = Duration::from_millis(10);
        let within = |[first, last]: [Duration; 2], factor: u32| last < first * factor + noise;
        assert!(within(take, 3), "{take:?}");
        assert!(within([first[0], last[0]], 6), "{first:?} {last:?}");
        assert!(objects_of(&store, "packs/") < 300, "{}", objects_of(&store, "packs/"));
        assert!(objects_of(&store, "jobs/") < 320, "{}", objects_of(&store, "jobs/"));
        if retain.is_some() {
            assert!(within([first[1], last[1]], 4) && within([first[2], last[2]], 6), "{first:?} {last:?}");
            let entries = open(&path).history(&name).unwrap().len();
            assert!(entries < 400, "{entries} entries are left");
            assert!(objects_of(&store, "snapshots/") < 400, "{}", objects_of(&store, "snapshots/"));
        }
        let (time, freed) = timed(|| jobs.gc().unwrap());
        println!("  gc         {time:?}: {freed:?}");
        let kept = whole(&jobs, "chain");
        let expected = length - retain.map_or(length, |n| n as usize).min(length);
        assert!(kept.iter().copied().eq(expected as u64 + 1..=length as u64), "{} are left", kept.len());
        assert_eq!(objects_of(&store, "snapshots/"), length - expected);
    }
}

/// Too few for the work beside a run to begin: two jobs that have released snapshots, one removed, and one that has all that another one has.
fn used(store: Arc<dyn Store>) -> anyhow::Result<()> {
    let jobs = Jobs::new(store);
    for (name, retain, count) in [("a", Some(3), 15), ("b", None, 5), ("gone", None, 3)] {
        let mut chain = Chain::begin(&jobs, name, 40, retain)?;
        (0..count).try_for_each(|_| chain.step(6))?;
    }
    jobs.remove(&"gone".parse()?)
}

fn assert_swept(store: Arc<dyn Store>, what: &str) {
    let jobs = Jobs::new(store.clone());
    let kept = || (whole(&jobs, "a"), whole(&jobs, "b"));
    assert_eq!(kept(), (vec![13, 14, 15], vec![1, 2, 3, 4, 5]), "{what}");
    jobs.gc().unwrap_or_else(|error| panic!("{what}: {error:?}"));
    assert_eq!(kept(), (vec![13, 14, 15], vec![1, 2, 3, 4, 5]), "{what}");
    assert_eq!(objects_of(&*store, "snapshots/"), 8, "{what}");
    jobs.chunks().verify(&mut |pack| assert!(pack.result.is_ok(), "{what}: {pack:?}")).unwrap();
    let mut chain = Jobs::new(store).hold(&"a".parse().unwrap()).unwrap();
    chain.append(Event::Stop).unwrap_or_else(|error| panic!("{what}: {error:?}"));
}

#[test]
fn a_collection_that_stops_anywhere_loses_nothing() {
    for how in [Failure::Before, Failure::After] {
        for n in 0.. {
            let memory: Arc<dyn Store> = Arc::new(store::Memory::new());
            used(memory.clone()).unwrap();
            let faulty = FailAfter::with(memory.clone(), n, how);
            let result = Jobs::new(Arc::new(faulty.clone())).gc();
            assert_eq!(result.is_err(), faulty.has_failed(), "{n}");
            assert_swept(memory, &format!("{how:?} at operation {n}"));
            if !faulty.has_failed() {
                assert!(n > 20, "{n}");
                break;
            }
        }
    }
}

#[test]
fn a_loss_of_power_in_a_collection_loses_nothing() {
    let before = SimulatedFiles::new();
    let open = |files: &SimulatedFiles| -> anyhow::Result<Arc<dyn Store>> {
        Ok(Arc::new(Local::open_on("/store", Arc::new(files.clone()))?))
    };
    used(open(&before).unwrap()).unwrap();
    for (fault, loss) in [
        (Fault::Stop, Loss::Unsynced),
        (Fault::StopAfter, Loss::Some(3)),
        (Fault::Stop, Loss::Some(11)),
        (Fault::Full, Loss::Nothing),
    ] {
        for n in 0.. {
            let files = before.fork();
            files.fail_at(n, fault);
            let _ = open(&files).and_then(|store| Jobs::new(store).gc());
            let reached = files.ops() > n;
            assert_swept(open(&files.crash(loss)).unwrap(), &format!("{fault:?} at {n}, {loss:?}"));
            if !reached {
                assert!(n > 40, "{n}");
                break;
            }
        }
    }
}

#[test]
fn a_collection_beside_running_jobs_takes_nothing_from_them() {
    let dir = fast_dir();
    let path = dir.path().join("store");
    drop(Local::open(&path).unwrap());
    std::thread::scope(|scope| {
        let runs = ["a", "b"].map(|name| {
            let path = &path;
            scope.spawn(move || {
                let jobs = open(path);
                let mut chain = Chain::begin(&jobs, name, 60, Some(4)).unwrap();
                for n in 1..=150_u64 {
                    chain.step(6).unwrap();
                    // As one sees it who knows nothing, and one who thinks to know.
                    if n % 10 == 0 {
                        assert_eq!(whole(&open(path), name).last(), Some(&n));
                        assert_eq!(whole(&jobs, name).len() as u64, n.min(4));
                    }
                }
            })
        });
        while !runs.iter().all(|run| run.is_finished()) {
            open(&path).gc().unwrap();
        }
    });
    let jobs = open(&path);
    jobs.gc().unwrap();
    for name in ["a", "b"] {
        assert_eq!(whole(&jobs, name), [147, 148, 149, 150]);
    }
    assert_eq!(objects_of(&**jobs.store(), "snapshots/"), 8);
}

#[test]
fn an_export_whose_snapshot_is_released_meanwhile_says_so() {
    /// Does something when it is written to first.
    struct Meanwhile<F>(Option<F>);
    impl<F: FnOnce()> Write for Meanwhile<F> {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            if let Some(then) = self.0.take() {
                then();
            }
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let store = Arc::new(store::Memory::new());
    let (jobs, other) = (Jobs::new(store.clone()), Jobs::new(store));
    let pages = 4096;
    let mut chain = Chain::begin(&jobs, "x", pages, Some(1)).unwrap();
    chain.step(1).unwrap();
    let id = other.existing(&"x".parse().unwrap()).unwrap().snapshot().unwrap();
    let snapshot = other.snapshot(id).unwrap();
    let go_on = || {
        chain.step(10 * pages).unwrap();
        // As its keeper does, now and then.
        super::fold::fold(&**jobs.store(), chain.job.name()).unwrap();
        assert_eq!(jobs.gc().unwrap().snapshots, 1);
    };
    let error = other.export(&snapshot, Meanwhile(Some(go_on))).map(drop).unwrap_err();
    assert!(error.to_string().contains("was released"), "{error:?}");
}

#[test]
fn going_back_loses_nothing_that_was_taken_from_a_pipe() {
    let dir = fast_dir();
    let jobs = Jobs::new(Arc::new(Local::open(dir.path().join("store")).unwrap()));
    let mut chain = Chain::begin(&jobs, "x", 8, None).unwrap();
    chain.step(1).unwrap();
    let id = jobs.existing(chain.job.name()).unwrap().snapshot().unwrap();
    chain.step(1).unwrap();
    // A process dies before what it has taken is in the journal.
    let (read, mut write) = io::pipe().unwrap();
    write.write_all(b"late").unwrap();
    let begin = chain.job.begin_number();
    let (mut intake, _) = Intake::open(&**jobs.store(), chain.job.name(), begin, 0).unwrap();
    assert_eq!(intake.take(read.as_fd(), &mut [0; 16]).unwrap(), Ok(4));
    chain.job.go_back(id).unwrap();
    let keys = jobs.store().list("jobs/x/stdin/").unwrap();
    let [key] = keys.as_slice() else { panic!("{keys:?}") };
    assert!(key.as_str().contains(&format!("/{:020}/", chain.job.begin_number())), "{key}");
    assert!(jobs.store().get(key).unwrap().ends_with(b"late"));
}
