//! Hostile guests and hostile snapshots: errors, never a panic.

use super::*;
use crate::wasi::{
    Access, Appended, ClockState, Content, Descriptor, DirectoryState, DiskState, FUNCTIONS, FileIdentity,
    FileState, Filetype, InputFile, Listed, Nameless, Place, Random, Root, State, Stream, StreamState,
    VERSION, Wait, Written, wasi_functions,
};

/// A generator of test values (splitmix64).
struct Rng(u64);

impl Rng {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number that is likely to be at an edge.
    fn odd(&mut self, mem_len: u64) -> u64 {
        match self.next() % 10 {
            0 => 0,
            1 => u64::MAX,
            2 => u64::from(u32::MAX),
            3 => i64::MAX as u64,
            4 => mem_len - self.next() % 70,
            5 => mem_len + self.next() % 70,
            6 | 7 => self.next() % 8,
            8 => self.next() % mem_len,
            _ => self.next(),
        }
    }
}

macro_rules! dispatch {
    ($($name:ident($($arg:ident: $kind:ty),*);)*) => {
        fn call(wasi: &mut Wasi, mem: &mut [u8], name: &str, mut next: impl FnMut() -> u64) -> Result<Errno, Stop> {
            match name {
                $(stringify!($name) => {
                    $(let $arg = next() as $kind;)*
                    wasi.$name(mem, $($arg),*)
                })*
                "proc_exit" => wasi.proc_exit(mem, next() as u32),
                other => panic!("{other} is in the table, but not in the macro"),
            }
        }
    };
}
wasi_functions!(dispatch);

#[test]
fn any_arguments_give_an_answer() {
    let dir = temp();
    let mut rng = Rng(1);
    let mut answers = std::collections::BTreeSet::new();
    for _ in 0..40 {
        let mut g = Guest::with_dir(dir.path());
        g.open("a", CREAT, READ | WRITE).unwrap();
        g.mem.truncate(1 << 16);
        for byte in &mut g.mem {
            *byte = rng.next() as u8 & 0x7f;
        }
        g.wasi.interrupt().request();
        let mem_len = g.mem.len() as u64;
        for function in (0..50).flat_map(|_| FUNCTIONS) {
            match call(&mut g.wasi, &mut g.mem, function.name, || rng.odd(mem_len)) {
                Ok(errno) => drop(answers.insert(errno.code())),
                Err(Stop::Suspend) => assert!(function.may_suspend(), "{}", function.name),
                Err(Stop::Exit(_)) => assert_eq!(function.name, "proc_exit"),
                Err(Stop::Fail(e)) => panic!("{}: {e:#}", function.name),
            }
        }
    }
    assert!(answers.len() > 10, "{answers:?}");
}

/// A state with something of everything in it.
fn rich_state(dir: &Path) -> Vec<u8> {
    let config = Config {
        args: vec!["prog".to_string(), "arg".to_string()],
        env: vec![("NAME".to_string(), "value".to_string())],
        dirs: vec![preopen(dir)],
        seed: Some([9; 32]),
        ..Config::default()
    };
    let mut g = Guest::new(config, Stdin::Null);
    g.mkdir("d").unwrap();
    for n in 0..10 {
        let fd = g.open(&format!("file-{n}"), CREAT, READ | WRITE).unwrap();
        g.write(fd, b"abc").unwrap();
    }
    g.close(7).unwrap();
    g.open("d", DIRECTORY, READ).unwrap();
    g.readdir(3, 0, 50).unwrap();
    g.fd_stat(1).unwrap();
    answer(g.wasi.clock_time_get(&mut g.mem, 1, 0, OUT)).unwrap();
    g.wasi.save().unwrap().1
}

