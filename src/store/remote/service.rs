//! What a service on a network must be able to do to be a store.

use std::ops::Range;

use super::super::{Created, Key, StoreError, Upload};

/// Objects by name on a service, which several processes on several machines use at a time.
///
/// Each function does what the one of the same name in [`Store`](super::super::Store) says, errors included: an object
/// appears at once and whole, or not at all; what was written is durable when the call returns, and seen by all calls
/// anywhere that begin after that, listings as well. A call that fails for a short time (a reset connection, a
/// service that is busy) is repeated by the implementation for some 30 s before it is an error.
pub trait Service: Send + Sync + 'static {
    /// Its address, for messages: without secrets.
    fn describe(&self) -> String;

    /// Stores the object, over any former one.
    ///
    /// # Errors
    /// Why it cannot.
    fn put(&self, key: &Key, bytes: &[u8]) -> Result<(), StoreError>;

    /// Begins an object whose name is given at its end.
    ///
    /// # Errors
    /// Why it cannot.
    fn upload(&self) -> Result<Box<dyn Upload>, StoreError>;

    /// Stores the object if there is none under the name. Where a reply was lost and the call repeated, the caller's own
    /// object may be [`Created::Exists`].
    ///
    /// # Errors
    /// Why it cannot; whether the object is there is then unknown.
    fn create(&self, key: &Key, bytes: &[u8]) -> Result<Created, StoreError>;

    /// The whole object.
    ///
    /// # Errors
    /// [`StoreError::NotFound`], or why it cannot.
    fn get(&self, key: &Key) -> Result<Vec<u8>, StoreError>;

    /// Exactly these bytes of the object.
    ///
    /// # Errors
    /// [`StoreError::Corrupt`] if the object does not have them all, and as [`Service::get`].
    fn get_range(&self, key: &Key, range: Range<u64>) -> Result<Vec<u8>, StoreError>;

    /// The length of the object, and its last bytes: so many, or all that it has.
    ///
    /// # Errors
    /// As of [`Service::get`].
    fn get_end(&self, key: &Key, max: u64) -> Result<(u64, Vec<u8>), StoreError>;

    /// The whole object, unless it is longer than so many bytes, which are few.
    ///
    /// # Errors
    /// [`StoreError::TooLarge`], and as of [`Service::get`].
    fn get_at_most(&self, key: &Key, max: u64) -> Result<Vec<u8>, StoreError> {
        let (len, bytes) = self.get_end(key, max)?;
        if len > max { Err(StoreError::TooLarge { what: key.to_string(), len, max }) } else { Ok(bytes) }
    }

    /// Length of the object in bytes.
    ///
    /// # Errors
    /// As of [`Service::get`].
    fn size(&self, key: &Key) -> Result<u64, StoreError>;

    /// All keys whose text begins with the prefix, in ascending order. The prefix was checked.
    ///
    /// # Errors
    /// Why it cannot; no error if there are none.
    fn list(&self, prefix: &str) -> Result<Vec<Key>, StoreError>;

    /// The next segments of the keys below `dir`, which ends with a slash, in ascending order.
    ///
    /// # Errors
    /// As of [`Service::list`].
    fn names(&self, dir: &str) -> Result<Vec<String>, StoreError>;

    /// Removes the object; it is no error if there is none.
    ///
    /// # Errors
    /// Why it cannot.
    fn delete(&self, key: &Key) -> Result<(), StoreError>;

    /// Removes these objects, in any order.
    ///
    /// # Errors
    /// As of [`Service::delete`]; any of them may be left.
    fn delete_all(&self, keys: &[Key]) -> Result<(), StoreError> {
        keys.iter().try_for_each(|key| self.delete(key))
    }
}
