//! Random operations on a disk and on a directory of the host, by the very calls that the functions about paths
//! make: both must answer the same. And captures and restores in between must change nothing.

use std::{os::unix::fs::FileExt, sync::Arc};

use cap_fs_ext::DirExt;
use cap_std::fs::Dir;
use rustix::fs::{FallocateFlags, fallocate, futimens};

use super::*;
use crate::wasi::host::{self, Time, Times};

/// What is open on the host.
#[derive(Clone)]
enum Handle {
    Directory(Arc<Dir>),
    File(Arc<File>, How),
}

/// One operation; directories and files by their index among what is open.
#[derive(Debug, Clone)]
enum Op {
    Open(usize, String, How),
    Close(usize),
    CreateDir(usize, String),
    RemoveDir(usize, String),
    Unlink(usize, String),
    Rename(usize, String, usize, String),
    Link(usize, String, usize, String),
    Symlink(String, usize, String),
    ReadLink(usize, String),
    Stat(usize, String, bool),
    StatOpen(usize),
    List(usize),
    Read(usize, u64, usize),
    Write(usize, u64, Vec<u8>),
    SetLen(usize, u64),
    Allocate(usize, u64, u64),
    Times(usize, Option<u64>, Option<u64>),
    TimesAt(usize, String, bool, Option<u64>, Option<u64>),
}

/// What an operation gives, as far as both must agree.
#[derive(Debug, Clone, PartialEq)]
enum Answer {
    Done,
    Kind(Filetype),
    Count(usize),
    Bytes(Vec<u8>),
    Text(String),
    Stat(Filetype, u64, Option<u64>),
    Names(Vec<(String, Filetype)>),
    Mtim(i64, u32),
}

type Result<T = Answer> = std::result::Result<T, Errno>;

fn path(random: &mut Random) -> String {
    match random.below(200) {
        0 => return String::new(),
        1 => return "/".to_string(),
        2 => return "n".repeat(256),
        3 => return format!("a/{}/b", "n".repeat(256)),
        4 => return "a/".repeat(2048),
        5 => return "./".repeat(2040) + "a",
        6 => return "a\0b".to_string(),
        7 => return "n".repeat(255),
        _ => {}
    }
    let mut path = String::new();
    if random.below(40) == 0 {
        path.push('/');
    }
    for n in 0..1 + random.below(4) {
        if n > 0 {
            path.push_str(if random.below(20) == 0 { "//" } else { "/" });
        }
        path.push_str(["a", "b", "c", "d", "a", "b", "l", "m", ".", ".."][random.below(10) as usize]);
    }
    path.push_str(["", "", "", "", "", "/", "//", "/."][random.below(8) as usize]);
    path
}

fn how(random: &mut Random) -> How {
    let mut bit = || random.below(2) == 0;
    How {
        read: bit() || bit(),
        write: bit(),
        create: bit(),
        exclusive: bit() && bit(),
        truncate: bit() && bit(),
        follow: bit() || bit(),
    }
}

fn op(random: &mut Random, open: usize) -> Op {
    let at = |random: &mut Random| if random.below(2) == 0 { 0 } else { random.below(open as u64) as usize };
    let offset = |random: &mut Random| match random.below(20) {
        0 => random.next(),
        1 => SIZE_MAX - random.below(9000),
        2 => random.below(1 << 32),
        _ => random.below(20_000),
    };
    let time = |random: &mut Random| (random.below(2) == 0).then(|| random.below(1 << 60));
    let dir = at(random);
    match random.below(26) {
        0..=4 => Op::Open(dir, path(random), how(random)),
        5 => Op::Close(dir),
        6..=7 => Op::CreateDir(dir, path(random)),
        8 => Op::RemoveDir(dir, path(random)),
        9 => Op::Unlink(dir, path(random)),
        10..=12 => Op::Rename(dir, path(random), at(random), path(random)),
        13 => Op::Link(dir, path(random), at(random), path(random)),
        14..=15 => Op::Symlink(path(random), dir, path(random)),
        16 => Op::ReadLink(dir, path(random)),
        17..=18 => Op::Stat(dir, path(random), random.below(2) == 0),
        19 => Op::StatOpen(dir),
        20 => Op::List(dir),
        21 => Op::Read(dir, offset(random), random.below(9000) as usize),
        22..=23 => {
            let offset = offset(random);
            let bytes = vec![random.below(255) as u8 + 1; random.below(9000) as usize];
            Op::Write(dir, offset, bytes)
        }
        24 => match random.below(3) {
            0 => Op::Allocate(dir, offset(random), random.below(50_000)),
            1 => Op::Times(dir, time(random), time(random)),
            _ => Op::TimesAt(dir, path(random), random.below(2) == 0, time(random), time(random)),
        },
        _ => Op::SetLen(dir, offset(random)),
    }
}

