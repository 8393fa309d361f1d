//! The program's streams over kills: what it prints arrives once, and what it was given it reads once, whatever the
//! other end is. Every test kills real processes with SIGKILL at random moments; its seed is printed.

mod tool;

use std::fs::{self, File};
use std::io::{PipeReader, PipeWriter, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use tool::moments::Random;
use tool::{Running, Tool, wait_until};

/// A run of some seconds, so that dozens of kills find it at work.
const LINES: u64 = 1200;
const WORK: u64 = 1_000_000;

fn guest() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("guests/wasm/streams.wasm")
}

/// What `streams print` prints: all its lines, and those to output and to error.
fn expected() -> &'static [String; 3] {
    static LINES_OF: OnceLock<[String; 3]> = OnceLock::new();
    LINES_OF.get_or_init(|| {
        let mut state = 88_172_645_463_325_252_u64;
        let mut text = [String::new(), String::new(), String::new()];
        for n in 1..=LINES {
            for _ in 0..WORK {
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
            }
            let line = format!("{n:08} {state:016x}\n");
            text[0] += &line;
            text[if n % 3 == 0 { 2 } else { 1 }] += &line;
        }
        text
    })
}

/// Where two texts part, if they do.
fn assert_same(found: &[u8], expected: &str, what: &str) {
    let Some(at) = found.iter().zip(expected.as_bytes()).position(|(a, b)| a != b) else {
        assert_eq!(found.len(), expected.len(), "{what}: the lengths differ");
        return;
    };
    let from = at.saturating_sub(100);
    let shown = |bytes: &[u8]| String::from_utf8_lossy(&bytes[from..bytes.len().min(at + 100)]).into_owned();
    panic!("{what}: byte {at} differs\nfound:\n{}\nexpected:\n{}", shown(found), shown(expected.as_bytes()));
}

/// Runs the command again and again, kills it at random moments, and lets it end when there were enough kills.
fn killed(kills: u32, most: u64, random: &mut Random, mut command: impl FnMut() -> Command) -> u32 {
    let mut done = 0;
    loop {
        let mut child = Running::spawn(&mut command());
        let (began, wait) = (Instant::now(), Duration::from_millis(random.below(most)));
        loop {
            if let Some(status) = child.0.try_wait().unwrap() {
                assert_eq!(status.code(), Some(0), "after {done} kills");
                return done;
            }
            if done < kills && began.elapsed() >= wait {
                done += 1;
                break;
            }
            thread::sleep(Duration::from_millis(1));
        }
    }
}

/// The command, with a directory and a private disk for the program's own files.
fn print(tool: &Tool, job: &str, options: &[&str]) -> Command {
    let dir = tool.path("files");
    fs::create_dir_all(&dir).unwrap();
    let given = format!("{}::/files", dir.display());
    let mut command = tool.command(&["run", "-q", "--job", job, "--every", "20ms", "--dir", &given]);
    command.args(["--disk", "/disk"]).args(options).arg(guest());
    command.args(["print", &LINES.to_string(), &WORK.to_string(), &format!("/files/{job}"), "/disk/lines"]);
    command
}

fn assert_file(tool: &Tool, job: &str) {
    let found = fs::read(tool.path("files").join(job)).unwrap();
    assert_same(&found, &expected()[0], "the program's own file");
    let on_disk = tool.command(&["cp", &format!("{job}:/disk/lines"), "-"]).output().unwrap();
    assert!(on_disk.status.success(), "{on_disk:?}");
    assert_same(&on_disk.stdout, &expected()[0], "the file on its private disk");
}

#[test]
fn into_emptied_files() {
    let (tool, mut random) = (Tool::new(), Random::new("into_emptied_files"));
    let (out, err) = (tool.path("out"), tool.path("err"));
    let kills = killed(20, 150, &mut random, || {
        let mut command = print(&tool, "emptied", &[]);
        command.stdout(File::create(&out).unwrap()).stderr(File::create(&err).unwrap());
        command
    });
    assert_eq!(kills, 20);
    assert_same(&fs::read(&out).unwrap(), &expected()[1], "> out");
    assert_same(&fs::read(&err).unwrap(), &expected()[2], "2> err");
    assert_file(&tool, "emptied");
}

