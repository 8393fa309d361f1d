//! Files of HDFS, with what fails for a short time done again.

use std::collections::BTreeSet;
use std::io;
use std::ops::Range;
use std::sync::Mutex;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use hdfs_native::file::{FileReader, FileWriter};
use hdfs_native::{Client, ClientBuilder, HdfsError, Result, WriteOptions};
use tokio::time::{sleep, timeout};

use super::super::super::leases::lock;
use super::super::super::{Created, Key};
use super::{Config, Kind};

/// What fails is done again for so long.
const PATIENCE: Duration = Duration::from_secs(30);
/// No request, and no piece of a transfer, takes longer: whoever has not answered by then is asked on a new connection.
const STEP: Duration = Duration::from_secs(15);
/// Between two trials: at first, and at most.
const PAUSE: Duration = Duration::from_millis(50);
const PAUSE_MAX: Duration = Duration::from_secs(1);
/// For giving up a file, which need not succeed.
const GIVE_UP: Duration = Duration::from_secs(2);

/// So much is sent and synced, or read, at a time. A multiple of it is a block, so that no block is ended unsynced.
pub(super) const PIECE: usize = 8 << 20;
const BLOCK: u64 = 16 * PIECE as u64;

/// What a dead writer has left is removed when it is so old, and so many at a time.
const ABANDONED: Duration = Duration::from_secs(24 * 3600);
const ABANDONED_MAX: usize = 1000;

/// How a temporary gets its name.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Publish {
    Replace,
    IfAbsent,
}

/// The files of one store.
pub(super) struct Files {
    pub(super) config: Config,
    /// Replaced when it gets no answer: it would wait on the same connection for ever.
    client: Mutex<Client>,
}

impl Files {
    pub(super) fn new(config: Config) -> Result<Self> {
        let client = Mutex::new(client_of(&config)?);
        Ok(Self { config, client })
    }

    fn path_of(&self, key: &Key) -> String {
        format!("{}/objects/{key}", self.config.dir)
    }

    /// Tries until it is done, or has failed for long enough or for good.
    async fn again<T>(&self, mut attempt: impl AsyncFnMut(Client) -> Result<T>) -> Result<T> {
        let (begin, mut pause) = (Instant::now(), PAUSE);
        loop {
            let client = lock(&self.client).clone();
            let error = match attempt(client).await {
                Err(error) if Kind::of(&error).may_pass() => error,
                done => return done,
            };
            if matches!(&error, HdfsError::IOError(error) if error.kind() == io::ErrorKind::TimedOut) {
                *lock(&self.client) = client_of(&self.config)?;
            }
            if begin.elapsed() + pause >= PATIENCE {
                return Err(error);
            }
            sleep(pause).await;
            pause = (pause * 2).min(PAUSE_MAX);
        }
    }

    /// Whether there is a directory, or a file; nothing if there is neither.
    pub(super) async fn is_dir(&self, path: &str) -> Result<Option<bool>> {
        self.again(async |client| is_dir(&client, path).await).await
    }

    pub(super) async fn size(&self, key: &Key) -> Result<u64> {
        let path = self.path_of(key);
        self.again(async |client| match step(client.get_file_info(&path)).await.map_err(nothing_below) {
            Ok(found) if found.isdir => Err(HdfsError::FileNotFound(path.clone())),
            found => Ok(found?.length as u64),
        })
        .await
    }

    pub(super) async fn read(
        &self,
        key: &Key,
        pick: impl Fn(u64) -> Option<Range<u64>>,
    ) -> Result<(u64, Option<Vec<u8>>)> {
        let path = self.path_of(key);
        // From the beginning: the file may be replaced meanwhile, and the former one's blocks are then gone.
        self.again(async |client| read(&client, &path, &pick).await.map_err(nothing_below)).await
    }

    /// Begins a file in `tmp`.
    pub(super) async fn begin(&self) -> Result<NewFile> {
        self.again(async |client| self.begin_on(&client).await).await
    }

