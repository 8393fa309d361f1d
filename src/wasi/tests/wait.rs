//! Calls that wait, and how they are stopped.

use std::{
    io::{self, Write},
    os::fd::OwnedFd,
    thread,
    time::{Duration, Instant},
};

use super::*;
use crate::wasi::ClockMode;

const MILLI: u64 = 1_000_000;
/// Where subscriptions are.
const SUBS: u32 = DATA + (1 << 16);

/// A subscription to a clock.
fn clock(g: &mut Guest, index: u32, userdata: u64, id: u32, timeout: u64, flags: u16) {
    let at = (SUBS + index * 48) as usize;
    g.mem[at..at + 48].fill(0);
    g.mem[at..at + 8].copy_from_slice(&userdata.to_le_bytes());
    g.mem[at + 16..at + 20].copy_from_slice(&id.to_le_bytes());
    g.mem[at + 24..at + 32].copy_from_slice(&timeout.to_le_bytes());
    g.mem[at + 40..at + 42].copy_from_slice(&flags.to_le_bytes());
}

/// A subscription to reading (1) or writing (2) a descriptor.
fn descriptor(g: &mut Guest, index: u32, userdata: u64, kind: u8, fd: u32) {
    clock(g, index, userdata, fd, 0, 0);
    g.mem[(SUBS + index * 48) as usize + 8] = kind;
}

fn poll(g: &mut Guest, count: u32) -> Result<Errno, Stop> {
    g.wasi.poll_oneoff(&mut g.mem, SUBS, DATA, count, OUT)
}

/// The events, as (userdata, error, type, bytes, flags).
fn events(g: &Guest) -> Vec<(u64, u8, u8, u64, u8)> {
    (0..g.u32(OUT))
        .map(|n| {
            let at = DATA + n * 32;
            let byte = |offset: u32| g.mem[(at + offset) as usize];
            (g.u64(at), byte(8), byte(10), g.u64(at + 16), byte(24))
        })
        .collect()
}

#[test]
fn sleeping_takes_its_time_and_no_more() {
    let mut g = Guest::new(Config::default(), Stdin::Null);
    for (id, flags) in [(1, 0), (0, 0)] {
        clock(&mut g, 0, 7, id, 30 * MILLI, flags);
        clock(&mut g, 1, 8, id, 3_600_000 * MILLI, flags);
        let start = Instant::now();
        answer(poll(&mut g, 2)).unwrap();
        let slept = start.elapsed();
        assert!((30..2000).contains(&slept.as_millis()), "{slept:?}");
        assert_eq!(events(&g), [(7, 0, 0, 0, 0)]);
    }
}

#[test]
fn absolute_times_are_points_in_time() {
    let mut g = Guest::new(Config::default(), Stdin::Null);
    for id in [0, 1] {
        answer(g.wasi.clock_time_get(&mut g.mem, id, 0, OUT)).unwrap();
        let now = g.u64(OUT);
        clock(&mut g, 0, 1, id, now + 20 * MILLI, 1);
        let start = Instant::now();
        answer(poll(&mut g, 1)).unwrap();
        assert!((15..2000).contains(&start.elapsed().as_millis()), "{:?}", start.elapsed());
        clock(&mut g, 0, 1, id, now.saturating_sub(1), 1);
        answer(poll(&mut g, 1)).unwrap();
        assert!(start.elapsed().as_millis() < 2000);
    }
}

#[test]
fn files_and_output_are_ready_at_once() {
    let dir = temp();
    std::fs::write(dir.path().join("a"), b"abc").unwrap();
    let mut g = Guest::with_dir(dir.path());
    let fd = g.open("a", 0, READ).unwrap();
    clock(&mut g, 0, 1, 1, 3_600_000 * MILLI, 0);
    descriptor(&mut g, 1, 2, 1, fd);
    descriptor(&mut g, 2, 3, 2, 1);
    descriptor(&mut g, 3, 4, 1, 0);
    answer(poll(&mut g, 4)).unwrap();
    assert_eq!(events(&g), [(2, 0, 1, 1, 0), (3, 0, 2, 1, 0), (4, 0, 1, 1, 0)]);
    g.seek(fd, 3, 0).unwrap();
    descriptor(&mut g, 0, 2, 1, fd);
    answer(poll(&mut g, 1)).unwrap();
    assert_eq!(events(&g), [(2, 0, 1, 1, 1)], "at the end");
}

