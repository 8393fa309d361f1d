//! What a snapshot cost, in words and as JSON.

use serde_json::{Value as Json, json};

use wasm_ckpt::job::{Commit, Event};
use wasm_ckpt::machine::{Loading, Source};
use wasm_ckpt::{JobName, Jobs, digest::SnapshotId};

/// For example `1.8 ms pause, 4.0 MB dirty, 0.7 MB stored, durable after 64.0 ms`.
pub fn line(commit: &Commit) -> String {
    let dirty = commit.dirty_bytes.map_or(String::new(), |dirty| format!("{} dirty, ", size(dirty)));
    let durable = match commit.durable_us {
        0 => String::new(),
        us => format!(", durable after {}", time(us)),
    };
    format!("{} pause, {dirty}{} stored{durable}", time(commit.pause_us), size(stored(commit)))
}

/// All of it; what older versions did not record is null.
pub fn json(commit: &Commit) -> Json {
    json!({
        "memory": commit.memory,
        "chunks": commit.chunks,
        "new_bytes": commit.new_bytes,
        "stored_bytes": commit.stored_bytes,
        "manifest_bytes": commit.manifest_bytes,
        "dirty_bytes": commit.dirty_bytes,
        "dirty_source": commit.source.as_ref().map(Source::to_string),
        "restored": commit.restored.as_ref().map(Loading::to_string),
        "pause_us": commit.pause_us,
        "durable_us": Some(commit.durable_us).filter(|us| *us > 0),
    })
}

/// Bytes that a snapshot has added to the store.
pub fn stored(commit: &Commit) -> u64 {
    commit.stored_bytes + commit.manifest_bytes
}

/// A time in microseconds.
pub fn time(us: u64) -> String {
    match us {
        0..10_000_000 => format!("{:.1} ms", us as f64 / 1e3),
        _ => format!("{:.1} s", us as f64 / 1e6),
    }
}

/// A number of bytes.
pub fn size(bytes: u64) -> String {
    match bytes {
        0..100_000 => format!("{:.1} kB", bytes as f64 / 1e3),
        100_000..1_000_000_000 => format!("{:.1} MB", bytes as f64 / 1e6),
        _ => format!("{:.1} GB", bytes as f64 / 1e9),
    }
}

/// What the snapshot cost the job that has taken it, if there still is one.
pub fn of(jobs: &Jobs, id: SnapshotId) -> Option<Commit> {
    let owners = jobs.owners(id).ok()?;
    let in_log = |name: &JobName| {
        let head = jobs.existing(name).ok()?.head.filter(|commit| commit.snapshot == id);
        head.or_else(|| {
            jobs.history(name).ok()?.into_iter().find_map(|entry| match entry.event {
                Event::Commit(commit) if commit.snapshot == id => Some(commit),
                _ => None,
            })
        })
    };
    owners.iter().find_map(|(name, _)| in_log(name))
}
