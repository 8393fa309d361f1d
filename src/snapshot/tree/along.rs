//! Bringing a tree to a content that several threads can read: reading and hashing go along with storing.

use anyhow::ensure;
use rayon::prelude::*;

use super::{AT_ONCE, BATCH, Emit, PAGE, Tree, page_ids};
use crate::digest::ChunkId;

/// Reads pages of a content, from several threads at a time: see [`Tree::update_along`]. Its first argument is the
/// number in the whole list of the first page that its second argument names. Fills the third one with them; or gives
/// them, one after the other, where they are.
pub type ReadAlong<'a, 'm> = dyn Fn(usize, &[u64], &mut [u8]) -> anyhow::Result<Option<&'m [u8]>> + Sync + 'a;

impl Tree {
    /// As [`Tree::update_pages`] for a content that several threads can read: some pages are read and hashed while
    /// others are emitted. Uses the threads of the pool that it is called in, and as ever one for `emit`.
    ///
    /// # Errors
    /// As of [`Tree::update_pages`].
    pub fn update_along(
        &mut self,
        len: u64,
        dirty: &[u64],
        read: &ReadAlong<'_, '_>,
        emit: &mut Emit<'_>,
    ) -> anyhow::Result<ChunkId> {
        self.or_forget(|tree| {
            ensure!(len.is_multiple_of(PAGE as u64), "a volume of {len} bytes does not end with a page");
            tree.change(len, emit, |tree, emit| tree.set_along(dirty, read, emit))
        })
    }

    /// Sets the pages with the given indexes: a batch is read and hashed while the one before is emitted.
    fn set_along(
        &mut self,
        indexes: &[u64],
        read: &ReadAlong<'_, '_>,
        emit: &mut Emit<'_>,
    ) -> anyhow::Result<Vec<u64>> {
        self.check_indexes(indexes)?;
        let mut changed = Vec::new();
        let (mut now, mut next) = (Batch::default(), Batch::default());
        let mut batches = indexes.chunks(BATCH).enumerate();
        let Some((_, first)) = batches.next() else { return Ok(changed) };
        now.fill(0, first, read);
        loop {
            let following = batches.next();
            rayon::in_place_scope(|scope| {
                let next = &mut next;
                if let Some((nth, indexes)) = following {
                    scope.spawn(move |_| next.fill(nth * BATCH, indexes, read));
                }
                std::mem::replace(&mut now.read, Ok(()))?;
                for ((index, page), id) in now.indexes.iter().zip(now.pages()).zip(&now.ids) {
                    if self.set_page(*index, *id, page, emit)? {
                        changed.push(*index);
                    }
                }
                anyhow::Ok(())
            })?;
            if following.is_none() {
                return Ok(changed);
            }
            std::mem::swap(&mut now, &mut next);
        }
    }
}

/// Pages that were read and hashed.
struct Batch<'m> {
    indexes: Vec<u64>,
    ids: Vec<ChunkId>,
    /// Those of each part where they are,
    parts: Vec<Option<&'m [u8]>>,
    /// or as they were read.
    bytes: Vec<u8>,
    /// Whether they could be read.
    read: anyhow::Result<()>,
}

impl Default for Batch<'_> {
    fn default() -> Self {
        Self { indexes: vec![], ids: vec![], parts: vec![], bytes: vec![], read: Ok(()) }
    }
}

impl<'m> Batch<'m> {
    /// Reads these pages, the first of which has the number `first` in the list of all, and hashes them.
    fn fill(&mut self, first: usize, indexes: &[u64], read: &ReadAlong<'_, 'm>) {
        self.indexes = indexes.to_vec();
        self.bytes.resize(indexes.len() * PAGE, 0);
        self.ids.resize(indexes.len(), ChunkId::ZERO);
        self.parts.clear();
        self.parts.resize(indexes.len().div_ceil(AT_ONCE), None);
        let parts = indexes.par_chunks(AT_ONCE).zip(self.bytes.par_chunks_mut(AT_ONCE * PAGE));
        let parts = parts.zip(self.ids.par_chunks_mut(AT_ONCE)).zip(&mut self.parts).enumerate();
        self.read = parts.try_for_each(|(nth, (((indexes, bytes), ids), part))| {
            *part = read(first + nth * AT_ONCE, indexes, bytes)?;
            let bytes = part.unwrap_or(bytes);
            ensure!(bytes.len() == indexes.len() * PAGE, "some pages are missing");
            page_ids(bytes.chunks(PAGE), ids);
            Ok(())
        });
    }

    /// The pages.
    fn pages(&self) -> impl Iterator<Item = &[u8]> {
        let read = self.bytes.chunks(AT_ONCE * PAGE);
        self.parts.iter().zip(read).flat_map(|(part, read)| part.unwrap_or(read).chunks(PAGE))
    }
}
