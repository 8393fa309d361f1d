//! The state of the WASI side as a value, and its bytes.
//!
//! The bytes are postcard's encoding of [`State`] and are untrusted: [`State::decode`] checks every
//! number that something else relies on, and refuses anything but the one encoding of a state.

use std::fmt;

use anyhow::{Context, Result, ensure};
use serde::{Deserialize, Serialize};

use super::{
    appended::{APPENDED_MAX, Appended},
    clock::ClockState,
    config::PREOPENS_MAX,
    disk::ROOT,
    disks::{DISKS_MAX, DiskState},
    fdtable::DESCRIPTORS_MAX,
    inputs::{INPUTS_MAX, InputFile},
    random::Random,
    stdio::{Stream, StreamState},
    types::{Attributes, Filetype},
};

/// Version of the encoding of [`State`].
///
/// Version 1 had not the last fields, from `inputs` on: they were empty.
pub const VERSION: u32 = 2;
/// Most bytes that a state may have.
const LEN_MAX: usize = 256 << 20;
/// Most bytes of nameless files that a state keeps.
pub const NAMELESS_LEN_MAX: u64 = 64 << 20;
/// Most bytes that a program has read from a standard stream, or written to it.
const STREAM_LEN_MAX: u64 = 1 << 62;
/// Longest path in a state, in bytes.
pub(super) const PATH_LEN_MAX: usize = 1 << 16;

/// Everything of the WASI side that has to be in a snapshot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct State {
    /// Arguments.
    pub args: Vec<String>,
    /// Environment, as `NAME=value`.
    pub env: Vec<String>,
    /// The preopened directories, in the order of their first descriptors.
    pub roots: Vec<Root>,
    /// How many descriptor numbers were ever given out; those not in `descriptors` are closed.
    pub numbers: u32,
    /// The open descriptors, by ascending number.
    pub descriptors: Vec<(u32, Descriptor)>,
    /// The open files that have no name any more, as far as they are kept.
    pub nameless: Vec<Nameless>,
    /// Standard input, output and error.
    pub streams: StreamState,
    /// The clocks.
    pub clock: ClockState,
    /// The random generator.
    pub random: Random,
    /// The wait that the guest is in.
    pub wait: Option<Wait>,
    /// The code that the guest gave to `proc_exit`.
    pub exit_code: Option<u32>,
    /// The files of read-only directories that it has opened, by ascending place.
    pub inputs: Vec<InputFile>,
    /// The files that it has appended to and closed, by ascending place.
    pub appended: Vec<Appended>,
    /// The private disks.
    pub disks: Vec<DiskState>,
}

/// The fields that version 1 had not, when they are empty.
const SINCE_VERSION_1: [u8; 3] = [0; 3];

/// A preopened directory.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Root {
    /// The guest's name for it.
    pub guest: String,
    /// Where it was on the host: the bytes of an absolute path.
    pub host: Vec<u8>,
    /// The guest may not change anything in it.
    pub read_only: bool,
}

/// What an open descriptor is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Descriptor {
    /// Standard input, output or error.
    Stream(Stream),
    /// A directory.
    Directory(DirectoryState),
    /// A file.
    File(FileState),
    /// A directory of a private disk.
    DiskDirectory {
        /// Number of the disk.
        disk: u32,
        /// Its inode number there.
        ino: u64,
        /// The guest finds it by `fd_prestat_get`.
        preopen: bool,
        /// As for a directory of the host.
        listing: Option<Vec<Listed>>,
    },
    /// A file of a private disk.
    DiskFile {
        /// Number of the disk.
        disk: u32,
        /// Its inode number there.
        ino: u64,
        /// How it was opened.
        access: Access,
        /// Its offset, in bytes.
        position: u64,
    },
}

/// Where in which preopened directory something is.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Place {
    /// Index of the preopened directory.
    pub root: u32,
    /// Path inside it; empty for itself.
    pub path: String,
}

impl Place {
    /// What a state has for the place of a directory that was removed while it was open: a slash follows its path.
    pub(super) fn of_removed(&self) -> Self {
        let path = self.path.trim_end_matches('/');
        let slash = if path.len() < PATH_LEN_MAX { "/" } else { "" };
        Self { root: self.root, path: format!("{path}{slash}") }
    }

    /// It is from [`Place::of_removed`].
    pub(super) fn is_of_removed(&self) -> bool {
        self.path.ends_with('/')
    }
}

/// An open directory.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DirectoryState {
    /// Where it is.
    pub place: Place,
    /// It is not to be found there any more: removed, which a slash at the end of its path tells, or moved to where
    /// it cannot be found.
    pub gone: bool,
    /// The guest finds it by `fd_prestat_get`.
    pub preopen: bool,
    /// The entries that a `fd_readdir` from the start has found, while they are being read.
    pub listing: Option<Vec<Listed>>,
}

