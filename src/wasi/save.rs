//! Taking the state out of a running guest's WASI side.

use std::{fs::File, os::fd::AsFd, os::unix::ffi::OsStrExt};

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

/// Most names that are looked at, at a snapshot, for one of a file that has lost the name that it was opened by.
const SEARCH_MAX: usize = 1 << 18;

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
                    match found.nlink {
                        0 => (place.of_removed(), true),
                        _ => locate(&self.roots, place, &**dir, &(&found).into()),
                    }
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
                    locate_file(&self.roots, place, file, &identity)
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
    if roots.get(place.root as usize).is_some_and(|root| is_at(root, &place.path, identity)) {
        return (place.clone(), false);
    }
    let moved = alike(roots, place.root).find_map(|(number, root)| {
        let path = host::path_of(&root.dir, open).filter(|path| is_at(root, path, identity))?;
        Some(Place { root: number, path })
    });
    moved.map_or_else(|| (place.clone(), true), |place| (place, false))
}

/// [`locate`] for a file that has a name. It is searched for if that is not the one that it was opened by.
fn locate_file(roots: &[RootDir], place: &Place, file: &File, identity: &FileIdentity) -> (Place, bool) {
    let (located, gone) = locate(roots, place, file, identity);
    if !gone {
        return (located, false);
    }
    let mut left = SEARCH_MAX;
    let found = alike(roots, place.root).find_map(|(number, root)| {
        let path = host::search(&root.dir, identity.ino, &mut left, |path| is_at(root, path, identity))?;
        Some(Place { root: number, path })
    });
    found.map_or((located, true), |place| (place, false))
}

/// The directories in which something may be that was opened in one of them: first that one, then those in which the
/// guest may do the same.
fn alike(roots: &[RootDir], own: u32) -> impl Iterator<Item = (u32, &RootDir)> {
    let first = roots.get(own as usize);
    let same = move |(number, root): &(u32, &RootDir)| {
        *number != own && first.is_some_and(|first| first.read_only == root.read_only)
    };
    first.map(|root| (own, root)).into_iter().chain((0..).zip(roots).filter(same))
}

fn is_at(root: &RootDir, path: &str, identity: &FileIdentity) -> bool {
    let found = host::attributes_at(&root.dir, or_dot(path), true);
    found.is_ok_and(|found| FileIdentity::from(&found).same_file(identity))
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
