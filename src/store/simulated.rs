//! A file system in memory that forgets, at a loss of power, what was not synced; and that fails or stops
//! at a chosen operation. For crash tests.
//!
//! It is as unkind as POSIX allows: the content of a file is durable by `fsync` of the file alone, a name
//! by `fsync` of its directory alone, and what was not synced may survive in any part, in any order.

use std::collections::BTreeMap;
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use super::Sharing;
use super::files::{Entry, FileOps, Locked, NewFile, OpenedFile};
use super::leases::{Leases, lock, this_process};

/// What happens at the chosen operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The process dies before it (a write may be half done): this operation and all later ones fail.
    Stop,
    /// The process dies right after it.
    StopAfter,
    /// It alone fails, for lack of space; a write may be half done.
    Full,
}

/// What a crash leaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Loss {
    /// All of it: the process has died, the system has not.
    Nothing,
    /// What was synced.
    Unsynced,
    /// What was synced, and of the rest some, chosen by this number.
    Some(u64),
}

/// The simulated file system. Clones share it; [`SimulatedFiles::crash`] makes another.
#[derive(Clone)]
pub struct SimulatedFiles {
    disk: Arc<Mutex<Disk>>,
    locks: Arc<Leases<PathBuf>>,
}

#[derive(Clone, Default)]
struct Disk {
    /// Content of the files that were ever made, by number: as it is seen, and as it is on the disk.
    files: Vec<Content>,
    names: BTreeMap<PathBuf, Node>,
    durable_names: BTreeMap<PathBuf, Node>,
    ops: u64,
    fault: Option<(u64, Fault)>,
    stopped: bool,
}

#[derive(Clone, Default)]
struct Content {
    seen: Vec<u8>,
    durable: Vec<u8>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Node {
    Dir,
    File(usize),
}

/// What an operation has to do.
enum Step {
    Go,
    /// Do it, then report that it failed.
    GoAndFail,
    Fail(io::Error),
}

impl Default for SimulatedFiles {
    fn default() -> Self {
        Self::new()
    }
}

impl SimulatedFiles {
    /// An empty file system: `/` alone.
    pub fn new() -> Self {
        let mut disk = Disk::default();
        disk.names.insert("/".into(), Node::Dir);
        Self::with(disk)
    }

    fn with(mut disk: Disk) -> Self {
        disk.durable_names.insert("/".into(), Node::Dir);
        Self { disk: Arc::new(Mutex::new(disk)), locks: Arc::default() }
    }

    /// A copy, as it is now, without faults and without locks.
    pub fn fork(&self) -> Self {
        let mut disk = lock(&self.disk).clone();
        (disk.ops, disk.fault, disk.stopped) = (0, None, false);
        Self::with(disk)
    }

    /// Lets the `n`-th operation from now that changes something, counted from 0, fail.
    pub fn fail_at(&self, n: u64, fault: Fault) {
        let mut disk = lock(&self.disk);
        disk.fault = Some((disk.ops + n, fault));
    }

    /// Operations so far that change something.
    pub fn ops(&self) -> u64 {
        lock(&self.disk).ops
    }

    /// What one finds after the crash.
    pub fn crash(&self, loss: Loss) -> Self {
        let before = lock(&self.disk).clone();
        let mut random = Random(match loss {
            Loss::Some(seed) => seed,
            _ => 0,
        });
        let mut survives = || match loss {
            Loss::Nothing => true,
            Loss::Unsynced => false,
            Loss::Some(_) => random.next().is_multiple_of(2),
        };
        let mut names = BTreeMap::new();
        let all: std::collections::BTreeSet<_> =
            before.names.keys().chain(before.durable_names.keys()).collect();
        for path in all {
            let (seen, durable) = (before.names.get(path), before.durable_names.get(path));
            let node = if seen == durable || survives() { seen } else { durable };
            // In ascending order a directory comes before what it holds.
            let reachable = path.parent().is_none_or(|parent| names.get(parent) == Some(&Node::Dir));
            if let (Some(node), true) = (node, reachable) {
                names.insert(path.clone(), *node);
            }
        }
        let mut files = before.files;
        for file in &mut files {
            if file.seen != file.durable {
                file.seen = match loss {
                    Loss::Nothing => continue,
                    Loss::Unsynced => file.durable.clone(),
                    Loss::Some(_) => torn(file, &mut random),
                };
            }
            file.durable = file.seen.clone();
        }
        let durable_names = if loss == Loss::Nothing { before.durable_names } else { names.clone() };
        Self::with(Disk { files, names, durable_names, ..Disk::default() })
    }

    /// Runs one operation that changes something, or its fault.
    fn change<T>(
        &self,
        change: impl FnOnce(&mut Disk) -> io::Result<T>,
        half: impl FnOnce(&mut Disk),
    ) -> io::Result<T> {
        let mut disk = lock(&self.disk);
        match disk.step() {
            Step::Go => change(&mut disk),
            Step::GoAndFail => {
                change(&mut disk)?;
                Err(stopped())
            }
            Step::Fail(error) => {
                half(&mut disk);
                Err(error)
            }
        }
    }

