//! What snapshots cost: `cargo bench --bench snapshot [-- --large]` (`-- --whole`, `-- --restore`: one part
//! alone).
//!
//! For memories of 64 MiB and 1 GiB (`--large`: and 4 GiB), all of them touched, with 0.1, 1, 10 and 100 % of the
//! pages dirtied, at random and in one run: the pause, beside a plain copy of the same pages into memory that is
//! there already, and beside the pause of a `fork`, as Redis does it; what is stored for it; and the time until it is
//! durable. Then a whole snapshot beside what bounds it; going on from it, lazily and at once, beside reading and
//! hashing it; and a program that is snapshotted every second beside itself undisturbed. Targets stand beside the
//! figures.

// For `fork`, to compare with.
#![allow(unsafe_code)]

use std::fs::File;
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::{Mutex, PoisonError};
use std::thread::ThreadId;
use std::time::{Duration, Instant};

use wasm_ckpt::digest::PackId;
use wasm_ckpt::job::{Commit, Lineage, Notice};
use wasm_ckpt::machine::{Aside, Instance, Loading, MemoryTrees, Restoring, Slice, Until};
use wasm_ckpt::store::{Chunks, Local};
use wasm_ckpt::{Engine, Every, Functions, Jobs, Module, Options, Outcome, Settings, Spec, Value, snapshot};

const PAGE: usize = 4096;
const MIB: usize = 1 << 20;

/// Fills pages with bytes a quarter of which compresses to nothing less, and dirties them: each `step`-th from
/// `first` on, scattered by `factor`, which has no divisor in common with their number, a power of 2.
fn guest(mib: usize) -> String {
    let (wasm_pages, pages) = (mib * 16, mib * 256);
    format!(
        r#"(module
  (import "host" "lap" (func $lap))
  (memory (export "memory") {wasm_pages})
  (global $seed (mut i64) (i64.const 88172645463325252))
  (func $next (result i64)
    (global.set $seed (i64.xor (global.get $seed) (i64.shl (global.get $seed) (i64.const 13))))
    (global.set $seed (i64.xor (global.get $seed) (i64.shr_u (global.get $seed) (i64.const 7))))
    (global.set $seed (i64.xor (global.get $seed) (i64.shl (global.get $seed) (i64.const 17))))
    (global.get $seed))
  (func $at (param $page i32) (result i32)
    (i32.shl (i32.and (local.get $page) (i32.const {mask})) (i32.const 12)))
  (func $fill (export "fill") (local $page i32) (local $k i32)
    (loop $p
      (local.set $k (i32.const 0))
      (loop $w
        (i64.store (i32.add (call $at (local.get $page)) (local.get $k)) (call $next))
        (br_if $w (i32.lt_u (local.tee $k (i32.add (local.get $k) (i32.const 8))) (i32.const 1024))))
      (br_if $p (i32.lt_u (local.tee $page (i32.add (local.get $page) (i32.const 1))) (i32.const {pages})))))
  (func $dirty (export "dirty") (param $first i32) (param $count i32) (param $factor i32) (local $n i32)
    (loop $p
      (i64.store
        (call $at (i32.mul (i32.add (local.get $first) (local.get $n)) (local.get $factor)))
        (call $next))
      (br_if $p (i32.lt_u (local.tee $n (i32.add (local.get $n) (i32.const 1))) (local.get $count)))))
  (func (export "idle"))
  ;; Reads a word of each page, all or scattered.
  (func (export "touch") (param $factor i32) (result i64) (local $n i32) (local $sum i64)
    (call $lap)
    (loop $p
      (local.set $sum (i64.add (i64.rotl (local.get $sum) (i64.const 1))
        (i64.load offset=512 (call $at (i32.mul (local.get $n) (local.get $factor))))))
      (br_if $p (i32.lt_u (local.tee $n (i32.add (local.get $n) (i32.const 1))) (i32.const {pages}))))
    (local.get $sum))
  ;; Each round dirties some pages, and computes for a while.
  (func (export "work") (param $rounds i32) (param $count i32)
    (call $fill)
    (call $rounds (local.get $rounds) (local.get $count)))
  (func $rounds (export "rounds") (param $rounds i32) (param $count i32) (local $n i32) (local $k i32)
    (loop $r
      (call $dirty (i32.mul (local.get $n) (local.get $count)) (local.get $count) (i32.const {SCATTER}))
      (call $lap)
      (local.set $k (i32.const 2000000))
      (loop $w
        (drop (call $next))
        (br_if $w (local.tee $k (i32.sub (local.get $k) (i32.const 1)))))
      (br_if $r (i32.lt_u (local.tee $n (i32.add (local.get $n) (i32.const 1))) (local.get $rounds))))))"#,
        mask = pages - 1,
    )
}

