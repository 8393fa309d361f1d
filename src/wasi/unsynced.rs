//! What the guest has changed in directories of the host and that may not be on their disks yet: files that it has
//! written to and closed, and directories whose names it has changed. A snapshot waits for them, so that a power cut
//! after it takes nothing away that the guest relies on.

use std::{
    collections::BTreeMap,
    fs::File,
    io,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use anyhow::{Context, Result};

use super::{
    errno::Outcome,
    fdtable::OpenFile,
    handle::{DirHandle, FileHandle, HostDir},
    host::{self, How, Opened},
    types::{Attributes, Filetype},
};

/// Most that are kept open; beyond that their file system is synced as a whole.
const KEPT_MAX: usize = 64;

/// Device and inode number.
type Key = (u64, u64);

/// All of a guest's, open, so that they are found again whatever names they are given.
#[derive(Debug, Default)]
pub(super) struct Unsynced {
    kept: BTreeMap<Key, Arc<Entry>>,
    /// One of each file system that is to be synced as a whole, by its device.
    whole: BTreeMap<u64, Arc<Entry>>,
}

#[derive(Debug)]
struct Entry {
    path: String,
    file: File,
    synced: AtomicBool,
}

impl Unsynced {
    /// Takes a file that the guest closes.
    pub fn closed(&mut self, open: OpenFile) {
        if let OpenFile { file: FileHandle::Host(file), kind: Filetype::RegularFile, .. } = open
            && file.written.end.is_some()
        {
            self.add(file.place.path, file.file);
        }
    }

    /// Takes a file, or a directory.
    pub fn add(&mut self, path: String, file: File) {
        let Ok(Attributes { dev, ino, nlink, .. }) = host::attributes(&file) else { return };
        if nlink == 0 {
            return;
        }
        self.forget_synced();
        if self.kept.len() < KEPT_MAX || self.kept.contains_key(&(dev, ino)) {
            self.kept.insert((dev, ino), Entry::new(path, file));
        } else {
            self.add_whole(path, file);
        }
    }

    /// Has the file system that this is on synced as a whole.
    fn add_whole(&mut self, path: String, file: File) {
        let Ok(Attributes { dev, .. }) = host::attributes(&file) else { return };
        self.kept.retain(|key, _| key.0 != dev);
        self.whole.insert(dev, Entry::new(path, file));
    }

    /// Notes that a file was made at a path, as seen from `at`.
    pub fn created(&mut self, at: &DirHandle, path: &str, file: &File) {
        let DirHandle::Host(HostDir { dir, .. }) = at else { return };
        // Elsewhere, if there was a symbolic link.
        self.renamed(at, &host::path_of(dir, file).unwrap_or_else(|| path.to_string()));
    }

    /// Notes that the names in a directory have changed: that of `path`, as seen from `at`.
    pub fn renamed(&mut self, at: &DirHandle, path: &str) {
        let DirHandle::Host(HostDir { dir, place }) = at else { return };
        let parent = path.trim_end_matches('/').rsplit_once('/').map_or(".", |(parent, _)| parent);
        let open = |path| host::open(dir, path, How { read: true, follow: true, ..How::default() });
        if let Ok(Opened::Directory(parent)) = open(parent) {
            self.add(place.path.clone(), parent.into_std_file());
        } else if let Ok(Opened::Directory(at)) = open(".") {
            // A directory that may not be read cannot be synced by itself.
            self.add_whole(place.path.clone(), at.into_std_file());
        }
    }

    /// Does what takes the name away from what is at a path, if there is something. A file that has none left then is
    /// let go of, with its room on the disk.
    pub fn unlinking(&mut self, at: &DirHandle, path: &str, unlink: impl FnOnce() -> Outcome) -> Outcome {
        let former = match at {
            DirHandle::Host(at) if !self.kept.is_empty() => host::attributes_at(&at.dir, path, false).ok(),
            _ => None,
        };
        unlink()?;
        if let Some(Attributes { dev, ino, .. }) = former
            && let Some(entry) = self.kept.get(&(dev, ino))
            && host::attributes(&entry.file).is_ok_and(|found| found.nlink == 0)
        {
            self.kept.remove(&(dev, ino));
        }
        self.renamed(at, path);
        Ok(())
    }

    /// What a snapshot is to wait for; it stays here until it is synced.
    pub fn files(&mut self) -> UnsyncedFiles {
        self.forget_synced();
        let (kept, whole) = (self.kept.values().cloned(), self.whole.values().cloned());
        UnsyncedFiles { files: kept.collect(), whole: whole.collect() }
    }

    fn forget_synced(&mut self) {
        let is_unsynced = |entry: &Arc<Entry>| !entry.synced.load(Ordering::SeqCst);
        self.kept.retain(|_, entry| is_unsynced(entry));
        self.whole.retain(|_, entry| is_unsynced(entry));
    }
}

/// What the guest has changed in directories of the host.
#[must_use = "it is not on its disk yet"]
#[derive(Debug, Default)]
pub struct UnsyncedFiles {
    files: Vec<Arc<Entry>>,
    whole: Vec<Arc<Entry>>,
}

impl UnsyncedFiles {
    /// Adds a file that the guest has open.
    pub(super) fn add(&mut self, path: String, file: File) {
        self.files.push(Entry::new(path, file));
    }

    /// Waits until all is on its disk.
    ///
    /// # Errors
    /// A disk does not take the data.
    pub fn sync(self) -> Result<()> {
        let Self { files, whole } = self;
        files.iter().try_for_each(|entry| entry.sync(sync_file))?;
        whole.iter().try_for_each(|entry| entry.sync(sync_file_system))
    }

    /// Where on the host is what is synced, and what stands for its file system.
    #[cfg(test)]
    pub(super) fn paths(&self) -> [Vec<std::path::PathBuf>; 2] {
        use std::os::fd::AsRawFd;
        let path = |entry: &Arc<Entry>| {
            std::fs::read_link(format!("/proc/self/fd/{}", entry.file.as_raw_fd())).unwrap()
        };
        [&self.files, &self.whole].map(|entries| entries.iter().map(path).collect())
    }
}

impl Entry {
    fn new(path: String, file: File) -> Arc<Self> {
        Arc::new(Self { path, file, synced: AtomicBool::new(false) })
    }

    fn sync(&self, sync: fn(&File) -> io::Result<()>) -> Result<()> {
        match sync(&self.file) {
            // Its file system has no disk, and nothing to wait for.
            Err(error) if error.kind() == io::ErrorKind::InvalidInput => {}
            result => result.with_context(|| format!("`{}` cannot be synced", self.path))?,
        }
        self.synced.store(true, Ordering::SeqCst);
        Ok(())
    }
}

/// With its times: what was open for reading as well is known by them at a resume.
pub(super) fn sync_file(file: &File) -> io::Result<()> {
    // What has no name any more is lost in any case.
    if host::attributes(file)?.nlink == 0 {
        return Ok(());
    }
    file.sync_all()
}

fn sync_file_system(file: &File) -> io::Result<()> {
    #[cfg(target_os = "linux")]
    rustix::fs::syncfs(file)?;
    #[cfg(not(target_os = "linux"))]
    {
        let _ = file;
        rustix::fs::sync();
    }
    Ok(())
}
