//! Files of the host that the guest has appended to and closed: logs, as a rule, to each of which a line is
//! added at a time. What is appended after a snapshot is appended again after a resume from it, so the file
//! is cut off first to the length that it had.

use std::{collections::BTreeMap, fs::File};

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use super::{
    RootDir,
    fdtable::OpenFile,
    handle::FileHandle,
    host::{self, How, Opened},
    restore::{FileProblem, Problem},
    save::or_dot,
    state::{FileIdentity, Place},
    types::Filetype,
    unsynced::Unsynced,
};

/// Most files that are remembered; what is appended to after so many others is not cut off at a resume.
pub(super) const APPENDED_MAX: usize = 4096;

/// A file that the guest has appended to and closed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Appended {
    /// Where it is.
    pub place: Place,
    /// What it was like at the snapshot; its end is the guest's.
    pub identity: FileIdentity,
    /// When it was made, in ns since 1970, since inode numbers are used again; 0 if that is not known.
    pub born: u64,
}

/// Which file it is: device, inode number, and when it was made.
type Key = (u64, u64, u64);

/// All of a guest's.
#[derive(Debug, Default)]
pub(super) struct AppendedFiles(BTreeMap<Key, Entry>);

#[derive(Debug)]
struct Entry {
    place: Place,
    /// Where the guest's last write ended.
    end: u64,
}

impl AppendedFiles {
    /// Notes that the guest closes a file.
    pub fn closed(&mut self, open: &OpenFile) {
        let OpenFile { file: FileHandle::Host(file), kind: Filetype::RegularFile, access, .. } = open else {
            return;
        };
        let Some(end) = file.written.end.filter(|_| access.append && !file.written.in_place) else { return };
        let Ok(found) = host::attributes(&file.file) else { return };
        let key = (found.dev, found.ino, host::born(&file.file));
        // Where its end is another's, it is not ours to cut.
        if found.nlink == 0 || found.size != end || end == 0 {
            self.0.remove(&key);
        } else if self.0.len() < APPENDED_MAX || self.0.contains_key(&key) {
            self.0.insert(key, Entry { place: file.place.clone(), end });
        }
    }

    /// Those that still are where they were, as long as the guest has left them, by ascending place.
    pub fn saved(&self, roots: &[RootDir]) -> Vec<Appended> {
        let mut saved: Vec<Appended> =
            self.0.iter().filter_map(|(key, entry)| entry.saved(*key, roots)).collect();
        saved.sort_by(|a, b| a.place.cmp(&b.place));
        saved
    }

    /// Those of a state, each cut off to the length that it had if it may be. What is not there any more, or was replaced,
    /// or is shorter, stays as it is: the guest does not rely on it.
    pub fn restore(
        saved: Vec<Appended>,
        roots: &[RootDir],
        may_cut: bool,
        unsynced: &mut Unsynced,
    ) -> Result<Self> {
        let mut files = Self::default();
        for Appended { place, identity, born } in saved {
            let (key, end) = ((identity.dev, identity.ino, born), identity.size);
            let Some(file) = open(roots, &place, key) else { continue };
            let explain = || format!("file `{}` cannot be cut off to its length at the snapshot", place.path);
            if may_cut && host::attributes(&file).with_context(explain)?.size > end {
                file.set_len(end).with_context(explain)?;
            }
            unsynced.add(place.path.clone(), file);
            files.0.insert(key, Entry { place, end });
        }
        Ok(files)
    }
}

impl Entry {
    fn saved(&self, (dev, ino, born): Key, roots: &[RootDir]) -> Option<Appended> {
        let root = roots.get(self.place.root as usize)?;
        let identity =
            FileIdentity::from(&host::attributes_at(&root.dir, or_dot(&self.place.path), true).ok()?);
        let ours = (identity.dev, identity.ino) == (dev, ino) && identity.size == self.end;
        ours.then(|| Appended { place: self.place.clone(), identity, born })
    }
}

/// Refuses a file that is longer than it was: another guest relies on what was appended since.
pub(super) fn check_not_grown(saved: &[Appended], roots: &[RootDir]) -> Result<()> {
    for Appended { place, identity: expected, born } in saved {
        let found = open(roots, place, (expected.dev, expected.ino, *born));
        let found =
            found.and_then(|file| host::attributes(&file).ok()).map(|found| FileIdentity::from(&found));
        if let (Some(found), Some(root)) = (found, roots.get(place.root as usize))
            && found.size > expected.size
        {
            let problem = Problem::Grown { expected: *expected, found };
            let (guest, host) = (root.guest_path(place), root.host.join(&place.path));
            return Err(FileProblem { guest, host, problem }.into());
        }
    }
    Ok(())
}

/// The file at a place for writing, if it still is this one.
fn open(roots: &[RootDir], place: &Place, key: Key) -> Option<File> {
    let root = roots.get(place.root as usize).filter(|root| !root.read_only)?;
    match host::open(&root.dir, or_dot(&place.path), How { write: true, follow: true, ..How::default() }) {
        Ok(Opened::File { file, found }) if (found.dev, found.ino, host::born(&file)) == key => Some(file),
        _ => None,
    }
}
