//! Bytes by name, durable, behind one trait: in memory, in a local directory, or on a service.
//!
//! - [`Store`]: whole objects by [`Key`], with one atomic step that every kind of store has,
//!   [`Store::create`]; [`Memory`], [`Local`] and [`remote::Remote`] implement it, and [`conformance`] tests whatever does.
//! - [`Chunks`]: the repository of content-addressed chunks in pack objects, on any store.
//! - [`objects`]: modules and manifests, each a whole object named by its hash.
//! - [`fault`], [`simulated`]: stores that fail on purpose, for crash tests.
//!
//! Names in a store:
//!
//! | key | what | who writes it |
//! |---|---|---|
//! | `packs/<id>` | chunks, see `pack.rs` | [`Chunks`] |
//! | `pack-epoch` | a number that changes before chunks are removed | [`Chunks`], [`Sweep`] |
//! | `unfit/<id>` | nothing: the pack of that name is damaged | whoever finds it |
//! | `modules/<id>` | a guest module, compressed | [`objects`] |
//! | `snapshots/<id>` | a snapshot's manifest | [`objects`] |
//! | `jobs/…` | logs of jobs, and what they have read from pipes | the job room |
//! | `format`, `leases/…`, `beats/…`, `probes/…` | on a service alone, see [`remote`] | [`remote`] |

mod cache;
mod chunks;
#[cfg(test)]
mod chunks_tests;
mod compress;
#[cfg(test)]
mod crash_tests;
mod error;
mod files;
mod filter;
mod frames;
mod key;
mod known;
mod leases;
mod local;
#[cfg(test)]
mod local_tests;
mod lookup;
mod memory;
mod near;
pub mod objects;
mod pack;
mod pack_index;
mod pipeline;
mod read_many;
#[cfg(test)]
mod read_many_tests;
pub mod remote;
mod sweep;
mod tables;
#[cfg(test)]
mod tables_tests;
#[cfg(test)]
mod testing;
mod unfit;
#[cfg(test)]
mod unfit_tests;
mod upkeep;
#[cfg(test)]
mod upkeep_tests;
mod writer;

#[doc(hidden)]
pub mod conformance;
#[doc(hidden)]
pub mod fault;
#[doc(hidden)]
pub mod simulated;

use std::ops::Range;
use std::path::PathBuf;
use std::time::Duration;

pub use chunks::{Chunks, PackReport};
pub use compress::{Compress, LEVEL_MAX, LEVEL_MIN};
pub use error::{Holder, StoreError};
pub use files::{Entry, FileOps, Locked, NewFile, OpenedFile, RealFiles};
pub use key::{KEY_MAX, Key};
pub use local::{FORMAT, Local};
pub use memory::Memory;
pub use pack::CHUNK_MAX;
pub use read_many::Take;
pub use sweep::{Sweep, Swept};
pub use upkeep::{Rewritten, Upkeep};
pub use writer::{Guard, Writer, Written};

/// Whether [`Store::create`] made the object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Created {
    /// It did: nobody else has, or will.
    Yes,
    /// There was one already; it is untouched.
    Exists,
}

/// How a lease is held.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sharing {
    /// By one holder alone.
    Exclusive,
    /// By any number of holders, none of them exclusive.
    Shared,
}

/// Bytes by name.
///
/// An object appears under its name at once and whole, or not at all: a reader never sees a part of
/// one. What has been written is durable when the call returns, so the order of calls is the order in
/// which things survive a loss of power. Several processes may use one store at a time.
pub trait Store: Send + Sync {
    /// What the store is, for messages: its path or address.
    fn describe(&self) -> String;

    /// What tells the store from all others on this machine, by whatever path or address it is reached.
    fn identity(&self) -> String {
        self.describe()
    }

    /// Stores the object durably, over any former one. Meant for objects named by their content, so that
    /// doing it twice changes nothing.
    ///
    /// # Errors
    /// [`StoreError::Full`], [`StoreError::Denied`], [`StoreError::Io`]; a former object is then intact.
    fn put(&self, key: &Key, bytes: &[u8]) -> Result<(), StoreError>;

    /// Begins an object that is too big for memory, or whose name is not known before its end.
    ///
    /// # Errors
    /// As [`Store::put`].
    fn upload(&self) -> Result<Box<dyn Upload>, StoreError>;

    /// Stores the object durably if there is none under the name: of any number of callers, at any time,
    /// one gets [`Created::Yes`].
    ///
    /// # Errors
    /// As [`Store::put`]. After an error it is unknown whether the object was made: read it to find out.
    fn create(&self, key: &Key, bytes: &[u8]) -> Result<Created, StoreError>;

