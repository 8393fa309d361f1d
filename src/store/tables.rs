//! The index of a pack in parts, each checked by a hash in its root, so that looking for a chunk reads little of it:
//! see `pack.rs` for the bytes.

use std::ops::Range;

use crate::digest::{ChunkId, PackId};

use super::StoreError;
use super::pack::{CHUNK_ENTRY, FOOTER, FRAME_ENTRY, Footer, Frame, HEADER, Index, take, take_u32};

/// A block is closed with the frame that gives it so many chunks: some 10 KiB. A smaller one would serve fewer of the
/// look-ups that follow, a bigger one takes longer to read when there are none.
const BLOCK_CHUNKS: usize = 256;
/// Chunks in a bucket, about: 4 KiB.
const BUCKET_CHUNKS: usize = 512;
const BUCKET_ENTRY: usize = 6 + 2;
const BLOCK_IN_ROOT: usize = 8 + 4 + 4 + 32;
const BUCKET_IN_ROOT: usize = 4 + 32;
const ROOT_HEAD: usize = 12;
const BITS_MAX: u32 = 16;
/// Blocks have a u16 for a number.
const BLOCKS_MAX: usize = 1 << 16;
/// Longest root that is read, in bytes. That of a full pack of 4 GiB of pages has 270 KB.
pub(super) const ROOT_MAX: u64 =
    (ROOT_HEAD + BLOCKS_MAX * BLOCK_IN_ROOT + (1 << BITS_MAX) * BUCKET_IN_ROOT) as u64;

/// The root of an index.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Root {
    /// Chunks in the pack.
    pub chunks: u32,
    bits: u32,
    pub blocks: Vec<Block>,
    pub buckets: Vec<Part>,
}

/// A part of the index.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Part {
    /// Where in the pack's object it lies.
    pub range: Range<u64>,
    hash: [u8; 32],
}

/// A block, as the root tells of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Block {
    pub part: Part,
    /// Where in the pack's object its first frame is, and the end of its last one.
    frames_at: Range<u64>,
    frames: u32,
    chunks: u32,
}

/// A block's content.
pub(super) struct Content {
    /// The frames, each with its place in the pack's object.
    pub frames: Vec<(u64, Frame)>,
    /// Id and length of the chunks, frame by frame.
    pub chunks: Vec<(ChunkId, u32)>,
}

impl Part {
    /// Whether these are its bytes.
    pub fn matches(&self, bytes: &[u8]) -> bool {
        blake3::hash(bytes) == self.hash
    }
}

impl Block {
    /// What is in the block, whose bytes were checked.
    pub fn read(&self, bytes: &[u8]) -> Option<Content> {
        let Index { frames, chunks } = Index::parse(self.frames, self.chunks, bytes)?;
        let mut at = self.frames_at.start;
        let place = |frame: Frame| {
            let begin = at;
            at += u64::from(frame.stored_len);
            (begin, frame)
        };
        let frames = frames.into_iter().map(place).collect();
        (at == self.frames_at.end).then_some(Content { frames, chunks })
    }
}

/// What buckets know an id by.
pub(super) fn fingerprint(id: ChunkId) -> u64 {
    let mut bytes = [0; 8];
    bytes[2..].copy_from_slice(&id.as_bytes()[4..10]);
    u64::from_be_bytes(bytes)
}

/// The fingerprints of a bucket, and the number of the block of each.
pub(super) fn entries(bucket: &[u8]) -> impl Iterator<Item = (u64, u16)> {
    bucket.as_chunks::<BUCKET_ENTRY>().0.iter().map(entry)
}

fn entry(bytes: &[u8; BUCKET_ENTRY]) -> (u64, u16) {
    let [a, b, c, d, e, f, x, y] = *bytes;
    (u64::from_be_bytes([0, 0, a, b, c, d, e, f]), u16::from_le_bytes([x, y]))
}

/// The blocks in which the chunk may be, by its bucket: none or one, but for chance and malice.
pub(super) fn blocks_in(bucket: &[u8], id: ChunkId) -> impl Iterator<Item = u16> {
    let (entries, wanted) = (bucket.as_chunks::<BUCKET_ENTRY>().0, fingerprint(id));
    let first = entries.partition_point(|bytes| entry(bytes).0 < wanted);
    let found = entries[first..].iter().map(entry);
    found.take_while(move |(print, _)| *print == wanted).map(|(_, block)| block)
}

impl Root {
    /// The bucket in which the chunk would be.
    pub fn bucket_of(&self, id: ChunkId) -> usize {
        bucket_of(id, self.bits)
    }

