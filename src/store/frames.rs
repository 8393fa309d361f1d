//! Frames: reading them, and taking chunks from them.

use std::ops::Range;
use std::sync::Arc;

use crate::digest::{ChunkId, PackId};

use super::pack::{Frame, Method};
use super::{Store, StoreError};

/// Where a chunk is.
#[derive(Clone)]
pub(super) struct Found {
    pub pack: PackId,
    /// The frames of its pack, each with its place in the pack's object, in bytes.
    pub frames: Arc<[(u64, Frame)]>,
    /// Number of its frame.
    pub nth: u32,
    /// Its place in the frame.
    pub offset: u32,
    pub len: u32,
}

impl Found {
    /// The frame that it is in.
    pub fn frame(&self) -> &Frame {
        &self.frames[self.nth as usize].1
    }

    /// Where in the pack's object the frame is.
    pub fn range(&self) -> Range<u64> {
        let (at, frame) = &self.frames[self.nth as usize];
        *at..at + u64::from(frame.stored_len)
    }

    /// Names the frame in the store.
    pub fn frame_id(&self) -> (PackId, u64) {
        (self.pack, self.range().start)
    }

    /// By this, chunks are in the order in which they lie.
    pub fn order(&self) -> (PackId, u64, u32) {
        (self.pack, self.range().start, self.offset)
    }

    /// The chunk's bytes, out of those of its frame, if they are what its id says.
    pub fn take<'a>(&self, id: ChunkId, frame: &'a [u8]) -> Result<&'a [u8], StoreError> {
        let bytes = self.of_frame(frame);
        match ChunkId::of(bytes) {
            found if found == id => Ok(bytes),
            found => Err(self.hashes_to(id, found)),
        }
    }

    /// What lies where the chunk should be. Within the frame: the index was checked, and the frame's length.
    pub fn of_frame<'a>(&self, frame: &'a [u8]) -> &'a [u8] {
        &frame[self.offset as usize..][..self.len as usize]
    }

    /// The chunk is not what its id says.
    pub fn hashes_to(&self, id: ChunkId, found: ChunkId) -> StoreError {
        StoreError::corrupt(self.pack.key(), format!("its chunk {id} hashes to {found}"))
    }
}

/// Opens frames that were read. Has room for one, so that many are opened without asking for memory each time.
#[derive(Default)]
pub(super) struct Opener {
    zstd: Option<zstd::bulk::Decompressor<'static>>,
    room: Vec<u8>,
}

impl Opener {
    /// The chunks of a frame, whose stored bytes are checked before they are decompressed. Those of a frame that is
    /// stored as it is are not: the chunks that are taken from it are.
    pub fn open<'a>(
        &'a mut self,
        pack: PackId,
        at: u64,
        frame: &Frame,
        stored: &'a [u8],
    ) -> Result<&'a [u8], StoreError> {
        let refuse = |why: &str| StoreError::corrupt(pack.key(), format!("its frame at byte {at} {why}"));
        if frame.method == Method::Raw {
            return Ok(stored);
        }
        if blake3::hash(stored) != frame.hash {
            return Err(refuse("is not what was written"));
        }
        let zstd = match &mut self.zstd {
            Some(zstd) => zstd,
            none => none.insert(
                zstd::bulk::Decompressor::new()
                    .map_err(|error| StoreError::from_io("decompress", pack.key(), error))?,
            ),
        };
        let len = frame.len as usize;
        if self.room.len() < len {
            self.room.resize(len, 0);
        }
        match zstd.decompress_to_buffer(stored, &mut self.room[..len]) {
            Ok(found) if found == len => Ok(&self.room[..len]),
            _ => Err(refuse("cannot be decompressed")),
        }
    }
}

/// The chunks of a frame, which is checked whole.
pub(super) fn read_frame(
    store: &dyn Store,
    pack: PackId,
    at: u64,
    frame: &Frame,
) -> Result<Vec<u8>, StoreError> {
    let key = pack.key();
    let stored = store.get_range(&key, at..at + u64::from(frame.stored_len))?;
    if frame.method == Method::Raw && blake3::hash(&stored) != frame.hash {
        return Err(StoreError::corrupt(&key, format!("its frame at byte {at} is not what was written")));
    }
    match frame.method {
        Method::Raw => Ok(stored),
        Method::Zstd => Opener::default().open(pack, at, frame, &stored).map(<[u8]>::to_vec),
    }
}
