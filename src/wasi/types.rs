//! Flags, rights and memory layouts of preview 1.
//!
//! Source: `typenames.witx` of `wasi_snapshot_preview1`; all integers are little-endian.

use rustix::fs::{FileType, Stat};
use serde::{Deserialize, Serialize};

use super::errno::Errno;

/// What a descriptor or directory entry is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[repr(u8)]
pub enum Filetype {
    /// Anything without a number of its own: FIFOs, pipes.
    Unknown = 0,
    /// A block device.
    BlockDevice = 1,
    /// A character device, such as a terminal.
    CharacterDevice = 2,
    /// A directory.
    Directory = 3,
    /// A regular file.
    RegularFile = 4,
    /// A symbolic link.
    SymbolicLink = 7,
}

impl From<FileType> for Filetype {
    fn from(host: FileType) -> Self {
        match host {
            FileType::RegularFile => Filetype::RegularFile,
            FileType::Directory => Filetype::Directory,
            FileType::Symlink => Filetype::SymbolicLink,
            FileType::CharacterDevice => Filetype::CharacterDevice,
            FileType::BlockDevice => Filetype::BlockDevice,
            _ => Filetype::Unknown,
        }
    }
}

/// `lookupflags`: follow a symbolic link that the path ends in.
pub(super) const SYMLINK_FOLLOW: u32 = 1;

/// `oflags` of `path_open`.
pub(super) mod oflags {
    pub const CREAT: u32 = 1;
    pub const DIRECTORY: u32 = 2;
    pub const EXCL: u32 = 4;
    pub const TRUNC: u32 = 8;
    pub const ALL: u32 = 15;
}

/// `fdflags` of `path_open` and `fd_fdstat_set_flags`.
pub(super) mod fdflags {
    pub const APPEND: u32 = 1;
    pub const DSYNC: u32 = 2;
    pub const NONBLOCK: u32 = 4;
    pub const RSYNC: u32 = 8;
    pub const SYNC: u32 = 16;
    pub const ALL: u32 = 31;
}

/// `fstflags` of the functions that set times.
pub(super) mod fstflags {
    pub const ATIM: u32 = 1;
    pub const ATIM_NOW: u32 = 2;
    pub const MTIM: u32 = 4;
    pub const MTIM_NOW: u32 = 8;
    pub const ALL: u32 = 15;
}

/// Rights, as bits. Only reading and writing are enforced, as in the reference.
pub(super) mod rights {
    pub const FD_READ: u64 = 1 << 1;
    pub const FD_SEEK: u64 = 1 << 2;
    pub const FD_WRITE: u64 = 1 << 6;
    pub const FD_READDIR: u64 = 1 << 14;
    pub const PATH_FILESTAT_SET_SIZE: u64 = 1 << 19;
    pub const FD_FILESTAT_SET_SIZE: u64 = 1 << 22;
    pub const ALL: u64 = (1 << 30) - 1;

    /// What a preopened directory may do: all that is about paths, except setting a size; reading the
    /// directory, and its own attributes.
    pub const PREOPEN_BASE: u64 =
        ((1 << 19) - (1 << 9)) | 1 << 20 | 1 << 21 | 1 << 23 | 1 << 24 | 1 << 25 | 1 << 26;
    /// What its files may do besides: everything that is about an open file.
    pub const PREOPEN_INHERITING: u64 = PREOPEN_BASE | 0b1_1111_1111 | FD_FILESTAT_SET_SIZE | 1 << 27;
}

/// Size of a `dirent` header, in bytes; the name follows.
pub(super) const DIRENT_LEN: usize = 24;
/// Size of a `subscription`, in bytes.
pub(super) const SUBSCRIPTION_LEN: usize = 48;
/// Size of an `event`, in bytes.
pub(super) const EVENT_LEN: usize = 32;

/// `value`, if it holds no other flags than those of `all`.
pub(super) fn flags(value: u32, all: u32) -> Result<u32, Errno> {
    if value & !all == 0 { Ok(value) } else { Err(Errno::Inval) }
}

/// A `fdstat`.
pub(super) fn fdstat(kind: Filetype, flags: u32, base: u64, inheriting: u64) -> [u8; 24] {
    let mut out = [0; 24];
    out[0] = kind as u8;
    out[2..4].copy_from_slice(&(flags as u16).to_le_bytes());
    out[8..16].copy_from_slice(&base.to_le_bytes());
    out[16..24].copy_from_slice(&inheriting.to_le_bytes());
    out
}

/// A `filestat` of a stream: all zero but the type.
pub(super) fn stream_filestat(kind: Filetype) -> [u8; 64] {
    let mut out = [0; 64];
    out[16] = kind as u8;
    out
}

/// Attributes of a file or directory of the host.
#[derive(Debug, Clone, Copy)]
pub(super) struct Attributes {
    pub dev: u64,
    pub ino: u64,
    pub kind: Filetype,
    pub nlink: u64,
    pub size: u64,
    /// Times are seconds since 1970, and ns.
    pub atim: (i64, u32),
    pub mtim: (i64, u32),
    pub ctim: (i64, u32),
}

#[allow(clippy::unnecessary_cast)] // The widths differ from host to host.
impl From<Stat> for Attributes {
    fn from(stat: Stat) -> Self {
        Self {
            dev: stat.st_dev as u64,
            ino: stat.st_ino as u64,
            kind: FileType::from_raw_mode(stat.st_mode as _).into(),
            nlink: stat.st_nlink as u64,
            size: u64::try_from(stat.st_size).unwrap_or(0),
            atim: (stat.st_atime as i64, stat.st_atime_nsec as u32),
            mtim: (stat.st_mtime as i64, stat.st_mtime_nsec as u32),
            ctim: (stat.st_ctime as i64, stat.st_ctime_nsec as u32),
        }
    }
}

impl From<cap_std::fs::Metadata> for Attributes {
    fn from(found: cap_std::fs::Metadata) -> Self {
        use cap_std::fs::MetadataExt;
        Self {
            dev: found.dev(),
            ino: found.ino(),
            kind: FileType::from_raw_mode(found.mode()).into(),
            nlink: found.nlink(),
            size: found.size(),
            atim: (found.atime(), found.atime_nsec() as u32),
            mtim: (found.mtime(), found.mtime_nsec() as u32),
            ctim: (found.ctime(), found.ctime_nsec() as u32),
        }
    }
}

impl Attributes {
    /// A `filestat`. Times before 1970 become 0.
    pub fn filestat(&self) -> [u8; 64] {
        let nanos = |(seconds, nanos): (i64, u32)| {
            let seconds = u64::try_from(seconds).unwrap_or(0);
            seconds.saturating_mul(1_000_000_000).saturating_add(u64::from(nanos))
        };
        let Self { dev, ino, kind, nlink, size, atim, mtim, ctim } = *self;
        let fields = [dev, ino, kind as u64, nlink, size, nanos(atim), nanos(mtim), nanos(ctim)];
        let mut out = [0; 64];
        for (slot, field) in out.chunks_exact_mut(8).zip(fields) {
            slot.copy_from_slice(&field.to_le_bytes());
        }
        out
    }
}

/// The header of a directory entry.
pub(super) fn dirent(next: u64, ino: u64, name_len: u32, kind: Filetype) -> [u8; DIRENT_LEN] {
    let mut out = [0; DIRENT_LEN];
    out[0..8].copy_from_slice(&next.to_le_bytes());
    out[8..16].copy_from_slice(&ino.to_le_bytes());
    out[16..20].copy_from_slice(&name_len.to_le_bytes());
    out[20] = kind as u8;
    out
}
