//! The repository of chunks: what is in which pack, and reading it.
//!
//! *Sharing.* Any number of processes write at a time, and all use each other's chunks. So a pack that
//! nothing names may still be about to be named: by a snapshot whose writer has found its chunks there. For
//! that reason a writer holds the lease [`LEASE`] together with other writers, from its first look to the
//! moment when the job's head names the snapshot; a [`Sweep`] holds it alone. A sweep removes [`EPOCH`]
//! before the first chunk, and the next writer makes another, so that writers learn with one small read whether
//! what they know of the chunks still holds. (Removing works on a full disk, too.) And since the chunks that a
//! writer finds may be of a process that died before they were durable, it settles the packs before it relies
//! on them.
//!
//! A pack that is rewritten (`upkeep.rs`) goes without all that, since its chunks stay: in another pack, which is
//! durable before. Who reads and misses a pack looks again.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread;
use std::time::{Duration, Instant};

use crate::digest::{ChunkId, PackId};

use super::cache::Cache;
use super::frames::{Found, read_frame};
use super::known::{Known, list_packs};
use super::leases::lock;
use super::near::Near;
use super::pack::{FORMAT_1, HEADER, Index};
use super::pack_index::{Buckets, Pack, read_index};
use super::read_many::Room;
use super::sweep::Sweep;
use super::tables::Encoded;
use super::upkeep::Upkeep;
use super::writer::{Finished, Guard, Writer};
use super::{Compress, Created, Hold, Key, Sharing, Store, StoreError};

/// Held by writers together, and by a sweep alone.
const LEASE: &str = "packs";
pub(super) const PACKS: &str = "packs/";
/// Held alone by whoever removes or rewrites packs.
const UPKEEP: &str = "packs-upkeep";
/// Held alone by a sweep that waits for the writers to end, so that no new ones begin; and for an instant by
/// a writer that begins.
const DOOR: &str = "packs-door";
/// A random number; as long as it stays, no pack is removed, and none marked as damaged.
pub(super) const EPOCH: &str = "pack-epoch";
const EPOCH_MAX: u64 = 64;
/// So often at most are packs looked for anew that others rewrite meanwhile: a round of that takes longer than a look.
pub(super) const TRIES: usize = 32;
/// How long a writer waits for a sweep to end, and a sweep for the writers.
const PATIENCE: Duration = Duration::from_secs(60);
/// For how long a sweep that waits for writers keeps new ones out, and for how long it lets them in before it tries
/// again: those that write fast do not wait for one that is slow.
const SHUT: Duration = Duration::from_secs(1);
const OPEN: Duration = Duration::from_millis(500);

/// The content-addressed chunks in a store. Clones share what they know of it.
#[derive(Clone)]
pub struct Chunks {
    shared: Arc<Shared>,
    compress: Compress,
}

struct Shared {
    store: Arc<dyn Store>,
    known: Mutex<Known>,
    /// The blocks of indexes that were read last.
    near: Mutex<Near>,
    buckets: Mutex<Buckets>,
    /// Number of the pack in the list that had the last chunk: a hint.
    recent: AtomicUsize,
    frames: Mutex<Frames>,
    /// For who reads next.
    rooms: Mutex<Vec<Room>>,
}

/// Decompressed frames that were read last: the pack, and the frame's place in its object in bytes.
pub(super) type Frames = Cache<(PackId, u64)>;

/// Bytes of frames that are kept: neighbouring pages are read one after the other, and they share a frame.
const FRAMES_BYTES: usize = 32 << 20;
/// Bytes of buckets that are kept: those of 2 to 4 million chunks.
const BUCKETS_BYTES: usize = 32 << 20;

/// What [`Chunks::verify`] found of one pack.
#[derive(Debug)]
pub struct PackReport {
    /// The pack.
    pub id: PackId,
    /// Chunks in it, and the bytes of its object; or what is wrong with it.
    pub result: Result<(u64, u64), StoreError>,
}