/// An odd number: pages one after the other land far from each other.
const SCATTER: i32 = 0x9E37_79B1_u32 as i32;

fn compile(mib: usize) -> (Vec<u8>, Module) {
    let wasm = wat::parse_str(guest(mib)).unwrap();
    let module = Engine::new(Settings::default()).unwrap().compile(&wasm).unwrap();
    (wasm, module)
}

fn call(instance: &mut Instance, function: &str, args: &[i32]) {
    let args = args.iter().map(|n| Value::I32(*n as u32)).collect();
    instance.call(function, args).unwrap();
    assert!(matches!(instance.run(&Until::default()).unwrap(), Slice::Finished(_)));
    instance.call("idle", vec![]).unwrap();
}

/// The guest's thread at its last lap, and the processor time of all laps.
type Laps = (Option<(ThreadId, Duration)>, Duration);
static LAPS: Mutex<Laps> = Mutex::new((None, Duration::ZERO));

/// The processor time of this thread, which others on the machine do not change much.
fn thread_time() -> Duration {
    processor_time(libc::CLOCK_THREAD_CPUTIME_ID)
}

/// The processor time of this thread or process.
fn processor_time(of: libc::clockid_t) -> Duration {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the call fills the structure that it is given.
    unsafe { libc::clock_gettime(of, &raw mut time) };
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

fn functions() -> Functions {
    Functions::new().with("host", "lap", |_, _| {
        let (thread, now) = (std::thread::current().id(), thread_time());
        let mut laps = LAPS.lock().unwrap();
        if let Some((before, then)) = laps.0
            && before == thread
        {
            laps.1 += now.saturating_sub(then);
        }
        laps.0 = Some((thread, now));
        Ok(vec![])
    })
}

fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

fn verdict(good: bool) -> &'static str {
    if good { "ok" } else { "MISSED" }
}

struct Bench {
    module: Module,
    instance: Instance,
    trees: MemoryTrees,
    chunks: Chunks,
    pages: usize,
    /// Memory like the guest's, to copy from, and room for the copy.
    like: Vec<u8>,
    room: Vec<u8>,
    first: i32,
}

struct Taken {
    pause: Duration,
    durable: Duration,
    dirty: u64,
    new: u64,
    stored: u64,
    aside: Aside,
}

impl Bench {
    fn new(mib: usize, dir: &std::path::Path) -> Self {
        let (_, module) = compile(mib);
        let mut instance = Instance::new(&module, None, &functions(), "idle", vec![]).unwrap();
        call(&mut instance, "fill", &[]);
        let store = Arc::new(Local::open(dir.join(format!("{mib}"))).unwrap());
        let like = vec![7; mib * MIB];
        let chunks = Chunks::open(store);
        Self {
            module,
            instance,
            trees: MemoryTrees::default(),
            chunks,
            pages: mib * 256,
            like,
            room: vec![],
            first: 0,
        }
    }