/// A directory entry that was found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Listed {
    /// Its name.
    pub name: String,
    /// Its inode number.
    pub ino: u64,
    /// What it is.
    pub kind: Filetype,
}

/// An open file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileState {
    /// Where it is.
    pub place: Place,
    /// It is not to be found there any more: unlinked, or moved to where it cannot be found. The state
    /// may hold its content in `nameless`.
    pub gone: bool,
    /// A regular file, or one of the character devices that have no state.
    pub kind: Filetype,
    /// How it was opened.
    pub access: Access,
    /// Its offset, in bytes.
    pub position: u64,
    /// What the guest has written to it.
    pub written: Written,
    /// What it was like at the snapshot.
    pub identity: FileIdentity,
}

/// The content of a file that was unlinked while open.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Nameless {
    /// Device, by which its descriptors name it.
    pub dev: u64,
    /// Inode number, by which its descriptors name it.
    pub ino: u64,
    /// All its bytes.
    pub content: Vec<u8>,
}

/// How a file was opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Access {
    /// It can be read.
    pub readable: bool,
    /// It can be written.
    pub writable: bool,
    /// Every write goes to its end.
    pub append: bool,
    /// The guest has set `NONBLOCK`, which is kept and means nothing for files.
    pub nonblock: bool,
}

/// What a guest has written through a descriptor, as far as repairing the file needs it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Written {
    /// Where the file ends, as far as the guest's own writes tell. `None`: it was not empty when it was
    /// opened, and nothing was written.
    pub end: Option<u64>,
    /// Something before the end was overwritten or cut off.
    pub in_place: bool,
}

impl Written {
    /// Notes a write of `len` bytes at `at`.
    pub(super) fn note(&mut self, at: u64, len: u64) {
        let end = self.end.unwrap_or(at);
        self.in_place |= at < end && len > 0;
        self.end = Some(end.max(at.saturating_add(len)));
    }

    /// Notes that the file was given this size.
    pub(super) fn note_size(&mut self, size: u64) {
        self.in_place = size != 0 && (self.in_place || self.end.is_none_or(|end| size < end));
        self.end = Some(size);
    }
}

/// What tells one file, and one content of a file, from another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileIdentity {
    /// Device.
    pub dev: u64,
    /// Inode number.
    pub ino: u64,
    /// Size in bytes.
    pub size: u64,
    /// Time of the last change: seconds since 1970, and ns.
    pub mtime: (i64, u32),
}

impl From<&Attributes> for FileIdentity {
    fn from(found: &Attributes) -> Self {
        Self { dev: found.dev, ino: found.ino, size: found.size, mtime: found.mtim }
    }
}

impl FileIdentity {
    /// The very same file, whatever it contains.
    pub fn same_file(&self, other: &Self) -> bool {
        (self.dev, self.ino) == (other.dev, other.ino)
    }

    /// The same size and time: the same content, as far as can be seen from outside. A copy that keeps
    /// the time has it too.
    pub fn same_content(&self, other: &Self) -> bool {
        (self.size, self.mtime) == (other.size, other.mtime)
    }
}

impl fmt::Display for FileIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { dev, ino, size, mtime: (seconds, nanos) } = self;
        write!(f, "{size} bytes changed at {seconds}.{nanos:09} (device {dev}, inode {ino})")
    }
}

/// A `poll_oneoff` that was suspended while it waited.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Wait {
    /// Guest's monotonic time at which it began, in ns.
    pub began: u64,
    /// Its subscriptions, by which the repeated call is known.
    pub subscriptions: u32,
    /// Number of the subscriptions.
    pub count: u32,
}

impl State {
    /// The bytes of the state, to be read by [`State::decode`] with [`VERSION`].
    ///
    /// # Errors
    /// The state is larger than can be read again.
    pub fn encode(&self) -> Result<Vec<u8>> {
        let bytes = postcard::to_stdvec(self).context("the WASI state cannot be encoded")?;
        ensure!(bytes.len() <= LEN_MAX, "the WASI state takes {} bytes; the limit is {LEN_MAX}", bytes.len());
        Ok(bytes)
    }

    /// Reads a state.
    ///
    /// # Errors
    /// The bytes are of another version, or not those of a state; the error says what is wrong.
    pub fn decode(version: u32, bytes: &[u8]) -> Result<Self> {
        ensure!(
            (1..=VERSION).contains(&version),
            "WASI state has version {version}; this build reads {VERSION}"
        );
        ensure!(bytes.len() <= LEN_MAX, "WASI state of {} bytes; the limit is {LEN_MAX}", bytes.len());
        let bytes = &match version {
            1 => [bytes, &SINCE_VERSION_1].concat(),
            _ => bytes.to_vec(),
        }[..];
        let (state, rest) =
            postcard::take_from_bytes::<Self>(bytes).context("WASI state cannot be decoded")?;
        ensure!(rest.is_empty(), "WASI state is followed by {} bytes that are not its own", rest.len());
        // Lengths and numbers have several encodings; only one makes the snapshot's hash meaningful.
        ensure!(state.encode()? == bytes, "WASI state is not in its canonical encoding");
        state.check()?;
        Ok(state)
    }

