//! WASI preview 1, whose state is plain data.
//!
//! All 46 functions of `wasi_snapshot_preview1` ([`FUNCTIONS`]) are methods of [`Wasi`] that take the
//! guest's memory as a slice and the raw arguments; no engine is needed to call them. The reference
//! for numbers, errors and corner cases is `wasmtime-wasi` 48.
//!
//! ```text
//! machine ── name(mem, args…) ──> Wasi ──┬── plain data, saved and restored (State)
//!         <── Ok(Errno) | Err(Stop) ──   └── handles, found again at a restore (Host, directories)
//! ```
//!
//! | file | what |
//! |---|---|
//! | `functions` | the list of all functions, once |
//! | `fd` `io` `directory` `path` `poll` `clock` `random` `process` | the functions |
//! | `errno` `types` `memory` | numbers and layouts of the standard; checked guest pointers |
//! | `present` | pages of the memory that are brought when they are needed |
//! | `fdtable` | open descriptors, their state beside their handles |
//! | `handle` | what is behind a descriptor: a file or directory of the host or of a private disk |
//! | `host` `hostfile` | host directories: the only file that gives the host a path; open files of the host |
//! | `disk` `disknode` `disks` | the private disk; what is open on one; those of a guest |
//! | `inputs` `appended` | files of the host that were closed, and matter all the same at a resume |
//! | `unsynced` | what was changed in host directories, and may not be on their disks yet |
//! | `config` `stdio` `interrupt` | what the embedder gives |
//! | `state` `save` `restore` | the state as a value and as bytes; taking it out and going on from it |
//!
//! # What a restore guarantees
//!
//! A guest that goes on from a state has the descriptors, offsets, listings, clocks and random numbers
//! that it had, or the restore is refused with a reason and nothing is touched. Files on a private disk go
//! back with the guest's memory (see [`disk`]). Files of the host do not: between the snapshot and the kill
//! the guest went on, and will do the same again. So for each open file:
//!
//! | opened for | found | what is done |
//! |---|---|---|
//! | anything | same size and time of change, be it a copy | reopened, offset set; never made or emptied again |
//! | reading | anything else | refused ([`Problem::Changed`]) |
//! | writing | longer, and the guest wrote the end that it had at the snapshot | cut off to that length |
//! | writing only | overwritten before that | left: the guest writes the same again before anyone is told |
//! | reading and writing | overwritten, or ever written elsewhere than at its end | refused ([`Problem::Overwritten`]) |
//! | writing | shorter; longer by someone else; another file | refused |
//! | anything | nothing, or a directory | refused |
//!
//! Cutting off gives exactly-once output for files that are written from start to end, the usual case. It
//! rests on one assumption: what was appended to the guest's own end of a file since the snapshot was
//! appended by the guest. Times of change tell contents apart as finely as the file system stamps them
//! (a few ms on older kernels).
//!
//! A file without a name (unlinked while open) is kept in the state itself, up to
//! [`NAMELESS_LEN_MAX`] bytes of all such files together; beyond that it cannot be found again, and the
//! restore says so. A file that was renamed while open is found under its new name, if that was before
//! the snapshot.
//!
//! All that the guest has written to host directories before a snapshot, and the names that it has made, changed or
//! removed in them, are on their disks when the snapshot is durable.
//!
//! Of the files that are not open, these are remembered: those that were opened in read-only directories (up to
//! 2^18) must be what they were, by size and time of change or, where asked for, by blake3
//! ([`Problem::Input`]); those that the guest has appended to and closed (up to 4,096) are cut off to the length
//! that they had.
//!
//! What the guest does to *names* after the snapshot is done twice: a file that it opened, wrote and
//! closed is written again from its start, one that it first appended to since gets the lines again, and
//! a rename that was already made fails with `Noent` the second time.
//!
//! - Standard output and error: bytes are counted ([`StreamState`]); [`Output`] decides what is done with
//!   them, and an [`Output`] that drops what it was given before makes them exactly-once.
//! - Standard input: a file is checked and read on from where the guest was, an [`Input`] is asked for the
//!   bytes from there on. What was read from a pipe or terminal itself is gone, except for what the guest's
//!   memory holds of it.
//! - Monotonic time goes on from where it was at the snapshot and stands still in between; it is not
//!   part of the state until the guest has looked at it. Wall time is the host's. With
//!   [`ClockMode::Fixed`] or [`ClockMode::Virtual`] and a seed, a run is a function of its inputs alone.
//! - Random numbers go on where they were.
//! - A wait that was cut short goes on for the rest of its time.
//!
//! # Where this differs from the reference
//!
//! - A pointer outside the memory is `Fault`; the reference traps. Misaligned pointers work.
//! - A number that is none of its parameter's type (an unknown clock, flag, right or `whence`) is an
//!   error, mostly `Inval`; the reference traps.
//! - Bytes between the fields of a result are zero; the reference leaves what was there.
//! - Buffers are all used (up to 16 in a call), not only the first.
//! - Reading no bytes succeeds; the reference says `Intr`, unless it is `fd_read` of a file.
//! - `poll_oneoff` tells all events that are there; the reference tells of a clock, and of a file that can
//!   be read, only if nothing else is there at its first look. A clock's event has no bytes to read.
//! - The times of a preopened directory can be set by its descriptor; the reference says `Badf`.
//! - Errors that the reference folds into `Io` keep their number (`Xdev`, `Mfile`, `Rofs`, …).
//! - `fd_allocate` works; the reference says `Notsup`.
//! - `dev` and `ino` are the host's; `ctim` is the time of the last change of status.
//! - Directories are read in the order of their names.
//! - On a private disk, a directory has a size of its own, and reading changes no time of access.
//! - FIFOs, sockets and devices are `Notsup`, but for null, zero and full: the others have a state
//!   that no snapshot holds.
//! - `proc_exit` takes any code; the reference traps from 126 on.

