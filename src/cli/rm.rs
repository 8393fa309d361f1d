//! `rm`: jobs that are not needed any more.

use std::collections::BTreeSet;

use anyhow::Result;

use super::common;
use super::exit::{Exit, failure};
use super::store::StoreArgs;
use wasm_ckpt::{JobError, JobName, Jobs};

/// Remove jobs, and free what nothing needs any more
///
/// Frees the snapshots of ended jobs as well, and those from before a job was begun anew. A job that another
/// process runs is not removed.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  wasm-ckpt rm nightly
  wasm-ckpt rm --ended")]
pub struct Args {
    #[command(flatten)]
    store: StoreArgs,

    /// Remove all jobs that have ended
    #[arg(long)]
    ended: bool,

    /// The jobs
    #[arg(value_name = "JOB", value_parser = common::parse_name)]
    jobs: Vec<JobName>,
}

/// Removes.
pub fn main(args: Args) -> Result<()> {
    if args.jobs.is_empty() && !args.ended {
        return Err(failure(Exit::Usage, "nothing to remove is named", "name jobs, or give `--ended`"));
    }
    let jobs = args.store.existing()?;
    // All that is wrong is said before anything is removed.
    let names: BTreeSet<JobName> = jobs.names()?.into_iter().collect();
    for name in args.jobs.iter().filter(|name| !names.contains(name)) {
        jobs.existing(name)?;
    }
    for name in &args.jobs {
        jobs.remove(name)?;
    }
    let mut removed = args.jobs.len();
    if args.ended {
        for name in names.iter().filter(|name| !args.jobs.contains(name)) {
            removed += usize::from(remove_ended(&jobs, name)?);
        }
    }
    let freed = jobs.gc()?;
    eprintln!(
        "wasm-ckpt: removed {} jobs, {} snapshots, {} packs ({} bytes)",
        removed, freed.snapshots, freed.packs, freed.bytes
    );
    Ok(())
}

/// Removes a job if it has ended; one that cannot be removed now does not keep the others.
fn remove_ended(jobs: &Jobs, name: &JobName) -> Result<bool> {
    if jobs.status(name).is_ok_and(|status| status.is_none_or(|status| status.done.is_none())) {
        return Ok(false);
    }
    match jobs.remove_ended(name) {
        Err(error) if is_of_the_job(&error) => {
            eprintln!("wasm-ckpt: job `{name}` is left: {error:#}");
            Ok(false)
        }
        other => other,
    }
}

fn is_of_the_job(error: &anyhow::Error) -> bool {
    use JobError::{DamagedLog, Held, NewerLog};
    matches!(error.downcast_ref(), Some(DamagedLog { .. } | Held { .. } | NewerLog { .. }))
}
