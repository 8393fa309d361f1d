//! Random calls: mostly meaningful ones, on few names, with every flag and some wrong ones.

use crate::common::Random;
use crate::sides::{Call, SCRATCH};

/// Where in memory the generator puts what; results go below `PATH`.
const PATH: u32 = 0x1000;
const TARGET: u32 = 0x4000;
pub const IOVS: u32 = 0x7000;
const SUBSCRIPTIONS: u32 = 0x7800;
const EVENTS: u32 = 0x8000;
const BUFFER: u32 = 0x9000;
const BUFFER_LEN: u64 = 0x8000;

/// A call, and what has to be in memory for it.
#[derive(Debug, Clone)]
pub struct Step {
    pub call: Call,
    pub puts: Vec<(u32, Vec<u8>)>,
    /// It holds a pointer that does not lead into the memory, or is not aligned.
    pub bad_pointer: bool,
}

/// What the generator knows of the guest, and its chance.
pub struct Plan {
    pub random: Random,
    /// Open files, and open directories, as far as known.
    pub files: Vec<u32>,
    pub directories: Vec<u32>,
    puts: Vec<(u32, Vec<u8>)>,
    bad_pointer: bool,
    steps: u64,
    /// Files are not made larger than a disk: which size is the largest depends on the file system.
    pub no_huge_files: bool,
}

/// Names of functions, the frequent ones several times.
const FREQUENT: [(&str, u64); 46] = [
    ("path_open", 30),
    ("fd_read", 8),
    ("fd_write", 10),
    ("fd_pread", 6),
    ("fd_pwrite", 6),
    ("fd_readdir", 8),
    ("fd_seek", 6),
    ("fd_tell", 3),
    ("fd_close", 6),
    ("fd_renumber", 3),
    ("path_create_directory", 6),
    ("path_filestat_get", 8),
    ("path_filestat_set_times", 5),
    ("path_link", 6),
    ("path_readlink", 5),
    ("path_remove_directory", 5),
    ("path_rename", 9),
    ("path_symlink", 7),
    ("path_unlink_file", 6),
    ("poll_oneoff", 4),
    ("fd_filestat_get", 4),
    ("fd_filestat_set_size", 4),
    ("fd_filestat_set_times", 3),
    ("fd_fdstat_get", 4),
    ("fd_fdstat_set_flags", 4),
    ("fd_fdstat_set_rights", 1),
    ("fd_advise", 2),
    ("fd_allocate", 2),
    ("fd_datasync", 1),
    ("fd_sync", 1),
    ("fd_prestat_get", 2),
    ("fd_prestat_dir_name", 2),
    ("args_get", 1),
    ("args_sizes_get", 1),
    ("environ_get", 1),
    ("environ_sizes_get", 1),
    ("clock_res_get", 1),
    ("clock_time_get", 1),
    ("random_get", 1),
    ("sched_yield", 1),
    ("proc_raise", 1),
    ("sock_accept", 1),
    ("sock_recv", 1),
    ("sock_send", 1),
    ("sock_shutdown", 1),
    ("proc_exit", 0),
];

const NAMES: [&str; 16] = [
    "a", "b", "c", "d", "e", "big", "to_a", "to_b", "to_c", "up", "root", "loop", "dead", ".", "..", "empty",
];

impl Plan {
    pub fn new(seed: u64) -> Self {
        let directories = vec![3, 3, 3, 3, 3, 3, 4, 5];
        Self {
            random: Random(seed),
            files: vec![],
            directories,
            puts: vec![],
            bad_pointer: false,
            steps: 0,
            no_huge_files: false,
        }
    }

    fn one_in(&mut self, n: u64) -> bool {
        self.random.below(n) == 0
    }

    fn one_of<T: Copy>(&mut self, values: &[T]) -> T {
        values[self.random.below(values.len() as u64) as usize]
    }

