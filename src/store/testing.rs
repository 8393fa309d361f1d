//! Chunks for tests.

use super::{Chunks, Written};
use crate::digest::ChunkId;

/// A page that looks like memory: some zeros, some text, some that is only its own.
pub(super) fn like_memory(n: u32) -> Vec<u8> {
    let mut page = vec![0; 4096];
    page[100..400].copy_from_slice(&b"name: value, ".repeat(24)[..300]);
    page[1000..1004].copy_from_slice(&n.to_le_bytes());
    page[2000..2032].copy_from_slice(blake3::hash(&n.to_le_bytes()).as_bytes());
    page
}

/// A page of which so many bytes do not compress.
pub(super) fn noisy(n: u32, bytes: usize) -> Vec<u8> {
    let mut page = vec![0; 4096];
    blake3::Hasher::new().update(&n.to_le_bytes()).finalize_xof().fill(&mut page[..bytes]);
    page
}

/// Stores these pages.
pub(super) fn write(
    chunks: &Chunks,
    page: fn(u32) -> Vec<u8>,
    pages: impl IntoIterator<Item = u32>,
) -> Written {
    let mut writer = chunks.writer().unwrap();
    for n in pages {
        let page = page(n);
        writer.add(ChunkId::of(&page), &page).unwrap();
    }
    writer.finish().unwrap().0
}