    fn snapshot(&mut self) -> Taken {
        let began = Instant::now();
        let trees = std::mem::take(&mut self.trees);
        let frozen = self.instance.freeze(trees, &mut |_, _| unreachable!("there is no disk")).unwrap();
        let pause = began.elapsed();
        let mut writer = self.chunks.writer().unwrap();
        let (state, trees) = frozen
            .thaw(&mut |id, bytes| {
                writer.add(id, bytes)?;
                Ok(())
            })
            .unwrap();
        let (_, manifest) = snapshot::encode(&state).unwrap();
        let (written, _guard) = writer.finish().unwrap();
        let dirtied = trees.dirtied().unwrap();
        self.trees = trees;
        Taken {
            pause,
            durable: began.elapsed(),
            dirty: dirtied.bytes,
            new: written.bytes + manifest.len() as u64,
            stored: written.stored_bytes + manifest.len() as u64,
            aside: dirtied.aside,
        }
    }

    /// A snapshot that the guest waits for, until it is durable.
    fn standing(&mut self) -> Duration {
        let began = Instant::now();
        let mut writer = self.chunks.writer().unwrap();
        let mut emit = |id, bytes: &[u8]| {
            writer.add(id, bytes)?;
            Ok(())
        };
        let state = self.instance.capture(&mut self.trees, &mut emit).unwrap();
        snapshot::encode(&state).unwrap();
        let _guard = writer.finish().unwrap();
        began.elapsed()
    }

    /// The same pages, copied to where there was something before.
    fn plain_copy(&mut self, first: i32, count: usize, factor: i32) -> Duration {
        self.room.resize(count * PAGE, 1);
        self.room.fill(1);
        let mut pages: Vec<usize> = (0..count as i32)
            .map(|n| first.wrapping_add(n).wrapping_mul(factor) as u32 as usize & (self.pages - 1))
            .collect();
        pages.sort_unstable();
        let began = Instant::now();
        for (page, room) in pages.iter().zip(self.room.chunks_mut(PAGE)) {
            room.copy_from_slice(&self.like[page * PAGE..][..PAGE]);
        }
        std::hint::black_box(&self.room);
        began.elapsed()
    }

    fn case(&mut self, percent: f64, factor: i32) {
        let count = ((self.pages as f64 * percent / 100.0) as usize).max(1);
        let (mut copies, mut pauses, mut last) = (vec![], vec![], None);
        // The best of some, on a machine with others on it.
        for _ in 0..if percent > 50.0 { 2 } else { 5 } {
            call(&mut self.instance, "dirty", &[self.first, count as i32, factor]);
            let taken = self.snapshot();
            assert_eq!(taken.dirty, (count * PAGE) as u64);
            copies.push(self.plain_copy(self.first, count, factor));
            pauses.push(taken.pause);
            self.first = self.first.wrapping_add(count as i32);
            last = Some(taken);
        }
        let (copy, pause) = (copies.into_iter().min().unwrap(), pauses.into_iter().min().unwrap());
        let taken = last.unwrap();
        let limit = copy * 3 + Duration::from_millis(1);
        let ratio = taken.new as f64 / taken.dirty as f64;
        println!(
            "{:>6} {percent:>5} % {:<6} {:>8} {:>9.2} {:>9.2} {:<8} {:>9.2} {:<7} {ratio:>6.2} {:<7} {:>6.2} {:>9.0}",
            self.pages / 256,
            if factor == 1 { "run" } else { "random" },
            count,
            ms(copy),
            ms(pause),
            format!("{:?}", taken.aside).to_lowercase(),
            ms(limit),
            verdict(pause <= limit),
            verdict(ratio <= 1.3),
            taken.stored as f64 / taken.dirty as f64,
            ms(taken.durable),
        );
    }