#[test]
fn into_files_that_are_appended_to() {
    for (mode, options) in [("at-once", &[][..]), ("exactly-once", &["--output", "exactly-once"])] {
        let (tool, mut random) = (Tool::new(), Random::new(mode));
        let append = |name: &str| File::options().append(true).create(true).open(tool.path(name)).unwrap();
        append("out").write_all(b"of others\n").unwrap();
        let kills = killed(20, 150, &mut random, || {
            let mut command = print(&tool, mode, options);
            command.stdout(append("out")).stderr(append("err"));
            command
        });
        assert_eq!(kills, 20);
        let wanted = format!("of others\n{}", expected()[1]);
        assert_same(&fs::read(tool.path("out")).unwrap(), &wanted, ">> out");
        assert_same(&fs::read(tool.path("err")).unwrap(), &expected()[2], "2>> err");
        assert_file(&tool, mode);
    }
}

/// Reads a pipe to its end, not always at once.
fn reader(mut pipe: impl Read + Send + 'static, mut random: Random) -> JoinHandle<Vec<u8>> {
    thread::spawn(move || {
        let (mut all, mut part) = (vec![], [0; 700]);
        loop {
            let n = pipe.read(&mut part).unwrap();
            all.extend_from_slice(&part[..n]);
            if n == 0 {
                return all;
            }
            if random.below(20) == 0 {
                thread::sleep(Duration::from_millis(random.below(30)));
            }
        }
    })
}

/// The store's path, which can be written in several ways, each time in another.
fn spellings() -> impl FnMut() -> &'static str {
    let mut spellings = ["store", "./store", "store/", "store//"].iter().cycle();
    move || spellings.next().unwrap()
}

#[test]
fn exactly_once_into_fifos_whose_readers_survive() {
    let (tool, mut random, mut spelled) = (Tool::new(), Random::new("fifos"), spellings());
    let paths = ["out", "err"].map(|name| tool.path(name));
    // Opened for both, so that neither end waits for the other; held so that the readers see one end.
    let fifos = paths.each_ref().map(|path| {
        assert!(Command::new("mkfifo").arg(path).status().unwrap().success());
        File::options().read(true).write(true).open(path).unwrap()
    });
    let readers = [0, 1].map(|n| reader(File::open(&paths[n]).unwrap(), Random(random.below(1 << 40) | 1)));
    let kills = killed(25, 150, &mut random, || {
        let mut command = print(&tool, "fifo", &["--output", "exactly-once"]);
        command.env("WASM_CKPT_STORE", spelled());
        // As a shell opens them, each time anew.
        let open = |path: &Path| File::options().write(true).open(path).unwrap();
        command.stdout(open(&paths[0])).stderr(open(&paths[1]));
        command
    });
    assert_eq!(kills, 25);
    // The same command again gives the result, and nothing twice.
    let mut again = print(&tool, "fifo", &["--output", "exactly-once"]);
    let open = |path: &Path| File::options().write(true).open(path).unwrap();
    assert!(again.stdout(open(&paths[0])).stderr(open(&paths[1])).status().unwrap().success());
    drop((again, fifos));
    let [out, err] = readers.map(|reader| reader.join().unwrap());
    assert_same(&out, &expected()[1], "> fifo");
    assert_same(&err, &expected()[2], "2> fifo");
    assert_file(&tool, "fifo");
}

#[test]
fn exactly_once_into_one_pipe_for_both_keeps_their_order() {
    let (tool, mut random) = (Tool::new(), Random::new("pipe"));
    let (read, write) = std::io::pipe().unwrap();
    let read = reader(read, Random(random.below(1 << 40) | 1));
    let kills = killed(25, 150, &mut random, || {
        let mut command = print(&tool, "pipe", &["--output", "exactly-once"]);
        command.stdout(write.try_clone().unwrap()).stderr(write.try_clone().unwrap());
        command
    });
    assert_eq!(kills, 25);
    drop(write);
    assert_same(&read.join().unwrap(), &expected()[0], "> pipe 2>&1");
    assert_file(&tool, "pipe");
}