impl Chunks {
    /// The chunks in this store. Reads nothing yet.
    pub fn open(store: Arc<dyn Store>) -> Self {
        let shared = Shared {
            store,
            known: Mutex::default(),
            near: Mutex::default(),
            buckets: Mutex::new(Cache::new(BUCKETS_BYTES)),
            recent: AtomicUsize::default(),
            frames: Mutex::new(Cache::new(FRAMES_BYTES)),
            rooms: Mutex::default(),
        };
        Self { shared: Arc::new(shared), compress: Compress::default() }
    }

    /// The same chunks, to be written with this effort from now on.
    #[must_use]
    pub fn with_compress(self, compress: Compress) -> Self {
        Self { compress, ..self }
    }

    /// With which effort new chunks are written.
    pub fn compress(&self) -> Compress {
        self.compress
    }

    /// The store that holds them.
    pub fn store(&self) -> &Arc<dyn Store> {
        &self.shared.store
    }

    /// Whether the chunk is stored, as far as is known here: another process may have added it since.
    ///
    /// # Errors
    /// What the store reports when the indexes are read for the first time.
    pub fn contains(&self, id: ChunkId) -> Result<bool, StoreError> {
        self.load()?;
        Ok(self.find(id)?.is_some())
    }

    /// The bytes of the chunk, checked against its id.
    ///
    /// # Errors
    /// [`StoreError::NotFound`], which names damaged packs if there are any; [`StoreError::Corrupt`], which
    /// names the pack; and what the store reports.
    pub fn read(&self, id: ChunkId) -> Result<Vec<u8>, StoreError> {
        // Another process may have written it, or this one has not looked yet.
        let (mut found, mut damaged) = (self.find_or_look_for(id)?, vec![]);
        for _ in 0..TRIES {
            let Some(place) = &found else { break };
            match self.read_at(id, place) {
                // The pack is gone, and there may be another that holds the chunk.
                Err(StoreError::NotFound { .. }) => found = self.look_for(id)?,
                Err(error @ StoreError::Corrupt { .. }) => {
                    damaged.push(place.pack);
                    found = Some(self.find_besides(id, &damaged)?.ok_or(error)?);
                }
                other => return other,
            }
        }
        Err(self.not_found(id))
    }

    /// Where the chunk is, as far as is known, or else after another look.
    pub(super) fn find_or_look_for(&self, id: ChunkId) -> Result<Option<Found>, StoreError> {
        match self.find(id)? {
            Some(found) => Ok(Some(found)),
            None => self.look_for(id),
        }
    }

    /// Looks at which packs there are, if that has not been done yet.
    pub(super) fn load(&self) -> Result<(), StoreError> {
        let mut known = self.known();
        if !known.loaded {
            known.refresh(&*self.shared.store)?;
        }
        Ok(())
    }

    /// Begins to write new chunks. Waits, up to a minute, while a sweep is going on.
    ///
    /// # Errors
    /// [`StoreError::Held`] if the sweep does not end, and what the store reports.
    pub fn writer(&self) -> Result<Writer, StoreError> {
        let guard = self.lease(Sharing::Shared)?;
        let epoch = self.epoch()?;
        let mut known = lock(&self.shared.known);
        let store = &*self.shared.store;
        if known.as_of.as_ref() != Some(&epoch) {
            // None counts as durable until it is.
            known.as_of = None;
            known.refresh(store)?;
            store.settle(PACKS)?;
            known.settled();
            known.as_of = Some(epoch);
        }
        known.settle(store)?;
        drop(known);
        Ok(Writer::new(self.clone(), guard))
    }

    /// Keeps sweeps away until it is dropped: for objects that are stored before something names them,
    /// such as a module before its job's first record. Waits as [`Chunks::writer`] does.
    ///
    /// # Errors
    /// As [`Chunks::writer`].
    pub fn guard(&self) -> Result<Guard, StoreError> {
        Ok(Guard { hold: self.lease(Sharing::Shared)? })
    }

