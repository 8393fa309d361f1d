//! The pack: many chunks in one object, since object stores and HDFS hate small files.
//!
//! ```text
//! pack    header, frames, index, footer
//! header  magic "CKPTPACK" (8) | format u16 | zeros (6)
//! frame   the bytes of neighbouring chunks one after the other, compressed by zstd or as they are
//! index   blocks, buckets, root
//! block   what is in neighbouring frames, with some 256 chunks:
//!         for each frame:  stored length u32 | length u32 | method u8 (0 as is, 1 zstd) | chunks u32 | blake3 of the stored bytes (32)
//!         for each chunk, frame by frame:  length u32 | id (32)
//! bucket  for each chunk whose id begins with the bits that are the bucket's number, in ascending order:
//!         bytes 4 to 9 of its id (6) | number of its block u16
//! root    chunks u32 | blocks u32 | bits of a bucket's number u32
//!         for each block:   stored length of its frames u64 | frames u32 | chunks u32 | blake3 of the block (32)
//!         for each bucket:  chunks u32 | blake3 of the bucket (32)
//! footer  length of the root u64 | blake3 of the root (32) | format u16 | magic "CKPTPEND" (8)
//! ```
//!
//! Integers are little-endian, but for the parts of ids, which are bytes. Where things lie follows from the lengths,
//! which must fill the object exactly. The pack's name is the blake3 of its root, which holds the hashes of blocks and
//! buckets, and these those of all frames: so the name vouches for everything, and whoever looks for a chunk reads the
//! root, a bucket, a block and a frame, each checked before it is used. Neighbours in memory are mostly neighbours in a
//! pack, so one block serves many look-ups. How it was before: in format 1 the index is one block, headed by
//! `frames u32 | chunks u32`, which the name and the footer are of.

use std::ops::Range;

use crate::digest::{ChunkId, PackId};

use super::tables::ROOT_MAX;
use super::{Key, StoreError};

const MAGIC: &[u8; 8] = b"CKPTPACK";
const END: &[u8; 8] = b"CKPTPEND";
/// Version of the pack format.
pub const FORMAT: u16 = 2;
/// The format whose index is one block.
pub(super) const FORMAT_1: u16 = 1;
/// Length of the header in bytes.
pub(super) const HEADER: u64 = 16;
/// Length of the footer in bytes.
pub(super) const FOOTER: u64 = 8 + 32 + 2 + 8;
pub(super) const FRAME_ENTRY: usize = 4 + 4 + 1 + 4 + 32;
pub(super) const CHUNK_ENTRY: usize = 4 + 32;

/// Longest chunk in bytes: pages have 4 KiB, and tree nodes less.
pub const CHUNK_MAX: usize = 64 << 10;
/// A frame is closed when it has as many bytes.
///
/// Measured on 107 MB of a Python process's memory, zstd level 1, frames of 4, 16, 64, 128, 256, 1024 KiB:
/// ratio 5.51, 5.92, 6.01, 5.95, 5.86, 5.82; MB/s to compress 442, 648, 770, 808, 786, 739; us to decompress
/// the one frame that a single page needs 11, 18, 43, 70, 136, 523. Level -1: ratio 5.0 at 920 MB/s; level 3
/// is slower and no smaller.
pub(super) const FRAME_TARGET: usize = 64 << 10;
/// Longest frame in bytes that is read, before compression.
pub(super) const FRAME_MAX: usize = 1 << 20;
/// A pack is closed at as many chunks, 4 GiB of pages, which bounds its index to some 40 MiB.
pub(super) const PACK_CHUNKS: usize = 1 << 20;
/// A pack is closed at as many stored bytes: S3 copies no object over 5 GiB in one step.
pub(super) const PACK_BYTES: u64 = 1 << 30;
/// Longest index of format 1 that is read, in bytes: that of a pack whose every chunk is a frame.
const INDEX_MAX: u64 = (8 + PACK_CHUNKS * (FRAME_ENTRY + CHUNK_ENTRY)) as u64;

impl PackId {
    /// The object that holds the pack.
    pub fn key(&self) -> Key {
        super::objects::key_of("packs", self)
    }
}

/// How the bytes of a frame are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Method {
    Raw,
    Zstd,
}

/// A frame, as the index tells of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Frame {
    pub stored_len: u32,
    pub len: u32,
    pub method: Method,
    pub chunks: u32,
    pub hash: [u8; 32],
}

/// What a pack holds.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Index {
    pub frames: Vec<Frame>,
    /// Id and length of the chunks, frame by frame.
    pub chunks: Vec<(ChunkId, u32)>,
}

impl Index {
    /// Bytes of all frames as stored.
    pub(super) fn stored_len(&self) -> u64 {
        self.frames.iter().map(|frame| u64::from(frame.stored_len)).sum()
    }

    /// The pack's header.
    pub(super) fn header() -> [u8; HEADER as usize] {
        Self::header_of(FORMAT)
    }

    /// The header of a pack of this format.
    pub(super) fn header_of(format: u16) -> [u8; HEADER as usize] {
        let mut header = [0; HEADER as usize];
        header[..8].copy_from_slice(MAGIC);
        header[8..10].copy_from_slice(&format.to_le_bytes());
        header
    }

