//! Other people's programs, run by the command line, killed at random moments and continued by the same command:
//! what they print and write is what an undisturbed run does.

mod common;

use std::fs::{self, File};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use common::{Place, Random, Run, guests, runs};

const KILLS: u32 = 5;

#[test]
fn other_peoples_programs_are_killed_and_continue() {
    let mut random = Random(u64::from(std::process::id()));
    for name in ["lua", "quickjs", "sqlite", "esbuild-slow"] {
        let Some(mut run) = runs().into_iter().find(|run| run.name == name) else { continue };
        if name == "sqlite" {
            // Host directories do not roll back with the program: a database there is for pauses. The same task
            // in memory prints the same.
            run.args[0] = ":memory:".into();
        }
        killed(&run, &mut random);
    }
}

fn killed(run: &Run, random: &mut Random) {
    let store = tempfile::tempdir().unwrap();
    // Undisturbed first: that it is right, and how long it takes once it is compiled.
    let mut took = Duration::ZERO;
    for _ in 0..2 {
        let place = Place::new(run);
        let began = Instant::now();
        let out = store.path().join("out");
        let status = command(run, &place, store.path()).stdout(File::create(&out).unwrap()).status().unwrap();
        assert_eq!(status.code(), Some(0), "{}", run.name);
        took = began.elapsed();
        check(run, &place, &fs::read(&out).unwrap(), "undisturbed");
    }
    let place = Place::new(run);
    let out = store.path().join("out");
    let mut kills = 0;
    loop {
        let mut child = command(run, &place, store.path());
        let mut child = child.stdout(File::create(&out).unwrap()).spawn().unwrap();
        if kills < KILLS {
            std::thread::sleep(
                took / (KILLS + 1) / 2 + took * (random.below(1000) as u32) / 1000 / (KILLS + 1),
            );
            child.kill().unwrap();
            kills += 1;
        }
        let status = child.wait().unwrap();
        if status.code() == Some(0) {
            break;
        }
        // Killed: it has no exit code.
        assert_eq!(status.code(), None, "{} after {kills} kills", run.name);
    }
    check(run, &place, &fs::read(&out).unwrap(), &format!("killed {kills} times"));
    println!("{}: {took:?} undisturbed, killed {kills} times", run.name);
}

fn command(run: &Run, place: &Place, store: &std::path::Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_wasm-ckpt"));
    command.env("WASM_CKPT_STORE", store.join("store")).stdin(Stdio::null());
    command.env("XDG_CACHE_HOME", std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).join("xdg-cache"));
    command.args(["run", "--every", "20ms", "--seed", "3", "--quiet"]);
    let dir = place.dir().display();
    if run.directories == "work" {
        command.arg("--dir").arg(format!("{dir}::/work"));
        command.arg("--dir").arg(format!("{}::/tasks:ro", guests().join("tasks").display()));
    } else {
        command.arg("--dir").arg(format!("{dir}::/")).args(["--env", "PWD=/"]);
    }
    command.arg(&run.program).args(&run.args);
    command
}

/// Output, and files where the task writes to a file of its own.
fn check(run: &Run, place: &Place, out: &[u8], how: &str) {
    let mut expected = fs::read_to_string(guests().join(format!("expected/{}.out", run.name))).unwrap();
    if run.name == "sqlite" {
        // The task prints the journal mode first.
        let rest = expected.split_once('\n').unwrap().1;
        expected = format!("memory\n{rest}");
    }
    assert!(out == expected.as_bytes(), "{} {how}: {}", run.name, String::from_utf8_lossy(out));
    if run.name != "sqlite" {
        place.check_files(how);
    }
}