    /// Keeps writers away, so that one can find out what is needed and remove the rest. Waits, up to a
    /// minute, for the writers to end.
    ///
    /// # Errors
    /// [`StoreError::Held`] if they do not, and what the store reports.
    pub fn sweep(&self) -> Result<Sweep, StoreError> {
        self.upkeep()?.sweep()
    }

    /// Begins to remove or rewrite packs, which one does at a time. Waits, up to a minute, while another does.
    ///
    /// # Errors
    /// [`StoreError::Held`] if that does not end, and what the store reports.
    pub fn upkeep(&self) -> Result<Upkeep, StoreError> {
        Ok(Upkeep::new(self.clone(), self.wait_for(UPKEEP, Sharing::Exclusive, Instant::now() + PATIENCE)?))
    }

    /// As [`Chunks::upkeep`], without waiting.
    ///
    /// # Errors
    /// As of [`Chunks::upkeep`].
    pub fn try_upkeep(&self) -> Result<Upkeep, StoreError> {
        Ok(Upkeep::new(self.clone(), self.wait_for(UPKEEP, Sharing::Exclusive, Instant::now())?))
    }

    /// Reads every pack, and checks all that it holds. Marks those that are damaged. Tells `report` of one pack after the other.
    ///
    /// # Errors
    /// What the store reports when it lists the packs; what is wrong with one of them goes to `report`.
    pub fn verify(&self, report: &mut dyn FnMut(PackReport)) -> Result<(), StoreError> {
        for id in list_packs(&*self.shared.store)? {
            let result = verify_pack(&*self.shared.store, id);
            if matches!(result, Err(StoreError::Corrupt { .. })) {
                self.mark(id);
            }
            if !matches!(result, Err(StoreError::NotFound { .. })) {
                report(PackReport { id, result });
            }
        }
        Ok(())
    }

    /// Adds a pack that this process has made durable.
    pub(super) fn insert(&self, finished: &Finished) -> Result<(), StoreError> {
        lock(&self.shared.known).insert(finished)?;
        self.unmark(finished);
        Ok(())
    }

