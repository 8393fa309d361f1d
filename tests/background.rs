//! Snapshots that are stored while the program runs on: it does run on, what is delivered is durable, none is queued,
//! and whatever fails meanwhile, the last one is whole.

mod tool;

use std::fs;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tool::disk::SmallDisk;
use tool::moments::Moments;
use tool::{Running, STDOUT, Tool, lines, printed};
use wasm_ckpt::job::{Delivery, Ending, Event, Mode, Notice, Printed, Sink};
use wasm_ckpt::store::fault::{FailAfter, Failure};
use wasm_ckpt::store::{Key, Memory, StoreError, Upload};
use wasm_ckpt::wasi::Output;
use wasm_ckpt::{
    Engine, Every, Functions, JobName, Jobs, Module, Options, Outcome, Settings, Spec, Store, Value,
};

/// A store in which packs become durable when it is allowed.
struct Gated {
    inner: Memory,
    gate: Arc<dyn Fn() + Send + Sync>,
}

struct GatedUpload(Box<dyn Upload>, Arc<dyn Fn() + Send + Sync>);

impl Upload for GatedUpload {
    fn write(&mut self, bytes: &[u8]) -> Result<(), StoreError> {
        self.0.write(bytes)
    }
    fn commit(self: Box<Self>, key: &Key) -> Result<(), StoreError> {
        (self.1)();
        self.0.commit(key)
    }
}

impl Store for Gated {
    wasm_ckpt::store_by!(inner: describe put create get get_range size list settle delete lease);
    fn upload(&self) -> Result<Box<dyn Upload>, StoreError> {
        Ok(Box::new(GatedUpload(self.inner.upload()?, self.gate.clone())))
    }
}

/// Counts rounds, each of which writes to 9 pages and tells the host, and returns a sum over what it has written.
const TICKER: &str = r#"(module
  (import "host" "tick" (func $tick))
  (memory 64)
  (func (export "run") (param $rounds i32) (result i64) (local $n i32) (local $k i32) (local $at i32) (local $sum i64)
    (loop $r
      (local.set $k (i32.const 0))
      (loop $w
        (local.set $at (i32.and (i32.mul (i32.add (local.get $n) (local.get $k)) (i32.const 40503)) (i32.const 0x3ffff8)))
        (local.set $sum (i64.add (i64.rotl (local.get $sum) (i64.const 1)) (i64.load (local.get $at))))
        (i64.store (local.get $at) (i64.add (local.get $sum) (i64.extend_i32_u (local.get $n))))
        (br_if $w (i32.lt_u (local.tee $k (i32.add (local.get $k) (i32.const 1))) (i32.const 9))))
      (call $tick)
      (br_if $r (i32.lt_u (local.tee $n (i32.add (local.get $n) (i32.const 1))) (local.get $rounds))))
    (local.get $sum)))"#;
const TICKS: u64 = 20_000;

struct Ticker {
    wasm: Vec<u8>,
    module: Module,
}

impl Ticker {
    fn new() -> Self {
        let wasm = wat::parse_str(TICKER).unwrap();
        let module = Engine::new(Settings::default()).unwrap().compile(&wasm).unwrap();
        Self { wasm, module }
    }

    /// Runs it to its end, and gives what it has returned.
    fn run(&self, store: Arc<dyn Store>, ticks: &Arc<AtomicU64>, options: Options) -> Vec<Value> {
        let mut job = Jobs::new(store).hold(&name()).unwrap();
        if job.status().is_none() {
            let spec = Spec::invoke(self.module.id(), "run", vec![Value::I32(TICKS as u32)]);
            job.begin(&self.wasm, Spec { seed: Some([1; 32]), ..spec }).unwrap();
        }
        let ticks = ticks.clone();
        let functions = Functions::new().with("host", "tick", move |_, _| {
            ticks.fetch_add(1, Ordering::SeqCst);
            // A program that has something to do.
            std::thread::sleep(Duration::from_micros(20));
            Ok(vec![])
        });
        let outcome = job.run(&self.module, Options { functions, ..options }).unwrap().advance().unwrap();
        outcome.returned().unwrap().to_vec()
    }
}

fn name() -> JobName {
    "x".parse().unwrap()
}

