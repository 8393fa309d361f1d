//! `import`: an exported file becomes a job.

use std::fs::File;
use std::io::{self, Read};
use std::path::PathBuf;

use anyhow::{Context, Result, bail};

use super::common;
use super::store::StoreArgs;
use wasm_ckpt::job::{Imported, Lineage};
use wasm_ckpt::{Job, JobName, Jobs};

/// Take an exported file into the store, as a job that can be resumed
///
/// All of it is checked before anything of it can be seen. Prints the name of the job. The same file again is
/// the same job.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  wasm-ckpt import nightly.ckpt
  ssh host wasm-ckpt export nightly | wasm-ckpt import -")]
pub struct Args {
    #[command(flatten)]
    store: StoreArgs,

    /// Name of the job [default: made of the snapshot's id]
    #[arg(long, value_name = "NAME", value_parser = common::parse_name)]
    job: Option<JobName>,

    /// The file, or - for standard input
    file: PathBuf,
}

/// Imports, and prints the job's name.
pub fn main(args: Args) -> Result<()> {
    let jobs = args.store.open()?;
    let imported = if args.file.as_os_str() == "-" {
        import(&jobs, io::stdin().lock())?
    } else {
        let explain = || format!("cannot import `{}`", args.file.display());
        import(&jobs, File::open(&args.file).with_context(explain)?).with_context(explain)?
    };
    let job = job_of(&jobs, imported, args.job.as_ref())?;
    super::print(&format!("{}\n", job.name()))
}

/// Takes over a stream.
pub fn import(jobs: &Jobs, from: impl Read) -> Result<Imported> {
    jobs.import(io::BufReader::with_capacity(1 << 20, from))
}

/// The job of what was imported: the one that began with it before, or a new one.
pub fn job_of(jobs: &Jobs, imported: Imported, name: Option<&JobName>) -> Result<Job> {
    let [snapshot] = imported.snapshots.as_slice() else {
        bail!("the file holds {} snapshots, and one is expected", imported.snapshots.len());
    };
    let name = name.cloned().unwrap_or_else(|| JobName::derived("import", &snapshot.short()));
    let mut job = jobs.hold(&name)?;
    let origin = job.status().and_then(|status| status.begin.origin.as_ref());
    let same = origin.is_some_and(|origin| origin.snapshot == *snapshot);
    let ended = job.status().is_some_and(|status| status.done.is_some());
    if job.status().is_some() && !same {
        let differences = vec![format!("it does not begin with snapshot {}", snapshot.short())];
        return Err(wasm_ckpt::JobError::OtherCommand { job: name, differences }.into());
    }
    if !same || ended {
        job.begin_guarded(*snapshot, Lineage::Moved, &imported.guard)?;
    }
    drop(imported);
    Ok(job)
}
