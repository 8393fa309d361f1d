//! Reading many chunks at once, on several threads: each frame that holds some of them is read, checked and
//! decompressed once, and neighbouring frames are read together.
//!
//! A frame that is stored as it is goes unchecked: what is taken from it is checked chunk by chunk. A compressed one is
//! checked before it is decompressed, as ever.

use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;

use crate::digest::{ChunkId, chunk_ids};

use super::StoreError;
use super::chunks::{Chunks, TRIES};
use super::frames::{Found, Opener};
use super::leases::lock;

/// Ids that are looked up before any is read: a GiB of pages. Bounds the memory that this takes to some 40 MiB.
const AT_ONCE: usize = 1 << 18;
/// Neighbouring frames are read together up to so many bytes: more gains nothing, and threads share the work by this.
const READ_MAX: u64 = 512 << 10;
/// Frames that are so near are read together though there is something else between them.
const GAP_MAX: u64 = 16 << 10;

/// Rooms that are kept for the next who read: less than a MiB each.
const ROOMS: usize = 8;

/// Takes the bytes of the chunks with these numbers in the list that was asked for, one behind the other: either one
/// chunk, or several of the same length.
pub type Take<'a> = dyn Fn(Range<usize>, &[u8]) -> Result<(), StoreError> + Sync + 'a;

/// A chunk that is wanted, and where it is.
struct Wanted {
    found: Found,
    /// Number in the list of ids.
    index: usize,
}

impl Chunks {
    /// Gives the bytes of all these chunks to `each`, checked against their ids, with the numbers of the ids in the list:
    /// those that follow each other both there and in the store at once. The order is free, and the calls come from up
    /// to `threads` threads at a time; an id that is in the list twice is given twice.
    ///
    /// # Errors
    /// The first error of any of them, as of [`Chunks::read`], or of `each`. Some have been given by then.
    pub fn read_many(&self, ids: &[ChunkId], threads: usize, each: &Take<'_>) -> Result<(), StoreError> {
        let all: Vec<usize> = (0..ids.len()).collect();
        all.chunks(AT_ONCE).try_for_each(|part| self.read_part(ids, part, threads, each))
    }

    fn read_part(
        &self,
        ids: &[ChunkId],
        part: &[usize],
        threads: usize,
        each: &Take<'_>,
    ) -> Result<(), StoreError> {
        let mut missed = part.to_vec();
        for _ in 0..TRIES {
            let mut wanted = self.look_up(ids, &missed)?;
            // Nearly in order, most often, which this notices.
            wanted.sort_by_key(|one| one.found.order());
            let reading = Reading { chunks: self, ids, wanted: &wanted, each, missed: Mutex::default() };
            reading.run(threads)?;
            missed = reading.missed.into_inner().unwrap_or_else(PoisonError::into_inner);
            let Some(first) = missed.first() else { return Ok(()) };
            // Packs are gone, and there may be others that hold the chunks.
            self.look_for(ids[*first])?;
        }
        Err(self.not_found(ids[missed[0]]))
    }

    fn look_up(&self, ids: &[ChunkId], indexes: &[usize]) -> Result<Vec<Wanted>, StoreError> {
        let mut wanted = Vec::with_capacity(indexes.len());
        for &index in indexes {
            let found = self.find_or_look_for(ids[index])?;
            let found = found.ok_or_else(|| self.not_found(ids[index]))?;
            wanted.push(Wanted { found, index });
        }
        Ok(wanted)
    }
}

/// What the threads share.
struct Reading<'a> {
    chunks: &'a Chunks,
    ids: &'a [ChunkId],
    /// In the order in which they lie in the store.
    wanted: &'a [Wanted],
    each: &'a Take<'a>,
    /// Indexes of those whose packs are gone.
    missed: Mutex<Vec<usize>>,
}

/// What a thread reads into. It is used again and again: to make it takes as long as to read some frames.
#[derive(Default)]
pub(super) struct Room {
    stored: Vec<u8>,
    opener: Opener,
}