#[test]
fn every_truncation_and_bit_flip_is_survived() {
    let dir = temp();
    let bytes = rich_state(dir.path());
    assert!(State::decode(VERSION, &bytes).is_ok());
    for len in 0..bytes.len() {
        assert!(State::decode(VERSION, &bytes[..len]).is_err(), "cut to {len}");
    }
    let mut longer = bytes.clone();
    longer.push(0);
    assert!(error_of(State::decode(VERSION, &longer)).contains("followed by 1 bytes"));
    assert!(error_of(State::decode(VERSION + 1, &bytes)).contains("has version 3; this build reads 2"));
    let mut refused = 0;
    for bit in 0..bytes.len() * 8 {
        let mut flipped = bytes.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        match State::decode(VERSION, &flipped) {
            Err(_) => refused += 1,
            // What is accepted is a state, and has these bytes only.
            Ok(state) => assert_eq!(state.encode().unwrap(), flipped),
        }
    }
    assert!(refused > bytes.len(), "{refused} refused");
}

#[test]
fn random_bytes_are_survived() {
    let dir = temp();
    let bytes = rich_state(dir.path());
    let mut rng = Rng(2);
    for _ in 0..20_000 {
        let mut wild = bytes.clone();
        for _ in 0..1 + rng.next() % 6 {
            let at = rng.next() as usize % wild.len();
            wild[at] = rng.next() as u8;
        }
        let host = host(Stdin::Null, &OutputBuffer::default());
        if State::decode(VERSION, &wild).is_ok() {
            let how = given(vec![Preopen { read_only: true, ..preopen(dir.path()) }]);
            let _ = Wasi::restore(VERSION, &wild, host, how);
        }
    }
    // A length of 2^63 elements, and nothing behind it.
    let huge = [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f];
    assert!(State::decode(VERSION, &huge).is_err());
}

#[test]
fn states_that_lie_are_refused() {
    let dir = temp();
    let bytes = rich_state(dir.path());
    let lie = |change: &dyn Fn(&mut State)| {
        let mut state = State::decode(VERSION, &bytes).unwrap();
        change(&mut state);
        error_of(State::decode(VERSION, &state.encode().unwrap()))
    };
    assert!(lie(&|s| s.numbers = 3).contains("descriptor 3 is out of range"));
    assert!(lie(&|s| s.numbers = u32::MAX).contains("more than 65536 descriptors"));
    assert!(lie(&|s| s.descriptors.swap(0, 1)).contains("out of range or order"));
    assert!(lie(&|s| s.roots.clear()).contains("there is no directory number 0"));
    assert!(lie(&|s| s.args.push("a\0b".to_string())).contains("NUL"));
    let long = "x".repeat(1 << 17);
    assert!(
        lie(&|s| s.descriptors.iter_mut().for_each(|(_, d)| {
            if let Descriptor::File(file) = d {
                file.place.path = long.clone();
            }
        }))
        .contains("a path of 131072 bytes")
    );
    let content = Content { size: 0, mtime: (0, 0), hash: None };
    let read = |path: &str| InputFile { place: Place { root: 0, path: path.to_string() }, content };
    for path in ["./a", "", "a//b", "a/../b", "/a"] {
        assert!(lie(&|s| s.inputs = vec![read(path)]).contains("plainest form"), "{path}");
    }
    assert!(lie(&|s| s.inputs = vec![read("b"), read("a")]).contains("the inputs are out of order"));
    assert!(lie(&|s| s.inputs = vec![read("a"), read("a")]).contains("the inputs are out of order"));
    let elsewhere = InputFile { place: Place { root: 7, path: "a".to_string() }, content };
    assert!(lie(&|s| s.inputs = vec![elsewhere.clone()]).contains("there is no directory number 7"));
    assert!(lie(&|s| s.disks = vec![DiskState { guest: String::new() }]).contains("has no name"));
    let root = |ino| Descriptor::DiskDirectory { disk: 0, ino, preopen: true, listing: None };
    assert!(lie(&|s| s.descriptors = vec![(0, root(1))]).contains("there is no disk number 0"));
    assert!(lie(&|s| s.descriptors = vec![(0, root(2))]).contains("not the root of its disk"));
}