    /// A fork whose child writes all of the memory, as Redis does it.
    fn fork_and_write(&mut self, dir: &std::path::Path) {
        let path = dir.join("fork");
        let mut file = File::create(&path).unwrap();
        let began = Instant::now();
        // SAFETY: the child makes system calls alone (`write`, `fsync`, `_exit`) on what is there already.
        let pid = unsafe { libc::fork() };
        if pid == 0 {
            let done = file.write_all(&self.like).and_then(|()| file.sync_all());
            // SAFETY: ends the child at once, whatever its threads were doing.
            unsafe { libc::_exit(i32::from(done.is_err())) };
        }
        let pause = began.elapsed();
        assert!(pid > 0);
        // SAFETY: waits for the child that was just made; no memory is involved.
        unsafe { libc::waitpid(pid, std::ptr::null_mut(), 0) };
        println!(
            "{:>6} fork and write of all: {:.2} ms pause, {:.0} ms until it is durable, whatever is dirty",
            self.pages / 256,
            ms(pause),
            ms(began.elapsed())
        );
        std::fs::remove_file(path).unwrap();
    }

    /// All pages, new: beside each of what it takes alone.
    fn whole(&mut self, dir: &std::path::Path) {
        let gib = self.pages as f64 / 262_144.0;
        let rate = |time: Duration| gib / time.as_secs_f64();
        // Neither is needed any more, and at 4 GiB there is not room for all.
        self.room = vec![];
        let mut mixed = std::mem::take(&mut self.like);
        let mut seed = 1_u64;
        for page in mixed.chunks_mut(PAGE) {
            for word in page[..1024].chunks_mut(8) {
                seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                word.copy_from_slice(&seed.to_le_bytes());
            }
        }
        // The best of some, here as everywhere.
        let timed = |work: &mut dyn FnMut()| {
            let once = |_| {
                let began = Instant::now();
                work();
                rate(began.elapsed())
            };
            (0..3).map(once).fold(0.0, f64::max)
        };
        let blake3 = timed(&mut || {
            mixed.chunks(PAGE).for_each(|page| {
                std::hint::black_box(blake3::hash(page));
            })
        });
        let mut stored = vec![];
        let mut compressor = zstd::bulk::Compressor::new(1).unwrap();
        let mut room = vec![0; zstd::zstd_safe::compress_bound(16 * PAGE)];
        let zstd = timed(&mut || {
            stored.clear();
            // In frames like those of packs: a page is to be had without much else.
            for frame in mixed.chunks(16 * PAGE) {
                let len = compressor.compress_to_buffer(frame, &mut room[..]).unwrap();
                stored.extend_from_slice(&room[..len]);
            }
        });
        let path = dir.join("disk");
        let disk = timed(&mut || {
            let mut file = File::create(&path).unwrap();
            file.write_all(&stored).and_then(|()| file.sync_all()).unwrap();
        });
        std::fs::remove_file(path).unwrap();
        let part = 100.0 * stored.len() as f64 / mixed.len() as f64;
        drop((stored, mixed));
        let began = Instant::now();
        let frozen = self.instance.freeze(MemoryTrees::default(), &mut |_, _| Ok(())).unwrap();
        frozen.thaw(&mut |_, _| Ok(())).unwrap();
        let hashed = rate(began.elapsed());
        let (mut aside, mut found) = (0.0_f64, 0.0_f64);
        // Into stores of their own, which need not last.
        let kept = self.chunks.clone();
        for _ in 0..3 {
            for (found, standing) in [(&mut found, true), (&mut aside, false)] {
                let room = tempfile::tempdir_in(dir).unwrap();
                self.chunks = Chunks::open(Arc::new(Local::open(room.path()).unwrap()));
                self.trees = MemoryTrees::default();
                let taken = if standing { self.standing() } else { self.snapshot().durable };
                *found = found.max(rate(taken));
                call(&mut self.instance, "fill", &[]);
            }
        }
        (self.chunks, self.trees) = (kept, MemoryTrees::default());
        let bound = blake3.min(zstd).min(disk);
        println!(
            "{:>6} a whole snapshot: {found:.2} GiB/s to a local store while the guest stands, {aside:.2} put aside first ({hashed:.2} \
             without the writing); alone on one core: blake3 {blake3:.2}, zstd -1 {zstd:.2}, disk {disk:.2} (of what compresses to \
             {part:.0} %); target 70 % of the slowest, {:.2}: {}",
            self.pages / 256,
            0.7 * bound,
            verdict(found >= 0.7 * bound),
        );
    }
}

