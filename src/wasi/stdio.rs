//! Standard input, output and error: what the host gives, and what of it is state.

use std::{
    fmt,
    fs::File,
    io::{self, IsTerminal, Write},
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    os::unix::fs::FileExt,
    sync::{Arc, Mutex, PoisonError},
};

use anyhow::{Context, Result, ensure};
use rustix::event::{PollFd, PollFlags, poll};
use serde::{Deserialize, Serialize};

use super::{
    errno::{Errno, Failure, Outcome, Stop},
    host,
    interrupt::Interrupt,
    state::FileIdentity,
};

/// Where the guest's output goes.
///
/// An error with a number of the system (a closed pipe, a full disk) is given to the guest; one
/// without (made by [`io::Error::other`]) stops the guest as [`Stop::Fail`].
pub trait Output: Send {
    /// Writes all of `bytes`.
    ///
    /// # Errors
    /// Nothing, or an unknown part, was written.
    fn write(&mut self, bytes: &[u8]) -> io::Result<()>;

    /// Writes the bytes, the first of which is at offset `at` of the stream; gives how many of them are written now. `None`:
    /// a request came while it waited. The same bytes are given again then, and what was written of them is not written
    /// twice.
    ///
    /// # Errors
    /// As [`Output::write`]; nothing was written, or an unknown part.
    fn write_at(&mut self, at: u64, bytes: &[u8], interrupt: &Interrupt) -> io::Result<Option<usize>> {
        let _ = (at, interrupt);
        self.write(bytes)?;
        Ok(Some(bytes.len()))
    }

    /// The guest is to see a terminal.
    fn is_terminal(&self) -> bool {
        false
    }
}

/// A file, pipe or terminal of the host.
impl Output for File {
    fn write(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            bytes = &bytes[write_some(self, bytes)?..];
        }
        Ok(())
    }

    fn write_at(&mut self, _at: u64, bytes: &[u8], _interrupt: &Interrupt) -> io::Result<Option<usize>> {
        write_some(self, bytes).map(Some)
    }

    fn is_terminal(&self) -> bool {
        IsTerminal::is_terminal(self)
    }
}

/// Writes some of the bytes to a file: all before the disk is full, say. Waits until there is room.
///
/// # Errors
/// Nothing was written.
pub(crate) fn write_some(file: &mut File, bytes: &[u8]) -> io::Result<usize> {
    loop {
        match Write::write(file, bytes) {
            Ok(0) if !bytes.is_empty() => return Err(io::ErrorKind::WriteZero.into()),
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            // Another process has made the pipe non-blocking; wait for it all the same.
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => {
                poll(&mut [PollFd::new(file, PollFlags::OUT)], None)?;
            }
            done => return done,
        }
    }
}

/// Output kept in memory; clones share it.
#[derive(Debug, Clone, Default)]
pub struct OutputBuffer(Arc<Mutex<Vec<u8>>>);

impl OutputBuffer {
    /// What was written so far.
    pub fn contents(&self) -> Vec<u8> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Output for OutputBuffer {
    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(bytes);
        Ok(())
    }
}

/// Input that an embedder gives, by offset: asked for the same bytes again, it gives the same.
///
/// An error with a number of the system is given to the guest; any other stops it as [`Stop::Fail`].
pub trait Input: Send + fmt::Debug {
    /// Reads the bytes from offset `at` on, waiting for the first; 0 is the end. `None`: a request came while it
    /// waited.
    ///
    /// # Errors
    /// They cannot be had; nothing was read.
    fn read(&mut self, at: u64, buffer: &mut [u8], interrupt: &Interrupt) -> Result<Option<usize>>;

    /// Whether a read at this offset would not wait. Does what can be done for that without waiting.
    ///
    /// # Errors
    /// As [`Input::read`].
    fn is_ready(&mut self, at: u64) -> Result<bool>;

    /// What to wait for before [`Input::is_ready`] is worth asking again.
    fn as_fd(&self) -> BorrowedFd<'_>;

