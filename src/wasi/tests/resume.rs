//! Going on: files in the middle of being read and written, changed, gone, replaced.

use std::{
    fs::{self, File, OpenOptions},
    io::Write,
    path::Path,
    time::SystemTime,
};

use super::*;
use crate::wasi::{FileProblem, NAMELESS_LEN_MAX, Problem};

/// The problem with a file because of which the guest cannot go on.
fn problem(result: anyhow::Result<Guest>) -> FileProblem {
    match result {
        Ok(_) => panic!("it was not refused"),
        Err(e) => e.downcast::<FileProblem>().unwrap_or_else(|e| panic!("another error: {e:#}")),
    }
}

fn append(path: &Path, data: &[u8]) {
    OpenOptions::new().append(true).open(path).unwrap().write_all(data).unwrap();
}

#[test]
fn reading_and_writing_go_on_where_they_were() {
    let dir = temp();
    fs::write(dir.path().join("in"), b"0123456789").unwrap();
    let mut g = Guest::with_dir(dir.path());
    let input = g.open("in", 0, READ).unwrap();
    let output = g.open("out", CREAT | TRUNC, WRITE).unwrap();
    let log = g.open_at(3, "log", CREAT, WRITE, APPEND).unwrap();
    for _ in 0..5 {
        let got = g.read(input, 2).unwrap();
        g.write(output, &got).unwrap();
        g.write(log, b"line\n").unwrap();
        g = g.resumed().unwrap();
    }
    assert_eq!(g.read(input, 2).unwrap(), b"");
    assert_eq!(fs::read(dir.path().join("out")).unwrap(), b"0123456789");
    assert_eq!(fs::read(dir.path().join("log")).unwrap(), b"line\n".repeat(5));
    assert_eq!(g.open("out", 0, READ), Ok(7), "the next number");
    g.close(5).unwrap();
    let mut g = g.resumed().unwrap();
    assert_eq!(g.write(5, b"x"), Err(Errno::Badf));
    assert_eq!(g.open("out", 0, READ), Ok(5), "a closed number");
}

#[test]
fn readdir_goes_on_where_it_was() {
    let dir = temp();
    for n in 0..50 {
        fs::write(dir.path().join(format!("{n:02}")), b"").unwrap();
    }
    let mut g = Guest::with_dir(dir.path());
    let (mut cookie, mut names) = (0, Vec::new());
    loop {
        let (entries, used) = g.readdir(3, cookie, 100).unwrap();
        for (next, name) in entries {
            cookie = next;
            names.push(name);
        }
        if used < 100 {
            break;
        }
        // What comes and goes meanwhile does not disturb.
        fs::remove_file(dir.path().join(names.last().unwrap())).ok();
        fs::write(dir.path().join(format!("new-{cookie}")), b"").unwrap();
        g = g.resumed().unwrap();
    }
    let want: Vec<String> = (0..50).map(|n| format!("{n:02}")).collect();
    assert_eq!(names[2..], want);
}

#[test]
fn what_was_written_after_the_snapshot_is_cut_off() {
    let dir = temp();
    let mut g = Guest::with_dir(dir.path());
    let out = g.open("out", CREAT | TRUNC, WRITE).unwrap();
    g.write(out, b"one ").unwrap();
    let log = g.open_at(3, "log", CREAT, READ | WRITE, APPEND).unwrap();
    g.write(log, b"1\n").unwrap();
    let fresh = g.open("fresh", CREAT | EXCL, WRITE).unwrap();
    let reader = g.open("out", 0, READ).unwrap();
    assert_eq!(g.read(reader, 2).unwrap(), b"on");
    let (version, state) = g.wasi.save().unwrap();
    for killed in 0..3 {
        g.write(out, b"two ").unwrap();
        g.write(log, b"2\n").unwrap();
        g.write(fresh, b"f").unwrap();
        if killed < 2 {
            g = g.with_state(version, &state, Restore::default()).unwrap();
        }
    }
    assert_eq!(fs::read(dir.path().join("out")).unwrap(), b"one two ");
    assert_eq!(fs::read(dir.path().join("log")).unwrap(), b"1\n2\n");
    assert_eq!(fs::read(dir.path().join("fresh")).unwrap(), b"f");
    assert_eq!(g.read(reader, 100).unwrap(), b"e two ");
}

