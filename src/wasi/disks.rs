//! The private disks of a guest: filled at its start, captured and restored with it.

use std::{
    fs::{DirBuilder, File},
    io,
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
};

use anyhow::{Context, Result, bail, ensure};
use serde::{Deserialize, Serialize};

use super::{
    Wasi,
    clock::Clock,
    disk::{self, Disk, Exported, Image, ROOT},
    disknode::{DiskNode, SharedDisk, lock},
    fdtable::{Open, OpenDirectory, OpenFile},
    handle::{DirHandle, FileHandle},
    host,
    state::{Descriptor, State},
    types::Filetype,
};
use crate::{
    digest::ChunkId,
    snapshot::{Blob, Emit, Fetch},
};

/// Most private disks of a guest.
pub const DISKS_MAX: usize = 16;
/// The number of a disk's device, as the guest sees it, is this and the disk's own.
const DEV: u64 = 0x6469_736b_0000;

/// A private disk that a new guest is given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DiskConfig {
    /// The guest's name for its root directory.
    pub guest: String,
    /// What it is filled with at the start: a directory, or a tar archive that is not compressed.
    pub source: Option<PathBuf>,
    /// Most bytes that its files may take up, in whole blocks of 4 KiB.
    pub limit: u64,
}

/// A private disk, as far as it is not in contents of its own (see [`blob_names`]).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DiskState {
    /// The guest's name for its root directory.
    pub guest: String,
}

/// Where a state's private disks are read from.
pub struct Contents<'a> {
    /// The state's blobs.
    pub blobs: &'a [Blob],
    /// Gives their chunks.
    pub fetch: &'a mut Fetch<'a>,
    /// Most bytes of all disks together; beyond that they are refused.
    pub most: u64,
}

/// A private disk of a running guest.
#[derive(Debug)]
pub(super) struct PrivateDisk {
    pub guest: String,
    disk: SharedDisk,
}

/// The names of a disk's two blobs, data and metadata.
pub fn blob_names(index: usize) -> [String; 2] {
    [format!("disk{index:02}.data"), format!("disk{index:02}.meta")]
}

/// A state's private disks: the guest's names for them, and their contents.
///
/// # Errors
/// A blob is missing.
pub fn images(state: &State, blobs: &[Blob]) -> Result<Vec<(String, Image)>> {
    let image = |(index, disk): (usize, &DiskState)| {
        let content = |name: &String| {
            let blob = blobs.iter().find(|blob| blob.name == *name);
            blob.map(|b| (b.len, b.root)).with_context(|| format!("the state has no content `{name}`"))
        };
        let [data, meta] = &blob_names(index);
        Ok((disk.guest.clone(), Image { data: content(data)?, meta: content(meta)? }))
    };
    state.disks.iter().enumerate().map(image).collect()
}

impl PrivateDisk {
    /// A new disk, filled with what it is to begin with.
    pub fn new(index: usize, config: DiskConfig, scratch: Option<&Path>, clock: &Clock) -> Result<Self> {
        let DiskConfig { guest, source, limit } = config;
        let scratch = make_scratch(scratch)?;
        let mut disk = Disk::new(limit, DEV + index as u64, scratch, clock.realtime());
        if let Some(source) = source {
            fill(&mut disk, &source)
                .with_context(|| format!("the disk `{guest}` cannot be filled from {}", source.display()))?;
        }
        Ok(Self { guest, disk: Arc::new(Mutex::new(disk)) })
    }

    fn restore(
        index: usize,
        (guest, image): (String, Image),
        scratch: Option<&Path>,
        most: u64,
        fetch: &mut dyn FnMut(ChunkId) -> Result<Vec<u8>>,
    ) -> Result<Self> {
        let explain = || format!("the disk `{guest}` cannot be restored");
        let scratch = make_scratch(scratch)?;
        let disk = Disk::restore(image, DEV + index as u64, most, scratch, fetch).with_context(explain)?;
        Ok(Self { guest, disk: Arc::new(Mutex::new(disk)) })
    }

    /// Its root directory, preopened.
    pub fn preopened(&self, index: usize) -> Result<Open> {
        let root = self.node(index as u32, ROOT)?;
        let dir = DirHandle::Disk(root);
        Ok(Open::Directory(OpenDirectory { dir, preopen: true, read_only: false, listing: None }))
    }

    fn node(&self, index: u32, ino: disk::Ino) -> Result<DiskNode> {
        DiskNode::opened(&self.disk, index, ino)
            .map_err(|_| anyhow::anyhow!("the disk `{}` has no inode {ino}", self.guest))
    }
}

fn make_scratch(dir: Option<&Path>) -> Result<File> {
    let dir = dir.map_or_else(std::env::temp_dir, Path::to_path_buf);
    // For this user alone, whatever is usual: other working files of a store are there as well.
    let made = DirBuilder::new().recursive(true).mode(0o700).create(&dir).and_then(|()| host::scratch(&dir));
    made.with_context(|| format!("no room can be had in {} for a private disk", dir.display()))
}

