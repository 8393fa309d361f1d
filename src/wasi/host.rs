//! Host directories: the only file that asks the host for a path. `cap-std` keeps every path inside
//! the directory that it starts from.

use std::{
    collections::VecDeque,
    ffi::CStr,
    fs::File,
    io,
    os::fd::AsFd,
    path::{Path, PathBuf},
};

use cap_fs_ext::{DirExt, FollowSymlinks, OpenOptionsFollowExt, OpenOptionsSyncExt};
use cap_std::fs::{Dir, OpenOptions};
use rustix::fs::{AtFlags, FileType, Stat, Timespec, Timestamps, UTIME_NOW, UTIME_OMIT, fstat};

use super::{
    errno::Errno,
    state::Listed,
    types::{self, Attributes, Filetype, fstflags},
};

/// How to open something.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct How {
    pub read: bool,
    pub write: bool,
    pub create: bool,
    pub exclusive: bool,
    pub truncate: bool,
    pub follow: bool,
}

/// What was opened.
#[derive(Debug)]
pub(super) enum Opened {
    Directory(Dir),
    File { file: File, found: Attributes },
}

/// The host's directory at an absolute or relative path; the only path that may lead anywhere.
pub(super) fn open_root(path: &Path) -> io::Result<Dir> {
    // By way of a file: `cap-std` would open it for looking up only, which cannot be synced or stamped.
    let file = File::open(path)?;
    if !file.metadata()?.is_dir() {
        return Err(rustix::io::Errno::NOTDIR.into());
    }
    Ok(Dir::from_std_file(file))
}

/// Opens a path inside `dir`.
///
/// # Errors
/// `Notsup` for what has no state that a snapshot could hold: FIFOs, sockets, and devices other than
/// those that are always the same.
pub(super) fn open(dir: &Dir, path: &str, how: How) -> Result<Opened, Errno> {
    let mut options = OpenOptions::new();
    options.read(how.read).write(how.write).truncate(how.truncate);
    match (how.create, how.exclusive) {
        (true, true) => options.create_new(true),
        (true, false) => options.create(true),
        (false, _) => &mut options,
    };
    options.follow(if how.follow { FollowSymlinks::Yes } else { FollowSymlinks::No });
    // So that opening a FIFO does not wait for its other end. Means nothing for files.
    options.nonblock(true);
    let file = dir.open_with(path, &options)?.into_std();
    let stat = fstat(&file)?;
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::Directory => Ok(Opened::Directory(Dir::from_std_file(file))),
        FileType::RegularFile => Ok(Opened::File { file, found: stat.into() }),
        FileType::CharacterDevice if is_constant_device(&stat) => {
            Ok(Opened::File { file, found: stat.into() })
        }
        _ => Err(Errno::Notsup),
    }
}

/// Devices that are the same whenever and wherever they are opened: null, zero and full.
fn is_constant_device(stat: &Stat) -> bool {
    let (major, minor) = (rustix::fs::major(stat.st_rdev), rustix::fs::minor(stat.st_rdev));
    cfg!(target_os = "linux") && major == 1 && matches!(minor, 3 | 5 | 7)
}

/// Attributes of something open.
pub(super) fn attributes(open: impl AsFd) -> rustix::io::Result<Attributes> {
    Ok(fstat(open)?.into())
}

/// When an open file was made, in ns since 1970; 0 if the file system does not say.
pub(super) fn born(file: &File) -> u64 {
    let made = file.metadata().and_then(|meta| meta.created()).ok();
    let since_1970 = made.and_then(|time| time.duration_since(std::time::UNIX_EPOCH).ok());
    since_1970.and_then(|time| u64::try_from(time.as_nanos()).ok()).unwrap_or(0)
}

/// Attributes of what is at a path inside `dir`.
pub(super) fn attributes_at(dir: &Dir, path: &str, follow: bool) -> io::Result<Attributes> {
    Ok(if follow { dir.metadata(path)? } else { dir.symlink_metadata(path)? }.into())
}