impl Reading<'_> {
    fn run(&self, threads: usize) -> Result<(), StoreError> {
        let reads = self.reads();
        let (next, stop) = (AtomicUsize::new(0), AtomicBool::new(false));
        let work = || {
            let mut room = lock(self.chunks.rooms()).pop().unwrap_or_default();
            while !stop.load(Ordering::Relaxed)
                && let Some(read) = reads.get(next.fetch_add(1, Ordering::Relaxed))
            {
                let done = self.read(&self.wanted[read.clone()], &mut room);
                done.inspect_err(|_| stop.store(true, Ordering::Relaxed))?;
            }
            let mut rooms = lock(self.chunks.rooms());
            if rooms.len() < ROOMS {
                rooms.push(room);
            }
            Ok(())
        };
        thread::scope(|scope| {
            let start = |_| thread::Builder::new().name("chunks-read".into()).spawn_scoped(scope, work);
            // Where there are no more threads to be had, fewer do it.
            let helpers: Vec<_> = (1..threads.min(reads.len())).map_while(|n| start(n).ok()).collect();
            let mut done = work();
            for helper in helpers {
                let theirs = helper.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
                done = done.and(theirs);
            }
            done
        })
    }

    /// What is read at once each time.
    fn reads(&self) -> Vec<Range<usize>> {
        let (mut reads, mut first, mut begin) = (vec![], 0, 0);
        for (n, pair) in self.wanted.windows(2).enumerate() {
            let [before, now] = [&pair[0].found, &pair[1].found];
            if n == first {
                begin = before.range().start;
            }
            let near = before.pack == now.pack && now.range().start <= before.range().end + GAP_MAX;
            let same = before.pack == now.pack && now.range() == before.range();
            if !(same || near && now.range().end - begin <= READ_MAX) {
                reads.push(first..n + 1);
                first = n + 1;
            }
        }
        if first < self.wanted.len() {
            reads.push(first..self.wanted.len());
        }
        reads
    }

    /// Gives the chunks of neighbouring frames.
    fn read(&self, wanted: &[Wanted], room: &mut Room) -> Result<(), StoreError> {
        let ([first, ..], Some(last)) = (wanted, wanted.last()) else { return Ok(()) };
        let frames = || wanted.chunk_by(|a, b| a.found.range() == b.found.range());
        let cached: Vec<_> = {
            let mut cache = lock(self.chunks.frames());
            frames().map(|frame| cache.get(frame[0].found.frame_id())).collect()
        };
        let span = first.found.range().start..last.found.range().end;
        let Room { stored, opener } = room;
        if cached.iter().any(Option::is_none) {
            // Frames are bounded, and so is what is read together.
            let len = (span.end - span.start) as usize;
            if stored.len() < len {
                stored.resize(len.max(READ_MAX as usize), 0);
            }
            let key = first.found.pack.key();
            match self.chunks.store().read_at(&key, span.start, &mut stored[..len]) {
                Err(StoreError::NotFound { .. }) => {
                    lock(&self.missed).extend(wanted.iter().map(|one| one.index));
                    return Ok(());
                }
                Err(StoreError::Corrupt { .. }) => return self.read_singly(wanted, None),
                done => done?,
            }
        }
        for (of_frame, cached) in frames().zip(cached) {
            let found = &of_frame[0].found;
            let opened = match &cached {
                Some(bytes) => Ok(&**bytes),
                None => {
                    let range = found.range();
                    let stored =
                        &stored[(range.start - span.start) as usize..][..(range.end - range.start) as usize];
                    opener.open(found.pack, range.start, found.frame(), stored)
                }
            };
            let bytes = match opened {
                Err(StoreError::Corrupt { .. }) => {
                    self.read_singly(of_frame, None)?;
                    continue;
                }
                opened => opened?,
            };
            if !self.is_right(of_frame, bytes) {
                self.read_singly(of_frame, Some(bytes))?;
                continue;
            }
            self.give(of_frame, bytes)?;
            // Other chunks of it may be wanted next.
            if cached.is_none() && of_frame.len() < found.frame().chunks as usize {
                lock(self.chunks.frames()).insert(found.frame_id(), bytes.into());
            }
        }
        Ok(())
    }

    /// Gives chunks of which some are damaged in this frame, or all: others may have them, too.
    fn read_singly(&self, wanted: &[Wanted], frame: Option<&[u8]>) -> Result<(), StoreError> {
        wanted.iter().try_for_each(|one| {
            let id = self.ids[one.index];
            let give = |bytes: &[u8]| (self.each)(one.index..one.index + 1, bytes);
            match frame.map(|frame| one.found.take(id, frame)) {
                Some(Ok(bytes)) => give(bytes),
                _ => give(&self.chunks.read(id)?),
            }
        })
    }

    /// Whether the chunks of a frame that are wanted are what their ids say.
    fn is_right(&self, wanted: &[Wanted], frame: &[u8]) -> bool {
        // Equal chunks are one after the other, and are checked once.
        let alike = |a: &Wanted, b: &Wanted| {
            a.found.offset == b.found.offset && self.ids[a.index] == self.ids[b.index]
        };
        let mut right = true;
        let firsts = (0..wanted.len()).filter(|&n| n == 0 || !alike(&wanted[n - 1], &wanted[n]));
        let inputs = firsts.map(|n| (n, wanted[n].found.of_frame(frame)));
        chunk_ids(inputs, |nth, id| right &= id == self.ids[wanted[nth].index]);
        right
    }

    /// Gives the chunks of a frame that are wanted, which were checked.
    fn give(&self, wanted: &[Wanted], frame: &[u8]) -> Result<(), StoreError> {
        let follows = |a: &Wanted, b: &Wanted| {
            b.index == a.index + 1
                && b.found.len == a.found.len
                && b.found.offset == a.found.offset + a.found.len
        };
        wanted.chunk_by(follows).try_for_each(|run| {
            let (first, last) = (&run[0], &run[run.len() - 1]);
            let bytes = &frame[first.found.offset as usize..(last.found.offset + last.found.len) as usize];
            (self.each)(first.index..last.index + 1, bytes)
        })
    }
}
