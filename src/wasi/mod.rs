//! WASI preview 1, whose state is plain data.

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

use std::{fmt, path::PathBuf, sync::Arc};

use anyhow::{Context, Result};
use cap_std::fs::Dir;

use clock::Clock;
use fdtable::{FdTable, Open, OpenDirectory};
use stdio::Streams;

pub use config::{Config, Preopen};
pub use errno::{Errno, Stop};
#[allow(unused_imports)] // For the machine, which links them.
pub(crate) use functions::wasi_functions;
pub use functions::{FUNCTIONS, Function, MODULE, Param};
pub use interrupt::Interrupt;
pub use random::Random;
pub use restore::{Dirs, FileProblem, Problem, Restore};
pub use state::{
    Access, Descriptor, DirectoryState, FileIdentity, FileState, Listed, Place, Root, State, VERSION, Wait,
    Written,
};
pub use stdio::{Host, Output, OutputBuffer, Stdin, Stream, StreamState};
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
            clock: Clock::new(None),
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