#[test]
fn a_job_that_died_before_all_was_delivered_delivers_the_rest() {
    let (tool, mut random) = (Tool::new(), Random::new("rest"));
    let (mut read, write) = std::io::pipe().unwrap();
    // More than a pipe holds, and no snapshot before the end: it ends, and then waits for its reader.
    let spawn = |extra: &[&str]| {
        let mut command = tool.command(&["run", "--every", "never", "--output", "exactly-once"]);
        command.args(extra).arg(guest()).args(["print", "20000", "1"]);
        command.stdout(write.try_clone().unwrap()).stderr(Stdio::null());
        Running::spawn(&mut command)
    };
    for extra in [&["--job", "named"][..], &[]] {
        let mut all = vec![];
        let mut child = spawn(extra);
        // Some of it arrives, and then it is killed.
        let mut some = vec![0; 50_000 + random.below(5000) as usize];
        read.read_exact(&mut some).unwrap();
        all.extend_from_slice(&some);
        child.0.kill().unwrap();
        assert_eq!(child.0.wait().unwrap().code(), None);
        let ended = tool.json(&["ls", "--json"]);
        assert_eq!(ended[0]["state"], "exit 0", "{ended}");
        let mut child = spawn(extra);
        let length: usize = (1..=20_000).filter(|n| n % 3 != 0).count() * 26;
        let mut rest = vec![0; length - all.len()];
        read.read_exact(&mut rest).unwrap();
        all.extend_from_slice(&rest);
        assert_eq!(child.0.wait().unwrap().code(), Some(0));
        let numbers = String::from_utf8(all).unwrap();
        let numbers = numbers.lines().map(|line| line[..8].parse::<u64>().unwrap());
        assert!(numbers.eq((1..=20_000_u64).filter(|n| n % 3 != 0)));
        assert_eq!(tool.run(&["rm", "--ended"]).code, 0);
    }
}

/// Lines for the program to read.
fn input(lines: u64) -> String {
    (0..lines).map(|n| format!("line {n} {}\n", "x".repeat((n * 7 % 50) as usize))).collect()
}

fn copy(tool: &Tool, options: &[&str], stdin: impl Into<Stdio>) -> Command {
    let mut command = tool.command(&["run", "-q", "--job", "copy", "--every", "20ms"]);
    command.args(options).arg(guest()).args(["copy", &WORK.to_string()]);
    command.stdin(stdin).stderr(Stdio::inherit());
    command
}

/// Runs it to its end: exit code, output and error as they are.
fn raw(mut command: Command) -> (Option<i32>, String, String) {
    let output = command.stderr(Stdio::piped()).output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code(), text(output.stdout), text(output.stderr))
}

/// Feeds a pipe until its reader has gone.
fn feed(mut pipe: PipeWriter, text: String, pause: Option<Random>) -> JoinHandle<()> {
    thread::spawn(move || {
        let (mut rest, mut random) = (text.as_bytes(), pause);
        while !rest.is_empty() {
            let n = random.as_mut().map_or(rest.len(), |random| 1 + random.below(3000) as usize);
            let (now, later) = rest.split_at(n.min(rest.len()));
            if pipe.write_all(now).is_err() {
                return;
            }
            rest = later;
            if let Some(random) = &mut random {
                thread::sleep(Duration::from_millis(random.below(60)));
            }
        }
    })
}

/// What an undisturbed run makes of the input.
fn copied(text: &str) -> String {
    let tool = Tool::new();
    let (read, write) = std::io::pipe().unwrap();
    feed(write, text.to_string(), None);
    let (code, out, err) = raw(copy(&tool, &[], read));
    assert_eq!((code, out.lines().count()), (Some(0), text.lines().count()), "{err}");
    out
}

