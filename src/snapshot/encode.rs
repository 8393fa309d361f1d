//! State to manifest.

use super::{SnapshotError, State, check::check, limits::MANIFEST_MAX};
use crate::digest::SnapshotId;

/// First bytes of a manifest.
pub const MAGIC: [u8; 8] = *b"WASMCKPT";
/// The format that is written, and the newest that is read.
pub const FORMAT: u16 = 1;
/// Magic, format, length of the body.
pub(super) const HEADER: usize = 8 + 2 + 8;

/// The manifest of a state, and its id.
///
/// # Errors
/// [`SnapshotError::Invalid`] when the state breaks a rule of the format (order, limits);
/// [`SnapshotError::TooLarge`] when the manifest would be over [`MANIFEST_MAX`] bytes.
pub fn encode(state: &State) -> Result<(SnapshotId, Vec<u8>), SnapshotError> {
    check(state)?;
    let manifest = to_bytes(state, 256)?;
    Ok((SnapshotId::of(&manifest), manifest))
}

/// The bytes, of a state that has been checked; `capacity` is how many are expected.
pub(super) fn to_bytes(state: &State, capacity: usize) -> Result<Vec<u8>, SnapshotError> {
    let mut manifest = Vec::with_capacity(capacity);
    manifest.extend(MAGIC);
    manifest.extend(FORMAT.to_le_bytes());
    manifest.extend([0; 8]);
    let mut manifest = postcard::to_extend(state, manifest)
        .map_err(|error| SnapshotError::Invalid { place: "state".to_string(), problem: error.to_string() })?;
    let body_len = (manifest.len() - HEADER) as u64;
    manifest[HEADER - 8..HEADER].copy_from_slice(&body_len.to_le_bytes());
    let found = manifest.len() as u64;
    if found > MANIFEST_MAX {
        return Err(SnapshotError::TooLarge { found });
    }
    Ok(manifest)
}
