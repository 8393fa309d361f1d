//! A store in a directory.
//!
//! | path | what |
//! |---|---|
//! | `format` | `wasm-ckpt store` and the layout's version, made last of all when a store is made |
//! | `objects/…` | the objects, a key's slashes being directories; names of 64 hex digits are spread over `+00` to `+ff` |
//! | `locks/…` | one file for each lease, `+` for the key's slashes |
//! | `work/…` | working files of the runs on this machine, which nobody else needs |
//! | `tmp/…` | objects being written, each locked by its writer |
//!
//! `+` is in no key, so nothing of this can clash with an object.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::fs;
use std::io;
use std::ops::Range;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::UNIX_EPOCH;

use super::files::{FileOps, Locked, NewFile, OpenedFile, RealFiles};
use super::leases::lock;
use super::{Created, Hold, Key, Sharing, Store, StoreError, Upload, key};

/// Version of the directory layout.
pub const FORMAT: u64 = 1;
const MAGIC: &str = "wasm-ckpt store";
/// The format file is two short lines; more is not read.
const FORMAT_FILE_MAX: u64 = 256;
/// A big object is synced each time that so many bytes of it are written, so that the disk works while the rest of it
/// is compressed.
const SYNC_EVERY: usize = 8 << 20;

/// Objects in a directory of the local machine, or of a file system that several machines share.
///
/// Every object is written to a temporary, synced, and then given its name, whose directory is synced
/// as well. Clones share the store.
#[derive(Clone)]
pub struct Local {
    inner: Arc<Inner>,
}

struct Inner {
    root: PathBuf,
    files: Arc<dyn FileOps>,
    /// Directories whose names are known to be durable.
    durable_dirs: Mutex<HashSet<PathBuf>>,
}

/// All that is in it, but for the format file and what only this machine knows.
const DIRECTORIES: [&str; 3] = ["tmp", "objects", "locks"];

#[derive(Default)]
struct Walked {
    keys: Vec<Key>,
    dirs: Vec<PathBuf>,
}

/// What says that this is a store, and of which version.
pub(super) fn format_file() -> String {
    format!("{MAGIC}\nformat {FORMAT}\n")
}

/// The version in it; nothing if it says something else.
pub(super) fn format_of(bytes: &[u8]) -> Option<u64> {
    let text = String::from_utf8_lossy(bytes);
    text.strip_prefix(MAGIC)?.trim().strip_prefix("format ")?.parse().ok()
}

/// How a temporary gets its name.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Publish {
    Replace,
    IfAbsent,
}

impl Local {
    /// Opens the store in this directory, and makes it if the directory is missing or empty.
    ///
    /// # Errors
    /// [`StoreError::NewerVersion`], [`StoreError::NotAStore`], [`StoreError::Corrupt`] for a format file
    /// that is none, and what the system reports.
    pub fn open(root: impl Into<PathBuf>) -> Result<Self, StoreError> {
        Self::open_on(root, Arc::new(RealFiles))
    }

    /// Opens the store in this directory, which must be one; writes nothing if it may not.
    ///
    /// # Errors
    /// [`StoreError::NotFound`], and as [`Local::open`].
    pub fn existing(root: impl Into<PathBuf>) -> Result<Self, StoreError> {
        let store = Self::unopened(root.into(), Arc::new(RealFiles));
        store.check_format()?;
        // It may be one to read only.
        let _ = store.complete();
        store.clean();
        Ok(store)
    }

    /// [`Local::open`] over other file operations than the system's: for tests that make them fail.
    ///
    /// # Errors
    /// As [`Local::open`].
    pub fn open_on(root: impl Into<PathBuf>, files: Arc<dyn FileOps>) -> Result<Self, StoreError> {
        let store = Self::unopened(root.into(), files);
        match store.check_format() {
            Ok(()) => {
                store.complete()?;
                store.clean();
            }
            Err(StoreError::NotFound { .. }) => store.initialize()?,
            Err(error) => return Err(error),
        }
        Ok(store)
    }

    /// The store's directory.
    pub fn root(&self) -> &Path {
        &self.inner.root
    }

    fn unopened(root: PathBuf, files: Arc<dyn FileOps>) -> Self {
        Self { inner: Arc::new(Inner { root, files, durable_dirs: Mutex::default() }) }
    }

