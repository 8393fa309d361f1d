//! `resume`: a job, a snapshot or an exported file goes on.

use std::fs::File;
use std::io;
use std::path::Path;

use anyhow::{Context, Result};

use super::common::{self, How, RunArgs};
use super::exit::{Exit, failure};
use super::import;
use wasm_ckpt::digest::SnapshotId;
use wasm_ckpt::job::{Lineage, SpecDir};
use wasm_ckpt::wasi::{Preopen, Stdin};
use wasm_ckpt::{Job, JobName, Jobs};

/// Go on with a job, a snapshot, or an exported file
///
/// WHAT is, in this order: `-` for an exported file on standard input, `@FILE` for a file with a snapshot's id
/// (as `--id-file` writes it), the name of a job, the id of a snapshot or its first digits (4 at least), the path
/// of an exported file. Without WHAT it is the only job that has not ended.
///
/// A snapshot at which a job stands continues that job; an earlier one begins another job, which has a name of
/// its own and leaves the first as it is.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  wasm-ckpt resume prog-3f9a12c05b7e
  wasm-ckpt resume @id --target pulley64
  wasm-ckpt resume nightly --from 30e541d6a7d7
  wasm-ckpt export nightly | ssh host wasm-ckpt resume - --dir /srv/data::/data")]
pub struct Args {
    #[command(flatten)]
    common: RunArgs,

    /// Where the program's directory GUEST is now [default: where it was; for a file from another host it must
    /// be said]; can be repeated
    #[arg(long, value_name = "HOST::GUEST[:ro]", value_parser = common::parse_dir)]
    dir: Vec<SpecDir>,

    /// Name of the job that a file or an earlier snapshot begins [default: made of the snapshot's id]
    #[arg(long, value_name = "NAME", value_parser = common::parse_name)]
    job: Option<JobName>,

    /// Go back to this earlier snapshot of the job JOB, and on from there: an id, or its first digits. What the job has
    /// done since is forgotten, and its other snapshots are released
    #[arg(long, value_name = "SNAPSHOT", requires = "what")]
    from: Option<String>,

    /// Seed of the random numbers of a job that an earlier snapshot begins: a whole number, or 64 hex digits
    /// [default: from the system]
    #[arg(long, value_name = "SEED", value_parser = super::run::parse_seed)]
    seed: Option<[u8; 32]>,

    /// Go on even if files that the program had read or open, or its file on standard input, have changed in a way that
    /// cannot be mended
    #[arg(long, visible_alias = "force")]
    accept_changed: bool,

    /// A job, a snapshot id, @FILE, an exported file, or -
    what: Option<String>,
}

/// Resumes, and gives the exit code.
pub fn main(args: Args) -> Result<u8> {
    let jobs = args.common.open()?;
    let mut stdin = Stdin::inherit().context("standard input cannot be used")?;
    let mut job = match find(&jobs, args.what.as_deref())? {
        Found::Stored(Stored::Job(name)) => {
            let mut job = jobs.hold(&name)?;
            if let Some(from) = &args.from {
                job.go_back(jobs.find_snapshot(from)?)?;
            }
            job
        }
        _ if args.from.is_some() => {
            let message = "`--from` is for a job";
            return Err(failure(Exit::Usage, message, "a snapshot or a file goes on from where it is"));
        }
        Found::Stored(Stored::Snapshot(id)) => of_snapshot(&jobs, id, &args)?,
        Found::File(None) => {
            stdin = Stdin::Null;
            let imported = import::import(&jobs, io::stdin().lock())?;
            import::job_of(&jobs, imported, args.job.as_ref())?
        }
        Found::File(Some(path)) => {
            let file = File::open(&path).with_context(|| format!("cannot read `{path}`"))?;
            let imported = import::import(&jobs, file).with_context(|| format!("cannot resume `{path}`"))?;
            import::job_of(&jobs, imported, args.job.as_ref())?
        }
    };
    let name = job.name().clone();
    let status = job.status().with_context(|| format!("there is no job `{name}`"))?.clone();
    let forks = status.head.is_none() && status.begin.origin.as_ref().is_some_and(|origin| origin.fork);
    if args.seed.is_some() && !forks {
        let message = format!("job `{name}` goes on with the random numbers that it has");
        return Err(failure(Exit::Usage, message, "`--seed` is for a job that an earlier snapshot begins"));
    }
    if status.done.is_some() {
        args.common.say(&format!("job `{name}` has ended: this is its stored output"));
        return args.common.replay(&mut job);
    }
    let wasm = job.module()?;
    let snapshot = job.snapshot()?;
    let canonical_nans = status.begin.spec.canonical_nans;
    let identity = snapshot.as_ref().map(|snapshot| &snapshot.state().identity);
    let module = args.common.compile(&wasm, canonical_nans, identity)?;
    let dirs = args.dir.iter().map(preopen).collect::<Result<_>>()?;
    let from = match status.snapshot() {
        Some(id) => format!("fuel {} (snapshot {})", status.fuel(), id.short()),
        None => "the start".to_string(),
    };
    let greeting = Some(format!("job `{name}`: going on from {from}"));
    args.common.run(job, &wasm, &module, How { stdin, dirs, accept_changed: args.accept_changed, greeting })
}