#[test]
fn two_descriptors_of_one_file_are_mended_together() {
    let dir = temp();
    let mut g = Guest::with_dir(dir.path());
    let first = g.open("f", CREAT | TRUNC, WRITE).unwrap();
    g.write(first, b"first ").unwrap();
    let second = g.open_at(3, "f", 0, WRITE, APPEND).unwrap();
    g.write(second, b"second ").unwrap();
    let (version, state) = g.wasi.save().unwrap();
    g.write(second, b"third").unwrap();
    let mut g = g.with_state(version, &state, Restore::default()).unwrap();
    g.write(second, b"third").unwrap();
    assert_eq!(fs::read(dir.path().join("f")).unwrap(), b"first second third");
}

#[test]
fn a_header_written_last_is_written_again() {
    let dir = temp();
    let mut g = Guest::with_dir(dir.path());
    let out = g.open("out", CREAT | TRUNC, WRITE).unwrap();
    g.write(out, b"????body").unwrap();
    let (version, state) = g.wasi.save().unwrap();
    g.write(out, b"tail").unwrap();
    g.pwrite(out, b"HEAD", 0).unwrap();
    let mut g = g.with_state(version, &state, Restore::default()).unwrap();
    assert_eq!(fs::read(dir.path().join("out")).unwrap(), b"HEADbody");
    g.write(out, b"tail").unwrap();
    g.pwrite(out, b"HEAD", 0).unwrap();
    assert_eq!(fs::read(dir.path().join("out")).unwrap(), b"HEADbodytail");
}

#[test]
fn a_file_that_was_read_must_not_have_changed() {
    let dir = temp();
    let path = dir.path().join("in");
    fs::write(&path, b"0123456789").unwrap();
    let start = |g: &mut Guest| {
        let fd = g.open("in", 0, READ).unwrap();
        g.read(fd, 4).unwrap();
    };
    let mut g = Guest::with_dir(dir.path());
    start(&mut g);
    let (version, state) = g.wasi.save().unwrap();
    append(&path, b"more");
    let found = problem(g.with_state(version, &state, Restore::default()));
    assert_eq!((found.guest.as_str(), found.host.clone()), ("/data/in", path.canonicalize().unwrap()));
    assert!(
        matches!(found.problem, Problem::Changed { expected, found } if (expected.size, found.size) == (10, 14))
    );
    let text = found.to_string();
    for part in ["/data/in", path.to_str().unwrap(), "expected 10 bytes", "found 14 bytes"] {
        assert!(text.contains(part), "{text}");
    }
    // The user may insist.
    let g = Guest::with_dir(dir.path());
    let how = Restore { accept_changed: true, ..Restore::default() };
    let mut g = g.with_state(version, &state, how).unwrap();
    assert_eq!(g.read(4, 100).unwrap(), b"456789more");

    // Same length, other content.
    let mut g = Guest::with_dir(dir.path());
    start(&mut g);
    let (version, state) = g.wasi.save().unwrap();
    fs::write(&path, b"0123456789MORE").unwrap();
    let found = problem(g.with_state(version, &state, Restore::default()));
    assert!(matches!(found.problem, Problem::Changed { .. }));

    fs::remove_file(&path).unwrap();
    let found = problem(Guest::with_dir(dir.path()).with_state(version, &state, Restore::default()));
    assert_eq!(found.problem, Problem::CannotOpen(Errno::Noent));
    fs::create_dir(&path).unwrap();
    let found = problem(Guest::with_dir(dir.path()).with_state(version, &state, Restore::default()));
    assert!(matches!(found.problem, Problem::OtherKind { .. }));
}

#[test]
fn a_copy_that_keeps_the_time_is_the_same_file() {
    let (dir, other) = (temp(), temp());
    let path = dir.path().join("in");
    fs::write(&path, b"0123456789").unwrap();
    let time = SystemTime::UNIX_EPOCH + std::time::Duration::new(1_700_000_000, 123_456_789);
    File::options().write(true).open(&path).unwrap().set_modified(time).unwrap();
    let mut g = Guest::with_dir(dir.path());
    let fd = g.open("in", 0, READ).unwrap();
    g.read(fd, 4).unwrap();
    fs::copy(&path, other.path().join("in")).unwrap();
    let (version, state) = g.wasi.save().unwrap();
    let elsewhere = || given(vec![preopen(other.path())]);
    let found = problem(g.with_state(version, &state, elsewhere()));
    assert!(matches!(found.problem, Problem::Changed { .. }), "the copy is newer: {found}");
    File::options().write(true).open(other.path().join("in")).unwrap().set_modified(time).unwrap();
    let mut g = Guest::with_dir(dir.path()).with_state(version, &state, elsewhere()).unwrap();
    assert_eq!(g.read(fd, 100).unwrap(), b"456789");
}

