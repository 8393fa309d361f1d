//! Ways out of a preopened directory, and ways to make the host hang, crash or fill up: each by name, with the error
//! number that it gets.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use tempfile::TempDir;
use wasm_ckpt::wasi::Errno::{self, *};
use wasm_ckpt::wasi::{Config, Preopen};

use crate::sides::{Answer, Ours, Side, call};

const OUT: u64 = 0;
const PATH: u32 = 0x1_0000;
const TARGET: u32 = 0x20_0000;
const LIST: u32 = 0x1000;
const DATA: u32 = 0x2000;
const MEMORY: usize = 8 << 20;

const READ: u64 = 1 << 1;
const WRITE: u64 = 1 << 6;
const CREAT: u64 = 1;
const DIRECTORY: u64 = 2;

/// What the guest must never see.
const SECRET: &[u8] = b"secret";

/// Longest that any of these may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// Runs the attack; the test fails if it hangs.
fn watched(attack: impl FnOnce() + Send + 'static) {
    let (done, wait) = mpsc::channel();
    let thread = std::thread::spawn(move || {
        attack();
        done.send(()).unwrap();
    });
    match wait.recv_timeout(PATIENCE) {
        Ok(()) => thread.join().unwrap(),
        Err(mpsc::RecvTimeoutError::Timeout) => panic!("it hangs"),
        Err(mpsc::RecvTimeoutError::Disconnected) => std::panic::resume_unwind(thread.join().unwrap_err()),
    }
}

/// A guest with one directory, its descriptor 3.
struct Guest(Ours);

impl Guest {
    fn new(dir: &Path) -> Self {
        let dirs = vec![Preopen { host: dir.to_path_buf(), guest: "/".to_string(), read_only: false }];
        Self(Ours::with_memory(Config { dirs, ..Config::default() }, MEMORY))
    }

    fn call(&mut self, name: &'static str, args: &[u64]) -> Result<(), u32> {
        match self.0.call(&call(name, args)) {
            Answer::Errno(0) => Ok(()),
            Answer::Errno(errno) => Err(errno),
            other => panic!("{other:?}"),
        }
    }

    fn path(&mut self, at: u32, path: impl AsRef<[u8]>) -> (u64, u64) {
        self.0.put(at, path.as_ref());
        (u64::from(at), path.as_ref().len() as u64)
    }

    /// Opens a path, following links.
    fn open_at(&mut self, dir: u64, path: impl AsRef<[u8]>, oflags: u64, rights: u64) -> Result<u64, u32> {
        let (path, len) = self.path(PATH, path);
        self.call("path_open", &[dir, 1, path, len, oflags, rights, rights, 0, OUT])?;
        Ok(u64::from(self.0.get_u32(0)))
    }

    fn open(&mut self, path: impl AsRef<[u8]>, oflags: u64, rights: u64) -> Result<u64, u32> {
        self.open_at(3, path, oflags, rights)
    }

    fn at_path(&mut self, name: &'static str, path: impl AsRef<[u8]>) -> Result<(), u32> {
        let (path, len) = self.path(PATH, path);
        self.call(name, &[3, path, len])
    }

    fn stat(&mut self, path: impl AsRef<[u8]>) -> Result<u8, u32> {
        let (path, len) = self.path(PATH, path);
        self.call("path_filestat_get", &[3, 1, path, len, OUT])?;
        Ok(self.0.get(16, 1)[0])
    }

    fn two_paths(
        &mut self,
        name: &'static str,
        old: impl AsRef<[u8]>,
        new: impl AsRef<[u8]>,
    ) -> Result<(), u32> {
        let ((old, old_len), (new, new_len)) = (self.path(PATH, old), self.path(TARGET, new));
        match name {
            "path_link" => self.call(name, &[3, 0, old, old_len, 3, new, new_len]),
            "path_rename" => self.call(name, &[3, old, old_len, 3, new, new_len]),
            "path_symlink" => self.call(name, &[old, old_len, 3, new, new_len]),
            _ => panic!("{name}"),
        }
    }

