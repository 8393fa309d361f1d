//! `output`: what a job has printed.

use std::io::{self, Write};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Result;
use clap::ValueEnum;

use super::common;
use super::exit::Exit;
use super::store::StoreArgs;
use wasm_ckpt::job::{Follow, Standing};
use wasm_ckpt::store::StoreError;
use wasm_ckpt::{JobName, Jobs};

/// How often a followed job is looked at.
const POLL: Duration = Duration::from_millis(100);
/// How often it is found out whether a process still runs it.
const POLL_HOLDER: Duration = Duration::from_secs(1);
/// How often printing goes on with a newer snapshot when the one before is released meanwhile.
const TRIES: u32 = 20;

/// Print what a job has printed
///
/// Of a job that has ended that is all; else it is what its last snapshot covers. The job may be running. What
/// was printed is kept in the store up to `run --keep-output`.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  wasm-ckpt output nightly > report.txt
  wasm-ckpt output --stream both nightly
  wasm-ckpt output -f nightly | grep -i warning

Exit code: 0; with -f 75 when the job is left unfinished, by a pause or a crash.")]
pub struct Args {
    #[command(flatten)]
    store: StoreArgs,

    /// Go on printing, snapshot by snapshot, until the job ends or no process runs it any more
    #[arg(short, long)]
    follow: bool,

    /// Which stream of the program: both are printed in the order in which it has written them
    #[arg(long, value_name = "STREAM", value_enum, default_value_t = Which::Stdout)]
    stream: Which,

    /// The job
    #[arg(value_name = "JOB", value_parser = common::parse_name)]
    job: JobName,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Which {
    Stdout,
    Stderr,
    Both,
}

/// Prints, and gives the exit code.
pub fn main(args: Args) -> Result<u8> {
    let jobs = args.store.existing()?;
    let mut printing = Printing { follow: jobs.follow(&args.job)?, jobs, at: [0; 2], which: args.stream };
    printing.print()?;
    if args.follow {
        return printing.follow(&args.job);
    }
    printing.warn_of_loss();
    Ok(0)
}

struct Printing {
    jobs: Jobs,
    follow: Follow,
    /// Bytes of each stream that were printed.
    at: [u64; 2],
    which: Which,
}

impl Printing {
    /// Prints what is new.
    fn print(&mut self) -> Result<()> {
        for _ in 0..TRIES {
            match self.print_known() {
                // It may be of a snapshot that was released meanwhile. The next one has the same, and more.
                Err(error) if is_missing(&error) && self.follow.look()? => {}
                other => return other,
            }
        }
        self.print_known()
    }

    fn print_known(&mut self) -> Result<()> {
        let (jobs, mut out) = (self.jobs.clone(), io::stdout().lock());
        let (which, mut at) = (self.which, self.at);
        let mut fetch = |id| Ok(jobs.chunks().read(id)?);
        // What is not wanted is not read.
        match which {
            Which::Stdout => at[1] = u64::MAX,
            Which::Stderr => at[0] = u64::MAX,
            Which::Both => {}
        }
        let printed = self.follow.printed();
        printed.read_in_order(at, &mut fetch, &mut |stream, bytes| {
            out.write_all(bytes)?;
            self.at[stream] += bytes.len() as u64;
            Ok(())
        })?;
        Ok(out.flush()?)
    }

    fn follow(&mut self, job: &JobName) -> Result<u8> {
        let mut asked: Option<Instant> = None;
        loop {
            match self.follow.standing() {
                Standing::Ended => {
                    self.warn_of_loss();
                    return Ok(0);
                }
                Standing::BegunAnew => {
                    say(&format!("job `{job}` was begun anew: this was the run before"));
                    return Ok(Exit::Paused as u8);
                }
                Standing::Open | Standing::Paused => {}
            }
            if asked.is_none_or(|asked| asked.elapsed() >= POLL_HOLDER) {
                asked = Some(Instant::now());
                // In this order: what its process wrote before it ended is seen.
                let held = self.jobs.is_held(job)?;
                let news = self.follow.look()?;
                if !held && !news {
                    let how = match self.follow.standing() {
                        Standing::Paused => "is paused",
                        _ => "is unfinished, and no process runs it",
                    };
                    say(&format!("job `{job}` {how}: this is what its last snapshot covers"));
                    return Ok(Exit::Paused as u8);
                }
            } else if !self.follow.look()? {
                thread::sleep(POLL);
                continue;
            }
            self.print()?;
        }
    }

    fn warn_of_loss(&self) {
        if self.follow.printed().lost() > 0 {
            say(&format!("{} bytes that were printed are not kept", self.follow.printed().lost()));
        }
    }
}

fn is_missing(error: &anyhow::Error) -> bool {
    error.chain().any(|cause| matches!(cause.downcast_ref(), Some(StoreError::NotFound { .. })))
}

fn say(text: &str) {
    let _ = writeln!(io::stderr(), "wasm-ckpt: {text}");
}