/// The snapshots of the job, oldest first.
fn snapshots(store: Arc<dyn Store>) -> Vec<wasm_ckpt::job::Commit> {
    let commit = |entry: wasm_ckpt::job::Entry| match entry.event {
        Event::Commit(commit) => Some(commit),
        _ => None,
    };
    Jobs::new(store).history(&name()).unwrap().into_iter().filter_map(commit).collect()
}

#[test]
fn the_program_runs_on_while_a_snapshot_is_stored_and_none_is_queued() {
    let ticker = Ticker::new();
    let expected = ticker.run(
        Arc::new(Memory::new()),
        &Arc::default(),
        Options { every: Every::Never, ..Options::default() },
    );
    let (ticks, inner) = (Arc::new(AtomicU64::new(0)), Memory::new());
    let (at_once, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let gate = {
        let (ticks, at_once, most) = (ticks.clone(), at_once.clone(), most.clone());
        move || {
            most.fetch_max(at_once.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
            // Durable only once the program has gone on: if it stood, this would never end.
            let (from, began) = (ticks.load(Ordering::SeqCst), Instant::now());
            while ticks.load(Ordering::SeqCst) < (from + 1000).min(TICKS) {
                assert!(began.elapsed() < Duration::from_secs(60), "the program stands");
                std::thread::sleep(Duration::from_millis(1));
            }
            at_once.fetch_sub(1, Ordering::SeqCst);
        }
    };
    let store = Arc::new(Gated { inner: inner.clone(), gate: Arc::new(gate) });
    let (committed, skipped) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let observe = {
        let (committed, skipped) = (committed.clone(), skipped.clone());
        move |notice: Notice<'_>| match notice {
            Notice::Committed(_) => drop(committed.fetch_add(1, Ordering::SeqCst)),
            Notice::SnapshotSkipped => drop(skipped.fetch_add(1, Ordering::SeqCst)),
            other => panic!("{other:?}"),
        }
    };
    let every = Every::Time(Duration::from_millis(2));
    let found =
        ticker.run(store, &ticks, Options { every, observe: Box::new(observe), ..Options::default() });
    assert_eq!(found, expected);
    let commits = snapshots(Arc::new(inner));
    assert_eq!(commits.len(), committed.load(Ordering::SeqCst), "all are told of");
    assert!((2..=21).contains(&commits.len()), "{} snapshots", commits.len());
    assert!(skipped.load(Ordering::SeqCst) > 0);
    assert_eq!(most.load(Ordering::SeqCst), 1, "one at a time");
    for commit in &commits {
        assert!(commit.pause_us < commit.durable_us, "{commit:?}");
    }
}

#[test]
fn snapshots_by_fuel_are_the_same_however_slow_the_store_is() {
    let ticker = Ticker::new();
    let ids = |gate: fn()| {
        let inner = Memory::new();
        let store = Arc::new(Gated { inner: inner.clone(), gate: Arc::new(gate) });
        let options = Options { every: Every::Fuel(100_000), ..Options::default() };
        let found = ticker.run(store, &Arc::default(), options);
        let ids: Vec<_> = snapshots(Arc::new(inner)).into_iter().map(|c| (c.fuel, c.snapshot)).collect();
        (found, ids)
    };
    let (fast, slow) = (ids(|| {}), ids(|| std::thread::sleep(Duration::from_millis(30))));
    assert!(fast.1.len() > 10, "{} snapshots", fast.1.len());
    assert_eq!(fast, slow);
}

/// Checks of all that arrives whether the job's last snapshot covers it.
struct Checked {
    jobs: Jobs,
    arrived: Arc<Mutex<Vec<u8>>>,
}

impl Output for Checked {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        let mut arrived = self.arrived.lock().unwrap();
        arrived.extend_from_slice(bytes);
        let status = self.jobs.existing(&name()).unwrap();
        let covered = match status.done {
            Some(done) => done.output.streams[0].written,
            None => {
                let head = self.jobs.snapshot(status.head.expect("nothing is durable yet").snapshot).unwrap();
                Printed::of_state(head.state()).unwrap().streams[0].written
            }
        };
        assert!(
            arrived.len() as u64 <= covered,
            "{} bytes are delivered, {covered} are durable",
            arrived.len()
        );
        Ok(())
    }
}