    fn read(&mut self, fd: u64, len: u32) -> Result<Vec<u8>, u32> {
        self.buffers(&[(DATA, len)]);
        self.call("fd_read", &[fd, u64::from(LIST), 1, OUT])?;
        let n = self.0.get_u32(0);
        Ok(self.0.get(DATA, n))
    }

    fn buffers(&mut self, list: &[(u32, u32)]) {
        for (n, (at, len)) in (0..).zip(list) {
            self.0.put(LIST + n * 8, &at.to_le_bytes());
            self.0.put(LIST + n * 8 + 4, &len.to_le_bytes());
        }
    }
}

fn no<T>(errno: Errno) -> Result<T, u32> {
    Err(errno.code())
}

/// A directory `in` for the guest, beside a secret file and a directory with another.
fn prison() -> (TempDir, PathBuf) {
    let dir = crate::place(1);
    fs::write(dir.path().join("secret"), SECRET).unwrap();
    fs::create_dir(dir.path().join("outside")).unwrap();
    fs::write(dir.path().join("outside/file"), SECRET).unwrap();
    let inside = dir.path().join("in");
    fs::create_dir_all(inside.join("d/e")).unwrap();
    fs::write(inside.join("file"), b"inside").unwrap();
    (dir, inside)
}

/// Tries everything on a path that leads out: nothing is found, made, changed or removed there.
fn leads_nowhere(guest: &mut Guest, way: &str) {
    for (oflags, rights) in [(0, READ), (CREAT, WRITE), (CREAT, READ | WRITE), (DIRECTORY, READ), (8, WRITE)]
    {
        assert_eq!(guest.open(way, oflags, rights), no(Perm), "open {way} {oflags}");
    }
    assert_eq!(guest.stat(way), no(Perm), "stat {way}");
}

#[test]
fn symlink_out() {
    let (dir, inside) = prison();
    for (name, target) in [
        ("out", "../secret"),
        ("up", ".."),
        ("winding", "d/../d/e/../../../secret"),
        ("d/far", "../../outside"),
    ] {
        symlink(target, inside.join(name)).unwrap();
    }
    let mut guest = Guest::new(&inside);
    for way in ["out", "up/secret", "up", "winding", "d/far/file", "d/far", "d/../out", "d/e/../../up/secret"]
    {
        leads_nowhere(&mut guest, way);
    }
    // One that the guest makes itself.
    assert_eq!(guest.two_paths("path_symlink", "../outside", "mine"), Ok(()));
    leads_nowhere(&mut guest, "mine/file");
    for (way, name) in [
        ("up/secret", "path_unlink_file"),
        ("up/outside", "path_remove_directory"),
        ("mine/new", "path_create_directory"),
    ] {
        assert_eq!(guest.at_path(name, way), no(Perm), "{name} {way}");
    }
    assert_eq!(guest.two_paths("path_rename", "up/secret", "stolen"), no(Perm));
    assert_eq!(guest.two_paths("path_rename", "file", "mine/given"), no(Perm));
    assert_eq!(guest.two_paths("path_symlink", "x", "mine/link"), no(Perm));
    assert_eq!(fs::read(dir.path().join("secret")).unwrap(), SECRET);
    assert_eq!(fs::read_dir(dir.path().join("outside")).unwrap().count(), 1);
}

#[test]
fn absolute_symlink() {
    let (dir, inside) = prison();
    symlink(dir.path().join("secret"), inside.join("abs")).unwrap();
    symlink("/", inside.join("root")).unwrap();
    // Also one that leads back inside: what the host calls its directories is none of the guest's business.
    symlink(inside.join("file"), inside.join("back")).unwrap();
    let mut guest = Guest::new(&inside);
    for way in ["abs", "root/etc/passwd", "root", "back", "/etc/passwd", "/"] {
        leads_nowhere(&mut guest, way);
    }
    assert_eq!(guest.two_paths("path_symlink", "/etc/passwd", "mine"), no(Perm));
    let (path, len) = guest.path(PATH, "abs");
    let told = guest.call("path_readlink", &[3, path, len, u64::from(DATA), 4096, OUT]);
    assert_eq!(told, no(Perm), "where it leads is not told");
}

