//! What is about names: opening, making, removing, renaming.

use std::collections::BTreeMap;

use super::{
    Disk, INODES_MAX, Ino, LINKS_MAX, Opened,
    inode::{Content, Inode, Node},
    lookup::{Way, check_path, without_slashes},
};
use crate::wasi::{Errno, host::How, types::Attributes};

impl Disk {
    /// Opens what is at `path`. The caller [`Disk::retain`]s it.
    pub(in crate::wasi) fn open(
        &mut self,
        dir: Ino,
        path: &str,
        how: How,
        now: u64,
    ) -> Result<Opened, Errno> {
        let How { read, write, create, exclusive, truncate, follow } = how;
        if !read && !write || !write && (create || truncate) {
            return Err(Errno::Inval);
        }
        let exclusive = create && exclusive;
        let end = self.walk(dir, path, Way { follow: follow && !exclusive, create })?;
        let Some(ino) = end.found else {
            let name = end.name.filter(|_| create).ok_or(Errno::Noent)?;
            return self.make(end.dir, &name, Node::File(Content::default()), now).map(Opened::File);
        };
        let inode = self.inode(ino)?;
        if create && exclusive {
            return Err(Errno::Exist);
        }
        if create && inode.is_directory() {
            return Err(Errno::Isdir);
        }
        match inode.node {
            Node::File(_) | Node::Symlink(_) if end.directory => Err(Errno::Notdir),
            Node::Symlink(_) => Err(Errno::Loop),
            Node::Directory { .. } if write => Err(Errno::Isdir),
            Node::Directory { .. } => Ok(Opened::Directory(ino)),
            Node::File(_) => {
                if truncate {
                    self.set_len(ino, 0, now)?;
                }
                Ok(Opened::File(ino))
            }
        }
    }

    /// Attributes of what is at a path.
    pub(in crate::wasi) fn attributes_at(
        &self,
        dir: Ino,
        path: &str,
        follow: bool,
    ) -> Result<Attributes, Errno> {
        // A path of one name is not looked at more closely by `cap-std` when links are not followed: a slash
        // at its end means nothing.
        let mut names = std::path::Path::new(path).components();
        if !follow
            && let (Some(std::path::Component::Normal(name)), None) = (names.next(), names.next())
            && let Some(name) = name.to_str()
        {
            check_path(name)?;
            return self.attributes(self.entry(dir, name)?.ok_or(Errno::Noent)?);
        }
        self.attributes(self.find(dir, path, follow)?)
    }

    /// Makes a directory.
    pub fn create_dir(&mut self, dir: Ino, path: &str, now: u64) -> Result<(), Errno> {
        let (dir, name) = self.split(dir, without_slashes(path))?;
        let node = Node::Directory { entries: BTreeMap::new(), parent: dir };
        self.make(dir, name, node, now).map(drop)
    }

    /// Makes a symbolic link with this target; an absolute one is `Perm`.
    pub fn symlink(&mut self, target: &str, dir: Ino, path: &str, now: u64) -> Result<(), Errno> {
        if target.starts_with('/') {
            return Err(Errno::Perm);
        }
        let (dir, name) = self.split(dir, path)?;
        if target.contains('\0') || name.contains('\0') {
            return Err(Errno::Inval);
        }
        check_path(target)?;
        self.make(dir, name, Node::Symlink(target.to_string()), now).map(drop)
    }

    /// Reads a symbolic link; an absolute one is `Perm`.
    pub fn read_link(&self, dir: Ino, path: &str) -> Result<&str, Errno> {
        let (dir, name) = self.split(dir, path)?;
        match &self.inode(self.named(dir, name)?)?.node {
            Node::Symlink(target) if target.starts_with('/') => Err(Errno::Perm),
            Node::Symlink(target) => Ok(target),
            _ => Err(Errno::Inval),
        }
    }