#[test]
fn what_cannot_be_waited_for_is_refused() {
    let dir = temp();
    let mut g = Guest::with_dir(dir.path());
    assert_eq!(answer(poll(&mut g, 0)), Err(Errno::Inval));
    assert_eq!(answer(poll(&mut g, 1 << 17)), Err(Errno::Nomem));
    for (kind, fd, errno) in [
        (1, 3, Errno::Badf),
        (1, 1, Errno::Badf),
        (2, 0, Errno::Badf),
        (1, 99, Errno::Badf),
        (3, 0, Errno::Inval),
    ] {
        descriptor(&mut g, 0, 1, kind, fd);
        assert_eq!(answer(poll(&mut g, 1)), Err(errno));
    }
    clock(&mut g, 0, 1, 2, 0, 0);
    assert_eq!(answer(poll(&mut g, 1)), Err(Errno::Inval));
    clock(&mut g, 0, 1, 1, 0, 2);
    assert_eq!(answer(poll(&mut g, 1)), Err(Errno::Inval));
    let end = g.mem.len() as u32;
    let got = g.wasi.poll_oneoff(&mut g.mem, end - 47, 0, 1, OUT);
    assert_eq!(answer(got), Err(Errno::Fault));
    let got = g.wasi.poll_oneoff(&mut g.mem, DATA, end - 31, 1, OUT);
    assert_eq!(answer(got), Err(Errno::Fault));
}

/// Makes a request after so many ms; tells when.
fn request_after(g: &Guest, millis: u64) -> thread::JoinHandle<Instant> {
    let interrupt = g.wasi.interrupt().clone();
    thread::spawn(move || {
        thread::sleep(Duration::from_millis(millis));
        let at = Instant::now();
        interrupt.request();
        at
    })
}

/// Other tests run on the same cores: what must be quick has to be so in one of a few tries.
fn in_some_try(test: fn()) {
    let tries = (0..4).any(|_| std::panic::catch_unwind(test).is_ok());
    if !tries {
        test();
    }
}

#[test]
fn a_request_stops_a_sleep_and_what_was_slept_counts() {
    in_some_try(stops_a_sleep);
}

fn stops_a_sleep() {
    let mut g = Guest::new(Config::default(), Stdin::Null);
    clock(&mut g, 0, 7, 1, 200 * MILLI, 0);
    let requested = request_after(&g, 120);
    let start = Instant::now();
    assert!(matches!(poll(&mut g, 1), Err(Stop::Suspend)));
    let late = requested.join().unwrap().elapsed();
    assert!(late < Duration::from_millis(50), "stopped {late:?} after the request");
    // As long as the request stands, the call suspends at once.
    assert!(matches!(poll(&mut g, 1), Err(Stop::Suspend)));
    assert!(start.elapsed() < Duration::from_millis(190));
    let mut g = g.resumed().unwrap();
    let start = Instant::now();
    answer(poll(&mut g, 1)).unwrap();
    let rest = start.elapsed().as_millis();
    assert!((20..150).contains(&rest), "{rest} ms for the rest of 80");
    assert_eq!(events(&g), [(7, 0, 0, 0, 0)]);
    // The wait is over: the same call is a new one.
    let start = Instant::now();
    answer(poll(&mut g, 1)).unwrap();
    assert!(start.elapsed() >= Duration::from_millis(200));
}

#[test]
fn a_request_does_not_stop_what_is_ready() {
    let mut g = Guest::new(Config::default(), Stdin::Null);
    g.wasi.interrupt().request();
    clock(&mut g, 0, 7, 1, 0, 0);
    assert_eq!(answer(poll(&mut g, 1)), Ok(()));
    clock(&mut g, 0, 7, 1, MILLI, 0);
    assert!(matches!(poll(&mut g, 1), Err(Stop::Suspend)));
    g.wasi.interrupt().clear();
    assert_eq!(answer(poll(&mut g, 1)), Ok(()));
}

#[test]
fn a_request_stops_the_reading_of_an_empty_pipe() {
    in_some_try(stops_reading);
}

