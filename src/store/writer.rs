//! Writing new chunks into packs, as a stream of bounded memory.

use std::collections::HashSet;

use crate::digest::{ChunkId, PackId};

use super::chunks::Chunks;
use super::pack::{CHUNK_MAX, FRAME_TARGET, Frame, Index, Method, PACK_BYTES, PACK_CHUNKS};
use super::{Hold, StoreError, Upload};

/// As fast as the disk; the state of a program has much of the same in it, and more effort gains little.
const LEVEL: i32 = 1;

/// Takes the new chunks of one snapshot, and stores those that the repository does not have.
///
/// They go into one pack, or several if they are many; a pack can be seen as soon as it is durable, which
/// is harmless. Dropped before [`Writer::finish`], it leaves at most packs that a sweep removes. After an
/// error it can only be dropped.
pub struct Writer {
    chunks: Chunks,
    guard: Box<dyn Hold>,
    pack: Option<OpenPack>,
    written: Written,
}

/// What a [`Writer`] has made durable.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Written {
    /// The new packs; none if every chunk was there already.
    pub packs: Vec<PackId>,
    /// Chunks in them.
    pub chunks: u64,
    /// Bytes of these chunks before compression.
    pub bytes: u64,
    /// Bytes of the packs.
    pub stored_bytes: u64,
}

/// Keeps sweeps away while chunks are durable that nothing names yet: to be dropped when the job's head
/// names the snapshot.
#[must_use = "a sweep may remove the chunks once this is dropped"]
pub struct Guard {
    pub(super) _hold: Box<dyn Hold>,
}

impl Writer {
    pub(super) fn new(chunks: Chunks, guard: Box<dyn Hold>) -> Self {
        Self { chunks, guard, pack: None, written: Written::default() }
    }

    /// Stores the chunk, unless the repository or this writer has it; says whether it was new.
    ///
    /// The id must be [`ChunkId::of`] the bytes, or reading the chunk will fail.
    ///
    /// # Errors
    /// [`StoreError::TooLarge`] above [`CHUNK_MAX`], and as [`Store::put`](super::Store::put).
    pub fn add(&mut self, id: ChunkId, bytes: &[u8]) -> Result<bool, StoreError> {
        debug_assert_eq!(id, ChunkId::of(bytes));
        if bytes.len() > CHUNK_MAX {
            let (what, len) = (format!("chunk {id}"), bytes.len() as u64);
            return Err(StoreError::TooLarge { what, len, max: CHUNK_MAX as u64 });
        }
        if self.pack.as_ref().is_some_and(|pack| pack.ids.contains(&id)) || self.chunks.contains(id)? {
            return Ok(false);
        }
        let pack = match &mut self.pack {
            Some(pack) => pack,
            none => none.insert(OpenPack::new(&self.chunks)?),
        };
        pack.add(id, bytes)?;
        self.written.chunks += 1;
        self.written.bytes += bytes.len() as u64;
        if pack.is_full() {
            self.close_pack()?;
        }
        Ok(true)
    }

    /// Makes all chunks durable.
    ///
    /// # Errors
    /// As [`Store::put`](super::Store::put); none of the chunks counts as stored then.
    pub fn finish(mut self) -> Result<(Written, Guard), StoreError> {
        self.close_pack()?;
        Ok((self.written, Guard { _hold: self.guard }))
    }

    fn close_pack(&mut self) -> Result<(), StoreError> {
        let Some(pack) = self.pack.take() else {
            return Ok(());
        };
        let (id, index, size) = pack.finish()?;
        self.chunks.insert(id, index)?;
        self.written.packs.push(id);
        self.written.stored_bytes += size;
        Ok(())
    }
}

/// A pack being written.
struct OpenPack {
    upload: Box<dyn Upload>,
    compressor: zstd::bulk::Compressor<'static>,
    index: Index,
    ids: HashSet<ChunkId>,
    stored: u64,
    /// Chunks of the frame that is not closed yet, and how many.
    frame: Vec<u8>,
    frame_chunks: u32,
    compressed: Vec<u8>,
}

impl OpenPack {
    fn new(chunks: &Chunks) -> Result<Self, StoreError> {
        let compressor = zstd::bulk::Compressor::new(LEVEL)
            .map_err(|error| StoreError::from_io("compress for", chunks.store().describe(), error))?;
        let mut upload = chunks.store().upload()?;
        upload.write(&Index::header())?;
        Ok(Self {
            upload,
            compressor,
            index: Index::default(),
            ids: HashSet::new(),
            stored: 0,
            frame: Vec::with_capacity(FRAME_TARGET + CHUNK_MAX),
            frame_chunks: 0,
            compressed: Vec::with_capacity(zstd::zstd_safe::compress_bound(FRAME_TARGET + CHUNK_MAX)),
        })
    }

    fn add(&mut self, id: ChunkId, bytes: &[u8]) -> Result<(), StoreError> {
        self.frame.extend_from_slice(bytes);
        self.frame_chunks += 1;
        self.ids.insert(id);
        // At most CHUNK_MAX.
        self.index.chunks.push((id, bytes.len() as u32));
        if self.frame.len() >= FRAME_TARGET { self.close_frame() } else { Ok(()) }
    }

    fn is_full(&self) -> bool {
        self.stored >= PACK_BYTES || self.ids.len() >= PACK_CHUNKS
    }

    fn close_frame(&mut self) -> Result<(), StoreError> {
        if self.frame_chunks == 0 {
            return Ok(());
        }
        self.compressed.clear();
        self.compressor
            .compress_to_buffer(&self.frame, &mut self.compressed)
            .map_err(|error| StoreError::from_io("compress", "a frame", error))?;
        let (method, stored) = if self.compressed.len() < self.frame.len() {
            (Method::Zstd, &self.compressed)
        } else {
            (Method::Raw, &self.frame)
        };
        self.upload.write(stored)?;
        self.stored += stored.len() as u64;
        self.index.frames.push(Frame {
            // Both at most FRAME_TARGET + CHUNK_MAX.
            stored_len: stored.len() as u32,
            len: self.frame.len() as u32,
            method,
            chunks: self.frame_chunks,
            hash: *blake3::hash(stored).as_bytes(),
        });
        self.frame.clear();
        self.frame_chunks = 0;
        Ok(())
    }

    fn finish(mut self) -> Result<(PackId, Index, u64), StoreError> {
        self.close_frame()?;
        let (id, end) = self.index.encode();
        self.upload.write(&end)?;
        let size = Index::header().len() as u64 + self.stored + end.len() as u64;
        self.upload.commit(&id.key())?;
        Ok((id, self.index, size))
    }
}
