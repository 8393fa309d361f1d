//! Going on: files that the guest has closed. Inputs must be what they were, appended ones are cut off.

use std::{
    fs::{self, OpenOptions},
    io::Write,
    path::Path,
    time::{Duration, SystemTime},
};

use super::*;
use crate::wasi::{Content, FileProblem, InputFile, Place, Problem, VERSION};

/// A guest that has `dir` read-only as `/data`.
fn reader(dir: &Path, hash_inputs: bool) -> Guest {
    let dirs = vec![Preopen { read_only: true, ..preopen(dir) }];
    Guest::new(Config { dirs, hash_inputs, ..Config::default() }, Stdin::Null)
}

fn read_all(g: &mut Guest, path: &str) {
    let fd = g.open(path, 0, READ).unwrap();
    g.read(fd, 100).unwrap();
    g.close(fd).unwrap();
}

fn set_time(path: &Path, seconds: u64) {
    let file = OpenOptions::new().write(true).open(path).unwrap();
    file.set_modified(SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)).unwrap();
}

/// The guest's path of the file because of which it cannot go on, and what is wrong with it.
fn refused(g: Guest, how: Restore) -> (String, Problem) {
    let Err(error) = g.resumed_with(how) else { panic!("it was not refused") };
    let found = error.downcast::<FileProblem>().unwrap_or_else(|e| panic!("another error: {e:#}"));
    (found.guest, found.problem)
}

#[test]
fn what_was_read_must_be_what_it_was() {
    let dir = temp();
    let path = dir.path().join("in");
    let changes: [fn(&Path); 4] = [
        |path| set_time(path, 2),
        |path| fs::write(path, b"longer than before").unwrap(),
        |path| fs::remove_file(path).unwrap(),
        |path| {
            fs::remove_file(path).unwrap();
            fs::create_dir(path).unwrap();
        },
    ];
    for (n, change) in changes.into_iter().enumerate() {
        fs::write(&path, b"content").unwrap();
        set_time(&path, 1);
        let mut g = reader(dir.path(), false);
        read_all(&mut g, "in");
        // As it was: at once, and after a resume that has opened nothing.
        let g = g.resumed().unwrap().resumed().unwrap();
        let state = g.wasi.save().unwrap();
        change(&path);
        let (guest, problem) = refused(g, Restore::default());
        assert_eq!(guest, "/data/in");
        let right = match n {
            0 | 1 => matches!(problem, Problem::Input { .. }),
            2 => matches!(problem, Problem::CannotOpen(Errno::Noent)),
            _ => matches!(problem, Problem::OtherKind { .. }),
        };
        assert!(right, "{n}: {problem}");
        let accept = Restore { accept_changed: true, ..Restore::default() };
        reader(dir.path(), false).with_state(state.0, &state.1, accept).unwrap();
        let _ = fs::remove_dir(&path);
    }
}

#[test]
fn a_hash_tells_contents_from_times() {
    let (dir, copy) = (temp(), temp());
    for (at, time) in [(&dir, 1), (&copy, 2)] {
        fs::write(at.path().join("in"), b"content").unwrap();
        set_time(&at.path().join("in"), time);
    }
    let there = || {
        let dirs = vec![Preopen { read_only: true, ..preopen(copy.path()) }];
        Restore { hash_inputs: true, ..given(dirs) }
    };
    let mut plain = reader(dir.path(), false);
    read_all(&mut plain, "in");
    assert!(matches!(refused(plain, there()).1, Problem::Input { .. }), "another time");
    let mut hashed = reader(dir.path(), true);
    read_all(&mut hashed, "in");
    // A copy, twice: what was found there is what is expected from then on.
    let hashed = hashed.resumed_with(there()).unwrap().resumed_with(there()).unwrap();
    fs::write(copy.path().join("in"), b"CONTENT").unwrap();
    set_time(&copy.path().join("in"), 2);
    assert!(matches!(refused(hashed, there()).1, Problem::Input { .. }), "the same time and size");
}

#[test]
fn an_input_is_known_by_its_true_name() {
    let dir = temp();
    fs::create_dir_all(dir.path().join("a/b")).unwrap();
    fs::write(dir.path().join("a/in"), b"content").unwrap();
    std::os::unix::fs::symlink("a/b", dir.path().join("link")).unwrap();
    let mut g = reader(dir.path(), false);
    // As text this is `in`, which is not there.
    read_all(&mut g, "link/../in");
    let g = g.resumed().unwrap();
    fs::write(dir.path().join("a/in"), b"changed!").unwrap();
    assert_eq!(refused(g, Restore::default()).0, "/data/a/in");
}

#[test]
fn devices_are_no_inputs() {
    let mut g = reader(Path::new("/dev"), false);
    read_all(&mut g, "null");
    read_all(&mut g, "zero");
    assert_eq!(g.wasi.state().unwrap().inputs, []);
    // A state in which they are, as earlier builds made it.
    let mut state = g.wasi.state().unwrap();
    for (path, hash) in [("null", None), ("zero", Some([1; 32]))] {
        let place = Place { root: 0, path: path.to_string() };
        state.inputs.push(InputFile { place, content: Content { size: 0, mtime: (1, 2), hash } });
    }
    let g = g.with_state(VERSION, &state.encode().unwrap(), Restore::default()).unwrap();
    assert_eq!(g.wasi.state().unwrap().inputs, []);
    // One that has taken the place of a file.
    state.inputs[0].content.size = 1;
    let bytes = state.encode().unwrap();
    let found = g.with_state(VERSION, &bytes, Restore::default()).map(drop).unwrap_err();
    let found = found.downcast::<FileProblem>().unwrap();
    assert_eq!(found.problem, Problem::OtherKind { expected: "a file" });
    // An endless one has no hash.
    read_all(&mut reader(Path::new("/dev"), true), "zero");
}

