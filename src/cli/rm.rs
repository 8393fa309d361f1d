//! `rm`: jobs that are not needed any more.

use anyhow::Result;

use super::common::{self, StoreArgs};
use super::exit::{Exit, failure};
use wasm_ckpt::JobName;

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
    for name in &args.jobs {
        if !jobs.names()?.contains(name) {
            jobs.existing(name)?;
        }
    }
    let mut doomed = args.jobs.clone();
    if args.ended {
        for name in jobs.names()? {
            if jobs.existing(&name)?.done.is_some() {
                doomed.push(name);
            }
        }
    }
    for name in &doomed {
        jobs.remove(name)?;
    }
    let freed = jobs.gc()?;
    eprintln!(
        "wasm-ckpt: removed {} jobs, {} snapshots, {} packs ({} bytes)",
        doomed.len(),
        freed.snapshots,
        freed.packs,
        freed.bytes
    );
    Ok(())
}
