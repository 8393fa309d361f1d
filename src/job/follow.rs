//! What a job prints, seen from outside: of any job, while another process runs it or nobody does.

use anyhow::Result;

use super::log::{self, Entry, Event, Last, Printed, Status};
use super::transfer::is_missing;
use super::{JobName, Jobs, fold};
use crate::store::StoreError;

/// Looks at what is kept of a job's output, again and again.
pub struct Follow {
    jobs: Jobs,
    name: JobName,
    /// Number of the beginning.
    begin: u64,
    /// Number of the last entry that was seen.
    seen: u64,
    printed: Printed,
    standing: Standing,
}

/// Where a followed job stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// It has not ended: a process runs it, or died.
    Open,
    /// Its process has paused it.
    Paused,
    /// It has ended, and its output is whole.
    Ended,
    /// It was begun anew: this is another run.
    BegunAnew,
}

impl Jobs {
    /// Looks at the output of a job. Takes nothing, so it may be running.
    ///
    /// # Errors
    /// [`JobError::NotFound`](super::JobError::NotFound), and as [`Jobs::status`].
    pub fn follow(&self, name: &JobName) -> Result<Follow> {
        let find = || {
            let found = log::status(&**self.store(), name)?;
            anyhow::Ok(found.ok_or_else(|| self.not_found("job", name.as_str()))?)
        };
        let mut found = find()?;
        loop {
            match self.printed_of(&found.0) {
                // If it stands elsewhere by now, the snapshot was released meanwhile.
                Err(error) if is_missing(&error) => {
                    let now = find()?;
                    if now.0 == found.0 {
                        return Err(error);
                    }
                    found = now;
                }
                printed => return Ok(self.following(name, found, printed?)),
            }
        }
    }

    fn printed_of(&self, status: &Status) -> Result<Printed> {
        match (&status.done, status.snapshot()) {
            (Some(done), _) => Ok(done.output.clone()),
            (None, Some(id)) => Printed::of_state(self.snapshot(id)?.state()),
            (None, None) => Ok(Printed::default()),
        }
    }

    fn following(&self, name: &JobName, (status, last): (Status, Last), printed: Printed) -> Follow {
        let Status { done, stopped, .. } = &status;
        let standing = match (done, stopped) {
            (Some(_), _) => Standing::Ended,
            (None, true) => Standing::Paused,
            (None, false) => Standing::Open,
        };
        let (begin, seen) = (last.stand.begin, last.seq);
        Follow { jobs: self.clone(), name: name.clone(), begin, seen, printed, standing }
    }
}

impl Follow {
    /// What is kept now.
    pub fn printed(&self) -> &Printed {
        &self.printed
    }

    /// Where the job stands.
    pub fn standing(&self) -> Standing {
        self.standing
    }

    /// Looks for what has happened since; whether anything has. Costs two small reads of the store if not.
    ///
    /// # Errors
    /// As [`Jobs::status`].
    pub fn look(&mut self) -> Result<bool> {
        let before = self.seen;
        let mut snapshot = None;
        // The job has ended for good with a beginning that is not ours.
        while self.standing != Standing::BegunAnew
            && let Some(entry) = self.next()?
        {
            self.seen += 1;
            match entry.event {
                Event::Begin(_) => self.standing = Standing::BegunAnew,
                Event::Claim(_) => self.standing = Standing::Open,
                // Only the last one is read.
                Event::Commit(commit) => snapshot = Some(commit.snapshot),
                Event::Stop => self.standing = Standing::Paused,
                Event::Done(done) => {
                    (self.standing, snapshot) = (Standing::Ended, None);
                    self.printed = done.output;
                }
            }
        }
        if self.standing != Standing::BegunAnew
            && fold::end(&**self.jobs.store(), &self.name)? > self.seen + 1
        {
            // Entries were folded before they were seen.
            return self.look_anew();
        }
        if let Some(id) = snapshot.filter(|_| self.standing != Standing::BegunAnew) {
            self.printed = match self.jobs.snapshot(id) {
                // Released meanwhile.
                Err(error) if is_missing(&error) => return self.look_anew(),
                found => Printed::of_state(found?.state())?,
            };
        }
        Ok(self.seen != before)
    }

    /// Where the job stands now is what counts.
    fn look_anew(&mut self) -> Result<bool> {
        let now = self.jobs.follow(&self.name)?;
        match now.begin == self.begin {
            true => *self = now,
            false => self.standing = Standing::BegunAnew,
        }
        Ok(true)
    }

    /// The entry behind the last one.
    fn next(&self) -> Result<Option<Entry>> {
        match log::read(&**self.jobs.store(), &self.name, self.seen + 1) {
            Ok(entry) => Ok(Some(entry)),
            Err(error) if matches!(error.downcast_ref(), Some(StoreError::NotFound { .. })) => Ok(None),
            Err(error) => Err(error),
        }
    }
}
