//! Where a path leads.
//!
//! As Linux does it for `openat2` with `RESOLVE_BENEATH`, and `cap-std` on top of that: nothing leads above
//! the directory in which a path starts, neither `..` nor an absolute path or link (`Perm`).

use std::path::{Component, Path};

use super::{Disk, Ino, NAME_MAX, inode::Node};
use crate::wasi::Errno;

/// Longest path or target of a symbolic link, in bytes (Linux: `PATH_MAX` with its NUL).
pub(super) const PATH_MAX: usize = 4095;
/// Most symbolic links on the way of one path (Linux: `MAXSYMLINKS`).
const LINKS_MAX: u32 = 40;

/// How a path is walked.
#[derive(Debug, Clone, Copy)]
pub(super) struct Way {
    /// Follow a symbolic link at its end.
    pub follow: bool,
    /// What is at its end may be made: a slash there is `Isdir`.
    pub create: bool,
}

/// Where a path leads.
#[derive(Debug)]
pub(super) struct End {
    /// The directory of the last name.
    pub dir: Ino,
    /// The last name; none after `.` or `..`.
    pub name: Option<String>,
    /// What is there.
    pub found: Option<Ino>,
    /// It must be a directory, by a slash at the end.
    pub directory: bool,
}

impl Disk {
    /// Walks `path` from `start`.
    pub(super) fn walk(&self, start: Ino, path: &str, way: Way) -> Result<End, Errno> {
        check_path(path)?;
        let (mut dir, mut links, mut follow, mut directory) = (start, 0, way.follow, false);
        if path.starts_with('/') {
            return Err(Errno::Perm);
        }
        let mut pending: Vec<&str> = path.rsplit('/').filter(|name| !name.is_empty()).collect();
        let mut slash = path.ends_with('/');
        while let Some(name) = pending.pop() {
            let last = pending.is_empty();
            if name == "." || name == ".." {
                if name == ".." {
                    dir = if dir == start { Err(Errno::Perm) } else { self.parent(dir) }?;
                }
                if last {
                    return Ok(End { dir, name: None, found: Some(dir), directory });
                }
                continue;
            }
            if last && slash {
                if way.create {
                    return Err(Errno::Isdir);
                }
                (follow, directory) = (true, true);
            }
            let Some(ino) = self.entry(dir, name)? else {
                let end = End { dir, name: Some(name.to_string()), found: None, directory };
                return if last { Ok(end) } else { Err(Errno::Noent) };
            };
            match &self.inode(ino)?.node {
                Node::Symlink(target) if !last || follow => {
                    links += 1;
                    if links > LINKS_MAX {
                        return Err(Errno::Loop);
                    }
                    if target.starts_with('/') {
                        return Err(Errno::Perm);
                    }
                    if last {
                        slash = target.ends_with('/');
                    }
                    pending.extend(target.rsplit('/').filter(|name| !name.is_empty()));
                }
                _ if last => {
                    return Ok(End { dir, name: Some(name.to_string()), found: Some(ino), directory });
                }
                Node::Directory { .. } => dir = ino,
                Node::File(_) | Node::Symlink(_) => return Err(Errno::Notdir),
            }
        }
        Err(Errno::Noent)
    }

    /// What is at `path`.
    pub(super) fn find(&self, start: Ino, path: &str, follow: bool) -> Result<Ino, Errno> {
        let end = self.walk(start, path, Way { follow, create: false })?;
        let ino = end.found.ok_or(Errno::Noent)?;
        if end.directory && !self.inode(ino)?.is_directory() {
            return Err(Errno::Notdir);
        }
        Ok(ino)
    }

    /// The directory in which the last name of `path` is, and that name; `.` if the path can only mean a
    /// directory. Cuts as `cap-std` does, which is not at each slash.
    pub(super) fn split<'p>(&self, start: Ino, path: &'p str) -> Result<(Ino, &'p str), Errno> {
        if path.is_empty() {
            return Err(Errno::Noent);
        }
        let mut parts = Path::new(path).components();
        let (parent, name) = match parts.next_back() {
            Some(Component::Normal(name)) if !ends_as_directory(path) => {
                (parts.as_path().to_str(), name.to_str().unwrap_or("."))
            }
            Some(Component::CurDir) if !ends_as_directory(path) => (parts.as_path().to_str(), "."),
            _ => (Some(path), "."),
        };
        let parent = parent.unwrap_or(path);
        if parent.is_empty() {
            return Ok((start, name));
        }
        let dir = self.find(start, parent, true)?;
        if !self.inode(dir)?.is_directory() {
            return Err(Errno::Notdir);
        }
        Ok((dir, name))
    }

    /// What has the name `name` in a directory.
    pub(super) fn entry(&self, dir: Ino, name: &str) -> Result<Option<Ino>, Errno> {
        let inode = self.inode(dir)?;
        let Node::Directory { entries, .. } = &inode.node else { return Err(Errno::Notdir) };
        if inode.links == 0 {
            return Err(Errno::Noent);
        }
        if name.len() > NAME_MAX {
            return Err(Errno::Nametoolong);
        }
        Ok(entries.get(name).copied())
    }

    fn parent(&self, dir: Ino) -> Result<Ino, Errno> {
        match self.inode(dir)?.node {
            Node::Directory { parent, .. } => Ok(parent),
            _ => Err(Errno::Notdir),
        }
    }

    /// Whether `dir` is `above` or somewhere in it.
    pub(super) fn is_within(&self, dir: Ino, above: Ino) -> Result<bool, Errno> {
        let mut at = dir;
        loop {
            if at == above {
                return Ok(true);
            }
            let parent = self.parent(at)?;
            if parent == at {
                return Ok(false);
            }
            at = parent;
        }
    }
}

/// Refuses what cannot be given to Linux as a path.
pub(super) fn check_path(path: &str) -> Result<(), Errno> {
    match path {
        _ if path.contains('\0') => Err(Errno::Inval),
        "" => Err(Errno::Noent),
        _ if path.len() > PATH_MAX => Err(Errno::Nametoolong),
        _ => Ok(()),
    }
}

/// Whether the path ends in a slash, or in a dot behind one.
fn ends_as_directory(path: &str) -> bool {
    path.ends_with('/') || path.ends_with("/.")
}

/// The path without slashes at its end, unless it is nothing else.
pub(super) fn without_slashes(path: &str) -> &str {
    match path.trim_end_matches('/') {
        "" if !path.is_empty() => "/",
        rest => rest,
    }
}