/// The entries of a directory but `.` and `..`, by ascending name: the host's own order differs from
/// file system to file system.
///
/// # Errors
/// `Ilseq` if a name is not UTF-8.
pub(super) fn list(dir: &Dir) -> Result<Vec<Listed>, Errno> {
    let mut entries = Vec::new();
    for entry in rustix::fs::Dir::read_from(dir)? {
        let entry = entry?;
        let name = entry.file_name();
        if name == c"." || name == c".." {
            continue;
        }
        let kind = match entry.file_type() {
            // Some file systems do not say.
            FileType::Unknown => match type_of(dir, name) {
                Ok(kind) => kind,
                Err(rustix::io::Errno::NOENT) => continue,
                Err(e) => return Err(e.into()),
            },
            kind => kind,
        };
        let name = name.to_str().map_err(|_| Errno::Ilseq)?.to_string();
        entries.push(Listed { name, ino: entry.ino(), kind: kind.into() });
    }
    entries.sort_unstable_by(|a, b| a.name.cmp(&b.name));
    Ok(entries)
}

fn type_of(dir: &Dir, name: &CStr) -> rustix::io::Result<FileType> {
    let stat = rustix::fs::statat(dir, name, AtFlags::SYMLINK_NOFOLLOW)?;
    Ok(FileType::from_raw_mode(stat.st_mode))
}

/// A time that a file is to be given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Time {
    Now,
    /// In ns since 1970.
    At(u64),
}

/// New times of a file; none: it stays as it is.
#[derive(Debug, Clone, Copy)]
pub(super) struct Times {
    pub access: Option<Time>,
    pub modification: Option<Time>,
}

impl Times {
    /// New times from what the guest gave.
    ///
    /// # Errors
    /// `Inval` if a time is to be both now and another.
    pub fn new(atim: u64, mtim: u64, flags: u32) -> Result<Self, Errno> {
        let flags = types::flags(flags, fstflags::ALL)?;
        let time = |nanos: u64, set: u32, now: u32| match (flags & set != 0, flags & now != 0) {
            (true, true) => Err(Errno::Inval),
            (true, false) => Ok(Some(Time::At(nanos))),
            (false, true) => Ok(Some(Time::Now)),
            (false, false) => Ok(None),
        };
        Ok(Self {
            access: time(atim, fstflags::ATIM, fstflags::ATIM_NOW)?,
            modification: time(mtim, fstflags::MTIM, fstflags::MTIM_NOW)?,
        })
    }

    /// For `futimens`.
    pub fn timestamps(self) -> Timestamps {
        let time = |time| match time {
            Some(Time::At(nanos)) => {
                Timespec { tv_sec: (nanos / 1_000_000_000) as i64, tv_nsec: (nanos % 1_000_000_000) as _ }
            }
            Some(Time::Now) => Timespec { tv_sec: 0, tv_nsec: UTIME_NOW },
            None => Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT },
        };
        Timestamps { last_access: time(self.access), last_modification: time(self.modification) }
    }
}

/// Sets the times of what is at a path inside `dir`.
pub(super) fn set_times(dir: &Dir, path: &str, times: Times, follow: bool) -> io::Result<()> {
    use cap_fs_ext::SystemTimeSpec;
    use cap_std::time::{Duration, SystemTime};
    let spec = |time| match time {
        Time::Now => SystemTimeSpec::SymbolicNow,
        Time::At(nanos) => {
            let since = Duration::from_nanos(nanos);
            SystemTimeSpec::Absolute(SystemTime::from_std(std::time::UNIX_EPOCH + since))
        }
    };
    let (atime, mtime) = (times.access.map(spec), times.modification.map(spec));
    if follow { dir.set_times(path, atime, mtime) } else { dir.set_symlink_times(path, atime, mtime) }
}

/// Where the host says that an open file or directory is now, if it is inside `root`.
///
/// Only a hint: the caller looks there, and compares.
pub(super) fn path_of(root: &Dir, open: &impl AsFd) -> Option<String> {
    if !cfg!(target_os = "linux") {
        return None;
    }
    let link = |fd: std::os::fd::BorrowedFd<'_>| {
        use std::os::fd::AsRawFd;
        std::fs::read_link(format!("/proc/self/fd/{}", fd.as_raw_fd())).ok()
    };
    let (root, open) = (link(root.as_fd())?, link(open.as_fd())?);
    Some(open.strip_prefix(root).ok()?.to_str()?.to_string())
}

