//! What can go wrong with a store, told apart where a caller or a user does something different.

use std::{fmt, io};

/// Who holds what one wanted to hold, as far as is known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Holder {
    /// The process.
    pub pid: u32,
    /// Its machine.
    pub host: String,
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "process {} on {}", self.pid, self.host)
    }
}

/// An operation of a store has failed. The message names the object; the cause is in `source()` only.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// There is nothing under this name.
    #[error("`{what}` does not exist")]
    NotFound {
        /// Path or key.
        what: String,
    },
    /// Another holder has the lease.
    #[error("`{what}` is in use by {}", by(.holder))]
    Held {
        /// Path or key.
        what: String,
        /// Who has it, if that could be read.
        holder: Option<Holder>,
        /// It is known to live: there is no use in waiting for it to be found dead.
        alive: bool,
    },
    /// Not where a store can be.
    #[error("`{address}` is no address of a store: {why}")]
    BadAddress {
        /// The address, without secrets.
        address: String,
        /// What is wrong with it.
        why: String,
    },
    /// A service that does not do what all else rests on.
    #[error("`{what}` cannot be a store: {why}")]
    Unsafe {
        /// Its address.
        what: String,
        /// What it does.
        why: &'static str,
    },
    /// A lease of this process may be another's by now.
    #[error(
        "`{what}` may be in use by others: for too long, the store could not be reached or this process stood still"
    )]
    Lapsed {
        /// Key.
        what: String,
    },
    /// The store, or a part of it, was written by a later version of this program.
    #[error("`{what}` has format {found}, and this program knows formats up to {known}")]
    NewerVersion {
        /// Path or key.
        what: String,
        /// The version that was found.
        found: u64,
        /// The newest version that is understood.
        known: u64,
    },
    /// A directory that holds other things, or a file.
    #[error("`{what}` is something else than a store")]
    NotAStore {
        /// Path.
        what: String,
    },
    /// No space, or a quota or size limit is reached.
    #[error("no space left for `{what}`")]
    Full {
        /// Path or key.
        what: String,
        /// What the system said.
        source: io::Error,
    },
    /// The store may not be used in this way: permissions, or a read-only file system.
    #[error("cannot {doing} `{what}`: not permitted")]
    Denied {
        /// What was tried.
        doing: &'static str,
        /// Path or key.
        what: String,
        /// What the system said.
        source: io::Error,
    },
    /// The bytes are not what was written.
    #[error("`{what}` is damaged: {why}")]
    Corrupt {
        /// Path or key.
        what: String,
        /// What is wrong with it.
        why: String,
    },
    /// Not a name that a store takes.
    #[error("`{key}` is not a name for a stored object: {why}")]
    BadKey {
        /// The text, escaped and shortened.
        key: String,
        /// What is wrong with it.
        why: &'static str,
    },
    /// More bytes than an object of this kind may have.
    #[error("`{what}` has {len} bytes, and at most {max} are allowed")]
    TooLarge {
        /// Path or key.
        what: String,
        /// Its length in bytes.
        len: u64,
        /// The limit in bytes.
        max: u64,
    },
    /// Anything else that the system reports.
    #[error("cannot {doing} `{what}`")]
    Io {
        /// What was tried.
        doing: &'static str,
        /// Path or key.
        what: String,
        /// What the system said.
        source: io::Error,
    },
}

impl StoreError {
    /// Sorts an error of the system by what a user would do about it.
    pub fn from_io(doing: &'static str, what: impl fmt::Display, source: io::Error) -> Self {
        use io::ErrorKind as K;
        let what = what.to_string();
        match source.kind() {
            K::NotFound => Self::NotFound { what },
            K::StorageFull | K::QuotaExceeded | K::FileTooLarge => Self::Full { what, source },
            K::PermissionDenied | K::ReadOnlyFilesystem => Self::Denied { doing, what, source },
            _ => Self::Io { doing, what, source },
        }
    }

    /// The object is damaged, for this reason.
    pub fn corrupt(what: impl fmt::Display, why: impl Into<String>) -> Self {
        Self::Corrupt { what: what.to_string(), why: why.into() }
    }

    /// What the user can do about it; nothing where there is no more to say.
    pub fn hint(&self) -> Option<&'static str> {
        Some(match self {
            Self::NotFound { .. } | Self::BadKey { .. } | Self::TooLarge { .. } | Self::BadAddress { .. } => {
                return None;
            }
            Self::Held { .. } => "wait until it ends, or stop it",
            Self::Unsafe { .. } => {
                "use another server: one that honours conditions, such as `If-None-Match: *` of S3"
            }
            Self::Lapsed { .. } => "give the same command again: it goes on from the last snapshot",
            Self::NewerVersion { .. } => "use the newer program, or another store",
            Self::NotAStore { .. } => "name an empty or a new directory",
            Self::Full { .. } => {
                "free some space, or remove jobs that are not needed; what was stored before is intact"
            }
            Self::Denied { .. } => "check who owns the store and how it is mounted, or use another store",
            Self::Corrupt { .. } => "verify the store; an earlier snapshot may be whole",
            Self::Io { .. } => "check the disk or the connection, and try again",
        })
    }
}

fn by(holder: &Option<Holder>) -> String {
    holder.as_ref().map_or_else(|| "another process".to_string(), Holder::to_string)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_are_sorted_and_the_cause_is_said_once() {
        let no_space = io::Error::from_raw_os_error(28);
        let full = StoreError::from_io("write", "/s/packs/1", no_space);
        assert!(matches!(full, StoreError::Full { .. }), "{full:?}");
        let cause = std::error::Error::source(&full).unwrap().to_string();
        assert!(!full.to_string().contains(&cause));
        assert!(full.to_string().contains("/s/packs/1"));

        let denied = StoreError::from_io("create", "/s", io::ErrorKind::ReadOnlyFilesystem.into());
        assert_eq!(denied.to_string(), "cannot create `/s`: not permitted");
        assert!(denied.hint().is_some());

        let held = |holder| StoreError::Held { what: "jobs/x".into(), holder, alive: false };
        assert_eq!(held(None).to_string(), "`jobs/x` is in use by another process");
        let holder = Holder { pid: 7, host: "n1".into() };
        assert_eq!(held(Some(holder)).to_string(), "`jobs/x` is in use by process 7 on n1");
    }
}
