//! A store that fails at a chosen operation, around any other, and what other stores around others are made of: for
//! tests of what is built on stores.
//!
//! For faults *inside* of a store's operations see [`simulated`](super::simulated).

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::{Created, Hold, Key, Sharing, Store, StoreError, Upload};

/// How the chosen operation fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Failure {
    /// It has no effect.
    Before,
    /// It has its effect, and the reply is lost.
    After,
    /// A put or a commit leaves half of the object under its name, which no store should; reading it must
    /// give an error and nothing worse. Other operations fail as [`Failure::Before`].
    Torn,
}

/// Counts the operations that change a store (put, create, settle, delete, the pieces and the commit of an upload,
/// and what begins one), fails at one of them, and from then on at every operation: the process has died.
#[derive(Clone)]
pub struct FailAfter {
    inner: Arc<dyn Store>,
    plan: Arc<Plan>,
}

struct Plan {
    at: u64,
    how: Failure,
    once: bool,
    done: AtomicU64,
}

/// What an operation has to do.
enum Step {
    Go,
    Fail,
    GoAndFail,
    Tear,
}

impl FailAfter {
    /// Lets `n` operations pass, and fails from then on.
    pub fn new(inner: Arc<dyn Store>, n: u64) -> Self {
        Self::with(inner, n, Failure::Before)
    }

    /// Lets `n` operations pass, fails in this way, and then has no effect any more.
    pub fn with(inner: Arc<dyn Store>, n: u64, how: Failure) -> Self {
        let plan = Plan { at: n, how, once: false, done: AtomicU64::new(0) };
        Self { inner, plan: Arc::new(plan) }
    }

    /// Fails in this way in one operation, after `n` that pass, and works again after it.
    pub fn once(inner: Arc<dyn Store>, n: u64, how: Failure) -> Self {
        let plan = Plan { at: n, how, once: true, done: AtomicU64::new(0) };
        Self { inner, plan: Arc::new(plan) }
    }

    /// Operations that were tried so far.
    pub fn ops(&self) -> u64 {
        self.plan.done.load(Ordering::SeqCst)
    }

    /// Whether the failure has happened.
    pub fn has_failed(&self) -> bool {
        self.ops() > self.plan.at
    }

    fn read<T>(
        &self,
        what: impl std::fmt::Display,
        read: impl FnOnce() -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        if self.has_failed() && !self.plan.once { Err(injected(what)) } else { read() }
    }
}

impl Plan {
    fn step(&self) -> Step {
        match self.done.fetch_add(1, Ordering::SeqCst) {
            n if n < self.at => Step::Go,
            n if n > self.at => match self.once {
                true => Step::Go,
                false => Step::Fail,
            },
            _ => match self.how {
                Failure::Before => Step::Fail,
                Failure::After => Step::GoAndFail,
                Failure::Torn => Step::Tear,
            },
        }
    }

    fn run<T>(
        &self,
        what: impl std::fmt::Display,
        whole: impl FnOnce() -> Result<T, StoreError>,
        torn: impl FnOnce() -> Result<(), StoreError>,
    ) -> Result<T, StoreError> {
        match self.step() {
            Step::Go => return whole(),
            Step::GoAndFail => drop(whole()?),
            Step::Tear => torn()?,
            Step::Fail => {}
        }
        Err(injected(what))
    }
}

fn injected(what: impl std::fmt::Display) -> StoreError {
    StoreError::from_io("reach", what, std::io::Error::other("a fault was injected here"))
}

impl Store for FailAfter {
    fn describe(&self) -> String {
        self.inner.describe()
    }

    fn identity(&self) -> String {
        self.inner.identity()
    }

    fn put(&self, key: &Key, bytes: &[u8]) -> Result<(), StoreError> {
        let torn = || self.inner.put(key, &bytes[..bytes.len() / 2]);
        self.plan.run(key, || self.inner.put(key, bytes), torn)
    }

    fn upload(&self) -> Result<Box<dyn Upload>, StoreError> {
        let begin = || {
            let (inner, plan, store) = (self.inner.upload()?, self.plan.clone(), self.inner.clone());
            Ok(Box::new(FaultyUpload { inner, plan, store, written: Vec::new() }) as Box<dyn Upload>)
        };
        self.plan.run("an upload", begin, || Ok(()))
    }

    fn create(&self, key: &Key, bytes: &[u8]) -> Result<Created, StoreError> {
        self.plan.run(key, || self.inner.create(key, bytes), || Ok(()))
    }

    fn get(&self, key: &Key) -> Result<Vec<u8>, StoreError> {
        self.read(key, || self.inner.get(key))
    }

    fn get_range(&self, key: &Key, range: Range<u64>) -> Result<Vec<u8>, StoreError> {
        self.read(key, || self.inner.get_range(key, range))
    }

    fn size(&self, key: &Key) -> Result<u64, StoreError> {
        self.read(key, || self.inner.size(key))
    }

    fn list(&self, prefix: &str) -> Result<Vec<Key>, StoreError> {
        self.read(prefix, || self.inner.list(prefix))
    }

