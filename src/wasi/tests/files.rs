//! Reading, writing and attributes of files.

use std::fs;

use super::*;

#[test]
fn write_seek_read() {
    let dir = temp();
    let mut g = Guest::with_dir(dir.path());
    let fd = g.open("a.txt", CREAT | EXCL, READ | WRITE).unwrap();
    assert_eq!(fd, 4);
    assert_eq!(g.write(fd, b"hello world"), Ok(11));
    assert_eq!(g.tell(fd), Ok(11));
    assert_eq!(g.seek(fd, -5, 1), Ok(6));
    assert_eq!(g.read(fd, 100).unwrap(), b"world");
    assert_eq!(g.read(fd, 100).unwrap(), b"");
    assert_eq!(g.seek(fd, -11, 2), Ok(0));
    assert_eq!(g.seek(fd, -1, 0), Err(Errno::Inval));
    assert_eq!(g.seek(fd, 0, 3), Err(Errno::Inval));
    assert_eq!(g.pwrite(fd, b"HELL", 0), Ok(4));
    assert_eq!(g.tell(fd), Ok(0));
    assert_eq!(g.pread(fd, 5, 3).unwrap(), b"Lo wo");
    assert_eq!(g.pread(fd, 5, u64::MAX), Err(Errno::Inval));
    assert_eq!(g.fd_stat(fd), Ok((4, 11)));
    assert_eq!(g.close(fd), Ok(()));
    assert_eq!(g.read(fd, 1), Err(Errno::Badf));
    assert_eq!(fs::read(dir.path().join("a.txt")).unwrap(), b"HELLo world");
    assert_eq!(g.open("a.txt", CREAT | EXCL, READ | WRITE), Err(Errno::Exist));
    assert_eq!(g.open("b.txt", 0, READ), Err(Errno::Noent));
}

#[test]
fn several_buffers_are_one_stream() {
    let dir = temp();
    let data: Vec<u8> = (0..=255).collect();
    fs::write(dir.path().join("a"), &data).unwrap();
    let mut g = Guest::with_dir(dir.path());
    let fd = g.open("a", 0, READ).unwrap();
    // One call, two, many; with empty buffers in between, and falling short at the end.
    assert_eq!(g.read_into(fd, &[10]).unwrap(), data[..10]);
    assert_eq!(g.read_into(fd, &[10, 0, 20]).unwrap(), data[10..40]);
    assert_eq!(g.read_into(fd, &[1, 2, 3, 4, 5]).unwrap(), data[40..55]);
    assert_eq!(g.read_into(fd, &[100, 100, 100]).unwrap(), data[55..]);
    assert_eq!(g.read_into(fd, &[0, 0]).unwrap(), b"");
    // More buffers than one call uses: served in part.
    g.seek(fd, 0, 0).unwrap();
    assert_eq!(g.read_into(fd, &[1; 30]).unwrap(), data[..16]);

    let out = g.open("b", CREAT | TRUNC, WRITE).unwrap();
    let (iovs, n) = g.buffers(&[3, 0, 5, 8]);
    g.mem[DATA as usize..][..16].copy_from_slice(&data[..16]);
    answer(g.wasi.fd_write(&mut g.mem, out, iovs, n, OUT)).unwrap();
    assert_eq!((g.u32(OUT), g.tell(out)), (16, Ok(16)));
    assert_eq!(fs::read(dir.path().join("b")).unwrap(), data[..16]);
}

#[test]
fn overlapping_buffers_are_read_one_after_the_other() {
    let dir = temp();
    fs::write(dir.path().join("a"), b"abcdef").unwrap();
    let mut g = Guest::with_dir(dir.path());
    let fd = g.open("a", 0, READ).unwrap();
    let (iovs, n) = g.buffers(&[3, 3]);
    let second = (DATA + 1).to_le_bytes();
    g.mem[iovs as usize + 8..][..4].copy_from_slice(&second);
    answer(g.wasi.fd_read(&mut g.mem, fd, iovs, n, OUT)).unwrap();
    assert_eq!((g.u32(OUT), &g.mem[DATA as usize..][..4]), (6, b"adef".as_slice()));
}