    /// Makes one more name for a file.
    pub fn hard_link(&mut self, dir: Ino, path: &str, dir2: Ino, path2: &str, now: u64) -> Result<(), Errno> {
        let ((dir, name), (dir2, name2)) = (self.split(dir, path)?, self.split(dir2, path2)?);
        check_names(name, name2)?;
        self.add_name(self.named(dir, name)?, dir2, name2, now)
    }

    /// Gives an inode one more name.
    pub(super) fn add_name(&mut self, ino: Ino, dir: Ino, name: &str, now: u64) -> Result<(), Errno> {
        self.check_vacant(dir, name)?;
        let inode = self.inode(ino)?;
        if inode.is_directory() {
            return Err(Errno::Perm);
        }
        if inode.links >= LINKS_MAX {
            return Err(Errno::Mlink);
        }
        let inode = self.inode_mut(ino)?;
        inode.links += 1;
        inode.times.ctim = now;
        inode.changed = true;
        self.put_entry(dir, name, Some(ino), now)
    }

    /// Removes a file or symbolic link.
    pub fn unlink(&mut self, dir: Ino, path: &str, now: u64) -> Result<(), Errno> {
        let (dir, name) = self.split(dir, path)?;
        check_path(name)?;
        if name == "." {
            return Err(Errno::Isdir);
        }
        let ino = self.entry(dir, name)?.ok_or(Errno::Noent)?;
        if self.inode(ino)?.is_directory() {
            return Err(Errno::Isdir);
        }
        self.put_entry(dir, name, None, now)?;
        self.lose_name(ino, now)
    }

    /// Removes an empty directory.
    pub fn remove_dir(&mut self, dir: Ino, path: &str, now: u64) -> Result<(), Errno> {
        let (dir, name) = self.split(dir, path)?;
        check_path(name)?;
        if name == "." {
            return Err(Errno::Inval);
        }
        let ino = self.entry(dir, name)?.ok_or(Errno::Noent)?;
        self.check_empty(ino)?;
        self.put_entry(dir, name, None, now)?;
        self.lose_name(ino, now)
    }

    /// Renames a file or directory, replacing what has the new name.
    pub fn rename(&mut self, dir: Ino, path: &str, dir2: Ino, path2: &str, now: u64) -> Result<(), Errno> {
        let (dir, name) = self.split(dir, without_slashes(path))?;
        let (dir2, name2) = self.split(dir2, without_slashes(path2))?;
        check_names(name, name2)?;
        if name == "." || name2 == "." {
            return Err(Errno::Busy);
        }
        let ino = self.entry(dir, name)?.ok_or(Errno::Noent)?;
        let replaced = self.entry(dir2, name2)?;
        let is_directory = self.inode(ino)?.is_directory();
        if !is_directory && path.ends_with('/') {
            return Err(Errno::Notdir);
        }
        // A directory into itself, or onto one that it is in.
        if dir != dir2 && is_directory && self.is_within(dir2, ino)? {
            return Err(Errno::Inval);
        }
        if let Some(replaced) = replaced {
            let onto_directory = self.inode(replaced)?.is_directory();
            if dir != dir2 && onto_directory && self.is_within(dir, replaced)? {
                return Err(Errno::Notempty);
            }
            match (is_directory, onto_directory) {
                _ if replaced == ino => return Ok(()),
                (false, true) => return Err(Errno::Isdir),
                (true, _) => self.check_empty(replaced)?,
                (false, false) => {}
            }
        }
        self.put_entry(dir, name, None, now)?;
        self.put_entry(dir2, name2, Some(ino), now)?;
        let inode = self.inode_mut(ino)?;
        inode.times.ctim = now;
        inode.changed = true;
        if let Node::Directory { parent, .. } = &mut inode.node {
            *parent = dir2;
        }
        replaced.map_or(Ok(()), |replaced| self.lose_name(replaced, now))
    }

    /// Sets times of what is at a path.
    pub fn set_times_at(
        &mut self,
        dir: Ino,
        path: &str,
        follow: bool,
        atim: Option<u64>,
        mtim: Option<u64>,
        now: u64,
    ) -> Result<(), Errno> {
        if follow {
            return self.set_times(self.find(dir, path, true)?, atim, mtim, now);
        }
        let (dir, name) = self.split(dir, path)?;
        if name.contains('\0') {
            return Err(Errno::Inval);
        }
        if atim.is_none() && mtim.is_none() {
            return Ok(());
        }
        self.set_times(self.named(dir, name)?, atim, mtim, now)
    }