    async fn begin_on(&self, client: &Client) -> Result<NewFile> {
        let path = format!("{}/tmp/{}", self.config.dir, random_name()?);
        let writer = step(client.create(&path, WriteOptions::default().block_size(BLOCK))).await?;
        Ok(NewFile { writer, path })
    }

    /// A closed file in `tmp` with these bytes.
    pub(super) async fn write_temp(&self, bytes: &[u8]) -> Result<String> {
        self.again(async |client| {
            let mut file = self.begin_on(&client).await?;
            match file.write_all(bytes).await {
                Ok(()) => Ok(file.path),
                Err(error) => {
                    self.abandon(file).await;
                    Err(error)
                }
            }
        })
        .await
    }

    /// Closes what is not wanted any more, since its connection would be kept open else, and removes it.
    pub(super) async fn abandon(&self, mut file: NewFile) {
        let _ = timeout(GIVE_UP, file.writer.close()).await;
        self.discard(&file.path).await;
    }

    async fn discard(&self, path: &str) {
        let client = lock(&self.client).clone();
        let _ = timeout(GIVE_UP, client.delete(path, false)).await;
    }

    /// Gives the temporary, which has these bytes, its name; or removes it.
    pub(super) async fn publish(&self, temp: &str, key: &Key, how: Publish, bytes: &[u8]) -> Result<Created> {
        let target = self.path_of(key);
        // One was tried, and perhaps done, but the answer was lost.
        let mut tried = false;
        let named = self
            .again(async |client| {
                let named = rename(&client, temp, &target, how, tried, bytes).await;
                tried |= named.as_ref().is_err_and(|error| Kind::of(error).may_pass());
                named
            })
            .await;
        if !matches!(named, Ok(Created::Yes)) {
            self.discard(temp).await;
        }
        named
    }

    pub(super) async fn list(&self, prefix: &str) -> Result<Vec<Key>> {
        let within = prefix.rsplit_once('/').map_or("", |(within, _)| within);
        let (mut pending, mut keys) = (vec![within.to_string()], Vec::new());
        while let Some(dir) = pending.pop() {
            for (name, is_dir) in self.entries(&dir).await? {
                let text = if dir.is_empty() { name } else { format!("{dir}/{name}") };
                // What is not named as a key was not made by us.
                let Ok(key) = Key::new(text) else { continue };
                if is_dir && format!("{key}/").starts_with(prefix) {
                    pending.push(key.to_string());
                } else if !is_dir && key.as_str().starts_with(prefix) {
                    keys.push(key);
                }
            }
        }
        keys.sort_unstable();
        Ok(keys)
    }

    pub(super) async fn names(&self, dir: &str) -> Result<Vec<String>> {
        let entries = self.entries(dir.trim_end_matches('/')).await?;
        let names = entries.into_iter().map(|(name, _)| name);
        let mut names: Vec<String> = names.filter(|name| Key::new(format!("{dir}{name}")).is_ok()).collect();
        names.sort_unstable();
        Ok(names)
    }

    /// The names in a directory of `objects`, and whether they are directories; none if there is no such directory.
    async fn entries(&self, dir: &str) -> Result<Vec<(String, bool)>> {
        let slash = if dir.is_empty() { "" } else { "/" };
        let path = format!("{}/objects{slash}{dir}", self.config.dir);
        let listed = self.again(async |client| list(&client, &path).await).await;
        match listed {
            Err(error) if matches!(Kind::of(&error), Kind::NotFound | Kind::Clash) => Ok(Vec::new()),
            listed => listed,
        }
    }

    /// Whether there was one to remove.
    pub(super) async fn remove(&self, key: &Key) -> Result<bool> {
        let path = self.path_of(key);
        let removed = self.again(async |client| step(client.delete(&path, false)).await).await;
        match removed {
            // What has something below or above it is, as an object, not there.
            Err(HdfsError::RPCError(class, _)) if class.ends_with("PathIsNotEmptyDirectoryException") => {
                Ok(false)
            }
            Err(error) if matches!(Kind::of(&error), Kind::NotFound | Kind::Clash) => Ok(false),
            removed => removed,
        }
    }

