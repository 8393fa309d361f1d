//! A store in a keyspace of Cassandra.
//!
//! | table | key | what |
//! |---|---|---|
//! | `wasm_ckpt_heads` | `dir`, `name` | an object: its generation, its size, and if it is small, its bytes |
//! | `wasm_ckpt_parts` | `(generation, n)` | the `n`-th 512 KiB of what is not small |
//! | `wasm_ckpt_dirs` | `dir`, `name` | a directory in a directory, so that they can be walked |
//!
//! `dir` begins and ends with a slash, and with the store's prefix; it is the partition, so that a listing reads one, and
//! conditional writes wait for each other only within a directory.
//!
//! An object appears by its head. Its parts are written before, at QUORUM, under a generation: a random number that is never
//! used again, so no part is ever replaced. All writes of heads are conditional (lightweight transactions, at SERIAL): they
//! are ordered by themselves and not by anyone's clock, as long as none is written otherwise. One whose reply was lost is
//! repeated, and knows itself by its generation. Reads are at QUORUM, which sees what such a write has told its caller; where
//! they find nothing, they ask once more at SERIAL, which ends first what was left halfway.
//!
//! Rows of `wasm_ckpt_dirs` are written unconditionally and never removed: a name is given for it while there is an object
//! below. A writer that dies leaves its parts, which no head names; nothing sweeps them.
//!
//! With `commitlog_sync: periodic`, the default, a node acknowledges up to 10 s before it syncs: what was written survives any
//! kill of a process, and a loss of power of fewer nodes than make a quorum; beyond that it takes `batch` or `group`.

mod config;
mod errors;
mod parts;
mod rows;
mod session;

use std::collections::HashSet;
use std::ops::Range;
use std::sync::{Arc, Mutex};

use futures_util::stream::{self, StreamExt, TryStreamExt};

use super::super::leases::lock;
use super::super::{Created, Key, StoreError, Upload, short};
use super::Service;
use super::runtime::wait;
use errors::Task;
use parts::Parts;
use rows::{Head, Outcome};
use session::Session;

pub use config::Config;

/// Directories that are read at a time.
const AT_A_TIME: usize = 8;
/// Directories that are remembered to be in `wasm_ckpt_dirs`.
const KNOWN_MAX: usize = 10_000;
/// After all that may stand in a name.
const LAST: char = '\u{7f}';

/// The store's objects in Cassandra.
pub struct Cassandra {
    inner: Arc<Inner>,
}

struct Inner {
    session: Session,
    /// The store's own directory.
    root: String,
    known: Mutex<HashSet<String>>,
}

impl Cassandra {
    /// Connects to the cluster, and makes the tables if they are missing.
    ///
    /// # Errors
    /// [`StoreError::Denied`]; [`StoreError::Io`], which says what to check, such as that the keyspace is missing.
    pub fn connect(config: &Config) -> Result<Self, StoreError> {
        let session = wait(Session::connect(config))?;
        let root = if config.prefix.is_empty() { "/".to_string() } else { format!("/{}/", config.prefix) };
        Ok(Self { inner: Arc::new(Inner { session, root, known: Mutex::default() }) })
    }
}

impl Service for Cassandra {
    fn describe(&self) -> String {
        self.inner.session.address.clone()
    }

    fn put(&self, key: &Key, bytes: &[u8]) -> Result<(), StoreError> {
        let mut parts = Parts::new(self.inner.clone());
        wait(async {
            parts.write(bytes).await?;
            parts.publish(key, true).await.map(drop)
        })
    }

    fn upload(&self) -> Result<Box<dyn Upload>, StoreError> {
        Ok(Box::new(Parts::new(self.inner.clone())))
    }

    fn create(&self, key: &Key, bytes: &[u8]) -> Result<Created, StoreError> {
        let mut parts = Parts::new(self.inner.clone());
        wait(async {
            parts.write(bytes).await?;
            parts.publish(key, false).await
        })
    }

    fn get(&self, key: &Key) -> Result<Vec<u8>, StoreError> {
        wait(self.inner.read(key, |size| Ok(0..size))).map(|(_, bytes)| bytes)
    }

    fn get_range(&self, key: &Key, range: Range<u64>) -> Result<Vec<u8>, StoreError> {
        let within = |size| {
            let fits = range.start <= range.end && range.end <= size;
            if fits { Ok(range.clone()) } else { Err(short(key, &range, size)) }
        };
        wait(self.inner.read(key, within)).map(|(_, bytes)| bytes)
    }