fn fill(disk: &mut Disk, source: &Path) -> Result<()> {
    if std::fs::metadata(source)?.is_dir() {
        disk::from_directory(disk, source)?;
        return Ok(());
    }
    let file = File::open(source)?;
    let mut magic = [0; 2];
    let read = std::os::unix::fs::FileExt::read_at(&file, &mut magic, 0)?;
    // gzip and zstd by their first bytes.
    if read == 2 && matches!(magic, [0x1f, 0x8b] | [0x28, 0xb5]) {
        bail!("the archive is compressed; unpack it first, or give a directory");
    }
    disk::from_tar(disk, io::BufReader::with_capacity(1 << 20, file))?;
    Ok(())
}

/// The disks of a state.
pub(super) fn restore(
    state: &State,
    contents: Option<Contents<'_>>,
    scratch: Option<&Path>,
) -> Result<Vec<PrivateDisk>> {
    if state.disks.is_empty() {
        return Ok(vec![]);
    }
    let Contents { blobs, fetch, mut most } =
        contents.context("the contents of its private disks are missing")?;
    let mut disks = vec![];
    for (index, found) in images(state, blobs)?.into_iter().enumerate() {
        let len = found.1.data.0;
        disks.push(PrivateDisk::restore(index, found, scratch, most, fetch)?);
        most = most.saturating_sub(len);
    }
    Ok(disks)
}

/// Opens again what was open on a disk.
pub(super) fn reopen(disks: &[PrivateDisk], descriptor: &Descriptor) -> Result<Option<Open>> {
    let node = |index: u32, ino| disks.get(index as usize).context("its disk is missing")?.node(index, ino);
    Ok(Some(match descriptor {
        Descriptor::DiskDirectory { disk, ino, preopen, listing } => {
            let dir = node(*disk, *ino)?;
            ensure!(
                dir.disk().attributes(*ino).is_ok_and(|a| a.kind == Filetype::Directory),
                "it is no directory"
            );
            let (dir, listing) = (DirHandle::Disk(dir), listing.clone());
            Open::Directory(OpenDirectory { dir, preopen: *preopen, read_only: false, listing })
        }
        Descriptor::DiskFile { disk, ino, access, position } => {
            let file = node(*disk, *ino)?;
            ensure!(file.disk().size(*ino).is_ok(), "it is no file");
            let (access, position) = (*access, *position);
            let (file, kind) = (FileHandle::Disk(file), Filetype::RegularFile);
            Open::File(OpenFile { file, kind, read_only: false, access, position })
        }
        _ => return Ok(None),
    }))
}

/// What is on a disk must have a name, or be open.
pub(super) fn check_reachable(disks: &[PrivateDisk]) -> Result<()> {
    for PrivateDisk { guest, disk } in disks {
        ensure!(lock(disk).lost().next().is_none(), "the disk `{guest}` has files that nobody can reach");
    }
    Ok(())
}

impl Wasi {
    /// Gives the chunks of the private disks that are new since the last capture to `emit`; gives the blobs that
    /// they make up.
    ///
    /// # Errors
    /// `emit` failed, or the host's file that a disk is kept in. The next capture then emits everything.
    pub fn capture_disks(&mut self, emit: &mut Emit<'_>) -> Result<Vec<Blob>> {
        let mut blobs = vec![];
        for (index, PrivateDisk { guest, disk }) in self.disks.iter().enumerate() {
            let Image { data, meta } =
                lock(disk).capture(emit).with_context(|| format!("the disk `{guest}`"))?;
            for (name, (len, root)) in blob_names(index).into_iter().zip([data, meta]) {
                blobs.push(Blob { name, len, root });
            }
        }
        Ok(blobs)
    }

    /// Takes nothing of the private disks for stored: the next capture emits everything.
    pub fn forget_stored(&mut self) {
        self.disks.iter().for_each(|disk| lock(&disk.disk).forget_stored());
    }

    /// Whether the private disks hold what the guest has written.
    ///
    /// # Errors
    /// The host's file that a disk is kept in failed: what the guest reads is `Io` from then on, and no capture
    /// succeeds any more.
    pub fn check_disks(&self) -> Result<()> {
        for PrivateDisk { guest, disk } in &self.disks {
            if let Some(failure) = lock(disk).failure() {
                bail!("the disk `{guest}` is lost: the scratch file of a private disk failed: {failure}");
            }
        }
        Ok(())
    }

    /// The guest's names for its private disks.
    pub fn disks(&self) -> impl Iterator<Item = &str> {
        self.disks.iter().map(|disk| disk.guest.as_str())
    }

    /// Writes what has changed on a private disk since it was filled out to a directory of the host; each file
    /// appears whole. What a former one of this `owner`, of whom there is one at a time, has left half written is removed.
    ///
    /// # Errors
    /// There is no such disk, or a file cannot be written; what was written before stays.
    pub fn sync_out(&self, guest: &str, to: &Path, owner: &str) -> Result<Exported> {
        let disk = self.disks.iter().find(|disk| disk.guest == guest);
        let disk = disk.with_context(|| format!("the program has no private disk `{guest}`"))?;
        disk::sync_out(&lock(&disk.disk), to, owner)
    }
}
