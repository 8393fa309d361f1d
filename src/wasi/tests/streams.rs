//! Standard streams, arguments, clocks, chance.

use std::{io, io::Write, os::fd::OwnedFd};

use super::*;
use crate::wasi::{Output, Stream};

#[test]
fn output_is_written_and_counted() {
    let mut g = Guest::new(Config::default(), Stdin::Null);
    assert_eq!(g.write(1, b"hello "), Ok(6));
    let (iovs, n) = g.buffers(&[3, 0, 2]);
    g.mem[DATA as usize..][..5].copy_from_slice(b"world");
    answer(g.wasi.fd_write(&mut g.mem, 1, iovs, n, OUT)).unwrap();
    assert_eq!((g.u32(OUT), g.out.contents()), (5, b"hello world".to_vec()));
    assert_eq!(g.write(2, b"err"), Ok(3));
    let streams = g.wasi.streams();
    assert_eq!((streams.stdout_written, streams.stderr_written), (11, 3));
    assert_eq!(g.write(0, b"x"), Err(Errno::Badf));
    assert_eq!(g.read(1, 1), Err(Errno::Badf));
    assert_eq!(g.pwrite(1, b"x", 0), Err(Errno::Spipe));
    assert_eq!(g.pread(0, 1, 0), Err(Errno::Spipe));
    assert_eq!(g.seek(1, 0, 0), Err(Errno::Spipe));
    assert_eq!(g.tell(0), Err(Errno::Spipe));
    assert_eq!(g.fd_stat(1), Ok((0, 0)));
    g.close(1).unwrap();
    assert_eq!(g.write(1, b"x"), Err(Errno::Badf));
    let g = g.resumed().unwrap();
    assert_eq!(g.wasi.streams().stdout_written, 11);
}

struct Failing(fn() -> io::Error);

impl Output for Failing {
    fn write(&mut self, _bytes: &[u8]) -> io::Result<()> {
        Err((self.0)())
    }

    fn is_terminal(&self) -> bool {
        true
    }
}

#[test]
fn errors_of_output_go_to_the_guest_or_stop_it() {
    let with = |error| {
        let mut host = host(Stdin::Null, &OutputBuffer::default());
        host.stdout = Box::new(Failing(error));
        let mut g = Guest::new(Config::default(), Stdin::Null);
        g.wasi = Wasi::new(Config::default(), host).unwrap();
        g
    };
    let mut g = with(|| io::Error::from_raw_os_error(rustix::io::Errno::NOSPC.raw_os_error()));
    assert_eq!(g.write(1, b"x"), Err(Errno::Nospc));
    assert_eq!(g.wasi.streams().stdout_written, 0);
    let mut g = with(|| io::Error::other("the ledger is full"));
    let (iovs, n) = g.buffers(&[1]);
    let Err(Stop::Fail(error)) = g.wasi.fd_write(&mut g.mem, 1, iovs, n, OUT) else { panic!("not stopped") };
    assert_eq!(format!("{error:#}"), "the guest's standard output cannot be written: the ledger is full");
    // The guest sees a terminal, and sees it still when it goes on into a file.
    let kind = |g: &mut Guest| g.fd_stat(1).unwrap().0;
    assert_eq!(kind(&mut g), 2);
    assert_eq!(kind(&mut g.resumed().unwrap()), 2);
}

#[test]
fn bytes_as_input() {
    let mut g = Guest::new(Config::default(), Stdin::Bytes(b"abcdef".to_vec()));
    assert_eq!(g.read(0, 4).unwrap(), b"abcd");
    let (version, state) = g.wasi.save().unwrap();
    let again = |bytes: &[u8]| {
        let host = host(Stdin::Bytes(bytes.to_vec()), &OutputBuffer::default());
        Wasi::restore(version, &state, host, Restore::default())
    };
    g.wasi = again(b"abcdef").unwrap();
    assert_eq!(g.read_into(0, &[0, 4]).unwrap(), b"ef");
    assert_eq!(g.read(0, 4).unwrap(), b"");
    assert!(error_of(again(b"abc")).contains("has read 4 bytes, but is given only 3"));
}