#[test]
fn a_pipe_that_begins_anew_is_read_once() {
    let (tool, mut random) = (Tool::new(), Random::new("begins_anew"));
    let text = input(1000);
    let wanted = copied(&text);
    let mut nth = 0;
    let kills = killed(20, 150, &mut random, || {
        nth += 1;
        let (read, write): (PipeReader, PipeWriter) = std::io::pipe().unwrap();
        // Now slowly, now at once.
        feed(write, text.clone(), (nth % 2 == 0).then_some(Random(nth)));
        let mut command = copy(&tool, &[], read);
        command.stdout(File::create(tool.path("out")).unwrap());
        command
    });
    assert_eq!(kills, 20);
    assert_same(&fs::read(tool.path("out")).unwrap(), &wanted, "producer | run");
}

#[test]
fn a_fifo_whose_producer_goes_on_is_read_once() {
    let (mut spelled, tool, mut random) = (spellings(), Tool::new(), Random::new("goes_on"));
    let text = input(1000);
    let wanted = copied(&text);
    let path = tool.path("in");
    assert!(Command::new("mkfifo").arg(&path).status().unwrap().success());
    let kept = File::options().read(true).write(true).open(&path).unwrap();
    // Held, since what is in a FIFO goes with its last holder.
    let read = File::open(&path).unwrap();
    let (mut fifo, mut rest) = (File::options().write(true).open(&path).unwrap(), text.clone().into_bytes());
    let mut pauses = Random(random.below(1 << 40) | 1);
    let producer = thread::spawn(move || {
        while !rest.is_empty() {
            let n = (1 + pauses.below(1500) as usize).min(rest.len());
            fifo.write_all(&rest.drain(..n).collect::<Vec<_>>()).unwrap();
            thread::sleep(Duration::from_millis(pauses.below(60)));
        }
        // The end comes when nobody holds the FIFO for writing.
        drop((fifo, kept));
    });
    let kills = killed(20, 150, &mut random, || {
        let mut command = copy(&tool, &["--input-from", "now"], read.try_clone().unwrap());
        command.env("WASM_CKPT_STORE", spelled());
        command.stdout(File::create(tool.path("out")).unwrap());
        command
    });
    producer.join().unwrap();
    assert_eq!(kills, 20);
    assert_same(&fs::read(tool.path("out")).unwrap(), &wanted, "run < fifo");
}

#[test]
fn another_input_is_refused_and_the_job_goes_on_with_the_right_one() {
    let tool = Tool::new();
    let text = input(400);
    let wanted = copied(&text);
    let given = |text: &str, options: &[&str]| {
        let (read, write) = std::io::pipe().unwrap();
        let feeder = feed(write, text.to_string(), None);
        let told = raw(copy(&tool, options, read));
        feeder.join().unwrap();
        told
    };
    // Half of it, and then nothing for as long as it takes to kill it.
    let (read, mut write) = std::io::pipe().unwrap();
    let half = text.find("line 200 ").unwrap();
    write.write_all(&text.as_bytes()[..half]).unwrap();
    let mut command = copy(&tool, &[], read);
    let mut child = Running::spawn(command.stdout(Stdio::null()));
    wait_until("all read", || tool.run(&["output", "copy"]).out.lines().count() == 200);
    child.0.kill().unwrap();
    child.0.wait().unwrap();
    let other = text.replacen("line 100 ", "LINE 100 ", 1);
    let at = text.find("line 100 ").unwrap();
    let (code, _, err) = given(&other, &[]);
    assert!(
        code == Some(70) && err.contains(&format!("byte {at} differs, of {half} that were read")),
        "{err}"
    );
    assert!(err.contains("--input-from start") && err.contains("--input-from now"), "{err}");
    let (code, _, err) = given(&text[..1000], &[]);
    assert!(code == Some(70) && err.contains("ends after 1000 bytes"), "{err}");
    let (code, out, err) = given(&text, &["--input-from", "start"]);
    assert_eq!(code, Some(0), "{err}");
    assert_same(out.as_bytes(), &wanted, "the right one");
}

