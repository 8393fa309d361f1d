//! Looking into a disk that is in a snapshot, without loading what its files hold.

use anyhow::ensure;

use super::{
    BLOCK, Ino, ROOT,
    image::{Image, ImageError, check_len, load_metadata, owned},
    inode::{Inode, Node},
    records::Metadata,
};
use crate::{
    snapshot::{Fetch, read_range},
    wasi::Filetype,
};

/// Longest path, in bytes, of a directory that is listed. A guest can nest directories by the million, and all paths
/// together would be as long as their number squared.
const DEPTH_MAX: usize = 1 << 16;

/// The names of a stored disk, and where their content is.
#[derive(Debug)]
pub struct Listing {
    metadata: Metadata,
    image: Image,
}

/// Something on a stored disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Item<'a> {
    /// Where it is, from the root; empty for the root itself.
    pub path: String,
    /// Its inode number.
    pub ino: Ino,
    /// What it is.
    pub kind: Filetype,
    /// Its size in bytes.
    pub size: u64,
    /// How many names it has.
    pub nlink: u32,
    /// Time of the last change of its content, in ns since 1970.
    pub mtim: u64,
    /// Target, of a symbolic link.
    pub target: Option<&'a str>,
    /// It, or its name, changed since the disk was filled.
    pub changed: bool,
}

impl Listing {
    /// The names of the disk of a snapshot.
    ///
    /// # Errors
    /// What is wrong with the image, whatever its bytes are.
    pub fn load(image: Image, fetch: &mut Fetch<'_>) -> Result<Self, ImageError> {
        let (metadata, _) = load_metadata(image, fetch)?;
        check_len(image.data.0, &owned(&metadata.inodes)?)?;
        Ok(Self { metadata, image })
    }

    /// Most bytes that its files may take up.
    pub fn limit(&self) -> u64 {
        self.metadata.limit
    }

    /// Everything below the directory `from`, which comes first: a directory before what is in it, by name. What
    /// lies deeper than 64 KiB of path is left out.
    pub fn walk(&self, from: Item<'_>) -> impl Iterator<Item = Item<'_>> + '_ {
        let mut pending = vec![(from.path, from.ino)];
        std::iter::from_fn(move || {
            let (path, ino) = pending.pop()?;
            let inode = self.inode(ino)?;
            if let Node::Directory { entries, .. } = &inode.node
                && path.len() <= DEPTH_MAX
            {
                let slash = if path.is_empty() { "" } else { "/" };
                let below = entries.iter().rev().map(|(name, ino)| (format!("{path}{slash}{name}"), *ino));
                pending.extend(below);
            }
            Some(item(path, ino, inode))
        })
    }

    /// The root directory.
    pub fn root(&self) -> Option<Item<'_>> {
        Some(item(String::new(), ROOT, self.inode(ROOT)?))
    }

    /// What is at a path from the root, without following symbolic links; slashes and dots that mean nothing
    /// are passed over.
    pub fn lookup(&self, path: &str) -> Option<Item<'_>> {
        let (mut ino, mut found) = (ROOT, Vec::new());
        for name in path.split('/').filter(|name| !matches!(*name, "" | ".")) {
            let Node::Directory { entries, .. } = &self.inode(ino)?.node else { return None };
            ino = *entries.get(name)?;
            found.push(name);
        }
        Some(item(found.join("/"), ino, self.inode(ino)?))
    }

    /// Fills `out` from `offset` on; gives the number of bytes, which is less than asked for only at the end.
    /// Fetches only the chunks that they are in.
    ///
    /// # Errors
    /// When it is no file, or a chunk cannot be fetched or is not what it should be.
    pub fn read_at(
        &self,
        ino: Ino,
        out: &mut [u8],
        offset: u64,
        fetch: &mut Fetch<'_>,
    ) -> anyhow::Result<usize> {
        let inode = self.inode(ino);
        let Some(Node::File(content)) = inode.map(|inode| &inode.node) else {
            anyhow::bail!("inode {ino} is no file");
        };
        let n = content.size.saturating_sub(offset).min(out.len() as u64) as usize;
        let (mut at, mut rest) = (offset, &mut out[..n]);
        while !rest.is_empty() {
            let (block, into) = (at / BLOCK, at % BLOCK);
            let end = (at + rest.len() as u64).div_ceil(BLOCK);
            let (place, count) = content.extents.piece(u32::try_from(block)?, u32::try_from(end)?);
            ensure!(count > 0, "an empty extent");
            let len = (u64::from(count) * BLOCK - into).min(rest.len() as u64) as usize;
            let (part, behind) = rest.split_at_mut(len);
            match place {
                Some(place) => {
                    let (len, root) = self.image.data;
                    read_range(root, len, u64::from(place) * BLOCK + into, part, fetch)?;
                }
                None => part.fill(0),
            }
            at += len as u64;
            rest = behind;
        }
        Ok(n)
    }

    fn inode(&self, ino: Ino) -> Option<&Inode> {
        self.metadata.inodes.get(&ino)
    }
}

fn item(path: String, ino: Ino, inode: &Inode) -> Item<'_> {
    let target = match &inode.node {
        Node::Symlink(target) => Some(target.as_str()),
        _ => None,
    };
    Item {
        path,
        ino,
        kind: inode.kind(),
        size: inode.size(),
        nlink: inode.links,
        mtim: inode.times.mtim,
        target,
        changed: inode.changed,
    }
}