    /// The whole object. Use [`Store::get_at_most`] where a limit is known.
    ///
    /// # Errors
    /// [`StoreError::NotFound`], [`StoreError::Denied`], [`StoreError::Io`].
    fn get(&self, key: &Key) -> Result<Vec<u8>, StoreError>;

    /// Exactly these bytes of the object, from `range.start` up to and without `range.end`.
    ///
    /// # Errors
    /// [`StoreError::Corrupt`] if the object does not have them all, and as [`Store::get`].
    fn get_range(&self, key: &Key, range: Range<u64>) -> Result<Vec<u8>, StoreError>;

    /// Fills `into` with the bytes of the object from `start` on: [`Store::get_range`] without asking for memory.
    ///
    /// # Errors
    /// As [`Store::get_range`].
    fn read_at(&self, key: &Key, start: u64, into: &mut [u8]) -> Result<(), StoreError> {
        let range = start..start.saturating_add(into.len() as u64);
        let bytes = self.get_range(key, range.clone())?;
        if bytes.len() != into.len() {
            return Err(short(key, &range, bytes.len() as u64));
        }
        into.copy_from_slice(&bytes);
        Ok(())
    }

    /// The length of the object, and its last bytes: so many, or all that it has.
    ///
    /// # Errors
    /// As [`Store::get`].
    fn get_end(&self, key: &Key, max: u64) -> Result<(u64, Vec<u8>), StoreError> {
        let size = self.size(key)?;
        Ok((size, self.get_range(key, size.saturating_sub(max)..size)?))
    }

    /// Length of the object in bytes.
    ///
    /// # Errors
    /// As [`Store::get`].
    fn size(&self, key: &Key) -> Result<u64, StoreError>;

    /// All keys whose text begins with `prefix`, in ascending order of their bytes.
    ///
    /// # Errors
    /// [`StoreError::BadKey`] if no key can begin so, and as [`Store::get`] without `NotFound`.
    fn list(&self, prefix: &str) -> Result<Vec<Key>, StoreError>;

    /// Makes durable what can be seen under the prefix, whoever has written it.
    ///
    /// A process that died may leave an object that can be seen and does not survive a loss of power. Who
    /// names an object that another has written calls this before; reading alone does not need it.
    ///
    /// # Errors
    /// As [`Store::list`] and [`Store::put`].
    fn settle(&self, prefix: &str) -> Result<(), StoreError>;

    /// Removes the object durably; it is no error if there is none.
    ///
    /// # Errors
    /// [`StoreError::Denied`], [`StoreError::Io`].
    fn delete(&self, key: &Key) -> Result<(), StoreError>;

    /// Removes these objects durably, in any order; it is no error if there are none.
    ///
    /// # Errors
    /// As of [`Store::delete`]; any of them may be left.
    fn delete_all(&self, keys: &[Key]) -> Result<(), StoreError> {
        keys.iter().try_for_each(|key| self.delete(key))
    }

    /// The next segments of the keys below `dir`, which ends with a slash, in ascending order: what one would call
    /// its entries.
    ///
    /// # Errors
    /// As of [`Store::list`].
    fn names(&self, dir: &str) -> Result<Vec<String>, StoreError> {
        let keys = self.list(dir)?;
        let first = |key: &Key| Some(key.as_str().strip_prefix(dir)?.split('/').next()?.to_string());
        let mut names: Vec<String> = keys.iter().filter_map(first).collect();
        names.dedup();
        Ok(names)
    }

    /// Takes a lease, which ends with its holder: when the [`Hold`] is dropped or the process dies. The
    /// key need not name an object. Does not wait.
    ///
    /// # Errors
    /// [`StoreError::Held`] if it cannot be had now, and as [`Store::put`].
    fn lease(&self, key: &Key, sharing: Sharing) -> Result<Box<dyn Hold>, StoreError>;

    /// How long a lease may seem to be held whose holder has died.
    fn lapse(&self) -> Duration {
        // Until the system has taken back the memory of a process that was killed.
        Duration::from_secs(2)
    }

    /// Whether somebody seems to hold the lease exclusively: to be shown.
    ///
    /// # Errors
    /// What the store reports.
    fn is_held(&self, key: &Key) -> Result<bool, StoreError> {
        // Shared, so that two that ask at once do not see each other.
        match self.lease(key, Sharing::Shared) {
            Ok(_) => Ok(false),
            Err(StoreError::Held { .. }) => Ok(true),
            Err(error) => Err(error),
        }
    }

    /// Takes an exclusive lease; see [`Store::lease`].
    ///
    /// # Errors
    /// As [`Store::lease`].
    fn hold(&self, key: &Key) -> Result<Box<dyn Hold>, StoreError> {
        self.lease(key, Sharing::Exclusive)
    }

