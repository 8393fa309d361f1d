//! Directories, links and names.

use std::fs;

use super::*;

#[test]
fn names_are_made_moved_and_removed() {
    let dir = temp();
    let mut g = Guest::with_dir(dir.path());
    assert_eq!(g.mkdir("d"), Ok(()));
    assert_eq!(g.mkdir("d"), Err(Errno::Exist));
    let fd = g.open("d/a", CREAT, WRITE).unwrap();
    g.write(fd, b"abc").unwrap();
    assert_eq!(g.rmdir("d"), Err(Errno::Notempty));
    assert_eq!(g.unlink("d"), Err(Errno::Isdir));
    assert_eq!(g.rename("d/a", "b"), Ok(()));
    assert_eq!(g.stat("d/a", true), Err(Errno::Noent));
    assert_eq!(g.stat("b", true), Ok((4, 3)));
    assert_eq!(g.rename("b", "d"), Err(Errno::Isdir));
    assert_eq!(g.rmdir("d"), Ok(()));
    assert_eq!(g.rmdir("b"), Err(Errno::Notdir));
    assert_eq!(g.link("b", "c"), Ok(()));
    assert_eq!(g.stat("c", true), Ok((4, 3)));
    assert_eq!(g.u64(OUT + 24), 2, "links");
    assert_eq!(g.unlink("b"), Ok(()));
    assert_eq!(g.unlink("b"), Err(Errno::Noent));
    assert_eq!(fs::read(dir.path().join("c")).unwrap(), b"abc");
    // Links are not followed when they are linked; asking for it is refused as by the reference.
    let (old, old_len) = g.path2("c");
    let (new, new_len) = g.path("e");
    let got = answer(g.wasi.path_link(&mut g.mem, 3, 1, old, old_len, 3, new, new_len));
    assert_eq!(got, Err(Errno::Inval));
}

#[test]
fn symbolic_links_lead_where_they_say() {
    let dir = temp();
    let mut g = Guest::with_dir(dir.path());
    g.mkdir("d").unwrap();
    g.symlink("d/a", "l").unwrap();
    assert_eq!(g.readlink("l", 100), Ok("d/a".to_string()));
    assert_eq!(g.readlink("l", 2), Ok("d/".to_string()));
    assert_eq!(g.readlink("d", 100), Err(Errno::Inval));
    assert_eq!(g.stat("l", true), Err(Errno::Noent));
    assert_eq!(g.stat("l", false), Ok((7, 3)));
    let fd = g.open("l", CREAT, WRITE).unwrap();
    g.write(fd, b"by the link").unwrap();
    assert_eq!(fs::read(dir.path().join("d/a")).unwrap(), b"by the link");
    // Not followed: the link itself cannot be opened.
    let (path, len) = g.path("l");
    let got = answer(g.wasi.path_open(&mut g.mem, 3, 0, path, len, 0, READ, READ, 0, OUT));
    assert_eq!(got, Err(Errno::Loop));
    g.symlink("loop", "loop").unwrap();
    assert_eq!(g.open("loop", 0, READ), Err(Errno::Loop));
    assert_eq!(g.unlink("l"), Ok(()));
    assert!(dir.path().join("d/a").exists());
}

#[test]
fn directories_are_opened_and_looked_into() {
    let dir = temp();
    let mut g = Guest::with_dir(dir.path());
    g.mkdir("d").unwrap();
    let f = g.open("f", CREAT, WRITE).unwrap();
    let d = g.open("d", DIRECTORY, READ).unwrap();
    assert_eq!(g.open("f", DIRECTORY, READ), Err(Errno::Notdir));
    assert_eq!(g.open("d", DIRECTORY | CREAT, READ), Err(Errno::Inval));
    assert_eq!(g.open("d", 0, WRITE), Err(Errno::Isdir));
    assert_eq!(g.open_at(f, "x", 0, READ, 0), Err(Errno::Notdir));
    assert_eq!(g.open_at(0, "x", 0, READ, 0), Err(Errno::Badf));
    let inner = g.open_at(d, "x", CREAT, WRITE, 0).unwrap();
    g.write(inner, b"x").unwrap();
    assert!(dir.path().join("d/x").exists());
    // A directory is not read as a file.
    assert_eq!(g.read(d, 1), Err(Errno::Badf));
    assert_eq!(g.write(d, b"x"), Err(Errno::Badf));
    assert_eq!(g.seek(d, 0, 0), Err(Errno::Badf));
    assert_eq!(g.readdir(f, 0, 100), Err(Errno::Badf));
    assert_eq!(g.fd_stat(d).map(|(kind, _)| kind), Ok(3));
}

