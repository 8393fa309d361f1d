//! Writing new chunks into packs, as a stream of bounded memory.

use std::collections::HashSet;
use std::num::NonZero;
use std::thread;

use crate::digest::{ChunkId, PackId};

use super::chunks::Chunks;
use super::near::ById;
use super::pack::{CHUNK_MAX, FRAME_TARGET, Index, PACK_BYTES, PACK_CHUNKS};
use super::pipeline::{Piped, Pipeline};
use super::tables::Encoded;
use super::{Hold, StoreError};

/// Takes the new chunks of one snapshot, and stores those that the repository does not have.
///
/// They go into one pack, or several if they are many; a pack can be seen as soon as it is durable, which
/// is harmless. Dropped before [`Writer::finish`], it leaves at most packs that a sweep removes. After an
/// error it can only be dropped.
pub struct Writer {
    chunks: Chunks,
    guard: Box<dyn Hold>,
    threads: usize,
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
    pub(super) hold: Box<dyn Hold>,
}

impl Guard {
    /// Does what names the chunks, and makes sure that they were there all the while.
    ///
    /// # Errors
    /// [`StoreError::Lapsed`] if a sweep may have come in between: what was named is then not to be relied on; and
    /// what `name` gives.
    pub fn during<T, E: From<StoreError>>(&self, name: impl FnOnce() -> Result<T, E>) -> Result<T, E> {
        self.hold.check()?;
        let named = name()?;
        self.hold.check()?;
        Ok(named)
    }
}

impl Writer {
    pub(super) fn new(chunks: Chunks, guard: Box<dyn Hold>) -> Self {
        let threads = thread::available_parallelism().map_or(1, NonZero::get);
        Self { chunks, guard, threads, pack: None, written: Written::default() }
    }

    /// Compresses with so many threads, instead of one for each core; with one it is the thread that adds the chunks:
    /// while the guest runs, it needs a core itself. Holds for packs that are begun after it.
    pub fn set_threads(&mut self, threads: NonZero<usize>) {
        self.threads = threads.get();
    }

    /// Stores the chunk, unless the repository or this writer has it; says whether it was new.
    ///
    /// The id must be [`ChunkId::of`] the bytes, or reading the chunk will fail. It is not checked: hashing once more
    /// would cost as much as all else that is done here.
    ///
    /// # Errors
    /// [`StoreError::TooLarge`] above [`CHUNK_MAX`], and as [`Store::put`](super::Store::put).
    pub fn add(&mut self, id: ChunkId, bytes: &[u8]) -> Result<bool, StoreError> {
        if bytes.len() > CHUNK_MAX {
            let (what, len) = (format!("chunk {id}"), bytes.len() as u64);
            return Err(StoreError::TooLarge { what, len, max: CHUNK_MAX as u64 });
        }
        if self.pack.as_ref().is_some_and(|pack| pack.contains(id)) || self.chunks.holds(id)? {
            return Ok(false);
        }
        let pack = match &mut self.pack {
            Some(pack) => pack,
            none => none.insert(OpenPack::new(&self.chunks, self.threads)?),
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
        Ok((self.written, Guard { hold: self.guard }))
    }

    fn close_pack(&mut self) -> Result<(), StoreError> {
        let Some(pack) = self.pack.take() else {
            return Ok(());
        };
        let finished = pack.finish()?;
        self.chunks.insert(&finished)?;
        self.written.packs.push(finished.id);
        self.written.stored_bytes += finished.size;
        Ok(())
    }
}

/// A pack that is durable.
pub(super) struct Finished {
    pub id: PackId,
    /// Id and length of its chunks.
    pub chunks: Vec<(ChunkId, u32)>,
    /// The root of its index.
    pub root: Vec<u8>,
    /// Bytes of its object.
    pub size: u64,
}

/// A pack being written.
pub(super) struct OpenPack {
    pipeline: Pipeline,
    /// Id and length of the chunks.
    chunks: Vec<(ChunkId, u32)>,
    ids: HashSet<ChunkId, ById>,
    /// Chunks of the frame that is not closed yet, and how many.
    frame: Vec<u8>,
    frame_chunks: u32,
}

impl OpenPack {
    pub fn new(chunks: &Chunks, threads: usize) -> Result<Self, StoreError> {
        let mut upload = chunks.store().upload()?;
        upload.write(&Index::header())?;
        let pipeline = Pipeline::new(upload, chunks.compress(), threads);
        Ok(Self { pipeline, chunks: vec![], ids: HashSet::default(), frame: vec![], frame_chunks: 0 })
    }

    /// Adds a chunk that is not in it.
    pub fn add(&mut self, id: ChunkId, bytes: &[u8]) -> Result<(), StoreError> {
        self.frame.extend_from_slice(bytes);
        self.frame_chunks += 1;
        self.ids.insert(id);
        // At most CHUNK_MAX.
        self.chunks.push((id, bytes.len() as u32));
        if self.frame.len() >= FRAME_TARGET { self.close_frame() } else { Ok(()) }
    }

    /// Whether it has the chunk.
    pub fn contains(&self, id: ChunkId) -> bool {
        self.ids.contains(&id)
    }

    pub fn is_full(&self) -> bool {
        self.ids.len() >= PACK_CHUNKS || self.frame_chunks == 0 && self.pipeline.stored() >= PACK_BYTES
    }

    fn close_frame(&mut self) -> Result<(), StoreError> {
        if self.frame_chunks > 0 {
            let frame = std::mem::take(&mut self.frame);
            self.frame = self.pipeline.push(frame, self.frame_chunks)?;
            self.frame.reserve(FRAME_TARGET + CHUNK_MAX);
            self.frame_chunks = 0;
        }
        Ok(())
    }

    /// Makes it durable.
    pub fn finish(mut self) -> Result<Finished, StoreError> {
        self.close_frame()?;
        let Piped { mut upload, frames, stored } = self.pipeline.finish()?;
        let index = Index { frames, chunks: self.chunks };
        let encoded = Encoded::of(&index);
        let (id, root) = (encoded.id(), encoded.root.clone());
        let end = encoded.into_end();
        upload.write(&end)?;
        let size = Index::header().len() as u64 + stored + end.len() as u64;
        upload.commit(&id.key())?;
        Ok(Finished { id, chunks: index.chunks, root, size })
    }
}