    /// What is known, for this room.
    pub(super) fn known(&self) -> MutexGuard<'_, Known> {
        lock(&self.shared.known)
    }

    /// Decompressed frames that were read last.
    pub(super) fn frames(&self) -> &Mutex<Frames> {
        &self.shared.frames
    }

    /// What threads read into, for who reads next.
    pub(super) fn rooms(&self) -> &Mutex<Vec<Room>> {
        &self.shared.rooms
    }

    /// These packs are gone.
    pub(super) fn forget(&self, gone: &[PackId]) {
        self.known().remove(gone);
        lock(self.near()).clear();
    }

    pub(super) fn near(&self) -> &Mutex<Near> {
        &self.shared.near
    }

    pub(super) fn buckets(&self) -> &Mutex<Buckets> {
        &self.shared.buckets
    }

    pub(super) fn recent(&self) -> usize {
        self.shared.recent.load(Ordering::Relaxed)
    }

    pub(super) fn set_recent(&self, nth: usize) {
        self.shared.recent.store(nth, Ordering::Relaxed);
    }

    /// The bytes of the chunk at this place, checked. Marks the pack if they are damaged.
    pub(super) fn read_at(&self, id: ChunkId, found: &Found) -> Result<Vec<u8>, StoreError> {
        let read = self.read_checked(id, found);
        if matches!(read, Err(StoreError::Corrupt { .. })) {
            self.mark(found.pack);
        }
        read
    }

    fn read_checked(&self, id: ChunkId, found: &Found) -> Result<Vec<u8>, StoreError> {
        let cached = lock(&self.shared.frames).get(found.frame_id());
        let frame = match cached {
            Some(frame) => frame,
            None => {
                let at = found.range().start;
                let frame: Arc<[u8]> = read_frame(&*self.shared.store, found.pack, at, found.frame())?.into();
                lock(&self.shared.frames).insert(found.frame_id(), frame.clone());
                frame
            }
        };
        found.take(id, &frame).map(<[u8]>::to_vec)
    }

    pub(super) fn not_found(&self, id: ChunkId) -> StoreError {
        let mut what = format!("chunk {id}");
        for (pack, why) in &lock(&self.shared.known).damaged {
            what += &format!(" (and `{}` is damaged: {why})", pack.key());
        }
        StoreError::NotFound { what }
    }

    /// Goes in through the door, which is left at once, or after a while if the lease cannot be had.
    pub(super) fn lease(&self, sharing: Sharing) -> Result<Box<dyn Hold>, StoreError> {
        self.lease_within(sharing, PATIENCE)
    }

    pub(super) fn lease_within(
        &self,
        sharing: Sharing,
        patience: Duration,
    ) -> Result<Box<dyn Hold>, StoreError> {
        let until = Instant::now() + patience;
        loop {
            let door = self.wait_for(DOOR, sharing, until)?;
            let found = self.wait_for(LEASE, sharing, until.min(Instant::now() + SHUT));
            drop(door);
            match found {
                Err(StoreError::Held { .. }) if Instant::now() < until => {}
                other => return other,
            }
            if sharing == Sharing::Exclusive {
                thread::sleep(OPEN.min(until.saturating_duration_since(Instant::now())));
            }
        }
    }

    fn wait_for(&self, key: &str, sharing: Sharing, until: Instant) -> Result<Box<dyn Hold>, StoreError> {
        let (key, mut pause) = (Key::new(key)?, Duration::from_millis(1));
        loop {
            match self.shared.store.lease(&key, sharing) {
                Err(StoreError::Held { .. }) if Instant::now() < until => thread::sleep(pause),
                other => return other,
            }
            pause = (pause * 2).min(Duration::from_millis(50));
        }
    }

    /// The number of now, for one who holds the lease.
    pub(super) fn epoch(&self) -> Result<Vec<u8>, StoreError> {
        let (store, key) = (&*self.shared.store, Key::new(EPOCH)?);
        loop {
            match store.get_at_most(&key, EPOCH_MAX) {
                Err(StoreError::NotFound { .. }) => {}
                other => return other,
            }
            let mut new = [0; 16];
            getrandom::fill(&mut new).map_err(|error| {
                StoreError::from_io("name", &key, std::io::Error::other(error.to_string()))
            })?;
            if store.create(&key, &new)? == Created::Yes {
                return Ok(new.to_vec());
            }
        }
    }
}

/// Number of chunks and of bytes of a pack all of which is as it should be.
fn verify_pack(store: &dyn Store, id: PackId) -> Result<(u64, u64), StoreError> {
    let (index, size) = read_index(store, id)?;
    let format = Pack::open(store, id)?.format;
    if store.get_range(&id.key(), 0..HEADER)? != Index::header_of(format) {
        return Err(StoreError::corrupt(id.key(), "it does not begin as a pack does"));
    }
    // What chunks are found by follows from the rest.
    let end = HEADER + index.stored_len()..size;
    if format != FORMAT_1 && store.get_range(&id.key(), end)? != Encoded::of(&index).into_end() {
        return Err(StoreError::corrupt(id.key(), "its index does not lead to its chunks"));
    }
    let (mut at, mut chunks) = (HEADER, index.chunks.iter());
    for frame in &index.frames {
        let bytes = read_frame(store, id, at, frame)?;
        let mut rest = bytes.as_slice();
        for (chunk, len) in chunks.by_ref().take(frame.chunks as usize) {
            // The index was checked: the chunks fill the frame.
            let (bytes, after) = rest.split_at(*len as usize);
            let found = ChunkId::of(bytes);
            if found != *chunk {
                return Err(StoreError::corrupt(id.key(), format!("its chunk {chunk} hashes to {found}")));
            }
            rest = after;
        }
        at += u64::from(frame.stored_len);
    }
    Ok((index.chunks.len() as u64, size))
}