impl Bench {
    /// Going on from the last state: until the first instruction, until all is touched, and all at once.
    fn restores(&mut self, dir: &std::path::Path) {
        call(&mut self.instance, "fill", &[]);
        let frozen = self.instance.freeze(MemoryTrees::default(), &mut |_, _| Ok(())).unwrap();
        let mut writer = self.chunks.writer().unwrap();
        let mut pages = vec![];
        let (state, _) = frozen
            .thaw(&mut |id, bytes| {
                writer.add(id, bytes)?;
                if bytes.len() == PAGE {
                    pages.push(id);
                }
                Ok(())
            })
            .unwrap();
        let written = writer.finish().unwrap().0;
        let store = dir.join(format!("{}", self.pages / 256));
        let pack = |id: &PackId| {
            let name = id.to_string();
            store.join("objects/packs").join(format!("+{}", &name[..2])).join(name)
        };
        let packs: Vec<PathBuf> = written.packs.iter().map(pack).collect();
        let open = || Chunks::open(Arc::new(Local::open(&store).unwrap()));
        let cpu = || processor_time(libc::CLOCK_PROCESS_CPUTIME_ID);
        let limit = |fresh| (0..5).map(|_| read_and_hash(&packs, pages.len(), fresh)).min().unwrap();
        let [bare, fresh] = [false, true].map(limit);
        let restore = |loading, factor: i32| {
            let chunks = open();
            let began = Instant::now();
            chunks.contains(pages[0]).unwrap();
            let opened = began.elapsed();
            let stuck = Arc::new(|error: anyhow::Error| panic!("{error:#}"));
            let how = Restoring {
                source: Arc::new(chunks),
                loading,
                patience: Duration::from_secs(60),
                first: vec![],
                stuck,
            };
            let lap = Functions::new().with("host", "lap", |_, _| {
                *FIRST.lock().unwrap() =
                    Some((Instant::now(), processor_time(libc::CLOCK_PROCESS_CPUTIME_ID)));
                Ok(vec![])
            });
            let (began, cpu_before) = (Instant::now(), cpu());
            let (mut instance, _) = Instance::restore_from(&self.module, None, &lap, &state, &how).unwrap();
            instance.call("touch", vec![Value::I32(factor as u32)]).unwrap();
            assert!(matches!(instance.run(&Until::default()).unwrap(), Slice::Finished(_)));
            let (all, all_cpu) = (began.elapsed(), cpu() - cpu_before);
            let (first, first_cpu) = FIRST.lock().unwrap().take().unwrap();
            Restored { all, all_cpu, first: first - began, first_cpu: first_cpu - cpu_before, opened }
        };
        let best = |loading, factor| (0..5).map(|_| restore(loading, factor)).min_by_key(|r| r.all).unwrap();
        let eager = best(Loading::Eager, 1);
        let lazy = [("in order", best(Loading::Lazy, 1)), ("at random", best(Loading::Lazy, SCATTER))];
        let first = lazy.iter().map(|(_, r)| r.first).max().unwrap();
        let first_cpu = lazy.iter().map(|(_, r)| r.first_cpu).max().unwrap();
        println!(
            "{:>6} going on: store opened in {:.1} ms; first instruction after {:.2} ms ({:.2} ms of processors); target \
             20 ms: {}",
            self.pages / 256,
            ms(eager.opened),
            ms(first),
            ms(first_cpu),
            verdict(first <= Duration::from_millis(20)),
        );
        println!(
            "       at once {:.0} ms ({:.0} ms of processors); on as many cores, reading the packs and blake3 of each page alone {:.0} \
             ms: {:.0} % of that speed, target 70 %: {}; the same into fresh memory {:.0} ms",
            ms(eager.first),
            ms(eager.first_cpu),
            ms(bare),
            100.0 * bare.as_secs_f64() / eager.first.as_secs_f64(),
            verdict(eager.first.as_secs_f64() <= bare.as_secs_f64() / 0.7),
            ms(fresh),
        );
        for (how, lazy) in lazy {
            let ratio = lazy.all.as_secs_f64() / eager.all.as_secs_f64();
            println!(
                "       all touched {how}: lazily {:.0} ms ({:.0} ms of processors), at once {:.0} ms ({:.0} ms): {ratio:.2}x, \
                 target 1.3x: {}",
                ms(lazy.all),
                ms(lazy.all_cpu),
                ms(eager.all),
                ms(eager.all_cpu),
                verdict(ratio <= 1.3),
            );
        }
    }
}

