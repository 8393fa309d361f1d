//! Restoring a memory at once, with all processors.

use std::ops::Range;
use std::sync::{Mutex, PoisonError};

use anyhow::{Context, ensure};

use super::ChunkSource;
use super::nodes::{read_level, read_one};
use crate::digest::ChunkId;
use crate::snapshot::{ChunkAt, Known, PAGE, Partial, Tree, TreeError};

/// Pages that are read at once (256 MiB).
const BATCH: u64 = 65_536;

/// Bytes of a memory that is worth huge pages (4 MiB).
#[cfg(target_os = "linux")]
const HUGE_FROM: usize = 4 << 20;

/// Makes bytes zeros, of which only the first `made` can be something else.
pub(in crate::machine) fn clear(bytes: &mut [u8], made: usize) {
    // To look at them would put pages there, which are expensive to write to afterwards.
    #[cfg(target_os = "linux")]
    if super::linux::map_fresh(bytes).is_ok() {
        return;
    }
    for page in bytes.chunks_mut(PAGE).take(made.div_ceil(PAGE)) {
        if page.iter().any(|byte| *byte != 0) {
            page.fill(0);
        }
    }
}

/// Fills `bytes`, which are zeros, with the content named `root`, and gives its tree.
///
/// # Errors
/// A [`TreeError`], which names the chunk and the bytes that it should hold.
pub(in crate::machine) fn load(
    bytes: &mut [u8],
    root: ChunkId,
    source: &dyn ChunkSource,
) -> Result<Tree, TreeError> {
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let tree = Mutex::new(Partial::new(root, bytes.len() as u64)?);
    let top = tree.lock().unwrap_or_else(PoisonError::into_inner).top();
    for level in (1..=top).rev() {
        read_level(&tree, level, (source, threads), &mut Err)?;
    }
    let tree = tree.into_inner().unwrap_or_else(PoisonError::into_inner);
    for (nth, part) in bytes.chunks_mut(BATCH as usize * PAGE).enumerate() {
        let first = nth as u64 * BATCH;
        let known = (first..).take(part.len().div_ceil(PAGE)).filter_map(|index| match tree.page(index) {
            Known::Page(page) => Some(page),
            Known::Zero | Known::Behind(_) => None,
        });
        let pages: Vec<ChunkAt> = known.collect();
        prefer_huge(part, pages.len());
        let mut rest = part.chunks_mut(PAGE).zip(first..);
        let place = |page: &ChunkAt| rest.find(|(_, index)| *index == page.pages().start);
        let places: Vec<_> = pages.iter().map_while(place).map(|(bytes, _)| Mutex::new(bytes)).collect();
        let ids: Vec<ChunkId> = pages.iter().map(ChunkAt::id).collect();
        let put = |range: Range<usize>, bytes: &[u8]| {
            let wanted = pages.get(range.clone()).zip(places.get(range));
            let (pages, places) = wanted.context("chunks that were not asked for")?;
            ensure!(bytes.len() == pages.len() * PAGE, "they are no pages");
            for ((page, place), bytes) in pages.iter().zip(places).zip(bytes.chunks(PAGE)) {
                page.check_page(bytes)?;
                let mut place = place.lock().unwrap_or_else(PoisonError::into_inner);
                // The last page of a content may be longer than it.
                let content = bytes.get(..place.len()).context("a page is too short")?;
                place.copy_from_slice(content);
            }
            Ok(())
        };
        if let Err(error) = source.read_many(&ids, threads, &put) {
            return Err(worst(&pages, source, error));
        }
    }
    prefer_small(bytes);
    Ok(tree.into_whole().unwrap_or_default())
}

/// Gives memory most of which is going to be filled huge pages: to get as many small ones takes as long as to fill
/// them. What is written to later is still found page by page, since the system takes a huge page apart for that.
fn prefer_huge(part: &mut [u8], filled: usize) {
    #[cfg(target_os = "linux")]
    if part.len() >= HUGE_FROM && filled >= part.len() / PAGE / 10 * 9 {
        // Without, it only takes longer.
        let _ = super::linux::prefer_huge(part, true);
    }
    #[cfg(not(target_os = "linux"))]
    let _ = (part, filled);
}

/// What comes later, is as it was.
fn prefer_small(part: &mut [u8]) {
    #[cfg(target_os = "linux")]
    let _ = super::linux::prefer_huge(part, false);
    #[cfg(not(target_os = "linux"))]
    let _ = part;
}

/// Which of these pages cannot be read.
fn worst(pages: &[ChunkAt], source: &dyn ChunkSource, error: anyhow::Error) -> TreeError {
    for page in pages {
        let read = read_one(source, page.id()).map_err(|cause| page.missing(cause));
        if let Err(error) = read.and_then(|bytes| page.check_page(&bytes)) {
            return error;
        }
    }
    match (error.downcast(), pages.first()) {
        (Ok(error), _) => error,
        // It was away, and is there again.
        (Err(error), Some(page)) => page.missing(error),
        (Err(error), None) => TreeError::Taker { start: 0, cause: error },
    }
}