#[test]
fn a_directory_is_read_in_order_with_cookies() {
    let dir = temp();
    let mut want: Vec<String> = (0..200).map(|n| format!("file-{n}-{}", "x".repeat(n % 30))).collect();
    for name in &want {
        fs::write(dir.path().join(name), b"").unwrap();
    }
    want.sort_unstable();
    let mut g = Guest::with_dir(dir.path());
    assert_eq!(g.names(3), want);
    let (all, used) = g.readdir(3, 0, 100_000).unwrap();
    assert!(used < 100_000);
    assert_eq!((all[0].1.as_str(), all[1].1.as_str(), all.len()), (".", "..", 202));
    let (tail, _) = g.readdir(3, all[150].0, 100_000).unwrap();
    assert_eq!(tail, all[151..]);
    assert_eq!(g.readdir(3, all[201].0, 1000).unwrap(), (vec![], 0));
    assert_eq!(g.readdir(3, u64::MAX, 1000).unwrap(), (vec![], 0));
    // A buffer too small for a header, or a name, is filled all the same.
    assert_eq!(g.readdir(3, 0, 10).unwrap(), (vec![], 10));
    assert_eq!(g.readdir(3, 5, 30).unwrap(), (vec![], 30));
}

#[test]
fn deleting_while_reading_misses_nothing() {
    let dir = temp();
    for n in 0..100 {
        fs::write(dir.path().join(format!("{n:03}")), b"").unwrap();
    }
    let mut g = Guest::with_dir(dir.path());
    let (mut cookie, mut seen) = (0, 0);
    loop {
        let (entries, used) = g.readdir(3, cookie, 200).unwrap();
        for (next, name) in entries {
            cookie = next;
            if name.starts_with('.') {
                continue;
            }
            g.unlink(&name).unwrap();
            seen += 1;
        }
        if used < 200 {
            break;
        }
    }
    assert_eq!(seen, 100);
    assert_eq!(g.names(3), Vec::<String>::new());
}

#[test]
fn preopened_directories_are_told() {
    let dir = temp();
    let mut g = Guest::with_dir(dir.path());
    answer(g.wasi.fd_prestat_get(&mut g.mem, 3, OUT)).unwrap();
    assert_eq!((g.mem[0], g.u32(4)), (0, 5));
    answer(g.wasi.fd_prestat_dir_name(&mut g.mem, 3, DATA, 5)).unwrap();
    assert_eq!(&g.mem[DATA as usize..][..5], b"/data");
    assert_eq!(answer(g.wasi.fd_prestat_dir_name(&mut g.mem, 3, DATA, 4)), Err(Errno::Nametoolong));
    assert_eq!(answer(g.wasi.fd_prestat_get(&mut g.mem, 4, OUT)), Err(Errno::Badf));
    assert_eq!(answer(g.wasi.fd_prestat_get(&mut g.mem, 0, OUT)), Err(Errno::Badf));
    assert_eq!(answer(g.wasi.fd_prestat_dir_name(&mut g.mem, 0, DATA, 5)), Err(Errno::Notdir));
}

#[test]
fn a_read_only_directory_refuses_every_change() {
    let dir = temp();
    fs::write(dir.path().join("a"), b"abc").unwrap();
    fs::create_dir(dir.path().join("d")).unwrap();
    let read_only = Preopen { read_only: true, ..preopen(dir.path()) };
    let mut g = Guest::new(Config { dirs: vec![read_only], ..Config::default() }, Stdin::Null);
    let perm = Err(Errno::Perm);
    assert_eq!(g.open("a", 0, WRITE).map(drop), perm);
    assert_eq!(g.open("a", TRUNC, READ).map(drop), perm);
    assert_eq!(g.open("new", CREAT, READ).map(drop), perm);
    assert_eq!(g.mkdir("new"), perm);
    assert_eq!(g.unlink("a"), perm);
    assert_eq!(g.rmdir("d"), perm);
    assert_eq!(g.rename("a", "b"), perm);
    assert_eq!(g.link("a", "b"), perm);
    assert_eq!(g.symlink("a", "b"), perm);
    let (path, len) = g.path("a");
    assert_eq!(answer(g.wasi.path_filestat_set_times(&mut g.mem, 3, 1, path, len, 0, 0, 1)), perm);
    let fd = g.open("a", 0, READ).unwrap();
    assert_eq!(answer(g.wasi.fd_filestat_set_size(&mut g.mem, fd, 0)), perm);
    assert_eq!(answer(g.wasi.fd_allocate(&mut g.mem, fd, 0, 9)), perm);
    assert_eq!(answer(g.wasi.fd_filestat_set_times(&mut g.mem, fd, 0, 0, 1)), perm);
    assert_eq!(answer(g.wasi.fd_filestat_set_times(&mut g.mem, 3, 0, 0, 1)), perm);
    assert_eq!(g.write(fd, b"x"), Err(Errno::Badf));
    assert_eq!(g.read(fd, 9).unwrap(), b"abc");
    // A directory inside is just as closed.
    let d = g.open("d", DIRECTORY, READ).unwrap();
    assert_eq!(g.open_at(d, "new", CREAT, WRITE, 0).map(drop), perm);
    assert_eq!(g.names(3), ["a", "d"]);
}