#[test]
fn the_rest_of_an_input_is_enough_if_told() {
    let tool = Tool::new();
    let text = input(400);
    let wanted = copied(&text);
    let (read, mut write) = std::io::pipe().unwrap();
    let half = text.find("line 200 ").unwrap();
    write.write_all(&text.as_bytes()[..half]).unwrap();
    let mut command = copy(&tool, &[], read);
    let mut child = Running::spawn(command.stdout(Stdio::null()));
    wait_until("all read", || tool.run(&["output", "copy"]).out.lines().count() == 200);
    child.signal("TERM");
    assert_eq!(child.0.wait().unwrap().code(), Some(75));
    // Elsewhere nothing is known of what it has read but how much that was.
    let file = tool.path("file");
    assert_eq!(tool.run(&["export", "copy", "-o", file.to_str().unwrap()]).code, 0);
    let elsewhere = Tool::new();
    let resume = |options: &[&str], text: &str| {
        let (read, write) = std::io::pipe().unwrap();
        let feeder = feed(write, text.to_string(), None);
        let mut command = elsewhere.command(&["resume", "-q", "--job", "there"]);
        command.args(options).arg(&file).stdin(read);
        let told = raw(command);
        feeder.join().unwrap();
        told
    };
    let (code, _, err) = resume(&[], &text);
    assert!(code == Some(70) && err.contains(&format!("had read {half} bytes of a pipe")), "{err}");
    assert!(err.contains("--input-from now"), "{err}");
    assert_eq!(elsewhere.run(&["rm", "there"]).code, 0);
    for (from, text) in [("now", &text[half..]), ("start", &text)] {
        let (code, out, err) = resume(&["--input-from", from], text);
        assert_eq!(code, Some(0), "{from}: {err}");
        assert_same(out.as_bytes(), &wanted, from);
        assert_eq!(elsewhere.run(&["rm", "--ended"]).code, 0);
    }
    let (read, write) = std::io::pipe().unwrap();
    let feeder = feed(write, text[half..].to_string(), None);
    let (code, out, err) = raw(copy(&tool, &["--input-from", "now"], read));
    feeder.join().unwrap();
    assert_eq!(code, Some(0), "{err}");
    assert_same(out.as_bytes(), &wanted, "the rest here");
}

#[test]
fn only_what_comes_now_if_told() {
    let tool = Tool::new();
    let run = |options: &[&str]| {
        let mut command = tool.command(&["run", "-q", "--job", "now"]);
        command.args(options).arg(guest()).args(["print", "3000", "100"]);
        raw(command)
    };
    let (code, first, _) = run(&["--pause-after", "1000000"]);
    assert_eq!(code, Some(75));
    let (code, rest, err) = run(&["--output-from", "now"]);
    assert_eq!(code, Some(0), "{err}");
    let number = |line: &str| line[..8].parse::<u64>().unwrap();
    let all = format!("{first}{rest}");
    assert!(first.lines().count() > 10 && rest.lines().count() > 10, "{first}");
    assert!(all.lines().map(number).eq((1..=3000).filter(|n| n % 3 != 0)));
    // Of an ended job there is nothing to come.
    assert_eq!(run(&["--output-from", "now"]).1, "");
    assert_eq!(run(&[]).1, all);
    assert_eq!(raw(tool.command(&["output", "now"])).1, all);
}

