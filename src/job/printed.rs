//! What a program has printed, as it is kept: taken from a state, put into one, and read back, whole or in part,
//! in the order in which it was written.

use std::ops::Range;

use anyhow::{Context, Result, ensure};
use serde::{Deserialize, Serialize};

use super::log::{Printed, PrintedStream};
use crate::digest::ChunkId;
use crate::snapshot::{Blob, PAGE, Section, State, Tree};

/// Name of the section that says how much was printed, and in which order.
const SECTION: &str = "output";
const SECTION_VERSION: u32 = 1;
/// Names of the blobs, by stream.
const BLOBS: [&str; 2] = ["stdout", "stderr"];
/// So many changes between the two streams are remembered; beyond them they are told one after the other.
pub(super) const RUNS_MAX: usize = 1 << 16;
/// Bytes of a stream that are read at a time, to be given out in small parts.
const WINDOW: u64 = 1 << 20;

/// Most bytes of a stream: as many as no program prints, and two of them can be added.
const WRITTEN_MAX: u64 = 1 << 62;

/// Reads chunks.
pub(super) type Fetch<'a> = dyn FnMut(ChunkId) -> Result<Vec<u8>> + 'a;

/// The section's bytes.
#[derive(Serialize, Deserialize)]
struct Saved {
    written: [u64; 2],
    runs: Vec<u64>,
}

/// Some bytes of one stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Part {
    /// 0 for standard output, 1 for standard error.
    pub stream: usize,
    /// Offset of the first byte in the stream.
    pub at: u64,
    /// How many.
    pub len: u64,
}

impl Printed {
    /// What had been printed at a snapshot.
    ///
    /// # Errors
    /// The state's section and blobs contradict each other.
    pub fn of_state(state: &State) -> Result<Self> {
        let mut printed = Self::default();
        let Some(section) = state.sections.iter().find(|s| s.name == SECTION) else {
            return Ok(printed);
        };
        let version = section.version;
        ensure!(
            version == SECTION_VERSION,
            "output of version {version}; this build reads {SECTION_VERSION}"
        );
        let (saved, rest): (Saved, _) =
            postcard::take_from_bytes(&section.bytes).context("the state's output cannot be decoded")?;
        ensure!(rest.is_empty() && saved.runs.len() <= RUNS_MAX, "the state's output is malformed");
        printed.runs = saved.runs;
        for (index, stream) in printed.streams.iter_mut().enumerate() {
            stream.written = saved.written[index];
            if let Some(blob) = state.blobs.iter().find(|blob| blob.name == BLOBS[index]) {
                (stream.kept, stream.root) = (blob.len, blob.root);
            }
            ensure!(stream.kept <= stream.written, "more output is kept than was printed");
            ensure!(stream.written <= WRITTEN_MAX, "{} bytes of output", stream.written);
            let mut runs = printed.runs.iter().skip(index).step_by(2);
            let told = runs.try_fold(0_u64, |told, len| told.checked_add(*len));
            ensure!(
                told.is_some_and(|told| told <= stream.written),
                "output of more bytes than were printed"
            );
        }
        Ok(printed)
    }

    /// Adds it to a state.
    pub(super) fn add_to(&self, state: &mut State) -> Result<()> {
        if self.runs.is_empty() {
            return Ok(());
        }
        let written = self.streams.map(|s| s.written);
        let bytes = postcard::to_stdvec(&Saved { written, runs: self.runs.clone() })?;
        state.sections.push(Section { name: SECTION.to_string(), version: SECTION_VERSION, bytes });
        state.sections.sort_by(|a, b| a.name.cmp(&b.name));
        for (name, stream) in BLOBS.iter().zip(self.streams) {
            if stream.kept > 0 {
                state.blobs.push(Blob { name: name.to_string(), len: stream.kept, root: stream.root });
            }
        }
        state.blobs.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(())
    }

    /// Gives all that is kept of the stream (0 for output, 1 for error) to `take`, in order.
    ///
    /// # Errors
    /// A chunk is missing or corrupt, or `take` failed.
    pub fn read(
        &self,
        stream: usize,
        fetch: &mut dyn FnMut(ChunkId) -> Result<Vec<u8>>,
        take: &mut dyn FnMut(&[u8]) -> Result<()>,
    ) -> Result<()> {
        self.read_range(stream, 0..u64::MAX, fetch, take)
    }