    /// Removes the directories of these objects, which were there, if they are empty now, but not those directly under
    /// `objects`: HDFS removes none that is not empty, and whoever misses one makes it again. What is left does no harm.
    pub(super) async fn remove_empty_dirs(&self, removed: &[&Key]) {
        let dirs = removed.iter().filter_map(|key| key.as_str().rsplit_once('/').map(|(dir, _)| dir));
        for mut dir in dirs.collect::<BTreeSet<_>>() {
            while let Some((above, _)) = dir.rsplit_once('/') {
                let path = format!("{}/objects/{dir}", self.config.dir);
                let client = lock(&self.client).clone();
                if !matches!(step(client.delete(&path, false)).await, Ok(true)) {
                    break;
                }
                dir = above;
            }
        }
    }

    /// Removes what dead writers have left.
    pub(super) async fn clean(&self) -> Result<()> {
        let client = lock(&self.client).clone();
        let tmp = format!("{}/tmp", self.config.dir);
        let entries = client.list_status_iter(&tmp, false);
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        for _ in 0..ABANDONED_MAX {
            let Some(entry) = step(async { entries.next().await.transpose() }).await? else { break };
            if now.saturating_sub(Duration::from_millis(entry.modification_time)) > ABANDONED {
                step(client.delete(&entry.path, false)).await?;
            }
        }
        Ok(())
    }
}

/// A file that is being written.
pub(super) struct NewFile {
    writer: FileWriter,
    pub(super) path: String,
}

impl NewFile {
    /// Appends a piece, and has it synced.
    pub(super) async fn write(&mut self, piece: Vec<u8>) -> Result<()> {
        step(self.writer.write_bytes(piece.into())).await?;
        step(self.writer.hsync()).await
    }

    pub(super) async fn close(&mut self) -> Result<()> {
        step(self.writer.close()).await
    }

    async fn write_all(&mut self, bytes: &[u8]) -> Result<()> {
        for piece in bytes.chunks(PIECE) {
            self.write(piece.to_vec()).await?;
        }
        self.close().await
    }
}

fn client_of(config: &Config) -> Result<Client> {
    // The client's own patience is for one that would give up else.
    let settings = [
        ("dfs.client.failover.max.attempts", "4"),
        ("dfs.client.failover.sleep.base.millis", "100"),
        ("dfs.client.failover.sleep.max.millis", "1000"),
        ("dfs.client.socket-timeout", "7000"),
    ];
    let builder = ClientBuilder::new().with_url(format!("hdfs://{}", config.authority)).with_config(settings);
    match &config.user {
        Some(user) => builder.with_user(user.clone()).build(),
        None => builder.build(),
    }
}

/// One request, or one piece of a transfer.
async fn step<T>(request: impl Future<Output = Result<T>>) -> Result<T> {
    let late = |_| {
        let text = format!("no answer within {} s", STEP.as_secs());
        HdfsError::IOError(io::Error::new(io::ErrorKind::TimedOut, text))
    };
    timeout(STEP, request).await.unwrap_or_else(|elapsed| Err(late(elapsed)))
}

fn random_name() -> Result<String> {
    let random = || getrandom::u64().map_err(|error| HdfsError::IOError(io::Error::other(error.to_string())));
    Ok(format!("{:016x}{:016x}", random()?, random()?))
}

/// What is below an object is not there.
fn nothing_below(error: HdfsError) -> HdfsError {
    if Kind::of(&error) == Kind::Clash { HdfsError::FileNotFound(error.to_string()) } else { error }
}

