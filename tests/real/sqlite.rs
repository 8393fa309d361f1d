//! SQLite with databases in files.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::common::{Random, guests};
use crate::harness::{Ended, Program, fetched, in_ci, reference, straight_and_moved};

/// Ways to keep a journal that need no shared memory (WAL does).
const MODES: [&str; 5] = ["DELETE", "TRUNCATE", "PERSIST", "MEMORY", "OFF"];

const KILLS: u64 = 10;
/// Transactions of the job that is killed.
const TRANSACTIONS: u64 = 1500;
/// Rows of each.
const ROWS: u64 = 7;

/// The task of `guests/tasks` in a journal mode, and the program that runs it in an empty directory.
fn task(sqlite: &Path, mode: &str, dir: &Path) -> Program {
    let sql = fs::read_to_string(guests().join("tasks/task.sql")).unwrap();
    let changed = sql.replace("journal_mode = DELETE", &format!("journal_mode = {mode}"));
    assert!(changed.contains(&format!("journal_mode = {mode}")));
    // A savepoint cannot be rolled back without a journal.
    let changed = if mode == "OFF" { changed.replace("ROLLBACK TO attempt;", "") } else { changed };
    fs::write(dir.join("task.sql"), changed).unwrap();
    Program::new(sqlite.to_path_buf(), &["/task.db", "/task.sql", "1"]).dir(dir, "/", false)
}

#[test]
fn every_journal_mode_does_what_it_does_on_plain_wasmtime() {
    let Some(sqlite) = fetched("sqlite.wasm") else { return };
    let seed = u64::from(std::process::id());
    println!("seed of the moves: {seed}");
    for mode in MODES {
        let run = |how: &dyn Fn(&Program) -> Ended| {
            let dir = tempfile::tempdir().unwrap();
            let ended = how(&task(&sqlite, mode, dir.path()));
            let mut names: Vec<_> =
                fs::read_dir(dir.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
            names.sort();
            (ended, names, fs::read(dir.path().join("task.db")).unwrap())
        };
        let expected = run(&reference);
        assert_eq!(expected.0.code, Some(0), "{mode}, plain: {:?}", expected.0);
        assert!(expected.0.out.starts_with(&mode.to_lowercase()), "{mode}: {}", expected.0.out);
        assert!(expected.0.out.contains("\nok\n"), "{mode}: {}", expected.0.out);
        for (found, how) in straight_and_moved(run, |fuel| fuel, 10, seed) {
            assert_eq!(found.0, expected.0, "{mode}, {how}");
            assert_eq!(found.1, expected.1, "{mode}, {how}: files");
            // Not compared by `assert_eq`, which would print them.
            assert!(found.2 == expected.2, "{mode}, {how}: the database differs");
        }
    }
}

/// A program of small transactions, each of which tells that it is done.
fn transactions(mode: &str) -> String {
    let mut sql = format!("PRAGMA journal_mode = {mode};\nPRAGMA cache_size = 20;\n");
    sql += "CREATE TABLE t (n INTEGER, part INTEGER, text TEXT, PRIMARY KEY (n, part));\nCREATE INDEX by_text ON t (text);\n";
    for n in 0..TRANSACTIONS {
        sql += "BEGIN;\n";
        for part in 0..ROWS {
            sql +=
                &format!("INSERT INTO t VALUES ({n}, {part}, hex({}));\n", (n * 48271 + part * 7919) % 65521);
        }
        if n > 10 && n % 5 == 0 {
            sql += &format!("UPDATE t SET text = text || 'x' WHERE n = {};\n", n / 2);
        }
        sql += &format!("COMMIT;\nSELECT 'committed', {n};\n");
    }
    sql + "PRAGMA integrity_check;\nSELECT count(*), sum(n), sum(part), sum(length(text)) FROM t;\n"
}

/// A database on a private disk, written while the process is killed ten times: memory and disk go back to the same
/// instant each time, so that it prints and holds what it does undisturbed.
#[test]
fn a_database_survives_ten_kills() {
    let Some(sqlite) = fetched("sqlite.wasm") else { return };
    let mut random = Random(u64::from(std::process::id()));
    println!("seed of the kills: {}", random.0);
    for mode in MODES.into_iter().take(if in_ci() { MODES.len() } else { 2 }) {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("sql")).unwrap();
        fs::write(dir.path().join("sql/run.sql"), transactions(mode)).unwrap();
        let job = Job { sqlite: sqlite.clone(), dir: dir.path().to_path_buf() };
        let (took, expected) = job.undisturbed(mode);
        let (mut kills, began) = (0, Instant::now());
        let code = loop {
            let mut child = job.command("killed").spawn().unwrap();
            if kills < KILLS {
                let part = took.as_millis() as u64 / KILLS;
                std::thread::sleep(Duration::from_millis(part / 4 + random.below(part)));
                assert!(
                    child.try_wait().unwrap().is_none(),
                    "it ended before it was killed {} times",
                    kills + 1
                );
                child.kill().unwrap();
                kills += 1;
            }
            let status = child.wait().unwrap();
            if let Some(code) = status.code() {
                break code;
            }
            assert!(began.elapsed() < Duration::from_secs(300), "{mode}: it does not get on");
        };
        assert_eq!(code, 0, "{mode}: {}", job.told("killed"));
        let found = fs::read_to_string(dir.path().join("killed.out")).unwrap();
        assert!(found == expected, "{mode}, killed {kills} times: {}", difference(&expected, &found));
        job.check_database("killed", mode);
        println!("{mode}: {took:?} undisturbed, killed {kills} times in {:?}", began.elapsed());
    }
}

