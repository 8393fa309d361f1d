//! Ways out of a preopened directory, all closed.

use std::{fs, os::unix::fs::symlink, time::Instant};

use super::*;

/// A directory `in` to give to the guest, beside a secret.
fn prison() -> (TempDir, std::path::PathBuf) {
    let dir = temp();
    fs::write(dir.path().join("secret"), b"secret").unwrap();
    let inside = dir.path().join("in");
    fs::create_dir_all(inside.join("d")).unwrap();
    (dir, inside)
}

#[test]
fn paths_that_lead_out_are_refused() {
    let (dir, inside) = prison();
    let absolute = dir.path().join("secret").to_str().unwrap().to_string();
    symlink("../secret", inside.join("out")).unwrap();
    symlink(&absolute, inside.join("abs")).unwrap();
    symlink("..", inside.join("up")).unwrap();
    symlink("d/../../secret", inside.join("winding")).unwrap();
    let mut g = Guest::with_dir(&inside);
    let ways = [
        "../secret",
        "d/../../secret",
        "out",
        "abs",
        "up/secret",
        "winding",
        "d/../out",
        "./.././secret",
        "..",
        "up",
        "/etc/passwd",
        &absolute,
    ];
    for way in ways {
        assert_eq!(g.open(way, 0, READ), Err(Errno::Perm), "open {way}");
        assert_eq!(g.open(way, CREAT, WRITE), Err(Errno::Perm), "create {way}");
        assert_eq!(g.stat(way, true), Err(Errno::Perm), "stat {way}");
        assert_eq!(g.open(way, DIRECTORY, READ), Err(Errno::Perm), "open as directory {way}");
    }
    for way in ["../secret", "up/secret", &absolute] {
        assert_eq!(g.unlink(way), Err(Errno::Perm), "unlink {way}");
        assert_eq!(g.rename(way, "stolen"), Err(Errno::Perm), "rename {way}");
        assert_eq!(g.link(way, "stolen"), Err(Errno::Perm), "link {way}");
        assert_eq!(g.rename("d", way), Err(Errno::Perm), "rename to {way}");
        assert_eq!(g.mkdir(way), Err(Errno::Perm), "mkdir {way}");
        assert_eq!(g.symlink("x", way), Err(Errno::Perm), "symlink at {way}");
    }
    // From a directory inside, the way up is closed too.
    let d = g.open("d", DIRECTORY, READ).unwrap();
    assert_eq!(g.open_at(d, "../out", 0, READ, 0), Err(Errno::Perm));
    assert_eq!(g.open_at(d, "..", 0, READ, 0), Err(Errno::Perm));
    // Links that lead out can neither be made nor read.
    assert_eq!(g.symlink("/etc", "mine"), Err(Errno::Perm));
    assert_eq!(g.readlink("abs", 100), Err(Errno::Perm));
    assert_eq!(fs::read(dir.path().join("secret")).unwrap(), b"secret");
}

#[test]
fn a_link_made_inside_does_not_lead_out() {
    let (_dir, inside) = prison();
    let mut g = Guest::with_dir(&inside);
    // Relative links may be made with any content, but lead nowhere outside.
    g.symlink("../secret", "mine").unwrap();
    assert_eq!(g.open("mine", 0, READ), Err(Errno::Perm));
    assert_eq!(g.stat("mine", false).map(|(kind, _)| kind), Ok(7));
}

#[test]
fn proc_links_lead_nowhere() {
    let config = || Config { dirs: vec![preopen(Path::new("/proc/self"))], ..Config::default() };
    let mut g = Guest::new(config(), Stdin::Null);
    for way in ["root/etc/passwd", "cwd/Cargo.toml", "fd/0", "fd/1", "exe"] {
        let got = g.open(way, 0, READ);
        assert!(matches!(got, Err(Errno::Perm | Errno::Loop | Errno::Xdev | Errno::Noent)), "{way}: {got:?}");
    }
}