#[test]
fn a_snapshot_cannot_reach_out_of_its_directories() {
    let dir = temp();
    std::fs::write(dir.path().join("secret"), b"abc").unwrap();
    let inside = dir.path().join("in");
    std::fs::create_dir(&inside).unwrap();
    std::os::unix::fs::symlink("../secret", inside.join("link")).unwrap();
    let mut g = Guest::with_dir(&inside);
    g.open("f", CREAT, READ | WRITE).unwrap();
    let mut state = g.wasi.state().unwrap();
    for path in ["../secret", "/etc/passwd", "link", "x/../../secret"] {
        for (_, descriptor) in &mut state.descriptors {
            if let Descriptor::File(file) = descriptor {
                file.place.path = path.to_string();
            }
        }
        let host = host(Stdin::Null, &OutputBuffer::default());
        let how = Restore { accept_changed: true, ..given(vec![preopen(&inside)]) };
        let text = error_of(Wasi::restore(VERSION, &state.encode().unwrap(), host, how));
        assert!(text.contains("cannot be opened again: Perm") || text.contains("Noent"), "{path}: {text}");
    }
    assert_eq!(std::fs::read(dir.path().join("secret")).unwrap(), b"abc");
}

/// If this fails, the encoding has changed: raise `VERSION`, and keep reading the old one.
#[test]
fn the_encoding_is_frozen() {
    let place = Place { root: 0, path: "a".to_string() };
    let identity = FileIdentity { dev: 1, ino: 300, size: 5, mtime: (-1, 7) };
    let file = FileState {
        place: place.clone(),
        gone: true,
        kind: Filetype::RegularFile,
        access: Access { readable: true, writable: true, append: false, nonblock: true },
        position: 4,
        written: Written { end: Some(5), in_place: true },
        identity,
    };
    let listed = Listed { name: "n".to_string(), ino: 9, kind: Filetype::SymbolicLink };
    let dir = DirectoryState { place, gone: false, preopen: false, listing: Some(vec![listed]) };
    let state = State {
        args: vec!["p".to_string()],
        env: vec!["A=1".to_string()],
        roots: vec![Root { guest: "/".to_string(), host: b"/h".to_vec(), read_only: true }],
        numbers: 4,
        descriptors: vec![
            (0, Descriptor::Stream(Stream::Stderr)),
            (1, Descriptor::Directory(dir)),
            (3, Descriptor::File(file)),
        ],
        nameless: vec![Nameless { dev: 1, ino: 300, content: b"12345".to_vec() }],
        streams: StreamState {
            stdin_read: 2,
            stdin_ended: true,
            stdin_file: Some(identity),
            stdout_written: 128,
            stderr_written: 1,
            terminal: [None, Some(false), Some(true)],
        },
        clock: ClockState::Fixed { realtime: 3, monotonic: 6 },
        random: Random { seed: [8; 32], position: 11 },
        wait: Some(Wait { began: 12, subscriptions: 13, count: 14 }),
        exit_code: Some(15),
        inputs: vec![],
        appended: vec![],
        disks: vec![],
    };
    let old = include_str!("state-1.hex").trim();
    let bytes: Vec<u8> =
        (0..old.len()).step_by(2).map(|at| u8::from_str_radix(&old[at..at + 2], 16).unwrap()).collect();
    assert_eq!(State::decode(1, &bytes).unwrap(), state);

    let access = Access { readable: true, writable: false, append: true, nonblock: false };
    let at = |path: &str| Place { root: 0, path: path.to_string() };
    let content = Content { size: 3, mtime: (4, 5), hash: Some([6; 32]) };
    let state = State {
        inputs: vec![InputFile { place: at("in"), content }],
        appended: vec![Appended { place: at("log"), identity, born: 7 }],
        disks: vec![DiskState { guest: "/d".to_string() }],
        numbers: 6,
        descriptors: vec![
            (4, Descriptor::DiskDirectory { disk: 0, ino: 1, preopen: true, listing: None }),
            (5, Descriptor::DiskFile { disk: 0, ino: 300, access, position: 9 }),
        ],
        ..state
    };
    let bytes = state.encode().unwrap();
    let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(hex, include_str!("state-2.hex").trim(), "{hex}");
    assert_eq!(State::decode(VERSION, &bytes).unwrap(), state);
}
