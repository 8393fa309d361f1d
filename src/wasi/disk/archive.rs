//! Filling a disk from a tar archive.

use std::{
    io::Read,
    path::{Component, Path},
};

use anyhow::{Context, Result, bail, ensure};
use tar::{Archive, Entry, EntryType};

use super::{
    Disk, Filled, Ino, ROOT,
    fill::{copy, refused},
    inode::Node,
};
use crate::snapshot::limits::LEN_MAX;

/// Fills `disk` with what is in the archive `from` (not compressed): regular files, also sparse ones, directories,
/// symbolic links as they are, hard links; times of change are kept. What comes again replaces what came before.
/// Nothing counts as changed then.
///
/// # Errors
/// When the archive cannot be read, something has an absolute path or one with `..` or through a symbolic
/// link, is of another kind, or there is no room.
pub fn from_tar(disk: &mut Disk, from: impl Read) -> Result<Filled> {
    let mut filled = Filled::default();
    let mut directories = Vec::new();
    let mut archive = Archive::new(from);
    let entries = archive.entries().context("the archive cannot be read")?;
    for entry in entries {
        let mut entry = entry.context("the archive cannot be read")?;
        let path = entry.path().context("a name in the archive")?.into_owned();
        let explain = || format!("{} cannot be taken over", path.display());
        take(disk, &mut entry, &path, &mut filled, &mut directories).with_context(explain)?;
    }
    // Now that all is in them; the last one of a name counts.
    for (ino, mtim) in directories {
        disk.stamp(ino, mtim);
    }
    disk.settle();
    Ok(filled)
}

fn take(
    disk: &mut Disk,
    entry: &mut Entry<'_, impl Read>,
    path: &Path,
    filled: &mut Filled,
    directories: &mut Vec<(Ino, u64)>,
) -> Result<()> {
    let kind = entry.header().entry_type();
    let mtim = mtim(entry)?;
    if kind == EntryType::XGlobalHeader {
        return Ok(());
    }
    let names = names(path)?;
    let Some((name, parents)) = names.split_last() else {
        ensure!(kind == EntryType::Directory, "it has no name");
        directories.push((ROOT, mtim));
        return Ok(());
    };
    let mut dir = ROOT;
    for name in parents {
        dir = directory(disk, dir, name, mtim, filled)?.0;
    }
    if kind == EntryType::Directory {
        let ino = directory(disk, dir, name, mtim, filled)?.0;
        directories.push((ino, mtim));
        return Ok(());
    }
    // What a hard link is made of may be what it replaces.
    let linked = match kind {
        EntryType::Link => {
            let target = entry.link_name()?.context("it is a hard link to nothing")?;
            Some(
                find(disk, &target)?
                    .with_context(|| format!("{} did not come before it", target.display()))?,
            )
        }
        _ => None,
    };
    if let Some(old) = disk.entry(dir, name).map_err(refused)? {
        if linked == Some(old) {
            return Ok(());
        }
        ensure!(!disk.inode(old).map_err(refused)?.is_directory(), "there is a directory of that name");
        disk.unlink(dir, name, mtim).map_err(refused)?;
    }
    let ino = match (kind, linked) {
        (_, Some(ino)) => {
            ensure!(!disk.inode(ino).map_err(refused)?.is_directory(), "it is a hard link to a directory");
            return disk.add_name(ino, dir, name, mtim).map_err(refused);
        }
        (EntryType::Regular | EntryType::Continuous | EntryType::GNUSparse, None) => {
            let size = entry.size();
            ensure!(size <= LEN_MAX, "it has {size} bytes");
            let ino = disk.new_file(dir, name, mtim)?;
            let came = copy(disk, ino, entry, 0, mtim)?;
            ensure!(came == size, "the archive ends within it");
            disk.set_len(ino, size, mtim).map_err(refused)?;
            filled.files += 1;
            filled.bytes += size;
            ino
        }
        (EntryType::Symlink, None) => {
            let target = entry.link_name()?.context("it is a symbolic link to nothing")?;
            filled.symlinks += 1;
            disk.new_symlink(dir, name, target.to_str().context("its target is not UTF-8")?, mtim)?
        }
        (other, None) => bail!("it is neither a file, a directory nor a link ({other:?})"),
    };
    disk.stamp(ino, mtim);
    Ok(())
}

/// The names that a path is made of.
fn names(path: &Path) -> Result<Vec<&str>> {
    let mut names = Vec::new();
    for part in path.components() {
        match part {
            Component::CurDir => {}
            Component::Normal(name) => names.push(name.to_str().context("its name is not UTF-8")?),
            _ => bail!("its path leads out of the disk"),
        }
    }
    ensure!(names.iter().all(|name| super::records::is_name(name)), "no file can have that name");
    Ok(names)
}

/// The directory of that name, made if there is none; and whether it was.
fn directory(disk: &mut Disk, dir: Ino, name: &str, mtim: u64, filled: &mut Filled) -> Result<(Ino, bool)> {
    if let Some(ino) = disk.entry(dir, name).map_err(refused)? {
        let is_directory = disk.inode(ino).map_err(refused)?.is_directory();
        ensure!(is_directory, "`{name}` on its way is no directory");
        return Ok((ino, false));
    }
    filled.directories += 1;
    Ok((disk.new_directory(dir, name, mtim)?, true))
}

/// What has a path, which leads over directories only.
fn find(disk: &Disk, path: &Path) -> Result<Option<Ino>> {
    let mut ino = ROOT;
    for name in names(path)? {
        let Node::Directory { entries, .. } = &disk.inode(ino).map_err(refused)?.node else {
            return Ok(None);
        };
        match entries.get(name) {
            Some(next) => ino = *next,
            None => return Ok(None),
        }
    }
    Ok(Some(ino))
}

/// The time of the last change of content, in ns since 1970.
fn mtim(entry: &mut Entry<'_, impl Read>) -> Result<u64> {
    let seconds = entry.header().mtime().unwrap_or(0);
    let mut mtim = seconds.saturating_mul(1_000_000_000);
    if let Some(extensions) = entry.pax_extensions()? {
        for extension in extensions {
            let extension = extension?;
            if extension.key() == Ok("mtime")
                && let Some(found) = extension.value().ok().and_then(nanos)
            {
                mtim = found;
            }
        }
    }
    Ok(mtim)
}

/// Seconds with decimals, in ns.
fn nanos(text: &str) -> Option<u64> {
    let (seconds, decimals) = text.split_once('.').unwrap_or((text, ""));
    let seconds: u64 = seconds.parse().ok()?;
    let decimals: String = decimals.chars().chain("000000000".chars()).take(9).collect();
    seconds.checked_mul(1_000_000_000)?.checked_add(decimals.parse().ok()?)
}