#[test]
fn a_written_file_that_cannot_be_mended_is_refused() {
    let dir = temp();
    let path = dir.path().join("f");
    type Case = (&'static str, fn(&mut Guest, u32), fn(&Path), fn(&Problem) -> bool);
    let cases: [Case; 5] = [
        (
            "shorter",
            |g, fd| assert!(g.write(fd, b"abc").is_ok()),
            |p| fs::write(p, b"ab").unwrap(),
            |p| matches!(p, Problem::Shorter { expected, found } if (expected.size, found.size) == (3, 2)),
        ),
        (
            "replaced",
            |g, fd| assert!(g.write(fd, b"abc").is_ok()),
            |p| {
                fs::write(p.with_extension("new"), b"abcdef").unwrap();
                fs::rename(p.with_extension("new"), p).unwrap();
            },
            |p| matches!(p, Problem::Replaced { .. }),
        ),
        (
            "overwritten",
            |g, fd| assert!(g.write(fd, b"abc").is_ok()),
            |p| fs::write(p, b"ABC").unwrap(),
            |p| matches!(p, Problem::Overwritten { .. }),
        ),
        (
            "in place",
            |g, fd| assert!(g.write(fd, b"abc").is_ok() && g.pwrite(fd, b"A", 0).is_ok()),
            |p| append(p, b"d"),
            |p| matches!(p, Problem::Overwritten { .. }),
        ),
        (
            "grown",
            |g, fd| {
                g.write(fd, b"abc").unwrap();
                let other = g.open_at(3, "f", 0, WRITE, APPEND).unwrap();
                g.write(other, b"by another").unwrap();
                g.close(other).unwrap();
            },
            |p| append(p, b"d"),
            |p| matches!(p, Problem::Grown { .. }),
        ),
    ];
    for (name, prepare, disturb, expected) in cases {
        fs::remove_file(&path).ok();
        let mut g = Guest::with_dir(dir.path());
        let fd = g.open("f", CREAT | TRUNC, READ | WRITE).unwrap();
        prepare(&mut g, fd);
        let (version, state) = g.wasi.save().unwrap();
        disturb(&path);
        let before = fs::read(&path).unwrap();
        let found = problem(g.with_state(version, &state, Restore::default()));
        assert!(expected(&found.problem), "{name}: {found}");
        assert_eq!(fs::read(&path).unwrap(), before, "{name}: the file was touched");
    }
}

#[test]
fn nothing_is_cut_off_when_something_else_is_wrong() {
    let dir = temp();
    fs::write(dir.path().join("in"), b"abc").unwrap();
    let mut g = Guest::with_dir(dir.path());
    let out = g.open("out", CREAT, WRITE).unwrap();
    g.open("in", 0, READ).unwrap();
    g.write(out, b"one").unwrap();
    let (version, state) = g.wasi.save().unwrap();
    g.write(out, b"two").unwrap();
    append(&dir.path().join("in"), b"d");
    problem(g.with_state(version, &state, Restore::default()));
    assert_eq!(fs::read(dir.path().join("out")).unwrap(), b"onetwo");
}

#[test]
fn a_file_is_found_where_it_was_moved_to() {
    let dir = temp();
    let mut g = Guest::with_dir(dir.path());
    g.mkdir("d").unwrap();
    let fd = g.open("d/a", CREAT, READ | WRITE).unwrap();
    let d = g.open("d", DIRECTORY, READ).unwrap();
    g.write(fd, b"abc").unwrap();
    g.rename("d", "e").unwrap();
    g.rename("e/a", "e/b").unwrap();
    // Another file has the old name.
    let impostor = g.open_at(d, "a", CREAT, WRITE, 0).unwrap();
    g.write(impostor, b"impostor").unwrap();
    let mut g = g.resumed().unwrap();
    g.write(fd, b"def").unwrap();
    assert_eq!(fs::read(dir.path().join("e/b")).unwrap(), b"abcdef");
    assert_eq!(g.names(d), ["a", "b"]);
    // By a symbolic link, too.
    g.symlink("e", "link").unwrap();
    let by_link = g.open("link/../link/b", 0, READ).unwrap();
    let mut g = g.resumed().unwrap();
    assert_eq!(g.read(by_link, 10).unwrap(), b"abcdef");
}

#[test]
fn a_file_without_a_name_is_kept_in_the_state() {
    let dir = temp();
    let mut g = Guest::with_dir(dir.path());
    let fd = g.open("tmp", CREAT, READ | WRITE).unwrap();
    let writer = g.open("tmp", 0, WRITE).unwrap();
    g.write(fd, b"abc").unwrap();
    g.unlink("tmp").unwrap();
    // Another file that takes the name is not taken for it.
    fs::write(dir.path().join("tmp"), b"impostor").unwrap();
    let (version, state) = g.wasi.save().unwrap();
    g.write(fd, b"after the snapshot").unwrap();
    let mut g = g.with_state(version, &state, Restore::default()).unwrap();
    assert_eq!(g.fd_stat(fd), Ok((4, 3)));
    // Both descriptors are of one file.
    g.pwrite(writer, b"ABCDEF", 0).unwrap();
    let mut g = g.resumed().unwrap();
    assert_eq!((g.tell(fd), g.read(fd, 10)), (Ok(3), Ok(b"DEF".to_vec())));
    assert_eq!(g.read(writer, 1), Err(Errno::Badf));
    assert_eq!(fs::read(dir.path().join("tmp")).unwrap(), b"impostor");
}

#[test]
fn a_nameless_file_that_is_too_large_or_elsewhere_is_an_error_that_says_so() {
    let (dir, other) = (temp(), temp());
    let mut g = Guest::with_dir(dir.path());
    let fd = g.open("tmp", CREAT, READ | WRITE).unwrap();
    answer(g.wasi.fd_filestat_set_size(&mut g.mem, fd, NAMELESS_LEN_MAX + 1)).unwrap();
    g.unlink("tmp").unwrap();
    let found = problem(g.resumed());
    assert_eq!((found.guest.as_str(), &found.problem), ("/data/tmp", &Problem::Nameless));

    let mut g = Guest::with_dir(dir.path());
    let fd = g.open("a", CREAT, READ | WRITE).unwrap();
    g.write(fd, b"abc").unwrap();
    fs::hard_link(dir.path().join("a"), other.path().join("b")).unwrap();
    g.unlink("a").unwrap();
    let (version, state) = g.wasi.save().unwrap();
    assert_eq!(problem(g.resumed()).problem, Problem::Nameless);
    // The user may put something there.
    let accept = || Restore { accept_changed: true, ..Restore::default() };
    let again = || Guest::with_dir(dir.path()).with_state(version, &state, accept());
    assert_eq!(problem(again()).problem, Problem::CannotOpen(Errno::Noent));
    fs::write(dir.path().join("a"), b"ABCDEF").unwrap();
    assert_eq!(again().unwrap().read(fd, 10).unwrap(), b"DEF");
}

#[test]
fn a_file_is_found_in_another_of_its_directories() {
    let (dir, other, spare) = (temp(), temp(), temp());
    let dirs = [(&dir, "/a", false), (&spare, "/spare", true), (&other, "/b", false)];
    let dirs = dirs.map(|(at, guest, read_only)| Preopen {
        guest: guest.to_string(),
        read_only,
        ..preopen(at.path())
    });
    let mut g = Guest::new(Config { dirs: dirs.into(), ..Config::default() }, Stdin::Null);
    let fd = g.open("f", CREAT, READ | WRITE).unwrap();
    g.mkdir("d").unwrap();
    let d = g.open("d", DIRECTORY, READ).unwrap();
    g.write(fd, b"abc").unwrap();
    for (from, to) in [("f", "moved"), ("d", "d")] {
        let ((old, old_len), (new, new_len)) = (g.path2(from), g.path(to));
        answer(g.wasi.path_rename(&mut g.mem, 3, old, old_len, 5, new, new_len)).unwrap();
    }
    let mut g = g.resumed().unwrap();
    g.write(fd, b"def").unwrap();
    fs::write(other.path().join("d/x"), b"").unwrap();
    assert_eq!(
        (g.names(d), fs::read(other.path().join("moved")).unwrap()),
        (vec!["x".into()], b"abcdef".into())
    );
    // One that somebody has moved to where the guest may not write is not opened for writing there.
    fs::rename(other.path().join("moved"), spare.path().join("f")).unwrap();
    assert_eq!(problem(g.resumed()).problem, Problem::Nameless);
}

#[test]
fn a_file_is_found_by_a_name_that_it_has_left() {
    let dir = temp();
    let mut g = Guest::with_dir(dir.path());
    let fd = g.open("a", CREAT, READ | WRITE).unwrap();
    g.write(fd, b"abc").unwrap();
    g.mkdir("new").unwrap();
    g.link("a", "b").unwrap();
    g.link("b", "new/c").unwrap();
    g.unlink("a").unwrap();
    g.unlink("b").unwrap();
    g.rename("new", "cur").unwrap();
    let mut g = g.resumed().unwrap();
    g.write(fd, b"def").unwrap();
    assert_eq!(fs::read(dir.path().join("cur/c")).unwrap(), b"abcdef");
}

#[test]
fn a_directory_that_was_removed_stays_open_and_empty() {
    let dir = temp();
    let mut g = Guest::with_dir(dir.path());
    g.mkdir("d").unwrap();
    g.mkdir("d/e").unwrap();
    let (d, e) = (g.open("d", DIRECTORY, READ).unwrap(), g.open("d/e", DIRECTORY, READ).unwrap());
    g.rmdir("d/e").unwrap();
    g.rmdir("d").unwrap();
    // Another one that takes the name is not taken for it.
    g.mkdir("d").unwrap();
    fs::write(dir.path().join("d/f"), b"").unwrap();
    let before = (g.names(d), g.open_at(d, "f", CREAT, WRITE, 0));
    assert_eq!(before, (vec![], Err(Errno::Noent)));
    for _ in 0..2 {
        g = g.resumed().unwrap();
        assert_eq!((g.names(d), g.open_at(d, "f", CREAT, WRITE, 0)), before);
        assert_eq!((g.names(e), g.open_at(e, "../f", 0, READ, 0)), (vec![], Err(Errno::Perm)));
        assert_eq!(g.fd_stat(d).unwrap().0, 3);
    }
    // One that was moved away has content that is not known.
    let (g, away) = (Guest::with_dir(dir.path()), temp());
    let mut g = g;
    g.open("d", DIRECTORY, READ).unwrap();
    fs::rename(dir.path().join("d"), away.path().join("d")).unwrap();
    assert_eq!(problem(g.resumed()).problem, Problem::Nameless);
}

#[test]
fn directories_are_given_by_the_guests_name() {
    let (dir, other) = (temp(), temp());
    fs::write(other.path().join("here"), b"").unwrap();
    let g = Guest::with_dir(dir.path());
    let (version, state) = g.wasi.save().unwrap();
    let mut g = g.with_state(version, &state, given(vec![preopen(other.path())])).unwrap();
    assert_eq!(g.names(3), ["here"]);
    let again = |dirs| Guest::with_dir(dir.path()).with_state(version, &state, given(dirs));
    assert!(error_of(again(vec![])).contains("no directory is given for the program's `/data`"));
    let extra = Preopen { guest: "/more".to_string(), ..preopen(other.path()) };
    assert!(error_of(again(vec![preopen(other.path()), extra])).contains("has no directory `/more`"));
    let missing = preopen(&other.path().join("missing"));
    let text = error_of(again(vec![missing]));
    assert!(text.contains("missing") && text.contains("`/data`"), "{text}");
    // A directory that may only be read now does not give a writing guest back its file.
    let mut g = Guest::with_dir(dir.path());
    g.open("a", CREAT, WRITE).unwrap();
    let read_only = Preopen { read_only: true, ..preopen(dir.path()) };
    assert_eq!(problem(g.resumed_with(given(vec![read_only]))).problem, Problem::CannotOpen(Errno::Perm));
}

#[test]
fn equal_states_have_equal_bytes() {
    let dir = temp();
    let make = || {
        let config = Config { dirs: vec![preopen(dir.path())], seed: Some([3; 32]), ..Config::default() };
        let mut g = Guest::new(config, Stdin::Null);
        g.open("a", CREAT, WRITE).unwrap();
        g.write(1, b"abc").unwrap();
        g
    };
    let (a, b) = (make(), make());
    let (_, bytes) = a.wasi.save().unwrap();
    assert_eq!(bytes, b.wasi.save().unwrap().1);
    assert_eq!(bytes, a.resumed().unwrap().wasi.save().unwrap().1, "often paused or not");
}
