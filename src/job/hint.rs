//! Which pages of its memory a job is likely to touch first when it goes on: those that it has touched first when it went on the last
//! time, and those that it has written to lately. Kept in a file of this machine; nobody relies on it.

use std::collections::VecDeque;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use super::{JobName, working};
use crate::machine::{RUNS_MAX, Run};
use crate::store::Store;

/// Bytes of the file.
const LEN: usize = 64 << 10;
/// How often it is written at most.
const REST: Duration = Duration::from_secs(1);
/// Snapshots that it looks back to.
const SNAPSHOTS: usize = 8;

/// What a running job has touched.
pub(super) struct Hint {
    path: PathBuf,
    /// In the order in which it was needed when the job went on.
    first: Vec<Run>,
    /// What was written to, by snapshot, the last one first.
    written: VecDeque<Vec<Run>>,
    kept: Option<Instant>,
}

impl Hint {
    /// Nothing is known yet.
    pub fn new(store: &dyn Store, job: &JobName) -> Self {
        let path = working::path(store, job, "touched");
        Self { path, first: vec![], written: VecDeque::new(), kept: None }
    }

    /// What the job is likely to touch first, as a process before has left it.
    pub fn read(&self) -> Vec<Run> {
        let mut bytes = vec![0; LEN];
        let read = working::open(&self.path).and_then(|file| file.read_exact_at(&mut bytes, 0));
        read.ok().and_then(|()| working::decode(&bytes)).unwrap_or_default()
    }

    /// A snapshot was taken, before which this was written to; and since the job went on, this was touched first.
    /// Is kept now and then, or `at_once`.
    pub fn note(&mut self, written: &[Run], first: Vec<Run>, at_once: bool) {
        if first.len() > self.first.len() {
            self.first = first;
        }
        self.written.push_front(written.to_vec());
        self.written.truncate(SNAPSHOTS);
        if at_once || self.kept.is_none_or(|kept| kept.elapsed() >= REST) {
            self.kept = Some(Instant::now());
            // Without it the next process brings the pages in another order.
            let _ = self.keep();
        }
    }

    fn keep(&self) -> io::Result<()> {
        let all = self.first.iter().chain(self.written.iter().flatten());
        let runs: Vec<&Run> = all.take(RUNS_MAX).collect();
        let bytes = working::encode(&runs, LEN)?;
        working::open(&self.path)?.write_all_at(&bytes, 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Local;

    #[test]
    fn what_was_touched_first_and_written_last_is_remembered() {
        let dir = tempfile::tempdir().unwrap();
        let store = Local::open(dir.path().join("store")).unwrap();
        let job = "x".parse().unwrap();
        let run = |memory, start| Run { memory, pages: start..start + 3 };
        let mut hint = Hint::new(&store, &job);
        assert!(hint.read().is_empty());
        hint.note(&[run(0, 10)], vec![run(1, 5)], false);
        hint.note(&[run(0, 20)], vec![], false);
        assert_eq!(hint.read(), [run(1, 5), run(0, 10)], "not yet again");
        hint.note(&[run(0, 30)], vec![], true);
        let expected = [run(1, 5), run(0, 30), run(0, 20), run(0, 10)];
        assert_eq!(Hint::new(&store, &job).read(), expected);
        let many: Vec<Run> = (0..u64::from(u16::MAX)).map(|n| run(0, u64::MAX - 3 - n * 5)).collect();
        hint.note(&many, vec![], true);
        assert_eq!(hint.read().len(), RUNS_MAX);
        // Whatever else is in the file is none.
        std::fs::write(working::path(&store, &job, "touched"), vec![7; LEN]).unwrap();
        assert!(hint.read().is_empty());
        working::forget(&store, &job);
        assert!(!working::path(&store, &job, "touched").exists());
    }
}