#[test]
fn logs_are_cut_off_to_what_the_snapshot_has_seen() {
    let dir = temp();
    let path = |name: &str| dir.path().join(name);
    let line = |g: &mut Guest, name: &str, text: &[u8]| {
        let fd = g.open_at(3, name, CREAT, WRITE, APPEND).unwrap();
        g.write(fd, text).unwrap();
        g.close(fd).unwrap();
    };
    fs::write(path("old"), b"before\n").unwrap();
    fs::write(path("shared"), b"").unwrap();
    let mut g = Guest::with_dir(dir.path());
    for n in 0..3 {
        line(&mut g, "old", format!("{n}\n").as_bytes());
        line(&mut g, "new", format!("{n}\n").as_bytes());
        line(&mut g, "shared", b"ours\n");
        g = g.resumed().unwrap();
    }
    // Somebody else has the last word in this one, so its end is not ours to cut.
    OpenOptions::new().append(true).open(path("shared")).unwrap().write_all(b"theirs\n").unwrap();
    let (version, state) = g.wasi.save().unwrap();
    for name in ["old", "new", "shared"] {
        line(&mut g, name, b"3\n");
        line(&mut g, name, b"4\n");
    }
    let mut g = g.with_state(version, &state, Restore::default()).unwrap();
    assert_eq!(fs::read(path("old")).unwrap(), b"before\n0\n1\n2\n");
    assert_eq!(fs::read(path("new")).unwrap(), b"0\n1\n2\n");
    assert_eq!(fs::read(path("shared")).unwrap(), b"ours\nours\nours\ntheirs\n3\n4\n");

    // One that was written in place since, is gone, or replaced, is left alone.
    let fd = g.open("old", 0, READ | WRITE).unwrap();
    g.pwrite(fd, b"B", 0).unwrap();
    g.close(fd).unwrap();
    let (version, state) = g.wasi.save().unwrap();
    line(&mut g, "old", b"3\n");
    fs::remove_file(path("new")).unwrap();
    fs::write(path("new"), b"another file, and longer").unwrap();
    g.with_state(version, &state, Restore::default()).unwrap();
    assert_eq!(fs::read(path("new")).unwrap(), b"another file, and longer");
    assert_eq!(fs::read(path("old")).unwrap(), b"Before\n0\n1\n2\n");
}

#[test]
fn what_was_changed_and_closed_is_synced_with_its_names() {
    let dir = temp();
    let mut g = Guest::with_dir(dir.path());
    let write = |g: &mut Guest, path: &str| {
        let fd = g.open(path, CREAT, WRITE).unwrap();
        g.write(fd, b"content").unwrap();
        g.close(fd).unwrap();
    };
    // By their names on the host.
    let unsynced = |g: &mut Guest| {
        let [mut paths, whole] = g.wasi.unsynced_files().unwrap().paths();
        paths.sort();
        (paths, whole.len())
    };
    let at = |names: &[&str]| {
        let top = dir.path().canonicalize().unwrap();
        let mut paths: Vec<_> = names.iter().map(|name| top.join(name).components().collect()).collect();
        paths.sort();
        (paths, 0)
    };
    g.mkdir("sub").unwrap();
    fs::create_dir(dir.path().join("other")).unwrap();
    assert_eq!(unsynced(&mut g), at(&[""]));
    write(&mut g, "sub/part");
    assert_eq!(unsynced(&mut g), at(&["", "sub", "sub/part"]));
    // It is waited for again if that came to nothing.
    assert_eq!(unsynced(&mut g), at(&["", "sub", "sub/part"]));
    g.wasi.sync_files().unwrap();
    assert_eq!(unsynced(&mut g), at(&[]));

    // What only was read needs nothing, nor what has no name left.
    read_all(&mut g, "sub/part");
    assert_eq!(unsynced(&mut g), at(&[]));
    write(&mut g, "sub/part");
    g.rename("sub/part", "other/part").unwrap();
    assert_eq!(unsynced(&mut g), at(&["other", "other/part", "sub"]));
    g.unlink("other/part").unwrap();
    assert_eq!(unsynced(&mut g), at(&["other", "sub"]));
    g.wasi.sync_files().unwrap();
    // A file that is made by way of a link has its name elsewhere.
    g.symlink("sub/new", "link").unwrap();
    write(&mut g, "link");
    assert_eq!(unsynced(&mut g), at(&["", "sub", "sub/new"]));

    // Of very many no more than some are kept open.
    for n in 0..200 {
        write(&mut g, &format!("other/{n}"));
    }
    let (paths, whole) = unsynced(&mut g);
    assert!(paths.len() <= 64 && whole == 1, "{} {whole}", paths.len());
    g.wasi.sync_files().unwrap();
    assert_eq!(unsynced(&mut g), at(&[]));
}
