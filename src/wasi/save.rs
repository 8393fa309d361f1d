//! Taking the state out of a running guest's WASI side.

use std::{os::fd::AsFd, os::unix::ffi::OsStrExt};

use anyhow::{Context, Result};

use super::{
    RootDir, Wasi,
    disknode::DiskNode,
    disks::DiskState,
    fdtable::{Open, OpenDirectory, OpenFile},
    handle::{DirHandle, FileHandle, HostDir},
    host,
    hostfile::HostFile,
    state::{
        Descriptor, DirectoryState, FileIdentity, FileState, NAMELESS_LEN_MAX, Nameless, Place, Root, State,
        VERSION, guest_path,
    },
    types::{Attributes, Filetype},
    unsynced::{UnsyncedFiles, sync_file},
};

impl Wasi {
    /// The state, as the version and bytes of a snapshot's section.
    ///
    /// # Errors
    /// An open file cannot be examined, or the state is too large (a directory of millions of names that
    /// is being read).
    pub fn save(&self) -> Result<(u32, Vec<u8>)> {
        Ok((VERSION, self.state()?.encode()?))
    }

    /// The state as a value.
    ///
    /// # Errors
    /// An open file cannot be examined.
    pub fn state(&self) -> Result<State> {
        let descriptors = self
            .fds
            .iter()
            .map(|(fd, open)| {
                let state = self.describe(open).with_context(|| format!("descriptor {fd}"))?;
                Ok((fd, state))
            })
            .collect::<Result<Vec<_>>>()?;
        Ok(State {
            args: self.args.clone(),
            env: self.env.clone(),
            roots: self.roots.iter().map(RootDir::state).collect(),
            numbers: self.fds.numbers(),
            descriptors,
            nameless: self.nameless()?,
            streams: self.streams.state.clone(),
            clock: self.clock.saved(),
            random: self.random.clone(),
            wait: self.wait,
            exit_code: self.exit_code,
            inputs: self.inputs.saved(),
            appended: self.appended.saved(&self.roots),
            disks: self.disks.iter().map(|disk| DiskState { guest: disk.guest.clone() }).collect(),
        })
    }

    fn describe(&self, open: &Open) -> Result<Descriptor> {
        Ok(match open {
            Open::Stream(stream) => Descriptor::Stream(*stream),
            Open::Directory(open) => {
                let OpenDirectory { dir, preopen, read_only: _, listing } = open;
                let HostDir { dir, place } = match dir {
                    DirHandle::Host(dir) => dir,
                    DirHandle::Disk(DiskNode { index, ino, .. }) => {
                        let (disk, ino, preopen, listing) = (*index, *ino, *preopen, listing.clone());
                        return Ok(Descriptor::DiskDirectory { disk, ino, preopen, listing });
                    }
                };
                let (place, gone) = if *preopen {
                    (place.clone(), false)
                } else {
                    let found = host::attributes(&**dir)?;
                    locate(&self.roots, place, &**dir, &(&found).into())
                };
                let listing = listing.clone();
                Descriptor::Directory(DirectoryState { place, gone, preopen: *preopen, listing })
            }
            Open::File(open) => {
                let OpenFile { file, kind, read_only: _, access, position } = open;
                let HostFile { file, place, written } = match file {
                    FileHandle::Host(file) => file,
                    FileHandle::Disk(DiskNode { index, ino, .. }) => {
                        let (disk, ino, access, position) = (*index, *ino, *access, *position);
                        return Ok(Descriptor::DiskFile { disk, ino, access, position });
                    }
                };
                let found = host::attributes(file)?;
                let mut identity = FileIdentity::from(&found);
                let (place, gone) = if found.nlink == 0 {
                    (place.clone(), true)
                } else {
                    locate(&self.roots, place, file, &identity)
                };
                if *kind == Filetype::CharacterDevice {
                    // The device is the same everywhere; its numbers and times are not.
                    identity = FileIdentity { dev: 0, ino: 0, size: 0, mtime: (0, 0) };
                }
                let (kind, access, position, written) = (*kind, *access, *position, *written);
                Descriptor::File(FileState { place, gone, kind, access, position, written, identity })
            }
        })
    }

    /// The files without a name that fit into the state.
    fn nameless(&self) -> Result<Vec<Nameless>> {
        let (mut kept, mut room) = (Vec::<Nameless>::new(), NAMELESS_LEN_MAX);
        for (fd, open) in self.fds.iter() {
            let Open::File(OpenFile { file: FileHandle::Host(HostFile { file, .. }), .. }) = open else {
                continue;
            };
            let Attributes { dev, ino, size, nlink, .. } = host::attributes(file)?;
            let known = kept.iter().any(|file| (file.dev, file.ino) == (dev, ino));
            if nlink > 0 || known || size > room {
                continue;
            }
            room -= size;
            let content = host::content(file, size)
                .with_context(|| format!("descriptor {fd}: a file without a name cannot be read"))?;
            kept.push(Nameless { dev, ino, content });
        }
        Ok(kept)
    }

    /// Waits until what the guest has changed in directories of the host is on their disks, so that a power cut after
    /// the snapshot takes nothing of it away.
    ///
    /// # Errors
    /// A disk does not take the data.
    pub fn sync_files(&mut self) -> Result<()> {
        self.unsynced_files()?.sync()
    }

    /// What [`Wasi::sync_files`] waits for, to be waited for while the guest runs on. What was not synced is there the
    /// next time as well.
    ///
    /// # Errors
    /// A disk does not take the data.
    pub fn unsynced_files(&mut self) -> Result<UnsyncedFiles> {
        let mut files = self.unsynced.files();
        for (_, open) in self.fds.iter() {
            if let Open::File(OpenFile { file: FileHandle::Host(open), kind, .. }) = open
                && open.written.end.is_some()
                && *kind == Filetype::RegularFile
            {
                let path = &open.place.path;
                match open.file.try_clone() {
                    Ok(file) => files.add(path.clone(), file),
                    // No descriptors are left.
                    Err(_) => {
                        sync_file(&open.file).with_context(|| format!("`{path}` cannot be synced"))?;
                    }
                }
            }
        }
        Ok(files)
    }
}

/// Where something open is to be found: where it was opened, or where the host says that it was moved to. The
/// second result tells that it is at neither.
pub(super) fn locate(
    roots: &[RootDir],
    place: &Place,
    open: &impl AsFd,
    identity: &FileIdentity,
) -> (Place, bool) {
    let Some(root) = roots.get(place.root as usize) else { return (place.clone(), true) };
    let is_at = |path: &str| {
        host::attributes_at(&root.dir, or_dot(path), true)
            .is_ok_and(|found| FileIdentity::from(&found).same_file(identity))
    };
    if is_at(&place.path) {
        return (place.clone(), false);
    }
    match host::path_of(&root.dir, open) {
        Some(path) if is_at(&path) => (Place { root: place.root, path }, false),
        _ => (place.clone(), true),
    }
}

/// A path that the host understands: a directory itself is `.`.
pub(super) fn or_dot(path: &str) -> &str {
    if path.is_empty() { "." } else { path }
}

impl RootDir {
    fn state(&self) -> Root {
        let Self { guest, host, read_only, dir: _ } = self;
        Root { guest: guest.clone(), host: host.as_os_str().as_bytes().to_vec(), read_only: *read_only }
    }

    /// The guest's name for a place in this directory.
    pub(super) fn guest_path(&self, place: &Place) -> String {
        guest_path(&self.guest, &place.path)
    }
}