/// The directory of the host.
struct Host(Vec<Handle>);

impl Host {
    fn dir(&self, at: usize) -> Option<&Dir> {
        match self.0.get(at)? {
            Handle::Directory(dir) => Some(dir),
            Handle::File(..) => None,
        }
    }

    fn file(&self, at: usize, wants: impl Fn(How) -> bool) -> Option<&File> {
        match self.0.get(at)? {
            Handle::File(file, how) if wants(*how) => Some(file),
            _ => None,
        }
    }

    /// The answer of the host; none if the operation makes no sense there.
    fn run(&mut self, op: &Op) -> Option<Result> {
        let stat = |found: crate::wasi::types::Attributes| {
            Answer::Stat(found.kind, found.nlink, (found.kind != Filetype::Directory).then_some(found.size))
        };
        Some(match op {
            Op::Open(dir, path, how) => host::open(self.dir(*dir)?, path, *how).map(|opened| match opened {
                host::Opened::Directory(dir) => {
                    self.0.push(Handle::Directory(Arc::new(dir)));
                    Answer::Kind(Filetype::Directory)
                }
                host::Opened::File { file, .. } => {
                    self.0.push(Handle::File(Arc::new(file), *how));
                    Answer::Kind(Filetype::RegularFile)
                }
            }),
            Op::Close(at) => {
                if *at == 0 {
                    return None;
                }
                self.0.swap_remove(*at);
                Ok(Answer::Done)
            }
            Op::CreateDir(dir, path) => {
                self.dir(*dir)?.create_dir(path).map(|()| Answer::Done).map_err(Errno::from)
            }
            Op::RemoveDir(dir, path) => {
                self.dir(*dir)?.remove_dir(path).map(|()| Answer::Done).map_err(Errno::from)
            }
            Op::Unlink(dir, path) => {
                self.dir(*dir)?.remove_file_or_symlink(path).map(|()| Answer::Done).map_err(Errno::from)
            }
            Op::Rename(dir, path, dir2, path2) => {
                let (dir, dir2) = (self.dir(*dir)?, self.dir(*dir2)?);
                dir.rename(path, dir2, path2).map(|()| Answer::Done).map_err(Errno::from)
            }
            Op::Link(dir, path, dir2, path2) => {
                let (dir, dir2) = (self.dir(*dir)?, self.dir(*dir2)?);
                dir.hard_link(path, dir2, path2).map(|()| Answer::Done).map_err(Errno::from)
            }
            Op::Symlink(target, dir, path) => {
                Dir::symlink(self.dir(*dir)?, target, path).map(|()| Answer::Done).map_err(Errno::from)
            }
            Op::ReadLink(dir, path) => {
                let found = self.dir(*dir)?.read_link(path);
                found.map(|path| Answer::Text(path.to_str().unwrap().to_string())).map_err(Errno::from)
            }
            Op::Stat(dir, path, follow) => {
                host::attributes_at(self.dir(*dir)?, path, *follow).map(stat).map_err(Errno::from)
            }
            Op::StatOpen(at) => match self.0.get(*at)? {
                Handle::Directory(dir) => host::attributes(&**dir).map(stat).map_err(Errno::from),
                Handle::File(file, _) => host::attributes(&**file).map(stat).map_err(Errno::from),
            },
            Op::List(dir) => {
                let names = host::list(self.dir(*dir)?);
                names.map(|all| Answer::Names(all.into_iter().map(|one| (one.name, one.kind)).collect()))
            }
            Op::Read(at, offset, len) => {
                let mut bytes = vec![0xaa; *len];
                let n = rustix::io::pread(self.file(*at, |how| how.read)?, &mut bytes, *offset);
                n.map(|n| Answer::Bytes(bytes[..n].to_vec())).map_err(Errno::from)
            }
            Op::Write(at, offset, bytes) => {
                let n = rustix::io::pwrite(self.file(*at, |how| how.write)?, bytes, *offset);
                n.map(Answer::Count).map_err(Errno::from)
            }
            Op::SetLen(at, size) => {
                self.file(*at, |how| how.write)?.set_len(*size).map(|()| Answer::Done).map_err(Errno::from)
            }
            Op::Allocate(at, offset, len) => {
                let done =
                    fallocate(self.file(*at, |how| how.write)?, FallocateFlags::empty(), *offset, *len);
                done.map(|()| Answer::Done).map_err(Errno::from)
            }
            Op::Times(at, atim, mtim) => {
                let times = times(*atim, *mtim);
                let found = match self.0.get(*at)? {
                    Handle::Directory(dir) => {
                        futimens(&**dir, &times.timestamps()).and_then(|()| host::attributes(&**dir))
                    }
                    Handle::File(file, _) => {
                        futimens(&**file, &times.timestamps()).and_then(|()| host::attributes(&**file))
                    }
                };
                found
                    .map(|found| mtim.map_or(Answer::Done, |_| Answer::Mtim(found.mtim.0, found.mtim.1)))
                    .map_err(Errno::from)
            }
            Op::TimesAt(dir, path, follow, atim, mtim) => {
                let times = times(*atim, *mtim);
                host::set_times(self.dir(*dir)?, path, times, *follow)
                    .map(|()| Answer::Done)
                    .map_err(Errno::from)
            }
        })
    }
}

