//! Where a guest that is restored has its memory from: the chunks of the store.

use std::ops::Range;
use std::sync::{Mutex, PoisonError};

use anyhow::Result;

use crate::digest::ChunkId;
use crate::machine::{ChunkSource, TakeChunks};
use crate::store::{Chunks, StoreError};

impl ChunkSource for Chunks {
    fn read_many(&self, ids: &[ChunkId], threads: usize, each: &TakeChunks<'_>) -> Result<()> {
        // The error of who takes them is not the store's.
        let failed = Mutex::new(None);
        let take = |range: Range<usize>, bytes: &[u8]| {
            each(range, bytes).map_err(|error| {
                failed.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
                StoreError::NotFound { what: "room for a chunk".to_string() }
            })
        };
        let read = self.read_many(ids, threads, &take);
        match failed.into_inner().unwrap_or_else(PoisonError::into_inner) {
            Some(error) => Err(error),
            None => Ok(read?),
        }
    }
}