    fn look<T>(&self, look: impl FnOnce(&Disk) -> io::Result<T>) -> io::Result<T> {
        let disk = lock(&self.disk);
        if disk.stopped { Err(stopped()) } else { look(&disk) }
    }
}

impl Disk {
    fn step(&mut self) -> Step {
        if self.stopped {
            return Step::Fail(stopped());
        }
        let here = self.ops;
        self.ops += 1;
        match self.fault {
            Some((at, fault)) if at == here => {
                self.stopped = fault != Fault::Full;
                match fault {
                    Fault::Stop => Step::Fail(stopped()),
                    Fault::StopAfter => Step::GoAndFail,
                    Fault::Full => Step::Fail(io::ErrorKind::StorageFull.into()),
                }
            }
            _ => Step::Go,
        }
    }

    fn node(&self, path: &Path) -> io::Result<Node> {
        self.require_dir(path.parent())?;
        self.names.get(path).copied().ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn file(&self, path: &Path) -> io::Result<usize> {
        match self.node(path)? {
            Node::File(file) => Ok(file),
            Node::Dir => Err(io::ErrorKind::IsADirectory.into()),
        }
    }

    /// As a path is resolved: the first of its directories that is missing, or a file, decides.
    fn require_dir(&self, path: Option<&Path>) -> io::Result<()> {
        let mut above: Vec<&Path> = path.into_iter().flat_map(Path::ancestors).collect();
        above.reverse();
        for dir in above {
            match self.names.get(dir) {
                Some(Node::Dir) => {}
                Some(Node::File(_)) => return Err(io::ErrorKind::NotADirectory.into()),
                None => return Err(io::ErrorKind::NotFound.into()),
            }
        }
        Ok(())
    }

    fn children<'a>(&'a self, dir: &'a Path) -> impl Iterator<Item = (&'a PathBuf, &'a Node)> {
        self.names.iter().filter(move |(path, _)| path.parent() == Some(dir))
    }

    fn add(&mut self, path: &Path, node: Node) -> io::Result<()> {
        match self.node(path) {
            Ok(_) => Err(io::ErrorKind::AlreadyExists.into()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                self.require_dir(path.parent())?;
                self.names.insert(path.to_path_buf(), node);
                Ok(())
            }
            Err(error) => Err(error),
        }
    }
}

fn stopped() -> io::Error {
    io::Error::other("the process has been stopped here")
}

/// Some of what was written: a part that reached the disk, and behind it perhaps zeros.
fn torn(file: &Content, random: &mut Random) -> Vec<u8> {
    let len = file.seen.len();
    let kept = (random.next() % (len as u64 + 1)) as usize;
    let mut bytes = file.seen[..kept].to_vec();
    if random.next().is_multiple_of(2) {
        bytes.resize(len, 0);
    }
    bytes
}

/// SplitMix64: the same choices for the same seed.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}

impl FileOps for SimulatedFiles {
    fn make_dir(&self, path: &Path) -> io::Result<()> {
        self.change(|disk| disk.add(path, Node::Dir), |_| ())
    }

    fn create_new(&self, path: &Path) -> io::Result<Box<dyn NewFile>> {
        let create = |disk: &mut Disk| {
            let file = disk.files.len();
            disk.add(path, Node::File(file))?;
            disk.files.push(Content::default());
            Ok(file)
        };
        let file = self.change(create, |_| ())?;
        Ok(Box::new(SimulatedFile { files: self.clone(), file }))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let rename = |disk: &mut Disk| {
            let file = disk.file(from)?;
            match disk.node(to) {
                Ok(Node::Dir) => return Err(io::ErrorKind::IsADirectory.into()),
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => disk.require_dir(to.parent())?,
            }
            disk.names.remove(from);
            disk.names.insert(to.to_path_buf(), Node::File(file));
            Ok(())
        };
        self.change(rename, |_| ())
    }

    fn link(&self, from: &Path, to: &Path) -> io::Result<()> {
        let link = |disk: &mut Disk| {
            let file = disk.file(from)?;
            disk.add(to, Node::File(file))
        };
        self.change(link, |_| ())
    }

    fn rename_new(&self, from: &Path, to: &Path) -> io::Result<()> {
        let rename = |disk: &mut Disk| {
            let file = disk.file(from)?;
            disk.add(to, Node::File(file))?;
            disk.names.remove(from);
            Ok(())
        };
        self.change(rename, |_| ())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let remove = |disk: &mut Disk| {
            disk.file(path)?;
            disk.names.remove(path);
            Ok(())
        };
        self.change(remove, |_| ())
    }

    fn remove_dir(&self, path: &Path) -> io::Result<()> {
        let remove = |disk: &mut Disk| {
            if disk.node(path)? != Node::Dir {
                return Err(io::ErrorKind::NotADirectory.into());
            }
            if disk.children(path).next().is_some() {
                return Err(io::ErrorKind::DirectoryNotEmpty.into());
            }
            disk.names.remove(path);
            Ok(())
        };
        self.change(remove, |_| ())
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        let sync = |disk: &mut Disk| {
            disk.require_dir(Some(path))?;
            let now: Vec<_> = disk.children(path).map(|(path, node)| (path.clone(), *node)).collect();
            disk.durable_names.retain(|name, _| name.parent() != Some(path));
            disk.durable_names.extend(now);
            Ok(())
        };
        self.change(sync, |_| ())
    }

