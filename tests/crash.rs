//! Crashes: processes that are killed, stores that fail or lose what was not synced, at every point. The job goes
//! on, and what it prints in the end is what an undisturbed run prints.

mod tool;

use std::fs::{self, File};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tool::moments::Moments;
use tool::{BOTH, Running, STDOUT, Tool, lines, printed, printed_apart};
use wasm_ckpt::job::{Ending, Sink, SpecDisk};
use wasm_ckpt::store::fault::{FailAfter, Failure};
use wasm_ckpt::store::simulated::{Fault, Loss, SimulatedFiles};
use wasm_ckpt::store::{Local, Memory};
use wasm_ckpt::wasi::OutputBuffer;
use wasm_ckpt::{Engine, Every, JobError, Jobs, Module, Options, Outcome, Settings, Spec, Store};

/// A program that runs for about two seconds, and what it prints.
const LINES: u32 = 400;
const SPIN: u32 = 20_000_000;

fn open(path: &Path, append: bool) -> File {
    if append {
        File::options().append(true).create(true).open(path).unwrap()
    } else {
        File::create(path).unwrap()
    }
}

#[test]
fn killed_at_random_moments_it_goes_on_and_prints_the_same() {
    let tool = Tool::new();
    tool.wat("lines.wasm", &lines(LINES, SPIN, BOTH));
    let (out, err) = printed_apart(LINES);
    let began = Instant::now();
    assert_eq!(tool.run(&["run", "-q", "--every", "never", "--job", "straight", "lines.wasm"]).code, 0);
    let mut moments = Moments::new("crash", 4, began.elapsed());
    for append in [false, true] {
        let job = format!("job-{append}");
        let (out_path, err_path) = (tool.path(&format!("out-{append}")), tool.path(&format!("err-{append}")));
        let mut kills = 0;
        loop {
            let mut command = tool.command(&["run", "-q", "--job", &job, "--every", "20ms", "lines.wasm"]);
            command.stdout(open(&out_path, append)).stderr(open(&err_path, append));
            let mut child = Running::spawn(&mut command);
            let wait = moments.after(kills, 0..200);
            let (began, mut status) = (Instant::now(), None);
            while status.is_none() && (began.elapsed() < wait || kills >= 25) {
                std::thread::sleep(Duration::from_millis(1));
                status = child.0.try_wait().unwrap();
            }
            match status {
                Some(status) => {
                    assert_eq!(status.code(), Some(0), "{}", fs::read_to_string(&err_path).unwrap());
                    break;
                }
                None => kills += 1,
            }
            drop(child);
        }
        assert!(kills > 3, "it was killed {kills} times only");
        assert_eq!(fs::read_to_string(&out_path).unwrap(), out, "after {kills} kills");
        assert_eq!(fs::read_to_string(&err_path).unwrap(), err, "after {kills} kills");
        let verified = tool.run(&["verify"]);
        assert_eq!(verified.code, 0, "{verified:?}");
    }
}

#[test]
fn of_two_processes_one_is_refused() {
    let tool = Tool::new();
    tool.wat("lines.wasm", &lines(100, SPIN, STDOUT));
    let spawn = |n: u32| {
        let mut command = tool.command(&["run", "--job", "x", "lines.wasm"]);
        command.stdout(open(&tool.path(&format!("out-{n}")), false));
        Running::spawn(command.stderr(open(&tool.path(&format!("err-{n}")), false)))
    };
    let mut both = [spawn(0), spawn(1)];
    let prints = |n: &usize| fs::metadata(tool.path(&format!("out-{n}"))).unwrap().len() > 0;
    let until = Instant::now() + Duration::from_secs(60);
    let first = loop {
        assert!(Instant::now() < until, "neither prints");
        if let Some(first) = [0, 1].iter().find(|n| prints(n)) {
            break *first;
        }
        std::thread::sleep(Duration::from_millis(1));
    };
    // It is not to end while the other one waits for it to.
    both[first].signal("STOP");
    assert_eq!(both[1 - first].0.wait().unwrap().code(), Some(69));
    both[first].signal("CONT");
    assert_eq!(both[first].0.wait().unwrap().code(), Some(0));
    let whole = |n: u32| fs::read_to_string(tool.path(&format!("out-{n}"))).unwrap() == printed(100);
    assert!(whole(0) != whole(1));
}

/// A small program, compiled once, that is run in this process.
struct Small {
    wasm: Vec<u8>,
    module: Module,
}

