//! Time and chance are state: clocks go on over a resume, virtual ones make a run a function of its inputs,
//! sleeps and waiting reads can be snapshotted and stopped, a fork draws random numbers of its own.

mod tool;

use std::io::{BufRead, BufReader, Read, Write};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use tool::{Running, Tool};

fn chance() -> String {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("guests/wasm/chance.wasm");
    path.to_str().unwrap().to_string()
}

/// What a command did, with all its digits.
fn run(tool: &Tool, args: &[&str]) -> (i32, String) {
    let output = tool.command(args).output().unwrap();
    (output.status.code().unwrap(), String::from_utf8(output.stdout).unwrap())
}

/// Pauses at these amounts of fuel, then to the end; what was printed in all.
fn in_pieces(tool: &Tool, first: &[&str], resume: &[&str], pauses: &[&str]) -> String {
    let mut told = None;
    for (n, fuel) in pauses.iter().chain(&[""]).enumerate() {
        let mut args = if n == 0 { first.to_vec() } else { resume.to_vec() };
        if !fuel.is_empty() {
            args.splice(1..1, ["--pause-after", fuel]);
        }
        let this = run(tool, &args);
        assert_eq!(this.0, if fuel.is_empty() { 0 } else { 75 }, "{args:?}: {this:?}");
        told = Some(this);
    }
    // Each process prints what was kept from the start on, so the last one has printed it all.
    told.unwrap().1
}

#[test]
fn with_a_virtual_clock_a_run_is_a_function_of_its_inputs() {
    let chance = chance();
    for clock in ["virtual", "fixed", "virtual=1700000000"] {
        let command = ["run", "--clock", clock, "--seed", "5", &chance, "log", "20"];
        let (code, straight) = run(&Tool::new(), &command);
        assert_eq!((code, straight.lines().count()), (0, 21), "{straight}");
        assert_eq!(run(&Tool::new(), &command).1, straight);
        let mut other = command;
        other[4] = "6";
        assert_ne!(run(&Tool::new(), &other).1, straight);

        let pauses = ["1000", "400000", "400001", "1500000", "3000000"];
        let tool = Tool::new();
        let first: Vec<_> = [&["run", "--job", "j"], &command[1..]].concat();
        assert_eq!(in_pieces(&tool, &first, &["resume", "j"], &pauses), straight, "{clock}");
        let pulley = ["resume", "--target", "pulley64", "j"];
        let tool = Tool::new();
        assert_eq!(in_pieces(&tool, &first, &pulley, &pauses), straight, "{clock}, in the interpreter");
        let first_line: Vec<u64> =
            straight.lines().next().unwrap().split(' ').take(2).map(|n| n.parse().unwrap()).collect();
        let began = if clock.contains('=') { 1_700_000_000 } else { 946_684_800 };
        assert_eq!(first_line[1] / 1_000_000_000, began, "{clock}: {first_line:?}");
    }
}

#[test]
fn the_hosts_time_goes_on_and_never_back() {
    let tool = Tool::new();
    let chance = chance();
    let first = ["run", "--job", "j", &chance, "log", "30"];
    let out = in_pieces(&tool, &first, &["resume", "j"], &["500000", "900000", "2000000"]);
    let times: Vec<u64> =
        out.lines().take(30).map(|line| line.split(' ').next().unwrap().parse().unwrap()).collect();
    assert!(times.is_sorted_by(|a, b| a < b), "{times:?}");
    // Between the processes it stood: a line takes its sleep, its work and a pause, no process's start.
    let longest = times.windows(2).map(|pair| pair[1] - pair[0]).max().unwrap();
    assert!(times[29] - times[0] >= 29_000_000 && longest < 500_000_000, "{longest}: {times:?}");
}

#[test]
fn a_fork_draws_its_own_random_numbers_and_a_resume_does_not() {
    let tool = Tool::new();
    let chance = chance();
    let first = ["run", "--job", "j", "--id-file", "id", "--pause-after", "1000000", &chance, "log", "20"];
    assert_eq!(tool.run(&first).code, 75);
    // A copy of the whole store: the same job, resumed twice.
    let copy = Tool::new();
    let mut copied = Command::new("cp");
    copied.arg("-r").arg(tool.path("store")).arg(copy.path("store"));
    assert!(copied.status().unwrap().success());
    let random = |out: &str| -> Vec<String> {
        out.lines().take(20).map(|line| line.split(' ').nth(2).unwrap().to_string()).collect()
    };
    let (code, straight) = run(&tool, &["resume", "j"]);
    assert_eq!(code, 0, "{straight}");
    let resumed = random(&straight);
    assert_eq!(random(&run(&copy, &["resume", "j"]).1), resumed);

    let fork = |seed: &[&str]| {
        let (code, out) = run(&tool, &[&["resume", "@id"], seed].concat());
        assert_eq!(code, 0, "{out}");
        random(&out)
    };
    let (one, two) = (fork(&[]), fork(&[]));
    let same = |a: &[String], b: &[String]| a.iter().zip(b).take_while(|(a, b)| a == b).count();
    // The same up to the snapshot, and nowhere after it.
    let before = same(&resumed, &one);
    assert!((1..20).contains(&before), "{before}");
    assert_eq!((same(&resumed, &two), same(&one, &two)), (before, before));
    assert!((before..20).all(|n| one[n] != resumed[n] && two[n] != resumed[n] && one[n] != two[n]));
    assert_eq!(fork(&["--seed", "9"]), fork(&["--seed", "9"]));
    let told = tool.run(&["resume", "--seed", "9", "j"]);
    assert!(told.code == 2 && told.err.contains("earlier snapshot"), "{told:?}");
}

