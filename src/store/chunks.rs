//! The repository of chunks: what is in which pack, and reading it.
//!
//! *Sharing.* Any number of processes write at a time, and all use each other's chunks. So a pack that
//! nothing names may still be about to be named: by a snapshot whose writer has found its chunks there. For
//! that reason a writer holds the lease [`LEASE`] together with other writers, from its first look to the
//! moment when the job's head names the snapshot; a [`Sweep`] holds it alone. A sweep removes [`EPOCH`]
//! before the first pack, and the next writer makes another, so that writers learn with one small read whether
//! what they know of the packs still holds. (Removing works on a full disk, too.) And since the chunks that a
//! writer finds may be of a process that died before they were durable, it settles the packs before it relies
//! on them.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use crate::digest::{ChunkId, PackId};

use super::cache::FrameCache;
use super::leases::lock;
use super::pack::{FOOTER, Frame, HEADER, Index, Method, index_range};
use super::sweep::Sweep;
use super::writer::{Guard, Writer};
use super::{Compress, Created, Hold, Key, Sharing, Store, StoreError};

/// Held by writers together, and by a sweep alone.
const LEASE: &str = "packs";
const PACKS: &str = "packs/";
/// Held alone by a sweep that waits for the writers to end, so that no new ones begin; and for an instant by
/// a writer that begins.
const DOOR: &str = "packs-door";
/// A random number; as long as it stays, no pack is removed.
pub(super) const EPOCH: &str = "pack-epoch";
const EPOCH_MAX: u64 = 64;
/// How long a writer waits for a sweep to end, and a sweep for the writers.
const PATIENCE: Duration = Duration::from_secs(60);

/// The content-addressed chunks in a store. Clones share what they know of it.
#[derive(Clone)]
pub struct Chunks {
    shared: Arc<Shared>,
    compress: Compress,
}

struct Shared {
    store: Arc<dyn Store>,
    known: Mutex<Known>,
    frames: Mutex<FrameCache>,
}

/// What is known of the packs in the store.
#[derive(Default)]
struct Known {
    loaded: bool,
    /// Value of [`EPOCH`] when the packs were settled and listed under the lease: as long as it stays, all
    /// packs that are known are there, and durable. `None`: some are known only from a look without it.
    as_of: Option<Vec<u8>>,
    packs: Vec<Pack>,
    by_id: HashMap<PackId, u32>,
    chunks: HashMap<ChunkId, Place>,
    /// Packs whose index cannot be used, and why.
    damaged: Vec<(PackId, String)>,
}

struct Pack {
    id: PackId,
    /// The frames, each with its place in the pack's object, in bytes.
    frames: Arc<[(u64, Frame)]>,
}