    fn fd(&mut self, files: u64) -> u64 {
        match self.random.below(40) {
            0 => self.one_of(&[0, 1, 2]),
            1 => self.one_of(&[100, u64::from(u32::MAX), 1 << 31, 77]),
            _ if self.random.below(100) < files => match self.files.len() {
                0 => 3,
                n => u64::from(self.files[self.random.below(n as u64) as usize]),
            },
            _ => {
                let n = self.directories.len() as u64;
                u64::from(self.directories[self.random.below(n) as usize])
            }
        }
    }

    fn file(&mut self) -> u64 {
        self.fd(95)
    }

    fn directory(&mut self) -> u64 {
        self.fd(4)
    }

    /// A pointer where a result of `len` bytes goes.
    fn out(&mut self, len: u32) -> u64 {
        if self.one_in(400) {
            self.bad_pointer = true;
            return u64::from(self.one_of(&[u32::MAX, u32::MAX - 7, 4 << 16, (4 << 16) - 1, 1 << 31, 3]));
        }
        u64::from(self.random.below(u64::from((PATH - len) / 8)) as u32 * 8)
    }

    /// A buffer of up to `max` bytes: pointer and length.
    fn buffer(&mut self, max: u64) -> (u64, u64) {
        if self.one_in(400) {
            self.bad_pointer = true;
            return (self.one_of(&[u64::from(u32::MAX), 4 << 16, 0]), self.one_of(&[1 << 19, 1 << 31]));
        }
        let len = self.random.below(max.min(BUFFER_LEN));
        (u64::from(BUFFER) + self.random.below(BUFFER_LEN - len), len)
    }

    fn name(&mut self) -> String {
        self.one_of(&NAMES).to_string()
    }

    fn path_bytes(&mut self) -> Vec<u8> {
        match self.random.below(120) {
            0 => vec![b'n'; 300],
            1 => b"a/".repeat(3000),
            2 => vec![b'p'; 4096],
            3 => b"a\0b".to_vec(),
            4 => vec![b'b', b'/', 0xff, 0xfe],
            5 => Vec::new(),
            6 => b"/".to_vec(),
            7 => b"n".repeat(255),
            8 => b"../".repeat(40),
            9 => "n\u{fc}\u{1f980}".as_bytes().to_vec(),
            _ => self.path().into_bytes(),
        }
    }

    fn path(&mut self) -> String {
        // What is there in the beginning, and what may be made.
        if self.one_in(2) {
            let there = ["a", "big", "b/a", "b/b", "b/c/e", "to_a", "b", "b/c", "empty", "to_b/a", "to_c/e"];
            let new = ["d", "e", "c", "b/d", "empty/a", "to_c/a"];
            return if self.one_in(3) { self.one_of(&new) } else { self.one_of(&there) }.to_string();
        }
        let mut path = self.name();
        while self.one_in(4) {
            let slash = if self.one_in(10) { "//" } else { "/" };
            path = format!("{path}{slash}{}", self.name());
        }
        if self.one_in(12) {
            path.push('/');
        }
        if self.one_in(30) {
            path.insert(0, '/');
        }
        path
    }

    fn path_at(&mut self, at: u32) -> (u64, u64) {
        let path = self.path_bytes();
        let len = path.len() as u64;
        self.puts.push((at, path));
        if self.one_in(600) {
            self.bad_pointer = true;
            return (u64::from(self.one_of(&[u32::MAX, 4 << 16])), len.max(1));
        }
        (u64::from(at), len)
    }