fn times(atim: Option<u64>, mtim: Option<u64>) -> Times {
    Times { access: atim.map(Time::At), modification: mtim.map(Time::At) }
}

/// A disk, and what is open on it.
struct Guest {
    disk: Disk,
    open: Vec<Opened>,
}

impl Guest {
    fn new(limit: u64) -> Self {
        let mut disk = disk(limit);
        disk.retain(ROOT).unwrap();
        Self { disk, open: vec![Opened::Directory(ROOT)] }
    }

    fn ino(&self, at: usize) -> Ino {
        let (Opened::Directory(ino) | Opened::File(ino)) = self.open[at];
        ino
    }

    /// The answer of the disk to what the host has answered.
    fn run(&mut self, op: &Op, now: u64) -> Result {
        let stat = |found: Attributes| {
            assert_eq!(found.dev, DEV);
            Answer::Stat(found.kind, found.nlink, (found.kind != Filetype::Directory).then_some(found.size))
        };
        match op {
            Op::Open(dir, path, how) => {
                let opened = self.disk.open(self.ino(*dir), path, *how, now)?;
                self.open.push(opened);
                self.disk.retain(self.ino(self.open.len() - 1))?;
                Ok(Answer::Kind(match opened {
                    Opened::Directory(_) => Filetype::Directory,
                    Opened::File(_) => Filetype::RegularFile,
                }))
            }
            Op::Close(at) => {
                let ino = self.ino(*at);
                self.open.swap_remove(*at);
                self.disk.release(ino);
                Ok(Answer::Done)
            }
            Op::CreateDir(dir, path) => {
                self.disk.create_dir(self.ino(*dir), path, now).map(|()| Answer::Done)
            }
            Op::RemoveDir(dir, path) => {
                self.disk.remove_dir(self.ino(*dir), path, now).map(|()| Answer::Done)
            }
            Op::Unlink(dir, path) => self.disk.unlink(self.ino(*dir), path, now).map(|()| Answer::Done),
            Op::Rename(dir, path, dir2, path2) => {
                let (dir, dir2) = (self.ino(*dir), self.ino(*dir2));
                self.disk.rename(dir, path, dir2, path2, now).map(|()| Answer::Done)
            }
            Op::Link(dir, path, dir2, path2) => {
                let (dir, dir2) = (self.ino(*dir), self.ino(*dir2));
                self.disk.hard_link(dir, path, dir2, path2, now).map(|()| Answer::Done)
            }
            Op::Symlink(target, dir, path) => {
                self.disk.symlink(target, self.ino(*dir), path, now).map(|()| Answer::Done)
            }
            Op::ReadLink(dir, path) => {
                self.disk.read_link(self.ino(*dir), path).map(|text| Answer::Text(text.to_string()))
            }
            Op::Stat(dir, path, follow) => self.disk.attributes_at(self.ino(*dir), path, *follow).map(stat),
            Op::StatOpen(at) => self.disk.attributes(self.ino(*at)).map(stat),
            Op::List(dir) => {
                let names = self.disk.list(self.ino(*dir));
                names.map(|all| Answer::Names(all.into_iter().map(|one| (one.name, one.kind)).collect()))
            }
            Op::Read(at, offset, len) => {
                let mut bytes = vec![0x55; *len];
                let n = self.disk.read_at(self.ino(*at), &mut bytes, *offset)?;
                Ok(Answer::Bytes(bytes[..n].to_vec()))
            }
            Op::Write(at, offset, bytes) => {
                self.disk.write_at(self.ino(*at), bytes, *offset, now).map(Answer::Count)
            }
            Op::SetLen(at, size) => self.disk.set_len(self.ino(*at), *size, now).map(|()| Answer::Done),
            Op::Allocate(at, offset, len) => {
                self.disk.allocate(self.ino(*at), *offset, *len, now).map(|()| Answer::Done)
            }
            Op::Times(at, atim, mtim) => {
                let ino = self.ino(*at);
                self.disk.set_times(ino, *atim, *mtim, now)?;
                let found = self.disk.attributes(ino)?;
                Ok(mtim.map_or(Answer::Done, |_| Answer::Mtim(found.mtim.0, found.mtim.1)))
            }
            Op::TimesAt(dir, path, follow, atim, mtim) => self
                .disk
                .set_times_at(self.ino(*dir), path, *follow, *atim, *mtim, now)
                .map(|()| Answer::Done),
        }
    }