/// What nobody who restores from these files can do without: to read them, and to hash so many pages one by one; with
/// `fresh`, from where they are to memory that the system has not given yet.
fn read_and_hash(packs: &[PathBuf], pages: usize, fresh: bool) -> Duration {
    const THREADS: usize = 2;
    // More than caches hold.
    let memory = vec![7; 64 * MIB];
    let mut parts = vec![];
    for pack in packs {
        let len = std::fs::metadata(pack).unwrap().len();
        parts.extend((0..len).step_by(MIB).map(|at| (pack, at)));
    }
    let (memory, parts) = (&memory, &parts);
    let began = Instant::now();
    let mut new = vec![0; if fresh { pages * PAGE } else { 0 }];
    let half = new.len() / THREADS;
    let (first, second) = new.split_at_mut(half);
    std::thread::scope(|scope| {
        for (thread, mine) in [first, second].into_iter().enumerate() {
            scope.spawn(move || {
                let mut room = vec![0; MIB];
                for (pack, at) in parts.iter().skip(thread).step_by(THREADS) {
                    std::hint::black_box(File::open(pack).unwrap().read_at(&mut room, *at).unwrap());
                }
                let mut places = mine.chunks_mut(PAGE);
                for page in memory.chunks(PAGE).cycle().take(pages / THREADS) {
                    if let Some(place) = places.next() {
                        place.copy_from_slice(page);
                    }
                    std::hint::black_box(blake3::hash(page));
                }
            });
        }
    });
    let taken = began.elapsed();
    std::hint::black_box(new);
    taken
}

/// What a restore took, in time and in processor time.
struct Restored {
    all: Duration,
    all_cpu: Duration,
    first: Duration,
    first_cpu: Duration,
    opened: Duration,
}

/// When a guest that was restored made its first step.
static FIRST: Mutex<Option<(Instant, Duration)>> = Mutex::new(None);