const SMALL_LINES: u32 = 12;

impl Small {
    fn new() -> Self {
        let wasm = wat::parse_str(lines(SMALL_LINES, 200, BOTH)).unwrap();
        let module = Engine::new(Settings::default()).unwrap().compile(&wasm).unwrap();
        Self { wasm, module }
    }

    /// What `wasm-ckpt run --job x` does, into one buffer; with the error, if it fails.
    fn run(&self, store: Arc<dyn Store>, pause_after: Option<u64>) -> (String, anyhow::Result<Outcome>) {
        let output = OutputBuffer::default();
        let outcome = self.run_into(store, pause_after, &output);
        (String::from_utf8(output.contents()).unwrap(), outcome)
    }

    fn run_into(
        &self,
        store: Arc<dyn Store>,
        pause_after: Option<u64>,
        output: &OutputBuffer,
    ) -> anyhow::Result<Outcome> {
        let jobs = Jobs::new(store);
        let mut job = jobs.hold(&"x".parse()?)?;
        if job.status().is_none_or(|status| status.done.is_some()) {
            job.begin(&self.wasm, Spec::program(self.module.id(), "small.wasm"))?;
        }
        let options = Options {
            every: Every::Fuel(1500),
            pause_after,
            sinks: [Sink::Other(Box::new(output.clone())), Sink::Null],
            ..Options::default()
        };
        job.run(&self.module, options)?.advance()
    }

    /// The job goes on in a store that works, and in the end has printed everything.
    fn assert_resumes(&self, store: Arc<dyn Store>, what: &str) {
        let (out, outcome) = self.run(store.clone(), None);
        let outcome = outcome.unwrap_or_else(|error| panic!("{what}: {error:?}"));
        assert_eq!(outcome, Outcome::Ended(Ending::Returned(vec![])), "{what}");
        assert_eq!(out, printed_apart(SMALL_LINES).0, "{what}");
        let jobs = Jobs::new(store);
        jobs.chunks().verify(&mut |pack| assert!(pack.result.is_ok(), "{what}: {pack:?}")).unwrap();
        // And nothing that is needed goes with what is not.
        jobs.gc().unwrap_or_else(|error| panic!("{what}: {error:?}"));
        let done = jobs.existing(&"x".parse().unwrap()).unwrap().done.unwrap();
        let mut kept = vec![];
        let fetch = &mut |id| Ok(jobs.chunks().read(id)?);
        done.output
            .read(0, fetch, &mut |bytes| {
                kept.extend_from_slice(bytes);
                Ok(())
            })
            .unwrap();
        assert_eq!(String::from_utf8(kept).unwrap(), out, "{what}");
    }
}

#[test]
fn a_store_that_dies_at_any_operation_leaves_a_job_that_resumes() {
    let small = Small::new();
    for how in [Failure::Before, Failure::After] {
        for n in 0.. {
            let memory = Arc::new(Memory::new());
            let store = Arc::new(FailAfter::with(memory.clone(), n, how));
            let (out, outcome) = small.run(store.clone(), None);
            // Whether it failed or went on without snapshots, it printed nothing wrong.
            assert!(printed_apart(SMALL_LINES).0.starts_with(&out), "operation {n}: {out}");
            small.assert_resumes(memory, &format!("{how:?} at operation {n}, which gave {outcome:?}"));
            if !store.has_failed() {
                assert!(n > 50, "{n} operations are fewer than there must be");
                break;
            }
        }
    }
}

#[test]
fn a_store_that_fails_once_does_no_harm() {
    let small = Small::new();
    for how in [Failure::Before, Failure::After] {
        for n in 0.. {
            let memory = Arc::new(Memory::new());
            let store = Arc::new(FailAfter::once(memory.clone(), n, how));
            let (_, outcome) = small.run(store.clone(), None);
            small.assert_resumes(memory, &format!("{how:?} once at operation {n}, which gave {outcome:?}"));
            if !store.has_failed() {
                break;
            }
        }
    }
}