    /// A list of buffers: pointer and count.
    fn buffers(&mut self) -> (u64, u64) {
        let count = self.one_of(&[0, 1, 1, 1, 1, 1, 1, 2, 2, 3, 5, 16]);
        let mut list = Vec::new();
        let mut content = Vec::new();
        for _ in 0..count {
            let max = if self.one_in(10) { BUFFER_LEN } else { 60 };
            let (at, len) = if self.one_in(6) { (u64::from(BUFFER), 0) } else { self.buffer(max) };
            list.extend((at as u32).to_le_bytes());
            list.extend((len as u32).to_le_bytes());
            if len < 1000 && at + len <= u64::from(SCRATCH) {
                content.push((at as u32, (0..len).map(|_| b'0' + self.random.below(75) as u8).collect()));
            }
        }
        self.puts.append(&mut content);
        self.puts.push((IOVS, list));
        if self.one_in(400) {
            self.bad_pointer = true;
            let count = self.one_of(&[1, 1 << 31, 1 << 29, u64::from(u32::MAX)]);
            return (u64::from(self.one_of(&[IOVS, 4 << 16, IOVS + 2])), count);
        }
        (u64::from(IOVS), count)
    }

    /// One of these flags together, or rarely a wrong one.
    fn flags(&mut self, all: u64, unlikely: u64) -> u64 {
        match self.random.below(60) {
            0 => self.one_of(&[all + 1, 1 << 15, 1 << 16, 1 << 31, u64::from(u32::MAX)]),
            _ if unlikely > 0 && self.random.below(3) > 0 => 0,
            _ => self.random.below(all + 1),
        }
    }

    fn number(&mut self, top: u64) -> u64 {
        match self.random.below(40) {
            0 => u64::MAX,
            1 | 3 if self.no_huge_files => 1 << 63,
            1 => i64::MAX as u64,
            2 => 1 << 63,
            3 => i64::MAX as u64 - 100,
            _ => self.random.below(top),
        }
    }

    fn time(&mut self) -> u64 {
        let any = self.random.below(1 << 59);
        self.one_of(&[0, 1, 999_999_999, 1_000_000_000, any, any, u64::MAX, 1 << 63, 1 << 62])
    }

    fn rights(&mut self) -> u64 {
        const READ: u64 = 2;
        const WRITE: u64 = 64;
        match self.random.below(60) {
            0 => u64::MAX,
            1 => 1 << 40,
            2 => 1 << 30,
            3 => 0,
            4..20 => READ,
            20..28 => WRITE,
            28..33 => (1 << 30) - 1,
            33..36 => self.random.below(1 << 30),
            _ => READ | WRITE,
        }
    }

    fn subscriptions(&mut self) -> u64 {
        let count = self.one_of(&[0, 1, 1, 1, 2, 3, 4]);
        let mut list = Vec::new();
        let mut waits = true;
        for n in 0..count {
            let mut record = [0; 48];
            record[0..8].copy_from_slice(&(0x1111 * (n + 1u64)).to_le_bytes());
            let mut kind = self.one_of(&[0u8, 0, 1, 1, 2, 2]);
            let mut fd = self.file() as u32;
            if waits && n + 1 == count && kind == 0 {
                // Something has to be there: else the call would wait for the clock.
                (kind, fd) = (2, 1);
            }
            if self.one_in(60) {
                kind = 9;
            }
            record[8] = kind;
            if kind == 0 {
                let id = if self.one_in(20) { self.one_of(&[2u32, 3, 4, 77]) } else { self.one_of(&[0, 1]) };
                let flags = if self.one_in(30) { 2u16 } else { self.one_of(&[0, 1]) };
                // Nothing in between: whether such a time has come would be chance.
                let timeout = if flags == 0 { self.one_of(&[0, 1 << 50]) } else { self.one_of(&[0u64, 1]) };
                waits &= timeout > 1;
                record[16..20].copy_from_slice(&id.to_le_bytes());
                record[24..32].copy_from_slice(&timeout.to_le_bytes());
                record[40..42].copy_from_slice(&flags.to_le_bytes());
            } else {
                waits = false;
                record[16..20].copy_from_slice(&fd.to_le_bytes());
            }
            list.extend(record);
        }
        self.puts.push((SUBSCRIPTIONS, list));
        count
    }