mod appended;
mod clock;
mod config;
mod directory;
pub mod disk;
mod disknode;
mod disks;
mod errno;
mod fd;
mod fdtable;
mod functions;
mod handle;
mod host;
mod hostfile;
mod inputs;
mod interrupt;
mod io;
mod memory;
mod path;
mod poll;
mod present;
mod process;
mod random;
mod restore;
mod save;
mod state;
mod stdio;
mod types;
mod unsynced;

#[cfg(test)]
mod tests;

use std::{fmt, path::PathBuf, sync::Arc};

use anyhow::{Context, Result};
use cap_std::fs::Dir;

use appended::AppendedFiles;
use clock::Clock;
use disks::PrivateDisk;
use fdtable::{FdTable, Open, OpenDirectory};
use handle::{DirHandle, HostDir};
use inputs::Inputs;
use stdio::Streams;
use unsynced::Unsynced;

pub use appended::Appended;
pub use clock::{ClockMode, ClockState};
pub use config::{Config, Preopen};
pub use disk::{Exported, Image, Item, Listing};
pub use disks::{Contents, DISKS_MAX, DiskConfig, DiskState, blob_names, images};
pub use errno::{Errno, Stop};
pub(crate) use functions::wasi_functions;
pub use functions::{FUNCTIONS, Function, MODULE, Param};
pub use inputs::{Content, InputFile};
pub use interrupt::Interrupt;
pub use present::{Presence, Registration};
pub use random::Random;
pub use restore::{Dirs, FileProblem, Problem, Restore};
pub use state::{
    Access, Descriptor, DirectoryState, FileIdentity, FileState, Listed, NAMELESS_LEN_MAX, Nameless, Place,
    Root, State, VERSION, Wait, Written,
};
pub(crate) use stdio::write_some;
pub use stdio::{Host, Input, InputProblem, Output, OutputBuffer, Stdin, Stream, StreamState};
pub use types::Filetype;
pub use unsynced::UnsyncedFiles;

/// The WASI side of a running guest: its state, and the handles of this host.
///
/// The functions of preview 1 are methods that take the guest's memory and the raw arguments; see
/// [`FUNCTIONS`].
pub struct Wasi {
    args: Vec<String>,
    /// As `NAME=value`.
    env: Vec<String>,
    roots: Vec<RootDir>,
    fds: FdTable,
    streams: Streams,
    clock: Clock,
    random: Random,
    wait: Option<Wait>,
    exit_code: Option<u32>,
    inputs: Inputs,
    appended: AppendedFiles,
    unsynced: Unsynced,
    disks: Vec<PrivateDisk>,
}

/// A preopened directory with its handle, which stays when the guest closes its descriptor.
#[derive(Debug)]
struct RootDir {
    guest: String,
    /// Absolute, so that a resume may start elsewhere.
    host: PathBuf,
    read_only: bool,
    dir: Arc<Dir>,
}