fn preopen(dir: &SpecDir) -> Result<Preopen> {
    let SpecDir { host, guest, read_only } = common::resolve_dir(dir)?;
    Ok(Preopen { host: host.into(), guest, read_only })
}

/// What the user means.
enum Found {
    /// Something in the store.
    Stored(Stored),
    /// An exported file; without a path, on standard input.
    File(Option<String>),
}

/// What the user means, in the store.
pub enum Stored {
    /// A job that there is.
    Job(JobName),
    /// A snapshot that there is.
    Snapshot(SnapshotId),
}

/// Finds out what the user means.
fn find(jobs: &Jobs, what: Option<&str>) -> Result<Found> {
    let Some(what) = what else { return only_job(jobs).map(Found::Stored) };
    if what == "-" {
        return Ok(Found::File(None));
    }
    match find_stored(jobs, what) {
        Err(error) if Path::new(what).is_file() => match error.downcast_ref() {
            Some(wasm_ckpt::JobError::NotFound { .. }) => Ok(Found::File(Some(what.to_string()))),
            _ => Err(error),
        },
        other => other.map(Found::Stored),
    }
}

/// Finds out which job or snapshot of the store the user means.
pub fn find_stored(jobs: &Jobs, what: &str) -> Result<Stored> {
    if let Some(path) = what.strip_prefix('@') {
        let id = std::fs::read_to_string(path).with_context(|| format!("cannot read `{path}`"))?;
        return Ok(Stored::Snapshot(jobs.find_snapshot(id.trim())?));
    }
    if let Ok(name) = what.parse::<JobName>()
        && jobs.status(&name)?.is_some()
    {
        return Ok(Stored::Job(name));
    }
    let digits = what.len() >= 4 && what.bytes().all(|b| b.is_ascii_hexdigit());
    if digits {
        return jobs.find_snapshot(what).map(Stored::Snapshot);
    }
    let place = jobs.store().describe();
    Err(wasm_ckpt::JobError::NotFound { what: "job, snapshot or file", name: what.to_string(), place }.into())
}

fn only_job(jobs: &Jobs) -> Result<Stored> {
    let mut open = vec![];
    for name in jobs.names()? {
        // One whose log cannot be read is not meant.
        let Ok(status) = jobs.existing(&name) else { continue };
        if status.done.is_none() && !jobs.is_held(&name)? {
            open.push(name);
        }
    }
    match open.as_slice() {
        [one] => Ok(Stored::Job(one.clone())),
        [] => Err(failure(Exit::NotFound, "no job waits to be resumed", "`wasm-ckpt ls` lists all jobs")),
        many => {
            let names: Vec<_> = many.iter().take(10).map(|name| format!("`{name}`")).collect();
            let message = format!("{} jobs wait to be resumed: {}", many.len(), names.join(", "));
            Err(failure(Exit::Usage, message, "name one of them"))
        }
    }
}

/// The job that stands at the snapshot, or a new one that begins there.
fn of_snapshot(jobs: &Jobs, id: SnapshotId, args: &Args) -> Result<Job> {
    let Args { common, job: name, seed, .. } = args;
    let owners = jobs.owners(id)?;
    if name.is_none()
        && let Some((owner, _)) = owners.iter().find(|(_, stands)| *stands)
    {
        return jobs.hold(owner);
    }
    let name = match name {
        Some(name) => name.clone(),
        None => {
            let mut random = [0; 3];
            getrandom::fill(&mut random).map_err(|e| anyhow::anyhow!("no random bytes: {e}"))?;
            let random: String = random.iter().map(|b| format!("{b:02x}")).collect();
            JobName::derived("fork", &format!("{}-{random}", id.short()))
        }
    };
    let mut job = jobs.hold(&name)?;
    if job.status().is_some() {
        let message = format!("there is a job `{name}` already");
        return Err(failure(Exit::OtherCommand, message, "give another `--job`"));
    }
    // A snapshot that no job has made here came from elsewhere, and so do its directories.
    let how = if owners.is_empty() { Lineage::Moved } else { Lineage::Fork { seed: *seed } };
    job.begin_from(id, how)?;
    common.say(&format!("snapshot {} begins the new job `{name}`", id.short()));
    Ok(job)
}
