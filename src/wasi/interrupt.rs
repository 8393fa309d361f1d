//! Waking a call that waits.

use std::{
    fs::File,
    io::{self, PipeReader, PipeWriter, Read, Write},
    os::fd::{AsFd, BorrowedFd},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;

/// A request that a waiting call stop waiting. Clones share the request.
///
/// A flag and a pipe: the flag is the truth, the pipe wakes `poll(2)`.
#[derive(Debug, Clone)]
pub struct Interrupt(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    requested: AtomicBool,
    /// When waiting calls stop waiting by themselves.
    deadline: Mutex<Option<Instant>>,
    wake: PipeWriter,
    woken: PipeReader,
}

impl Interrupt {
    /// An interrupt that is not requested.
    ///
    /// # Errors
    /// The host has no file descriptors left.
    pub fn new() -> io::Result<Self> {
        let (woken, wake) = io::pipe()?;
        // Neither end may ever block: a full pipe wakes just as well.
        rustix::io::ioctl_fionbio(&woken, true)?;
        rustix::io::ioctl_fionbio(&wake, true)?;
        Ok(Self(Arc::new(Shared {
            requested: AtomicBool::new(false),
            deadline: Mutex::default(),
            wake,
            woken,
        })))
    }

    /// Asks a waiting call, or the next one that would wait, to suspend. Allocates nothing and takes
    /// no lock, so a signal handler may call it.
    pub fn request(&self) {
        self.0.requested.store(true, Ordering::SeqCst);
        // Full: the reader wakes anyway. No other error can be, as both ends are open.
        let _ = (&self.0.wake).write(&[1]);
    }

    /// Takes the request back, once it was served.
    pub fn clear(&self) {
        // In this order a request that comes in between keeps its flag, which every wait reads first.
        self.0.requested.store(false, Ordering::SeqCst);
        self.drain();
    }

    /// Empties the pipe, so that it wakes nobody for a request that was taken back meanwhile.
    pub(super) fn drain(&self) {
        let mut drained = [0; 64];
        while matches!((&self.0.woken).read(&mut drained), Ok(n) if n == drained.len()) {}
    }

    /// From this time on waiting calls suspend, as if it had been requested then.
    pub fn set_deadline(&self, deadline: Option<Instant>) {
        *self.0.deadline.lock().unwrap_or_else(PoisonError::into_inner) = deadline;
    }

    /// A request was made and not taken back, or it is the time.
    pub fn is_requested(&self) -> bool {
        self.0.requested.load(Ordering::SeqCst) || self.left().is_some_and(|left| left.is_zero())
    }

    /// How long a call may wait.
    pub(super) fn left(&self) -> Option<Duration> {
        let deadline = *self.0.deadline.lock().unwrap_or_else(PoisonError::into_inner);
        deadline.map(|time| time.saturating_duration_since(Instant::now()))
    }

    /// Waits until the descriptor can be read, which may mean its end. False if it cannot be, and a request is
    /// made or was made before.
    ///
    /// # Errors
    /// What `poll(2)` reports.
    pub fn wait_for(&self, fd: BorrowedFd<'_>) -> io::Result<bool> {
        self.wait(fd, PollFlags::IN)
    }

    /// Writes some of these bytes to a pipe, socket or terminal, as soon as there is room: as many as there is room for.
    /// None if there is no room, and a request is made or was made before.
    ///
    /// # Errors
    /// What `write(2)` and `poll(2)` report; nothing was written.
    pub fn write(&self, file: &File, bytes: &[u8]) -> io::Result<Option<usize>> {
        loop {
            match write_now(file, bytes) {
                Ok(0) if !bytes.is_empty() => return Err(io::ErrorKind::WriteZero.into()),
                Ok(n) => return Ok(Some(n)),
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => {
                    if !self.wait(file.as_fd(), PollFlags::OUT)? {
                        return Ok(None);
                    }
                }
                Err(error) => return Err(error.into()),
            }
        }
    }

    fn wait(&self, fd: BorrowedFd<'_>, wanted: PollFlags) -> io::Result<bool> {
        loop {
            let wake = self.as_fd();
            let mut fds = [PollFd::from_borrowed_fd(fd, wanted), PollFd::new(&wake, PollFlags::IN)];
            let may = if self.is_requested() { Some(Duration::ZERO) } else { self.left() };
            let may = may.and_then(|left| Timespec::try_from(left).ok());
            match poll(&mut fds, may.as_ref()) {
                Ok(_) | Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
            if !fds[0].revents().is_empty() {
                return Ok(true);
            }
            if self.is_requested() {
                return Ok(false);
            }
            self.drain();
        }
    }

    /// Becomes readable when a request is made.
    pub(super) fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.woken.as_fd()
    }
}

/// Most bytes that are written where only `poll(2)` tells that there is room: `PIPE_BUF`, for which there is then.
const PIECE: usize = 4096;

/// Writes what there is room for; `AGAIN` if that is nothing.
fn write_now(file: &File, bytes: &[u8]) -> rustix::io::Result<usize> {
    #[cfg(target_os = "linux")]
    {
        use rustix::io::{ReadWriteFlags, pwritev2};
        // At the file's own offset, which such files have not.
        let written = pwritev2(file, &[io::IoSlice::new(bytes)], u64::MAX, ReadWriteFlags::NOWAIT);
        if !matches!(written, Err(Errno::OPNOTSUPP | Errno::NOSYS | Errno::INVAL)) {
            return written;
        }
    }
    let mut room = [PollFd::new(file, PollFlags::OUT)];
    match poll(&mut room, Some(&Timespec { tv_sec: 0, tv_nsec: 0 }))? {
        0 => Err(Errno::AGAIN),
        _ => rustix::io::write(file, &bytes[..bytes.len().min(PIECE)]),
    }
}