#[test]
fn chains_of_dots() {
    let (dir, inside) = prison();
    let mut guest = Guest::new(&inside);
    let long = format!("{}secret", "../".repeat(1000));
    let within = format!("{}secret", "d/../".repeat(300) + "../");
    for way in ["..", "../secret", "d/../../secret", "./.././secret", "d/e/../../../secret", &long, &within] {
        leads_nowhere(&mut guest, way);
    }
    // From a directory within, its parent is as closed as any other.
    let d = guest.open("d", DIRECTORY, READ).unwrap();
    for way in ["..", "../file", "../../secret", "e/../../file"] {
        assert_eq!(guest.open_at(d, way, 0, READ), no(Perm), "{way}");
    }
    assert_eq!(guest.open(format!("{}file", "d/../".repeat(300)), 0, READ).map(drop), Ok(()));
    assert_eq!(fs::read(dir.path().join("secret")).unwrap(), SECRET);
}

#[test]
fn hard_link_out() {
    let (dir, inside) = prison();
    symlink("../secret", inside.join("out")).unwrap();
    symlink("..", inside.join("up")).unwrap();
    let mut guest = Guest::new(&inside);
    for old in ["../secret", "up/secret", "/etc/passwd"] {
        assert_eq!(guest.two_paths("path_link", old, "stolen"), no(Perm), "{old}");
    }
    for new in ["../given", "up/given", "/tmp/given"] {
        assert_eq!(guest.two_paths("path_link", "file", new), no(Perm), "{new}");
    }
    // A link to a link is one to the link itself, and leads out no more than that does.
    assert_eq!(guest.two_paths("path_link", "out", "twin"), Ok(()));
    assert!(inside.join("twin").is_symlink());
    leads_nowhere(&mut guest, "twin");
    // Following it is not to be had.
    let ((old, old_len), (new, new_len)) = (guest.path(PATH, "out"), guest.path(TARGET, "followed"));
    assert_eq!(guest.call("path_link", &[3, 1, old, old_len, 3, new, new_len]), no(Inval));
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 3);
}

/// A directory on the way is by turns a directory and a link to the outside: never a byte from there.
#[test]
fn race_of_rename_and_open() {
    let (_dir, inside) = prison();
    fs::write(inside.join("d/file"), b"inside").unwrap();
    fs::create_dir(inside.join("d/outside")).unwrap();
    let stop = AtomicBool::new(false);
    let (mut opened, mut refused) = (0, 0);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let (d, aside, link) = (inside.join("d"), inside.join("aside"), inside.join("link"));
            symlink("../outside", &link).unwrap();
            while !stop.load(Ordering::Relaxed) {
                fs::rename(&d, &aside).unwrap();
                fs::rename(&link, &d).unwrap();
                fs::rename(&d, &link).unwrap();
                fs::rename(&aside, &d).unwrap();
            }
        });
        // The other thread ends also when this one panics.
        let _stop = Stop(&stop);
        let mut guest = Guest::new(&inside);
        let began = Instant::now();
        while began.elapsed() < Duration::from_secs(2) {
            let Ok(fd) = guest.open("d/file", 0, READ) else {
                refused += 1;
                continue;
            };
            assert_eq!(guest.read(fd, 100).unwrap(), b"inside");
            guest.call("fd_close", &[fd]).unwrap();
            // Nor is anything made there.
            if let Ok(fd) = guest.open("d/new", CREAT, WRITE) {
                guest.call("fd_close", &[fd]).unwrap();
            }
            opened += 1;
        }
    });
    assert!(opened > 10 && refused > 10, "a race that was not run: {opened} opened, {refused} refused");
    let outside: Vec<_> = fs::read_dir(inside.join("../outside")).unwrap().collect();
    assert_eq!(outside.len(), 1, "{outside:?}");
}