#[test]
fn output_is_printed_and_followed() {
    let tool = Tool::new();
    assert_eq!(tool.run(&["output", "x"]).code, 66);
    let mut command = print(&tool, "x", &[]);
    let mut child = Running::spawn(command.stdout(Stdio::null()).stderr(Stdio::null()));
    wait_until("begun", || !tool.run(&["ls"]).out.is_empty());
    let follow = |stream: &str| {
        let mut command = tool.command(&["output", "-f", "--stream", stream, "x"]);
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    };
    let followers = ["stdout", "stderr", "both"].map(follow);
    // Something is there before the end.
    wait_until("printing", || {
        let (code, so_far, err) = raw(tool.command(&["output", "x"]));
        assert!(code == Some(0) && expected()[1].starts_with(&so_far), "{so_far} {err}");
        so_far.len() >= 1000
    });
    assert!(child.0.try_wait().unwrap().is_none(), "it has ended");
    child.0.kill().unwrap();
    child.0.wait().unwrap();
    for (follower, wanted) in followers.into_iter().zip([&expected()[1], &expected()[2], &expected()[0]]) {
        let told = follower.wait_with_output().unwrap();
        let (out, err) = (String::from_utf8(told.stdout).unwrap(), String::from_utf8(told.stderr).unwrap());
        assert!(
            told.status.code() == Some(75) && wanted.starts_with(&out) && out.len() >= 100,
            "{out} {err}"
        );
        assert!(err.contains("is unfinished, and no process runs it"), "{err}");
    }
    let mut child = Running::spawn(&mut command);
    wait_until("taken by the new process", || tool.json(&["ls", "--json"])[0]["state"] != "interrupted");
    let followers = ["stdout", "stderr", "both"].map(follow);
    assert!(child.0.wait().unwrap().success());
    for (follower, wanted) in followers.into_iter().zip([&expected()[1], &expected()[2], &expected()[0]]) {
        let told = follower.wait_with_output().unwrap();
        assert_eq!((told.status.code(), told.stderr.as_slice()), (Some(0), &b""[..]));
        assert_same(&told.stdout, wanted, "output -f");
    }
    // A reader that has seen enough is no error.
    let (read, write) = std::io::pipe().unwrap();
    drop(read);
    let output = tool.command(&["output", "-f", "x"]).stdout(write).output().unwrap();
    assert_eq!((output.status.code(), output.stderr.len()), (Some(0), 0));
}

#[test]
fn nothing_is_delivered_before_it_is_durable() {
    use std::sync::Arc;
    use wasm_ckpt::job::{Delivery, Mode, Printed, Sink};
    use wasm_ckpt::store::fault::{FailAfter, Failure};
    use wasm_ckpt::store::{Memory, Store};
    use wasm_ckpt::wasi::OutputBuffer;
    use wasm_ckpt::{Engine, Every, Jobs, Options, Settings, Spec};

    let wasm = wat::parse_str(tool::lines(12, 200, tool::BOTH)).unwrap();
    let module = Engine::new(Settings::default()).unwrap().compile(&wasm).unwrap();
    let name = "x".parse().unwrap();
    let run = |store: Arc<dyn Store>| {
        let output = OutputBuffer::default();
        let outcome = (|| {
            let mut job = Jobs::new(store).hold(&name)?;
            if job.status().is_none() {
                job.begin(&wasm, Spec::program(module.id(), "small.wasm"))?;
            }
            let options = Options {
                every: Every::Fuel(1500),
                sinks: [Sink::Other(Box::new(output.clone())), Sink::Null],
                delivery: Delivery { mode: Mode::ExactlyOnce, from: None },
                ..Options::default()
            };
            job.run(&module, options)?.advance()
        })();
        (outcome, String::from_utf8(output.contents()).unwrap())
    };
    let wanted = tool::printed_apart(12).0;
    for how in [Failure::Before, Failure::After] {
        for n in 0.. {
            let memory = Arc::new(Memory::new());
            let store = Arc::new(FailAfter::with(memory.clone(), n, how));
            let (outcome, out) = run(store.clone());
            // What is durable now is at least what was delivered.
            let jobs = Jobs::new(memory.clone());
            let status = jobs.status(&name).unwrap();
            let durable = status.map_or(0, |status| match (&status.done, status.snapshot()) {
                (Some(done), _) => done.output.streams[0].kept,
                (None, Some(id)) => {
                    Printed::of_state(jobs.snapshot(id).unwrap().state()).unwrap().streams[0].kept
                }
                (None, None) => 0,
            });
            assert!(wanted.starts_with(&out) && out.len() as u64 <= durable, "{how:?} at {n}: {out}");
            assert!(outcome.is_err() || out == wanted, "{how:?} at {n}: {outcome:?}");
            if !store.has_failed() {
                assert!(n > 50, "{n} operations are fewer than there must be");
                break;
            }
        }
    }
}