/// Where in `root` the file with this inode number is: the first path that `is_at` agrees to. At most `left` names
/// are looked at.
pub(super) fn search(root: &Dir, ino: u64, left: &mut usize, is_at: impl Fn(&str) -> bool) -> Option<String> {
    let mut dirs = VecDeque::from([String::new()]);
    while let Some(dir) = dirs.pop_front() {
        let (name, prefix) = match &dir[..] {
            "" => (".", String::new()),
            dir => (dir, format!("{dir}/")),
        };
        let how = How { read: true, ..How::default() };
        let Ok(Opened::Directory(opened)) = open(root, name, how) else { continue };
        for entry in list(&opened).unwrap_or_default() {
            *left = left.checked_sub(1)?;
            let path = format!("{prefix}{}", entry.name);
            if entry.kind == Filetype::Directory {
                dirs.push_back(path);
            } else if entry.ino == ino && is_at(&path) {
                return Some(path);
            }
        }
    }
    None
}

/// An empty directory that has been removed; `dir` is where it was.
pub(super) fn removed_directory(dir: &Path) -> io::Result<Dir> {
    let path = unused_path(dir)?;
    std::fs::create_dir_all(&path)?;
    let opened = open_root(&path);
    std::fs::remove_dir(&path)?;
    opened
}

fn unused_path(dir: &Path) -> io::Result<PathBuf> {
    let mut random = [0; 8];
    getrandom::fill(&mut random).map_err(|e| io::Error::other(e.to_string()))?;
    Ok(dir.join(format!("scratch-{:016x}", u64::from_le_bytes(random))))
}

/// An empty file without a name in a directory, gone when it is closed.
pub(super) fn scratch(dir: &Path) -> io::Result<File> {
    use rustix::fs::{Mode, OFlags};
    #[cfg(target_os = "linux")]
    match rustix::fs::open(dir, OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC, Mode::RUSR | Mode::WUSR) {
        Ok(file) => return Ok(file.into()),
        // Not every file system has such files.
        Err(rustix::io::Errno::OPNOTSUPP | rustix::io::Errno::ISDIR | rustix::io::Errno::NOENT) => {}
        Err(e) => return Err(e.into()),
    }
    let path = unused_path(dir)?;
    let flags = OFlags::CREATE | OFlags::EXCL | OFlags::RDWR | OFlags::CLOEXEC;
    let file = rustix::fs::open(&path, flags, Mode::RUSR | Mode::WUSR)?;
    std::fs::remove_file(&path)?;
    Ok(file.into())
}

/// The first `size` bytes of an open file, however it was opened.
pub(super) fn content(file: &File, size: u64) -> io::Result<Vec<u8>> {
    use std::os::{fd::AsRawFd, unix::fs::FileExt};
    let len = usize::try_from(size).map_err(|_| io::ErrorKind::FileTooLarge)?;
    let mut content = vec![0; len];
    match file.read_exact_at(&mut content, 0) {
        // Open for writing only: the host lets us open it once more.
        Err(e) if e.raw_os_error() == Some(rustix::io::Errno::BADF.raw_os_error()) => {
            let again = File::open(format!("/proc/self/fd/{}", file.as_raw_fd()))?;
            again.read_exact_at(&mut content, 0)?;
        }
        result => result?,
    }
    Ok(content)
}

/// A file without a name that has this content, readable and writable.
///
/// # Errors
/// `Unsupported` where the host has no such files.
pub(super) fn nameless(content: &[u8]) -> io::Result<File> {
    #[cfg(target_os = "linux")]
    {
        use std::os::unix::fs::FileExt;
        let file = File::from(rustix::fs::memfd_create("nameless", rustix::fs::MemfdFlags::CLOEXEC)?);
        file.write_all_at(content, 0)?;
        Ok(file)
    }
    #[cfg(not(target_os = "linux"))]
    {
        let _ = content;
        Err(io::ErrorKind::Unsupported.into())
    }
}
