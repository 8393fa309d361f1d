//! The private disks of a job: looked into while it runs, is paused or has ended, and written out at its end.

use std::path::PathBuf;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use super::log::Status;
use super::{JobError, JobName, Jobs};
use crate::digest::{ChunkId, SnapshotId};
use crate::snapshot::Blob;
use crate::wasi::{Image, Item, Listing, blob_names, images};

/// Room that a private disk has, in bytes, unless told: 16 GiB.
pub const DISK_LIMIT: u64 = 16 << 30;
/// Most bytes of the private disks of a snapshot that was made elsewhere: 256 GiB. A few chunks can stand for
/// any number of blocks.
pub(super) const FOREIGN_MAX: u64 = 256 << 30;

/// A private disk as it was when the program ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FinalDisk {
    /// The guest's name for its root directory.
    pub guest: String,
    /// Length in bytes and root of what its files hold.
    pub data: (u64, ChunkId),
    /// Length in bytes and root of its metadata.
    pub meta: (u64, ChunkId),
}

impl FinalDisk {
    /// All of a guest's, whose names come in the order of the blobs.
    pub(super) fn of<'a>(guests: impl Iterator<Item = &'a str>, blobs: &[Blob]) -> Vec<Self> {
        let content =
            |name: &str| blobs.iter().find(|blob| blob.name == name).map(|blob| (blob.len, blob.root));
        let disk = |(index, guest): (usize, &str)| {
            let [data, meta] = blob_names(index);
            Some(Self { guest: guest.to_string(), data: content(&data)?, meta: content(&meta)? })
        };
        guests.enumerate().filter_map(disk).collect()
    }
}

/// Where the changed files of a private disk are written at the program's end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SyncOut {
    /// The guest's name for the disk; none: its only one.
    pub guest: Option<String>,
    /// A directory of the host.
    pub to: PathBuf,
}

impl SyncOut {
    /// The disk that is meant, of those that there are.
    ///
    /// # Errors
    /// There is none, or none with the name, or several and no name.
    pub fn disk(&self, disks: &[String]) -> Result<String> {
        let listed = || disks.iter().map(|disk| format!("`{disk}`")).collect::<Vec<_>>().join(", ");
        match (&self.guest, disks) {
            (_, []) => anyhow::bail!("the program has no private disk to write out; `--disk` gives it one"),
            (None, [one]) => Ok(one.clone()),
            (None, _) => anyhow::bail!("the program has several disks, {}: say which, as DISK=DIR", listed()),
            (Some(guest), _) if disks.contains(guest) => Ok(guest.clone()),
            (Some(guest), _) => anyhow::bail!("the program has no private disk `{guest}`, but {}", listed()),
        }
    }
}

/// The private disks of a job as they are stored: at its end, or at its last snapshot.
pub struct StoredDisks {
    jobs: Jobs,
    /// Of which they are, unless the job has ended.
    snapshot: Option<SnapshotId>,
    disks: Vec<(String, Listing)>,
}

impl Jobs {
    /// The private disks of a job, as of its end or its last snapshot. Another process may be running it.
    ///
    /// # Errors
    /// There is no such job, or it has no snapshot yet; a disk cannot be read.
    pub fn disks(&self, name: &JobName) -> Result<StoredDisks> {
        let status = self.existing(name)?;
        let snapshot = status.snapshot().filter(|_| status.done.is_none());
        let disks = self.load_disks(name, &status);
        let disks = match snapshot {
            Some(id) => self.unless_released(id, disks)?,
            None => disks?,
        };
        Ok(StoredDisks { jobs: self.clone(), snapshot, disks })
    }

    fn load_disks(&self, name: &JobName, status: &Status) -> Result<Vec<(String, Listing)>> {
        let mut fetch = |id| Ok(self.chunks().read(id)?);
        let load = |(guest, image): (String, Image), fetch: &mut _| {
            let explain = || format!("the disk `{guest}` of job `{name}` cannot be read");
            Listing::load(image, fetch).with_context(explain).map(|listing| (guest.clone(), listing))
        };
        let disks = self.disk_images(name, status)?;
        disks.into_iter().map(|disk| load(disk, &mut fetch)).collect()
    }

    fn disk_images(&self, name: &JobName, status: &Status) -> Result<Vec<(String, Image)>> {
        if let Some(done) = &status.done {
            let image = |d: &FinalDisk| (d.guest.clone(), Image { data: d.data, meta: d.meta });
            return Ok(done.disks.iter().map(image).collect());
        }
        let snapshot = status.snapshot().ok_or_else(|| JobError::NoSnapshot { job: name.clone() })?;
        let snapshot = self.snapshot(snapshot)?;
        match super::wasi_state(snapshot.state())? {
            Some(wasi) => images(&wasi, &snapshot.state().blobs),
            None => Ok(vec![]),
        }
    }
}

impl StoredDisks {
    /// The guest's names for the disks.
    pub fn guests(&self) -> impl Iterator<Item = &str> {
        self.disks.iter().map(|(guest, _)| guest.as_str())
    }

    /// Everything at and below a path of the guest, and the guest's path of each: of all disks for `/`. Nothing
    /// if there is no such path.
    pub fn list(&self, path: &str) -> Vec<(String, Item<'_>)> {
        let mut found = vec![];
        for (guest, listing) in &self.disks {
            let (root, wanted) = (parts(guest), parts(path));
            let inside = match (wanted.strip_prefix(&root[..]), root.starts_with(&wanted)) {
                (Some(inside), _) => inside.join("/"),
                (None, true) => String::new(),
                (None, false) => continue,
            };
            let Some(from) = listing.lookup(&inside) else { continue };
            let named = |item: Item<'_>| match item.path.as_str() {
                "" => guest.clone(),
                inside => format!("{}/{inside}", guest.trim_end_matches('/')),
            };
            found.extend(listing.walk(from).map(|item| (named(item.clone()), item)));
        }
        found
    }

    /// Gives the content of the file at a path of the guest to `take`, in order.
    ///
    /// # Errors
    /// There is no such file ([`JobError::NoFile`]); a chunk is missing or corrupt; `take` failed.
    pub fn read(&self, path: &str, take: &mut dyn FnMut(&[u8]) -> Result<()>) -> Result<()> {
        let none = || JobError::NoFile { path: path.to_string() };
        let (listing, item) = self.find(path).ok_or_else(none)?;
        let mut fetch = |id| Ok(self.jobs.chunks().read(id)?);
        let (mut buffer, mut at) = (vec![0; 1 << 20], 0);
        if item.kind != crate::wasi::Filetype::RegularFile {
            return Err(none().into());
        }
        while at < item.size {
            let read = listing.read_at(item.ino, &mut buffer, at, &mut fetch);
            let n = match self.snapshot {
                Some(id) => self.jobs.unless_released(id, read)?,
                None => read?,
            };
            take(&buffer[..n])?;
            at += n as u64;
        }
        Ok(())
    }

    /// What is at a path of the guest, symbolic links not followed. Of disks in one another the inner counts.
    fn find(&self, path: &str) -> Option<(&Listing, Item<'_>)> {
        let wanted = parts(path);
        self.disks
            .iter()
            .filter_map(|(guest, listing)| {
                let root = parts(guest);
                Some((root.len(), listing.lookup(&wanted.strip_prefix(&root[..])?.join("/"))?, listing))
            })
            .max_by_key(|(depth, ..)| *depth)
            .map(|(_, item, listing)| (listing, item))
    }
}

/// The names in a path.
fn parts(path: &str) -> Vec<&str> {
    path.split('/').filter(|part| !matches!(*part, "" | ".")).collect()
}
