//! Memories whose pages are brought when they are touched. The system brings none for itself: a `read` into a page
//! that is missing fails. So before a function uses a part of the guest's memory, it is made sure that it is there.

use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

/// Brings the pages of a memory.
pub trait Presence: Send + Sync {
    /// Whether the `len` bytes at the address `start`, all of them of the memory, are there, after waiting for them.
    /// If not, they cannot be had, and the guest is to be stopped.
    fn bring(&self, start: usize, len: usize) -> bool;
}

/// How many memories there are of which pages may be missing.
static LAZY: AtomicUsize = AtomicUsize::new(0);
/// These, by their addresses.
static MEMORIES: RwLock<Vec<Memory>> = RwLock::new(vec![]);

type Memory = (Range<usize>, Arc<dyn Presence>);

/// As long as it lives, pages of a memory may be missing.
pub struct Registration(Range<usize>);

impl Registration {
    /// Of the memory at these addresses.
    pub fn new(place: Range<usize>, presence: Arc<dyn Presence>) -> Self {
        MEMORIES.write().unwrap_or_else(PoisonError::into_inner).push((place.clone(), presence));
        LAZY.fetch_add(1, Ordering::SeqCst);
        Self(place)
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        let mut memories = MEMORIES.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(at) = memories.iter().position(|(place, _)| *place == self.0) {
            memories.swap_remove(at);
            LAZY.fetch_sub(1, Ordering::SeqCst);
        }
    }
}

/// Whether these bytes are there, after waiting for them. True at once for what is no part of such a memory.
pub(super) fn is_present(bytes: &[u8]) -> bool {
    // The guest's thread has made the memory, or was started after: it sees at least that number.
    LAZY.load(Ordering::Relaxed) == 0 || bring(bytes)
}

#[cold]
fn bring(bytes: &[u8]) -> bool {
    let (start, len) = (bytes.as_ptr() as usize, bytes.len());
    let found = {
        let memories = MEMORIES.read().unwrap_or_else(PoisonError::into_inner);
        memories.iter().find(|(place, _)| place.contains(&start)).map(|(_, presence)| presence.clone())
    };
    len == 0 || found.is_none_or(|presence| presence.bring(start, len))
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    struct Asked(Mutex<Vec<(usize, usize)>>);

    impl Presence for Asked {
        fn bring(&self, start: usize, len: usize) -> bool {
            self.0.lock().unwrap().push((start, len));
            len < 100
        }
    }

    #[test]
    fn only_what_may_be_missing_is_asked_for() {
        let (memory, other) = (vec![0; 1000], [0; 10]);
        let at = memory.as_ptr() as usize;
        let asked = Arc::new(Asked(Mutex::default()));
        let registration = Registration::new(at..at + 1000, asked.clone());
        assert!(is_present(&memory[5..10]) && is_present(&other) && is_present(&memory[7..7]));
        assert!(!is_present(&memory[..500]));
        drop(registration);
        assert!(is_present(&memory));
        assert_eq!(*asked.0.lock().unwrap(), [(at + 5, 5), (at, 500)]);
    }
}