    fn check_format(&self) -> Result<(), StoreError> {
        let path = self.inner.root.join("format");
        let read = |error: io::Error| match error.kind() {
            io::ErrorKind::NotADirectory => {
                StoreError::NotAStore { what: self.inner.root.display().to_string() }
            }
            _ => StoreError::from_io("read", path.display(), error),
        };
        let file = self.inner.files.open(&path).map_err(read)?;
        let len = file.size().map_err(read)?;
        let bytes = file.read(0..len.min(FORMAT_FILE_MAX)).map_err(read)?;
        match format_of(&bytes) {
            Some(FORMAT) => Ok(()),
            Some(found) if found > FORMAT => {
                let what = self.inner.root.display().to_string();
                Err(StoreError::NewerVersion { what, found, known: FORMAT })
            }
            _ => Err(StoreError::corrupt(path.display(), "it is not the format file of a store")),
        }
    }

    /// Makes the directories, then the format file, so that what has one is a whole store.
    fn initialize(&self) -> Result<(), StoreError> {
        let Inner { root, files, .. } = &*self.inner;
        let is_ours = |name: &str| DIRECTORIES.contains(&name) || matches!(name, "format" | "work");
        match files.read_dir(root) {
            Ok(entries) if entries.iter().all(|entry| is_ours(&entry.name)) => {}
            Ok(_) => return Err(StoreError::NotAStore { what: root.display().to_string() }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(StoreError::from_io("read", root.display(), error)),
        }
        self.inner.ensure_dir(root)?;
        // Whoever made the directories above may have died before they were durable. Not all of them may be
        // ours to open; then they are not ours to make either.
        for above in root.ancestors().skip(1) {
            let _ = files.sync_dir(if above.as_os_str().is_empty() { Path::new(".") } else { above });
        }
        for name in DIRECTORIES {
            self.inner.ensure_dir(&root.join(name))?;
        }
        let mut temp = Temp::new(&self.inner)?;
        temp.write(format_file().as_bytes())?;
        temp.publish(&root.join("format"), Publish::IfAbsent)?;
        self.check_format()
    }

    /// Makes the directories that were lost because they were empty: not all that copies a store takes these along.
    fn complete(&self) -> Result<(), StoreError> {
        let Inner { root, files, .. } = &*self.inner;
        let found =
            files.read_dir(root).map_err(|error| StoreError::from_io("read", root.display(), error))?;
        for name in DIRECTORIES.iter().filter(|name| found.iter().all(|entry| entry.name != **name)) {
            self.inner.ensure_dir(&root.join(name))?;
        }
        Ok(())
    }

    /// Removes what dead processes have left; what cannot be removed does no harm.
    fn clean(&self) {
        let tmp = self.inner.root.join("tmp");
        for entry in self.inner.files.read_dir(&tmp).unwrap_or_default() {
            if !entry.is_dir {
                let _ = self.inner.files.remove_abandoned(&tmp.join(entry.name));
            }
        }
    }

    /// Finds the objects whose keys begin with the prefix, and the directories where such may be.
    fn walk(&self, prefix: &str) -> Result<Walked, StoreError> {
        key::check_prefix(prefix)?;
        let within = prefix.rsplit_once('/').map_or("", |(within, _)| within);
        let top = self.inner.root.join("objects");
        let mut pending = vec![(if within.is_empty() { top } else { top.join(within) }, within.to_string())];
        let mut walked = Walked::default();
        while let Some((dir, name)) = pending.pop() {
            let entries = match self.inner.files.read_dir(&dir) {
                Ok(entries) => entries,
                Err(error) => match error.kind() {
                    io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => continue,
                    _ => return Err(StoreError::from_io("list", dir.display(), error)),
                },
            };
            for entry in entries {
                let path = dir.join(&entry.name);
                let slash = if name.is_empty() { "" } else { "/" };
                if let Some(digits) = entry.name.strip_prefix('+').filter(|_| entry.is_dir) {
                    // What is in there begins with these digits.
                    let within = format!("{name}{slash}{digits}");
                    if within.starts_with(prefix) || prefix.starts_with(&within) {
                        pending.push((path, name.clone()));
                    }
                    continue;
                }
                let text = format!("{name}{slash}{}", entry.name);
                if entry.is_dir && format!("{text}/").starts_with(prefix) {
                    pending.push((path, text));
                } else if !entry.is_dir && text.starts_with(prefix) {
                    // What is not named as a key was not made by us.
                    walked.keys.extend(Key::new(text));
                }
            }
            walked.dirs.push(dir);
        }
        Ok(walked)
    }

    fn write_object(&self, key: &Key, bytes: &[u8], how: Publish) -> Result<Created, StoreError> {
        let mut temp = Temp::new(&self.inner)?;
        temp.write(bytes)?;
        temp.publish(&self.inner.path_of(key), how)
    }

    fn read<T>(
        &self,
        key: &Key,
        read: impl FnOnce(&dyn OpenedFile) -> io::Result<T>,
    ) -> Result<T, StoreError> {
        let path = self.inner.path_of(key);
        self.inner.files.open(&path).and_then(|file| read(&*file)).map_err(|error| match error.kind() {
            // What has something below or above it is, as an object, simply not there.
            io::ErrorKind::NotADirectory | io::ErrorKind::IsADirectory => {
                StoreError::NotFound { what: path.display().to_string() }
            }
            _ => StoreError::from_io("read", path.display(), error),
        })
    }
}

impl Inner {
    fn path_of(&self, key: &Key) -> PathBuf {
        let mut path = self.root.join("objects");
        let name = key.name();
        path.extend(key.segments().take(key.segments().count() - 1));
        if is_hash(name) {
            path.push(format!("+{}", &name[..2]));
        }
        path.join(name)
    }

