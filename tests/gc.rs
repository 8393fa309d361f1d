//! What a store keeps and frees: `--retain`, `gc`; and what becomes of a job whose store is damaged or full.

mod tool;

use std::fs;
use std::io::Write;
use std::path::PathBuf;
use std::process::Stdio;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;
use tool::disk::SmallDisk;
use tool::{Running, STDOUT, Tool, lines, printed, wait_until};

const LINES: u32 = 60;

/// Takes a snapshot about every line, and pauses before the end.
fn paused(tool: &Tool, more: &[&str]) {
    paused_every(tool, "50000fuel", more);
}

fn paused_every(tool: &Tool, every: &str, more: &[&str]) {
    tool.wat("lines.wasm", &lines(LINES, 20_000, STDOUT));
    let args = ["run", "-q", "--job", "x", "--every", every, "--pause-after", "2500000"];
    let told = tool.run(&[&args[..], more, &["lines.wasm"]].concat());
    assert_eq!(told.code, 75, "{told:?}");
}

fn snapshots(tool: &Tool) -> Vec<String> {
    let list = tool.json(&["ls", "--json", "--snapshots", "x"]);
    let id = |row: &Value| row["snapshot"].as_str().unwrap().to_string();
    list.as_array().unwrap().iter().map(id).collect()
}

/// The files of the store's objects whose names begin so.
fn files(tool: &Tool, dir: &str) -> Vec<PathBuf> {
    let mut found = vec![];
    let mut dirs = vec![tool.path("store/objects").join(dir)];
    while let Some(dir) = dirs.pop() {
        for entry in fs::read_dir(dir).into_iter().flatten() {
            let path = entry.unwrap().path();
            if path.is_dir() { dirs.push(path) } else { found.push(path) }
        }
    }
    found
}

#[test]
fn the_last_snapshots_are_kept_and_the_others_freed() {
    let tool = Tool::new();
    // Released at the end alone, and too late for the run to free anything itself.
    paused(&tool, &["--retain", "all"]);
    let told = tool.run(&["resume", "-q", "--retain", "3", "--pause-after", "2550000", "x"]);
    assert_eq!(told.code, 75, "{told:?}");
    let kept = snapshots(&tool);
    assert_eq!(kept.len(), 3);
    assert_eq!(tool.json(&["ls", "--json"])[0]["snapshots"], 3);
    let freed = tool.json(&["gc", "--json"]);
    assert_eq!(files(&tool, "snapshots").len(), 3, "{freed}");
    let bytes = |key: &str| freed[key].as_u64().unwrap();
    assert!(bytes("bytes_removed") > bytes("bytes_written"), "{freed}");
    assert_eq!(
        tool.run(&["gc"]).out,
        "freed 0 bytes: 0 snapshots, 0 modules, 0 packs (0 new ones hold what is needed of them)\n"
    );
    let verified = tool.run(&["verify"]);
    assert_eq!(verified.code, 0, "{verified:?}");
    assert_eq!(snapshots(&tool), kept);
    // One of them begins a job of its own, and the job goes on.
    let forked = tool.run(&["resume", "-q", "--job", "y", "--every", "never", &kept[0]]);
    assert_eq!(forked.code, 0, "{forked:?}");
    let told = tool.run(&["resume", "-q", "--retain", "all", "--every", "50000fuel", "x"]);
    assert_eq!((told.code, told.out.lines().last()), (0, printed(LINES).lines().last()), "{told:?}");
    for bad in ["0", "-1", "some"] {
        assert_eq!(tool.run(&["run", "--retain", bad, "lines.wasm"]).code, 2);
    }
}