    /// Throws the disk away and goes on with what was stored.
    fn restore(&mut self, chunks: &mut Chunks) {
        let image = chunks.capture(&mut self.disk);
        self.disk = chunks.restore(image).unwrap();
        for at in 0..self.open.len() {
            self.disk.retain(self.ino(at)).unwrap();
        }
        assert_eq!(self.disk.lost().count(), 0);
        assert_eq!(chunks.capture(&mut self.disk), image);
    }
}

/// Both trees, from the root down.
fn compare(host: &Dir, disk: &Disk, dir: Ino, context: &str) {
    let ours = disk.list(dir).unwrap();
    let theirs = host::list(host).unwrap();
    let names = |all: &[Listed]| all.iter().map(|one| (one.name.clone(), one.kind)).collect::<Vec<_>>();
    assert_eq!(names(&ours), names(&theirs), "{context}");
    for entry in ours {
        let name = &entry.name;
        let attributes = disk.attributes_at(dir, name, false).unwrap();
        let found = host::attributes_at(host, name, false).unwrap();
        assert_eq!(attributes.nlink, found.nlink, "{name}: {context}");
        match entry.kind {
            Filetype::Directory => {
                let Ok(host::Opened::Directory(below)) = host::open(host, name, READ) else {
                    panic!("{name}")
                };
                compare(&below, disk, entry.ino, context);
            }
            Filetype::SymbolicLink => {
                let target = host.read_link(name).unwrap();
                assert_eq!(disk.read_link(dir, name), Ok(target.to_str().unwrap()), "{context}");
            }
            _ => {
                assert_eq!(attributes.size, found.size, "{name}: {context}");
                let file = host.open(name).unwrap().into_std();
                // Its start and its end: it may be a sparse one of terabytes.
                for offset in [0, found.size.saturating_sub(100_000)] {
                    let (mut a, mut b) = (vec![1; 100_000], vec![2; 100_000]);
                    let n = file.read_at(&mut a, offset).unwrap();
                    assert_eq!(disk.read_at(entry.ino, &mut b, offset), Ok(n), "{name}: {context}");
                    assert!(a[..n] == b[..n], "{name} differs: {context}");
                }
            }
        }
    }
}

