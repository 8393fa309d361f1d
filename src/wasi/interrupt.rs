//! Waking a call that waits.

use std::{
    io::{self, PipeReader, PipeWriter, Read, Write},
    os::fd::{AsFd, BorrowedFd},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

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

    /// Becomes readable when a request is made.
    pub(super) fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.woken.as_fd()
    }
}
