//! Objects that are written piece by piece.
//!
//! A small one is kept in memory, and sent whole when it has a name. A big one is sent in parts (a multipart upload)
//! under a random name, and copied to its own inside the service, since objects cannot be renamed.

use std::time::Duration;

use object_store::path::Path;
use object_store::{Error, MultipartUpload, ObjectStoreExt, PutPayload};
use tokio::task::JoinHandle;

use super::super::super::{Key, StoreError, Upload};
use super::{LIMIT, S3, UPLOADS, wait};

/// Bytes in a part: one is sent while the next is filled. Services want at least 5 MiB, and take 10 000.
pub(super) const PART: usize = 8 << 20;
/// The most that a service copies by one request.
const COPY_MAX: u64 = 5 << 30;
/// An upload that is given up is removed in this time, or left.
const GIVE_UP: Duration = Duration::from_secs(5);

/// An object without its name yet.
pub(super) struct Parts {
    store: S3,
    /// What has not been sent.
    buffer: Vec<u8>,
    /// There if it is a big one.
    sent: Option<Sent>,
}

/// Where the parts go.
struct Sent {
    /// Name in the store.
    name: String,
    path: Path,
    upload: Box<dyn MultipartUpload>,
    /// The part that is under way.
    part: Option<JoinHandle<Result<(), Error>>>,
    /// Bytes in the parts.
    len: u64,
    /// The parts were joined.
    joined: bool,
}

impl Parts {
    pub(super) fn new(store: S3) -> Self {
        Self { store, buffer: Vec::new(), sent: None }
    }

    fn sent(&mut self) -> Result<&mut Sent, StoreError> {
        let sent = match self.sent.take() {
            Some(sent) => sent,
            None => {
                let nonce = getrandom::u64().map_err(|error| {
                    StoreError::from_io(
                        "name",
                        self.store.config.address(UPLOADS),
                        std::io::Error::other(error.to_string()),
                    )
                })?;
                let name = format!("{UPLOADS}{nonce:016x}");
                let path = self.store.path(&name)?;
                let upload = self.store.ask("write", &name, || self.store.client.put_multipart(&path))?;
                Sent { name, path, upload, part: None, len: 0, joined: false }
            }
        };
        Ok(self.sent.insert(sent))
    }

    /// Sends what there is as a part, when the one before has arrived.
    fn send(&mut self) -> Result<(), StoreError> {
        let store = self.store.clone();
        let bytes = std::mem::take(&mut self.buffer);
        let sent = self.sent()?;
        sent.arrived(&store)?;
        sent.len += bytes.len() as u64;
        if sent.len > COPY_MAX {
            let what = store.config.address(&sent.name);
            return Err(StoreError::TooLarge { what, len: sent.len, max: COPY_MAX });
        }
        let part = sent.upload.put_part(PutPayload::from(bytes));
        sent.part = Some(wait(async { Ok(tokio::spawn(part)) })?);
        Ok(())
    }
}

impl Sent {
    /// Waits for the part that is under way.
    fn arrived(&mut self, store: &S3) -> Result<(), StoreError> {
        let Some(part) = self.part.take() else { return Ok(()) };
        let ended = async { part.await.unwrap_or_else(|source| Err(Error::JoinError { source })) };
        store.within(LIMIT, "write", &self.name, ended)
    }

    /// Makes one object of the parts.
    fn join(&mut self, store: &S3) -> Result<(), StoreError> {
        self.arrived(store)?;
        let done = store.within(LIMIT, "write", &self.name, self.upload.complete()).map(drop);
        self.joined = match &done {
            Ok(()) => true,
            // Where the reply to the first request was lost, the second finds no upload any more.
            Err(_) => {
                let head = store.ask("read", &self.name, || store.client.head(&self.path));
                head.is_ok_and(|object| object.size == self.len)
            }
        };
        if self.joined { Ok(()) } else { done }
    }
}

impl Upload for Parts {
    fn write(&mut self, mut bytes: &[u8]) -> Result<(), StoreError> {
        while !bytes.is_empty() {
            if self.buffer.len() == PART {
                self.send()?;
            }
            let (now, later) = bytes.split_at(bytes.len().min(PART - self.buffer.len()));
            self.buffer.extend_from_slice(now);
            bytes = later;
        }
        Ok(())
    }

    fn commit(mut self: Box<Self>, key: &Key) -> Result<(), StoreError> {
        if self.sent.is_none() {
            return self.store.put_at(key.as_str(), std::mem::take(&mut self.buffer));
        }
        self.send()?;
        let store = self.store.clone();
        let to = store.path(key.as_str())?;
        let sent = self.sent()?;
        sent.join(&store)?;
        store.ask("write", key.as_str(), || store.client.copy(&sent.path, &to))
    }
}

/// Removes what has no name of its own, or none any more.
impl Drop for Parts {
    fn drop(&mut self) {
        let Some(mut sent) = self.sent.take() else { return };
        let client = self.store.client.clone();
        let removed = async move {
            if let Some(part) = sent.part.take() {
                part.abort();
                let _ = part.await;
            }
            if sent.joined { client.delete(&sent.path).await } else { sent.upload.abort().await }
        };
        // Whether it worked or not.
        let _ = wait(async { Ok(tokio::time::timeout(GIVE_UP, removed).await.is_ok()) });
    }
}