    fn open(&self, path: &Path) -> io::Result<Box<dyn OpenedFile>> {
        let bytes = self.look(|disk| Ok(disk.files[disk.file(path)?].seen.clone()))?;
        Ok(Box::new(bytes))
    }

    fn read_dir(&self, path: &Path) -> io::Result<Vec<Entry>> {
        self.look(|disk| {
            disk.require_dir(Some(path))?;
            let entry = |(path, node): (&PathBuf, &Node)| {
                let name = path.file_name()?.to_str()?.to_string();
                Some(Entry { name, is_dir: *node == Node::Dir })
            };
            Ok(disk.children(path).filter_map(entry).collect())
        })
    }

    fn remove_abandoned(&self, path: &Path) -> io::Result<()> {
        // Whoever opens a store here is alone in it.
        self.remove(path)
    }

    fn lock(&self, path: &Path, sharing: Sharing) -> io::Result<Locked> {
        self.look(|_| Ok(()))?;
        let taken = || Locked::Taken(Some(this_process()));
        Ok(self.locks.take(&path.to_path_buf(), sharing).map_or_else(taken, Locked::Got))
    }
}

struct SimulatedFile {
    files: SimulatedFiles,
    file: usize,
}

impl NewFile for SimulatedFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        let file = self.file;
        let append = |disk: &mut Disk, bytes: &[u8]| disk.files[file].seen.extend_from_slice(bytes);
        let whole = |disk: &mut Disk| {
            append(disk, bytes);
            Ok(())
        };
        self.files.change(whole, |disk| append(disk, &bytes[..bytes.len() / 2]))
    }

    fn sync(&mut self) -> io::Result<()> {
        let file = self.file;
        let sync = |disk: &mut Disk| {
            disk.files[file].durable = disk.files[file].seen.clone();
            Ok(())
        };
        self.files.change(sync, |_| ())
    }
}

impl OpenedFile for Vec<u8> {
    fn size(&self) -> io::Result<u64> {
        Ok(self.len() as u64)
    }

    fn read(&self, range: Range<u64>) -> io::Result<Vec<u8>> {
        let found = usize::try_from(range.start).ok().zip(usize::try_from(range.end).ok());
        let found = found.and_then(|(start, end)| self.get(start..end));
        found.map(<[u8]>::to_vec).ok_or_else(|| io::ErrorKind::UnexpectedEof.into())
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Local, conformance};
    use super::*;

    #[test]
    fn a_store_on_it_conforms() {
        conformance::all(&Local::open_on("/store", Arc::new(SimulatedFiles::new())).unwrap());
    }

    fn content(files: &SimulatedFiles, path: &str) -> Option<Vec<u8>> {
        let file = files.open(Path::new(path)).ok()?;
        Some(file.read(0..file.size().unwrap()).unwrap())
    }

    #[test]
    fn what_is_not_synced_is_lost() {
        let files = SimulatedFiles::new();
        let mut file = files.create_new(Path::new("/a")).unwrap();
        file.write(b"one").unwrap();
        assert_eq!(content(&files.crash(Loss::Nothing), "/a").unwrap(), b"one");
        assert_eq!(content(&files.crash(Loss::Unsynced), "/a"), None);
        files.sync_dir(Path::new("/")).unwrap();
        assert_eq!(content(&files.crash(Loss::Unsynced), "/a").unwrap(), b"");
        file.sync().unwrap();
        file.write(b" two").unwrap();
        assert_eq!(content(&files.crash(Loss::Unsynced), "/a").unwrap(), b"one");
        files.rename(Path::new("/a"), Path::new("/b")).unwrap();
        let crashed = files.crash(Loss::Unsynced);
        assert_eq!((content(&crashed, "/a").unwrap(), content(&crashed, "/b")), (b"one".to_vec(), None));
        let names = |seed| {
            let crashed = files.crash(Loss::Some(seed));
            (content(&crashed, "/a").is_some(), content(&crashed, "/b").is_some())
        };
        let seen: std::collections::BTreeSet<_> = (0..50).map(names).collect();
        assert_eq!(seen.len(), 4, "of a rename that was not synced, anything may be left");
    }

    #[test]
    fn it_fails_where_it_is_told() {
        let files = SimulatedFiles::new();
        files.fail_at(1, Fault::Full);
        let mut file = files.create_new(Path::new("/a")).unwrap();
        assert_eq!(file.write(b"1234").unwrap_err().kind(), io::ErrorKind::StorageFull);
        assert_eq!(content(&files, "/a").unwrap(), b"12");
        file.write(b"56").unwrap();
        files.fail_at(0, Fault::StopAfter);
        assert!(files.remove(Path::new("/a")).is_err());
        assert!(files.make_dir(Path::new("/b")).is_err() && files.open(Path::new("/a")).is_err());
        assert_eq!(content(&files.crash(Loss::Nothing), "/a"), None);
    }
}