/// Where a chunk is.
#[derive(Clone, Copy)]
struct Place {
    pack: u32,
    frame: u32,
    offset: u32,
    len: u32,
}

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
        let shared = Shared { store, known: Mutex::default(), frames: Mutex::default() };
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
        let mut known = lock(&self.shared.known);
        if !known.loaded {
            known.load_new(&*self.shared.store)?;
        }
        Ok(known.chunks.contains_key(&id))
    }

    /// The bytes of the chunk, checked against its id.
    ///
    /// # Errors
    /// [`StoreError::NotFound`], which names damaged packs if there are any; [`StoreError::Corrupt`], which
    /// names the pack; and what the store reports.
    pub fn read(&self, id: ChunkId) -> Result<Vec<u8>, StoreError> {
        let mut found = self.find(id);
        if found.is_none() {
            // Another process may have written it, or this one has not looked yet.
            lock(&self.shared.known).load_new(&*self.shared.store)?;
            found = self.find(id);
        }
        let place = found.ok_or_else(|| self.not_found(id))?;
        match self.read_at(id, &place) {
            // A sweep has removed the pack, and there may be another that holds the chunk.
            Err(StoreError::NotFound { .. }) => {
                {
                    let mut known = lock(&self.shared.known);
                    *known = Known::default();
                    known.load_new(&*self.shared.store)?;
                }
                let place = self.find(id).ok_or_else(|| self.not_found(id))?;
                self.read_at(id, &place)
            }
            other => other,
        }
    }

    /// Begins to write new chunks. Waits, up to a minute, while a sweep is going on.
    ///
    /// # Errors
    /// [`StoreError::Held`] if the sweep does not end, and what the store reports.
    pub fn writer(&self) -> Result<Writer, StoreError> {
        let guard = self.lease(Sharing::Shared)?;
        let epoch = self.epoch()?;
        let mut known = lock(&self.shared.known);
        if known.as_of.as_ref() != Some(&epoch) {
            *known = Known::default();
            known.load_new(&*self.shared.store)?;
            self.shared.store.settle(PACKS)?;
            known.as_of = Some(epoch);
        }
        drop(known);
        Ok(Writer::new(self.clone(), guard))
    }

    /// Keeps sweeps away until it is dropped: for objects that are stored before something names them,
    /// such as a module before its job's first record. Waits as [`Chunks::writer`] does.
    ///
    /// # Errors
    /// As [`Chunks::writer`].
    pub fn guard(&self) -> Result<Guard, StoreError> {
        Ok(Guard { _hold: self.lease(Sharing::Shared)? })
    }

    /// Keeps writers away, so that one can find out what is needed and remove the rest. Waits, up to a
    /// minute, for the writers to end.
    ///
    /// # Errors
    /// [`StoreError::Held`] if they do not, and what the store reports.
    pub fn sweep(&self) -> Result<Sweep, StoreError> {
        Ok(Sweep::new(self.clone(), self.lease(Sharing::Exclusive)?))
    }

    /// Reads every pack, and checks all that it holds. Tells `report` of one pack after the other.
    ///
    /// # Errors
    /// What the store reports when it lists the packs; what is wrong with one of them goes to `report`.
    pub fn verify(&self, report: &mut dyn FnMut(PackReport)) -> Result<(), StoreError> {
        for id in list_packs(&*self.shared.store)? {
            let result = verify_pack(&*self.shared.store, id);
            if !matches!(result, Err(StoreError::NotFound { .. })) {
                report(PackReport { id, result });
            }
        }
        Ok(())
    }

    /// Adds a pack that is durable now.
    pub(super) fn insert(&self, id: PackId, index: Index) -> Result<(), StoreError> {
        lock(&self.shared.known).insert(id, index)
    }

    fn find(&self, id: ChunkId) -> Option<Found> {
        let known = lock(&self.shared.known);
        let place = known.chunks.get(&id)?;
        let pack = known.packs.get(place.pack as usize)?;
        Some(Found { pack: pack.id, frames: pack.frames.clone(), place: *place })
    }

    fn read_at(&self, id: ChunkId, found: &Found) -> Result<Vec<u8>, StoreError> {
        let Found { pack, frames, place } = found;
        let cached = lock(&self.shared.frames).get((*pack, place.frame));
        let frame = match cached {
            Some(frame) => frame,
            None => {
                let (at, entry) = &frames[place.frame as usize];
                let frame: Arc<[u8]> = read_frame(&*self.shared.store, *pack, *at, entry)?.into();
                lock(&self.shared.frames).insert((*pack, place.frame), frame.clone());
                frame
            }
        };
        // Within the frame: the index was checked.
        let bytes = &frame[place.offset as usize..][..place.len as usize];
        match ChunkId::of(bytes) {
            found if found == id => Ok(bytes.to_vec()),
            found => Err(StoreError::corrupt(pack.key(), format!("its chunk {id} hashes to {found}"))),
        }
    }

    fn not_found(&self, id: ChunkId) -> StoreError {
        let mut what = format!("chunk {id}");
        for (pack, why) in &lock(&self.shared.known).damaged {
            what += &format!(" (and `{}` is damaged: {why})", pack.key());
        }
        StoreError::NotFound { what }
    }

    /// Goes in through the door, which is left at once.
    fn lease(&self, sharing: Sharing) -> Result<Box<dyn Hold>, StoreError> {
        let until = Instant::now() + PATIENCE;
        let _door = self.wait_for(DOOR, sharing, until)?;
        self.wait_for(LEASE, sharing, until)
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
    fn epoch(&self) -> Result<Vec<u8>, StoreError> {
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

    /// Forgets what is known of the packs.
    pub(super) fn forget(&self) {
        *lock(&self.shared.known) = Known::default();
    }
}

struct Found {
    pack: PackId,
    frames: Arc<[(u64, Frame)]>,
    place: Place,
}

impl Known {
    /// Reads the indexes of the packs that are not known yet.
    fn load_new(&mut self, store: &dyn Store) -> Result<(), StoreError> {
        self.damaged.clear();
        for id in list_packs(store)? {
            if self.by_id.contains_key(&id) {
                continue;
            }
            match read_index(store, id) {
                Ok((index, _)) => {
                    self.as_of = None;
                    self.insert(id, index)?;
                }
                // Removed since.
                Err(StoreError::NotFound { .. }) => {}
                Err(error @ StoreError::Corrupt { .. }) => self.damaged.push((id, reason(error))),
                Err(error) => return Err(error),
            }
        }
        self.loaded = true;
        Ok(())
    }

    fn insert(&mut self, id: PackId, index: Index) -> Result<(), StoreError> {
        if self.by_id.contains_key(&id) {
            return Ok(());
        }
        let too_many = |_| StoreError::corrupt("packs", "there are more packs than can be counted");
        let pack = u32::try_from(self.packs.len()).map_err(too_many)?;
        let mut chunks = index.chunks.iter();
        for (nth, frame) in index.frames.iter().enumerate() {
            let mut offset = 0;
            for (id, len) in chunks.by_ref().take(frame.chunks as usize) {
                // A frame has a chunk at least, so there are fewer than fit into a u32.
                let place = Place { pack, frame: nth as u32, offset, len: *len };
                self.chunks.entry(*id).or_insert(place);
                offset += len;
            }
        }
        let place = |at: &mut u64, frame: Frame| {
            let begin = *at;
            *at += u64::from(frame.stored_len);
            Some((begin, frame))
        };
        let frames = index.frames.into_iter().scan(HEADER, place).collect();
        self.packs.push(Pack { id, frames });
        self.by_id.insert(id, pack);
        Ok(())
    }
}

/// The packs in the store.
pub(super) fn list_packs(store: &dyn Store) -> Result<Vec<PackId>, StoreError> {
    let keys = store.list(PACKS)?;
    // What else may be there is not ours.
    let id_of = |key: &Key| key.name().parse().ok().filter(|id: &PackId| id.key() == *key);
    Ok(keys.iter().filter_map(id_of).collect())
}

/// The index of a pack, and the length of its object in bytes.
pub(super) fn read_index(store: &dyn Store, id: PackId) -> Result<(Index, u64), StoreError> {
    let key = id.key();
    let size = store.size(&key)?;
    if size < HEADER + FOOTER {
        return Err(StoreError::corrupt(&key, format!("it has {size} bytes, too few for a pack")));
    }
    let footer = store.get_range(&key, size - FOOTER..size)?;
    let range = index_range(id, size, &footer)?;
    let index = store.get_range(&key, range)?;
    Ok((Index::decode(id, size, &index)?, size))
}

/// The chunks of a frame, whose stored bytes are checked before they are decompressed.
fn read_frame(store: &dyn Store, pack: PackId, at: u64, frame: &Frame) -> Result<Vec<u8>, StoreError> {
    let key = pack.key();
    let refuse = |why: &str| StoreError::corrupt(&key, format!("its frame at byte {at} {why}"));
    let stored = store.get_range(&key, at..at + u64::from(frame.stored_len))?;
    if blake3::hash(&stored) != frame.hash {
        return Err(refuse("is not what was written"));
    }
    match frame.method {
        Method::Raw => Ok(stored),
        Method::Zstd => match zstd::bulk::decompress(&stored, frame.len as usize) {
            Ok(bytes) if bytes.len() == frame.len as usize => Ok(bytes),
            _ => Err(refuse("cannot be decompressed")),
        },
    }
}

/// Number of chunks and of bytes of a pack all of which is as it should be.
fn verify_pack(store: &dyn Store, id: PackId) -> Result<(u64, u64), StoreError> {
    let (index, size) = read_index(store, id)?;
    if store.get_range(&id.key(), 0..HEADER)? != Index::header() {
        return Err(StoreError::corrupt(id.key(), "it does not begin as a pack does"));
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

fn reason(error: StoreError) -> String {
    match error {
        StoreError::Corrupt { why, .. } => why,
        other => other.to_string(),
    }
}