struct Stop<'a>(&'a AtomicBool);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[test]
fn proc_tricks() {
    let (dir, inside) = prison();
    // By links from within.
    for (name, target) in [("fd", "/proc/self/fd"), ("root", "/proc/self/root"), ("cwd", "/proc/self/cwd")] {
        symlink(target, inside.join(name)).unwrap();
    }
    let mut guest = Guest::new(&inside);
    for way in ["fd", "fd/0", "fd/3", "root/etc/passwd", "cwd/Cargo.toml"] {
        leads_nowhere(&mut guest, way);
    }
    // With `/proc` itself given to the guest, which is unwise: its links of another kind are not followed even so.
    let held = fs::File::open(dir.path().join("secret")).unwrap();
    let fd = std::os::fd::AsRawFd::as_raw_fd(&held);
    let mut guest = Guest::new(Path::new("/proc/self"));
    for way in [
        "root/etc/passwd",
        "root",
        "cwd",
        "cwd/Cargo.toml",
        "exe",
        "fd/0",
        &format!("fd/{fd}"),
        "task/../root/etc/passwd",
    ] {
        for (oflags, rights) in [(0, READ), (0, WRITE), (DIRECTORY, READ)] {
            let got = guest.open(way, oflags, rights);
            assert!([no(Perm), no(Loop), no(Xdev)].contains(&got), "{way}: {got:?}");
        }
    }
}

#[test]
fn device_files() {
    watched(|| {
        let mut guest = Guest::new(Path::new("/dev"));
        // Always the same, so that they need no state.
        for (name, read) in [("null", &b""[..]), ("zero", &[0; 5]), ("full", &[0; 5])] {
            let fd = guest.open(name, 0, READ).unwrap();
            assert_eq!(guest.read(fd, 5).unwrap(), read, "{name}");
        }
        for name in [
            "mem", "kmem", "port", "urandom", "random", "tty", "console", "ptmx", "kmsg", "loop0", "vda",
            "sda",
        ] {
            let there = Path::new("/dev").join(name).exists();
            let got = guest.open(name, 0, READ);
            // Without rights on it, the host speaks first.
            let refused = [no(Notsup), no(Acces), no(Perm), no(Nxio), no(Io), no(Nodev)];
            assert!(if there { refused.contains(&got) } else { got == no(Noent) }, "{name}: {got:?}");
        }
    });
}

#[test]
fn fifo_and_socket() {
    watched(|| {
        let (_dir, inside) = prison();
        assert!(Command::new("mkfifo").arg(inside.join("fifo")).status().unwrap().success());
        let _socket = std::os::unix::net::UnixListener::bind(inside.join("socket")).unwrap();
        let mut guest = Guest::new(&inside);
        let began = Instant::now();
        // Nobody is at the other end.
        assert_eq!(guest.open("fifo", 0, READ), no(Notsup));
        assert_eq!(guest.open("fifo", 0, WRITE), no(Nxio));
        assert_eq!(guest.open("fifo", 0, READ | WRITE), no(Notsup));
        assert_eq!(guest.open("fifo", CREAT, READ), no(Notsup));
        assert_eq!(guest.open("fifo", DIRECTORY, READ), no(Notsup));
        assert_eq!(guest.open("socket", 0, READ), no(Nxio));
        assert_eq!(guest.stat("fifo"), Ok(0));
        assert_eq!(guest.stat("socket"), Ok(0));
        assert_eq!(guest.at_path("path_unlink_file", "fifo"), Ok(()));
        assert!(began.elapsed() < Duration::from_secs(1));
    });
}

