//! The file operations under a local store: the real ones, and the seam at which tests break them.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, BufWriter, Read, Write};
use std::ops::Range;
use std::os::unix::fs::{DirBuilderExt, FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use super::leases::this_process;
use super::{Hold, Holder, Sharing};

/// A temporary that nobody has locked is abandoned only after this time: its writer may be between
/// making it and locking it.
const FRESH: Duration = Duration::from_secs(60);
/// The same on file systems without locks, where only age tells.
const FRESH_WITHOUT_LOCKS: Duration = Duration::from_secs(24 * 3600);
/// What is read of a lock file at most: it holds two short lines.
const HOLDER_MAX: u64 = 512;
/// Small writes are gathered up to so many bytes: file systems have less to do for the same bytes in few large ones.
const GATHERED: usize = 1 << 20;

/// What [`FileOps::lock`] found.
pub enum Locked {
    /// The lock is ours until this is dropped.
    Got(Box<dyn Hold>),
    /// Someone else has it.
    Taken(Option<Holder>),
}

/// An entry of a directory.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Entry {
    /// Its name, if that is UTF-8; the others are none of ours.
    pub name: String,
    /// A directory, or else a regular file.
    pub is_dir: bool,
}

/// The file operations that a local store needs, each with the meaning and the errors of POSIX.
pub trait FileOps: Send + Sync {
    /// Makes a private directory; its name is durable after [`FileOps::sync_dir`] of its parent.
    fn make_dir(&self, path: &Path) -> io::Result<()>;
    /// Makes a new private file, which must not exist, known as ours until the result is dropped.
    fn create_new(&self, path: &Path) -> io::Result<Box<dyn NewFile>>;
    /// Renames, over any former file.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Gives the file a second name, unless that is taken: `AlreadyExists`.
    fn link(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Renames unless the name is taken, `AlreadyExists`: for file systems without hard links.
    fn rename_new(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Removes a file.
    fn remove(&self, path: &Path) -> io::Result<()>;
    /// Removes a directory if it is empty.
    fn remove_dir(&self, path: &Path) -> io::Result<()>;
    /// Makes the names in the directory durable.
    fn sync_dir(&self, path: &Path) -> io::Result<()>;
    /// Opens a regular file; anything else is `NotFound`.
    fn open(&self, path: &Path) -> io::Result<Box<dyn OpenedFile>>;
    /// The files and directories in a directory.
    fn read_dir(&self, path: &Path) -> io::Result<Vec<Entry>>;
    /// Removes the temporary file if the process that made it has died.
    fn remove_abandoned(&self, path: &Path) -> io::Result<()>;
    /// Locks the file, which is made if need be; does not wait.
    fn lock(&self, path: &Path, sharing: Sharing) -> io::Result<Locked>;
}

/// A file being written.
pub trait NewFile: Send {
    /// Appends all of these bytes.
    fn write(&mut self, bytes: &[u8]) -> io::Result<()>;
    /// Makes the content durable.
    fn sync(&mut self) -> io::Result<()>;
}

/// A file open for reading: the same one, also when its name is given to another.
pub trait OpenedFile: Send {
    /// Length in bytes.
    fn size(&self) -> io::Result<u64>;
    /// Exactly these bytes, or `UnexpectedEof`.
    fn read(&self, range: Range<u64>) -> io::Result<Vec<u8>>;
    /// Fills `into` with the bytes from `start` on, or `UnexpectedEof`.
    fn read_at(&self, start: u64, into: &mut [u8]) -> io::Result<()> {
        let end = start.checked_add(into.len() as u64).ok_or(io::ErrorKind::UnexpectedEof)?;
        into.copy_from_slice(&self.read(start..end)?);
        Ok(())
    }
}

/// The operating system's file operations.
#[derive(Debug, Clone, Copy, Default)]
pub struct RealFiles;

impl FileOps for RealFiles {
    fn make_dir(&self, path: &Path) -> io::Result<()> {
        fs::DirBuilder::new().mode(0o700).create(path)
    }

    fn create_new(&self, path: &Path) -> io::Result<Box<dyn NewFile>> {
        let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
        // Tells a cleaner that the writer lives. Without locks the file's age protects it.
        let _ = file.try_lock();
        Ok(Box::new(BufWriter::with_capacity(GATHERED, file)))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn link(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::hard_link(from, to)
    }

    #[cfg(target_os = "linux")]
    fn rename_new(&self, from: &Path, to: &Path) -> io::Result<()> {
        use rustix::fs::{CWD, RenameFlags, renameat_with};
        Ok(renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE)?)
    }

    #[cfg(not(target_os = "linux"))]
    fn rename_new(&self, _: &Path, _: &Path) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }

    fn remove_dir(&self, path: &Path) -> io::Result<()> {
        fs::remove_dir(path)
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        File::open(path)?.sync_all()
    }

    fn open(&self, path: &Path) -> io::Result<Box<dyn OpenedFile>> {
        let file = File::open(path)?;
        if file.metadata()?.is_file() { Ok(Box::new(file)) } else { Err(io::ErrorKind::NotFound.into()) }
    }

    fn read_dir(&self, path: &Path) -> io::Result<Vec<Entry>> {
        let mut entries = Vec::new();
        for entry in fs::read_dir(path)? {
            let entry = entry?;
            let kind = match entry.file_type() {
                // Where the directory does not tell what it is, the file is asked, and may be gone by then.
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                kind => kind?,
            };
            if let (true, Ok(name)) = (kind.is_dir() || kind.is_file(), entry.file_name().into_string()) {
                entries.push(Entry { name, is_dir: kind.is_dir() });
            }
        }
        Ok(entries)
    }

    fn remove_abandoned(&self, path: &Path) -> io::Result<()> {
        let file = File::open(path)?;
        let age = SystemTime::now().duration_since(file.metadata()?.modified()?).unwrap_or_default();
        let abandoned = match file.try_lock() {
            Ok(()) => age > FRESH,
            Err(TryLockError::WouldBlock) => false,
            Err(TryLockError::Error(_)) => age > FRESH_WITHOUT_LOCKS,
        };
        if abandoned { fs::remove_file(path) } else { Ok(()) }
    }

    fn lock(&self, path: &Path, sharing: Sharing) -> io::Result<Locked> {
        loop {
            let file = OpenOptions::new()
                .read(true)
                .write(true)
                .create(true)
                .truncate(false)
                .mode(0o600)
                .open(path)?;
            let locked = match sharing {
                Sharing::Exclusive => file.try_lock(),
                Sharing::Shared => file.try_lock_shared(),
            };
            match locked {
                Ok(()) => {}
                Err(TryLockError::WouldBlock) => return Ok(Locked::Taken(read_holder(&file))),
                Err(TryLockError::Error(error)) => return Err(error),
            }
            // A holder removes the file when it lets go; the lock of a removed file protects nothing.
            if names_this_file(path, &file)? {
                write_holder(&file);
                return Ok(Locked::Got(Box::new(FileLock {
                    _file: file,
                    path: path.to_path_buf(),
                    sharing,
                })));
            }
        }
    }
}

impl NewFile for BufWriter<File> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.write_all(bytes)
    }

    fn sync(&mut self) -> io::Result<()> {
        self.flush()?;
        self.get_ref().sync_data()
    }
}