fn stops_reading() {
    let (reader, mut writer) = io::pipe().unwrap();
    let mut g = Guest::new(Config::default(), Stdin::Stream(OwnedFd::from(reader)));
    let (iovs, n) = g.buffers(&[10]);
    let requested = request_after(&g, 50);
    assert!(matches!(g.wasi.fd_read(&mut g.mem, 0, iovs, n, OUT), Err(Stop::Suspend)));
    assert!(requested.join().unwrap().elapsed() < Duration::from_millis(50));
    // What is there is read, request or not.
    writer.write_all(b"abc").unwrap();
    assert_eq!(g.read(0, 10).unwrap(), b"abc");
    g.wasi.interrupt().clear();
    let late = thread::spawn(move || {
        thread::sleep(Duration::from_millis(30));
        writer.write_all(b"def").unwrap();
    });
    assert_eq!(g.read(0, 10).unwrap(), b"def");
    late.join().unwrap();
    assert_eq!(g.read(0, 10).unwrap(), b"", "the pipe has ended");
}

#[test]
fn a_pipe_can_be_waited_for() {
    let (reader, mut writer) = io::pipe().unwrap();
    let mut g = Guest::new(Config::default(), Stdin::Stream(OwnedFd::from(reader)));
    descriptor(&mut g, 0, 1, 1, 0);
    clock(&mut g, 1, 2, 1, 20 * MILLI, 0);
    answer(poll(&mut g, 2)).unwrap();
    assert_eq!(events(&g), [(2, 0, 0, 0, 0)]);
    clock(&mut g, 1, 2, 1, 10_000 * MILLI, 0);
    let late = thread::spawn(move || {
        thread::sleep(Duration::from_millis(30));
        writer.write_all(b"x").unwrap();
        writer
    });
    answer(poll(&mut g, 2)).unwrap();
    assert_eq!(events(&g), [(1, 0, 1, 1, 0)]);
    drop(late.join().unwrap());
    g.read(0, 1).unwrap();
    answer(poll(&mut g, 2)).unwrap();
    assert_eq!(events(&g), [(1, 0, 1, 1, 0)], "an ended pipe can be read");
    let requested = request_after(&g, 30);
    clock(&mut g, 0, 1, 1, 10_000 * MILLI, 0);
    assert!(matches!(poll(&mut g, 2), Err(Stop::Suspend)));
    requested.join().unwrap();
}

#[test]
fn sleeping_costs_no_processor_time() {
    use rustix::time::{ClockId, clock_gettime};
    let mut g = Guest::new(Config::default(), Stdin::Null);
    clock(&mut g, 0, 1, 1, 200 * MILLI, 0);
    // A request that was taken back must not keep it awake.
    g.wasi.interrupt().request();
    g.wasi.interrupt().clear();
    let used = || {
        let time = clock_gettime(ClockId::ThreadCPUTime);
        time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
    };
    let before = used();
    answer(poll(&mut g, 1)).unwrap();
    assert!(used() - before < 5 * MILLI, "{} ns", used() - before);
}

#[test]
fn a_fixed_clock_depends_on_the_guest_alone() {
    let run = |cut: bool| {
        let clock_mode = ClockMode::Fixed { realtime: 1_000_000_000_000_000_000 };
        let config = Config { clock: clock_mode, seed: Some([1; 32]), ..Config::default() };
        let mut g = Guest::new(config, Stdin::Null);
        let mut seen = Vec::new();
        for round in 0..3u64 {
            for id in [0, 1] {
                answer(g.wasi.clock_time_get(&mut g.mem, id, 0, OUT)).unwrap();
                seen.push(g.u64(OUT));
            }
            clock(&mut g, 0, 1, 1, (round + 1) * 3_600_000 * MILLI, 0);
            answer(poll(&mut g, 1)).unwrap();
            assert_eq!(events(&g), [(1, 0, 0, 0, 0)]);
            if cut {
                g = g.resumed().unwrap();
            }
        }
        (seen, g.wasi.save().unwrap())
    };
    let start = Instant::now();
    let (seen, state) = run(false);
    assert_eq!((seen.clone(), state), run(true));
    assert_eq!(seen[0], 1_000_000_000_000_000_000 + 1000, "a look takes 1 us");
    assert_eq!(seen[3] - seen[1], 3_600_000 * MILLI + 3000, "a wait of an hour, and three looks");
    assert!(start.elapsed() < Duration::from_secs(60));
}