    /// The next call.
    pub fn step(&mut self) -> Step {
        self.steps += 1;
        if self.steps <= 2 {
            return self.open_a_file();
        }
        let all: u64 = FREQUENT.iter().map(|(_, weight)| weight).sum();
        let mut at = self.random.below(all);
        let name = FREQUENT
            .iter()
            .find(|(_, weight)| match at.checked_sub(*weight) {
                Some(rest) => {
                    at = rest;
                    false
                }
                None => true,
            })
            .unwrap()
            .0;
        let name = if self.one_in(3000) { "proc_exit" } else { name };
        (self.puts, self.bad_pointer) = (vec![], false);
        let args = self.arguments(name);
        Step {
            call: Call { name, args },
            puts: std::mem::take(&mut self.puts),
            bad_pointer: self.bad_pointer,
        }
    }

    /// Most calls are about open files: there are some from the beginning.
    fn open_a_file(&mut self) -> Step {
        let path = self.one_of(&["a", "big", "b/a", "d"]);
        let args = vec![3, 1, u64::from(PATH), path.len() as u64, u64::from(path == "d"), 66, 66, 0, 0];
        let puts = vec![(PATH, path.as_bytes().to_vec())];
        Step { call: Call { name: "path_open", args }, puts, bad_pointer: false }
    }

    fn arguments(&mut self, name: &str) -> Vec<u64> {
        if name.starts_with("path_") {
            return self.path_arguments(name);
        }
        match name {
            "proc_exit" => vec![self.one_of(&[0, 1, 42, 125, 126, 255, u64::from(u32::MAX)])],
            "args_get" | "environ_get" => vec![self.out(64), self.out(256)],
            // Not to the same place: which is written last is nowhere said.
            "args_sizes_get" | "environ_sizes_get" => vec![self.out(8), self.out(8) | 4],
            "clock_res_get" => vec![self.one_of(&[0, 1, 2, 3, 4, u64::from(u32::MAX)]), self.out(8)],
            "clock_time_get" => vec![self.one_of(&[0, 1, 2, 3, 4, 1 << 31]), self.number(1000), self.out(8)],
            "fd_advise" => {
                let advice =
                    if self.one_in(8) { self.one_of(&[6, 255, 256, 1 << 31]) } else { self.random.below(6) };
                vec![self.file(), self.number(1000), self.number(1000), advice]
            }
            // The disk would be filled up by what is neither small nor too large for any file.
            "fd_allocate" => {
                vec![
                    self.file(),
                    self.random.below(50_000),
                    self.one_of(&[0, 1, 100, 10_000, u64::MAX, 1 << 63]),
                ]
            }
            "fd_close" => vec![if self.one_in(3) { self.directory() } else { self.file() }],
            "fd_datasync" | "fd_sync" => vec![self.fd(70)],
            "fd_fdstat_get" => vec![self.fd(70), self.out(24)],
            "fd_fdstat_set_flags" => vec![self.fd(95), self.flags(31, 0) & self.one_of(&[u64::MAX, 5])],
            "fd_fdstat_set_rights" => vec![self.fd(60), self.rights(), self.rights()],
            "fd_filestat_get" => vec![self.fd(70), self.out(64)],
            "fd_filestat_set_size" => vec![self.file(), self.number(100_000)],
            "fd_filestat_set_times" => vec![self.fd(70), self.time(), self.time(), self.flags(15, 0)],
            "fd_pread" | "fd_pwrite" => {
                let (iovs, count) = self.buffers();
                let offset = self.number(70_100);
                // Several buffers that reach beyond the largest offset, each alone or all together, are too much alike.
                let near = count > 1 && (1 << 62..1 << 63).contains(&offset);
                vec![self.file(), iovs, count, if near { 7 } else { offset }, self.out(4)]
            }
            "fd_read" | "fd_write" | "sock_send" => {
                let (iovs, count) = self.buffers();
                match name {
                    "sock_send" => vec![self.fd(50), iovs, count, self.flags(1, 1), self.out(4)],
                    _ => vec![self.file(), iovs, count, self.out(4)],
                }
            }
            "sock_recv" => {
                let (iovs, count) = self.buffers();
                vec![self.fd(50), iovs, count, self.flags(3, 1), self.out(4), self.out(2)]
            }
            "sock_accept" => vec![self.fd(50), self.flags(31, 1), self.out(4)],
            "sock_shutdown" => vec![self.fd(50), self.flags(3, 0)],
            "fd_prestat_get" => vec![self.directory(), self.out(8)],
            "fd_prestat_dir_name" => vec![self.directory(), self.out(16), self.one_of(&[0, 2, 3, 4, 5, 15])],
            "fd_readdir" => {
                let max = if self.one_in(2) { BUFFER_LEN } else { 100 };
                let (at, len) = self.buffer(max);
                let len = if self.one_in(12) { self.one_of(&[0, 1, 23, 24, 25]).min(len) } else { len };
                vec![
                    self.directory(),
                    at,
                    len,
                    self.one_of(&[0, 0, 0, 1, 2, 3, 4, 5, 9, u64::MAX]),
                    self.out(4),
                ]
            }
            "fd_renumber" => vec![self.fd(80), self.fd(80)],
            "fd_seek" => {
                let offset = match self.random.below(20) {
                    0 => i64::MIN,
                    1 if !self.no_huge_files => i64::MAX,
                    2 => -1,
                    3 => -100_000,
                    4..7 => -(self.random.below(200) as i64),
                    _ => self.random.below(200) as i64,
                };
                let whence =
                    if self.one_in(20) { self.one_of(&[3, 255, 256, 1 << 31]) } else { self.random.below(3) };
                vec![self.file(), offset as u64, whence, self.out(8)]
            }
            "fd_tell" => vec![self.file(), self.out(8)],
            "poll_oneoff" => {
                let count = self.subscriptions();
                vec![u64::from(SUBSCRIPTIONS), u64::from(EVENTS), count, self.out(4)]
            }
            "proc_raise" => vec![self.one_of(&[0, 9, 15, 30, 31, 256, 1 << 31])],
            "random_get" => {
                let (at, len) = self.buffer(200);
                vec![at, len]
            }
            "sched_yield" => vec![],
            _ => panic!("{name}"),
        }
    }