fn sequence(seed: u64, steps: u64) {
    let temp = tempfile::tempdir().unwrap();
    let root = Arc::new(host::open_root(temp.path()).unwrap());
    let mut host = Host(vec![Handle::Directory(root.clone())]);
    let (mut plain, mut disturbed) = (Guest::new(1 << 40), Guest::new(1 << 40));
    let (mut random, mut chunks, mut log) = (Random::new(seed), Chunks::default(), Vec::new());
    for now in 1..=steps {
        let op = op(&mut random, host.0.len());
        let Some(theirs) = host.run(&op) else { continue };
        let text = format!("{op:?}");
        log.push(text[..text.len().min(200)].to_string());
        let ours = plain.run(&op, now);
        assert_eq!(ours, theirs, "seed {seed}, last of {log:#?}");
        assert_eq!(disturbed.run(&op, now), ours, "seed {seed}: captures make a difference, {log:#?}");
        match random.below(12) {
            0 => drop(chunks.capture(&mut disturbed.disk)),
            1 => disturbed.restore(&mut chunks),
            2 => disturbed.disk.forget_stored(),
            _ => {}
        }
    }
    let context = format!("seed {seed}: {log:#?}");
    plain.disk.check();
    disturbed.disk.check();
    compare(&root, &plain.disk, ROOT, &context);
    let image = Chunks::default().capture(&mut plain.disk);
    assert_eq!(chunks.capture(&mut disturbed.disk), image, "{context}");
}

#[test]
fn the_disk_answers_as_the_host_does() {
    use rayon::prelude::*;
    (0..2000).into_par_iter().for_each(|seed| sequence(seed, 60));
}

#[test]
fn long_sequences_as_well() {
    use rayon::prelude::*;
    (0..20).into_par_iter().for_each(|seed| sequence(1_000_000 + seed, 3000));
}

/// Without the host, where there is little room.
#[test]
fn captures_make_no_difference_when_room_is_short() {
    for seed in 0..300 {
        let (mut plain, mut disturbed) = (Guest::new(12 * 4096 + 5), Guest::new(12 * 4096 + 5));
        let (mut random, mut chunks, mut short) = (Random::new(seed), Chunks::default(), 0);
        for now in 1..200 {
            let op = op(&mut random, plain.open.len());
            let wants_dir = !matches!(
                op,
                Op::Close(_)
                    | Op::StatOpen(_)
                    | Op::Read(..)
                    | Op::Write(..)
                    | Op::SetLen(..)
                    | Op::Allocate(..)
                    | Op::Times(..)
            );
            let at = |at: usize| matches!(plain.open.get(at), Some(Opened::Directory(_)));
            match &op {
                Op::Close(0) => continue,
                Op::Open(dir, ..) if !at(*dir) => continue,
                Op::Rename(dir, _, dir2, _) | Op::Link(dir, _, dir2, _) if !at(*dir) || !at(*dir2) => {
                    continue;
                }
                _ if wants_dir
                    && plain.open.iter().any(|one| matches!(one, Opened::File(_)))
                    && random.below(2) == 0 =>
                {
                    continue;
                }
                _ => {}
            }
            let ours = plain.run(&op, now);
            short += usize::from(ours == Err(Errno::Nospc));
            assert_eq!(disturbed.run(&op, now), ours, "seed {seed}, {op:?}");
            assert!(plain.disk.used() <= plain.disk.limit());
            plain.disk.check();
            match random.below(8) {
                0 => drop(chunks.capture(&mut disturbed.disk)),
                1 => disturbed.restore(&mut chunks),
                _ => {}
            }
        }
        let image = Chunks::default().capture(&mut plain.disk);
        assert_eq!(chunks.capture(&mut disturbed.disk), image, "seed {seed}");
        assert!(seed > 3 || short > 0 || plain.open.len() < 3, "room was never short");
    }
}
