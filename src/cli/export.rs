//! `export`: a job or snapshot as one portable file.

use std::io::{self, BufWriter, IsTerminal, Write};
use std::path::PathBuf;

use anyhow::Result;

use super::exit::{Exit, failure};
use super::resume::{Stored, find_stored};
use super::store::StoreArgs;
use wasm_ckpt::{JobError, Jobs, Snapshot};

/// Write a job's last snapshot, with all that it needs, as one portable file
///
/// The file goes to standard output unless `-o` names one. It holds the module, the memory, and what the
/// program printed; files in host directories stay where they are.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  wasm-ckpt export nightly -o nightly.ckpt
  wasm-ckpt export nightly | ssh host wasm-ckpt resume -")]
pub struct Args {
    #[command(flatten)]
    store: StoreArgs,

    /// Write to this file, for you alone, which appears when it is complete; `-` is standard output
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,

    /// A job, a snapshot id or its first digits, or @FILE with an id
    what: String,
}

/// Exports.
pub fn main(args: Args) -> Result<()> {
    let jobs = args.store.existing()?;
    let snapshot = snapshot_of(&jobs, &args.what)?;
    let Some(path) = args.output.as_ref().filter(|path| path.as_os_str() != "-") else {
        let out = io::stdout();
        if out.is_terminal() {
            let message = "a snapshot is not for a terminal";
            return Err(failure(Exit::Usage, message, "name a file with `-o FILE`, or send it to a pipe"));
        }
        jobs.export(&snapshot, BufWriter::with_capacity(1 << 20, out.lock()))?.flush()?;
        return Ok(());
    };
    // It holds the program's memory and environment: for this user alone, as the store is.
    super::whole::write(path, 0o600, |file| {
        jobs.export(&snapshot, BufWriter::with_capacity(1 << 20, file))?.flush()?;
        Ok(())
    })
}

/// The snapshot that is meant: itself, or the job's last one.
pub fn snapshot_of(jobs: &Jobs, what: &str) -> Result<Snapshot> {
    let id = match find_stored(jobs, what)? {
        Stored::Snapshot(id) => id,
        Stored::Job(job) => {
            let status = jobs.existing(&job)?;
            if let Some(done) = status.done {
                let ending = super::ls::shown_ending(&done.ending);
                return Err(JobError::Ended { job, ending }.into());
            }
            status.snapshot().ok_or(JobError::NoSnapshot { job })?
        }
    };
    jobs.snapshot(id)
}