/// A program that dirties 1 % of 1 GiB each second, with a snapshot every second, and without.
fn steady(dir: &std::path::Path, mib: usize) {
    const ROUNDS: u32 = 1200;
    let (wasm, module) = compile(mib);
    let jobs = Jobs::new(Arc::new(Local::open(dir.join("steady")).unwrap()));
    // How long a round takes, so that 1 % of the pages are dirty after a second.
    let mut instance = Instance::new(&module, None, &functions(), "idle", vec![]).unwrap();
    call(&mut instance, "fill", &[]);
    let (filled, began) = (instance.fuel(), Instant::now());
    call(&mut instance, "rounds", &[100, 1]);
    let round = began.elapsed() / 100;
    drop(instance);
    let count = (mib as f64 * 2.56 * round.as_secs_f64()).ceil() as u32;
    let spec = Spec::invoke(module.id(), "work", vec![Value::I32(ROUNDS), Value::I32(count)]);
    let mut job = jobs.hold(&"base".parse().unwrap()).unwrap();
    job.begin(&wasm, spec).unwrap();
    let (every, functions_) = (Every::Never, functions());
    let options = Options { every, pause_after: Some(filled), functions: functions_, ..Options::default() };
    let outcome = job.run(&module, options).unwrap().advance().unwrap();
    let Outcome::Paused { snapshot, .. } = outcome else { panic!("{outcome:?}") };
    let (mut best, mut busy) = ([Duration::MAX; 2], [Duration::MAX; 2]);
    let commits = Arc::new(Mutex::new(Vec::<Commit>::new()));
    let mut skipped = 0;
    for n in 0..8 {
        let mut job = jobs.hold(&format!("round{n}").parse().unwrap()).unwrap();
        job.begin_from(snapshot, Lineage::Fork { seed: None }).unwrap();
        let every = if n % 2 == 0 { Every::Never } else { Every::Time(Duration::from_secs(1)) };
        let (commits, left_out) = (commits.clone(), Arc::new(Mutex::new(0)));
        let count = left_out.clone();
        let observe = move |notice: Notice<'_>| match notice {
            Notice::Committed(commit) => {
                commits.lock().unwrap_or_else(PoisonError::into_inner).push(commit.clone())
            }
            Notice::SnapshotSkipped => *count.lock().unwrap() += 1,
            _ => {}
        };
        let options =
            Options { every, observe: Box::new(observe), functions: functions(), ..Options::default() };
        *LAPS.lock().unwrap() = (None, Duration::ZERO);
        let mut run = job.run(&module, options).unwrap();
        let began = Instant::now();
        assert!(matches!(run.advance().unwrap(), Outcome::Ended(_)));
        best[n % 2] = best[n % 2].min(began.elapsed());
        busy[n % 2] = busy[n % 2].min(LAPS.lock().unwrap().1);
        skipped += *left_out.lock().unwrap();
    }
    let commits = commits.lock().unwrap();
    let mean =
        |of: fn(&Commit) -> u64| commits.iter().map(of).sum::<u64>() as f64 / commits.len().max(1) as f64;
    // What its own thread needs more, and the time that it stands: without what others on the machine take from it.
    let own = busy[1].as_secs_f64() / busy[0].as_secs_f64() - 1.0 + mean(|c| c.pause_us) / 1e6;
    let slower = best[1].as_secs_f64() / best[0].as_secs_f64() - 1.0;
    println!(
        "{mib:>6} a snapshot every second, {:.2} % dirty: {:.1} % slower ({:.2} s against {:.2} s, best of 4); target \
         3 %: {}; by its own processor time and the pauses alone {:.1} %: {}\n       {} snapshots, {skipped} left out: {:.1} ms pause, {:.1} MB dirty, {:.1} MB stored, {:.0} ms until \
         durable, by {}",
        mean(|c| c.dirty_bytes.unwrap_or(0)) / (mib * MIB) as f64 * 100.0,
        slower * 100.0,
        best[1].as_secs_f64(),
        best[0].as_secs_f64(),
        verdict(slower <= 0.03),
        own * 100.0,
        verdict(own <= 0.03),
        commits.len(),
        mean(|c| c.pause_us) / 1e3,
        mean(|c| c.dirty_bytes.unwrap_or(0)) / 1e6,
        mean(|c| c.stored_bytes) / 1e6,
        mean(|c| c.durable_us) / 1e3,
        commits.last().and_then(|c| c.source).map_or("nothing".to_string(), |source| source.to_string()),
    );
}