    /// Reads the root of a pack of `size` bytes, whose name was checked.
    pub fn parse(size: u64, bytes: &[u8]) -> Option<Self> {
        let mut rest = bytes;
        let (chunks, blocks, bits) = (take_u32(&mut rest)?, take_u32(&mut rest)?, take_u32(&mut rest)?);
        let blocks = usize::try_from(blocks).ok().filter(|blocks| *blocks <= BLOCKS_MAX)?;
        let buckets = 1_usize.checked_shl(bits).filter(|_| bits <= BITS_MAX)?;
        if rest.len() != blocks * BLOCK_IN_ROOT + buckets * BUCKET_IN_ROOT {
            return None;
        }
        let mut root =
            Self { chunks, bits, blocks: Vec::with_capacity(blocks), buckets: Vec::with_capacity(buckets) };
        // No sum can overflow: the lengths are bounded by the object's, which is checked each time.
        let mut at = HEADER;
        let mut next = |len: u64| {
            let begin = at;
            at = at.checked_add(len).filter(|end| *end <= size)?;
            Some(begin..at)
        };
        for _ in 0..blocks {
            let frames_at = next(u64::from_le_bytes(take(&mut rest)?))?;
            let (frames, chunks) = (take_u32(&mut rest)?, take_u32(&mut rest)?);
            let part = Part { range: 0..0, hash: take(&mut rest)? };
            root.blocks.push(Block { part, frames_at, frames, chunks });
        }
        for block in &mut root.blocks {
            let len =
                u64::from(block.frames) * FRAME_ENTRY as u64 + u64::from(block.chunks) * CHUNK_ENTRY as u64;
            block.part.range = next(len)?;
        }
        for _ in 0..buckets {
            let range = next(u64::from(take_u32(&mut rest)?) * BUCKET_ENTRY as u64)?;
            root.buckets.push(Part { range, hash: take(&mut rest)? });
        }
        let in_blocks: u64 = root.blocks.iter().map(|block| u64::from(block.chunks)).sum();
        let in_buckets: u64 = root.buckets.iter().map(|part| part.range.end - part.range.start).sum();
        let fits = at + bytes.len() as u64 + FOOTER == size;
        let counted = in_blocks == u64::from(chunks) && in_buckets == in_blocks * BUCKET_ENTRY as u64;
        (fits && counted).then_some(root)
    }

    /// Reads the root of the pack `id` of `size` bytes.
    pub fn decode(id: PackId, size: u64, bytes: &[u8]) -> Result<Self, StoreError> {
        let refuse = |why: &str| StoreError::corrupt(id.key(), why);
        if PackId::of(bytes) != id {
            return Err(refuse("its index is not the one that it is named after"));
        }
        Self::parse(size, bytes).ok_or_else(|| refuse("its index is not consistent, or not of its length"))
    }

    /// Where the blocks begin: behind the frames.
    pub fn blocks_at(&self) -> u64 {
        self.blocks.last().map_or(HEADER, |block| block.frames_at.end)
    }

    /// Where the buckets begin: behind the blocks.
    pub fn buckets_at(&self) -> u64 {
        self.buckets.first().map_or(HEADER, |part| part.range.start)
    }
}

fn bucket_of(id: ChunkId, bits: u32) -> usize {
    let [a, b, c, d, ..] = *id.as_bytes();
    // Up to 16 bits.
    (u64::from(u32::from_be_bytes([a, b, c, d])) << bits >> 32) as usize
}

/// What follows the frames of a pack, as it is written.
pub(super) struct Encoded {
    /// Blocks and buckets.
    pub parts: Vec<u8>,
    pub root: Vec<u8>,
}

impl Encoded {
    /// Of a pack whose frames have these chunks.
    pub fn of(index: &Index) -> Self {
        let bits = (index.chunks.len() / BUCKET_CHUNKS).next_power_of_two().trailing_zeros().min(BITS_MAX);
        let (mut parts, mut in_root, mut blocks) = (vec![], vec![], 0_u32);
        let mut buckets: Vec<Vec<[u8; BUCKET_ENTRY]>> = vec![vec![]; 1 << bits];
        let mut chunks = index.chunks.as_slice();
        let mut frames = index.frames.as_slice();
        // A block that holds more chunks would do as well: their number is bounded.
        let least = BLOCK_CHUNKS.max(index.chunks.len() / (BLOCKS_MAX / 2));
        while !frames.is_empty() {
            let mut count = 0;
            let enough = |frame: &Frame| {
                count += frame.chunks as usize;
                count >= least
            };
            let end = frames.iter().position(enough).map_or(frames.len(), |n| n + 1);
            let (of_block, behind) = frames.split_at(end);
            let (its_chunks, rest) = chunks.split_at(count.min(chunks.len()));
            (frames, chunks) = (behind, rest);
            let begin = parts.len();
            Index::write_entries(of_block, its_chunks, &mut parts);
            let stored: u64 = of_block.iter().map(|frame| u64::from(frame.stored_len)).sum();
            in_root.extend(stored.to_le_bytes());
            in_root.extend((of_block.len() as u32).to_le_bytes());
            in_root.extend((its_chunks.len() as u32).to_le_bytes());
            in_root.extend(blake3::hash(&parts[begin..]).as_bytes());
            for (id, _) in its_chunks {
                let mut entry = [0; BUCKET_ENTRY];
                entry[..6].copy_from_slice(&id.as_bytes()[4..10]);
                // At most BLOCKS_MAX.
                entry[6..].copy_from_slice(&(blocks as u16).to_le_bytes());
                buckets[bucket_of(*id, bits)].push(entry);
            }
            blocks += 1;
        }
        for bucket in &mut buckets {
            bucket.sort_unstable();
            let begin = parts.len();
            parts.extend(bucket.as_flattened());
            in_root.extend((bucket.len() as u32).to_le_bytes());
            in_root.extend(blake3::hash(&parts[begin..]).as_bytes());
        }
        let mut root = Vec::with_capacity(ROOT_HEAD + in_root.len());
        // Bounded by PACK_CHUNKS.
        root.extend((index.chunks.len() as u32).to_le_bytes());
        root.extend(blocks.to_le_bytes());
        root.extend(bits.to_le_bytes());
        root.extend(in_root);
        Self { parts, root }
    }

    /// The pack's name.
    pub fn id(&self) -> PackId {
        PackId::of(&self.root)
    }

    /// All of it, with the footer.
    pub fn into_end(self) -> Vec<u8> {
        let footer = Footer::encode(self.id(), self.root.len() as u64);
        let Self { mut parts, root } = self;
        parts.extend(root);
        parts.extend(footer);
        parts
    }
}