/// As many as the host allows this process; then an error number, and room again after closing some.
#[test]
fn ten_thousand_open_files() {
    // In a process of its own, whose limit is low: the other tests need descriptors as well.
    if std::env::var_os("LIMITED").is_none() {
        let own = std::env::current_exe().unwrap();
        let script = "ulimit -n 1000; exec \"$0\" --exact attacks::ten_thousand_open_files --nocapture";
        let told = Command::new("sh").args(["-c", script]).arg(own).env("LIMITED", "1").output().unwrap();
        let text = String::from_utf8_lossy(&told.stdout);
        assert!(told.status.success() && text.contains("1 passed"), "{text}");
    } else {
        watched(|| {
            let (_dir, inside) = prison();
            let mut guest = Guest::new(&inside);
            let mut open = Vec::new();
            let errno = loop {
                assert!(open.len() < 10_000, "10,000 files are open under a limit of 1,000");
                match guest.open("file", 0, READ) {
                    Ok(fd) => open.push(fd),
                    Err(errno) => break errno,
                }
            };
            assert_eq!(errno, Mfile.code());
            assert!(open.len() > 900, "{} files", open.len());
            // Whatever else asks for one says so as well.
            assert_eq!(guest.open("d", DIRECTORY, READ), no(Mfile));
            assert_eq!(guest.open("new", CREAT, WRITE), no(Mfile));
            for fd in open.drain(..).take(100) {
                guest.call("fd_close", &[fd]).unwrap();
            }
            assert_eq!(guest.open("file", 0, READ).map(drop), Ok(()));
        });
    }
}

#[test]
fn path_of_a_mebibyte_and_name_of_300_bytes() {
    watched(|| {
        let (_dir, inside) = prison();
        let mut guest = Guest::new(&inside);
        let began = Instant::now();
        for path in ["x".repeat(1 << 20), "d/".repeat(1 << 19), "../".repeat(1 << 18), "x".repeat(300)] {
            assert_eq!(guest.open(&path, 0, READ), no(Nametoolong));
            assert_eq!(guest.open(&path, CREAT, WRITE), no(Nametoolong));
            assert_eq!(guest.stat(&path), no(Nametoolong));
            for name in ["path_create_directory", "path_remove_directory", "path_unlink_file"] {
                assert_eq!(guest.at_path(name, &path), no(Nametoolong), "{name}");
            }
            for name in ["path_link", "path_rename", "path_symlink"] {
                assert_eq!(guest.two_paths(name, "file", &path), no(Nametoolong), "to, {name}");
            }
            for name in ["path_link", "path_rename"] {
                assert_eq!(guest.two_paths(name, &path, "new"), no(Nametoolong), "from, {name}");
            }
        }
        assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
        // A NUL ends no path early.
        assert_eq!(guest.open("file\0", 0, READ), no(Inval));
        assert_eq!(guest.open(b"\xff", 0, READ), no(Ilseq));
        assert_eq!(guest.open("", 0, READ), no(Noent));
    });
}

#[test]
fn ten_thousand_nested_directories() {
    watched(|| {
        let (dir, inside) = prison();
        let mut guest = Guest::new(&inside);
        // Deeper than any path of the host reaches.
        let mut fd = 3;
        for _ in 0..10_000 {
            let (path, len) = guest.path(PATH, "n");
            guest.call("path_create_directory", &[fd, path, len]).unwrap();
            let next = guest.open_at(fd, "n", DIRECTORY, READ).unwrap();
            if fd != 3 {
                guest.call("fd_close", &[fd]).unwrap();
            }
            fd = next;
        }
        let deep = guest.open_at(fd, "file", CREAT, READ | WRITE).unwrap();
        guest.buffers(&[(DATA, 4)]);
        assert_eq!(guest.call("fd_write", &[deep, u64::from(LIST), 1, OUT]), Ok(()));
        assert_eq!(guest.open_at(fd, "../n", 0, READ), no(Perm));
        assert_eq!(guest.open("n/".repeat(2040), DIRECTORY, READ).map(drop), Ok(()));
        assert_eq!(guest.open("n/".repeat(2049), DIRECTORY, READ), no(Nametoolong));
        drop(guest);
        assert!(Command::new("rm").arg("-rf").arg(dir.path().join("in")).status().unwrap().success());
    });
}