    /// Makes a directory of the store, and makes its name durable, with those of the directories above it.
    ///
    /// One that exists is synced all the same, once: whoever made it may have died before doing so.
    fn ensure_dir(&self, path: &Path) -> Result<(), StoreError> {
        if lock(&self.durable_dirs).contains(path) {
            return Ok(());
        }
        if path == self.root {
            return self.ensure_root(path);
        }
        let parent = parent_of(path);
        self.ensure_dir(parent)?;
        match self.files.make_dir(path) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                return Err(write_error(path, error));
            }
            _ => self.sync_dir(parent)?,
        }
        lock(&self.durable_dirs).insert(path.to_path_buf());
        Ok(())
    }

    /// Makes the store's own directory and what is missing above it.
    fn ensure_root(&self, path: &Path) -> Result<(), StoreError> {
        let parent = parent_of(path);
        let made = match self.files.make_dir(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound && parent != path => {
                self.ensure_root(parent)?;
                self.files.make_dir(path)
            }
            made => made,
        };
        match made {
            Ok(()) => self.sync_dir(parent)?,
            // Perhaps made by the user, below a directory that is not ours to open.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                let _ = self.files.sync_dir(parent);
            }
            Err(error) => return Err(StoreError::from_io("create", path.display(), error)),
        }
        lock(&self.durable_dirs).insert(path.to_path_buf());
        Ok(())
    }

    fn sync_dir(&self, path: &Path) -> Result<(), StoreError> {
        self.files.sync_dir(path).map_err(|error| StoreError::from_io("sync", path.display(), error))
    }

    /// Removes the directories of a deleted object that are empty now, but not those directly under
    /// `objects`, nor the spread ones: other processes rely on these.
    fn remove_empty_dirs(&self, object: &Path) {
        let top = self.root.join("objects");
        for dir in object.ancestors().skip(1) {
            let spread = dir.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"+"));
            if spread || dir.parent().is_none_or(|above| above == top || !above.starts_with(&top)) {
                break;
            }
            lock(&self.durable_dirs).remove(dir);
            if self.files.remove_dir(dir).is_err() {
                break;
            }
        }
    }
}

impl Store for Local {
    fn describe(&self) -> String {
        self.inner.root.display().to_string()
    }

    fn identity(&self) -> String {
        // The time as well: the inode of a store that was removed is given to another.
        let born = |meta: &fs::Metadata| meta.created().ok()?.duration_since(UNIX_EPOCH).ok();
        match fs::metadata(&self.inner.root) {
            Ok(meta) => format!("{} {} {:?}", meta.dev(), meta.ino(), born(&meta)),
            Err(_) => self.describe(),
        }
    }

    fn working_dir(&self) -> Option<PathBuf> {
        Some(self.inner.root.join("work"))
    }

    fn put(&self, key: &Key, bytes: &[u8]) -> Result<(), StoreError> {
        self.write_object(key, bytes, Publish::Replace).map(|_| ())
    }

