//! What a job can meet that a caller tells apart.

use super::JobName;
use crate::digest::SnapshotId;
use crate::store::Holder;

/// Why a job is not begun, or does not go on.
#[derive(Debug, thiserror::Error)]
pub enum JobError {
    /// Not a name for a job.
    #[error(
        "`{name}` is not a name for a job: it takes 1 to 100 of a-z A-Z 0-9 . _ - and begins with a letter \
         or digit"
    )]
    BadName {
        /// What was given, escaped.
        name: String,
    },
    /// A live process runs the job.
    #[error("job `{job}` is being run by {}", .holder.as_ref().map_or("another process".to_string(), Holder::to_string))]
    Held {
        /// The job.
        job: JobName,
        /// Who runs it, if that could be read.
        holder: Option<Holder>,
    },
    /// Another runner has taken the job over while this one was running: what this one does is void.
    #[error("job `{job}` was taken over by another process; this one must stop")]
    Fenced {
        /// The job.
        job: JobName,
    },
    /// The name belongs to a job that runs something else.
    #[error("job `{job}` runs another command: {}", .differences.join("; "))]
    OtherCommand {
        /// The job.
        job: JobName,
        /// What differs: what the job has, and what was given.
        differences: Vec<String>,
    },
    /// There is no such job or snapshot.
    #[error("there is no {what} `{name}` in {place}")]
    NotFound {
        /// `job`, `snapshot`, …
        what: &'static str,
        /// What was asked for.
        name: String,
        /// The store.
        place: String,
    },
    /// The beginning of an id that is that of several snapshots.
    #[error("`{prefix}` begins the ids of {count} snapshots")]
    Ambiguous {
        /// What was given.
        prefix: String,
        /// How many there are.
        count: usize,
    },
    /// The job has ended, so it cannot be continued.
    #[error("job `{job}` has ended: {ending}")]
    Ended {
        /// The job.
        job: JobName,
        /// How, in words.
        ending: String,
    },
    /// The snapshot that the job is to go on from cannot be read.
    #[error("job `{job}` cannot go on from snapshot `{}`, which is damaged", .snapshot.short())]
    DamagedSnapshot {
        /// The job.
        job: JobName,
        /// The snapshot.
        snapshot: SnapshotId,
        /// The last one before it that is whole, if one was found.
        before: Option<SnapshotId>,
        /// What is damaged.
        #[source]
        cause: anyhow::Error,
    },
    /// The snapshot was released while it was read.
    #[error("snapshot {} was released while it was read: its job has gone on", .snapshot.short())]
    Released {
        /// The snapshot.
        snapshot: SnapshotId,
    },
    /// There is no snapshot of the job yet.
    #[error("job `{job}` has no snapshot yet")]
    NoSnapshot {
        /// The job.
        job: JobName,
    },
    /// The private disks of a job have no such file.
    #[error("there is no file `{path}` on the job's private disks")]
    NoFile {
        /// The path, as it was asked for.
        path: String,
    },
    /// The job has ended, and its output was being written when it was asked to stop.
    #[error("job `{job}` has ended, and not all that it printed is written yet")]
    Undelivered {
        /// The job.
        job: JobName,
        /// A new reader is given all of it again.
        again: bool,
    },
    /// A log entry that is none.
    #[error("the log of job `{job}` is damaged at entry {seq}: {problem}")]
    DamagedLog {
        /// The job.
        job: JobName,
        /// Number of the entry.
        seq: u64,
        /// What is wrong.
        problem: String,
    },
    /// A log entry of a later version.
    #[error("entry {seq} of the log of job `{job}` has format {found}, and this program knows {known}")]
    NewerLog {
        /// The job.
        job: JobName,
        /// Number of the entry.
        seq: u64,
        /// Its format.
        found: u32,
        /// The newest that is known.
        known: u32,
    },
    /// A snapshot from elsewhere names directories of its host, which are not opened unasked.
    #[error(
        "snapshot {} comes from another host, and its program uses the {}",
        .snapshot.short(),
        directories(.guests)
    )]
    ForeignDirectories {
        /// The snapshot.
        snapshot: SnapshotId,
        /// The guest's names of them.
        guests: Vec<String>,
    },
    /// What standard input gives is not what the job has read before.
    #[error(
        "standard input is not what job `{job}` has read before: byte {at} differs, of {read} that were read"
    )]
    InputDiffers {
        /// The job.
        job: JobName,
        /// Bytes that it has read.
        read: u64,
        /// The first one that differs, counted from 0.
        at: u64,
    },
    /// Standard input ends before what the job has read before.
    #[error("standard input ends after {found} bytes, and job `{job}` has read {read} before")]
    InputShort {
        /// The job.
        job: JobName,
        /// Bytes that it has read.
        read: u64,
        /// Bytes that there are.
        found: u64,
    },
    /// The job has read from a pipe of which only the number of bytes is known.
    #[error(
        "job `{job}` began with a snapshot whose program had read {read} bytes of a pipe, and what they were is \
         not known here"
    )]
    InputUnknown {
        /// The job.
        job: JobName,
        /// Bytes that were read.
        read: u64,
    },
}

fn directories(guests: &[String]) -> String {
    let names: Vec<_> = guests.iter().map(|g| format!("`{g}`")).collect();
    format!("{} {}", if names.len() == 1 { "directory" } else { "directories" }, names.join(", "))
}

impl JobError {
    /// What the user can do about it.
    pub fn hint(&self) -> Option<&'static str> {
        Some(match self {
            Self::Held { .. } => "wait until it ends, or stop it; `--job NAME` runs the same command apart",
            Self::OtherCommand { .. } => "give another `--job`, or `--new` to begin anew under this name",
            Self::NotFound { .. } => "`wasm-ckpt ls` lists the jobs, `ls --snapshots JOB` a job's snapshots",
            Self::Ambiguous { .. } => "give more of the id",
            Self::DamagedSnapshot { before: Some(_), .. } => {
                "a snapshot before it is whole: `wasm-ckpt resume JOB --from SNAPSHOT`"
            }
            Self::DamagedSnapshot { .. } => {
                "`wasm-ckpt verify` names what is damaged; `run --new` begins anew"
            }
            Self::Released { .. } => {
                "the same again reads a newer one; `run --retain` keeps more, or pause the job"
            }
            Self::NoSnapshot { .. } => "run its command again: it begins anew",
            Self::NoFile { .. } => "`wasm-ckpt files JOB` lists them",
            Self::Undelivered { again: false, .. } => "the same command writes the rest",
            Self::Undelivered { .. } => "the same command writes it again",
            Self::NewerLog { .. } => "use the newer program, or another store",
            Self::DamagedLog { .. } => "`wasm-ckpt rm` removes the job",
            Self::ForeignDirectories { .. } => "say where they are here: `--dir HOST::GUEST` for each",
            Self::InputDiffers { .. } | Self::InputShort { .. } => {
                "give it the same input again from its first byte on (`--input-from start`), or only what follows \
                 what was read (`--input-from now`); the job can still be resumed"
            }
            Self::InputUnknown { .. } => {
                "`--input-from start`: standard input begins with them again; `--input-from now`: it goes on \
                 behind them"
            }
            Self::BadName { .. } | Self::Fenced { .. } | Self::Ended { .. } => return None,
        })
    }
}
