//! A store on HDFS.
//!
//! | path in the store's directory | what |
//! |---|---|
//! | `objects/…` | the objects, each a file; a key's slashes are directories |
//! | `tmp/…` | objects being written, by random names; what dead writers have left is removed after a day |
//!
//! An object is written to a file in `tmp`, closed, and renamed: over a former one, or only if there is none, which the
//! NameNode decides for all. That name is durable when the NameNode answers. The bytes are durable as well: before a file is
//! closed, every DataNode that has a copy was told to sync it. What HDFS leaves out is the last step on the DataNode, which moves
//! the block to the finished ones: it is synced only with `dfs.datanode.synconclose`. Without that, an object may be lost if
//! all DataNodes that have it lose power within seconds.

mod config;
mod errors;
mod files;

use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use super::super::key::FILE_AND_DIRECTORY;
use super::super::{Created, Key, StoreError, Upload, short};
use super::{Service, runtime};

pub use config::Config;
use errors::Kind;
use files::{Files, NewFile, PIECE, Publish};

/// A directory of HDFS. Clones share the connection.
#[derive(Clone)]
pub struct Hdfs {
    files: Arc<Files>,
}

impl Hdfs {
    /// Connects to the NameNode, and sees that it answers. Writes nothing.
    ///
    /// # Errors
    /// [`StoreError::NotAStore`] if the directory is a file, [`StoreError::Denied`], [`StoreError::Io`].
    pub fn connect(config: Config) -> Result<Self, StoreError> {
        let url = config.to_string();
        let dir = config.dir.clone();
        let hdfs = run("connect to", &url, async {
            Files::new(config).map_err(|error| errors::sorted("connect to", url.clone(), error))
        });
        let hdfs = Self { files: Arc::new(hdfs?) };
        match hdfs.wait("connect to", "", hdfs.files.is_dir(&dir))? {
            Some(false) => return Err(StoreError::NotAStore { what: url }),
            Some(true) => {}
            None => return Ok(hdfs),
        }
        // What cannot be removed does no harm.
        let _ = hdfs.wait("remove", "tmp", hdfs.files.clean());
        Ok(hdfs)
    }

    /// Waits until it is done with this path in the store's directory.
    fn wait<T>(
        &self,
        doing: &'static str,
        path: &str,
        task: impl Future<Output = Result<T, hdfs_native::HdfsError>>,
    ) -> Result<T, StoreError> {
        let what = format!("{}{}{path}", self.files.config, if path.is_empty() { "" } else { "/" });
        run(doing, &what.clone(), async { task.await.map_err(|error| errors::sorted(doing, what, error)) })
    }

    fn write(&self, key: &Key, bytes: &[u8], how: Publish) -> Result<Created, StoreError> {
        let task = async {
            let temp = self.files.write_temp(bytes).await?;
            self.files.publish(&temp, key, how, bytes).await
        };
        unless_clash(key, self.wait("write", &path_of(key), task))
    }

    /// Reads the part of an object that is picked by its length; the length as well.
    fn read(
        &self,
        key: &Key,
        pick: impl Fn(u64) -> Option<Range<u64>>,
    ) -> Result<(u64, Option<Vec<u8>>), StoreError> {
        self.wait("read", &path_of(key), self.files.read(key, pick))
    }
}

/// Runs it on this thread. The client panics at some answers that no NameNode gives; that is an error of the call.
fn run<T>(
    doing: &'static str,
    what: &str,
    task: impl Future<Output = Result<T, StoreError>>,
) -> Result<T, StoreError> {
    catch_unwind(AssertUnwindSafe(|| runtime::wait(task))).unwrap_or_else(|_| {
        let source = std::io::Error::other("the service gave an answer that HDFS does not give");
        Err(StoreError::from_io(doing, what, source))
    })
}

fn path_of(key: &Key) -> String {
    format!("objects/{key}")
}

/// A file where a directory is wanted, or the other way round: the key is at fault.
fn unless_clash<T>(key: &Key, result: Result<T, StoreError>) -> Result<T, StoreError> {
    match result {
        Err(StoreError::Io { source, .. }) if errors::is_clash(&source) => {
            Err(StoreError::BadKey { key: key.to_string(), why: FILE_AND_DIRECTORY })
        }
        other => other,
    }
}

impl Service for Hdfs {
    fn describe(&self) -> String {
        self.files.config.to_string()
    }