#[test]
fn appending_ignores_the_offset() {
    let dir = temp();
    fs::write(dir.path().join("log"), b"one\n").unwrap();
    let mut g = Guest::with_dir(dir.path());
    let fd = g.open_at(3, "log", 0, READ | WRITE, APPEND).unwrap();
    assert_eq!(g.write(fd, b"two\n"), Ok(4));
    assert_eq!(g.tell(fd), Ok(8));
    assert_eq!(g.pwrite(fd, b"three\n", 0), Ok(6));
    assert_eq!(fs::read(dir.path().join("log")).unwrap(), b"one\ntwo\nthree\n");
    // The flag can be taken off and put on.
    answer(g.wasi.fd_fdstat_set_flags(&mut g.mem, fd, 0)).unwrap();
    assert_eq!(g.pwrite(fd, b"ONE", 0), Ok(3));
    assert_eq!(fs::read(dir.path().join("log")).unwrap(), b"ONE\ntwo\nthree\n");
    assert_eq!(answer(g.wasi.fd_fdstat_set_flags(&mut g.mem, fd, fdflags::SYNC)), Err(Errno::Inval));
    assert_eq!(answer(g.wasi.fd_fdstat_set_flags(&mut g.mem, fd, 64)), Err(Errno::Inval));
    assert_eq!(answer(g.wasi.fd_fdstat_set_flags(&mut g.mem, 1, 0)), Err(Errno::Badf));
}

#[test]
fn reading_and_writing_follow_how_it_was_opened() {
    let dir = temp();
    fs::write(dir.path().join("a"), b"abc").unwrap();
    let mut g = Guest::with_dir(dir.path());
    let r = g.open("a", 0, READ).unwrap();
    assert_eq!(g.write(r, b"x"), Err(Errno::Badf));
    let w = g.open("a", 0, WRITE).unwrap();
    assert_eq!(g.read(w, 1), Err(Errno::Badf));
    assert_eq!(g.write(w, b"x"), Ok(1));
    assert_eq!(g.open("a", 0, 1 << 40), Err(Errno::Inval));
    assert_eq!(g.open_at(3, "a", 0, READ, fdflags::SYNC), Err(Errno::Notsup));
    // As in the reference: making a file opens it for writing, and not to write is to read.
    let c = g.open("c", CREAT, 0).unwrap();
    assert_eq!(g.write(c, b"x"), Ok(1));
    assert_eq!(g.seek(c, 0, 0), Ok(0));
    assert_eq!(g.read(c, 1).unwrap(), b"x");
}

#[test]
fn rights_and_flags_are_told() {
    let dir = temp();
    let mut g = Guest::with_dir(dir.path());
    let stat = |g: &mut Guest, fd| {
        answer(g.wasi.fd_fdstat_get(&mut g.mem, fd, OUT)).unwrap();
        (g.mem[0], g.mem[2], g.u64(8), g.u64(16))
    };
    assert_eq!(stat(&mut g, 0), (0, 0, READ, READ));
    assert_eq!(stat(&mut g, 1), (0, 0, WRITE, WRITE));
    // What the reference says of a preopened directory.
    assert_eq!(stat(&mut g, 3), (3, 0, 0x7b7_fe00, 0xfff7_ffff & 0xfff_ffff));
    let fd = g.open_at(3, "a", CREAT, WRITE, APPEND | fdflags::NONBLOCK).unwrap();
    let (kind, flags, base, _) = stat(&mut g, fd);
    assert_eq!((kind, flags, base & (READ | WRITE)), (4, 5, WRITE));
    g.mkdir("d").unwrap();
    let d = g.open("d", DIRECTORY, READ).unwrap();
    let (kind, _, base, _) = stat(&mut g, d);
    assert_eq!((kind, base & (READ | WRITE | rights::FD_SEEK)), (3, READ));
    assert_eq!(answer(g.wasi.fd_fdstat_get(&mut g.mem, 99, OUT)), Err(Errno::Badf));
    assert_eq!(answer(g.wasi.fd_fdstat_set_rights(&mut g.mem, fd, 0, 0)), Err(Errno::Notsup));
    assert_eq!(answer(g.wasi.fd_fdstat_set_rights(&mut g.mem, 1, 0, 0)), Err(Errno::Badf));
}