    fn get_end(&self, key: &Key, max: u64) -> Result<(u64, Vec<u8>), StoreError> {
        wait(self.inner.read(key, |size| Ok(size.saturating_sub(max)..size)))
    }

    fn size(&self, key: &Key) -> Result<u64, StoreError> {
        wait(self.inner.existing(key)).map(|head| head.size)
    }

    fn list(&self, prefix: &str) -> Result<Vec<Key>, StoreError> {
        wait(self.inner.list(prefix))
    }

    fn names(&self, dir: &str) -> Result<Vec<String>, StoreError> {
        wait(self.inner.next_segments(dir))
    }

    fn delete(&self, key: &Key) -> Result<(), StoreError> {
        wait(self.inner.delete(key))
    }
}

impl Inner {
    /// Directory and name of an object.
    fn place<'k>(&self, key: &'k Key) -> (String, &'k str) {
        let name = key.name();
        let dir = &key.as_str()[..key.as_str().len() - name.len()];
        (format!("{}{dir}", self.root), name)
    }

    /// What an object in this directory has for a key; nothing if that is none of ours.
    fn key(&self, dir: &str, name: &str) -> Option<Key> {
        Key::new(format!("{}{name}", dir.strip_prefix(&self.root)?)).ok()
    }

    async fn head(&self, key: &Key) -> Result<Option<Head>, StoreError> {
        let (session, place) = (&self.session, self.place(key));
        let task = Task { doing: "read", what: key.as_str() };
        for statement in [&session.head, &session.head_now] {
            let found = session.execute(task, statement, (&place.0, place.1)).await?;
            if let Some(head) = rows::head(task, found)? {
                return Ok(Some(head));
            }
        }
        Ok(None)
    }

    async fn existing(&self, key: &Key) -> Result<Head, StoreError> {
        self.head(key).await?.ok_or_else(|| StoreError::NotFound { what: key.to_string() })
    }

    /// The object's size, and those of its bytes that are wanted of so many.
    async fn read(
        &self,
        key: &Key,
        wanted: impl Fn(u64) -> Result<Range<u64>, StoreError>,
    ) -> Result<(u64, Vec<u8>), StoreError> {
        let mut before = None;
        loop {
            let head = self.existing(key).await?;
            let range = wanted(head.size)?;
            if head.is_inline() {
                // A range of at most some kilobytes.
                return Ok((head.size, head.inline[range.start as usize..range.end as usize].to_vec()));
            }
            if let Some(bytes) = self.read_parts(key, &head, range).await? {
                return Ok((head.size, bytes));
            }
            // Whoever has removed or replaced it has removed the head first.
            if before == Some(head.generation) {
                return Err(StoreError::corrupt(key, "a part of it is missing"));
            }
            before = Some(head.generation);
        }
    }

    /// Makes the directory known to listings.
    async fn add_dirs(&self, dir: &str) -> Result<(), StoreError> {
        if lock(&self.known).contains(dir) {
            return Ok(());
        }
        let task = Task { doing: "write", what: dir };
        let below = dir.match_indices('/').map(|(at, _)| at).filter(|at| *at >= self.root.len());
        for end in below {
            let parent = dir[..end].rfind('/').map_or(0, |at| at + 1);
            let values = (&dir[..parent], &dir[parent..end]);
            self.session.execute(task, &self.session.add_dir, values).await?;
        }
        let mut known = lock(&self.known);
        if known.len() >= KNOWN_MAX {
            known.clear();
        }
        known.insert(dir.to_string());
        Ok(())
    }

    async fn list(&self, prefix: &str) -> Result<Vec<Key>, StoreError> {
        let cut = prefix.rfind('/').map_or(0, |at| at + 1);
        let mut dirs = vec![(format!("{}{}", self.root, &prefix[..cut]), prefix[cut..].to_string())];
        let mut keys = Vec::new();
        while !dirs.is_empty() {
            let read = |(dir, begins): (String, String)| async move {
                let (names, below) = self.entries(&dir, &begins).await?;
                Ok::<_, StoreError>((dir, names, below))
            };
            let found: Vec<_> =
                stream::iter(dirs).map(read).buffer_unordered(AT_A_TIME).try_collect().await?;
            dirs = Vec::new();
            for (dir, names, below) in found {
                keys.extend(names.iter().filter_map(|name| self.key(&dir, name)));
                // Only what could be a part of a key, whose length ends the walk.
                let below = below.iter().filter(|name| self.key(&dir, name).is_some());
                dirs.extend(below.map(|name| (format!("{dir}{name}/"), String::new())));
            }
        }
        keys.sort_unstable();
        Ok(keys)
    }

    /// The names of a directory that begin so: of its objects, and of the directories in it.
    async fn entries(&self, dir: &str, begins: &str) -> Result<(Vec<String>, Vec<String>), StoreError> {
        let task = Task { doing: "list", what: dir };
        let values = (dir, begins, format!("{begins}{LAST}"));
        let names = self.session.names(task, &self.session.names, values.clone()).await?;
        Ok((names, self.session.names(task, &self.session.dirs, values).await?))
    }

    async fn next_segments(&self, dir: &str) -> Result<Vec<String>, StoreError> {
        let dir = format!("{}{dir}", self.root);
        let (mut names, below) = self.entries(&dir, "").await?;
        let dir = dir.as_str();
        let ours = |name: &String| self.key(dir, name).is_some();
        let look = |name: String| async move {
            let full = self.has_objects(format!("{dir}{name}/")).await?;
            Ok::<_, StoreError>(full.then_some(name))
        };
        let looks = stream::iter(below.into_iter().filter(ours)).map(look).buffer_unordered(AT_A_TIME);
        let full: Vec<Option<String>> = looks.try_collect().await?;
        names.retain(ours);
        names.extend(full.into_iter().flatten());
        names.sort_unstable();
        names.dedup();
        Ok(names)
    }

    /// Whether there is an object in the directory, or below.
    async fn has_objects(&self, dir: String) -> Result<bool, StoreError> {
        let mut dirs = vec![dir];
        while let Some(dir) = dirs.pop() {
            let task = Task { doing: "list", what: &dir };
            if !self.session.names(task, &self.session.first_name, (&dir,)).await?.is_empty() {
                return Ok(true);
            }
            let below = self.session.names(task, &self.session.dirs, (&dir, "", LAST.to_string())).await?;
            let below = below.iter().filter(|name| self.key(&dir, name).is_some());
            dirs.extend(below.map(|name| format!("{dir}{name}/")));
        }
        Ok(false)
    }

    /// Names the object: over a former one, or if there is none.
    async fn publish(&self, key: &Key, new: &Head, replace: bool) -> Result<Created, StoreError> {
        let (session, (dir, name)) = (&self.session, self.place(key));
        self.add_dirs(&dir).await?;
        let task = Task { doing: "write", what: key.as_str() };
        let size = i64::try_from(new.size).unwrap_or(i64::MAX);
        let mut replaced: Option<Head> = None;
        loop {
            let values = (&dir, name, new.generation, size, &new.inline);
            let old = match rows::outcome(task, session.execute(task, &session.create, values).await?)? {
                Outcome::Applied => break,
                Outcome::Other(None) => return Err(task.malformed("the object is missing")),
                // An earlier try was done after all.
                Outcome::Other(Some(old)) if old.generation == new.generation => break,
                Outcome::Other(Some(_)) if !replace => return Ok(Created::Exists),
                Outcome::Other(Some(old)) => old,
            };
            let values = (new.generation, size, &new.inline, &dir, name, old.generation);
            replaced = Some(old);
            if matches!(
                rows::outcome(task, session.execute(task, &session.replace, values).await?)?,
                Outcome::Applied
            ) {
                break;
            }
        }
        if let Some(old) = replaced {
            self.forget(&old).await;
        }
        Ok(Created::Yes)
    }

    async fn delete(&self, key: &Key) -> Result<(), StoreError> {
        let (session, (dir, name)) = (&self.session, self.place(key));
        let task = Task { doing: "remove", what: key.as_str() };
        let mut removed = None;
        while let Some(head) = self.head(key).await? {
            let values = (&dir, name, head.generation);
            let done = matches!(
                rows::outcome(task, session.execute(task, &session.remove, values).await?)?,
                Outcome::Applied
            );
            removed = Some(head);
            if done {
                break;
            }
        }
        if let Some(head) = removed {
            self.forget(&head).await;
        }
        Ok(())
    }
}