    /// The guest is to see a terminal, which can go on after its end.
    fn is_terminal(&self) -> bool {
        false
    }
}

/// Where the guest's input comes from.
#[derive(Debug)]
pub enum Stdin {
    /// Nowhere: empty.
    Null,
    /// These bytes.
    Bytes(Vec<u8>),
    /// A regular file, from this offset on. Its own offset is neither used nor moved.
    File {
        /// The file.
        file: File,
        /// Offset of the guest's first byte.
        base: u64,
    },
    /// A pipe, terminal or anything else that can only be read forwards. A job keeps a journal of it. Without one,
    /// what was read from it is gone with the process, but for what the guest's own memory holds.
    Stream(OwnedFd),
    /// What an embedder makes of it.
    Other(Box<dyn Input>),
}

impl Stdin {
    /// What this process has as its standard input.
    ///
    /// # Errors
    /// The descriptor cannot be duplicated or examined.
    pub fn inherit() -> io::Result<Self> {
        match rustix::stdio::stdin().try_clone_to_owned() {
            Ok(fd) => Self::from_fd(fd),
            // Closed: the guest finds it empty.
            Err(e) if e.raw_os_error() == Some(rustix::io::Errno::BADF.raw_os_error()) => Ok(Self::Null),
            Err(e) => Err(e),
        }
    }

    /// A [`Stdin::File`] from the descriptor's present offset on, if it is a regular file; else a
    /// [`Stdin::Stream`].
    ///
    /// # Errors
    /// The descriptor cannot be examined.
    pub fn from_fd(fd: OwnedFd) -> io::Result<Self> {
        let stat = rustix::fs::fstat(&fd)?;
        if rustix::fs::FileType::from_raw_mode(stat.st_mode) == rustix::fs::FileType::RegularFile {
            let base = rustix::fs::tell(&fd)?;
            return Ok(Self::File { file: File::from(fd), base });
        }
        Ok(Self::Stream(fd))
    }

    fn is_terminal(&self) -> bool {
        match self {
            Self::Stream(fd) => fd.is_terminal(),
            Self::Other(input) => input.is_terminal(),
            Self::Null | Self::Bytes(_) | Self::File { .. } => false,
        }
    }
}

/// What the host gives to a new or resumed guest.
pub struct Host {
    /// Standard input.
    pub stdin: Stdin,
    /// Standard output.
    pub stdout: Box<dyn Output>,
    /// Standard error.
    pub stderr: Box<dyn Output>,
    /// Wakes waiting calls.
    pub interrupt: Interrupt,
}

impl Host {
    /// The three streams of this process.
    ///
    /// # Errors
    /// One of them cannot be duplicated or examined.
    pub fn inherit(interrupt: Interrupt) -> io::Result<Self> {
        let dup = |fd: BorrowedFd<'_>| Ok::<_, io::Error>(Box::new(File::from(fd.try_clone_to_owned()?)));
        Ok(Self {
            stdin: Stdin::inherit()?,
            stdout: dup(rustix::stdio::stdout())?,
            stderr: dup(rustix::stdio::stderr())?,
            interrupt,
        })
    }
}

impl fmt::Debug for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Host").field("stdin", &self.stdin).finish_non_exhaustive()
    }
}

/// One of the three streams.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Stream {
    /// Descriptor 0 at the start.
    Stdin,
    /// Descriptor 1 at the start.
    Stdout,
    /// Descriptor 2 at the start.
    Stderr,
}

/// What of the streams is state.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StreamState {
    /// Bytes that the guest has read from standard input.
    pub stdin_read: u64,
    /// The guest was told that a pipe on standard input has ended.
    pub stdin_ended: bool,
    /// The file on standard input, if it was one and the guest has read from it.
    pub stdin_file: Option<FileIdentity>,
    /// Bytes that the guest has written to standard output.
    pub stdout_written: u64,
    /// Bytes that the guest has written to standard error.
    pub stderr_written: u64,
    /// Whether each stream is a terminal, once the guest has asked: it is told the same ever after.
    pub terminal: [Option<bool>; 3],
}

