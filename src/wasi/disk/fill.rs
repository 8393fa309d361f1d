//! Filling a disk from a directory of the host.

use std::{
    collections::HashMap,
    fs::{self, File, Metadata},
    io::Read,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, bail};
use rustix::fs::SeekFrom;

use super::{
    BLOCK, Disk, Ino, ROOT,
    inode::{Content, Node},
};
use crate::wasi::Errno;

/// How much is read at once: whole blocks.
const READ: usize = 1 << 20;
static ZEROS: [u8; BLOCK as usize] = [0; BLOCK as usize];

/// What a disk was filled with.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Filled {
    /// Files; one with several names counts once.
    pub files: u64,
    /// Directories but the root.
    pub directories: u64,
    /// Symbolic links.
    pub symlinks: u64,
    /// Bytes of the files, holes included.
    pub bytes: u64,
}

/// Fills `disk` with what is in the directory `from`: regular files, directories, symbolic links as they are;
/// hard links and times of change are kept. In the order of their names, so that the same directory gives the
/// same disk. Nothing counts as changed then.
///
/// # Errors
/// When something cannot be read, is of another kind, has a name that is not UTF-8, or there is no room.
pub fn from_directory(disk: &mut Disk, from: &Path) -> Result<Filled> {
    let mut filled = Filled::default();
    let found = fs::metadata(from).with_context(|| format!("{} cannot be read", from.display()))?;
    // Directories get their times when all is in them.
    let mut directories = vec![(ROOT, mtim(&found))];
    let mut linked: HashMap<(u64, u64), Ino> = HashMap::new();
    let mut pending: Vec<(Ino, PathBuf)> = children(ROOT, from)?;
    while let Some((dir, path)) = pending.pop() {
        let explain = || format!("{} cannot be taken over", path.display());
        let found = fs::symlink_metadata(&path).with_context(explain)?;
        let name = path.file_name().and_then(|name| name.to_str()).context("its name is not UTF-8");
        let name = name.with_context(explain)?;
        let mtim = mtim(&found);
        if found.is_dir() {
            let ino = disk.new_directory(dir, name, mtim).with_context(explain)?;
            directories.push((ino, mtim));
            pending.extend(children(ino, &path)?);
            filled.directories += 1;
            continue;
        }
        let key = (found.dev(), found.ino());
        if let Some(ino) = linked.get(&key) {
            disk.add_name(*ino, dir, name, mtim).map_err(refused).with_context(explain)?;
            disk.stamp(*ino, mtim);
            continue;
        }
        let ino = if found.is_symlink() {
            filled.symlinks += 1;
            let target = fs::read_link(&path).with_context(explain)?;
            let target = target.to_str().context("its target is not UTF-8").with_context(explain)?;
            disk.new_symlink(dir, name, target, mtim).with_context(explain)?
        } else if found.is_file() {
            filled.files += 1;
            filled.bytes += found.len();
            let ino = disk.new_file(dir, name, mtim).with_context(explain)?;
            let mut file = File::open(&path).with_context(explain)?;
            copy_sparse(disk, ino, &mut file, mtim).with_context(explain)?;
            ino
        } else {
            bail!("{} is neither a file, a directory nor a symbolic link", path.display());
        };
        disk.stamp(ino, mtim);
        if found.nlink() > 1 {
            linked.insert(key, ino);
        }
    }
    for (ino, mtim) in directories {
        disk.stamp(ino, mtim);
    }
    disk.settle();
    Ok(filled)
}

/// What is in a directory, the first name last.
fn children(dir: Ino, path: &Path) -> Result<Vec<(Ino, PathBuf)>> {
    let explain = || format!("{} cannot be read", path.display());
    let entries = fs::read_dir(path).with_context(explain)?;
    let mut found =
        entries.map(|entry| Ok((dir, entry?.path()))).collect::<Result<Vec<_>>>().with_context(explain)?;
    found.sort_unstable_by(|a, b| b.1.file_name().cmp(&a.1.file_name()));
    Ok(found)
}

/// The time of the last change of content, in ns since 1970.
fn mtim(found: &Metadata) -> u64 {
    let seconds = u64::try_from(found.mtime()).unwrap_or(0);
    seconds.saturating_mul(1_000_000_000).saturating_add(found.mtime_nsec() as u64)
}