    fn path_arguments(&mut self, name: &str) -> Vec<u64> {
        let fd = self.directory();
        let follow = self.flags(1, 0);
        let (path, len) = self.path_at(PATH);
        match name {
            "path_create_directory" | "path_remove_directory" | "path_unlink_file" => vec![fd, path, len],
            "path_filestat_get" => vec![fd, follow, path, len, self.out(64)],
            "path_filestat_set_times" => {
                vec![fd, follow, path, len, self.time(), self.time(), self.flags(15, 0)]
            }
            "path_link" => {
                let follow = if self.one_in(8) { follow } else { 0 };
                let (to, to_len) = self.path_at(TARGET);
                vec![fd, follow, path, len, self.directory(), to, to_len]
            }
            "path_rename" => {
                let (to, to_len) = self.path_at(TARGET);
                vec![fd, path, len, self.directory(), to, to_len]
            }
            "path_symlink" => {
                let (target, target_len) = self.path_at(TARGET);
                vec![target, target_len, fd, path, len]
            }
            "path_readlink" => {
                let (at, max) = self.buffer(20);
                vec![fd, path, len, at, max, self.out(4)]
            }
            "path_open" => {
                let create = if self.one_in(3) { 1 } else { 0 };
                let oflags = if self.one_in(2) { create } else { self.flags(15, 1) };
                let flags = self.flags(31, 1) & if self.one_in(4) { u64::MAX } else { 1 };
                vec![fd, follow, path, len, oflags, self.rights(), self.rights(), flags, self.out(4)]
            }
            _ => panic!("{name}"),
        }
    }
}
