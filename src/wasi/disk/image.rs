//! A disk as contents of a snapshot, and back.

use std::{fs::File, os::unix::fs::FileExt};

use super::{
    BLOCK, Disk, Ino,
    blocks::BlockSet,
    extents::Run,
    inode::Node,
    records::{self, Decoder, Metadata},
    volume::Volume,
};
use crate::{
    digest::ChunkId,
    snapshot::{Dirty, Emit, Fetch, Tree, TreeError},
};

/// Most bytes that are written to the scratch file at once.
const GATHERED: usize = 1 << 20;

/// A disk in a snapshot: length in bytes and root of its two contents.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Image {
    /// What the files hold.
    pub data: (u64, ChunkId),
    /// Everything else.
    pub meta: (u64, ChunkId),
}

/// Why a disk cannot be restored.
#[derive(Debug, thiserror::Error)]
pub enum ImageError {
    /// A content cannot be read.
    #[error("the {content} of a disk cannot be read")]
    Tree {
        /// `data` or `metadata`.
        content: &'static str,
        /// What is wrong.
        #[source]
        cause: TreeError,
    },
    /// The bytes are not those of a disk.
    #[error("a disk is corrupt: {problem}")]
    Corrupt {
        /// What is wrong.
        problem: String,
    },
    /// It takes up more than it may.
    #[error("a disk of {len} bytes is over the limit of {most} bytes")]
    TooLarge {
        /// Bytes of its data.
        len: u64,
        /// How many it may have.
        most: u64,
    },
}

impl Disk {
    /// Gives the chunks that are new since the last capture to `emit`, and returns the contents that they make up.
    ///
    /// # Errors
    /// When `emit` fails, or the scratch file did; the next capture then emits everything.
    pub fn capture(&mut self, emit: &mut Emit<'_>) -> anyhow::Result<Image> {
        self.try_capture(emit).inspect_err(|_| self.forget_stored())
    }

    fn try_capture(&mut self, emit: &mut Emit<'_>) -> anyhow::Result<Image> {
        let data = self.volume.capture(emit)?;
        let len = match self.captured {
            Some(len) => len,
            None => {
                let bytes = records::encode(self.limit, self.next, &self.inodes)?;
                self.meta.update(&bytes, Dirty::All, emit)?;
                bytes.len() as u64
            }
        };
        self.captured = Some(len);
        Ok(Image { data, meta: (len, self.meta.root()) })
    }

    /// Takes nothing for stored, as after a failure of the store: the next capture emits everything.
    pub fn forget_stored(&mut self) {
        self.volume.forget_stored();
        self.meta = Tree::new();
        self.captured = None;
    }

    /// The disk of a snapshot. Its blocks, at most `most` bytes of them, are written to `scratch`, an empty file;
    /// `fetch` gives the chunks. Nothing is open: the caller [`Disk::retain`]s what is.
    ///
    /// # Errors
    /// What is wrong with the image, whatever its bytes are.
    pub fn restore(
        image: Image,
        dev: u64,
        most: u64,
        scratch: File,
        fetch: &mut Fetch<'_>,
    ) -> Result<Self, ImageError> {
        let (Metadata { limit, next, inodes }, meta) = load_metadata(image, fetch)?;
        let (len, root) = image.data;
        if len > most {
            return Err(ImageError::TooLarge { len, most });
        }
        let owned = owned(&inodes)?;
        check_len(len, &owned)?;
        let (tree, written) = load_data(root, len, &owned, &scratch, fetch)?;
        let used: Vec<Run> = owned.iter().map(|owned| owned.run).collect();
        let volume = Volume::loaded((limit / BLOCK) as u32, scratch, tree, written, &used);
        let is_ahead = |node: &Node| {
            matches!(node, Node::File(content)
                if u64::from(content.extents.end()) > content.size.div_ceil(BLOCK))
        };
        let ahead = inodes.iter().filter(|(_, inode)| is_ahead(&inode.node)).map(|(ino, _)| *ino).collect();
        Ok(Self { dev, limit, next, inodes, volume, ahead, meta, captured: Some(image.meta.0) })
    }
}