    fn upload(&self) -> Result<Box<dyn Upload>, StoreError> {
        Ok(Box::new(Temp::new(&self.inner)?))
    }

    fn create(&self, key: &Key, bytes: &[u8]) -> Result<Created, StoreError> {
        self.write_object(key, bytes, Publish::IfAbsent)
    }

    fn get(&self, key: &Key) -> Result<Vec<u8>, StoreError> {
        self.read(key, |file| file.read(0..file.size()?))
    }

    fn get_range(&self, key: &Key, range: Range<u64>) -> Result<Vec<u8>, StoreError> {
        match self.read(key, |file| file.read(range.clone())) {
            Err(StoreError::Io { source, .. }) if source.kind() == io::ErrorKind::UnexpectedEof => {
                Err(super::short(self.inner.path_of(key).display(), &range, self.size(key)?))
            }
            other => other,
        }
    }

    fn read_at(&self, key: &Key, start: u64, into: &mut [u8]) -> Result<(), StoreError> {
        match self.read(key, |file| file.read_at(start, into)) {
            Err(StoreError::Io { source, .. }) if source.kind() == io::ErrorKind::UnexpectedEof => {
                let range = start..start.saturating_add(into.len() as u64);
                Err(super::short(self.inner.path_of(key).display(), &range, self.size(key)?))
            }
            other => other,
        }
    }

    fn get_end(&self, key: &Key, max: u64) -> Result<(u64, Vec<u8>), StoreError> {
        self.read(key, |file| {
            let size = file.size()?;
            Ok((size, file.read(size.saturating_sub(max)..size)?))
        })
    }

    fn size(&self, key: &Key) -> Result<u64, StoreError> {
        self.read(key, |file| file.size())
    }

    fn list(&self, prefix: &str) -> Result<Vec<Key>, StoreError> {
        let mut keys = self.walk(prefix)?.keys;
        keys.sort_unstable();
        Ok(keys)
    }

    fn settle(&self, prefix: &str) -> Result<(), StoreError> {
        for dir in self.walk(prefix)?.dirs {
            self.inner.ensure_dir(&dir)?;
            self.inner.sync_dir(&dir)?;
        }
        Ok(())
    }

    fn delete(&self, key: &Key) -> Result<(), StoreError> {
        self.delete_all(std::slice::from_ref(key))
    }

    fn delete_all(&self, keys: &[Key]) -> Result<(), StoreError> {
        // Each directory is synced once.
        let mut removed: BTreeMap<PathBuf, PathBuf> = BTreeMap::new();
        for key in keys {
            let path = self.inner.path_of(key);
            match self.inner.files.remove(&path) {
                Ok(()) => {
                    removed.insert(parent_of(&path).to_path_buf(), path);
                }
                Err(error) => match error.kind() {
                    io::ErrorKind::NotFound | io::ErrorKind::NotADirectory | io::ErrorKind::IsADirectory => {}
                    _ => return Err(StoreError::from_io("remove", path.display(), error)),
                },
            }
        }
        for (dir, path) in &removed {
            self.inner.sync_dir(dir)?;
            self.inner.remove_empty_dirs(path);
        }
        Ok(())
    }

    fn names(&self, dir: &str) -> Result<Vec<String>, StoreError> {
        key::check_prefix(dir)?;
        let path = self.inner.root.join("objects").join(dir);
        match self.inner.files.read_dir(&path) {
            // Spread names are not directories of their own.
            Ok(entries) if entries.iter().all(|entry| !entry.name.starts_with('+')) => {
                let mut names: Vec<String> = entries.into_iter().map(|entry| entry.name).collect();
                names.sort_unstable();
                Ok(names)
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(vec![]),
            Err(error) => Err(StoreError::from_io("list", path.display(), error)),
            Ok(_) => {
                let keys = self.list(dir)?;
                let name = |key: &Key| Some(key.as_str().strip_prefix(dir)?.split('/').next()?.to_string());
                let names: BTreeSet<String> = keys.iter().filter_map(name).collect();
                Ok(names.into_iter().collect())
            }
        }
    }

    fn lease(&self, key: &Key, sharing: Sharing) -> Result<Box<dyn Hold>, StoreError> {
        let path = self.inner.root.join("locks").join(key.as_str().replace('/', "+"));
        match self.inner.files.lock(&path, sharing) {
            Ok(Locked::Got(hold)) => Ok(hold),
            Ok(Locked::Taken(holder)) => {
                Err(StoreError::Held { what: key.to_string(), holder, alive: false })
            }
            Err(error) => Err(StoreError::from_io("lock", path.display(), error)),
        }
    }
}

/// An object being written, under a name in `tmp`.
struct Temp {
    inner: Arc<Inner>,
    path: PathBuf,
    file: Box<dyn NewFile>,
    /// Bytes that were written since the last sync.
    unsynced: usize,
    /// The temporary name is no more.
    gone: bool,
}

impl Temp {
    fn new(inner: &Arc<Inner>) -> Result<Self, StoreError> {
        let nonce = getrandom::u64().map_err(|error| {
            StoreError::from_io("name a file in", inner.root.display(), io::Error::other(error.to_string()))
        })?;
        let path = inner.root.join("tmp").join(format!("{}-{nonce:016x}", std::process::id()));
        let create = |error| StoreError::from_io("create", path.display(), error);
        let file = inner.files.create_new(&path).map_err(create)?;
        Ok(Self { inner: inner.clone(), path, file, unsynced: 0, gone: false })
    }