#[test]
fn fifos_and_devices_neither_hang_nor_open() {
    let (_dir, inside) = prison();
    let fifo = inside.join("fifo");
    let mode = rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR;
    rustix::fs::mknodat(rustix::fs::CWD, &fifo, rustix::fs::FileType::Fifo, mode, 0).unwrap();
    let _socket = std::os::unix::net::UnixListener::bind(inside.join("socket")).unwrap();
    let mut g = Guest::with_dir(&inside);
    let start = Instant::now();
    assert_eq!(g.open("fifo", 0, READ), Err(Errno::Notsup));
    assert_eq!(g.open("fifo", 0, WRITE), Err(Errno::Nxio));
    assert_eq!(g.open("fifo", 0, READ | WRITE), Err(Errno::Notsup));
    assert_eq!(g.open("socket", 0, READ), Err(Errno::Nxio));
    assert_eq!(g.stat("fifo", true).map(|(kind, _)| kind), Ok(0));
    assert!(start.elapsed().as_millis() < 1000);

    let mut g = Guest::with_dir(Path::new("/dev"));
    let null = g.open("null", 0, READ | WRITE).unwrap();
    assert_eq!(g.read(null, 10).unwrap(), b"");
    assert_eq!(g.write(null, b"abc"), Ok(3));
    let zero = g.open("zero", 0, READ).unwrap();
    assert_eq!(g.read(zero, 3).unwrap(), [0; 3]);
    assert!(matches!(g.open("tty", 0, READ), Err(Errno::Notsup | Errno::Nxio)));
    assert_eq!(g.open("urandom", 0, READ), Err(Errno::Notsup));
    // They are found again.
    let mut g = g.resumed().unwrap();
    assert_eq!(g.write(null, b"abc"), Ok(3));
}

#[test]
fn a_race_of_rename_and_open_does_not_lead_out() {
    use std::sync::atomic::{AtomicBool, Ordering};
    let (dir, inside) = prison();
    fs::write(inside.join("d/secret"), b"inside").unwrap();
    symlink("../..", inside.join("trap")).unwrap();
    fs::rename(inside.join("trap"), inside.join("d/trap")).unwrap();
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        // `d` is by turns a directory and a link to its parent's parent.
        scope.spawn(|| {
            let (d, aside) = (inside.join("d"), inside.join("aside"));
            while !stop.load(Ordering::Relaxed) {
                fs::rename(&d, &aside).unwrap();
                symlink("..", &d).unwrap();
                fs::remove_file(&d).unwrap();
                fs::rename(&aside, &d).unwrap();
            }
        });
        let mut g = Guest::with_dir(&inside);
        for _ in 0..5000 {
            if let Ok(fd) = g.open("d/secret", 0, READ) {
                let got = g.read(fd, 10).unwrap();
                g.close(fd).unwrap();
                if got != b"inside" {
                    stop.store(true, Ordering::Relaxed);
                    panic!("read {got:?}");
                }
            }
        }
        stop.store(true, Ordering::Relaxed);
    });
    drop(dir);
}

#[test]
fn odd_paths_give_errors() {
    let (_dir, inside) = prison();
    let mut g = Guest::with_dir(&inside);
    assert_eq!(g.open("", 0, READ), Err(Errno::Noent));
    assert_eq!(g.open("a\0b", 0, READ), Err(Errno::Inval));
    assert_eq!(g.open(&"x".repeat(300), 0, READ), Err(Errno::Nametoolong));
    assert_eq!(g.open(&"x/".repeat(2500), 0, READ), Err(Errno::Nametoolong));
    let got = answer(g.wasi.path_open(&mut g.mem, 3, 0, DATA, 1 << 20, 0, READ, READ, 0, OUT));
    assert_eq!(got, Err(Errno::Nametoolong), "a path of 1 MiB");
    g.mem[DATA as usize] = 0xff;
    let got = answer(g.wasi.path_open(&mut g.mem, 3, 0, DATA, 1, 0, READ, READ, 0, OUT));
    assert_eq!(got, Err(Errno::Ilseq));
}