#[test]
fn what_is_delivered_exactly_once_is_durable_before() {
    const LINES: u32 = 300;
    let wasm = wat::parse_str(lines(LINES, 200_000, STDOUT)).unwrap();
    let module = Engine::new(Settings::default()).unwrap().compile(&wasm).unwrap();
    let inner = Memory::new();
    let gate = Arc::new(|| std::thread::sleep(Duration::from_millis(15)));
    let jobs = Jobs::new(Arc::new(Gated { inner: inner.clone(), gate }));
    let mut job = jobs.hold(&name()).unwrap();
    job.begin(&wasm, Spec::program(module.id(), "lines.wasm")).unwrap();
    let arrived = Arc::new(Mutex::new(vec![]));
    let sink = Checked { jobs: Jobs::new(Arc::new(inner)), arrived: arrived.clone() };
    let options = Options {
        every: Every::Time(Duration::from_millis(3)),
        sinks: [Sink::Other(Box::new(sink)), Sink::Null],
        delivery: Delivery { mode: Mode::ExactlyOnce, from: None },
        ..Options::default()
    };
    let outcome = job.run(&module, options).unwrap().advance().unwrap();
    assert_eq!(outcome, Outcome::Ended(Ending::Returned(vec![])));
    assert_eq!(String::from_utf8(arrived.lock().unwrap().clone()).unwrap(), printed(LINES));
}

/// Writes to every page of 17 MiB, over and over: so much is dirty that it is put aside by a fork.
const SPREADER: &str = r#"(module (memory 272)
  (func (export "run") (result i64) (local $at i32) (local $n i32) (local $sum i64)
    (loop $again
      (local.set $at (i32.const 0))
      (loop $l
        (local.set $sum (i64.add (i64.rotl (local.get $sum) (i64.const 1)) (i64.load (local.get $at))))
        (i64.store (local.get $at) (i64.add (local.get $sum) (i64.extend_i32_u (local.get $n))))
        (br_if $l (i32.lt_u (local.tee $at (i32.add (local.get $at) (i32.const 4096))) (i32.const 17825792))))
      (br_if $again (i32.lt_u (local.tee $n (i32.add (local.get $n) (i32.const 1))) (i32.const 6))))
    (local.get $sum)))"#;

#[test]
fn a_store_that_fails_while_the_program_runs_on_does_no_harm() {
    let wasm = wat::parse_str(SPREADER).unwrap();
    let module = Engine::new(Settings::default()).unwrap().compile(&wasm).unwrap();
    let run = |store: Arc<dyn Store>| {
        let mut job = Jobs::new(store).hold(&name())?;
        if job.status().is_none() {
            job.begin(&wasm, Spec::invoke(module.id(), "run", vec![]))?;
        } else if let Some(done) = &job.status().unwrap().done {
            return Ok(Outcome::Ended(done.ending.clone()));
        }
        // Two or three snapshots.
        let options = Options { every: Every::Fuel(2 * 4352 * 10), ..Options::default() };
        job.run(&module, options)?.advance()
    };
    let expected = run(Arc::new(Memory::new())).unwrap();
    assert!(matches!(expected, Outcome::Ended(_)));
    let mut failures = 0;
    for (how, once) in [(Failure::Before, true), (Failure::After, false)] {
        for n in (4..).step_by(83) {
            let memory = Arc::new(Memory::new());
            let store = Arc::new(if once {
                FailAfter::once(memory.clone(), n, how)
            } else {
                FailAfter::with(memory.clone(), n, how)
            });
            if let Ok(outcome) = run(store.clone()) {
                assert_eq!(outcome, expected, "{how:?} at operation {n}");
            }
            // Whatever is there is whole, and goes on to the same end.
            let resumed = run(memory.clone()).unwrap_or_else(|error| panic!("{how:?} at {n}: {error:?}"));
            assert_eq!(resumed, expected, "{how:?} at operation {n}");
            if !store.has_failed() {
                break;
            }
            failures += 1;
        }
    }
    assert!(failures > 8, "{failures} failures are fewer than there must be");
}

/// Writes all pages of 64 MiB in each round, and prints a line.
const ROUNDS: u32 = 1500;

fn spreading() -> String {
    let spin = "(func $spin (param $n i32)";
    let dirty = r#"(func $spin (param $n i32) (local $at i32)
            (loop $l
              (i64.store (i32.add (i32.const 65536) (local.get $at))
                (i64.add (i64.load (i32.add (i32.const 65536) (local.get $at))) (i64.const 88172645463325253)))
              (br_if $l (i32.lt_u (local.tee $at (i32.add (local.get $at) (i32.const 512))) (i32.const 67108864))))
            (i32.store8 (i32.const 16) (i32.add (i32.const 65) (i32.rem_u
              (i32.wrap_i64 (i64.load (i32.const 30065152))) (i32.const 26)))))
          (func $unused (param $n i32)"#;
    lines(ROUNDS, 1, STDOUT)
        .replace("(memory (export \"memory\") 1)", "(memory (export \"memory\") 1100)")
        .replace(spin, dirty)
}

