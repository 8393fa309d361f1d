//! Why a snapshot is refused.

use super::limits::MANIFEST_MAX;
use crate::digest::SnapshotId;

/// Why bytes are not a snapshot, or a state cannot become one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SnapshotError {
    /// The manifest is longer than any that is written.
    #[error("snapshot of {found} bytes is over the limit of {MANIFEST_MAX} bytes")]
    TooLarge {
        /// Its length in bytes.
        found: u64,
    },
    /// The bytes are not those that the id names.
    #[error("snapshot {expected} is damaged: its bytes hash to {found}")]
    WrongId {
        /// The id that was asked for.
        expected: SnapshotId,
        /// The id of the bytes.
        found: SnapshotId,
    },
    /// Something else than a snapshot.
    #[error("not a snapshot: it begins with `{found}`")]
    NotASnapshot {
        /// The first bytes, escaped.
        found: String,
    },
    /// Written by a newer version.
    #[error("snapshot has format {found}, this build reads up to {newest}; use a newer build")]
    NewerFormat {
        /// Its format.
        found: u16,
        /// The newest format that is known here.
        newest: u16,
    },
    /// There never was such a format.
    #[error("snapshot has format {found}, which does not exist")]
    UnknownFormat {
        /// Its format.
        found: u16,
    },
    /// Cut short, or something follows it.
    #[error("snapshot should be {expected} bytes long, but is {found}")]
    WrongLength {
        /// What its header says, or the header's own length, in bytes.
        expected: u64,
        /// Its length in bytes.
        found: u64,
    },
    /// The body cannot be decoded.
    #[error("snapshot is malformed at byte {offset}, in {place}: {problem}")]
    Malformed {
        /// Offset within the manifest, in bytes.
        offset: u64,
        /// Which part of the state, such as `frames[3].stack`.
        place: String,
        /// What is wrong.
        problem: String,
    },
    /// The state breaks a rule of the format.
    #[error("snapshot is invalid in {place}: {problem}")]
    Invalid {
        /// Which part of the state, such as `frames[3].stack`.
        place: String,
        /// What is wrong.
        problem: String,
    },
    /// The bytes say what other, shorter bytes say.
    #[error("snapshot is not in canonical form from byte {offset} on")]
    NotCanonical {
        /// Offset within the manifest, in bytes.
        offset: u64,
    },
}
