//! From a pipe into the journal, without losing a byte to SIGKILL on the way.
//!
//! What was read from a pipe is in the memory of the process alone until it is in the store. So it is not read but
//! spliced into a file of this machine: the same system call takes the bytes out of the pipe and puts them into
//! the file, and a process cannot be killed in between. From there they go to the journal. A process that finds
//! more in the file than is in the journal brings that over first, and then goes on with the pipe.
//!
//! Where splicing does not work, with a terminal or socket, the bytes are read and written to the file: they are
//! lost if the process dies between these two calls.
//!
//! ```text
//! 0        a record: what the file is about, and the offset of its first byte in the input
//! 4096     bytes of the input
//! ```

use std::fs::File;
use std::io;
use std::os::fd::BorrowedFd;
use std::os::unix::fs::FileExt;

use rustix::io::Errno;
use rustix::pipe::{SpliceFlags, splice};
use serde::{Deserialize, Serialize};

use super::journal::retried;
use super::{JobName, working};
use crate::store::Store;

/// Length of the record.
const HEAD: u64 = 4096;
/// The file is begun anew when it holds this much.
const LEN_MAX: u64 = 16 << 20;

#[derive(Serialize, Deserialize)]
struct Record {
    about: [u8; 32],
    base: u64,
}

/// The file.
pub(super) struct Intake {
    file: File,
    about: [u8; 32],
    /// Offset in the input of its first byte.
    base: u64,
    /// Bytes of the input in it.
    len: u64,
    splices: bool,
}

impl Intake {
    /// The file of this beginning of the job, of whose input the journal holds all up to `end`. Gives the bytes
    /// that came in behind that, up to the end of the file.
    ///
    /// # Errors
    /// What the system reports.
    pub fn open(store: &dyn Store, job: &JobName, begin: u64, end: u64) -> io::Result<(Self, Vec<u8>)> {
        let about = working::about(store, job, begin);
        let file = working::open(&working::path(store, job, "intake"))?;
        let mut intake = Self { file, about, base: end, len: 0, splices: true };
        let late = intake.late(end).unwrap_or_default();
        if late.is_empty() {
            intake.restart(end)?;
        }
        Ok((intake, late))
    }

    /// Offset in the input at which the file of this beginning of the job begins, if there is one.
    pub fn base(store: &dyn Store, job: &JobName, begin: u64) -> Option<u64> {
        let file = working::open(&working::path(store, job, "intake")).ok()?;
        record(&file)
            .filter(|record| record.about == working::about(store, job, begin))
            .map(|record| record.base)
    }

    /// What is in the file and not in the journal; nothing if it is of something else.
    fn late(&mut self, end: u64) -> Option<Vec<u8>> {
        let Record { about, base } = record(&self.file)?;
        let len = self.file.metadata().ok()?.len().checked_sub(HEAD)?;
        let known = end.checked_sub(base).filter(|_| about == self.about)?;
        let mut late = vec![0; usize::try_from(len.checked_sub(known)?).ok()?];
        self.file.read_exact_at(&mut late, HEAD + known).ok()?;
        Some(late)
    }

    /// Empties the file, whose bytes up to `end` of the input are in the journal.
    ///
    /// # Errors
    /// What the system reports.
    pub fn restart(&mut self, end: u64) -> io::Result<()> {
        // In this order: a file that is cut off holds nothing, whatever its record says.
        self.file.set_len(HEAD)?;
        let record = Record { about: self.about, base: end };
        self.file.write_all_at(&working::encode(&record, HEAD as usize)?, 0)?;
        (self.base, self.len) = (end, 0);
        Ok(())
    }

    /// Takes up to `buffer.len()` bytes from the source, which has some or has ended; 0 is the end. What the system
    /// reports of the source is inside; [`Errno::AGAIN`] if there is nothing after all.
    ///
    /// # Errors
    /// What the system reports of the file, though it was tried for a while. What did not fit is still in the source.
    pub fn take(
        &mut self,
        source: BorrowedFd<'_>,
        buffer: &mut [u8],
    ) -> io::Result<rustix::io::Result<usize>> {
        let at = HEAD + self.len;
        if self.splices {
            let max = buffer.len();
            let spliced = retried(|| {
                match splice(source, None, &self.file, Some(&mut { at }), max, SpliceFlags::NONBLOCK) {
                    // Anything else is of the file: a pipe has no errors of its own.
                    Err(e) if ![Errno::INVAL, Errno::AGAIN, Errno::INTR, Errno::BADF].contains(&e) => {
                        Err(io::Error::from(e))
                    }
                    of_source => Ok(of_source),
                }
            })?;
            match spliced {
                Ok(n) => {
                    retried(|| self.file.read_exact_at(&mut buffer[..n], at))?;
                    self.len += n as u64;
                    return Ok(Ok(n));
                }
                Err(Errno::INVAL) => self.splices = false,
                Err(error) => return Ok(Err(error)),
            }
        }
        let n = match rustix::io::read(source, &mut *buffer) {
            Ok(n) => n,
            Err(error) => return Ok(Err(error)),
        };
        retried(|| self.file.write_all_at(&buffer[..n], at))?;
        self.len += n as u64;
        Ok(Ok(n))
    }

    /// All that came in is in the journal.
    ///
    /// # Errors
    /// What the system reports.
    pub fn settle(&mut self) -> io::Result<()> {
        match self.len > LEN_MAX {
            true => self.restart(self.base + self.len),
            false => Ok(()),
        }
    }
}

fn record(file: &File) -> Option<Record> {
    let mut head = [0; HEAD as usize];
    file.read_exact_at(&mut head, 0).ok()?;
    working::decode(&head)
}