/// The streams with their handles.
pub(super) struct Streams {
    pub state: StreamState,
    stdin: Stdin,
    stdout: Box<dyn Output>,
    stderr: Box<dyn Output>,
    pub interrupt: Interrupt,
    /// Gathers the buffers of one call, so that the host sees one write.
    gathered: Vec<u8>,
}

impl Streams {
    /// The streams of a new guest, or of one with this state.
    ///
    /// # Errors
    /// Standard input is not what the guest was reading.
    /// A file that has changed is taken as it is if `accept_changed`.
    pub fn new(mut state: StreamState, host: Host, accept_changed: bool) -> Result<Self> {
        let Host { stdin, stdout, stderr, interrupt } = host;
        state.stdin_file = check_stdin(&state, &stdin, accept_changed)?;
        Ok(Self { state, stdin, stdout, stderr, interrupt, gathered: Vec::new() })
    }

    /// Whether the guest sees a terminal there.
    pub fn is_terminal(&mut self, stream: Stream) -> bool {
        let answer = match stream {
            Stream::Stdin => self.stdin.is_terminal(),
            Stream::Stdout => self.stdout.is_terminal(),
            Stream::Stderr => self.stderr.is_terminal(),
        };
        *self.state.terminal[stream as usize].get_or_insert(answer)
    }

    /// Writes the buffers to standard output or error; gives the number of bytes.
    pub fn write(&mut self, stream: Stream, buffers: &[&[u8]]) -> Outcome<u32> {
        let bytes = match buffers {
            [] => return Ok(0),
            [one] => *one,
            many => {
                self.gathered.clear();
                // The first buffer always goes whole, the others while they stay small: the call is
                // then served in part, which the guest's library must deal with anyway.
                for (n, buffer) in many.iter().enumerate() {
                    if n > 0 && self.gathered.len() + buffer.len() > 1 << 20 {
                        break;
                    }
                    self.gathered.extend_from_slice(buffer);
                }
                &self.gathered
            }
        };
        let (name, output, written) = match stream {
            Stream::Stdin => return Err(Errno::Badf.into()),
            Stream::Stdout => ("output", &mut self.stdout, &mut self.state.stdout_written),
            Stream::Stderr => ("error", &mut self.stderr, &mut self.state.stderr_written),
        };
        match output.write_at(*written, bytes, &self.interrupt) {
            Ok(Some(n)) => {
                let n = n.min(bytes.len());
                *written += n as u64;
                Ok(n as u32)
            }
            Ok(None) => Err(Failure::Stop(Stop::Suspend)),
            Err(e) if e.raw_os_error().is_some() || e.kind() == io::ErrorKind::BrokenPipe => Err(e.into()),
            Err(e) => Err(Failure::Stop(Stop::Fail(
                anyhow::Error::new(e).context(format!("the guest's standard {name} cannot be written")),
            ))),
        }
    }

    /// Reads standard input into `buffer`, waiting for the first byte; 0 at the end.
    pub fn read(&mut self, buffer: &mut [u8]) -> Outcome<u32> {
        if buffer.is_empty() || self.state.stdin_ended {
            return Ok(0);
        }
        let state = &mut self.state;
        let n = match &mut self.stdin {
            Stdin::Null => 0,
            Stdin::Bytes(bytes) => {
                let from = usize::try_from(state.stdin_read).unwrap_or(usize::MAX).min(bytes.len());
                let n = buffer.len().min(bytes.len() - from);
                buffer[..n].copy_from_slice(&bytes[from..from + n]);
                n
            }
            Stdin::File { file, base } => {
                let n = file.read_at(buffer, base.saturating_add(state.stdin_read))?;
                if state.stdin_file.is_none() {
                    state.stdin_file = Some((&host::attributes(file)?).into());
                }
                n
            }
            Stdin::Stream(fd) => {
                let n = read_stream(fd, &self.interrupt, buffer)?;
                // A terminal can go on after an end of file, a pipe cannot.
                state.stdin_ended = n == 0 && !fd.is_terminal();
                n
            }
            Stdin::Other(input) => {
                let read = input.read(state.stdin_read, buffer, &self.interrupt).map_err(failure)?;
                let n = read.ok_or(Failure::Stop(Stop::Suspend))?;
                state.stdin_ended = n == 0 && !input.is_terminal();
                n
            }
        };
        state.stdin_read += n as u64;
        Ok(n as u32)
    }

