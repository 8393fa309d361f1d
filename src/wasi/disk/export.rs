//! Writing what changed on a disk out to a directory of the host.

use std::{
    collections::{HashMap, HashSet},
    fs::File,
    os::unix::fs::FileExt,
    path::Path,
    rc::Rc,
};

use anyhow::{Context, Result, ensure};
use cap_fs_ext::DirExt;
use cap_std::fs::{Dir, OpenOptions};
use rustix::fs::futimens;

use super::{Disk, Ino, ROOT, fill::refused, inode::Node, lookup::PATH_MAX};
use crate::wasi::host::{self, Time, Times};

/// How much is copied at once.
const COPY: usize = 1 << 20;

/// What was written out.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Exported {
    /// Files; one with several names counts once.
    pub files: u64,
    /// Directories that were not there before.
    pub directories: u64,
    /// Symbolic links.
    pub symlinks: u64,
    /// Bytes of the files, holes included.
    pub bytes: u64,
}

/// What is still to be done.
enum Step {
    /// Write out what is on the disk as `ino`; all of it if `all`.
    Write { to: Rc<Dir>, name: String, ino: Ino, all: bool, path: String },
    /// All of a directory is written.
    Finish { dir: Rc<Dir>, mtim: u64, path: String },
}

/// Writes every file, directory and symbolic link that changed since the disk was filled to the directory `to`,
/// and keeps their times of change. Each file appears under its name when it is whole and on the host's disk. What
/// the guest removed is left alone, and nothing is written anywhere but in `to`, whatever links are in it.
///
/// What is not whole yet has a name that belongs to `owner`, of whom there is one at a time: if it dies, it finds that the
/// next time, and removes it.
///
/// # Errors
/// When something cannot be written; what was written before stays.
pub fn sync_out(disk: &Disk, to: &Path, owner: &str) -> Result<Exported> {
    let root = host::open_root(to).with_context(|| format!("{} cannot be opened", to.display()))?;
    let root = Rc::new(root);
    let temporary = format!(".wasm-ckpt-{}", &blake3::hash(owner.as_bytes()).to_hex()[..16]);
    let mut export = Export {
        disk,
        temporary,
        root: root.clone(),
        wanted: wanted(disk),
        linked: HashMap::new(),
        done: Exported::default(),
        steps: Vec::new(),
    };
    export.enter(root, ROOT, false, "");
    while let Some(step) = export.steps.pop() {
        match step {
            Step::Write { to, name, ino, all, path } => {
                let explain = || format!("`{path}` cannot be written out");
                export.write(to, &name, ino, all, &path).with_context(explain)?;
            }
            Step::Finish { dir, mtim, path } => {
                // Of a file that was to be written the last time, and is not now.
                drop(dir.remove_file_or_symlink(&export.temporary));
                let finish = || Ok::<_, anyhow::Error>((set_mtim(&*dir, mtim)?, rustix::fs::fsync(&*dir)?));
                finish().with_context(|| format!("directory `{path}` cannot be written out"))?;
            }
        }
    }
    Ok(export.done)
}

/// The directories in which something changed, at any depth.
fn wanted(disk: &Disk) -> HashSet<Ino> {
    let mut wanted = HashSet::new();
    for (ino, inode) in &disk.inodes {
        let Node::Directory { entries, .. } = &inode.node else { continue };
        let is_changed = |ino: &Ino| disk.inodes.get(ino).is_some_and(|inode| inode.changed);
        let mut at = *ino;
        if entries.values().any(is_changed) {
            // Up to what is known already.
            while wanted.insert(at) {
                match disk.inodes.get(&at).map(|inode| &inode.node) {
                    Some(Node::Directory { parent, .. }) => at = *parent,
                    _ => break,
                }
            }
        }
    }
    wanted
}

struct Export<'a> {
    disk: &'a Disk,
    /// The name of what is not whole yet.
    temporary: String,
    root: Rc<Dir>,
    wanted: HashSet<Ino>,
    /// The first path of files with several names. No open directory: there may be more than can be open.
    linked: HashMap<Ino, String>,
    done: Exported,
    steps: Vec<Step>,
}