/// How often the program below writes, and how much.
const CALLS: u32 = 8;
const LEN: u32 = 150_000;

/// A program that writes much at once, and takes for granted that all of it is written.
fn careless(spin: u64) -> String {
    format!(
        r#"(module
          (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
          (memory (export "memory") 4)
          (func (export "_start") (local $i i32) (local $p i32) (local $n i64)
            (i32.store (i32.const 0) (i32.const 65536))
            (i32.store (i32.const 4) (i32.const {LEN}))
            (loop $calls
              (local.set $p (i32.const 0))
              (loop $fill
                (i32.store (i32.add (i32.const 65536) (local.get $p))
                  (i32.add (i32.mul (local.get $i) (i32.const 1000003)) (local.get $p)))
                (local.set $p (i32.add (local.get $p) (i32.const 4)))
                (br_if $fill (i32.lt_u (local.get $p) (i32.const {LEN}))))
              (drop (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8)))
              (local.set $n (i64.const {spin}))
              (loop $spin (br_if $spin
                (i64.ne (local.tee $n (i64.sub (local.get $n) (i64.const 1))) (i64.const -1))))
              (br_if $calls
                (i32.lt_u (local.tee $i (i32.add (local.get $i) (i32.const 1))) (i32.const {CALLS}))))))"#
    )
}

#[test]
fn a_full_pipe_neither_keeps_a_run_from_pausing_nor_costs_a_byte() {
    let words = (0..CALLS).flat_map(|i| (0..LEN / 4).map(move |p| i * 1_000_003 + p * 4));
    let expected: Vec<u8> = words.flat_map(u32::to_le_bytes).collect();
    let ways = [
        (&["--output-from", "now"][..], 0, 6, false),
        (&["--output-from", "now"], 0, 6, true),
        (&["--output", "exactly-once"], 2_000_000_000, 3, false),
    ];
    for (options, spin, pauses, nonblocking) in ways {
        let tool = Tool::new();
        tool.wat("careless.wasm", &careless(spin));
        let (mut reader, writer) = std::io::pipe().unwrap();
        rustix::io::ioctl_fionbio(&writer, nonblocking).unwrap();
        let run = || {
            let mut command = tool.command(&["run", "-q", "--job", "j", "--every", "10ms"]);
            command.args(options).arg("careless.wasm").stdout(writer.try_clone().unwrap());
            Running::spawn(&mut command)
        };
        let mut all = vec![];
        for _ in 0..pauses {
            let mut child = run();
            let mut part = vec![0; 100_000];
            reader.read_exact(&mut part).unwrap();
            all.extend(part);
            // Now it fills the pipe.
            thread::sleep(Duration::from_millis(300));
            let gc = Instant::now();
            assert_eq!(tool.run(&["gc"]).code, 0);
            child.signal("TERM");
            let began = Instant::now();
            while child.0.try_wait().unwrap().is_none() {
                assert!(began.elapsed() < Duration::from_secs(5), "{options:?}: it goes on");
                thread::sleep(Duration::from_millis(10));
            }
            assert_eq!(child.0.wait().unwrap().code(), Some(75), "{options:?}");
            assert!(gc.elapsed() < Duration::from_secs(10), "{options:?}: it was in the way");
        }
        let mut child = run();
        drop(writer);
        reader.read_to_end(&mut all).unwrap();
        assert_eq!(child.0.wait().unwrap().code(), Some(0));
        let at = all.iter().zip(&expected).position(|(a, b)| a != b);
        assert!(all == expected, "{options:?}: {} bytes, which differ at {at:?}", all.len());
    }
}