    /// The descriptor to wait for before standard input can be read; none if that would not wait.
    pub fn stdin_waits_for(&mut self) -> Outcome<Option<BorrowedFd<'_>>> {
        if self.state.stdin_ended {
            return Ok(None);
        }
        match &mut self.stdin {
            Stdin::Stream(fd) => Ok(Some((*fd).as_fd())),
            Stdin::Other(input) => {
                let ready = input.is_ready(self.state.stdin_read).map_err(failure)?;
                Ok((!ready).then(|| input.as_fd()))
            }
            Stdin::Null | Stdin::Bytes(_) | Stdin::File { .. } => Ok(None),
        }
    }

    /// Whether standard input can be read, now that something has come on what it waits for.
    pub fn stdin_has_come(&mut self) -> Outcome<bool> {
        match &self.stdin {
            Stdin::Stream(_) => Ok(true),
            _ => Ok(self.stdin_waits_for()?.is_none()),
        }
    }
}

/// What an embedder's error is to the guest.
fn failure(error: anyhow::Error) -> Failure {
    match error.downcast::<io::Error>() {
        Ok(error) if error.raw_os_error().is_some() => error.into(),
        Ok(error) => Failure::Stop(Stop::Fail(error.into())),
        Err(error) => Failure::Stop(Stop::Fail(error)),
    }
}

/// Reads a pipe or terminal; suspends if there is nothing yet and a request comes.
fn read_stream(fd: &OwnedFd, interrupt: &Interrupt, buffer: &mut [u8]) -> Outcome<usize> {
    loop {
        if !interrupt.wait_for(fd.as_fd())? {
            return Err(Failure::Stop(Stop::Suspend));
        }
        match rustix::io::read(fd, &mut *buffer) {
            Ok(n) => return Ok(n),
            Err(rustix::io::Errno::INTR | rustix::io::Errno::AGAIN) => {}
            Err(e) => return Err(e.into()),
        }
    }
}

/// A standard input that cannot go on where the guest has stopped reading.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InputProblem {
    /// The guest was reading a file, and is given none.
    #[error(
        "standard input: the guest has read {read} bytes of a file of {size} bytes; give it the same file again"
    )]
    NoFile {
        /// Bytes that it has read.
        read: u64,
        /// Size of the file.
        size: u64,
    },
    /// It is another file, or has other content.
    #[error("standard input: the file has changed since the snapshot: expected {expected}, found {found}")]
    Changed {
        /// At the snapshot.
        expected: FileIdentity,
        /// Now.
        found: FileIdentity,
    },
}

/// Refuses a standard input that cannot go on where the guest has stopped reading. Gives what the file is, if it is one that the
/// guest has read.
fn check_stdin(state: &StreamState, stdin: &Stdin, accept_changed: bool) -> Result<Option<FileIdentity>> {
    let Some(was) = &state.stdin_file else {
        if let (Stdin::Bytes(bytes), read) = (stdin, state.stdin_read) {
            ensure!(
                bytes.len() as u64 >= read,
                "standard input: the guest has read {read} bytes, but is given only {}",
                bytes.len()
            );
        }
        return Ok(None);
    };
    let Stdin::File { file, .. } = stdin else {
        return Err(InputProblem::NoFile { read: state.stdin_read, size: was.size }.into());
    };
    let is = host::attributes(file).context("standard input cannot be examined")?;
    let is = FileIdentity::from(&is);
    match is.same_content(was) {
        true => Ok(Some(*was)),
        false if accept_changed => Ok(Some(is)),
        false => Err(InputProblem::Changed { expected: *was, found: is }.into()),
    }
}