impl RootDir {
    fn open(preopen: Preopen) -> Result<Self> {
        let Preopen { host, guest, read_only } = preopen;
        let explain = || format!("directory {} (the guest's `{guest}`) cannot be opened", host.display());
        let dir = Arc::new(host::open_root(&host).with_context(explain)?);
        let host = host.canonicalize().with_context(explain)?;
        Ok(Self { guest, host, read_only, dir })
    }

    /// The directory itself, as number `index` of the guest's.
    fn handle(&self, index: u32) -> DirHandle {
        let place = Place { root: index, path: String::new() };
        DirHandle::Host(HostDir { dir: self.dir.clone(), place })
    }
}

impl Wasi {
    /// The WASI side of a new guest.
    ///
    /// # Errors
    /// A directory cannot be opened, or an argument or variable cannot be passed on.
    pub fn new(config: Config, host: Host) -> Result<Self> {
        config.check()?;
        let mut fds = FdTable::default();
        for stream in [Stream::Stdin, Stream::Stdout, Stream::Stderr] {
            push(&mut fds, Open::Stream(stream))?;
        }
        let roots = config.dirs.into_iter().map(RootDir::open).collect::<Result<Vec<_>>>()?;
        for (index, root) in (0..).zip(&roots) {
            let open = OpenDirectory {
                dir: root.handle(index),
                preopen: true,
                read_only: root.read_only,
                listing: None,
            };
            push(&mut fds, Open::Directory(open))?;
        }
        let (clock, mut disks) = (Clock::new(config.clock), vec![]);
        for (index, disk) in config.disks.into_iter().enumerate() {
            let disk = PrivateDisk::new(index, disk, config.scratch.as_deref(), &clock)?;
            push(&mut fds, disk.preopened(index)?)?;
            disks.push(disk);
        }
        Ok(Self {
            args: config.args,
            env: config.env.into_iter().map(|(name, value)| format!("{name}={value}")).collect(),
            roots,
            fds,
            streams: Streams::new(StreamState::default(), host, false)?,
            clock,
            random: Random::new(config.seed)?,
            wait: None,
            exit_code: None,
            inputs: Inputs::new(config.hash_inputs),
            appended: AppendedFiles::default(),
            unsynced: Unsynced::default(),
            disks,
        })
    }

    /// What the guest has read and written on its three streams.
    pub fn streams(&self) -> &StreamState {
        &self.streams.state
    }

    /// The guest's name for the preopened directory that this one is in.
    fn name_of(&self, dir: &DirHandle) -> &str {
        match dir {
            DirHandle::Host(HostDir { place, .. }) => {
                self.roots.get(place.root as usize).map_or("", |root| &root.guest)
            }
            DirHandle::Disk(node) => self.disks.get(node.index as usize).map_or("", |disk| &disk.guest),
        }
    }

    /// The code that the guest gave to `proc_exit`.
    pub fn exit_code(&self) -> Option<u32> {
        self.exit_code
    }

    /// The guest was suspended while it waited for time or input: though it does not run, its time passes.
    pub fn is_waiting(&self) -> bool {
        self.wait.is_some()
    }

    /// The guest's clocks follow its fuel: tell it by [`Wasi::set_fuel`] before each call.
    pub fn follows_fuel(&self) -> bool {
        self.clock.is_virtual()
    }

    /// Tells how much fuel the guest has consumed since it began.
    pub fn set_fuel(&mut self, fuel: u64) {
        self.clock.set_fuel(fuel);
    }

    /// Begins the random numbers anew with this seed: a copy of a guest is not to draw what the other draws.
    pub fn reseed(&mut self, seed: [u8; 32]) {
        self.random = Random { seed, position: 0 };
    }

    /// Wakes this guest's waiting calls.
    pub fn interrupt(&self) -> &Interrupt {
        &self.streams.interrupt
    }
}

fn push(fds: &mut FdTable, open: Open) -> Result<()> {
    fds.push(open).map(drop).map_err(|_| anyhow::anyhow!("too many directories"))
}

impl fmt::Debug for Wasi {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Wasi")
            .field("args", &self.args)
            .field("roots", &self.roots)
            .field("fds", &self.fds)
            .finish_non_exhaustive()
    }
}
