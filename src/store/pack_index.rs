//! The index of a pack in a store, read part by part as it is needed.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex};

use crate::digest::{ChunkId, PackId};

use super::cache::Cache;
use super::leases::lock;
use super::near::ById;
use super::pack::{FOOTER, FORMAT_1, Footer, HEADER, Index};
use super::tables::{Content, Encoded, Part, Root, blocks_in, entries, fingerprint};
use super::{Store, StoreError};

/// Buckets that were read last: the serial number of the pack, and the number of the bucket.
pub(super) type Buckets = Cache<u64, ById>;

/// Serial numbers of packs, as this process gets to know them.
static SERIAL: AtomicU32 = AtomicU32::new(0);

/// So much of the end of a pack is read at first: all of the root, if the pack is not big.
const END: u64 = 8 << 10;
/// Neighbouring buckets are read together up to so many bytes.
const BUCKETS_AT_ONCE: u64 = 1 << 20;

/// A pack of the store.
pub(super) struct Pack {
    pub id: PackId,
    serial: u32,
    /// Bytes of its object.
    pub size: u64,
    /// Format of its object.
    pub format: u16,
    root: Root,
    /// The blocks and buckets of a pack of format 1, which cannot be read in parts.
    whole: Option<Vec<u8>>,
    /// It is durable: this process has written it, or has made sure.
    settled: AtomicBool,
    /// It is marked: see `unfit.rs`.
    unfit: AtomicBool,
}

impl Pack {
    /// Looks at a pack in the store. Reads its root, or all of its index if it is of format 1.
    pub fn open(store: &dyn Store, id: PackId) -> Result<Self, StoreError> {
        let (size, footer, index) = read_end(store, id)?;
        let (root, whole) = match footer.format {
            FORMAT_1 => {
                let Encoded { parts, root } = Encoded::of(&Index::decode_1(id, size, &index)?);
                let as_if =
                    size - FOOTER - index.len() as u64 + parts.len() as u64 + root.len() as u64 + FOOTER;
                let parsed = Root::parse(as_if, &root);
                let root =
                    parsed.ok_or_else(|| StoreError::corrupt(id.key(), "its index is not consistent"))?;
                (root, Some(parts))
            }
            _ => (Root::decode(id, size, &index)?, None),
        };
        Ok(Self::with(id, size, footer.format, root, whole, false))
    }

    /// A pack that this process has just made durable.
    pub fn written(id: PackId, root: &[u8], size: u64) -> Result<Self, StoreError> {
        Ok(Self::with(id, size, super::pack::FORMAT, Root::decode(id, size, root)?, None, true))
    }

    fn with(id: PackId, size: u64, format: u16, root: Root, whole: Option<Vec<u8>>, settled: bool) -> Self {
        // Nobody sees four billion packs.
        let serial = SERIAL.fetch_add(1, Ordering::Relaxed);
        Self {
            id,
            serial,
            size,
            format,
            root,
            whole,
            settled: AtomicBool::new(settled),
            unfit: AtomicBool::new(false),
        }
    }

    /// Chunks in it.
    pub fn chunks(&self) -> usize {
        self.root.chunks as usize
    }

    pub fn is_settled(&self) -> bool {
        self.settled.load(Ordering::Acquire)
    }

    /// It has become known to be durable.
    pub fn settle(&self) {
        self.settled.store(true, Ordering::Release);
    }

    /// It is gone: nobody may rely on it, whoever may still know of it.
    pub fn unsettle(&self) {
        self.settled.store(false, Ordering::Release);
    }

    pub fn is_unfit(&self) -> bool {
        self.unfit.load(Ordering::Acquire)
    }

    pub fn set_unfit(&self, unfit: bool) {
        self.unfit.store(unfit, Ordering::Release);
    }

    /// The block that the chunk is in, if it is in this pack.
    pub fn block_of(
        &self,
        id: ChunkId,
        store: &dyn Store,
        buckets: &Mutex<Buckets>,
    ) -> Result<Option<Content>, StoreError> {
        let nth = self.root.bucket_of(id);
        let Some(part) = self.root.buckets.get(nth) else { return Ok(None) };
        let name = u64::from(self.serial) << 32 | nth as u64;
        let cached = lock(buckets).get(name);
        let bucket = match cached {
            Some(bucket) => bucket,
            None => {
                let bucket: Arc<[u8]> = self.read(part, store)?.into();
                if self.whole.is_none() {
                    lock(buckets).insert(name, bucket.clone());
                }
                bucket
            }
        };
        for nth in blocks_in(&bucket, id) {
            let block = self.block(nth as usize, store)?;
            if block.chunks.iter().any(|(found, _)| *found == id) {
                return Ok(Some(block));
            }
        }
        Ok(None)
    }

