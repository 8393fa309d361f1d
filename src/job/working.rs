//! Files of this machine that tell what the kernel knows of a job as long as it runs: how much has gone into a pipe,
//! and what has come out of one. SIGKILL does not harm them; they mean nothing once the machine was started anew,
//! since then the other ends of the pipes are gone.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::JobName;
use crate::store::Store;

/// All kinds of files, by extension.
const KINDS: [&str; 5] = ["delivered", "intake", "touched", "silent-output", "silent-error"];

/// What a file is about: this machine since it was started, the store, the job, and its beginning.
pub(super) fn about(store: &dyn Store, job: &JobName, begin: u64) -> [u8; 32] {
    // Where that cannot be found out, no file of another process is believed.
    let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id")
        .unwrap_or_else(|_| format!("process {}", std::process::id()));
    let mut about = blake3::Hasher::new();
    for part in [boot.trim(), &store.identity(), job.as_str()] {
        about.update(&(part.len() as u64).to_le_bytes()).update(part.as_bytes());
    }
    about.update(&begin.to_le_bytes());
    *about.finalize().as_bytes()
}

/// Path of a job's file of this kind. Stores without a directory of their own share one.
pub(super) fn path(store: &dyn Store, job: &JobName, kind: &str) -> PathBuf {
    debug_assert!(KINDS.contains(&kind));
    let user = rustix::process::getuid().as_raw();
    // The directory of a store moves with it.
    let (dir, named) = match store.working_dir() {
        Some(dir) => (dir, job.to_string()),
        None => (std::env::temp_dir().join(format!("wasm-ckpt-{user}")), among_all(store, job)),
    };
    let hash = blake3::hash(named.as_bytes()).to_hex();
    dir.join(format!("streams-{}.{kind}", &hash[..24]))
}

/// Path of the job's file in memory, in a directory that all users share.
pub(super) fn shared_memory(store: &dyn Store, job: &JobName) -> PathBuf {
    let user = rustix::process::getuid().as_raw();
    let hash = blake3::hash(among_all(store, job).as_bytes()).to_hex();
    Path::new("/dev/shm").join(format!("wasm-ckpt-{user}-{}", &hash[..24]))
}

/// The job among those of all stores.
fn among_all(store: &dyn Store, job: &JobName) -> String {
    format!("{job} {}", store.identity())
}

/// Removes the files of a job that is removed or begun anew.
pub(super) fn forget(store: &dyn Store, job: &JobName) {
    for kind in KINDS {
        let _ = fs::remove_file(path(store, job, kind));
    }
    let _ = fs::remove_file(shared_memory(store, job));
}

/// Opens the file, which is made if there is none, in a directory that nobody else may write to.
///
/// # Errors
/// What the system reports.
pub(super) fn open(path: &Path) -> io::Result<File> {
    if let Some(dir) = path.parent() {
        DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
        let found = fs::symlink_metadata(dir)?;
        let ours = found.uid() == rustix::process::getuid().as_raw() && found.mode() & 0o022 == 0;
        if !found.is_dir() || !ours {
            let why = format!("`{}` is not a directory of this user alone", dir.display());
            return Err(io::Error::new(io::ErrorKind::PermissionDenied, why));
        }
    }
    private().create(true).truncate(false).open(path)
}

/// Makes a new file, for this user alone.
///
/// # Errors
/// What the system reports.
pub(super) fn create(path: &Path) -> io::Result<File> {
    private().create_new(true).open(path)
}

fn private() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.read(true).write(true).mode(0o600).custom_flags(rustix::fs::OFlags::NOFOLLOW.bits() as i32);
    options
}

/// A record with its hash, filled up to `len` bytes.
///
/// # Errors
/// It is longer.
pub(super) fn encode(record: &impl Serialize, len: usize) -> io::Result<Vec<u8>> {
    let body = postcard::to_stdvec(record).map_err(io::Error::other)?;
    let mut bytes = blake3::hash(&body).as_bytes().to_vec();
    bytes.extend_from_slice(&(body.len() as u32).to_le_bytes());
    bytes.extend_from_slice(&body);
    if bytes.len() > len {
        return Err(io::Error::other("a record of a working file is too long"));
    }
    bytes.resize(len, 0);
    Ok(bytes)
}

/// Reads a record; nothing if it is none.
pub(super) fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Option<T> {
    let (hash, rest) = bytes.split_first_chunk::<32>()?;
    let (len, rest) = rest.split_first_chunk::<4>()?;
    let body = rest.get(..u32::from_le_bytes(*len) as usize)?;
    (blake3::hash(body).as_bytes() == hash).then(|| postcard::from_bytes(body).ok()).flatten()
}
