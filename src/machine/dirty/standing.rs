//! A copy of this process that stands still, where there is such a thing.

use std::io;
use std::ops::Range;

/// A copy of this process that does nothing, whose memory can be read as it was. Ends when it is dropped.
#[derive(Debug)]
pub(in crate::machine) struct StandingCopy {
    #[cfg(target_os = "linux")]
    inner: super::linux::Standing,
    #[cfg(not(target_os = "linux"))]
    never: std::convert::Infallible,
}

/// What the system is to refuse this thread, for tests.
#[cfg(test)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::machine) enum Refused {
    Nothing,
    Fork,
    /// The file of the copy's memory.
    File,
}

#[cfg(test)]
thread_local! {
    pub(in crate::machine) static REFUSED: std::cell::Cell<Refused> = const { std::cell::Cell::new(Refused::Nothing) };
}

impl StandingCopy {
    /// Makes one, and tries whether the byte at the address `at` can be read from it.
    ///
    /// # Errors
    /// The system has no such thing, or does not permit it.
    pub fn new(at: u64) -> io::Result<Self> {
        #[cfg(target_os = "linux")]
        {
            #[cfg(test)]
            if REFUSED.get() == Refused::Fork {
                return Err(io::ErrorKind::WouldBlock.into());
            }
            #[allow(unused_mut)]
            let mut inner = super::linux::Standing::fork()?;
            #[cfg(test)]
            if REFUSED.get() == Refused::File {
                inner.close_file();
            }
            inner.read(std::slice::from_ref(&(at..at + 1)), &mut [0])?;
            Ok(Self { inner })
        }
        #[cfg(not(target_os = "linux"))]
        {
            let _ = at;
            Err(io::ErrorKind::Unsupported.into())
        }
    }

    /// Reads these ranges of addresses, one after the other, into `bytes`, which they fill.
    ///
    /// # Errors
    /// The copy is gone.
    pub fn read(&self, ranges: &[Range<u64>], bytes: &mut [u8]) -> io::Result<()> {
        #[cfg(target_os = "linux")]
        return self.inner.read(ranges, bytes);
        #[cfg(not(target_os = "linux"))]
        {
            let _ = (ranges, bytes);
            match self.never {}
        }
    }
}