    /// Reads the index of a pack of format 1 whose name is `id` and whose object is `size` bytes long.
    ///
    /// `index` is what lies between the frames and the footer, as [`Footer::range`] tells.
    pub(super) fn decode_1(id: PackId, size: u64, index: &[u8]) -> Result<Self, StoreError> {
        let refuse = |why: &str| StoreError::corrupt(id.key(), why);
        if PackId::of(index) != id {
            return Err(refuse("its index is not the one that it is named after"));
        }
        let mut rest = index;
        let parsed = (|| {
            let (frames, chunks) = (take_u32(&mut rest)?, take_u32(&mut rest)?);
            Self::parse(frames, chunks, rest)
        })();
        let parsed = parsed.ok_or_else(|| refuse("its index is not consistent"))?;
        let expected = HEADER + parsed.stored_len() + index.len() as u64 + FOOTER;
        if expected != size {
            let why = format!("it should have {expected} bytes and has {size}");
            return Err(refuse(&why));
        }
        Ok(parsed)
    }

    /// Appends the entries of these frames, and then those of their chunks.
    pub(super) fn write_entries(frames: &[Frame], chunks: &[(ChunkId, u32)], out: &mut Vec<u8>) {
        out.reserve(frames.len() * FRAME_ENTRY + chunks.len() * CHUNK_ENTRY);
        for frame in frames {
            out.extend(frame.stored_len.to_le_bytes());
            out.extend(frame.len.to_le_bytes());
            out.push(frame.method as u8);
            out.extend(frame.chunks.to_le_bytes());
            out.extend(frame.hash);
        }
        for (id, len) in chunks {
            out.extend(len.to_le_bytes());
            out.extend(id.as_bytes());
        }
    }

    /// Reads so many entries of frames, and then of their chunks, if they fill `bytes` and fit together.
    pub(super) fn parse(frames: u32, chunks: u32, mut bytes: &[u8]) -> Option<Self> {
        let (frames, chunks) = (frames as usize, chunks as usize);
        // Exact, so that no count makes us allocate more than there is.
        let wanted = frames.checked_mul(FRAME_ENTRY)?.checked_add(chunks.checked_mul(CHUNK_ENTRY)?)?;
        if wanted != bytes.len() {
            return None;
        }
        let mut index = Self { frames: Vec::with_capacity(frames), chunks: Vec::with_capacity(chunks) };
        for _ in 0..frames {
            index.frames.push(Frame {
                stored_len: take_u32(&mut bytes)?,
                len: take_u32(&mut bytes)?,
                method: match take::<1>(&mut bytes)? {
                    [0] => Method::Raw,
                    [1] => Method::Zstd,
                    _ => return None,
                },
                chunks: take_u32(&mut bytes)?,
                hash: take(&mut bytes)?,
            });
        }
        for _ in 0..chunks {
            let len = take_u32(&mut bytes)?;
            index.chunks.push((ChunkId::from_bytes(take(&mut bytes)?), len));
        }
        index.is_consistent().then_some(index)
    }

    /// The frames are of the chunks, and no length is out of bounds.
    fn is_consistent(&self) -> bool {
        let mut rest = self.chunks.as_slice();
        let frames_fit = self.frames.iter().all(|frame| {
            let Some((chunks, after)) = rest.split_at_checked(frame.chunks as usize) else {
                return false;
            };
            rest = after;
            let of_chunks: u64 = chunks.iter().map(|(_, len)| u64::from(*len)).sum();
            let shrunk = match frame.method {
                Method::Raw => frame.stored_len == frame.len,
                Method::Zstd => frame.stored_len < frame.len,
            };
            let within = frame.len as usize <= FRAME_MAX && of_chunks == u64::from(frame.len);
            shrunk && within && !chunks.is_empty()
        });
        frames_fit && rest.is_empty()
    }
}

/// The end of a pack.
pub(super) struct Footer {
    /// Version of the pack's format.
    pub format: u16,
    /// Where in its object the root is; the whole index in format 1.
    pub range: Range<u64>,
}

impl Footer {
    /// The footer of a pack with this root.
    pub fn encode(id: PackId, root_len: u64) -> Vec<u8> {
        let mut out = Vec::with_capacity(FOOTER as usize);
        out.extend(root_len.to_le_bytes());
        out.extend(id.as_bytes());
        out.extend(FORMAT.to_le_bytes());
        out.extend(END);
        out
    }

    /// Reads the last [`FOOTER`] bytes of a pack of `size` bytes.
    pub fn decode(id: PackId, size: u64, footer: &[u8]) -> Result<Self, StoreError> {
        let refuse = |why: &str| Err(StoreError::corrupt(id.key(), why));
        let mut rest = footer;
        let fields = (|| Some((take::<8>(&mut rest)?, take::<32>(&mut rest)?, take::<2>(&mut rest)?)))();
        let Some((len, hash, format)) = fields.filter(|_| rest == END) else {
            return refuse("it does not end as a pack does");
        };
        let (len, format) = (u64::from_le_bytes(len), u16::from_le_bytes(format));
        if format > FORMAT {
            let (found, known) = (format.into(), FORMAT.into());
            return Err(StoreError::NewerVersion { what: id.key().to_string(), found, known });
        }
        if format < FORMAT_1 || hash != *id.as_bytes() {
            return refuse("its footer is not the one that it is named after");
        }
        let max = if format == FORMAT_1 { INDEX_MAX } else { ROOT_MAX };
        match size.checked_sub(HEADER + FOOTER) {
            Some(room) if len <= room && len <= max => {
                Ok(Self { format, range: size - FOOTER - len..size - FOOTER })
            }
            _ => refuse("its index is longer than it can be"),
        }
    }
}

pub(super) fn take<const N: usize>(bytes: &mut &[u8]) -> Option<[u8; N]> {
    let (head, rest) = bytes.split_first_chunk::<N>()?;
    *bytes = rest;
    Some(*head)
}

pub(super) fn take_u32(bytes: &mut &[u8]) -> Option<u32> {
    take(bytes).map(u32::from_le_bytes)
}