#[test]
fn symlink_loop() {
    watched(|| {
        let (_dir, inside) = prison();
        symlink("loop", inside.join("loop")).unwrap();
        symlink("b", inside.join("a")).unwrap();
        symlink("a", inside.join("b")).unwrap();
        symlink("d/../grows/x", inside.join("grows")).unwrap();
        // A chain without a loop, longer than the host goes.
        symlink("file", inside.join("l0")).unwrap();
        for n in 0..60 {
            symlink(format!("l{n}"), inside.join(format!("l{}", n + 1))).unwrap();
        }
        // And one whose every link doubles the way.
        symlink(".", inside.join("w0")).unwrap();
        for n in 0..40 {
            symlink(format!("w{n}/w{n}"), inside.join(format!("w{}", n + 1))).unwrap();
        }
        let mut guest = Guest::new(&inside);
        for way in ["loop", "loop/x", "a", "b/x", "grows", "l60", "w40/file"] {
            assert_eq!(guest.open(way, 0, READ), no(Loop), "{way}");
            assert_eq!(guest.stat(way), no(Loop), "{way}");
        }
        assert_eq!(guest.open("l30", 0, READ).map(drop), Ok(()));
        let (path, len) = guest.path(PATH, "loop");
        assert_eq!(guest.call("path_open", &[3, 0, path, len, 0, READ, 0, 0, OUT]), no(Loop));
        assert_eq!(guest.call("path_filestat_get", &[3, 0, path, len, OUT]), Ok(()));
    });
}

#[test]
fn a_directory_into_itself_and_directories_as_files() {
    let (_dir, inside) = prison();
    let mut guest = Guest::new(&inside);
    assert_eq!(guest.two_paths("path_rename", "d", "d/e/d"), no(Inval));
    assert_eq!(guest.two_paths("path_rename", "d", "d/new"), no(Inval));
    assert_eq!(guest.two_paths("path_rename", "d/e", "d"), no(Notempty));
    assert_eq!(guest.two_paths("path_rename", "d", "file"), no(Notdir));
    assert_eq!(guest.two_paths("path_rename", "file", "d"), no(Isdir));
    assert_eq!(guest.two_paths("path_link", "d", "twin"), no(Perm));
    assert_eq!(guest.two_paths("path_rename", ".", "new"), no(Busy));
    assert_eq!(guest.open("d", 0, WRITE), no(Isdir));
    assert_eq!(guest.open("d", 0, READ | WRITE), no(Isdir));
    assert_eq!(guest.open("d", CREAT, READ), no(Isdir));
    assert_eq!(guest.open("d", 8, READ), no(Isdir));
    assert_eq!(guest.at_path("path_unlink_file", "d"), no(Isdir));
    assert_eq!(guest.at_path("path_remove_directory", "d"), no(Notempty));
    assert_eq!(guest.at_path("path_remove_directory", "file"), no(Notdir));
    assert_eq!(guest.at_path("path_remove_directory", "."), no(Inval));
    assert_eq!(guest.open("file/", 0, READ), no(Notdir));
    assert_eq!(guest.open("file/x", 0, READ), no(Notdir));
    let d = guest.open("d", 0, READ).unwrap();
    assert_eq!(guest.read(d, 1), no(Badf));
    assert_eq!(guest.call("fd_seek", &[d, 0, 0, OUT]), no(Badf));
    assert_eq!(guest.call("fd_filestat_set_size", &[d, 0]), no(Badf));
}