#[test]
fn a_long_run_frees_what_it_releases() {
    let tool = Tool::new();
    tool.wat("lines.wasm", &lines(500, 2000, STDOUT));
    let args = [
        "run",
        "-q",
        "--job",
        "x",
        "--every",
        "5000fuel",
        "--retain",
        "2",
        "--compress",
        "fast",
        "lines.wasm",
    ];
    let told = tool.run(&args);
    assert_eq!((told.code, told.out == printed(500)), (0, true), "{}", told.err);
    let (manifests, packs) = (files(&tool, "snapshots").len(), files(&tool, "packs").len());
    println!("after 200 snapshots or more: {manifests} manifests, {packs} packs");
    assert!(manifests < 170 && packs < 170, "{manifests} manifests, {packs} packs");
    assert_eq!(tool.run(&["verify"]).code, 0);
    tool.json(&["gc", "--json"]);
    assert_eq!(files(&tool, "snapshots").len(), 0, "it has ended");
}

#[test]
fn released_snapshots_are_not_counted_when_more_are_to_be_kept() {
    let tool = Tool::new();
    paused(&tool, &["--retain", "3"]);
    tool.json(&["gc", "--json"]);
    let more = ["--retain", "20", "--every", "50000fuel", "--pause-after", "2700000"];
    let told = tool.run(&[&["resume", "-q", "x"], &more[..]].concat());
    assert_eq!(told.code, 75, "{told:?}");
    let kept = snapshots(&tool).len();
    assert!((4..12).contains(&kept), "{kept} snapshots");
    assert_eq!(tool.json(&["ls", "--json"])[0]["snapshots"], kept);
}

#[test]
fn a_job_that_goes_back_reads_again_what_it_had_read_from_a_pipe() {
    let tool = Tool::new();
    let guest = concat!(env!("CARGO_MANIFEST_DIR"), "/guests/wasm/streams.wasm");
    let text: String = (0..200).map(|n| format!("line {n} of the input\n")).collect();
    let given = |args: &[&str], text: &str| {
        let (read, mut write) = std::io::pipe().unwrap();
        write.write_all(text.as_bytes()).unwrap();
        (tool.command(args).stdin(read).stdout(Stdio::null()).spawn().unwrap(), write)
    };
    let run = |job: &'static str| {
        ["run", "-q", "--job", job, "--every", "20ms", "--retain", "all", guest, "copy", "500000"]
    };
    let (mut straight, end) = given(&run("straight"), &text);
    drop(end);
    assert_eq!(straight.wait().unwrap().code(), Some(0));
    let half = text.find("line 100 ").unwrap();
    let (child, end) = given(&run("x"), &text[..half]);
    let mut child = Running(child);
    // Then it has read all of it, and waits for more.
    let printed = |job: &str| tool.run(&["output", job]).out;
    wait_until("all read", || printed("x").lines().count() == 100);
    child.signal("TERM");
    assert_eq!(child.0.wait().unwrap().code(), Some(75));
    drop(end);
    let all = snapshots(&tool);
    assert!(all.len() > 3, "{} snapshots", all.len());
    let args = ["resume", "-q", "x", "--from", &all[0], "--input-from", "now"];
    let (mut child, end) = given(&args, &text[half..]);
    drop(end);
    assert_eq!(child.wait().unwrap().code(), Some(0));
    assert_eq!(printed("x"), printed("straight"));
}

/// Flips a bit of the pack that was written last, which holds what is new of the last snapshot.
fn damage_last_pack(tool: &Tool) {
    let modified = |path: &PathBuf| fs::metadata(path).unwrap().modified().unwrap();
    let last = files(tool, "packs").into_iter().max_by_key(modified).unwrap();
    let mut bytes = fs::read(&last).unwrap();
    bytes[30] ^= 4;
    fs::write(&last, bytes).unwrap();
}

