//! The main job on a real program: CPython computes, is killed, paused, moved to the interpreter and back, and
//! prints and writes what an undisturbed run does, to the byte.
//!
//! `PYTHON_SCALE` is the task's size: 20 takes some seconds, 200 (which `tests/run.sh` sets in CI) a minute.

mod common;

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use common::{Random, guests};

const PAUSED: i32 = 75;

struct Setting {
    dir: tempfile::TempDir,
}

impl Setting {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("work")).unwrap();
        Self { dir }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn tool(&self) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_wasm-ckpt"));
        command.env("WASM_CKPT_STORE", self.path("store")).stdin(Stdio::null());
        command.env("XDG_CACHE_HOME", Path::new(env!("CARGO_TARGET_TMPDIR")).join("xdg-cache"));
        command
    }

    /// `run` of the task as job `pi`, with options of ours; stdout goes to `out`, emptied as a shell does.
    fn run(&self, options: &[&str]) -> Command {
        let mut command = self.tool();
        let work = format!("{}::/work", self.path("work").display());
        let tasks = format!("{}::/tasks:ro", guests().join("tasks").display());
        let scale = std::env::var("PYTHON_SCALE").unwrap_or("20".into());
        command.args(["run", "--job", "pi", "--seed", "7", "--dir", &work, "--dir", &tasks]).args(options);
        command.arg(guests().join(".cache/python.wasm")).args(["/tasks/pi.py", &scale, "/work/report.txt"]);
        self.streams(&mut command);
        command
    }

    fn resume(&self, options: &[&str]) -> Command {
        let mut command = self.tool();
        command.args(["resume", "pi"]).args(options);
        self.streams(&mut command);
        command
    }

    fn streams(&self, command: &mut Command) {
        command.stdout(File::create(self.path("out")).unwrap());
        let err = File::options().create(true).append(true).open(self.path("err")).unwrap();
        command.stderr(err);
    }

    fn results(&self) -> (String, String) {
        let out = fs::read_to_string(self.path("out")).unwrap();
        (out, fs::read_to_string(self.path("work/report.txt")).unwrap())
    }

    fn expect(&self, status: ExitStatus, code: i32) {
        let told = fs::read_to_string(self.path("err")).unwrap_or_default();
        assert_eq!(status.code(), Some(code), "{told}");
    }
}

fn python_is_there() -> bool {
    let there = guests().join(".cache/python.wasm").exists();
    assert!(there || std::env::var_os("CI").is_none_or(|ci| ci.is_empty()), "guests/fetch.sh gets CPython");
    if !there {
        println!("SKIPPED: run guests/fetch.sh python first");
    }
    there
}

#[test]
fn killed_paused_and_moved_python_gives_what_it_gives_undisturbed() {
    if !python_is_there() {
        return;
    }
    let setting = Setting::new();
    let began = Instant::now();
    let program = guests().join(".cache/python.wasm");
    let warm = setting.tool().arg("run").arg(program).args(["-c", "print(1)"]).output().unwrap();
    assert_eq!(warm.stdout, b"1\n", "{}", String::from_utf8_lossy(&warm.stderr));
    println!("compiled: {:?}", began.elapsed());
    let began = Instant::now();
    setting.expect(setting.run(&["--every", "never"]).status().unwrap(), 0);
    let took = began.elapsed();
    let expected = setting.results();
    assert!(expected.0.ends_with("done\n"), "{}", expected.0);
    println!("undisturbed: {took:?}");
    killed(&expected, took);
    paused(&expected);
}

/// SIGKILL at five random moments; the same command again each time.
fn killed(expected: &(String, String), took: Duration) {
    let setting = Setting::new();
    let mut random = Random(u64::from(std::process::id()));
    let mut kills = 0;
    while kills < 5 {
        let mut child = setting.run(&["--every", "200ms"]).spawn().unwrap();
        let wait = took.as_millis() as u64 / 6;
        std::thread::sleep(Duration::from_millis(wait / 2 + random.below(wait / 2)));
        assert!(
            child.try_wait().unwrap().is_none(),
            "it ended before it could be killed {} times",
            kills + 1
        );
        child.kill().unwrap();
        child.wait().unwrap();
        kills += 1;
    }
    setting.expect(setting.run(&["--every", "200ms"]).status().unwrap(), 0);
    assert!(setting.results() == *expected, "after {kills} kills");
    println!("killed {kills} times: the same");
}

/// Paused at twenty random fuel values, each resumed in a new process; one of them under Pulley, and back.
fn paused(expected: &(String, String)) {
    let setting = Setting::new();
    let total = total_fuel(&setting);
    let mut random = Random(u64::from(std::process::id()) + 1);
    let mut cuts: Vec<u64> = (0..20).map(|_| random.below(total * 9 / 10)).collect();
    cuts.sort_unstable();
    let first = cuts[0].to_string();
    setting.expect(
        setting.run(&["--new", "--every", "never", "--pause-after", &first]).status().unwrap(),
        PAUSED,
    );
    for (n, cut) in cuts.iter().enumerate().skip(1) {
        // The interpreter is slow: it gets a short way, from one cut to a little later.
        if n == 10 {
            let little = (cuts[n - 1] + 200_000_000).min(*cut).to_string();
            let options = ["--target", "pulley64", "--pause-after", &little];
            setting.expect(setting.resume(&options).status().unwrap(), PAUSED);
        }
        let cut = cut.to_string();
        setting.expect(setting.resume(&["--pause-after", &cut]).status().unwrap(), PAUSED);
    }
    setting.expect(setting.resume(&[]).status().unwrap(), 0);
    assert!(setting.results() == *expected, "after 20 pauses");
    println!("paused 20 times, once moved to Pulley and back: the same");
}

/// What the whole run consumes, from a finished job's listing.
fn total_fuel(setting: &Setting) -> u64 {
    setting.expect(setting.run(&["--every", "never"]).status().unwrap(), 0);
    let listed = setting.tool().args(["ls", "--json"]).output().unwrap();
    let jobs: serde_json::Value = serde_json::from_slice(&listed.stdout).unwrap();
    jobs[0]["fuel"].as_u64().unwrap_or_else(|| panic!("{jobs}"))
}