    /// A directory of this machine for what a run needs only while it runs; made by whoever uses it first.
    /// Nothing in it is needed to resume. None: the system's directory for temporary files will do.
    fn working_dir(&self) -> Option<PathBuf> {
        None
    }

    /// The whole object, unless it is longer than `max` bytes: for objects that someone else may have made.
    ///
    /// # Errors
    /// [`StoreError::TooLarge`], and as [`Store::get`].
    fn get_at_most(&self, key: &Key, max: u64) -> Result<Vec<u8>, StoreError> {
        let refuse = |len| StoreError::TooLarge { what: key.to_string(), len, max };
        let len = self.size(key)?;
        if len > max {
            return Err(refuse(len));
        }
        let bytes = self.get(key)?;
        // It may have been replaced meanwhile.
        if bytes.len() as u64 > max { Err(refuse(bytes.len() as u64)) } else { Ok(bytes) }
    }
}

/// An object being written piece by piece. Dropped without [`Upload::commit`], it leaves nothing.
///
/// The name is given at the end, so that it can be the content's hash. A store that cannot rename (S3)
/// sends small objects whole at the end, and big ones in parts under a name of its own, to be copied
/// inside the service.
pub trait Upload: Send {
    /// Appends these bytes.
    ///
    /// # Errors
    /// As [`Store::put`]; the upload can then only be dropped.
    fn write(&mut self, bytes: &[u8]) -> Result<(), StoreError>;

    /// Makes the object durable and visible under this name.
    ///
    /// # Errors
    /// As [`Store::put`].
    fn commit(self: Box<Self>, key: &Key) -> Result<(), StoreError>;
}

/// A lease; dropping it gives it back.
pub trait Hold: Send + Sync {
    /// Whether it is still held, for one who is about to rely on it: a store that has no way to know of the end of a
    /// process gives its leases to others when it has not heard of it for a while.
    ///
    /// # Errors
    /// [`StoreError::Lapsed`], and why the store cannot be asked.
    fn check(&self) -> Result<(), StoreError> {
        Ok(())
    }
}

/// The same store behind a pointer.
impl<S: Store + ?Sized> Store for std::sync::Arc<S> {
    fn describe(&self) -> String {
        (**self).describe()
    }
    fn identity(&self) -> String {
        (**self).identity()
    }
    fn put(&self, key: &Key, bytes: &[u8]) -> Result<(), StoreError> {
        (**self).put(key, bytes)
    }
    fn upload(&self) -> Result<Box<dyn Upload>, StoreError> {
        (**self).upload()
    }
    fn create(&self, key: &Key, bytes: &[u8]) -> Result<Created, StoreError> {
        (**self).create(key, bytes)
    }
    fn get(&self, key: &Key) -> Result<Vec<u8>, StoreError> {
        (**self).get(key)
    }
    fn get_range(&self, key: &Key, range: Range<u64>) -> Result<Vec<u8>, StoreError> {
        (**self).get_range(key, range)
    }
    fn read_at(&self, key: &Key, start: u64, into: &mut [u8]) -> Result<(), StoreError> {
        (**self).read_at(key, start, into)
    }
    fn get_end(&self, key: &Key, max: u64) -> Result<(u64, Vec<u8>), StoreError> {
        (**self).get_end(key, max)
    }
    fn size(&self, key: &Key) -> Result<u64, StoreError> {
        (**self).size(key)
    }
    fn list(&self, prefix: &str) -> Result<Vec<Key>, StoreError> {
        (**self).list(prefix)
    }
    fn settle(&self, prefix: &str) -> Result<(), StoreError> {
        (**self).settle(prefix)
    }
    fn delete(&self, key: &Key) -> Result<(), StoreError> {
        (**self).delete(key)
    }
    fn delete_all(&self, keys: &[Key]) -> Result<(), StoreError> {
        (**self).delete_all(keys)
    }
    fn names(&self, dir: &str) -> Result<Vec<String>, StoreError> {
        (**self).names(dir)
    }
    fn lease(&self, key: &Key, sharing: Sharing) -> Result<Box<dyn Hold>, StoreError> {
        (**self).lease(key, sharing)
    }
    fn lapse(&self) -> Duration {
        (**self).lapse()
    }
    fn is_held(&self, key: &Key) -> Result<bool, StoreError> {
        (**self).is_held(key)
    }
    fn get_at_most(&self, key: &Key, max: u64) -> Result<Vec<u8>, StoreError> {
        (**self).get_at_most(key, max)
    }
    fn working_dir(&self) -> Option<PathBuf> {
        (**self).working_dir()
    }
}

/// The error of a range that the object does not have.
fn short(what: impl std::fmt::Display, range: &Range<u64>, len: u64) -> StoreError {
    StoreError::corrupt(what, format!("bytes {} to {} are wanted, and it has {len}", range.start, range.end))
}