impl OpenedFile for File {
    fn size(&self) -> io::Result<u64> {
        Ok(self.metadata()?.len())
    }

    fn read(&self, range: Range<u64>) -> io::Result<Vec<u8>> {
        // Checked before it is allocated: the range may come from a damaged object.
        if range.start > range.end || range.end > self.size()? {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let len = usize::try_from(range.end - range.start).map_err(io::Error::other)?;
        let mut bytes = vec![0; len];
        self.read_exact_at(&mut bytes, range.start)?;
        Ok(bytes)
    }

    fn read_at(&self, start: u64, into: &mut [u8]) -> io::Result<()> {
        // The system has no such place, and would not say so by this error.
        if start > i64::MAX as u64 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.read_exact_at(into, start)
    }
}

/// A lock file; the lock itself goes with the descriptor, so also with the process.
struct FileLock {
    _file: File,
    path: PathBuf,
    sharing: Sharing,
}

impl Hold for FileLock {}

impl Drop for FileLock {
    fn drop(&mut self) {
        // Only one who is alone may remove it: other sharers' locks are on this very file.
        if self.sharing == Sharing::Exclusive {
            let _ = fs::remove_file(&self.path);
        }
    }
}

fn names_this_file(path: &Path, file: &File) -> io::Result<bool> {
    let ours = file.metadata()?;
    match fs::metadata(path) {
        Ok(named) => Ok(named.dev() == ours.dev() && named.ino() == ours.ino()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

/// Says who has the lock. For people only, so it may fail: the disk may be full.
fn write_holder(file: &File) {
    let Holder { pid, host } = this_process();
    let _ = file.set_len(0).and_then(|()| file.write_all_at(format!("{pid}\n{host}\n").as_bytes(), 0));
}

fn read_holder(mut file: &File) -> Option<Holder> {
    let mut text = String::new();
    Read::by_ref(&mut file).take(HOLDER_MAX).read_to_string(&mut text).ok()?;
    let (pid, host) = text.trim_end().split_once('\n')?;
    let host = host.chars().flat_map(char::escape_default).collect();
    Some(Holder { pid: pid.parse().ok()?, host })
}
