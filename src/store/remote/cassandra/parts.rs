//! Objects that are too big for one row: written, read and removed in parts.

use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use futures_util::stream::{self, StreamExt, TryStreamExt};
use tokio::time::timeout;
use uuid::Uuid;

use super::super::super::{Created, Key, StoreError, Upload};
use super::super::runtime::wait;
use super::Inner;
use super::errors::Task;
use super::rows::{self, Head};

/// Bytes of a part, but for the last. Belongs to the format.
const PART: usize = 512 << 10;
/// Objects up to this size are in their heads.
const INLINE_MAX: usize = 4 << 10;
/// Parts that are under way at a time.
const AT_A_TIME: usize = 8;
/// So long it is tried to remove the parts of an upload that was given up.
const FORGET_MAX: Duration = Duration::from_secs(5);

/// The parts of an object that has no name yet.
pub(super) struct Parts {
    inner: Arc<Inner>,
    generation: Uuid,
    /// All that is written.
    size: u64,
    /// What of it is not sent.
    buffer: Vec<u8>,
    /// Some were sent, which nobody else removes.
    ours: bool,
}

impl Parts {
    pub(super) fn new(inner: Arc<Inner>) -> Self {
        Self { inner, generation: Uuid::new_v4(), size: 0, buffer: Vec::new(), ours: false }
    }

    /// Takes these bytes, and sends parts while they come.
    ///
    /// # Errors
    /// As of `Service::put`.
    pub(super) async fn write(&mut self, mut bytes: &[u8]) -> Result<(), StoreError> {
        while !bytes.is_empty() {
            let (now, later) = bytes.split_at(bytes.len().min(AT_A_TIME * PART - self.buffer.len()));
            self.buffer.extend_from_slice(now);
            self.size += now.len() as u64;
            bytes = later;
            if self.buffer.len() == AT_A_TIME * PART {
                self.send().await?;
            }
        }
        Ok(())
    }

    /// Sends what is buffered; it ends with a whole part, unless it is the last time.
    async fn send(&mut self) -> Result<(), StoreError> {
        let (session, generation) = (&self.inner.session, self.generation);
        let task = Task { doing: "write", what: "a part of an object" };
        let first = (self.size - self.buffer.len() as u64) / PART as u64;
        self.ours = true;
        let send = |(n, bytes)| {
            let n = number(task, n);
            async move { session.execute(task, &session.add_part, (generation, n?, bytes)).await.map(drop) }
        };
        let sends = (first..).zip(self.buffer.chunks(PART)).map(send);
        stream::iter(sends).buffer_unordered(AT_A_TIME).try_collect::<()>().await?;
        self.buffer.clear();
        Ok(())
    }

    /// Names the object: over a former one, or if there is none.
    ///
    /// # Errors
    /// As of `Service::put`.
    pub(super) async fn publish(&mut self, key: &Key, replace: bool) -> Result<Created, StoreError> {
        if self.size > INLINE_MAX as u64 {
            self.send().await?;
        }
        let head =
            Head { generation: self.generation, size: self.size, inline: std::mem::take(&mut self.buffer) };
        // After an error they may be named.
        self.ours = false;
        let created = self.inner.publish(key, &head, replace).await?;
        if created == Created::Exists {
            self.inner.forget(&head).await;
        }
        Ok(created)
    }
}

impl Upload for Parts {
    fn write(&mut self, bytes: &[u8]) -> Result<(), StoreError> {
        wait(Parts::write(self, bytes))
    }

    fn commit(mut self: Box<Self>, key: &Key) -> Result<(), StoreError> {
        wait(self.publish(key, true)).map(drop)
    }
}

impl Drop for Parts {
    fn drop(&mut self) {
        if self.ours {
            let head = Head { generation: self.generation, size: self.size, inline: Vec::new() };
            // They are in nobody's way.
            let _ = wait(async {
                let _ = timeout(FORGET_MAX, self.inner.forget(&head)).await;
                Ok(())
            });
        }
    }
}

impl Inner {
    /// These bytes of an object that has them; nothing if parts of it are gone.
    ///
    /// # Errors
    /// As of `Service::get`.
    pub(super) async fn read_parts(
        &self,
        key: &Key,
        head: &Head,
        range: Range<u64>,
    ) -> Result<Option<Vec<u8>>, StoreError> {
        let (part, session, generation) = (PART as u64, &self.session, head.generation);
        let task = Task { doing: "read", what: key.as_str() };
        let numbers = if range.is_empty() { 0..0 } else { range.start / part..range.end.div_ceil(part) };
        let read = |n: u64| async move {
            let found = session.execute(task, &session.part, (generation, number(task, n)?)).await?;
            Ok::<_, StoreError>((n * part, rows::part(task, found)?))
        };
        let mut parts = stream::iter(numbers).map(read).buffered(AT_A_TIME);
        let mut bytes = Vec::new();
        while let Some((first, found)) = parts.try_next().await? {
            let Some(found) = found else { return Ok(None) };
            if found.len() as u64 != part.min(head.size - first) {
                return Err(StoreError::corrupt(
                    key,
                    format!("its part at {first} has {} bytes", found.len()),
                ));
            }
            let (start, end) = (range.start.max(first) - first, range.end.min(first + part) - first);
            bytes.extend_from_slice(&found[start as usize..end as usize]);
        }
        Ok(Some(bytes))
    }

    /// Removes the parts of what no head names any more. Those that cannot be removed are in nobody's way.
    pub(super) async fn forget(&self, head: &Head) {
        if head.is_inline() {
            return;
        }
        // Nothing is written under this generation any more, so the removal's time is set ahead, for clocks that differ.
        let day = Duration::from_secs(24 * 60 * 60);
        let time = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default() + day;
        let (micros, generation) = (i64::try_from(time.as_micros()).unwrap_or(i64::MAX), head.generation);
        let (session, task) = (&self.session, Task { doing: "remove", what: "a part of an object" });
        let remove = |n: u64| async move {
            session
                .execute(task, &session.remove_part, (micros, generation, number(task, n)?))
                .await
                .map(drop)
        };
        let count = head.size.div_ceil(PART as u64);
        let _ = stream::iter(0..count).map(remove).buffer_unordered(AT_A_TIME).try_collect::<()>().await;
    }
}

/// A part's number as the tables have it.
fn number(task: Task<'_>, n: u64) -> Result<i32, StoreError> {
    let max = i32::MAX as u64 * PART as u64;
    let refuse =
        |_| StoreError::TooLarge { what: task.what.to_string(), len: n.saturating_mul(PART as u64), max };
    i32::try_from(n).map_err(refuse)
}