#[test]
fn a_file_as_input_is_repositioned_and_checked() {
    let dir = temp();
    let path = dir.path().join("input");
    std::fs::write(&path, b"0123456789").unwrap();
    let stdin = || Stdin::File { file: std::fs::File::open(&path).unwrap(), base: 2 };
    let mut g = Guest::new(Config::default(), stdin());
    assert_eq!(g.read(0, 3).unwrap(), b"234");
    let (version, state) = g.wasi.save().unwrap();
    let again =
        |stdin| Wasi::restore(version, &state, host(stdin, &OutputBuffer::default()), Restore::default());
    g.wasi = again(stdin()).unwrap();
    assert_eq!(g.read(0, 100).unwrap(), b"56789");
    assert!(error_of(again(Stdin::Null)).contains("give it the same file again"));
    std::fs::write(&path, b"0123456789a").unwrap();
    assert!(error_of(again(stdin())).contains("has changed since the snapshot"));
    // Taken as it is, it is the file from then on.
    let accept = Restore { accept_changed: true, ..Restore::default() };
    let given = host(stdin(), &OutputBuffer::default());
    g.wasi = Wasi::restore(version, &state, given, accept).unwrap();
    assert_eq!(g.read(0, 3).unwrap(), b"567");
    let (version, state) = g.wasi.save().unwrap();
    let given = host(stdin(), &OutputBuffer::default());
    g.wasi = Wasi::restore(version, &state, given, Restore::default()).unwrap();
    assert_eq!(g.read(0, 100).unwrap(), b"89a");
}

#[test]
fn a_pipe_as_input_ends_once() {
    let (reader, mut writer) = io::pipe().unwrap();
    writer.write_all(b"abc").unwrap();
    drop(writer);
    let mut g = Guest::new(Config::default(), Stdin::from_fd(OwnedFd::from(reader)).unwrap());
    assert_eq!(g.read(0, 0).unwrap(), b"");
    assert_eq!(g.read_into(0, &[2, 100]).unwrap(), b"ab");
    assert_eq!(g.read(0, 100).unwrap(), b"c");
    assert_eq!(g.read(0, 100).unwrap(), b"");
    let (version, state) = g.wasi.save().unwrap();
    let more = Stdin::Bytes(b"abcdef".to_vec());
    g.wasi =
        Wasi::restore(version, &state, host(more, &OutputBuffer::default()), Restore::default()).unwrap();
    assert_eq!(g.read(0, 100).unwrap(), b"");
}

#[test]
fn arguments_and_environment() {
    let config = Config {
        args: vec!["prog".to_string(), "ä".to_string()],
        env: vec![("A".to_string(), "1=2".to_string())],
        ..Config::default()
    };
    let mut g = Guest::new(config, Stdin::Null);
    g = g.resumed().unwrap();
    answer(g.wasi.args_sizes_get(&mut g.mem, 0, 4)).unwrap();
    assert_eq!((g.u32(0), g.u32(4)), (2, 8));
    answer(g.wasi.args_get(&mut g.mem, 0, DATA)).unwrap();
    assert_eq!((g.u32(0), g.u32(4)), (DATA, DATA + 5));
    assert_eq!(&g.mem[DATA as usize..][..8], "prog\0ä\0".as_bytes());
    answer(g.wasi.environ_sizes_get(&mut g.mem, 0, 4)).unwrap();
    assert_eq!((g.u32(0), g.u32(4)), (1, 6));
    answer(g.wasi.environ_get(&mut g.mem, 0, DATA)).unwrap();
    assert_eq!(&g.mem[DATA as usize..][..6], b"A=1=2\0");
    let end = g.mem.len() as u32;
    assert_eq!(answer(g.wasi.args_get(&mut g.mem, 0, end - 3)), Err(Errno::Fault));
    assert_eq!(answer(g.wasi.args_get(&mut g.mem, end - 4, 0)), Err(Errno::Fault));

    for (name, value) in [("", "x"), ("A=B", "x"), ("A", "x\0y")] {
        let env = vec![(name.to_string(), value.to_string())];
        let config = Config { env, ..Config::default() };
        assert!(Wasi::new(config, host(Stdin::Null, &OutputBuffer::default())).is_err());
    }
}