/// Processes with this text in their command lines.
fn processes(with: &str) -> usize {
    let has = |entry: std::io::Result<fs::DirEntry>| {
        let line = fs::read(entry.ok()?.path().join("cmdline")).ok()?;
        String::from_utf8_lossy(&line).contains(with).then_some(())
    };
    fs::read_dir("/proc").map_or(0, |entries| entries.filter_map(has).count())
}

#[test]
fn killed_while_much_is_being_stored_it_goes_on_and_leaves_no_process() {
    let tool = Tool::new();
    tool.wat("spread.wasm", &spreading());
    let began = Instant::now();
    let undisturbed = tool.run(&["run", "--every", "never", "--job", "straight", "spread.wasm"]);
    let mut moments = Moments::new("background", 3, began.elapsed());
    assert_eq!((undisturbed.code, undisturbed.out.lines().count()), (0, ROUNDS as usize), "{undisturbed:?}");
    let job = format!("killed-{}", std::process::id());
    let sources = ["auto", "compare", "uffd"];
    let mut kills = 0_u32;
    loop {
        // Where one does not work, another does.
        let source = sources[kills as usize % if cfg!(target_os = "linux") { 3 } else { 2 }];
        let mut command = tool.command(&[
            "run",
            "-q",
            "--job",
            &job,
            "--every",
            "30ms",
            "--dirty-tracking",
            source,
            "spread.wasm",
        ]);
        command.stdout(fs::File::create(tool.path("out")).unwrap());
        let mut child = Running::spawn(&mut command);
        let wait = moments.after(kills, 100..1100);
        let (began, mut status) = (Instant::now(), None);
        while status.is_none() && (began.elapsed() < wait || kills >= 8) {
            std::thread::sleep(Duration::from_millis(1));
            status = child.0.try_wait().unwrap();
        }
        drop(child);
        // The copies of the process that it was stored from end with it.
        let until = Instant::now() + Duration::from_secs(10);
        while processes(&job) > 0 {
            assert!(Instant::now() < until, "a process is left");
            std::thread::sleep(Duration::from_millis(5));
        }
        match status {
            Some(status) => {
                assert_eq!(status.code(), Some(0));
                break;
            }
            None => kills += 1,
        }
    }
    assert!(kills > 2, "it was killed {kills} times only");
    assert_eq!(fs::read_to_string(tool.path("out")).unwrap(), undisturbed.out, "after {kills} kills");
    let verified = tool.run(&["verify"]);
    assert_eq!(verified.code, 0, "{verified:?}");
}

#[test]
fn a_disk_that_fills_up_while_much_is_being_stored_does_no_harm() {
    let tool = Tool::new();
    let Some(disk) = SmallDisk::new(&tool, "5m") else { return };
    // No two pages are the same.
    let same = "(i64.const 88172645463325253)";
    let differs = format!("(i64.mul (i64.extend_i32_u (local.get $at)) {same})");
    let program = spreading().replace(same, &differs);
    tool.wat("spread.wasm", &program);
    let elsewhere = Tool::new();
    elsewhere.wat("spread.wasm", &program);
    let undisturbed = elsewhere.run(&["run", "--every", "never", "--job", "x", "spread.wasm"]);
    // Each snapshot takes a good part of the room, and none is released.
    let told = tool.run(&["run", "--job", "x", "--every", "30ms", "--retain", "all", "spread.wasm"]);
    assert!(told.code == 0 && told.out == undisturbed.out, "{}: {}", told.code, told.err);
    assert!(told.err.contains("no space left"), "{}", told.err);
    // What is there is whole, and what could not be written is gone.
    let verified = tool.run(&["verify"]);
    assert_eq!(verified.code, 0, "{verified:?}");
    let snapshots = tool.json(&["ls", "--json", "--snapshots", "x"]);
    assert!(!snapshots.as_array().unwrap().is_empty(), "the first ones had room");
    assert_eq!(fs::read_dir(tool.path("store/tmp")).unwrap().count(), 0, "temporary files are left");
    drop(disk);
}