#[test]
fn of_a_damaged_snapshot_the_chunk_is_named_and_the_one_before_offered() {
    let tool = Tool::new();
    // So few that their packs are not merged.
    paused_every(&tool, "500000fuel", &[]);
    let all = snapshots(&tool);
    damage_last_pack(&tool);
    let refused = tool.command(&["resume", "x"]).output().unwrap();
    let err = String::from_utf8(refused.stderr).unwrap();
    assert_eq!(refused.status.code(), Some(68), "{err}");
    assert!(refused.stdout.is_empty(), "nothing of it runs");
    let from = err.trim_end().trim_end_matches('`').rsplit(' ').next().unwrap();
    assert!(all[..all.len() - 1].iter().any(|id| id.starts_with(from)), "{from} is not before it: {err}");
    for part in ["job `x` cannot go on from snapshot `", "chunk ", "packs/", " is damaged: its frame at byte"]
    {
        assert!(err.contains(part), "`{part}` is not in {err}");
    }
    assert!(err.ends_with(&format!("is whole: `wasm-ckpt resume x --from {from}`\n")), "{err}");
    let unknown = tool.run(&["resume", "x", "--from", &"0".repeat(12)]);
    assert_eq!(unknown.code, 66, "{unknown:?}");
    let told = tool.run(&["resume", "-q", "x", "--from", from]);
    assert_eq!((told.code, told.out.lines().last()), (0, printed(LINES).lines().last()), "{told:?}");
    // What cannot be read any more is not needed either, and goes.
    tool.json(&["gc", "--json"]);
    assert_eq!(tool.run(&["verify"]).code, 0);
}

#[test]
fn what_was_found_damaged_is_stored_anew() {
    for again in [&["--new", "--job", "x"][..], &["--job", "y"]] {
        let tool = Tool::new();
        paused_every(&tool, "500000fuel", &[]);
        damage_last_pack(&tool);
        assert_eq!(tool.run(&["resume", "-q", "x"]).code, 68);
        let pausing = ["-q", "--every", "500000fuel", "--pause-after", "2500000", "lines.wasm"];
        let told = tool.run(&[&["run"], again, &pausing].concat());
        assert_eq!(told.code, 75, "{told:?}");
        // The chunks are those that the snapshots before need, too.
        let jobs = if again.contains(&"y") { &["y", "x"][..] } else { &["x"] };
        for job in jobs {
            let told = tool.run(&["resume", "-q", job]);
            assert_eq!((told.code, told.out.lines().last()), (0, printed(LINES).lines().last()), "{told:?}");
            assert_eq!(tool.run(&["output", job]).out, printed(LINES));
        }
        tool.json(&["gc", "--json"]);
        assert_eq!(tool.run(&["verify"]).code, 0);
        assert_eq!(files(&tool, "unfit").len(), 0);
    }
}

#[test]
fn every_flipped_bit_is_found_or_harmless() {
    let tool = Tool::new();
    paused(&tool, &["--retain", "1"]);
    tool.json(&["gc", "--json"]);
    let whole = tool.run(&["output", "x"]);
    let mut found = 0;
    for path in files(&tool, "packs").into_iter().chain(files(&tool, "snapshots")) {
        let bytes = fs::read(&path).unwrap();
        for at in (0..bytes.len()).step_by(bytes.len() / 12 + 1) {
            let mut damaged = bytes.clone();
            damaged[at] ^= 0x10;
            fs::write(&path, damaged).unwrap();
            let (verified, shown) = (tool.run(&["verify"]), tool.run(&["output", "x"]));
            assert_eq!(verified.code, 68, "byte {at} of {path:?}: {verified:?}");
            assert!(shown.code == 68 || shown.out == whole.out, "byte {at} of {path:?}: {shown:?}");
            found += 1;
        }
        fs::write(&path, bytes).unwrap();
    }
    assert!(found > 20, "{found}");
    assert_eq!(tool.run(&["resume", "-q", "x"]).code, 0);
}