#[test]
fn exit_is_remembered() {
    let mut g = Guest::new(Config::default(), Stdin::Null);
    assert!(matches!(g.wasi.proc_exit(&mut g.mem, 42), Err(Stop::Exit(42))));
    assert_eq!(g.resumed().unwrap().wasi.exit_code(), Some(42));
}

#[test]
fn there_are_no_sockets_or_signals() {
    let mut g = Guest::new(Config::default(), Stdin::Null);
    let m = &mut g.mem;
    assert_eq!(answer(g.wasi.sock_accept(m, 1, 0, 0)), Err(Errno::Notsock));
    assert_eq!(answer(g.wasi.sock_recv(m, 1, 0, 0, 0, 0, 0)), Err(Errno::Notsock));
    assert_eq!(answer(g.wasi.sock_send(m, 1, 0, 0, 0, 0)), Err(Errno::Notsock));
    assert_eq!(answer(g.wasi.sock_shutdown(m, 9, 0)), Err(Errno::Badf));
    assert_eq!(answer(g.wasi.proc_raise(m, 1)), Err(Errno::Notsup));
    assert_eq!(answer(g.wasi.sched_yield(m)), Ok(()));
}

#[test]
fn monotonic_time_goes_on_and_never_back() {
    let mut g = Guest::new(Config::default(), Stdin::Null);
    let time = |g: &mut Guest, id| {
        answer(g.wasi.clock_time_get(&mut g.mem, id, 0, OUT)).unwrap();
        g.u64(OUT)
    };
    // Not looked at: not part of the state.
    let (_, before) = g.wasi.save().unwrap();
    std::thread::sleep(std::time::Duration::from_millis(2));
    assert_eq!(g.wasi.save().unwrap().1, before);
    let mut last = time(&mut g, 1);
    for _ in 0..3 {
        g = g.resumed().unwrap();
        let now = time(&mut g, 1);
        assert!(now >= last, "{now} after {last}");
        assert!(now - last < 10_000_000_000, "{now} after {last}");
        last = now;
    }
    // A snapshot that is an hour old goes on where it was.
    let (version, state) = g.wasi.save().unwrap();
    std::thread::sleep(std::time::Duration::from_millis(300));
    g = g.with_state(version, &state, Restore::default()).unwrap();
    assert!(time(&mut g, 1) - last < 250_000_000);
    assert!(time(&mut g, 0) > 1_600_000_000_000_000_000);
    answer(g.wasi.clock_res_get(&mut g.mem, 1, OUT)).unwrap();
    assert!((1..1_000_000_000).contains(&g.u64(OUT)));
    for (id, errno) in [(2, Errno::Badf), (3, Errno::Badf), (4, Errno::Inval)] {
        assert_eq!(answer(g.wasi.clock_time_get(&mut g.mem, id, 0, OUT)), Err(errno));
        assert_eq!(answer(g.wasi.clock_res_get(&mut g.mem, id, OUT)), Err(errno));
    }
}

#[test]
fn chance_goes_on_where_it_was() {
    let config = |seed| Config { seed, ..Config::default() };
    let take = |g: &mut Guest, len: u32| {
        answer(g.wasi.random_get(&mut g.mem, DATA, len)).unwrap();
        g.mem[DATA as usize..][..len as usize].to_vec()
    };
    let mut straight = Guest::new(config(Some([1; 32])), Stdin::Null);
    let mut cut = Guest::new(config(Some([1; 32])), Stdin::Null);
    let mut got = take(&mut cut, 33);
    cut = cut.resumed().unwrap();
    got.extend(take(&mut cut, 67));
    assert_eq!(got, take(&mut straight, 100));
    let mut other = Guest::new(config(None), Stdin::Null);
    assert_ne!(take(&mut other, 100), got);
    let end = other.mem.len() as u32;
    assert_eq!(answer(other.wasi.random_get(&mut other.mem, end - 1, 2)), Err(Errno::Fault));
}

#[test]
fn a_stream_is_told_from_a_file() {
    let file = tempfile::tempfile().unwrap();
    assert!(matches!(Stdin::from_fd(file.into()).unwrap(), Stdin::File { base: 0, .. }));
    let (reader, _writer) = io::pipe().unwrap();
    assert!(matches!(Stdin::from_fd(reader.into()).unwrap(), Stdin::Stream(_)));
    assert_eq!(Stream::Stderr as usize, 2);
}