    /// Gives what is kept of these bytes of the stream to `take`, in order. Fetches only what holds them.
    ///
    /// # Errors
    /// As of [`Printed::read`].
    pub fn read_range(
        &self,
        stream: usize,
        range: Range<u64>,
        fetch: &mut dyn FnMut(ChunkId) -> Result<Vec<u8>>,
        take: &mut dyn FnMut(&[u8]) -> Result<()>,
    ) -> Result<()> {
        let PrintedStream { kept, root, .. } = self.streams[stream];
        let range = range.start..range.end.min(kept);
        if range.is_empty() {
            return Ok(());
        }
        let mut at = range.start;
        Tree::read(root, kept, range.clone(), fetch, &mut |offset, page| {
            zeros(&mut at, offset, take)?;
            let from = (at - offset) as usize;
            let to = ((range.end - offset) as usize).min(page.len());
            at = offset + to as u64;
            take(&page[from..to])
        })
        .context("the output that was kept cannot be read")?;
        zeros(&mut at, range.end, take)
    }

    /// Gives what is kept of both streams, from these offsets on, to `take` in the order in which it was
    /// written: the stream (0 for output, 1 for error) and bytes of it. Takes 2 MiB of memory.
    ///
    /// # Errors
    /// As of [`Printed::read`].
    pub fn read_in_order(
        &self,
        from: [u64; 2],
        fetch: &mut dyn FnMut(ChunkId) -> Result<Vec<u8>>,
        take: &mut dyn FnMut(usize, &[u8]) -> Result<()>,
    ) -> Result<()> {
        self.read_parts(in_order(&self.runs, from, self.kept()), fetch, take)
    }

    /// Gives these parts to `take`.
    pub(super) fn read_parts(
        &self,
        parts: impl Iterator<Item = Part>,
        fetch: &mut Fetch<'_>,
        take: &mut dyn FnMut(usize, &[u8]) -> Result<()>,
    ) -> Result<()> {
        let mut windows = [(0, vec![]), (0, vec![])];
        for Part { stream, at, len } in parts {
            let (start, bytes): &mut (u64, Vec<u8>) = &mut windows[stream];
            let (mut at, end) = (at, at + len);
            while at < end {
                if !(*start..*start + bytes.len() as u64).contains(&at) {
                    bytes.clear();
                    *start = at;
                    self.read_range(stream, at..at.saturating_add(WINDOW), fetch, &mut |more| {
                        bytes.extend_from_slice(more);
                        Ok(())
                    })?;
                    ensure!(!bytes.is_empty(), "byte {at} of the output is not kept");
                }
                let to = end.min(*start + bytes.len() as u64);
                take(stream, &bytes[(at - *start) as usize..(to - *start) as usize])?;
                at = to;
            }
        }
        Ok(())
    }

    /// How many bytes of each stream are kept.
    pub(super) fn kept(&self) -> [u64; 2] {
        self.streams.map(|s| s.kept)
    }

    /// How many bytes were printed and not kept.
    pub fn lost(&self) -> u64 {
        self.streams.iter().map(|s| s.written - s.kept).sum()
    }
}

/// The bytes between `from` and `to` of both streams, in the order in which they were written. `runs` are of
/// output and error in turn; what they do not tell of comes one stream after the other.
pub(super) fn in_order(runs: &[u64], from: [u64; 2], to: [u64; 2]) -> impl Iterator<Item = Part> {
    let mut told = [0_u64; 2];
    let runs = runs.iter().enumerate().map(|(nth, len)| (nth % 2, *len));
    runs.chain([(0, u64::MAX), (1, u64::MAX)]).filter_map(move |(stream, len)| {
        let start = told[stream].max(from[stream]);
        told[stream] = told[stream].saturating_add(len);
        let end = told[stream].min(to[stream]);
        (start < end).then(|| Part { stream, at: start, len: end - start })
    })
}

/// Gives zeros up to the offset `to`.
fn zeros(at: &mut u64, to: u64, take: &mut dyn FnMut(&[u8]) -> Result<()>) -> Result<()> {
    let zeros = [0; PAGE];
    while *at < to {
        let n = (to - *at).min(PAGE as u64);
        take(&zeros[..n as usize])?;
        *at += n;
    }
    Ok(())
}

/// Reads what is kept of a stream in order, zeros included, and gives its tree.
pub(super) fn load(
    stream: &PrintedStream,
    fetch: &mut Fetch<'_>,
    take: &mut dyn FnMut(&[u8]) -> Result<()>,
) -> Result<Tree> {
    let mut at = 0;
    let tree = Tree::load(stream.root, stream.kept, fetch, &mut |offset, page| {
        zeros(&mut at, offset, take)?;
        at += page.len() as u64;
        take(page)
    })
    .context("the output that was kept cannot be read")?;
    zeros(&mut at, stream.kept, take)?;
    Ok(tree)
}
