//! The pack: many chunks in one object, since object stores and HDFS hate small files.
//!
//! ```text
//! pack    header, frames, index, footer
//! header  magic "CKPTPACK" (8) | format u16 | zeros (6)
//! frame   the bytes of neighbouring chunks one after the other, compressed by zstd or as they are
//! index   frames u32 | chunks u32
//!         for each frame:  stored length u32 | length u32 | method u8 (0 as is, 1 zstd) | chunks u32 | blake3 of the stored bytes (32)
//!         for each chunk, frame by frame:  length u32 | id (32)
//! footer  length of the index u64 | blake3 of the index (32) | format u16 | magic "CKPTPEND" (8)
//! ```
//!
//! Integers are little-endian. Where things lie follows from the lengths, which must fill the object
//! exactly. The pack's name is the blake3 of its index, which holds the hashes of all frames: so the name
//! vouches for everything, one needs no more than the end of the object to check the index against it,
//! and nothing is decompressed before its hash is checked.

use crate::digest::{ChunkId, PackId};

use super::{Key, StoreError};

const MAGIC: &[u8; 8] = b"CKPTPACK";
const END: &[u8; 8] = b"CKPTPEND";
/// Version of the pack format.
pub const FORMAT: u16 = 1;
/// Length of the header in bytes.
pub(super) const HEADER: u64 = 16;
/// Length of the footer in bytes.
pub(super) const FOOTER: u64 = 8 + 32 + 2 + 8;
const FRAME_ENTRY: usize = 4 + 4 + 1 + 4 + 32;
const CHUNK_ENTRY: usize = 4 + 32;

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
/// Longest index that is read, in bytes: that of a pack whose every chunk is a frame.
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
        let mut header = [0; HEADER as usize];
        header[..8].copy_from_slice(MAGIC);
        header[8..10].copy_from_slice(&FORMAT.to_le_bytes());
        header
    }

    /// Index and footer, which end a pack, and the pack's name.
    pub(super) fn encode(&self) -> (PackId, Vec<u8>) {
        let entries = self.frames.len() * FRAME_ENTRY + self.chunks.len() * CHUNK_ENTRY;
        let mut out = Vec::with_capacity(8 + entries + FOOTER as usize);
        // Both counts are bounded by PACK_CHUNKS.
        out.extend((self.frames.len() as u32).to_le_bytes());
        out.extend((self.chunks.len() as u32).to_le_bytes());
        for frame in &self.frames {
            out.extend(frame.stored_len.to_le_bytes());
            out.extend(frame.len.to_le_bytes());
            out.push(frame.method as u8);
            out.extend(frame.chunks.to_le_bytes());
            out.extend(frame.hash);
        }
        for (id, len) in &self.chunks {
            out.extend(len.to_le_bytes());
            out.extend(id.as_bytes());
        }
        let id = PackId::of(&out);
        let len = out.len() as u64;
        out.extend(len.to_le_bytes());
        out.extend(id.as_bytes());
        out.extend(FORMAT.to_le_bytes());
        out.extend(END);
        (id, out)
    }

    /// Reads the index of a pack whose name is `id` and whose object is `size` bytes long.
    ///
    /// `index` is what lies between the frames and the footer, as [`index_range`] tells.
    pub(super) fn decode(id: PackId, size: u64, index: &[u8]) -> Result<Self, StoreError> {
        let refuse = |why: &str| StoreError::corrupt(id.key(), why);
        if PackId::of(index) != id {
            return Err(refuse("its index is not the one that it is named after"));
        }
        let index = Self::parse(index).ok_or_else(|| refuse("its index is not consistent"))?;
        let expected = HEADER + index.stored_len() + index.encoded_len() + FOOTER;
        if expected != size {
            let why = format!("it should have {expected} bytes and has {size}");
            return Err(refuse(&why));
        }
        Ok(index)
    }

    fn encoded_len(&self) -> u64 {
        (8 + self.frames.len() * FRAME_ENTRY + self.chunks.len() * CHUNK_ENTRY) as u64
    }

    fn parse(mut bytes: &[u8]) -> Option<Self> {
        let frames = take_u32(&mut bytes)? as usize;
        let chunks = take_u32(&mut bytes)? as usize;
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

/// Where in a pack of `size` bytes the index lies, given its last [`FOOTER`] bytes.
pub(super) fn index_range(id: PackId, size: u64, footer: &[u8]) -> Result<std::ops::Range<u64>, StoreError> {
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
    if format != FORMAT || hash != *id.as_bytes() {
        return refuse("its footer is not the one that it is named after");
    }
    match size.checked_sub(HEADER + FOOTER) {
        Some(room) if len <= room && len <= INDEX_MAX => Ok(size - FOOTER - len..size - FOOTER),
        _ => refuse("its index is longer than it can be"),
    }
}

fn take<const N: usize>(bytes: &mut &[u8]) -> Option<[u8; N]> {
    let (head, rest) = bytes.split_first_chunk::<N>()?;
    *bytes = rest;
    Some(*head)
}

fn take_u32(bytes: &mut &[u8]) -> Option<u32> {
    take(bytes).map(u32::from_le_bytes)
}
