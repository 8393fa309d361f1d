//! Reading the nodes of trees.

use std::sync::{Mutex, PoisonError};

use anyhow::{Context, Result, ensure};

use super::ChunkSource;
use crate::digest::ChunkId;
use crate::snapshot::{ChunkAt, NODE, Partial, TreeError};

/// Nodes that are read at once (64 KiB).
const BATCH: usize = 256;

/// Reads one chunk.
pub(super) fn read_one(source: &dyn ChunkSource, id: ChunkId) -> Result<Vec<u8>> {
    let found = Mutex::new(None);
    source.read_many(&[id], 1, &|_, bytes| {
        *found.lock().unwrap_or_else(PoisonError::into_inner) = Some(bytes.to_vec());
        Ok(())
    })?;
    found.into_inner().unwrap_or_else(PoisonError::into_inner).context("the store has given nothing")
}

/// Reads one node into its tree.
fn read_node(tree: &Mutex<Partial>, node: ChunkAt, source: &dyn ChunkSource) -> Result<(), TreeError> {
    let bytes = read_one(source, node.id()).map_err(|cause| node.missing(cause))?;
    tree.lock().unwrap_or_else(PoisonError::into_inner).put(node, &bytes)
}

/// What a page is; reads the nodes above it that have not been read.
#[cfg(target_os = "linux")]
pub(super) fn find(
    tree: &Mutex<Partial>,
    page: u64,
    source: &dyn ChunkSource,
) -> Result<crate::snapshot::Known, TreeError> {
    use crate::snapshot::Known;

    loop {
        let known = tree.lock().unwrap_or_else(PoisonError::into_inner).page(page);
        match known {
            Known::Behind(node) => read_node(tree, node, source)?,
            known => return Ok(known),
        }
    }
}

/// Reads all nodes of a level that are known and have not been read. What is wrong with one of them goes to `bad`; then the
/// others are read all the same, unless that says no.
///
/// # Errors
/// What `bad` gives back.
pub(super) fn read_level(
    tree: &Mutex<Partial>,
    level: u32,
    (source, threads): (&dyn ChunkSource, usize),
    bad: &mut dyn FnMut(TreeError) -> Result<(), TreeError>,
) -> Result<(), TreeError> {
    let nodes: Vec<ChunkAt> = tree.lock().unwrap_or_else(PoisonError::into_inner).unread(level).collect();
    for nodes in nodes.chunks(BATCH * threads) {
        let ids: Vec<ChunkId> = nodes.iter().map(ChunkAt::id).collect();
        let found: Vec<Mutex<[u8; NODE]>> = ids.iter().map(|_| Mutex::new([0; NODE])).collect();
        let read = source.read_many(&ids, threads, &|range, bytes| {
            let places = found.get(range).context("chunks that were not asked for")?;
            ensure!(bytes.len() == places.len() * NODE, "they are no nodes");
            for (place, node) in places.iter().zip(bytes.as_chunks().0) {
                *place.lock().unwrap_or_else(PoisonError::into_inner) = *node;
            }
            Ok(())
        });
        for (node, bytes) in nodes.iter().zip(found) {
            let bytes = bytes.into_inner().unwrap_or_else(PoisonError::into_inner);
            let put = match &read {
                Ok(()) => tree.lock().unwrap_or_else(PoisonError::into_inner).put(*node, &bytes),
                // One of them is bad: one by one, to find which.
                Err(_) => read_node(tree, *node, source),
            };
            if let Err(error) = put {
                bad(error)?;
            }
        }
    }
    Ok(())
}