/// Reads and checks the metadata; gives it with its tree.
pub(super) fn load_metadata(image: Image, fetch: &mut Fetch<'_>) -> Result<(Metadata, Tree), ImageError> {
    let (len, root) = image.meta;
    let mut decoder = Decoder::default();
    let mut problem = None;
    let loaded = Tree::load(root, len, fetch, &mut |offset, page| {
        decoder.page(offset, page).map_err(|text| {
            problem = Some(text);
            anyhow::anyhow!("it is not as it should be")
        })
    });
    if let Some(problem) = problem {
        return Err(ImageError::Corrupt { problem });
    }
    loaded.map_err(|cause| ImageError::Tree { content: "metadata", cause })?;
    let metadata = decoder.finish(len).map_err(|problem| ImageError::Corrupt { problem })?;
    // One disk, one encoding. Its tree is the one that was read, if it is.
    let corrupt = |problem: &str| ImageError::Corrupt { problem: problem.to_string() };
    let again = records::encode(metadata.limit, metadata.next, &metadata.inodes);
    let again = again.map_err(|error| ImageError::Corrupt { problem: error.to_string() })?;
    let mut tree = Tree::new();
    let found = tree.update(&again, Dirty::All, &mut |_, _| Ok(()));
    if again.len() as u64 != len || found.ok() != Some(root) {
        return Err(corrupt("its metadata is not in the canonical encoding"));
    }
    Ok((metadata, tree))
}

/// Blocks of the volume, and whose they are.
pub(super) struct Owned {
    pub run: Run,
    /// Where they are in the file, in bytes.
    at: u64,
    /// Size of the file in bytes.
    size: u64,
}

/// All blocks in use, in ascending order.
pub(super) fn owned(
    inodes: &std::collections::BTreeMap<Ino, super::Inode>,
) -> Result<Vec<Owned>, ImageError> {
    let mut owned = Vec::new();
    for inode in inodes.values() {
        if let Node::File(content) = &inode.node {
            let of = |(at, run)| Owned { run, at: u64::from(at) * BLOCK, size: content.size };
            owned.extend(content.extents.iter().map(of));
        }
    }
    owned.sort_unstable_by_key(|owned| owned.run.start);
    let overlap = |pair: &&[Owned]| match pair {
        [a, b] => a.run.start + a.run.len > b.run.start,
        _ => false,
    };
    if owned.windows(2).any(|pair| overlap(&pair)) {
        return Err(ImageError::Corrupt { problem: "two files share a block".to_string() });
    }
    Ok(owned)
}

/// The data ends with the last block in use.
pub(super) fn check_len(len: u64, owned: &[Owned]) -> Result<(), ImageError> {
    let end = owned.last().map_or(0, |last| u64::from(last.run.start + last.run.len) * BLOCK);
    if len == end {
        return Ok(());
    }
    Err(ImageError::Corrupt { problem: format!("its data has {len} bytes, and its files take up {end}") })
}

/// Reads the data into the scratch file; what is in no file must be zeros.
fn load_data(
    root: ChunkId,
    len: u64,
    owned: &[Owned],
    scratch: &File,
    fetch: &mut Fetch<'_>,
) -> Result<(Tree, BlockSet), ImageError> {
    let (mut written, mut problem, mut owners) = (BlockSet::default(), None, owned.iter().peekable());
    let (mut start, mut gathered) = (0, Vec::new());
    let tree = Tree::load(root, len, fetch, &mut |offset, page| {
        let block = (offset / BLOCK) as u32;
        while owners.next_if(|owned| block >= owned.run.start + owned.run.len).is_some() {}
        // How many bytes of this block are content.
        let content = owners.peek().filter(|owned| block >= owned.run.start).map_or(0, |owned| {
            let at = owned.at + u64::from(block - owned.run.start) * BLOCK;
            owned.size.saturating_sub(at).min(BLOCK) as usize
        });
        if page.iter().skip(content).any(|byte| *byte != 0) {
            problem = Some(format!("bytes in block {block} that are in no file"));
            anyhow::bail!("it is not as it should be");
        }
        written.insert(block, block + 1);
        if offset != start + gathered.len() as u64 || gathered.len() >= GATHERED {
            scratch.write_all_at(&gathered, start)?;
            gathered.clear();
            start = offset;
        }
        gathered.extend_from_slice(page);
        Ok(())
    });
    if let Some(problem) = problem {
        return Err(ImageError::Corrupt { problem });
    }
    let tree = tree.map_err(|cause| ImageError::Tree { content: "data", cause })?;
    let last = scratch.write_all_at(&gathered, start);
    last.map_err(|e| TreeError::Taker { start, cause: e.into() })
        .map_err(|cause| ImageError::Tree { content: "data", cause })?;
    Ok((tree, written))
}