/// Copies a file, over its holes where the host knows them.
fn copy_sparse(disk: &mut Disk, ino: Ino, file: &mut File, now: u64) -> Result<()> {
    let size = file.metadata()?.len();
    let mut at = 0;
    while at < size {
        let Some((data, hole)) = data(file, at, size) else { break };
        let start = data / BLOCK * BLOCK;
        rustix::fs::seek(&*file, SeekFrom::Start(start))?;
        at = start + copy(disk, ino, &mut (&*file).take(hole - start), start, now)?;
        if at < hole {
            bail!("it became shorter while it was read");
        }
    }
    disk.set_len(ino, size, now).map_err(refused)
}

/// Where the next data of a file begins and ends, as far as the host knows; none if there is only a hole left.
fn data(file: &File, at: u64, size: u64) -> Option<(u64, u64)> {
    #[cfg(target_os = "linux")]
    {
        use rustix::{fs::seek, io::Errno};
        match seek(file, SeekFrom::Data(at)) {
            Ok(data) => Some((data, seek(file, SeekFrom::Hole(data)).unwrap_or(size))),
            Err(Errno::NXIO) => None,
            Err(_) => Some((at, size)),
        }
    }
    #[cfg(not(target_os = "linux"))]
    {
        let _ = file;
        Some((at, size))
    }
}

/// Copies what `from` gives to a file from `offset` on, a multiple of a block; blocks of zeros become holes.
/// Gives how many bytes came.
pub(super) fn copy(disk: &mut Disk, ino: Ino, from: &mut dyn Read, offset: u64, now: u64) -> Result<u64> {
    let mut buffer = vec![0; READ];
    let mut at = offset;
    loop {
        let mut n = 0;
        while n < READ {
            match from.read(&mut buffer[n..]) {
                Ok(0) => break,
                Ok(more) => n += more,
                Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e.into()),
            }
        }
        let is_zero = |block: &[u8]| *block == ZEROS[..block.len()];
        let blocks: Vec<&[u8]> = buffer[..n].chunks(BLOCK as usize).collect();
        let mut start = 0;
        for run in blocks.chunk_by(|a, b| is_zero(a) == is_zero(b)) {
            let len: usize = run.iter().map(|block| block.len()).sum();
            if !is_zero(run[0]) {
                let bytes = &buffer[start..start + len];
                let written = disk.write_at(ino, bytes, at + start as u64, now).map_err(refused)?;
                if written < len {
                    return Err(refused(Errno::Nospc));
                }
                // Else zeros that follow would have blocks, or not, by how the host's holes cut the file up.
                disk.trim(ino).map_err(refused)?;
            }
            start += len;
        }
        at += n as u64;
        if n < READ {
            return Ok(at - offset);
        }
    }
}

/// Why the disk does not take something.
pub(super) fn refused(errno: Errno) -> anyhow::Error {
    match errno {
        Errno::Nospc => anyhow::anyhow!("there is no room for it on the disk"),
        Errno::Fbig => anyhow::anyhow!("it is larger than any file of a disk"),
        Errno::Exist => anyhow::anyhow!("there is something of that name already"),
        Errno::Nametoolong => anyhow::anyhow!("its name is too long"),
        Errno::Mlink => anyhow::anyhow!("it has too many names"),
        Errno::Io => anyhow::anyhow!("the disk's scratch file failed"),
        other => anyhow::anyhow!("the disk says {other:?}"),
    }
}

impl Disk {
    pub(super) fn new_directory(&mut self, dir: Ino, name: &str, now: u64) -> Result<Ino> {
        let node = Node::Directory { entries: Default::default(), parent: dir };
        self.make(dir, name, node, now).map_err(refused)
    }

    pub(super) fn new_file(&mut self, dir: Ino, name: &str, now: u64) -> Result<Ino> {
        self.make(dir, name, Node::File(Content::default()), now).map_err(refused)
    }

    pub(super) fn new_symlink(&mut self, dir: Ino, name: &str, target: &str, now: u64) -> Result<Ino> {
        super::lookup::check_path(target).map_err(refused).context("its target")?;
        self.make(dir, name, Node::Symlink(target.to_string()), now).map_err(refused)
    }

    /// Gives something the times of what it was made from, and takes back what was allocated ahead.
    pub(super) fn stamp(&mut self, ino: Ino, mtim: u64) {
        // A scratch file that fails is remembered by the volume.
        let _ = self.trim(ino);
        if let Ok(inode) = self.inode_mut(ino) {
            inode.times = super::inode::Times::now(mtim);
        }
    }
}
