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

impl StandingCopy {
    /// Makes one, and tries whether the byte at the address `at` can be read from it.
    ///
    /// # Errors
    /// The system has no such thing, or does not permit it.
    pub fn new(at: u64) -> io::Result<Self> {
        #[cfg(target_os = "linux")]
        {
            let inner = super::linux::Standing::fork()?;
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