    fn block(&self, nth: usize, store: &dyn Store) -> Result<Content, StoreError> {
        let refuse = || StoreError::corrupt(self.id.key(), "its index is not consistent");
        let block = self.root.blocks.get(nth).ok_or_else(refuse)?;
        let bytes = self.read(&block.part, store)?;
        block.read(&bytes).ok_or_else(refuse)
    }

    /// A part of the index, checked.
    fn read(&self, part: &Part, store: &dyn Store) -> Result<Vec<u8>, StoreError> {
        if let Some(whole) = &self.whole {
            // Made by ourselves.
            let begin = self.root.blocks_at();
            return Ok(whole[(part.range.start - begin) as usize..(part.range.end - begin) as usize].to_vec());
        }
        if part.range.is_empty() {
            return Ok(vec![]);
        }
        let bytes = store.get_range(&self.id.key(), part.range.clone())?;
        if part.matches(&bytes) { Ok(bytes) } else { Err(self.damaged(part)) }
    }

    fn damaged(&self, part: &Part) -> StoreError {
        let why = format!("its index at byte {} is not what was written", part.range.start);
        StoreError::corrupt(self.id.key(), why)
    }

    /// Gives the fingerprints of all chunks. Those of buckets that are damaged are left out.
    pub fn fingerprints(&self, store: &dyn Store, each: &mut dyn FnMut(u64)) -> Result<(), StoreError> {
        let mut give = |bucket: &[u8]| entries(bucket).for_each(|(print, _)| each(print));
        if let Some(whole) = &self.whole {
            give(&whole[(self.root.buckets_at() - self.root.blocks_at()) as usize..]);
            return Ok(());
        }
        let mut rest = self.root.buckets.as_slice();
        while let Some(first) = rest.first() {
            let begin = first.range.start;
            let near =
                rest.iter().take_while(|part| part.range.end - begin <= BUCKETS_AT_ONCE).count().max(1);
            let (now, behind) = rest.split_at(near);
            rest = behind;
            let end = now.last().map_or(begin, |part| part.range.end);
            let bytes = store.get_range(&self.id.key(), begin..end)?;
            for part in now {
                let bucket = &bytes[(part.range.start - begin) as usize..(part.range.end - begin) as usize];
                if part.matches(bucket) {
                    give(bucket);
                }
            }
        }
        Ok(())
    }
}

/// What the filter knows an id by.
pub(super) fn print_of(id: ChunkId) -> u64 {
    fingerprint(id)
}

/// The end of a pack: the size of its object, its footer, and the root, or the index in format 1, neither checked.
fn read_end(store: &dyn Store, id: PackId) -> Result<(u64, Footer, Vec<u8>), StoreError> {
    let key = id.key();
    let (size, mut end) = store.get_end(&key, END)?;
    if size < HEADER + FOOTER {
        return Err(StoreError::corrupt(&key, format!("it has {size} bytes, too few for a pack")));
    }
    let footer = end.split_off(end.len() - FOOTER as usize);
    let footer = Footer::decode(id, size, &footer)?;
    let len = (footer.range.end - footer.range.start) as usize;
    let root = match end.len().checked_sub(len) {
        Some(before) => end.split_off(before),
        None => store.get_range(&key, footer.range.clone())?,
    };
    Ok((size, footer, root))
}

/// All of the index of a pack, and the length of its object in bytes.
pub(super) fn read_index(store: &dyn Store, id: PackId) -> Result<(Index, u64), StoreError> {
    let (size, footer, root) = read_end(store, id)?;
    if footer.format == FORMAT_1 {
        return Ok((Index::decode_1(id, size, &root)?, size));
    }
    let root = Root::decode(id, size, &root)?;
    let begin = root.blocks_at();
    let bytes = store.get_range(&id.key(), begin..root.buckets_at())?;
    let mut index = Index::default();
    for block in &root.blocks {
        let range = &block.part.range;
        let bytes = &bytes[(range.start - begin) as usize..(range.end - begin) as usize];
        let content = block.part.matches(bytes).then(|| block.read(bytes)).flatten();
        let Some(Content { frames, chunks }) = content else {
            let why = format!("its index at byte {} is not what was written", range.start);
            return Err(StoreError::corrupt(id.key(), why));
        };
        index.frames.extend(frames.into_iter().map(|(_, frame)| frame));
        index.chunks.extend(chunks);
    }
    Ok((index, size))
}