#[test]
fn a_full_disk_costs_no_snapshot_and_room_is_made_on_it() {
    let tool = Tool::new();
    let Some(disk) = SmallDisk::new(&tool, "1m") else { return };
    paused(&tool, &["--retain", "all"]);
    let before = snapshots(&tool);
    disk.fill();
    // Pausing without room is refused, and says what to do.
    let args = ["resume", "x", "--every", "never", "--retain", "2", "--pause-after", "2600000"];
    let refused = tool.run(&args);
    assert_eq!(refused.code, 74, "{refused:?}");
    assert!(refused.err.contains("no space left"), "{refused:?}");
    assert!(refused.err.contains("hint: free some space"), "{refused:?}");
    assert_eq!(snapshots(&tool), before);
    assert_eq!(tool.run(&["verify"]).code, 0);
    disk.free();
    let told = tool.run(&args);
    assert_eq!(told.code, 75, "{told:?}");
    // Released snapshots are freed on a full disk as well.
    disk.fill();
    let freed = tool.run(&["gc", "--json"]);
    println!("{freed:?}");
    disk.free();
    let told = tool.run(&["resume", "-q", "x"]);
    assert_eq!((told.code, told.out.lines().last()), (0, printed(LINES).lines().last()), "{told:?}");
}

/// The job's last snapshot, exported.
fn exported(tool: &Tool) -> Vec<u8> {
    paused_every(tool, "500000fuel", &[]);
    let told = tool.run(&["export", "x", "-o", "x.ckpt"]);
    assert_eq!(told.code, 0, "{told:?}");
    fs::read(tool.path("x.ckpt")).unwrap()
}

#[test]
fn an_import_whose_file_comes_slowly_ends_while_gc_waits_for_it() {
    let tool = Tool::new();
    let file = exported(&tool);
    let (first, rest) = file.split_at(file.len() - 100);
    let (read, mut write) = std::io::pipe().unwrap();
    let mut import = Running::spawn(tool.command(&["import", "--job", "y", "-"]).stdin(read));
    write.write_all(first).unwrap();
    thread::sleep(Duration::from_millis(500));
    let mut gc = Running::spawn(tool.command(&["gc"]).stdout(Stdio::null()));
    thread::sleep(Duration::from_millis(500));
    let begun = Instant::now();
    write.write_all(rest).unwrap();
    drop(write);
    assert_eq!(import.0.wait().unwrap().code(), Some(0));
    assert_eq!(gc.0.wait().unwrap().code(), Some(0));
    assert!(begun.elapsed() < Duration::from_secs(20), "{:?}", begun.elapsed());
    assert_eq!(tool.run(&["verify", "y"]).code, 0);
}

