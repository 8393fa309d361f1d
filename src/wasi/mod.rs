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
//! | `fdtable` | open descriptors, their state beside their handles |
//! | `host` | host directories: the only file that gives the host a path |
//! | `config` `stdio` `interrupt` | what the embedder gives |
//! | `state` `save` `restore` | the state as a value and as bytes; taking it out and going on from it |
//!
//! # What a restore guarantees
//!
//! A guest that goes on from a state has the descriptors, offsets, listings, clocks and random numbers
//! that it had, or the restore is refused with a reason and nothing is touched. Files are on the
//! host, and do not go back with the guest's memory: between the snapshot and the kill the guest went
//! on, and will do the same again. So for each open file:
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
//! What the guest does to *names* after the snapshot is done twice: a file that it opened, wrote and
//! closed is written again from its start, one that it appended to and closed gets the lines again, and
//! a rename that was already made fails with `Noent` the second time.
//!
//! - Standard output and error: bytes are counted ([`StreamState`]); [`Output`] decides what is done with
//!   them, and an [`Output`] that drops what it was given before makes them exactly-once.
//! - Standard input: a file is checked and read on from where the guest was, an [`Input`] is asked for the
//!   bytes from there on. What was read from a pipe or terminal itself is gone, except for what the guest's
//!   memory holds of it.
//! - Monotonic time goes on from where it was at the snapshot and stands still in between; it is not
//!   part of the state until the guest has looked at it. Wall time is the host's. With
//!   [`ClockMode::Fixed`] and a seed, a run is a function of its inputs alone.
//! - Random numbers go on where they were.
//! - A wait that was cut short goes on for the rest of its time.
//!
//! # Where this differs from the reference
//!
//! - A pointer outside the memory is `Fault`; the reference traps. Misaligned pointers work.
//! - Buffers are all used (up to 16 in a call), not only the first.
//! - Errors that the reference folds into `Io` keep their number (`Xdev`, `Mfile`, `Rofs`, …).
//! - `fd_allocate` works; the reference says `Notsup`.
//! - `dev` and `ino` are the host's; `ctim` is the time of the last change of status.
//! - Directories are read in the order of their names.
//! - FIFOs, sockets and devices are `Notsup`, but for null, zero and full: the others have a state
//!   that no snapshot holds.
//! - `proc_exit` takes any code; the reference traps from 126 on.

mod clock;
mod config;
mod directory;
mod errno;
mod fd;
mod fdtable;
mod functions;
mod host;
mod interrupt;
mod io;
mod memory;
mod path;
mod poll;
mod process;
mod random;
mod restore;
mod save;
mod state;
mod stdio;
mod types;

#[cfg(test)]
mod tests;

use std::{fmt, path::PathBuf, sync::Arc};

use anyhow::{Context, Result};
use cap_std::fs::Dir;

use clock::Clock;
use fdtable::{FdTable, Open, OpenDirectory};
use stdio::Streams;

pub use clock::{ClockMode, ClockState};
pub use config::{Config, Preopen};
pub use errno::{Errno, Stop};
pub(crate) use functions::wasi_functions;
pub use functions::{FUNCTIONS, Function, MODULE, Param};
pub use interrupt::Interrupt;
pub use random::Random;
pub use restore::{Dirs, FileProblem, Problem, Restore};
pub use state::{
    Access, Descriptor, DirectoryState, FileIdentity, FileState, Listed, NAMELESS_LEN_MAX, Nameless, Place,
    Root, State, VERSION, Wait, Written,
};
pub use stdio::{Host, Input, Output, OutputBuffer, Stdin, Stream, StreamState};
pub use types::Filetype;

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
                dir: root.dir.clone(),
                place: Place { root: index, path: String::new() },
                preopen: true,
                read_only: root.read_only,
                listing: None,
            };
            push(&mut fds, Open::Directory(open))?;
        }
        Ok(Self {
            args: config.args,
            env: config.env.into_iter().map(|(name, value)| format!("{name}={value}")).collect(),
            roots,
            fds,
            streams: Streams::new(StreamState::default(), host)?,
            clock: Clock::new(config.clock),
            random: Random::new(config.seed)?,
            wait: None,
            exit_code: None,
        })
    }

    /// What the guest has read and written on its three streams.
    pub fn streams(&self) -> &StreamState {
        &self.streams.state
    }

    /// The code that the guest gave to `proc_exit`.
    pub fn exit_code(&self) -> Option<u32> {
        self.exit_code
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