    /// Syncs the content, gives it its name, and syncs the name: the one place where objects appear.
    fn publish(mut self, target: &Path, how: Publish) -> Result<Created, StoreError> {
        self.file.sync().map_err(|error| StoreError::from_io("sync", self.path.display(), error))?;
        let dir = parent_of(target);
        self.inner.ensure_dir(dir)?;
        let mut named = self.name(target, how);
        if named.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::NotFound) {
            // Someone has removed the directory since it was empty.
            lock(&self.inner.durable_dirs).clear();
            self.inner.ensure_dir(dir)?;
            named = self.name(target, how);
        }
        let created = match named {
            Ok(()) => Created::Yes,
            // The other one's name may not be durable yet, and our caller will build on it: sync it, too.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists && how == Publish::IfAbsent => {
                if self.inner.files.read_dir(target).is_ok() {
                    return Err(write_error(target, io::ErrorKind::IsADirectory.into()));
                }
                Created::Exists
            }
            Err(error) => return Err(write_error(target, error)),
        };
        self.gone = created == Created::Yes && how == Publish::Replace;
        self.inner.sync_dir(dir)?;
        Ok(created)
    }

    fn name(&self, target: &Path, how: Publish) -> io::Result<()> {
        let files = &self.inner.files;
        match how {
            Publish::Replace => files.rename(&self.path, target),
            Publish::IfAbsent => match files.link(&self.path, target) {
                // No hard links here.
                Err(error)
                    if matches!(
                        error.kind(),
                        io::ErrorKind::PermissionDenied | io::ErrorKind::Unsupported
                    ) =>
                {
                    files.rename_new(&self.path, target).map_err(|other| match other.kind() {
                        io::ErrorKind::AlreadyExists => other,
                        _ => error,
                    })
                }
                other => other,
            },
        }
    }
}

impl Upload for Temp {
    fn write(&mut self, bytes: &[u8]) -> Result<(), StoreError> {
        self.file.write(bytes).map_err(|error| StoreError::from_io("write", self.path.display(), error))?;
        self.unsynced += bytes.len();
        if self.unsynced < SYNC_EVERY {
            return Ok(());
        }
        self.unsynced = 0;
        self.file.sync().map_err(|error| StoreError::from_io("sync", self.path.display(), error))
    }

    fn commit(self: Box<Self>, key: &Key) -> Result<(), StoreError> {
        let target = self.inner.path_of(key);
        self.publish(&target, Publish::Replace).map(|_| ())
    }
}

impl Drop for Temp {
    fn drop(&mut self) {
        if !self.gone {
            let _ = self.inner.files.remove(&self.path);
        }
    }
}

fn write_error(target: &Path, error: io::Error) -> StoreError {
    let what = target.display().to_string();
    match error.kind() {
        io::ErrorKind::IsADirectory | io::ErrorKind::NotADirectory => {
            StoreError::BadKey { key: what, why: key::FILE_AND_DIRECTORY }
        }
        // Not `NotFound`: that would say something about the object.
        io::ErrorKind::NotFound => StoreError::Io { doing: "write", what, source: error },
        _ => StoreError::from_io("write", what, error),
    }
}

fn parent_of(path: &Path) -> &Path {
    path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

fn is_hash(name: &str) -> bool {
    name.len() == 64 && name.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
}