    fn put(&self, key: &Key, bytes: &[u8]) -> Result<(), StoreError> {
        self.write(key, bytes, Publish::Replace).map(|_| ())
    }

    fn upload(&self) -> Result<Box<dyn Upload>, StoreError> {
        Ok(Box::new(Uploading { hdfs: self.clone(), rest: Vec::new(), file: None }))
    }

    fn create(&self, key: &Key, bytes: &[u8]) -> Result<Created, StoreError> {
        self.write(key, bytes, Publish::IfAbsent)
    }

    fn get(&self, key: &Key) -> Result<Vec<u8>, StoreError> {
        Ok(self.read(key, |len| Some(0..len))?.1.unwrap_or_default())
    }

    fn get_range(&self, key: &Key, range: Range<u64>) -> Result<Vec<u8>, StoreError> {
        let within = |len| (range.start <= range.end && range.end <= len).then(|| range.clone());
        let (len, bytes) = self.read(key, within)?;
        bytes.ok_or_else(|| short(format!("{}/{}", self.describe(), path_of(key)), &range, len))
    }

    fn get_end(&self, key: &Key, max: u64) -> Result<(u64, Vec<u8>), StoreError> {
        let (len, bytes) = self.read(key, |len| Some(len.saturating_sub(max)..len))?;
        Ok((len, bytes.unwrap_or_default()))
    }

    fn size(&self, key: &Key) -> Result<u64, StoreError> {
        self.wait("read", &path_of(key), self.files.size(key))
    }

    fn list(&self, prefix: &str) -> Result<Vec<Key>, StoreError> {
        self.wait("list", "objects", self.files.list(prefix))
    }

    fn names(&self, dir: &str) -> Result<Vec<String>, StoreError> {
        self.wait("list", &format!("objects/{dir}"), self.files.names(dir))
    }

    fn delete(&self, key: &Key) -> Result<(), StoreError> {
        self.delete_all(std::slice::from_ref(key))
    }

    fn delete_all(&self, keys: &[Key]) -> Result<(), StoreError> {
        let mut removed = Vec::new();
        for key in keys {
            if self.wait("remove", &path_of(key), self.files.remove(key))? {
                removed.push(key);
            }
        }
        let task = async {
            self.files.remove_empty_dirs(&removed).await;
            Ok(())
        };
        self.wait("remove", "objects", task)
    }
}

/// An object being written: what has not been sent yet, and where the rest went. What fits into one piece is sent at the
/// end, since only then it can be sent again.
struct Uploading {
    hdfs: Hdfs,
    rest: Vec<u8>,
    file: Option<NewFile>,
}

impl Uploading {
    fn send(&mut self) -> Result<(), StoreError> {
        let piece = std::mem::take(&mut self.rest);
        let task = async {
            if self.file.is_none() {
                self.file = Some(self.hdfs.files.begin().await?);
            }
            match &mut self.file {
                Some(file) => file.write(piece).await,
                None => Ok(()),
            }
        };
        self.hdfs.wait("write", "tmp", task)
    }
}

impl Upload for Uploading {
    fn write(&mut self, mut bytes: &[u8]) -> Result<(), StoreError> {
        while !bytes.is_empty() {
            let (now, later) = bytes.split_at(bytes.len().min(PIECE - self.rest.len()));
            self.rest.extend_from_slice(now);
            bytes = later;
            if self.rest.len() == PIECE {
                self.send()?;
            }
        }
        Ok(())
    }

    fn commit(mut self: Box<Self>, key: &Key) -> Result<(), StoreError> {
        if self.file.is_none() {
            return self.hdfs.put(key, &self.rest);
        }
        if !self.rest.is_empty() {
            self.send()?;
        }
        let Some(file) = &mut self.file else { return Ok(()) };
        self.hdfs.wait("write", "tmp", file.close())?;
        let temp = file.path.clone();
        self.file = None;
        let task = self.hdfs.files.publish(&temp, key, Publish::Replace, &[]);
        unless_clash(key, self.hdfs.wait("write", &path_of(key), task)).map(|_| ())
    }
}

impl Drop for Uploading {
    fn drop(&mut self) {
        if let Some(file) = self.file.take() {
            let give_up = async {
                self.hdfs.files.abandon(file).await;
                Ok(())
            };
            let _ = self.hdfs.wait("remove", "tmp", give_up);
        }
    }
}