/// CRIU, where the user has one that runs: a process of the same size, dumped and restored.
fn criu(dir: &std::path::Path, mib: usize) {
    let quiet = |program: &str, args: &[&str]| {
        Command::new(program)
            .args(args)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()
    };
    if !quiet("criu", &["check"]).is_ok_and(|status| status.success()) {
        println!("{mib:>6} CRIU: skipped, there is no `criu` on PATH that `criu check` says works here");
        return;
    }
    let (images, ready) = (dir.join("criu"), dir.join("ready"));
    std::fs::create_dir_all(&images).unwrap();
    let mut holder = Command::new(std::env::current_exe().unwrap())
        .args(["--hold".as_ref(), ready.as_os_str(), mib.to_string().as_ref()])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    while !ready.exists() {
        std::thread::sleep(Duration::from_millis(10));
    }
    let (pid, images_) = (holder.id().to_string(), images.to_str().unwrap());
    let began = Instant::now();
    let dumped = quiet("criu", &["dump", "--shell-job", "-t", &pid, "-D", images_]);
    let dump = began.elapsed();
    // The dump ends it; where it failed it is to end all the same.
    let _ = holder.kill();
    let _ = holder.wait();
    let began = Instant::now();
    let restored = quiet("criu", &["restore", "--shell-job", "-d", "-D", images_]);
    let restore = began.elapsed();
    let good = |done: std::io::Result<std::process::ExitStatus>| done.is_ok_and(|status| status.success());
    match good(dumped) && good(restored) {
        true => println!(
            "{mib:>6} CRIU: {:.0} ms to dump all of it, {:.0} ms to restore it",
            ms(dump),
            ms(restore)
        ),
        false => println!("{mib:>6} CRIU: skipped, it could not dump and restore a process"),
    }
    let _ = quiet("kill", &["-9", &pid]);
    std::fs::remove_dir_all(images).unwrap();
    std::fs::remove_file(ready).unwrap();
}

/// A process with so much memory that does nothing, for CRIU.
fn hold(ready: &str, mib: &str) -> ! {
    let mut seed = 1_u64;
    let memory: Vec<u64> = (0..mib.parse::<usize>().unwrap() * MIB / 8)
        .map(|_| {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            seed
        })
        .collect();
    File::create(ready).unwrap();
    loop {
        std::thread::sleep(Duration::from_secs(1));
        std::hint::black_box(&memory);
    }
}

fn main() {
    let args: Vec<String> = std::env::args().collect();
    if let [_, hold_, ready, mib, ..] = args.as_slice()
        && hold_ == "--hold"
    {
        hold(ready, mib);
    }
    let has = |name: &str| args.iter().any(|arg| arg == name);
    // On a disk, where temporary files of the system may not be; and not among the sources.
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let sizes: &[usize] = match (has("--large"), has("--small") || has("--steady")) {
        (true, _) => &[64, 1024, 4096],
        (_, true) => &[64],
        _ => &[64, 1024],
    };
    println!(
        "   MiB   dirty          pages   copy ms  pause ms          target ms          stored to dirty, target 1.3; \
         compressed; ms until durable"
    );
    for &mib in sizes {
        let mut bench = Bench::new(mib, dir.path());
        let first = bench.snapshot();
        println!(
            "{mib:>6} the first snapshot: {:.2} ms pause ({:?}), {:.0} ms until it is durable; engine {:?}",
            ms(first.pause),
            first.aside,
            ms(first.durable),
            bench.module.engine().settings().tracking,
        );
        if has("--restore") {
            bench.restores(dir.path());
            continue;
        }
        if has("--whole") {
            bench.whole(dir.path());
            continue;
        }
        bench.fork_and_write(dir.path());
        criu(dir.path(), mib);
        for percent in [0.1, 1.0, 10.0, 100.0] {
            bench.case(percent, SCATTER);
            bench.case(percent, 1);
        }
        bench.whole(dir.path());
        bench.restores(dir.path());
    }
    if !has("--no-steady") && !has("--restore") && !has("--whole") {
        steady(dir.path(), if has("--small") { 64 } else { 1024 });
    }
}