impl Export<'_> {
    /// Plans the content of a directory.
    fn enter(&mut self, dir: Rc<Dir>, ino: Ino, all: bool, path: &str) {
        let Some(inode) = self.disk.inodes.get(&ino) else { return };
        let Node::Directory { entries, .. } = &inode.node else { return };
        if all || ino != ROOT && inode.changed || self.wanted.contains(&ino) {
            self.steps.push(Step::Finish {
                dir: dir.clone(),
                mtim: inode.times.mtim,
                path: path.to_string(),
            });
        }
        for (name, ino) in entries.iter().rev() {
            let changed = self.disk.inodes.get(ino).is_some_and(|inode| inode.changed);
            if all || changed || self.wanted.contains(ino) {
                let slash = if path.is_empty() { "" } else { "/" };
                let path = format!("{path}{slash}{name}");
                self.steps.push(Step::Write { to: dir.clone(), name: name.clone(), ino: *ino, all, path });
            }
        }
    }

    fn write(&mut self, to: Rc<Dir>, name: &str, ino: Ino, all: bool, path: &str) -> Result<()> {
        let inode = self.disk.inode(ino).map_err(refused)?;
        match &inode.node {
            Node::Directory { .. } => {
                match to.create_dir(name) {
                    Ok(()) => self.done.directories += 1,
                    Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => {}
                    Err(e) => return Err(e.into()),
                }
                // For reading, so that it can be synced; never by way of a link.
                let opened = host::open(&to, name, host::How { read: true, ..Default::default() });
                let host::Opened::Directory(dir) = opened.map_err(host_refused)? else {
                    anyhow::bail!("there is something else of that name");
                };
                // What is below a directory that is new or was renamed has a new path.
                self.enter(Rc::new(dir), ino, all || inode.changed, path);
                return Ok(());
            }
            Node::Symlink(target) => {
                self.replace(&to, name, |to, temporary| Ok(to.symlink_contents(target, temporary)?))?;
                set_symlink_mtim(&to, name, inode.times.mtim)?;
                self.done.symlinks += 1;
            }
            Node::File(_) => {
                if let Some(first) = self.linked.get(&ino) {
                    return self.replace(&to, name, |to, temporary| {
                        Ok(self.root.hard_link(first, to, temporary)?)
                    });
                }
                let disk = self.disk;
                self.replace(&to, name, |to, temporary| write_file(disk, ino, to, name, temporary))?;
                self.done.files += 1;
                self.done.bytes += inode.size();
                // What the host cannot find by its path is written once more under its other names.
                if inode.links > 1 && path.len() <= PATH_MAX {
                    self.linked.insert(ino, path.to_string());
                }
            }
        }
        Ok(())
    }

    /// Makes something under a name of its own, and then gives it its name in place of what has it.
    fn replace(&self, to: &Dir, name: &str, make: impl FnOnce(&Dir, &str) -> Result<()>) -> Result<()> {
        let temporary = &self.temporary;
        drop(to.remove_file_or_symlink(temporary));
        let result = make(to, temporary).and_then(|()| Ok(to.rename(temporary, to, name)?));
        if result.is_err() {
            drop(to.remove_file_or_symlink(temporary));
        }
        result
    }
}

fn host_refused(errno: crate::wasi::Errno) -> anyhow::Error {
    anyhow::anyhow!("the host says {errno:?}")
}

fn write_file(disk: &Disk, ino: Ino, to: &Dir, name: &str, temporary: &str) -> Result<()> {
    let file: File = to.open_with(temporary, OpenOptions::new().write(true).create_new(true))?.into_std();
    let Node::File(content) = &disk.inode(ino).map_err(refused)?.node else {
        anyhow::bail!("it is no file");
    };
    file.set_len(content.size)?;
    let mut buffer = vec![0; COPY];
    for (block, run) in content.extents.iter() {
        let mut at = u64::from(block) * super::BLOCK;
        let end = content.size.min(at + u64::from(run.len) * super::BLOCK);
        while at < end {
            let part = &mut buffer[..(end - at).min(COPY as u64) as usize];
            let n = disk.read_at(ino, part, at).map_err(refused)?;
            ensure!(n == part.len(), "its size changed");
            file.write_all_at(part, at)?;
            at += n as u64;
        }
    }
    // What is replaced gives its permissions.
    if let Ok(old) = to.symlink_metadata(name)
        && old.is_file()
    {
        use std::os::unix::fs::PermissionsExt;
        let mode = cap_std::fs::MetadataExt::mode(&old) & 0o777;
        file.set_permissions(std::fs::Permissions::from_mode(mode))?;
    }
    set_mtim(&file, disk.inode(ino).map_err(refused)?.times.mtim)?;
    Ok(file.sync_all()?)
}

fn times(mtim: u64) -> Times {
    Times { access: None, modification: Some(Time::At(mtim)) }
}

fn set_mtim(open: impl std::os::fd::AsFd, mtim: u64) -> Result<()> {
    Ok(futimens(open, &times(mtim).timestamps())?)
}

fn set_symlink_mtim(dir: &Dir, name: &str, mtim: u64) -> Result<()> {
    Ok(host::set_times(dir, name, times(mtim), false)?)
}