#[test]
fn a_gc_that_waits_for_a_slow_import_keeps_no_job_from_pausing() {
    let tool = Tool::new();
    let file = exported(&tool);
    let (read, mut write) = std::io::pipe().unwrap();
    let _import = Running::spawn(tool.command(&["import", "--job", "y", "-"]).stdin(read));
    write.write_all(&file[..100]).unwrap();
    tool.wat("spin.wasm", r#"(module (memory 1) (func (export "_start") (loop (br 0))))"#);
    let args = ["run", "-q", "--job", "z", "--every", "100ms", "spin.wasm"];
    let mut job = Running::spawn(&mut tool.command(&args));
    thread::sleep(Duration::from_secs(1));
    let _gc = Running::spawn(tool.command(&["gc"]).stderr(Stdio::null()));
    thread::sleep(Duration::from_secs(1));
    let taken = || {
        let jobs = tool.json(&["ls", "--json"]);
        jobs.as_array().unwrap().iter().find(|job| job["job"] == "z").unwrap()["snapshots"].as_u64().unwrap()
    };
    let before = taken();
    thread::sleep(Duration::from_secs(4));
    assert!(taken() > before + 2, "{before} snapshots, and now {}", taken());
    let begun = Instant::now();
    job.signal("TERM");
    assert_eq!(job.0.wait().unwrap().code(), Some(75));
    assert!(begun.elapsed() < Duration::from_secs(4), "{:?}", begun.elapsed());
}

#[test]
fn verify_finds_no_damage_in_what_a_job_releases_meanwhile() {
    let tool = Tool::new();
    tool.wat("lines.wasm", &lines(1_000_000, 20_000, STDOUT));
    let args = ["run", "-q", "--job", "x", "--every", "1ms", "--retain", "4", "lines.wasm"];
    let _job = Running::spawn(tool.command(&args).stdout(Stdio::null()));
    thread::sleep(Duration::from_secs(1));
    for _ in 0..20 {
        let told = tool.run(&["verify"]);
        assert_eq!(told.code, 0, "{told:?}");
        let shown = tool.command(&["output", "x"]).stdout(Stdio::null()).output().unwrap();
        assert_eq!(shown.status.code(), Some(0), "{shown:?}");
    }
}

#[test]
fn verify_finds_a_snapshot_that_is_missing() {
    let tool = Tool::new();
    paused(&tool, &["--retain", "5"]);
    assert_eq!(tool.run(&["verify"]).code, 0);
    let second = snapshots(&tool)[1].clone();
    let file = files(&tool, "snapshots").into_iter().find(|path| path.ends_with(&second)).unwrap();
    fs::remove_file(file).unwrap();
    let told = tool.run(&["verify"]);
    assert_eq!(told.code, 68, "{told:?}");
    assert!(told.out.contains("damaged: job `x`: there is no snapshot `#`"), "{told:?}");
}

#[test]
fn verify_reads_the_disks_of_jobs_that_have_ended() {
    let tool = Tool::new();
    tool.wat("nop.wasm", r#"(module (memory (export "memory") 1) (func (export "_start")))"#);
    fs::create_dir(tool.path("src")).unwrap();
    fs::write(tool.path("src/file"), "on the disk\n").unwrap();
    let told = tool.run(&["run", "-q", "--job", "x", "--disk", "/w=src", "nop.wasm"]);
    assert_eq!(told.code, 0, "{told:?}");
    tool.json(&["gc", "--json"]);
    assert_eq!(tool.run(&["verify"]).code, 0);
    files(&tool, "packs").into_iter().for_each(|pack| fs::remove_file(pack).unwrap());
    assert_eq!(tool.run(&["cp", "x:/w/file", "-"]).code, 68);
    let told = tool.run(&["verify"]);
    assert_eq!(told.code, 68, "{told:?}");
    assert!(told.out.contains("damaged: job `x`: its disk `/w`"), "{told:?}");
}

#[test]
fn verify_reads_what_a_job_has_read_from_a_pipe() {
    let tool = Tool::new();
    let guest = concat!(env!("CARGO_MANIFEST_DIR"), "/guests/wasm/streams.wasm");
    let (read, mut write) = std::io::pipe().unwrap();
    let args = ["run", "-q", "--job", "x", "--every", "50ms", guest, "copy", "1000"];
    let mut job = Running::spawn(tool.command(&args).stdin(read).stdout(Stdio::null()));
    for n in 0..3 {
        write.write_all(format!("line {n}\n").as_bytes()).unwrap();
        thread::sleep(Duration::from_secs(1));
    }
    job.signal("TERM");
    assert_eq!(job.0.wait().unwrap().code(), Some(75));
    assert_eq!(tool.run(&["verify"]).code, 0);
    let pieces = files(&tool, "jobs/x/stdin");
    assert!(pieces.len() >= 3, "{pieces:?}");
    for piece in pieces {
        let whole = fs::read(&piece).unwrap();
        let mut damaged = whole.clone();
        *damaged.last_mut().unwrap() ^= 1;
        fs::write(&piece, damaged).unwrap();
        let told = tool.run(&["verify"]);
        assert_eq!(told.code, 68, "{piece:?}: {told:?}");
        assert!(told.out.contains("damaged: job `x`: `the standard input"), "{told:?}");
        fs::write(&piece, whole).unwrap();
    }
    let first = files(&tool, "jobs/x/stdin").into_iter().min().unwrap();
    fs::remove_file(first).unwrap();
    assert_eq!(tool.run(&["verify"]).code, 68);
}