    /// Sets times of what is open, in ns since 1970.
    pub fn set_times(
        &mut self,
        ino: Ino,
        atim: Option<u64>,
        mtim: Option<u64>,
        now: u64,
    ) -> Result<(), Errno> {
        if atim.is_none() && mtim.is_none() {
            return self.inode(ino).map(drop);
        }
        let inode = self.inode_mut(ino)?;
        inode.times.atim = atim.unwrap_or(inode.times.atim);
        inode.times.mtim = mtim.unwrap_or(inode.times.mtim);
        inode.times.ctim = now;
        inode.changed = true;
        Ok(())
    }

    /// What has a name in a directory; `.` is the directory itself.
    fn named(&self, dir: Ino, name: &str) -> Result<Ino, Errno> {
        check_path(name)?;
        if name == "." { Ok(dir) } else { self.entry(dir, name)?.ok_or(Errno::Noent) }
    }

    /// Something new can have this name.
    fn check_vacant(&self, dir: Ino, name: &str) -> Result<(), Errno> {
        check_path(name)?;
        if name == "." || self.entry(dir, name)?.is_some() { Err(Errno::Exist) } else { Ok(()) }
    }

    fn check_empty(&self, ino: Ino) -> Result<(), Errno> {
        match &self.inode(ino)?.node {
            Node::Directory { entries, .. } if entries.is_empty() => Ok(()),
            Node::Directory { .. } => Err(Errno::Notempty),
            _ => Err(Errno::Notdir),
        }
    }

    /// Makes something new with this name.
    pub(super) fn make(&mut self, dir: Ino, name: &str, node: Node, now: u64) -> Result<Ino, Errno> {
        self.check_vacant(dir, name)?;
        if self.inodes.len() as u64 >= INODES_MAX || self.next == u64::MAX {
            return Err(Errno::Nospc);
        }
        let ino = self.next;
        self.next += 1;
        self.inodes.insert(ino, Inode::new(node, now));
        self.put_entry(dir, name, Some(ino), now)?;
        Ok(ino)
    }

    /// Gives a name to `ino`, or takes it away; the count of `..` of a directory goes with it.
    fn put_entry(&mut self, dir: Ino, name: &str, ino: Option<Ino>, now: u64) -> Result<(), Errno> {
        let subdirectory =
            |disk: &Self, ino: Ino| disk.inode(ino).map(|inode| u32::from(inode.is_directory()));
        let more = ino.map_or(Ok(0), |ino| subdirectory(self, ino))?;
        let parent = self.inode_mut(dir)?;
        let Node::Directory { entries, .. } = &mut parent.node else { return Err(Errno::Notdir) };
        let old = match ino {
            Some(ino) => entries.insert(name.to_string(), ino),
            None => entries.remove(name),
        };
        parent.times.mtim = now;
        parent.times.ctim = now;
        parent.links += more;
        let less = old.map_or(Ok(0), |old| subdirectory(self, old))?;
        self.inode_mut(dir)?.links -= less;
        Ok(())
    }

    /// One name less; the last one takes the inode with it, unless someone has it open.
    fn lose_name(&mut self, ino: Ino, now: u64) -> Result<(), Errno> {
        let inode = self.inode_mut(ino)?;
        inode.times.ctim = now;
        inode.links -= 1;
        if let Node::Directory { parent, .. } = &mut inode.node {
            inode.links = 0;
            *parent = ino;
        }
        self.drop_unused(ino)
    }
}

/// Both names, as the system takes them before it looks at either.
fn check_names(a: &str, b: &str) -> Result<(), Errno> {
    if a.contains('\0') || b.contains('\0') {
        return Err(Errno::Inval);
    }
    check_path(a)?;
    check_path(b)
}
