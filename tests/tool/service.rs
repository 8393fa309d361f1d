//! What jobs go through on a store that is a service, whichever it is.

use std::fs::File;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use super::moments::Random;
use super::{Running, STDOUT, Tool, lines, printed, wait_until};

const LINES: u32 = 150;

/// A directory whose store is the service at this URL, with what the service needs in the environment.
pub fn on(url: &str, variables: &[(String, String)]) -> Tool {
    let mut tool = Tool::new();
    tool.variables = variables.to_vec();
    tool.variables.push(("WASM_CKPT_STORE".into(), url.into()));
    tool.wat("lines.wasm", &lines(LINES, 300_000_000, STDOUT));
    tool.wat("long.wasm", &lines(1_000_000, 200_000_000, STDOUT));
    tool
}

/// Jobs that are killed, taken over by another machine, moved, and cleaned up after. Panics where one does not give what
/// it gives undisturbed.
pub fn jobs_survive(tool: &Tool) {
    of_several_one_runs_it(tool);
    killed_at_random(tool);
    taken_over_from_a_machine_that_stands_still(tool);
    moved_to_a_directory_and_back(tool);
    cleaned_up(tool);
}

fn run<'a>(job: &'a str, more: &[&'a str]) -> Vec<&'a str> {
    [&["run", "-q", "--job", job, "--every", "300ms"], more, &["lines.wasm"]].concat()
}

fn state(tool: &Tool, job: &str) -> (String, u64) {
    let jobs = tool.json(&["ls", "--json"]);
    let found = jobs.as_array().unwrap().iter().find(|row| row["job"] == job);
    found.map_or_else(Default::default, |row| {
        (row["state"].as_str().unwrap().to_string(), row["snapshots"].as_u64().unwrap())
    })
}

fn ended_alike(tool: &Tool, job: &str) {
    assert_eq!(tool.run(&["output", job]).out, printed(LINES), "{job}");
    assert_eq!(state(tool, job).0, "exit 0", "{job}");
}

fn of_several_one_runs_it(tool: &Tool) {
    let run = run("several", &[]);
    let spawn = |_| tool.command(&run).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let all: Vec<_> = (0..4).map(spawn).collect();
    let mut won = 0;
    for child in all {
        let told = tool.told(child.wait_with_output().unwrap());
        match told.code {
            0 => won += 1,
            69 => assert!(told.err.contains("job `several` is being run by process "), "{}", told.err),
            _ => panic!("{told:?}"),
        }
    }
    // Who comes when it has ended is given what it printed.
    assert!(won >= 1, "nobody ran it");
    ended_alike(tool, "several");
}

fn killed_at_random(tool: &Tool) {
    let mut random = Random::new("killed on a service");
    let output = File::options().create(true).append(true).open(tool.path("killed.txt")).unwrap();
    let spawn = || Running::spawn(tool.command(&run("killed", &[])).stdout(output.try_clone().unwrap()));
    let (mut kills, begun) = (0, Instant::now());
    loop {
        let mut child = spawn();
        thread::sleep(Duration::from_millis(600 + random.below(2500)));
        if kills < 4 && child.0.try_wait().unwrap().is_none() {
            child.0.kill().unwrap();
            kills += 1;
            continue;
        }
        assert_eq!(child.0.wait().unwrap().code(), Some(0));
        break;
    }
    println!("{kills} kills in {:?}", begun.elapsed());
    assert!(kills > 0, "it was never killed");
    assert_eq!(std::fs::read_to_string(tool.path("killed.txt")).unwrap(), printed(LINES));
    ended_alike(tool, "killed");
}

/// In a namespace of its own, the process is to others as one of another machine.
fn elsewhere(tool: &Tool, args: &[&str]) -> Running {
    let mut command = tool.command_by(&["unshare", "--pid", "--fork", "--kill-child"], args);
    Running::spawn(command.stdout(Stdio::null()).stderr(Stdio::piped()))
}

/// Sends a signal to the process in it.
fn signal_inside(outer: &Running, name: &str) {
    let parent = outer.0.id().to_string();
    let status = Command::new("pkill").args([&format!("-{name}"), "-P", &parent]).status().unwrap();
    assert!(status.success(), "{name}");
}

fn taken_over_from_a_machine_that_stands_still(tool: &Tool) {
    let run = |more: &[&'static str]| {
        [&["run", "-q", "--job", "taken", "--every", "300ms"], more, &["long.wasm"]].concat()
    };
    let mut theirs = elsewhere(tool, &run(&[]));
    wait_until("some snapshots", || {
        assert!(theirs.0.try_wait().unwrap().is_none(), "it has ended");
        state(tool, "taken").1 >= 2
    });
    // It gives signs of life.
    let told = tool.run(&run(&[]));
    assert_eq!(told.code, 69, "{}", told.err);
    assert!(told.err.contains("job `taken` is being run by process "), "{}", told.err);
    signal_inside(&theirs, "STOP");
    let (begun, before) = (Instant::now(), printed_so_far(tool));
    // More than it has consumed by now, or it pauses at once; which will do as well.
    let told = tool.run(&run(&["--pause-after", "100Gfuel"]));
    println!("taken over and paused after {:?}", begun.elapsed());
    assert_eq!(told.code, 75, "{}", told.err);
    let after = printed_so_far(tool);
    assert!(after >= before, "{before} lines, and then {after}");
    // It was only asleep, and finds that it has lost the job.
    signal_inside(&theirs, "CONT");
    let mut err = String::new();
    std::io::Read::read_to_string(&mut theirs.0.stderr.take().unwrap(), &mut err).unwrap();
    assert_eq!(theirs.0.wait().unwrap().code(), Some(69), "{err}");
    assert_eq!((state(tool, "taken").0.as_str(), printed_so_far(tool)), ("paused", after));
}

/// How many lines the long program has printed, all of them as they should be.
fn printed_so_far(tool: &Tool) -> usize {
    let out = tool.run(&["output", "taken"]).out;
    assert!(out.lines().enumerate().all(|(n, line)| line == format!("line {n:06}")), "{out}");
    out.lines().count()
}

fn moved_to_a_directory_and_back(tool: &Tool) {
    let told = tool.run(&run("moved", &["--pause-after", "500Mfuel"]));
    assert_eq!(told.code, 75, "{told:?}");
    let there = Tool::new();
    let file = there.path("moved.ckpt");
    let file = file.to_str().unwrap();
    assert_eq!(tool.run(&["export", "moved", "-o", file]).code, 0);
    let told = there.run(&["resume", "-q", "--job", "moved", "--pause-after", "1Gfuel", file]);
    assert_eq!(told.code, 75, "{told:?}");
    assert_eq!(there.run(&["export", "moved", "-o", file]).code, 0);
    let told = tool.run(&["resume", "-q", "--job", "back", file]);
    assert_eq!(told.code, 0, "{told:?}");
    ended_alike(tool, "back");
}

fn cleaned_up(tool: &Tool) {
    let verified = tool.run(&["verify"]);
    assert_eq!(verified.code, 0, "{verified:?}");
    tool.json(&["gc", "--json"]);
    assert_eq!(tool.run(&["verify"]).code, 0);
    ended_alike(tool, "killed");
    let told = tool.run(&["resume", "-q", "moved"]);
    assert_eq!(told.code, 0, "{told:?}");
    ended_alike(tool, "moved");
    for job in ["several", "killed", "taken", "moved", "back"] {
        assert_eq!(tool.run(&["rm", job]).code, 0, "{job}");
    }
    tool.json(&["gc", "--json"]);
    assert_eq!(tool.json(&["ls", "--json"]), serde_json::json!([]));
}
