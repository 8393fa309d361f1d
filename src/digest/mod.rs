//! Typed identities over blake3.
//!
//! Every id is 32 bytes of blake3 over the bytes that it names; the types keep a module from being
//! taken for a snapshot. Text form: 64 lower-case hex digits.

mod pages;

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

pub use pages::chunk_ids;

/// The text is not 64 hex digits.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not an id: 64 hex digits are expected")]
pub struct ParseIdError(String);

macro_rules! id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        pub struct $name([u8; 32]);

        impl $name {
            /// The id of these bytes.
            pub fn of(bytes: &[u8]) -> Self {
                Self(*blake3::hash(bytes).as_bytes())
            }

            /// The id with these 32 bytes.
            pub const fn from_bytes(bytes: [u8; 32]) -> Self {
                Self(bytes)
            }

            /// The 32 bytes of the id.
            pub const fn as_bytes(&self) -> &[u8; 32] {
                &self.0
            }

            /// The first 12 hex digits: for people, not for look-up.
            pub fn short(&self) -> String {
                self.to_string()[..12].to_string()
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.iter().try_for_each(|b| write!(f, "{b:02x}"))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self.short())
            }
        }

        impl FromStr for $name {
            type Err = ParseIdError;

            fn from_str(text: &str) -> Result<Self, ParseIdError> {
                let refuse = || ParseIdError(text.to_string());
                if text.len() != 64 || !text.is_ascii() {
                    return Err(refuse());
                }
                let mut bytes = [0; 32];
                for (byte, pair) in bytes.iter_mut().zip(text.as_bytes().chunks(2)) {
                    if !pair.iter().all(u8::is_ascii_hexdigit) {
                        return Err(refuse());
                    }
                    let pair = std::str::from_utf8(pair).map_err(|_| refuse())?;
                    *byte = u8::from_str_radix(pair, 16).map_err(|_| refuse())?;
                }
                Ok(Self(bytes))
            }
        }
    };
}

id!(
    /// Names a pack of chunks in a store: blake3 of its index, which holds the hashes of all else.
    PackId
);
id!(
    /// Names a guest module: blake3 of the `.wasm` file as the user gave it.
    ModuleId
);
id!(
    /// Names a snapshot: blake3 of its manifest, which holds the whole state or the ids of its parts.
    SnapshotId
);
id!(
    /// Names a chunk: a page of memory or of a byte stream, or a node of a page tree.
    ChunkId
);

impl ChunkId {
    /// Stands for a page, or a whole subtree of pages, that is all zeros: there is no such chunk, and
    /// nobody can find bytes with this hash.
    pub const ZERO: Self = Self([0; 32]);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_round_trip_and_refusals() {
        let id = ChunkId::of(b"page");
        assert_eq!(id.to_string().parse::<ChunkId>(), Ok(id));
        for bad in ["", "ab", &"g".repeat(64), &"é".repeat(32), &"+1".repeat(32)] {
            assert!(bad.parse::<ChunkId>().is_err(), "{bad}");
        }
    }
}