#[test]
fn sizes_and_times_can_be_set() {
    let dir = temp();
    let mut g = Guest::with_dir(dir.path());
    let fd = g.open("a", CREAT, READ | WRITE).unwrap();
    g.write(fd, b"abcdef").unwrap();
    answer(g.wasi.fd_filestat_set_size(&mut g.mem, fd, 3)).unwrap();
    assert_eq!(g.fd_stat(fd), Ok((4, 3)));
    answer(g.wasi.fd_allocate(&mut g.mem, fd, 0, 10)).unwrap();
    assert_eq!(g.fd_stat(fd), Ok((4, 10)));
    assert_eq!(answer(g.wasi.fd_filestat_set_size(&mut g.mem, fd, u64::MAX)), Err(Errno::Inval));

    let times = |g: &mut Guest| {
        g.stat("a", true).unwrap();
        (g.u64(OUT + 40), g.u64(OUT + 48))
    };
    answer(g.wasi.fd_filestat_set_times(&mut g.mem, fd, 5_000_000_001, 7_000_000_002, 1 | 4)).unwrap();
    assert_eq!(times(&mut g), (5_000_000_001, 7_000_000_002));
    let (path, len) = g.path("a");
    answer(g.wasi.path_filestat_set_times(&mut g.mem, 3, 1, path, len, 0, 9, 4)).unwrap();
    assert_eq!(times(&mut g), (5_000_000_001, 9));
    answer(g.wasi.fd_filestat_set_times(&mut g.mem, fd, 0, 0, 8)).unwrap();
    assert!(times(&mut g).1 > 1_600_000_000_000_000_000);
    for bad in [1 | 2, 4 | 8, 16] {
        let got = answer(g.wasi.fd_filestat_set_times(&mut g.mem, fd, 0, 0, bad));
        assert_eq!(got, Err(Errno::Inval));
    }
    // The link itself, not what it leads to.
    g.symlink("a", "l").unwrap();
    let (path, len) = g.path("l");
    answer(g.wasi.path_filestat_set_times(&mut g.mem, 3, 0, path, len, 0, 77, 4)).unwrap();
    g.stat("l", false).unwrap();
    assert_eq!(g.u64(OUT + 48), 77);
    assert_ne!(times(&mut g).1, 77);
    // A preopened directory too.
    answer(g.wasi.fd_filestat_set_times(&mut g.mem, 3, 0, 1, 4)).unwrap();
}

#[test]
fn sync_and_advise_take_files_only() {
    let dir = temp();
    let mut g = Guest::with_dir(dir.path());
    let fd = g.open("a", CREAT, WRITE).unwrap();
    assert_eq!(answer(g.wasi.fd_sync(&mut g.mem, fd)), Ok(()));
    assert_eq!(answer(g.wasi.fd_datasync(&mut g.mem, fd)), Ok(()));
    for advice in 0..6 {
        assert_eq!(answer(g.wasi.fd_advise(&mut g.mem, fd, 0, 0, advice)), Ok(()));
    }
    assert_eq!(answer(g.wasi.fd_advise(&mut g.mem, fd, 0, 0, 6)), Err(Errno::Inval));
    for other in [1, 3, 77] {
        assert_eq!(answer(g.wasi.fd_sync(&mut g.mem, other)), Err(Errno::Badf));
        assert_eq!(answer(g.wasi.fd_datasync(&mut g.mem, other)), Err(Errno::Badf));
        assert_eq!(answer(g.wasi.fd_advise(&mut g.mem, other, 0, 0, 0)), Err(Errno::Badf));
        assert_eq!(answer(g.wasi.fd_allocate(&mut g.mem, other, 0, 1)), Err(Errno::Badf));
    }
}

#[test]
fn descriptors_are_renumbered() {
    let dir = temp();
    let mut g = Guest::with_dir(dir.path());
    let a = g.open("a", CREAT, WRITE).unwrap();
    let b = g.open("b", CREAT, WRITE).unwrap();
    answer(g.wasi.fd_renumber(&mut g.mem, a, b)).unwrap();
    g.write(b, b"to a").unwrap();
    assert_eq!(g.write(a, b"x"), Err(Errno::Badf));
    assert_eq!(fs::read(dir.path().join("a")).unwrap(), b"to a");
    answer(g.wasi.fd_renumber(&mut g.mem, b, 1)).unwrap();
    g.write(1, b", too").unwrap();
    assert_eq!(fs::read(dir.path().join("a")).unwrap(), b"to a, too");
    assert_eq!(answer(g.wasi.fd_renumber(&mut g.mem, 1, 50)), Err(Errno::Badf));
    assert_eq!(g.out.contents(), b"");
}

#[test]
fn files_read_at_the_speed_of_the_host() {
    use std::{os::unix::fs::FileExt, time::Instant};
    let dir = temp();
    fs::write(dir.path().join("a"), vec![1; 1 << 20]).unwrap();
    let mut g = Guest::with_dir(dir.path());
    let fd = g.open("a", 0, READ).unwrap();
    let file = fs::File::open(dir.path().join("a")).unwrap();
    let (iovs, n) = g.buffers(&[4096]);
    let mut buffer = vec![0; 4096];
    let (mut ours, mut native) = (f64::MAX, f64::MAX);
    for _ in 0..20 {
        let start = Instant::now();
        for at in 0..256u64 {
            file.read_exact_at(&mut buffer, at * 4096).unwrap();
        }
        native = native.min(start.elapsed().as_secs_f64());
        let start = Instant::now();
        for at in 0..256u64 {
            answer(g.wasi.fd_pread(&mut g.mem, fd, iovs, n, at * 4096, OUT)).unwrap();
        }
        ours = ours.min(start.elapsed().as_secs_f64());
    }
    eprintln!("4 KiB pread: native {:.2} us, ours {:.2} us", native / 256e-6, ours / 256e-6);
    assert!(ours < native * 3.0, "ours {ours} s, native {native} s");
}