#[test]
fn lists_of_buffers_that_lie() {
    watched(|| {
        let (_dir, inside) = prison();
        let mut guest = Guest::new(&inside);
        let fd = guest.open("file", 0, READ | WRITE).unwrap();
        let before = guest.0.get(DATA, 100);
        for name in ["fd_read", "fd_write"] {
            for (list, count) in [
                (u64::from(LIST), 1 << 31),
                (u64::from(LIST), u64::from(u32::MAX)),
                (u64::from(LIST), 1 << 29),
                (u64::from(u32::MAX), 1),
                (MEMORY as u64 - 4, 1),
                (MEMORY as u64, 1),
            ] {
                assert_eq!(guest.call(name, &[fd, list, count, OUT]), no(Fault), "{name} {list:x} {count}");
            }
            // A buffer beyond the end, alone and behind a good one; and one that wraps around.
            for bad in [(MEMORY as u32 - 1, 2), (u32::MAX, 2), (DATA, u32::MAX), (1 << 31, 1 << 31)] {
                guest.buffers(&[(DATA, 4), bad]);
                assert_eq!(guest.call(name, &[fd, u64::from(LIST), 2, OUT]), no(Fault), "{name} {bad:x?}");
                assert_eq!(
                    guest.call(name, &[fd, u64::from(LIST) + 8, 1, OUT]),
                    no(Fault),
                    "{name} {bad:x?}"
                );
            }
            // A result that cannot be written: then nothing is read or written.
            guest.buffers(&[(DATA, 4)]);
            assert_eq!(guest.call(name, &[fd, u64::from(LIST), 1, MEMORY as u64 - 3]), no(Fault));
        }
        assert_eq!(guest.0.get(DATA, 100), before, "nothing was read");
        assert_eq!(fs::read(inside.join("file")).unwrap(), b"inside", "nothing was written");
        assert_eq!(guest.call("fd_tell", &[fd, OUT]), Ok(()));
        assert_eq!(guest.0.get_u64(0), 0, "the offset stays");
        // Buffers that overlap are filled one after the other.
        guest.buffers(&[(DATA, 4), (DATA + 2, 4), (DATA + 1, 0)]);
        assert_eq!(guest.call("fd_read", &[fd, u64::from(LIST), 3, OUT]), Ok(()));
        assert_eq!((guest.0.get_u32(0), guest.0.get(DATA, 6)), (6, b"inde\0\0"[..6].to_vec()));
        // The list itself may be read into, and where the result goes.
        assert_eq!(guest.call("fd_seek", &[fd, 0, 0, OUT]), Ok(()));
        guest.buffers(&[(LIST, 6)]);
        assert_eq!(guest.call("fd_read", &[fd, u64::from(LIST), 1, u64::from(LIST)]), Ok(()));
        assert_eq!(guest.0.get_u32(LIST), 6);
    });
}

#[test]
fn a_huge_directory_through_a_tiny_buffer() {
    watched(|| {
        let (_dir, inside) = prison();
        let count = 5_000u64;
        fs::create_dir(inside.join("huge")).unwrap();
        for n in 0..count {
            fs::write(inside.join(format!("huge/{n:05}")), "").unwrap();
        }
        let mut guest = Guest::new(&inside);
        let fd = guest.open("huge", DIRECTORY, READ).unwrap();
        let read = |guest: &mut Guest, len: u64, cookie: u64| {
            guest.call("fd_readdir", &[fd, u64::from(DATA), len, cookie, OUT]).unwrap();
            u64::from(guest.0.get_u32(0))
        };
        let began = Instant::now();
        // One entry at a time; a name is cut off where the buffer ends, and asked for again.
        let mut cookie = 2;
        assert_eq!(read(&mut guest, 10, 0), 10);
        for n in 0..count {
            assert_eq!(read(&mut guest, 30, cookie), if n + 1 < count { 30 } else { 29 }, "{n}");
            assert_eq!(guest.0.get(DATA + 24, 5), format!("{n:05}").as_bytes());
            cookie = guest.0.get_u64(DATA);
        }
        assert_eq!(read(&mut guest, 30, cookie), 0);
        assert_eq!(read(&mut guest, 30, u64::MAX), 0);
        assert_eq!(read(&mut guest, 0, 0), 0);
        assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
        assert_eq!(guest.call("fd_readdir", &[fd, MEMORY as u64 - 10, 100, 0, OUT]), no(Fault));
    });
}