    fn settle(&self, prefix: &str) -> Result<(), StoreError> {
        self.plan.run(prefix, || self.inner.settle(prefix), || Ok(()))
    }

    fn delete(&self, key: &Key) -> Result<(), StoreError> {
        self.plan.run(key, || self.inner.delete(key), || Ok(()))
    }

    fn lease(&self, key: &Key, sharing: Sharing) -> Result<Box<dyn Hold>, StoreError> {
        self.read(key, || self.inner.lease(key, sharing))
    }
}

struct FaultyUpload {
    inner: Box<dyn Upload>,
    plan: Arc<Plan>,
    store: Arc<dyn Store>,
    /// For a commit that tears the object.
    written: Vec<u8>,
}

impl Upload for FaultyUpload {
    fn write(&mut self, bytes: &[u8]) -> Result<(), StoreError> {
        let Self { inner, plan, written, .. } = self;
        let whole = || {
            written.extend_from_slice(bytes);
            inner.write(bytes)
        };
        plan.run("an upload", whole, || Ok(()))
    }

    fn commit(self: Box<Self>, key: &Key) -> Result<(), StoreError> {
        let Self { inner, plan, store, written } = *self;
        plan.run(key, || inner.commit(key), || store.put(key, &written[..written.len() / 2]))
    }
}

/// Operations that a store around another leaves to it: `store_by!(inner: describe put)`, in its `impl Store`, where `inner` is the field
/// with the other. For tests of what is built on stores.
#[doc(hidden)]
#[macro_export]
macro_rules! store_by {
    (@ $inner:tt describe) => {
        fn describe(&self) -> String {
            self.$inner.describe()
        }
    };
    (@ $inner:tt put) => {
        fn put(&self, key: &$crate::store::Key, bytes: &[u8]) -> Result<(), $crate::store::StoreError> {
            self.$inner.put(key, bytes)
        }
    };
    (@ $inner:tt upload) => {
        fn upload(&self) -> Result<Box<dyn $crate::store::Upload>, $crate::store::StoreError> {
            self.$inner.upload()
        }
    };
    (@ $inner:tt create) => {
        fn create(&self, key: &$crate::store::Key, bytes: &[u8]) -> Result<$crate::store::Created, $crate::store::StoreError> {
            self.$inner.create(key, bytes)
        }
    };
    (@ $inner:tt get) => {
        fn get(&self, key: &$crate::store::Key) -> Result<Vec<u8>, $crate::store::StoreError> {
            self.$inner.get(key)
        }
    };
    (@ $inner:tt get_range) => {
        fn get_range(&self, key: &$crate::store::Key, range: std::ops::Range<u64>) -> Result<Vec<u8>, $crate::store::StoreError> {
            self.$inner.get_range(key, range)
        }
    };
    (@ $inner:tt size) => {
        fn size(&self, key: &$crate::store::Key) -> Result<u64, $crate::store::StoreError> {
            self.$inner.size(key)
        }
    };
    (@ $inner:tt list) => {
        fn list(&self, prefix: &str) -> Result<Vec<$crate::store::Key>, $crate::store::StoreError> {
            self.$inner.list(prefix)
        }
    };
    (@ $inner:tt settle) => {
        fn settle(&self, prefix: &str) -> Result<(), $crate::store::StoreError> {
            self.$inner.settle(prefix)
        }
    };
    (@ $inner:tt delete) => {
        fn delete(&self, key: &$crate::store::Key) -> Result<(), $crate::store::StoreError> {
            self.$inner.delete(key)
        }
    };
    (@ $inner:tt lease) => {
        fn lease(&self, key: &$crate::store::Key, sharing: $crate::store::Sharing) -> Result<Box<dyn $crate::store::Hold>, $crate::store::StoreError> {
            self.$inner.lease(key, sharing)
        }
    };
    ($inner:tt: $($operation:ident)+) => {
        $($crate::store_by!(@ $inner $operation);)+
    };
}

#[cfg(test)]
mod tests {
    use super::super::{Memory, conformance};
    use super::*;

    #[test]
    fn without_a_fault_it_conforms() {
        conformance::all(&FailAfter::new(Arc::new(Memory::new()), u64::MAX));
    }

    #[test]
    fn the_chosen_operation_fails_in_the_chosen_way() {
        let (a, b) = (Key::new("a").unwrap(), Key::new("b").unwrap());
        for (how, left) in
            [(Failure::Before, None), (Failure::After, Some("1234")), (Failure::Torn, Some("12"))]
        {
            for once in [false, true] {
                let memory = Arc::new(Memory::new());
                let store = if once {
                    FailAfter::once(memory.clone(), 1, how)
                } else {
                    FailAfter::with(memory.clone(), 1, how)
                };
                store.put(&b, b"b").unwrap();
                assert!(!store.has_failed() && store.get(&b).is_ok());
                assert!(store.put(&a, b"1234").is_err() && store.has_failed());
                assert_eq!(memory.get(&a).ok(), left.map(|text| text.as_bytes().to_vec()));
                assert_eq!(store.put(&b, b"new").is_ok(), once);
                assert_eq!(store.get(&b).is_ok(), once);
            }
        }
    }
}