async fn is_dir(client: &Client, path: &str) -> Result<Option<bool>> {
    match step(client.get_file_info(path)).await.map_err(nothing_below) {
        Ok(found) => Ok(Some(found.isdir)),
        Err(error) if Kind::of(&error) == Kind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

async fn list(client: &Client, path: &str) -> Result<Vec<(String, bool)>> {
    let (listing, mut entries) = (client.list_status_iter(path, false), Vec::new());
    while let Some(entry) = step(async { listing.next().await.transpose() }).await? {
        // A file is listed as itself.
        if let Some(name) = entry.path.strip_prefix(path).and_then(|rest| rest.strip_prefix('/')) {
            entries.push((name.to_string(), entry.isdir));
        }
    }
    Ok(entries)
}

async fn read(
    client: &Client,
    path: &str,
    pick: &impl Fn(u64) -> Option<Range<u64>>,
) -> Result<(u64, Option<Vec<u8>>)> {
    let file = step(client.read(path)).await?;
    let len = file.file_length() as u64;
    match pick(len) {
        Some(range) => Ok((len, Some(read_range(&file, range).await?))),
        None => Ok((len, None)),
    }
}

/// The range is within the file.
async fn read_range(file: &FileReader, range: Range<u64>) -> Result<Vec<u8>> {
    let (start, end) = (range.start as usize, range.end as usize);
    let mut bytes = Vec::new();
    let too_big = |_| HdfsError::UnsupportedFeature(format!("a file of {} bytes", end - start));
    bytes.try_reserve_exact(end - start).map_err(too_big)?;
    while start + bytes.len() < end {
        let at = start + bytes.len();
        let piece = step(file.read_range(at, PIECE.min(end - at))).await?;
        if piece.is_empty() || piece.len() > end - at {
            return Err(HdfsError::DataTransferError(format!("the file's blocks end at {at}")));
        }
        bytes.extend_from_slice(&piece);
    }
    Ok(bytes)
}

/// Renames a temporary. `tried`: that may have been done already; then the temporary is gone.
async fn rename(
    client: &Client,
    temp: &str,
    target: &str,
    how: Publish,
    tried: bool,
    bytes: &[u8],
) -> Result<Created> {
    let clash = || Err(HdfsError::IsADirectoryError(target.to_string()));
    let lost = || HdfsError::InvalidPath(format!("{temp} was removed by someone else"));
    // Others may remove a directory as soon as it is made, while it is empty.
    for _ in 0..10 {
        let error = match step(client.rename(temp, target, how == Publish::Replace)).await {
            Ok(()) => return Ok(Created::Yes),
            Err(error) => error,
        };
        match Kind::of(&error) {
            Kind::NotFound => {}
            Kind::Exists if how == Publish::IfAbsent => {
                return if is_dir(client, target).await? == Some(true) {
                    clash()
                } else {
                    Ok(Created::Exists)
                };
            }
            _ if !matches!(error, HdfsError::RPCError(..)) => return Err(error),
            Kind::Denied | Kind::Full => return Err(error),
            _ => return if let Ok(Some(true)) = is_dir(client, target).await { clash() } else { Err(error) },
        }
        if is_dir(client, temp).await?.is_some() {
            let dir = target.rsplit_once('/').map_or("/", |(dir, _)| dir);
            match step(client.mkdirs(dir, 0o755, true)).await {
                Err(error) if matches!(Kind::of(&error), Kind::Exists | Kind::Clash) => return clash(),
                made => made?,
            }
            continue;
        }
        if !tried {
            return Err(lost());
        }
        // Not by its absence alone: after a day, it would have been removed.
        return match read(client, target, &|len| Some(0..if how == Publish::IfAbsent { len } else { 0 }))
            .await
        {
            Ok(_) if how == Publish::Replace => Ok(Created::Yes),
            Ok((_, found)) => {
                Ok(if found.as_deref() == Some(bytes) { Created::Yes } else { Created::Exists })
            }
            Err(error) if Kind::of(&error) == Kind::NotFound => Err(lost()),
            Err(error) => Err(error),
        };
    }
    Err(HdfsError::InvalidPath(format!("the directory of {target} is removed again and again")))
}