struct Job {
    sqlite: PathBuf,
    dir: PathBuf,
}

impl Job {
    fn tool(&self) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_wasm-ckpt"));
        command.env("WASM_CKPT_STORE", self.dir.join("store")).stdin(Stdio::null());
        command.env("XDG_CACHE_HOME", Path::new(env!("CARGO_TARGET_TMPDIR")).join("xdg-cache"));
        command
    }

    /// The job of this name, begun or continued; its output goes to a file of that name.
    fn command(&self, name: &str) -> Command {
        let mut command = self.tool();
        let sql = format!("{}::/sql:ro", self.dir.join("sql").display());
        command.args([
            "run", "--job", name, "--every", "50ms", "--seed", "3", "--quiet", "--disk", "/data", "--dir",
            &sql,
        ]);
        command.arg(&self.sqlite).args(["/data/task.db", "/sql/run.sql"]);
        let append = |kind: &str| {
            File::options().create(true).append(true).open(self.dir.join(format!("{name}.{kind}"))).unwrap()
        };
        command.stdout(append("out")).stderr(append("err"));
        command
    }

    fn told(&self, name: &str) -> String {
        fs::read_to_string(self.dir.join(format!("{name}.err"))).unwrap_or_default()
    }

    /// How long it takes once it is compiled, and what it prints.
    fn undisturbed(&self, mode: &str) -> (Duration, String) {
        let mut took = Duration::ZERO;
        for name in ["first", "straight"] {
            let began = Instant::now();
            assert_eq!(self.command(name).status().unwrap().code(), Some(0), "{mode}: {}", self.told(name));
            took = began.elapsed();
        }
        let printed = fs::read_to_string(self.dir.join("straight.out")).unwrap();
        let mut expected = format!("{}\n", mode.to_lowercase());
        for n in 0..TRANSACTIONS {
            expected += &format!("committed|{n}\n");
        }
        expected += &format!("ok\n{}|", TRANSACTIONS * ROWS);
        assert!(printed.starts_with(&expected), "{mode}: {}", difference(&expected, &printed));
        (took, printed)
    }

    /// Takes the database out of the finished job, and asks the reference implementation about it.
    fn check_database(&self, name: &str, mode: &str) {
        let out = tempfile::tempdir().unwrap();
        let copy = out.path().join("copy.db");
        let told = self.tool().arg("cp").arg(format!("{name}:/data/task.db")).arg(&copy).output().unwrap();
        assert!(told.status.success(), "{mode}: {}", String::from_utf8_lossy(&told.stderr));
        let sql = "PRAGMA integrity_check; SELECT count(*), count(DISTINCT n) FROM t;";
        fs::write(out.path().join("check.sql"), sql).unwrap();
        let check =
            Program::new(self.sqlite.clone(), &["/copy.db", "/check.sql"]).dir(out.path(), "/", false);
        let ended = reference(&check);
        assert_eq!(
            ended.out,
            format!("ok\n{}|{TRANSACTIONS}\n", TRANSACTIONS * ROWS),
            "{mode}: {}",
            ended.err
        );
    }
}

/// The first line in which two outputs differ.
fn difference(expected: &str, found: &str) -> String {
    let (mut expected, mut found) = (expected.lines(), found.lines());
    for n in 1.. {
        match (expected.next(), found.next()) {
            (None, None) => break,
            (a, b) if a != b => return format!("line {n}: expected {a:?}, found {b:?}"),
            _ => {}
        }
    }
    "line ends".to_string()
}