/// CPU time of a process so far.
fn cpu(running: &Running) -> Duration {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", running.0.id())).unwrap();
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
    // Fields 14 and 15 of proc(5), in ticks of 10 ms; the first two are before the ')'.
    let ticks: u64 = fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap();
    Duration::from_millis(ticks * 10)
}

/// Starts the command, and waits until the guest says that it is about to wait.
fn waiting(tool: &Tool, args: &[&str], stdin: Stdio) -> Running {
    let mut running =
        Running::spawn(tool.command(args).stdin(stdin).stdout(Stdio::piped()).stderr(Stdio::piped()));
    let mut said = String::new();
    let mut stderr = BufReader::new(running.0.stderr.take().unwrap());
    while !said.ends_with("ing\n") {
        assert_ne!(stderr.read_line(&mut said).unwrap(), 0, "{said}");
    }
    // Not to be closed, or the guest's next line would fail.
    std::mem::forget(stderr);
    running
}

fn ended(mut running: Running) -> (i32, String) {
    let mut out = String::new();
    running.0.stdout.take().unwrap().read_to_string(&mut out).unwrap();
    (running.0.wait().unwrap().code().unwrap_or(-1), out)
}

/// How long a process takes to pause after SIGTERM: the shortest of some, since the machine has other work.
fn time_to_pause(mut start: impl FnMut() -> Running) -> Duration {
    (0..5)
        .map(|_| {
            let running = start();
            std::thread::sleep(Duration::from_millis(50));
            let began = Instant::now();
            running.signal("TERM");
            assert_eq!(ended(running).0, 75);
            began.elapsed()
        })
        .min()
        .unwrap()
}

#[test]
fn what_waits_is_stopped_within_50_ms() {
    let tool = Tool::new();
    let chance = chance();
    let sleeping =
        || waiting(&tool, &["run", "--new", "--job", "s", &chance, "sleep", "600000"], Stdio::null());
    let took = time_to_pause(sleeping);
    assert!(took < Duration::from_millis(50), "a sleep: {took:?}");
    let reading = || waiting(&tool, &["run", "--new", "--job", "r", &chance, "read"], Stdio::piped());
    let took = time_to_pause(reading);
    assert!(took < Duration::from_millis(50), "a read: {took:?}");
}

#[test]
fn a_sleep_is_snapshotted_costs_nothing_and_counts() {
    let tool = Tool::new();
    let chance = chance();
    let args = ["run", "--job", "s", "--every", "200ms", &chance, "sleep", "3000"];
    let began = Instant::now();
    let mut running = waiting(&tool, &args, Stdio::null());
    let used = cpu(&running);
    std::thread::sleep(Duration::from_millis(1500));
    let used = cpu(&running) - used;
    // Some seven snapshots of a small guest were taken meanwhile.
    assert!(used <= Duration::from_millis(150), "asleep for 1.5 s it has used {used:?}");
    running.0.kill().unwrap();
    running.0.wait().unwrap();
    let status = tool.json(&["ls", "--json"]);
    let commits = status[0]["snapshots"].as_u64().unwrap_or_else(|| panic!("{status}"));
    assert!((3..=12).contains(&commits), "{commits} snapshots in 1.5 s asleep");
    // What was slept up to the last snapshot is not slept again.
    let (code, out) = ended(Running::spawn(tool.command(&args).stdout(Stdio::piped()).stderr(Stdio::null())));
    let slept: u64 = out.trim().parse().unwrap_or_else(|_| panic!("{out}"));
    assert_eq!(code, 0);
    assert!((3000..3400).contains(&slept), "{slept}");
    let in_all = began.elapsed();
    assert!(in_all < Duration::from_millis(5500), "3 s of sleep took {in_all:?}");
}

#[test]
fn a_read_that_waits_goes_on_waiting() {
    let tool = Tool::new();
    let chance = chance();
    let args = ["run", "--job", "r", "--every", "50ms", &chance, "read"];
    let running = waiting(&tool, &args, Stdio::piped());
    std::thread::sleep(Duration::from_millis(300));
    running.signal("KILL");
    drop(running);
    let mut again = Running::spawn(tool.command(&args).stdin(Stdio::piped()).stdout(Stdio::piped()));
    let mut stdin = again.0.stdin.take().unwrap();
    std::thread::sleep(Duration::from_millis(200));
    stdin.write_all(b"at last\n").unwrap();
    drop(stdin);
    assert_eq!(ended(again), (0, "at last\n".to_string()));
}