    /// Checks what [`State::decode`] promises of a state.
    fn check(&self) -> Result<()> {
        for string in self.args.iter().chain(&self.env) {
            ensure!(!string.contains('\0'), "an argument or environment variable holds a NUL byte");
        }
        ensure!(self.roots.len() <= PREOPENS_MAX, "more than {PREOPENS_MAX} preopened directories");
        for root in &self.roots {
            ensure!(root.host.len() <= PATH_LEN_MAX, "the path of a preopened directory is too long");
            ensure!(!root.guest.is_empty(), "a preopened directory has no name");
        }
        let StreamState { stdin_read, stdout_written, stderr_written, .. } = self.streams;
        for bytes in [stdin_read, stdout_written, stderr_written] {
            ensure!(bytes <= STREAM_LEN_MAX, "a standard stream of {bytes} bytes");
        }
        ensure!(self.disks.len() <= DISKS_MAX, "more than {DISKS_MAX} private disks");
        for disk in &self.disks {
            ensure!(!disk.guest.is_empty(), "a private disk has no name");
        }
        ensure!(self.numbers as usize <= DESCRIPTORS_MAX, "more than {DESCRIPTORS_MAX} descriptors");
        let kept: u64 = self.nameless.iter().map(|file| file.content.len() as u64).sum();
        ensure!(kept <= NAMELESS_LEN_MAX, "{kept} bytes of nameless files; the limit is {NAMELESS_LEN_MAX}");
        ensure!(self.nameless.len() <= self.descriptors.len(), "more nameless files than descriptors");
        ensure!(self.inputs.len() <= INPUTS_MAX, "more than {INPUTS_MAX} inputs");
        ensure!(self.inputs.is_sorted_by(|a, b| a.place < b.place), "the inputs are out of order");
        ensure!(self.appended.len() <= APPENDED_MAX, "more than {APPENDED_MAX} appended files");
        ensure!(self.appended.is_sorted_by(|a, b| a.place < b.place), "the appended files are out of order");
        let inputs = self.inputs.iter().map(|input| &input.place);
        for place in inputs.chain(self.appended.iter().map(|file| &file.place)) {
            self.check_place(place)?;
            // One file, one name: it is looked at once.
            let plain = place.path.split('/').all(|part| !matches!(part, "" | "." | ".."));
            ensure!(plain, "the path `{}` of a file is not in its plainest form", place.path.escape_debug());
        }
        let mut next = 0;
        for (fd, descriptor) in &self.descriptors {
            ensure!((next..self.numbers).contains(fd), "descriptor {fd} is out of range or order");
            next = fd + 1;
            self.check_descriptor(descriptor).with_context(|| format!("descriptor {fd}"))?;
        }
        Ok(())
    }

    fn check_descriptor(&self, descriptor: &Descriptor) -> Result<()> {
        let place = match descriptor {
            Descriptor::Stream(_) => return Ok(()),
            Descriptor::Directory(dir) => {
                ensure!(!dir.preopen || dir.place.path.is_empty(), "a preopened directory has a path");
                &dir.place
            }
            Descriptor::File(file) => {
                ensure!(
                    matches!(file.kind, Filetype::RegularFile | Filetype::CharacterDevice),
                    "an open file is neither a regular file nor a device"
                );
                &file.place
            }
            Descriptor::DiskDirectory { disk, ino, preopen, .. } => {
                ensure!(!preopen || *ino == ROOT, "a preopened directory is not the root of its disk");
                return self.check_disk(*disk);
            }
            Descriptor::DiskFile { disk, .. } => return self.check_disk(*disk),
        };
        self.check_place(place)
    }

    fn check_disk(&self, disk: u32) -> Result<()> {
        ensure!((disk as usize) < self.disks.len(), "there is no disk number {disk}");
        Ok(())
    }

    fn check_place(&self, place: &Place) -> Result<()> {
        ensure!((place.root as usize) < self.roots.len(), "there is no directory number {}", place.root);
        ensure!(place.path.len() <= PATH_LEN_MAX, "a path of {} bytes", place.path.len());
        Ok(())
    }

    /// The guest's own name for a place.
    pub fn guest_path(&self, place: &Place) -> String {
        let root = self.roots.get(place.root as usize).map_or("?", |root| root.guest.as_str());
        guest_path(root, &place.path)
    }
}

/// The guest's name for a path inside a preopened directory.
pub(super) fn guest_path(root: &str, path: &str) -> String {
    match path {
        "" => root.to_string(),
        path => format!("{}/{path}", root.trim_end_matches('/')),
    }
}