/// Writes pages to a file of its private disk, ever another one, with some work in between.
const DISK_PAGES: u64 = 12;
const DISK_GUEST: &str = r#"(module
  (import "wasi_snapshot_preview1" "path_open"
    (func $open (param i32 i32 i32 i32 i32 i64 i64 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (data (i32.const 16) "f")
  (func (export "_start") (local $i i32) (local $n i32)
    (if (call $open (i32.const 3) (i32.const 0) (i32.const 16) (i32.const 1) (i32.const 1)
          (i64.const 64) (i64.const 0) (i32.const 0) (i32.const 20)) (then unreachable))
    (i32.store (i32.const 0) (i32.const 4096))
    (i32.store (i32.const 4) (i32.const 4096))
    (loop $l
      (local.set $i (i32.add (local.get $i) (i32.const 1)))
      (memory.fill (i32.const 4096) (local.get $i) (i32.const 4096))
      (if (call $write (i32.load (i32.const 20)) (i32.const 0) (i32.const 1) (i32.const 8)) (then unreachable))
      (local.set $n (i32.const 200))
      (loop $s (br_if $s (local.tee $n (i32.sub (local.get $n) (i32.const 1)))))
      (br_if $l (i32.lt_u (local.get $i) (i32.const 12))))))"#;

#[test]
fn a_store_that_fails_once_costs_an_ended_job_nothing_of_its_disk() {
    let wasm = wat::parse_str(DISK_GUEST).unwrap();
    let module = Engine::new(Settings::default()).unwrap().compile(&wasm).unwrap();
    let expected: Vec<u8> = (1..=DISK_PAGES as u8).flat_map(|page| [page; 4096]).collect();
    let mut ended = 0;
    for n in 0.. {
        let memory = Arc::new(Memory::new());
        let store = Arc::new(FailAfter::once(memory.clone(), n, Failure::Before));
        let run = || {
            let mut job = Jobs::new(store.clone()).hold(&"x".parse()?)?;
            let disk = SpecDisk { guest: "/d".to_string(), source: None, limit: 1 << 20 };
            job.begin(&wasm, Spec { disks: vec![disk], ..Spec::program(module.id(), "disk.wasm") })?;
            job.run(&module, Options { every: Every::Fuel(5000), ..Options::default() })?.advance()
        };
        let outcome = run();
        let (jobs, name) = (Jobs::new(memory), "x".parse().unwrap());
        if jobs.status(&name).unwrap().is_some_and(|status| status.done.is_some()) {
            let mut found = vec![];
            let mut take = |bytes: &[u8]| {
                found.extend_from_slice(bytes);
                Ok(())
            };
            let read = jobs.disks(&name).and_then(|disks| disks.read("/d/f", &mut take));
            read.unwrap_or_else(|error| panic!("operation {n}, which gave {outcome:?}: {error:?}"));
            assert!(found == expected, "operation {n}");
            jobs.gc().unwrap_or_else(|error| panic!("operation {n}: {error:?}"));
            ended += 1;
        }
        if !store.has_failed() {
            break;
        }
    }
    assert!(ended > 10, "{ended} runs have ended");
}

#[test]
fn a_loss_of_power_at_any_file_operation_leaves_a_job_that_resumes() {
    let small = Small::new();
    for (round, (fault, loss)) in [
        (Fault::Stop, Loss::Unsynced),
        (Fault::StopAfter, Loss::Unsynced),
        (Fault::Stop, Loss::Some(7)),
        (Fault::Full, Loss::Nothing),
    ]
    .into_iter()
    .enumerate()
    {
        // All operations of the first round; the others are spot checks, since each starts a program.
        let step = if round == 0 { 1 } else { 3 };
        for n in (0..).step_by(step) {
            let files = SimulatedFiles::new();
            files.fail_at(n, fault);
            let store = |files: &SimulatedFiles| Local::open_on("/store", Arc::new(files.clone()));
            let outcome = store(&files).map(|store| small.run(Arc::new(store), None).1);
            let done = files.ops() <= n;
            let after = files.crash(loss);
            let what = format!("{fault:?}, {loss:?} at operation {n}, which gave {outcome:?}");
            small.assert_resumes(Arc::new(store(&after).unwrap_or_else(|e| panic!("{what}: {e}"))), &what);
            if done {
                assert!(n > 50, "{n} operations are fewer than there must be");
                break;
            }
        }
    }
}

/// The objects of a store, with leases of its own, which nobody else sees: as when a network is cut in two.
struct Apart {
    objects: Memory,
    leases: Memory,
}

impl Store for Apart {
    wasm_ckpt::store_by!(objects: describe put upload create get get_range size list settle delete);
    wasm_ckpt::store_by!(leases: lease);
}

#[test]
fn a_runner_that_was_taken_over_stops_and_leaves_no_trace() {
    let (small, objects) = (Small::new(), Memory::new());
    let apart = || -> Arc<dyn Store> { Arc::new(Apart { objects: objects.clone(), leases: Memory::new() }) };
    let (_, outcome) = small.run(apart(), Some(2000));
    assert!(matches!(outcome.unwrap(), Outcome::Paused { .. }));
    let name = "x".parse().unwrap();
    let start = || Jobs::new(apart()).hold(&name).unwrap().run(&small.module, Options::default()).unwrap();
    let (mut asleep, mut second) = (start(), start());
    assert!(matches!(second.advance().unwrap(), Outcome::Ended(_)));
    for _ in 0..2 {
        let error = asleep.snapshot().unwrap_err();
        assert!(matches!(error.downcast_ref(), Some(JobError::Fenced { .. })), "{error:?}");
    }
    let error = asleep.advance().unwrap_err();
    assert!(matches!(error.downcast_ref(), Some(JobError::Fenced { .. })), "{error:?}");
    let status = Jobs::new(apart()).existing(&name).unwrap();
    assert!(status.done.is_some());
}

#[test]
fn another_module_or_other_settings_are_named() {
    let (small, store) = (Small::new(), Arc::new(Memory::new()));
    small.run(store.clone(), Some(2000)).1.unwrap();
    let jobs = Jobs::new(store.clone());
    let refused = |engine: Settings, wasm: &[u8]| {
        let module = Engine::new(engine).unwrap().compile(wasm).unwrap();
        let job = jobs.hold(&"x".parse().unwrap()).unwrap();
        format!("{:#}", job.run(&module, Options::default()).err().unwrap())
    };
    let other = wat::parse_str(lines(3, 3, STDOUT)).unwrap();
    let (ours, theirs) = (small.module.id(), wasm_ckpt::digest::ModuleId::of(&other));
    assert_eq!(
        refused(Settings::default(), &other),
        format!("module: the snapshot has {ours}, this host has {theirs}")
    );
    let settings = Settings { canonical_nans: true, ..Settings::default() };
    let error = refused(settings, &small.wasm);
    assert!(error.starts_with("cannot resume snapshot `"), "{error}");
    assert!(error.ends_with("canonical NaNs: the snapshot has off, this host has on"), "{error}");
    small.assert_resumes(store, "after refusals");
}

/// A program that writes and closes `part` in its directory, and then counts.
const WRITES_A_PART: &str = r#"(module
  (import "wasi_snapshot_preview1" "path_open"
    (func $open (param i32 i32 i32 i32 i32 i64 i64 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_close" (func $close (param i32) (result i32)))
  (memory (export "memory") 1)
  (data (i32.const 16) "part")
  (func (export "_start") (local $n i32)
    (drop (call $open (i32.const 3) (i32.const 0) (i32.const 16) (i32.const 4) (i32.const 9)
      (i64.const 64) (i64.const 64) (i32.const 0) (i32.const 8)))
    (i32.store (i32.const 4) (i32.const 100))
    (drop (call $write (i32.load (i32.const 8)) (i32.const 0) (i32.const 1) (i32.const 12)))
    (drop (call $close (i32.load (i32.const 8))))
    (loop $l (br_if $l (i32.lt_u (local.tee $n (i32.add (local.get $n) (i32.const 1))) (i32.const 10000000))))))"#;

#[test]
fn what_was_written_and_closed_is_durable_before_what_is_told_of_it() {
    for options in [&["--every", "never"][..], &["--every", "never", "--pause-after", "1000"]] {
        let tool = Tool::new();
        tool.wat("part.wasm", WRITES_A_PART);
        fs::create_dir(tool.path("d")).unwrap();
        let trace = ["-y", "-e", "trace=fsync,fdatasync,link,linkat,rename,renameat2", "-o", "trace"];
        let args = [&["run", "--dir", "d::/d"], options, &["part.wasm"]].concat();
        let Some(mut run) = tool.traced(&trace, &args) else { return };
        let ended = run.output().unwrap();
        assert!(matches!(ended.status.code(), Some(0 | 75)), "{ended:?}");
        let trace = fs::read_to_string(tool.path("trace")).unwrap();
        let lines: Vec<&str> = trace.lines().collect();
        let told = lines.iter().rposition(|line| line.contains("/objects/") && !line.contains("sync("));
        for path in ["/d/part>", "/d>"] {
            let synced = lines.iter().position(|line| line.contains("fsync(") && line.contains(path));
            assert!(synced.is_some() && synced < told, "{options:?}: {path}: {lines:#?}");
        }
    }
}
