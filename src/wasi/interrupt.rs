//! Waking a call that waits.

use std::{
    io::{self, PipeReader, PipeWriter, Read, Write},
    os::fd::{AsFd, BorrowedFd},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
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
        Ok(Self(Arc::new(Shared { requested: AtomicBool::new(false), wake, woken })))
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

    /// A request was made and not taken back.
    pub fn is_requested(&self) -> bool {
        self.0.requested.load(Ordering::SeqCst)
    }

    /// Waits until the descriptor can be read, which may mean its end. False if it cannot be, and a request is
    /// made or was made before.
    ///
    /// # Errors
    /// What `poll(2)` reports.
    pub fn wait_for(&self, fd: BorrowedFd<'_>) -> io::Result<bool> {
        loop {
            let wake = self.as_fd();
            let mut fds = [PollFd::from_borrowed_fd(fd, PollFlags::IN), PollFd::new(&wake, PollFlags::IN)];
            let now = Timespec { tv_sec: 0, tv_nsec: 0 };
            let timeout = if self.is_requested() { Some(&now) } else { None };
            match poll(&mut fds, timeout) {
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
